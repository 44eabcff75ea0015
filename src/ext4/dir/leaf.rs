// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changing the bytes of one block of records: a name comes in, goes, or all move together.
//!
//! The block was checked before: what its records say of themselves holds. [`seal`] is the last step of each change.

use heapless::Vec;

use super::{TAIL, TAIL_FILE_TYPE};
use crate::ext4::checksum::crc32c;
use crate::ext4::dirent::{HEADER, RecordFault, Records, Rules, SHORTEST, needed};
use crate::ext4::field::{put, put_le16, put_le32};
use crate::ext4::hash::NameHash;
use crate::mem::slice;

/// The most records of a block of 4 KiB.
pub(super) const MOST_RECORDS: usize = 4096 / SHORTEST;

/// A record that is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewRecord<'a> {
    /// The inode that is named.
    pub(super) inode: u32,
    /// `file_type`; 0 on a volume whose records have none.
    pub(super) file_type: u8,
    /// 1…255 bytes.
    pub(super) name: &'a [u8],
}

/// Where a record can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Into the record that starts here, behind the first `taken` of its `length` bytes.
    Within { start: usize, taken: usize, length: usize },
    /// Nowhere as the records lie, but once they are moved together.
    Scattered,
    /// Nowhere.
    None,
}

/// A record of a leaf with the hash of its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hashed {
    pub(super) hash: u32,
    start: u16,
    length: u16,
}

/// How many bytes of a block of `block_size` bytes hold records.
pub(super) const fn records_length(block_size: usize, checksums: bool) -> usize {
    if checksums { block_size.saturating_sub(TAIL) } else { block_size }
}

/// Looks among `records`, which fill `length` bytes, for room for a name of `name_len` bytes.
pub(super) fn find_room(
    records: Records<'_>,
    length: usize,
    name_len: usize,
) -> Result<Room, (usize, RecordFault)> {
    let wanted = needed(name_len);
    let mut all_taken = 0_usize;
    for record in records {
        let record = record?;
        let (taken, length) = (record.taken(), record.end.saturating_sub(record.start));
        if length >= taken.saturating_add(wanted) {
            return Ok(Room::Within { start: record.start, taken, length });
        }
        all_taken = all_taken.saturating_add(taken);
    }
    Ok(if all_taken.saturating_add(wanted) <= length { Room::Scattered } else { Room::None })
}

/// Stores a record of `length` bytes at `start`.
fn put_record(raw: &mut [u8], start: usize, length: usize, new: &NewRecord<'_>) {
    put_le32(raw, start, new.inode);
    set_length(raw, start, length);
    let name_len = u8::try_from(new.name.len()).unwrap_or(u8::MAX);
    put(raw, start.saturating_add(6), [name_len, new.file_type]);
    let name = start.saturating_add(HEADER);
    if let Some(place) = raw.get_mut(name..name.saturating_add(new.name.len())) {
        slice::copy(place, new.name);
    }
}

/// Puts `new` into the record that starts at `start`, behind the first `taken` of its `length` bytes.
pub(super) fn insert(raw: &mut [u8], (start, taken, length): (usize, usize, usize), new: &NewRecord<'_>) {
    if taken > 0 {
        set_length(raw, start, taken);
    }
    put_record(raw, start.saturating_add(taken), length.saturating_sub(taken), new);
}

/// Makes `record` unused: joins it with the one in front, which starts at `previous`.
pub(super) fn remove(raw: &mut [u8], previous: Option<usize>, record: (usize, usize)) {
    let (start, end) = record;
    match previous {
        Some(previous) => {
            set_length(raw, previous, end.saturating_sub(previous));
            if let Some(gone) = raw.get_mut(start..end) {
                gone.fill(0);
            }
        }
        None => {
            put_le32(raw, start, 0);
            put(raw, start.saturating_add(6), [0; 2]);
            if let Some(gone) = raw.get_mut(start.saturating_add(HEADER)..end) {
                gone.fill(0);
            }
        }
    }
}

/// Points the record at `start` to another inode.
pub(super) fn replace(raw: &mut [u8], start: usize, inode: u32, file_type: u8) {
    put_le32(raw, start, inode);
    put(raw, start.saturating_add(7), [file_type]);
}

/// Moves the used records of the first `length` bytes together, in their order, and gives the last one the rest: where it starts,
/// and how many of its bytes it needs.
pub(super) fn pack(raw: &mut [u8], length: usize, rules: Rules) -> (usize, usize, usize) {
    let (mut from, mut to, mut last) = (0, 0_usize, 0);
    while let Some(Ok(record)) =
        raw.get(..length).and_then(|area| Records::new(area, rules).starting_at(from).next())
    {
        let (start, end, taken) = (record.start, record.end, record.taken());
        from = end;
        if taken > 0 {
            // A record moves to the front, if at all, so it fits.
            _ = slice::copy_within(raw, start..start.saturating_add(taken), to);
            set_length(raw, to, taken);
            last = to;
            to = to.saturating_add(taken);
        }
    }
    close(raw, (last, to), length);
    (last, to.saturating_sub(last), length.saturating_sub(last))
}

/// Gives all that is behind the last record, which lies in `last`, up to `length` to it; where there is none, makes one
/// unused record.
fn close(raw: &mut [u8], (last, end): (usize, usize), length: usize) {
    if end == 0 {
        put_le32(raw, 0, 0);
        put(raw, 6, [0; 2]);
    }
    set_length(raw, last, length.saturating_sub(last));
    if let Some(rest) = raw.get_mut(end.max(HEADER)..length) {
        rest.fill(0);
    }
}

/// The used records of the first `length` bytes from `start` on, sorted by hash.
pub(super) fn sorted(
    raw: &[u8],
    (start, length): (usize, usize),
    rules: Rules,
    names: &NameHash,
) -> Vec<Hashed, MOST_RECORDS> {
    let mut sorted = Vec::new();
    let area = raw.get(..length).unwrap_or_default();
    for record in Records::new(area, rules).starting_at(start).map_while(Result::ok) {
        if let (true, Ok(start), Ok(length)) =
            (record.inode != 0, u16::try_from(record.start), u16::try_from(record.taken()))
        {
            // No block holds more.
            let _ = sorted.push(Hashed { hash: names.hash(record.name), start, length });
        }
    }
    sorted.sort_unstable_by_key(|record| (record.hash, record.start));
    sorted
}

/// Which of the `sorted` records go to another leaf when theirs, of `length` bytes, is split: from the one on at which the two
/// leaves have the same share. At least one stays and one goes, if there are two.
pub(super) fn middle(sorted: &[Hashed], length: usize) -> usize {
    let (mut moved, mut at) = (0_usize, sorted.len());
    for record in sorted.iter().rev() {
        if moved.saturating_add(usize::from(record.length) / 2) > length / 2 {
            break;
        }
        moved = moved.saturating_add(usize::from(record.length));
        at = at.saturating_sub(1);
    }
    at.clamp(1, sorted.len().saturating_sub(1).max(1))
}

/// Fills the first `length` bytes of `raw` with `records` of `from`, and nothing else.
pub(super) fn fill(raw: &mut [u8], length: usize, from: &[u8], records: &[Hashed]) {
    let (mut to, mut last) = (0_usize, 0);
    for record in records {
        let (start, taken) = (usize::from(record.start), usize::from(record.length));
        let end = to.saturating_add(taken);
        if let (Some(place), Some(bytes)) =
            (raw.get_mut(to..end), from.get(start..start.saturating_add(taken)))
        {
            slice::copy(place, bytes);
            set_length(raw, to, taken);
            last = to;
            to = end;
        }
    }
    close(raw, (last, to), length);
}

/// Makes a block that is all zeros the first of a directory: `.`, which is `inode`, and `..`, which is `parent`.
pub(super) fn fill_dots(raw: &mut [u8], length: usize, inode: u32, parent: u32, file_type: u8) {
    put_record(raw, 0, SHORTEST, &NewRecord { inode, file_type, name: b"." });
    let rest = length.saturating_sub(SHORTEST);
    put_record(raw, SHORTEST, rest, &NewRecord { inode: parent, file_type, name: b".." });
}

/// Makes a block that is all zeros hold `new` alone.
pub(super) fn fill_one(raw: &mut [u8], length: usize, new: &NewRecord<'_>) {
    put_record(raw, 0, length, new);
}

/// Ends a block with its checksum, on a volume that has them: `seed` is the directory's.
pub(super) fn seal(raw: &mut [u8], seed: Option<u32>) {
    let Some(seed) = seed else { return };
    if let Some((records, tail)) = raw.split_last_chunk_mut::<TAIL>() {
        let sum = crc32c(seed, records);
        tail.fill(0);
        set_length(tail, 0, TAIL);
        put(tail, 7, [TAIL_FILE_TYPE]);
        put_le32(tail, 8, sum);
    }
}

/// Sets `rec_len`.
fn set_length(raw: &mut [u8], start: usize, length: usize) {
    // A block has at most 4096 bytes.
    put_le16(raw, start.saturating_add(4), u16::try_from(length).unwrap_or(u16::MAX));
}
