// SPDX-License-Identifier: MIT OR Apache-2.0

//! The first serial port, COM1: a 16550 UART, polled, written only.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::port::Port;

/// COM1's registers start here.
const BASE: u16 = 0x3f8;
/// Line status: the transmitter can take a byte.
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// How often the line status is read before a byte is dropped: a reader that stopped reading must not stop the
/// file server. Once it has stopped, a byte that does not go at once is dropped.
const PATIENCE: u32 = 100_000;
/// The last byte was dropped.
static STALLED: AtomicBool = AtomicBool::new(false);

/// COM1. There is nothing to lock: one processor, and an exception handler that writes never returns.
#[derive(Debug, Clone, Copy)]
pub struct Serial;

impl Serial {
    /// Sets up 115200 baud, eight bits, no parity, one stop bit, with FIFO, without interrupts.
    pub fn initialize(self) {
        // (register, value): interrupts off; divisor latch on, divisor 1; latch off and 8N1; FIFO on and cleared;
        // data terminal ready, request to send.
        for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 0x03), (2, 0x07), (4, 0x03)] {
            register_port(register, |port| {
                // SAFETY: COM1's registers or nothing at all are behind this port; writing them touches no memory.
                unsafe { port.write(value) }
            });
        }
    }

    fn put(self, byte: u8) {
        let patience = if STALLED.load(Ordering::Relaxed) { 1 } else { PATIENCE };
        for _ in 0..patience {
            // SAFETY: reading the line status has no side effect that matters here: errors of a receiver that is not used.
            let status = register_port(5, |port| unsafe { port.read() });
            if status & TRANSMITTER_EMPTY != 0 {
                // SAFETY: writing the transmit register sends a byte and touches no memory.
                register_port(0, |port| unsafe { port.write(byte) });
                STALLED.store(false, Ordering::Relaxed);
                return;
            }
        }
        STALLED.store(true, Ordering::Relaxed);
    }
}

fn register_port<R>(register: u16, access: impl FnOnce(&mut Port<u8>) -> R) -> R {
    access(&mut Port::new(BASE + register))
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.put(byte);
        }
        Ok(())
    }
}
