// SPDX-License-Identifier: MIT OR Apache-2.0

//! Time: the processor's time-stamp counter, measured once against the 8254 timer.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::port::Port;

/// The 8254's input clock, in hertz.
const TIMER_HERTZ: u64 = 1_193_182;
/// How many ticks of it are measured: one millisecond.
const TIMER_TICKS: u16 = 1193;
/// Reads of the timer's output before it is given up: a machine without it.
const PATIENCE: u32 = 1_000_000;

static START: AtomicU64 = AtomicU64::new(0);
/// Time-stamp ticks a microsecond; 0 until measured.
static TICKS_PER_MICROSECOND: AtomicU64 = AtomicU64::new(0);

/// The time-stamp counter.
fn ticks() -> u64 {
    // SAFETY: RDTSC is part of every x86-64 processor, and CR4.TSD matters outside ring 0 only.
    unsafe { _rdtsc() }
}

/// Notes the start of the image's time.
pub fn start() {
    START.store(ticks(), Ordering::Relaxed);
}

/// Measures the time-stamp counter for a millisecond. Without a timer, 1 GHz is assumed: delays are then wrong by
/// a small factor, and nothing else.
pub fn calibrate() {
    TICKS_PER_MICROSECOND.store(measure().unwrap_or(1000).max(1), Ordering::Relaxed);
}

/// Ticks a microsecond, by channel 2 of the 8254 in mode 0: its output rises when the count ends.
fn measure() -> Option<u64> {
    let mut gate = Port::<u8>::new(0x61);
    let mut command = Port::<u8>::new(0x43);
    let mut counter = Port::<u8>::new(0x42);
    let [low, high] = TIMER_TICKS.to_le_bytes();
    // SAFETY: these are the registers of the 8254 and its gate (bit 0: gate of channel 2; bit 1: speaker, off); nothing
    // else of the image uses them, and they touch no memory.
    unsafe {
        let other_bits = gate.read() & !0b11;
        gate.write(other_bits | 1);
        command.write(0b1011_0000);
        counter.write(low);
        counter.write(high);
        let begin = ticks();
        let ended = (0..PATIENCE).any(|_| gate.read() & (1 << 5) != 0);
        let elapsed = ticks().wrapping_sub(begin);
        ended.then(|| elapsed * TIMER_HERTZ / (u64::from(TIMER_TICKS) * 1_000_000))
    }
}

/// Microseconds since [`start`]; 0 before [`calibrate`].
pub fn microseconds_since_start() -> u64 {
    let elapsed = ticks().wrapping_sub(START.load(Ordering::Relaxed));
    elapsed.checked_div(TICKS_PER_MICROSECOND.load(Ordering::Relaxed)).unwrap_or(0)
}

/// A point in time that polling may reach.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(u64);

impl Deadline {
    /// `microseconds` from now.
    pub fn after(microseconds: u64) -> Self {
        Self(ticks().wrapping_add(microseconds * TICKS_PER_MICROSECOND.load(Ordering::Relaxed)))
    }

    /// Whether it is over.
    pub fn is_past(self) -> bool {
        ticks() >= self.0
    }
}
