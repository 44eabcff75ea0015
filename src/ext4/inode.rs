// SPDX-License-Identifier: MIT OR Apache-2.0

//! Inodes: found through their group's table, checked, and turned into the attributes of a file.
//! Field names are the format's (`struct ext4_inode`).

use core::fmt;
use core::ops::Range;

use bitflags::bitflags;

use super::checksum::crc32c;
use super::error::{Damage, Error};
use super::features::{Incompat, RoCompat};
use super::field::{le16, le32, split32, split64};
use super::timestamp;
use super::verified::Kind;
use super::{Superblock, Volume};
use crate::fs::{Attributes, Errno, FileKind, Node, Timestamp};
use crate::mem::region::Region;

/// The root directory.
pub(super) const ROOT: u32 = 2;
/// Where the fields end that every inode has.
pub(super) const GOOD_OLD_SIZE: usize = 128;
/// `i_links_count` in the inode.
pub(super) const LINKS_COUNT: usize = 0x1a;
/// `i_block` in the inode.
pub(super) const BLOCK_OFFSET: usize = 0x28;
/// Where the two halves of the checksum lie.
pub(super) const CHECKSUM_LO: usize = 0x7c;
pub(super) const CHECKSUM_HI: usize = 0x82;

bitflags! {
    /// `i_flags`, as far as a reader needs them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct InodeFlags: u32 {
        /// The content is encrypted.
        const ENCRYPT = 0x800;
        /// The directory has a hash tree.
        const INDEX = 0x1000;
        /// Nothing of the file may change.
        const IMMUTABLE = 0x10;
        /// The file may only be appended to.
        const APPEND = 0x20;
        /// `i_blocks` counts file system blocks.
        const HUGE_FILE = 0x4_0000;
        /// The content is mapped by extents.
        const EXTENTS = 0x8_0000;
        /// The inode holds the value of an extended attribute.
        const EA_INODE = 0x20_0000;
        /// The content lies in the inode.
        const INLINE_DATA = 0x1000_0000;
        /// The directory's names ignore case.
        const CASEFOLD = 0x4000_0000;
        const _ = !0;
    }
}

/// An inode that passed its checks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inode<'v> {
    pub number: u32,
    /// The block that it lies in.
    pub block: u64,
    /// `st_mode`.
    pub mode: u16,
    /// The kind that `mode` says.
    pub kind: FileKind,
    pub uid: u32,
    pub gid: u32,
    /// Length in bytes; at most `i64::MAX`.
    pub size: u64,
    pub links: u16,
    pub flags: InodeFlags,
    /// `i_generation`.
    pub generation: u32,
    /// `i_version`, both halves.
    pub version: u64,
    pub accessed: Timestamp,
    pub modified: Timestamp,
    pub changed: Timestamp,
    pub created: Option<Timestamp>,
    /// Space taken outside of the inode, in units of 512 bytes.
    pub blocks512: u64,
    /// The block of the extended attributes; 0 for none. Not checked against the volume.
    pub file_acl: u64,
    /// The seed of the volume's checksums.
    pub volume_seed: u32,
    /// `i_block`: root of the extent tree or block map, target of a short symbolic link, inline content, or device number.
    pub i_block: &'v [u8; 60],
    /// What lies between the last field and the end of the inode: the attributes within it. Empty in an inode of 128 bytes.
    pub in_inode_attributes: &'v [u8],
}

/// What is wrong with an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InodeFault {
    /// No inode has that number.
    OutOfRange {
        /// `s_inodes_count`.
        inodes_count: u32,
    },
    /// A reserved inode, which no name may refer to.
    Reserved,
    /// Something refers to an inode that is free.
    NotInUse,
    /// An inode that holds an attribute value is referred to as a file.
    AttributeValue,
    /// `i_checksum` does not match.
    Checksum {
        /// What the inode says; the high half is zero where the inode has none.
        stored: u32,
        /// What it should say.
        computed: u32,
    },
    /// `i_extra_isize` reaches over the end of the inode, or is no multiple of four.
    ExtraSize(u16),
    /// `i_mode` names no kind of file.
    Mode(u16),
    /// `i_size` is beyond what the inode can map.
    Size(u64),
    /// A flag that belongs to a feature the volume does not have.
    Flag(&'static str),
    /// It should be a directory.
    NotDirectory,
    /// The directories above it do not lead to the root.
    Unreachable,
}

impl fmt::Display for InodeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OutOfRange { inodes_count } => write!(f, "there are only {inodes_count} inodes"),
            Self::Reserved => f.write_str("it is reserved"),
            Self::NotInUse => f.write_str("it is not in use"),
            Self::AttributeValue => f.write_str("it holds the value of an attribute and is no file"),
            Self::Checksum { stored, computed } => {
                write!(f, "i_checksum is {stored:#010x}, computed {computed:#010x}")
            }
            Self::ExtraSize(size) => write!(f, "i_extra_isize is {size}"),
            Self::Mode(mode) => write!(f, "i_mode {mode:#o} names no kind of file"),
            Self::Size(size) => write!(f, "i_size {size} is more than it can map"),
            Self::Flag(name) => write!(f, "it uses {name}, which the volume does not have"),
            Self::NotDirectory => f.write_str("it is no directory"),
            Self::Unreachable => f.write_str("the directories above it do not lead to the root"),
        }
    }
}

impl InodeFlags {
    /// Either keeps a file's names and attributes as they are.
    pub(super) const UNCHANGEABLE: Self = Self::IMMUTABLE.union(Self::APPEND);
}

impl<R: Region> Volume<R> {
    /// The inode `number`: the root, or any that is not reserved, and has a name or is open.
    pub(super) fn inode(&self, number: u32) -> Result<Inode<'_>, Error> {
        let inode = self.orphan(number)?;
        if inode.links == 0 && !self.attended.is_open(number) {
            return Err(Damage::Inode { inode: number, fault: InodeFault::NotInUse }.into());
        }
        Ok(inode)
    }

    /// The inode `number` whether it has a name or not: the root, or any that is not reserved.
    pub(super) fn orphan(&self, number: u32) -> Result<Inode<'_>, Error> {
        if number != ROOT && number < self.superblock.s_first_ino {
            return Err(Damage::Inode { inode: number, fault: InodeFault::Reserved }.into());
        }
        self.allocated_inode(number)
    }

    /// That attributes of inode `number` may change.
    ///
    /// # Errors
    /// EPERM.
    pub(super) fn check_changeable(&self, number: u32) -> Result<(), Error> {
        let unchangeable = self.inode(number)?.flags.intersects(InodeFlags::UNCHANGEABLE);
        if unchangeable { Err(Errno::EPERM.into()) } else { Ok(()) }
    }

    /// The inode of the journal. It is needed before the journal is recovered, when its group descriptor may be half old and
    /// half new: of that only the place of the inode table is used, which never changes.
    pub(super) fn journal_inode(&self) -> Result<Inode<'_>, Error> {
        let number = self.superblock.s_journal_inum;
        let (group, index) = self.group_of_inode(number)?;
        let [_, _, table] = self.group_structures(group)?;
        let (block, range) = self.place_in_table(table.start, index);
        let raw = self.block(block)?.get(range).unwrap_or_default();
        let fail = |fault| Error::Corrupt(Damage::Inode { inode: number, fault });
        let inode = Inode::parse(&self.superblock, number, block, raw, false).map_err(fail)?;
        if inode.links == 0 { Err(fail(InodeFault::NotInUse)) } else { Ok(inode) }
    }

    /// The inode `number`, also one that has no name left but is not free yet.
    pub(super) fn allocated_inode(&self, number: u32) -> Result<Inode<'_>, Error> {
        let fail = |fault| Error::Corrupt(Damage::Inode { inode: number, fault });
        let (group, index) = self.group_of_inode(number)?;
        let table = self.inode_table(group)?;
        if index >= table.used_inodes {
            return Err(fail(InodeFault::NotInUse));
        }
        let (block, range) = self.place_in_table(table.start, index);
        let in_block = range.start / self.superblock.s_inode_size;
        let raw = self.block(block)?.get(range).unwrap_or_default();
        let verified = self.verified.has(Kind::Inodes, block, in_block);
        let inode = Inode::parse(&self.superblock, number, block, raw, verified).map_err(fail)?;
        if !verified {
            self.verified.note(Kind::Inodes, block, in_block);
        }
        Ok(inode)
    }

    /// Where inode `number` lies: the block, and which bytes of it.
    pub(super) fn inode_place(&self, number: u32) -> Result<(u64, Range<usize>), Error> {
        let (group, index) = self.group_of_inode(number)?;
        Ok(self.place_in_table(self.inode_table(group)?.start, index))
    }

    /// The group of inode `number`, and its index there.
    fn group_of_inode(&self, number: u32) -> Result<(u32, u32), Error> {
        let superblock = &self.superblock;
        let out_of_range = InodeFault::OutOfRange { inodes_count: superblock.s_inodes_count };
        let Some(index) = number.checked_sub(1).filter(|_| number <= superblock.s_inodes_count) else {
            return Err(Damage::Inode { inode: number, fault: out_of_range }.into());
        };
        Ok((index / superblock.s_inodes_per_group, index % superblock.s_inodes_per_group))
    }

    /// Where inode `index` of the inode table that begins with block `table` lies.
    fn place_in_table(&self, table: u64, index: u32) -> (u64, Range<usize>) {
        let per_block = self.superblock.inodes_per_block;
        let block = table.saturating_add(u64::from(index / per_block));
        (block, self.superblock.s_inode_size.place(index % per_block))
    }
}

impl<'v> Inode<'v> {
    /// Parses `raw`, `s_inode_size` bytes of `block`. The checksum is not looked at if it was `verified`.
    fn parse(
        superblock: &Superblock,
        number: u32,
        block: u64,
        raw: &'v [u8],
        verified: bool,
    ) -> Result<Self, InodeFault> {
        let mode = le16(raw, 0);
        let links = le16(raw, LINKS_COUNT);
        if mode == 0 && links == 0 {
            return Err(InodeFault::NotInUse);
        }
        let i_extra_isize = le16(raw, GOOD_OLD_SIZE);
        let fields_end = GOOD_OLD_SIZE + usize::from(i_extra_isize);
        if raw.len() > GOOD_OLD_SIZE && (fields_end > raw.len() || !i_extra_isize.is_multiple_of(4)) {
            return Err(InodeFault::ExtraSize(i_extra_isize));
        }
        // Fields beyond i_extra_isize are not fields but attributes: cut off, they read as zero.
        let fields = raw.get(..fields_end).unwrap_or(raw);

        let generation = le32(raw, 0x64);
        let volume_seed = superblock.checksum_seed();
        if !verified && superblock.has_metadata_csum() {
            check_checksum(checksum_seed(volume_seed, number, generation), raw, fields)?;
        }
        let kind = FileKind::from_mode(u32::from(mode)).ok_or(InodeFault::Mode(mode))?;
        let flags = InodeFlags::from_bits_retain(le32(raw, 0x20));
        check_flags(superblock, flags)?;

        let i_block = raw
            .get(BLOCK_OFFSET..)
            .and_then(<[u8]>::first_chunk)
            .ok_or(InodeFault::ExtraSize(i_extra_isize))?;
        // An i_extra_isize of 0 means that the space behind the fields was never set up.
        let attributes = if i_extra_isize == 0 { &[] } else { raw.get(fields_end..).unwrap_or_default() };
        let time = |seconds, extra| timestamp::decode(le32(fields, seconds), le32(fields, extra));
        let has_creation = fields.len() >= 0x94;
        let wide = superblock.incompat.contains(Incompat::BLOCKS_64BIT);
        Ok(Self {
            number,
            block,
            mode,
            kind,
            uid: split32(raw, 0x2, 0x78),
            gid: split32(raw, 0x18, 0x7a),
            size: size(superblock, kind, raw)?,
            links,
            flags,
            generation,
            version: split64(fields, 0x24, 0x98),
            accessed: time(0x8, 0x8c),
            modified: time(0x10, 0x88),
            changed: time(0xc, 0x84),
            created: has_creation.then(|| time(0x90, 0x94)),
            blocks512: blocks512(superblock, flags, raw),
            file_acl: u64::from(le32(raw, 0x68)) | if wide { u64::from(le16(raw, 0x76)) << 32 } else { 0 },
            volume_seed,
            i_block,
            in_inode_attributes: attributes,
        })
    }

    /// CRC-32C of number and generation: the seed for what belongs to the inode.
    pub(super) fn checksum_seed(&self) -> u32 {
        checksum_seed(self.volume_seed, self.number, self.generation)
    }

    /// What the file is known by outside.
    pub(super) fn node(&self) -> Node {
        Node(u64::from(self.number) | u64::from(self.generation) << 32)
    }

    /// What `stat` tells.
    pub(super) fn attributes(&self, block_size: u32) -> Attributes {
        Attributes {
            kind: self.kind,
            mode: u32::from(self.mode),
            uid: self.uid,
            gid: self.gid,
            links: u64::from(self.links),
            device: self.device(),
            size: self.size,
            block_size: u64::from(block_size),
            blocks: self.blocks512.saturating_add(self.inline_sectors()),
            accessed: self.accessed,
            modified: self.modified,
            changed: self.changed,
            created: self.created,
            generation: Some(u64::from(self.generation)),
            data_version: Some(self.version),
        }
    }

    /// The sectors that `stat` counts for a regular file within its inode, as Linux does: else tools take it for one
    /// hole and do not read it.
    fn inline_sectors(&self) -> u64 {
        let inline = self.kind == FileKind::Regular && self.flags.contains(InodeFlags::INLINE_DATA);
        if inline { self.size.div_ceil(512) } else { 0 }
    }

    /// The device number of a device node: from `i_block[0]` in the old 8-bit pair, else from `i_block[1]` in the
    /// packing that [`Attributes::device`] uses too.
    fn device(&self) -> u64 {
        if !matches!(self.kind, FileKind::BlockDevice | FileKind::CharacterDevice) {
            return 0;
        }
        match le32(self.i_block, 0) {
            0 => u64::from(le32(self.i_block, 4)),
            // Old: major in bits 8…15, minor in bits 0…7. As major and minor are small, both packings agree.
            old => u64::from(old & 0xffff),
        }
    }
}

/// The seed of the checksums of what belongs to inode `number`; `seed` is the volume's.
pub(super) fn checksum_seed(seed: u32, number: u32, generation: u32) -> u32 {
    crc32c(crc32c(seed, &number.to_le_bytes()), &generation.to_le_bytes())
}

/// What the checksum of the inode `raw` should be, whose fields end at `fields_end`. Where they end before the high half
/// of the checksum, only the low half counts.
pub(super) fn checksum(seed: u32, raw: &[u8], fields_end: usize) -> u32 {
    let piece = |from: usize, to: usize| raw.get(from..to).unwrap_or_default();
    let sum = crc32c(crc32c(seed, piece(0, CHECKSUM_LO)), &[0; 2]);
    let sum = crc32c(sum, piece(CHECKSUM_LO + 2, GOOD_OLD_SIZE));
    if fields_end >= CHECKSUM_HI + 2 {
        let sum = crc32c(crc32c(sum, piece(GOOD_OLD_SIZE, CHECKSUM_HI)), &[0; 2]);
        crc32c(sum, piece(CHECKSUM_HI + 2, raw.len()))
    } else {
        crc32c(sum, piece(GOOD_OLD_SIZE, raw.len())) & 0xffff
    }
}

/// Compares the checksum. `fields` ends where `i_extra_isize` says.
fn check_checksum(seed: u32, raw: &[u8], fields: &[u8]) -> Result<(), InodeFault> {
    let stored = if fields.len() >= CHECKSUM_HI + 2 {
        split32(raw, CHECKSUM_LO, CHECKSUM_HI)
    } else {
        u32::from(le16(raw, CHECKSUM_LO))
    };
    let computed = checksum(seed, raw, fields.len());
    if stored == computed { Ok(()) } else { Err(InodeFault::Checksum { stored, computed }) }
}

/// That no flag needs a feature that the volume does not have.
fn check_flags(superblock: &Superblock, flags: InodeFlags) -> Result<(), InodeFault> {
    let needs = [
        (InodeFlags::ENCRYPT, Incompat::ENCRYPT, "encrypt"),
        (InodeFlags::CASEFOLD, Incompat::CASEFOLD, "casefold"),
        (InodeFlags::INLINE_DATA, Incompat::INLINE_DATA, "inline_data"),
        (InodeFlags::EA_INODE, Incompat::EA_INODE, "ea_inode"),
    ];
    for (flag, feature, name) in needs {
        if flags.contains(flag) && !superblock.incompat.contains(feature) {
            return Err(InodeFault::Flag(name));
        }
    }
    Ok(())
}

/// `i_size`: its high half counts in regular files, and with large_dir in all.
fn size(superblock: &Superblock, kind: FileKind, raw: &[u8]) -> Result<u64, InodeFault> {
    let size = if kind == FileKind::Regular || superblock.has_large_dir() {
        split64(raw, 0x4, 0x6c)
    } else {
        u64::from(le32(raw, 0x4))
    };
    // Logical block numbers have 32 bits.
    let limit = u64::from(superblock.block_size) << 32;
    if size <= limit { Ok(size) } else { Err(InodeFault::Size(size)) }
}

/// The space taken, in units of 512 bytes.
fn blocks512(superblock: &Superblock, flags: InodeFlags, raw: &[u8]) -> u64 {
    let low = u64::from(le32(raw, 0x1c));
    if !superblock.ro_compat.contains(RoCompat::HUGE_FILE) {
        return low;
    }
    let blocks = low | u64::from(le16(raw, 0x74)) << 32;
    if flags.contains(InodeFlags::HUGE_FILE) {
        blocks.saturating_mul(u64::from(superblock.sectors_per_block()))
    } else {
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::MountError;
    use crate::ext4::group::Group;
    use crate::ext4::testing::{Image, TestVolume};
    use crate::fs::{Errno, FileSystem};
    use std::format;
    use std::vec::Vec;

    /// Where inode `number` lies in its volume.
    fn place(volume: &TestVolume, number: u32) -> usize {
        let superblock = volume.superblock();
        let Group { inode_table, .. } = volume.group((number - 1) / superblock.s_inodes_per_group).unwrap();
        let index = (number - 1) % superblock.s_inodes_per_group;
        usize::try_from(inode_table).unwrap() * superblock.block_size.length()
            + index as usize * superblock.s_inode_size.length()
    }

    fn with_one_file(options: &[&str]) -> (Image, u32) {
        let image = Image::new("1M", options, |root| std::fs::write(root.join("file"), "content").unwrap());
        let number = image.inode("/file");
        (image, number)
    }

    fn attributes(image: &Image, number: u32) -> Attributes {
        let volume = image.mount();
        let generation = volume.inode(number).unwrap().generation;
        volume.attributes(Node(u64::from(number) | u64::from(generation) << 32)).unwrap()
    }

    fn fault(bytes: Vec<u8>, number: u32) -> Option<InodeFault> {
        match TestVolume::mount(bytes).unwrap().inode(number) {
            Err(Error::Corrupt(Damage::Inode { inode, fault })) if inode == number => Some(fault),
            _ => None,
        }
    }

    #[test]
    fn every_field_of_a_large_inode_is_told() {
        let (image, number) = with_one_file(&[]);
        let fields = [
            ("mode", "0106751"),
            ("uid", "0x12345678"),
            ("gid", "0x87654321"),
            ("links_count", "7"),
            ("generation", "0xfedcba98"),
            ("version", "0x11223344"),
            ("version_hi", "0x55667788"),
            ("atime", "@0xfffffffe"),
            ("atime_extra", "0x0000000c"),
            ("mtime", "@0x80000000"),
            ("mtime_extra", "0xee6b27fd"),
            ("ctime", "@0x7fffffff"),
            ("ctime_extra", "0x00000003"),
            ("crtime", "@0x00000001"),
            ("crtime_extra", "0x00000006"),
        ];
        for (field, value) in fields {
            image.debugfs(&format!("set_inode_field <{number}> {field} {value}"));
        }
        let attributes = attributes(&image, number);
        let time = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
        assert_eq!(
            attributes,
            Attributes {
                kind: FileKind::Regular,
                mode: 0o106_751,
                uid: 0x1234_5678,
                gid: 0x8765_4321,
                links: 7,
                device: 0,
                size: 7,
                block_size: 1024,
                blocks: 2,
                accessed: time(-2, 3),
                modified: time(0x8000_0000, 999_999_999),
                changed: time(0x3_7fff_ffff, 0),
                created: Some(time(0x2_0000_0001, 1)),
                generation: Some(0xfedc_ba98),
                data_version: Some(0x5566_7788_1122_3344),
            }
        );
    }

    #[test]
    fn a_small_inode_has_whole_seconds_and_no_creation() {
        let (image, number) = with_one_file(&["-I", "128"]);
        image.debugfs(&format!("set_inode_field <{number}> mtime @0x80000000"));
        let attributes = attributes(&image, number);
        assert_eq!(attributes.modified, Timestamp { seconds: -0x8000_0000, nanoseconds: 0 });
        assert_eq!((attributes.created, attributes.accessed.nanoseconds), (None, 0));
        assert!(image.mount().inode(number).unwrap().in_inode_attributes.is_empty());
    }

    #[test]
    fn the_space_behind_the_fields_is_the_attributes() {
        let (image, number) = with_one_file(&["-I", "512"]);
        let volume = image.mount();
        assert_eq!(volume.inode(number).unwrap().in_inode_attributes.len(), 512 - 128 - 32);
        image.debugfs(&format!("set_inode_field <{number}> extra_isize 0"));
        assert!(image.mount().inode(number).unwrap().in_inode_attributes.is_empty());
    }

    #[test]
    fn device_numbers_of_both_encodings_are_told_in_the_new_one() {
        let image = Image::new("1M", &[], |_| {});
        image.debugfs("mknod small c 4 65");
        image.debugfs("mknod large b 4095 65535");
        image.debugfs("mknod pipe p");
        let volume = image.mount();
        let node = |path| volume.attributes(Node(image.inode(path).into())).unwrap();
        let small = node("/small");
        assert_eq!((small.kind, small.device, small.mode >> 12), (FileKind::CharacterDevice, 0x441, 2));
        let large = node("/large");
        assert_eq!((large.kind, large.device), (FileKind::BlockDevice, 0x0fff_ffff));
        assert_eq!((node("/pipe").kind, node("/pipe").device), (FileKind::Fifo, 0));
    }

    #[test]
    fn blocks_of_a_huge_file_are_counted_in_blocks() {
        let (image, number) = with_one_file(&["-b", "4096"]);
        let flags = (InodeFlags::EXTENTS | InodeFlags::HUGE_FILE).bits();
        image.debugfs(&format!("set_inode_field <{number}> flags {flags:#x}"));
        image.debugfs(&format!("set_inode_field <{number}> blocks_hi 3"));
        let low = u64::from(le32(&image.bytes()[place(&image.mount(), number)..], 0x1c));
        assert_eq!(attributes(&image, number).blocks, (3 << 32 | low) * 8);
    }

    #[test]
    fn any_changed_byte_of_a_summed_inode_is_noticed() {
        for size in ["128", "256"] {
            let (image, number) = with_one_file(&["-I", size]);
            let volume = image.mount();
            let start = place(&volume, number);
            for offset in 0..volume.superblock().s_inode_size.length() {
                let mut bytes = image.bytes();
                bytes[start + offset] ^= 0x40;
                assert!(fault(bytes, number).is_some(), "inode size {size}, byte {offset:#x}");
            }
        }
    }

    #[test]
    fn damage_that_no_checksum_covers_is_named() {
        let (image, number) = with_one_file(&["-O", "^metadata_csum"]);
        let start = place(&image.mount(), number);
        let changed = |offset: usize, value: &[u8]| {
            let mut bytes = image.bytes();
            bytes[start + offset..start + offset + value.len()].copy_from_slice(value);
            fault(bytes, number)
        };
        assert_eq!(changed(0, &[0, 0x30]), Some(InodeFault::Mode(0x3000)));
        assert_eq!(changed(0x1a, &[0, 0]), Some(InodeFault::NotInUse));
        assert_eq!(changed(0x80, &[30, 0]), Some(InodeFault::ExtraSize(30)));
        assert_eq!(changed(0x80, &[132, 0]), Some(InodeFault::ExtraSize(132)));
        assert_eq!(changed(0x6f, &[1]), Some(InodeFault::Size(0x0100_0000_0000_0007)));
        assert_eq!(changed(0x21, &[0x08]), Some(InodeFault::Flag("encrypt")));
        assert_eq!(changed(0x23, &[0x10]), Some(InodeFault::Flag("inline_data")));
    }

    #[test]
    fn numbers_that_no_name_may_refer_to_are_refused() {
        let (image, _) = with_one_file(&[]);
        let volume = image.mount();
        let inodes_count = volume.superblock().s_inodes_count;
        let fault = |number| fault(image.bytes(), number);
        for number in [0, 1, 3, 8, 10] {
            assert_eq!(fault(number), Some(InodeFault::Reserved));
        }
        for number in [inodes_count + 1, u32::MAX] {
            assert_eq!(fault(number), Some(InodeFault::OutOfRange { inodes_count }));
        }
        assert_eq!(fault(inodes_count), Some(InodeFault::NotInUse));
        assert!(volume.inode(11).is_ok());
        assert_eq!(volume.attributes(Node(1)), Err(Errno::EUCLEAN));
        assert_eq!(volume.attributes(Node(u64::MAX)), Err(Errno::EUCLEAN));
        assert_eq!(volume.attributes(Node(inodes_count.into())), Err(Errno::ESTALE));
    }

    #[test]
    fn a_root_that_is_no_directory_fails_the_mount() {
        let image = Image::new("1M", &[], |_| {});
        image.debugfs("set_inode_field <2> mode 0100755");
        let fault = InodeFault::NotDirectory;
        let error = MountError::Damaged(Damage::Inode { inode: ROOT, fault });
        assert_eq!(TestVolume::mount(image.bytes()).unwrap_err(), error);
    }
}
