// SPDX-License-Identifier: MIT OR Apache-2.0

//! The real-time clock of the machine: an MC146818 behind two ports, with the host's time in UTC.

use x86_64::instructions::port::{Port, PortWriteOnly};

use super::wall_time::Registers;

/// Status A, bit 7: the time is about to change.
const UPDATE_IN_PROGRESS: u8 = 1 << 7;
/// Looks at status A until the update is over: it takes 2 ms at most.
const PATIENCE: u32 = 20_000;
/// Times that the registers are read until two readings agree.
const READINGS: u32 = 4;

/// Seconds since 1970; `None` if there is no such clock, or its registers hold no time.
pub fn read() -> Option<u64> {
    let mut before = registers();
    for _ in 0..READINGS {
        let after = registers();
        if before == after {
            return after.unix_seconds();
        }
        before = after;
    }
    None
}

fn registers() -> Registers {
    for _ in 0..PATIENCE {
        if register(0x0a) & UPDATE_IN_PROGRESS == 0 {
            break;
        }
    }
    Registers {
        seconds: register(0x00),
        minutes: register(0x02),
        hours: register(0x04),
        day: register(0x07),
        month: register(0x08),
        year: register(0x09),
        century: register(0x32),
        format: register(0x0b),
    }
}

fn register(number: u8) -> u8 {
    // SAFETY: these are the index and data registers of the clock; nothing else of the image uses them, and they touch no
    // memory. Bit 7 of the index, clear, leaves non-maskable interrupts on.
    unsafe {
        PortWriteOnly::<u8>::new(0x70).write(number);
        Port::<u8>::new(0x71).read()
    }
}
