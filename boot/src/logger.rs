// SPDX-License-Identifier: MIT OR Apache-2.0

//! The `log` crate's records, one line each, on COM1: `[seconds.microseconds] LEVEL message`.
//!
//! The serial port is slow and all clients share the processor, so what a client can cause to be logged (damage that it
//! reads again and again) is limited: records beyond [`PER_SECOND`] are counted instead of written.

use core::fmt::{self, Write as _};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::clock;
use crate::serial::Serial;

/// Records that are written in one second.
const PER_SECOND: u32 = 100;
/// The second that the last record came in, and the records that came in it.
static SECOND: AtomicU64 = AtomicU64::new(0);
static RECORDS: AtomicU32 = AtomicU32::new(0);

struct SerialLogger;

impl Log for SerialLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let second = clock::microseconds_since_start() / 1_000_000;
        if SECOND.swap(second, Ordering::Relaxed) != second {
            let left_out = RECORDS.swap(0, Ordering::Relaxed).saturating_sub(PER_SECOND);
            if left_out > 0 {
                write(Level::Warn, format_args!("{left_out} records were left out: too many in a second"));
            }
        }
        if RECORDS.fetch_add(1, Ordering::Relaxed) < PER_SECOND {
            write(record.level(), *record.args());
        }
    }

    fn flush(&self) {}
}

/// Writes a line, whatever the level and however many there were.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    let microseconds = clock::microseconds_since_start();
    let (seconds, rest) = (microseconds / 1_000_000, microseconds % 1_000_000);
    // Serial output cannot fail; bytes that nobody reads are dropped.
    let _ = writeln!(Serial, "[{seconds:3}.{rest:06}] {:5} {message}", level.as_str());
}

/// Sets up the serial port and sends records of level "info" and above there.
pub fn initialize() {
    Serial.initialize();
    // An error would mean that a logger is set already, and then it is this one.
    let _ = log::set_logger(&SerialLogger);
    log::set_max_level(LevelFilter::Info);
}
