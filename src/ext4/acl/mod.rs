// SPDX-License-Identifier: MIT OR Apache-2.0

//! POSIX access control lists: from the format on the volume to the one that `getxattr` gives; `list` has the way back and what
//! a list must be, `write` what setting and inheriting one does to a file.
//!
//! ext4 stores `ext4_acl_header` (a_version 1) and entries of four bytes (e_tag, e_perm), with four more (e_id)
//! only where the tag names a user or a group. The value of `system.posix_acl_access` and `system.posix_acl_default`
//! as a Linux client parses it has version 2 and e_id in every entry. The value may come in pieces of any length.

mod list;
#[cfg(test)]
mod tests;
mod write;

use core::fmt;

use super::field::{le16, le32};
pub(super) use list::AccessList;

/// `ext4_acl_header.a_version`.
const DISK_VERSION: u32 = 1;
/// `posix_acl_xattr_header.a_version`.
const REPLY_VERSION: u32 = 2;
/// `e_id` where the tag does not name anybody: `ACL_UNDEFINED_ID`.
const NOBODY: u32 = u32::MAX;

/// The owner: `ACL_USER_OBJ`.
const OWNER: u16 = 0x01;
/// Another user: `ACL_USER`.
const USER: u16 = 0x02;
/// The owning group: `ACL_GROUP_OBJ`.
const OWNING_GROUP: u16 = 0x04;
/// Another group: `ACL_GROUP`.
const GROUP: u16 = 0x08;
/// The most that anyone but the owner and others gets: `ACL_MASK`.
const MASK: u16 = 0x10;
/// Everybody else: `ACL_OTHER`.
const OTHERS: u16 = 0x20;
/// Tags without an id.
const SHORT_TAGS: [u16; 4] = [OWNER, OWNING_GROUP, MASK, OTHERS];
/// Tags with one.
const LONG_TAGS: [u16; 2] = [USER, GROUP];

/// A list on its way from one format to the other.
#[derive(Debug, Default)]
pub(super) struct AclConversion {
    /// The beginning of a header or entry that is not complete yet.
    pending: [u8; 8],
    filled: usize,
    header_seen: bool,
    entry_seen: bool,
}

impl AclConversion {
    /// Converts the next piece of the stored value; gives what is complete to `put`.
    pub(super) fn push<E: From<AclFault>>(
        &mut self,
        piece: &[u8],
        mut put: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for byte in piece {
            if let Some(slot) = self.pending.get_mut(self.filled) {
                *slot = *byte;
            }
            self.filled = self.filled.saturating_add(1);
            if !self.header_seen {
                if self.filled == 4 {
                    let version = le32(&self.pending, 0);
                    if version != DISK_VERSION {
                        return Err(AclFault::Version(version).into());
                    }
                    (self.header_seen, self.filled) = (true, 0);
                }
            } else if let Some(entry) = self.complete_entry()? {
                if !self.entry_seen {
                    put(&REPLY_VERSION.to_le_bytes())?;
                    self.entry_seen = true;
                }
                put(&entry)?;
                self.filled = 0;
            }
        }
        Ok(())
    }

    /// The entry that is complete now, in the format of the reply.
    fn complete_entry(&self) -> Result<Option<[u8; 8]>, AclFault> {
        let tag = le16(&self.pending, 0);
        let id = match self.filled {
            4 if SHORT_TAGS.contains(&tag) => NOBODY,
            4 if !LONG_TAGS.contains(&tag) => return Err(AclFault::Tag(tag)),
            8 => le32(&self.pending, 4),
            _ => return Ok(None),
        };
        let mut entry = self.pending;
        if let Some(bytes) = entry.last_chunk_mut() {
            *bytes = id.to_le_bytes();
        }
        Ok(Some(entry))
    }

    /// To be called at the end: whether the list has any entry. A list without stands for no list at all.
    pub(super) fn finish(&self) -> Result<bool, AclFault> {
        if !self.header_seen || self.filled != 0 {
            return Err(AclFault::Length);
        }
        Ok(self.entry_seen)
    }
}

/// What is wrong with an access control list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AclFault {
    /// `a_version` is not 1.
    Version(u32),
    /// `e_tag` is none of the six.
    Tag(u16),
    /// The list ends within its header or an entry.
    Length,
    /// The entries are not those of a list, in their order.
    Entries,
    /// It is longer than a block.
    TooLong,
}

impl fmt::Display for AclFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Version(version) => write!(f, "a_version is {version}, not 1"),
            Self::Tag(tag) => write!(f, "e_tag is {tag:#06x}"),
            Self::Length => f.write_str("it ends within an entry"),
            Self::Entries => f.write_str("its entries make no list"),
            Self::TooLong => f.write_str("it is longer than a block"),
        }
    }
}

#[cfg(test)]
mod tests_of_formats {
    use super::*;
    use std::vec::Vec;

    /// user::rw-, user:1000:r--, group::r--, mask::r--, other::---, as ext4 stores it.
    pub(super) const STORED: [u8; 28] = [
        1, 0, 0, 0, // a_version
        0x01, 0, 6, 0, //
        0x02, 0, 4, 0, 0xe8, 3, 0, 0, //
        0x04, 0, 4, 0, //
        0x10, 0, 4, 0, //
        0x20, 0, 0, 0,
    ];
    /// The same as getxattr gives it.
    pub(super) const REPLY: [u8; 44] = [
        2, 0, 0, 0, // a_version
        0x01, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, //
        0x02, 0, 4, 0, 0xe8, 3, 0, 0, //
        0x04, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, //
        0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, //
        0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
    ];

    fn convert<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<u8>, bool), AclFault> {
        let (mut conversion, mut reply) = (AclConversion::default(), Vec::new());
        for piece in pieces {
            conversion.push(piece, |bytes| {
                reply.extend(bytes);
                Ok::<(), AclFault>(())
            })?;
        }
        Ok((reply, conversion.finish()?))
    }

    #[test]
    fn a_stored_list_becomes_what_getxattr_gives_however_it_is_cut() {
        for length in 1..=STORED.len() {
            assert_eq!(convert(STORED.chunks(length)), Ok((REPLY.to_vec(), true)));
        }
    }

    #[test]
    fn a_list_without_entries_is_no_list() {
        assert_eq!(convert([&STORED[..4]]), Ok((Vec::new(), false)));
    }

    #[test]
    fn each_damage_of_a_list_is_its_own_fault() {
        let with = |at: usize, value| {
            let mut list = STORED;
            list[at] = value;
            convert([&list[..]])
        };
        assert_eq!(with(0, 2), Err(AclFault::Version(2)));
        assert_eq!(with(4, 3), Err(AclFault::Tag(3)));
        assert_eq!(with(4, 0x02), Err(AclFault::Tag(0x03e8)));
        assert_eq!(with(24, 0x08), Err(AclFault::Length));
        for length in (0..STORED.len()).filter(|length| ![4, 8, 16, 20, 24].contains(length)) {
            assert_eq!(convert([&STORED[..length]]), Err(AclFault::Length), "{length}");
        }
    }
}
