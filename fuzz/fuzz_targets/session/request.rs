// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests from small numbers: every message, with values that mean something and values at every edge.

use arbitrary::{Arbitrary, Result, Unstructured};
use skerry::wire::{MessageType as T, VERSION};

/// A request.
#[derive(Debug, Arbitrary)]
pub struct Request {
    tag: u16,
    wrong: Wrong,
    message: Message,
}

/// By how much `size` is wrong, and how many bytes are missing or follow: mostly nothing is.
#[derive(Debug)]
struct Wrong(i8, i8);

impl<'a> Arbitrary<'a> for Wrong {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        if u8::arbitrary(u)? < 248 { Ok(Self(0, 0)) } else { Ok(Self(i8::arbitrary(u)?, i8::arbitrary(u)?)) }
    }
}

/// A fid: small ones are in use often.
#[derive(Debug, Arbitrary)]
struct Fid(u8);

/// A name.
#[derive(Debug, Arbitrary)]
enum Name {
    /// Of the volume, or made before.
    Known(u8),
    Long(u8),
    Any(Vec<u8>),
}

/// A number of 64 bits.
#[derive(Debug, Arbitrary)]
enum Number {
    Small(u16),
    Edge(u8, i8),
    Any(u64),
}

#[derive(Debug, Arbitrary)]
enum Message {
    Version {
        msize: Number,
        known: bool,
    },
    Auth {
        afid: Fid,
        name: Name,
    },
    Attach {
        fid: Fid,
        afid: Fid,
        name: Name,
        user: u8,
    },
    Walk {
        fid: Fid,
        newfid: Fid,
        names: Vec<Name>,
    },
    Open {
        fid: Fid,
        flags: u32,
    },
    Create {
        fid: Fid,
        name: Name,
        flags: u32,
        mode: u32,
    },
    Symlink {
        fid: Fid,
        name: Name,
        target: Name,
    },
    Mknod {
        fid: Fid,
        name: Name,
        mode: u32,
        major: u16,
        minor: u32,
    },
    Mkdir {
        fid: Fid,
        name: Name,
        mode: u32,
    },
    Link {
        dfid: Fid,
        fid: Fid,
        name: Name,
    },
    Rename {
        fid: Fid,
        dfid: Fid,
        name: Name,
    },
    RenameAt {
        from: Fid,
        old: Name,
        to: Fid,
        new: Name,
    },
    UnlinkAt {
        fid: Fid,
        name: Name,
        flags: u16,
    },
    Remove {
        fid: Fid,
    },
    GetAttr {
        fid: Fid,
        mask: Number,
    },
    SetAttr {
        fid: Fid,
        valid: u16,
        mode: u32,
        owner: u16,
        size: Number,
        time: Number,
    },
    StatFs {
        fid: Fid,
    },
    Read {
        fid: Fid,
        offset: Number,
        count: Number,
    },
    Write {
        fid: Fid,
        offset: Number,
        length: u16,
        count: Option<u32>,
    },
    ReadDir {
        fid: Fid,
        offset: Number,
        count: Number,
    },
    ReadLink {
        fid: Fid,
    },
    Fsync {
        fid: Fid,
    },
    Clunk {
        fid: Fid,
    },
    Flush {
        tag: u16,
    },
    XattrWalk {
        fid: Fid,
        newfid: Fid,
        name: Name,
    },
    XattrCreate {
        fid: Fid,
        name: Name,
        size: Number,
        flags: u8,
    },
    Lock {
        fid: Fid,
        kind: u8,
        flags: u8,
        start: Number,
        length: Number,
        process: u8,
        client: Name,
    },
    GetLock {
        fid: Fid,
        kind: u8,
        start: Number,
        length: Number,
        process: u8,
        client: Name,
    },
    /// Any type with any body.
    Any {
        kind: u8,
        body: Vec<u8>,
    },
}

impl Fid {
    fn number(&self) -> u32 {
        match self.0 {
            0..240 => u32::from(self.0) % 8,
            240..250 => u32::MAX,
            n => u32::MAX - u32::from(n),
        }
    }
}

impl Name {
    fn bytes(&self) -> Vec<u8> {
        let known: [&[u8]; 20] = [
            b"one",
            b"two",
            b"three",
            b"deep",
            b"many",
            b"comb",
            b"small",
            b"large",
            b"fast",
            b"slow",
            b"pipe",
            b"a",
            b"b",
            b"c",
            b"user.name",
            b"user.long",
            b"user.colour",
            b"system.posix_acl_access",
            b"..",
            b"",
        ];
        match self {
            Self::Known(n) => known[usize::from(*n) % known.len()].to_vec(),
            Self::Long(n) => vec![b'a' + n % 4; 240 + usize::from(n % 32)],
            Self::Any(bytes) => bytes[..bytes.len().min(5000)].to_vec(),
        }
    }
}

impl Number {
    fn value(&self) -> u64 {
        match *self {
            Self::Small(n) => n.into(),
            Self::Edge(n, around) => {
                let edge = match n % 12 {
                    0 => 0,
                    1 => u64::MAX,
                    2 => 1 << 63,
                    3 => 1 << 32,
                    4 => 1 << 31,
                    5 => 4096,
                    6 => 65_536,
                    7 => 1 << 44,
                    8 => (1 << 42) + 1024,
                    9 => 24,
                    10 => 819_200,
                    _ => 12 * 1024,
                };
                edge_around(edge, around)
            }
            Self::Any(n) => n,
        }
    }

    /// As 32 bits.
    fn low(&self) -> u32 {
        (self.value() & u64::from(u32::MAX)) as u32
    }
}

fn edge_around(edge: u64, around: i8) -> u64 {
    edge.wrapping_add_signed(around.into())
}

/// The bytes of a message in the making.
struct Bytes(Vec<u8>);

impl Bytes {
    fn new(kind: T, tag: u16) -> Self {
        let mut bytes = vec![0, 0, 0, 0, u8::from(kind)];
        bytes.extend(tag.to_le_bytes());
        Self(bytes)
    }

    fn n16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn n32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn n64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn fid(self, fid: &Fid) -> Self {
        self.n32(fid.number())
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn string(self, bytes: &[u8]) -> Self {
        let length = u16::try_from(bytes.len()).unwrap();
        self.n16(length).raw(bytes)
    }

    fn name(self, name: &Name) -> Self {
        self.string(&name.bytes())
    }

    fn end(mut self) -> Vec<u8> {
        let size = u32::try_from(self.0.len()).unwrap();
        self.0[..4].copy_from_slice(&size.to_le_bytes());
        self.0
    }
}

/// A Tversion that agrees to much.
pub fn version() -> Vec<u8> {
    Bytes::new(T::Tversion, u16::MAX).n32(64 << 10).string(VERSION).end()
}

/// A Tattach of fid 0 to the root, by root or a user.
pub fn attach(session: usize) -> Vec<u8> {
    let user = if session == 0 { 0 } else { 1000 };
    Bytes::new(T::Tattach, 1).n32(0).n32(u32::MAX).string(b"").string(b"").n32(user).end()
}

impl Request {
    /// The bytes of the request.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.message(if self.tag == u16::MAX { 1 } else { self.tag });
        let Wrong(size, length) = self.wrong;
        if (size, length) != (0, 0) {
            let said = u32::try_from(bytes.len()).unwrap().wrapping_add_signed(size.into());
            bytes[..4].copy_from_slice(&said.to_le_bytes());
            bytes.resize(bytes.len().saturating_add_signed(length.into()).max(1), 0x55);
        }
        bytes
    }

    fn message(&self, tag: u16) -> Vec<u8> {
        use Message as M;
        let new = |kind| Bytes::new(kind, tag);
        let bytes = match &self.message {
            M::Version { msize, known } => {
                let version: &[u8] = if *known { VERSION } else { b"9P2000.u" };
                Bytes::new(T::Tversion, u16::MAX).n32(msize.low()).string(version)
            }
            M::Auth { afid, name } => new(T::Tauth).fid(afid).name(name).string(b"").n32(0),
            M::Attach { fid, afid, name, user } => {
                let path =
                    if name.bytes().is_empty() { Vec::new() } else { [b"/", &name.bytes()[..]].concat() };
                let user = u32::from(*user % 3) * 500;
                new(T::Tattach).fid(fid).fid(afid).string(b"user").string(&path).n32(user)
            }
            M::Walk { fid, newfid, names } => {
                let names = &names[..names.len().min(20)];
                let head = new(T::Twalk).fid(fid).fid(newfid).n16(u16::try_from(names.len()).unwrap());
                names.iter().fold(head, Bytes::name)
            }
            M::Open { fid, flags } => new(T::Tlopen).fid(fid).n32(*flags),
            M::Create { fid, name, flags, mode } => {
                new(T::Tlcreate).fid(fid).name(name).n32(*flags).n32(*mode).n32(100)
            }
            M::Symlink { fid, name, target } => new(T::Tsymlink).fid(fid).name(name).name(target).n32(100),
            M::Mknod { fid, name, mode, major, minor } => {
                new(T::Tmknod).fid(fid).name(name).n32(*mode).n32((*major).into()).n32(*minor).n32(100)
            }
            M::Mkdir { fid, name, mode } => new(T::Tmkdir).fid(fid).name(name).n32(*mode).n32(100),
            M::Link { dfid, fid, name } => new(T::Tlink).fid(dfid).fid(fid).name(name),
            M::Rename { fid, dfid, name } => new(T::Trename).fid(fid).fid(dfid).name(name),
            M::RenameAt { from, old, to, new: name } => {
                new(T::Trenameat).fid(from).name(old).fid(to).name(name)
            }
            M::UnlinkAt { fid, name, flags } => new(T::Tunlinkat).fid(fid).name(name).n32((*flags).into()),
            M::Remove { fid } => new(T::Tremove).fid(fid),
            M::GetAttr { fid, mask } => new(T::Tgetattr).fid(fid).n64(mask.value()),
            M::SetAttr { fid, valid, mode, owner, size, time } => new(T::Tsetattr)
                .fid(fid)
                .n32((*valid).into())
                .n32(*mode)
                .n32((*owner).into())
                .n32((*owner).into())
                .n64(size.value())
                .n64(time.value())
                .n64(1)
                .n64(time.value())
                .n64(time.value()),
            M::StatFs { fid } => new(T::Tstatfs).fid(fid),
            M::Read { fid, offset, count } => new(T::Tread).fid(fid).n64(offset.value()).n32(count.low()),
            M::Write { fid, offset, length, count } => {
                let data = vec![0x77; usize::from(*length)];
                let count = count.unwrap_or((*length).into());
                new(T::Twrite).fid(fid).n64(offset.value()).n32(count).raw(&data)
            }
            M::ReadDir { fid, offset, count } => {
                new(T::Treaddir).fid(fid).n64(offset.value()).n32(count.low())
            }
            M::ReadLink { fid } => new(T::Treadlink).fid(fid),
            M::Fsync { fid } => new(T::Tfsync).fid(fid).n32(0),
            M::Clunk { fid } => new(T::Tclunk).fid(fid),
            M::Flush { tag } => new(T::Tflush).n16(*tag),
            M::XattrWalk { fid, newfid, name } => new(T::Txattrwalk).fid(fid).fid(newfid).name(name),
            M::XattrCreate { fid, name, size, flags } => {
                new(T::Txattrcreate).fid(fid).name(name).n64(size.value()).n32((*flags).into())
            }
            M::Lock { fid, kind, flags, start, length, process, client } => new(T::Tlock)
                .fid(fid)
                .raw(&[*kind % 4])
                .n32((*flags).into())
                .n64(start.value())
                .n64(length.value())
                .n32((*process).into())
                .name(client),
            M::GetLock { fid, kind, start, length, process, client } => new(T::Tgetlock)
                .fid(fid)
                .raw(&[*kind % 4])
                .n64(start.value())
                .n64(length.value())
                .n32((*process).into())
                .name(client),
            M::Any { kind, body } => new(T::from(*kind)).raw(body),
        };
        bytes.end()
    }
}
