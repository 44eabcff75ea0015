// SPDX-License-Identifier: MIT OR Apache-2.0

//! A node of an extent tree: its header, its entries, its checksum; read and stored.
//!
//! The functions that store change the bytes of one node and know nothing of the tree: what they rely on (room for one more
//! entry, the order of entries) is their caller's to see to.
//!
//! Field names are the format's (`struct ext4_extent_header`, `ext4_extent_idx`, `ext4_extent`, `ext4_extent_tail`).

use super::ExtentFault;
use crate::ext4::checksum::crc32c;
use crate::ext4::field::{le16, le32, put, put_le16, put_le32};
use crate::ext4::power_of_two::PowerOfTwo;
use crate::mem::slice;

/// `eh_magic`.
pub(super) const MAGIC: u16 = 0xf30a;
/// The deepest tree that Linux makes or takes.
pub(super) const MAX_DEPTH: u16 = 5;
/// Length of a header, of an index entry, and of an extent.
pub(super) const ENTRY: usize = 12;
/// Length of `struct ext4_extent_tail`.
pub(super) const TAIL: usize = 4;
/// The longest written extent; `ee_len` above means an unwritten one of `ee_len` less this.
pub(super) const MAX_WRITTEN: u16 = 1 << 15;
/// Entries that the root in an inode has room for.
pub(super) const ROOT_ROOM: u16 = 4;

/// An index entry or an extent, as it is stored.
pub(super) type Entry = [u8; ENTRY];

/// A checked header and the entries behind it.
pub(super) struct Node<'v> {
    /// The block that it fills; `None` for the root, which lies in the inode.
    pub block: Option<u64>,
    pub depth: u16,
    pub eh_max: u16,
    pub entries: &'v [Entry],
}

impl<'v> Node<'v> {
    /// Parses the node that fills `bytes`, those of `block`, `reserved` of them at the end for the checksum.
    pub(super) fn parse(block: Option<u64>, bytes: &'v [u8], reserved: usize) -> Result<Self, ExtentFault> {
        let eh_magic = le16(bytes, 0);
        if eh_magic != MAGIC {
            return Err(ExtentFault::Magic(eh_magic));
        }
        let (entries, max) = (le16(bytes, 2), le16(bytes, 4));
        let room = bytes.len().saturating_sub(ENTRY).saturating_sub(reserved) / ENTRY;
        let (chunks, _) = bytes.get(ENTRY..).unwrap_or_default().as_chunks();
        let used = chunks.get(..usize::from(entries));
        match used {
            Some(used) if entries <= max && usize::from(max) <= room => {
                Ok(Self { block, depth: le16(bytes, 6), eh_max: max, entries: used })
            }
            _ => Err(ExtentFault::Entries { entries, max }),
        }
    }
}

/// An extent of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Its first block in the file; below 2^32.
    pub logical: u64,
    /// Blocks: at most [`longest`](Self::longest). 0 only in a damaged tree.
    pub length: u64,
    /// Its first block in the volume; below 2^48.
    pub start: u64,
    /// Whether the blocks hold content; those that do not read as zeros.
    pub written: bool,
}

impl Extent {
    pub(super) fn parse(raw: &Entry) -> Self {
        let ee_len = le16(raw, 4);
        let written = ee_len <= MAX_WRITTEN;
        Self {
            logical: first_block(raw),
            length: u64::from(if written { ee_len } else { ee_len.saturating_sub(MAX_WRITTEN) }),
            start: u64::from(le32(raw, 8)) | u64::from(le16(raw, 6)) << 32,
            written,
        }
    }

    /// The extent as it is stored.
    pub(super) fn emit(&self) -> Entry {
        let mut raw = [0; ENTRY];
        let [a, b, c, d, ..] = self.logical.to_le_bytes();
        put(&mut raw, 0, [a, b, c, d]);
        let bias = if self.written { 0 } else { u64::from(MAX_WRITTEN) };
        let [a, b, ..] = self.length.saturating_add(bias).to_le_bytes();
        put(&mut raw, 4, [a, b]);
        let [a, b, c, d, e, f, ..] = self.start.to_le_bytes();
        put(&mut raw, 6, [e, f]);
        put(&mut raw, 8, [a, b, c, d]);
        raw
    }

    /// The block of the file behind it.
    pub(super) fn end(&self) -> u64 {
        self.logical.saturating_add(self.length)
    }

    /// The most blocks that an extent of its kind can have.
    pub(super) fn longest(&self) -> u64 {
        u64::from(if self.written { MAX_WRITTEN } else { MAX_WRITTEN - 1 })
    }

    /// Itself and `next` as one extent; `None` if `next` does not go on where it ends, in the file and in the volume, or
    /// both are too long for one.
    pub(super) fn joined(&self, next: &Self) -> Option<Self> {
        let goes_on = self.end() == next.logical
            && self.start.checked_add(self.length) == Some(next.start)
            && self.written == next.written;
        let length = self.length.saturating_add(next.length);
        (goes_on && length <= self.longest()).then_some(Self { length, ..*self })
    }

    /// Its first `length` blocks.
    pub(super) fn head(&self, length: u64) -> Self {
        Self { length: length.min(self.length), ..*self }
    }

    /// What is left behind its first `length` blocks.
    pub(super) fn tail(&self, length: u64) -> Self {
        let cut = length.min(self.length);
        Self {
            logical: self.logical.saturating_add(cut),
            length: self.length.saturating_sub(cut),
            start: self.start.saturating_add(cut),
            ..*self
        }
    }
}

/// The first logical block of an entry, index or extent.
pub(super) fn first_block(raw: &Entry) -> u64 {
    u64::from(le32(raw, 0))
}

/// The block of the node that an index entry points to.
pub(super) fn child_block(raw: &Entry) -> u64 {
    u64::from(le32(raw, 4)) | u64::from(le16(raw, 8)) << 32
}

/// The index entry for the node in block `child`, whose first logical block is `first`.
pub(super) fn index_entry(first: u64, child: u64) -> Entry {
    let mut raw = [0; ENTRY];
    let [a, b, c, d, ..] = first.to_le_bytes();
    put(&mut raw, 0, [a, b, c, d]);
    let [a, b, c, d, e, f, ..] = child.to_le_bytes();
    put(&mut raw, 4, [a, b, c, d]);
    put(&mut raw, 8, [e, f]);
    raw
}

/// Entries that a node of a block of `block_size` bytes has room for.
pub(super) fn block_room(block_size: PowerOfTwo) -> u16 {
    let entries = block_size.length().saturating_sub(ENTRY + TAIL) / ENTRY;
    u16::try_from(entries).unwrap_or(u16::MAX)
}

/// Makes `i_block` the root of a tree without extents.
pub(in crate::ext4) fn initialize_root(i_block: &mut [u8]) {
    let eh_max = u16::try_from(i_block.len() / ENTRY).unwrap_or_default().saturating_sub(1);
    i_block.fill(0);
    put_header(i_block, 0, eh_max, 0);
}

/// Stores a header.
pub(super) fn put_header(node: &mut [u8], eh_entries: u16, eh_max: u16, eh_depth: u16) {
    put_le16(node, 0, MAGIC);
    put_le16(node, 2, eh_entries);
    put_le16(node, 4, eh_max);
    put_le16(node, 6, eh_depth);
    put_le32(node, 8, 0);
}

/// Sets the number of entries.
pub(super) fn put_count(node: &mut [u8], eh_entries: u16) {
    put_le16(node, 2, eh_entries);
}

/// Where entry `position` begins.
pub(super) fn offset(position: u16) -> usize {
    usize::from(position).saturating_mul(ENTRY).saturating_add(ENTRY)
}

/// Stores `entry` over the one at `position`.
pub(super) fn put_entry(node: &mut [u8], position: u16, entry: Entry) {
    put(node, offset(position), entry);
}

/// Sets the first logical block of the entry at `position`.
pub(super) fn put_first_block(node: &mut [u8], position: u16, first: u64) {
    let [a, b, c, d, ..] = first.to_le_bytes();
    put(node, offset(position), [a, b, c, d]);
}

/// Stores `entries` from the first position on.
pub(super) fn put_entries(node: &mut [u8], entries: &[u8]) {
    if let Some(place) = node.get_mut(ENTRY..).and_then(|rest| rest.get_mut(..entries.len())) {
        slice::copy(place, entries);
    }
}

/// Puts `entry` in front of the one at `position`. There is room for it.
pub(super) fn insert_entry(node: &mut [u8], position: u16, entry: Entry) {
    let entries = le16(node, 2);
    let (from, to) = (offset(position), offset(entries));
    if slice::copy_within(node, from..to, offset(position.saturating_add(1))).is_some() {
        put(node, from, entry);
        put_count(node, entries.saturating_add(1));
    }
}

/// Takes the entry at `position` out.
pub(super) fn remove_entry(node: &mut [u8], position: u16) {
    let entries = le16(node, 2);
    let (from, to) = (offset(position), offset(entries));
    if slice::copy_within(node, offset(position.saturating_add(1))..to, from).is_some() {
        put_count(node, entries.saturating_sub(1));
    }
}

/// Where the checksum of a node with room for `eh_max` entries lies.
pub(super) fn checksum_offset(eh_max: u16) -> usize {
    offset(eh_max)
}

/// Sets the checksum of a node in a block; `seed` is the inode's.
pub(super) fn seal(node: &mut [u8], seed: u32) {
    let tail = checksum_offset(le16(node, 4));
    let sum = crc32c(seed, node.get(..tail).unwrap_or_default());
    put_le32(node, tail, sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_stored_as_it_is_read() {
        for (written, longest) in [(true, 32768), (false, 32767)] {
            let extent = Extent { logical: 0xfedc_ba98, length: longest, start: 0x1234_5678_9abc, written };
            assert_eq!(extent.longest(), longest);
            assert_eq!(Extent::parse(&extent.emit()), extent);
        }
        let entry = index_entry(0xfedc_ba98, 0x1234_5678_9abc);
        assert_eq!((first_block(&entry), child_block(&entry)), (0xfedc_ba98, 0x1234_5678_9abc));
    }

    #[test]
    fn only_what_goes_on_in_file_and_volume_is_joined() {
        let extent = Extent { logical: 10, length: 5, start: 100, written: true };
        let next = Extent { logical: 15, length: 7, start: 105, written: true };
        assert_eq!(extent.joined(&next), Some(Extent { length: 12, ..extent }));
        assert_eq!(extent.joined(&Extent { logical: 16, ..next }), None);
        assert_eq!(extent.joined(&Extent { start: 106, ..next }), None);
        assert_eq!(extent.joined(&Extent { written: false, ..next }), None);
        assert_eq!(extent.joined(&Extent { length: 32763, ..next }).map(|both| both.length), Some(32768));
        assert_eq!(extent.joined(&Extent { length: 32764, ..next }), None);
    }

    #[test]
    fn entries_are_put_in_and_taken_out_in_order() {
        let mut node = [0xa5; 60];
        put_header(&mut node, 0, ROOT_ROOM, 0);
        for (position, first) in [(0, 7), (0, 3), (1, 5), (3, 9)] {
            insert_entry(&mut node, position, index_entry(first, first));
        }
        let firsts = |node: &[u8]| -> std::vec::Vec<u64> {
            Node::parse(None, node, 0).unwrap().entries.iter().map(first_block).collect()
        };
        assert_eq!(firsts(&node), [3, 5, 7, 9]);
        insert_entry(&mut node, 0, index_entry(1, 1));
        assert_eq!(firsts(&node), [3, 5, 7, 9], "there is no room for a fifth");
        remove_entry(&mut node, 1);
        remove_entry(&mut node, 2);
        assert_eq!(firsts(&node), [3, 7]);
    }
}
