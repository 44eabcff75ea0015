// SPDX-License-Identifier: MIT OR Apache-2.0

//! The image.

#![no_std]
#![no_main]

mod clock;
mod command_line;
mod entry;
mod exit;
mod logger;
mod memory_functions;
mod pvh;
mod serial;

use command_line::CommandLine;
use exit::Status;

/// Called by [`entry`], once, on the main stack.
extern "C" fn start(start_info: u32) -> ! {
    clock::start();
    logger::initialize();
    clock::calibrate();
    log::info!("skerry {}", env!("CARGO_PKG_VERSION"));
    // SAFETY: entry
    let b = unsafe { pvh::read_start_info(start_info) };
    match &b {
        Ok(b) => {
            log::info!("{:x?}", b.ram);
            log::info!("{:?}", CommandLine::parse(&b.command_line));
        }
        Err(e) => log::error!("{e}"),
    }
    exit::exit(Status::Done)
}
