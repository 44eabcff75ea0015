// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tunlinkat and Tremove: a name goes, and the file with its last one.

use super::exports::Exports;
use super::name::SafeName;
use super::place;
use super::session::{File, Session};
use crate::fs::{Errno, FileKind, Node, Removal};
use crate::wire::{Rremove, Runlinkat, Tremove, Tunlinkat, UnlinkFlags};

/// Tunlinkat.
///
/// # Errors
/// EBADF for a `dirfd` that stands for no file; ENOTDIR; EINVAL for a flag other than REMOVEDIR; what [`SafeName::new`] and
/// [`remove_name`] say.
pub(super) fn unlinkat(
    session: &Session,
    exports: &mut Exports<'_>,
    request: Tunlinkat<'_>,
) -> Result<Runlinkat, Errno> {
    let parent = session.file(request.dirfd)?;
    let directory = parent.directory()?;
    let name = SafeName::new(request.name)?;
    if !UnlinkFlags::REMOVEDIR.contains(request.flags) {
        return Err(Errno::EINVAL);
    }
    let removal =
        if request.flags.contains(UnlinkFlags::REMOVEDIR) { Removal::Directory } else { Removal::File };
    remove_name(exports, &parent, directory, name.bytes(), removal)?;
    Ok(Runlinkat)
}

/// Tremove. `fid` is clunked, whatever the answer; an attribute that it collected is not set.
///
/// # Errors
/// EBADF; what [`place::find`] and [`remove_name`] say.
pub(super) fn remove(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Tremove,
) -> Result<Rremove, Errno> {
    let removed = session.file(request.fid).and_then(|file| remove_file(exports, &file));
    session.clunk(exports, request.fid)?;
    removed.map(|()| Rremove)
}

/// Takes away the name by which `file` was found.
fn remove_file(exports: &mut Exports<'_>, file: &File) -> Result<(), Errno> {
    let place = place::find(exports.get(file.attachment.export)?, file)?;
    let removal = if file.handle.kind == FileKind::Directory { Removal::Directory } else { Removal::File };
    remove_name(exports, file, place.directory, &place.name, removal)
}

/// Takes `name` out of `directory`, on behalf of who attached `file`.
///
/// # Errors
/// EROFS, EACCES and EPERM as the export's policy has it; what [`FileSystem::remove`](crate::fs::FileSystem::remove) says.
fn remove_name(
    exports: &mut Exports<'_>,
    file: &File,
    directory: Node,
    name: &[u8],
    removal: Removal,
) -> Result<(), Errno> {
    let subject = file.subject(exports)?;
    let victim = subject.backend.lookup(directory, name)?;
    subject.may_remove(directory, victim)?;
    exports.get_mut(file.attachment.export)?.remove(directory, name, removal)
}
