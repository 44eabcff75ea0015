// SPDX-License-Identifier: MIT OR Apache-2.0

//! Growing a directory with an index: a full leaf is split, a full node too, and the root gets a level more.
//!
//! Each step leaves a sound directory, and after it the place for the name is looked for anew: that costs a few blocks read, once in
//! many insertions.

use super::DirectoryFault;
use super::insert::Layout;
use super::leaf::{self, NewRecord};
use crate::ext4::Volume;
use crate::ext4::error::Error;
use crate::ext4::hash::NameHash;
use crate::ext4::htree::{self, IndexFault, MOST_LEVELS, Step};
use crate::ext4::inode::InodeFlags;
use crate::fs::{Caller, Errno};
use crate::mem::region::Region;

/// Where `..` starts in the first block of a directory with an index.
const DOT_DOT: usize = 12;
/// The largest block.
const MOST_BYTES: usize = 4096;
/// The most steps that one insertion takes: a level more, each node on the way split, the leaf split.
const MOST_STEPS: usize = MOST_LEVELS + 3;

/// The way to the leaf of a name.
struct Route {
    steps: heapless::Vec<Step, MOST_LEVELS>,
    leaf: u32,
    names: NameHash,
}

impl<R: Region> Volume<R> {
    /// Adds `new` to the directory `number`, which has an index.
    pub(super) fn insert_indexed(
        &mut self,
        number: u32,
        new: &NewRecord<'_>,
        caller: Caller,
    ) -> Result<(), Error> {
        for _ in 0..MOST_STEPS {
            let layout = self.directory_of(number)?.layout()?;
            let route = self.route_to_leaf(&layout, new.name)?;
            if self.insert_into(&layout, route.leaf, new)? {
                return Ok(());
            }
            self.make_index_room(&layout, &route, caller)?;
        }
        Err(self.directory_of(number)?.layout()?.index.damage(0, IndexFault::Endless))
    }

    /// The way to the first leaf for `name`.
    fn route_to_leaf(&self, layout: &Layout, name: &[u8]) -> Result<Route, Error> {
        let directory = self.directory_of(layout.index.directory)?;
        let tree = layout.index.open(|block| directory.block(block))?;
        let cursor = tree.seek(tree.names.hash(name))?;
        Ok(Route { steps: cursor.steps(), leaf: cursor.leaf(), names: tree.names })
    }

    /// Does the next thing that makes room at the end of `route`: splits the leaf if the nodes above have room for one more, else
    /// the highest node that must be split first, else puts a level under the root.
    fn make_index_room(&mut self, layout: &Layout, route: &Route, caller: Caller) -> Result<(), Error> {
        let (index, number) = (&layout.index, layout.index.directory);
        let mut full: Option<Step> = None;
        for step in route.steps.iter().rev() {
            if step.count < step.limit {
                return match full {
                    Some(full) => self.split_index_node(layout, step, &full, caller),
                    None => self.split_directory_leaf(layout, step, route, caller),
                };
            }
            full = Some(*step);
        }
        if route.steps.len() >= index.most_levels() {
            log::warn!("ext4: the index of directory {number} is full at {} levels", route.steps.len());
            return Err(Errno::ENOSPC.into());
        }
        let child = index.blocks;
        let new = self.append_directory_block(number, child, caller)?;
        let root = self.directory_of(number)?.physical(0)?;
        self.move_index_entries(layout, (0, root), 0, (child, new))?;
        htree::grow_root(self.block_mut(root)?, index, child);
        Ok(())
    }

    /// Moves the upper half of the node `full`, under entry `parent`, to a new one.
    fn split_index_node(
        &mut self,
        layout: &Layout,
        parent: &Step,
        full: &Step,
        caller: Caller,
    ) -> Result<(), Error> {
        let (index, number) = (&layout.index, layout.index.directory);
        let child = index.blocks;
        let new = self.append_directory_block(number, child, caller)?;
        let directory = self.directory_of(number)?;
        let (old, above) = (directory.physical(full.block)?, directory.physical(parent.block)?);
        let kept = full.count / 2;
        let least = self.move_index_entries(layout, (full.block, old), kept, (child, new))?;
        htree::truncate_entries(self.block_mut(old)?, index, full.block, kept);
        htree::insert_entry(self.block_mut(above)?, index, parent, least, child);
        Ok(())
    }

    /// Makes block `new` a node with the entries of the node `old` from entry `from` on, whose hash is returned. Each node is given
    /// as a block of the directory and of the volume.
    #[inline(never)]
    fn move_index_entries(
        &mut self,
        layout: &Layout,
        old: (u32, u64),
        from: usize,
        new: (u32, u64),
    ) -> Result<u32, Error> {
        let entries = htree::upper_entries(self.block(old.1)?, old.0, from);
        htree::initialize_node(self.block_mut(new.1)?, &layout.index, new.0, &entries);
        Ok(entries.hash())
    }

    /// Moves the names with the upper half of the hashes of the leaf at the end of `route`, under entry `parent`, to a new one.
    fn split_directory_leaf(
        &mut self,
        layout: &Layout,
        parent: &Step,
        route: &Route,
        caller: Caller,
    ) -> Result<(), Error> {
        let (index, number) = (&layout.index, layout.index.directory);
        let child = index.blocks;
        let new = self.append_directory_block(number, child, caller)?;
        let directory = self.directory_of(number)?;
        let (old, above) = (directory.physical(route.leaf)?, directory.physical(parent.block)?);
        let least = self.share_leaf(layout, &route.names, old, new)?;
        htree::insert_entry(self.block_mut(above)?, index, parent, least, child);
        Ok(())
    }

    /// Moves the names with the upper half of the hashes of the leaf in block `old` of the volume to block `new`. The least of
    /// them is returned, with the continuation bit.
    #[inline(never)]
    fn share_leaf(&mut self, layout: &Layout, names: &NameHash, old: u64, new: u64) -> Result<u32, Error> {
        let (length, seed) = (layout.records_length(), layout.index.checksum_seed);
        let copy = BlockCopy::of(self.block(old)?);
        let records = leaf::sorted(copy.bytes(), (0, length), layout.rules, names);
        let Some((lower, upper)) = records.split_at_checked(leaf::middle(&records, length)) else {
            return Err(layout.index.damage(0, IndexFault::Endless));
        };
        let (Some(last), Some(first)) = (lower.last(), upper.first()) else {
            return Err(layout.index.damage(0, IndexFault::Endless));
        };
        for (block, records) in [(old, lower), (new, upper)] {
            let raw = self.block_mut(block)?;
            leaf::fill(raw, length, copy.bytes(), records);
            leaf::seal(raw, seed);
        }
        Ok(first.hash | u32::from(first.hash == last.hash))
    }

    /// Gives a directory of one block an index: its names move to a second block, the only leaf.
    pub(super) fn make_index(&mut self, layout: &Layout, caller: Caller) -> Result<(), Error> {
        let number = layout.index.directory;
        let new = self.append_directory_block(number, 1, caller)?;
        let directory = self.directory_of(number)?;
        let dot_dot = directory.dots(directory.leaf(0)?)?;
        if dot_dot.start != DOT_DOT {
            return Err(directory.damage(DirectoryFault::Dots));
        }
        let (root, names) = (directory.physical(0)?, dot_dot.end);
        self.move_names(layout, (root, names), new)?;
        htree::initialize_root(self.block_mut(root)?, &layout.index, layout.names.function, 1);
        self.edit_inode(number, |inode| {
            let flags = inode.flags();
            inode.set_flags(flags.union(InodeFlags::INDEX));
            Ok(())
        })
    }

    /// Copies the names in block `first` of the volume, from the byte `start` on, to block `new`.
    #[inline(never)]
    fn move_names(&mut self, layout: &Layout, first: (u64, usize), new: u64) -> Result<(), Error> {
        let (length, (first, start)) = (layout.records_length(), first);
        let copy = BlockCopy::of(self.block(first)?);
        let records = leaf::sorted(copy.bytes(), (start, length), layout.rules, &layout.names);
        let raw = self.block_mut(new)?;
        leaf::fill(raw, length, copy.bytes(), &records);
        leaf::seal(raw, layout.index.checksum_seed);
        Ok(())
    }
}

/// A copy of a block.
struct BlockCopy {
    bytes: [u8; MOST_BYTES],
    length: usize,
}

impl BlockCopy {
    fn of(block: &[u8]) -> Self {
        let mut bytes = [0; MOST_BYTES];
        let length = block.len().min(MOST_BYTES);
        if let (Some(to), Some(from)) = (bytes.get_mut(..length), block.get(..length)) {
            to.copy_from_slice(from);
        }
        Self { bytes, length }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}
