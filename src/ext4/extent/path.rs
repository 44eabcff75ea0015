// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finding a place in an extent tree, and changing the nodes on the way to it.
//!
//! A path is positions: which node of each level, which entry of it. It borrows nothing, so that the nodes can be changed
//! along it; it holds until entries are put into or taken out of one of its nodes. Every node is checked when a path goes
//! through it: what follows relies on the order of entries, and on counts that fit.

use core::ops::Range;

use super::node::{
    self, ENTRY, Entry, Extent, MAX_DEPTH, Node, TAIL, checksum_offset, child_block, first_block,
};
use super::{ExtentFault, ROOT_BOUNDS};
use crate::ext4::Volume;
use crate::ext4::checksum::crc32c;
use crate::ext4::error::{Damage, Error};
use crate::ext4::field::{le16, le32};
use crate::ext4::inode::{self, Inode};
use crate::ext4::verified::Kind;
use crate::fs;
use crate::mem::region::Region;

/// Whose tree it is.
#[derive(Debug, Clone, Copy)]
pub(in crate::ext4) struct Tree {
    /// The inode.
    pub number: u32,
    /// As which its blocks are noted.
    owner: fs::Node,
    /// The seed of the volume's checksums, and what makes the seed of the nodes' of it.
    volume_seed: u32,
    generation: u32,
}

impl Tree {
    pub(in crate::ext4) fn of(inode: &Inode<'_>) -> Self {
        Self {
            number: inode.number,
            owner: inode.node(),
            volume_seed: inode.volume_seed,
            generation: inode.generation,
        }
    }

    /// The seed of the nodes' checksums.
    fn seed(self) -> u32 {
        inode::checksum_seed(self.volume_seed, self.number, self.generation)
    }

    pub(super) fn damage(self, fault: ExtentFault) -> Error {
        Damage::Extent { inode: self.number, fault }.into()
    }

    /// The node in the inode.
    pub(super) fn root(self, i_block: &[u8; 60]) -> Result<Node<'_>, Error> {
        let root = Node::parse(None, i_block, 0).map_err(|fault| self.damage(fault))?;
        if root.depth > MAX_DEPTH {
            return Err(self.damage(ExtentFault::Depth { found: root.depth, expected: MAX_DEPTH }));
        }
        Ok(root)
    }

    /// The node that the index entry `entry` of a node of `depth` points to.
    pub(super) fn child<'v, R: Region>(
        self,
        volume: &'v Volume<R>,
        entry: &Entry,
        depth: u16,
    ) -> Result<Node<'v>, Error> {
        let number = child_block(entry);
        if !volume.holds(number, 1) {
            return Err(self.damage(ExtentFault::Physical { start: number, length: 1 }));
        }
        volume.check_owned(self.number, number, 1)?;
        let block = volume.block(number)?;
        let summed = volume.superblock.has_metadata_csum();
        let reserved = if summed { TAIL } else { 0 };
        let node = Node::parse(Some(number), block, reserved).map_err(|fault| self.damage(fault))?;
        let noted = |kind| volume.verified.has_owned(kind, number, self.owner);
        if summed && !noted(Kind::ExtentNode) && !noted(Kind::ExtentEntries) {
            let tail = checksum_offset(node.eh_max);
            let stored = le32(block, tail);
            let computed = crc32c(self.seed(), block.get(..tail).unwrap_or_default());
            if stored != computed {
                return Err(self.damage(ExtentFault::Checksum { block: number, stored, computed }));
            }
            volume.verified.note_owned(Kind::ExtentNode, number, self.owner);
        }
        let expected = depth.saturating_sub(1);
        if node.depth != expected {
            return Err(self.damage(ExtentFault::Depth { found: node.depth, expected }));
        }
        Ok(node)
    }

    /// That the entries of `node` are in order, within `bounds`, and inside the volume.
    pub(super) fn check_entries<R: Region>(
        self,
        volume: &Volume<R>,
        node: &Node<'_>,
        bounds: &Range<u64>,
    ) -> Result<(), Error> {
        let verified = &volume.verified;
        let noted =
            node.block.is_some_and(|block| verified.has_owned(Kind::ExtentEntries, block, self.owner));
        if let (true, Some(first), Some(last)) = (noted, node.entries.first(), node.entries.last()) {
            // Among themselves they are in order. A damaged tree may have the node in more than one place.
            self.check_entry(volume, node, first, bounds.start, bounds.end)?;
            self.check_entry(volume, node, last, bounds.start, bounds.end)?;
            return Ok(());
        }
        if node.depth > 0 && node.entries.is_empty() {
            return Err(self.damage(ExtentFault::EmptyIndex));
        }
        let mut lowest = bounds.start;
        for entry in node.entries {
            lowest = self.check_entry(volume, node, entry, lowest, bounds.end)?;
        }
        if let Some(block) = node.block {
            verified.note_owned(Kind::ExtentEntries, block, self.owner);
        }
        Ok(())
    }

    /// That `entry` of `node` lies in the volume, and covers blocks from `lowest` up to `highest` at most. Returns where it ends.
    fn check_entry<R: Region>(
        self,
        volume: &Volume<R>,
        node: &Node<'_>,
        entry: &Entry,
        lowest: u64,
        highest: u64,
    ) -> Result<u64, Error> {
        let block = le32(entry, 0);
        let end = if node.depth > 0 {
            u64::from(block) + 1
        } else {
            let extent = Extent::parse(entry);
            if extent.length == 0 {
                return Err(self.damage(ExtentFault::EmptyExtent { block }));
            }
            if !volume.holds(extent.start, extent.length) {
                let length = le16(entry, 4);
                return Err(self.damage(ExtentFault::Physical { start: extent.start, length }));
            }
            extent.end()
        };
        if u64::from(block) < lowest || end > highest {
            return Err(self.damage(ExtentFault::Order { block, lowest, end: highest }));
        }
        Ok(end)
    }
}

/// Where a node lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the inode.
    Root,
    /// In this block.
    Block(u64),
}

/// A node that a path goes through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    pub place: Place,
    pub entries: u16,
    pub eh_max: u16,
    /// Of an index node: the entry that the path goes through. Of a leaf: how many entries begin at or before the block
    /// that was looked for.
    pub position: u16,
}

/// The way to a block of a file, from the root to the leaf where it is, or would be.
#[derive(Debug, Clone)]
pub(super) struct Path {
    levels: heapless::Vec<Level, { MAX_DEPTH as usize + 1 }>,
    /// The leaf's last extent that begins at or before the block.
    pub before: Option<Extent>,
    /// The leaf's first extent that begins behind the block.
    pub behind: Option<Extent>,
    /// Where the leaf ends, and the next one begins.
    pub end: u64,
}

impl Path {
    /// Levels, the root's and the leaf's among them.
    pub(super) fn len(&self) -> usize {
        self.levels.len()
    }

    /// The node `steps` below the root.
    pub(super) fn level(&self, steps: usize) -> Option<Level> {
        self.levels.get(steps).copied()
    }

    /// The nodes from the root to the leaf.
    pub(super) fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The leaf.
    pub(super) fn leaf(&self) -> Level {
        let none = Level { place: Place::Root, entries: 0, eh_max: 0, position: 0 };
        self.levels.last().copied().unwrap_or(none)
    }

    /// The nodes above the one `steps` below the root, the nearest first.
    pub(super) fn above(&self, steps: usize) -> impl Iterator<Item = Level> {
        self.levels.get(..steps).unwrap_or_default().iter().rev().copied()
    }
}

impl<R: Region> Volume<R> {
    /// The way to the block `logical` in `tree`.
    pub(super) fn extent_path(&self, tree: Tree, logical: u64) -> Result<Path, Error> {
        let inode = self.allocated_inode(tree.number)?;
        let mut node = tree.root(inode.i_block)?;
        let mut place = Place::Root;
        let mut bounds = ROOT_BOUNDS;
        let mut path = Path { levels: heapless::Vec::new(), before: None, behind: None, end: bounds.end };
        loop {
            tree.check_entries(self, &node, &bounds)?;
            let at_or_before = node.entries.partition_point(|entry| first_block(entry) <= logical);
            // What lies in front of the first entry belongs to the first child.
            let taken = if node.depth == 0 { at_or_before } else { at_or_before.saturating_sub(1) };
            let level = Level {
                place,
                entries: u16::try_from(node.entries.len()).unwrap_or(u16::MAX),
                eh_max: node.eh_max,
                position: u16::try_from(taken).unwrap_or(u16::MAX),
            };
            let too_deep = ExtentFault::Depth { found: node.depth, expected: MAX_DEPTH };
            path.levels.push(level).map_err(|_| tree.damage(too_deep))?;
            if node.depth == 0 {
                let extent = |position| node.entries.get(position).map(Extent::parse);
                path.before = taken.checked_sub(1).and_then(extent);
                path.behind = extent(taken);
                path.end = bounds.end;
                return Ok(path);
            }
            let entry = node.entries.get(taken).ok_or_else(|| tree.damage(ExtentFault::EmptyIndex))?;
            bounds =
                first_block(entry)..node.entries.get(taken.saturating_add(1)).map_or(bounds.end, first_block);
            place = Place::Block(child_block(entry));
            node = tree.child(self, entry, node.depth)?;
        }
    }

    /// The entry at `position` of the node at `place`, which a path went through.
    pub(super) fn extent_entry(&self, tree: Tree, place: Place, position: u16) -> Result<Entry, Error> {
        let bytes = match place {
            Place::Root => self.allocated_inode(tree.number)?.i_block.as_slice(),
            Place::Block(number) => self.block(number)?,
        };
        let (entries, _) = bytes.get(ENTRY..).unwrap_or_default().as_chunks();
        let found = entries.get(usize::from(position)).copied();
        found.ok_or_else(|| tree.damage(ExtentFault::EmptyIndex))
    }

    /// Changes the node at `place` with `change`, then sets its checksum.
    pub(super) fn edit_node(
        &mut self,
        tree: Tree,
        place: Place,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<(), Error> {
        match place {
            Place::Root => self.edit_inode(tree.number, |inode| {
                change(inode.i_block());
                Ok(())
            }),
            Place::Block(number) => {
                let summed = self.superblock.has_metadata_csum();
                let block = self.block_mut(number)?;
                change(block);
                if summed {
                    node::seal(block, tree.seed());
                }
                Ok(())
            }
        }
    }

    /// Makes block `number` a node of `depth` with `entries`, as they are stored.
    pub(super) fn new_node(
        &mut self,
        tree: Tree,
        number: u64,
        depth: u16,
        entries: &[u8],
    ) -> Result<(), Error> {
        let summed = self.superblock.has_metadata_csum();
        let eh_max = node::block_room(self.superblock.block_size);
        let eh_entries = u16::try_from(entries.len() / ENTRY).unwrap_or(u16::MAX);
        let block = self.new_block(number)?;
        node::put_header(block, eh_entries, eh_max, depth);
        node::put_entries(block, entries);
        if summed {
            node::seal(block, tree.seed());
        }
        Ok(())
    }

    /// Tells the index entries above the node `steps` below the root that its first block is now `first`.
    pub(super) fn set_first_block(
        &mut self,
        tree: Tree,
        path: &Path,
        steps: usize,
        first: u64,
    ) -> Result<(), Error> {
        for level in path.above(steps) {
            self.edit_node(tree, level.place, |node| node::put_first_block(node, level.position, first))?;
            // Only the first child's first block is its parent's too.
            if level.position != 0 {
                break;
            }
        }
        Ok(())
    }
}
