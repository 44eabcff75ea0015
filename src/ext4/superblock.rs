// SPDX-License-Identifier: MIT OR Apache-2.0

//! The superblock: parsed once, at mount, and checked so that what the rest computes from it cannot leave the
//! volume. Field names are the format's (`struct ext4_super_block`).

use core::num::NonZero;

use super::checksum::crc32c;
use super::error::MountError;
use super::error_state::{ERRORS_CONTINUE, STATE_ERROR};
use super::features::{Compat, Incompat, RoCompat};
use super::field::{bytes, le8, le16, le32, split64};
use super::power_of_two::PowerOfTwo;
use crate::mem::region::Region;

/// Where the superblock lies in the volume, whatever its block size.
pub(super) const OFFSET: u64 = 1024;
/// How long it is.
pub(super) const LENGTH: usize = 1024;
/// Where `s_checksum` lies in it: the checksum covers what comes before.
pub(super) const CHECKSUM_OFFSET: usize = 0x3fc;
/// `s_magic`, and the `f_type` of `statfs`.
const MAGIC: u16 = 0xef53;
/// `s_state`: unmounted cleanly.
const STATE_VALID: u16 = 1;
/// Bytes of all the fields that there are beyond the first 128 of an inode, `i_projid` the last.
const DEFAULT_EXTRA_ISIZE: u16 = 32;
/// `s_creator_os` of GNU Hurd, which uses the operating-system dependent fields of inodes for other things.
const CREATOR_HURD: u32 = 1;

/// What the reader keeps of the superblock. All values are in the ranges that [`Superblock::read`] checks.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    /// Inodes in all: `s_inodes_per_group` for each group.
    pub s_inodes_count: u32,
    /// Length of the volume in blocks; it fits the region.
    pub s_blocks_count: u64,
    /// Blocks that only root may take.
    pub s_r_blocks_count: u64,
    /// The block that the superblock lies in: 1 with blocks of 1 KiB, else 0.
    pub s_first_data_block: u32,
    /// Block size in bytes: 1024, 2048 or 4096.
    pub block_size: PowerOfTwo,
    /// Blocks of a group, at most eight times the block size.
    pub s_blocks_per_group: NonZero<u32>,
    /// Inodes of a group, at most eight times the block size.
    pub s_inodes_per_group: NonZero<u32>,
    /// The first inode number that is not reserved, at least 11.
    pub s_first_ino: u32,
    /// Size of an inode: 128 to the block size.
    pub s_inode_size: PowerOfTwo,
    /// Inodes of one block.
    pub inodes_per_block: PowerOfTwo,
    /// Blocks of a group's inode table.
    pub inode_table_blocks: u32,
    /// Bytes of the fields that a new inode has beyond the first 128: a multiple of 4, and within the inode.
    pub s_want_extra_isize: u16,
    /// Size of a group descriptor: 32, or 64 to 1024 with `64bit`.
    pub s_desc_size: PowerOfTwo,
    /// Group descriptors of one block.
    pub descriptors_per_block: PowerOfTwo,
    /// Blocks that hold the descriptors of all groups.
    pub descriptor_blocks: u32,
    /// How many groups there are; the last may be short.
    pub group_count: NonZero<u32>,
    /// Blocks kept free behind the group descriptors, for growth.
    pub s_reserved_gdt_blocks: u16,
    /// With `meta_bg`: the first descriptor block that lies in its own groups.
    pub s_first_meta_bg: u32,
    /// With `sparse_super2`: the groups that hold copies of the superblock.
    pub s_backup_bgs: [u32; 2],
    pub s_uuid: [u8; 16],
    /// The inode of the journal; 0 if it lies on a device of its own.
    pub s_journal_inum: u32,
    /// The seed of the directories' hash.
    pub s_hash_seed: [u32; 4],
    /// The hash function of a directory that gets an index.
    pub s_def_hash_version: u8,
    /// The user who may take reserved blocks like root.
    pub s_def_resuid: u32,
    /// Bit 0: directory hashes take characters as signed; bit 1: as unsigned.
    pub s_flags: u32,
    /// `s_errors`: what is to be done when damage is found.
    s_errors: u16,
    checksum_seed: u32,
    pub compat: Compat,
    pub incompat: Incompat,
    pub ro_compat: RoCompat,
}

impl Superblock {
    /// Reads and checks the superblock of the volume in `region`.
    pub(super) fn read<R: Region>(region: &R) -> Result<Self, MountError> {
        let length = region.len();
        let Some(raw) = region.bytes(OFFSET, LENGTH) else {
            return Err(MountError::NoSuperblock { region: length });
        };
        let superblock = Self::parse(raw)?;
        let volume = superblock.s_blocks_count.checked_mul(u64::from(superblock.block_size));
        if volume.is_none_or(|volume| volume > length) {
            return Err(MountError::Truncated { volume: volume.unwrap_or(u64::MAX), region: length });
        }
        Ok(superblock)
    }

    /// Parses `raw`, [`LENGTH`] bytes.
    pub(super) fn parse(raw: &[u8]) -> Result<Self, MountError> {
        check_checksum(raw)?;
        Self::parse_fields(raw)
    }

    /// Parses `raw` whatever its checksum is.
    pub(super) fn parse_fields(raw: &[u8]) -> Result<Self, MountError> {
        let compat = Compat::from_bits_retain(le32(raw, 0x5c));
        let incompat = Incompat::from_bits_retain(le32(raw, 0x60));
        let ro_compat = RoCompat::from_bits_retain(le32(raw, 0x64));
        check_identity(raw)?;
        check_features(incompat, ro_compat)?;
        check_state(le16(raw, 0x3a));

        let s_log_block_size = le32(raw, 0x18);
        let block_size = match s_log_block_size {
            0 => PowerOfTwo::new(1024),
            1 => PowerOfTwo::new(2048),
            2 => PowerOfTwo::new(4096),
            _ => None,
        };
        let block_size = expect_some(
            "s_log_block_size",
            s_log_block_size,
            block_size,
            "0, 1 or 2 (blocks of 1, 2 or 4 KiB)",
        )?;
        let bits_of_a_block = bits_of(block_size);

        let wide = incompat.contains(Incompat::BLOCKS_64BIT);
        let halves = |low, high| if wide { split64(raw, low, high) } else { u64::from(le32(raw, low)) };
        let s_blocks_count = halves(0x4, 0x150);
        let s_first_data_block = le32(raw, 0x14);
        within(
            "s_first_data_block",
            s_first_data_block,
            s_first_data_block == u32::from(block_size.get() == 1024),
            "1 with blocks of 1 KiB, else 0",
        )?;
        let s_blocks_per_group = le32(raw, 0x20);
        let s_blocks_per_group = expect_some(
            "s_blocks_per_group",
            s_blocks_per_group,
            NonZero::new(s_blocks_per_group).filter(|count| (8..=bits_of_a_block).contains(&count.get())),
            "8 to the bits of a block",
        )?;

        let s_inode_size = le16(raw, 0x58);
        let inode_size = expect_some(
            "s_inode_size",
            s_inode_size,
            PowerOfTwo::new(s_inode_size.into())
                .filter(|size| (128..=block_size.get()).contains(&size.get())),
            "a power of two from 128 to the block size",
        )?;
        // What Linux gives a new inode if the volume does not say: all fields that it knows.
        let s_want_extra_isize = match le16(raw, 0x15e) {
            wanted if wanted >= DEFAULT_EXTRA_ISIZE && wanted.is_multiple_of(4) => {
                wanted.min(s_inode_size.saturating_sub(128))
            }
            _ => DEFAULT_EXTRA_ISIZE.min(s_inode_size.saturating_sub(128)),
        };
        let s_inodes_per_group = le32(raw, 0x28);
        let inodes_per_block = block_size.split_into(inode_size);
        let s_inodes_per_group = expect_some(
            "s_inodes_per_group",
            s_inodes_per_group,
            NonZero::new(s_inodes_per_group)
                .filter(|count| (inodes_per_block.get()..=bits_of_a_block).contains(&count.get())),
            "the inodes of a block to the bits of a block",
        )?;
        let s_first_ino = le32(raw, 0x54);
        within("s_first_ino", s_first_ino, s_first_ino >= 11, "at least 11")?;

        let (s_desc_size, allowed) = if wide { (le16(raw, 0xfe), 64..=1024) } else { (32, 32..=32) };
        let s_desc_size = expect_some(
            "s_desc_size",
            s_desc_size,
            PowerOfTwo::new(s_desc_size.into()).filter(|size| allowed.contains(&size.get())),
            "a power of two from 64 to 1024",
        )?;
        let descriptors_per_block = block_size.split_into(s_desc_size);

        let blocks = s_blocks_count.checked_sub(u64::from(s_first_data_block)).and_then(NonZero::new);
        let blocks = expect_some("s_blocks_count", s_blocks_count, blocks, "more")?;
        let group_count = blocks.div_ceil(NonZero::<u64>::from(s_blocks_per_group));
        let group_count = expect_some(
            "s_blocks_count",
            s_blocks_count,
            NonZero::<u32>::try_from(group_count).ok(),
            "less than 2^32 groups",
        )?;
        let s_inodes_count = le32(raw, 0);
        within(
            "s_inodes_count",
            s_inodes_count,
            group_count.checked_mul(s_inodes_per_group).is_some_and(|count| count.get() == s_inodes_count),
            "s_inodes_per_group for each group",
        )?;

        let s_first_meta_bg = le32(raw, 0x104);
        let descriptor_blocks = blocks_for(group_count, descriptors_per_block);
        within(
            "s_first_meta_bg",
            s_first_meta_bg,
            !incompat.contains(Incompat::META_BG) || s_first_meta_bg <= descriptor_blocks,
            "at most the number of descriptor blocks",
        )?;

        let s_uuid = bytes(raw, 0x68);
        let checksum_seed =
            if incompat.contains(Incompat::CSUM_SEED) { le32(raw, 0x270) } else { crc32c(u32::MAX, &s_uuid) };
        Ok(Self {
            s_inodes_count,
            s_blocks_count,
            s_r_blocks_count: halves(0x8, 0x154),
            s_first_data_block,
            block_size,
            s_blocks_per_group,
            s_inodes_per_group,
            s_first_ino,
            s_inode_size: inode_size,
            inodes_per_block,
            inode_table_blocks: blocks_for(s_inodes_per_group, inodes_per_block),
            s_want_extra_isize,
            s_desc_size,
            descriptors_per_block,
            descriptor_blocks,
            group_count,
            s_reserved_gdt_blocks: le16(raw, 0xce),
            s_first_meta_bg,
            s_backup_bgs: [le32(raw, 0x24c), le32(raw, 0x250)],
            s_uuid,
            s_journal_inum: le32(raw, 0xe0),
            s_hash_seed: [le32(raw, 0xec), le32(raw, 0xf0), le32(raw, 0xf4), le32(raw, 0xf8)],
            s_def_hash_version: le8(raw, 0xfc),
            s_def_resuid: u32::from(le16(raw, 0x50)),
            s_flags: le32(raw, 0x160),
            s_errors: le16(raw, 0x3c),
            checksum_seed,
            compat,
            incompat,
            ro_compat,
        })
    }

    /// Whether all metadata has CRC-32C checksums.
    pub(super) fn has_metadata_csum(&self) -> bool {
        self.ro_compat.contains(RoCompat::METADATA_CSUM)
    }

    /// Whether group descriptors have checksums and say which inodes were never used.
    pub(super) fn has_group_checksums(&self) -> bool {
        self.ro_compat.intersects(RoCompat::METADATA_CSUM.union(RoCompat::GDT_CSUM))
    }

    /// Whether directories may be longer than 4 GiB and hashed in three levels.
    pub(super) fn has_large_dir(&self) -> bool {
        self.incompat.contains(Incompat::LARGEDIR)
    }

    /// Whether nobody should change the volume once damage was found: everything but "continue", as Linux takes it.
    pub(super) fn read_only_on_error(&self) -> bool {
        self.s_errors != ERRORS_CONTINUE
    }

    /// Whether attribute values may lie in inodes of their own.
    pub(super) fn has_ea_inode(&self) -> bool {
        self.incompat.contains(Incompat::EA_INODE)
    }

    /// Whether directory entries carry the kind of what they name.
    pub(super) fn has_filetype(&self) -> bool {
        self.incompat.contains(Incompat::FILETYPE)
    }

    /// Whether a directory may have more directories than its link count can say.
    pub(super) fn has_dir_nlink(&self) -> bool {
        self.ro_compat.contains(RoCompat::DIR_NLINK)
    }

    /// The seed of every CRC-32C but the superblock's own.
    pub(super) fn checksum_seed(&self) -> u32 {
        self.checksum_seed
    }

    /// Units of 512 bytes, as inodes count space, of one block.
    pub(super) fn sectors_per_block(&self) -> u32 {
        self.block_size.get() / 512
    }

    /// How long a bitmap is that fills a block, in bits.
    pub(super) fn bits_of_a_block(&self) -> u32 {
        bits_of(self.block_size)
    }

    /// Whether `group` starts with the superblock or a copy.
    pub(super) fn group_has_superblock(&self, group: u32) -> bool {
        if group == 0 {
            true
        } else if self.compat.contains(Compat::SPARSE_SUPER2) {
            self.s_backup_bgs.contains(&group)
        } else if group == 1 || !self.ro_compat.contains(RoCompat::SPARSE_SUPER) {
            true
        } else {
            [3, 5, 7].iter().any(|&base| is_power(group, base))
        }
    }
}

/// Whether `number` is `base` to some power.
fn is_power(number: u32, base: u32) -> bool {
    let mut power = Some(1_u32);
    while let Some(below) = power.filter(|power| *power < number) {
        power = below.checked_mul(base);
    }
    power == Some(number)
}

/// How many bits blocks of `block_size` bytes have.
fn bits_of(block_size: PowerOfTwo) -> u32 {
    block_size.get().saturating_mul(8)
}

/// How many blocks hold `count` structures.
fn blocks_for(count: NonZero<u32>, per_block: PowerOfTwo) -> u32 {
    u32::try_from(per_block.count_for(count.get().into())).unwrap_or(u32::MAX)
}

/// A range check with the field's name.
fn within(
    name: &'static str,
    value: impl Into<u64>,
    holds: bool,
    expected: &'static str,
) -> Result<(), MountError> {
    expect_some(name, value, holds.then_some(()), expected)
}

/// What a field stands for, if its value is in range.
fn expect_some<T>(
    name: &'static str,
    value: impl Into<u64>,
    found: Option<T>,
    expected: &'static str,
) -> Result<T, MountError> {
    found.ok_or_else(|| MountError::Field { name, value: value.into(), expected })
}

/// That this is an ext4 superblock of a revision that is served, and undamaged.
fn check_identity(raw: &[u8]) -> Result<(), MountError> {
    let s_magic = le16(raw, 0x38);
    if s_magic != MAGIC {
        return Err(MountError::Magic(s_magic));
    }
    let s_rev_level = le32(raw, 0x4c);
    if s_rev_level != 1 {
        return Err(MountError::Revision(s_rev_level));
    }
    let s_creator_os = le32(raw, 0x48);
    if s_creator_os == CREATOR_HURD {
        return Err(MountError::CreatorOs(s_creator_os));
    }
    Ok(())
}

/// That the checksum matches, if `raw` is a superblock that has one.
fn check_checksum(raw: &[u8]) -> Result<(), MountError> {
    let ro_compat = RoCompat::from_bits_retain(le32(raw, 0x64));
    if le16(raw, 0x38) == MAGIC && ro_compat.contains(RoCompat::METADATA_CSUM) {
        let s_checksum_type = le8(raw, 0x175);
        if s_checksum_type != 1 {
            return Err(MountError::ChecksumType(s_checksum_type));
        }
        let stored = le32(raw, CHECKSUM_OFFSET);
        let computed = crc32c(u32::MAX, raw.get(..CHECKSUM_OFFSET).unwrap_or_default());
        if stored != computed {
            return Err(MountError::Checksum { stored, computed });
        }
    }
    Ok(())
}

/// That every feature is one that a reader like this can honour.
fn check_features(incompat: Incompat, ro_compat: RoCompat) -> Result<(), MountError> {
    let refused = incompat.difference(Incompat::HONOURED.union(Incompat::RECOVER));
    if !refused.is_empty() {
        return Err(MountError::Incompatible(refused));
    }
    if ro_compat.contains(RoCompat::BIGALLOC) {
        return Err(MountError::Unsupported(RoCompat::BIGALLOC));
    }
    let unknown = ro_compat.difference(RoCompat::KNOWN);
    if !unknown.is_empty() {
        log::warn!("ext4: reading past features unknown here: {unknown}");
    }
    Ok(())
}

/// Warns of a volume that should be checked. Reading it harms nobody: nor do orphans (`s_last_orphan`, or the feature
/// `orphan_present`), which have no name left or are longer on disk than their size says.
fn check_state(s_state: u16) {
    if s_state & STATE_ERROR != 0 {
        log::warn!(
            "ext4: errors were found in the volume earlier (s_state {s_state:#x}): run `e2fsck -f IMAGE`"
        );
    } else if s_state & STATE_VALID == 0 {
        log::warn!(
            "ext4: the volume was not unmounted cleanly (s_state {s_state:#x}): run `e2fsck -p IMAGE`"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::Volume;
    use crate::ext4::testing::{Image, set_superblock};
    use std::string::ToString;
    use std::vec::Vec;

    fn small() -> Vec<u8> {
        Image::new("256K", &["-b", "1024", "-O", "^has_journal"], |_| {}).bytes()
    }

    /// Why the volume `bytes` does not mount when the superblock's field at `offset` has the bytes `value`.
    fn refusal(bytes: &[u8], offset: usize, value: &[u8]) -> Option<MountError> {
        let mut bytes = bytes.to_vec();
        set_superblock(&mut bytes, offset, value);
        Volume::mount(bytes).err()
    }

    #[test]
    fn what_mkfs_makes_with_each_supported_feature_mounts() {
        for options in [
            &["-b", "1024"][..],
            &["-b", "2048"],
            &["-b", "4096"],
            &["-t", "ext2"],
            &["-t", "ext3"],
            &["-I", "128"],
            &["-I", "1024", "-b", "1024"],
            &["-O", "^64bit"],
            &["-O", "^metadata_csum,uninit_bg"],
            &["-O", "^metadata_csum,^uninit_bg"],
            &["-O", "^flex_bg"],
            &["-O", "meta_bg,^resize_inode", "-b", "1024", "-g", "256", "-N", "512"],
            &["-O", "sparse_super2", "-b", "1024", "-g", "256"],
            &["-O", "inline_data,ea_inode,large_dir,metadata_csum_seed"],
            &["-O", "quota,project"],
            &["-O", "verity"],
        ] {
            let image = Image::new("24M", options, |_| {});
            if let Err(error) = Volume::mount(image.bytes()) {
                panic!("{options:?}: {error}");
            }
        }
    }

    #[test]
    fn what_mkfs_makes_with_a_feature_that_is_not_served_is_refused_by_name() {
        for feature in ["encrypt", "casefold", "mmp", "bigalloc"] {
            let bytes = Image::new("24M", &["-O", feature], |_| {}).bytes();
            let message = Volume::mount(bytes).unwrap_err().to_string();
            assert_eq!(message, std::format!("unsupported features: {feature}"));
        }
    }

    #[test]
    fn each_incompatible_feature_that_is_not_honoured_is_refused_alone() {
        let bytes = small();
        let features = Incompat::from_bits_retain(le32(&bytes[1024..], 0x60));
        for bit in (0..32).map(|shift| Incompat::from_bits_retain(1 << shift)) {
            let refused = refusal(&bytes, 0x60, &(features | bit).bits().to_le_bytes());
            if bit == Incompat::RECOVER {
                assert_eq!(refused, Some(MountError::NeedsRecovery));
            } else if Incompat::HONOURED.contains(bit) {
                assert!(!matches!(refused, Some(MountError::Incompatible(_))), "{bit}: {refused:?}");
            } else {
                assert_eq!(refused, Some(MountError::Incompatible(bit)));
            }
        }
    }

    #[test]
    fn a_feature_that_only_writers_must_know_is_read_past() {
        let bytes = small();
        let features = le32(&bytes[1024..], 0x64);
        for bit in [0x1000, 0x4000, 0x1_0000, 0x8000_0000] {
            assert_eq!(refusal(&bytes, 0x64, &u32::to_le_bytes(features | bit)), None, "{bit:#x}");
        }
    }

    #[test]
    fn a_volume_whose_journal_must_be_replayed_is_refused_and_the_message_says_what_to_do() {
        let image = Image::new("8M", &["-b", "1024"], |_| {});
        image.debugfs("feature needs_recovery");
        let error = Volume::mount(image.bytes()).unwrap_err();
        assert_eq!(error, MountError::NeedsRecovery);
        assert!(error.to_string().contains("e2fsck -p IMAGE"), "{error}");
    }

    #[test]
    fn any_changed_byte_under_the_checksum_is_noticed() {
        let bytes = small();
        for offset in 0..LENGTH {
            let mut bytes = bytes.clone();
            bytes[1024 + offset] ^= 0x10;
            assert!(Volume::mount(bytes).is_err(), "byte {offset:#x}");
        }
    }

    #[test]
    fn fields_out_of_their_range_are_refused_by_name() {
        let bytes = small();
        for (name, offset, value) in [
            ("s_log_block_size", 0x18, 3),
            ("s_log_block_size", 0x18, u32::MAX),
            ("s_first_data_block", 0x14, 0),
            ("s_blocks_per_group", 0x20, 0),
            ("s_blocks_per_group", 0x20, 8193),
            ("s_inodes_per_group", 0x28, 0),
            ("s_inodes_per_group", 0x28, 8193),
            ("s_inodes_count", 0, 1),
            ("s_first_ino", 0x54, 2),
            ("s_blocks_count", 0x4, 1),
            ("s_blocks_count", 0x150, u32::MAX),
        ] {
            let found = refusal(&bytes, offset, &value.to_le_bytes());
            assert!(
                matches!(found, Some(MountError::Field { name: found, .. }) if found == name),
                "{name}: {found:?}"
            );
        }
        for (name, offset, value) in [
            ("s_inode_size", 0x58, 0u16),
            ("s_inode_size", 0x58, 192),
            ("s_inode_size", 0x58, 2048),
            ("s_desc_size", 0xfe, 0),
            ("s_desc_size", 0xfe, 32),
            ("s_desc_size", 0xfe, 2048),
        ] {
            let found = refusal(&bytes, offset, &value.to_le_bytes());
            assert!(
                matches!(found, Some(MountError::Field { name: found, .. }) if found == name),
                "{name}: {found:?}"
            );
        }
    }

    #[test]
    fn what_is_no_volume_of_this_kind_is_said_so() {
        let bytes = small();
        assert_eq!(refusal(&bytes, 0x38, &[0, 0]), Some(MountError::Magic(0)));
        assert_eq!(refusal(&bytes, 0x4c, &[0]), Some(MountError::Revision(0)));
        assert_eq!(refusal(&bytes, 0x48, &[1]), Some(MountError::CreatorOs(1)));
        assert_eq!(refusal(&bytes, 0x175, &[2]), Some(MountError::ChecksumType(2)));
    }

    #[test]
    fn a_region_that_ends_before_the_volume_is_refused_at_every_length() {
        let bytes = small();
        let lengths = (0..3000).chain((3000..bytes.len()).step_by(499)).chain([bytes.len() - 1]);
        for length in lengths {
            let error = Volume::mount(bytes[..length].to_vec()).unwrap_err();
            let region = length as u64;
            if length < 2048 {
                assert_eq!(error, MountError::NoSuperblock { region });
            } else {
                assert_eq!(error, MountError::Truncated { volume: bytes.len() as u64, region });
            }
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(Volume::mount(longer).is_ok());
    }

    #[test]
    fn superblock_copies_lie_in_the_first_groups_and_in_powers_of_three_five_and_seven() {
        let bytes = small();
        let superblock = Superblock::read(&bytes).unwrap();
        let copies: Vec<u32> = (0..130).filter(|group| superblock.group_has_superblock(*group)).collect();
        assert_eq!(copies, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }
}
