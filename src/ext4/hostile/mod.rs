// SPDX-License-Identifier: MIT OR Apache-2.0

//! Hostile volumes: every field of every structure on the volume lies, with checksums that are right all the same and with
//! checksums that are not; and the attacks on the structure as a whole, by name.
//!
//! | file      | subject                                                          |
//! |-----------|------------------------------------------------------------------|
//! | `format`  | the structures and their fields, as a table: where to learn ext4 |
//! | `journal_format` | the same of the journal                                   |
//! | `lies`    | what a field may say instead                                     |
//! | `sample`  | sound volumes, and where their structures lie                    |
//! | `seal`    | checksums, made right after a change                             |
//! | `region`  | a region with guards around it, whose uses are counted           |
//! | `judge`   | what a volume may do when it is mounted, read, written, unmounted |
//! | `tests`   | every lie told                                                   |
//! | `cases`   | attacks by name                                                  |

mod cases;
mod format;
mod journal_format;
mod judge;
mod lies;
mod region;
mod sample;
mod seal;
mod tests;
