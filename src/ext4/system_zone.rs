// SPDX-License-Identifier: MIT OR Apache-2.0

//! The system zone: the blocks that hold the volume's own structures, which no file may have.
//!
//! They are the superblock and its copies with the group descriptors and what is kept free behind them, the bitmaps, the inode
//! tables, and the journal. None of them changes its place while the volume is mounted, so that they are collected at mount. No
//! bitmap and no extent tree of a damaged volume makes one of them a file's: content stored there would be taken for structure.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::mem;
use core::ops::Range;

use super::Volume;
use super::error::{Damage, Error, MountError};
use super::group::{base_blocks, blocks_in_group, first_block};
use super::inode;
use crate::mem::region::Region;

/// The blocks, as ranges in order that do not overlap: the first block of each, and the one behind it.
#[derive(Debug, Default)]
pub(super) struct SystemZone(Vec<(u64, u64)>);

/// Why there is no system zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ZoneFault {
    /// Two structures have this block.
    Overlap(u64),
    /// There is no memory for so many ranges.
    TooMany,
}

impl SystemZone {
    /// Adds `range`; at once to the last one, if it follows that.
    fn add(&mut self, range: Range<u64>) -> Result<(), ZoneFault> {
        if range.is_empty() {
            return Ok(());
        }
        if let Some((_, end)) = self.0.last_mut().filter(|(_, end)| *end == range.start) {
            *end = range.end;
            return Ok(());
        }
        self.0.try_reserve(1).map_err(|_| ZoneFault::TooMany)?;
        self.0.push((range.start, range.end));
        Ok(())
    }

    /// Puts what was added in order.
    fn settle(&mut self) -> Result<(), ZoneFault> {
        // A heap sorts in place, whatever the order was, and has no place that could panic.
        self.0 = BinaryHeap::from(mem::take(&mut self.0)).into_sorted_vec();
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        let overlap = pairs.map(|((_, end), (next, _))| (end, next)).find(|(end, next)| next < end);
        match overlap {
            Some((_, block)) => Err(ZoneFault::Overlap(*block)),
            None => Ok(()),
        }
    }

    /// The first block of `run` that is in the zone.
    pub(super) fn first_in(&self, run: &Range<u64>) -> Option<u64> {
        let behind = self.0.partition_point(|(_, end)| *end <= run.start);
        let (start, _) = self.0.get(behind)?;
        let block = run.start.max(*start);
        (block < run.end).then_some(block)
    }
}

impl<R: Region> Volume<R> {
    /// Collects the system zone: at mount. `journal` is the journal's length in blocks.
    ///
    /// # Errors
    /// Damage: two structures claim the same block.
    pub(super) fn collect_system_zone(&mut self, journal: u32) -> Result<(), MountError> {
        let mut zone = SystemZone::default();
        self.fill_zone(&mut zone, journal)?.map_err(|fault| match fault {
            ZoneFault::Overlap(block) => MountError::Damaged(Damage::Claimed { block }),
            ZoneFault::TooMany => MountError::Field {
                name: "s_blocks_per_group",
                value: u64::from(self.superblock.s_blocks_per_group.get()),
                expected: "more: there is no memory for so many groups",
            },
        })?;
        self.system_zone = zone;
        Ok(())
    }

    fn fill_zone(&self, zone: &mut SystemZone, journal: u32) -> Result<Result<(), ZoneFault>, Error> {
        let superblock = &self.superblock;
        let mut outcome = Ok(());
        // Structures of the same kind often follow each other.
        for number in 0..superblock.group_count.get() {
            let first = first_block(superblock, number);
            let base = base_blocks(superblock, number).min(blocks_in_group(superblock, number));
            outcome = outcome.and_then(|()| zone.add(first..first.saturating_add(u64::from(base))));
        }
        for kind in 0..3 {
            for number in 0..superblock.group_count.get() {
                let structure = self.group_structures(number)?.get(kind).cloned().unwrap_or_default();
                outcome = outcome.and_then(|()| zone.add(structure));
            }
        }
        if journal > 0 {
            self.map(&self.journal_inode()?, 0..u64::from(journal), &mut |run| {
                let length = run.blocks.end.saturating_sub(run.blocks.start);
                if let Some(first) = run.physical {
                    outcome = outcome.and_then(|()| zone.add(first..first.saturating_add(length)));
                }
                Ok(())
            })?;
        }
        Ok(outcome.and_then(|()| zone.settle()))
    }

    /// That the `length` blocks from `start` on may belong to the inode with this number. Reserved ones, the journal's among them,
    /// are not looked at: no name leads to them.
    #[inline]
    pub(super) fn check_owned(&self, number: u32, start: u64, length: u64) -> Result<(), Error> {
        match self.system_zone.first_in(&(start..start.saturating_add(length))) {
            Some(block) if number == inode::ROOT || number >= self.superblock.s_first_ino => {
                Err(Damage::Claimed { block }.into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::testing::Image;

    fn zone(ranges: &[Range<u64>]) -> Result<SystemZone, ZoneFault> {
        let mut zone = SystemZone::default();
        ranges.iter().try_for_each(|range| zone.add(range.clone()))?;
        zone.settle().map(|()| zone)
    }

    #[test]
    fn the_first_block_of_a_run_that_is_a_structure_is_found() {
        let zone = zone(&[20..30, 5..6, 6..8, 40..41]).unwrap();
        assert_eq!(zone.0, [(5, 8), (20, 30), (40, 41)]);
        for (run, found) in [
            (0..5, None),
            (0..6, Some(5)),
            (7..8, Some(7)),
            (8..20, None),
            (8..21, Some(20)),
            (25..90, Some(25)),
            (30..40, None),
            (0..u64::MAX, Some(5)),
            (41..u64::MAX, None),
            (6..6, None),
        ] {
            assert_eq!(zone.first_in(&run), found, "{run:?}");
        }
        assert_eq!(SystemZone::default().first_in(&(0..9)), None);
    }

    #[test]
    fn structures_that_overlap_are_damage() {
        assert_eq!(zone(&[5..8, 1..6]).err(), Some(ZoneFault::Overlap(5)));
        assert_eq!(zone(&[5..8, 6..7, 20..21]).err(), Some(ZoneFault::Overlap(6)));
    }

    #[test]
    fn it_has_as_many_blocks_as_dumpe2fs_says_are_overhead() {
        for options in [
            &["-b", "1024"][..],
            &["-b", "4096", "-O", "^flex_bg"],
            &["-b", "1024", "-O", "sparse_super2", "-g", "1024"],
            &["-b", "1024", "-O", "meta_bg,^resize_inode", "-g", "256", "-N", "2048"],
        ] {
            let image = Image::new("24M", options, |_| {});
            let volume = image.mount();
            let blocks: u64 = volume.system_zone.0.iter().map(|(start, end)| end - start).sum();
            let overhead: u64 = image.header("Overhead clusters").parse().unwrap();
            assert_eq!(blocks + u64::from(volume.superblock.s_first_data_block), overhead, "{options:?}");
        }
    }
}
