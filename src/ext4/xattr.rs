// SPDX-License-Identifier: MIT OR Apache-2.0

//! Extended attributes: in the inode, behind its fields, and in one more block, which inodes may share.
//!
//! Both places hold `ext4_xattr_entry`s from the front and values from the back; a large value may lie in an inode
//! of its own (`ea_inode`). A place is checked whole before anything of it is used, with the checks of Linux's
//! `check_xattrs`: names and values within the place and apart from each other, and the block's checksum. Of the
//! entries' own hashes only those over values in inodes are checked, as Linux does (it stores 0 for others).
//!
//! What is listed is what a Linux mount lists: `system.data` (the end of an inline file) and the namespaces that
//! Linux has no handler for are not.

use core::fmt;

use super::Volume;
use super::acl::{AclConversion, AclFault};
use super::checksum::crc32c;
use super::ea_inode::ValueFault;
use super::error::{Damage, Error};
use super::field::{le8, le16, le32};
use super::inode::{Inode, ROOT};
use super::namespace::{ACL_ACCESS, ACL_DEFAULT, prefix, stored_name};
use crate::fs::Errno;
use crate::mem::Sink;
use crate::mem::region::Region;

/// `h_magic`, in a block and in an inode.
const MAGIC: u32 = 0xea02_0000;
/// Length of `ext4_xattr_header`, in front of a block's entries.
const BLOCK_HEADER: usize = 32;
/// `h_checksum` in it.
const CHECKSUM: usize = 16;
/// Length of `ext4_xattr_entry` in front of the name.
const ENTRY: usize = 16;
/// Entries and values are aligned to this; as much zero space ends the entries.
const ALIGNMENT: usize = 4;
/// The largest value that a Linux client takes: `XATTR_SIZE_MAX`.
const LARGEST_VALUE: u32 = 65536;
/// The largest that the format allows: `EXT4_XATTR_SIZE_MAX`.
const LARGEST_STORED_VALUE: u32 = 1 << 24;

/// `e_name_index` of the end of inline content, `system.data`.
const SYSTEM: u8 = 7;
/// An `ext4_xattr_entry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'v> {
    e_name_index: u8,
    pub(super) e_name: &'v [u8],
    e_value_offs: u16,
    /// The inode that holds the value; 0 if it is in the place itself.
    pub(super) e_value_inum: u32,
    pub(super) e_value_size: u32,
    pub(super) e_hash: u32,
}

/// A place that passed its checks.
#[derive(Debug, Clone, Copy)]
struct Place<'v> {
    /// `e_value_offs` counts from its start.
    area: &'v [u8],
    /// Where its first entry is.
    first: usize,
    /// The block it is; 0 for the inode.
    block: u64,
}

/// What the checks of a place need to know of the volume.
#[derive(Debug, Clone, Copy)]
struct Rules {
    has_ea_inode: bool,
    s_first_ino: u32,
    s_inodes_count: u32,
}

/// The entries from an offset on. After the last, or one that does not fit, there are no more.
struct Entries<'v> {
    area: &'v [u8],
    offset: usize,
}

impl<'v> Entries<'v> {
    /// Whether the entries are at their end: four zero bytes.
    fn at_end(&self) -> bool {
        le32(self.area, self.offset) == 0
    }
}

impl<'v> Iterator for Entries<'v> {
    type Item = Entry<'v>;

    fn next(&mut self) -> Option<Entry<'v>> {
        if self.at_end() {
            return None;
        }
        let entry = self.area.get(self.offset..)?;
        let name_end = ENTRY.checked_add(usize::from(le8(entry, 0)))?;
        let next = self.offset.checked_add(name_end.next_multiple_of(ALIGNMENT))?;
        // Room for what ends the entries must be left.
        if next.checked_add(ALIGNMENT)? > self.area.len() {
            return None;
        }
        self.offset = next;
        Some(Entry {
            e_name_index: le8(entry, 1),
            e_name: entry.get(ENTRY..name_end)?,
            e_value_offs: le16(entry, 2),
            e_value_inum: le32(entry, 4),
            e_value_size: le32(entry, 8),
            e_hash: le32(entry, 12),
        })
    }
}

impl<'v> Place<'v> {
    /// Checks every entry of `area` from `first` on.
    fn check(area: &'v [u8], first: usize, block: u64, rules: Rules) -> Result<Self, AttributeFault> {
        let place = Self { area, first, block };
        let mut entries = place.entries();
        if area.len().saturating_sub(first) < ALIGNMENT {
            return Err(AttributeFault::NoRoom);
        }
        for entry in &mut entries {
            if entry.e_name.contains(&0) {
                return Err(AttributeFault::NameByte);
            }
        }
        if !entries.at_end() {
            return Err(AttributeFault::NameOverrun { offset: entries.offset });
        }
        let values = entries.offset.saturating_add(ALIGNMENT);
        for entry in place.entries() {
            place.check_value(&entry, values, rules)?;
        }
        Ok(place)
    }

    /// That the value of `entry` lies behind all entries, `values`, and within the place, or in an inode.
    fn check_value(&self, entry: &Entry<'v>, values: usize, rules: Rules) -> Result<(), AttributeFault> {
        let (inode, size) = (entry.e_value_inum, entry.e_value_size);
        if inode != 0 {
            if !rules.has_ea_inode {
                return Err(AttributeFault::NoEaInodeFeature { inode });
            }
            if inode == ROOT || inode < rules.s_first_ino || inode > rules.s_inodes_count {
                return Err(AttributeFault::InodeOutOfRange { inode });
            }
        }
        if size > LARGEST_STORED_VALUE {
            return Err(AttributeFault::ValueSize(size));
        }
        if size != 0 && inode == 0 {
            let offset = entry.e_value_offs;
            // At most 2^24 each: the sums fit.
            let end = (size as usize).next_multiple_of(ALIGNMENT).saturating_add(usize::from(offset));
            if usize::from(offset) < values || end > self.area.len() {
                return Err(AttributeFault::ValuePlace { offset, size });
            }
        }
        Ok(())
    }

    fn entries(&self) -> Entries<'v> {
        Entries { area: self.area, offset: self.first }
    }

    /// The value of `entry`, if it is in this place.
    fn value(&self, entry: &Entry<'v>) -> Option<&'v [u8]> {
        if entry.e_value_inum != 0 {
            return None;
        }
        if entry.e_value_size == 0 {
            return Some(&[]);
        }
        self.area.get(usize::from(entry.e_value_offs)..)?.get(..entry.e_value_size as usize)
    }

    fn find(&self, e_name_index: u8, e_name: &[u8]) -> Option<Entry<'v>> {
        self.entries().find(|entry| entry.e_name_index == e_name_index && entry.e_name == e_name)
    }
}

impl<R: Region> Volume<R> {
    /// The end of `inode`'s inline content: the value of `system.data`, which is never outside the inode.
    pub(super) fn inline_data<'v>(&self, inode: &Inode<'v>) -> Result<Option<&'v [u8]>, Error> {
        let Some(place) = self.place_in_inode(inode)? else { return Ok(None) };
        let Some(entry) = place.find(SYSTEM, b"data") else { return Ok(None) };
        match place.value(&entry) {
            Some(value) => Ok(Some(value)),
            None => {
                let fault = AttributeFault::InlineElsewhere { inode: entry.e_value_inum };
                Err(attribute_damage(inode, 0, fault))
            }
        }
    }

    /// Puts the names of `inode`'s attributes into `sink`, each closed by a NUL. The two places hold less than
    /// the 64 KiB that a Linux client takes.
    pub(super) fn list_names(&self, inode: &Inode<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        for place in [self.place_in_inode(inode)?, self.place_in_block(inode)?].into_iter().flatten() {
            for entry in place.entries() {
                if let Some(prefix) = prefix(entry.e_name_index) {
                    sink.put(prefix)?;
                    sink.put(entry.e_name)?;
                    sink.put(&[0])?;
                }
            }
        }
        Ok(())
    }

    /// Puts the value of `inode`'s attribute `name` into `sink`, as `getxattr` of a Linux mount gives it.
    ///
    /// # Errors
    /// EOPNOTSUPP, ENODATA, E2BIG for a value above 64 KiB, which a Linux mount does not hand out either; damage.
    pub(super) fn read_value(
        &self,
        inode: &Inode<'_>,
        name: &[u8],
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let (e_name_index, e_name) = stored_name(name).ok_or(Errno::EOPNOTSUPP)?;
        let (place, entry) = self.find_entry(inode, e_name_index, e_name)?.ok_or(Errno::ENODATA)?;
        if entry.e_value_size > LARGEST_VALUE {
            return Err(Errno::E2BIG.into());
        }
        if !matches!(e_name_index, ACL_ACCESS | ACL_DEFAULT) {
            return self.read_pieces(inode, &place, &entry, |piece| Ok(sink.put(piece)?));
        }
        let damage = |fault| attribute_damage(inode, place.block, AttributeFault::Acl(fault));
        let mut list = AclConversion::default();
        self.read_pieces(inode, &place, &entry, |piece| {
            list.push(piece, |bytes| sink.put(bytes).map_err(ListError::Put)).map_err(|error| match error {
                ListError::Fault(fault) => damage(fault),
                ListError::Put(full) => full.into(),
            })
        })?;
        if list.finish().map_err(damage)? { Ok(()) } else { Err(Errno::ENODATA.into()) }
    }

    /// The entry of a name and where it is. The inode's own come first.
    fn find_entry<'v>(
        &'v self,
        inode: &Inode<'v>,
        e_name_index: u8,
        e_name: &[u8],
    ) -> Result<Option<(Place<'v>, Entry<'v>)>, Error> {
        let in_place = |place: Place<'v>| Some((place, place.find(e_name_index, e_name)?));
        if let Some(found) = self.place_in_inode(inode)?.and_then(in_place) {
            return Ok(Some(found));
        }
        Ok(self.place_in_block(inode)?.and_then(in_place))
    }

    /// The attributes in the inode; `None` where it has no space for any, or the space was never used.
    fn place_in_inode<'v>(&self, inode: &Inode<'v>) -> Result<Option<Place<'v>>, Error> {
        match inode.in_inode_attributes.split_first_chunk::<4>() {
            Some((magic, area)) if u32::from_le_bytes(*magic) == MAGIC => {
                let place = Place::check(area, 0, 0, self.attribute_rules());
                place.map(Some).map_err(|fault| attribute_damage(inode, 0, fault))
            }
            _ => Ok(None),
        }
    }

    /// The attributes in the block that `i_file_acl` says.
    fn place_in_block<'v>(&'v self, inode: &Inode<'v>) -> Result<Option<Place<'v>>, Error> {
        if inode.file_acl == 0 {
            return Ok(None);
        }
        let raw = self.block(inode.file_acl)?;
        let place = self
            .check_block_header(raw, inode.file_acl)
            .and_then(|()| Place::check(raw, BLOCK_HEADER, inode.file_acl, self.attribute_rules()));
        place.map(Some).map_err(|fault| attribute_damage(inode, inode.file_acl, fault))
    }

    fn check_block_header(&self, raw: &[u8], number: u64) -> Result<(), AttributeFault> {
        let (magic, h_blocks) = (le32(raw, 0), le32(raw, 8));
        if magic != MAGIC || h_blocks != 1 {
            return Err(AttributeFault::Header { magic, h_blocks });
        }
        if self.superblock().has_metadata_csum() {
            let sum = crc32c(self.superblock().checksum_seed(), &number.to_le_bytes());
            let sum = crc32c(crc32c(sum, raw.get(..CHECKSUM).unwrap_or_default()), &[0; 4]);
            let computed = crc32c(sum, raw.get(CHECKSUM.saturating_add(4)..).unwrap_or_default());
            let stored = le32(raw, CHECKSUM);
            if stored != computed {
                return Err(AttributeFault::Checksum { stored, computed });
            }
        }
        Ok(())
    }

    fn attribute_rules(&self) -> Rules {
        let superblock = self.superblock();
        Rules {
            has_ea_inode: superblock.has_ea_inode(),
            s_first_ino: superblock.s_first_ino,
            s_inodes_count: superblock.s_inodes_count,
        }
    }

    /// Gives the value of `entry`, an attribute of `owner` in `place`, to `take` piece by piece.
    fn read_pieces(
        &self,
        owner: &Inode<'_>,
        place: &Place<'_>,
        entry: &Entry<'_>,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match place.value(entry) {
            Some(value) => take(value),
            None => self.read_value_inode(owner, entry, take, |fault| {
                let fault = AttributeFault::Value { inode: entry.e_value_inum, fault };
                attribute_damage(owner, place.block, fault)
            }),
        }
    }
}

/// Why the conversion of a list stops.
enum ListError {
    Fault(AclFault),
    Put(crate::mem::Full),
}

impl From<AclFault> for ListError {
    fn from(fault: AclFault) -> Self {
        Self::Fault(fault)
    }
}

fn attribute_damage(inode: &Inode<'_>, block: u64, fault: AttributeFault) -> Error {
    Damage::Attributes { inode: inode.number, block, fault }.into()
}

/// What is wrong with the extended attributes of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttributeFault {
    /// Behind the magic number there is no room for even an end of entries.
    NoRoom,
    /// `h_magic` or `h_blocks` is not what it must be.
    Header {
        /// `h_magic`.
        magic: u32,
        /// `h_blocks`, always 1.
        h_blocks: u32,
    },
    /// `h_checksum` does not match.
    Checksum {
        /// What the block says.
        stored: u32,
        /// What it should say.
        computed: u32,
    },
    /// An entry runs out of its place.
    NameOverrun {
        /// Where it starts.
        offset: usize,
    },
    /// A name contains NUL.
    NameByte,
    /// A value is larger than the format allows.
    ValueSize(u32),
    /// A value is outside its place, or within the entries.
    ValuePlace {
        /// `e_value_offs`.
        offset: u16,
        /// `e_value_size`.
        size: u32,
    },
    /// A value in an inode, on a volume without the feature `ea_inode`.
    NoEaInodeFeature {
        /// `e_value_inum`.
        inode: u32,
    },
    /// A value in an inode that cannot hold one.
    InodeOutOfRange {
        /// `e_value_inum`.
        inode: u32,
    },
    /// A value in an inode.
    Value {
        /// `e_value_inum`.
        inode: u32,
        /// What is wrong.
        fault: ValueFault,
    },
    /// The end of inline content lies outside the inode.
    InlineElsewhere {
        /// `e_value_inum`.
        inode: u32,
    },
    /// An access control list.
    Acl(AclFault),
}

impl fmt::Display for AttributeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoRoom => f.write_str("no room for entries"),
            Self::Header { magic, h_blocks } => {
                write!(f, "h_magic is {magic:#010x} and h_blocks {h_blocks}, not {MAGIC:#010x} and 1")
            }
            Self::Checksum { stored, computed } => {
                write!(f, "h_checksum is {stored:#010x}, computed {computed:#010x}")
            }
            Self::NameOverrun { offset } => write!(f, "the entry at {offset} does not fit"),
            Self::NameByte => f.write_str("a name contains NUL"),
            Self::ValueSize(size) => write!(f, "e_value_size is {size}"),
            Self::ValuePlace { offset, size } => write!(f, "{size} bytes of a value cannot be at {offset}"),
            Self::NoEaInodeFeature { inode } => {
                write!(f, "e_value_inum is {inode}, but the volume lacks ea_inode")
            }
            Self::InodeOutOfRange { inode } => write!(f, "e_value_inum is {inode}"),
            Self::Value { inode, fault } => write!(f, "inode {inode} of a value: {fault}"),
            Self::InlineElsewhere { inode } => write!(f, "system.data is in inode {inode}"),
            Self::Acl(fault) => write!(f, "access control list: {fault}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::testing::{Collected, Image, TestVolume};
    use std::format;
    use std::vec::Vec;

    const RULES: Rules = Rules { has_ea_inode: true, s_first_ino: 11, s_inodes_count: 100 };

    /// An entry as it is stored.
    fn entry(index: u8, name: &[u8], offset: u16, inode: u32, size: u32) -> Vec<u8> {
        let mut bytes = Vec::from([u8::try_from(name.len()).unwrap(), index]);
        bytes.extend(offset.to_le_bytes());
        for field in [inode, size, 0] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(name);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        bytes
    }

    /// A place of 100 bytes that holds `entries`.
    fn area(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut area = entries.concat();
        area.resize(100, 0);
        area
    }

    fn fault(area: &[u8], rules: Rules) -> Option<AttributeFault> {
        Place::check(area, 0, 0, rules).err()
    }

    #[test]
    fn entries_and_values_are_found_where_they_are() {
        let mut area =
            area(&[entry(1, b"a", 96, 0, 4), entry(6, b"empty", 0, 0, 0), entry(1, b"b", 0, 50, 7)]);
        area[96..].copy_from_slice(b"four");
        let place = Place::check(&area, 0, 0, RULES).unwrap();
        assert_eq!(place.value(&place.find(1, b"a").unwrap()), Some(&b"four"[..]));
        assert_eq!(place.value(&place.find(6, b"empty").unwrap()), Some(&[][..]));
        assert_eq!(place.value(&place.find(1, b"b").unwrap()), None);
        assert_eq!(place.find(2, b"a"), None);
        assert_eq!(place.entries().count(), 3);
    }

    #[test]
    fn each_damage_of_a_place_is_its_own_fault() {
        let no_feature = Rules { has_ea_inode: false, ..RULES };
        let cases = [
            (entry(1, b"a", 96, 0, 5), RULES, AttributeFault::ValuePlace { offset: 96, size: 5 }),
            (entry(1, b"a", 97, 0, 3), RULES, AttributeFault::ValuePlace { offset: 97, size: 3 }),
            (entry(1, b"a", 20, 0, 4), RULES, AttributeFault::ValuePlace { offset: 20, size: 4 }),
            (entry(1, b"a", 65535, 0, 1), RULES, AttributeFault::ValuePlace { offset: 65535, size: 1 }),
            (entry(1, b"a", 96, 0, u32::MAX), RULES, AttributeFault::ValueSize(u32::MAX)),
            (entry(1, b"a\0b", 0, 0, 0), RULES, AttributeFault::NameByte),
            (entry(1, &[b'n'; 82], 0, 0, 0), RULES, AttributeFault::NameOverrun { offset: 0 }),
            (entry(1, b"a", 0, 50, 1), no_feature, AttributeFault::NoEaInodeFeature { inode: 50 }),
            (entry(1, b"a", 0, 2, 1), RULES, AttributeFault::InodeOutOfRange { inode: 2 }),
            (entry(1, b"a", 0, 101, 1), RULES, AttributeFault::InodeOutOfRange { inode: 101 }),
        ];
        for (entry, rules, expected) in cases {
            assert_eq!(fault(&area(&[entry]), rules), Some(expected), "{expected}");
        }
        assert_eq!(fault(&[0; 3], RULES), Some(AttributeFault::NoRoom));
        assert_eq!(fault(&area(&[entry(1, b"a", 24, 0, 4)]), RULES), None);
        assert_eq!(fault(&area(&[entry(1, &[b'n'; 80], 0, 0, 0)]), RULES), None);
    }

    /// A volume with the file `/f` that has an attribute in its inode and two in a block, and the file's inode number.
    fn volume(options: &[&str]) -> (Image, TestVolume, u32) {
        let image = Image::new("1M", options, |root| std::fs::write(root.join("f"), "content").unwrap());
        let long = "v".repeat(300);
        image.debugfs_script(&[
            "ea_set /f user.first value",
            &format!("ea_set /f user.long {long}"),
            "ea_set /f trusted.last x",
        ]);
        let (volume, number) = (image.mount(), image.inode("/f"));
        (image, volume, number)
    }

    fn get(volume: &TestVolume, number: u32, name: &str) -> Result<Vec<u8>, Error> {
        let mut sink = Collected::default();
        volume.read_value(&volume.inode(number)?, name.as_bytes(), &mut sink).map(|()| sink.bytes)
    }

    fn names(volume: &TestVolume, number: u32) -> Result<Vec<u8>, Error> {
        let mut sink = Collected::default();
        volume.list_names(&volume.inode(number)?, &mut sink).map(|()| sink.bytes)
    }

    #[test]
    fn attributes_in_the_inode_come_before_those_in_the_block() {
        let (_image, volume, number) = volume(&["-b", "1024"]);
        let listed = names(&volume, number).unwrap();
        let mut sorted: Vec<_> = listed.split(|byte| *byte == 0).collect();
        assert_eq!(sorted.pop(), Some(&b""[..]), "each name is closed");
        let in_inode = volume.place_in_inode(&volume.inode(number).unwrap()).unwrap().unwrap();
        assert!((1..3).contains(&in_inode.entries().count()), "both places are used");
        assert_eq!(sorted[0], b"user.first");
        sorted.sort_unstable();
        assert_eq!(sorted, [&b"trusted.last"[..], b"user.first", b"user.long"]);
        assert_eq!(get(&volume, number, "user.first").unwrap(), b"value");
        assert_eq!(get(&volume, number, "user.long").unwrap(), [b'v'; 300]);
        assert_eq!(get(&volume, number, "user.absent"), Err(Errno::ENODATA.into()));
        assert_eq!(get(&volume, number, "system.data"), Err(Errno::EOPNOTSUPP.into()));
    }

    #[test]
    fn every_byte_of_a_block_with_checksums_is_covered() {
        let (_image, mut volume, number) = volume(&["-b", "1024"]);
        let block = volume.inode(number).unwrap().file_acl;
        let start = usize::try_from(block).unwrap() * 1024;
        for offset in 0..1024 {
            volume.region[start + offset] ^= 0x40;
            let Err(Error::Corrupt(Damage::Attributes { inode, block: found, fault })) =
                names(&volume, number)
            else {
                panic!("a change at {offset} is not seen");
            };
            assert_eq!((inode, found), (number, block));
            let is_header = offset < 4 || (8..12).contains(&offset);
            match fault {
                AttributeFault::Header { .. } => assert!(is_header, "{offset}"),
                AttributeFault::Checksum { stored, computed } => assert!(!is_header && stored != computed),
                other => panic!("a change at {offset} gives {other}"),
            }
            volume.region[start + offset] ^= 0x40;
        }
        assert!(names(&volume, number).is_ok());
    }

    #[test]
    fn no_byte_of_either_place_without_checksums_can_make_a_request_panic() {
        let (image, mut volume, number) = volume(&["-b", "1024", "-O", "^metadata_csum,^uninit_bg,ea_inode"]);
        let inode = volume.inode(number).unwrap();
        let block = usize::try_from(inode.file_acl).unwrap() * 1024;
        let length = inode.in_inode_attributes.len();
        let content = inode.in_inode_attributes.to_vec();
        let in_inode = image.bytes().windows(length).position(|window| window == content).unwrap();
        for offset in (block..block + 1024).chain(in_inode..in_inode + length) {
            let before = volume.region[offset];
            for value in [0, 1, 2, 11, 0x7f, 0x80, 0xff] {
                volume.region[offset] = value;
                for name in ["user.first", "user.long", "trusted.last"] {
                    let answer = get(&volume, number, name);
                    let expected = [Errno::ENODATA, Errno::E2BIG].map(Error::from);
                    assert!(
                        matches!(&answer, Ok(_) | Err(Error::Corrupt(_)))
                            || answer.is_err_and(|error| expected.contains(&error)),
                        "{value} at {offset}"
                    );
                }
                assert!(matches!(names(&volume, number), Ok(_) | Err(Error::Corrupt(_))));
            }
            volume.region[offset] = before;
        }
    }
}
