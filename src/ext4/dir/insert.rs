// SPDX-License-Identifier: MIT OR Apache-2.0

//! New directories, and new names in them.
//!
//! A name goes where there is room: in a directory with an index into the leaf of its hash, which is split if it is full
//! (see [`super::split`]); in another into the first block that has room, or a new one. A directory of one block gets its
//! index when that block is full.

use super::leaf::{self, NewRecord, Room};
use super::{Content, Directory};
use crate::ext4::Volume;
use crate::ext4::dirent::{Records, Rules, file_type};
use crate::ext4::error::Error;
use crate::ext4::features::Compat;
use crate::ext4::hash::NameHash;
use crate::ext4::htree::{self, Index};
use crate::ext4::inode::InodeFlags;
use crate::fs::{Caller, Errno, FileKind};
use crate::mem::region::Region;

/// What a change needs to know of a directory, apart from its blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Its number, its length, and the volume's parameters.
    pub(super) index: Index,
    pub(super) rules: Rules,
    /// How its names are hashed if it is to get an index.
    pub(super) names: NameHash,
    /// Whether it has an index.
    pub(super) indexed: bool,
    /// Whether its records may be moved within their block: its positions are hashes.
    pub(super) hash_ordered: bool,
}

impl Layout {
    /// How many bytes of a block hold records.
    pub(super) fn records_length(&self) -> usize {
        leaf::records_length(self.index.block_size, self.index.checksum_seed.is_some())
    }

    /// The `file_type` that a record has for `kind`.
    pub(super) fn file_type(&self, kind: FileKind) -> u8 {
        if self.rules.file_type { file_type(kind) } else { 0 }
    }
}

impl<R: Region> Directory<'_, R> {
    /// What a change needs to know of the directory.
    ///
    /// # Errors
    /// EROFS for one that lies in its inode.
    pub(super) fn layout(&self) -> Result<Layout, Error> {
        let Content::Blocks(blocks) = self.content()? else { return Err(Errno::EROFS.into()) };
        Ok(Layout {
            index: self.index(blocks),
            rules: self.rules(),
            names: self.names(),
            indexed: self.is_indexed(),
            hash_ordered: self.is_hash_ordered(blocks),
        })
    }

    /// Room for a name of `name_len` bytes in block `block`.
    pub(super) fn room(&self, layout: &Layout, block: u32, name_len: usize) -> Result<Room, Error> {
        let raw = self.leaf(block)?;
        if block == 0 {
            self.check_dots(raw)?;
        }
        let length = layout.records_length();
        let area = raw.get(..length).unwrap_or_default();
        let room = leaf::find_room(Records::new(area, layout.rules), length, name_len)
            .map_err(|(offset, fault)| self.record_damage(self.position(block), offset, fault))?;
        Ok(if room == Room::Scattered && !layout.hash_ordered { Room::None } else { room })
    }
}

impl<R: Region> Volume<R> {
    /// The directory with inode `number`.
    pub(super) fn directory_of(&self, number: u32) -> Result<Directory<'_, R>, Error> {
        Directory::new(self, self.inode(number)?)
    }

    /// Gives the new directory `number` its first block, with `.` and `..`, which is `parent`.
    ///
    /// # Errors
    /// ENOSPC; damage; [`Error::TransactionFull`].
    pub(in crate::ext4) fn initialize_directory(
        &mut self,
        number: u32,
        parent: u32,
        caller: Caller,
    ) -> Result<(), Error> {
        let physical = self.append_directory_block(number, 0, caller)?;
        let directory = self.directory_of(number)?;
        let layout = directory.layout()?;
        let file_type = layout.file_type(FileKind::Directory);
        let raw = self.new_block(physical)?;
        leaf::fill_dots(raw, layout.records_length(), number, parent, file_type);
        leaf::seal(raw, layout.index.checksum_seed);
        Ok(())
    }

    /// Adds `name` for `inode`, of that kind, to `directory`. It is not there yet.
    ///
    /// # Errors
    /// ENOSPC: no room on the volume, or the index of the directory cannot grow; damage; [`Error::TransactionFull`].
    pub(in crate::ext4) fn insert_name(
        &mut self,
        directory: u32,
        name: &[u8],
        inode: u32,
        kind: FileKind,
        caller: Caller,
    ) -> Result<(), Error> {
        let layout = self.directory_of(directory)?.layout()?;
        let new = NewRecord { inode, file_type: layout.file_type(kind), name };
        if layout.indexed {
            return self.insert_indexed(directory, &new, caller);
        }
        self.forget_index(&layout)?;
        let blocks = layout.index.blocks;
        for block in 0..blocks {
            if self.insert_into(&layout, block, &new)? {
                return Ok(());
            }
        }
        if layout.hash_ordered {
            self.make_index(&layout, caller)?;
            return self.insert_indexed(directory, &new, caller);
        }
        let physical = self.append_directory_block(directory, blocks, caller)?;
        let raw = self.new_block(physical)?;
        leaf::fill_one(raw, layout.records_length(), &new);
        leaf::seal(raw, layout.index.checksum_seed);
        Ok(())
    }

    /// Adds `new` to block `block`, if there is room.
    pub(super) fn insert_into(
        &mut self,
        layout: &Layout,
        block: u32,
        new: &NewRecord<'_>,
    ) -> Result<bool, Error> {
        let directory = self.directory_of(layout.index.directory)?;
        let room = directory.room(layout, block, new.name.len())?;
        if room == Room::None {
            return Ok(false);
        }
        let physical = directory.physical(block)?;
        let raw = self.block_mut(physical)?;
        let place = match room {
            Room::Within { start, taken, length } => (start, taken, length),
            Room::Scattered => leaf::pack(raw, layout.records_length(), layout.rules),
            Room::None => return Ok(false),
        };
        leaf::insert(raw, place, new);
        leaf::seal(raw, layout.index.checksum_seed);
        Ok(true)
    }

    /// Appends block `block` to the directory `number`: the block of the volume, all zeros.
    pub(super) fn append_directory_block(
        &mut self,
        number: u32,
        block: u32,
        caller: Caller,
    ) -> Result<u64, Error> {
        let superblock = self.superblock();
        let size = u64::from(block).saturating_add(1).saturating_mul(u64::from(superblock.block_size));
        if block >= htree::MOST_BLOCKS || (size > u64::from(u32::MAX) && !superblock.has_large_dir()) {
            log::warn!("ext4: directory {number} cannot grow beyond {block} blocks");
            return Err(Errno::ENOSPC.into());
        }
        let physical = self.append_block(number, block, caller)?;
        self.edit_inode(number, |inode| {
            inode.set_size(size);
            Ok(())
        })?;
        self.new_block(physical)?;
        Ok(physical)
    }

    /// Clears the flag of a directory that seems to have an index on a volume without: what is stored now does not keep it right.
    fn forget_index(&mut self, layout: &Layout) -> Result<(), Error> {
        let number = layout.index.directory;
        let dir_index = self.superblock().compat.contains(Compat::DIR_INDEX);
        if dir_index || !self.inode(number)?.flags.contains(InodeFlags::INDEX) {
            return Ok(());
        }
        self.edit_inode(number, |inode| {
            let flags = inode.flags();
            inode.set_flags(flags.difference(InodeFlags::INDEX));
            Ok(())
        })
    }
}
