// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a session can attach to, and how a name selects it.

use super::access::{Policy, Subject};
use super::attachment::Attachment;
use super::export_options::{ExportList, components};
use super::lock_table::LockTable;
use super::name::SafeName;
use crate::fs::{Errno, FileKind, FileSystem, Node};

/// Which export a fid belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportId(u8);

impl ExportId {
    /// The `ctl` tree.
    pub const CONTROL: Self = Self(u8::MAX);
    /// The first export of the volume.
    pub const FIRST: Self = Self(0);

    /// Whose nodes its files are.
    #[must_use]
    pub fn backend(self) -> Backend {
        if self == Self::CONTROL { Backend::Control } else { Backend::Volume }
    }
}

/// What stands behind an export: nodes are unique within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The volume.
    Volume,
    /// The `ctl` tree.
    Control,
}

/// The exports of one request, and the locks on their files: borrowed for as long as it is handled.
pub struct Exports<'a> {
    volume: &'a mut dyn FileSystem,
    control: Option<&'a mut dyn FileSystem>,
    list: &'a ExportList,
    locks: &'a mut LockTable,
}

impl<'a> Exports<'a> {
    /// Exports directories of `volume`, as `list` says. `locks` are those of all sessions of the service.
    pub fn new(volume: &'a mut dyn FileSystem, list: &'a ExportList, locks: &'a mut LockTable) -> Self {
        Self { volume, control: None, list, locks }
    }

    /// Exports `control` as `ctl` too. Only the preallocated ring may reach it: it configures the service.
    #[must_use]
    pub fn with_control(self, control: &'a mut dyn FileSystem) -> Self {
        Self { control: Some(control), ..self }
    }

    /// The backend of an export.
    ///
    /// # Errors
    /// ENODEV if it is not exported now.
    pub fn get(&self, export: ExportId) -> Result<&dyn FileSystem, Errno> {
        match export.backend() {
            Backend::Volume => Ok(&*self.volume),
            Backend::Control => self.control.as_deref().ok_or(Errno::ENODEV),
        }
    }

    /// The backend of an export, to be changed.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_mut(&mut self, export: ExportId) -> Result<&mut dyn FileSystem, Errno> {
        match export.backend() {
            Backend::Volume => Ok(&mut *self.volume),
            Backend::Control => match &mut self.control {
                Some(control) => Ok(&mut **control),
                None => Err(Errno::ENODEV),
            },
        }
    }

    /// The policy of an export. `ctl` trusts its only user.
    #[must_use]
    pub fn policy(&self, export: ExportId) -> Policy {
        self.list.exports().get(usize::from(export.0)).map(|export| export.policy).unwrap_or_default()
    }

    /// The user who attached, with the export that it attached to.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn subject(&self, attachment: &Attachment) -> Result<Subject<'_>, Errno> {
        let backend = self.get(attachment.export)?;
        Ok(Subject { backend, policy: self.policy(attachment.export), n_uname: attachment.n_uname })
    }

    /// Makes what was changed survive the death of this program: for all requests since the last commit, all or nothing.
    ///
    /// # Errors
    /// As [`FileSystem::commit`].
    pub fn commit(&mut self) -> Result<(), Errno> {
        self.volume.commit()
    }

    /// The locks on the files of all exports.
    pub fn locks(&mut self) -> &mut LockTable {
        self.locks
    }

    /// The directory that an attach name selects: `""` and `/` the root of the volume, `/some/dir` a directory
    /// of it, `ctl` the control tree. Empty components count for nothing. A directory of the volume belongs to the export
    /// with the longest path that leads to it.
    ///
    /// # Errors
    /// EACCES if the export checks its users, and `n_uname` may not search the way from the export to the directory;
    /// ENOENT for a name that is none of these, a path that no export leads to, and a path to nothing; ENOTDIR for a path
    /// to something that is no directory; EINVAL for `.` and `..` and ENAMETOOLONG for names no file can have ([`SafeName`]).
    pub fn resolve(&self, aname: &[u8], n_uname: u32) -> Result<(ExportId, Node), Errno> {
        if aname == b"ctl" {
            let control = self.control.as_deref().ok_or(Errno::ENOENT)?;
            return Ok((ExportId::CONTROL, control.root()));
        }
        if !aname.is_empty() && aname.first() != Some(&b'/') {
            return Err(Errno::ENOENT);
        }
        let (number, export) = self.list.select(aname).ok_or(Errno::ENOENT)?;
        // The operator opened the way to the export; below it the user has to be let through.
        let exported = components(export.path().as_bytes()).count();
        let subject = Subject { backend: &*self.volume, policy: export.policy, n_uname };
        let mut node = self.volume.root();
        for (depth, component) in components(aname).enumerate() {
            if depth >= exported {
                subject.may_search(node)?;
            }
            node = self.volume.lookup(node, SafeName::new(component)?.bytes())?;
        }
        if self.volume.attributes(node)?.kind != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok((ExportId(number), node))
    }
}

#[cfg(test)]
mod tests {
    use super::super::access::Squash;
    use super::*;
    use crate::server::tree::{ROOT, Tree};

    /// `/a/b/c`, and what is exported of it.
    fn resolve(list: &[&'static str], aname: &str, n_uname: u32) -> Result<(Node, Policy), Errno> {
        let mut tree = Tree::new();
        let a = tree.add(ROOT, "a", FileKind::Directory, b"");
        let b = tree.add(a, "b", FileKind::Directory, b"");
        tree.add(b, "c", FileKind::Directory, b"");
        let mut exported = ExportList::new();
        list.iter().for_each(|text| exported.add(text).unwrap());
        let mut locks = LockTable::default();
        let exports = Exports::new(&mut tree, &exported, &mut locks);
        exports.resolve(aname.as_bytes(), n_uname).map(|(export, node)| (node, exports.policy(export)))
    }

    const TRUSTING: Policy = Policy { check: false, squash: Squash::None, read_only: false };
    const READ_ONLY: Policy = Policy { read_only: true, ..TRUSTING };

    #[test]
    fn the_export_nearest_to_a_directory_gives_its_policy() {
        let list = ["/a/b:readonly", "/a"];
        for (aname, expected) in [
            ("/a", Ok((Node(3), TRUSTING))),
            ("/a/b", Ok((Node(4), READ_ONLY))),
            ("//a//b//c/", Ok((Node(5), READ_ONLY))),
            ("", Err(Errno::ENOENT)),
            ("/", Err(Errno::ENOENT)),
            ("/b", Err(Errno::ENOENT)),
            ("/a/b/d", Err(Errno::ENOENT)),
        ] {
            assert_eq!(resolve(&list, aname, 0), expected, "{aname}");
        }
    }

    #[test]
    fn the_way_from_a_checking_export_on_must_be_open_to_the_user() {
        // Nobody but root may search the directories of this tree.
        let closed = |list: &[&'static str], aname, n_uname| {
            let mut tree = Tree::new();
            let a = tree.add(ROOT, "a", FileKind::Directory, b"");
            let b = tree.add(a, "b", FileKind::Directory, b"");
            let mut exported = ExportList::new();
            list.iter().for_each(|text| exported.add(text).unwrap());
            let mut locks = LockTable::default();
            let node = Exports::new(&mut tree, &exported, &mut locks).resolve(aname, n_uname);
            assert!(node.is_err() || node == Ok((ExportId::FIRST, b)));
            node.map(|_| ())
        };
        assert_eq!(closed(&["/:check"], b"/a/b", 1000), Err(Errno::EACCES));
        assert_eq!(closed(&["/a:check"], b"/a/b", 1000), Err(Errno::EACCES));
        assert_eq!(closed(&["/a/b:check"], b"/a/b", 1000), Ok(()), "the operator opened it");
        assert_eq!(closed(&["/:check"], b"/a/b", 0), Ok(()));
        assert_eq!(closed(&["/:check,squash=root:1:1"], b"/a/b", 0), Err(Errno::EACCES));
        assert_eq!(closed(&["/"], b"/a/b", 1000), Ok(()), "the client's kernel checks");
    }

    #[test]
    fn ctl_trusts_whoever_reaches_it() {
        let (mut tree, mut control) = (Tree::new(), Tree::new());
        let mut list = ExportList::new();
        list.add("/:readonly,check").unwrap();
        let mut locks = LockTable::default();
        let exports = Exports::new(&mut tree, &list, &mut locks).with_control(&mut control);
        let (export, _) = exports.resolve(b"ctl", 1000).unwrap();
        assert_eq!(exports.policy(export), TRUSTING);
        assert_eq!((export, export.backend()), (ExportId::CONTROL, Backend::Control));
    }
}
