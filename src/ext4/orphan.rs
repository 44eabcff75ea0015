// SPDX-License-Identifier: MIT OR Apache-2.0

//! The list of orphans: inodes that have lost their last name, or are being truncated, and whose blocks are not all freed.
//!
//! It begins at `s_last_orphan`; `i_dtime` of each inode names the next. After a crash whoever mounts the volume next
//! goes on with each of them. A volume with the feature `orphan_file` may have this list as well: Linux falls back to it.

use super::Volume;
use super::attended::Front;
use super::error::Error;
use super::field::{le32, put_le32};
use crate::fs::Errno;
use crate::mem::region::Region;

/// `s_last_orphan` in the superblock.
const S_LAST_ORPHAN: usize = 0xe8;
/// `i_dtime` in the inode.
const I_DTIME: usize = 0x14;

/// What adding an orphan changed, to be noted once the operation is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Added {
    number: u32,
    next: u32,
}

/// What removing an orphan changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Removed {
    number: u32,
    front: Front,
    next: u32,
}

impl<R: Region> Volume<R> {
    /// The first orphan; 0 for none.
    pub(super) fn first_orphan(&self) -> Result<u32, Error> {
        Ok(le32(self.superblock_bytes()?, S_LAST_ORPHAN))
    }

    /// Puts inode `number` at the head of the list. Part of an operation; [`note_added`](Self::note_added) follows it.
    ///
    /// # Errors
    /// ENFILE if there are too many already.
    pub(super) fn add_orphan(&mut self, number: u32) -> Result<Added, Error> {
        if !self.attended.has_room(number) {
            return Err(Errno::ENFILE.into());
        }
        let next = self.first_orphan()?;
        self.edit_superblock(|superblock| put_le32(superblock, S_LAST_ORPHAN, number))?;
        self.edit_inode(number, |inode| {
            inode.set_dtime(next);
            Ok(())
        })?;
        Ok(Added { number, next })
    }

    /// Notes that the operation which added an orphan is over.
    pub(super) fn note_added(&mut self, added: Added) {
        let Added { number, next } = added;
        // There was room, and the next one is noted already.
        let _ = self.attended.set_front(number, Some(Front::Superblock));
        if next != 0 {
            let _ = self.attended.set_front(next, Some(Front::Orphan(number)));
        }
    }

    /// Takes inode `number` out of the list, if it is in it, and sets its `i_dtime` to `dtime`. Part of an operation;
    /// [`note_removed`](Self::note_removed) follows it.
    pub(super) fn remove_orphan(&mut self, number: u32, dtime: u32) -> Result<Option<Removed>, Error> {
        let Some(front) = self.attended.front(number) else {
            self.edit_inode(number, |inode| {
                inode.set_dtime(dtime);
                Ok(())
            })?;
            return Ok(None);
        };
        let next = self.edit_inode(number, |inode| {
            let next = le32(inode.raw(), I_DTIME);
            inode.set_dtime(dtime);
            Ok(next)
        })?;
        match front {
            Front::Superblock => {
                self.edit_superblock(|superblock| put_le32(superblock, S_LAST_ORPHAN, next))?;
            }
            Front::Orphan(front) => self.edit_inode(front, |inode| {
                inode.set_dtime(next);
                Ok(())
            })?,
        }
        Ok(Some(Removed { number, front, next }))
    }

    /// Notes that the operation which removed an orphan is over.
    pub(super) fn note_removed(&mut self, removed: Removed) {
        let Removed { number, front, next } = removed;
        let _ = self.attended.set_front(number, None);
        if next != 0 {
            let _ = self.attended.set_front(next, Some(front));
        }
    }

    /// Goes on with every orphan that an earlier mount left: at mount. Those of a volume in error are left alone.
    ///
    /// # Errors
    /// Damage of the list; whatever freeing them says.
    pub(super) fn reclaim_orphans(&mut self) -> Result<u32, Error> {
        if self.is_in_error() {
            return Ok(0);
        }
        let mut reclaimed: u32 = 0;
        loop {
            let number = self.first_orphan()?;
            if number == 0 {
                return Ok(reclaimed);
            }
            // Each turn takes one off the list. A list that goes in a circle comes back to an inode that is free, or was
            // taken off: that is damage, or changes nothing for as many turns as there are inodes.
            if reclaimed >= self.superblock.s_inodes_count {
                return Err(super::Damage::OrphanList { inode: number }.into());
            }
            reclaimed = reclaimed.saturating_add(1);
            let _ = self.attended.set_front(number, Some(Front::Superblock));
            let inode = self.orphan(number)?;
            if inode.links == 0 {
                self.reclaim(number)?;
            } else {
                self.finish_truncation(number, inode.size)?;
            }
        }
    }
}
