// SPDX-License-Identifier: MIT OR Apache-2.0

//! Group descriptors: where each group's bitmaps and inode table lie, and what is free in it.
//!
//! All of them are checked once at mount, and each again whenever it is used (its checksum where it was changed): a descriptor
//! is 64 bytes, and keeping the parsed table would take memory in proportion to the volume.

use core::fmt;
use core::ops::Range;

use bitflags::bitflags;

use super::checksum::{crc16, crc32c};
use super::error::{Damage, Error};
use super::features::Incompat;
use super::field::{le16, put_le16, put_split32, split32, split64};
use super::verified::Kind;
use super::{Superblock, Volume};
use crate::mem::region::Region;

/// Where `bg_checksum` lies.
const CHECKSUM_OFFSET: usize = 0x1e;
/// Where `bg_flags` lies.
const FLAGS_OFFSET: usize = 0x12;

bitflags! {
    /// `bg_flags`. They mean something on volumes with group checksums only; elsewhere none is set.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct GroupFlags: u16 {
        /// No inode of the group was ever used, and the inode bitmap was never written.
        const INODE_UNINIT = 0x1;
        /// The block bitmap was never written: only the group's own metadata is in use.
        const BLOCK_UNINIT = 0x2;
        const _ = !0;
    }
}

/// A group descriptor that passed its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    /// The block of the block bitmap; it lies in the volume.
    pub block_bitmap: u64,
    /// The block of the inode bitmap; it lies in the volume.
    pub inode_bitmap: u64,
    /// First block of the inode table; the whole table lies in the volume.
    pub inode_table: u64,
    pub flags: GroupFlags,
    /// How many inodes of the table, from its start, may be in use.
    pub used_inodes: u32,
    pub bg_free_blocks_count: u32,
    pub bg_free_inodes_count: u32,
    pub bg_used_dirs_count: u32,
    /// CRC-32C of the block bitmap; without `64bit` the low half. 0 without `metadata_csum`.
    pub block_bitmap_csum: u32,
    /// The same of the inode bitmap.
    pub inode_bitmap_csum: u32,
}

/// What is wrong with a group descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupFault {
    /// There is no such group.
    OutOfRange {
        /// How many groups there are.
        group_count: u32,
    },
    /// `bg_checksum` does not match.
    Checksum {
        /// What the descriptor says.
        stored: u16,
        /// What it should say.
        computed: u16,
    },
    /// `bg_block_bitmap` or `bg_inode_bitmap` lies where it cannot.
    BitmapPlace {
        /// The field's name.
        name: &'static str,
        /// Its value.
        block: u64,
    },
    /// A bitmap does not match its checksum.
    BitmapChecksum {
        /// Which of the two: its field in the descriptor.
        name: &'static str,
        /// What the descriptor says.
        stored: u32,
        /// What it should say.
        computed: u32,
    },
    /// The bitmap and the descriptor disagree on what is free.
    Bitmap {
        /// The field of the descriptor that cannot be right.
        name: &'static str,
        /// Its value.
        value: u32,
    },
    /// A block that holds the volume's own structures is marked as free, or was to be freed.
    Metadata {
        /// The block.
        block: u64,
    },
    /// A block that was to be freed is free.
    FreeBlock {
        /// The block.
        block: u64,
    },
    /// An inode that has a name, or is open, is marked as free.
    InodeInUse {
        /// Its number.
        inode: u32,
    },
    /// An inode that was to be freed is free.
    FreeInode {
        /// Its number.
        inode: u32,
    },
    /// `bg_inode_table` lies where it cannot.
    InodeTable {
        /// First block of the table.
        start: u64,
        /// Blocks of the table.
        length: u32,
    },
    /// A count of the descriptor is larger than the group.
    Count {
        /// The field's name.
        name: &'static str,
        /// Its value.
        value: u32,
    },
}

impl fmt::Display for GroupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OutOfRange { group_count } => write!(f, "there are only {group_count} groups"),
            Self::Checksum { stored, computed } => {
                write!(f, "bg_checksum is {stored:#06x}, computed {computed:#06x}")
            }
            Self::BitmapPlace { name, block } => write!(f, "{name} is {block}, where it cannot be"),
            Self::BitmapChecksum { name, stored, computed } => {
                write!(f, "{name}_csum is {stored:#010x}, computed {computed:#010x}")
            }
            Self::Bitmap { name, value } => write!(f, "{name} is {value}, which the bitmap contradicts"),
            Self::Metadata { block } => write!(f, "block {block} of its metadata is marked as free"),
            Self::FreeBlock { block } => write!(f, "block {block} is freed twice"),
            Self::InodeInUse { inode } => write!(f, "inode {inode}, which is in use, is marked as free"),
            Self::FreeInode { inode } => write!(f, "inode {inode} is freed twice"),
            Self::InodeTable { start, length } => {
                write!(f, "bg_inode_table of {length} blocks at {start} leaves the place it may be in")
            }
            Self::Count { name, value } => write!(f, "{name} is {value}, more than the group has"),
        }
    }
}

/// What the descriptors of all groups add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub free_blocks: u64,
    pub free_inodes: u64,
}

impl<R: Region> Volume<R> {
    /// Checks every group descriptor.
    pub(super) fn check_groups(&self) -> Result<Totals, Error> {
        let mut totals = Totals::default();
        for number in 0..self.superblock.group_count.get() {
            let group = self.group(number)?;
            totals.free_blocks = totals.free_blocks.saturating_add(u64::from(group.bg_free_blocks_count));
            totals.free_inodes = totals.free_inodes.saturating_add(u64::from(group.bg_free_inodes_count));
        }
        Ok(totals)
    }

    /// The descriptor of group `number`.
    pub(super) fn group(&self, number: u32) -> Result<Group, Error> {
        let raw = self.checked_group(number)?;
        Group::parse(&self.superblock, number, raw)
            .map_err(|fault| Damage::Group { group: number, fault }.into())
    }

    /// The inode table of group `number`.
    pub(super) fn inode_table(&self, number: u32) -> Result<InodeTable, Error> {
        if let Some(table) = self.remembered.inode_table(number) {
            return Ok(table);
        }
        let raw = self.checked_group(number)?;
        let table = InodeTable::parse(&self.superblock, number, raw)
            .map_err(|fault| Damage::Group { group: number, fault })?;
        let (block, _) = self.group_place(number)?;
        self.remembered.set_inode_table(number, table, block);
        Ok(table)
    }

    /// The descriptor of group `number`, which matches its checksum.
    fn checked_group(&self, number: u32) -> Result<&[u8], Error> {
        let (block, range) = self.group_place(number)?;
        let index = (number % self.superblock.descriptors_per_block) as usize;
        let raw = self.block(block)?.get(range).unwrap_or_default();
        if !self.verified.has(Kind::Groups, block, index) {
            check_checksum(&self.superblock, number, raw)
                .map_err(|fault| Damage::Group { group: number, fault })?;
            self.verified.note(Kind::Groups, block, index);
        }
        Ok(raw)
    }

    /// The descriptor of group `number`, not checked.
    fn raw_group(&self, number: u32) -> Result<&[u8], Error> {
        let (block, range) = self.group_place(number)?;
        Ok(self.block(block)?.get(range).unwrap_or_default())
    }

    /// What is free in group `number`, by a descriptor that is not checked: to choose groups by.
    pub(super) fn group_space(&self, number: u32) -> Result<GroupSpace, Error> {
        let raw = self.raw_group(number)?;
        Ok(GroupSpace {
            free_blocks: split32(raw, 0xc, 0x2c),
            free_inodes: split32(raw, 0xe, 0x2e),
            used_dirs: split32(raw, 0x10, 0x30),
        })
    }

    /// Where the two bitmaps and the inode table of group `number` lie, by a descriptor that is not checked.
    pub(super) fn group_structures(&self, number: u32) -> Result<[Range<u64>; 3], Error> {
        let raw = self.raw_group(number)?;
        let structure = |low, high, length| {
            let start = split64(raw, low, high);
            start..start.saturating_add(u64::from(length))
        };
        let table = self.superblock.inode_table_blocks;
        Ok([structure(0x0, 0x20, 1), structure(0x4, 0x24, 1), structure(0x8, 0x28, table)])
    }

    /// Changes the descriptor of group `number` with `change`, then sets its checksum.
    ///
    /// # Errors
    /// Damage for a group that there is not; [`Error::TransactionFull`].
    pub(super) fn edit_group(
        &mut self,
        number: u32,
        change: impl FnOnce(&mut GroupEditor<'_>),
    ) -> Result<(), Error> {
        let (block, range) = self.group_place(number)?;
        let checksum = GroupChecksum::of(&self.superblock);
        let block = self.block_mut(block)?;
        let raw = block.get_mut(range).unwrap_or_default();
        change(&mut GroupEditor { raw: &mut *raw });
        if let Some(checksum) = checksum {
            let sum = checksum.compute(number, raw);
            put_le16(raw, CHECKSUM_OFFSET, sum);
        }
        Ok(())
    }

    /// Where the descriptor of group `number` lies: the block, and which bytes of it.
    fn group_place(&self, number: u32) -> Result<(u64, Range<usize>), Error> {
        let superblock = &self.superblock;
        let group_count = superblock.group_count.get();
        if number >= group_count {
            let fault = GroupFault::OutOfRange { group_count };
            return Err(Damage::Group { group: number, fault }.into());
        }
        let index = number % superblock.descriptors_per_block;
        Ok((descriptor_block(superblock, number), superblock.s_desc_size.place(index)))
    }
}

/// What is free in a group; not checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupSpace {
    pub free_blocks: u32,
    pub free_inodes: u32,
    pub used_dirs: u32,
}

/// A group descriptor of the running transaction. What is set is stored at once; the checksum follows when the change is
/// over.
pub(super) struct GroupEditor<'a> {
    raw: &'a mut [u8],
}

impl GroupEditor<'_> {
    pub(super) fn set_free_blocks(&mut self, count: u32) {
        put_split32(self.raw, 0xc, 0x2c, count);
    }

    pub(super) fn set_free_inodes(&mut self, count: u32) {
        put_split32(self.raw, 0xe, 0x2e, count);
    }

    pub(super) fn set_used_dirs(&mut self, count: u32) {
        put_split32(self.raw, 0x10, 0x30, count);
    }

    /// Sets how many inodes at the end of the table were never used.
    pub(super) fn set_itable_unused(&mut self, count: u32) {
        put_split32(self.raw, 0x1c, 0x32, count);
    }

    pub(super) fn clear_flag(&mut self, flag: GroupFlags) {
        let flags = GroupFlags::from_bits_retain(le16(self.raw, FLAGS_OFFSET));
        put_le16(self.raw, FLAGS_OFFSET, flags.difference(flag).bits());
    }

    pub(super) fn set_block_bitmap_csum(&mut self, sum: u32) {
        put_split32(self.raw, 0x18, 0x38, sum);
    }

    pub(super) fn set_inode_bitmap_csum(&mut self, sum: u32) {
        put_split32(self.raw, 0x1a, 0x3a, sum);
    }
}

/// `bg_flags` of a descriptor, as far as they count on this volume.
fn flags(superblock: &Superblock, raw: &[u8]) -> GroupFlags {
    if superblock.has_group_checksums() {
        GroupFlags::from_bits_retain(le16(raw, FLAGS_OFFSET))
    } else {
        GroupFlags::empty()
    }
}

/// `value`, unless it is more than `limit`.
fn within(name: &'static str, value: u32, limit: u32) -> Result<u32, GroupFault> {
    if value <= limit { Ok(value) } else { Err(GroupFault::Count { name, value }) }
}

/// Where the inodes of a group are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct InodeTable {
    /// First block of the table; the whole table lies in the volume.
    pub start: u64,
    /// How many inodes of the table, from its start, may be in use.
    pub used_inodes: u32,
}

impl InodeTable {
    fn parse(superblock: &Superblock, number: u32, raw: &[u8]) -> Result<Self, GroupFault> {
        // `raw` is as long as s_desc_size says: high halves beyond its end are zero.
        let bounds = structure_bounds(superblock, number);
        let start = split64(raw, 0x8, 0x28);
        let length = superblock.inode_table_blocks;
        let fits = start >= bounds.start
            && start.checked_add(u64::from(length)).is_some_and(|table_end| table_end <= bounds.end);
        if !fits {
            return Err(GroupFault::InodeTable { start, length });
        }
        let inodes = superblock.s_inodes_per_group.get();
        let unused = within("bg_itable_unused", split32(raw, 0x1c, 0x32), inodes)?;
        let used_inodes = if !superblock.has_group_checksums() {
            inodes
        } else if flags(superblock, raw).contains(GroupFlags::INODE_UNINIT) {
            0
        } else {
            inodes.saturating_sub(unused)
        };
        Ok(Self { start, used_inodes })
    }
}

/// Compares the checksum.
fn check_checksum(superblock: &Superblock, number: u32, raw: &[u8]) -> Result<(), GroupFault> {
    let Some(checksum) = GroupChecksum::of(superblock) else { return Ok(()) };
    let stored = le16(raw, CHECKSUM_OFFSET);
    let computed = checksum.compute(number, raw);
    if stored == computed { Ok(()) } else { Err(GroupFault::Checksum { stored, computed }) }
}

impl Group {
    /// Parses a descriptor that matches its checksum.
    fn parse(superblock: &Superblock, number: u32, raw: &[u8]) -> Result<Self, GroupFault> {
        let bounds = structure_bounds(superblock, number);
        let InodeTable { start: inode_table, used_inodes } = InodeTable::parse(superblock, number, raw)?;
        let bitmap = |name, block| {
            if bounds.contains(&block) { Ok(block) } else { Err(GroupFault::BitmapPlace { name, block }) }
        };
        let inodes = superblock.s_inodes_per_group.get();
        Ok(Self {
            block_bitmap: bitmap("bg_block_bitmap", split64(raw, 0x0, 0x20))?,
            inode_bitmap: bitmap("bg_inode_bitmap", split64(raw, 0x4, 0x24))?,
            inode_table,
            flags: flags(superblock, raw),
            used_inodes,
            bg_free_blocks_count: within(
                "bg_free_blocks_count",
                split32(raw, 0xc, 0x2c),
                superblock.s_blocks_per_group.get(),
            )?,
            bg_free_inodes_count: within("bg_free_inodes_count", split32(raw, 0xe, 0x2e), inodes)?,
            bg_used_dirs_count: within("bg_used_dirs_count", split32(raw, 0x10, 0x30), inodes)?,
            block_bitmap_csum: split32(raw, 0x18, 0x38),
            inode_bitmap_csum: split32(raw, 0x1a, 0x3a),
        })
    }
}

/// The block that holds the descriptor of group `number`.
fn descriptor_block(superblock: &Superblock, number: u32) -> u64 {
    let index = number / superblock.descriptors_per_block;
    if !superblock.incompat.contains(Incompat::META_BG) || index < superblock.s_first_meta_bg {
        return behind_superblock(superblock).saturating_add(u64::from(index));
    }
    // With meta_bg a descriptor block lies in the first of the groups it describes, behind a superblock copy.
    let group = superblock.descriptors_per_block.round_down(u64::from(number));
    let group = u32::try_from(group).unwrap_or(number);
    first_block(superblock, group).saturating_add(u64::from(superblock.group_has_superblock(group)))
}

/// The block behind that of the superblock.
fn behind_superblock(superblock: &Superblock) -> u64 {
    u64::from(superblock.s_first_data_block).saturating_add(1)
}

/// The first block of group `number`.
pub(super) fn first_block(superblock: &Superblock, number: u32) -> u64 {
    let before = u64::from(number).saturating_mul(u64::from(superblock.s_blocks_per_group.get()));
    before.saturating_add(u64::from(superblock.s_first_data_block))
}

/// How many blocks group `number` has: the last group may be short.
pub(super) fn blocks_in_group(superblock: &Superblock, number: u32) -> u32 {
    let left = superblock.s_blocks_count.saturating_sub(first_block(superblock, number));
    u32::try_from(left).unwrap_or(u32::MAX).min(superblock.s_blocks_per_group.get())
}

/// How many blocks at the start of group `number` hold a copy of the superblock, group descriptors, and what is kept
/// free behind them.
pub(super) fn base_blocks(superblock: &Superblock, number: u32) -> u32 {
    let copy = if superblock.group_has_superblock(number) {
        1 + u32::from(superblock.s_reserved_gdt_blocks)
    } else {
        0
    };
    descriptor_blocks(superblock, number).saturating_add(copy)
}

/// The blocks of group `number` that hold group descriptors.
fn descriptor_blocks(superblock: &Superblock, number: u32) -> u32 {
    let per_block = superblock.descriptors_per_block;
    let meta_bg = superblock.incompat.contains(Incompat::META_BG);
    if meta_bg && number / per_block >= superblock.s_first_meta_bg {
        // One block, in the first, the second and the last group of those it describes.
        let position = number % per_block;
        return u32::from(position <= 1 || position == per_block.get().saturating_sub(1));
    }
    if !superblock.group_has_superblock(number) {
        0
    } else if meta_bg {
        superblock.s_first_meta_bg
    } else {
        superblock.descriptor_blocks
    }
}

/// The blocks that bitmaps and inode table of group `number` may lie in: those of the group itself, or with flex_bg any;
/// never the superblock.
fn structure_bounds(superblock: &Superblock, number: u32) -> Range<u64> {
    let behind_superblock = behind_superblock(superblock);
    let end = superblock.s_blocks_count;
    if superblock.incompat.contains(Incompat::FLEX_BG) {
        return behind_superblock..end;
    }
    let first = first_block(superblock, number);
    first.max(behind_superblock)
        ..end.min(first.saturating_add(u64::from(superblock.s_blocks_per_group.get())))
}

/// How `bg_checksum` is computed on a volume.
enum GroupChecksum {
    /// `metadata_csum`, with the volume's seed.
    Crc32c(u32),
    /// `gdt_csum`, with the volume's UUID.
    Crc16([u8; 16]),
}

impl GroupChecksum {
    /// `None`: group descriptors have no checksums.
    fn of(superblock: &Superblock) -> Option<Self> {
        if superblock.has_metadata_csum() {
            Some(Self::Crc32c(superblock.checksum_seed()))
        } else {
            superblock.has_group_checksums().then_some(Self::Crc16(superblock.s_uuid))
        }
    }

    /// What `bg_checksum` of group `number` should be.
    fn compute(&self, number: u32, raw: &[u8]) -> u16 {
        let number = number.to_le_bytes();
        let before = raw.get(..CHECKSUM_OFFSET).unwrap_or_default();
        let after = raw.get(CHECKSUM_OFFSET + 2..).unwrap_or_default();
        match *self {
            Self::Crc32c(seed) => {
                let sum = crc32c(crc32c(crc32c(seed, &number), before), &[0; 2]);
                let [low, high, ..] = crc32c(sum, after).to_le_bytes();
                u16::from_le_bytes([low, high])
            }
            Self::Crc16(uuid) => crc16(crc16(crc16(crc16(u16::MAX, &uuid), &number), before), after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::MountError;
    use crate::ext4::testing::Image;

    /// The fault that mounting finds when bits of the byte at `offset` of descriptor `number` are flipped.
    fn fault(image: &Image, number: u32, offset: usize) -> Option<(u32, GroupFault)> {
        let mut bytes = image.bytes();
        let superblock = Superblock::read(&bytes).unwrap();
        let block =
            usize::try_from(descriptor_block(&superblock, number)).unwrap() * superblock.block_size.length();
        let index = number % superblock.descriptors_per_block;
        bytes[block + index as usize * superblock.s_desc_size.length() + offset] ^= 0x81;
        match Volume::mount(bytes) {
            Err(MountError::Damaged(Damage::Group { group, fault })) => Some((group, fault)),
            _ => None,
        }
    }

    #[test]
    fn a_damaged_descriptor_fails_the_mount_whichever_checksum_it_has() {
        for options in [
            &["-b", "1024"][..],
            &["-b", "1024", "-O", "^64bit"],
            &["-b", "1024", "-O", "^metadata_csum,uninit_bg"],
            &["-b", "1024", "-O", "^metadata_csum,^64bit,uninit_bg"],
            &["-b", "1024", "-O", "meta_bg,^resize_inode", "-g", "256", "-N", "2048"],
        ] {
            let image = Image::new("20M", options, |_| {});
            for (number, offset) in [(0, 0), (1, 0x8), (1, 0x1e), (2, 0x1f)] {
                let found = fault(&image, number, offset);
                assert!(
                    matches!(found, Some((group, GroupFault::Checksum { .. })) if group == number),
                    "{options:?} {number} {offset:#x}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn a_table_that_leaves_its_place_is_noticed_without_checksums() {
        let plain = &["-b", "1024", "-O", "^metadata_csum,^uninit_bg,^64bit"];
        let image = Image::new("20M", plain, |_| {});
        assert!(matches!(fault(&image, 1, 0xa), Some((1, GroupFault::InodeTable { .. }))));
        assert!(matches!(
            fault(&image, 1, 0xd),
            Some((1, GroupFault::Count { name: "bg_free_blocks_count", .. }))
        ));
        let own = &["-b", "1024", "-O", "^metadata_csum,^uninit_bg,^64bit,^flex_bg"];
        let image = Image::new("20M", own, |_| {});
        assert!(matches!(fault(&image, 1, 0x9), Some((1, GroupFault::InodeTable { .. }))));
    }

    #[test]
    fn a_group_that_does_not_exist_is_out_of_range() {
        let volume = Image::new("20M", &["-b", "1024"], |_| {}).mount();
        let fault = GroupFault::OutOfRange { group_count: 3 };
        assert_eq!(volume.group(3), Err(Damage::Group { group: 3, fault }.into()));
    }
}
