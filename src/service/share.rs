// SPDX-License-Identifier: MIT OR Apache-2.0

//! How the rings share the time of the server: what one ring had, each other ring that asks gets too, before the first has more.
//!
//! Turns in a circle are fair to clients that always have a request waiting. A client that sends its next request when it has the
//! answer to the last has none at the moment when its answer is sent: a neighbour that keeps its queue full would have the next
//! turn each time, and if its requests are long, nearly all the time there is. So a ring is put off after its turn, for as long as the
//! turn was, once for each other ring that asks, and the server waits for them meanwhile although there is something to do. (Linux'
//! CFQ scheduler idled for processes that read one block after the other, for this reason: `slice_idle`.) Beside one neighbour, whatever
//! that asks for, a client so has half of the server's time, and the median of its requests finds the server free. Nobody is put off
//! for a ring that has not asked for a while, and so a server with one client at work is never idle.
//!
//! There is no clock in here: whoever calls says what time it is, in nanoseconds that never go back. Threads that serve a ring each
//! may share a [`Shares`]: what they read of each other's times are hints, of which any value is safe, so that no order is needed.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

/// For how long after a request, in nanoseconds, a ring counts as one that asks; the length of the turn of whoever wants to know is
/// added to it. More than what a Linux client takes from an answer to the next request, and little for those who wait for one that does
/// not ask any more.
const ATTENTIVE: u64 = 1_000_000;

/// The times of all rings.
#[derive(Debug)]
pub struct Shares {
    rings: Box<[Times]>,
}

/// The times of a ring, in nanoseconds. Only its own thread writes them.
#[derive(Debug, Default)]
struct Times {
    /// When it was seen to have requests last. 0: never.
    asked: AtomicU64,
    /// When its last turn ended.
    ended: AtomicU64,
    /// How long that was.
    took: AtomicU64,
}

impl Shares {
    /// For `rings` rings, of which none has asked for anything.
    #[must_use]
    pub fn new(rings: usize) -> Self {
        Self { rings: (0..rings).map(|_| Times::default()).collect() }
    }

    /// The ring of this number has requests, `now`. Only to be called where others may look before it has its turn.
    pub fn asks(&self, ring: usize, now: u64) {
        if let Some(times) = self.rings.get(ring) {
            times.asked.store(now, Ordering::Relaxed);
        }
    }

    /// The ring of this number had a turn in which it was served.
    pub fn had_a_turn(&self, ring: usize, began: u64, ended: u64) {
        if let Some(times) = self.rings.get(ring) {
            times.asked.store(ended, Ordering::Relaxed);
            times.ended.store(ended, Ordering::Relaxed);
            times.took.store(ended.saturating_sub(began), Ordering::Relaxed);
        }
    }

    /// For how many nanoseconds the ring of this number is put off, as things are `now`; 0: it may have its turn. To be asked again before
    /// that: others stop asking, and begin to.
    #[must_use]
    pub fn put_off(&self, ring: usize, now: u64) -> u64 {
        let Some(times) = self.rings.get(ring) else { return 0 };
        let since = now.saturating_sub(times.ended.load(Ordering::Relaxed));
        let took = times.took.load(Ordering::Relaxed);
        if since >= took.saturating_mul(self.rings.len() as u64) {
            return 0;
        }
        let attentive = took.saturating_add(ATTENTIVE);
        let asks = |other: &Times| {
            let asked = other.asked.load(Ordering::Relaxed);
            asked != 0 && now.saturating_sub(asked) < attentive
        };
        let others =
            self.rings.iter().enumerate().filter(|(number, other)| *number != ring && asks(other)).count();
        took.saturating_mul(others as u64).saturating_sub(since).min(ATTENTIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// A ring that is always full, whose turns take so many nanoseconds.
    const FULL: usize = 0;
    /// How long a client in the tests needs to ask again, and its request to be served.
    const THINKS: u64 = 30_000;
    const SERVED: u64 = 3_000;

    /// Serves, in a circle, ring 0 whose turns take `long`, and for each other ring a client that asks again [`THINKS`] after it was
    /// answered; for `time` nanoseconds. Returns how long each other client waited for each of its answers.
    fn serve(others: usize, long: u64, time: u64) -> Vec<Vec<u64>> {
        let rings = Shares::new(8);
        let mut asked = vec![0; others];
        let mut waits = vec![Vec::new(); others];
        let mut now = 1;
        while now < time {
            let before = now;
            if rings.put_off(FULL, now) == 0 {
                now += long;
                rings.had_a_turn(FULL, before, now);
            }
            for (number, (asked, waits)) in asked.iter_mut().zip(&mut waits).enumerate() {
                if *asked <= now && rings.put_off(1 + number, now) == 0 {
                    let began = now;
                    now += SERVED;
                    rings.had_a_turn(1 + number, began, now);
                    waits.push(now - *asked);
                    *asked = now + THINKS;
                }
            }
            // A look at the rings takes time, too.
            now += 100;
        }
        waits
    }

    #[test]
    fn beside_a_ring_that_is_always_full_a_client_gets_half_of_the_answers_that_it_gets_alone() {
        let time = 100_000_000;
        let alone = time / (THINKS + SERVED);
        for long in [10_000, 25_000, 100_000, 330_000, 1_000_000, 5_000_000] {
            let mut waits = serve(1, long, time).remove(0);
            let answers = waits.len() as u64;
            assert!(answers >= alone * 45 / 100, "{answers} of {alone} answers beside turns of {long} ns");
            waits.sort_unstable();
            let median = waits[waits.len() / 2];
            assert!(long < 2 * THINKS || median < 2 * SERVED, "{median} ns beside turns of {long} ns");
            assert!(waits[waits.len() - 1] <= long + 2 * SERVED);
        }
    }

    #[test]
    fn three_clients_beside_a_full_ring_have_three_quarters_of_the_time() {
        let time = 100_000_000;
        let turns = serve(3, 1_000_000, time);
        for waits in turns {
            assert!(waits.len() as u64 >= time / (THINKS + 3 * SERVED) * 7 / 10, "{}", waits.len());
        }
    }

    #[test]
    fn nobody_is_put_off_for_a_ring_that_does_not_ask_any_more() {
        let rings = Shares::new(8);
        rings.had_a_turn(FULL, 1_000, 401_000);
        assert_eq!(rings.put_off(FULL, 401_000), 0, "nobody else has ever asked");
        rings.had_a_turn(1, 401_000, 402_000);
        assert_eq!(rings.put_off(FULL, 402_000), 399_000);
        assert_eq!(rings.put_off(FULL, 800_999), 1);
        assert_eq!(rings.put_off(FULL, 801_000), 0);
        rings.had_a_turn(FULL, 1_000_000, 11_000_000);
        assert_eq!(rings.put_off(FULL, 11_000_000), ATTENTIVE, "told again after that");
        assert_eq!(rings.put_off(FULL, 402_000 + 10_000_000 + ATTENTIVE), 0);
    }

    #[test]
    fn a_ring_that_waits_for_a_long_turn_to_end_still_asks() {
        let rings = Shares::new(2);
        rings.asks(1, 10_000);
        rings.had_a_turn(FULL, 1_000, 20_001_000);
        assert_eq!(rings.put_off(FULL, 20_001_000), ATTENTIVE);
        assert_eq!(rings.put_off(1, 20_001_000), 0);
    }

    #[test]
    fn a_ring_that_is_not_there_is_not_put_off() {
        let rings = Shares::new(1);
        rings.asks(1, 5);
        rings.had_a_turn(1, 5, 500);
        assert_eq!(rings.put_off(1, 500), 0);
        assert_eq!(rings.put_off(FULL, 500), 0);
    }
}
