// SPDX-License-Identifier: MIT OR Apache-2.0

//! What another process takes of the machine, by the kernel's account.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// What all threads of the process, those that have not ended, had of the processors.
///
/// # Errors
/// If there is no such process, or no account.
pub fn processor_time(process: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let account = fs::read_to_string(thread?.path().join("schedstat"))?;
        let time =
            account.split_whitespace().next().context("the kernel keeps no account (CONFIG_SCHED_INFO)")?;
        nanoseconds += time.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_has_had_a_processor() {
        let process = std::process::id();
        let before = processor_time(process).unwrap();
        while processor_time(process).unwrap() == before {
            std::hint::black_box((0..100_000_u64).sum::<u64>());
        }
        assert!(processor_time(u32::MAX).is_err());
    }
}
