// SPDX-License-Identifier: MIT OR Apache-2.0

//! Taking and freeing inodes.
//!
//! A file's inode lies in its directory's group, so that what is used together lies together; directories of the root are
//! spread over the volume, deeper ones stay near their parent as long as there is room (M. Orlov's way). Within a group the lowest
//! free inode is taken: so the inodes that were never used stay at the end of the table, which need not be initialized.

use core::iter;
use core::num::NonZero;

use super::bitmap;
use super::cyclic;
use super::group_bitmaps::BitmapKind;
use crate::ext4::error::{Damage, Error};
use crate::ext4::field::le16;
use crate::ext4::group::{Group, GroupFault, GroupFlags, GroupSpace};
use crate::ext4::{Volume, inode};
use crate::fs::Errno;
use crate::mem::region::Region;

/// Groups that are compared to find the best for a directory.
const GROUPS_COMPARED: u32 = 64;

impl<R: Region> Volume<R> {
    /// Takes an inode for a file in the directory `parent`; its number. What the inode held is still in it.
    ///
    /// # Errors
    /// ENOSPC; EUCLEAN; [`Error::TransactionFull`].
    pub(in crate::ext4) fn allocate_inode(&mut self, parent: u32, directory: bool) -> Result<u32, Error> {
        if self.totals.free_inodes == 0 {
            return Err(Errno::ENOSPC.into());
        }
        let groups = self.superblock.group_count;
        let home = (parent.saturating_sub(1) / self.superblock.s_inodes_per_group)
            .min(groups.get().saturating_sub(1));
        let first = if directory { self.group_for_directory(parent, home)? } else { home };
        // Doubling steps: the files of directories whose groups are full do not all go to the same group then.
        let jumps = (0..u32::BITS)
            .map(|exponent| 1u32 << exponent)
            .take_while(|step| *step < groups.get())
            .map(|step| cyclic(cyclic(first, parent, groups), step.saturating_sub(1), groups));
        for number in iter::once(first).chain(jumps) {
            let space = self.group_space(number)?;
            if space.free_inodes > 0 && (space.free_blocks > 0 || number == first) {
                return self.take_inode(number, directory);
            }
        }
        let hint = self.recent.inodes;
        for number in (0..groups.get()).map(|step| cyclic(hint, step, groups)) {
            if self.group_space(number)?.free_inodes > 0 {
                self.recent.inodes = number;
                return self.take_inode(number, directory);
            }
        }
        Err(Errno::ENOSPC.into())
    }

    /// Frees inode `number`, of a `directory` or of something else. The inode itself is the caller's to clear.
    ///
    /// # Errors
    /// EUCLEAN: it is free already, or reserved, or does not exist; [`Error::TransactionFull`].
    pub(in crate::ext4) fn free_inode(&mut self, number: u32, directory: bool) -> Result<(), Error> {
        let superblock = &self.superblock;
        if number < superblock.s_first_ino || number > superblock.s_inodes_count {
            let fault = inode::InodeFault::OutOfRange { inodes_count: superblock.s_inodes_count };
            return Err(Damage::Inode { inode: number, fault }.into());
        }
        let per_group = superblock.s_inodes_per_group;
        let index = number.saturating_sub(1);
        let (home, bit) = (index / per_group, index % per_group);
        let behind = bit.saturating_add(1);
        let group = self.group(home)?;
        let fail = |fault| Err(Damage::Group { group: home, fault }.into());
        if bit >= group.used_inodes
            || bitmap::first_clear(self.bitmap(home, &group, BitmapKind::Inodes)?, bit..behind).is_some()
        {
            return fail(GroupFault::FreeInode { inode: number });
        }
        let value = group.bg_free_inodes_count;
        if value >= per_group.get() {
            return fail(GroupFault::Bitmap { name: "bg_free_inodes_count", value });
        }
        let used_dirs = group.bg_used_dirs_count.checked_sub(u32::from(directory));
        let Some(used_dirs) = used_dirs else {
            return fail(GroupFault::Bitmap { name: "bg_used_dirs_count", value: 0 });
        };
        let clear = |bits: &mut [u8]| bitmap::clear(bits, bit..behind);
        let sum = self.change_bitmap(&group, BitmapKind::Inodes, clear)?;
        self.edit_group(home, |group| {
            group.set_free_inodes(value.saturating_add(1));
            group.set_used_dirs(used_dirs);
            group.set_inode_bitmap_csum(sum);
        })?;
        self.totals.free_inodes = self.totals.free_inodes.saturating_add(1);
        Ok(())
    }

    /// The group that suits a new directory in `parent`, which lies in group `home`.
    fn group_for_directory(&self, parent: u32, home: u32) -> Result<u32, Error> {
        let superblock = &self.superblock;
        let groups = superblock.group_count;
        let compared = groups.get().min(GROUPS_COMPARED);
        let average_inodes = self.totals.free_inodes / NonZero::<u64>::from(groups);
        let average_blocks = self.totals.free_blocks / NonZero::<u64>::from(groups);
        if parent == inode::ROOT {
            // Each new directory changes the count of free inodes: so the comparison starts elsewhere each time.
            let start = scatter(self.totals.free_inodes, groups);
            let mut best: Option<(u32, u32)> = None;
            for number in (0..compared).map(|step| cyclic(start, step, groups)) {
                let space = self.group_space(number)?;
                let roomy = space.free_inodes > 0
                    && u64::from(space.free_inodes) >= average_inodes
                    && u64::from(space.free_blocks) >= average_blocks;
                if roomy && best.is_none_or(|(_, least)| space.used_dirs < least) {
                    best = Some((number, space.used_dirs));
                }
            }
            if let Some((number, _)) = best {
                return Ok(number);
            }
        }
        // Room for a quarter of a group more than on average, and not too many directories: else the next group.
        let min_inodes =
            average_inodes.saturating_sub(u64::from(superblock.s_inodes_per_group.get() / 4)).max(1);
        let min_blocks = average_blocks.saturating_sub(u64::from(superblock.s_blocks_per_group.get() / 4));
        let max_dirs = superblock.s_inodes_per_group.get() / 16;
        let suits = |space: GroupSpace| {
            u64::from(space.free_inodes) >= min_inodes
                && u64::from(space.free_blocks) >= min_blocks
                && space.used_dirs <= max_dirs
        };
        let enough =
            |space: GroupSpace| space.free_inodes > 0 && u64::from(space.free_inodes) >= average_inodes;
        for condition in [&suits as &dyn Fn(GroupSpace) -> bool, &enough] {
            for number in (0..compared).map(|step| cyclic(home, step, groups)) {
                if condition(self.group_space(number)?) {
                    return Ok(number);
                }
            }
        }
        Ok(home)
    }

    /// Takes the lowest free inode of group `number`, which has one by its descriptor.
    fn take_inode(&mut self, number: u32, directory: bool) -> Result<u32, Error> {
        // The bitmap of blocks goes along, as with Linux: inodes in use are a use of the table's blocks.
        self.initialize_block_bitmap(number)?;
        let group = self.group(number)?;
        let per_group = self.superblock.s_inodes_per_group.get();
        let before = u64::from(number).saturating_mul(u64::from(per_group));
        let reserved = u64::from(self.superblock.s_first_ino).saturating_sub(1).saturating_sub(before);
        let reserved = u32::try_from(reserved).unwrap_or(u32::MAX);

        self.initialize_inode_bitmap(number, &group)?;
        let fresh = group.flags.contains(GroupFlags::INODE_UNINIT);
        let bits = if fresh {
            self.block(group.inode_bitmap)?
        } else {
            self.bitmap(number, &group, BitmapKind::Inodes)?
        };
        let free = group.bg_free_inodes_count.checked_sub(1);
        let Some((bit, free)) = bitmap::first_clear(bits, reserved..per_group).zip(free) else {
            let value = group.bg_free_inodes_count;
            let fault = GroupFault::Bitmap { name: "bg_free_inodes_count", value };
            return Err(Damage::Group { group: number, fault }.into());
        };
        let taken = before.saturating_add(u64::from(bit)).saturating_add(1);
        let taken = u32::try_from(taken).map_err(|_| Errno::ENOSPC)?;
        if bit < group.used_inodes {
            self.check_unused(number, taken)?;
        }
        let behind = bit.saturating_add(1);
        let set = |bits: &mut [u8]| bitmap::set(bits, bit..behind);
        let sum = self.change_bitmap(&group, BitmapKind::Inodes, set)?;
        let Group { used_inodes, bg_used_dirs_count, .. } = group;
        let counts_used = self.superblock.has_group_checksums();
        self.edit_group(number, |group| {
            group.clear_flag(GroupFlags::INODE_UNINIT);
            group.set_free_inodes(free);
            group.set_used_dirs(bg_used_dirs_count.saturating_add(u32::from(directory)));
            if counts_used && bit >= used_inodes {
                group.set_itable_unused(per_group.saturating_sub(behind));
            }
            group.set_inode_bitmap_csum(sum);
        })?;
        self.totals.free_inodes = self.totals.free_inodes.saturating_sub(1);
        Ok(taken)
    }

    /// That inode `taken` of group `number`, which the bitmap says is free, has no names, is not open and is no orphan: what is
    /// in it would be lost.
    fn check_unused(&self, number: u32, taken: u32) -> Result<(), Error> {
        let (block, range) = self.inode_place(taken)?;
        let raw = self.block(block)?.get(range).unwrap_or_default();
        let in_use = le16(raw, inode::LINKS_COUNT) != 0
            || self.attended.is_open(taken)
            || self.attended.front(taken).is_some();
        if in_use {
            let fault = GroupFault::InodeInUse { inode: taken };
            return Err(Damage::Group { group: number, fault }.into());
        }
        Ok(())
    }
}

/// A number below `limit` that depends on every bit of `number`.
fn scatter(number: u64, limit: NonZero<u32>) -> u32 {
    // Multiplying by 2^64 divided by the golden ratio spreads consecutive numbers evenly.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    u32::try_from(mixed % NonZero::<u64>::from(limit)).unwrap_or_default()
}
