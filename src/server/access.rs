// SPDX-License-Identifier: MIT OR Apache-2.0

//! Who may do what: the policy of an export, and the checks that POSIX has a file system make.
//!
//! A *trusting* export leaves the checks to the client's kernel, which has made them before it asks. A *checking* one makes
//! them again, against the user that attached, from the mode bits and the access control list of each file.
//!
//! 9P tells a server the user of an attach, and never the groups that the user is in. So a checking export grants nothing by
//! membership: a user who is neither the owner of a file nor named in its list is one of the *others*, and named groups
//! do not count. For the same reason it does not judge which group a file is given, at its creation or by its owner: group
//! ownership is what the client says it is.

use crate::fs::{AttributeChanges, Errno, FileKind, FileSystem, NewKind, Node};
use crate::wire::NONUNAME;

/// The user that an attach without a number stands for: `nobody`.
pub const NOBODY: u32 = 65_534;

/// Which users are served as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Squash {
    /// None.
    #[default]
    None,
    /// User 0.
    Root {
        /// Whom as.
        uid: u32,
        /// The group of what is made.
        gid: u32,
    },
    /// All.
    All {
        /// Whom as.
        uid: u32,
        /// The group of what is made.
        gid: u32,
    },
}

/// How an export deals with its users. The default trusts the client, squashes nobody and lets everything be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Whether the server checks what a user may do.
    pub check: bool,
    /// Whom a user is served as.
    pub squash: Squash,
    /// Whether all that writes is refused with EROFS.
    pub read_only: bool,
}

impl Policy {
    /// The user that an attach with `n_uname` acts as.
    #[must_use]
    pub fn user(&self, n_uname: u32) -> u32 {
        let uid = if n_uname == NONUNAME { NOBODY } else { n_uname };
        match self.squash {
            Squash::Root { uid: squashed, .. } if uid == 0 => squashed,
            Squash::All { uid, .. } => uid,
            _ => uid,
        }
    }

    /// The group of what a user makes who asks for `gid`; `n_uname` is the user before it was squashed.
    #[must_use]
    pub fn group(&self, n_uname: u32, gid: u32) -> u32 {
        match self.squash {
            Squash::Root { gid: squashed, .. } if n_uname == 0 => squashed,
            Squash::All { gid: squashed, .. } => squashed,
            _ => gid,
        }
    }
}

/// What somebody wants to do with a file: a set of `r`, `w` and `x`, as in three bits of a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions(u8);

impl Permissions {
    /// Read a file, or the names in a directory.
    pub const READ: Self = Self(4);
    /// Write a file, or change the names in a directory.
    pub const WRITE: Self = Self(2);
    /// Execute a file, or search a directory.
    pub const EXECUTE: Self = Self(1);

    /// These and those.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

/// Whether the user `uid` has the `wanted` permissions of `node`.
///
/// # Errors
/// EACCES if not; what the backend says.
pub fn permits(backend: &dyn FileSystem, node: Node, uid: u32, wanted: Permissions) -> Result<(), Errno> {
    let _ = (backend, node, uid, wanted);
    Err(Errno::EACCES)
}

/// A user of an export, who asks for something. Each method says whether the policy of the export lets it be done.
///
/// # Errors
/// All methods: EROFS for what would change a read-only export; what the backend says. With a policy that checks, EACCES for
/// a lack of permission of the mode bits or the list, and EPERM for what only the owner or root may do.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The backend of the export.
    pub backend: &'a dyn FileSystem,
    /// Its policy.
    pub policy: Policy,
    /// Whom the user acts as: [`Policy::user`].
    pub uid: u32,
}

#[expect(clippy::missing_errors_doc, reason = "the type says it, once for all")]
impl Subject<'_> {
    /// Open the file `node` with these permissions. With [`Permissions::WRITE`] it counts as a change.
    pub fn may_open(&self, node: Node, wanted: Permissions) -> Result<(), Errno> {
        let _ = (node, wanted);
        Ok(())
    }

    /// Look up a name in `directory`.
    pub fn may_search(&self, directory: Node) -> Result<(), Errno> {
        let _ = directory;
        Ok(())
    }

    /// Make a name in `directory` for a new file of this kind: root alone makes devices.
    pub fn may_create(&self, directory: Node, kind: &NewKind<'_>) -> Result<(), Errno> {
        let _ = (directory, kind);
        Ok(())
    }

    /// Make a name in `directory` for a file that exists.
    pub fn may_link(&self, directory: Node) -> Result<(), Errno> {
        let _ = directory;
        Ok(())
    }

    /// Take the name of `victim` out of `directory`.
    pub fn may_remove(&self, directory: Node, victim: Node) -> Result<(), Errno> {
        let _ = (directory, victim);
        Ok(())
    }

    /// Move the name of `node` from one directory to another, or within one, over that of `replaced` if there is one.
    pub fn may_rename(&self, from: Node, node: Node, to: Node, replaced: Option<Node>) -> Result<(), Errno> {
        let _ = (from, node, to, replaced);
        Ok(())
    }

    /// Change attributes of `node`; `writes` says that it is asked through a fid that is open for writing, which may change
    /// the size.
    pub fn may_change_attributes(
        &self,
        node: Node,
        changes: &AttributeChanges,
        writes: bool,
    ) -> Result<(), Errno> {
        let _ = (node, changes, writes);
        Ok(())
    }

    /// Read the extended attribute `name` of `node`.
    pub fn may_read_attribute(&self, node: Node, name: &[u8]) -> Result<(), Errno> {
        let _ = (node, name);
        Ok(())
    }

    /// Set or remove the extended attribute `name` of `node`.
    pub fn may_write_attribute(&self, node: Node, name: &[u8]) -> Result<(), Errno> {
        let _ = (node, name, FileKind::Regular);
        Ok(())
    }
}
