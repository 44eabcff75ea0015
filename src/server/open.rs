// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tlopen: a fid becomes an open file.

use super::access::Permissions;
use super::exports::Exports;
use super::fid::{FidState, Handle, OpenMode};
use super::qid::qid;
use super::session::{File, Session};
use crate::fs::{AttributeChanges, Attributes, Errno, FileKind, TimeChange};
use crate::wire::{Access, IOHDRSZ, OpenFlags, Rlopen, Tlopen};

/// Tlopen. Of the flags the access mode, TRUNC, APPEND, DSYNC, SYNC and DIRECTORY count; the others are the client's
/// business.
///
/// # Errors
/// EBADF for a `fid` that stands for no file; EINVAL if it is open; EMFILE if as many are as may be; what [`open`] says.
pub(super) fn lopen(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Tlopen,
) -> Result<Rlopen, Errno> {
    let file = session.file(request.fid)?;
    if file.handle.state != FidState::Path {
        return Err(Errno::EINVAL);
    }
    session.fids.may_retain()?;
    let attributes = open(exports, &file, request.flags)?;
    let state = FidState::Open(OpenMode::new(request.flags));
    session.fids.replace(request.fid, Handle { state, ..file.handle })?;
    let number = exports.get(file.attachment.export)?.number(file.handle.node);
    Ok(Rlopen { qid: qid(number, &attributes), iounit: iounit(session) })
}

/// Opens `file`: checks that it may be, retains it, and truncates it if `flags` say so. The caller makes its fid
/// one that is open. Returns the attributes that it has then.
///
/// # Errors
/// EISDIR to write to a directory; ENOTDIR for DIRECTORY and something else; ELOOP for a symbolic link; ENXIO for devices,
/// FIFOs and sockets, which a client opens itself; to write, what
/// [`FileSystem::check_writable`](crate::fs::FileSystem::check_writable) says; EROFS and EACCES as the export's policy has
/// it; ENFILE.
pub(super) fn open(exports: &mut Exports<'_>, file: &File, flags: OpenFlags) -> Result<Attributes, Errno> {
    let node = file.handle.node;
    let truncates = flags.contains(OpenFlags::TRUNC);
    let writes = flags.access() != Access::Read || truncates;
    let subject = file.subject(exports)?;
    match file.handle.kind {
        FileKind::Directory if writes => return Err(Errno::EISDIR),
        FileKind::Directory => {}
        _ if flags.contains(OpenFlags::DIRECTORY) => return Err(Errno::ENOTDIR),
        FileKind::Symlink => return Err(Errno::ELOOP),
        FileKind::Regular if writes => subject.backend.check_writable(node)?,
        FileKind::Regular => {}
        FileKind::Fifo | FileKind::CharacterDevice | FileKind::BlockDevice | FileKind::Socket => {
            return Err(Errno::ENXIO);
        }
    }
    let wanted = match flags.access() {
        Access::Read if truncates => Permissions::READ.with(Permissions::WRITE),
        Access::Read => Permissions::READ,
        Access::Write => Permissions::WRITE,
        Access::ReadWrite | Access::Neither => Permissions::READ.with(Permissions::WRITE),
    };
    subject.may_open(node, wanted)?;
    let caller = subject.caller();

    let backend = exports.get_mut(file.attachment.export)?;
    backend.retain(node)?;
    let emptied =
        AttributeChanges { size: Some(0), modified: Some(TimeChange::Now), ..AttributeChanges::default() };
    let truncated = if truncates { backend.set_attributes(caller, node, &emptied) } else { Ok(()) };
    truncated.and_then(|()| backend.attributes(node)).inspect_err(|_| backend.release(node))
}

/// The most data of one Tread or Twrite.
pub(super) fn iounit(session: &Session) -> u32 {
    session.msize().saturating_sub(IOHDRSZ)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Caller, Timestamp};
    use crate::server::client::{Client, FILE};

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
        client.tree.read_only = true;
        let neither = OpenFlags::WRONLY | OpenFlags::RDWR;
        for flags in [OpenFlags::WRONLY, OpenFlags::RDWR, OpenFlags::TRUNC, neither] {
            assert_eq!(client.open(1, flags), Err(Errno::EROFS));
        }
        client.tree.read_only = false;
        assert_eq!(client.open(1, OpenFlags::RDWR), Ok(8168));
    }

    #[test]
    fn a_directory_opens_for_reading_only() {
        let mut client = Client::attached();
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
    fn an_open_file_is_kept_until_its_fid_is_clunked() {
        let mut client = Client::attached();
        client.open_path(1, &[b"file"]);
        client.open_path(2, &[b"file"]);
        client.open_path(3, &[b"sub"]);
        assert_eq!((client.tree.inode(FILE).retained, client.tree.retained()), (2, 3));
        client.clunk(1).unwrap();
        client.clunk(3).unwrap();
        assert_eq!(client.tree.retained(), 1);
    }

    #[test]
    fn a_session_keeps_so_many_files_and_one_more_when_one_is_clunked() {
        let mut client = Client::attached();
        let open = |client: &mut Client, fid| {
            client.walk(0, fid, &[b"file"]).unwrap();
            client.open(fid, OpenFlags::RDONLY).map(|_| ())
        };
        for fid in 1..=80 {
            assert_eq!(open(&mut client, fid), Ok(()));
        }
        assert_eq!(open(&mut client, 81), Err(Errno::EMFILE));
        assert_eq!(client.create(0, b"another", OpenFlags::RDWR, 0o600), Err(Errno::EMFILE));
        assert_eq!(client.walk(0, 82, &[b"another"]), Err(Errno::ENOENT), "nothing was made");
        client.clunk(7).unwrap();
        assert_eq!(client.open(81, OpenFlags::RDONLY).map(|_| ()), Ok(()));
        client.version(8192, crate::wire::VERSION).unwrap();
        client.attach(0, b"").unwrap();
        assert_eq!(open(&mut client, 1), Ok(()), "a new session has none");
    }

    #[test]
    fn a_file_that_cannot_be_kept_is_not_opened() {
        let mut client = Client::attached();
        client.tree.retained_max = 1;
        client.open_path(1, &[b"file"]);
        client.walk(0, 2, &[b"sub"]).unwrap();
        assert_eq!(client.open(2, OpenFlags::RDONLY), Err(Errno::ENFILE));
        client.clunk(1).unwrap();
        assert_eq!(client.open(2, OpenFlags::RDONLY), Ok(8168));
    }

    #[test]
    fn truncating_empties_the_file_and_sets_its_time() {
        let mut client = Client::versioned(8192);
        client.attach_as(0, b"", 1000).unwrap();
        client.walk(0, 1, &[b"file"]).unwrap();
        client.tree.clock = Timestamp { seconds: 9, nanoseconds: 8 };
        client.tree.inode(FILE).mode = 0o4755;
        client.open(1, OpenFlags::WRONLY | OpenFlags::TRUNC).unwrap();
        let attributes = client.getattr(1).unwrap();
        assert_eq!((attributes.size, attributes.mtime.sec, attributes.ctime.nsec), (0, 9, 8));
        assert_eq!((client.tree.caller, attributes.mode), (Some(Caller { uid: 1000 }), 0o100_755));
    }

    #[test]
    fn a_file_that_cannot_be_truncated_is_not_open() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        client.tree.refuse = Some(Errno::ENOSPC);
        assert_eq!(client.open(1, OpenFlags::RDWR | OpenFlags::TRUNC), Err(Errno::ENOSPC));
        assert_eq!((client.tree.retained(), client.write(1, 0, b"x")), (0, Err(Errno::EBADF)));
        assert_eq!(client.open(1, OpenFlags::RDWR), Ok(8168));
    }

    #[test]
    fn a_file_that_is_gone_does_not_open() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        client.unlink(0, b"file").unwrap();
        assert_eq!(client.open(1, OpenFlags::RDONLY), Err(Errno::ESTALE));
    }
}
