// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names of extended attributes: a number stands for the beginning of each on the volume.

use crate::fs::Errno;

/// `e_name_index` of the namespace that is for regular files and directories only.
pub(super) const USER: u8 = 1;
/// `e_name_index` of the two access control lists, whose names have nothing behind the prefix.
pub(super) const ACL_ACCESS: u8 = 2;
pub(super) const ACL_DEFAULT: u8 = 3;

/// The namespaces that are served: `e_name_index`, and what it stands for in front of `e_name`.
const PREFIXES: [(u8, &[u8]); 6] = [
    (USER, b"user."),
    (ACL_ACCESS, b"system.posix_acl_access"),
    (ACL_DEFAULT, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
    (10, b"gnu."),
];

/// The `e_name_index` and `e_name` that `name` is stored under; `None` in a namespace that is not served.
pub(super) fn stored_name(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|&(index, prefix)| {
        let rest = name.strip_prefix(prefix)?;
        (rest.is_empty() || prefix.ends_with(b".")).then_some((index, rest))
    })
}

/// The longest name that a Linux client passes, with its prefix: `XATTR_NAME_MAX`.
const LONGEST_NAME: usize = 255;

/// The `e_name_index` and `e_name` of an attribute to be set or removed.
///
/// # Errors
/// ERANGE for no name or one of more than 255 bytes, EINVAL for a bare prefix or a NUL, EOPNOTSUPP in a namespace that is not
/// served.
pub(super) fn name_to_store(name: &[u8]) -> Result<(u8, &[u8]), Errno> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(Errno::ERANGE);
    }
    let (e_name_index, e_name) = stored_name(name).ok_or(Errno::EOPNOTSUPP)?;
    if name.ends_with(b".") && e_name.is_empty() || e_name.contains(&0) {
        return Err(Errno::EINVAL);
    }
    Ok((e_name_index, e_name))
}

/// What names with `e_name_index` begin with; `None` in a namespace that is not served.
pub(super) fn prefix(e_name_index: u8) -> Option<&'static [u8]> {
    PREFIXES.iter().find(|(index, _)| *index == e_name_index).map(|(_, prefix)| *prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_belong_to_the_namespaces_of_linux() {
        assert_eq!(stored_name(b"user.a"), Some((1, &b"a"[..])));
        assert_eq!(stored_name(b"system.posix_acl_access"), Some((2, &b""[..])));
        assert_eq!(stored_name(b"trusted.overlay.opaque"), Some((4, &b"overlay.opaque"[..])));
        for name in
            [&b"system.data"[..], b"system.posix_acl_access2", b"system.richacl", b"user", b"lustre.a", b""]
        {
            assert_eq!(stored_name(name), None, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn a_name_to_store_is_neither_bare_nor_too_long() {
        let longest = [&b"user."[..], &[b'n'; 250]].concat();
        assert_eq!(name_to_store(&longest), Ok((1, &[b'n'; 250][..])));
        assert_eq!(name_to_store(&[&longest[..], b"n"].concat()), Err(Errno::ERANGE));
        assert_eq!(name_to_store(b""), Err(Errno::ERANGE));
        assert_eq!(name_to_store(b"user."), Err(Errno::EINVAL));
        assert_eq!(name_to_store(b"user.a\0b"), Err(Errno::EINVAL));
        assert_eq!(name_to_store(b"system.posix_acl_default"), Ok((3, &b""[..])));
        assert_eq!(name_to_store(b"other.a"), Err(Errno::EOPNOTSUPP));
    }
}
