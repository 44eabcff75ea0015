// SPDX-License-Identifier: MIT OR Apache-2.0

//! The two bitmaps of a group: their checksums, what they are before their first use, and which bits stand for the
//! volume's own structures.

use core::ops::Range;

use super::bitmap;
use crate::ext4::checksum::crc32c;
use crate::ext4::error::{Damage, Error};
use crate::ext4::group::{Group, GroupFault, GroupFlags, base_blocks, blocks_in_group, first_block};
use crate::ext4::{Superblock, Volume};
use crate::mem::region::Region;

/// Which bitmap of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BitmapKind {
    Blocks,
    Inodes,
}

impl BitmapKind {
    /// Where it lies, and its checksum by the descriptor.
    fn of(self, group: &Group) -> (u64, u32) {
        match self {
            Self::Blocks => (group.block_bitmap, group.block_bitmap_csum),
            Self::Inodes => (group.inode_bitmap, group.inode_bitmap_csum),
        }
    }

    /// Bytes of it that the checksum covers.
    fn length(self, superblock: &Superblock) -> usize {
        let bits = match self {
            Self::Blocks => superblock.s_blocks_per_group.get(),
            Self::Inodes => superblock.s_inodes_per_group.get(),
        };
        (bits / 8) as usize
    }

    /// Its field in the descriptor.
    fn name(self) -> &'static str {
        match self {
            Self::Blocks => "bg_block_bitmap",
            Self::Inodes => "bg_inode_bitmap",
        }
    }
}

impl<R: Region> Volume<R> {
    /// A bitmap of group `number` that is initialized. It is checked as long as nothing of it was changed.
    pub(super) fn bitmap(&self, number: u32, group: &Group, kind: BitmapKind) -> Result<&[u8], Error> {
        let (block, stored) = kind.of(group);
        let bits = self.block(block)?;
        if !self.superblock.has_metadata_csum() || !core::ptr::eq(bits, self.block_in_place(block)?) {
            return Ok(bits);
        }
        let computed = bitmap_checksum(&self.superblock, bits, kind);
        if stored == computed {
            Ok(bits)
        } else {
            let fault = GroupFault::BitmapChecksum { name: kind.name(), stored, computed };
            Err(Damage::Group { group: number, fault }.into())
        }
    }

    /// Changes a bitmap with `change`; its checksum then, which belongs into the descriptor.
    pub(super) fn change_bitmap(
        &mut self,
        group: &Group,
        kind: BitmapKind,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<u32, Error> {
        let (block, _) = kind.of(group);
        change(self.block_mut(block)?);
        self.new_checksum(block, kind)
    }

    /// The checksum of the bitmap in `block`; 0 on a volume without.
    fn new_checksum(&self, block: u64, kind: BitmapKind) -> Result<u32, Error> {
        if self.superblock.has_metadata_csum() {
            Ok(bitmap_checksum(&self.superblock, self.block(block)?, kind))
        } else {
            Ok(0)
        }
    }

    /// Writes the block bitmap of group `number` for the first time, if it never was: taken are the group's own structures, and
    /// the bits behind its end.
    pub(super) fn initialize_block_bitmap(&mut self, number: u32) -> Result<(), Error> {
        let group = self.group(number)?;
        if !group.flags.contains(GroupFlags::BLOCK_UNINIT) {
            return Ok(());
        }
        let own = self.own_structures(number)?;
        let length = blocks_in_group(&self.superblock, number);
        let bits_of_a_block = self.superblock.bits_of_a_block();
        let bits = self.new_block(group.block_bitmap)?;
        for structure in own {
            bitmap::set(bits, structure);
        }
        bitmap::set(bits, length..bits_of_a_block);
        let free = bitmap::count_clear(bits);
        if free != group.bg_free_blocks_count {
            // Something is in use that is not the group's own: it would be taken again.
            let value = group.bg_free_blocks_count;
            let fault = GroupFault::Bitmap { name: "bg_free_blocks_count", value };
            return Err(Damage::Group { group: number, fault }.into());
        }
        // What is in place tells which blocks the last flush protects. Nobody reads it there before the descriptor says that
        // it was written.
        self.put_in_place(group.block_bitmap)?;
        let sum = self.new_checksum(group.block_bitmap, BitmapKind::Blocks)?;
        self.edit_group(number, |group| {
            group.clear_flag(GroupFlags::BLOCK_UNINIT);
            group.set_block_bitmap_csum(sum);
        })
    }

    /// Writes the inode bitmap of `group`, which is group `number`, for the first time, if it never was. Flag and checksum are left to whoever
    /// takes the first inode.
    pub(super) fn initialize_inode_bitmap(&mut self, number: u32, group: &Group) -> Result<(), Error> {
        if group.flags.contains(GroupFlags::INODE_UNINIT) {
            let end = self.superblock.s_inodes_per_group.get();
            let value = group.bg_free_inodes_count;
            if value != end {
                let fault = GroupFault::Bitmap { name: "bg_free_inodes_count", value };
                return Err(Damage::Group { group: number, fault }.into());
            }
            let bits_of_a_block = self.superblock.bits_of_a_block();
            bitmap::set(self.new_block(group.inode_bitmap)?, end..bits_of_a_block);
        }
        Ok(())
    }

    /// The structures of group `number` that lie in the group itself, as bits of its bitmap.
    fn own_structures(&self, number: u32) -> Result<[Range<u32>; 4], Error> {
        let superblock = &self.superblock;
        let first = first_block(superblock, number);
        let length = blocks_in_group(superblock, number);
        let bit = |block: u64| u32::try_from(block.saturating_sub(first)).unwrap_or(u32::MAX).min(length);
        let [blocks, inodes, table] =
            self.group_structures(number)?.map(|structure| bit(structure.start)..bit(structure.end));
        Ok([0..base_blocks(superblock, number).min(length), blocks, inodes, table])
    }

    /// That none of the blocks `run` of group `number` holds a structure of the volume.
    pub(super) fn check_no_structure(&self, number: u32, run: &Range<u64>) -> Result<(), Error> {
        match self.system_zone.first_in(run) {
            Some(block) => Err(Damage::Group { group: number, fault: GroupFault::Metadata { block } }.into()),
            None => Ok(()),
        }
    }
}

/// What the checksum of a bitmap should be: as much of it as the descriptor has room for.
fn bitmap_checksum(superblock: &Superblock, bits: &[u8], kind: BitmapKind) -> u32 {
    let sum = crc32c(superblock.checksum_seed(), bits.get(..kind.length(superblock)).unwrap_or(bits));
    if superblock.s_desc_size.get() >= 64 { sum } else { sum & 0xffff }
}
