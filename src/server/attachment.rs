// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the fids of a session are attached to: which directory of which export, and on whose behalf.
//!
//! A fid holds a number into this table, so that a place of the fid table stays small. All memory is allocated once.

use alloc::boxed::Box;
use alloc::vec;

use super::exports::ExportId;
#[cfg(doc)]
use super::exports::Exports;
use crate::fs::{Errno, FileSystem, Node};

/// Most attachments of a session at a time. Those that are equal count once. (Linux makes one for each user.)
pub const MAX_ATTACHMENTS: usize = 1024;

/// Deepest place below a directory that is attached from which `..` is taken: each step up is checked.
const MAX_DEPTH: usize = 4096;

/// What a Tattach selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachment {
    /// The export.
    pub export: ExportId,
    /// The directory of it; `..` stops there.
    pub root: Node,
    /// Whether that is not the export's root, so that there is something outside.
    pub confined: bool,
    /// The user that attached; whom it acts as, [`Exports::subject`] says.
    pub n_uname: u32,
}

impl Attachment {
    /// The directory above `directory`: what it was attached at if that is `directory`.
    ///
    /// # Errors
    /// ESTALE if that is outside, because `directory` was moved out of what was attached (or lies more than 4096
    /// directories deep); what [`FileSystem::parent`] says.
    pub fn parent(&self, backend: &dyn FileSystem, directory: Node) -> Result<Node, Errno> {
        if directory == self.root {
            return Ok(directory);
        }
        let parent = backend.parent(directory)?;
        let mut above = parent;
        for _ in 0..MAX_DEPTH {
            if !self.confined || above == self.root {
                return Ok(parent);
            }
            let next = backend.parent(above)?;
            if next == above {
                break;
            }
            above = next;
        }
        Err(Errno::ESTALE)
    }
}

/// The number of an [`Attachment`] in its session's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachmentId(u16);

impl AttachmentId {
    /// The first place of a table.
    pub const FIRST: Self = Self(0);
}

/// The attachments of one session, each with the number of fids that belong to it.
pub struct Attachments {
    /// A place that no fid belongs to is free.
    places: Box<[(Option<Attachment>, u32)]>,
}

impl Attachments {
    /// Allocates the places, all free.
    #[must_use]
    pub fn new() -> Self {
        Self { places: vec![(None, 0); MAX_ATTACHMENTS].into_boxed_slice() }
    }

    /// A place that holds `attachment`. No fid is counted for it yet.
    ///
    /// # Errors
    /// EMFILE if there is no room for one more.
    pub fn place(&mut self, attachment: Attachment) -> Result<AttachmentId, Errno> {
        let equal = self.places.iter().position(|(kept, fids)| *fids > 0 && *kept == Some(attachment));
        let index =
            equal.or_else(|| self.places.iter().position(|(_, fids)| *fids == 0)).ok_or(Errno::EMFILE)?;
        self.places.get_mut(index).ok_or(Errno::EMFILE)?.0 = Some(attachment);
        u16::try_from(index).map(AttachmentId).map_err(|_| Errno::EMFILE)
    }

    /// The attachment at `id`.
    ///
    /// # Errors
    /// EBADF if there is none, which no fid in use says.
    pub fn get(&self, id: AttachmentId) -> Result<Attachment, Errno> {
        self.places.get(usize::from(id.0)).and_then(|(attachment, _)| *attachment).ok_or(Errno::EBADF)
    }

    /// Counts one fid more that belongs to `id`.
    pub fn hold(&mut self, id: AttachmentId) {
        if let Some((_, fids)) = self.places.get_mut(usize::from(id.0)) {
            *fids = fids.saturating_add(1);
        }
    }

    /// Counts one fid less.
    pub fn release(&mut self, id: AttachmentId) {
        if let Some((_, fids)) = self.places.get_mut(usize::from(id.0)) {
            *fids = fids.saturating_sub(1);
        }
    }

    /// Frees all places.
    pub fn clear(&mut self) {
        self.places.fill((None, 0));
    }
}

impl Default for Attachments {
    fn default() -> Self {
        Self::new()
    }
}
