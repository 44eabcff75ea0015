// SPDX-License-Identifier: MIT OR Apache-2.0

//! The log, on standard error.

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Lines of the VMs' consoles come under this target.
const CONSOLES: &str = "vm";

/// Writes each record as a line.
struct StandardError;

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
        if self.enabled(record.metadata()) {
            eprintln!("skerry: {}: {}", record.level().as_str().to_lowercase(), record.args());
        }
    }

    fn flush(&self) {}
}
