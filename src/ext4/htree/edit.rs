// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changing the blocks of an index: entries come in, move to another node, or go a level down.
//!
//! Each function changes one block, which was checked before; `block` is which of the directory's it is. Counts and
//! places are those of the checked node. The checksum is right again after each change.

use super::{ENTRY, Index, ROOT_ENTRIES, Step, checksum, checksum_place, entries_start};
use crate::ext4::field::{le8, le16, le32, put, put_le16, put_le32};
use crate::ext4::hash::HashFunction;
use crate::mem::slice;

/// The most entries of a block of 4 KiB.
const MOST_ENTRIES: usize = 4096 / ENTRY;

/// Entries on their way from one node to another.
pub(in crate::ext4) struct Entries {
    bytes: [u8; MOST_ENTRIES * ENTRY],
    count: usize,
}

/// Makes block 0, which holds nothing but `.` and `..` at its start, the root of an index with one leaf, `leaf`.
pub(in crate::ext4) fn initialize_root(raw: &mut [u8], index: &Index, function: HashFunction, leaf: u32) {
    // `..` takes the rest of the block.
    put_le16(raw, 16, length(index.block_size.saturating_sub(12)));
    if let Some(rest) = raw.get_mut(24..) {
        rest.fill(0);
    }
    // dx_root_info: reserved_zero, hash_version, info_length, indirect_levels, unused_flags.
    put(raw, 24, [0, 0, 0, 0, function.version(), 8, 0, 0]);
    put_le16(raw, ROOT_ENTRIES, length(index.limit(0)));
    set_count(raw, ROOT_ENTRIES, 1);
    put_le32(raw, ROOT_ENTRIES.saturating_add(4), leaf);
    seal_index(raw, index, 0);
}

/// Adds an entry for `child`, whose least hash is `hash`, behind the one that `step` takes. There is room.
pub(in crate::ext4) fn insert_entry(raw: &mut [u8], index: &Index, step: &Step, hash: u32, child: u32) {
    let start = entries_start(step.block);
    let place = start.saturating_add(step.at.saturating_add(1).saturating_mul(ENTRY));
    let end = start.saturating_add(step.count.saturating_mul(ENTRY));
    if step.count < step.limit && slice::copy_within(raw, place..end, place.saturating_add(ENTRY)).is_some() {
        put_le32(raw, place, hash);
        put_le32(raw, place.saturating_add(4), child);
        set_count(raw, start, step.count.saturating_add(1));
    }
    seal_index(raw, index, step.block);
}

/// The entries of a node from entry `from` on.
pub(in crate::ext4) fn upper_entries(raw: &[u8], block: u32, from: usize) -> Entries {
    let start = entries_start(block);
    let count = usize::from(le16(raw, start.saturating_add(2))).saturating_sub(from);
    let mut entries = Entries { bytes: [0; MOST_ENTRIES * ENTRY], count };
    let place = start.saturating_add(from.saturating_mul(ENTRY));
    let upper = raw.get(place..).unwrap_or_default();
    for (to, byte) in entries.bytes.iter_mut().zip(upper).take(count.saturating_mul(ENTRY)) {
        *to = *byte;
    }
    entries
}

impl Entries {
    /// The hash of the first.
    pub(in crate::ext4) fn hash(&self) -> u32 {
        le32(&self.bytes, 0)
    }
}

/// Makes `raw`, which is all zeros, a node with `entries`.
pub(in crate::ext4) fn initialize_node(raw: &mut [u8], index: &Index, block: u32, entries: &Entries) {
    let start = entries_start(block);
    put_le16(raw, 4, length(raw.len()));
    let place = raw.get_mut(start..).unwrap_or_default();
    for (to, byte) in place.iter_mut().zip(&entries.bytes).take(entries.count.saturating_mul(ENTRY)) {
        *to = *byte;
    }
    // They take the place of the first entry's hash.
    put_le16(raw, start, length(index.limit(block)));
    set_count(raw, start, entries.count);
    seal_index(raw, index, block);
}

/// Leaves only the first `count` entries of a node.
pub(in crate::ext4) fn truncate_entries(raw: &mut [u8], index: &Index, block: u32, count: usize) {
    set_count(raw, entries_start(block), count);
    seal_index(raw, index, block);
}

/// Puts a level between the root and what its entries led to: they were moved to the node at `child`.
pub(in crate::ext4) fn grow_root(raw: &mut [u8], index: &Index, child: u32) {
    put(raw, 30, [le8(raw, 30).saturating_add(1)]);
    set_count(raw, ROOT_ENTRIES, 1);
    put_le32(raw, ROOT_ENTRIES.saturating_add(4), child);
    seal_index(raw, index, 0);
}

/// Sets the checksum of an index block, on a volume that has them.
pub(in crate::ext4) fn seal_index(raw: &mut [u8], index: &Index, block: u32) {
    if let Some(seed) = index.checksum_seed {
        let start = entries_start(block);
        let sum = checksum(raw, start, seed);
        let place = checksum_place(start, le16(raw, start));
        put_le32(raw, place, sum);
    }
}

fn set_count(raw: &mut [u8], start: usize, count: usize) {
    put_le16(raw, start.saturating_add(2), length(count));
}

/// A number that is no larger than a block.
fn length(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
