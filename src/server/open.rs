// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tlopen and Tlcreate: a fid becomes an open file.

use super::exports::Exports;
use super::fid::{FidState, Handle};
use super::qid::qid;
use super::session::Session;
use crate::fs::{Errno, FileKind};
use crate::wire::{Access, IOHDRSZ, OpenFlags, Rlcreate, Rlopen, Tlcreate, Tlopen};

/// Tlopen. Of the flags only the access mode, TRUNC and DIRECTORY count; the others are the client's business.
///
/// # Errors
/// EBADF for a `fid` that stands for no file; EINVAL if it is open; EISDIR to write to a directory; ENOTDIR for DIRECTORY and
/// something else; ELOOP for a symbolic link; ENXIO for devices, FIFOs and sockets, which a client opens itself;
/// EROFS to write where nothing is written.
pub(super) fn lopen(session: &mut Session, exports: &Exports<'_>, request: Tlopen) -> Result<Rlopen, Errno> {
    let handle = session.file(request.fid)?;
    if handle.state != FidState::Path {
        return Err(Errno::EINVAL);
    }
    let access = request.flags.access();
    let changes = access != Access::Read || request.flags.contains(OpenFlags::TRUNC);
    let backend = exports.get(handle.export)?;
    match handle.kind {
        FileKind::Directory if changes => return Err(Errno::EISDIR),
        FileKind::Directory => {}
        FileKind::Symlink => return Err(Errno::ELOOP),
        _ if request.flags.contains(OpenFlags::DIRECTORY) => return Err(Errno::ENOTDIR),
        FileKind::Regular if changes => backend.check_writable(handle.node)?,
        FileKind::Regular => {}
        FileKind::Fifo | FileKind::CharacterDevice | FileKind::BlockDevice | FileKind::Socket => {
            return Err(Errno::ENXIO);
        }
    }
    let attributes = backend.attributes(handle.node)?;
    session.fids.replace(request.fid, Handle { state: FidState::Open(access), ..handle })?;
    Ok(Rlopen { qid: qid(handle.node, &attributes), iounit: session.msize().saturating_sub(IOHDRSZ) })
}

/// Tlcreate.
///
/// # Errors
/// EBADF; EROFS.
pub(super) fn lcreate(session: &Session, request: Tlcreate<'_>) -> Result<Rlcreate, Errno> {
    session.file(request.fid)?;
    Err(Errno::EROFS)
}
