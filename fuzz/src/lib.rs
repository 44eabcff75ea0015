// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the fuzz targets share.
//!
//! | module | subject |
//! |---|---|
//! | [`guarded`] | memory between two pages that nobody may access |

pub mod guarded;
