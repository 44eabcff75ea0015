// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a session can attach to, and how a name selects it.

use super::access::{Policy, Subject};
use super::export_options::ExportList;
use super::fid::Handle;
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

    /// The user behind a fid, with the export that it belongs to.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn subject(&self, handle: &Handle) -> Result<Subject<'_>, Errno> {
        let backend = self.get(handle.export)?;
        Ok(Subject { backend, policy: self.policy(handle.export), uid: handle.uid })
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
    /// ENOENT for a name that is none of these, a path that no export leads to, and a path to nothing; ENOTDIR for a path
    /// to something that is no directory; EINVAL for `.` and `..` and ENAMETOOLONG for names no file can have ([`SafeName`]).
    pub fn resolve(&self, aname: &[u8]) -> Result<(ExportId, Node, Policy), Errno> {
        if aname == b"ctl" {
            let control = self.control.as_deref().ok_or(Errno::ENOENT)?;
            return Ok((ExportId::CONTROL, control.root(), Policy::default()));
        }
        if !aname.is_empty() && aname.first() != Some(&b'/') {
            return Err(Errno::ENOENT);
        }
        let (number, export) = self.list.select(aname).ok_or(Errno::ENOENT)?;
        let mut node = self.volume.root();
        for component in aname.split(|byte| *byte == b'/').filter(|component| !component.is_empty()) {
            node = self.volume.lookup(node, SafeName::new(component)?.bytes())?;
        }
        if self.volume.attributes(node)?.kind != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok((ExportId(number), node, export.policy))
    }
}
