// SPDX-License-Identifier: MIT OR Apache-2.0

//! New names: Tlcreate, Tsymlink, Tmknod, Tmkdir, Tlink.

use super::access::Subject;
use super::exports::Exports;
use super::fid::{FidState, Handle, OpenMode};
use super::name::SafeName;
use super::open::{iounit, open};
use super::place::NameTag;
use super::qid::qid;
use super::readlink::MAX_TARGET;
use super::session::{File, Session};
use crate::fs::{Attributes, Errno, FileKind, NewFile, NewKind, Node, Removal};
use crate::wire::{
    OpenFlags, Qid, Rlcreate, Rlink, Rmkdir, Rmknod, Rsymlink, Tlcreate, Tlink, Tmkdir, Tmknod, Tsymlink,
};

/// Largest numbers of a device, as [`Attributes::device`] has room for.
const MAX_MAJOR: u32 = 0xfff;
const MAX_MINOR: u32 = 0xf_ffff;

/// Tlcreate: `open(O_CREAT)`. Without EXCL a file that is there already is opened, as Tlopen does it.
///
/// # Errors
/// EBADF for a `fid` that stands for no file; EINVAL if it is open, and for DIRECTORY; ENOTDIR; what [`SafeName::new`] says;
/// EEXIST with EXCL; ENFILE; what [`open`] and [`FileSystem::create`](crate::fs::FileSystem::create) say; EROFS and EACCES
/// as the export's policy has it.
pub(super) fn lcreate(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Tlcreate<'_>,
) -> Result<Rlcreate, Errno> {
    let Tlcreate { fid, flags, mode, gid, .. } = request;
    let parent = session.file(fid)?;
    if parent.handle.state != FidState::Path || flags.contains(OpenFlags::DIRECTORY) {
        return Err(Errno::EINVAL);
    }
    let directory = parent.directory()?;
    let name = SafeName::new(request.name)?;
    let subject = parent.subject(exports)?;
    subject.may_search(directory)?;
    session.fids.may_retain()?;
    let state = FidState::Open(OpenMode::new(flags));
    let opened = |node, kind| Handle {
        node,
        directory,
        name: NameTag::of(name.bytes()),
        kind,
        state,
        ..parent.handle
    };
    let (handle, attributes) = match subject.backend.lookup(directory, name.bytes()) {
        Ok(_) if flags.contains(OpenFlags::EXCL) => return Err(Errno::EEXIST),
        Ok(node) => {
            let handle = opened(node, subject.backend.attributes(node)?.kind);
            (handle, open(exports, &File { handle, ..parent }, flags)?)
        }
        Err(Errno::ENOENT) => {
            let (node, attributes) = make(exports, &parent, name, NewKind::Regular, mode, gid)?;
            let backend = exports.get_mut(parent.attachment.export)?;
            if let Err(errno) = backend.retain(node) {
                // It is made and opened, or neither.
                backend.remove(directory, name.bytes(), Removal::File)?;
                return Err(errno);
            }
            (opened(node, FileKind::Regular), attributes)
        }
        Err(errno) => return Err(errno),
    };
    session.fids.replace(fid, handle)?;
    let number = exports.get(parent.attachment.export)?.number(handle.node);
    Ok(Rlcreate { qid: qid(number, &attributes), iounit: iounit(session) })
}

/// Tsymlink.
///
/// # Errors
/// EBADF for a `fid` that stands for no file; ENOENT for an empty target, EINVAL for one with a NUL, ENAMETOOLONG for one of
/// more than 4095 bytes; what [`make`] says.
pub(super) fn symlink(
    session: &Session,
    exports: &mut Exports<'_>,
    request: Tsymlink<'_>,
) -> Result<Rsymlink, Errno> {
    let parent = session.file(request.fid)?;
    let target = request.symtgt;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    if target.len() > MAX_TARGET {
        return Err(Errno::ENAMETOOLONG);
    }
    if target.contains(&0) {
        return Err(Errno::EINVAL);
    }
    // All may do everything with a symbolic link, as Linux has it: what counts is what it points to.
    let qid = make_named(exports, &parent, request.name, NewKind::Symlink(target), 0o777, request.gid)?;
    Ok(Rsymlink { qid })
}

/// Tmknod.
///
/// # Errors
/// EBADF for a `dfid` that stands for no file; EINVAL for a mode of no kind, of a directory or of a symbolic link, and for
/// a device number that is none; what [`make`] says.
pub(super) fn mknod(
    session: &Session,
    exports: &mut Exports<'_>,
    request: Tmknod<'_>,
) -> Result<Rmknod, Errno> {
    let parent = session.file(request.dfid)?;
    let kind = match FileKind::from_mode(request.mode) {
        Some(FileKind::Fifo) => NewKind::Fifo,
        Some(FileKind::Socket) => NewKind::Socket,
        Some(FileKind::CharacterDevice) => NewKind::CharacterDevice(device(request.major, request.minor)?),
        Some(FileKind::BlockDevice) => NewKind::BlockDevice(device(request.major, request.minor)?),
        Some(FileKind::Regular) => NewKind::Regular,
        // mknod(2) takes no kind at all for a regular file.
        None if request.mode & 0o170_000 == 0 => NewKind::Regular,
        Some(FileKind::Directory | FileKind::Symlink) | None => return Err(Errno::EINVAL),
    };
    let qid = make_named(exports, &parent, request.name, kind, request.mode, request.gid)?;
    Ok(Rmknod { qid })
}

/// A device number as [`Attributes::device`] has it.
fn device(major: u32, minor: u32) -> Result<u64, Errno> {
    if major > MAX_MAJOR || minor > MAX_MINOR {
        return Err(Errno::EINVAL);
    }
    Ok(u64::from(minor & 0xff | major << 8 | (minor & !0xff) << 12))
}

/// Tmkdir.
///
/// # Errors
/// EBADF for a `dfid` that stands for no file; what [`make`] says.
pub(super) fn mkdir(
    session: &Session,
    exports: &mut Exports<'_>,
    request: Tmkdir<'_>,
) -> Result<Rmkdir, Errno> {
    let parent = session.file(request.dfid)?;
    let qid = make_named(exports, &parent, request.name, NewKind::Directory, request.mode, request.gid)?;
    Ok(Rmkdir { qid })
}

/// As [`make`], with a name that is still to be checked; returns the qid of the new file.
fn make_named(
    exports: &mut Exports<'_>,
    parent: &File,
    name: &[u8],
    kind: NewKind<'_>,
    mode: u32,
    gid: u32,
) -> Result<Qid, Errno> {
    let (node, attributes) = make(exports, parent, SafeName::new(name)?, kind, mode, gid)?;
    Ok(qid(exports.get(parent.attachment.export)?.number(node), &attributes))
}

/// Makes a file in the directory `parent`; it belongs to who attached, and to the group `gid` unless the directory or the
/// export decides.
///
/// # Errors
/// ENOTDIR; EEXIST; EROFS, EACCES and EPERM as the export's policy has it; what
/// [`FileSystem::create`](crate::fs::FileSystem::create) says.
fn make(
    exports: &mut Exports<'_>,
    parent: &File,
    name: SafeName<'_>,
    kind: NewKind<'_>,
    mode: u32,
    gid: u32,
) -> Result<(Node, Attributes), Errno> {
    let directory = parent.directory()?;
    let subject = parent.subject(exports)?;
    existing_first(&subject, directory, name, subject.may_create(directory, &kind))?;
    let (caller, gid) = (subject.caller(), subject.group(gid));
    let new = NewFile { kind, mode: mode & 0o7777, uid: caller.uid, gid };
    let backend = exports.get_mut(parent.attachment.export)?;
    let node = backend.create(caller, directory, name.bytes(), &new)?;
    Ok((node, backend.attributes(node)?))
}

/// Tlink.
///
/// # Errors
/// EBADF for either fid; EXDEV if they are not of one volume; EPERM for a directory; what [`SafeName::new`] and
/// [`FileSystem::link`](crate::fs::FileSystem::link) say; EROFS and EACCES as the exports' policies have it.
pub(super) fn link(session: &Session, exports: &mut Exports<'_>, request: Tlink<'_>) -> Result<Rlink, Errno> {
    let parent = session.file(request.dfid)?;
    let file = session.file(request.fid)?;
    let directory = parent.directory()?;
    let name = SafeName::new(request.name)?;
    if parent.attachment.export.backend() != file.attachment.export.backend() {
        return Err(Errno::EXDEV);
    }
    if file.handle.kind == FileKind::Directory {
        return Err(Errno::EPERM);
    }
    // The file is changed too: one more name is counted.
    if exports.policy(file.attachment.export).read_only {
        return Err(Errno::EROFS);
    }
    let subject = parent.subject(exports)?;
    existing_first(&subject, directory, name, subject.may_link(directory))?;
    let caller = subject.caller();
    let backend = exports.get_mut(parent.attachment.export)?;
    backend.link(caller, file.handle.node, directory, name.bytes())?;
    Ok(Rlink)
}

/// `allowed`, unless it is an error and there is the name already: then EEXIST, which Linux looks for first.
fn existing_first(
    subject: &Subject<'_>,
    directory: Node,
    name: SafeName<'_>,
    allowed: Result<(), Errno>,
) -> Result<(), Errno> {
    let is_there =
        || subject.may_search(directory).is_ok() && subject.backend.lookup(directory, name.bytes()).is_ok();
    if allowed.is_err() && is_there() { Err(Errno::EEXIST) } else { allowed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Timestamp;
    use crate::server::client::{Client, DEEP, FILE, GID, LINK, SUB};
    use crate::server::tree::ROOT;
    use crate::wire::{Fid, QidKind, Rmessage, Tmessage};
    use std::vec;

    const EXCL: OpenFlags = OpenFlags::CREATE.union(OpenFlags::EXCL).union(OpenFlags::RDWR);

    /// The first node that is made.
    const NEW: Node = Node(12);

    fn qid_of(reply: Rmessage<'_>) -> Option<Qid> {
        match reply {
            Rmessage::Rsymlink(reply) => Some(reply.qid),
            Rmessage::Rmknod(reply) => Some(reply.qid),
            Rmessage::Rmkdir(reply) => Some(reply.qid),
            _ => None,
        }
    }

    /// Makes something, and returns its node and kind as the qid has it.
    fn make<'a>(client: &mut Client, request: impl Into<Tmessage<'a>>) -> Result<(Node, QidKind), Errno> {
        client.call_with_data(request, b"", |reply, _| qid_of(reply)).map(|qid| (Node(qid.path), qid.kind))
    }

    fn mknod(mode: u32, major: u32, minor: u32) -> Tmknod<'static> {
        Tmknod { dfid: Fid(0), name: b"new", mode, major, minor, gid: GID }
    }

    #[test]
    fn a_created_file_is_open_and_its_fid_stands_for_it() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"sub"]).unwrap();
        let qid = client.create(1, b"new", EXCL, 0o100_640).unwrap();
        assert_eq!((Node(qid.path), qid.kind), (NEW, QidKind::empty()));
        assert_ne!(qid.version, 0);
        assert_eq!(client.write(1, 0, b"content"), Ok(7));
        assert_eq!(client.read(1, 0, 100).as_deref(), Ok(&b"content"[..]));
        let attributes = client.getattr(1).unwrap();
        assert_eq!((attributes.mode, attributes.uid, attributes.gid), (0o100_640, 0, GID));
        assert_eq!((attributes.nlink, attributes.size), (1, 7));
        assert_eq!(client.walk(0, 2, &[b"sub", b"new"]), Ok(vec![SUB.0, NEW.0]));
        assert_eq!(client.tree.inode(NEW).retained, 1);
    }

    #[test]
    fn a_created_file_belongs_to_the_user_who_attached() {
        let mut client = Client::versioned(8192);
        for (fid, n_uname, uid) in [(1, 1000, 1000), (2, u32::MAX, 65_534), (3, 0, 0)] {
            client.attach_as(fid, b"", n_uname).unwrap();
            client.create(fid, &[b'a' + u8::try_from(fid).unwrap()], EXCL, 0o7777).unwrap();
            let attributes = client.getattr(fid).unwrap();
            assert_eq!((attributes.mode, attributes.uid), (0o107_777, uid));
        }
    }

    #[test]
    fn a_name_that_is_there_is_refused_with_excl_and_opened_without() {
        let mut client = Client::attached();
        client.walk(0, 1, &[]).unwrap();
        assert_eq!(client.create(1, b"file", EXCL, 0o600), Err(Errno::EEXIST));
        assert_eq!(client.node(1), Ok(ROOT));
        let flags = OpenFlags::CREATE | OpenFlags::RDWR;
        assert_eq!(client.create(1, b"file", flags, 0o600).map(|qid| Node(qid.path)), Ok(FILE));
        assert_eq!(
            client.getattr(1).map(|attributes| (attributes.mode, attributes.size)),
            Ok((0o100_640, 54))
        );
        assert_eq!(client.tree.inode(FILE).retained, 1);
        client.walk(0, 2, &[]).unwrap();
        client.create(2, b"file", flags | OpenFlags::TRUNC, 0o600).unwrap();
        assert_eq!(client.getattr(2).map(|attributes| attributes.size), Ok(0));
    }

    #[test]
    fn what_cannot_be_opened_is_not_opened_by_creating_it() {
        let mut client = Client::attached();
        for (name, errno) in [(&b"sub"[..], Errno::EISDIR), (b"link", Errno::ELOOP), (b"fifo", Errno::ENXIO)]
        {
            assert_eq!(client.create(0, name, OpenFlags::RDWR, 0o600), Err(errno));
        }
        assert_eq!(client.node(0), Ok(ROOT));
        assert_eq!(client.tree.retained(), 0);
    }

    #[test]
    fn a_file_is_created_in_a_directory_that_is_not_open() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        client.open_path(2, &[b"sub"]);
        assert_eq!(client.create(1, b"new", EXCL, 0o600), Err(Errno::ENOTDIR));
        assert_eq!(client.create(2, b"new", EXCL, 0o600), Err(Errno::EINVAL));
        assert_eq!(client.create(9, b"new", EXCL, 0o600), Err(Errno::EBADF));
        assert_eq!(client.create(0, b"new", EXCL | OpenFlags::DIRECTORY, 0o600), Err(Errno::EINVAL));
        assert_eq!(client.create(0, b"..", EXCL, 0o600), Err(Errno::EINVAL));
        assert_eq!(client.create(0, &[b'n'; 256], EXCL, 0o600), Err(Errno::ENAMETOOLONG));
        assert_eq!(client.tree.retained(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_kept_open_is_not_made() {
        let mut client = Client::attached();
        client.tree.retained_max = 0;
        assert_eq!(client.create(0, b"new", EXCL, 0o600), Err(Errno::ENFILE));
        assert_eq!(client.create(0, b"file", OpenFlags::RDWR, 0o600), Err(Errno::ENFILE));
        assert_eq!(client.walk(0, 1, &[b"new"]), Err(Errno::ENOENT));
        assert_eq!(client.node(0), Ok(ROOT));
    }

    #[test]
    fn what_the_backend_refuses_to_make_is_not_made() {
        let mut client = Client::attached();
        let requests: [Tmessage<'_>; 5] = [
            Tlcreate { fid: Fid(0), name: b"new", flags: EXCL, mode: 0o600, gid: GID }.into(),
            Tsymlink { fid: Fid(0), name: b"new", symtgt: b"x", gid: GID }.into(),
            mknod(0o010_644, 0, 0).into(),
            Tmkdir { dfid: Fid(0), name: b"new", mode: 0o755, gid: GID }.into(),
            Tlink { dfid: Fid(0), fid: Fid(1), name: b"new" }.into(),
        ];
        client.walk(0, 1, &[b"file"]).unwrap();
        for errno in [Errno::ENOSPC, Errno::EMLINK, Errno::EUCLEAN] {
            for request in requests {
                client.tree.refuse = Some(errno);
                assert_eq!(client.call(request), Err(errno));
            }
        }
        client.tree.read_only = true;
        for request in requests {
            assert_eq!(client.call(request), Err(Errno::EROFS));
        }
        assert_eq!(client.walk(0, 2, &[b"new"]), Err(Errno::ENOENT));
    }

    #[test]
    fn a_symbolic_link_has_its_target_and_all_permissions() {
        let mut client = Client::attached();
        let target = vec![b't'; 4095];
        let request = |name, symtgt| Tsymlink { fid: Fid(0), name, symtgt, gid: GID };
        assert_eq!(make(&mut client, request(b"new", &target)), Ok((NEW, QidKind::SYMLINK)));
        let inode = client.tree.inode(NEW);
        assert_eq!((inode.mode, inode.gid, inode.content.bytes()), (0o777, GID, target.clone()));
        for (symtgt, errno) in
            [(&b""[..], Errno::ENOENT), (b"a\0b", Errno::EINVAL), (&[b't'; 4096], Errno::ENAMETOOLONG)]
        {
            assert_eq!(make(&mut client, request(b"other", symtgt)), Err(errno));
        }
        assert_eq!(make(&mut client, request(b"link", b"x")), Err(Errno::EEXIST));
        assert_eq!(make(&mut client, request(b"", b"x")), Err(Errno::EINVAL));
    }

    #[test]
    fn every_kind_of_node_can_be_made_by_its_mode() {
        for (mode, kind) in [
            (0o010_644, FileKind::Fifo),
            (0o020_644, FileKind::CharacterDevice),
            (0o060_644, FileKind::BlockDevice),
            (0o100_644, FileKind::Regular),
            (0o000_644, FileKind::Regular),
            (0o140_644, FileKind::Socket),
        ] {
            let mut client = Client::attached();
            assert_eq!(make(&mut client, mknod(mode, 0, 0)), Ok((NEW, QidKind::empty())));
            let inode = client.tree.inode(NEW);
            assert_eq!((inode.kind, inode.mode, inode.device), (kind, 0o644, 0));
        }
    }

    #[test]
    fn a_mode_of_no_node_makes_none() {
        let mut client = Client::attached();
        for mode in [0o040_755, 0o120_777, 0o030_644, 0o170_644] {
            assert_eq!(make(&mut client, mknod(mode, 0, 0)), Err(Errno::EINVAL));
        }
        assert_eq!(make(&mut client, Tmknod { dfid: Fid(9), ..mknod(0o010_644, 0, 0) }), Err(Errno::EBADF));
        assert_eq!(make(&mut client, Tmknod { name: b"file", ..mknod(0o010_644, 0, 0) }), Err(Errno::EEXIST));
    }

    #[test]
    fn the_number_of_a_device_is_packed_as_linux_packs_it() {
        for (major, minor, packed) in
            [(1, 3, 0x103), (0xfff, 0xf_ffff, 0xffff_ffff), (8, 0x123, 0x0010_0823), (0, 0x100, 0x10_0000)]
        {
            let mut client = Client::attached();
            make(&mut client, mknod(0o060_600, major, minor)).unwrap();
            client.walk(0, 1, &[b"new"]).unwrap();
            assert_eq!(client.getattr(1).map(|attributes| attributes.rdev), Ok(packed));
        }
        let mut client = Client::attached();
        assert_eq!(make(&mut client, mknod(0o020_600, 0x1000, 0)), Err(Errno::EINVAL));
        assert_eq!(make(&mut client, mknod(0o020_600, 0, 0x10_0000)), Err(Errno::EINVAL));
        assert!(make(&mut client, mknod(0o010_600, 0x1000, 0x10_0000)).is_ok(), "a FIFO has no number");
    }

    #[test]
    fn a_directory_is_made_with_its_two_names() {
        let mut client = Client::attached();
        client.tree.clock = Timestamp { seconds: 5000, nanoseconds: 7 };
        let request = Tmkdir { dfid: Fid(0), name: b"new", mode: 0o041_777, gid: GID };
        assert_eq!(make(&mut client, request), Ok((NEW, QidKind::DIR)));
        client.walk(0, 1, &[b"new"]).unwrap();
        let attributes = client.getattr(1).unwrap();
        assert_eq!((attributes.mode, attributes.nlink, attributes.mtime.sec), (0o041_777, 2, 5000));
        let parent = client.getattr(0).unwrap();
        assert_eq!((parent.nlink, parent.mtime.sec, parent.ctime.nsec), (4, 5000, 7));
        assert_eq!(client.walk(1, 2, &[b".."]), Ok(vec![ROOT.0]));
        assert_eq!(client.mkdir(0, b"sub"), Err(Errno::EEXIST));
        assert_eq!(client.mkdir(0, b"."), Err(Errno::EINVAL));
        client.walk(0, 3, &[b"file"]).unwrap();
        assert_eq!(client.mkdir(3, b"new"), Err(Errno::ENOTDIR));
    }

    #[test]
    fn a_link_is_one_more_name_of_the_same_file() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        client.walk(0, 2, &[b"sub", b"deep"]).unwrap();
        assert_eq!(client.link(2, 1, b"again"), Ok(()));
        assert_eq!(client.walk(2, 3, &[b"again"]), Ok(vec![FILE.0]));
        assert_eq!(client.getattr(3).map(|attributes| attributes.nlink), Ok(2));
        assert_eq!(client.tree.inode(DEEP).modified.seconds, 1000);
        client.walk(0, 4, &[b"link"]).unwrap();
        assert_eq!(client.link(0, 4, b"link2"), Ok(()), "of a symbolic link, not of its target");
        assert_eq!(client.walk(0, 5, &[b"link2"]), Ok(vec![LINK.0]));
    }

    #[test]
    fn a_link_that_cannot_be_is_refused() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        client.walk(0, 2, &[b"sub"]).unwrap();
        assert_eq!(client.link(0, 2, b"new"), Err(Errno::EPERM));
        assert_eq!(client.link(0, 1, b"sub"), Err(Errno::EEXIST));
        assert_eq!(client.link(1, 1, b"new"), Err(Errno::ENOTDIR));
        assert_eq!(client.link(0, 1, b"a/b"), Err(Errno::EINVAL));
        assert_eq!(client.link(9, 1, b"new"), Err(Errno::EBADF));
        assert_eq!(client.link(0, 9, b"new"), Err(Errno::EBADF));
        client.tree.link_max = 1;
        assert_eq!(client.link(0, 1, b"new"), Err(Errno::EMLINK));
        client.control = Some(crate::server::tree::Tree::new());
        client.attach(3, b"ctl").unwrap();
        assert_eq!(client.link(3, 1, b"new"), Err(Errno::EXDEV));
    }

    #[test]
    fn a_file_without_a_name_gets_no_new_one() {
        let mut client = Client::attached();
        client.open_path(1, &[b"file"]);
        client.unlink(0, b"file").unwrap();
        assert_eq!(client.link(0, 1, b"again"), Err(Errno::ENOENT));
    }
}
