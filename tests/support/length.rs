// SPDX-License-Identifier: MIT OR Apache-2.0

//! How much of each a test does, as the environment says: `tests/run.sh --long` sets all of these.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::env;

/// Whether there is time for everything: `SKERRY_LONG=1`.
pub fn is_long() -> bool {
    env::var_os("SKERRY_LONG").is_some_and(|value| value == "1")
}

/// How often a server is killed under a load: as often as `SKERRY_KILLS` says, or else `usual` times.
#[track_caller]
pub fn kills(usual: usize) -> usize {
    number("SKERRY_KILLS").unwrap_or(usual)
}

/// Operations of each run of fsx: as many as `SKERRY_FSX_OPERATIONS` says, or else `usual`.
#[track_caller]
pub fn fsx_operations(usual: usize) -> usize {
    number("SKERRY_FSX_OPERATIONS").unwrap_or(usual)
}

#[track_caller]
fn number(name: &str) -> Option<usize> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is \"{value}\" and not a number")))
}
