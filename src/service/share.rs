// SPDX-License-Identifier: MIT OR Apache-2.0

//! How the rings share the time of the server: what one ring has of it, each other ring that asks gets too, before the first has more.
//!
//! Turns in a circle are fair to clients that always have a request waiting. A client that sends its next request when it has the
//! answer to the last has none at the moment when its answer is sent: a neighbour that keeps its queue full would have the next
//! turn each time, and if its requests are long, nearly all the time there is. So two things decide whose turn it is:
//!
//! - Of the rings that ask, that which had the least time is served next, as by Linux' fair scheduler (CFS).
//! - If that is one whose client thinks (it has asked a moment ago, and has no request now), the server waits for it although others have requests,
//!   as Linux' CFQ idled for processes that read one block after the other (`slice_idle`). What a client does not use of that time
//!   it has had all the same; so those that think do so side by side, and the others' turn comes.
//!
//! So beside one neighbour that floods the server, of whatever requests, a client has half of the time, and its median request finds the
//! server free. A ring that has not asked for a while does not count: a server with one client at work is never idle, nor is one
//! whose clients all have requests.
//!
//! There is no clock in here: whoever calls says what time it is, in nanoseconds that never go back.

use alloc::boxed::Box;

/// For how long, in nanoseconds in which nobody is served, a ring that was served or asked counts as one that asks. More than what a Linux client takes from an
/// answer to the next request, and little for those who wait for one that does not ask any more.
const ATTENTIVE: u64 = 1_000_000;

/// What each ring had of the server's time.
#[derive(Debug)]
pub struct Shares {
    rings: Box<[Part]>,
    /// What is accounted for.
    now: u64,
    /// When the turn began that somebody has.
    began: Option<u64>,
    /// For how long nobody had a turn.
    idle: u64,
}

/// One ring's part.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// The time that it had, in nanoseconds, or could have had.
    had: u64,
    /// Until which of [`Shares::idle`] it counts as one that asks.
    until: u64,
    /// Whether it has requests, and no turn yet.
    waits: bool,
}

impl Shares {
    /// For `rings` rings, of which none has asked for anything.
    #[must_use]
    pub fn new(rings: usize) -> Self {
        Self { rings: (0..rings).map(|_| Part::default()).collect(), now: 0, began: None, idle: 0 }
    }

    /// The ring of this number has requests, `now`. Returns for how many nanoseconds it is put off, as things are; 0: it may have its
    /// turn. To be called again before that time is over: others stop asking.
    #[must_use]
    pub fn asks(&mut self, ring: usize, now: u64) -> u64 {
        self.account(now);
        let idle = self.idle;
        let mut least = None;
        let mut most = 0;
        for (_, other) in self.rings.iter().enumerate().filter(|(number, _)| *number != ring) {
            most = other.had.max(most);
            if other.until > idle {
                least = Some(other.had.min(least.unwrap_or(u64::MAX)));
            }
        }
        let Some(part) = self.rings.get_mut(ring) else { return 0 };
        if part.until <= idle {
            // It was away: of the time that went by then it has no claim to any.
            part.had = part.had.max(least.unwrap_or(most));
        }
        part.until = idle.saturating_add(ATTENTIVE);
        part.waits = true;
        // Each of the others has the difference at that time at the earliest.
        least.map_or(0, |least| part.had.saturating_sub(least).min(ATTENTIVE))
    }

    /// A ring's turn begins, `now`.
    pub fn begins(&mut self, now: u64) {
        self.account(now);
        self.began = Some(now);
    }

    /// The turn ends, `now`, which was that of the ring of this number.
    pub fn ends(&mut self, ring: usize, now: u64) {
        self.account(now);
        let began = self.began.take().unwrap_or(now);
        let idle = self.idle;
        if let Some(part) = self.rings.get_mut(ring) {
            part.had = part.had.saturating_add(now.saturating_sub(began));
            part.until = idle.saturating_add(ATTENTIVE);
            part.waits = false;
        }
    }

    /// The time until `now` goes to those who think, if nobody is served: they catch up with who had most.
    fn account(&mut self, now: u64) {
        let passed = now.saturating_sub(self.now);
        self.now = self.now.max(now);
        if self.began.is_some() {
            return;
        }
        let idle = self.idle;
        let asking = || self.rings.iter().filter(|part| part.until > idle);
        let most = asking().map(|part| part.had).max().unwrap_or(0);
        for part in self.rings.iter_mut().filter(|part| part.until > idle && !part.waits) {
            part.had = part.had.saturating_add(passed).min(most);
        }
        self.idle = idle.saturating_add(passed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// The first ring; in most tests one that is always full.
    const FULL: usize = 0;
    /// How long a client in the tests needs to ask again, and its request to be served.
    const THINKS: u64 = 30_000;
    const SERVED: u64 = 3_000;

    /// What came of a simulation.
    struct Outcome {
        /// For how long each ring was served.
        had: Vec<u64>,
        /// How long each answer of each ring was waited for.
        waits: Vec<Vec<u64>>,
        /// For how long nobody was served.
        idle: u64,
    }

    /// Serves rings in a circle for so many nanoseconds: those of `full`, which are always full, and whose turns take so long; then
    /// `closed` ones, of clients that ask again [`THINKS`] after they were answered.
    fn serve(full: &[u64], closed: usize, time: u64) -> Outcome {
        let count = full.len() + closed;
        let mut rings = Shares::new(count);
        let mut asked = vec![0; count];
        let mut outcome = Outcome { had: vec![0; count], waits: vec![Vec::new(); count], idle: 0 };
        let mut now = 1;
        while now < time {
            let before = now;
            for (ring, asked) in asked.iter_mut().enumerate() {
                if *asked > now || rings.asks(ring, now) > 0 {
                    continue;
                }
                let takes = full.get(ring).copied().unwrap_or(SERVED);
                rings.begins(now);
                now += takes;
                rings.ends(ring, now);
                outcome.had[ring] += takes;
                outcome.waits[ring].push(now - *asked);
                *asked = if ring < full.len() { now } else { now + THINKS };
            }
            if now == before {
                // A look at the rings takes time, too.
                now += 100;
                outcome.idle += 100;
            }
        }
        outcome
    }

    /// A tenth of a second.
    const TIME: u64 = 100_000_000;
    /// The answers that a client gets in it if it is alone.
    const ALONE: u64 = TIME / (THINKS + SERVED);

    #[test]
    fn beside_a_ring_that_is_always_full_a_client_gets_half_of_the_answers_that_it_gets_alone() {
        for long in [10_000, 25_000, 100_000, 330_000, 1_000_000, 5_000_000] {
            let Outcome { mut waits, had, .. } = serve(&[long], 1, TIME);
            let waits = &mut waits[1];
            let answers = waits.len() as u64;
            assert!(answers >= ALONE * 45 / 100, "{answers} of {ALONE} answers beside turns of {long} ns");
            assert!(had[FULL] >= TIME * 45 / 100, "{} ns of turns of {long} ns", had[FULL]);
            waits.sort_unstable();
            let median = waits[waits.len() / 2];
            assert!(long < 2 * THINKS || median < 2 * SERVED, "{median} ns beside turns of {long} ns");
            assert!(waits[waits.len() - 1] <= long + 2 * SERVED);
        }
    }

    #[test]
    fn clients_that_think_do_so_side_by_side_and_leave_a_full_ring_its_part() {
        let Outcome { had, waits, .. } = serve(&[330_000], 3, TIME);
        assert!(had[FULL] >= TIME * 40 / 100, "{}", had[FULL]);
        for waits in &waits[1..] {
            assert!(waits.len() as u64 >= ALONE * 45 / 100, "{} answers", waits.len());
        }
    }

    #[test]
    fn beside_two_full_rings_a_client_has_a_third_of_the_time_and_so_have_they() {
        for long in [[330_000, 330_000], [100_000, 5_000_000]] {
            let Outcome { had, waits, .. } = serve(&long, 1, 10 * TIME);
            let parts = [had[0], had[1], waits[2].len() as u64 * (THINKS + SERVED)];
            assert!(
                parts.iter().all(|part| *part >= 10 * TIME * 30 / 100),
                "{parts:?} beside turns of {long:?} ns"
            );
        }
    }

    #[test]
    fn the_server_is_never_idle_while_all_have_requests_and_each_has_its_part() {
        for full in [&[25_000, 330_000][..], &[100_000, 330_000], &[50_000; 8], &[10_000, 40_000, 1_000_000]]
        {
            let Outcome { had, idle, .. } = serve(full, 0, TIME);
            assert!(idle <= TIME / 50, "{idle} ns idle with turns of {full:?} ns");
            let least = TIME * 9 / 10 / full.len() as u64;
            assert!(had.iter().all(|had| *had >= least), "{had:?} ns of turns of {full:?} ns");
        }
    }

    fn turn(rings: &mut Shares, ring: usize, began: u64, ended: u64) {
        rings.begins(began);
        rings.ends(ring, ended);
    }

    #[test]
    fn nobody_is_put_off_for_a_ring_that_does_not_ask_any_more() {
        let mut rings = Shares::new(8);
        assert_eq!(rings.asks(FULL, 1_000), 0, "nobody else has ever asked");
        turn(&mut rings, FULL, 1_000, 401_000);
        assert_eq!(rings.asks(FULL, 401_000), 0);
        assert_eq!(rings.asks(1, 401_000), 0);
        turn(&mut rings, 1, 401_000, 402_000);
        turn(&mut rings, FULL, 402_000, 10_402_000);
        assert_eq!(rings.asks(FULL, 10_402_000), ATTENTIVE, "what it had is not told beyond that");
        assert_eq!(rings.asks(FULL, 10_402_000 + ATTENTIVE - 1), ATTENTIVE);
        assert_eq!(rings.asks(FULL, 10_402_000 + ATTENTIVE), 0);
    }

    #[test]
    fn who_waits_for_a_long_turn_to_end_is_next_though_it_has_not_asked_since() {
        let mut rings = Shares::new(2);
        turn(&mut rings, FULL, 0, 1_000);
        rings.begins(1_000);
        assert_eq!(rings.asks(1, 10_000), 0);
        rings.ends(FULL, 20_001_000);
        assert_eq!(rings.asks(FULL, 20_001_000), ATTENTIVE);
        assert_eq!(rings.asks(1, 20_001_000), 0);
    }

    #[test]
    fn who_was_away_has_no_claim_to_the_time_that_went_by_and_keeps_no_debt_of_long_ago() {
        let mut rings = Shares::new(3);
        turn(&mut rings, 0, 0, 5_000_000_000);
        // Another comes when the first is gone, and has the server for itself; then the first comes back.
        let later = 10_000_000_000;
        assert_eq!(rings.asks(1, later), 0);
        turn(&mut rings, 1, later, later + 1_000);
        assert_eq!(rings.asks(0, later + 1_000), 0);
        turn(&mut rings, 0, later + 1_000, later + 2_000);
        // A third may not catch up on the seconds that it did not ask for.
        assert_eq!(rings.asks(2, later + 2_000), 0);
        turn(&mut rings, 2, later + 2_000, later + 10_000);
        assert_eq!([0, 1, 2].map(|ring| rings.asks(ring, later + 10_000)), [1_000, 0, 8_000]);
    }

    #[test]
    fn a_ring_that_is_not_there_is_not_put_off() {
        let mut rings = Shares::new(1);
        turn(&mut rings, 1, 5, 500);
        assert_eq!(rings.asks(1, 500), 0);
        assert_eq!(rings.asks(FULL, 500), 0);
    }
}
