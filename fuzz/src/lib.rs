// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the fuzz targets share.
//!
//! | module | subject |
//! |---|---|
//! | [`guarded`] | memory between two pages that nobody may access |
//! | [`volumes`] | volumes made by `mkfs.ext4` and `debugfs`, kept in files |
//! | [`structure`] | where the structures of a volume lie, found without the core; `checksum`: sums set right |
//! | [`check`] | whether a volume is whole, found without the core |
//! | [`journal`] | the blocks of a journal, and their checksums |
//! | [`look`] | all that there is to see of a mounted volume |
//! | [`change`] | changes to a mounted volume |
//! | [`mounted`] | a volume in guarded memory |
//! | [`sequence`] | sequences in an input |
//! | [`told`] | a log that is written for nobody, so that all messages are put together |

pub mod change;
pub mod check;
mod checksum;
pub mod guarded;
pub mod journal;
pub mod look;
pub mod mounted;
pub mod sequence;
pub mod structure;
pub mod told;
pub mod volumes;
