// SPDX-License-Identifier: MIT OR Apache-2.0

//! Taking extents out of a tree, from its end: in steps of bounded size, each of which leaves the tree valid.

use super::ROOT_BOUNDS;
use super::node::{
    ENTRY, Extent, ROOT_ROOM, child_block, put_count, put_entries, put_entry, put_header, remove_entry,
};
use super::path::{Path, Place, Tree};
use crate::ext4::Volume;
use crate::ext4::alloc::Freed;
use crate::ext4::error::Error;
use crate::mem::region::Region;
use crate::mem::slice;

/// Extents that one step frees.
const MAX_EXTENTS: u32 = 64;
/// Groups whose bitmaps one step changes.
const MAX_GROUPS: u32 = 32;
/// Blocks of metadata that one step frees: the journal is told of each.
const MAX_METADATA: u64 = 512;

/// What one step may still do.
#[derive(Debug)]
pub(in crate::ext4) struct Budget {
    extents: u32,
    groups: u32,
    metadata: u64,
    /// The group that was changed last.
    group: Option<u64>,
}

impl Budget {
    pub(in crate::ext4) fn new() -> Self {
        Self { extents: MAX_EXTENTS, groups: MAX_GROUPS, metadata: MAX_METADATA, group: None }
    }

    /// Whether there is nothing left of it.
    pub(in crate::ext4) fn is_spent(&self) -> bool {
        self.extents == 0 || self.groups == 0 || self.metadata == 0
    }

    /// How many of the `length` blocks from `start` on, counted from their end, may be freed now; never 0 unless the budget is
    /// spent. Takes as much from it. Block `first` is the first of group 0, each of `per_group` blocks.
    pub(in crate::ext4) fn take(
        &mut self,
        (start, length): (u64, u64),
        content: Freed,
        (first, per_group): (u64, u64),
    ) -> u64 {
        if self.is_spent() || length == 0 {
            return 0;
        }
        let mut length = length;
        if content == Freed::Metadata {
            length = length.min(self.metadata);
            self.metadata = self.metadata.saturating_sub(length);
        }
        let end = start.saturating_sub(first).saturating_add(length);
        let group_of = |block: u64| block.checked_div(per_group).unwrap_or(0);
        let last = group_of(end.saturating_sub(1));
        let fresh = u32::from(self.group != Some(last));
        // The last group, and as many in front of it as are left.
        let in_front = u64::from(self.groups.saturating_sub(fresh));
        let lowest = last.saturating_sub(in_front).saturating_mul(per_group);
        let taken = length.min(end.saturating_sub(lowest));
        let reached = group_of(end.saturating_sub(taken));
        let changed = u32::try_from(last.saturating_sub(reached)).unwrap_or(u32::MAX);
        self.groups = self.groups.saturating_sub(changed.saturating_add(fresh));
        self.extents = self.extents.saturating_sub(1);
        self.group = Some(reached);
        taken
    }

    /// Counts a node that is freed: it may lie in any group.
    pub(in crate::ext4) fn take_node(&mut self) {
        self.groups = self.groups.saturating_sub(1);
        self.group = None;
    }
}

impl<R: Region> Volume<R> {
    /// Frees blocks of `tree` from its end down to the block `from`, as far as `budget` goes; whether there may be more.
    pub(in crate::ext4) fn remove_extents(
        &mut self,
        tree: Tree,
        from: u64,
        content: Freed,
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        while !budget.is_spent() {
            let path = self.extent_path(tree, ROOT_BOUNDS.end)?;
            let leaf = path.leaf();
            let (mut kept, mut freed) = (leaf.entries, 0_u64);
            let mut shortened = None;
            while let Some(last) = kept.checked_sub(1) {
                let extent = Extent::parse(&self.extent_entry(tree, leaf.place, last)?);
                let beyond = extent.end().saturating_sub(from.max(extent.logical));
                let behind = extent.tail(extent.length.saturating_sub(beyond));
                let groups = (
                    u64::from(self.superblock.s_first_data_block),
                    u64::from(self.superblock.s_blocks_per_group.get()),
                );
                let taken = budget.take((behind.start, behind.length), content, groups);
                if taken == 0 {
                    break;
                }
                let stays = extent.head(extent.length.saturating_sub(taken));
                let gone = extent.tail(stays.length);
                self.free_blocks(gone.start, u32::try_from(gone.length).unwrap_or(u32::MAX), content)?;
                freed = freed.saturating_add(gone.length);
                if stays.length > 0 {
                    shortened = Some((last, stays.emit()));
                    break;
                }
                kept = last;
            }
            self.edit_leaf_end(tree, &path, kept, shortened)?;
            if freed > 0 {
                self.count_blocks(tree.number, 0i64.saturating_sub_unsigned(freed))?;
            }
            if kept > 0 && !budget.is_spent() {
                let last = self.extent_path(tree, ROOT_BOUNDS.end)?.before;
                if last.is_none_or(|last| last.end() <= from) {
                    return Ok(false);
                }
            }
            if kept == 0 {
                if path.len() == 1 {
                    return Ok(false);
                }
                budget.take_node();
            }
        }
        Ok(true)
    }

    /// Leaves the first `kept` entries of the last leaf, the last of them as `shortened` says; a leaf without entries goes.
    fn edit_leaf_end(
        &mut self,
        tree: Tree,
        path: &Path,
        kept: u16,
        shortened: Option<(u16, [u8; ENTRY])>,
    ) -> Result<(), Error> {
        let leaf = path.leaf();
        if kept == leaf.entries && shortened.is_none() && kept > 0 {
            return Ok(());
        }
        if kept > 0 || path.len() == 1 {
            self.edit_node(tree, leaf.place, |node| {
                put_count(node, kept);
                if let Some((position, entry)) = shortened {
                    put_entry(node, position, entry);
                }
            })?;
            return if path.len() == 1 { Ok(()) } else { self.collapse_root(tree) };
        }
        // The leaf, and each node above it that has nothing else.
        for level in path.levels().iter().rev() {
            let only = level.entries <= 1 || level.place == leaf.place;
            match level.place {
                Place::Root if only => {
                    return self.edit_node(tree, Place::Root, |node| put_header(node, 0, ROOT_ROOM, 0));
                }
                Place::Block(number) if only => self.free_node(tree, number)?,
                place => {
                    let position = level.position;
                    self.edit_node(tree, place, |node| remove_entry(node, position))?;
                    break;
                }
            }
        }
        self.collapse_root(tree)
    }

    /// Moves what the root's only child holds into the root, for as long as there is just one and it fits.
    pub(super) fn collapse_root(&mut self, tree: Tree) -> Result<(), Error> {
        loop {
            let inode = self.allocated_inode(tree.number)?;
            let root = tree.root(inode.i_block)?;
            let (1.., [entry]) = (root.depth, root.entries) else { return Ok(()) };
            let child = tree.child(self, entry, root.depth)?;
            if child.entries.len() > usize::from(ROOT_ROOM) {
                return Ok(());
            }
            let (number, depth) = (child_block(entry), child.depth);
            let mut moved = [0; ENTRY * ROOT_ROOM as usize];
            let entries = child.entries.as_flattened();
            let length = entries.len();
            if let Some(copy) = moved.get_mut(..length) {
                slice::copy(copy, entries);
            }
            let count = u16::try_from(child.entries.len()).unwrap_or(ROOT_ROOM);
            self.edit_node(tree, Place::Root, |node| {
                put_header(node, count, ROOT_ROOM, depth);
                put_entries(node, moved.get(..length).unwrap_or_default());
            })?;
            self.free_node(tree, number)?;
        }
    }

    /// Frees the block `number` of a node.
    fn free_node(&mut self, tree: Tree, number: u64) -> Result<(), Error> {
        self.free_blocks(number, 1, Freed::Metadata)?;
        self.count_blocks(tree.number, -1)
    }
}
