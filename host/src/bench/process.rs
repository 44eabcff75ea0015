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
    Ok(threads(process)?.iter().map(|(_, time)| time).sum())
}

/// The names of its threads, those that have not ended, with what each had of the processors.
///
/// # Errors
/// As [`processor_time`].
pub fn threads(process: u32) -> Result<Vec<(String, Duration)>> {
    let mut threads = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let directory = thread?.path();
        // A thread may end between the listing and the look at it.
        let Ok(account) = fs::read_to_string(directory.join("schedstat")) else { continue };
        let time =
            account.split_whitespace().next().context("the kernel keeps no account (CONFIG_SCHED_INFO)")?;
        let name = fs::read_to_string(directory.join("comm")).unwrap_or_default();
        threads.push((name.trim_end().to_owned(), Duration::from_nanos(time.parse()?)));
    }
    Ok(threads)
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

    #[test]
    fn a_thread_is_told_by_its_name() {
        let worker = std::thread::Builder::new().name("worker".to_owned()).spawn(|| {
            let has_worked = || {
                let all = threads(std::process::id()).unwrap();
                all.iter().any(|(name, time)| name == "worker" && !time.is_zero())
            };
            while !has_worked() {
                std::hint::black_box((0..100_000_u64).sum::<u64>());
            }
        });
        worker.unwrap().join().unwrap();
    }
}
