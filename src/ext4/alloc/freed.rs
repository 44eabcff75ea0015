// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the running transaction freed: blocks that must not be taken before it is committed. Memory is bounded: where ranges
//! become too many, neighbours are taken together with what is between them, which then has to wait as well.

use core::ops::Range;

/// How many ranges are kept apart.
const RANGES: usize = 32;

/// Ranges of blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct FreedRanges {
    /// First block and end of each; only the first `count` mean something.
    ranges: [(u64, u64); RANGES],
    count: usize,
}

impl Default for FreedRanges {
    fn default() -> Self {
        Self { ranges: [(0, 0); RANGES], count: 0 }
    }
}

impl FreedRanges {
    /// Adds `blocks`.
    pub(super) fn add(&mut self, blocks: Range<u64>) {
        let length = blocks.end.saturating_sub(blocks.start);
        let known = self.ranges.get_mut(..self.count).unwrap_or_default();
        let growth = |(start, end): (u64, u64)| {
            let union = blocks.end.max(end).saturating_sub(blocks.start.min(start));
            union.saturating_sub(end.saturating_sub(start))
        };
        let full = self.count == RANGES;
        if let Some(nearest) = known.iter_mut().min_by_key(|range| growth(**range))
            && (full || growth(*nearest) <= length)
        {
            *nearest = (nearest.0.min(blocks.start), nearest.1.max(blocks.end));
        } else if let Some(next) = self.ranges.get_mut(self.count) {
            *next = (blocks.start, blocks.end);
            self.count = self.count.saturating_add(1);
        }
    }

    /// Whether `block` was added, or lies between blocks that were.
    pub(super) fn contains(&self, block: u64) -> bool {
        let known = self.ranges.get(..self.count).unwrap_or_default();
        known.iter().any(|(start, end)| (*start..*end).contains(&block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::testing::Numbers;
    use std::vec::Vec;

    #[test]
    fn neighbours_become_one_range_and_nothing_else_waits() {
        let mut freed = FreedRanges::default();
        for block in [10, 12, 11, 13, 9, 100] {
            freed.add(block..block + 1);
        }
        let found: Vec<u64> = (0..200).filter(|block| freed.contains(*block)).collect();
        assert_eq!(found, [9, 10, 11, 12, 13, 100]);
        assert!(freed.count <= 3);
    }

    #[test]
    fn however_many_are_freed_each_waits() {
        let mut numbers = Numbers(7);
        let mut freed = FreedRanges::default();
        let mut all = Vec::new();
        for _ in 0..1000 {
            let start = numbers.below(1_000_000) as u64;
            let length = 1 + numbers.below(50) as u64;
            freed.add(start..start + length);
            all.extend(start..start + length);
        }
        assert!(all.iter().all(|block| freed.contains(*block)));
        assert!(!freed.contains(2_000_000));
    }
}
