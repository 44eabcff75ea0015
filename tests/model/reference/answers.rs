// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is answered to each request.

use rustix::io::Errno;

use super::names::Making;
use super::{Expected, Kind, Reference, State};
use crate::model::request::{Bytes, Request};

/// No write is cut for another reason than space before it has so many pieces of content.
const PIECES: u64 = 30;

impl Reference {
    /// Does what `request` asks, and says what is answered.
    pub fn handle(&mut self, session: usize, request: &Request) -> Result<Expected, Errno> {
        match request {
            Request::Version => {
                self.end_session(session);
                Ok(Expected::Done)
            }
            Request::Flush => Ok(Expected::Done),
            Request::Attach { fid, aname, n_uname } => self.attach(session, *fid, aname, *n_uname),
            Request::Walk { fid, newfid, names } => self.walk(session, *fid, *newfid, names),
            Request::Open { fid, flags } => self.open(session, *fid, *flags),
            Request::Create { fid, name, flags, mode, gid } => {
                self.create(session, *fid, name, *flags, (*mode, *gid))
            }
            Request::Symlink { fid, name, target, gid } => {
                let parent = self.fid(session, *fid)?;
                match target.0.len() {
                    0 => return Err(Errno::NOENT),
                    4096.. => return Err(Errno::NAMETOOLONG),
                    _ => {}
                }
                let making = Making::Target(target.0.clone());
                self.make_named(&parent, name, Kind::Symlink, (0o777, *gid), making)
            }
            Request::Mknod { dfid, name, mode, major, minor, gid } => {
                let parent = self.fid(session, *dfid)?;
                let kind = match mode >> 12 {
                    0 | 8 => Kind::Regular,
                    1 => Kind::Fifo,
                    2 => Kind::CharacterDevice,
                    6 => Kind::BlockDevice,
                    12 => Kind::Socket,
                    _ => return Err(Errno::INVAL),
                };
                let making = match kind {
                    Kind::CharacterDevice | Kind::BlockDevice => {
                        if *major > 0xfff || *minor > 0xf_ffff {
                            return Err(Errno::INVAL);
                        }
                        let low = minor & 0xff | major << 8;
                        Making::Device(u64::from(low | (minor & 0xf_ff00) << 12))
                    }
                    _ => Making::Plain,
                };
                self.make_named(&parent, name, kind, (*mode, *gid), making)
            }
            Request::Mkdir { dfid, name, mode, gid } => {
                let parent = self.fid(session, *dfid)?;
                self.make_named(&parent, name, Kind::Directory, (*mode, *gid), Making::Plain)
            }
            Request::Link { dfid, fid, name } => self.link(session, *dfid, *fid, name),
            Request::Rename { fid, dfid, name } => self.rename(session, *fid, *dfid, name),
            Request::RenameAt { olddirfid, oldname, newdirfid, newname } => {
                self.rename_at(session, (*olddirfid, oldname), (*newdirfid, newname))
            }
            Request::UnlinkAt { dirfd, name, flags } => self.unlink_at(session, *dirfd, name, *flags),
            Request::Remove { fid } => self.remove(session, *fid),
            Request::GetAttr { fid } => {
                let id = self.fid(session, *fid)?.file;
                self.file(id)?;
                Ok(Expected::Attributes(id))
            }
            Request::SetAttr { fid, valid, mode, uid, gid, size, atime, mtime } => {
                self.set_attributes(session, *fid, *valid, (*mode, *uid, *gid), *size, (*atime, *mtime))
            }
            Request::StatFs { fid } => self.fid(session, *fid).map(|_| Expected::Status),
            Request::Read { fid, offset, count } => self.read(session, *fid, *offset, *count),
            Request::Write { fid, offset, data } => self.write(session, *fid, *offset, &data.0),
            Request::ReadDir { fid, count, .. } => {
                let handle = self.fid(session, *fid)?;
                match handle.state {
                    State::Open { reads: true, .. } => {}
                    _ => return Err(Errno::BADF),
                }
                if handle.kind != Kind::Directory {
                    return Err(Errno::NOTDIR);
                }
                if self.file(handle.file)?.links == 0 {
                    return Err(Errno::NOENT);
                }
                // As much takes `.`, which comes first.
                if *count < 25 { Err(Errno::INVAL) } else { Ok(Expected::Entries(handle.file)) }
            }
            Request::ReadLink { fid } => {
                let id = self.fid(session, *fid)?.file;
                let file = self.file(id)?;
                if file.kind != Kind::Symlink {
                    return Err(Errno::INVAL);
                }
                Ok(Expected::Data(file.target.clone()))
            }
            Request::Fsync { fid } => match self.fid(session, *fid)?.state {
                State::Open { .. } => Ok(Expected::Done),
                _ => Err(Errno::BADF),
            },
            Request::Clunk { fid } => {
                let handle = self.any_fid(session, *fid)?.clone();
                let set = match handle.state {
                    State::NewAttribute { name, size, flags, value } => {
                        let value = (value.len() == size).then_some(value);
                        self.set_attribute(handle.file, &name, flags, value)
                    }
                    _ => Ok(()),
                };
                self.clunk(session, *fid);
                set.map(|()| Expected::Done)
            }
            Request::XattrWalk { fid, newfid, name } => self.xattr_walk(session, *fid, *newfid, name),
            Request::XattrCreate { fid, name, size, flags } => {
                self.xattr_create(session, *fid, name, *size, *flags)
            }
            Request::Lock { fid, write, start, length, process } => {
                let handle = self.fid(session, *fid)?;
                if !matches!(handle.state, State::Open { .. }) {
                    return Err(Errno::BADF);
                }
                let owner = (session, *process);
                let granted = self.locks.set((handle.file, *fid), owner, *write, (*start, *length));
                Ok(Expected::Locked(granted))
            }
            Request::GetLock { fid, write, start, length, process } => {
                let handle = self.fid(session, *fid)?;
                if !matches!(handle.state, State::Open { .. }) {
                    return Err(Errno::BADF);
                }
                let owner = (session, *process);
                Ok(Expected::Held(self.locks.conflicts(handle.file, owner, *write, *start, *length)))
            }
        }
    }

    fn read(&mut self, session: usize, fid: u32, offset: u64, count: u32) -> Result<Expected, Errno> {
        let handle = self.any_fid(session, fid)?;
        if i64::try_from(offset).is_err() {
            return Err(Errno::INVAL);
        }
        let part = |all: &[u8]| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(all.len());
            let end = start.saturating_add(count as usize).min(all.len());
            all[start..end].to_vec()
        };
        match &handle.state {
            State::Open { reads: false, .. } | State::Path | State::NewAttribute { .. } => Err(Errno::BADF),
            State::Open { .. } if handle.kind == Kind::Directory => Err(Errno::ISDIR),
            State::Open { .. } => {
                Ok(Expected::Data(self.file(handle.file)?.content.read(offset, count as usize)))
            }
            State::Attribute(name) => {
                self.attribute(handle.file, name).map(|value| Expected::Data(part(value)))
            }
            State::AttributeNames if offset == 0 && count > 10_000 => {
                self.attribute_names(handle.file).map(Expected::Names)
            }
            State::AttributeNames => Ok(Expected::AnyData),
        }
    }

    fn write(&mut self, session: usize, fid: u32, offset: u64, data: &[u8]) -> Result<Expected, Errno> {
        if let Some(handle) = self.fids.get_mut(&(session, fid))
            && let State::NewAttribute { size, value, .. } = &mut handle.state
        {
            if offset != value.len() as u64 {
                return Err(Errno::INVAL);
            }
            if value.len() + data.len() > *size {
                return Err(Errno::NOSPC);
            }
            value.extend_from_slice(data);
            return Ok(Expected::Written(data.len() as u32));
        }
        let handle = self.fid(session, fid)?;
        let State::Open { writes: true, append, .. } = handle.state else { return Err(Errno::BADF) };
        let end = offset.checked_add(data.len() as u64);
        if !append && end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Errno::FBIG);
        }
        let (longest, now) = (self.longest(), self.circumstances.now);
        let size = self.file(handle.file)?.content.size();
        if data.is_empty() {
            return Ok(Expected::Written(0));
        }
        let offset = if append { size } else { offset };
        if offset >= longest {
            return Err(Errno::FBIG);
        }
        let data = &data[..data.len().min(usize::try_from(longest - offset).unwrap_or(usize::MAX))];
        let needed = data.len() as u64 / self.block_size + 2;
        self.take(0, needed + 8)?;
        let scarce = self.circumstances.blocks < needed + 8;
        let written = match self.circumstances.written {
            Some(count) if count > 0 && (count as usize) < data.len() => {
                let many_pieces = u64::from(count) > PIECES * self.block_size;
                if scarce || many_pieces { count as usize } else { data.len() }
            }
            _ => data.len(),
        };
        let file = self.change(handle.file);
        file.content.write(offset, &data[..written]);
        file.modified.touch(now);
        file.changed.touch(now);
        file.drop_set_id(handle.uid != 0);
        Ok(Expected::Written(written as u32))
    }

    /// All names of a directory with what they name, as Treaddir has them.
    pub fn listing(&self, id: super::Id, root: super::Id) -> Vec<(Bytes, super::Id)> {
        let directory = &self.files[&id];
        let above = if id == root { id } else { directory.parent };
        let dots = [(Bytes(b".".to_vec()), id), (Bytes(b"..".to_vec()), above)];
        dots.into_iter().chain(directory.entries.iter().map(|(name, id)| (name.clone(), *id))).collect()
    }
}
