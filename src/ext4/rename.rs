// SPDX-License-Identifier: MIT OR Apache-2.0

//! Moving a name, over another if there is one.

use super::Volume;
use super::error::{Damage, Error};
use super::inode::{InodeFault, InodeFlags, ROOT};
use super::remove::Fate;
use crate::fs::{Caller, Errno, FileKind};
use crate::mem::region::Region;

impl<R: Region> Volume<R> {
    /// Moves the name `from` to `to`. One operation; [`settle`](Self::settle) follows it.
    pub(super) fn rename_file(
        &mut self,
        caller: Caller,
        (from, old_name): (u32, &[u8]),
        (to, new_name): (u32, &[u8]),
    ) -> Result<Fate, Error> {
        for directory in [from, to] {
            self.directory_to_fill(directory)?;
        }
        if self.inode(from)?.flags.contains(InodeFlags::APPEND) {
            return Err(Errno::EPERM.into());
        }
        let number = self.find_name(from, old_name)?.ok_or(Errno::ENOENT)?;
        let inode = self.inode(number)?;
        let (kind, flags) = (inode.kind, inode.flags);
        let is_directory = kind == FileKind::Directory;
        if flags.intersects(InodeFlags::UNCHANGEABLE) {
            return Err(Errno::EPERM.into());
        }
        if is_directory && from != to && self.is_within(to, number)? {
            return Err(Errno::EINVAL.into());
        }
        let victim = self.find_name(to, new_name)?;
        if victim == Some(number) {
            return Ok(Fate::Settled);
        }
        if let Some(victim) = victim {
            self.check_victim(victim, is_directory)?;
        }

        let now = self.now();
        match victim {
            Some(_) => drop(self.replace_name(to, new_name, number, kind)?),
            None => self.insert_name(to, new_name, number, kind, caller)?,
        }
        self.remove_name(from, old_name)?;
        if is_directory && from != to {
            self.set_parent(number, to)?;
            self.discount_subdirectory(from)?;
            // A directory in its place goes, so that the count stays; but it may be one that is not counted any more.
            self.count_subdirectory(to)?;
        }
        let mut fate = Fate::Settled;
        if let Some(victim) = victim {
            if is_directory {
                self.discount_subdirectory(to)?;
            }
            fate = self.lose_name(victim)?;
        }
        self.edit_changed(number, now, |_| {})?;
        self.touch(from, now)?;
        if from != to {
            self.touch(to, now)?;
        }
        Ok(fate)
    }

    /// That `victim` may give its name to a directory, or to something else.
    fn check_victim(&self, victim: u32, to_directory: bool) -> Result<(), Error> {
        let inode = self.inode(victim)?;
        match (to_directory, inode.kind == FileKind::Directory) {
            (true, false) => return Err(Errno::ENOTDIR.into()),
            (false, true) => return Err(Errno::EISDIR.into()),
            (true, true) if !self.is_empty_directory(victim)? => return Err(Errno::ENOTEMPTY.into()),
            _ => {}
        }
        if inode.flags.intersects(InodeFlags::UNCHANGEABLE) {
            return Err(Errno::EPERM.into());
        }
        Ok(())
    }

    /// Whether `directory` is `above`, or somewhere below it.
    fn is_within(&self, directory: u32, above: u32) -> Result<bool, Error> {
        let mut at = directory;
        // Of a damaged volume they may go in a circle, which comes back to where it was after 1, 2, 4, 8 … steps (R. Brent's
        // way to find one, in a few times as many steps as it has); and there are no more than inodes.
        let (mut mark, mut next_mark) = (0, 1u32);
        for step in 0..self.superblock.s_inodes_count {
            if at == above {
                return Ok(true);
            }
            if at == ROOT {
                return Ok(false);
            }
            if at == mark {
                break;
            }
            if step == next_mark {
                (mark, next_mark) = (at, next_mark.saturating_mul(2));
            }
            at = super::Directory::new(self, self.inode(at)?)?.parent()?;
        }
        Err(Damage::Inode { inode: directory, fault: InodeFault::Unreachable }.into())
    }
}
