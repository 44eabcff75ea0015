// SPDX-License-Identifier: MIT OR Apache-2.0

//! From operations to requests: what their small numbers mean in the state of the moment.

use super::operation::Operation;
use super::reference::{Handle, Kind, Reference, State};
use super::request::{Bytes, Request, open, valid};

/// Fids that a session may use, beside 0, where it is attached.
const FIDS: u32 = 9;
/// Users of the sessions. The last one may not take what is reserved.
const USERS: [u32; 3] = [0, 0, 1000];

/// A name that is in no directory but by choice of `n`.
fn new_name(n: u8) -> Bytes {
    Bytes(match n % 100 {
        n @ 0..8 => vec![b'a' + n],
        8 => vec![b'l'; 60],
        9 => vec![b'x'; 255],
        10 => vec![b'y'; 255],
        11 => vec![b'z'; 256],
        12 => Vec::new(),
        13 => b".".to_vec(),
        14 => b"..".to_vec(),
        15 => b"sl/ash".to_vec(),
        _ => b"nul\0".to_vec(),
    })
}

fn xattr_name(n: u8) -> Bytes {
    Bytes(match n {
        0..4 => [b"user.".as_slice(), &[b'a' + n]].concat(),
        4 => [b"user.".as_slice(), &[b'n'; 250]].concat(),
        5 => b"trusted.overlay.opaque".to_vec(),
        // (Not `security.capability`: whoever is shown the volume by Linux gets no value of that which Linux would not set.)
        6 => b"security.label".to_vec(),
        7 => b"user.".to_vec(),
        8 => b"unknown.prefix".to_vec(),
        9 => vec![b'u'; 256],
        _ => b"user.colour".to_vec(),
    })
}

fn xattr_size(size: u8) -> u64 {
    match size {
        0..30 => 0,
        30..120 => u64::from(size - 29),
        120..180 => u64::from(size) * 3 - 250,
        180..230 => u64::from(size - 179) * 30,
        230..250 => u64::from(size - 230) * 200 + 50,
        250..254 => 5000,
        _ => 70_000,
    }
}

fn bytes(length: usize, seed: u8) -> Bytes {
    Bytes((0..length).map(|index| (index as u8).wrapping_mul(7) ^ (index >> 8) as u8 ^ seed | 1).collect())
}

fn flags(n: u8) -> u32 {
    let access = u32::from([2u8, 2, 2, 0, 0, 1, 2, 3][usize::from(n & 7)]);
    let more = [0, 0, 0, open::TRUNC, open::APPEND, 0, open::DSYNC, open::EXCL];
    access | more[usize::from(n >> 3 & 7)] | if n >> 6 == 3 && n & 8 != 0 { open::DIRECTORY } else { 0 }
}

fn offset(n: u8, size: u64) -> u64 {
    match n {
        0..40 => 0,
        40..80 => size,
        80..120 => u64::from(n - 80) * 511,
        120..170 => u64::from(n - 120) * 1024,
        170..200 => u64::from(n - 170) * 4096,
        200..230 => size.saturating_sub(u64::from(n - 200) * 300),
        230..250 => u64::from(n - 230) * 7001 + 200_000,
        250 => 1 << 31,
        251 => (1 << 32) * 1023 + 900,
        252 => (1 << 44) - 5000,
        253 => 1 << 45,
        254 => (1 << 63) - 10,
        _ => 1 << 63,
    }
}

fn length(n: u8) -> usize {
    let n = usize::from(n);
    match n {
        0..100 => n * 3,
        100..160 => (n - 99) * 257,
        160..200 => (n - 159) * 1024,
        200..240 => (n - 199) * 1536 + 1,
        240..250 => 4096 * (n - 239),
        _ => 65_536,
    }
}

/// Chooses of `from`.
fn choose<T: Copy>(from: &[T], n: u8) -> Option<T> {
    from.get(usize::from(n) % from.len().max(1)).copied()
}

/// Turns operations into requests.
pub struct Resolver<'a> {
    pub reference: &'a Reference,
    pub session: usize,
}

impl Resolver<'_> {
    /// A fid that `suits`, mostly.
    fn fid(&self, n: u8, suits: impl Fn(&Handle) -> bool) -> u32 {
        if n >= 240 {
            return u32::from(n) % (FIDS + 2);
        }
        choose(&self.reference.fids_of(self.session, suits), n).unwrap_or(0)
    }

    fn directory(&self, n: u8) -> u32 {
        self.fid(n, |handle| {
            handle.kind == Kind::Directory && matches!(handle.state, State::Path | State::Open { .. })
        })
    }

    fn path(&self, n: u8) -> u32 {
        self.fid(n, |handle| handle.state == State::Path)
    }

    fn file(&self, n: u8) -> u32 {
        self.fid(n, |handle| matches!(handle.state, State::Path | State::Open { .. }))
    }

    fn open(&self, n: u8) -> u32 {
        self.fid(n, |handle| matches!(handle.state, State::Open { .. }))
    }

    fn written(&self, n: u8) -> u32 {
        self.fid(n, |handle| match handle.state {
            State::Open { writes, .. } => writes,
            State::NewAttribute { .. } => true,
            _ => false,
        })
    }

    /// A fid that is free; if there is none, one is clunked for it.
    fn free(&self, requests: &mut Vec<Request>) -> u32 {
        let in_use = self.reference.fids_of(self.session, |_| true);
        match (1..=FIDS).find(|fid| !in_use.contains(fid)) {
            Some(fid) => fid,
            None => {
                let fid = in_use[1 + self.reference.files.len() % (in_use.len() - 1)];
                requests.push(Request::Clunk { fid });
                fid
            }
        }
    }

    /// A name: from 100 on one that the directory of `fid` has, if it has any.
    fn name(&self, n: u8, fid: u32) -> Bytes {
        let directory = self.reference.fids.get(&(self.session, fid)).map(|handle| handle.file);
        let entries = directory.and_then(|id| self.reference.files.get(&id)).map(|file| &file.entries);
        match entries {
            Some(entries) if n >= 100 && !entries.is_empty() => {
                entries.keys().nth(usize::from(n - 100) % entries.len()).unwrap().clone()
            }
            _ => new_name(n),
        }
    }

    fn size(&self, fid: u32) -> u64 {
        let id = self.reference.fids.get(&(self.session, fid)).map(|handle| handle.file);
        id.and_then(|id| self.reference.files.get(&id)).map_or(0, |file| file.content.size())
    }

    fn clone_fid(&self, fid: u32, requests: &mut Vec<Request>) -> u32 {
        let newfid = self.free(requests);
        requests.push(Request::Walk { fid, newfid, names: Vec::new() });
        newfid
    }

    /// The requests that an operation comes to.
    pub fn requests(&self, operation: &Operation) -> Vec<Request> {
        use Operation as O;
        let mut requests = Vec::new();
        let gid = 100;
        let request = match operation {
            O::Walk { f, n, .. } => {
                let fid = self.file(*f);
                let newfid = if *f >= 240 { fid } else { self.free(&mut requests) };
                let mut names = Vec::new();
                let mut at = self.reference.fids.get(&(self.session, fid)).map(|handle| handle.file);
                for n in n {
                    let directory = at.and_then(|id| self.reference.files.get(&id));
                    let entries = directory
                        .map(|file| &file.entries)
                        .filter(|entries| !entries.is_empty() && *n >= 100);
                    let name = match entries {
                        Some(entries) => {
                            entries.keys().nth(usize::from(n - 100) % entries.len()).unwrap().clone()
                        }
                        None => new_name(if *n == 108 { 14 } else { *n }),
                    };
                    at = directory.and_then(|file| file.entries.get(&name)).copied();
                    names.push(name);
                }
                Request::Walk { fid, newfid, names }
            }
            O::Open { f, flags: n, .. } => Request::Open { fid: self.path(*f), flags: flags(*n) },
            O::WalkOpen { d, n, flags: bits, .. } => {
                let fid = self.directory(*d);
                let newfid = self.free(&mut requests);
                let name = self.name(*n, fid);
                let found = self.reference.fids.get(&(self.session, fid)).and_then(|handle| {
                    let id = self.reference.files.get(&handle.file)?.entries.get(&name)?;
                    self.reference.files.get(id)
                });
                let is_directory = found.is_some_and(|file| file.kind == Kind::Directory);
                requests.push(Request::Walk { fid, newfid, names: vec![name] });
                Request::Open { fid: newfid, flags: if is_directory { 0 } else { flags(*bits) } }
            }
            O::Create { d, n, flags: bits, mode, .. } => {
                let fid = self.directory(*d);
                let name = self.name(*n, fid);
                let newfid = self.clone_fid(fid, &mut requests);
                let mode = u32::from(*mode & 0o7777);
                Request::Create { fid: newfid, name, flags: flags(*bits) | 0o100, mode, gid }
            }
            O::Symlink { d, n, length, .. } => {
                let fid = self.directory(*d);
                let target = bytes(usize::from(*length), *n);
                Request::Symlink { fid, name: self.name(*n, fid), target, gid }
            }
            O::Mknod { d, n, kind, device, .. } => {
                let dfid = self.directory(*d);
                let kind = [1, 2, 6, 12, 8, 0, 1, 2, 6, 12, 1, 2, 6, 12, 4, 10][usize::from(*kind)];
                let (major, minor) = match device % 4 {
                    0 => (device >> 8 & 0xff, device >> 16 & 0xff),
                    1 => (0x1fff, 0),
                    _ => (device >> 4 & 0xfff, device >> 8 & 0xf_ffff),
                };
                let mode = kind << 12 | device >> 20 & 0o7777;
                Request::Mknod { dfid, name: self.name(*n, dfid), mode, major, minor, gid }
            }
            O::Mkdir { d, n, mode, .. } => {
                let dfid = self.directory(*d);
                Request::Mkdir {
                    dfid,
                    name: self.name(*n, dfid),
                    mode: 0o40_000 | u32::from(*mode & 0o7777),
                    gid,
                }
            }
            O::Link { d, f, n, .. } => {
                let dfid = self.directory(*d);
                let fid = self.fid(*f, |handle| {
                    handle.kind != Kind::Directory && matches!(handle.state, State::Path | State::Open { .. })
                });
                Request::Link { dfid, fid, name: self.name(*n, dfid) }
            }
            O::Rename { f, d, n, .. } => {
                let (fid, dfid) = (self.file(*f), self.directory(*d));
                Request::Rename { fid, dfid, name: self.name(*n, dfid) }
            }
            O::RenameAt { from, old, to, new, .. } => {
                let (olddirfid, newdirfid) = (self.directory(*from), self.directory(*to));
                let (oldname, newname) = (self.name(*old, olddirfid), self.name(*new, newdirfid));
                Request::RenameAt { olddirfid, oldname, newdirfid, newname }
            }
            O::UnlinkAt { d, n, flags, .. } => {
                let dirfd = self.directory(*d);
                let name = self.name(*n, dirfd);
                let listing = self.reference.fids.get(&(self.session, dirfd)).map(|handle| handle.file);
                let found = listing.and_then(|id| self.reference.files.get(&id)?.entries.get(&name));
                let is_directory = found
                    .and_then(|id| self.reference.files.get(id))
                    .is_some_and(|file| file.kind == Kind::Directory);
                let flags = match flags {
                    0 => 0x201,
                    1 => 0,
                    2 => 0x200,
                    _ => u32::from(is_directory) * 0x200,
                };
                Request::UnlinkAt { dirfd, name, flags }
            }
            O::Remove { f, .. } => Request::Remove { fid: self.file(*f).max(1) },
            O::GetAttr { f, .. } => Request::GetAttr { fid: self.file(*f) },
            O::SetAttr { f, valid: n, mode, size, time, .. } => {
                let fid = self.file(*f);
                let n = u32::from(*n);
                let asked = match n % 4 {
                    0 => n >> 4 & 0x1ff,
                    1 => valid::SIZE | n >> 4 & (valid::MTIME | valid::CTIME),
                    2 => n >> 4 & (valid::MODE | valid::UID | valid::GID | valid::CTIME),
                    _ => n >> 4 & 0x1f7,
                };
                let size = offset(*size, self.size(fid));
                let time = i64::from(*time);
                let (atime, mtime) = ((time * 7_000_000 - 9, 999_999_999), (time * 3, 1));
                let (uid, gid) = (n >> 6, n >> 3 | 0x1_0000);
                Request::SetAttr { fid, valid: asked, mode: (*mode).into(), uid, gid, size, atime, mtime }
            }
            O::Write { f, offset: at, length: n, seed, .. } => {
                let fid = self.written(*f);
                let handle = self.reference.fids.get(&(self.session, fid));
                let (offset, n) = match handle.map(|handle| &handle.state) {
                    Some(State::NewAttribute { size, value, .. }) => {
                        let left = size - value.len();
                        (value.len() as u64 + u64::from(*at == 7), left.min(length(*n).max(left / 2)))
                    }
                    _ => (offset(*at, self.size(fid)), length(*n)),
                };
                Request::Write { fid, offset, data: bytes(n, *seed) }
            }
            O::Read { f, offset: at, length: n, .. } => {
                let fid = self.fid(*f, |handle| handle.state != State::Path);
                Request::Read { fid, offset: offset(*at, self.size(fid)), count: length(*n) as u32 }
            }
            O::List { f, count, .. } => {
                let fid = self.fid(*f, |handle| {
                    handle.kind == Kind::Directory && matches!(handle.state, State::Open { .. })
                });
                let count = if *count % 8 == 0 { u32::from(*count) } else { 300 + u32::from(*count) * 60 };
                Request::ReadDir { fid, offset: 0, count }
            }
            O::ReadLink { f, .. } => {
                Request::ReadLink { fid: self.fid(*f, |handle| handle.kind == Kind::Symlink) }
            }
            O::StatFs { .. } => Request::StatFs { fid: 0 },
            O::Fsync { f, .. } => Request::Fsync { fid: self.open(*f) },
            O::Clunk { f, .. } => {
                Request::Clunk { fid: self.fid(*f, |handle| handle.state != State::Path).max(1) }
            }
            O::Attach { n, .. } => {
                let fid = self.free(&mut requests);
                let name = self.name(*n, 0);
                let plain = name.0.iter().all(u8::is_ascii_lowercase) && (1..255).contains(&name.0.len());
                let aname = Bytes(if plain { [b"/", &name.0[..]].concat() } else { Vec::new() });
                Request::Attach { fid, aname, n_uname: USERS[self.session] }
            }
            O::Version { .. } => {
                requests.push(Request::Version);
                attach(self.session)
            }
            O::Flush { .. } => Request::Flush,
            O::XattrWalk { f, n, .. } => {
                let fid = self.file(*f);
                let newfid = self.free(&mut requests);
                let name = if *n >= 10 { Bytes(Vec::new()) } else { xattr_name(*n) };
                requests.push(Request::XattrWalk { fid, newfid, name });
                Request::Read { fid: newfid, offset: 0, count: 60_000 }
            }
            O::XattrCreate { f, n, size, flags, .. } => Request::XattrCreate {
                fid: self.path(*f).max(1),
                name: xattr_name(*n),
                size: xattr_size(*size),
                flags: u32::from([0u8, 0, 0, 0, 1, 2, 1, 3][usize::from(*flags & 7)]),
            },
            O::SetXattr { f, n, size, flags, .. } => {
                let fid = self.file(*f);
                let newfid = self.clone_fid(fid, &mut requests);
                let size = xattr_size(*size).min(5000);
                let flags = u32::from([0u8, 0, 0, 0, 0, 1, 2, 0][usize::from(*flags & 7)]);
                requests.push(Request::XattrCreate { fid: newfid, name: xattr_name(*n), size, flags });
                if size > 0 {
                    // The flags are no part of the value: what is set twice is the same.
                    let data = bytes(size as usize, *n);
                    requests.push(Request::Write { fid: newfid, offset: 0, data });
                }
                Request::Clunk { fid: newfid }
            }
            O::Lock { f, kind, start, length, process, .. } => Request::Lock {
                fid: self.open(*f),
                write: [None, Some(false), Some(true)][usize::from(*kind)],
                start: (*start).into(),
                length: (*length).into(),
                process: (*process).into(),
            },
            O::GetLock { f, write, start, length, process, .. } => Request::GetLock {
                fid: self.open(*f),
                write: *write,
                start: (*start).into(),
                length: (*length).into(),
                process: (*process).into(),
            },
            O::Contend { f, write, start, length, process, clunk, .. } => {
                let fid = self.open(*f);
                let newfid = self.clone_fid(fid, &mut requests);
                let (start, length, process) = (u64::from(*start), u64::from(*length), u32::from(*process));
                requests.push(Request::Open { fid: newfid, flags: 0 });
                requests.push(Request::Lock { fid: newfid, write: Some(*write), start, length, process });
                let look = Request::GetLock { fid, write: true, start: 0, length: 0, process: process + 1 };
                requests.push(look.clone());
                if *clunk {
                    requests.push(Request::Clunk { fid: newfid });
                }
                look
            }
            O::Fill { d, f, count, .. } => {
                let dfid = self.directory(*d);
                let fid = self.fid(*f, |handle| {
                    handle.kind != Kind::Directory && matches!(handle.state, State::Path | State::Open { .. })
                });
                return (0..*count)
                    .map(|number| Request::Link {
                        dfid,
                        fid,
                        name: Bytes([vec![b'f'; 150], vec![number + 1]].concat()),
                    })
                    .filter(|request| !matches!(request, Request::Link { name, .. } if name.0[150] == b'/'))
                    .collect();
            }
            O::Drain { d, count, skip, .. } => {
                let dirfd = self.directory(*d);
                return (0..*count)
                    .step_by(usize::from(*skip) + 1)
                    .filter(|number| number + 1 != b'/')
                    .map(|number| Request::UnlinkAt {
                        dirfd,
                        name: Bytes([vec![b'f'; 150], vec![number + 1]].concat()),
                        flags: 0,
                    })
                    .collect();
            }
            O::Comb { f, start, count, seed, .. } => {
                let fid = self.written(*f);
                let step = self.reference.block_size * 2;
                let first = u64::from(*start) * self.reference.block_size;
                return (0..u64::from(*count))
                    .map(|tooth| Request::Write { fid, offset: first + tooth * step, data: bytes(3, *seed) })
                    .collect();
            }
            O::Hog { n, .. } => {
                let newfid = self.clone_fid(0, &mut requests);
                let name = new_name(*n % 8);
                requests.push(Request::Create { fid: newfid, name, flags: 2, mode: 0o644, gid });
                let left = self.reference.circumstances.blocks * self.reference.block_size;
                for number in 0..left / 65_536 + 2 {
                    let offset = number * 65_536;
                    requests.push(Request::Write { fid: newfid, offset, data: bytes(65_536, *n) });
                }
                return requests;
            }
            O::Commit | O::Kill | O::Rest => return requests,
        };
        requests.push(request);
        requests
    }
}

/// How a session begins, after Tversion.
pub fn attach(session: usize) -> Request {
    Request::Attach { fid: 0, aname: Bytes(Vec::new()), n_uname: USERS.get(session).copied().unwrap_or(0) }
}
