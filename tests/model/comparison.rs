// SPDX-License-Identifier: MIT OR Apache-2.0

//! A sequence, run against the server and the reference side by side.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use rustix::io::Errno;
use skerry::wire::{Qid, QidKind, Rgetattr};

use super::operation::Operation;
use super::reference::{Circumstances, Expected, Id, Kind, Reference, State};
use super::request::{Answer, Bytes, MSIZE, Reply, Request};
use super::resolver::{Resolver, attach};
use super::server::{Flavour, SESSIONS, Server, now};

/// The session that only looks.
const OBSERVER: usize = SESSIONS - 1;

/// What was tried.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub sequences: u64,
    pub requests: u64,
    pub errors: u64,
    pub no_space: u64,
    pub short_writes: u64,
    pub commits: u64,
    pub kills: u64,
    pub checks: u64,
    pub comparisons: u64,
}

/// A server, and what it should be like.
pub struct Pair {
    server: Server,
    reference: Reference,
    large_inodes: bool,
    pub counts: Counts,
    /// What was done.
    pub log: String,
}

fn qid_kind(kind: Kind) -> QidKind {
    match kind {
        Kind::Directory => QidKind::DIR,
        Kind::Symlink => QidKind::SYMLINK,
        _ => QidKind::empty(),
    }
}

/// An answer in short.
fn brief(answer: &Answer) -> String {
    match answer {
        Err(errno) => format!("{errno:?}"),
        Ok(Reply::Attributes(seen)) => format!(
            "mode {:o}, uid {}, gid {}, nlink {}, size {}, mtime {}, ctime {}",
            seen.mode, seen.uid, seen.gid, seen.nlink, seen.size, seen.mtime.sec, seen.ctime.sec
        ),
        Ok(Reply::Entries(entries)) => format!("{} entries", entries.len()),
        Ok(Reply::Qid(qid) | Reply::Opened(qid, _)) => format!("number {}", qid.path),
        Ok(Reply::Qids(qids)) => format!("numbers {:?}", qids.iter().map(|qid| qid.path).collect::<Vec<_>>()),
        Ok(other) => format!("{other:?}"),
    }
}

impl Pair {
    /// On a new volume.
    pub fn new(flavour: &Flavour) -> Result<Self, String> {
        let mut server = Server::new(flavour);
        let free_inodes = server.status().files_free;
        let mut pair = Self {
            server,
            reference: Reference::new(flavour.block_size, free_inodes + 2),
            large_inodes: flavour.large_inodes,
            counts: Counts::default(),
            log: String::new(),
        };
        pair.connect()?;
        pair.compare_all()?;
        Ok(pair)
    }

    fn connect(&mut self) -> Result<(), String> {
        for session in 0..SESSIONS {
            self.exchange(session, &Request::Version)?;
            self.exchange(session, &attach(session))?;
        }
        Ok(())
    }

    /// Runs a sequence to its end, and compares all that is left: the volume as it is left by a kill then, or by an orderly end.
    pub fn run(&mut self, sequence: &[Operation], killed: bool) -> Result<Vec<u8>, String> {
        for operation in sequence {
            self.carry_out(operation)?;
        }
        self.compare_all()?;
        let left = killed.then(|| self.server.left_by_kill());
        self.carry_out(&Operation::Rest)?;
        self.counts.sequences += 1;
        Ok(left.unwrap_or_else(|| self.server.left_by_rest()))
    }

    fn note(&mut self, what: &str) {
        self.log.push_str(what);
        self.log.push('\n');
    }

    fn carry_out(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::Commit => {
                self.note("commit");
                self.server.commit()?;
                self.counts.commits += 1;
            }
            Operation::Kill => {
                self.note("commit, kill, mount");
                self.server.commit()?;
                self.server.kill()?;
                self.counts.kills += 1;
                self.restarted()?;
            }
            Operation::Rest => {
                self.note("unmount, e2fsck, mount");
                self.server.rest()?;
                self.counts.checks += 1;
                self.restarted()?;
            }
            other => {
                let session = other.session().expect("it is a client's");
                let resolver = Resolver { reference: &self.reference, session };
                for request in resolver.requests(other) {
                    self.step(session, &request)?;
                }
            }
        }
        Ok(())
    }

    fn restarted(&mut self) -> Result<(), String> {
        self.reference.restart();
        self.connect()?;
        self.compare_all()
    }

    /// One request of a client, and a look at what it changed.
    fn step(&mut self, session: usize, request: &Request) -> Result<(), String> {
        // Which of several names goes is for the server to choose.
        if let Request::Rename { fid, .. } | Request::Remove { fid } = request
            && self.reference.places(session, *fid).is_ok_and(|(_, names)| names.len() > 1)
        {
            return Ok(());
        }
        let error = self.exchange(session, request)?;
        let length = self.log.len();
        for id in std::mem::take(&mut self.reference.touched) {
            self.compare_file(id)?;
            self.log.truncate(length);
        }
        if error == Some(Errno::NOSPC) {
            self.compare_all()?;
        }
        Ok(())
    }

    /// Sends a request, and compares the answer; the error that it is.
    fn exchange(&mut self, session: usize, request: &Request) -> Result<Option<Errno>, String> {
        let _ = write!(self.log, "{session}: {request:?}");
        let status = self.server.status();
        let before = now();
        let answer = self.server.handle(session, request)?;
        let _ = writeln!(self.log, " -> {}", brief(&answer));
        let user = self.reference.fids.get(&(session, 0)).map_or(0, |handle| handle.uid);
        self.reference.circumstances = Circumstances {
            now: before,
            blocks: if user == 0 { status.blocks_free } else { status.blocks_available },
            inodes: status.files_free,
            error: answer.as_ref().err().copied(),
            written: match &answer {
                Ok(Reply::Written(count)) => Some(*count),
                _ => None,
            },
        };
        let expected = self.reference.handle(session, request);
        if session != OBSERVER {
            self.counts.requests += 1;
            self.counts.errors += u64::from(answer.is_err());
            self.counts.no_space += u64::from(answer.as_ref().err() == Some(&Errno::NOSPC));
            if let (Request::Write { data, .. }, Ok(Reply::Written(count))) = (request, &answer) {
                self.counts.short_writes += u64::from((*count as usize) < data.0.len());
            }
        }
        let right = match (&expected, &answer) {
            (Err(expected), Err(answer)) => expected == answer,
            (Ok(expected), Ok(reply)) => self.compare(session, request, expected, reply)?,
            _ => false,
        };
        if right {
            return Ok(answer.err());
        }
        Err(format!("expected {expected:?}, with {status:?}"))
    }

    fn compare(
        &mut self,
        session: usize,
        request: &Request,
        expected: &Expected,
        reply: &Reply,
    ) -> Result<bool, String> {
        Ok(match (expected, reply) {
            (Expected::Done, Reply::Done) | (Expected::AnyData, Reply::Data(_)) => true,
            (Expected::File(id), Reply::Qid(qid)) => self.compare_qid(*id, *qid)?,
            (Expected::Files(ids), Reply::Qids(qids)) => {
                let mut right = ids.len() == qids.len();
                for (id, qid) in ids.iter().zip(qids) {
                    right &= self.compare_qid(*id, *qid)?;
                }
                right
            }
            (Expected::Opened(id), Reply::Opened(qid, iounit)) => {
                *iounit == MSIZE - 24 && self.compare_qid(*id, *qid)?
            }
            (Expected::Attributes(id), Reply::Attributes(attributes)) => {
                self.compare_attributes(*id, attributes)?
            }
            (Expected::Data(expected), Reply::Data(data)) => {
                if *expected != data.0 {
                    let at = expected.iter().zip(&data.0).position(|(expected, found)| expected != found);
                    return Err(format!(
                        "{} bytes expected, {} read; other from {at:?} on",
                        expected.len(),
                        data.0.len()
                    ));
                }
                true
            }
            (Expected::Names(names), Reply::Data(data)) => {
                let found: Vec<Bytes> = data
                    .0
                    .split_inclusive(|byte| *byte == 0)
                    .map(|name| Bytes(name[..name.len() - 1].to_vec()))
                    .collect();
                found.len() == names.len() && found.into_iter().collect::<BTreeSet<_>>() == *names
            }
            (Expected::Written(expected), Reply::Written(count)) => expected == count,
            (Expected::Size(expected), Reply::Size(size)) => expected == size,
            (Expected::Locked(expected), Reply::Locked(locked)) => expected == locked,
            (Expected::Held(expected), Reply::Held(held)) => match held {
                None => expected.is_empty(),
                Some(held) => expected.contains(held),
            },
            (Expected::Status, Reply::Status(status)) => {
                let live = self.reference.files.len() as u64;
                let right = status.ffree == self.reference.free_inodes - live
                    && status.bavail <= status.bfree
                    && status.bfree <= status.blocks
                    && u64::from(status.bsize) == self.reference.block_size
                    && status.namelen == 255;
                if !right {
                    return Err(format!("{live} inodes of {} in use", self.reference.free_inodes));
                }
                true
            }
            (Expected::Entries(id), Reply::Entries(_)) => {
                let root = self.reference.fids[&(session, request_fid(request))].root;
                self.compare_listing(session, *id, root, request)?
            }
            _ => false,
        })
    }

    /// Whether `qid` is the file's. The first time it is learned.
    fn compare_qid(&mut self, id: Id, qid: Qid) -> Result<bool, String> {
        let others =
            self.reference.files.iter().find(|(other, file)| **other != id && file.number == Some(qid.path));
        if others.is_some() {
            return Err(format!("{} is the number of another file", qid.path));
        }
        let file = self.reference.files.get_mut(&id).expect("it was answered");
        let number = *file.number.get_or_insert(qid.path);
        Ok(number == qid.path && qid_kind(file.kind) == qid.kind && qid.version != 0)
    }

    fn compare_attributes(&mut self, id: Id, seen: &Rgetattr) -> Result<bool, String> {
        if !self.compare_qid(id, seen.qid)? {
            return Ok(false);
        }
        let present = now();
        let large = self.large_inodes;
        let file = self.reference.files.get_mut(&id).expect("it was answered");
        let mode = (file.kind as u32) << 12 | file.mode;
        let expected = (mode, file.uid, file.gid, file.links, file.rdev);
        let found = (seen.mode, seen.uid, seen.gid, seen.nlink, seen.rdev);
        if expected != found {
            return Err(format!("mode, uid, gid, nlink, rdev are {found:?} and should be {expected:?}"));
        }
        let size = match file.kind {
            Kind::Regular => Some(file.content.size()),
            Kind::Symlink => Some(file.target.len() as u64),
            Kind::Directory => None,
            _ => Some(0),
        };
        if size.is_some_and(|size| size != seen.size) {
            return Err(format!("size is {} and should be {size:?}", seen.size));
        }
        let times = [
            ("atime", &mut file.accessed, seen.atime),
            ("mtime", &mut file.modified, seen.mtime),
            ("ctime", &mut file.changed, seen.ctime),
            ("btime", &mut file.created, seen.btime),
        ];
        for (name, expected, seen) in times {
            let is_creation = name == "btime";
            if is_creation && !large {
                continue;
            }
            let was = *expected;
            let nsec = if large { seen.nsec } else { expected.nanoseconds() };
            if !expected.see((seen.sec, nsec), present) {
                return Err(format!("{name} is {seen:?} and should be {was:?}"));
            }
        }
        match file.generation {
            Some(generation) if generation != seen.generation => {
                return Err("the generation changed".to_owned());
            }
            Some(_) => {}
            None => {
                file.generation = Some(seen.generation);
                if !self.reference.seen.insert((seen.qid.path, seen.generation)) {
                    return Err("another file had this number with this generation".to_owned());
                }
            }
        }
        Ok(true)
    }

    /// Reads a directory to its end, and compares.
    fn compare_listing(
        &mut self,
        session: usize,
        id: Id,
        root: Id,
        request: &Request,
    ) -> Result<bool, String> {
        let Request::ReadDir { fid, mut offset, count } = *request else { return Ok(false) };
        let mut expected = self.reference.listing(id, root);
        loop {
            let entries = match self.server.handle(session, &Request::ReadDir { fid, offset, count })? {
                Ok(Reply::Entries(entries)) => entries,
                // The next one may not fit.
                Err(Errno::INVAL) if expected.iter().any(|(name, _)| 24 + name.0.len() > count as usize) => {
                    return Ok(true);
                }
                other => return Err(format!("reading on from {offset}: {other:?}")),
            };
            let Some(last) = entries.last() else { break };
            offset = last.next;
            for entry in &entries {
                let Some(at) = expected.iter().position(|(name, _)| *name == entry.name) else {
                    return Err(format!("{:?} is there, and should not, or twice", entry.name));
                };
                let (_, id) = expected.swap_remove(at);
                let file = self.reference.files.get_mut(&id).expect("what has a name is there");
                let number = *file.number.get_or_insert(entry.qid.path);
                if number != entry.qid.path
                    || qid_kind(file.kind) != entry.qid.kind
                    || file.kind as u8 != entry.kind
                {
                    return Err(format!("{entry:?} should be {number}, a {:?}", file.kind));
                }
            }
        }
        if let Some((name, _)) = expected.first() {
            return Err(format!("{name:?} is not there"));
        }
        Ok(true)
    }

    /// The names from the root down to a file; `None` if it has none.
    fn path(&self, id: Id) -> Option<Vec<Bytes>> {
        let mut names = Vec::new();
        let mut at = id;
        while at != self.reference.root {
            let above = self.reference.files.iter().find_map(|(above, file)| {
                let name = file.entries.iter().find(|(_, named)| **named == at)?.0;
                Some((*above, name.clone()))
            });
            let (above, name) = above?;
            names.push(name);
            at = above;
        }
        names.reverse();
        Some(names)
    }

    /// Compares the attributes of a file, through a fid that has it open if it has no name.
    fn compare_file(&mut self, id: Id) -> Result<(), String> {
        let Some(path) = self.path(id).filter(|path| path.len() <= 16) else {
            let open = self
                .reference
                .fids
                .iter()
                .find(|(_, handle)| handle.file == id && matches!(handle.state, State::Open { .. }));
            if let Some(((session, fid), _)) = open {
                let (session, fid) = (*session, *fid);
                self.exchange(session, &Request::GetAttr { fid })?;
            }
            return Ok(());
        };
        self.exchange(OBSERVER, &Request::Walk { fid: 0, newfid: 1, names: path })?;
        self.exchange(OBSERVER, &Request::GetAttr { fid: 1 })?;
        self.exchange(OBSERVER, &Request::Clunk { fid: 1 })?;
        Ok(())
    }

    /// Compares everything that has a name, and what is open without.
    fn compare_all(&mut self) -> Result<(), String> {
        self.counts.comparisons += 1;
        let length = self.log.len();
        let open: Vec<_> = self
            .reference
            .fids
            .iter()
            .map(|((session, fid), handle)| (*session, *fid, handle.clone()))
            .collect();
        for (session, fid, handle) in open {
            let Some(file) = self.reference.files.get(&handle.file) else { continue };
            if let State::Open { reads: true, .. } = handle.state
                && file.links == 0
                && handle.kind == Kind::Regular
            {
                self.compare_content(session, fid, handle.file)?;
            }
        }
        self.exchange(OBSERVER, &Request::StatFs { fid: 0 })?;
        let mut left = vec![(self.reference.root, 0, 1)];
        let mut compared = BTreeSet::new();
        while let Some((id, above, depth)) = left.pop() {
            // From a fid of the directory above: paths may be long.
            let fid = depth;
            if id != self.reference.root {
                let name = self.reference.files[&above]
                    .entries
                    .iter()
                    .find(|(_, named)| **named == id)
                    .unwrap()
                    .0
                    .clone();
                self.exchange(OBSERVER, &Request::Walk { fid: depth - 1, newfid: fid, names: vec![name] })?;
            } else {
                self.exchange(OBSERVER, &Request::Walk { fid: 0, newfid: fid, names: Vec::new() })?;
            }
            self.compare_one(fid, id)?;
            compared.insert(id);
            let is_directory = self.reference.files[&id].kind == Kind::Directory;
            if is_directory {
                let entries: BTreeSet<Id> = self.reference.files[&id].entries.values().copied().collect();
                for child in entries {
                    if compared.contains(&child) {
                        continue;
                    }
                    if self.reference.files[&child].kind == Kind::Directory {
                        left.push((child, id, depth + 1));
                        continue;
                    }
                    let name = self.reference.files[&id]
                        .entries
                        .iter()
                        .find(|(_, named)| **named == child)
                        .unwrap()
                        .0
                        .clone();
                    self.exchange(OBSERVER, &Request::Walk { fid, newfid: fid + 1, names: vec![name] })?;
                    self.compare_one(fid + 1, child)?;
                    compared.insert(child);
                    self.exchange(OBSERVER, &Request::Clunk { fid: fid + 1 })?;
                }
            }
            // Fids of directories stay until those below them are done: of any depth there is one at a time.
            let next_depth = left.last().map_or(0, |(_, _, depth)| *depth);
            for done in (next_depth.max(1)..=fid).rev() {
                self.exchange(OBSERVER, &Request::Clunk { fid: done })?;
            }
        }
        self.log.truncate(length);
        Ok(())
    }

    /// Compares all of the file that `fid` of the observer stands for.
    fn compare_one(&mut self, fid: u32, id: Id) -> Result<(), String> {
        const SPARE: u32 = 400;
        self.exchange(OBSERVER, &Request::GetAttr { fid })?;
        let kind = self.reference.files[&id].kind;
        let names: Vec<Bytes> = self.reference.files[&id].attributes.keys().cloned().collect();
        for name in names.into_iter().chain([Bytes(Vec::new())]) {
            self.exchange(OBSERVER, &Request::XattrWalk { fid, newfid: SPARE, name })?;
            self.exchange(OBSERVER, &Request::Read { fid: SPARE, offset: 0, count: 60_000 })?;
            self.exchange(OBSERVER, &Request::Clunk { fid: SPARE })?;
        }
        if kind == Kind::Symlink {
            self.exchange(OBSERVER, &Request::ReadLink { fid })?;
        }
        if matches!(kind, Kind::Regular | Kind::Directory) {
            self.exchange(OBSERVER, &Request::Walk { fid, newfid: SPARE, names: Vec::new() })?;
            self.exchange(OBSERVER, &Request::Open { fid: SPARE, flags: 0 })?;
            if kind == Kind::Directory {
                self.exchange(OBSERVER, &Request::ReadDir { fid: SPARE, offset: 0, count: 60_000 })?;
            } else {
                self.compare_content(OBSERVER, SPARE, id)?;
            }
            self.exchange(OBSERVER, &Request::Clunk { fid: SPARE })?;
        }
        Ok(())
    }

    fn compare_content(&mut self, session: usize, fid: u32, id: Id) -> Result<(), String> {
        for (offset, count) in self.reference.files[&id].content.places(60_000) {
            let count = u32::try_from(count).unwrap();
            self.exchange(session, &Request::Read { fid, offset, count })?;
        }
        Ok(())
    }
}

fn request_fid(request: &Request) -> u32 {
    match request {
        Request::ReadDir { fid, .. } => *fid,
        _ => 0,
    }
}

impl Counts {
    /// Adds what else was tried.
    pub fn add(&mut self, more: &Self) {
        self.sequences += more.sequences;
        self.requests += more.requests;
        self.errors += more.errors;
        self.no_space += more.no_space;
        self.short_writes += more.short_writes;
        self.commits += more.commits;
        self.kills += more.kills;
        self.checks += more.checks;
        self.comparisons += more.comparisons;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} sequences, {} requests ({} errors, of these {} ENOSPC; {} short writes), {} commits, {} kills, \
             {} runs of e2fsck, {} comparisons of everything",
            self.sequences,
            self.requests,
            self.errors,
            self.no_space,
            self.short_writes,
            self.commits,
            self.kills,
            self.checks,
            self.comparisons,
        )
    }
}
