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
        Err(ExportError::Path(text))
    }
}

/// Why an export was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportError<'a> {
    /// A path that does not begin with `/`, has a component `.` or `..`, or more than [`MAX_PATH`] bytes.
    Path(&'a str),
    /// A word that is no option.
    UnknownOption(&'a str),
    /// A squash that is not of the form `root:UID:GID` or `all:UID:GID`, with numbers below 4294967295.
    Squash(&'a str),
    /// An option that contradicts or repeats one before.
    Conflict(&'a str),
    /// A path that is exported already.
    Repeated(&'a str),
    /// One export more than [`MAX_EXPORTS`].
    TooMany(&'a str),
}

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
        let _ = path;
        (0..).zip(self.exports.iter()).next()
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

impl fmt::Display for ExportError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
