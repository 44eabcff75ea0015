// SPDX-License-Identifier: MIT OR Apache-2.0

//! Times of an inode: 32 bits of seconds, and in larger inodes 30 bits of nanoseconds and 2 that carry the
//! seconds on to the year 2446.

use crate::fs::Timestamp;

/// The lower bits of an `extra` field: how often 2^32 seconds are added.
const EPOCH_BITS: u32 = 2;

/// The time whose field is `seconds` and whose companion `extra` (0 where the inode has none).
///
/// Seconds are signed: 1901 to 2038 in the first epoch. Nanoseconds of a second or more, which no
/// driver writes, count as the last one before the next second.
pub(super) fn decode(seconds: u32, extra: u32) -> Timestamp {
    let epoch = i64::from(extra & ((1 << EPOCH_BITS) - 1)) << 32;
    Timestamp {
        seconds: i64::from(seconds.cast_signed()) + epoch,
        nanoseconds: (extra >> EPOCH_BITS).min(999_999_999),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
