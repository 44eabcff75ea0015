// SPDX-License-Identifier: MIT OR Apache-2.0

//! When a service stops looking at its rings, asks their drivers for kicks, and sleeps.
//!
//! A sleep and a wake-up cost more than a request. So a service that has just served looks again for a while: a client that sends
//! its next request at once finds it awake. There is no clock in here: whoever polls passes in what its own says.

/// The bound that a service has unless it is told another, in nanoseconds: about what a halt and a wake-up cost when both pass
/// through QEMU's event loop under TCG.
pub const DEFAULT_BOUND: u64 = 400_000;

/// How long to look again. All times are nanoseconds of one clock that does not go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polling {
    bound: u64,
    end: u64,
}

impl Polling {
    /// Looks again for `bound` nanoseconds after the last request; 0 never does.
    #[must_use]
    pub const fn new(bound: u64) -> Self {
        Self { bound, end: 0 }
    }

    /// Notes that requests were served, or that the service woke up, at `now`.
    pub fn begin(&mut self, now: u64) {
        self.end = now.saturating_add(self.bound);
    }

    /// Whether to look again at `now`, rather than to sleep.
    #[must_use]
    pub fn goes_on(&self, now: u64) -> bool {
        now < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polling_goes_on_for_its_bound_after_the_last_request() {
        let mut polling = Polling::new(100);
        assert!(!polling.goes_on(0), "nothing was served yet");
        polling.begin(1000);
        assert!(polling.goes_on(1000) && polling.goes_on(1099) && !polling.goes_on(1100));
        polling.begin(1090);
        assert!(polling.goes_on(1189) && !polling.goes_on(1190));
    }

    #[test]
    fn without_a_bound_there_is_no_polling() {
        let mut polling = Polling::new(0);
        polling.begin(7);
        assert!(!polling.goes_on(7));
    }
}
