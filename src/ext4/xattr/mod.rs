// SPDX-License-Identifier: MIT OR Apache-2.0

//! Extended attributes: in the inode, behind its fields, and in one more block, which inodes may share.
//!
//! Both places hold `ext4_xattr_entry`s from the front and values from the back; a large value may lie in an inode
//! of its own (`ea_inode`). Of the entries' own hashes only those over values in inodes are checked, as Linux does.
//!
//! What is listed is what a Linux mount lists: `system.data` (the end of an inline file) and the namespaces that
//! Linux has no handler for are not.
//!
//! | file    | subject                                                   |
//! |---------|-----------------------------------------------------------|
//! | `place` | the entries of either place                               |
//! | `edit`  | a place written anew with a change; `hash`: their hashes  |
//! | `block` | the block: its header, who shares it                      |
//! | `write` | setting and removing: which place                         |
//! | `fault` | what can be wrong                                         |

mod block;
mod edit;
mod fault;
mod hash;
mod place;
#[cfg(test)]
mod tests;
mod write;

use super::Volume;
use super::acl::{AclConversion, AclFault};
use super::error::{Damage, Error};
use super::inode::Inode;
use super::namespace::{ACL_ACCESS, ACL_DEFAULT, prefix, stored_name};
use crate::fs::Errno;
use crate::mem::Sink;
use crate::mem::region::Region;
use block::BLOCK_HEADER;
pub(super) use edit::{Change, Value};
pub use fault::AttributeFault;
pub(super) use hash::entry_hash;
pub(super) use place::Entry;
use place::{Place, Rules};

/// `h_magic`, in a block and in an inode.
const MAGIC: u32 = 0xea02_0000;
/// The largest value that a Linux client takes: `XATTR_SIZE_MAX`.
const LARGEST_VALUE: u32 = 65536;
/// `e_name_index` of the end of inline content, `system.data`.
const SYSTEM: u8 = 7;

impl<R: Region> Volume<R> {
    /// The end of `inode`'s inline content: the value of `system.data`, which is never outside the inode.
    pub(super) fn inline_data<'v>(&self, inode: &Inode<'v>) -> Result<Option<&'v [u8]>, Error> {
        let Some(place) = self.place_in_inode(inode)? else { return Ok(None) };
        let Some(entry) = place.find(SYSTEM, b"data") else { return Ok(None) };
        match place.value(&entry) {
            Some(value) => Ok(Some(value)),
            None => {
                let fault = AttributeFault::InlineElsewhere { inode: entry.e_value_inum };
                Err(attribute_damage(inode.number, 0, fault))
            }
        }
    }

    /// Puts the names of `inode`'s attributes into `sink`, each closed by a NUL. The two places hold less than
    /// the 64 KiB that a Linux client takes.
    pub(super) fn list_names(&self, inode: &Inode<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        for place in [self.place_in_inode(inode)?, self.place_in_block(inode)?].into_iter().flatten() {
            for entry in place.entries() {
                if let Some(prefix) = prefix(entry.e_name_index) {
                    sink.put(prefix)?;
                    sink.put(entry.e_name)?;
                    sink.put(&[0])?;
                }
            }
        }
        Ok(())
    }

    /// Puts the value of `inode`'s attribute `name` into `sink`, as `getxattr` of a Linux mount gives it.
    ///
    /// # Errors
    /// EOPNOTSUPP, ENODATA, E2BIG for a value above 64 KiB, which a Linux mount does not hand out either; damage.
    pub(super) fn read_value(
        &self,
        inode: &Inode<'_>,
        name: &[u8],
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let (e_name_index, e_name) = stored_name(name).ok_or(Errno::EOPNOTSUPP)?;
        let (place, entry) = self.find_entry(inode, e_name_index, e_name)?.ok_or(Errno::ENODATA)?;
        if entry.e_value_size > LARGEST_VALUE {
            return Err(Errno::E2BIG.into());
        }
        if !matches!(e_name_index, ACL_ACCESS | ACL_DEFAULT) {
            return self.read_pieces(inode, &place, &entry, |piece| Ok(sink.put(piece)?));
        }
        let damage = |fault| attribute_damage(inode.number, place.block, AttributeFault::Acl(fault));
        let mut list = AclConversion::default();
        self.read_pieces(inode, &place, &entry, |piece| {
            list.push(piece, |bytes| sink.put(bytes).map_err(ListError::Put)).map_err(|error| match error {
                ListError::Fault(fault) => damage(fault),
                ListError::Put(full) => full.into(),
            })
        })?;
        if list.finish().map_err(damage)? { Ok(()) } else { Err(Errno::ENODATA.into()) }
    }

    /// Whether `inode` has the attribute.
    pub(super) fn has_attribute(
        &self,
        inode: &Inode<'_>,
        e_name_index: u8,
        e_name: &[u8],
    ) -> Result<bool, Error> {
        Ok(self.find_entry(inode, e_name_index, e_name)?.is_some())
    }

    /// The entry of a name and where it is. The inode's own come first.
    fn find_entry<'v>(
        &'v self,
        inode: &Inode<'v>,
        e_name_index: u8,
        e_name: &[u8],
    ) -> Result<Option<(Place<'v>, Entry<'v>)>, Error> {
        let in_place = |place: Place<'v>| Some((place, place.find(e_name_index, e_name)?));
        if let Some(found) = self.place_in_inode(inode)?.and_then(in_place) {
            return Ok(Some(found));
        }
        Ok(self.place_in_block(inode)?.and_then(in_place))
    }

    /// The attributes in the inode; `None` where it has no space for any, or the space was never used.
    fn place_in_inode<'v>(&self, inode: &Inode<'v>) -> Result<Option<Place<'v>>, Error> {
        match inode.in_inode_attributes.split_first_chunk::<4>() {
            Some((magic, area)) if u32::from_le_bytes(*magic) == MAGIC => {
                let place = Place::check(area, 0, 0, Rules::of(self.superblock()));
                place.map(Some).map_err(|fault| attribute_damage(inode.number, 0, fault))
            }
            _ => Ok(None),
        }
    }

    /// The attributes in the block that `i_file_acl` says.
    fn place_in_block<'v>(&'v self, inode: &Inode<'v>) -> Result<Option<Place<'v>>, Error> {
        if inode.file_acl == 0 {
            return Ok(None);
        }
        if !self.holds(inode.file_acl, 1) {
            return Err(self.out_of_range(inode.file_acl));
        }
        self.check_owned(inode.number, inode.file_acl, 1)?;
        let raw = self.block(inode.file_acl)?;
        let place = block::check_header(raw, self.block_seed(inode.file_acl))
            .and_then(|()| Place::check(raw, BLOCK_HEADER, inode.file_acl, Rules::of(self.superblock())));
        place.map(Some).map_err(|fault| attribute_damage(inode.number, inode.file_acl, fault))
    }

    /// Gives the value of `entry`, an attribute of `owner` in `place`, to `take` piece by piece.
    fn read_pieces(
        &self,
        owner: &Inode<'_>,
        place: &Place<'_>,
        entry: &Entry<'_>,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match place.value(entry) {
            Some(value) => take(value),
            None => self.read_value_inode(owner, entry, take, |fault| {
                let fault = AttributeFault::Value { inode: entry.e_value_inum, fault };
                attribute_damage(owner.number, place.block, fault)
            }),
        }
    }
}

/// Why the conversion of a list stops.
enum ListError {
    Fault(AclFault),
    Put(crate::mem::Full),
}

impl From<AclFault> for ListError {
    fn from(fault: AclFault) -> Self {
        Self::Fault(fault)
    }
}

fn attribute_damage(inode: u32, block: u64, fault: AttributeFault) -> Error {
    Damage::Attributes { inode, block, fault }.into()
}
