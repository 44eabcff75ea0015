// SPDX-License-Identifier: MIT OR Apache-2.0

//! A client for the tests of the server: real messages, in scattered buffers of real guest memory.

#![allow(unsafe_code)]

use core::ptr::NonNull;
use std::boxed::Box;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::tree::{ROOT, Tree};
use super::{ExportList, Exports, LockTable, Scratch, Session, SessionFault, SessionLimits};
use crate::fs::{Errno, FileKind, Node};
use crate::mem::guest::{GuestAddress, GuestMemory};
use crate::mem::scatter::{Loader, ScatterList};
use crate::mem::{Sink, Source};
use crate::wire::{
    Dirents, Fid, GetattrMask, MessageType, Names, OpenFlags, Qid, Rgetattr, Rmessage, Tag, Tattach, Tclunk,
    Tgetattr, Tlcreate, Tlink, Tlopen, Tmessage, Tmkdir, Tread, Treaddir, Trenameat, Tunlinkat, Tversion,
    Twalk, Twrite, Txattrcreate, Txattrwalk, UnlinkFlags, VERSION, XattrFlags, parse_r_with_data,
};

/// The files of the tree that every client starts with.
pub const FILE: Node = Node(3);
pub const SUB: Node = Node(4);
pub const DEEP: Node = Node(5);
pub const LEAF: Node = Node(6);
pub const LINK: Node = Node(7);

/// What is in [`FILE`].
pub const CONTENT: &[u8] = b"A skerry is a small rock that stands alone in the sea.";

/// The group that clients make files for.
pub const GID: u32 = 100;

const RAM: usize = 4 << 20;
const REQUESTS: u64 = 0x1_0000;
const REPLIES: u64 = REQUESTS + (RAM as u64 / 2);

/// What fills the room for a reply before it is used.
const POISON: u8 = 0xa5;

pub struct Client {
    memory: GuestMemory,
    pub session: Session,
    scratch: Box<Scratch>,
    /// The volume.
    pub tree: Tree,
    /// What `ctl` is, where it is exported.
    pub control: Option<Tree>,
    /// What is exported of the volume.
    pub list: ExportList,
    /// The locks of the service.
    pub locks: LockTable,
    /// Length of each buffer of a chain; no two adjoin.
    pub piece: u32,
    /// Room for the reply.
    pub room: u32,
}

/// An entry of a directory, as the client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub qid: Qid,
    pub offset: u64,
    pub kind: u8,
}

fn tree() -> Tree {
    let mut tree = Tree::new();
    assert_eq!(tree.add(ROOT, "file", FileKind::Regular, CONTENT), FILE);
    assert_eq!(tree.add(ROOT, "sub", FileKind::Directory, b""), SUB);
    assert_eq!(tree.add(SUB, "deep", FileKind::Directory, b""), DEEP);
    assert_eq!(tree.add(DEEP, "leaf", FileKind::Regular, b"leaf"), LEAF);
    assert_eq!(tree.add(ROOT, "link", FileKind::Symlink, b"sub/deep"), LINK);
    let special = [FileKind::Fifo, FileKind::CharacterDevice, FileKind::BlockDevice, FileKind::Socket];
    for (name, kind) in ["fifo", "char", "block", "socket"].into_iter().zip(special) {
        tree.add(ROOT, name, kind, b"");
    }
    let attributes = &mut tree.inode(FILE).xattrs;
    attributes.insert(b"user.colour".to_vec(), b"grey and wet".to_vec());
    attributes.insert(b"user.empty".to_vec(), Vec::new());
    tree
}

fn load<'a>(
    list: &'a mut ScatterList,
    memory: &'a GuestMemory,
    at: u64,
    length: u32,
    piece: u32,
) -> Loader<'a> {
    let mut loader = list.load(memory);
    let mut address = at;
    while loader.length() < length {
        loader.push(GuestAddress(address), piece.min(length - loader.length())).unwrap();
        address += u64::from(piece) + 1;
    }
    loader
}

impl Client {
    /// A client that has sent nothing.
    pub fn unversioned() -> Self {
        let host = NonNull::new(Box::into_raw(vec![0_u8; RAM].into_boxed_slice()).cast()).unwrap();
        let mut memory = GuestMemory::new();
        // SAFETY: the allocation of `RAM` bytes was just given up by its owner and is never freed, so it stays mapped,
        // and nobody holds a reference to it.
        unsafe { memory.add_region(GuestAddress(REQUESTS), RAM, host) }.unwrap();
        Self {
            memory,
            session: Session::new(SessionLimits { max_fids: 100, max_msize: 1 << 20 }),
            scratch: Box::new(Scratch::new()),
            tree: tree(),
            control: None,
            list: ExportList::default(),
            locks: LockTable::default(),
            piece: 4096,
            room: 16_384,
        }
    }

    /// A client that has agreed on `msize`.
    pub fn versioned(msize: u32) -> Self {
        let mut client = Self::unversioned();
        assert_eq!(client.version(msize, VERSION), Ok((msize, VERSION.to_vec())));
        client
    }

    /// A client that has attached [`Fid`] 0 to the root of the volume.
    pub fn attached() -> Self {
        let mut client = Self::versioned(8192);
        client.attach(0, b"").unwrap();
        client
    }

    /// Sends `request`, as it is, and returns the reply, as it is.
    pub fn exchange(&mut self, request: &[u8]) -> Result<Vec<u8>, SessionFault> {
        let (mut readable, mut writable) = (ScatterList::new(), ScatterList::new());
        let length = u32::try_from(request.len()).unwrap();
        let (memory, piece) = (&self.memory, self.piece);
        load(&mut readable, memory, REQUESTS, length, piece).into_writer().put(request).unwrap();
        let poison = vec![POISON; self.room as usize];
        load(&mut writable, memory, REPLIES, self.room, piece).into_writer().put(&poison).unwrap();

        let mut exports = Exports::new(&mut self.tree, &self.list, &mut self.locks);
        if let Some(control) = &mut self.control {
            exports = exports.with_control(control);
        }
        let length = self.session.handle(
            &mut exports,
            load(&mut readable, memory, REQUESTS, length, piece).into_reader(),
            load(&mut writable, memory, REPLIES, self.room, piece).into_writer(),
            &mut self.scratch,
        )?;

        let mut reply = vec![0; self.room as usize];
        load(&mut writable, memory, REPLIES, self.room, piece).into_reader().take(&mut reply).unwrap();
        let behind = reply.split_off(length as usize);
        if reply.get(4) != Some(&u8::from(MessageType::Rlerror)) {
            assert!(behind.iter().all(|byte| *byte == POISON), "nothing is written behind a reply");
        }
        Ok(reply)
    }

    /// Sends `request`, followed by `data`; `pick` takes what it looks for out of a reply that is no Rlerror.
    pub fn call_with_data<'a, T>(
        &mut self,
        request: impl Into<Tmessage<'a>>,
        data: &[u8],
        pick: impl FnOnce(Rmessage<'_>, &[u8]) -> Option<T>,
    ) -> Result<T, Errno> {
        let request = request.into();
        let tag = if request.kind() == MessageType::Tversion { Tag::NOTAG } else { Tag(0x1234) };
        let mut bytes = vec![0xa5; request.head_length()];
        request.emit(tag, &mut bytes).unwrap();
        bytes.extend_from_slice(data);
        let reply = self.exchange(&bytes).unwrap();
        let (reply_tag, reply, data) = parse_r_with_data(&reply).unwrap();
        assert_eq!(reply_tag, tag);
        if let Rmessage::Rlerror(error) = reply {
            return Err(errno(error.ecode));
        }
        assert_eq!(u8::from(reply.kind()), u8::from(request.kind()) + 1);
        Ok(pick(reply, data).expect("the reply is of the kind that was asked for"))
    }

    /// Sends `request`, and expects any reply but Rlerror.
    pub fn call<'a>(&mut self, request: impl Into<Tmessage<'a>>) -> Result<(), Errno> {
        self.call_with_data(request, b"", |_, _| Some(()))
    }

    pub fn version(&mut self, msize: u32, version: &[u8]) -> Result<(u32, Vec<u8>), Errno> {
        self.call_with_data(Tversion { msize, version }, b"", |reply, _| match reply {
            Rmessage::Rversion(reply) => Some((reply.msize, reply.version.to_vec())),
            _ => None,
        })
    }

    pub fn attach(&mut self, fid: u32, aname: &[u8]) -> Result<Qid, Errno> {
        self.attach_as(fid, aname, 0)
    }

    /// Attaches as the user `n_uname`.
    pub fn attach_as(&mut self, fid: u32, aname: &[u8], n_uname: u32) -> Result<Qid, Errno> {
        let request = Tattach { fid: Fid(fid), afid: Fid::NOFID, uname: b"", aname, n_uname };
        self.call_with_data(request, b"", |reply, _| match reply {
            Rmessage::Rattach(reply) => Some(reply.qid),
            _ => None,
        })
    }

    /// The `path`s of the qids.
    pub fn walk(&mut self, fid: u32, newfid: u32, names: &[&[u8]]) -> Result<Vec<u64>, Errno> {
        let request = Twalk { fid: Fid(fid), newfid: Fid(newfid), wnames: Names::new(names).unwrap() };
        self.call_with_data(request, b"", |reply, _| match reply {
            Rmessage::Rwalk(reply) => Some(reply.wqids.iter().map(|qid| qid.path).collect()),
            _ => None,
        })
    }

    /// The `iounit`.
    pub fn open(&mut self, fid: u32, flags: OpenFlags) -> Result<u32, Errno> {
        self.call_with_data(Tlopen { fid: Fid(fid), flags }, b"", |reply, _| match reply {
            Rmessage::Rlopen(reply) => Some(reply.iounit),
            _ => None,
        })
    }

    /// Walks from fid 0 to `names`, and opens that as `fid`.
    pub fn open_path(&mut self, fid: u32, names: &[&[u8]]) {
        assert_eq!(self.walk(0, fid, names).unwrap().len(), names.len());
        self.open(fid, OpenFlags::RDONLY).unwrap();
    }

    pub fn read(&mut self, fid: u32, offset: u64, count: u32) -> Result<Vec<u8>, Errno> {
        self.call_with_data(Tread { fid: Fid(fid), offset, count }, b"", |reply, data| match reply {
            Rmessage::Rread(_) => Some(data.to_vec()),
            _ => None,
        })
    }

    pub fn readdir(&mut self, fid: u32, offset: u64, count: u32) -> Result<Vec<Entry>, Errno> {
        let entries = |data: &[u8]| -> Vec<Entry> {
            let owned = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
            Dirents::new(data)
                .map(|entry| entry.expect("entries are never cut"))
                .map(|entry| Entry {
                    name: owned(entry.name),
                    qid: entry.qid,
                    offset: entry.offset,
                    kind: entry.kind,
                })
                .collect()
        };
        self.call_with_data(Treaddir { fid: Fid(fid), offset, count }, b"", |reply, data| match reply {
            Rmessage::Rreaddir(_) => Some(entries(data)),
            _ => None,
        })
    }

    pub fn getattr(&mut self, fid: u32) -> Result<Rgetattr, Errno> {
        let request = Tgetattr { fid: Fid(fid), request_mask: GetattrMask::ALL };
        self.call_with_data(request, b"", |reply, _| match reply {
            Rmessage::Rgetattr(reply) => Some(reply),
            _ => None,
        })
    }

    /// The node that `fid` stands for.
    pub fn node(&mut self, fid: u32) -> Result<Node, Errno> {
        self.getattr(fid).map(|attributes| Node(attributes.qid.path))
    }

    /// The `size`.
    pub fn xattrwalk(&mut self, fid: u32, newfid: u32, name: &[u8]) -> Result<u64, Errno> {
        let request = Txattrwalk { fid: Fid(fid), newfid: Fid(newfid), name };
        self.call_with_data(request, b"", |reply, _| match reply {
            Rmessage::Rxattrwalk(reply) => Some(reply.size),
            _ => None,
        })
    }

    pub fn xattrcreate(
        &mut self,
        fid: u32,
        name: &[u8],
        attr_size: u64,
        flags: XattrFlags,
    ) -> Result<(), Errno> {
        self.call(Txattrcreate { fid: Fid(fid), name, attr_size, flags })
    }

    /// The `count`.
    pub fn write(&mut self, fid: u32, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let request = Twrite { fid: Fid(fid), offset, count: u32::try_from(data.len()).unwrap() };
        self.call_with_data(request, data, |reply, _| match reply {
            Rmessage::Rwrite(reply) => Some(reply.count),
            _ => None,
        })
    }

    /// The qid of the new file, which `fid` stands for then.
    pub fn create(&mut self, fid: u32, name: &[u8], flags: OpenFlags, mode: u32) -> Result<Qid, Errno> {
        let request = Tlcreate { fid: Fid(fid), name, flags, mode, gid: GID };
        self.call_with_data(request, b"", |reply, _| match reply {
            Rmessage::Rlcreate(reply) => Some(reply.qid),
            _ => None,
        })
    }

    pub fn mkdir(&mut self, fid: u32, name: &[u8]) -> Result<Qid, Errno> {
        let request = Tmkdir { dfid: Fid(fid), name, mode: 0o040_755, gid: GID };
        self.call_with_data(request, b"", |reply, _| match reply {
            Rmessage::Rmkdir(reply) => Some(reply.qid),
            _ => None,
        })
    }

    pub fn link(&mut self, dfid: u32, fid: u32, name: &[u8]) -> Result<(), Errno> {
        self.call(Tlink { dfid: Fid(dfid), fid: Fid(fid), name })
    }

    pub fn rename(&mut self, from: (u32, &[u8]), to: (u32, &[u8])) -> Result<(), Errno> {
        let (olddirfid, newdirfid) = (Fid(from.0), Fid(to.0));
        self.call(Trenameat { olddirfid, oldname: from.1, newdirfid, newname: to.1 })
    }

    /// Removes the name of anything but a directory.
    pub fn unlink(&mut self, fid: u32, name: &[u8]) -> Result<(), Errno> {
        self.call(Tunlinkat { dirfd: Fid(fid), name, flags: UnlinkFlags::empty() })
    }

    pub fn rmdir(&mut self, fid: u32, name: &[u8]) -> Result<(), Errno> {
        self.call(Tunlinkat { dirfd: Fid(fid), name, flags: UnlinkFlags::REMOVEDIR })
    }

    pub fn clunk(&mut self, fid: u32) -> Result<(), Errno> {
        self.call(Tclunk { fid: Fid(fid) })
    }
}

/// The error of that number, if it is one that the server answers with.
fn errno(number: u32) -> Errno {
    let known = [
        Errno::EPERM,
        Errno::ENOENT,
        Errno::EIO,
        Errno::ENXIO,
        Errno::E2BIG,
        Errno::EBADF,
        Errno::ENOMEM,
        Errno::EACCES,
        Errno::EBUSY,
        Errno::EEXIST,
        Errno::EXDEV,
        Errno::ENODEV,
        Errno::ENOTDIR,
        Errno::EISDIR,
        Errno::EINVAL,
        Errno::ENFILE,
        Errno::EMFILE,
        Errno::EFBIG,
        Errno::ENOSPC,
        Errno::EROFS,
        Errno::EMLINK,
        Errno::ERANGE,
        Errno::ENAMETOOLONG,
        Errno::ENOLCK,
        Errno::ENOTEMPTY,
        Errno::ELOOP,
        Errno::ENODATA,
        Errno::EPROTO,
        Errno::EOVERFLOW,
        Errno::EMSGSIZE,
        Errno::EOPNOTSUPP,
        Errno::ESTALE,
        Errno::EUCLEAN,
    ];
    known.into_iter().find(|errno| errno.number() == number).expect("an error that docs/protocol.md names")
}
