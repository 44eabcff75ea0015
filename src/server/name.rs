// SPDX-License-Identifier: MIT OR Apache-2.0

//! The one boundary at which names from a client are checked. A backend sees only names that passed it.

use crate::fs::Errno;

/// Longest name of a file, and of an extended attribute, in bytes (`NAME_MAX`, `XATTR_NAME_MAX`).
pub const MAX_NAME: usize = 255;

/// A name that a directory may hold: 1 … 255 bytes, no `/`, no NUL, neither `.` nor `..`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SafeName<'a>(&'a [u8]);

impl<'a> SafeName<'a> {
    /// Checks `name`.
    ///
    /// # Errors
    /// ENAMETOOLONG for more than 255 bytes; EINVAL for everything else that is not a name.
    pub fn new(name: &'a [u8]) -> Result<Self, Errno> {
        if name.len() > MAX_NAME {
            return Err(Errno::ENAMETOOLONG);
        }
        let special = name.is_empty() || name == b"." || name == b"..";
        if special || name.iter().any(|byte| *byte == b'/' || *byte == 0) {
            return Err(Errno::EINVAL);
        }
        Ok(Self(name))
    }

    /// The bytes of the name.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// One step of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// `..`: to the directory above.
    Up,
    /// Down to this name.
    Down(SafeName<'a>),
}

impl<'a> Step<'a> {
    /// Checks `name`. (`.` is no step: walk(5) says that the protocol does not use it.)
    ///
    /// # Errors
    /// As [`SafeName::new`].
    pub fn new(name: &'a [u8]) -> Result<Self, Errno> {
        if name == b".." { Ok(Self::Up) } else { SafeName::new(name).map(Self::Down) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_a_directory_may_hold_passes() {
        for name in [&b"a"[..], b"...", b" ", b"\xff\xfe", b"\\", &[b'n'; 255]] {
            assert_eq!(SafeName::new(name).map(SafeName::bytes), Ok(name));
        }
    }

    #[test]
    fn names_that_no_directory_holds_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0", b"\0"] {
            assert_eq!(SafeName::new(name), Err(Errno::EINVAL), "{name:?}");
        }
    }

    #[test]
    fn a_name_of_256_bytes_is_too_long() {
        assert_eq!(SafeName::new(&[b'n'; 256]), Err(Errno::ENAMETOOLONG));
    }

    #[test]
    fn two_dots_are_a_step_up_and_one_dot_is_no_step() {
        assert_eq!(Step::new(b".."), Ok(Step::Up));
        assert_eq!(Step::new(b"."), Err(Errno::EINVAL));
        assert_eq!(Step::new(b"x"), SafeName::new(b"x").map(Step::Down));
    }
}
