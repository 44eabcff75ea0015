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
                return Some(position + word.trailing_zeros()).filter(|found| *found < range.end);
            }
            position = (position / 64 + 1) * 64;
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
                if (stop - start) as usize <= length {
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
    let chunk = bits.get(index as usize * 8..).and_then(<[u8]>::first_chunk);
    chunk.copied().map_or(0, u64::from_le_bytes)
}

/// The bits of `range` that lie in byte `index`.
fn mask(range: &Range<u32>, index: u32) -> u8 {
    let from = range.start.max(index * 8) - index * 8;
    let to = range.end.min(index * 8 + 8).saturating_sub(index * 8);
    if from >= to { 0 } else { (u8::MAX << from) & (u8::MAX >> (8 - to)) }
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
