// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the last requests found: names, attributes, extents, and the inode tables of groups; so that the next one that asks for
//! the same looks at no metadata.
//!
//! Everything here was checked when it was found, and says in which blocks it was found. It holds for as long as none of those is
//! changed: each block that is to be changed, or is given up, is [forgotten](Remembered::forget) first. Nobody else writes to a
//! mounted volume ([`Region`](crate::mem::region::Region) demands it).
//!
//! All of it is for speed alone: tables of fixed size, in which what is found takes the place of something else.

use alloc::boxed::Box;
use alloc::vec;
use core::cell::Cell;

use super::group::InodeTable;
use crate::fs::{Attributes, Node};

/// Names that are remembered at most; 88 bytes each.
const NAMES: usize = 1024;

/// The longest name that is.
const LONGEST_NAME: usize = 40;

/// Files whose attributes are, and files of which an extent is.
const FILES: usize = 512;

/// Inode tables that are.
const TABLES: usize = 128;

/// Files that are, of whose last change nobody was told.
const UNTOLD: usize = 64;

/// Blocks whose last change is known each on its own; others share with them: 32 KiB.
const BLOCKS: usize = 4096;

/// An extent of a regular file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Bytes of the file.
    pub size: u64,
    /// The first byte of the file that the extent holds, and where it lies in the region.
    pub start: u64,
    pub place: u64,
    /// Bytes of the extent.
    pub length: u64,
}

impl Piece {
    /// Where the `count` bytes from `offset` on lie in the region, or as many as the file has, and how many these are; `None` if
    /// not all of them are in this extent.
    #[inline]
    pub(super) fn locate(&self, offset: u64, count: u32) -> Option<(u64, u64)> {
        let end = self.size.min(offset.saturating_add(u64::from(count)));
        if offset >= end {
            return Some((self.place, 0));
        }
        let skipped = offset.checked_sub(self.start)?;
        let wanted = end.checked_sub(offset)?;
        if skipped.checked_add(wanted)? > self.length {
            return None;
        }
        Some((self.place.checked_add(skipped)?, wanted))
    }
}

/// Something that was found.
#[derive(Debug, Clone, Copy)]
struct Found<K, V> {
    /// In which blocks.
    within: [u64; 2],
    /// What was looked for.
    key: K,
    value: V,
}

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NameKey {
    directory: Node,
    length: usize,
    /// The name, and zeros behind it.
    name: [u8; LONGEST_NAME],
}

impl NameKey {
    /// `None` for a name that is too long to be remembered.
    #[inline(always)]
    fn new(directory: Node, name: &[u8]) -> Option<Self> {
        let mut key = Self { directory, length: name.len(), name: [0; LONGEST_NAME] };
        key.name.get_mut(..name.len())?.copy_from_slice(name);
        Some(key)
    }

    /// A number that differs for most names, and for most directories.
    #[inline(always)]
    fn place(&self) -> u64 {
        let (words, _) = self.name.as_chunks::<8>();
        let mixed = words.iter().fold(self.directory.0, |mixed, word| {
            // The multiplier of Knuth's multiplicative hash: 2^64 divided by the golden ratio.
            (mixed.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        mixed >> 32
    }
}

/// Room for something.
struct Place<K, V> {
    /// When it was found, or was last known to hold: changes that had been made before.
    since: Cell<u64>,
    found: Cell<Option<Found<K, V>>>,
}

/// A table of what was found, each in a place that depends on its key.
struct Table<K, V> {
    places: Box<[Place<K, V>]>,
}

impl<K: Copy + PartialEq, V: Copy> Table<K, V> {
    /// Room for `size` things, a power of two.
    fn new(size: usize) -> Self {
        let free = || Place { since: Cell::new(0), found: Cell::new(None) };
        Self { places: core::iter::repeat_with(free).take(size).collect() }
    }

    #[inline]
    fn place(&self, place: u64) -> Option<&Place<K, V>> {
        let mask = self.places.len().wrapping_sub(1) as u64;
        self.places.get(usize::try_from(place & mask).unwrap_or_default())
    }
}

/// A file whose `i_version` nobody was told of since it was counted up last.
#[derive(Debug, Clone, Copy)]
struct Untold {
    /// When that was: changes that had been made before.
    since: u64,
    node: Node,
}

/// When blocks were changed.
struct Changes {
    /// Changes so far.
    now: u64,
    /// When all was forgotten the last time.
    all: u64,
    /// By block: when one of those in this place was changed the last time.
    blocks: Box<[u64]>,
}

impl Changes {
    fn place(block: u64) -> usize {
        usize::try_from(block).unwrap_or(0) % BLOCKS
    }

    #[inline]
    fn last(&self, block: u64) -> u64 {
        // A place that is not there would be one that is changed all the time.
        self.blocks.get(Self::place(block)).copied().unwrap_or(u64::MAX)
    }

    /// Whether nothing that was found in the blocks `within` was changed since.
    #[inline(never)]
    fn hold(&self, since: u64, within: [u64; 2]) -> bool {
        since >= self.all && within.iter().all(|&block| since >= self.last(block))
    }
}

/// What is remembered.
pub(super) struct Remembered {
    changes: Changes,
    names: Table<NameKey, Node>,
    attributes: Table<Node, Attributes>,
    pieces: Table<Node, Piece>,
    /// By group.
    inode_tables: Table<u32, InodeTable>,
    untold: Box<[Cell<Option<Untold>>]>,
}

impl Remembered {
    /// Nothing is remembered.
    pub(super) fn new() -> Self {
        Self {
            changes: Changes { now: 0, all: 0, blocks: vec![0; BLOCKS].into_boxed_slice() },
            names: Table::new(NAMES),
            attributes: Table::new(FILES),
            pieces: Table::new(FILES),
            inode_tables: Table::new(TABLES),
            untold: vec![Cell::new(None); UNTOLD].into_boxed_slice(),
        }
    }

    /// What was found for `key`, which is kept at `place`.
    #[inline(always)]
    fn get<K: Copy + PartialEq, V: Copy>(&self, table: &Table<K, V>, place: u64, key: &K) -> Option<V> {
        let place = table.place(place)?;
        if place.since.get() != self.changes.now && !self.still_holds(place) {
            return None;
        }
        let found = place.found.get()?;
        (found.key == *key).then_some(found.value)
    }

    /// Whether what is in `place` holds after the changes since. If so, this is not asked again before the next change.
    #[inline(never)]
    fn still_holds<K: Copy, V: Copy>(&self, place: &Place<K, V>) -> bool {
        let holds = place.found.get().is_some_and(|found| self.changes.hold(place.since.get(), found.within));
        if holds {
            place.since.set(self.changes.now);
        }
        holds
    }

    /// Keeps what was found in the blocks `within`, in place of something else.
    fn set<K: Copy + PartialEq, V: Copy>(
        &self,
        table: &Table<K, V>,
        place: u64,
        within: [u64; 2],
        key: K,
        value: V,
    ) {
        if let Some(place) = table.place(place) {
            place.since.set(self.changes.now);
            place.found.set(Some(Found { within, key, value }));
        }
    }

    /// The file `name` in `directory`.
    #[inline]
    pub(super) fn name(&self, directory: Node, name: &[u8]) -> Option<Node> {
        let key = NameKey::new(directory, name)?;
        self.get(&self.names, key.place(), &key)
    }

    /// Remembers that `name` in `directory` is `node`, as its record in `block` says.
    pub(super) fn set_name(&self, directory: Node, name: &[u8], node: Node, block: u64) {
        if let Some(key) = NameKey::new(directory, name) {
            self.set(&self.names, key.place(), [block; 2], key, node);
        }
    }

    /// The attributes of `node`.
    #[inline]
    pub(super) fn attributes(&self, node: Node) -> Option<Attributes> {
        self.get(&self.attributes, node.0, &node)
    }

    /// Remembers the attributes of `node`, whose inode lies in `block`.
    pub(super) fn set_attributes(&self, node: Node, attributes: Attributes, block: u64) {
        self.set(&self.attributes, node.0, [block; 2], node, attributes);
    }

    /// A piece of the file `node`.
    #[inline]
    pub(super) fn piece(&self, node: Node) -> Option<Piece> {
        self.get(&self.pieces, node.0, &node)
    }

    /// Remembers a piece of the file `node`: its inode, and the extent, lie in the blocks `within`.
    pub(super) fn set_piece(&self, node: Node, piece: Piece, within: [u64; 2]) {
        self.set(&self.pieces, node.0, within, node, piece);
    }

    /// The inode table of `group`.
    pub(super) fn inode_table(&self, group: u32) -> Option<InodeTable> {
        self.get(&self.inode_tables, group.into(), &group)
    }

    /// Remembers the inode table of `group`, whose descriptor lies in `block`.
    pub(super) fn set_inode_table(&self, group: u32, table: InodeTable, block: u64) {
        self.set(&self.inode_tables, group.into(), [block; 2], group, table);
    }

    fn untold(&self, node: Node) -> Option<&Cell<Option<Untold>>> {
        self.untold.get(usize::try_from(node.0).unwrap_or(0) % UNTOLD)
    }

    /// Whether nobody was told the `i_version` of `node` since it was counted up last. Not known is no.
    pub(super) fn is_untold(&self, node: Node) -> bool {
        let noted = self.untold(node).and_then(Cell::get);
        noted.is_some_and(|noted| noted.node == node && noted.since >= self.changes.all)
    }

    /// Notes that the `i_version` of `node` was counted up.
    pub(super) fn set_untold(&self, node: Node) {
        if let Some(cell) = self.untold(node) {
            cell.set(Some(Untold { since: self.changes.now, node }));
        }
    }

    /// Somebody is told the `i_version` of `node`: what comes must be told from what was.
    #[inline]
    pub(super) fn tell(&self, node: Node) {
        if let Some(cell) = self.untold(node)
            && cell.get().is_some_and(|noted| noted.node == node)
        {
            cell.set(None);
        }
    }

    /// `block` is to be changed, or is given up.
    pub(super) fn forget(&mut self, block: u64) {
        let changes = &mut self.changes;
        changes.now = changes.now.wrapping_add(1);
        if let Some(last) = changes.blocks.get_mut(Changes::place(block)) {
            *last = changes.now;
        }
    }

    /// Blocks were changed, no matter which.
    pub(super) fn forget_all(&mut self) {
        self.changes.now = self.changes.now.wrapping_add(1);
        self.changes.all = self.changes.now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Node = Node(12 | 7 << 32);
    const PIECE: Piece = Piece { size: 10_000, start: 4096, place: 1 << 20, length: 8192 };
    const TABLE: InodeTable = InodeTable { start: 7, used_inodes: 8 };

    #[test]
    fn what_was_found_holds_until_a_block_is_changed_that_it_was_found_in() {
        let mut remembered = Remembered::new();
        assert_eq!((remembered.piece(Node(0)), remembered.inode_table(0)), (None, None));
        remembered.set_piece(FILE, PIECE, [100, 200]);
        remembered.set_inode_table(3, TABLE, 50);
        for block in [101, 201, 51, 0] {
            remembered.forget(block);
            assert_eq!((remembered.piece(FILE), remembered.inode_table(3)), (Some(PIECE), Some(TABLE)));
        }
        for block in [100, 200] {
            remembered.set_piece(FILE, PIECE, [100, 200]);
            assert_eq!(remembered.piece(FILE), Some(PIECE), "it was found anew");
            remembered.forget(block);
            assert_eq!((remembered.piece(FILE), remembered.inode_table(3)), (None, Some(TABLE)));
        }
        remembered.forget_all();
        assert_eq!(remembered.inode_table(3), None);
        remembered.set_inode_table(3, TABLE, 50);
        assert_eq!(remembered.inode_table(3), Some(TABLE));
    }

    #[test]
    fn a_block_that_shares_the_place_of_another_is_changed_with_it() {
        let mut remembered = Remembered::new();
        remembered.set_inode_table(3, TABLE, 50);
        remembered.forget(50 + BLOCKS as u64);
        assert_eq!(remembered.inode_table(3), None);
    }

    #[test]
    fn what_takes_a_place_is_not_taken_for_what_was_there() {
        let remembered = Remembered::new();
        let (group, node) = (3 + u32::try_from(TABLES).unwrap(), Node(FILE.0 + FILES as u64));
        remembered.set_piece(FILE, PIECE, [1, 2]);
        remembered.set_inode_table(3, TABLE, 1);
        assert_eq!((remembered.piece(node), remembered.inode_table(group)), (None, None));
        remembered.set_piece(node, PIECE, [1, 2]);
        remembered.set_inode_table(group, TABLE, 1);
        assert_eq!((remembered.piece(FILE), remembered.inode_table(3)), (None, None));
        let another_generation = Node(12 | 8 << 32);
        remembered.set_piece(FILE, PIECE, [1, 2]);
        assert_eq!(remembered.piece(another_generation), None);
    }

    #[test]
    fn a_name_is_that_of_one_directory_and_ends_where_it_ends() {
        let mut remembered = Remembered::new();
        let longest = [b'x'; LONGEST_NAME];
        for name in [&b"name"[..], b"n", &longest] {
            remembered.set_name(FILE, name, Node(5), 9);
            assert_eq!(remembered.name(FILE, name), Some(Node(5)));
            assert_eq!(remembered.name(Node(12), name), None);
        }
        remembered.set_name(FILE, b"name", Node(5), 9);
        assert_eq!(remembered.name(FILE, b"nam"), None);
        assert_eq!(remembered.name(FILE, b"name\0"), None, "zeros behind it are no part of it");
        remembered.set_name(FILE, &[b'x'; LONGEST_NAME + 1], Node(6), 9);
        assert_eq!(remembered.name(FILE, &[b'x'; LONGEST_NAME + 1]), None);
        remembered.forget(9);
        assert_eq!(remembered.name(FILE, b"name"), None);
    }

    #[test]
    fn a_version_is_untold_until_somebody_is_told_of_it() {
        let mut remembered = Remembered::new();
        let other = Node(FILE.0 + UNTOLD as u64);
        assert!(!remembered.is_untold(FILE));
        remembered.set_untold(FILE);
        remembered.tell(other);
        assert!(remembered.is_untold(FILE) && !remembered.is_untold(other));
        remembered.tell(FILE);
        assert!(!remembered.is_untold(FILE));
        remembered.set_untold(FILE);
        remembered.set_untold(other);
        assert!(remembered.is_untold(other) && !remembered.is_untold(FILE), "it took the place");
        remembered.forget_all();
        assert!(!remembered.is_untold(other));
    }

    #[test]
    fn a_read_is_located_if_all_of_it_is_in_the_piece() {
        let at = |offset: u64| (1 << 20) + offset;
        assert_eq!(PIECE.locate(4096, 100), Some((at(0), 100)));
        assert_eq!(PIECE.locate(8192, 100), Some((at(4096), 100)));
        assert_eq!(PIECE.locate(9990, 100), Some((at(5894), 10)), "the file ends");
        assert_eq!(PIECE.locate(4095, 1), None, "in front of it");
        assert_eq!(PIECE.locate(10_000, 100).map(|(_, length)| length), Some(0));
        assert_eq!(PIECE.locate(u64::MAX, u32::MAX).map(|(_, length)| length), Some(0));
        let short = Piece { size: 1 << 20, ..PIECE };
        assert_eq!(short.locate(12_287, 1), Some((at(8191), 1)));
        assert_eq!(short.locate(12_287, 2), None, "behind it");
    }
}
