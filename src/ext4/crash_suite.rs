// SPDX-License-Identifier: MIT OR Apache-2.0

//! Crashes of the whole file system: a long workload on a recorded volume, and after every kind of end what is recovered is
//! what was seen after some commit, recent enough.
//!
//! | file       | subject                                                     |
//! |------------|-------------------------------------------------------------|
//! | `workload` | the calls, and what is seen after each                      |
//! | `tree`     | what is seen of a volume                                    |
//! | `judge`    | which state may follow a crash; recovering one, and `e2fsck` |
//! | `keep`     | some of the states, in files for the kernel's own ext4      |
//! | `tests`    | death, loss of power, crashes of the recovery, controls     |
//!
//! `SKERRY_LONG=1` in the environment tries every moment of the workload instead of a sample.
//!
//! # What may be different after a crash
//! * After death: bytes that calls were storing to files in place which were not yet committed.
//! * After the loss of power: bytes that were stored to files since the last flush, in whole blocks.

mod judge;
mod keep;
mod tests;
mod tree;
mod workload;
