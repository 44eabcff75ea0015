// SPDX-License-Identifier: MIT OR Apache-2.0

//! Notification: telling the driver, and knowing when it wants to be told (virtio 1.3, sections 2.7.7 and 2.7.10).

/// Tells the driver that used buffers are there: a doorbell, or an eventfd.
///
/// # What an implementation guarantees
/// * A call reaches the driver after everything that was published before it.
/// * It does not block, does not fail and allocates nothing. Where the other end is gone, it does nothing.
/// * Calls may be merged, but after the last one the driver looks at the ring at least once.
pub trait Notify {
    /// Interrupts the driver.
    fn call(&mut self);
}

/// Whether a side that asked to be told when `event` is passed is to be told of a step of the index from
/// `old` to `new` (`vring_need_event` of section 2.7.7.1): whether entry `event` is among the entries
/// `old .. new`. All of them wrap at 65536.
#[must_use]
pub const fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, by counting.
    fn is_among(event: u16, new: u16, old: u16) -> bool {
        let mut entry = old;
        while entry != new {
            if entry == event {
                return true;
            }
            entry = entry.wrapping_add(1);
        }
        false
    }

    #[test]
    fn an_event_is_needed_exactly_when_its_entry_was_passed() {
        for old in (0..40u16).chain(65500..=65535) {
            for step in 0..40u16 {
                let new = old.wrapping_add(step);
                for distance in -50i16..50 {
                    let event = old.wrapping_add_signed(distance);
                    assert_eq!(need_event(event, new, old), is_among(event, new, old), "{event} {new} {old}");
                }
            }
        }
    }

    /// From entry 0 on there is no wrap, so the definition is a comparison, and all 2^32 pairs are gone through: the core is optimized
    /// in tests, too, and this takes a second. (What the compiler does not know it cannot reason about.)
    #[test]
    fn every_event_agrees_with_the_definition_for_every_step_from_entry_0() {
        let old = core::hint::black_box(0);
        for new in 0..=u16::MAX {
            let wrong = (0..=u16::MAX)
                .fold(false, |wrong, event| wrong | (need_event(event, new, old) != (event < new)));
            assert!(!wrong, "an event, in the step to {new}");
        }
    }

    /// Steps from elsewhere are those from 0, moved: `old` only ever comes in as what the others differ from it.
    #[test]
    fn a_step_from_any_entry_is_one_from_entry_0_that_was_moved() {
        let corners = [0_u16, 1, 2, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff];
        for old in 0..=u16::MAX {
            for (event, step) in corners.into_iter().flat_map(|event| corners.map(|step| (event, step))) {
                let (moved, new) = (event.wrapping_add(old), step.wrapping_add(old));
                assert_eq!(need_event(moved, new, old), event < step, "{moved} {new} {old}");
            }
        }
    }

    #[test]
    fn no_event_is_needed_when_nothing_was_published() {
        for event in 0..=u16::MAX {
            assert!(!need_event(event, 7, 7));
        }
    }
}
