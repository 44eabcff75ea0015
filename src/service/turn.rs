// SPDX-License-Identifier: MIT OR Apache-2.0

//! How much one ring is served before the next one's turn: a number of requests, of bytes, and a time.
//!
//! Requests cost from a microsecond to a copy of half a megabyte, so a number of them bounds nothing. Bounds are looked at
//! between two requests: a turn ends with the request in which its time is up. The first request of a turn is not timed, so that
//! a turn of one request, which most are, never looks at the clock; but its bytes count.

/// What one turn of a ring may take.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    requests: u32,
    bytes: u32,
    nanoseconds: u64,
    clock: fn() -> u64,
}

/// Most requests of a turn: enough to make commits and notifications cheap.
const REQUESTS: u32 = 32;
/// Bytes of replies after which a turn ends: their copy takes about as long under TCG as the time below.
const BYTES: u32 = 64 << 10;
/// Nanoseconds of a turn, its first request apart: less than a client alone waits for the answer to a small request.
const NANOSECONDS: u64 = 25_000;

impl Turn {
    /// A turn as services have it: 32 requests, 64 KiB or 25 µs, whichever is first. `clock` tells nanoseconds that never go back.
    #[must_use]
    pub const fn new(clock: fn() -> u64) -> Self {
        Self { requests: REQUESTS, bytes: BYTES, nanoseconds: NANOSECONDS, clock }
    }

    /// A turn of at most `requests` requests, however long they take.
    #[must_use]
    pub const fn of_requests(requests: u32) -> Self {
        Self { requests, bytes: u32::MAX, nanoseconds: u64::MAX, clock: || 0 }
    }

    /// The turn begins.
    pub(super) fn begin(self) -> RunningTurn {
        RunningTurn { turn: self, served: 0, written: 0, end: 0 }
    }
}

/// A turn that somebody has.
#[derive(Debug)]
pub(super) struct RunningTurn {
    turn: Turn,
    /// Requests served.
    pub served: u32,
    /// Bytes of the replies to them.
    written: u32,
    /// When its time is up; means nothing before the second request.
    end: u64,
}

impl RunningTurn {
    /// A request is served, by a reply of `written` bytes.
    #[inline]
    pub(super) fn note(&mut self, written: u32) {
        self.served = self.served.saturating_add(1);
        self.written = self.written.saturating_add(written);
    }

    /// Whether the next request, which is there, must wait for the next turn.
    #[inline]
    pub(super) fn is_over(&mut self) -> bool {
        if self.served == 0 {
            return self.turn.requests == 0;
        }
        if self.served >= self.turn.requests || self.written >= self.turn.bytes {
            return true;
        }
        let now = (self.turn.clock)();
        if self.served == 1 {
            self.end = now.saturating_add(self.turn.nanoseconds);
        }
        now >= self.end
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_turn_ends_with_the_request_in_which_its_time_is_up() {
        static NOW: AtomicU64 = AtomicU64::new(0);
        let mut turn = Turn::new(|| NOW.load(Ordering::Relaxed)).begin();
        assert!(!turn.is_over(), "the first request is always served");
        for (request, nanoseconds) in [50_000_000, 15_000, 9_999].into_iter().enumerate() {
            NOW.fetch_add(nanoseconds, Ordering::Relaxed);
            turn.note(7);
            assert!(!turn.is_over(), "after request {request}");
        }
        NOW.fetch_add(1, Ordering::Relaxed);
        turn.note(7);
        assert!(turn.is_over());
    }

    #[test]
    fn a_turn_has_32_requests_though_they_take_no_time() {
        let mut turn = Turn::new(|| 7).begin();
        while !turn.is_over() {
            turn.note(7);
        }
        assert_eq!(turn.served, 32);
    }

    #[test]
    fn a_turn_ends_with_a_long_reply() {
        let mut turn = Turn::new(|| 7).begin();
        turn.note(BYTES - 1);
        assert!(!turn.is_over());
        turn.note(1);
        assert!(turn.is_over());
    }

    #[test]
    fn a_turn_of_requests_alone_is_not_timed() {
        let mut turn = Turn::of_requests(1000).begin();
        while !turn.is_over() {
            turn.note(7);
        }
        assert_eq!(turn.served, 1000);
        assert!(Turn::of_requests(0).begin().is_over());
    }
}
