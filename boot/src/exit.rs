// SPDX-License-Identifier: MIT OR Apache-2.0

//! How the service VM ends: a value written to QEMU's `isa-debug-exit` device, and the panic handler.
//!
//! The device turns the value `v` into the exit status `(v << 1) | 1` of the QEMU process:
//!
//! | value | exit status | meaning                                                                        |
//! |-------|-------------|--------------------------------------------------------------------------------|
//! | 0x11  | 35          | start-up failed: one line of the log says why (a refused volume, a missing device, too little memory) |
//! | 0x12  | 37          | a panic: the log has file and line                                             |
//! | 0x13  | 39          | a processor exception: the log has the report                                  |
//! | 0x14  | 41          | the kernel command line was refused                                            |
//! | 0x15  | 43          | an exception while an exception was being reported                             |
//!
//! Statuses below 33 are QEMU's own (1: it refused its command line).

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use log::Level;
use x86_64::instructions::{hlt, interrupts, port::PortWriteOnly};

use crate::logger;

/// Where the device is told to be: `-device isa-debug-exit,iobase=0xf4,iosize=0x04`.
const PORT: u16 = 0xf4;

/// Why the service VM ends. The discriminant is what is written to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// The service could not be started.
    StartFailed = 0x11,
    /// A panic.
    Panic = 0x12,
    /// A processor exception.
    Exception = 0x13,
    /// The kernel command line was refused.
    CommandLine = 0x14,
    /// An exception in the report of an exception.
    NestedException = 0x15,
}

/// Ends the service VM. Without the device it halts for ever, with interrupts off.
pub fn exit(status: Status) -> ! {
    interrupts::disable();
    // SAFETY: the port belongs to the exit device or to nothing; a write to it touches no memory.
    unsafe { PortWriteOnly::<u32>::new(PORT).write(status as u32) };
    loop {
        hlt();
    }
}

#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    static PANICKED: AtomicBool = AtomicBool::new(false);
    // A panic while formatting the first one's message: the exit value has to do.
    if !PANICKED.swap(true, Ordering::Relaxed) {
        let message = information.message();
        match information.location() {
            Some(place) => logger::write(
                Level::Error,
                format_args!("panic at {}:{}: {message}", place.file(), place.line()),
            ),
            None => logger::write(Level::Error, format_args!("panic: {message}")),
        }
    }
    exit(Status::Panic)
}
