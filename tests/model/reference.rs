// SPDX-License-Identifier: MIT OR Apache-2.0

//! The reference: what the server should hold and answer, in plain memory. It knows POSIX and docs/protocol.md, and nothing of
//! volumes but that space may end.

mod answers;
mod attributes;
mod names;

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;

use super::content::Content;
use super::locks::{Locks, Range};
use super::request::Bytes;

/// Which file, of all that ever were.
pub type Id = usize;

/// What sort of file; the numbers are those of `S_IFMT`, shifted right by 12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Fifo = 1,
    CharacterDevice = 2,
    Directory = 4,
    BlockDevice = 6,
    Regular = 8,
    Symlink = 10,
    Socket = 12,
}

/// What is known of a time, in seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// Nothing.
    Any,
    /// It is this.
    Exactly(i64, u64),
    /// It was set, not before that second.
    Since(i64),
    /// It was set so, or still is that.
    Perhaps((i64, u64), i64),
}

impl When {
    /// It is set to the present, which is not before `now`.
    fn touch(&mut self, now: i64) {
        *self = Self::Since(now);
    }

    /// It may be set to the present.
    fn touch_perhaps(&mut self, now: i64) {
        if let Self::Exactly(seconds, nanoseconds) = *self {
            *self = Self::Perhaps((seconds, nanoseconds), now);
        }
    }

    /// The nanoseconds that are known.
    pub fn nanoseconds(&self) -> u64 {
        match *self {
            Self::Exactly(_, nanoseconds) | Self::Perhaps((_, nanoseconds), _) => nanoseconds,
            Self::Any | Self::Since(_) => 0,
        }
    }

    /// Whether a time that was seen is right; from then on it is known.
    pub fn see(&mut self, seen: (i64, u64), now: i64) -> bool {
        let is_new = |since: i64| (since..=now).contains(&seen.0);
        let right = match *self {
            Self::Any => true,
            Self::Exactly(seconds, nanoseconds) => seen == (seconds, nanoseconds),
            Self::Since(since) => is_new(since),
            Self::Perhaps(old, since) => seen == old || is_new(since),
        };
        *self = Self::Exactly(seen.0, seen.1);
        right
    }
}

/// A file.
#[derive(Debug, Clone)]
pub struct File {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub links: u64,
    /// Fids that keep it alive.
    pub opens: u32,
    pub parent: Id,
    pub entries: BTreeMap<Bytes, Id>,
    pub content: Content,
    pub target: Vec<u8>,
    pub attributes: BTreeMap<Bytes, Vec<u8>>,
    pub accessed: When,
    pub modified: When,
    pub changed: When,
    pub created: When,
    /// `qid.path` and `gen`, once seen.
    pub number: Option<u64>,
    pub generation: Option<u64>,
}

/// What a fid is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Path,
    Open { reads: bool, writes: bool, append: bool },
    AttributeNames,
    Attribute(Bytes),
    NewAttribute { name: Bytes, size: usize, flags: u32, value: Vec<u8> },
}

/// What a fid stands for.
#[derive(Debug, Clone)]
pub struct Handle {
    pub file: Id,
    pub kind: Kind,
    /// Where it was found, and by which name.
    pub directory: Id,
    pub name: Option<Bytes>,
    pub root: Id,
    pub uid: u32,
    pub state: State,
}

/// What a request has to go on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Circumstances {
    /// The second before it was sent.
    pub now: i64,
    /// What was free then: blocks for the user, and inodes.
    pub blocks: u64,
    pub inodes: u64,
    /// The error that was answered.
    pub error: Option<Errno>,
    /// How much was written.
    pub written: Option<u32>,
}

/// What should be answered. Files are compared by what is known of their numbers.
#[derive(Debug, Clone)]
pub enum Expected {
    Done,
    File(Id),
    Files(Vec<Id>),
    Opened(Id),
    Attributes(Id),
    Data(Vec<u8>),
    /// Names, each closed by a NUL, in any order.
    Names(BTreeSet<Bytes>),
    /// Part of something that has no fixed order.
    AnyData,
    Written(u32),
    Entries(Id),
    Size(u64),
    Locked(bool),
    /// Any of these.
    Held(Vec<Range>),
    Status,
}

/// The reference.
#[derive(Debug, Clone)]
pub struct Reference {
    pub files: BTreeMap<Id, File>,
    next: Id,
    pub root: Id,
    pub fids: BTreeMap<(usize, u32), Handle>,
    pub locks: Locks,
    pub block_size: u64,
    pub circumstances: Circumstances,
    /// Files whose attributes the last request may have changed.
    pub touched: BTreeSet<Id>,
    /// Each number with each generation that it ever had.
    pub seen: BTreeSet<(u64, u64)>,
    /// Inodes that files can have, free or not.
    pub free_inodes: u64,
}

impl File {
    fn new(kind: Kind, mode: u32, uid: u32, gid: u32, now: i64) -> Self {
        Self {
            kind,
            mode,
            uid,
            gid,
            rdev: 0,
            links: if kind == Kind::Directory { 2 } else { 1 },
            opens: 0,
            parent: 0,
            entries: BTreeMap::new(),
            content: Content::default(),
            target: Vec::new(),
            attributes: BTreeMap::new(),
            accessed: When::Since(now),
            modified: When::Since(now),
            changed: When::Since(now),
            created: When::Since(now),
            number: None,
            generation: None,
        }
    }
}

impl Reference {
    /// Of a volume that holds `lost+found` and nothing else.
    pub fn new(block_size: u64, free_inodes: u64) -> Self {
        let mut root = File::new(Kind::Directory, 0o755, 0, 0, 0);
        let mut lost_and_found = File::new(Kind::Directory, 0o700, 0, 0, 0);
        for file in [&mut root, &mut lost_and_found] {
            (file.accessed, file.modified, file.changed, file.created) =
                (When::Any, When::Any, When::Any, When::Any);
            file.parent = 2;
        }
        root.number = Some(2);
        root.links = 3;
        root.entries.insert(Bytes(b"lost+found".to_vec()), 3);
        Self {
            files: BTreeMap::from([(2, root), (3, lost_and_found)]),
            next: 4,
            root: 2,
            fids: BTreeMap::new(),
            locks: Locks::default(),
            block_size,
            circumstances: Circumstances::default(),
            touched: BTreeSet::new(),
            seen: BTreeSet::new(),
            free_inodes,
        }
    }

    /// The server was killed: all sessions are gone, and what only they kept.
    pub fn restart(&mut self) {
        self.fids.clear();
        self.locks = Locks::default();
        self.files.retain(|_, file| file.links > 0);
        self.files.values_mut().for_each(|file| file.opens = 0);
    }

    /// The file, if it is there.
    fn file(&self, id: Id) -> Result<&File, Errno> {
        self.files.get(&id).ok_or(Errno::STALE)
    }

    /// The file, which is there and is to be changed.
    fn change(&mut self, id: Id) -> &mut File {
        self.touched.insert(id);
        self.files.get_mut(&id).expect("the file was looked for before")
    }

    /// Whether space may end in something that takes `inodes` and up to `blocks`. It does so where that was answered.
    fn take(&self, inodes: u64, blocks: u64) -> Result<(), Errno> {
        let Circumstances { blocks: free, inodes: free_inodes, error, .. } = self.circumstances;
        let scarce = free < blocks || free_inodes < inodes;
        if scarce && error == Some(Errno::NOSPC) { Err(Errno::NOSPC) } else { Ok(()) }
    }

    /// What a fid stands for.
    fn any_fid(&self, session: usize, fid: u32) -> Result<&Handle, Errno> {
        self.fids.get(&(session, fid)).ok_or(Errno::BADF)
    }

    /// The same of a fid that stands for a file.
    fn fid(&self, session: usize, fid: u32) -> Result<Handle, Errno> {
        let handle = self.any_fid(session, fid)?;
        if matches!(handle.state, State::Path | State::Open { .. }) {
            Ok(handle.clone())
        } else {
            Err(Errno::BADF)
        }
    }

    /// Keeps a file alive.
    fn retain(&mut self, id: Id) -> Result<(), Errno> {
        self.file(id)?;
        self.files.entry(id).and_modify(|file| file.opens += 1);
        Ok(())
    }

    /// Ends a fid.
    fn clunk(&mut self, session: usize, fid: u32) {
        let Some(handle) = self.fids.remove(&(session, fid)) else { return };
        if matches!(handle.state, State::Open { .. }) {
            self.locks.release_fid(session, handle.file, fid);
        }
        if handle.state != State::Path {
            let file = self.files.get_mut(&handle.file).expect("a fid keeps it");
            file.opens -= 1;
            self.drop_if_gone(handle.file);
        }
    }

    /// Forgets a file without names that nobody keeps.
    fn drop_if_gone(&mut self, id: Id) {
        if self.files.get(&id).is_some_and(|file| file.links == 0 && file.opens == 0) {
            self.files.remove(&id);
            self.touched.remove(&id);
        }
    }

    /// Ends all of a session.
    pub fn end_session(&mut self, session: usize) {
        self.locks.release_session(session);
        let fids: Vec<u32> = self.fids.keys().filter(|key| key.0 == session).map(|key| key.1).collect();
        fids.into_iter().for_each(|fid| self.clunk(session, fid));
    }

    /// The fids of a session for which `suits` says so.
    pub fn fids_of(&self, session: usize, suits: impl Fn(&Handle) -> bool) -> Vec<u32> {
        let own = self.fids.range((session, 0)..(session + 1, 0));
        own.filter(|(_, handle)| suits(handle)).map(|((_, fid), _)| *fid).collect()
    }
}
