// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names of extended attributes: a number stands for the beginning of each on the volume.

/// `e_name_index` of the two access control lists, whose names have nothing behind the prefix.
pub(super) const ACL_ACCESS: u8 = 2;
pub(super) const ACL_DEFAULT: u8 = 3;

/// The namespaces that are served: `e_name_index`, and what it stands for in front of `e_name`.
const PREFIXES: [(u8, &[u8]); 6] = [
    (1, b"user."),
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
}
