// SPDX-License-Identifier: MIT OR Apache-2.0

//! Setting the access control list of a file, and giving a new file that of its directory, as Linux's `ext4_set_acl` and
//! `ext4_init_acl` do.

use super::list::{follow, restrict};
use super::{AccessList, AclFault};
use crate::ext4::Volume;
use crate::ext4::error::{Damage, Error};
use crate::ext4::namespace::{ACL_ACCESS, ACL_DEFAULT};
use crate::ext4::set_attributes::SET_GROUP_ID;
use crate::ext4::xattr::{AttributeFault, Change, Value};
use crate::fs::{AttributeExistence, Caller, Errno, FileKind};
use crate::mem::region::Region;
use crate::mem::{Full, Sink};

/// Longer lists than fit a block are not inherited: they cannot be stored in one either.
const LONGEST_LIST: usize = 4096;

/// A list in the format of a client.
struct Collected {
    bytes: [u8; LONGEST_LIST],
    length: usize,
}

impl Collected {
    const fn new() -> Self {
        Self { bytes: [0; LONGEST_LIST], length: 0 }
    }

    /// The list, once it was collected.
    fn list(&self) -> Result<Option<AccessList<'_>>, AclFault> {
        let value = self.bytes.get(..self.length).unwrap_or_default();
        AccessList::from_value(value).map_err(|_| AclFault::Entries)
    }

    /// Its entries, to be changed.
    fn entries(&mut self) -> Result<&mut [[u8; 8]], AclFault> {
        let value = self.bytes.get_mut(..self.length).unwrap_or_default();
        let (_, entries) = value.split_first_chunk_mut::<4>().ok_or(AclFault::Length)?;
        Ok(entries.as_chunks_mut().0)
    }
}

/// A list of inode `number` that is none.
fn damage(number: u32, fault: AclFault) -> Error {
    Damage::Attributes { inode: number, block: 0, fault: AttributeFault::Acl(fault) }.into()
}

impl Sink for Collected {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.length.checked_add(bytes.len()).ok_or(Full)?;
        self.bytes.get_mut(self.length..end).ok_or(Full)?.copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }

    fn put_zeros(&mut self, count: usize) -> Result<(), Full> {
        let end = self.length.checked_add(count).ok_or(Full)?;
        self.bytes.get_mut(self.length..end).ok_or(Full)?.fill(0);
        self.length = end;
        Ok(())
    }
}

/// A list to be stored as the attribute `e_name_index`, or none.
fn change<'a>(e_name_index: u8, list: Option<AccessList<'a>>) -> Change<'a> {
    Change { e_name_index, e_name: b"", value: list.map(Value::List) }
}

impl<R: Region> Volume<R> {
    /// Sets the access or default list of inode `number` to the one that a client sends as `value`; none, or one without
    /// entries, removes it.
    ///
    /// The access list sets the permissions of the mode; one that says no more than those is not stored. The set-group-id bit
    /// goes unless `caller` is root: the groups of others are not known.
    ///
    /// # Errors
    /// EINVAL and EOPNOTSUPP for a value that is no list; EOPNOTSUPP for a symbolic link, EACCES for a default list of what is no
    /// directory; ENOSPC; damage.
    pub(in crate::ext4) fn write_list(
        &mut self,
        number: u32,
        e_name_index: u8,
        value: Option<&[u8]>,
        caller: Caller,
    ) -> Result<(), Error> {
        let mut list = AccessList::from_value(value.unwrap_or_default())?;
        let inode = self.allocated_inode(number)?;
        let (kind, mode) = (inode.kind, inode.mode);
        if kind == FileKind::Symlink {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if e_name_index == ACL_DEFAULT && kind != FileKind::Directory {
            return if list.is_some() { Err(Errno::EACCES.into()) } else { Ok(()) };
        }
        let mut new_mode = mode;
        if e_name_index == ACL_ACCESS
            && let Some(access) = list
        {
            let (applied, is_all) = access.applied_to(mode);
            new_mode = if caller.is_root() { applied } else { applied & !SET_GROUP_ID };
            if is_all {
                list = None;
            }
        }
        self.change_attribute(number, &change(e_name_index, list), AttributeExistence::Any, caller)?;
        if new_mode != mode {
            let now = self.now();
            self.edit_changed(number, now, |inode| inode.set_mode(new_mode))?;
        }
        Ok(())
    }

    /// Gives the new inode `number`, made with `mode` (its `i_mode`, with the kind), what the default list of `directory` asks
    /// for: an access list, and a directory the default list too. Returns the mode that is to be stored: without a default list
    /// `mode` as it is. Part of an operation.
    ///
    /// # Errors
    /// ENOSPC; damage.
    pub(in crate::ext4) fn inherit_acl(
        &mut self,
        directory: u32,
        number: u32,
        mode: u16,
        caller: Caller,
    ) -> Result<u16, Error> {
        let parent = self.allocated_inode(directory)?;
        let has_default = self.has_attribute(&parent, ACL_DEFAULT, b"")?;
        if !has_default || FileKind::from_mode(mode.into()) == Some(FileKind::Symlink) {
            return Ok(mode);
        }
        self.inherit_default(directory, number, mode, caller)
    }

    /// Makes the access list of inode `number`, if it has one, say what its new `mode` does. Part of an operation.
    ///
    /// # Errors
    /// ENOSPC; damage.
    pub(in crate::ext4) fn change_acl_mode(
        &mut self,
        number: u32,
        mode: u16,
        caller: Caller,
    ) -> Result<(), Error> {
        let inode = self.allocated_inode(number)?;
        if inode.kind == FileKind::Symlink || !self.has_attribute(&inode, ACL_ACCESS, b"")? {
            return Ok(());
        }
        self.change_list(number, mode, caller)
    }

    /// The same for an inode that has a list.
    #[inline(never)]
    fn change_list(&mut self, number: u32, mode: u16, caller: Caller) -> Result<(), Error> {
        let damage = |fault| damage(number, fault);
        let mut present = Collected::new();
        if !self.collect_list(number, b"system.posix_acl_access", &mut present)? {
            return Ok(());
        }
        follow(present.entries().map_err(damage)?, mode);
        let list = present.list().map_err(damage)?;
        self.change_attribute(number, &change(ACL_ACCESS, list), AttributeExistence::Any, caller)
    }

    /// Collects the list `name` of inode `number` into `list`; says whether there is one that has entries.
    fn collect_list(&self, number: u32, name: &[u8], list: &mut Collected) -> Result<bool, Error> {
        match self.read_value(&self.allocated_inode(number)?, name, list) {
            Ok(()) => Ok(true),
            Err(Error::Reply(Errno::ENODATA)) => Ok(false),
            Err(Error::Reply(_)) => Err(damage(number, AclFault::TooLong)),
            Err(error) => Err(error),
        }
    }

    /// The same for a `directory` that has a default list.
    #[inline(never)]
    fn inherit_default(
        &mut self,
        directory: u32,
        number: u32,
        mode: u16,
        caller: Caller,
    ) -> Result<u16, Error> {
        let damage = |fault| damage(directory, fault);
        let mut inherited = Collected::new();
        if !self.collect_list(directory, b"system.posix_acl_default", &mut inherited)? {
            return Ok(mode);
        }
        let default = inherited.list().map_err(damage)?;
        if FileKind::from_mode(mode.into()) == Some(FileKind::Directory) {
            let change = change(ACL_DEFAULT, default);
            self.change_attribute(number, &change, AttributeExistence::Any, caller)?;
        }
        let (mode, is_all) = restrict(inherited.entries().map_err(damage)?, mode);
        if !is_all {
            let access = inherited.list().map_err(damage)?;
            let change = change(ACL_ACCESS, access);
            self.change_attribute(number, &change, AttributeExistence::Any, caller)?;
        }
        Ok(mode)
    }
}
