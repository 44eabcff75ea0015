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
