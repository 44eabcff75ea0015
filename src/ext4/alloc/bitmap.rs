// SPDX-License-Identifier: MIT OR Apache-2.0

//! Bitmaps of blocks and inodes: bit n is bit n % 8 of byte n / 8, 1 means taken. Searched 64 bits at a time.

use core::ops::Range;

/// Runs of free blocks of one group that are looked at before the longest of them has to do.
const RUNS_EXAMINED: u32 = 1024;

/// The bits that are set in either of two bitmaps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken<'a> {
    newest: &'a [u8],
    in_place: &'a [u8],
}

impl<'a> Taken<'a> {
    /// What `newest` says, and also `in_place` if there is one.
    pub(super) fn new(newest: &'a [u8], in_place: Option<&'a [u8]>) -> Self {
        Self { newest, in_place: in_place.unwrap_or_default() }
    }

    /// The 64 bits from `index` * 64 on.
    fn word(&self, index: u32) -> u64 {
        load(self.newest, index) | load(self.in_place, index)
    }

    /// The first bit of `range` that is clear.
    pub(super) fn next_free(&self, range: Range<u32>) -> Option<u32> {
        self.next(range, u64::MAX)
    }

    /// The first bit of `range` that is set.
    fn next_taken(&self, range: Range<u32>) -> Option<u32> {
        self.next(range, 0)
    }

    /// The first bit of `range` that is set in the bitmap xor `flip`.
    fn next(&self, range: Range<u32>, flip: u64) -> Option<u32> {
        let mut position = range.start;
        while position < range.end {
            let word = (self.word(position / 64) ^ flip) >> (position % 64);
            if word != 0 {
                return Some(position.saturating_add(word.trailing_zeros()))
                    .filter(|found| *found < range.end);
            }
            position = (position / 64).saturating_add(1).saturating_mul(64);
        }
        None
    }

    /// A run of up to `wanted` clear bits below `end`, all of them `usable`: the one at `goal`; else the first behind it,
    /// or before it, that is long enough; else the longest.
    pub(super) fn find_run(
        &self,
        goal: u32,
        end: u32,
        wanted: u32,
        usable: impl Fn(u32) -> bool,
    ) -> Option<Range<u32>> {
        let mut longest: Option<Range<u32>> = None;
        let mut examined = 0u32;
        for (from, to) in [(goal, end), (0, goal.min(end))] {
            let mut position = from;
            while let Some(start) = self.next_free(position..to) {
                if examined >= RUNS_EXAMINED && longest.is_some() {
                    return longest;
                }
                let limit = end.min(start.saturating_add(wanted));
                let stop = self.next_taken(start..limit).unwrap_or(limit);
                position = stop;
                examined = examined.saturating_add(1);
                let length = longest.as_ref().map_or(0, ExactSizeIterator::len);
                if stop.saturating_sub(start) as usize <= length {
                    continue;
                }
                let Some(first) = (start..stop).find(|bit| usable(*bit)) else { continue };
                let last = (first..stop).find(|bit| !usable(*bit)).unwrap_or(stop);
                position = last;
                let run = first..last;
                if run.len() <= length {
                    continue;
                }
                if first == goal || run.len() >= wanted as usize {
                    return Some(run);
                }
                longest = Some(run);
            }
        }
        longest
    }
}

/// The 64 bits of `bits` from `index` * 64 on; clear behind the end.
fn load(bits: &[u8], index: u32) -> u64 {
    let chunk = bits.get((index as usize).saturating_mul(8)..).and_then(<[u8]>::first_chunk);
    chunk.copied().map_or(0, u64::from_le_bytes)
}

/// The bits of `range` that lie in byte `index`.
fn mask(range: &Range<u32>, index: u32) -> u8 {
    let first = index.saturating_mul(8);
    let (from, to) = (range.start.saturating_sub(first), range.end.saturating_sub(first));
    u8::MAX.unbounded_shl(from) & u8::MAX.unbounded_shr(8_u32.saturating_sub(to))
}

/// Every byte that bits of `range` lie in, with those bits.
fn bytes_of(range: Range<u32>) -> impl Iterator<Item = (usize, u8)> {
    (range.start / 8..range.end.div_ceil(8)).map(move |index| (index as usize, mask(&range, index)))
}

/// Sets the bits of `range`.
pub(super) fn set(bits: &mut [u8], range: Range<u32>) {
    for (index, mask) in bytes_of(range) {
        if let Some(byte) = bits.get_mut(index) {
            *byte |= mask;
        }
    }
}

/// Clears the bits of `range`.
pub(super) fn clear(bits: &mut [u8], range: Range<u32>) {
    for (index, mask) in bytes_of(range) {
        if let Some(byte) = bits.get_mut(index) {
            *byte &= !mask;
        }
    }
}

/// The first bit of `range` that is clear.
pub(super) fn first_clear(bits: &[u8], range: Range<u32>) -> Option<u32> {
    Taken::new(bits, None).next_free(range)
}

/// How many bits are clear.
pub(super) fn count_clear(bits: &[u8]) -> u32 {
    bits.iter().map(|byte| byte.count_zeros()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::testing::Numbers;
    use std::vec::Vec;

    /// A bitmap of 512 bits with runs of random lengths.
    fn patches(numbers: &mut Numbers) -> Vec<u8> {
        let mut bits = std::vec![0; 64];
        let mut position = 0;
        let scale = 1 + numbers.below(100);
        while position < 512 {
            let length = u32::try_from(1 + numbers.below(scale)).unwrap();
            if numbers.below(2) == 0 {
                set(&mut bits, position..512.min(position + length));
            }
            position += length;
        }
        bits
    }

    fn bit(bits: &[u8], index: u32) -> bool {
        bits[index as usize / 8] >> (index % 8) & 1 == 1
    }

    #[test]
    fn a_range_is_set_and_cleared_to_the_bit() {
        for start in 0..20 {
            for end in start..40 {
                let (mut bits, mut others) = ([0; 8], [0xff; 8]);
                set(&mut bits, start..end);
                clear(&mut others, start..end);
                for index in 0..64 {
                    assert_eq!(bit(&bits, index), (start..end).contains(&index), "{start}..{end}");
                    assert_eq!(bit(&others, index), !(start..end).contains(&index), "{start}..{end}");
                }
                assert_eq!(count_clear(&others), end - start);
            }
        }
    }

    #[test]
    fn the_run_that_is_found_is_the_one_that_was_asked_for() {
        let mut numbers = Numbers(0x51de);
        for _ in 0..3000 {
            let (newest, in_place) = (patches(&mut numbers), patches(&mut numbers));
            let in_place = (numbers.below(2) == 0).then_some(in_place.as_slice());
            let below = |numbers: &mut Numbers, limit| u32::try_from(numbers.below(limit)).unwrap();
            let end = 1 + below(&mut numbers, 512);
            let goal = below(&mut numbers, 600);
            let wanted = 1 + below(&mut numbers, 70);
            let refused = below(&mut numbers, 1500);
            let free = |index: u32| {
                index < end
                    && index != refused
                    && !bit(&newest, index)
                    && !in_place.is_some_and(|bits| bit(bits, index))
            };
            let length = |start: u32| (start..start + wanted).take_while(|index| free(*index)).count();
            let found = Taken::new(&newest, in_place).find_run(goal, end, wanted, |index| index != refused);
            let longest = (0..end).map(length).max().unwrap();
            let Some(found) = found else {
                assert_eq!(longest, 0);
                continue;
            };
            assert!(found.clone().all(free));
            assert!(!found.is_empty() && found.len() <= wanted as usize);
            if free(goal) {
                assert_eq!((found.start, found.len()), (goal, length(goal)));
            } else if refused >= end {
                assert_eq!(found.len(), longest);
                let behind = (goal..end).find(|start| length(*start) == wanted as usize);
                assert_eq!(behind.unwrap_or(found.start), found.start, "not the nearest behind the goal");
            }
        }
    }

    #[test]
    fn a_search_ends_after_a_bounded_number_of_short_runs() {
        let mut bits = std::vec![0x55; 4096];
        bits[4000..].fill(0);
        let asked = core::cell::Cell::new(0);
        let usable = |_| {
            asked.set(asked.get() + 1);
            true
        };
        let found = Taken::new(&bits, None).find_run(0, 32768, 100, usable);
        assert_eq!(found, Some(1..2));
        let found = Taken::new(&bits, None).find_run(31_500, 32768, 100, usable);
        assert_eq!(found.map(|run| run.len()), Some(100));
        assert!(asked.get() < 2 * RUNS_EXAMINED + 200, "{}", asked.get());
    }
}
