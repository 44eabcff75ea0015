// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changing the size of files without writing to them, and freeing what lies behind their end.
//!
//! A file shrinks in two parts: its size is set, and then its blocks are freed from the end, in steps, each an operation of
//! its own. Between the steps the inode is on the orphan list, so that whoever recovers the volume goes on.

use super::Volume;
use super::alloc::Freed;
use super::content::regular;
use super::error::Error;
use super::extent::{Budget, Tree};
use super::inode::InodeFlags;
use crate::fs::{Errno, FileKind};
use crate::mem::region::Region;

impl<R: Region> Volume<R> {
    /// Makes the regular file `number` longer, up to `size` bytes; what is added is a hole. Nothing happens to a file that
    /// is as long.
    ///
    /// # Errors
    /// EISDIR, EINVAL; EFBIG.
    pub(super) fn grow_content(&mut self, number: u32, size: u64) -> Result<(), Error> {
        let inode = self.allocated_inode(number)?;
        let old_size = regular(&inode)?.size;
        if size > self.max_size(&inode) {
            return Err(Errno::EFBIG.into());
        }
        if size <= old_size {
            return Ok(());
        }
        self.zero_tail(number, old_size)?;
        self.announce_size(old_size, size)?;
        self.edit_inode(number, |inode| {
            inode.set_size(size);
            Ok(())
        })
    }

    /// Makes what lies behind byte `size` of the file `number` zeros, in the block that this byte is in. It is stored at once
    /// and not taken back: `size` is where the file ends, by a committed transaction.
    ///
    /// # Errors
    /// EUCLEAN.
    pub(super) fn zero_tail(&mut self, number: u32, size: u64) -> Result<(), Error> {
        match self.partial_block(number, size)? {
            Some(block) => self.zero_behind(block, size),
            None => Ok(()),
        }
    }

    /// Frees some of the blocks of `number` that lie wholly behind byte `size`, from the end; whether there may be more.
    /// Every file may be passed; only some kinds have blocks.
    ///
    /// # Errors
    /// EOPNOTSUPP for content in the inode; EUCLEAN.
    pub(super) fn free_content_step(&mut self, number: u32, size: u64) -> Result<bool, Error> {
        let inode = self.allocated_inode(number)?;
        let content = match inode.kind {
            FileKind::Regular => Freed::Data,
            FileKind::Directory | FileKind::Symlink => Freed::Metadata,
            _ => return Ok(false),
        };
        if inode.flags.contains(InodeFlags::INLINE_DATA) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let from = self.superblock.block_size.count_for(size);
        let mut budget = Budget::new();
        if inode.flags.contains(InodeFlags::EXTENTS) {
            let tree = Tree::of(&inode);
            return self.remove_extents(tree, from, content, &mut budget);
        }
        // What counts no blocks but those of its attributes is a symbolic link within its inode, or empty.
        let attributes = if inode.file_acl == 0 { 0 } else { u64::from(self.superblock.sectors_per_block()) };
        if inode.blocks512 <= attributes {
            return Ok(false);
        }
        self.remove_mapped(number, from, content, &mut budget)
    }
}
