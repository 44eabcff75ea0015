// SPDX-License-Identifier: MIT OR Apache-2.0

//! The arithmetic of a packed ring's places and wrap counters against the words of virtio 1.2, sections 2.8.1 and 2.8.10. The definitions
//! here count places by one number that never begins anew: place `p` has offset `p % size`, and the wrap counter is 1 in the laps 0, 2, 4, …

use super::*;
use crate::virtq::driver_model::EVENT_IDX;
use crate::virtq::driver_model::packed::PackedDriver;

/// All sizes up to here are gone through place by place.
const SMALL: u32 = 24;

fn position(place: u32, size: u32) -> Position {
    Position { index: u16::try_from(place % size).unwrap(), wrap: (place / size).is_multiple_of(2) }
}

/// Numbers up to `size` at which something may change.
fn corners(size: u32) -> impl Iterator<Item = u32> {
    let candidates = [0, 1, 2, size / 2, size.saturating_sub(2), size.saturating_sub(1), size];
    candidates.into_iter().filter(move |number| *number <= size)
}

/// "Changes the value of this counter each time it makes available [uses] the last descriptor in the ring" (2.8.1).
fn check_advance(place: u32, count: u32, size: u32) {
    let size_of_queue = u16::try_from(size).unwrap();
    let advanced = position(place, size).advanced(u16::try_from(count).unwrap(), size_of_queue);
    assert_eq!(advanced, position(place + count, size), "{place} {count} {size}");
}

#[test]
fn a_place_and_its_wrap_counter_advance_as_counted_in_rings_of_every_size() {
    for size in 1..=SMALL {
        for place in 0..2 * size {
            (0..=size).for_each(|count| check_advance(place, count, size));
        }
    }
    for size in SMALL + 1..=1 << 15 {
        for lap in 0..2 {
            for place in corners(size).filter(|place| *place < size) {
                corners(size).for_each(|count| check_advance(lap * size + place, count, size));
            }
        }
    }
}

#[test]
fn every_position_is_told_as_one_number_and_found_again() {
    for number in 0..=u16::MAX {
        let Position { index, wrap } = Position::from_number(number);
        assert_eq!((index, wrap), (number % 0x8000, number >= 0x8000));
        assert_eq!(Position::from_number(number).number(), number);
    }
}

/// 2.8.1: to mark a descriptor as available, its available bit is set to match the wrap counter and its used bit to the inverse; as used, both to
/// match.
#[test]
fn of_all_flags_those_mean_available_whose_first_mark_alone_is_the_wrap_counter() {
    let at = |wrap| Position { index: 0, wrap };
    for flags in 0..=u16::MAX {
        let (available, used) = (flags & 1 << 7 != 0, flags & 1 << 15 != 0);
        for wrap in [false, true] {
            assert_eq!(at(wrap).is_available(flags), available == wrap && used != wrap, "{flags:#x} {wrap}");
        }
    }
    assert_eq!((at(false).used_marks(), at(true).used_marks()), (0, 0x8080));
}

/// A queue of `size`.
fn queue(size: u32) -> PackedQueue {
    let driver = PackedDriver::new(u16::try_from(size).unwrap(), EVENT_IDX);
    PackedQueue::new(&driver.ram.memory(), &driver.ram.configuration).unwrap()
}

/// 2.8.10: the event triggers when the descriptor at its offset is used, and the wrap counter matches. Used are the `passed` places
/// before `end`; at most one of them has this offset.
fn check_event(queue: &mut PackedQueue, end: u32, passed: u32, event: Position) {
    let size = u32::from(queue.size);
    let first = end - passed;
    let ahead = (u32::from(event.index) + size - first % size) % size;
    let expected = ahead < passed && position(first + ahead, size) == event;
    if size <= SMALL {
        assert_eq!(expected, (first..end).any(|place| position(place, size) == event));
    }
    queue.staged = position(end, size);
    let told = queue.has_passed(event, u16::try_from(passed).unwrap());
    assert_eq!(told, expected, "{end} {passed} {event:?} {size}");
}

#[test]
fn an_event_triggers_exactly_when_its_offset_was_passed_with_its_wrap_counter() {
    for size in 1..=SMALL {
        let mut queue = queue(size);
        for end in 2 * size..4 * size {
            for passed in 0..=size {
                for event in 0..2 * size {
                    check_event(&mut queue, end, passed, position(event, size));
                }
            }
        }
    }
    for size in [255, 256, 257, 1000, 0x3fff, 0x4000, 0x7ffe, 0x7fff, 0x8000] {
        let mut queue = queue(size);
        for end in [2, 3].into_iter().flat_map(|lap| corners(size).map(move |place| lap * size + place)) {
            for passed in corners(size) {
                for event in 0..2 * size {
                    check_event(&mut queue, end, passed, position(event, size));
                }
            }
        }
    }
}
