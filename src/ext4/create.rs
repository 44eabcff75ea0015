// SPDX-License-Identifier: MIT OR Apache-2.0

//! Making files, and further names of them.

use super::Volume;
use super::error::Error;
use super::extent::initialize_root;
use super::field::{le32, put, put_le32};
use super::inode::{Inode, InodeFlags};
use super::inode_edit::i_extra_isize;
use super::set_attributes::SET_GROUP_ID;
use crate::fs::{Caller, Errno, FileKind, NewFile, NewKind, Timestamp};
use crate::mem::region::Region;
use crate::mem::slice;

/// Most names of a file, and most directories in one without `dir_nlink` (`EXT4_LINK_MAX`).
pub(super) const LINK_MAX: u16 = 65_000;
/// The longest target, with its NUL, that lies in `i_block`.
const FAST_SYMLINK: usize = 60;

/// The flags that a new file takes over from its directory, by kind (`EXT4_FL_INHERITED` and its masks).
fn inherited(flags: InodeFlags, kind: FileKind) -> InodeFlags {
    const OTHERS: u32 = 0x40 | 0x80; // NODUMP, NOATIME
    const REGULAR: u32 = OTHERS | 0x1 | 0x2 | 0x4 | 0x8 | 0x400 | 0x4000 | 0x8000; // SECRM … NOTAIL
    const DIRECTORY: u32 = REGULAR | 0x1_0000; // DIRSYNC
    let taken = match kind {
        FileKind::Directory => DIRECTORY,
        FileKind::Regular => REGULAR,
        _ => OTHERS,
    };
    flags.intersection(InodeFlags::from_bits_retain(taken))
}

impl<R: Region> Volume<R> {
    /// The directory `number`, if names can be put into it.
    ///
    /// # Errors
    /// ENOTDIR; ENOENT if it was removed; EPERM if it is immutable.
    pub(super) fn directory_to_fill(&self, number: u32) -> Result<Inode<'_>, Error> {
        let inode = self.inode(number)?;
        if inode.kind != FileKind::Directory {
            return Err(Errno::ENOTDIR.into());
        }
        if inode.links == 0 {
            return Err(Errno::ENOENT.into());
        }
        if inode.flags.contains(InodeFlags::IMMUTABLE) {
            return Err(Errno::EPERM.into());
        }
        Ok(inode)
    }

    /// Makes the file `new`, called `name`, in `directory`; returns its number. One operation.
    pub(super) fn create_file(
        &mut self,
        caller: Caller,
        directory: u32,
        name: &[u8],
        new: &NewFile<'_>,
    ) -> Result<u32, Error> {
        let parent = self.directory_to_fill(directory)?;
        let (parent_mode, parent_gid, parent_flags) = (parent.mode, parent.gid, parent.flags);
        let kind = new.kind.kind();
        let is_directory = kind == FileKind::Directory;
        if self.find_name(directory, name)?.is_some() {
            return Err(Errno::EEXIST.into());
        }
        let (mut mode, mut gid) = (new.mode & 0o7777, new.gid);
        if parent_mode & SET_GROUP_ID != 0 {
            gid = parent_gid;
            if is_directory {
                mode |= u32::from(SET_GROUP_ID);
            }
        }
        let mode = u16::try_from(mode | (kind as u32) << 12).unwrap_or_default();

        let number = self.allocate_inode(directory, is_directory)?;
        let now = self.now();
        let extra = i_extra_isize(&self.superblock);
        let mapped = matches!(kind, FileKind::Regular | FileKind::Directory);
        self.edit_inode(number, |inode| {
            // Whoever still holds the number of the file that was here before tells the two apart by the generation.
            let generation = le32(inode.raw(), 0x64).wrapping_add(1);
            inode.initialize(extra, generation);
            inode.set_mode(mode);
            inode.set_uid(new.uid);
            inode.set_gid(gid);
            inode.set_links(if is_directory { 2 } else { 1 });
            inode.set_accessed(now);
            inode.set_modified(now);
            inode.set_changed(now);
            inode.set_created(now);
            let flags = inherited(parent_flags, kind);
            inode.set_flags(if mapped { flags.union(InodeFlags::EXTENTS) } else { flags });
            match new.kind {
                NewKind::Regular | NewKind::Directory => initialize_root(inode.i_block()),
                NewKind::CharacterDevice(device) | NewKind::BlockDevice(device) => {
                    put_device(inode.i_block(), device);
                }
                NewKind::Symlink(_) | NewKind::Fifo | NewKind::Socket => {}
            }
            Ok(())
        })?;
        match new.kind {
            NewKind::Symlink(target) => self.set_target(number, target, caller)?,
            NewKind::Directory => {
                self.initialize_directory(number, directory, caller)?;
                self.count_subdirectory(directory)?;
            }
            _ => {}
        }
        if kind != FileKind::Symlink {
            let mode_to_use = self.inherit_acl(directory, number, mode, caller)?;
            if mode_to_use != mode {
                self.edit_inode(number, |inode| {
                    inode.set_mode(mode_to_use);
                    Ok(())
                })?;
            }
        }
        self.insert_name(directory, name, number, kind, caller)?;
        self.touch(directory, now)?;
        Ok(number)
    }

    /// Stores the target of the new symbolic link `number`: in `i_block`, or in a block.
    fn set_target(&mut self, number: u32, target: &[u8], caller: Caller) -> Result<(), Error> {
        if target.len() < FAST_SYMLINK {
            return self.edit_inode(number, |inode| {
                if let Some(place) = inode.i_block().get_mut(..target.len()) {
                    slice::copy(place, target);
                }
                inode.set_size(target.len() as u64);
                Ok(())
            });
        }
        // The target and a NUL fill at most one block.
        if target.len() >= self.superblock.block_size.length() {
            return Err(Errno::ENAMETOOLONG.into());
        }
        self.edit_inode(number, |inode| {
            let flags = inode.flags();
            inode.set_flags(flags.union(InodeFlags::EXTENTS));
            initialize_root(inode.i_block());
            Ok(())
        })?;
        let block = self.append_block(number, 0, caller)?;
        if let Some(place) = self.new_block(block)?.get_mut(..target.len()) {
            slice::copy(place, target);
        }
        self.edit_inode(number, |inode| {
            inode.set_size(target.len() as u64);
            Ok(())
        })
    }

    /// Gives inode `number`, no directory, the name `name` in `directory`. One operation.
    pub(super) fn link_file(
        &mut self,
        caller: Caller,
        number: u32,
        directory: u32,
        name: &[u8],
    ) -> Result<(), Error> {
        self.directory_to_fill(directory)?;
        let inode = self.inode(number)?;
        let (kind, links) = (inode.kind, inode.links);
        if kind == FileKind::Directory || inode.flags.intersects(InodeFlags::UNCHANGEABLE) {
            return Err(Errno::EPERM.into());
        }
        if self.find_name(directory, name)?.is_some() {
            return Err(Errno::EEXIST.into());
        }
        if links == 0 {
            return Err(Errno::ENOENT.into());
        }
        if links >= LINK_MAX {
            return Err(Errno::EMLINK.into());
        }
        let now = self.now();
        self.edit_changed(number, now, |inode| inode.set_links(links.saturating_add(1)))?;
        self.insert_name(directory, name, number, kind, caller)?;
        self.touch(directory, now)
    }

    /// The inode that `name` names in `directory`; `None` if there is no such name.
    pub(super) fn find_name(&self, directory: u32, name: &[u8]) -> Result<Option<u32>, Error> {
        match super::Directory::new(self, self.inode(directory)?)?.lookup(name) {
            Ok(number) => Ok(Some(number)),
            Err(Error::Reply(Errno::ENOENT)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Counts one more directory in `directory`. With `dir_nlink` and an index, 1 stands for more than can be counted.
    ///
    /// # Errors
    /// EMLINK.
    pub(super) fn count_subdirectory(&mut self, directory: u32) -> Result<(), Error> {
        let inode = self.inode(directory)?;
        let uncounted = self.superblock.has_dir_nlink() && inode.flags.contains(InodeFlags::INDEX);
        let links = match inode.links {
            1 if uncounted => 1,
            links if links < LINK_MAX => links.saturating_add(1),
            _ if uncounted => 1,
            _ => return Err(Errno::EMLINK.into()),
        };
        self.edit_inode(directory, |inode| {
            inode.set_links(links);
            Ok(())
        })
    }

    /// Counts one directory less in `directory`.
    pub(super) fn discount_subdirectory(&mut self, directory: u32) -> Result<(), Error> {
        self.edit_inode(directory, |inode| {
            let links = inode.links();
            if links > 2 {
                inode.set_links(links.saturating_sub(1));
            }
            Ok(())
        })
    }

    /// Notes that the names in `directory` changed.
    pub(super) fn touch(&mut self, directory: u32, now: Timestamp) -> Result<(), Error> {
        let modified = self.allocated_inode(directory)?.modified.max(now);
        self.edit_changed(directory, now, |inode| inode.set_modified(modified))
    }

    /// Changes inode `number` with `change`, and notes the time of it, which never goes back.
    pub(super) fn edit_changed(
        &mut self,
        number: u32,
        now: Timestamp,
        change: impl FnOnce(&mut super::inode_edit::InodeEditor<'_>),
    ) -> Result<(), Error> {
        let changed = self.allocated_inode(number)?.changed.max(now);
        self.edit_inode(number, |inode| {
            change(inode);
            inode.set_changed(changed);
            inode.count_version();
            Ok(())
        })
    }
}

/// Stores a device number: in the old 16-bit form where it fits, else in the new one.
fn put_device(i_block: &mut [u8], device: u64) {
    let device = u32::try_from(device).unwrap_or_default();
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | (device >> 12) & 0xf_ff00);
    if major < 256 && minor < 256 {
        put_le32(i_block, 0, major << 8 | minor);
    } else {
        put(i_block, 0, [0; 4]);
        put_le32(i_block, 4, device);
    }
}
