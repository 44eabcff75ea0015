// SPDX-License-Identifier: MIT OR Apache-2.0

//! A log that is written for nobody: putting a message together may fail, too.

use std::fmt::Write as _;

use log::{LevelFilter, Log, Metadata, Record};

struct Nobody;

impl Log for Nobody {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut text = String::new();
        write!(text, "{}", record.args()).expect("a message");
        assert!(!text.is_empty());
        if std::env::var_os("SKERRY_FUZZ_LOG").is_some() {
            eprintln!("{}: {text}", record.level());
        }
    }

    fn flush(&self) {}
}

/// Has all messages put together from now on.
pub fn install() {
    log::set_logger(&Nobody).expect("the first logger");
    log::set_max_level(LevelFilter::Trace);
}
