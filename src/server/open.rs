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
/// EBADF for a `fid` that stands for no file; EINVAL if it is open; EISDIR to write to a directory; ENOTDIR for
/// DIRECTORY and something else; ELOOP for a symbolic link; ENXIO for devices, FIFOs and sockets, which a
/// client opens itself; to write, what [`FileSystem::check_writable`](crate::fs::FileSystem::check_writable) says.
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
        _ if request.flags.contains(OpenFlags::DIRECTORY) => return Err(Errno::ENOTDIR),
        FileKind::Symlink => return Err(Errno::ELOOP),
        FileKind::Regular if changes => backend.check_writable(handle.node)?,
        FileKind::Regular => {}
        FileKind::Fifo | FileKind::CharacterDevice | FileKind::BlockDevice | FileKind::Socket => {
            return Err(Errno::ENXIO);
        }
    }
    let attributes = backend.attributes(handle.node)?;
    session.fids.replace(request.fid, Handle { state: FidState::Open(access), ..handle })?;
    Ok(Rlopen {
        qid: qid(backend.number(handle.node), &attributes),
        iounit: session.msize().saturating_sub(IOHDRSZ),
    })
}

/// Tlcreate.
///
/// # Errors
/// EBADF; EROFS.
pub(super) fn lcreate(session: &Session, request: Tlcreate<'_>) -> Result<Rlcreate, Errno> {
    session.file(request.fid)?;
    Err(Errno::EROFS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client::{Client, FILE};
    use crate::wire::Fid;

    #[test]
    fn an_open_file_names_the_most_data_of_one_message() {
        let mut client = Client::versioned(131_096);
        client.attach(0, b"").unwrap();
        client.walk(0, 1, &[b"file"]).unwrap();
        assert_eq!(client.open(1, OpenFlags::RDONLY), Ok(131_072));
    }

    #[test]
    fn flags_that_only_matter_to_the_client_do_not_matter() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        let flags = OpenFlags::LARGEFILE | OpenFlags::NONBLOCK | OpenFlags::DIRECT | OpenFlags::CLOEXEC;
        assert_eq!(client.open(1, flags | OpenFlags::from_bits_retain(1 << 31)), Ok(8168));
    }

    #[test]
    fn an_open_fid_cannot_be_opened_again() {
        let mut client = Client::attached();
        client.open_path(1, &[b"file"]);
        assert_eq!(client.open(1, OpenFlags::RDONLY), Err(Errno::EINVAL));
        assert_eq!(client.open(2, OpenFlags::RDONLY), Err(Errno::EBADF));
    }

    #[test]
    fn a_file_of_a_volume_that_is_only_read_opens_for_nothing_else() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        let neither = OpenFlags::WRONLY | OpenFlags::RDWR;
        for flags in [OpenFlags::WRONLY, OpenFlags::RDWR, OpenFlags::TRUNC, neither] {
            assert_eq!(client.open(1, flags), Err(Errno::EROFS));
        }
        client.tree.inode(FILE).writable = true;
        assert_eq!(client.open(1, OpenFlags::RDWR), Ok(8168));
    }

    #[test]
    fn a_directory_opens_for_reading_only() {
        let mut client = Client::attached();
        client.tree.inode(crate::server::client::SUB).writable = true;
        client.walk(0, 1, &[b"sub"]).unwrap();
        assert_eq!(client.open(1, OpenFlags::RDWR), Err(Errno::EISDIR));
        assert_eq!(client.open(1, OpenFlags::WRONLY), Err(Errno::EISDIR));
        assert_eq!(client.open(1, OpenFlags::TRUNC), Err(Errno::EISDIR));
        assert_eq!(client.open(1, OpenFlags::DIRECTORY), Ok(8168));
    }

    #[test]
    fn what_is_no_file_and_no_directory_is_not_opened_here() {
        let mut client = Client::attached();
        for (fid, (name, errno)) in (1..).zip([
            (&b"link"[..], Errno::ELOOP),
            (b"fifo", Errno::ENXIO),
            (b"char", Errno::ENXIO),
            (b"block", Errno::ENXIO),
            (b"socket", Errno::ENXIO),
        ]) {
            client.walk(0, fid, &[name]).unwrap();
            assert_eq!(client.open(fid, OpenFlags::RDONLY), Err(errno));
        }
    }

    #[test]
    fn whatever_is_no_directory_does_not_open_as_one() {
        let mut client = Client::attached();
        for (fid, name) in (1..).zip([&b"file"[..], b"link", b"fifo", b"char", b"block", b"socket"]) {
            client.walk(0, fid, &[name]).unwrap();
            assert_eq!(client.open(fid, OpenFlags::DIRECTORY), Err(Errno::ENOTDIR));
        }
    }

    #[test]
    fn a_file_is_not_created() {
        let mut client = Client::attached();
        let request =
            |fid| Tlcreate { fid: Fid(fid), name: b"new", flags: OpenFlags::RDWR, mode: 0o644, gid: 0 };
        assert_eq!(client.call(request(0)), Err(Errno::EROFS));
        assert_eq!(client.call(request(1)), Err(Errno::EBADF));
    }
}
