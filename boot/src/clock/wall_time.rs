// SPDX-License-Identifier: MIT OR Apache-2.0

//! The time of day: what the registers of a real-time clock say, and a clock between two looks at it.
//!
//! Only calculation: what reads the registers and the counter is in the modules around it. So tests on the host compile it, too.

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// How far the real-time clock may fall behind, and a hundredth of the time since it was last looked at: within that this clock is
/// fast. Beyond it the host has set its clock back, and time goes on without it.
const SET_BACK: u64 = 2 * SECOND;

/// What was read of an MC146818-compatible real-time clock, which keeps UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// Register 0x00.
    pub seconds: u8,
    /// Register 0x02.
    pub minutes: u8,
    /// Register 0x04; in 12-hour mode bit 7 says "p.m.".
    pub hours: u8,
    /// Register 0x07: day of the month.
    pub day: u8,
    /// Register 0x08: 1…12.
    pub month: u8,
    /// Register 0x09: the last two digits.
    pub year: u8,
    /// Register 0x32: the first two digits of the year, where the machine has it.
    pub century: u8,
    /// Register 0x0b, status B: how the others are encoded.
    pub format: u8,
}

impl Registers {
    /// Status B, bit 1: hours are 0…23.
    const HOURS_24: u8 = 1 << 1;
    /// Status B, bit 2: numbers are binary, not two decimal digits.
    const BINARY: u8 = 1 << 2;
    /// Hours, bit 7: "p.m.".
    const AFTERNOON: u8 = 1 << 7;

    /// Seconds since 1970-01-01 00:00:00 UTC; `None` for what is no time of the years 1970 to 2399.
    pub fn unix_seconds(&self) -> Option<u64> {
        let afternoon = self.format & Self::HOURS_24 == 0 && self.hours & Self::AFTERNOON != 0;
        let hours = if self.format & Self::HOURS_24 == 0 {
            // 12 a.m. is 0, 12 p.m. is 12.
            let hours = self.number(self.hours & !Self::AFTERNOON)?;
            (1..=12).contains(&hours).then_some(hours % 12 + if afternoon { 12 } else { 0 })?
        } else {
            self.number(self.hours)?
        };
        // A machine without the register has anything there.
        let century = self.number(self.century).filter(|century| (19..=23).contains(century)).unwrap_or(20);
        let year = century * 100 + self.number(self.year).filter(|year| *year < 100)?;
        let month = self.number(self.month).filter(|month| (1..=12).contains(month))?;
        let day = self.number(self.day).filter(|day| (1..=days_in_month(year, month)).contains(day))?;
        let minutes = self.number(self.minutes).filter(|minutes| *minutes < 60)?;
        // 60 is a leap second.
        let seconds = self.number(self.seconds).filter(|seconds| *seconds <= 60)?;
        let hours = Some(hours).filter(|hours| *hours < 24)?;
        let years = (1970..year).map(days_in_year).sum::<u64>();
        let months = (1..month).map(|month| days_in_month(year, month)).sum::<u64>();
        let days = (year >= 1970).then_some(years + months + day - 1)?;
        Some(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    }

    /// The value of a register.
    fn number(&self, register: u8) -> Option<u64> {
        if self.format & Self::BINARY != 0 {
            return Some(u64::from(register));
        }
        let (tens, ones) = (register >> 4, register & 0xf);
        (tens <= 9 && ones <= 9).then_some(u64::from(tens * 10 + ones))
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// How fast the processor's counter runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds a tick, times 2³².
    tick: u64,
    ticks_per_microsecond: u64,
}

impl Rate {
    /// A tick a nanosecond: where nothing can be measured.
    pub const GIGAHERTZ: Self = Self { tick: 1 << 32, ticks_per_microsecond: 1000 };

    /// `ticks` in `nanoseconds`; `None` for what no counter does (slower than 1 MHz, faster than 1 THz).
    pub fn measured(ticks: u64, nanoseconds: u64) -> Option<Self> {
        let tick = (u128::from(nanoseconds) << 32).checked_div(u128::from(ticks))?;
        let tick = u64::try_from(tick).ok().filter(|tick| (1 << 22..=1000 << 32).contains(tick))?;
        Some(Self { tick, ticks_per_microsecond: (1000 << 32) / tick })
    }

    /// Nanoseconds that `ticks` take.
    pub fn nanoseconds(self, ticks: u64) -> u64 {
        // It wraps after centuries.
        ((u128::from(ticks) * u128::from(self.tick)) >> 32) as u64
    }

    /// Ticks in `microseconds`, to within a few in a thousand.
    pub fn ticks(self, microseconds: u64) -> u64 {
        microseconds.saturating_mul(self.ticks_per_microsecond)
    }
}

/// A clock that runs with the processor's counter and is held to the seconds of the real-time clock. It never goes back.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    rate: Rate,
    /// The counter at `time`.
    ticks: u64,
    /// Nanoseconds since 1970.
    time: u64,
    /// The latest time that was told.
    told: u64,
}

impl WallClock {
    /// A clock that is `seconds` after 1970 when the counter is at `ticks`.
    pub fn new(rate: Rate, ticks: u64, seconds: u64) -> Self {
        let time = seconds.saturating_mul(SECOND);
        Self { rate, ticks, time, told: time }
    }

    /// The time when the counter is at `ticks`, in nanoseconds since 1970; never less than before.
    pub fn tell(&mut self, ticks: u64) -> u64 {
        self.told = self.told.max(self.at(ticks));
        self.told
    }

    fn at(&self, ticks: u64) -> u64 {
        self.time.saturating_add(self.rate.nanoseconds(ticks.saturating_sub(self.ticks)))
    }

    /// Takes notice of what the real-time clock says when the counter is at `ticks`: the time is within that second.
    pub fn correct(&mut self, ticks: u64, seconds: u64) {
        let now = self.at(ticks);
        let earliest = seconds.saturating_mul(SECOND);
        let latest = earliest.saturating_add(SECOND);
        let fast_by_rate = SET_BACK + now.saturating_sub(self.time) / 100;
        let is_set_back = now > latest.saturating_add(fast_by_rate);
        self.time = if is_set_back { now } else { now.clamp(earliest, latest) };
        self.ticks = ticks;
    }
}
