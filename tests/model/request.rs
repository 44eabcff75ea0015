// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests and answers, with all that they hold.

use std::fmt;

use rustix::io::Errno;
use skerry::wire::{
    Fid, GetattrMask, LockFlags, LockStatus, LockType, Names, OpenFlags, Qid, Rgetattr, Rmessage, Rstatfs,
    SetattrMask, Tag, Tattach, Tclunk, Tflush, Tfsync, Tgetattr, Tgetlock, Time, Tlcreate, Tlink, Tlock,
    Tlopen, Tmessage, Tmkdir, Tmknod, Tread, Treaddir, Treadlink, Tremove, Trename, Trenameat, Tsetattr,
    Tstatfs, Tsymlink, Tunlinkat, Tversion, Twalk, Twrite, Txattrcreate, Txattrwalk, UnlinkFlags, VERSION,
    XattrFlags,
};

use super::locks::Range;

/// Most bytes of a message that the sessions agree to.
pub const MSIZE: u32 = 65_536 + 24;
/// What every client calls itself.
const CLIENT: &[u8] = b"client";

/// A name, or a value: printed as text, and only its beginning if it is long.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            0..40 => write!(f, "\"{}\"", self.0.escape_ascii()),
            length => write!(f, "\"{}\"…({length})", self.0[..6].escape_ascii()),
        }
    }
}

/// A request of 9P2000.L, all fields by their names there.
#[derive(Debug, Clone)]
pub enum Request {
    Version,
    Attach {
        fid: u32,
        aname: Bytes,
        n_uname: u32,
    },
    Walk {
        fid: u32,
        newfid: u32,
        names: Vec<Bytes>,
    },
    Open {
        fid: u32,
        flags: u32,
    },
    Create {
        fid: u32,
        name: Bytes,
        flags: u32,
        mode: u32,
        gid: u32,
    },
    Symlink {
        fid: u32,
        name: Bytes,
        target: Bytes,
        gid: u32,
    },
    Mknod {
        dfid: u32,
        name: Bytes,
        mode: u32,
        major: u32,
        minor: u32,
        gid: u32,
    },
    Mkdir {
        dfid: u32,
        name: Bytes,
        mode: u32,
        gid: u32,
    },
    Link {
        dfid: u32,
        fid: u32,
        name: Bytes,
    },
    Rename {
        fid: u32,
        dfid: u32,
        name: Bytes,
    },
    RenameAt {
        olddirfid: u32,
        oldname: Bytes,
        newdirfid: u32,
        newname: Bytes,
    },
    UnlinkAt {
        dirfd: u32,
        name: Bytes,
        flags: u32,
    },
    Remove {
        fid: u32,
    },
    GetAttr {
        fid: u32,
    },
    SetAttr {
        fid: u32,
        valid: u32,
        mode: u32,
        uid: u32,
        gid: u32,
        size: u64,
        atime: (i64, u64),
        mtime: (i64, u64),
    },
    StatFs {
        fid: u32,
    },
    Read {
        fid: u32,
        offset: u64,
        count: u32,
    },
    Write {
        fid: u32,
        offset: u64,
        data: Bytes,
    },
    ReadDir {
        fid: u32,
        offset: u64,
        count: u32,
    },
    ReadLink {
        fid: u32,
    },
    Fsync {
        fid: u32,
    },
    Clunk {
        fid: u32,
    },
    Flush,
    XattrWalk {
        fid: u32,
        newfid: u32,
        name: Bytes,
    },
    XattrCreate {
        fid: u32,
        name: Bytes,
        size: u64,
        flags: u32,
    },
    /// `write` is nothing to unlock.
    Lock {
        fid: u32,
        write: Option<bool>,
        start: u64,
        length: u64,
        process: u32,
    },
    GetLock {
        fid: u32,
        write: bool,
        start: u64,
        length: u64,
        process: u32,
    },
}

/// What a Tsetattr can change.
pub mod valid {
    pub const MODE: u32 = 0x1;
    pub const UID: u32 = 0x2;
    pub const GID: u32 = 0x4;
    pub const SIZE: u32 = 0x8;
    pub const ATIME: u32 = 0x10;
    pub const MTIME: u32 = 0x20;
    pub const CTIME: u32 = 0x40;
    pub const ATIME_SET: u32 = 0x80;
    pub const MTIME_SET: u32 = 0x100;
}

/// Flags of Tlopen and Tlcreate.
pub mod open {
    pub const EXCL: u32 = 0o200;
    pub const TRUNC: u32 = 0o1000;
    pub const APPEND: u32 = 0o2000;
    pub const DSYNC: u32 = 0o1_0000;
    pub const DIRECTORY: u32 = 0o20_0000;
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: Bytes,
    pub qid: Qid,
    pub next: u64,
    pub kind: u8,
}

/// A reply that is no error.
#[derive(Debug, Clone)]
pub enum Reply {
    /// One that says nothing more.
    Done,
    Qid(Qid),
    Qids(Vec<Qid>),
    Opened(Qid, u32),
    Attributes(Box<Rgetattr>),
    Status(Rstatfs),
    Data(Bytes),
    Written(u32),
    Entries(Vec<Entry>),
    Size(u64),
    /// Whether it was granted.
    Locked(bool),
    /// What is in the way.
    Held(Option<Range>),
}

/// What the server says to a request.
pub type Answer = Result<Reply, Errno>;

fn time((sec, nsec): (i64, u64)) -> Time {
    Time { sec, nsec }
}

impl Request {
    /// The message, but its data; and the data.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Walk { fid, newfid, names } => {
                let names: Vec<&[u8]> = names.iter().map(|name| &name.0[..]).collect();
                let wnames = Names::new(&names).expect("at most 16 names");
                emit(Twalk { fid: Fid(*fid), newfid: Fid(*newfid), wnames }, &[])
            }
            Self::Write { fid, offset, data } => {
                let count = u32::try_from(data.0.len()).unwrap();
                emit(Twrite { fid: Fid(*fid), offset: *offset, count }, &data.0)
            }
            other => emit(other.message(), &[]),
        }
    }

    fn message(&self) -> Tmessage<'_> {
        let kind = |write: &Option<bool>| match write {
            None => LockType::Unlock,
            Some(false) => LockType::Read,
            Some(true) => LockType::Write,
        };
        match self {
            Self::Version => Tversion { msize: MSIZE, version: VERSION }.into(),
            Self::Attach { fid, aname, n_uname } => {
                Tattach { fid: Fid(*fid), afid: Fid::NOFID, uname: b"", aname: &aname.0, n_uname: *n_uname }
                    .into()
            }
            Self::Open { fid, flags } => {
                Tlopen { fid: Fid(*fid), flags: OpenFlags::from_bits_retain(*flags) }.into()
            }
            Self::Create { fid, name, flags, mode, gid } => Tlcreate {
                fid: Fid(*fid),
                name: &name.0,
                flags: OpenFlags::from_bits_retain(*flags),
                mode: *mode,
                gid: *gid,
            }
            .into(),
            Self::Symlink { fid, name, target, gid } => {
                Tsymlink { fid: Fid(*fid), name: &name.0, symtgt: &target.0, gid: *gid }.into()
            }
            Self::Mknod { dfid, name, mode, major, minor, gid } => Tmknod {
                dfid: Fid(*dfid),
                name: &name.0,
                mode: *mode,
                major: *major,
                minor: *minor,
                gid: *gid,
            }
            .into(),
            Self::Mkdir { dfid, name, mode, gid } => {
                Tmkdir { dfid: Fid(*dfid), name: &name.0, mode: *mode, gid: *gid }.into()
            }
            Self::Link { dfid, fid, name } => {
                Tlink { dfid: Fid(*dfid), fid: Fid(*fid), name: &name.0 }.into()
            }
            Self::Rename { fid, dfid, name } => {
                Trename { fid: Fid(*fid), dfid: Fid(*dfid), name: &name.0 }.into()
            }
            Self::RenameAt { olddirfid, oldname, newdirfid, newname } => Trenameat {
                olddirfid: Fid(*olddirfid),
                oldname: &oldname.0,
                newdirfid: Fid(*newdirfid),
                newname: &newname.0,
            }
            .into(),
            Self::UnlinkAt { dirfd, name, flags } => {
                Tunlinkat { dirfd: Fid(*dirfd), name: &name.0, flags: UnlinkFlags::from_bits_retain(*flags) }
                    .into()
            }
            Self::Remove { fid } => Tremove { fid: Fid(*fid) }.into(),
            Self::GetAttr { fid } => Tgetattr { fid: Fid(*fid), request_mask: GetattrMask::ALL }.into(),
            Self::SetAttr { fid, valid, mode, uid, gid, size, atime, mtime } => Tsetattr {
                fid: Fid(*fid),
                valid: SetattrMask::from_bits_retain(*valid),
                mode: *mode,
                uid: *uid,
                gid: *gid,
                size: *size,
                atime: time(*atime),
                mtime: time(*mtime),
            }
            .into(),
            Self::StatFs { fid } => Tstatfs { fid: Fid(*fid) }.into(),
            Self::Read { fid, offset, count } => {
                Tread { fid: Fid(*fid), offset: *offset, count: *count }.into()
            }
            Self::ReadDir { fid, offset, count } => {
                Treaddir { fid: Fid(*fid), offset: *offset, count: *count }.into()
            }
            Self::ReadLink { fid } => Treadlink { fid: Fid(*fid) }.into(),
            Self::Fsync { fid } => Tfsync { fid: Fid(*fid), datasync: 0 }.into(),
            Self::Clunk { fid } => Tclunk { fid: Fid(*fid) }.into(),
            Self::Flush => Tflush { oldtag: Tag(7) }.into(),
            Self::XattrWalk { fid, newfid, name } => {
                Txattrwalk { fid: Fid(*fid), newfid: Fid(*newfid), name: &name.0 }.into()
            }
            Self::XattrCreate { fid, name, size, flags } => Txattrcreate {
                fid: Fid(*fid),
                name: &name.0,
                attr_size: *size,
                flags: XattrFlags::from_bits_retain(*flags),
            }
            .into(),
            Self::Lock { fid, write, start, length, process } => Tlock {
                fid: Fid(*fid),
                kind: kind(write),
                flags: LockFlags::BLOCK,
                start: *start,
                length: *length,
                proc_id: *process,
                client_id: CLIENT,
            }
            .into(),
            Self::GetLock { fid, write, start, length, process } => Tgetlock {
                fid: Fid(*fid),
                kind: kind(&Some(*write)),
                start: *start,
                length: *length,
                proc_id: *process,
                client_id: CLIENT,
            }
            .into(),
            Self::Walk { .. } | Self::Write { .. } => unreachable!("encoded with what they borrow"),
        }
    }
}

fn emit<'a>(message: impl Into<Tmessage<'a>>, data: &[u8]) -> Vec<u8> {
    let message = message.into();
    let tag = if matches!(message, Tmessage::Tversion(_)) { Tag::NOTAG } else { Tag(7) };
    let mut bytes = vec![0; message.head_length()];
    message.emit(tag, &mut bytes).unwrap();
    bytes.extend_from_slice(data);
    bytes
}

/// The answer in a reply and the data that follows it.
pub fn answer(reply: Rmessage<'_>, data: &[u8]) -> Answer {
    use Rmessage as R;
    Ok(match reply {
        R::Rlerror(error) => return Err(Errno::from_raw_os_error(i32::try_from(error.ecode).unwrap())),
        R::Rattach(reply) => Reply::Qid(reply.qid),
        R::Rsymlink(reply) => Reply::Qid(reply.qid),
        R::Rmknod(reply) => Reply::Qid(reply.qid),
        R::Rmkdir(reply) => Reply::Qid(reply.qid),
        R::Rwalk(reply) => Reply::Qids(reply.wqids.iter().collect()),
        R::Rlopen(reply) => Reply::Opened(reply.qid, reply.iounit),
        R::Rlcreate(reply) => Reply::Opened(reply.qid, reply.iounit),
        R::Rgetattr(reply) => Reply::Attributes(Box::new(reply)),
        R::Rstatfs(reply) => Reply::Status(reply),
        R::Rread(_) => Reply::Data(Bytes(data.to_vec())),
        R::Rreadlink(reply) => Reply::Data(Bytes(reply.target.to_vec())),
        R::Rwrite(reply) => Reply::Written(reply.count),
        R::Rreaddir(_) => Reply::Entries(
            skerry::wire::Dirents::new(data)
                .map(|entry| entry.expect("entries are never cut"))
                .map(|entry| Entry {
                    name: Bytes(entry.name.to_vec()),
                    qid: entry.qid,
                    next: entry.offset,
                    kind: entry.kind,
                })
                .collect(),
        ),
        R::Rxattrwalk(reply) => Reply::Size(reply.size),
        R::Rlock(reply) => match reply.status {
            LockStatus::Success => Reply::Locked(true),
            LockStatus::Blocked => Reply::Locked(false),
            other => panic!("Rlock: {other:?}"),
        },
        R::Rgetlock(reply) => Reply::Held(match reply.kind {
            LockType::Unlock => None,
            kind => {
                assert_eq!(reply.client_id, CLIENT);
                let write = kind == LockType::Write;
                Some(Range { write, start: reply.start, length: reply.length, process: reply.proc_id })
            }
        }),
        _ => Reply::Done,
    })
}
