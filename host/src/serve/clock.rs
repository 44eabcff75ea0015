// SPDX-License-Identifier: MIT OR Apache-2.0

//! Time: that of a change, which is the host's, made one that never goes back; and that of a turn.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use skerry::fs::Timestamp;

const SECOND: u64 = 1_000_000_000;

/// The latest time that was told, in nanoseconds since 1970.
static TOLD: AtomicU64 = AtomicU64::new(0);

/// The tick of the time of day; never less than before. A host whose clock is before 1970 has 1970.
pub fn now() -> Timestamp {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    timestamp(not_before(&TOLD, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))).tick()
}

/// Nanoseconds that only grow, since the first call.
pub fn nanoseconds() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// `time`, or what was told before, whichever is later.
fn not_before(told: &AtomicU64, time: u64) -> u64 {
    // Relaxed: who sees a later time elsewhere has been ordered by the lock on the volume.
    told.fetch_max(time, Ordering::Relaxed).max(time)
}

fn timestamp(time: u64) -> Timestamp {
    let nanoseconds = u32::try_from(time % SECOND).unwrap_or(0);
    Timestamp { seconds: (time / SECOND).cast_signed(), nanoseconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_stands_still_until_it_has_caught_up() {
        let told = AtomicU64::new(0);
        let times = [5, 3, 4, 6].map(|time| not_before(&told, time * SECOND + 7));
        assert_eq!(times.map(|time| time / SECOND), [5, 5, 5, 6]);
        assert_eq!(timestamp(times[0]), Timestamp { seconds: 5, nanoseconds: 7 });
    }

    #[test]
    fn the_time_is_the_hosts() {
        let (first, second) = (now(), now());
        let host = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
        assert!((host - 1..=host).contains(&first.seconds), "{first:?}");
        assert!((first.seconds, first.nanoseconds) <= (second.seconds, second.nanoseconds));
    }
}
