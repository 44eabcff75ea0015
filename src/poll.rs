// SPDX-License-Identifier: MIT OR Apache-2.0

//! How long a service goes on looking at its rings before it sleeps: long enough to be awake for a client that sends its next
//! request at once, and not at all for one that is idle.
//!
//! A sleep and the wake-up that ends it cost the client the way of a kick through the host, and its kernel the kick itself.
//! While the service looks, kicks are suppressed, but it costs a processor. So the time that it looks tunes itself, as KVM's
//! `halt_poll_ns` does (Documentation/virt/kvm/halt-polling.rst of Linux): it doubles when a request came soon after the service
//! had gone to sleep, and is halved, down to nothing, when one came late.
//!
//! There is no clock in here: whoever calls says what time it is, in nanoseconds that never go back.

use core::fmt;
use core::ops::AddAssign;

/// The most that a service looks unless it is told otherwise, in nanoseconds: about what a halt and a wake-up cost when both pass
/// through QEMU's event loop under TCG.
pub const DEFAULT_BOUND: u64 = 400_000;

/// The shortest time that is looked for, other than none: less than what a sleep and a wake-up cost anywhere.
const LEAST: u64 = 25_000;

/// What came of the looking, in numbers that only grow (and wrap at 2^64).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PollStatistics {
    /// Times that a request came while the service looked for it.
    pub hits: u64,
    /// Times that it went to sleep after it had looked in vain.
    pub misses: u64,
    /// Sleeps that a request ended.
    pub wakes: u64,
}

impl AddAssign for PollStatistics {
    fn add_assign(&mut self, other: Self) {
        self.hits = self.hits.wrapping_add(other.hits);
        self.misses = self.misses.wrapping_add(other.misses);
        self.wakes = self.wakes.wrapping_add(other.wakes);
    }
}

/// `key value` lines, as `ctl/stats` has them.
impl fmt::Display for PollStatistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "polls_hit {}", self.hits)?;
        writeln!(f, "polls_missed {}", self.misses)?;
        writeln!(f, "wakes {}", self.wakes)
    }
}

/// What the service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It served requests when it looked last.
    Serving,
    /// It found nothing when it looked last.
    Looking,
    /// It went to sleep, or was about to.
    Asleep,
}

/// When a service that found nothing looks again, and when it sleeps.
#[derive(Debug)]
pub struct Poll {
    /// Most nanoseconds to look after the last request.
    most: u64,
    /// As many are tried now: 0, or [`LEAST`] to `most`.
    window: u64,
    /// When requests were served last.
    served: u64,
    phase: Phase,
    statistics: PollStatistics,
}

impl Poll {
    /// A service that starts `now` and looks for at most `most` nanoseconds: 0 makes it sleep at once, always.
    #[must_use]
    pub fn new(most: u64, now: u64) -> Self {
        Self { most, window: most, served: now, phase: Phase::Serving, statistics: PollStatistics::default() }
    }

    /// Requests were found and served, which ended `now`.
    pub fn served(&mut self, now: u64) {
        match self.phase {
            Phase::Serving => {}
            Phase::Looking => self.statistics.hits = self.statistics.hits.wrapping_add(1),
            Phase::Asleep => {
                self.statistics.wakes = self.statistics.wakes.wrapping_add(1);
                self.tune(now.saturating_sub(self.served));
            }
        }
        self.served = now;
        self.phase = Phase::Serving;
    }

    /// Nothing was found `now`: whether to look again, rather than to arm the rings and sleep.
    pub fn looks_again(&mut self, now: u64) -> bool {
        if now.saturating_sub(self.served) < self.window {
            self.phase = Phase::Looking;
            return true;
        }
        if self.phase == Phase::Looking {
            self.statistics.misses = self.statistics.misses.wrapping_add(1);
        }
        self.phase = Phase::Asleep;
        false
    }

    /// What came of it so far.
    #[must_use]
    pub fn statistics(&self) -> &PollStatistics {
        &self.statistics
    }

    /// For how many nanoseconds after a request the service looks for the next one, as things are.
    #[must_use]
    pub fn window(&self) -> u64 {
        self.window
    }

    /// A request came `idle` nanoseconds after the last, and found the service asleep.
    fn tune(&mut self, idle: u64) {
        self.window = if idle <= self.most {
            self.window.saturating_mul(2).max(LEAST).min(self.most)
        } else if self.window > LEAST {
            (self.window / 2).max(LEAST)
        } else {
            0
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nanoseconds of a look.
    const STEP: u64 = 1000;

    /// A service with clients that send a request every `gap` nanoseconds, `count` times; how long it looked in all.
    fn serve(poll: &mut Poll, now: &mut u64, gap: u64, count: u64) -> u64 {
        let mut looked = 0;
        for _ in 0..count {
            let next = *now + gap;
            while *now < next && poll.looks_again(*now) {
                *now += STEP;
                looked += STEP;
            }
            *now = next;
            poll.served(*now);
        }
        looked
    }

    #[test]
    fn a_client_that_asks_again_soon_finds_the_service_awake() {
        let (mut poll, mut now) = (Poll::new(DEFAULT_BOUND, 0), 0);
        serve(&mut poll, &mut now, 100_000, 1000);
        assert_eq!(*poll.statistics(), PollStatistics { hits: 1000, misses: 0, wakes: 0 });
    }

    #[test]
    fn an_idle_client_costs_nothing_after_a_few_requests() {
        let (mut poll, mut now) = (Poll::new(DEFAULT_BOUND, 0), 0);
        let first = serve(&mut poll, &mut now, 1_000_000_000, 10);
        assert!(first <= 2 * DEFAULT_BOUND + 5 * LEAST, "{first}");
        assert_eq!((serve(&mut poll, &mut now, 1_000_000_000, 1000), poll.window()), (0, 0));
    }

    #[test]
    fn the_service_wakes_up_again_for_a_client_that_became_busy() {
        let (mut poll, mut now) = (Poll::new(DEFAULT_BOUND, 0), 0);
        serve(&mut poll, &mut now, 1_000_000_000, 100);
        let before = *poll.statistics();
        serve(&mut poll, &mut now, 150_000, 100);
        let wakes = poll.statistics().wakes - before.wakes;
        assert!((1..=4).contains(&wakes), "{wakes}");
        assert_eq!(poll.statistics().hits - before.hits, 100 - wakes);
        assert!(poll.window() >= 150_000);
    }

    #[test]
    fn no_longer_is_looked_than_allowed_for_a_client_just_too_slow() {
        let (mut poll, mut now) = (Poll::new(DEFAULT_BOUND, 0), 0);
        serve(&mut poll, &mut now, 401_000, 20);
        assert_eq!(serve(&mut poll, &mut now, 401_000, 1000), 0);
    }

    #[test]
    fn a_service_that_may_not_look_sleeps_at_once() {
        let (mut poll, mut now) = (Poll::new(0, 0), 0);
        assert_eq!(serve(&mut poll, &mut now, 10_000, 100), 0);
        assert_eq!(*poll.statistics(), PollStatistics { hits: 0, misses: 0, wakes: 100 });
    }

    #[test]
    fn a_wake_up_for_nothing_changes_nothing() {
        let mut poll = Poll::new(DEFAULT_BOUND, 0);
        while poll.looks_again(0) && poll.looks_again(500_000) {}
        let (window, statistics) = (poll.window(), *poll.statistics());
        for now in 500_001..500_100 {
            assert!(!poll.looks_again(now));
        }
        assert_eq!((poll.window(), *poll.statistics()), (window, statistics));
    }
}
