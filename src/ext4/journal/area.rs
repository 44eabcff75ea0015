// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the blocks of the journal lie in the volume.
//!
//! A *position* is the number of a block within the journal: 0 is its superblock, the log goes from `s_first` to the end and
//! starts over there.

use alloc::vec::Vec;

use super::super::error::MountError;
use super::super::mapping::Run;
use super::super::power_of_two::PowerOfTwo;

/// In how many pieces a journal may lie. `mkfs.ext4` makes one, or one for each group that it needs.
const MAX_PIECES: usize = 4096;

/// The journal's blocks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Area {
    /// First position, first block and length of each piece, in order and without gaps.
    pieces: Vec<(u32, u64, u32)>,
    first: u32,
    end: u32,
    /// From `first` to `end`.
    length: u32,
    block_size: PowerOfTwo,
}

impl Area {
    /// An area without pieces; its log starts at position `first` and ends before `end`.
    pub(super) fn new(first: u32, end: u32, block_size: PowerOfTwo) -> Self {
        Self { pieces: Vec::new(), first, end, length: end.saturating_sub(first), block_size }
    }

    /// Adds the next piece.
    pub(super) fn add(&mut self, run: &Run) -> Result<(), MountError> {
        let hole = MountError::Journal("a block of it was never written");
        let physical = run.physical.ok_or(hole)?;
        let position = u32::try_from(run.blocks.start).map_err(|_| hole)?;
        let length = u32::try_from(run.blocks.end.saturating_sub(run.blocks.start)).map_err(|_| hole)?;
        if self.pieces.len() >= MAX_PIECES {
            return Err(MountError::Journal("it lies in too many pieces"));
        }
        let overlaps = |&(_, other, count): &(u32, u64, u32)| {
            other < physical.saturating_add(u64::from(length))
                && physical < other.saturating_add(u64::from(count))
        };
        if self.pieces.iter().any(overlaps) {
            return Err(MountError::Journal("two of its blocks are the same"));
        }
        self.pieces.push((position, physical, length));
        Ok(())
    }

    /// First position of the log.
    pub(super) fn first(&self) -> u32 {
        self.first
    }

    /// Positions of the log.
    pub(super) fn len(&self) -> u32 {
        self.length
    }

    /// The position that lies `count` (at most the length) behind `position`.
    pub(super) fn after(&self, position: u32, count: u32) -> u32 {
        let sum = u64::from(position).saturating_add(u64::from(count));
        let around = if sum >= u64::from(self.end) { self.len() } else { 0 };
        let wrapped = sum.saturating_sub(u64::from(around));
        u32::try_from(wrapped).unwrap_or(self.first)
    }

    /// How many positions lie from `position` up to `to`: 0 if they are the same.
    pub(super) fn distance(&self, position: u32, to: u32) -> u32 {
        match to.checked_sub(position) {
            Some(distance) => distance,
            None => self.len().saturating_sub(position.saturating_sub(to)),
        }
    }

    /// Where the block at `position` begins in the region, in bytes.
    pub(super) fn offset(&self, position: u32) -> u64 {
        let index = self.pieces.partition_point(|piece| piece.0 <= position);
        let Some(&(start, physical, _)) = index.checked_sub(1).and_then(|index| self.pieces.get(index))
        else {
            // There is a piece for each position: this offset is outside of every region.
            return u64::MAX;
        };
        let block = physical.saturating_add(u64::from(position.saturating_sub(start)));
        block.saturating_mul(self.block_size.into())
    }

    /// Whether block `number` of the volume is one of the journal's.
    pub(super) fn holds(&self, number: u64) -> bool {
        self.pieces
            .iter()
            .any(|&(_, start, length)| (start..start.saturating_add(u64::from(length))).contains(&number))
    }
}
