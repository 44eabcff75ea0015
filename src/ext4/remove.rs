// SPDX-License-Identifier: MIT OR Apache-2.0

//! Taking names away, and what becomes of a file without any.
//!
//! A small file that nobody has open is gone in the operation that takes its last name. A large one, or one that is
//! open, becomes an orphan in that operation; its blocks are freed step by step, each step an operation of its own.

use super::Volume;
use super::error::{Damage, Error};
use super::inode::{InodeFault, InodeFlags, ROOT};
use super::orphan::Added;
use super::symlink;
use crate::fs::{Errno, FileKind, Removal};
use crate::mem::region::Region;

/// What became of a file that lost a name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// It has other names, or is gone already.
    Settled,
    /// It is an orphan now.
    Orphan(u32, Added),
}

impl<R: Region> Volume<R> {
    /// Takes `name` out of `directory`. One operation; [`settle`](Self::settle) follows it.
    pub(super) fn remove_file(
        &mut self,
        directory: u32,
        name: &[u8],
        removal: Removal,
    ) -> Result<Fate, Error> {
        let parent = self.directory_to_fill(directory)?;
        if parent.flags.contains(InodeFlags::APPEND) {
            return Err(Errno::EPERM.into());
        }
        let number = self.find_name(directory, name)?.ok_or(Errno::ENOENT)?;
        let inode = self.inode(number)?;
        let (kind, flags) = (inode.kind, inode.flags);
        match (removal, kind) {
            (Removal::File, FileKind::Directory) => return Err(Errno::EISDIR.into()),
            (Removal::Directory, FileKind::Directory) => {}
            (Removal::Directory, _) => return Err(Errno::ENOTDIR.into()),
            (Removal::File, _) => {}
        }
        if flags.intersects(InodeFlags::UNCHANGEABLE) {
            return Err(Errno::EPERM.into());
        }
        if kind == FileKind::Directory && !self.is_empty_directory(number)? {
            return Err(Errno::ENOTEMPTY.into());
        }
        self.remove_name(directory, name)?;
        let now = self.now();
        self.touch(directory, now)?;
        if kind == FileKind::Directory {
            self.discount_subdirectory(directory)?;
        }
        self.lose_name(number)
    }

    /// Counts one name less of inode `number`, or all of an empty directory. Part of an operation.
    pub(super) fn lose_name(&mut self, number: u32) -> Result<Fate, Error> {
        let inode = self.inode(number)?;
        if number == ROOT {
            return Err(Errno::EBUSY.into());
        }
        let links = match inode.kind {
            FileKind::Directory => 0,
            _ => inode
                .links
                .checked_sub(1)
                .ok_or(Damage::Inode { inode: number, fault: InodeFault::NotInUse })?,
        };
        let now = self.now();
        self.edit_changed(number, now, |inode| inode.set_links(links))?;
        if links > 0 {
            return Ok(Fate::Settled);
        }
        if !self.attended.is_open(number) && !self.free_blocks_step(number)? {
            self.erase(number)?;
            return Ok(Fate::Settled);
        }
        Ok(Fate::Orphan(number, self.add_orphan(number)?))
    }

    /// Notes what became of a file, after the operation that took its name; frees its blocks unless it is open.
    pub(super) fn settle(&mut self, fate: Fate) {
        let Fate::Orphan(number, added) = fate else { return };
        self.note_added(added);
        if !self.attended.is_open(number) {
            self.reclaim_or_log(number);
        }
    }

    /// Goes on with the orphan `number` that nobody has open any more.
    pub(super) fn release_orphan(&mut self, number: u32) {
        match self.orphan(number) {
            Ok(inode) if inode.links == 0 => self.reclaim_or_log(number),
            // It has names: it is being truncated, and whoever does that goes on.
            Ok(_) => {}
            Err(error) => {
                let _ = self.answer(error, number);
            }
        }
    }

    /// Frees the orphan `number`. If that fails it stays an orphan, for the next mount.
    pub(super) fn reclaim_or_log(&mut self, number: u32) {
        if let Err(error) = self.reclaim(number) {
            let errno = self.answer(error, number);
            log::error!("ext4: inode {number} has no name and is not freed now: {errno}");
        }
    }

    /// Frees all that the orphan `number` has, and the inode.
    pub(super) fn reclaim(&mut self, number: u32) -> Result<(), Error> {
        while self.atomically(|volume| volume.free_blocks_step(number))? {}
        let removed = self.atomically(|volume| volume.erase(number))?;
        if let Some(removed) = removed {
            self.note_removed(removed);
        }
        Ok(())
    }

    /// One step of freeing the blocks of content that inode `number` has; says whether there are more. Part of an operation.
    fn free_blocks_step(&mut self, number: u32) -> Result<bool, Error> {
        let inode = self.orphan(number)?;
        let in_blocks = match inode.kind {
            FileKind::Regular | FileKind::Directory => !inode.flags.contains(InodeFlags::INLINE_DATA),
            FileKind::Symlink => symlink::fast_target(&inode).is_none(),
            _ => false,
        };
        if in_blocks { self.free_content_step(number, 0) } else { Ok(false) }
    }

    /// Frees inode `number`, which has no blocks of content left. Part of an operation.
    fn erase(&mut self, number: u32) -> Result<Option<super::orphan::Removed>, Error> {
        let is_directory = self.orphan(number)?.kind == FileKind::Directory;
        self.free_attributes(number)?;
        // A deleted inode must have a time of deletion, and it must not look like the number of an orphan.
        let dtime = u32::try_from(self.now().seconds).unwrap_or(u32::MAX).max(1);
        let removed = self.remove_orphan(number, dtime)?;
        self.edit_inode(number, |inode| {
            inode.set_size(0);
            Ok(())
        })?;
        self.free_inode(number, is_directory)?;
        Ok(removed)
    }
}
