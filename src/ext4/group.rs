// SPDX-License-Identifier: MIT OR Apache-2.0

//! Group descriptors: where each group's inode table lies.
//!
//! All of them are checked once at mount, and each again whenever it is used: a descriptor is 64 bytes, and keeping
//! the parsed table would take memory in proportion to the volume.

use core::fmt;

use super::checksum::{crc16, crc32c};
use super::error::{Damage, Error};
use super::features::Incompat;
use super::field::{le16, split32, split64};
use super::{Superblock, Volume};
use crate::mem::region::Region;

/// Where `bg_checksum` lies.
const CHECKSUM_OFFSET: usize = 0x1e;
/// `bg_flags`: no inode of the group was ever used.
const INODE_UNINIT: u16 = 0x1;

/// A group descriptor that passed its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    /// First block of the inode table; the whole table lies in the volume.
    pub inode_table: u64,
    /// How many inodes of the table, from its start, may be in use.
    pub used_inodes: u32,
    pub bg_free_blocks_count: u32,
    pub bg_free_inodes_count: u32,
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
        for number in 0..self.superblock.group_count {
            let group = self.group(number)?;
            totals.free_blocks += u64::from(group.bg_free_blocks_count);
            totals.free_inodes += u64::from(group.bg_free_inodes_count);
        }
        Ok(totals)
    }

    /// The descriptor of group `number`.
    pub(super) fn group(&self, number: u32) -> Result<Group, Error> {
        let superblock = &self.superblock;
        let fail = |fault| Error::Corrupt(Damage::Group { group: number, fault });
        if number >= superblock.group_count {
            return Err(fail(GroupFault::OutOfRange { group_count: superblock.group_count }));
        }
        let block = self.block(descriptor_block(superblock, number))?;
        let size = usize::from(superblock.s_desc_size);
        let index = (number % superblock.descriptors_per_block()) as usize;
        let raw = block.get(index * size..).and_then(|rest| rest.get(..size)).unwrap_or_default();
        Group::parse(superblock, number, raw).map_err(fail)
    }
}

impl Group {
    fn parse(superblock: &Superblock, number: u32, raw: &[u8]) -> Result<Self, GroupFault> {
        if superblock.has_group_checksums() {
            let stored = le16(raw, CHECKSUM_OFFSET);
            let computed = checksum(superblock, number, raw);
            if stored != computed {
                return Err(GroupFault::Checksum { stored, computed });
            }
        }
        // `raw` is as long as s_desc_size says: high halves beyond its end are zero.
        let inode_table = split64(raw, 0x8, 0x28);
        let length = superblock.inode_table_blocks();
        let (first, end) = table_bounds(superblock, number);
        let fits = inode_table >= first
            && inode_table.checked_add(u64::from(length)).is_some_and(|table_end| table_end <= end);
        if !fits {
            return Err(GroupFault::InodeTable { start: inode_table, length });
        }
        let within = |name, value, limit| {
            if value <= limit { Ok(value) } else { Err(GroupFault::Count { name, value }) }
        };
        let inodes = superblock.s_inodes_per_group;
        let unused = within("bg_itable_unused", split32(raw, 0x1c, 0x32), inodes)?;
        let used_inodes = if !superblock.has_group_checksums() {
            inodes
        } else if le16(raw, 0x12) & INODE_UNINIT != 0 {
            0
        } else {
            inodes - unused
        };
        Ok(Self {
            inode_table,
            used_inodes,
            bg_free_blocks_count: within(
                "bg_free_blocks_count",
                split32(raw, 0xc, 0x2c),
                superblock.s_blocks_per_group,
            )?,
            bg_free_inodes_count: within("bg_free_inodes_count", split32(raw, 0xe, 0x2e), inodes)?,
        })
    }
}

/// The block that holds the descriptor of group `number`.
fn descriptor_block(superblock: &Superblock, number: u32) -> u64 {
    let index = number / superblock.descriptors_per_block();
    if !superblock.incompat.contains(Incompat::META_BG) || index < superblock.s_first_meta_bg {
        return u64::from(superblock.s_first_data_block) + 1 + u64::from(index);
    }
    // With meta_bg a descriptor block lies in the first of the groups it describes, behind a superblock copy.
    let group = index * superblock.descriptors_per_block();
    first_block(superblock, group) + u64::from(superblock.group_has_superblock(group))
}

/// The first block of group `number`.
fn first_block(superblock: &Superblock, number: u32) -> u64 {
    u64::from(superblock.s_first_data_block) + u64::from(number) * u64::from(superblock.s_blocks_per_group)
}

/// The blocks (first, end) that the inode table of group `number` may lie in: those of the group itself, or with
/// flex_bg any; never the superblock.
fn table_bounds(superblock: &Superblock, number: u32) -> (u64, u64) {
    let behind_superblock = u64::from(superblock.s_first_data_block) + 1;
    let end = superblock.s_blocks_count;
    if superblock.incompat.contains(Incompat::FLEX_BG) {
        return (behind_superblock, end);
    }
    let first = first_block(superblock, number);
    (first.max(behind_superblock), end.min(first + u64::from(superblock.s_blocks_per_group)))
}

/// What `bg_checksum` of group `number` should be.
fn checksum(superblock: &Superblock, number: u32, raw: &[u8]) -> u16 {
    let number = number.to_le_bytes();
    let before = raw.get(..CHECKSUM_OFFSET).unwrap_or_default();
    let after = raw.get(CHECKSUM_OFFSET + 2..).unwrap_or_default();
    if superblock.has_metadata_csum() {
        let sum = crc32c(crc32c(crc32c(superblock.checksum_seed(), &number), before), &[0; 2]);
        let [low, high, ..] = crc32c(sum, after).to_le_bytes();
        u16::from_le_bytes([low, high])
    } else {
        crc16(crc16(crc16(crc16(u16::MAX, &superblock.s_uuid), &number), before), after)
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
            usize::try_from(descriptor_block(&superblock, number)).unwrap() * superblock.block_size as usize;
        let index = number % superblock.descriptors_per_block();
        bytes[block + index as usize * usize::from(superblock.s_desc_size) + offset] ^= 0x81;
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
