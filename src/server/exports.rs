// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a session can attach to, and how a name selects it.

use super::name::SafeName;
use crate::fs::{Errno, FileKind, FileSystem, Node};

/// Which export a fid belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportId {
    /// The volume, or a directory of it.
    Volume,
    /// The `ctl` tree.
    Control,
}

/// The exports of one request: borrowed for as long as it is handled.
pub struct Exports<'a> {
    volume: &'a mut dyn FileSystem,
    control: Option<&'a mut dyn FileSystem>,
}

impl<'a> Exports<'a> {
    /// Exports `volume` as `""`, `/`, and each directory of it by its path.
    pub fn new(volume: &'a mut dyn FileSystem) -> Self {
        Self { volume, control: None }
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
        match export {
            ExportId::Volume => Ok(&*self.volume),
            ExportId::Control => self.control.as_deref().ok_or(Errno::ENODEV),
        }
    }

    /// The backend of an export, to be changed.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_mut(&mut self, export: ExportId) -> Result<&mut dyn FileSystem, Errno> {
        match export {
            ExportId::Volume => Ok(&mut *self.volume),
            ExportId::Control => match &mut self.control {
                Some(control) => Ok(&mut **control),
                None => Err(Errno::ENODEV),
            },
        }
    }

    /// The directory that an attach name selects: `""` and `/` the root of the volume, `/some/dir` a directory
    /// of it, `ctl` the control tree. Empty components count for nothing.
    ///
    /// # Errors
    /// ENOENT for a name that is none of these, or a path to nothing; ENOTDIR for a path to something that is no
    /// directory; EINVAL for `.` and `..` and ENAMETOOLONG for names no file can have ([`SafeName`]).
    pub fn resolve(&self, aname: &[u8]) -> Result<(ExportId, Node), Errno> {
        if aname == b"ctl" {
            let control = self.control.as_deref().ok_or(Errno::ENOENT)?;
            return Ok((ExportId::Control, control.root()));
        }
        if !aname.is_empty() && aname.first() != Some(&b'/') {
            return Err(Errno::ENOENT);
        }
        let mut node = self.volume.root();
        for component in aname.split(|byte| *byte == b'/').filter(|component| !component.is_empty()) {
            node = self.volume.lookup(node, SafeName::new(component)?.bytes())?;
        }
        if self.volume.attributes(node)?.kind != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok((ExportId::Volume, node))
    }
}
