// SPDX-License-Identifier: MIT OR Apache-2.0

//! Setting and removing attributes, as Linux's `ext4_xattr_set_handle` does: a value goes into the inode if it fits,
//! else into the block, and is then in no other place. Values in inodes of their own are not written.

use super::block::LARGEST_PLACE;
use super::edit::{Change, Hashing, Value, rewrite};
use super::place::Place;
use super::{LARGEST_VALUE, MAGIC, attribute_damage};
use crate::ext4::Volume;
use crate::ext4::error::Error;
use crate::ext4::features::Compat;
use crate::ext4::field::{le32, put_le32};
use crate::ext4::namespace::{ACL_ACCESS, ACL_DEFAULT, USER, name_to_store};
use crate::fs::{AttributeExistence, Caller, Errno, FileKind};
use crate::mem::region::Region;
use crate::mem::slice;

/// `s_feature_compat` in the superblock.
const S_FEATURE_COMPAT: usize = 0x5c;

impl<R: Region> Volume<R> {
    /// Sets the attribute `name` (with its prefix) of inode `number` to `value`, or removes it. Part of an operation.
    ///
    /// An access control list may also change the mode, and its `existence` does not count, nor whether there is
    /// one to remove: as in Linux.
    ///
    /// # Errors
    /// ERANGE for a name of no or more than 255 bytes; EINVAL for one that is only a prefix or has a NUL; EOPNOTSUPP
    /// for an unknown prefix or a list of a symbolic link; EPERM for `user.` on what is
    /// neither a regular file nor a directory; E2BIG for a value above 64 KiB; EEXIST, ENODATA as `existence` asks, and ENODATA if
    /// there is nothing to remove; EINVAL for a list that is none; EACCES for a default list of what is no
    /// directory; ENOSPC if it does not fit; damage.
    pub(in crate::ext4) fn write_attribute(
        &mut self,
        number: u32,
        name: &[u8],
        value: Option<&[u8]>,
        existence: AttributeExistence,
        caller: Caller,
    ) -> Result<(), Error> {
        let (e_name_index, e_name) = name_to_store(name)?;
        if value.is_some_and(|value| value.len() > LARGEST_VALUE as usize) {
            return Err(Errno::E2BIG.into());
        }
        let kind = self.inode(number)?.kind;
        match e_name_index {
            ACL_ACCESS | ACL_DEFAULT => return self.write_list(number, e_name_index, value, caller),
            USER if !matches!(kind, FileKind::Regular | FileKind::Directory) => {
                return Err(Errno::EPERM.into());
            }
            _ => {}
        }
        let existence = if value.is_none() { AttributeExistence::Present } else { existence };
        let change = Change { e_name_index, e_name, value: value.map(Value::Bytes) };
        self.change_attribute(number, &change, existence, caller)
    }

    /// Makes `change` to inode `number`, if the attribute is there or not as `existence` asks. What is so already is left alone.
    pub(in crate::ext4) fn change_attribute(
        &mut self,
        number: u32,
        change: &Change<'_>,
        existence: AttributeExistence,
        caller: Caller,
    ) -> Result<(), Error> {
        let inode = self.allocated_inode(number)?;
        let in_inode = self.place_in_inode(&inode)?;
        let in_block = self.place_in_block(&inode)?;
        let entry_in_inode = in_inode.and_then(|place| place.find(change.e_name_index, change.e_name));
        let entry_in_block = in_block.and_then(|place| place.find(change.e_name_index, change.e_name));
        let found = entry_in_inode.is_some() || entry_in_block.is_some();
        match existence {
            AttributeExistence::Absent if found => return Err(Errno::EEXIST.into()),
            AttributeExistence::Present if !found => return Err(Errno::ENODATA.into()),
            _ => {}
        }
        let (is_in_inode, is_in_block) = (entry_in_inode.is_some(), entry_in_block.is_some());
        match &change.value {
            None if !found => return Ok(()),
            Some(value) => {
                let stored = match (in_inode.zip(entry_in_inode), in_block.zip(entry_in_block)) {
                    (Some((place, entry)), None) | (None, Some((place, entry))) => place.value(&entry),
                    _ => None,
                };
                if stored.is_some_and(|stored| value.is(stored)) {
                    return Ok(());
                }
            }
            None => {}
        }
        let place = in_inode.unwrap_or(Place { area: &[], first: 0, block: 0 });
        // In front of the entries in an inode there is only the magic number.
        let fits = change.space_in(&place).saturating_add(4) <= inode.in_inode_attributes.len();

        let removal = change.removal();
        if change.value.is_some() && !fits {
            self.change_in_block(number, change, caller)?;
            if is_in_inode {
                self.change_in_inode(number, &removal)?;
            }
        } else {
            if is_in_inode || change.value.is_some() {
                self.change_in_inode(number, change)?;
            }
            if is_in_block {
                self.change_in_block(number, &removal, caller)?;
            }
        }
        self.note_attributes()?;
        let now = self.now();
        self.edit_changed(number, now, |_| {})
    }

    /// Makes `change` in inode `number` itself. There is room for it.
    #[inline(never)]
    fn change_in_inode(&mut self, number: u32, change: &Change<'_>) -> Result<(), Error> {
        let inode = self.allocated_inode(number)?;
        let mut copy = [0; LARGEST_PLACE];
        let mut area: &[u8] = &[];
        if let Some(place) = self.place_in_inode(&inode)? {
            let copy = copy.get_mut(..place.area.len()).unwrap_or_default();
            slice::copy(copy, place.area);
            area = copy;
        }
        let before = Place { area, first: 0, block: 0 };
        self.edit_inode(number, |inode| {
            let area = inode.attribute_area();
            area.fill(0);
            let (magic, area) = area.split_first_chunk_mut::<4>().ok_or(Errno::ENOSPC)?;
            rewrite(&before, change, area, 0, Hashing::None)
                .map_err(|fault| attribute_damage(number, 0, fault))?;
            // Without an entry there is no magic number: the space counts as unused.
            if le32(area, 0) != 0 {
                *magic = MAGIC.to_le_bytes();
            }
            Ok(())
        })
    }

    /// Says in the superblock that there are attributes.
    fn note_attributes(&mut self) -> Result<(), Error> {
        if self.superblock.compat.contains(Compat::EXT_ATTR) {
            return Ok(());
        }
        self.edit_superblock(|superblock| {
            let compat = le32(superblock, S_FEATURE_COMPAT) | Compat::EXT_ATTR.bits();
            put_le32(superblock, S_FEATURE_COMPAT, compat);
        })
    }
}
