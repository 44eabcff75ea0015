// SPDX-License-Identifier: MIT OR Apache-2.0

//! The log, on standard error.
//!
//! What a client can cause to be logged (damage that it reads again and again) is limited, as in the image: records beyond
//! [`PER_SECOND`] are counted instead of written.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Records that are written in one second.
const PER_SECOND: u32 = 100;

/// Lines of the VMs' consoles come under this target.
const CONSOLES: &str = "vm";

/// Writes each record as a line.
struct StandardError;

/// How many records came in a second.
#[derive(Default)]
struct Limit {
    second: AtomicU64,
    records: AtomicU32,
}

/// What becomes of a record.
#[derive(Debug, PartialEq, Eq)]
struct Passage {
    /// Whether it is written.
    passes: bool,
    /// How many were not, in the second before; told once.
    left_out: u32,
}

static LIMIT: Limit = Limit { second: AtomicU64::new(0), records: AtomicU32::new(0) };
static START: OnceLock<Instant> = OnceLock::new();

impl Limit {
    /// A record comes in this second. (Relaxed: two threads at the turn of a second may miscount by one.)
    fn pass(&self, second: u64) -> Passage {
        let mut left_out = 0;
        if self.second.swap(second, Ordering::Relaxed) != second {
            left_out = self.records.swap(0, Ordering::Relaxed).saturating_sub(PER_SECOND);
        }
        Passage { passes: self.records.fetch_add(1, Ordering::Relaxed) < PER_SECOND, left_out }
    }
}

/// Logs from now on what is at `level` or above it. The consoles of VMs are shown from `debug` on; of the image's warnings and
/// errors, only `level` decides.
pub fn start(level: LevelFilter) {
    log::set_max_level(level);
    // Fails only if there is a logger already, and this is the first.
    let _ = log::set_logger(&StandardError);
}

impl Log for StandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = log::max_level();
        let ordinary = metadata.target() == CONSOLES && metadata.level() >= Level::Info;
        metadata.level() <= level && (!ordinary || level >= LevelFilter::Debug)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if record.metadata().target() == CONSOLES {
            // Who writes there limits itself.
            write(record);
            return;
        }
        let second = START.get_or_init(Instant::now).elapsed().as_secs();
        let Passage { passes, left_out } = LIMIT.pass(second);
        if left_out > 0 {
            eprintln!("skerry: warn: {left_out} records were left out: too many in a second");
        }
        if passes {
            write(record);
        }
    }

    fn flush(&self) {}
}

fn write(record: &Record<'_>) {
    eprintln!("skerry: {}: {}", record.level().as_str().to_lowercase(), record.args());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_records_in_a_second_are_counted_and_told_in_the_next() {
        let limit = Limit::default();
        let passed = (0..PER_SECOND + 50).filter(|_| limit.pass(7).passes).count();
        assert_eq!(passed, PER_SECOND as usize);
        assert_eq!(limit.pass(8), Passage { passes: true, left_out: 50 });
        assert_eq!(limit.pass(9), Passage { passes: true, left_out: 0 });
    }
}
