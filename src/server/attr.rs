// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tgetattr, Tsetattr, Tstatfs.

use super::exports::Exports;
use super::qid::qid;
use super::session::Session;
use crate::fs::{Errno, Timestamp};
use crate::wire::{GetattrMask, Rgetattr, Rsetattr, Rstatfs, Tgetattr, Time, Tsetattr, Tstatfs};

/// Tgetattr. All that the backend knows is answered, whatever was asked for: `valid` says what that is, and what is not valid
/// is 0.
///
/// # Errors
/// EBADF for a `fid` that stands for no file; what [`FileSystem::attributes`](crate::fs::FileSystem::attributes) says.
pub(super) fn getattr(
    session: &Session,
    exports: &Exports<'_>,
    request: Tgetattr,
) -> Result<Rgetattr, Errno> {
    let handle = session.file(request.fid)?;
    let attributes = exports.get(handle.export)?.attributes(handle.node)?;
    let known = |there: bool, field| if there { field } else { GetattrMask::empty() };
    let valid = GetattrMask::BASIC
        | known(attributes.created.is_some(), GetattrMask::BTIME)
        | known(attributes.generation.is_some(), GetattrMask::GEN)
        | known(attributes.data_version.is_some(), GetattrMask::DATA_VERSION);
    Ok(Rgetattr {
        valid,
        qid: qid(handle.node, &attributes),
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        nlink: attributes.links,
        rdev: attributes.device,
        size: attributes.size,
        blksize: attributes.block_size,
        blocks: attributes.blocks,
        atime: time(attributes.accessed),
        mtime: time(attributes.modified),
        ctime: time(attributes.changed),
        btime: attributes.created.map(time).unwrap_or_default(),
        generation: attributes.generation.unwrap_or(0),
        data_version: attributes.data_version.unwrap_or(0),
    })
}

fn time(timestamp: Timestamp) -> Time {
    Time { sec: timestamp.seconds, nsec: u64::from(timestamp.nanoseconds) }
}

/// Tsetattr.
///
/// # Errors
/// EBADF; EROFS.
pub(super) fn setattr(session: &Session, request: Tsetattr) -> Result<Rsetattr, Errno> {
    session.file(request.fid)?;
    Err(Errno::EROFS)
}

/// Tstatfs.
///
/// # Errors
/// EBADF for a `fid` that stands for no file; what [`FileSystem::status`](crate::fs::FileSystem::status) says.
pub(super) fn statfs(session: &Session, exports: &Exports<'_>, request: Tstatfs) -> Result<Rstatfs, Errno> {
    let handle = session.file(request.fid)?;
    let status = exports.get(handle.export)?.status()?;
    Ok(Rstatfs {
        kind: status.kind,
        bsize: status.block_size,
        blocks: status.blocks,
        bfree: status.blocks_free,
        bavail: status.blocks_available,
        files: status.files,
        ffree: status.files_free,
        fsid: status.identifier,
        namelen: status.name_length,
    })
}
