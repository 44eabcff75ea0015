// SPDX-License-Identifier: MIT OR Apache-2.0

//! Putting extents into a tree: joined to a neighbour where they go on, else as entries of their own; leaves and index nodes
//! are split when they are full, and the tree grows by a level when all on the way are.
//!
//! Each change goes down one path or two and touches the nodes of that path alone, whatever the size of the tree. All of it is
//! part of the operation around it, which takes it back if it fails. Neighbours are joined within a leaf, as in Linux.

use super::ExtentFault;
use super::node::{
    ENTRY, Extent, MAX_DEPTH, ROOT_ROOM, first_block, index_entry, insert_entry, offset, put_count,
    put_entry, put_header, remove_entry,
};
use super::path::{Path, Place, Tree};
use crate::ext4::Volume;
use crate::ext4::error::Error;
use crate::ext4::features::RoCompat;
use crate::ext4::group;
use crate::fs::{Caller, Errno};
use crate::mem::region::Region;
use crate::mem::slice;

/// The most that one insertion takes: a split at each level, and one more level with all of that once more.
const MAX_ROUNDS: usize = 2 * (MAX_DEPTH as usize + 1);
/// The longest node, in bytes.
const MAX_NODE: usize = 4096;

/// What a file has at one of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ext4) enum Mapped {
    /// Content.
    Written {
        /// The block of the volume.
        physical: u64,
        /// How many blocks go on from there.
        blocks: u64,
    },
    /// Blocks that are set aside and read as zeros.
    Unwritten {
        /// The block of the volume.
        physical: u64,
        /// How many blocks go on from there.
        blocks: u64,
    },
    /// Nothing.
    Hole {
        /// How many blocks at least, up to something else.
        blocks: u64,
        /// Which block of the volume would be the best; `None` if no other of the file's is near.
        goal: Option<u64>,
    },
}

impl<R: Region> Volume<R> {
    /// What `tree` has at the block `logical`.
    pub(in crate::ext4) fn mapped(&self, tree: Tree, logical: u64) -> Result<Mapped, Error> {
        let path = self.extent_path(tree, logical)?;
        if let Some(extent) = path.before.filter(|extent| logical < extent.end()) {
            let rest = extent.tail(logical.saturating_sub(extent.logical));
            let (physical, blocks) = (rest.start, rest.length);
            self.check_owned(tree.number, physical, blocks)?;
            return Ok(if extent.written {
                Mapped::Written { physical, blocks }
            } else {
                Mapped::Unwritten { physical, blocks }
            });
        }
        let end = path.behind.map_or(path.end, |behind| behind.logical);
        Ok(Mapped::Hole { blocks: end.saturating_sub(logical), goal: self.extent_goal(&path, logical) })
    }

    /// Where the block `logical` should go so that it is joined to its neighbours, also once what is between is filled.
    fn extent_goal(&self, path: &Path, logical: u64) -> Option<u64> {
        if let Some(before) = path.before {
            let distance = logical.saturating_sub(before.logical);
            let same_distance = before.start.saturating_add(distance);
            let next = before.start.saturating_add(before.length);
            return Some(if self.holds(same_distance, 1) { same_distance } else { next });
        }
        let behind = path.behind?;
        behind.start.checked_sub(behind.logical.saturating_sub(logical)).filter(|goal| self.holds(*goal, 1))
    }

    /// Maps the `length` blocks from `logical` on, which are a hole, to those of the volume from `start` on, as written.
    pub(in crate::ext4) fn map_blocks(
        &mut self,
        tree: Tree,
        caller: Caller,
        logical: u64,
        start: u64,
        length: u32,
    ) -> Result<(), Error> {
        let extent = Extent { logical, length: u64::from(length), start, written: true };
        self.insert_extent(tree, caller, &extent)?;
        self.count_blocks(tree.number, i64::from(length))
    }

    /// Makes the `length` blocks from `logical` on, all of one unwritten extent, written ones.
    pub(in crate::ext4) fn mark_written(
        &mut self,
        tree: Tree,
        caller: Caller,
        logical: u64,
        length: u64,
    ) -> Result<(), Error> {
        let path = self.extent_path(tree, logical)?;
        let leaf = path.leaf();
        let found = path.before.filter(|extent| logical < extent.end() && !extent.written);
        let (Some(extent), Some(position)) = (found, leaf.position.checked_sub(1)) else {
            return Err(tree.order_fault(logical, &path));
        };
        let head = extent.head(logical.saturating_sub(extent.logical));
        let rest = extent.tail(head.length);
        let middle = Extent { written: true, ..rest.head(length) };
        let tail = rest.tail(length);
        if head.length == 0 && tail.length == 0 {
            return self.replace_extent(tree, &path, position, &middle);
        }
        let stays = if head.length == 0 { tail } else { head };
        self.edit_node(tree, leaf.place, |node| put_entry(node, position, stays.emit()))?;
        if head.length == 0 {
            if position == 0 {
                self.set_first_block(tree, &path, path.len().saturating_sub(1), tail.logical)?;
            }
            return self.insert_extent(tree, caller, &middle);
        }
        self.insert_extent(tree, caller, &middle)?;
        if tail.length > 0 { self.insert_extent(tree, caller, &tail) } else { Ok(()) }
    }

    /// Puts `extent`, whose blocks are a hole, into `tree`.
    fn insert_extent(&mut self, tree: Tree, caller: Caller, extent: &Extent) -> Result<(), Error> {
        for _ in 0..MAX_ROUNDS {
            let path = self.extent_path(tree, extent.logical)?;
            let behind = path.behind.map_or(path.end, |behind| behind.logical);
            if path.before.is_some_and(|before| before.end() > extent.logical) || behind < extent.end() {
                return Err(tree.order_fault(extent.logical, &path));
            }
            if self.join_neighbours(tree, &path, extent)? {
                return Ok(());
            }
            let leaf = path.leaf();
            if leaf.entries < leaf.eh_max {
                let position = leaf.position;
                self.edit_node(tree, leaf.place, |node| insert_entry(node, position, extent.emit()))?;
                if position == 0 {
                    self.set_first_block(tree, &path, path.len().saturating_sub(1), extent.logical)?;
                }
                return Ok(());
            }
            match path.levels().iter().rposition(|level| level.entries < level.eh_max) {
                Some(steps) => {
                    self.split_node(tree, caller, &path, steps.saturating_add(1), extent.logical)?
                }
                None => self.grow_root(tree, caller, &path, extent)?,
            }
        }
        Err(Errno::ENOSPC.into())
    }

    /// Joins `extent` to its neighbours in the leaf, if it goes on with one of them or both.
    fn join_neighbours(&mut self, tree: Tree, path: &Path, extent: &Extent) -> Result<bool, Error> {
        let leaf = path.leaf();
        let left = path.before.and_then(|before| before.joined(extent));
        let both = left.unwrap_or(*extent);
        let right = path.behind.and_then(|behind| both.joined(&behind));
        let position = leaf.position;
        match (left, right) {
            (None, None) => return Ok(false),
            (Some(joined), None) => {
                let position = position.saturating_sub(1);
                self.edit_node(tree, leaf.place, |node| put_entry(node, position, joined.emit()))?;
            }
            (None, Some(joined)) => {
                self.edit_node(tree, leaf.place, |node| put_entry(node, position, joined.emit()))?;
                if position == 0 {
                    self.set_first_block(tree, path, path.len().saturating_sub(1), joined.logical)?;
                }
            }
            (Some(_), Some(joined)) => {
                self.edit_node(tree, leaf.place, |node| {
                    put_entry(node, position.saturating_sub(1), joined.emit());
                    remove_entry(node, position);
                })?;
                self.collapse_after(tree, path, 1)?;
            }
        }
        Ok(true)
    }

    /// Puts `extent` in the place of the entry at `position` of the leaf, which has the same blocks, and joins it to its
    /// neighbours.
    fn replace_extent(
        &mut self,
        tree: Tree,
        path: &Path,
        position: u16,
        extent: &Extent,
    ) -> Result<(), Error> {
        let place = path.leaf().place;
        let before = match position.checked_sub(1) {
            Some(before) => Some(Extent::parse(&self.extent_entry(tree, place, before)?)),
            None => None,
        };
        let left = before.and_then(|before| before.joined(extent));
        let both = left.unwrap_or(*extent);
        let right = path.behind.and_then(|behind| both.joined(&behind));
        let joined = right.unwrap_or(both);
        self.edit_node(tree, place, |node| {
            if right.is_some() {
                remove_entry(node, position.saturating_add(1));
            }
            if left.is_some() {
                remove_entry(node, position);
            }
            let position = if left.is_some() { position.saturating_sub(1) } else { position };
            put_entry(node, position, joined.emit());
        })?;
        self.collapse_after(tree, path, u16::from(left.is_some()).saturating_add(u16::from(right.is_some())))
    }

    /// Makes the tree shallower if it may have become small enough, now that `removed` entries of the leaf are gone.
    fn collapse_after(&mut self, tree: Tree, path: &Path, removed: u16) -> Result<(), Error> {
        let few = path.leaf().entries.saturating_sub(removed) <= ROOT_ROOM;
        if removed > 0 && few && path.len() > 1 { self.collapse_root(tree) } else { Ok(()) }
    }

    /// Splits the node `steps` below the root, which is full; the one above it has room. An entry for `logical` is to come
    /// into it or below it. Where that is the last, nothing is moved that need not be, so that a file written from front to
    /// end has full nodes.
    fn split_node(
        &mut self,
        tree: Tree,
        caller: Caller,
        path: &Path,
        steps: usize,
        logical: u64,
    ) -> Result<(), Error> {
        let (Some(full), Some(above)) = (path.level(steps), path.level(steps.saturating_sub(1))) else {
            return Err(Errno::ENOSPC.into());
        };
        let Place::Block(block) = full.place else { return Err(Errno::ENOSPC.into()) };
        if full.entries < 2 {
            return Err(tree.damage(ExtentFault::Entries { entries: full.entries, max: full.eh_max }));
        }
        let levels_below = path.len().saturating_sub(steps).saturating_sub(1);
        let depth = u16::try_from(levels_below).unwrap_or(MAX_DEPTH);
        let is_leaf = depth == 0;
        let place_of_new = if is_leaf { full.position } else { full.position.saturating_add(1) };
        let kept = if place_of_new < full.entries {
            full.entries / 2
        } else if is_leaf {
            full.entries
        } else {
            full.entries.saturating_sub(1)
        };
        let mut moved = [0; MAX_NODE];
        let range = offset(kept)..offset(full.entries);
        let length = range.len();
        let (Some(entries), Some(copy)) = (self.block(block)?.get(range), moved.get_mut(..length)) else {
            return Err(tree.damage(ExtentFault::Entries { entries: full.entries, max: full.eh_max }));
        };
        slice::copy(copy, entries);
        let first = moved.first_chunk().filter(|_| length > 0).map_or(logical, first_block);
        let number = self.allocate_node(tree, caller, block)?;
        self.new_node(tree, number, depth, moved.get(..length).unwrap_or_default())?;
        self.edit_node(tree, full.place, |node| put_count(node, kept))?;
        self.edit_node(tree, above.place, |node| {
            insert_entry(node, above.position.saturating_add(1), index_entry(first, number));
        })
    }

    /// Moves what the root holds into a node of its own, below the root.
    fn grow_root(&mut self, tree: Tree, caller: Caller, path: &Path, extent: &Extent) -> Result<(), Error> {
        let depth = u16::try_from(path.len().saturating_sub(1)).unwrap_or(MAX_DEPTH);
        if depth >= MAX_DEPTH {
            return Err(Errno::ENOSPC.into());
        }
        let entries = path.level(0).map_or(0, |root| root.entries);
        let i_block = *self.allocated_inode(tree.number)?.i_block;
        let moved = i_block.get(ENTRY..offset(entries)).unwrap_or_default();
        let first = moved.first_chunk().map_or(extent.logical, first_block);
        let number = self.allocate_node(tree, caller, self.node_goal(tree.number))?;
        self.new_node(tree, number, depth, moved)?;
        self.edit_node(tree, Place::Root, |node| {
            put_header(node, 1, ROOT_ROOM, depth.saturating_add(1));
            put_entry(node, 0, index_entry(first, number));
        })
    }

    /// Where the first node of an inode's tree should go: to the front of the inode's group, and the others next to it. Between
    /// the blocks of the file it would take the place of one that is still to come, and split an extent.
    fn node_goal(&self, number: u32) -> u64 {
        let group = number.saturating_sub(1) / self.superblock.s_inodes_per_group;
        group::first_block(&self.superblock, group)
    }

    /// Allocates a block for a node, near `goal`.
    fn allocate_node(&mut self, tree: Tree, caller: Caller, goal: u64) -> Result<u64, Error> {
        let number = self.allocate_blocks(goal, 1, caller)?.start;
        self.count_blocks(tree.number, 1)?;
        Ok(number)
    }

    /// Counts `added` more blocks (fewer, if negative) as the space that inode `number` takes.
    ///
    /// # Errors
    /// EFBIG for more than the inode can state.
    pub(in crate::ext4) fn count_blocks(&mut self, number: u32, added: i64) -> Result<(), Error> {
        let sectors_per_block = i64::from(self.superblock.sectors_per_block());
        let huge = self.superblock.ro_compat.contains(RoCompat::HUGE_FILE);
        let before = self.allocated_inode(number)?.blocks512;
        // A volume that counted too few before goes on from 0.
        let after = before.saturating_add_signed(added.saturating_mul(sectors_per_block));
        if added > 0 && after >= 1 << if huge { 48 } else { 32 } {
            return Err(Errno::EFBIG.into());
        }
        self.edit_inode(number, |inode| {
            inode.set_blocks512(after);
            Ok(())
        })
    }
}

impl Tree {
    /// What the walk would say if blocks from `logical` on were there twice.
    fn order_fault(self, logical: u64, path: &Path) -> Error {
        let lowest = path.before.map_or(0, |before| before.end());
        let end = path.behind.map_or(path.end, |behind| behind.logical);
        let block = u32::try_from(logical).unwrap_or(u32::MAX);
        self.damage(ExtentFault::Order { block, lowest, end })
    }
}
