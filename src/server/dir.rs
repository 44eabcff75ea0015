// SPDX-License-Identifier: MIT OR Apache-2.0

//! Treadlink; and what changes a directory: Tsymlink, Tmknod, Tmkdir, Tlink, Trename, Trenameat, Tunlinkat, Tremove. All of
//! these look at their fids and answer EROFS.

use super::exports::Exports;
use super::session::Session;
use crate::fs::Errno;
use crate::mem::{Full, Sink};
use crate::wire::{
    HEADER, Rlink, Rmkdir, Rmknod, Rreadlink, Rremove, Rrename, Rrenameat, Rsymlink, Runlinkat, Tlink,
    Tmkdir, Tmknod, Treadlink, Tremove, Trename, Trenameat, Tsymlink, Tunlinkat,
};

/// Longest target of a symbolic link (`PATH_MAX` without its NUL).
pub(super) const MAX_TARGET: usize = 4095;

/// A sink of fixed size, for a target.
struct TargetSink<'a>(&'a mut heapless::Vec<u8, MAX_TARGET>);

impl Sink for TargetSink<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.0.extend_from_slice(bytes).map_err(|_| Full)
    }

    fn put_zeros(&mut self, count: usize) -> Result<(), Full> {
        let length = self.0.len().checked_add(count).ok_or(Full)?;
        self.0.resize(length, 0).map_err(|_| Full)
    }
}

/// Treadlink.
///
/// # Errors
/// EBADF for a `fid` that stands for no file; EINVAL if that is no symbolic link; EMSGSIZE for a target that does not fit `msize` (only
/// possible below 4104); what [`FileSystem::read_link`](crate::fs::FileSystem::read_link) says.
pub(super) fn readlink<'b>(
    session: &Session,
    exports: &Exports<'_>,
    request: Treadlink,
    target: &'b mut heapless::Vec<u8, MAX_TARGET>,
) -> Result<Rreadlink<'b>, Errno> {
    let handle = session.file(request.fid)?;
    target.clear();
    exports.get(handle.export)?.read_link(handle.node, &mut TargetSink(target))?;
    // `size[4] Rreadlink tag[2] target[s]`
    if HEADER as usize + 2 + target.len() > session.msize() as usize {
        return Err(Errno::EMSGSIZE);
    }
    Ok(Rreadlink { target })
}

/// Tsymlink.
///
/// # Errors
/// EBADF; EROFS.
pub(super) fn symlink(session: &Session, request: Tsymlink<'_>) -> Result<Rsymlink, Errno> {
    session.file(request.fid)?;
    Err(Errno::EROFS)
}

/// Tmknod.
///
/// # Errors
/// EBADF; EROFS.
pub(super) fn mknod(session: &Session, request: Tmknod<'_>) -> Result<Rmknod, Errno> {
    session.file(request.dfid)?;
    Err(Errno::EROFS)
}

/// Tmkdir.
///
/// # Errors
/// EBADF; EROFS.
pub(super) fn mkdir(session: &Session, request: Tmkdir<'_>) -> Result<Rmkdir, Errno> {
    session.file(request.dfid)?;
    Err(Errno::EROFS)
}

/// Tlink.
///
/// # Errors
/// EBADF for either fid; EROFS.
pub(super) fn link(session: &Session, request: Tlink<'_>) -> Result<Rlink, Errno> {
    session.file(request.dfid)?;
    session.file(request.fid)?;
    Err(Errno::EROFS)
}

/// Trename.
///
/// # Errors
/// EBADF for either fid; EROFS.
pub(super) fn rename(session: &Session, request: Trename<'_>) -> Result<Rrename, Errno> {
    session.file(request.fid)?;
    session.file(request.dfid)?;
    Err(Errno::EROFS)
}

/// Trenameat.
///
/// # Errors
/// EBADF for either fid; EROFS.
pub(super) fn renameat(session: &Session, request: Trenameat<'_>) -> Result<Rrenameat, Errno> {
    session.file(request.olddirfid)?;
    session.file(request.newdirfid)?;
    Err(Errno::EROFS)
}

/// Tunlinkat.
///
/// # Errors
/// EBADF; EROFS.
pub(super) fn unlinkat(session: &Session, request: Tunlinkat<'_>) -> Result<Runlinkat, Errno> {
    session.file(request.dirfd)?;
    Err(Errno::EROFS)
}

/// Tremove. `fid` is clunked, whatever the answer.
///
/// # Errors
/// EBADF; EROFS.
pub(super) fn remove(session: &mut Session, request: Tremove) -> Result<Rremove, Errno> {
    session.clunk(request.fid)?;
    Err(Errno::EROFS)
}
