// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names: looking them up, making, moving and removing them.

use rustix::io::Errno;

use super::{Expected, File, Handle, Id, Kind, Reference, State};
use crate::model::request::{Bytes, open};

/// Blocks that one more name may take, with all that belongs to it; and the blocks of an inode table that may count as used.
const NAME: u64 = 12;
const SET_GROUP_ID: u32 = 0o2000;

/// Whether `name` is one that a file can have.
fn check(name: &Bytes) -> Result<(), Errno> {
    match &name.0[..] {
        name if name.len() > 255 => Err(Errno::NAMETOOLONG),
        b"" | b"." | b".." => Err(Errno::INVAL),
        name if name.contains(&b'/') || name.contains(&0) => Err(Errno::INVAL),
        _ => Ok(()),
    }
}

/// What is to be made, beyond what all files have.
pub(super) enum Making {
    Plain,
    Target(Vec<u8>),
    Device(u64),
}

fn directory(handle: &Handle) -> Result<Id, Errno> {
    if handle.kind == Kind::Directory { Ok(handle.file) } else { Err(Errno::NOTDIR) }
}

impl Reference {
    pub(super) fn lookup(&self, directory: Id, name: &Bytes) -> Result<Id, Errno> {
        self.file(directory)?.entries.get(name).copied().ok_or(Errno::NOENT)
    }

    /// The directory above, as whoever attached to `root` sees it.
    fn parent(&self, id: Id, root: Id) -> Result<Id, Errno> {
        if id == root {
            return Ok(id);
        }
        let directory = self.file(id)?;
        if directory.links == 0 {
            return Err(Errno::NOENT);
        }
        let mut above = directory.parent;
        while root != self.root && above != root {
            if above == self.root {
                return Err(Errno::STALE);
            }
            above = self.file(above)?.parent;
        }
        Ok(directory.parent)
    }

    pub(super) fn walk(
        &mut self,
        session: usize,
        fid: u32,
        newfid: u32,
        names: &[Bytes],
    ) -> Result<Expected, Errno> {
        let mut handle = self.fid(session, fid)?;
        if fid != newfid && self.fids.contains_key(&(session, newfid)) {
            return Err(Errno::BADF);
        }
        if fid == newfid && handle.state != State::Path {
            return Err(Errno::INVAL);
        }
        handle.state = State::Path;
        let mut found = Vec::new();
        for name in names {
            match self.step(&handle, name) {
                Ok(next) => {
                    found.push(next.file);
                    handle = next;
                }
                Err(error) if found.is_empty() => return Err(error),
                Err(_) => return Ok(Expected::Files(found)),
            }
        }
        self.fids.insert((session, newfid), handle);
        Ok(Expected::Files(found))
    }

    fn step(&self, from: &Handle, name: &Bytes) -> Result<Handle, Errno> {
        let up = name.0 == b"..";
        if !up {
            check(name)?;
        }
        let directory = directory(from)?;
        let (file, name) = if up {
            (self.parent(directory, from.root)?, None)
        } else {
            (self.lookup(directory, name)?, Some(name.clone()))
        };
        Ok(Handle { file, kind: self.file(file)?.kind, directory, name, ..from.clone() })
    }

    pub(super) fn attach(
        &mut self,
        session: usize,
        fid: u32,
        aname: &Bytes,
        uid: u32,
    ) -> Result<Expected, Errno> {
        if self.fids.contains_key(&(session, fid)) {
            return Err(Errno::BADF);
        }
        let mut root = self.root;
        for name in aname.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            if self.file(root)?.kind != Kind::Directory {
                return Err(Errno::NOTDIR);
            }
            root = self.lookup(root, &Bytes(name.to_vec()))?;
        }
        if self.file(root)?.kind != Kind::Directory {
            return Err(Errno::NOTDIR);
        }
        let kind = Kind::Directory;
        let handle = Handle { file: root, kind, directory: root, name: None, root, uid, state: State::Path };
        self.fids.insert((session, fid), handle);
        Ok(Expected::File(root))
    }

    pub(super) fn open(&mut self, session: usize, fid: u32, flags: u32) -> Result<Expected, Errno> {
        let handle = self.fid(session, fid)?;
        if handle.state != State::Path {
            return Err(Errno::INVAL);
        }
        self.open_file(session, fid, handle, flags)
    }

    fn open_file(&mut self, session: usize, fid: u32, handle: Handle, flags: u32) -> Result<Expected, Errno> {
        let writes = flags & 3 != 0 || flags & open::TRUNC != 0;
        match handle.kind {
            Kind::Directory if writes => return Err(Errno::ISDIR),
            Kind::Directory => {}
            _ if flags & open::DIRECTORY != 0 => return Err(Errno::NOTDIR),
            Kind::Symlink => return Err(Errno::LOOP),
            Kind::Regular => {}
            _ => return Err(Errno::NXIO),
        }
        self.retain(handle.file)?;
        if flags & open::TRUNC != 0 {
            let now = self.circumstances.now;
            let file = self.change(handle.file);
            file.content.resize(0);
            file.modified.touch(now);
            file.changed.touch(now);
            file.drop_set_id(handle.uid != 0);
        }
        let file = handle.file;
        self.open_fid(session, fid, handle, flags);
        Ok(Expected::Opened(file))
    }

    fn open_fid(&mut self, session: usize, fid: u32, handle: Handle, flags: u32) {
        let (reads, writes) = (matches!(flags & 3, 0 | 2), matches!(flags & 3, 1 | 2));
        let state = State::Open { reads, writes, append: flags & open::APPEND != 0 };
        self.fids.insert((session, fid), Handle { state, ..handle });
    }

    pub(super) fn create(
        &mut self,
        session: usize,
        fid: u32,
        name: &Bytes,
        flags: u32,
        (mode, gid): (u32, u32),
    ) -> Result<Expected, Errno> {
        let parent = self.fid(session, fid)?;
        if parent.state != State::Path || flags & open::DIRECTORY != 0 {
            return Err(Errno::INVAL);
        }
        let directory = directory(&parent)?;
        check(name)?;
        let opened =
            |file, kind| Handle { file, directory, name: Some(name.clone()), kind, ..parent.clone() };
        match self.lookup(directory, name) {
            Ok(_) if flags & open::EXCL != 0 => Err(Errno::EXIST),
            Ok(file) => {
                let kind = self.file(file)?.kind;
                self.open_file(session, fid, opened(file, kind), flags)
            }
            Err(Errno::NOENT) => {
                let file = self.make(&parent, name, Kind::Regular, (mode, gid), Making::Plain)?;
                self.retain(file)?;
                self.open_fid(session, fid, opened(file, Kind::Regular), flags);
                Ok(Expected::Opened(file))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn make_named(
        &mut self,
        parent: &Handle,
        name: &Bytes,
        kind: Kind,
        owner: (u32, u32),
        making: Making,
    ) -> Result<Expected, Errno> {
        check(name)?;
        self.make(parent, name, kind, owner, making).map(Expected::File)
    }

    fn make(
        &mut self,
        parent: &Handle,
        name: &Bytes,
        kind: Kind,
        (mode, gid): (u32, u32),
        making: Making,
    ) -> Result<Id, Errno> {
        let directory = directory(parent)?;
        let now = self.circumstances.now;
        let above = self.directory_to_fill(directory)?;
        if above.entries.contains_key(name) {
            return Err(Errno::EXIST);
        }
        let (mut mode, mut gid) = (mode & 0o7777, gid);
        if above.mode & SET_GROUP_ID != 0 {
            gid = above.gid;
            if kind == Kind::Directory {
                mode |= SET_GROUP_ID;
            }
        }
        self.take(1, NAME)?;
        let mut file = File::new(kind, mode, parent.uid, gid, now);
        match making {
            Making::Plain => {}
            Making::Target(target) if target.len() as u64 >= self.block_size => {
                return Err(Errno::NAMETOOLONG);
            }
            Making::Target(target) => file.target = target,
            Making::Device(number) => file.rdev = number,
        }
        file.parent = directory;
        let id = self.next;
        self.next += 1;
        self.files.insert(id, file);
        self.touched.insert(id);
        self.add_name(directory, name, id);
        Ok(id)
    }

    fn directory_to_fill(&self, id: Id) -> Result<&File, Errno> {
        let file = self.file(id)?;
        if file.links == 0 { Err(Errno::NOENT) } else { Ok(file) }
    }

    fn add_name(&mut self, directory: Id, name: &Bytes, id: Id) {
        let now = self.circumstances.now;
        let is_directory = self.files.get(&id).is_some_and(|file| file.kind == Kind::Directory);
        if is_directory {
            self.change(id).parent = directory;
        }
        let above = self.change(directory);
        above.entries.insert(name.clone(), id);
        above.links += u64::from(is_directory);
        above.modified.touch(now);
        above.changed.touch(now);
    }

    fn take_name(&mut self, directory: Id, name: &Bytes) -> Id {
        let now = self.circumstances.now;
        let id = self.change(directory).entries.remove(name).expect("the name was looked for");
        let is_directory = self.files.get(&id).is_some_and(|file| file.kind == Kind::Directory);
        let above = self.change(directory);
        above.links -= u64::from(is_directory);
        above.modified.touch(now);
        above.changed.touch(now);
        id
    }

    fn lose_name(&mut self, id: Id) {
        let now = self.circumstances.now;
        let file = self.change(id);
        file.links = if file.kind == Kind::Directory { 0 } else { file.links - 1 };
        file.changed.touch(now);
        self.drop_if_gone(id);
    }

    pub(super) fn link(
        &mut self,
        session: usize,
        dfid: u32,
        fid: u32,
        name: &Bytes,
    ) -> Result<Expected, Errno> {
        let parent = self.fid(session, dfid)?;
        let handle = self.fid(session, fid)?;
        let directory = directory(&parent)?;
        check(name)?;
        if handle.kind == Kind::Directory {
            return Err(Errno::PERM);
        }
        let links = self.file(handle.file)?.links;
        if self.directory_to_fill(directory)?.entries.contains_key(name) {
            return Err(Errno::EXIST);
        }
        if links == 0 {
            return Err(Errno::NOENT);
        }
        self.take(0, NAME)?;
        let now = self.circumstances.now;
        let file = self.change(handle.file);
        file.links += 1;
        file.changed.touch(now);
        self.add_name(directory, name, handle.file);
        Ok(Expected::Done)
    }

    pub(super) fn unlink_at(
        &mut self,
        session: usize,
        fid: u32,
        name: &Bytes,
        flags: u32,
    ) -> Result<Expected, Errno> {
        let directory = directory(&self.fid(session, fid)?)?;
        check(name)?;
        if flags & !0x200 != 0 {
            return Err(Errno::INVAL);
        }
        self.unlink(directory, name, flags != 0)
    }

    fn unlink(&mut self, directory: Id, name: &Bytes, as_directory: bool) -> Result<Expected, Errno> {
        let id = self.lookup(directory, name)?;
        let file = self.file(id)?;
        match (as_directory, file.kind == Kind::Directory) {
            (true, false) => return Err(Errno::NOTDIR),
            (false, true) => return Err(Errno::ISDIR),
            (true, true) if !file.entries.is_empty() => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        self.take_name(directory, name);
        self.lose_name(id);
        Ok(Expected::Done)
    }

    /// The names that a file named by its fid may be meant by, in its directory: one that is sure, or several.
    pub fn places(&self, session: usize, fid: u32) -> Result<(Id, Vec<Bytes>), Errno> {
        let handle = self.fid(session, fid)?;
        if handle.file == handle.root || handle.file == self.root {
            return Err(Errno::BUSY);
        }
        let directory = if handle.kind == Kind::Directory {
            self.parent(handle.file, handle.root)?
        } else {
            handle.directory
        };
        let entries = &self.file(directory)?.entries;
        if self.file(directory)?.links == 0 {
            return Err(Errno::NOENT);
        }
        if let Some(name) = handle.name.filter(|name| entries.get(name) == Some(&handle.file)) {
            return Ok((directory, vec![name]));
        }
        let names: Vec<_> =
            entries.iter().filter(|(_, id)| **id == handle.file).map(|(name, _)| name.clone()).collect();
        if names.is_empty() { Err(Errno::NOENT) } else { Ok((directory, names)) }
    }

    pub(super) fn remove(&mut self, session: usize, fid: u32) -> Result<Expected, Errno> {
        self.any_fid(session, fid)?;
        let removed = self.fid(session, fid).and_then(|handle| {
            let (directory, names) = self.places(session, fid)?;
            self.unlink(directory, &names[0], handle.kind == Kind::Directory)
        });
        self.clunk(session, fid);
        removed
    }

    pub(super) fn rename(
        &mut self,
        session: usize,
        fid: u32,
        dfid: u32,
        name: &Bytes,
    ) -> Result<Expected, Errno> {
        let handle = self.fid(session, fid)?;
        let to = self.fid(session, dfid)?;
        check(name)?;
        let to = directory(&to)?;
        let (from, names) = self.places(session, fid)?;
        self.move_name((from, &names[0]), (to, name))?;
        self.fids.insert((session, fid), Handle { directory: to, name: Some(name.clone()), ..handle });
        Ok(Expected::Done)
    }

    pub(super) fn rename_at(
        &mut self,
        session: usize,
        old: (u32, &Bytes),
        new: (u32, &Bytes),
    ) -> Result<Expected, Errno> {
        let from = self.fid(session, old.0)?;
        let to = self.fid(session, new.0)?;
        let from = directory(&from)?;
        check(old.1)?;
        check(new.1)?;
        self.move_name((from, old.1), (directory(&to)?, new.1))
    }

    fn move_name(&mut self, old: (Id, &Bytes), new: (Id, &Bytes)) -> Result<Expected, Errno> {
        let id = self.lookup(old.0, old.1)?;
        let victim = match self.lookup(new.0, new.1) {
            Ok(victim) => Some(victim),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        self.directory_to_fill(new.0)?;
        let is_directory = self.file(id)?.kind == Kind::Directory;
        if is_directory && self.is_below(new.0, id)? {
            return Err(Errno::INVAL);
        }
        if victim == Some(id) {
            return Ok(Expected::Done);
        }
        if let Some(victim) = victim {
            let victim = self.file(victim)?;
            match (is_directory, victim.kind == Kind::Directory) {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if !victim.entries.is_empty() => return Err(Errno::NOTEMPTY),
                _ => {}
            }
        }
        self.take(0, NAME)?;
        if let Some(victim) = victim {
            self.take_name(new.0, new.1);
            self.lose_name(victim);
        }
        self.take_name(old.0, old.1);
        self.add_name(new.0, new.1, id);
        let now = self.circumstances.now;
        self.change(id).changed.touch(now);
        Ok(Expected::Done)
    }

    /// Whether `id` is `above`, or somewhere below it.
    fn is_below(&self, mut id: Id, above: Id) -> Result<bool, Errno> {
        while id != self.root {
            if id == above {
                return Ok(true);
            }
            id = self.file(id)?.parent;
        }
        Ok(false)
    }
}
