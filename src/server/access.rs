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

use crate::fs::{
    AttributeChanges, Attributes, Caller, Errno, FileKind, FileSystem, NewKind, Node, TimeChange,
};
use crate::mem::{Full, Sink};
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

    const ALL: Self = Self(7);

    /// The lowest three bits of a mode.
    fn from_mode(mode: u32) -> Self {
        Self((mode & 7).try_into().unwrap_or(0))
    }

    /// These and those.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    fn masked(self, mask: Self) -> Self {
        Self(self.0 & mask.0)
    }

    fn contains(self, others: Self) -> bool {
        self.masked(others) == others
    }
}

/// The name of a file's access control list.
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// Whether the user `uid` has the `wanted` permissions of `node`, as Linux decides it for a user who is in no group.
///
/// # Errors
/// EACCES if not; EUCLEAN for a list that is none; what the backend says.
pub fn permits(backend: &dyn FileSystem, node: Node, uid: u32, wanted: Permissions) -> Result<(), Errno> {
    let attributes = backend.attributes(node)?;
    permits_with(backend, node, &attributes, uid, wanted)
}

/// [`permits`], where the attributes of `node` are known.
fn permits_with(
    backend: &dyn FileSystem,
    node: Node,
    attributes: &Attributes,
    uid: u32,
    wanted: Permissions,
) -> Result<(), Errno> {
    let granted = if uid == 0 {
        // Root executes what anybody may execute.
        let executes = attributes.kind == FileKind::Directory || attributes.mode & 0o111 != 0;
        if executes { Permissions::ALL } else { Permissions::READ.with(Permissions::WRITE) }
    } else if uid == attributes.uid {
        Permissions::from_mode(attributes.mode >> 6)
    } else {
        // The bits of the group are the mask of the list: where it masks all, Linux does not read the list.
        let listed = if attributes.mode & 0o070 == 0 { None } else { listed(backend, node, uid)? };
        listed.unwrap_or(Permissions::from_mode(attributes.mode))
    };
    if granted.contains(wanted) { Ok(()) } else { Err(Errno::EACCES) }
}

/// What the access control list of `node` grants to the user `uid` by name.
fn listed(backend: &dyn FileSystem, node: Node, uid: u32) -> Result<Option<Permissions>, Errno> {
    let mut list = AccessList::of(uid);
    match backend.read_attribute(node, ACCESS_LIST, &mut list) {
        Ok(()) => list.granted(),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// What an access control list says of one user, gathered while the list passes by: a header, a_version, of 4 bytes, and
/// entries of 8: e_tag, e_perm, e_id.
struct AccessList {
    uid: u32,
    /// The beginning of a header or entry that is not complete yet.
    pending: [u8; 8],
    filled: usize,
    version: Option<u32>,
    /// `ACL_USER` with the user's id.
    named: Option<Permissions>,
    /// `ACL_MASK`.
    mask: Permissions,
}

impl AccessList {
    /// `posix_acl_xattr_header.a_version`.
    const VERSION: u32 = 2;
    const ACL_USER: u16 = 0x02;
    const ACL_MASK: u16 = 0x10;

    fn of(uid: u32) -> Self {
        Self { uid, pending: [0; 8], filled: 0, version: None, named: None, mask: Permissions::ALL }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.pending.get_mut(self.filled) {
            *place = byte;
        }
        self.filled = self.filled.saturating_add(1);
        let [a, b, c, d, e, f, g, h] = self.pending;
        match self.version {
            None if self.filled == 4 => self.version = Some(u32::from_le_bytes([a, b, c, d])),
            Some(_) if self.filled == 8 => {
                let permissions = Permissions::from_mode(u16::from_le_bytes([c, d]).into());
                match u16::from_le_bytes([a, b]) {
                    Self::ACL_USER if u32::from_le_bytes([e, f, g, h]) == self.uid => {
                        self.named = Some(permissions);
                    }
                    Self::ACL_MASK => self.mask = permissions,
                    _ => {}
                }
            }
            _ => return,
        }
        self.filled = 0;
    }

    /// What the list, which passed by as a whole, grants to the user by name.
    fn granted(self) -> Result<Option<Permissions>, Errno> {
        if self.version != Some(Self::VERSION) || self.filled != 0 {
            return Err(Errno::EUCLEAN);
        }
        Ok(self.named.map(|named| named.masked(self.mask)))
    }
}

impl Sink for AccessList {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        bytes.iter().for_each(|byte| self.push(*byte));
        Ok(())
    }

    fn put_zeros(&mut self, count: usize) -> Result<(), Full> {
        (0..count).for_each(|_| self.push(0));
        Ok(())
    }
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
    /// The user that attached.
    pub n_uname: u32,
}

#[expect(clippy::missing_errors_doc, reason = "the type says it, once for all")]
impl Subject<'_> {
    /// On whose behalf the backend changes something.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller { uid: self.policy.user(self.n_uname) }
    }

    /// The group of what the user makes and asks to belong to `gid`.
    #[must_use]
    pub fn group(&self, gid: u32) -> u32 {
        self.policy.group(self.n_uname, gid)
    }

    /// Open the file `node` with these permissions. With [`Permissions::WRITE`] it counts as a change.
    pub fn may_open(&self, node: Node, wanted: Permissions) -> Result<(), Errno> {
        if wanted.contains(Permissions::WRITE) {
            self.may_change()?;
        }
        self.may_use(node, wanted)
    }

    /// Look up a name in `directory`.
    pub fn may_search(&self, directory: Node) -> Result<(), Errno> {
        self.may_use(directory, Permissions::EXECUTE)
    }

    /// Make a name in `directory` for a new file of this kind: root alone makes devices.
    pub fn may_create(&self, directory: Node, kind: &NewKind<'_>) -> Result<(), Errno> {
        self.may_link(directory)?;
        let is_device = matches!(kind, NewKind::CharacterDevice(_) | NewKind::BlockDevice(_));
        if self.policy.check && is_device && !self.caller().is_root() { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Make a name in `directory` for a file that exists.
    pub fn may_link(&self, directory: Node) -> Result<(), Errno> {
        self.may_change()?;
        self.may_use(directory, Permissions::WRITE.with(Permissions::EXECUTE))
    }

    /// Take the name of `victim` out of `directory`. In a sticky directory that is for the owner of either.
    pub fn may_remove(&self, directory: Node, victim: Node) -> Result<(), Errno> {
        self.may_link(directory)?;
        if !self.policy.check {
            return Ok(());
        }
        let attributes = self.backend.attributes(directory)?;
        let is_sticky = attributes.mode & STICKY != 0;
        if is_sticky && !self.owns(&attributes) && !self.owns(&self.backend.attributes(victim)?) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// Move the name of `node` from one directory to another, or within one, over that of `replaced` if there is one. A directory
    /// that gets another parent is changed itself.
    pub fn may_rename(&self, from: Node, node: Node, to: Node, replaced: Option<Node>) -> Result<(), Errno> {
        self.may_remove(from, node)?;
        match replaced {
            Some(replaced) => self.may_remove(to, replaced)?,
            None => self.may_link(to)?,
        }
        let moves = self.policy.check && from != to;
        if moves && self.backend.attributes(node)?.kind == FileKind::Directory {
            self.may_use(node, Permissions::WRITE)?;
        }
        Ok(())
    }

    /// Change attributes of `node`; `writes` says that it is asked through a fid that is open for writing, which may change
    /// the size. Root alone gives a file away; the owner changes mode, group and times; who may write changes the size, and sets
    /// the times to now.
    pub fn may_change_attributes(
        &self,
        node: Node,
        changes: &AttributeChanges,
        writes: bool,
    ) -> Result<(), Errno> {
        self.may_change()?;
        if !self.policy.check {
            return Ok(());
        }
        let attributes = self.backend.attributes(node)?;
        let times = [changes.accessed, changes.modified];
        let gives_away = changes.uid.is_some_and(|uid| uid != attributes.uid);
        let needs_owner = changes.uid.is_some()
            || changes.gid.is_some()
            || changes.mode.is_some()
            || times.iter().any(|time| matches!(time, Some(TimeChange::To(_))));
        if (gives_away && !self.caller().is_root()) || (needs_owner && !self.owns(&attributes)) {
            return Err(Errno::EPERM);
        }
        let touches = times.contains(&Some(TimeChange::Now)) && !self.owns(&attributes);
        if !writes && (touches || changes.size.is_some()) {
            permits_with(self.backend, node, &attributes, self.caller().uid, Permissions::WRITE)?;
        }
        Ok(())
    }

    /// Read the extended attribute `name` of `node`. (What there is, anybody may list.) ENODATA for what is hidden.
    pub fn may_read_attribute(&self, node: Node, name: &[u8]) -> Result<(), Errno> {
        if !self.policy.check {
            return Ok(());
        }
        match NameSpace::of(name) {
            NameSpace::Trusted if !self.caller().is_root() => Err(Errno::ENODATA),
            NameSpace::Trusted | NameSpace::Security | NameSpace::System => Ok(()),
            NameSpace::User => {
                let attributes = self.backend.attributes(node)?;
                if !has_user_attributes(&attributes) {
                    return Err(Errno::ENODATA);
                }
                permits_with(self.backend, node, &attributes, self.caller().uid, Permissions::READ)
            }
        }
    }

    /// Set or remove the extended attribute `name` of `node`.
    pub fn may_write_attribute(&self, node: Node, name: &[u8]) -> Result<(), Errno> {
        self.may_change()?;
        if !self.policy.check {
            return Ok(());
        }
        let attributes = self.backend.attributes(node)?;
        let owns = self.owns(&attributes);
        let allowed = match NameSpace::of(name) {
            NameSpace::Trusted | NameSpace::Security => self.caller().is_root(),
            NameSpace::System => owns,
            // In a sticky directory's own attributes nobody else may leave something.
            NameSpace::User => {
                let is_shared = attributes.kind == FileKind::Directory && attributes.mode & STICKY != 0;
                has_user_attributes(&attributes) && (owns || !is_shared)
            }
        };
        if !allowed {
            return Err(Errno::EPERM);
        }
        if NameSpace::of(name) == NameSpace::User {
            permits_with(self.backend, node, &attributes, self.caller().uid, Permissions::WRITE)?;
        }
        Ok(())
    }

    /// Change anything at all.
    fn may_change(&self) -> Result<(), Errno> {
        if self.policy.read_only { Err(Errno::EROFS) } else { Ok(()) }
    }

    fn may_use(&self, node: Node, wanted: Permissions) -> Result<(), Errno> {
        if self.policy.check { permits(self.backend, node, self.caller().uid, wanted) } else { Ok(()) }
    }

    /// Whether the user may do with a file what its owner may.
    fn owns(&self, attributes: &Attributes) -> bool {
        let caller = self.caller();
        caller.is_root() || caller.uid == attributes.uid
    }
}

/// `S_ISVTX`: only who owns a file, or the directory, may take it out of the directory.
const STICKY: u32 = 0o1000;

/// Whether files of this kind have attributes of users: Linux gives them to those whose mode bits say who may write.
fn has_user_attributes(attributes: &Attributes) -> bool {
    matches!(attributes.kind, FileKind::Regular | FileKind::Directory)
}

/// The prefix of an extended attribute's name, as far as it decides who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameSpace {
    /// `trusted.`: root's.
    Trusted,
    /// `security.`: read by all, written by root.
    Security,
    /// `system.`, the access control lists: read by all, written by the owner.
    System,
    /// `user.`, and whatever else: as the content.
    User,
}

impl NameSpace {
    fn of(name: &[u8]) -> Self {
        [(&b"trusted."[..], Self::Trusted), (b"security.", Self::Security), (b"system.", Self::System)]
            .into_iter()
            .find(|(prefix, _)| name.starts_with(prefix))
            .map_or(Self::User, |(_, space)| space)
    }
}

#[cfg(test)]
mod tests;
