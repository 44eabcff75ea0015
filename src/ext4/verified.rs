// SPDX-License-Identifier: MIT OR Apache-2.0

//! What of the metadata was found to match its checksum, and is unchanged since.
//!
//! Nobody else writes to a mounted volume ([`Region`](crate::mem::region::Region) demands it), so that a checksum needs
//! to be computed once for as long as this program does not change the block: each block that is to be changed is
//! [forgotten](Verified::forget) first. So it is with the order of the entries of an extent tree's node. What keeps a damaged or
//! hostile volume from doing harm, that a number is in its range where it is used, is checked each time.
//!
//! The notes are for speed alone: a table of fixed size, in which a block takes the place of another.

use alloc::boxed::Box;
use alloc::vec;
use core::cell::Cell;

use crate::fs::Node;

/// Blocks that are noted at most: 64 KiB of notes for 16 MiB of metadata.
const PLACES: usize = 4096;

/// No block has this number.
const NONE: u64 = u64::MAX;

/// What a block holds, as somebody read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Inodes.
    Inodes = 1,
    /// Group descriptors.
    Groups = 2,
    /// Records of a directory.
    Records = 3,
    /// A node of an extent tree.
    ExtentNode = 4,
    /// A node of an extent tree whose entries were looked through, too: there may be hundreds.
    ExtentEntries = 5,
}

/// A block, and what is noted of it.
#[derive(Debug, Clone, Copy)]
struct Note {
    block: u64,
    kind: Kind,
    /// For each inode or descriptor in the block one bit, or the owner.
    matching: u64,
}

/// The notes.
pub(super) struct Verified {
    notes: Box<[Cell<Note>]>,
}

impl Verified {
    /// Nothing is noted.
    pub(super) fn new() -> Self {
        let none = Cell::new(Note { block: NONE, kind: Kind::Inodes, matching: 0 });
        Self { notes: vec![none; PLACES].into_boxed_slice() }
    }

    fn place(&self, block: u64) -> Option<&Cell<Note>> {
        self.notes.get(usize::try_from(block).unwrap_or(0) % PLACES)
    }

    /// What is noted of `block` as a `kind`.
    fn noted(&self, kind: Kind, block: u64) -> u64 {
        let note = self.place(block).map(Cell::get);
        note.filter(|note| note.block == block && note.kind == kind).map_or(0, |note| note.matching)
    }

    /// Whether structure `index` of the many in `block` is noted.
    pub(super) fn has(&self, kind: Kind, block: u64, index: usize) -> bool {
        bit(index) & self.noted(kind, block) != 0
    }

    /// Notes that structure `index` of the many in `block` matches its checksum.
    pub(super) fn note(&self, kind: Kind, block: u64, index: usize) {
        if let Some(place) = self.place(block) {
            place.set(Note { block, kind, matching: self.noted(kind, block) | bit(index) });
        }
    }

    /// Whether `block` is noted as a block of `owner`, whose number and generation are part of the checksum.
    pub(super) fn has_owned(&self, kind: Kind, block: u64, owner: Node) -> bool {
        self.noted(kind, block) == owner.0
    }

    /// Notes that `block` matches its checksum as a block of `owner`.
    pub(super) fn note_owned(&self, kind: Kind, block: u64, owner: Node) {
        if let Some(place) = self.place(block) {
            place.set(Note { block, kind, matching: owner.0 });
        }
    }

    /// `block` is to be changed, or is given up.
    pub(super) fn forget(&self, block: u64) {
        if let Some(place) = self.place(block)
            && place.get().block == block
        {
            place.set(Note { block: NONE, ..place.get() });
        }
    }

    /// Blocks were changed, no matter which.
    pub(super) fn forget_all(&self) {
        for place in &self.notes {
            place.set(Note { block: NONE, ..place.get() });
        }
    }
}

/// The bit of structure `index`; of those behind the 64th nothing is noted.
fn bit(index: usize) -> u64 {
    u32::try_from(index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_known_until_its_block_is_forgotten() {
        let verified = Verified::new();
        verified.note(Kind::Inodes, 7, 3);
        verified.note(Kind::Inodes, 7, 5);
        assert!(verified.has(Kind::Inodes, 7, 3) && verified.has(Kind::Inodes, 7, 5));
        assert!(!verified.has(Kind::Inodes, 7, 4) && !verified.has(Kind::Groups, 7, 3));
        verified.forget(8);
        assert!(verified.has(Kind::Inodes, 7, 3));
        verified.forget(7);
        assert!(!verified.has(Kind::Inodes, 7, 3));
    }

    #[test]
    fn a_block_in_the_place_of_another_is_not_taken_for_it() {
        let verified = Verified::new();
        let other = 7 + PLACES as u64;
        verified.note(Kind::Inodes, 7, 3);
        verified.note(Kind::Inodes, other, 4);
        assert!(!verified.has(Kind::Inodes, 7, 3) && !verified.has(Kind::Inodes, other, 3));
        assert!(verified.has(Kind::Inodes, other, 4));
        verified.forget(7);
        assert!(verified.has(Kind::Inodes, other, 4));
        verified.forget_all();
        assert!(!verified.has(Kind::Inodes, other, 4));
    }

    #[test]
    fn a_block_of_one_owner_is_not_noted_for_another() {
        let verified = Verified::new();
        verified.note_owned(Kind::Records, 9, Node(12 | 1 << 32));
        assert!(verified.has_owned(Kind::Records, 9, Node(12 | 1 << 32)));
        assert!(
            !verified.has_owned(Kind::Records, 9, Node(12 | 2 << 32))
                && !verified.has_owned(Kind::Records, 9, Node(13 | 1 << 32))
        );
        assert!(!verified.has_owned(Kind::ExtentNode, 9, Node(12 | 1 << 32)));
        assert!(!verified.has_owned(Kind::Records, 10, Node(12 | 1 << 32)));
    }

    #[test]
    fn structures_behind_the_64th_are_not_noted() {
        let verified = Verified::new();
        verified.note(Kind::Inodes, 1, 64);
        verified.note(Kind::Inodes, 1, usize::MAX);
        assert!(!verified.has(Kind::Inodes, 1, 64) && !verified.has(Kind::Inodes, 1, 0));
        verified.note(Kind::Inodes, 1, 63);
        assert!(verified.has(Kind::Inodes, 1, 63));
    }
}
