// SPDX-License-Identifier: MIT OR Apache-2.0

//! An access control list that passed the checks of Linux's `posix_acl_from_xattr` and `posix_acl_valid`, and what it means
//! for the mode of its file.

use super::{DISK_VERSION, GROUP, LONG_TAGS, MASK, NOBODY, OTHERS, OWNER, OWNING_GROUP, REPLY_VERSION, USER};
use crate::ext4::field::{le16, le32, put_le16};
use crate::fs::Errno;

/// Read, write and execute.
const PERMISSIONS: u16 = 0o7;
/// The permission bits of a mode.
const ALL_PERMISSIONS: u16 = 0o777;

/// A list in the format of a client: entries of eight bytes (e_tag, e_perm, e_id).
#[derive(Debug, Clone, Copy)]
pub(in crate::ext4) struct AccessList<'a> {
    entries: &'a [[u8; 8]],
}

fn tag(entry: &[u8; 8]) -> u16 {
    le16(entry, 0)
}

fn permissions(entry: &[u8; 8]) -> u16 {
    le16(entry, 2)
}

fn id(entry: &[u8; 8]) -> u32 {
    le32(entry, 4)
}

impl<'a> AccessList<'a> {
    /// The list whose value a client sends; `None` for a value without entries, which stands for no list.
    ///
    /// # Errors
    /// EOPNOTSUPP for a version that is not 2, EINVAL for what is no list.
    pub(in crate::ext4) fn from_value(value: &'a [u8]) -> Result<Option<Self>, Errno> {
        let Some((version, entries)) = value.split_first_chunk::<4>() else {
            return if value.is_empty() { Ok(None) } else { Err(Errno::EINVAL) };
        };
        if u32::from_le_bytes(*version) != REPLY_VERSION {
            return Err(Errno::EOPNOTSUPP);
        }
        let (entries, []) = entries.as_chunks() else { return Err(Errno::EINVAL) };
        let list = Self { entries };
        match entries {
            [] => Ok(None),
            _ if list.is_valid() => Ok(Some(list)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Whether it has one entry for the owner, any for users, one for the owning group, any for groups, one mask if there
    /// are any of those, and one for others, in this order, with known permissions.
    fn is_valid(&self) -> bool {
        let mut next = OWNER;
        let mut needs_mask = false;
        for entry in self.entries {
            if permissions(entry) & !PERMISSIONS != 0 {
                return false;
            }
            // What may follow: USER stands for users and the owning group, GROUP for groups and the mask.
            next = match (next, tag(entry)) {
                (OWNER, OWNER) => USER,
                (USER, USER) | (GROUP, GROUP) if id(entry) != NOBODY => {
                    needs_mask = true;
                    next
                }
                (USER, OWNING_GROUP) => GROUP,
                (GROUP, MASK) => OTHERS,
                (GROUP, OTHERS) if !needs_mask => 0,
                (OTHERS, OTHERS) => 0,
                _ => return false,
            };
        }
        next == 0
    }

    /// The length in bytes of what is stored.
    pub(in crate::ext4) fn stored_length(&self) -> usize {
        let mut length = 0_usize;
        self.visit_stored(&mut |piece| length = length.saturating_add(piece.len()));
        length
    }

    /// Shows what is stored to `visit`, piece by piece.
    pub(in crate::ext4) fn visit_stored(&self, visit: &mut dyn FnMut(&[u8])) {
        visit(&DISK_VERSION.to_le_bytes());
        for entry in self.entries {
            let length = if LONG_TAGS.contains(&tag(entry)) { 8 } else { 4 };
            visit(entry.get(..length).unwrap_or_default());
        }
    }

    /// The mode that `mode` becomes with this list, and whether it says all that the list does
    /// (`posix_acl_equiv_mode`).
    pub(super) fn applied_to(&self, mode: u16) -> (u16, bool) {
        let find = |wanted| self.entries.iter().find(|entry| tag(entry) == wanted).map(permissions);
        let mask = find(MASK);
        let [owner, group, others] = [find(OWNER), mask.or(find(OWNING_GROUP)), find(OTHERS)]
            .map(|found| found.unwrap_or(0) & PERMISSIONS);
        let is_all = mask.is_none() && !self.entries.iter().any(|entry| LONG_TAGS.contains(&tag(entry)));
        (mode & !ALL_PERMISSIONS | owner << 6 | group << 3 | others, is_all)
    }
}

/// How far the permissions of `mode` that `entry` stands for are from its end; `None` if it stands for none of them. The mask
/// stands for the group's where there is one.
fn shift(entry: &[u8; 8], has_mask: bool) -> Option<u16> {
    match tag(entry) {
        OWNER => Some(6),
        MASK => Some(3),
        OWNING_GROUP if !has_mask => Some(3),
        OTHERS => Some(0),
        _ => None,
    }
}

/// Takes from the list whose entries these are, and from `mode`, what the other does not grant: the list becomes that of a new file
/// made with `mode`. Returns the mode, and whether it says all that the list does (`posix_acl_create_masq`).
pub(super) fn restrict(entries: &mut [[u8; 8]], mode: u16) -> (u16, bool) {
    let has_mask = entries.iter().any(|entry| tag(entry) == MASK);
    let mut mode = mode;
    let mut is_all = !has_mask;
    for entry in entries {
        let Some(shift) = shift(entry, has_mask) else {
            is_all &= tag(entry) == OWNING_GROUP;
            continue;
        };
        let both = permissions(entry) & mode >> shift & PERMISSIONS;
        mode = mode & !(PERMISSIONS << shift) | both << shift;
        put_le16(entry, 2, both);
    }
    (mode, is_all)
}

/// Makes the list whose entries these are say what `mode` does: what `chmod` does to a list (`posix_acl_chmod_masq`).
pub(super) fn follow(entries: &mut [[u8; 8]], mode: u16) {
    let has_mask = entries.iter().any(|entry| tag(entry) == MASK);
    for entry in entries {
        if let Some(shift) = shift(entry, has_mask) {
            put_le16(entry, 2, mode >> shift & PERMISSIONS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::acl::tests_of_formats::{REPLY, STORED};
    use std::vec::Vec;

    /// A value of these entries.
    fn value(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut value = Vec::from(2_u32.to_le_bytes());
        for (tag, permissions, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    fn entries(value: &[u8]) -> Vec<[u8; 8]> {
        value[4..].as_chunks().0.to_vec()
    }

    const MINIMAL: [(u16, u16, u32); 3] =
        [(OWNER, 6, NOBODY), (OWNING_GROUP, 4, NOBODY), (OTHERS, 0, NOBODY)];

    #[test]
    fn what_setfacl_sends_becomes_what_is_stored() {
        let list = AccessList::from_value(&REPLY).unwrap().unwrap();
        let mut stored: Vec<u8> = Vec::new();
        list.visit_stored(&mut |piece| stored.extend(piece));
        assert_eq!(stored, STORED);
        assert_eq!(list.stored_length(), STORED.len());
    }

    #[test]
    fn a_value_without_entries_is_no_list() {
        assert!(AccessList::from_value(b"").unwrap().is_none());
        assert!(AccessList::from_value(&REPLY[..4]).unwrap().is_none());
    }

    #[test]
    fn only_lists_that_linux_takes_are_lists() {
        let refusal = |value: &[u8]| AccessList::from_value(value).err();
        let invalid = |entries: &[(u16, u16, u32)]| refusal(&value(entries)) == Some(Errno::EINVAL);
        let [owner, group, others] = MINIMAL;
        let (user, named_group, mask) = ((USER, 4, 1000), (GROUP, 4, 100), (MASK, 7, NOBODY));
        for good in [
            &[owner, group, others][..],
            &[owner, group, mask, others],
            &[owner, user, user, group, named_group, mask, others],
            &[owner, group, named_group, mask, others],
            &[(OWNER, 0, 5), (OWNING_GROUP, 0, 5), (OTHERS, 7, 5)],
        ] {
            assert_eq!(refusal(&value(good)), None, "{good:?}");
        }
        for bad in [
            &[owner][..],
            &[owner, group],
            &[group, owner, others],
            &[owner, owner, group, others],
            &[owner, user, group, others],
            &[owner, group, named_group, others],
            &[owner, group, user, mask, others],
            &[owner, group, others, mask],
            &[owner, group, mask, mask, others],
            &[owner, group, mask, named_group, others],
            &[owner, group, others, others],
            &[owner, (USER, 4, NOBODY), group, mask, others],
            &[owner, group, (GROUP, 4, NOBODY), mask, others],
            &[(OWNER, 8, NOBODY), group, others],
            &[owner, group, (0x40, 0, 0), others],
        ] {
            assert!(invalid(bad), "{bad:?}");
        }
        for length in [1, 3, 5, 11, REPLY.len() - 1] {
            assert_eq!(refusal(&REPLY[..length]), Some(Errno::EINVAL), "{length}");
        }
        let mut version = REPLY;
        version[0] = 1;
        assert_eq!(refusal(&version), Some(Errno::EOPNOTSUPP));
    }

    #[test]
    fn a_list_sets_the_permissions_of_the_mode_and_a_mask_those_of_the_group() {
        let applied = |entries: &[(u16, u16, u32)], mode| {
            AccessList::from_value(&value(entries)).unwrap().unwrap().applied_to(mode)
        };
        let [owner, group, others] = MINIMAL;
        assert_eq!(applied(&MINIMAL, 0o107_777), (0o107_640, true));
        assert_eq!(applied(&[owner, group, (MASK, 2, 0), others], 0o100_000), (0o100_620, false));
        let named = [owner, (USER, 7, 9), group, (MASK, 7, 0), others];
        assert_eq!(applied(&named, 0o100_000), (0o100_670, false));
    }

    #[test]
    fn a_new_file_gets_what_both_its_mode_and_the_list_grant() {
        let [owner, group, others] = MINIMAL;
        let mut list = entries(&value(&[owner, group, others]));
        assert_eq!(restrict(&mut list, 0o100_777), (0o100_640, true));
        assert_eq!(list, entries(&value(&MINIMAL)));
        assert_eq!(restrict(&mut list, 0o102_406), (0o102_400, true));
        assert_eq!(list.iter().map(permissions).collect::<Vec<_>>(), [4, 0, 0]);

        let named = [(OWNER, 7, 0), (USER, 7, 9), (OWNING_GROUP, 5, 0), (MASK, 7, 0), (OTHERS, 5, 0)];
        let mut list = entries(&value(&named));
        assert_eq!(restrict(&mut list, 0o040_750), (0o040_750, false));
        assert_eq!(list.iter().map(permissions).collect::<Vec<_>>(), [7, 7, 5, 5, 0]);
    }
}
