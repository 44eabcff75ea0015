// SPDX-License-Identifier: MIT OR Apache-2.0

//! A place of attributes: `ext4_xattr_entry`s from the front, values from the back. The two places of an inode
//! (behind its fields, and a block) differ in what stands in front of the entries only.
//!
//! A place is checked whole before anything of it is used, with the checks of Linux's `check_xattrs`: names and
//! values within the place, and values behind the names.

use super::fault::AttributeFault;
use crate::ext4::Superblock;
use crate::ext4::field::{le8, le16, le32};
use crate::ext4::inode::ROOT;

/// Length of `ext4_xattr_entry` in front of the name.
pub(super) const ENTRY: usize = 16;
/// Entries and values are aligned to this; as much zero space ends the entries.
pub(super) const ALIGNMENT: usize = 4;
/// The largest value that the format allows: `EXT4_XATTR_SIZE_MAX`.
const LARGEST_STORED_VALUE: u32 = 1 << 24;

/// An `ext4_xattr_entry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ext4) struct Entry<'v> {
    pub(super) e_name_index: u8,
    pub(in crate::ext4) e_name: &'v [u8],
    pub(super) e_value_offs: u16,
    /// The inode that holds the value; 0 if it is in the place itself.
    pub(in crate::ext4) e_value_inum: u32,
    pub(in crate::ext4) e_value_size: u32,
    pub(in crate::ext4) e_hash: u32,
}

/// A place that passed its checks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'v> {
    /// `e_value_offs` counts from its start.
    pub(super) area: &'v [u8],
    /// Where its first entry is.
    pub(super) first: usize,
    /// The block it is; 0 for the inode.
    pub(super) block: u64,
}

/// What the checks of a place need to know of the volume.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    has_ea_inode: bool,
    s_first_ino: u32,
    s_inodes_count: u32,
}

impl Rules {
    pub(super) fn of(superblock: &Superblock) -> Self {
        Self {
            has_ea_inode: superblock.has_ea_inode(),
            s_first_ino: superblock.s_first_ino,
            s_inodes_count: superblock.s_inodes_count,
        }
    }
}

/// The entries from an offset on. After the last, or one that does not fit, there are no more.
pub(super) struct Entries<'v> {
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

impl Entry<'_> {
    /// What it takes among the entries, in bytes.
    pub(super) fn length(&self) -> usize {
        ENTRY.saturating_add(self.e_name.len()).next_multiple_of(ALIGNMENT)
    }

    /// What its value takes in the place, in bytes.
    pub(super) fn value_length(&self) -> usize {
        if self.e_value_inum == 0 { (self.e_value_size as usize).next_multiple_of(ALIGNMENT) } else { 0 }
    }
}

impl<'v> Place<'v> {
    /// Checks every entry of `area` from `first` on.
    pub(super) fn check(
        area: &'v [u8],
        first: usize,
        block: u64,
        rules: Rules,
    ) -> Result<Self, AttributeFault> {
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
            let end = entry.value_length().saturating_add(usize::from(offset));
            if usize::from(offset) < values || end > self.area.len() {
                return Err(AttributeFault::ValuePlace { offset, size });
            }
        }
        Ok(())
    }

    pub(super) fn entries(&self) -> Entries<'v> {
        Entries { area: self.area, offset: self.first }
    }

    /// The value of `entry`, if it is in this place.
    pub(super) fn value(&self, entry: &Entry<'v>) -> Option<&'v [u8]> {
        if entry.e_value_inum != 0 {
            return None;
        }
        if entry.e_value_size == 0 {
            return Some(&[]);
        }
        self.area.get(usize::from(entry.e_value_offs)..)?.get(..entry.e_value_size as usize)
    }

    pub(super) fn find(&self, e_name_index: u8, e_name: &[u8]) -> Option<Entry<'v>> {
        self.entries().find(|entry| entry.e_name_index == e_name_index && entry.e_name == e_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
