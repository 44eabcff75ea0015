// SPDX-License-Identifier: MIT OR Apache-2.0

//! Time: the processor's time-stamp counter, measured once against the 8254 timer; and the time of day, which is the real-time
//! clock's second and runs on with the counter.
//!
//! The measurement is good to about a thousandth, so the real-time clock is looked at again now and then: the time of day stays within
//! a second of the host's for ever, whatever the accelerator, and however long the machine was stopped. (kvm-clock would give the
//! nanosecond, but under KVM only.)

mod real_time_clock;
mod wall_time;

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};

use skerry::fs::Timestamp;
use spin::{Mutex, Once};
use x86_64::instructions::port::Port;

use wall_time::{Rate, SECOND, WallClock};

/// The 8254's input clock, in hertz.
const TIMER_HERTZ: u64 = 1_193_182;
/// How many ticks of it are measured at least: three milliseconds.
const TIMER_TICKS: u16 = 3580;
/// Measurements that may fail because the host stopped the machine meanwhile.
const MEASUREMENTS: u32 = 3;
/// Looks at the timer before it is given up: a machine without it.
const PATIENCE: u32 = 100_000;
/// Attempts to look at both counters at once, of which the quickest counts: the host may do something else in between.
const ATTEMPTS: u32 = 8;
/// Microseconds from one look at the real-time clock to the next: no divisor of a second, so that they come at all points of one,
/// some of them right behind its start.
const CHECK_INTERVAL: u64 = 900_000;

static START: AtomicU64 = AtomicU64::new(0);
/// Ticks from there to the first Rust function.
static ENTRY: AtomicU64 = AtomicU64::new(0);
static RATE: Once<Rate> = Once::new();
static TIME_OF_DAY: Mutex<Option<TimeOfDay>> = Mutex::new(None);

struct TimeOfDay {
    clock: WallClock,
    /// The counter when the real-time clock is looked at again.
    next_check: u64,
}

/// The time-stamp counter.
fn ticks() -> u64 {
    // SAFETY: RDTSC is part of every x86-64 processor, and CR4.TSD matters outside ring 0 only.
    unsafe { _rdtsc() }
}

fn rate() -> Rate {
    RATE.get().copied().unwrap_or(Rate::GIGAHERTZ)
}

/// Notes the start of the image's time: its first instruction, when the counter was `entered`.
pub fn start(entered: u64) {
    START.store(entered, Ordering::Relaxed);
    ENTRY.store(ticks().wrapping_sub(entered), Ordering::Relaxed);
}

/// Measures the time-stamp counter for some milliseconds, and looks at the real-time clock. Without a timer, 1 GHz is assumed: delays
/// are then wrong by a small factor. Without a real-time clock the time of day starts in 1970.
pub fn calibrate() {
    let rate = *RATE.call_once(|| (0..MEASUREMENTS).find_map(|_| measure()).unwrap_or(Rate::GIGAHERTZ));
    let now = ticks();
    let clock = WallClock::new(rate, now, real_time_clock::read().unwrap_or(0));
    let next_check = now.saturating_add(rate.ticks(CHECK_INTERVAL));
    *TIME_OF_DAY.lock() = Some(TimeOfDay { clock, next_check });
}

/// The rate of the time-stamp counter.
fn measure() -> Option<Rate> {
    let timer = Timer::start();
    let (begin, first) = timer.look()?;
    for _ in 0..PATIENCE {
        let (end, last) = timer.look()?;
        let passed = first.saturating_sub(last);
        if passed >= TIMER_TICKS {
            return Rate::measured(end.wrapping_sub(begin), u64::from(passed) * SECOND / TIMER_HERTZ);
        }
    }
    None
}

/// Channel 2 of the 8254 in mode 0: it counts down from 65535, once.
struct Timer;

impl Timer {
    const GATE: u16 = 0x61;
    const COUNTER: u16 = 0x42;
    const COMMAND: u16 = 0x43;
    /// Bit 5 of the gate's register: the count has ended.
    const OUTPUT: u8 = 1 << 5;

    fn start() -> Self {
        let mut gate = Port::<u8>::new(Self::GATE);
        // SAFETY: these are the registers of the 8254 and its gate (bit 0: gate of channel 2; bit 1: speaker, off); nothing
        // else of the image uses them, and they touch no memory.
        unsafe {
            let other_bits = gate.read() & !0b11;
            gate.write(other_bits | 1);
            Port::<u8>::new(Self::COMMAND).write(0b1011_0000);
            let mut counter = Port::<u8>::new(Self::COUNTER);
            counter.write(0xff);
            counter.write(0xff);
        }
        Self
    }

    /// The time-stamp counter and the count at one moment; `None` if the count has ended.
    fn look(&self) -> Option<(u64, u16)> {
        // Of several looks the quickest: the host may do something else between the two counters.
        let looks = (0..ATTEMPTS).map(|_| {
            let before = ticks();
            // SAFETY: as in `start`. The command latches the count of channel 2, which is read low byte first.
            let count = unsafe {
                Port::<u8>::new(Self::COMMAND).write(0b1000_0000);
                let mut counter = Port::<u8>::new(Self::COUNTER);
                u16::from_le_bytes([counter.read(), counter.read()])
            };
            let after = ticks();
            (after.wrapping_sub(before), before, count)
        });
        let (_, time, count) = looks.min_by_key(|(took, ..)| *took)?;
        // SAFETY: as in `start`.
        let gate = unsafe { Port::<u8>::new(Self::GATE).read() };
        (gate & Self::OUTPUT == 0).then_some((time, count))
    }
}

/// Nanoseconds since [`start`]; not to be relied on before [`calibrate`].
pub fn nanoseconds_since_start() -> u64 {
    rate().nanoseconds(ticks().wrapping_sub(START.load(Ordering::Relaxed)))
}

/// Microseconds since [`start`]; as [`nanoseconds_since_start`].
pub fn microseconds_since_start() -> u64 {
    nanoseconds_since_start() / 1000
}

/// Microseconds that the entry took, up to the first Rust function; as [`nanoseconds_since_start`].
pub fn microseconds_of_entry() -> u64 {
    rate().nanoseconds(ENTRY.load(Ordering::Relaxed)) / 1000
}

/// The tick of the time of day; never less than before.
pub fn now() -> Timestamp {
    let mut time_of_day = TIME_OF_DAY.lock();
    let Some(TimeOfDay { clock, next_check }) = time_of_day.as_mut() else { return Timestamp::default() };
    let mut ticks_now = ticks();
    if ticks_now >= *next_check {
        let seconds = real_time_clock::read();
        ticks_now = ticks();
        if let Some(seconds) = seconds {
            clock.correct(ticks_now, seconds);
        }
        *next_check = ticks_now.saturating_add(rate().ticks(CHECK_INTERVAL));
    }
    let time = clock.tell(ticks_now);
    // Both fit: 2^64 nanoseconds are 18 thousand million seconds.
    Timestamp { seconds: (time / SECOND) as i64, nanoseconds: (time % SECOND) as u32 }.tick()
}

/// A point in time that polling may reach.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(u64);

impl Deadline {
    /// `microseconds` from now.
    pub fn after(microseconds: u64) -> Self {
        Self(ticks().wrapping_add(rate().ticks(microseconds)))
    }

    /// Whether it is over.
    pub fn is_past(self) -> bool {
        ticks() >= self.0
    }
}
