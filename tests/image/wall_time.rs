// SPDX-License-Identifier: MIT OR Apache-2.0

//! The image's calculations with time, compiled for the host.

#[path = "../../boot/src/clock/wall_time.rs"]
mod calculations;

use calculations::{Rate, Registers, SECOND, WallClock};

/// Registers in binary, 24 hours, of `year month day hours minutes seconds`.
fn registers(time: [u16; 6]) -> Registers {
    let [year, month, day, hours, minutes, seconds] = time;
    let byte = |number: u16| u8::try_from(number).unwrap();
    Registers {
        seconds: byte(seconds),
        minutes: byte(minutes),
        hours: byte(hours),
        day: byte(day),
        month: byte(month),
        year: byte(year % 100),
        century: byte(year / 100),
        format: 0b110,
    }
}

/// The same time, each number as two decimal digits.
fn in_decimal(binary: Registers) -> Registers {
    let digits = |number: u8| ((number / 10) << 4) | (number % 10);
    let Registers { seconds, minutes, hours, day, month, year, century, .. } = binary;
    Registers {
        seconds: digits(seconds),
        minutes: digits(minutes),
        hours: digits(hours),
        day: digits(day),
        month: digits(month),
        year: digits(year),
        century: digits(century),
        format: 0b010,
    }
}

#[test]
fn the_real_time_clocks_registers_are_seconds_since_1970() {
    // As `date --utc --date=… +%s` has them.
    for (time, seconds) in [
        ([1970, 1, 1, 0, 0, 0], 0),
        ([1999, 12, 31, 23, 59, 59], 946_684_799),
        ([2000, 2, 29, 12, 0, 0], 951_825_600),
        ([2026, 11, 22, 21, 2, 55], 1_795_381_375),
        ([2100, 3, 1, 0, 0, 0], 4_107_542_400),
        ([2399, 12, 31, 23, 59, 59], 13_569_465_599),
    ] {
        let binary = registers(time);
        assert_eq!(binary.unix_seconds(), Some(seconds), "{time:?}");
        assert_eq!(in_decimal(binary).unix_seconds(), Some(seconds), "{time:?}");
    }
}

#[test]
fn twelve_hours_are_told_apart_by_half_of_the_day() {
    let midnight = registers([2026, 5, 4, 0, 0, 0]).unix_seconds().unwrap();
    for (register, hour) in [(12, 0), (1, 1), (11, 11), (0x80 | 12, 12), (0x80 | 1, 13), (0x80 | 11, 23)] {
        let binary = Registers { hours: register, format: 0b100, ..registers([2026, 5, 4, 0, 0, 0]) };
        assert_eq!(binary.unix_seconds(), Some(midnight + hour * 3600), "{register:#x}");
        let Registers { hours, .. } = in_decimal(Registers { hours: register & 0x7f, ..binary });
        let decimal = Registers {
            hours: hours | register & 0x80,
            format: 0,
            ..in_decimal(registers([2026, 5, 4, 0, 0, 0]))
        };
        assert_eq!(decimal.unix_seconds(), Some(midnight + hour * 3600), "{register:#x}");
    }
    for hours in [0, 13, 0x80] {
        let wrong = Registers { hours, format: 0b100, ..registers([2026, 5, 4, 0, 0, 0]) };
        assert_eq!(wrong.unix_seconds(), None, "{hours:#x}");
    }
}

#[test]
fn a_machine_without_the_century_is_in_this_one() {
    let expected = registers([2026, 5, 4, 3, 2, 1]).unix_seconds();
    for century in [0, 0xff, 99] {
        let unknown = Registers { century, ..registers([2026, 5, 4, 3, 2, 1]) };
        assert_eq!(unknown.unix_seconds(), expected, "{century}");
    }
}

#[test]
fn registers_that_hold_no_time_are_none() {
    for time in [
        [2026, 2, 29, 0, 0, 0],
        [2026, 0, 1, 0, 0, 0],
        [2026, 13, 1, 0, 0, 0],
        [2026, 1, 0, 0, 0, 0],
        [2026, 4, 31, 0, 0, 0],
        [2026, 1, 1, 24, 0, 0],
        [2026, 1, 1, 0, 60, 0],
        [2026, 1, 1, 0, 0, 61],
        [1969, 12, 31, 0, 0, 0],
    ] {
        assert_eq!(registers(time).unix_seconds(), None, "{time:?}");
    }
    let absent = Registers {
        seconds: 0xff,
        minutes: 0xff,
        hours: 0xff,
        day: 0xff,
        month: 0xff,
        year: 0xff,
        century: 0xff,
        format: 0xff,
    };
    assert_eq!(absent.unix_seconds(), None);
}

#[test]
fn a_rate_turns_ticks_into_time_and_time_into_ticks() {
    let rate = Rate::measured(9_000_000, 3_000_000).unwrap();
    let hour = 3600 * SECOND;
    assert!(rate.nanoseconds(3 * hour).abs_diff(hour) < 1000, "{}", rate.nanoseconds(3 * hour));
    assert!(rate.ticks(1_000_000).abs_diff(3 * SECOND) < SECOND / 100, "{}", rate.ticks(1_000_000));
    assert_eq!((Rate::measured(0, 1000), Rate::measured(1, 1_000_000)), (None, None));
    assert_eq!(Rate::GIGAHERTZ.nanoseconds(5), 5);
}

#[test]
fn a_clock_that_runs_slow_is_put_forward_to_the_second_that_has_begun() {
    let mut clock = WallClock::new(Rate::GIGAHERTZ, 0, 100);
    assert_eq!(clock.tell(SECOND / 2), 100 * SECOND + SECOND / 2);
    clock.correct(SECOND / 2, 101);
    assert_eq!(clock.tell(SECOND / 2), 101 * SECOND);
    // Within the second that the real-time clock shows, it stays as it is.
    clock.correct(SECOND, 101);
    assert_eq!(clock.tell(SECOND), 101 * SECOND + SECOND / 2);
    // However long the machine was stopped.
    clock.correct(SECOND + 1, 5000);
    assert_eq!(clock.tell(SECOND + 1), 5000 * SECOND);
}

#[test]
fn a_clock_that_runs_fast_waits_and_never_goes_back() {
    let mut clock = WallClock::new(Rate::GIGAHERTZ, 0, 100);
    let fast = clock.tell(2 * SECOND + SECOND / 2);
    clock.correct(2 * SECOND + SECOND / 2, 101);
    assert_eq!(clock.tell(2 * SECOND + SECOND / 2 + 1), fast);
    // Half a second later it goes on.
    assert_eq!(clock.tell(4 * SECOND), 103 * SECOND + SECOND / 2);
    // A hundredth too fast for an hour.
    let ticks = 3604 * SECOND + 30 * SECOND;
    clock.correct(ticks, 3702);
    assert_eq!(clock.tell(ticks + 40 * SECOND), 3743 * SECOND);
}

#[test]
fn a_host_that_sets_its_clock_back_is_not_followed() {
    let mut clock = WallClock::new(Rate::GIGAHERTZ, 0, 10_000);
    clock.correct(SECOND, 6400);
    assert_eq!(clock.tell(SECOND), 10_001 * SECOND);
    assert_eq!(clock.tell(2 * SECOND), 10_002 * SECOND);
}
