// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writing the content of files.
//!
//! A write has two phases. The first is an operation: it maps every block of the range, and sets size and times. The second
//! stores the bytes into those blocks in place, each byte once. Nobody who dies in between leaves a file with wrong content:
//! the operation is committed later than the bytes are stored, and until then the new blocks belong to nobody. So a write into a
//! hole or behind the end is there whole or not at all; an overwrite of what was there may be half there.
//!
//! What is behind the end of a file in its last block is zeros, or becomes zeros when the file grows over it.

#[cfg(test)]
mod tests;

use core::ops::Range;

use super::Volume;
use super::blockmap;
use super::error::Error;
use super::extent::{Mapped, Tree};
use super::features::RoCompat;
use super::field::{le32, put_le32};
use super::inode::{Inode, InodeFlags};
use super::set_attributes::without_set_id;
use crate::fs::{Caller, Errno, FileKind, Position};
use crate::mem::Source;
use crate::mem::region::Region;

/// Allocations of one write: each may change a bitmap, and split a node.
const MAX_ALLOCATIONS: u32 = 32;
/// Runs of consecutive blocks of one write.
const MAX_RUNS: usize = 64;
/// The longest extent, in blocks.
const MAX_EXTENT: u64 = 1 << 15;
/// The longest file that needs no `large_file`, in bytes.
const MAX_SMALL: u64 = 0x7fff_ffff;
/// The most bytes that an inode can count the space of without `huge_file`.
const COUNTABLE: u64 = 0xffff_ffff * 512;
/// `s_feature_ro_compat` in the superblock.
const FEATURE_RO_COMPAT: usize = 0x64;

/// Consecutive blocks that are mapped now.
#[derive(Debug, Clone, Copy)]
struct Placed {
    physical: u64,
    blocks: u64,
    /// Whether they held no content until now.
    fresh: bool,
}

/// Where the bytes of a write go: what its first phase leaves to the second.
#[derive(Debug, Default)]
struct Plan {
    /// The first byte in the file.
    offset: u64,
    /// How many bytes there is room for.
    length: u64,
    /// The blocks that the range touches: the first of the volume, and how many.
    runs: heapless::Vec<(u64, u64), MAX_RUNS>,
    /// Whether the first block of the range held no content until now.
    first_is_fresh: bool,
    /// The same of the last one.
    last_is_fresh: bool,
    /// The size that the file had.
    old_size: u64,
    /// The block that the old end lies in, if that is in front of the range.
    old_end: Option<u64>,
}

impl Plan {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }

    /// Adds `placed`; `false` if there are too many runs already.
    fn add(&mut self, placed: &Placed) -> bool {
        if self.runs.is_empty() {
            self.first_is_fresh = placed.fresh;
        }
        self.last_is_fresh = placed.fresh;
        match self.runs.last_mut() {
            Some((first, blocks)) if first.checked_add(*blocks) == Some(placed.physical) => {
                *blocks = blocks.saturating_add(placed.blocks);
                true
            }
            _ => self.runs.push((placed.physical, placed.blocks)).is_ok(),
        }
    }
}

impl<R: Region> Volume<R> {
    /// Writes what is left in `source` to the regular file `number`; returns how many bytes, from the front: fewer than all
    /// where space ends, or one operation cannot do more; 0 only of nothing.
    ///
    /// # Errors
    /// EISDIR, EINVAL; ENOSPC; EFBIG; EOPNOTSUPP where blocks would have to be added to a file without extents.
    pub(super) fn write_content(
        &mut self,
        number: u32,
        caller: Caller,
        position: Position,
        source: &mut dyn Source,
    ) -> Result<u32, Error> {
        let all = u64::from(u32::try_from(source.remaining()).unwrap_or(u32::MAX));
        if all == 0 {
            return Ok(0);
        }
        let mut plan = Plan::default();
        let mut wanted = all;
        let mut flushed = false;
        loop {
            let placed =
                self.atomically(|volume| volume.place_write(number, caller, position, wanted, &mut plan));
            match placed {
                Ok(()) => break,
                // A flush makes free what was freed since the last one.
                Err(Error::Reply(Errno::ENOSPC)) if !flushed && self.has_unflushed() => {
                    self.flush_volume()?;
                    flushed = true;
                    wanted = all;
                }
                // What there was room for is written: the operation again, with so much.
                Err(Error::Reply(Errno::ENOSPC)) if plan.length > 0 && plan.length < wanted => {
                    wanted = plan.length;
                }
                Err(error) => return Err(error),
            }
        }
        self.store_content(&plan, source)?;
        Ok(u32::try_from(plan.length).unwrap_or(u32::MAX))
    }

    /// Maps the block `logical` of `number`, a directory or a symbolic link, to a block of metadata, newly allocated unless
    /// there is one; returns that. The size of the file stays.
    ///
    /// # Errors
    /// ENOSPC, EFBIG; EOPNOTSUPP for a file without extents.
    pub(super) fn append_block(&mut self, number: u32, logical: u32, caller: Caller) -> Result<u64, Error> {
        if logical == u32::MAX {
            return Err(Errno::EFBIG.into());
        }
        Ok(self.place_run(number, caller, u64::from(logical), 1)?.physical)
    }

    /// The first phase: maps the blocks of up to `wanted` bytes and changes the inode. `plan` says what came of it, also after
    /// an error.
    fn place_write(
        &mut self,
        number: u32,
        caller: Caller,
        position: Position,
        wanted: u64,
        plan: &mut Plan,
    ) -> Result<(), Error> {
        *plan = Plan::default();
        let inode = self.allocated_inode(number)?;
        let old_size = regular(&inode)?.size;
        let limit = self.max_size(&inode);
        let size = self.superblock.block_size;
        let block_size = u64::from(size);
        plan.old_size = old_size;
        plan.offset = match position {
            Position::At(offset) => offset,
            Position::End => old_size,
        };
        if plan.offset >= limit {
            return Err(Errno::EFBIG.into());
        }
        let end = plan.offset.saturating_add(wanted).min(limit);
        let (mut block, end_block) = (plan.offset / size, size.count_for(end));
        let mut allocations = 0;
        while block < end_block && allocations < MAX_ALLOCATIONS && !plan.runs.is_full() {
            let placed = self.place_run(number, caller, block, end_block.saturating_sub(block))?;
            // Asked for here, where an error takes everything back.
            self.place_mut(
                placed.physical.saturating_mul(block_size),
                placed.blocks.saturating_mul(block_size),
            )?;
            allocations = allocations.saturating_add(u32::from(placed.fresh));
            if placed.blocks == 0 || !plan.add(&placed) {
                break;
            }
            block = block.saturating_add(placed.blocks);
            plan.length = block.saturating_mul(block_size).min(end).saturating_sub(plan.offset);
        }
        if old_size < size.round_down(plan.offset) {
            plan.old_end = self.partial_block(number, old_size)?;
        }
        self.edit_written(number, caller, old_size, plan.end())
    }

    /// Makes up to `wanted` blocks from `logical` on hold content; at least one.
    fn place_run(&mut self, number: u32, caller: Caller, logical: u64, wanted: u64) -> Result<Placed, Error> {
        let inode = self.allocated_inode(number)?;
        let has_extents = inode.flags.contains(InodeFlags::EXTENTS);
        let tree = Tree::of(&inode);
        match self.content_at(&inode, logical..logical.saturating_add(wanted))? {
            Mapped::Written { physical, blocks } => {
                Ok(Placed { physical, blocks: blocks.min(wanted), fresh: false })
            }
            _ if !has_extents => Err(without_extents(number)),
            Mapped::Unwritten { physical, blocks } => {
                let blocks = blocks.min(wanted);
                self.mark_written(tree, caller, logical, blocks)?;
                Ok(Placed { physical, blocks, fresh: true })
            }
            Mapped::Hole { blocks, goal } => {
                let goal = goal.unwrap_or_else(|| self.goal_for_inode(number));
                let wanted = u32::try_from(blocks.min(wanted).min(MAX_EXTENT)).unwrap_or(1);
                let found = self.allocate_blocks(goal, wanted, caller)?;
                self.map_blocks(tree, caller, logical, found.start, found.count)?;
                Ok(Placed { physical: found.start, blocks: u64::from(found.count), fresh: true })
            }
        }
    }

    /// What `inode` has at the first of `blocks`; how far it goes on is of interest within them only.
    pub(super) fn content_at(&self, inode: &Inode<'_>, blocks: Range<u64>) -> Result<Mapped, Error> {
        if inode.flags.contains(InodeFlags::EXTENTS) {
            return self.mapped(Tree::of(inode), blocks.start);
        }
        if inode.flags.contains(InodeFlags::INLINE_DATA) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let mut first = None;
        self.map(inode, blocks, &mut |run| {
            first.get_or_insert(run);
            Ok(())
        })?;
        let (blocks, physical) =
            first.map_or((0, None), |run| (run.blocks.end.saturating_sub(run.blocks.start), run.physical));
        Ok(match physical {
            Some(physical) => Mapped::Written { physical, blocks },
            None => Mapped::Hole { blocks, goal: None },
        })
    }

    /// The block of the volume that byte `offset` of a file is in the middle of; `None` if it is at the start of one, or
    /// that one holds no content.
    pub(super) fn partial_block(&self, number: u32, offset: u64) -> Result<Option<u64>, Error> {
        let block_size = self.superblock.block_size;
        if block_size.divides(offset) {
            return Ok(None);
        }
        let inode = self.allocated_inode(number)?;
        let block = offset / block_size;
        Ok(match self.content_at(&inode, block..block.saturating_add(1))? {
            Mapped::Written { physical, .. } => Some(physical),
            Mapped::Unwritten { .. } | Mapped::Hole { .. } => None,
        })
    }

    /// Changes the inode of a file that was written up to `end`: unless all of it would stay as it is, because the last write was
    /// within the same tick of the clock and nobody asked for the version since. That is when Linux leaves `i_version` alone, too.
    fn edit_written(&mut self, number: u32, caller: Caller, old_size: u64, end: u64) -> Result<(), Error> {
        if end > old_size {
            self.announce_size(old_size, end)?;
        }
        let inode = self.allocated_inode(number)?;
        let node = inode.node();
        // A clock that was set back must not make the file look older than it did.
        let now = self.now().max(inode.changed);
        let mode = if caller.is_root() { inode.mode } else { without_set_id(inode.mode) };
        let stays = end <= old_size && (inode.modified, inode.changed, inode.mode) == (now, now, mode);
        if stays && self.remembered.is_untold(node) {
            return Ok(());
        }
        self.edit_inode(number, |inode| {
            if end > old_size {
                inode.set_size(end);
            }
            inode.set_modified(now);
            inode.set_changed(now);
            inode.count_version();
            inode.set_mode(mode);
            Ok(())
        })?;
        self.remembered.set_untold(node);
        Ok(())
    }

    /// Sets the feature `large_file` if a file that grows to `size` is the first to need it.
    pub(super) fn announce_size(&mut self, old_size: u64, size: u64) -> Result<(), Error> {
        let known = self.superblock.ro_compat.contains(RoCompat::LARGE_FILE);
        if known || old_size > MAX_SMALL || size <= MAX_SMALL {
            return Ok(());
        }
        self.edit_superblock(|raw| {
            let features = le32(raw, FEATURE_RO_COMPAT) | RoCompat::LARGE_FILE.bits();
            put_le32(raw, FEATURE_RO_COMPAT, features);
        })
    }

    /// The most bytes that `inode` may have: as many as it can map, and can state the space of.
    pub(super) fn max_size(&self, inode: &Inode<'_>) -> u64 {
        let block_size = u64::from(self.superblock.block_size);
        let mappable = if inode.flags.contains(InodeFlags::EXTENTS) {
            u64::from(u32::MAX)
        } else {
            blockmap::reach(self.superblock.block_size)
        };
        let countable = if self.superblock.ro_compat.contains(RoCompat::HUGE_FILE) {
            u64::MAX
        } else {
            COUNTABLE / self.superblock.block_size
        };
        mappable.min(countable).saturating_mul(block_size)
    }

    /// The second phase: stores the bytes where `plan` says, and zeros around them where nothing was stored before.
    fn store_content(&mut self, plan: &Plan, source: &mut dyn Source) -> Result<(), Error> {
        let size = self.superblock.block_size;
        let block_size = u64::from(size);
        if let Some(block) = plan.old_end {
            self.zero_behind(block, plan.old_size)?;
        }
        // Where the blocks of the run begin in the file, and where the next byte goes.
        let mut run_start = size.round_down(plan.offset);
        let mut offset = plan.offset;
        let stale_from = if plan.first_is_fresh { run_start } else { plan.old_size.max(run_start) };
        if let Some((first, _)) = plan.runs.first().filter(|_| stale_from < offset) {
            let start = first.saturating_mul(block_size).saturating_add(stale_from.saturating_sub(run_start));
            self.place_mut(start, offset.saturating_sub(stale_from))?.fill(0);
        }
        for (first, blocks) in &plan.runs {
            let run_end = run_start.saturating_add(blocks.saturating_mul(block_size));
            let end = run_end.min(plan.end());
            let start = first.saturating_mul(block_size).saturating_add(offset.saturating_sub(run_start));
            let place = self.place_mut(start, end.saturating_sub(offset))?;
            source.take(place).map_err(|_| Errno::EIO)?;
            offset = end;
            run_start = run_end;
        }
        if let Some((first, blocks)) = plan.runs.last()
            && (plan.last_is_fresh || plan.end() > plan.old_size)
            && !size.divides(plan.end())
        {
            let last = first.saturating_add(blocks.saturating_sub(1));
            self.zero_behind(last, plan.end())?;
        }
        Ok(())
    }

    /// Makes what lies behind byte `offset` of a file zeros in the block that it is in, which is `block` of the volume.
    pub(super) fn zero_behind(&mut self, block: u64, offset: u64) -> Result<(), Error> {
        let block_size = u64::from(self.superblock.block_size);
        let within = offset % self.superblock.block_size;
        let start = block.saturating_mul(block_size).saturating_add(within);
        self.place_mut(start, block_size.saturating_sub(within))?.fill(0);
        Ok(())
    }

    /// The `length` bytes of content from byte `start` of the volume on, in place.
    fn place_mut(&mut self, start: u64, length: u64) -> Result<&mut [u8], Error> {
        self.note_data_stored();
        let place = usize::try_from(length).ok().and_then(|length| self.region.bytes_mut(start, length));
        Ok(place.ok_or(Errno::EIO)?)
    }
}

/// That `inode` is a regular file whose content is in blocks.
pub(super) fn regular<'a, 'v>(inode: &'a Inode<'v>) -> Result<&'a Inode<'v>, Error> {
    match inode.kind {
        FileKind::Regular if inode.flags.contains(InodeFlags::INLINE_DATA) => Err(Errno::EOPNOTSUPP.into()),
        FileKind::Regular => Ok(inode),
        FileKind::Directory => Err(Errno::EISDIR.into()),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// The answer to what would add blocks to a file without extents.
fn without_extents(number: u32) -> Error {
    log::warn!("ext4: inode {number} has a block map and no extents: no blocks are added to it");
    Errno::EOPNOTSUPP.into()
}
