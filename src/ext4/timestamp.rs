// SPDX-License-Identifier: MIT OR Apache-2.0

//! Times of an inode: 32 bits of seconds, and in larger inodes 30 bits of nanoseconds and 2 that carry the
//! seconds on to the year 2446.

use crate::fs::Timestamp;

/// The lower bits of an `extra` field: how often 2^32 seconds are added.
const EPOCH_BITS: u32 = 2;
/// The last second that can be stored: in the year 2446.
const LATEST: i64 = 0x3_7fff_ffff;

/// The time whose field is `seconds` and whose companion `extra` (0 where the inode has none).
///
/// Seconds are signed: 1901 to 2038 in the first epoch. Nanoseconds of a second or more, which no
/// driver writes, count as the last one before the next second.
#[expect(clippy::arithmetic_side_effects, reason = "32 bits and 34 bits make less than 64")]
pub(super) fn decode(seconds: u32, extra: u32) -> Timestamp {
    let epoch = i64::from(extra & ((1 << EPOCH_BITS) - 1)) << 32;
    Timestamp {
        seconds: i64::from(seconds.cast_signed()) + epoch,
        nanoseconds: (extra >> EPOCH_BITS).min(999_999_999),
    }
}

/// The field and its companion for `time`; without a companion the nanoseconds and the epoch are cut off. A time
/// outside of what can be stored becomes the nearest that can, as in Linux.
pub(super) fn encode(time: Timestamp, has_extra: bool) -> (u32, u32) {
    let latest = if has_extra { LATEST } else { i64::from(i32::MAX) };
    let stored = time.seconds.clamp(i64::from(i32::MIN), latest);
    // The lower 32 bits are stored, and what is missing to the whole as it is read back: a multiple of 2^32.
    let low = stored.cast_unsigned() & u64::from(u32::MAX);
    let low = u32::try_from(low).unwrap_or_default();
    let epoch = stored.saturating_sub(i64::from(low.cast_signed())) >> 32;
    let epoch = u32::try_from(epoch).unwrap_or_default();
    let nanoseconds = if stored == time.seconds { time.nanoseconds.min(999_999_999) } else { 0 };
    (low, nanoseconds << EPOCH_BITS | epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_back() {
        for seconds in [-0x8000_0000, -1, 0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_8000_0000, LATEST]
        {
            let time = Timestamp { seconds, nanoseconds: 999_999_999 };
            let (low, extra) = encode(time, true);
            assert_eq!(decode(low, extra), time);
        }
    }

    #[test]
    fn what_cannot_be_stored_becomes_the_nearest_that_can() {
        for (seconds, has_extra, nearest) in
            [(i64::MIN, true, -0x8000_0000), (i64::MAX, true, LATEST), (0x8000_0000, false, 0x7fff_ffff)]
        {
            let (low, extra) = encode(Timestamp { seconds, nanoseconds: 5 }, has_extra);
            assert_eq!(decode(low, extra), Timestamp { seconds: nearest, nanoseconds: 0 });
        }
    }

    fn seconds(seconds: u32, extra: u32) -> i64 {
        decode(seconds, extra).seconds
    }

    #[test]
    fn the_first_epoch_reaches_from_1901_to_2038() {
        assert_eq!(seconds(0x8000_0000, 0), -0x8000_0000);
        assert_eq!(seconds(0xffff_ffff, 0), -1);
        assert_eq!(seconds(0, 0), 0);
        assert_eq!(seconds(0x7fff_ffff, 0), 0x7fff_ffff);
    }

    #[test]
    fn epoch_bits_add_to_the_signed_seconds() {
        assert_eq!(seconds(0x8000_0000, 1), 0x8000_0000);
        assert_eq!(seconds(0x7fff_ffff, 1), 0x1_7fff_ffff);
        assert_eq!(seconds(0x7fff_ffff, 3), 0x3_7fff_ffff);
    }

    #[test]
    fn nanoseconds_lie_above_the_epoch_bits_and_stay_below_a_second() {
        assert_eq!(decode(5, 123_456_789 << 2), Timestamp { seconds: 5, nanoseconds: 123_456_789 });
        assert_eq!(decode(5, u32::MAX).nanoseconds, 999_999_999);
    }
}
