// SPDX-License-Identifier: MIT OR Apache-2.0

//! Trename and Trenameat: a name moves, over another if there is one.

use super::exports::Exports;
use super::fid::Handle;
use super::name::SafeName;
use super::place::{self, NameTag};
use super::session::{File, Session};
use crate::fs::{Errno, Node};
use crate::wire::{Rrename, Rrenameat, Trename, Trenameat};

/// Trename. `fid` stands for its file under the new name then.
///
/// # Errors
/// EBADF for either fid; what [`SafeName::new`], [`place::find`] and [`rename_file`] say.
pub(super) fn rename(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Trename<'_>,
) -> Result<Rrename, Errno> {
    let file = session.file(request.fid)?;
    let to = session.file(request.dfid)?;
    let name = SafeName::new(request.name)?;
    let directory = to.directory()?;
    let old = place::find(exports.get(file.attachment.export)?, &file)?;
    rename_file(exports, &file, (old.directory, &old.name), &to, name)?;
    let moved = Handle { directory, name: NameTag::of(name.bytes()), ..file.handle };
    session.fids.replace(request.fid, moved)?;
    Ok(Rrename)
}

/// Trenameat.
///
/// # Errors
/// EBADF for either fid; ENOTDIR; what [`SafeName::new`] and [`rename_file`] say.
pub(super) fn renameat(
    session: &Session,
    exports: &mut Exports<'_>,
    request: Trenameat<'_>,
) -> Result<Rrenameat, Errno> {
    let from = session.file(request.olddirfid)?;
    let to = session.file(request.newdirfid)?;
    let old = (from.directory()?, SafeName::new(request.oldname)?.bytes());
    rename_file(exports, &from, old, &to, SafeName::new(request.newname)?)?;
    Ok(Rrenameat)
}

/// Moves the name `old`, which `from` leads to, to the directory `to`.
///
/// # Errors
/// ENOTDIR; EXDEV if the two are not of one volume; EROFS, EACCES and EPERM as the exports' policies have it; what
/// [`FileSystem::rename`](crate::fs::FileSystem::rename) says.
fn rename_file(
    exports: &mut Exports<'_>,
    from: &File,
    old: (Node, &[u8]),
    to: &File,
    new: SafeName<'_>,
) -> Result<(), Errno> {
    let directory = to.directory()?;
    if from.attachment.export.backend() != to.attachment.export.backend() {
        return Err(Errno::EXDEV);
    }
    let backend = exports.get(from.attachment.export)?;
    let node = backend.lookup(old.0, old.1)?;
    let replaced = match backend.lookup(directory, new.bytes()) {
        Ok(node) => Some(node),
        Err(Errno::ENOENT) => None,
        Err(errno) => return Err(errno),
    };
    let subject = from.subject(exports)?;
    subject.may_rename(old.0, node, directory, replaced)?;
    if to.attachment != from.attachment {
        to.subject(exports)?.may_rename(old.0, node, directory, replaced)?;
    }
    let caller = subject.caller();
    let backend = exports.get_mut(from.attachment.export)?;
    backend.rename(caller, old, (directory, new.bytes()))
}
