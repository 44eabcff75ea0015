// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changing a file's attributes, its length among them.
//!
//! A file is shortened in one operation, which only sets its new length; it is an orphan from then on until the blocks
//! behind its end are freed, step by step, so that a crash in between loses none of them.

use super::Volume;
use super::error::Error;
use super::inode::{Inode, InodeFlags};
use super::orphan::Added;
use crate::fs::{AttributeChanges, Caller, Errno, FileKind, TimeChange};
use crate::mem::region::Region;

/// `S_ISUID`.
const SET_USER_ID: u16 = 0o4000;
/// `S_ISGID`.
pub(super) const SET_GROUP_ID: u16 = 0o2000;
/// Execution by the group: without it `S_ISGID` means something else.
const GROUP_EXECUTE: u16 = 0o10;

/// `mode` without the set-id bits, as a change by others than root or a new owner leaves it.
pub(super) fn without_set_id(mode: u16) -> u16 {
    let group = if mode & GROUP_EXECUTE != 0 { SET_GROUP_ID } else { 0 };
    mode & !(SET_USER_ID | group)
}

/// What is left to do of a file that was shortened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shortened {
    size: u64,
    /// It is an orphan until all is freed.
    added: Option<Added>,
}

impl<R: Region> Volume<R> {
    /// Carries out `changes` on inode `number`. One operation; [`finish_change`](Self::finish_change) follows it.
    pub(super) fn change_attributes(
        &mut self,
        caller: Caller,
        number: u32,
        changes: &AttributeChanges,
    ) -> Result<Option<Shortened>, Error> {
        let inode = self.inode(number)?;
        let touches_only_times_to_now = changes.mode.is_none()
            && changes.uid.is_none()
            && changes.gid.is_none()
            && changes.size.is_none()
            && !matches!(changes.accessed, Some(TimeChange::To(_)))
            && !matches!(changes.modified, Some(TimeChange::To(_)));
        let append_only = inode.flags.contains(InodeFlags::APPEND) && !touches_only_times_to_now;
        if inode.flags.contains(InodeFlags::IMMUTABLE) || append_only {
            return Err(Errno::EPERM.into());
        }
        let now = self.now();
        let (kind, mode) = (inode.kind, inode.mode);
        let new_mode = new_mode(&inode, caller, changes);
        let time = |change| match change {
            TimeChange::Now => now,
            TimeChange::To(time) => time,
        };
        let mut modified = changes.modified.map(time);
        let mut shortened = None;
        if let Some(size) = changes.size {
            match kind {
                FileKind::Regular => {}
                FileKind::Directory => return Err(Errno::EISDIR.into()),
                _ => return Err(Errno::EINVAL.into()),
            }
            modified = modified.or(Some(inode.modified.max(now)));
            shortened = self.set_size(number, size)?;
        }
        self.edit_changed(number, now, |inode| {
            inode.set_mode(new_mode);
            if let Some(uid) = changes.uid {
                inode.set_uid(uid);
            }
            if let Some(gid) = changes.gid {
                inode.set_gid(gid);
            }
            if let Some(accessed) = changes.accessed.map(time) {
                inode.set_accessed(accessed);
            }
            if let Some(modified) = modified {
                inode.set_modified(modified);
            }
        })?;
        if new_mode & 0o777 != mode & 0o777 {
            self.change_acl_mode(number, new_mode, caller)?;
        }
        Ok(shortened)
    }

    /// Sets the length of the regular file `number`. Part of an operation.
    fn set_size(&mut self, number: u32, size: u64) -> Result<Option<Shortened>, Error> {
        let present = self.inode(number)?.size;
        if size > present {
            self.grow_content(number, size)?;
            return Ok(None);
        }
        if size == present {
            return Ok(None);
        }
        self.edit_inode(number, |inode| {
            inode.set_size(size);
            Ok(())
        })?;
        // An orphan that is shortened once more stays where it is in the list.
        let is_orphan = self.attended.front(number).is_some();
        let more = self.free_content_step(number, size)?;
        let added = if more && !is_orphan { Some(self.add_orphan(number)?) } else { None };
        Ok(Some(Shortened { size, added }))
    }

    /// Frees what a change of `number`'s length left behind, after its operation.
    pub(super) fn finish_change(&mut self, number: u32, shortened: Option<Shortened>) -> Result<(), Error> {
        let Some(Shortened { size, added }) = shortened else { return Ok(()) };
        if let Some(added) = added {
            self.note_added(added);
        }
        if !self.superblock.block_size.divides(size) {
            // What is behind the new end must not show when the file grows again. It goes only once the shorter length
            // is there for good: until then it may be needed again.
            self.commit_transaction()?;
            self.zero_tail(number, size)?;
        }
        if added.is_some() { self.finish_truncation(number, size) } else { Ok(()) }
    }

    /// Frees what the orphan `number`, which has names, holds behind `size`, and takes it off the list.
    pub(super) fn finish_truncation(&mut self, number: u32, size: u64) -> Result<(), Error> {
        while self.atomically(|volume| volume.free_content_step(number, size))? {}
        if self.orphan(number)?.links == 0 {
            return Ok(());
        }
        if let Some(removed) = self.atomically(|volume| volume.remove_orphan(number, 0))? {
            self.note_removed(removed);
        }
        Ok(())
    }
}

/// The mode after `changes`.
fn new_mode(inode: &Inode<'_>, caller: Caller, changes: &AttributeChanges) -> u16 {
    let format = inode.mode & 0o170_000;
    let changed = |mode: u32| u16::try_from(mode & 0o7777).unwrap_or_default() | format;
    let owned_anew = changes.uid.is_some() || changes.gid.is_some();
    let cut = changes.size.is_some() && !caller.is_root();
    match changes.mode {
        Some(mode) => changed(mode),
        None if (owned_anew || cut) && inode.kind != FileKind::Directory => without_set_id(inode.mode),
        None => inode.mode,
    }
}
