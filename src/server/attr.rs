// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tgetattr, Tsetattr, Tstatfs.

use super::exports::Exports;
use super::fid::FidState;
use super::qid::qid;
use super::session::{File, Session};
use crate::fs::{AttributeChanges, Errno, FileKind, TimeChange, Timestamp};
use crate::wire::{GetattrMask, Rgetattr, Rsetattr, Rstatfs, SetattrMask, Tgetattr, Time, Tsetattr, Tstatfs};

/// `f_type` of every share. With the number of ext4, Linux programs would take the share for an ext4 mount and look for it among
/// the disks: glibc then answers `pathconf(_PC_LINK_MAX)` with the limit of ext2.
const V9FS_MAGIC: u32 = 0x0102_1997;

/// Tgetattr. All that the backend knows is answered, whatever was asked for: `valid` says what that is, and
/// what is not valid is 0.
///
/// # Errors
/// EBADF for a `fid` that stands for no file; what
/// [`FileSystem::attributes`](crate::fs::FileSystem::attributes) says.
pub(super) fn getattr(
    session: &Session,
    exports: &Exports<'_>,
    request: Tgetattr,
) -> Result<Rgetattr, Errno> {
    let File { handle, attachment } = session.file(request.fid)?;
    let backend = exports.get(attachment.export)?;
    let number = backend.number(handle.node);
    let attributes = backend.attributes(handle.node)?;
    let known = |there: bool, field| if there { field } else { GetattrMask::empty() };
    let valid = GetattrMask::BASIC
        | known(attributes.created.is_some(), GetattrMask::BTIME)
        | known(attributes.generation.is_some(), GetattrMask::GEN)
        | known(attributes.data_version.is_some(), GetattrMask::DATA_VERSION);
    Ok(Rgetattr {
        valid,
        qid: qid(number, &attributes),
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

/// Tsetattr: all that `valid` names is changed, or nothing.
///
/// # Errors
/// EBADF for a `fid` that stands for no file; EISDIR for the size of a directory, EINVAL for that of anything else that is
/// no regular file; EFBIG for a size of 2⁶³ or more; EINVAL for a time with more than 999,999,999 nanoseconds, and for the
/// owner or group 0xffffffff; EROFS, EPERM, EACCES as the export's policy has it; what
/// [`FileSystem::set_attributes`](crate::fs::FileSystem::set_attributes) says.
pub(super) fn setattr(
    session: &Session,
    exports: &mut Exports<'_>,
    request: Tsetattr,
) -> Result<Rsetattr, Errno> {
    let file = session.file(request.fid)?;
    let changes = changes(&request)?;
    if changes.size.is_some() {
        match file.handle.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    // CTIME alone is no change to any other attribute: the time of the inode's change goes with whatever is set.
    if changes == AttributeChanges::default() && !request.valid.contains(SetattrMask::CTIME) {
        return Ok(Rsetattr);
    }
    let writes = matches!(file.handle.state, FidState::Open(mode) if mode.writes());
    let subject = file.subject(exports)?;
    subject.may_change_attributes(file.handle.node, &changes, writes)?;
    let caller = subject.caller();
    let backend = exports.get_mut(file.attachment.export)?;
    backend.set_attributes(caller, file.handle.node, &changes)?;
    Ok(Rsetattr)
}

/// What a Tsetattr asks for. Bits of `valid` without a meaning are not looked at.
fn changes(request: &Tsetattr) -> Result<AttributeChanges, Errno> {
    let asked = |field| request.valid.contains(field);
    let owner = |field, id: u32| match id {
        _ if !asked(field) => Ok(None),
        u32::MAX => Err(Errno::EINVAL),
        _ => Ok(Some(id)),
    };
    let time = |field, set, time: Time| match (asked(field), asked(set)) {
        (false, _) => Ok(None),
        (true, false) => Ok(Some(TimeChange::Now)),
        (true, true) => timestamp(time).map(|time| Some(TimeChange::To(time))),
    };
    if asked(SetattrMask::SIZE) && i64::try_from(request.size).is_err() {
        return Err(Errno::EFBIG);
    }
    Ok(AttributeChanges {
        mode: asked(SetattrMask::MODE).then_some(request.mode & 0o7777),
        uid: owner(SetattrMask::UID, request.uid)?,
        gid: owner(SetattrMask::GID, request.gid)?,
        size: asked(SetattrMask::SIZE).then_some(request.size),
        accessed: time(SetattrMask::ATIME, SetattrMask::ATIME_SET, request.atime)?,
        modified: time(SetattrMask::MTIME, SetattrMask::MTIME_SET, request.mtime)?,
    })
}

fn timestamp(time: Time) -> Result<Timestamp, Errno> {
    let nanoseconds = u32::try_from(time.nsec).ok().filter(|nanoseconds| *nanoseconds < 1_000_000_000);
    Ok(Timestamp { seconds: time.sec, nanoseconds: nanoseconds.ok_or(Errno::EINVAL)? })
}

/// Tstatfs.
///
/// # Errors
/// EBADF for a `fid` that stands for no file; what [`FileSystem::status`](crate::fs::FileSystem::status) says.
pub(super) fn statfs(session: &Session, exports: &Exports<'_>, request: Tstatfs) -> Result<Rstatfs, Errno> {
    let file = session.file(request.fid)?;
    let status = exports.get(file.attachment.export)?.status()?;
    Ok(Rstatfs {
        kind: V9FS_MAGIC,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client::{Client, FILE};
    use crate::wire::{Fid, QidKind, Rmessage};

    #[test]
    fn all_attributes_are_answered_and_valid_says_which() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        let attributes = client.getattr(1).unwrap();
        assert_eq!(attributes.valid, GetattrMask::ALL);
        assert_eq!((attributes.qid.kind, attributes.qid.path), (QidKind::empty(), FILE.0));
        assert_eq!((attributes.mode, attributes.uid, attributes.gid), (0o100_640, 1001, 1002));
        assert_eq!((attributes.nlink, attributes.rdev, attributes.size), (1, 0, 54));
        assert_eq!((attributes.blksize, attributes.blocks), (4096, 1));
        assert_eq!(attributes.atime, Time { sec: 1, nsec: 11 });
        assert_eq!(attributes.mtime, Time { sec: -2, nsec: 12 });
        assert_eq!(attributes.ctime, Time { sec: 3, nsec: 13 });
        assert_eq!(attributes.btime, Time { sec: 1_500_000_000, nsec: 5 });
        assert_eq!((attributes.generation, attributes.data_version), (77, 9));
    }

    #[test]
    fn what_the_backend_does_not_know_is_zero_and_not_valid() {
        let mut client = Client::attached();
        let inode = client.tree.inode(FILE);
        (inode.created, inode.generation, inode.data_version) = (None, None, None);
        client.walk(0, 1, &[b"file"]).unwrap();
        let attributes = client.getattr(1).unwrap();
        assert_eq!(attributes.valid, GetattrMask::BASIC);
        assert_eq!(attributes.btime, Time::default());
        assert_eq!((attributes.generation, attributes.data_version), (0, 0));
    }

    #[test]
    fn the_qid_changes_with_the_file_and_is_zero_where_there_is_no_data_version() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        let mut version = || client.getattr(1).unwrap().qid.version;
        let first = version();
        assert_ne!(first, 0);
        assert_eq!(version(), first);
        client.tree.inode(FILE).data_version = Some(10);
        let second = client.getattr(1).unwrap().qid.version;
        assert_ne!(second, first);
        client.tree.inode(FILE).content.write(54, b"!");
        assert_ne!(client.getattr(1).unwrap().qid.version, second);
        client.tree.inode(FILE).data_version = None;
        assert_eq!(client.getattr(1).unwrap().qid.version, 0);
    }

    #[test]
    fn an_open_fid_has_attributes_and_an_unknown_one_has_none() {
        let mut client = Client::attached();
        client.open_path(1, &[b"file"]);
        assert_eq!(client.node(1), Ok(FILE));
        assert_eq!(client.node(2), Err(Errno::EBADF));
    }

    #[test]
    fn the_state_of_the_file_system_is_the_backends() {
        let mut client = Client::attached();
        let status = client.call_with_data(Tstatfs { fid: Fid(0) }, b"", |reply, _| match reply {
            Rmessage::Rstatfs(status) => Some(status),
            _ => None,
        });
        let expected = Rstatfs {
            kind: 0x0102_1997,
            bsize: 1024,
            blocks: 100,
            bfree: 50,
            bavail: 45,
            files: 30,
            ffree: 20,
            fsid: 0x0123_4567_89ab_cdef,
            namelen: 255,
        };
        assert_eq!(status, Ok(expected));
        assert_eq!(client.call(Tstatfs { fid: Fid(9) }), Err(Errno::EBADF));
    }

    const NOTHING: Tsetattr = Tsetattr {
        fid: Fid(1),
        valid: SetattrMask::empty(),
        mode: 0,
        uid: 0,
        gid: 0,
        size: 0,
        atime: Time { sec: 0, nsec: 0 },
        mtime: Time { sec: 0, nsec: 0 },
    };

    /// Fid 1 is the file, fid 2 the directory, fid 3 the symbolic link; the time is 5000.
    fn changing() -> Client {
        let mut client = Client::attached();
        for (fid, name) in (1..).zip([&b"file"[..], b"sub", b"link"]) {
            client.walk(0, fid, &[name]).unwrap();
        }
        client.tree.clock = Timestamp { seconds: 5000, nanoseconds: 6 };
        client
    }

    #[test]
    fn each_attribute_is_changed_alone_and_the_time_of_the_change_with_it() {
        let mut client = changing();
        let now = Time { sec: 5000, nsec: 6 };
        let before = client.getattr(1).unwrap();
        let mut change = |request| {
            client.call(request).unwrap();
            let after = client.getattr(1).unwrap();
            assert_eq!(after.ctime, now);
            after
        };
        let after = change(Tsetattr { valid: SetattrMask::MODE, mode: 0o104_711, ..NOTHING });
        assert_eq!((after.mode, after.uid, after.size, after.mtime), (0o104_711, 1001, 54, before.mtime));
        let after = change(Tsetattr { valid: SetattrMask::UID, uid: 5, ..NOTHING });
        assert_eq!((after.mode, after.uid, after.gid), (0o100_711, 5, 1002));
        let after = change(Tsetattr { valid: SetattrMask::GID, gid: 6, ..NOTHING });
        assert_eq!((after.uid, after.gid, after.atime), (5, 6, before.atime));
        let after =
            change(Tsetattr { valid: SetattrMask::ATIME, atime: Time { sec: 1, nsec: 2 }, ..NOTHING });
        assert_eq!((after.atime, after.mtime), (now, before.mtime));
        let after =
            change(Tsetattr { valid: SetattrMask::MTIME, mtime: Time { sec: 1, nsec: 2 }, ..NOTHING });
        assert_eq!(after.mtime, now);
        let (atime, mtime) = (Time { sec: -7, nsec: 999_999_999 }, Time { sec: 1 << 33, nsec: 0 });
        let valid = SetattrMask::ATIME | SetattrMask::ATIME_SET | SetattrMask::MTIME | SetattrMask::MTIME_SET;
        let after = change(Tsetattr { valid, atime, mtime, ..NOTHING });
        assert_eq!((after.atime, after.mtime), (atime, mtime));
    }

    #[test]
    fn a_file_is_cut_and_grown() {
        let mut client = changing();
        let size = |size| Tsetattr { valid: SetattrMask::SIZE, size, ..NOTHING };
        client.call(size(3)).unwrap();
        client.call(size(6)).unwrap();
        let after = client.getattr(1).unwrap();
        assert_eq!((after.size, after.mtime.sec), (6, 5000));
        assert_eq!(client.tree.inode(FILE).content.bytes(), b"A s\0\0\0");
        client.tree.size_max = 1 << 20;
        assert_eq!(client.call(size((1 << 20) + 1)), Err(Errno::EFBIG));
        assert_eq!(client.call(size(1 << 63)), Err(Errno::EFBIG));
        assert_eq!(client.call(Tsetattr { fid: Fid(2), ..size(0) }), Err(Errno::EISDIR));
        assert_eq!(client.call(Tsetattr { fid: Fid(3), ..size(0) }), Err(Errno::EINVAL));
    }

    #[test]
    fn all_is_changed_or_nothing() {
        let mut client = changing();
        let before = client.getattr(1).unwrap();
        let valid = SetattrMask::MODE | SetattrMask::MTIME | SetattrMask::MTIME_SET;
        for nsec in [1_000_000_000, 1 << 40] {
            let request = Tsetattr { valid, mtime: Time { sec: 0, nsec }, ..NOTHING };
            assert_eq!(client.call(request), Err(Errno::EINVAL));
        }
        let valid = SetattrMask::MODE | SetattrMask::UID;
        assert_eq!(client.call(Tsetattr { valid, uid: u32::MAX, ..NOTHING }), Err(Errno::EINVAL));
        let valid = SetattrMask::MODE | SetattrMask::GID;
        assert_eq!(client.call(Tsetattr { valid, gid: u32::MAX, ..NOTHING }), Err(Errno::EINVAL));
        client.tree.refuse = Some(Errno::ENOSPC);
        assert_eq!(client.call(Tsetattr { valid, ..NOTHING }), Err(Errno::ENOSPC));
        client.tree.read_only = true;
        assert_eq!(client.call(Tsetattr { valid, ..NOTHING }), Err(Errno::EROFS));
        assert_eq!(client.call(Tsetattr { fid: Fid(9), valid, ..NOTHING }), Err(Errno::EBADF));
        assert_eq!(client.getattr(1), Ok(before));
    }

    #[test]
    fn a_change_of_nothing_changes_nothing() {
        let mut client = changing();
        let before = client.getattr(1).unwrap();
        let valid = SetattrMask::ATIME_SET | SetattrMask::MTIME_SET | SetattrMask::from_bits_retain(1 << 15);
        assert_eq!(client.call(Tsetattr { valid, ..NOTHING }), Ok(()));
        assert_eq!(client.getattr(1), Ok(before));
    }

    #[test]
    fn an_open_file_without_a_name_can_still_be_changed() {
        let mut client = changing();
        client.open(1, crate::wire::OpenFlags::RDONLY).unwrap();
        client.unlink(0, b"file").unwrap();
        client.call(Tsetattr { valid: SetattrMask::SIZE, size: 2, ..NOTHING }).unwrap();
        assert_eq!(client.getattr(1).map(|attributes| attributes.size), Ok(2));
    }

    #[test]
    fn the_time_of_the_change_can_be_set_alone() {
        let mut client = changing();
        let before = client.getattr(1).unwrap();
        client.call(Tsetattr { valid: SetattrMask::CTIME, ..NOTHING }).unwrap();
        let after = client.getattr(1).unwrap();
        assert_eq!((after.ctime.sec, after.mtime, after.mode), (5000, before.mtime, before.mode));
    }
}
