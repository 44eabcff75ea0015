// SPDX-License-Identifier: MIT OR Apache-2.0

//! A place of attributes written anew, with one of them set or removed.
//!
//! Writing all of it again costs little more than moving what is in the way, for a place is at most a block, and whatever
//! the order and the gaps were, what comes out is packed. New entries go where the order of Linux has them
//! (`e_name_index`, length of the name, name), which a block must keep.

use core::cmp::Ordering;

use super::fault::AttributeFault;
use super::hash::{entry_hash, words};
use super::place::{ALIGNMENT, ENTRY, Entry, Place};
use crate::ext4::acl::AccessList;
use crate::ext4::field::{put, put_le16, put_le32};
use crate::mem::slice;

/// The value that an attribute gets.
#[derive(Debug, Clone, Copy)]
pub(in crate::ext4) enum Value<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// An access control list, in the format that is stored.
    List(AccessList<'a>),
}

impl Value<'_> {
    /// Its length in bytes.
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.stored_length(),
        }
    }

    /// Whether it is `stored`.
    pub(super) fn is(&self, stored: &[u8]) -> bool {
        let mut rest = Some(stored);
        self.visit(&mut |piece| rest = rest.and_then(|rest| rest.strip_prefix(piece)));
        rest.is_some_and(<[u8]>::is_empty)
    }

    /// Shows it to `visit` piece by piece.
    fn visit(&self, visit: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Bytes(bytes) => visit(bytes),
            Self::List(list) => list.visit_stored(visit),
        }
    }
}

/// What is to become of an attribute.
#[derive(Debug, Clone, Copy)]
pub(in crate::ext4) struct Change<'a> {
    /// Its namespace.
    pub(in crate::ext4) e_name_index: u8,
    /// Its name without what the namespace stands for; at most 255 bytes, no NUL.
    pub(in crate::ext4) e_name: &'a [u8],
    /// Its value; `None` removes it.
    pub(in crate::ext4) value: Option<Value<'a>>,
}

impl Change<'_> {
    /// The same attribute removed.
    pub(super) fn removal(&self) -> Self {
        Self { value: None, ..*self }
    }

    /// How the attribute stands to `entry` in the order of a block.
    fn order(&self, entry: &Entry<'_>) -> Ordering {
        self.e_name_index
            .cmp(&entry.e_name_index)
            .then_with(|| self.e_name.len().cmp(&entry.e_name.len()))
            .then_with(|| self.e_name.cmp(entry.e_name))
    }

    /// The attribute's entry; not yet where its value is, and its hash.
    fn entry(&self, value: &Value<'_>) -> Entry<'_> {
        Entry {
            e_name_index: self.e_name_index,
            e_name: self.e_name,
            e_value_offs: 0,
            e_value_inum: 0,
            e_value_size: u32::try_from(value.len()).unwrap_or(u32::MAX),
            e_hash: 0,
        }
    }

    /// The bytes that entries and values of `place` take once the change is made, with what ends the entries.
    pub(super) fn space_in(&self, place: &Place<'_>) -> usize {
        let space = |entry: &Entry<'_>| entry.length().saturating_add(entry.value_length());
        let others = place.entries().filter(|entry| self.order(entry) != Ordering::Equal);
        let others = others.fold(ALIGNMENT, |sum, entry| sum.saturating_add(space(&entry)));
        others.saturating_add(self.value.map_or(0, |value| space(&self.entry(&value))))
    }

    /// Whether nothing is left in `place` once the change is made.
    pub(super) fn empties(&self, place: &Place<'_>) -> bool {
        self.value.is_none() && place.entries().all(|entry| self.order(&entry) == Ordering::Equal)
    }
}

/// How the name enters `e_hash`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hashing {
    /// New entries get the hash 0: in an inode.
    None,
    /// As signed or unsigned bytes: in a block.
    Name { signed: bool },
}

/// Writes the entries of `before` to `target` from `first` on, with `change` made. `target` is all zeros there.
///
/// # Errors
/// [`AttributeFault::NoRoom`] if they do not fit though [`Change::space_in`] says so: values of `before` overlap.
pub(super) fn rewrite(
    before: &Place<'_>,
    change: &Change<'_>,
    target: &mut [u8],
    first: usize,
    hashing: Hashing,
) -> Result<(), AttributeFault> {
    let end = target.len();
    let mut writer = Writer { target, entry: first, value: end, hashing };
    let mut added = change.value;
    for entry in before.entries() {
        let order = change.order(&entry);
        if order != Ordering::Greater
            && let Some(value) = added.take()
        {
            writer.add(change, &value)?;
        }
        if order != Ordering::Equal {
            let value = before.value(&entry).unwrap_or_default();
            writer.push(&entry, &Value::Bytes(value)).ok_or(AttributeFault::NoRoom)?;
        }
    }
    match added {
        Some(value) => writer.add(change, &value),
        None => Ok(()),
    }
}

/// A place being written.
struct Writer<'a> {
    target: &'a mut [u8],
    /// Where the next entry goes.
    entry: usize,
    /// Where the values begin.
    value: usize,
    hashing: Hashing,
}

impl Writer<'_> {
    /// Writes the changed attribute.
    fn add(&mut self, change: &Change<'_>, value: &Value<'_>) -> Result<(), AttributeFault> {
        let end = self.value;
        let start = self.entry;
        self.push(&change.entry(value), value).ok_or(AttributeFault::NoRoom)?;
        if let Hashing::Name { signed } = self.hashing {
            let stored = self.target.get(self.value..end).unwrap_or_default();
            let hash = entry_hash(change.e_name, signed, words(stored));
            put_le32(self.target, start.saturating_add(12), hash);
        }
        Ok(())
    }

    /// Writes `entry` and its value, if there is room for them.
    fn push(&mut self, entry: &Entry<'_>, value: &Value<'_>) -> Option<()> {
        let start = self.value.checked_sub(entry.value_length())?;
        let next = self.entry.checked_add(entry.length())?;
        if next.checked_add(ALIGNMENT)? > start {
            return None;
        }
        let in_place = entry.value_length() > 0;
        let offset = if in_place { u16::try_from(start).ok()? } else { 0 };
        let raw = self.target.get_mut(self.entry..next)?;
        put(raw, 0, [u8::try_from(entry.e_name.len()).ok()?, entry.e_name_index]);
        put_le16(raw, 2, offset);
        put_le32(raw, 4, entry.e_value_inum);
        put_le32(raw, 8, entry.e_value_size);
        put_le32(raw, 12, entry.e_hash);
        slice::copy(raw.get_mut(ENTRY..)?.get_mut(..entry.e_name.len())?, entry.e_name);
        let mut at = start;
        value.visit(&mut |piece| {
            let end = at.saturating_add(piece.len());
            if let Some(place) = self.target.get_mut(at..end) {
                slice::copy(place, piece);
            }
            at = end;
        });
        (self.entry, self.value) = (next, start);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn set<'a>(e_name_index: u8, e_name: &'a [u8], value: &'a [u8]) -> Change<'a> {
        Change { e_name_index, e_name, value: Some(Value::Bytes(value)) }
    }

    /// A place of `length` bytes after `changes`, each of which fits if its space says so.
    fn after(length: usize, changes: &[Change<'_>]) -> Vec<u8> {
        let mut area = vec![0; length];
        for change in changes {
            let mut target = vec![0; length];
            let before = Place { area: &area, first: 0, block: 0 };
            rewrite(&before, change, &mut target, 0, Hashing::None).unwrap();
            area = target;
        }
        area
    }

    fn names(area: &[u8]) -> Vec<(u8, &[u8])> {
        let place = Place { area, first: 0, block: 0 };
        place.entries().map(|entry| (entry.e_name_index, entry.e_name)).collect()
    }

    #[test]
    fn entries_are_ordered_by_namespace_then_length_then_name() {
        let changes = [
            set(6, b"a", b""),
            set(1, b"bb", b"1"),
            set(1, b"c", b"2"),
            set(1, b"a", b"3"),
            set(2, b"", b"4"),
        ];
        let area = after(200, &changes);
        assert_eq!(names(&area), [(1, &b"a"[..]), (1, b"c"), (1, b"bb"), (2, b""), (6, b"a")]);
    }

    #[test]
    fn values_are_packed_from_the_end_and_padded_with_zeros() {
        let area = after(64, &[set(1, b"b", b"vwxyz"), set(1, b"a", b"abc")]);
        assert_eq!(area[44..], *b"\0\0\0\0\0\0\0\0vwxyz\0\0\0abc\0");
        assert_eq!(area[2..4], [60, 0], "e_value_offs of the first");
        assert_eq!(area[22..24], [52, 0], "and of the second");
    }

    #[test]
    fn a_replaced_value_leaves_nothing_behind() {
        let once = after(64, &[set(1, b"a", b"1")]);
        assert_eq!(after(64, &[set(1, b"a", b"123456789"), set(1, b"a", b"1")]), once);
        let removal = set(1, b"b", b"").removal();
        assert_eq!(after(64, &[set(1, b"b", b"22"), set(1, b"a", b"1"), removal]), once);
    }

    #[test]
    fn the_space_of_a_change_is_what_it_takes() {
        let area = after(200, &[set(1, b"a", b"12345"), set(1, b"b", b"")]);
        let place = Place { area: &area, first: 0, block: 0 };
        assert_eq!(set(1, b"a", b"12345").space_in(&place), 20 + 8 + 20 + 4);
        assert_eq!(set(1, b"c", b"1").space_in(&place), 20 + 8 + 20 + 20 + 4 + 4);
        assert_eq!(set(1, b"a", b"").removal().space_in(&place), 20 + 4);
        assert!(!set(1, b"a", b"").removal().empties(&place));
        for length in 60..80 {
            let mut target = vec![0; length];
            let change = set(1, b"c", b"1");
            let result = rewrite(&place, &change, &mut target, 0, Hashing::None);
            assert_eq!(result.is_ok(), length >= change.space_in(&place), "{length}");
        }
    }
}
