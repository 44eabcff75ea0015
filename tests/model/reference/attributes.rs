// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attributes, the common ones and the extended ones.

use std::collections::BTreeSet;

use rustix::io::Errno;

use super::{Expected, File, Handle, Id, Kind, Reference, State, When};
use crate::model::request::{Bytes, valid};

const CREATE: u32 = 1;
const REPLACE: u32 = 2;
const PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

impl File {
    /// Takes the set-id bits away, if `really`.
    pub(super) fn drop_set_id(&mut self, really: bool) {
        if really {
            self.mode &= if self.mode & 0o10 != 0 { !0o6000 } else { !0o4000 };
        }
    }
}

/// Whether an attribute of that name can be; `None` if its kind is not known at all.
fn has_prefix(name: &Bytes) -> Option<bool> {
    let prefix = PREFIXES.iter().find(|prefix| name.0.starts_with(prefix))?;
    Some(name.0.len() > prefix.len())
}

impl Reference {
    pub(super) fn set_attributes(
        &mut self,
        session: usize,
        fid: u32,
        asked: u32,
        (mode, uid, gid): (u32, u32, u32),
        size: u64,
        (atime, mtime): ((i64, u64), (i64, u64)),
    ) -> Result<Expected, Errno> {
        let handle = self.fid(session, fid)?;
        let has = |bit| asked & bit != 0;
        if has(valid::SIZE) && i64::try_from(size).is_err() {
            return Err(Errno::FBIG);
        }
        if has(valid::SIZE) {
            match handle.kind {
                Kind::Regular => {}
                Kind::Directory => return Err(Errno::ISDIR),
                _ => return Err(Errno::INVAL),
            }
        }
        if asked
            & (valid::MODE
                | valid::UID
                | valid::GID
                | valid::SIZE
                | valid::ATIME
                | valid::MTIME
                | valid::CTIME)
            == 0
        {
            return Ok(Expected::Done);
        }
        self.file(handle.file)?;
        let now = self.circumstances.now;
        if has(valid::SIZE) {
            if size > self.longest() {
                return Err(Errno::FBIG);
            }
            self.take(0, 8)?;
            let file = self.change(handle.file);
            file.content.resize(size);
            file.modified.touch(now);
        }
        let file = self.change(handle.file);
        file.changed.touch(now);
        if has(valid::MODE) {
            file.mode = mode & 0o7777;
        } else {
            let owned_anew = has(valid::UID) || has(valid::GID);
            let cut = has(valid::SIZE) && handle.uid != 0;
            file.drop_set_id((owned_anew || cut) && handle.kind != Kind::Directory);
        }
        if has(valid::UID) {
            file.uid = uid;
        }
        if has(valid::GID) {
            file.gid = gid;
        }
        let time =
            |set, time: (i64, u64)| if has(set) { When::Exactly(time.0, time.1) } else { When::Since(now) };
        if has(valid::ATIME) {
            file.accessed = time(valid::ATIME_SET, atime);
        }
        if has(valid::MTIME) {
            file.modified = time(valid::MTIME_SET, mtime);
        }
        Ok(Expected::Done)
    }

    /// The longest size that a file can have.
    pub(super) fn longest(&self) -> u64 {
        self.block_size * u64::from(u32::MAX)
    }

    pub(super) fn xattr_walk(
        &mut self,
        session: usize,
        fid: u32,
        newfid: u32,
        name: &Bytes,
    ) -> Result<Expected, Errno> {
        let handle = self.fid(session, fid)?;
        if self.fids.contains_key(&(session, newfid)) {
            return Err(Errno::BADF);
        }
        if name.0.len() > 255 {
            return Err(Errno::RANGE);
        }
        let (state, size) = if name.0.is_empty() {
            let file = self.file(handle.file)?;
            (State::AttributeNames, file.attributes.keys().map(|name| name.0.len() as u64 + 1).sum())
        } else {
            // Linux cannot bear that an attribute is asked for of a file that is gone.
            let value = self.attribute(handle.file, name);
            let value = value.map_err(|error| if error == Errno::STALE { Errno::NODATA } else { error })?;
            (State::Attribute(name.clone()), value.len() as u64)
        };
        self.retain(handle.file)?;
        self.fids.insert((session, newfid), Handle { state, ..handle });
        Ok(Expected::Size(size))
    }

    pub(super) fn attribute(&self, id: Id, name: &Bytes) -> Result<&[u8], Errno> {
        let file = self.file(id)?;
        has_prefix(name).ok_or(Errno::OPNOTSUPP)?;
        file.attributes.get(name).map(|value| &value[..]).ok_or(Errno::NODATA)
    }

    pub(super) fn attribute_names(&self, id: Id) -> Result<BTreeSet<Bytes>, Errno> {
        Ok(self.file(id)?.attributes.keys().cloned().collect())
    }

    pub(super) fn xattr_create(
        &mut self,
        session: usize,
        fid: u32,
        name: &Bytes,
        size: u64,
        flags: u32,
    ) -> Result<Expected, Errno> {
        let handle = self.fid(session, fid)?;
        if handle.state != State::Path {
            return Err(Errno::INVAL);
        }
        if name.0.is_empty() || name.0.len() > 255 {
            return Err(Errno::RANGE);
        }
        if size > 65_536 {
            return Err(Errno::TOOBIG);
        }
        if flags > REPLACE {
            return Err(Errno::INVAL);
        }
        let is_large =
            |handle: &&Handle| matches!(handle.state, State::NewAttribute { size, .. } if size > 4096);
        let own = self.fids.iter().filter(|((other, _), _)| *other == session).map(|(_, handle)| handle);
        if size > 4096 && own.filter(is_large).count() >= 2 {
            return Err(Errno::NOMEM);
        }
        self.retain(handle.file)?;
        let state = State::NewAttribute { name: name.clone(), size: size as usize, flags, value: Vec::new() };
        self.fids.insert((session, fid), Handle { state, ..handle });
        Ok(Expected::Done)
    }

    /// What the clunk of a fid that collected a value does.
    pub(super) fn set_attribute(
        &mut self,
        id: Id,
        name: &Bytes,
        flags: u32,
        value: Option<Vec<u8>>,
    ) -> Result<(), Errno> {
        let value = value.ok_or(Errno::INVAL)?;
        let removes = value.is_empty() && flags != CREATE;
        let now = self.circumstances.now;
        let file = self.file(id)?;
        match has_prefix(name) {
            None => return Err(Errno::OPNOTSUPP),
            Some(false) => return Err(Errno::INVAL),
            Some(true) => {}
        }
        if name.0.starts_with(b"user.") && !matches!(file.kind, Kind::Regular | Kind::Directory) {
            return Err(Errno::PERM);
        }
        let present = file.attributes.get(name);
        match (present, flags) {
            (Some(_), CREATE) => return Err(Errno::EXIST),
            (None, REPLACE) => return Err(Errno::NODATA),
            (None, _) if removes => return Ok(()),
            _ => {}
        }
        if removes {
            let file = self.change(id);
            file.attributes.remove(name);
            file.changed.touch(now);
            // A block that is shared must be copied.
            return Ok(());
        }
        let same = present == Some(&value);
        let stored: usize = file
            .attributes
            .iter()
            .filter(|(other, _)| *other != name)
            .map(|(name, value)| name.0.len() + value.len())
            .chain([name.0.len() + value.len()])
            .map(|length| length + 24)
            .sum();
        // One block holds them all, or else it depends on what fits the inode beside.
        if self.circumstances.error == Some(Errno::NOSPC) && stored + 64 > self.block_size as usize {
            return Err(Errno::NOSPC);
        }
        self.take(0, 4)?;
        let file = self.change(id);
        file.attributes.insert(name.clone(), value);
        if same {
            file.changed.touch_perhaps(now);
        } else {
            file.changed.touch(now);
        }
        Ok(())
    }
}
