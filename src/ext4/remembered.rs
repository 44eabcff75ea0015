// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the files lie that were read last: one extent of each, so that a read which stays within it looks at no metadata. And
//! the inode tables that were used last.
//!
//! What is remembered holds until anything of the metadata is changed, of whatever file. It was checked when it was found; the
//! bytes are asked of the region all the same, which checks the range.

use alloc::boxed::Box;
use alloc::vec;
use core::cell::Cell;
use core::ops::Range;

use super::group::InodeTable;

/// Files that are remembered at most; 48 bytes each.
const FILES: usize = 512;

/// Inode tables that are remembered at most; 32 bytes each.
const TABLES: usize = 128;

/// An extent of a regular file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Of the file.
    pub node: u64,
    /// The file's.
    pub size: u64,
    /// The first byte of the file that the extent holds, and where it lies in the region.
    pub start: u64,
    pub place: u64,
    /// Bytes of the extent.
    pub length: u64,
}

impl Piece {
    /// Where the `count` bytes from `offset` on lie in the region, or as many as the file has; `None` if not all of them are in
    /// this extent.
    pub(super) fn locate(&self, offset: u64, count: u32) -> Option<Range<u64>> {
        let end = self.size.min(offset.saturating_add(u64::from(count)));
        if offset >= end {
            return Some(self.place..self.place);
        }
        let skipped = offset.checked_sub(self.start)?;
        let wanted = end.checked_sub(offset)?;
        if skipped.checked_add(wanted)? > self.length {
            return None;
        }
        let place = self.place.checked_add(skipped)?;
        Some(place..place.checked_add(wanted)?)
    }
}

/// The pieces that are remembered.
pub(super) struct Remembered {
    /// What was remembered under another number is forgotten.
    epoch: u64,
    pieces: Box<[Cell<(u64, Piece)>]>,
    /// By group: the epoch, the group, and its table.
    tables: Box<[Cell<(u64, u32, InodeTable)>]>,
}

impl Remembered {
    /// Nothing is remembered.
    pub(super) fn new() -> Self {
        let none = Piece { node: 0, size: 0, start: 0, place: 0, length: 0 };
        Self {
            epoch: 1,
            pieces: vec![Cell::new((0, none)); FILES].into_boxed_slice(),
            tables: vec![Cell::new((0, 0, InodeTable::default())); TABLES].into_boxed_slice(),
        }
    }

    fn cell(&self, node: u64) -> Option<&Cell<(u64, Piece)>> {
        // Below FILES, which fits.
        self.pieces.get(usize::try_from(node % FILES as u64).unwrap_or_default())
    }

    /// A piece of the file `node`.
    pub(super) fn get(&self, node: u64) -> Option<Piece> {
        let (epoch, piece) = self.cell(node)?.get();
        (epoch == self.epoch && piece.node == node).then_some(piece)
    }

    /// Remembers `piece`, in place of another.
    pub(super) fn set(&self, piece: Piece) {
        if let Some(cell) = self.cell(piece.node) {
            cell.set((self.epoch, piece));
        }
    }

    fn table_cell(&self, group: u32) -> Option<&Cell<(u64, u32, InodeTable)>> {
        self.tables.get(usize::try_from(group).ok()? % TABLES)
    }

    /// The inode table of `group`.
    pub(super) fn inode_table(&self, group: u32) -> Option<InodeTable> {
        let (epoch, of, table) = self.table_cell(group)?.get();
        (epoch == self.epoch && of == group).then_some(table)
    }

    /// Remembers the inode table of `group`, in place of another.
    pub(super) fn set_inode_table(&self, group: u32, table: InodeTable) {
        if let Some(cell) = self.table_cell(group) {
            cell.set((self.epoch, group, table));
        }
    }

    /// Metadata is to be changed.
    pub(super) fn forget(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: Piece = Piece { node: 12, size: 10_000, start: 4096, place: 1 << 20, length: 8192 };

    #[test]
    fn a_piece_is_remembered_until_something_is_changed() {
        let mut remembered = Remembered::new();
        assert_eq!(remembered.get(0), None);
        assert_eq!(remembered.inode_table(0), None);
        remembered.set(PIECE);
        let table = InodeTable { start: 7, used_inodes: 8 };
        remembered.set_inode_table(3, table);
        assert_eq!((remembered.get(12), remembered.inode_table(3)), (Some(PIECE), Some(table)));
        assert_eq!(remembered.inode_table(3 + 128), None);
        assert_eq!(remembered.get(12 + FILES as u64), None);
        remembered.forget();
        assert_eq!((remembered.get(12), remembered.inode_table(3)), (None, None));
    }

    #[test]
    fn a_read_is_located_if_all_of_it_is_in_the_piece() {
        let at = |offset: u64| (1 << 20) + offset;
        assert_eq!(PIECE.locate(4096, 100), Some(at(0)..at(100)));
        assert_eq!(PIECE.locate(8192, 100), Some(at(4096)..at(4196)));
        assert_eq!(PIECE.locate(9990, 100), Some(at(5894)..at(5904)), "the file ends");
        assert_eq!(PIECE.locate(4095, 1), None, "in front of it");
        assert_eq!(PIECE.locate(10_000, 100).map(|range| range.is_empty()), Some(true));
        assert_eq!(PIECE.locate(u64::MAX, u32::MAX).map(|range| range.is_empty()), Some(true));
        let short = Piece { size: 1 << 20, ..PIECE };
        assert_eq!(short.locate(12_287, 1), Some(at(8191)..at(8192)));
        assert_eq!(short.locate(12_287, 2), None, "behind it");
    }
}
