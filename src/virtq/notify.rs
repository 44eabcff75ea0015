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

    #[test]
    fn every_event_index_agrees_with_the_definition_for_steps_across_the_wrap() {
        for (old, new) in
            [(65535u16, 0u16), (65535, 1), (65534, 65535), (65000, 500), (0, 32768), (40000, 7232)]
        {
            for event in 0..=u16::MAX {
                let passed = event.wrapping_sub(old) < new.wrapping_sub(old);
                assert_eq!(need_event(event, new, old), passed, "{event} {new} {old}");
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
