// SPDX-License-Identifier: MIT OR Apache-2.0

//! Extent trees: which blocks of the volume hold which blocks of a file.
//!
//! A walk visits each node of the tree that a range touches once, from the root in the inode down, and hands out one
//! run for each extent or gap, in order. Its depth is at most five, and each level must be one less than the
//! one above, so that a tree cannot loop. What it costs: for each node below the root the checksum of a block (with
//! `metadata_csum`) and a pass over the node's entries. Nodes are not remembered between walks.
//!
//! Reading is here, and what can be wrong; `node` has the format, `path` finds a place to change, `insert` puts extents in,
//! `remove` takes them out.
//!
//! Field names are the format's (`struct ext4_extent_header`, `ext4_extent_idx`, `ext4_extent`).

mod insert;
mod node;
mod path;
mod remove;
#[cfg(test)]
mod tests;

use core::fmt;
use core::ops::Range;

use super::Volume;
use super::error::Error;
use super::inode::{Inode, InodeFlags};
use super::mapping::{Run, Visit};
use super::remembered::Piece;
use crate::fs::FileKind;
use crate::mem::region::Region;
pub(super) use insert::Mapped;
pub(super) use node::initialize_root;
use node::{Extent, Node, first_block};
pub(super) use path::Tree;
pub(super) use remove::Budget;

/// The logical blocks that a file can have.
const ROOT_BOUNDS: Range<u64> = 0..1 << 32;

/// What is wrong with an extent tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExtentFault {
    /// `eh_magic` is not 0xF30A.
    Magic(u16),
    /// `eh_depth` is not one less than that of the node above, or the root's is above 5.
    Depth {
        /// What the node says.
        found: u16,
        /// The most it may be (root), or what it must be.
        expected: u16,
    },
    /// `eh_max` entries do not fit the node, or `eh_entries` is larger.
    Entries {
        /// `eh_entries`.
        entries: u16,
        /// `eh_max`.
        max: u16,
    },
    /// An index node without entries.
    EmptyIndex,
    /// `et_checksum` does not match.
    Checksum {
        /// The block of the node.
        block: u64,
        /// What it says.
        stored: u32,
        /// What it should say.
        computed: u32,
    },
    /// An entry begins before the one in front of it ends, or outside of what its node covers.
    Order {
        /// The first logical block of the entry.
        block: u32,
        /// The first that it may have.
        lowest: u64,
        /// The first that it, and what it covers, must stay below.
        end: u64,
    },
    /// An extent of no blocks.
    EmptyExtent {
        /// Its first logical block.
        block: u32,
    },
    /// An extent or a node outside of the volume.
    Physical {
        /// Its first block.
        start: u64,
        /// How many.
        length: u16,
    },
}

impl fmt::Display for ExtentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Magic(found) => write!(f, "eh_magic is {found:#06x}"),
            Self::Depth { found, expected } => write!(f, "eh_depth is {found}, expected {expected}"),
            Self::Entries { entries, max } => write!(f, "{entries} entries of {max} do not fit their node"),
            Self::EmptyIndex => f.write_str("an index node has no entries"),
            Self::Checksum { block, stored, computed } => {
                write!(f, "et_checksum of block {block} is {stored:#010x}, computed {computed:#010x}")
            }
            Self::Order { block, lowest, end } => {
                write!(f, "the entry of block {block} is not within {lowest}..{end}")
            }
            Self::EmptyExtent { block } => write!(f, "the extent of block {block} has no blocks"),
            Self::Physical { start, length } => {
                write!(f, "{length} blocks at {start} are outside the volume")
            }
        }
    }
}

/// A walk over the tree of one inode.
pub(super) struct ExtentWalk<'w, 'v, R: Region> {
    pub volume: &'v Volume<R>,
    pub inode: &'w Inode<'v>,
    /// The blocks that are still to be handed out; never empty the other way round.
    pub wanted: Range<u64>,
    pub visit: &'w mut Visit<'w>,
}

impl<'v, R: Region> ExtentWalk<'_, 'v, R> {
    /// Hands out runs that cover the wanted range.
    pub(super) fn run(mut self) -> Result<(), Error> {
        let tree = Tree::of(self.inode);
        let root = tree.root(self.inode.i_block)?;
        self.node(tree, &root, ROOT_BOUNDS)?;
        self.hole(self.wanted.end)
    }

    /// Hands out what `node`, which covers the logical blocks `bounds`, has of the wanted range.
    fn node(&mut self, tree: Tree, node: &Node<'_>, bounds: Range<u64>) -> Result<(), Error> {
        tree.check_entries(self.volume, node, &bounds)?;
        // Entries in front of the last one that begins at or before the range have nothing of it.
        let skipped = node.entries.partition_point(|entry| first_block(entry) <= self.wanted.start);
        let rest = node.entries.get(skipped.saturating_sub(1)..).unwrap_or_default();
        for (position, entry) in rest.iter().enumerate() {
            if first_block(entry) >= self.wanted.end {
                break;
            }
            if node.depth == 0 {
                self.extent(&Extent::parse(entry), node.block.unwrap_or(self.inode.block))?;
            } else {
                let end = rest.get(position.saturating_add(1)).map_or(bounds.end, first_block);
                let child = tree.child(self.volume, entry, node.depth)?;
                self.node(tree, &child, first_block(entry)..end)?;
            }
        }
        Ok(())
    }

    /// Hands out the gap in front of `extent` and what `extent`, whose node lies in `block`, has of the wanted range.
    fn extent(&mut self, extent: &Extent, block: u64) -> Result<(), Error> {
        if extent.end() <= self.wanted.start {
            return Ok(());
        }
        self.volume.check_owned(self.inode.number, extent.start, extent.length)?;
        self.remember(extent, block);
        self.hole(extent.logical)?;
        let end = extent.end().min(self.wanted.end);
        let physical = extent.start.saturating_add(self.wanted.start.saturating_sub(extent.logical));
        self.emit(end, extent.written.then_some(physical))
    }

    /// Remembers a written extent of a regular file, whose node lies in `within`, for reads to come.
    fn remember(&self, extent: &Extent, within: u64) {
        let inode = self.inode;
        if extent.written && inode.kind == FileKind::Regular && !inode.flags.contains(InodeFlags::EA_INODE) {
            let block = u64::from(self.volume.superblock.block_size);
            // The extent lies in the volume, and a file has at most 2^32 blocks.
            let piece = Piece {
                size: inode.size,
                start: extent.logical.saturating_mul(block),
                place: extent.start.saturating_mul(block),
                length: extent.length.saturating_mul(block),
            };
            self.volume.remembered.set_piece(inode.node(), piece, [inode.block, within]);
        }
    }

    /// Hands out a hole up to `end`, if that lies ahead.
    fn hole(&mut self, end: u64) -> Result<(), Error> {
        if end > self.wanted.start { self.emit(end, None) } else { Ok(()) }
    }

    fn emit(&mut self, end: u64, physical: Option<u64>) -> Result<(), Error> {
        let run = Run { blocks: self.wanted.start..end, physical };
        self.wanted.start = end;
        (self.visit)(run)
    }
}
