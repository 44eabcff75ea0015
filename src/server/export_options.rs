// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which directories of the volume are exported, and how: the text in which an operator says so.
//!
//! ```text
//! PATH[:option[,option…]]
//! ```
//!
//! | option                  | meaning                                                                        |
//! |-------------------------|--------------------------------------------------------------------------------|
//! | `trust`                 | the client's kernel checks what a user may do; the default                     |
//! | `check`                 | the server does                                                                |
//! | `readonly`              | nothing can be changed                                                         |
//! | `squash=root:UID:GID`   | user 0 is served as UID, and what it makes belongs to GID                      |
//! | `squash=all:UID:GID`    | all users are                                                                  |
//!
//! A policy holds for what is reached through its export: who attaches to a directory above it reaches the same files with the
//! policy of the export that selects.
//!
//! Relies on [`super::access`] for what the options mean.

use core::fmt;

use super::access::{Policy, Squash};

/// Most exports of a service.
pub const MAX_EXPORTS: usize = 16;

/// Longest path of an export, in bytes.
pub const MAX_PATH: usize = 255;

/// A directory of the volume that clients may attach to, and to all directories below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// From the root of the volume, beginning with `/`; without empty components.
    path: heapless::String<MAX_PATH>,
    /// How its users are dealt with.
    pub policy: Policy,
}

impl Export {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Parses one export.
    ///
    /// # Errors
    /// [`ExportError`], for the first word that is refused.
    pub fn parse(text: &str) -> Result<Self, ExportError<'_>> {
        let (path, options) = match text.split_once(':') {
            Some((path, options)) => (path, Some(options)),
            None => (text, None),
        };
        let mut export = Self { path: parse_path(path)?, policy: Policy::default() };
        let (mut checks, mut squash, mut read_only) = (None, None, None);
        for word in options.into_iter().flat_map(|options| options.split(',')) {
            let again = match word {
                "trust" => checks.replace(false).is_some(),
                "check" => checks.replace(true).is_some(),
                "readonly" => read_only.replace(true).is_some(),
                _ => {
                    let value = word.strip_prefix("squash=").ok_or(ExportError::UnknownOption(word))?;
                    squash.replace(parse_squash(value).ok_or(ExportError::Squash(word))?).is_some()
                }
            };
            if again {
                return Err(ExportError::Repeated(word));
            }
        }
        export.policy = Policy {
            check: checks.unwrap_or_default(),
            squash: squash.unwrap_or_default(),
            read_only: read_only.unwrap_or_default(),
        };
        Ok(export)
    }
}

/// The components of a path; empty ones count for nothing.
pub(super) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

fn parse_path(text: &str) -> Result<heapless::String<MAX_PATH>, ExportError<'_>> {
    let error = ExportError::Path(text);
    if !text.starts_with('/') || text.contains('\0') {
        return Err(error);
    }
    let mut path = heapless::String::new();
    for component in text.split('/').filter(|component| !component.is_empty()) {
        if component == "." || component == ".." {
            return Err(error);
        }
        path.push('/').and_then(|()| path.push_str(component)).map_err(|_| error)?;
    }
    if path.is_empty() {
        path.push('/').map_err(|_| error)?;
    }
    Ok(path)
}

/// `root:UID:GID` or `all:UID:GID`.
fn parse_squash(value: &str) -> Option<Squash> {
    let (who, ids) = value.split_once(':')?;
    let (uid, gid) = ids.split_once(':')?;
    let (uid, gid) = (parse_id(uid)?, parse_id(gid)?);
    match who {
        "root" => Some(Squash::Root { uid, gid }),
        "all" => Some(Squash::All { uid, gid }),
        _ => None,
    }
}

/// A decimal number; the largest of 32 bits stands for no user and no group.
fn parse_id(digits: &str) -> Option<u32> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|id| *id != u32::MAX)
}

/// Why an export was refused: what is wrong, with the word that it is wrong with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportError<'a> {
    /// A path that does not begin with `/`, has a component `.` or `..` or a NUL, or more than [`MAX_PATH`] bytes.
    Path(&'a str),
    /// A word that is no option.
    UnknownOption(&'a str),
    /// A squash that is not of the form `root:UID:GID` or `all:UID:GID`.
    Squash(&'a str),
    /// An option of which, or of whose opposite, the export has one already.
    Repeated(&'a str),
    /// A path that is exported already.
    RepeatedPath(&'a str),
    /// One export more than [`MAX_EXPORTS`].
    TooMany(&'a str),
}

impl fmt::Display for ExportError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(
                f,
                "the export path \"{path}\" is not one from / on, without . and .., of at most {MAX_PATH} bytes"
            ),
            Self::UnknownOption(word) => write!(
                f,
                "the export option \"{word}\" is unknown: trust, check, readonly, squash=root:UID:GID, squash=all:UID:GID"
            ),
            Self::Squash(word) => write!(
                f,
                "the export option \"{word}\" is not squash=root:UID:GID or squash=all:UID:GID, with numbers below {}",
                u32::MAX
            ),
            Self::Repeated(word) => {
                write!(f, "the export option \"{word}\" repeats or contradicts one before it")
            }
            Self::RepeatedPath(path) => write!(f, "the path \"{path}\" is exported more than once"),
            Self::TooMany(export) => {
                write!(f, "the export \"{export}\" is one too many: there may be {MAX_EXPORTS}")
            }
        }
    }
}

impl core::error::Error for ExportError<'_> {}

/// The exports of the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportList {
    exports: heapless::Vec<Export, MAX_EXPORTS>,
}

impl ExportList {
    /// Exports nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { exports: heapless::Vec::new() }
    }

    /// Parses one more export.
    ///
    /// # Errors
    /// [`ExportError`], for the first word that is refused; the list is as it was.
    pub fn add<'a>(&mut self, text: &'a str) -> Result<(), ExportError<'a>> {
        let export = Export::parse(text)?;
        if self.exports.iter().any(|other| other.path == export.path) {
            return Err(ExportError::RepeatedPath(text));
        }
        self.exports.push(export).map_err(|_| ExportError::TooMany(text))
    }

    /// The exports, in the order in which they were added.
    #[must_use]
    pub fn exports(&self) -> &[Export] {
        &self.exports
    }

    /// The export with the longest path that leads to the directory `path`, and its index.
    #[must_use]
    pub fn select(&self, path: &[u8]) -> Option<(u8, &Export)> {
        (0..)
            .zip(self.exports.iter())
            .filter(|(_, export)| {
                let mut below = components(path);
                components(export.path.as_bytes()).all(|component| below.next() == Some(component))
            })
            // Paths that lead to one directory are prefixes of each other.
            .max_by_key(|(_, export)| export.path.len())
    }
}

impl Default for ExportList {
    /// The whole volume, with the default policy.
    fn default() -> Self {
        let mut list = Self::new();
        let mut path = heapless::String::new();
        // Both have room for it.
        let _ = path.push('/');
        let _ =
            list.exports.push(Export { path, policy: Policy { squash: Squash::None, ..Policy::default() } });
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::ToString;

    fn policy(text: &str) -> Policy {
        Export::parse(text).unwrap().policy
    }

    #[test]
    fn an_export_without_options_trusts_and_is_written() {
        assert_eq!(policy("/"), Policy { check: false, squash: Squash::None, read_only: false });
        assert_eq!(policy("/"), policy("/:trust"));
        assert_eq!(Export::parse("/").unwrap(), *ExportList::default().exports().first().unwrap());
    }

    #[test]
    fn each_option_sets_its_part_of_the_policy_in_any_order() {
        let default = Policy::default();
        assert_eq!(policy("/:check"), Policy { check: true, ..default });
        assert_eq!(policy("/:readonly"), Policy { read_only: true, ..default });
        let root = Squash::Root { uid: 65_534, gid: 0 };
        assert_eq!(policy("/:squash=root:65534:0"), Policy { squash: root, ..default });
        let all = Squash::All { uid: 4_294_967_294, gid: 100 };
        assert_eq!(policy("/:squash=all:4294967294:100"), Policy { squash: all, ..default });
        let together = Policy { check: true, squash: all, read_only: true };
        assert_eq!(policy("/a:check,squash=all:4294967294:100,readonly"), together);
        assert_eq!(policy("/a:readonly,squash=all:4294967294:100,check"), together);
    }

    #[test]
    fn a_path_is_kept_without_empty_components() {
        for (text, path) in
            [("/", "/"), ("//", "/"), ("/a", "/a"), ("//a/b//:check", "/a/b"), ("/.a/b..", "/.a/b..")]
        {
            assert_eq!(Export::parse(text).unwrap().path(), path);
        }
        let longest = format!("/{}", "n".repeat(254));
        assert_eq!(Export::parse(&longest).unwrap().path(), longest);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_word_that_it_is_wrong_with() {
        let long = format!("/{}", "n".repeat(255));
        for (text, error) in [
            ("", ExportError::Path("")),
            ("check", ExportError::Path("check")),
            ("a/b:check", ExportError::Path("a/b")),
            (":check", ExportError::Path("")),
            ("/a/../b", ExportError::Path("/a/../b")),
            ("/.", ExportError::Path("/.")),
            ("/a\0", ExportError::Path("/a\0")),
            (&long, ExportError::Path(&long)),
            ("/:", ExportError::UnknownOption("")),
            ("/:check,", ExportError::UnknownOption("")),
            ("/:check,ro", ExportError::UnknownOption("ro")),
            ("/:check=", ExportError::UnknownOption("check=")),
            ("/:check=yes", ExportError::UnknownOption("check=yes")),
            ("/:squash", ExportError::UnknownOption("squash")),
            ("/:squash=root", ExportError::Squash("squash=root")),
            ("/:squash=root:1", ExportError::Squash("squash=root:1")),
            ("/:squash=root:1:2:3", ExportError::Squash("squash=root:1:2:3")),
            ("/:squash=some:1:2", ExportError::Squash("squash=some:1:2")),
            ("/:squash=all:-1:2", ExportError::Squash("squash=all:-1:2")),
            ("/:squash=all:+1:2", ExportError::Squash("squash=all:+1:2")),
            ("/:squash=all::2", ExportError::Squash("squash=all::2")),
            ("/:squash=all:1:4294967295", ExportError::Squash("squash=all:1:4294967295")),
            ("/:squash=all:4294967296:1", ExportError::Squash("squash=all:4294967296:1")),
            ("/:trust,check", ExportError::Repeated("check")),
            ("/:readonly,readonly", ExportError::Repeated("readonly")),
            ("/:squash=all:1:2,squash=root:1:2", ExportError::Repeated("squash=root:1:2")),
        ] {
            assert_eq!(Export::parse(text), Err(error), "{text}");
        }
        let error = Export::parse("/:check,ro").unwrap_err();
        assert!(
            error.to_string().starts_with("the export option \"ro\" is unknown: trust, check"),
            "{error}"
        );
    }

    #[test]
    fn a_list_takes_its_capacity_of_different_paths() {
        let mut list = ExportList::new();
        for number in 0..MAX_EXPORTS {
            list.add(std::boxed::Box::leak(format!("/{number}").into_boxed_str())).unwrap();
        }
        assert_eq!(list.add("/3/"), Err(ExportError::RepeatedPath("/3/")));
        assert_eq!(list.add("/more"), Err(ExportError::TooMany("/more")));
        assert_eq!(list.exports().len(), MAX_EXPORTS);
    }

    #[test]
    fn the_longest_path_that_leads_to_a_directory_selects_it() {
        let mut list = ExportList::new();
        for text in ["/home", "/home/anna/music:readonly", "/home/anna"] {
            list.add(text).unwrap();
        }
        let selected =
            |path: &str| list.select(path.as_bytes()).map(|(number, export)| (number, export.path()));
        for (path, expected) in [
            ("/home", Some((0, "/home"))),
            ("/home/", Some((0, "/home"))),
            ("//home//bert", Some((0, "/home"))),
            ("/home/annabel", Some((0, "/home"))),
            ("/home/anna", Some((2, "/home/anna"))),
            ("/home/anna/musical", Some((2, "/home/anna"))),
            ("/home/anna/music/1", Some((1, "/home/anna/music"))),
            ("", None),
            ("/", None),
            ("/hom", None),
            ("/homes", None),
        ] {
            assert_eq!(selected(path), expected, "{path}");
        }
        assert_eq!(ExportList::default().select(b"").map(|(number, _)| number), Some(0));
        assert_eq!(ExportList::default().select(b"/home").map(|(number, _)| number), Some(0));
    }
}
