// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the name of a fid's file stands: Trename and Tremove name a file by its fid alone.
//!
//! A fid remembers the directory it was found in, and a short hash of its name. The name itself is looked for when it is
//! needed, among all of that directory: names are long, fids are many, and Linux sends neither message.

use core::ops::ControlFlow;

use super::fid::Handle;
use super::name::MAX_NAME;
use super::session::File;
use crate::fs::{DirectoryEntry, Errno, FileKind, FileSystem, Node};

/// A hash of a name: it tells names of one file in one directory apart, nearly always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameTag(u16);

impl NameTag {
    /// For what was not found by a name: where a fid was attached, or `..`.
    pub const NONE: Self = Self(0);

    /// The tag of `name`: FNV-1a, folded.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let hash = name
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        Self(u16::try_from((hash >> 16) ^ (hash & 0xffff)).unwrap_or(0))
    }
}

/// A name and the directory it is in.
pub(super) struct Place {
    pub(super) directory: Node,
    pub(super) name: heapless::Vec<u8, MAX_NAME>,
}

/// The place of `file`: where its fid found it, or under another name in the same directory; a directory wherever it is.
///
/// # Errors
/// EBUSY for what was attached; ENOENT if it is not there any more; ESTALE if it is outside of what was attached; what
/// [`FileSystem::read_directory`] says.
pub(super) fn find(backend: &dyn FileSystem, file: &File) -> Result<Place, Errno> {
    let Handle { node, directory, name: tag, kind, .. } = file.handle;
    if node == file.attachment.root || node == backend.root() {
        return Err(Errno::EBUSY);
    }
    let directory = if kind == FileKind::Directory {
        file.attachment.parent(backend, node, &mut false)?
    } else {
        directory
    };
    let number = backend.number(node);
    let mut name: heapless::Vec<u8, MAX_NAME> = heapless::Vec::new();
    let mut visit = |entry: &DirectoryEntry<'_>| {
        if entry.number != number || entry.name == b"." || entry.name == b".." {
            return ControlFlow::Continue(());
        }
        let is_it = NameTag::of(entry.name) == tag;
        if is_it || name.is_empty() {
            name.clear();
            // A name that is too long to be one stays empty, and is not found.
            let _ = name.extend_from_slice(entry.name);
        }
        if is_it { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    backend.read_directory(directory, 0, &mut visit)?;
    // The number may be that of a younger file by now.
    if name.is_empty() || backend.lookup(directory, &name)? != node {
        return Err(Errno::ENOENT);
    }
    Ok(Place { directory, name })
}
