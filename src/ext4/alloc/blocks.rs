// SPDX-License-Identifier: MIT OR Apache-2.0

//! Taking and freeing blocks.
//!
//! A file's blocks are kept together: what is taken starts at the goal if that is free, else it is the nearest run that is long
//! enough.
//!
//! Content is stored in place at once, so a block that was freed is taken again only when nothing can bring its former owner
//! back: neither the loss of power (the bitmap as it was flushed last must have it free too) nor the death of the server before
//! the running transaction is committed (that must not have freed it).

use core::iter;
use core::num::NonZero;
use core::ops::Range;

use super::bitmap::{self, Taken};
use super::group_bitmaps::BitmapKind;
use super::{Allocated, Freed, cyclic};
use crate::ext4::Volume;
use crate::ext4::error::{Damage, Error};
use crate::ext4::group::{Group, GroupFault, GroupFlags, blocks_in_group, first_block};
use crate::fs::{Caller, Errno};
use crate::mem::region::Region;

/// Groups behind the goal's own that are looked at before the one where space was found last.
const NEXT_GROUPS: u32 = 4;
/// Bitmaps that are searched for a run that is long enough, before a shorter one has to do.
const BITMAPS_SEARCHED: u32 = 8;
/// The inodes of a group start their files at so many different places of it.
const PLACES: u32 = 16;

/// Free blocks of a group, as bits of its bitmap.
struct Run {
    group: u32,
    bits: Range<u32>,
}

impl<R: Region> Volume<R> {
    /// Takes 1 to `wanted` blocks that follow each other: at block `goal` if it is free, even if they are fewer there; else
    /// where `wanted` are free, near the goal; else where most are, of the places that were looked at. `goal` may be any
    /// number.
    ///
    /// # Errors
    /// ENOSPC: nothing is free, or nothing that `caller` may take, or nothing before the next flush; EUCLEAN;
    /// [`Error::TransactionFull`].
    pub(in crate::ext4) fn allocate_blocks(
        &mut self,
        goal: u64,
        wanted: u32,
        caller: Caller,
    ) -> Result<Allocated, Error> {
        let mut available = self.totals.free_blocks;
        if !caller.is_root() && caller.uid != self.superblock.s_def_resuid {
            available = available.saturating_sub(self.superblock.s_r_blocks_count);
        }
        let wanted = u32::try_from(available).unwrap_or(u32::MAX).min(wanted.max(1));
        if wanted == 0 {
            return Err(Errno::ENOSPC.into());
        }
        let run = self.choose_run(goal, wanted)?;
        self.take_run(&run)
    }

    /// Frees the `count` blocks from `start` on.
    ///
    /// # Errors
    /// EUCLEAN: one of them is free already, holds a structure of the volume, or lies outside;
    /// [`Error::TransactionFull`].
    pub(in crate::ext4) fn free_blocks(
        &mut self,
        start: u64,
        count: u32,
        content: Freed,
    ) -> Result<(), Error> {
        if !self.holds(start, u64::from(count)) {
            return Err(self.out_of_range(start));
        }
        let end = start.saturating_add(u64::from(count));
        let mut position = start;
        while position < end {
            let (number, bit) = self.block_place(position);
            let bits = u32::try_from(end.saturating_sub(position))
                .unwrap_or(u32::MAX)
                .min(blocks_in_group(&self.superblock, number).saturating_sub(bit))
                .max(1);
            self.free_run(number, bit..bit.saturating_add(bits))?;
            position = position.saturating_add(u64::from(bits));
        }
        if content == Freed::Metadata {
            for block in start..end {
                self.revoke(block)?;
            }
        }
        Ok(())
    }

    /// Where the first block of the file with inode `number` should go: into the inode's group, and the files of a group apart from
    /// each other, so that those that grow at the same time do not grow into each other.
    pub(in crate::ext4) fn goal_for_inode(&self, number: u32) -> u64 {
        let superblock = &self.superblock;
        let index = number.saturating_sub(1);
        let group =
            (index / superblock.s_inodes_per_group).min(superblock.group_count.get().saturating_sub(1));
        let place = (blocks_in_group(superblock, group) / PLACES).saturating_mul(index % PLACES);
        first_block(superblock, group).saturating_add(u64::from(place))
    }

    /// The group of a block, and its bit there; the first of the volume for a block that does not exist.
    fn block_place(&self, block: u64) -> (u32, u32) {
        let superblock = &self.superblock;
        let index = block.saturating_sub(u64::from(superblock.s_first_data_block));
        let per_group = NonZero::<u64>::from(superblock.s_blocks_per_group);
        match (u32::try_from(index / per_group), u32::try_from(index % per_group)) {
            (Ok(group), Ok(bit)) if group < superblock.group_count.get() => (group, bit),
            _ => (0, 0),
        }
    }

    fn choose_run(&mut self, goal: u64, wanted: u32) -> Result<Run, Error> {
        let groups = self.superblock.group_count;
        let (home, goal) = self.block_place(goal);
        let hint = self.recent.blocks;
        let next = (1..=NEXT_GROUPS).map(|step| cyclic(home, step, groups));
        let all = (0..groups.get()).map(|step| cyclic(hint, step, groups));
        let order = iter::once(home).chain(next.chain(all).filter(|number| *number != home));
        let mut best: Option<Run> = None;
        let mut searched = 0_u32;
        for (index, number) in order.enumerate() {
            if self.group_space(number)?.free_blocks == 0 {
                continue;
            }
            let start = if index == 0 { goal } else { 0 };
            let Some(bits) = self.find_run(number, start, wanted)? else { continue };
            if number != home {
                self.recent.blocks = number;
            }
            let enough = bits.len() >= wanted as usize || (index == 0 && bits.start == goal);
            if best.as_ref().is_none_or(|best| enough || bits.len() > best.bits.len()) {
                best = Some(Run { group: number, bits });
            }
            searched = searched.saturating_add(1);
            if enough || searched >= BITMAPS_SEARCHED {
                break;
            }
        }
        best.ok_or_else(|| Errno::ENOSPC.into())
    }

    /// A run of group `number` that may be taken.
    fn find_run(&mut self, number: u32, goal: u32, wanted: u32) -> Result<Option<Range<u32>>, Error> {
        self.initialize_block_bitmap(number)?;
        let group = self.group(number)?;
        let newest = self.bitmap(number, &group, BitmapKind::Blocks)?;
        let in_place = self.flushed_bitmap(&group, newest)?;
        let first = first_block(&self.superblock, number);
        let end = blocks_in_group(&self.superblock, number);
        let usable = |bit| {
            let block = first.saturating_add(u64::from(bit));
            !self.recent.freed.contains(block) && self.may_reuse(block)
        };
        Ok(Taken::new(newest, in_place).find_run(goal, end, wanted, usable))
    }

    /// The block bitmap of group `number` as of the last flush, where that is another than `newest`.
    fn flushed_bitmap<'v>(&'v self, group: &Group, newest: &[u8]) -> Result<Option<&'v [u8]>, Error> {
        let in_place = self.block_in_place(group.block_bitmap)?;
        Ok((!core::ptr::eq(newest, in_place)).then_some(in_place))
    }

    /// Takes blocks that [`find_run`](Self::find_run) found.
    fn take_run(&mut self, run: &Run) -> Result<Allocated, Error> {
        let number = run.group;
        let group = self.group(number)?;
        let first = first_block(&self.superblock, number);
        let block = |bit| first.saturating_add(u64::from(bit));
        let (start, end) = (block(run.bits.start), block(run.bits.end));
        self.check_no_structure(number, &(start..end))?;
        let count = run.bits.end.saturating_sub(run.bits.start);
        let Some(free) = group.bg_free_blocks_count.checked_sub(count) else {
            let value = group.bg_free_blocks_count;
            let fault = GroupFault::Bitmap { name: "bg_free_blocks_count", value };
            return Err(Damage::Group { group: number, fault }.into());
        };
        let bits = run.bits.clone();
        let sum = self.change_bitmap(&group, BitmapKind::Blocks, |bitmap| bitmap::set(bitmap, bits))?;
        self.store_free_blocks(number, free, sum)?;
        self.totals.free_blocks = self.totals.free_blocks.saturating_sub(u64::from(count));
        Ok(Allocated { start, count })
    }

    /// Frees the blocks `bits` of group `number`.
    fn free_run(&mut self, number: u32, bits: Range<u32>) -> Result<(), Error> {
        let fail = |fault| Err(Damage::Group { group: number, fault }.into());
        let group = self.group(number)?;
        let first = first_block(&self.superblock, number);
        let block = |bit| first.saturating_add(u64::from(bit));
        if group.flags.contains(GroupFlags::BLOCK_UNINIT) {
            return fail(GroupFault::FreeBlock { block: block(bits.start) });
        }
        let bitmap = self.bitmap(number, &group, BitmapKind::Blocks)?;
        if let Some(free) = bitmap::first_clear(bitmap, bits.clone()) {
            return fail(GroupFault::FreeBlock { block: block(free) });
        }
        self.check_no_structure(number, &(block(bits.start)..block(bits.end)))?;
        // Blocks that the last flush has as taken are safe until the next.
        let in_place = self.block_in_place(group.block_bitmap)?;
        let protected = bitmap::first_clear(in_place, bits.clone()).is_none();
        let count = bits.end.saturating_sub(bits.start);
        let value = group.bg_free_blocks_count;
        let free = value.saturating_add(count);
        if free > blocks_in_group(&self.superblock, number) {
            return fail(GroupFault::Bitmap { name: "bg_free_blocks_count", value });
        }
        if !protected {
            self.recent.freed.add(block(bits.start)..block(bits.end));
        }
        let sum = self.change_bitmap(&group, BitmapKind::Blocks, |bitmap| bitmap::clear(bitmap, bits))?;
        self.store_free_blocks(number, free, sum)?;
        self.totals.free_blocks = self.totals.free_blocks.saturating_add(u64::from(count));
        Ok(())
    }

    fn store_free_blocks(&mut self, number: u32, free: u32, sum: u32) -> Result<(), Error> {
        self.edit_group(number, |group| {
            group.set_free_blocks(free);
            group.set_block_bitmap_csum(sum);
        })
    }
}
