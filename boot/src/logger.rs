// SPDX-License-Identifier: MIT OR Apache-2.0

//! The `log` crate's records, one line each, on COM1: `[seconds.milliseconds] LEVEL message`.

use core::fmt::Write as _;

use log::{LevelFilter, Log, Metadata, Record};

use crate::clock;
use crate::serial::Serial;

struct SerialLogger;

impl Log for SerialLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let microseconds = clock::microseconds_since_start();
            // Serial output cannot fail; bytes that nobody reads are dropped.
            let _ = writeln!(
                Serial,
                "[{:3}.{:06}] {:5} {}",
                microseconds / 1_000_000,
                microseconds % 1_000_000,
                record.level().as_str(),
                record.args()
            );
        }
    }

    fn flush(&self) {}
}

/// Sets up the serial port and sends records of level "info" and above there.
pub fn initialize() {
    Serial.initialize();
    // An error would mean that a logger is set already, and then it is this one.
    let _ = log::set_logger(&SerialLogger);
    log::set_max_level(LevelFilter::Info);
}
