// SPDX-License-Identifier: MIT OR Apache-2.0

//! Treadlink; and what changes a directory: Tsymlink, Tmknod, Tmkdir, Tlink, Trename, Trenameat, Tunlinkat,
//! Tremove. All of these look at their fids and answer EROFS.

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
/// EBADF for a `fid` that stands for no file; EINVAL if that is no symbolic link; EMSGSIZE for a target that
/// does not fit `msize` (only possible below 4104); what
/// [`FileSystem::read_link`](crate::fs::FileSystem::read_link) says.
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
pub(super) fn remove(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Tremove,
) -> Result<Rremove, Errno> {
    session.clunk(exports, request.fid)?;
    Err(Errno::EROFS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client::{Client, LINK};
    use crate::wire::{Fid, Rmessage, Tmessage, UnlinkFlags};
    use std::vec::Vec;

    fn readlink(client: &mut Client, fid: u32) -> Result<Vec<u8>, Errno> {
        client.call_with_data(Treadlink { fid: Fid(fid) }, b"", |reply, _| match reply {
            Rmessage::Rreadlink(reply) => Some(reply.target.to_vec()),
            _ => None,
        })
    }

    #[test]
    fn a_symbolic_link_tells_its_target() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"link"]).unwrap();
        assert_eq!(readlink(&mut client, 1).as_deref(), Ok(&b"sub/deep"[..]));
        assert_eq!(readlink(&mut client, 0), Err(Errno::EINVAL));
        assert_eq!(readlink(&mut client, 9), Err(Errno::EBADF));
    }

    #[test]
    fn the_longest_target_fits_unless_msize_is_smaller() {
        for (msize, length, expected) in
            [(8192, 4095, Ok(4095)), (4096, 4087, Ok(4087)), (4096, 4088, Err(Errno::EMSGSIZE))]
        {
            let mut client = Client::versioned(msize);
            client.piece = 11;
            client.room = 4200;
            client.attach(0, b"").unwrap();
            client.tree.inode(LINK).content = std::vec![b't'; length];
            client.walk(0, 1, &[b"link"]).unwrap();
            assert_eq!(readlink(&mut client, 1).map(|target| target.len()), expected);
        }
    }

    #[test]
    fn nothing_is_made_renamed_or_removed() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        let (name, gid, flags) = (&b"new"[..], 0, UnlinkFlags::empty());
        let requests = |fid, dfid| -> Vec<Tmessage<'_>> {
            let (mode, major, minor) = (0o644, 0, 0);
            Vec::from([
                Tsymlink { fid: dfid, name, symtgt: b"x", gid }.into(),
                Tmknod { dfid, name, mode, major, minor, gid }.into(),
                Tmkdir { dfid, name, mode, gid }.into(),
                Tlink { dfid, fid, name }.into(),
                Trename { fid, dfid, name }.into(),
                Trenameat { olddirfid: dfid, oldname: b"file", newdirfid: dfid, newname: name }.into(),
                Tunlinkat { dirfd: dfid, name: b"file", flags }.into(),
            ])
        };
        for request in requests(Fid(1), Fid(0)) {
            assert_eq!(client.call(request), Err(Errno::EROFS));
        }
        for request in requests(Fid(1), Fid(9)) {
            assert_eq!(client.call(request), Err(Errno::EBADF));
        }
        assert_eq!(client.call(Tlink { dfid: Fid(0), fid: Fid(9), name }), Err(Errno::EBADF));
        assert_eq!(client.call(Trename { fid: Fid(9), dfid: Fid(0), name }), Err(Errno::EBADF));
        let half = Trenameat { olddirfid: Fid(0), oldname: name, newdirfid: Fid(9), newname: name };
        assert_eq!(client.call(half), Err(Errno::EBADF));
    }

    #[test]
    fn a_refused_remove_clunks_its_fid() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        assert_eq!(client.call(Tremove { fid: Fid(1) }), Err(Errno::EROFS));
        assert_eq!(client.call(Tremove { fid: Fid(1) }), Err(Errno::EBADF));
        assert_eq!(client.session.fids_in_use(), 1);
    }
}
