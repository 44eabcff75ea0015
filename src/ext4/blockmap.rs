// SPDX-License-Identifier: MIT OR Apache-2.0

//! Block maps: how ext2 and ext3 say which blocks hold a file, and ext4 does for inodes without extents.
//!
//! `i_block` holds the numbers of the first twelve blocks, and of three blocks of numbers: one, two and three levels
//! deep. A number of 0 is a hole, of all that would be below it. There are no checksums. A walk merges neighbours
//! into runs, and its depth is three, so that a map cannot loop.

use core::fmt;
use core::ops::Range;

use super::Volume;
use super::error::{Damage, Error};
use super::field::le32;
use super::inode::Inode;
use super::mapping::{Run, Visit};
use super::power_of_two::PowerOfTwo;
use crate::mem::region::Region;

/// Direct block numbers of an inode.
const DIRECT: u64 = 12;
/// Levels of blocks of numbers.
const LEVELS: u32 = 3;
/// Numbers in an inode: direct ones, and one of each level.
pub(super) const SLOTS: u64 = DIRECT + LEVELS as u64;
/// Length of a block number.
pub(super) const NUMBER: usize = 4;

/// What is wrong with a block map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockMapFault {
    /// A block number outside of the volume.
    Physical {
        /// The logical block that it is for, or the first below it.
        logical: u64,
        /// The number.
        block: u32,
    },
    /// A logical block that three levels cannot reach.
    Unreachable {
        /// The first of them.
        logical: u64,
    },
}

impl fmt::Display for BlockMapFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Physical { logical, block } => {
                write!(f, "block {block}, for block {logical} of the file, is outside the volume")
            }
            Self::Unreachable { logical } => write!(f, "block {logical} of the file is beyond the map"),
        }
    }
}

/// How many blocks of the file the number in `slot` of an inode stands for.
pub(super) fn span(slot: u64, block_size: PowerOfTwo) -> PowerOfTwo {
    // At most three levels of 1024 numbers each.
    let level = u32::try_from(slot.saturating_sub(DIRECT - 1)).unwrap_or(LEVELS);
    numbers_per_block(block_size).power(level.min(LEVELS))
}

/// How many blocks a map can reach.
pub(super) fn reach(block_size: PowerOfTwo) -> u64 {
    (0..SLOTS).fold(0, |reach, slot| reach.saturating_add(span(slot, block_size).into()))
}

/// How many block numbers fill a block.
pub(super) fn numbers_per_block(block_size: PowerOfTwo) -> PowerOfTwo {
    block_size.split_into(PowerOfTwo::two_to(NUMBER.trailing_zeros()))
}

/// A walk over the map of one inode.
pub(super) struct BlockMapWalk<'w, 'v, R: Region> {
    pub volume: &'v Volume<R>,
    pub inode: &'w Inode<'v>,
    pub wanted: Range<u64>,
    pub visit: &'w mut Visit<'w>,
    /// The run that may still grow; starts as `None`.
    pub pending: Option<Run>,
}

impl<R: Region> BlockMapWalk<'_, '_, R> {
    /// Hands out runs that cover the wanted range.
    pub(super) fn run(mut self) -> Result<(), Error> {
        let mut first = 0_u64;
        for (slot, number) in self.inode.i_block.as_chunks::<NUMBER>().0.iter().enumerate() {
            let span = span(slot as u64, self.volume.superblock.block_size);
            self.subtree(u32::from_le_bytes(*number), first, span)?;
            first = first.saturating_add(span.into());
        }
        if self.wanted.end > first {
            let fault = BlockMapFault::Unreachable { logical: first };
            return Err(Damage::BlockMap { inode: self.inode.number, fault }.into());
        }
        self.pending.take().map_or(Ok(()), |run| self.hand_out(run))
    }

    fn hand_out(&mut self, run: Run) -> Result<(), Error> {
        if let Some(first) = run.physical {
            let length = run.blocks.end.saturating_sub(run.blocks.start);
            self.volume.check_owned(self.inode.number, first, length)?;
        }
        (self.visit)(run)
    }

    /// Hands out what is wanted of the `span` blocks from `start` on, which the number `block` stands for: itself if it is one.
    fn subtree(&mut self, block: u32, start: u64, span: PowerOfTwo) -> Result<(), Error> {
        let end = start.saturating_add(span.into());
        let wanted = start.max(self.wanted.start)..end.min(self.wanted.end);
        if wanted.is_empty() {
            return Ok(());
        }
        if block == 0 {
            return self.add(Run { blocks: wanted, physical: None });
        }
        if !self.volume.holds(u64::from(block), 1) {
            let fault = BlockMapFault::Physical { logical: start, block };
            return Err(Damage::BlockMap { inode: self.inode.number, fault }.into());
        }
        if span.get() == 1 {
            return self.add(Run { blocks: wanted, physical: Some(u64::from(block)) });
        }
        self.volume.check_owned(self.inode.number, u64::from(block), 1)?;
        let numbers = self.volume.block(u64::from(block))?;
        let below = span.split_into(numbers_per_block(self.volume.superblock.block_size));
        let wanted = wanted.start.saturating_sub(start)..wanted.end.saturating_sub(start);
        for index in wanted.start / below..below.count_for(wanted.end) {
            let first = start.saturating_add(index.saturating_mul(below.into()));
            let offset = usize::try_from(index).map_or(usize::MAX, |index| index.saturating_mul(NUMBER));
            self.subtree(le32(numbers, offset), first, below)?;
        }
        Ok(())
    }

    /// Joins `run` to the pending one, or hands that out and keeps `run`.
    fn add(&mut self, run: Run) -> Result<(), Error> {
        if let Some(pending) = &mut self.pending {
            let length = pending.blocks.end.saturating_sub(pending.blocks.start);
            if pending.physical.map(|first| first.saturating_add(length)) == run.physical {
                pending.blocks.end = run.blocks.end;
                return Ok(());
            }
        }
        self.pending.replace(run).map_or(Ok(()), |run| self.hand_out(run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::testing::{Image, TestVolume, damage};

    /// What reading a file of `size` bytes finds wrong whose `i_block` holds `numbers`.
    fn found(volume: &TestVolume, number: u32, numbers: [u32; 15], size: u64) -> Option<BlockMapFault> {
        let mut i_block = [0; 60];
        for (slot, number) in i_block.as_chunks_mut().0.iter_mut().zip(numbers) {
            *slot = number.to_le_bytes();
        }
        let mut inode = volume.inode(number).unwrap();
        inode.i_block = &i_block;
        inode.size = size;
        match damage(volume, &inode) {
            Some(Damage::BlockMap { inode, fault }) if inode == number => Some(fault),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_damage_of_a_map_is_named() {
        let image = Image::new("1M", &["-t", "ext2", "-b", "1024"], |root| {
            std::fs::write(root.join("file"), "x").unwrap();
        });
        let (mut bytes, number) = (image.bytes(), image.inode("/file"));
        bytes[1000 * 1024 + 8..1000 * 1024 + 12].copy_from_slice(&1024u32.to_le_bytes());
        let volume = TestVolume::mount(bytes).unwrap();
        let mut numbers = [0; 15];
        assert_eq!(found(&volume, number, numbers, 1 << 34), None, "all of it is a hole");
        let reach = 12 + 256 + 256 * 256 + 256 * 256 * 256;
        let unreachable = Some(BlockMapFault::Unreachable { logical: reach });
        assert_eq!(found(&volume, number, numbers, (reach + 1) * 1024), unreachable);
        let physical = |logical, block| Some(BlockMapFault::Physical { logical, block });
        for block in [1, 1024, u32::MAX] {
            numbers[3] = block;
            assert_eq!(found(&volume, number, numbers, 1 << 20), physical(3, block));
            assert_eq!(found(&volume, number, numbers, 3 * 1024), None, "it lies past the end");
        }
        numbers[3] = 1023;
        numbers[12] = 1000;
        assert_eq!(found(&volume, number, numbers, 1 << 20), physical(14, 1024));
    }

    #[test]
    fn a_map_that_points_to_itself_ends() {
        let image = Image::new("1M", &["-t", "ext2", "-b", "1024"], |root| {
            std::fs::write(root.join("file"), "x").unwrap();
        });
        let (mut bytes, number) = (image.bytes(), image.inode("/file"));
        for slot in bytes[1000 * 1024..1001 * 1024].as_chunks_mut().0 {
            *slot = 1000u32.to_le_bytes();
        }
        let volume = TestVolume::mount(bytes).unwrap();
        assert_eq!(found(&volume, number, [1000; 15], 1 << 22), None);
    }
}
