// SPDX-License-Identifier: MIT OR Apache-2.0

//! A file system in memory, for tests: all of POSIX that a server can ask for, with every guarantee of
//! [`FileSystem`](crate::fs::FileSystem), and nothing of how a volume stores it. It is the model that others are compared with.
//!
//! Its clock stands until a test sets it. Access control lists are attributes like any other: they change no mode.

mod content;
mod file_system;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::vec::Vec;

pub use content::Content;

use crate::fs::{
    AttributeChanges, AttributeExistence, Caller, Errno, FileKind, NewFile, NewKind, Node, Position, Removal,
    TimeChange, Timestamp,
};
use crate::mem::Source;

pub const ROOT: Node = Node(2);

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o10;

pub struct Inode {
    pub kind: FileKind,
    /// The lower 12 bits of `st_mode`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of a directory: one, and one for `.` and each directory in it; 0 when it was removed.
    pub links: u64,
    pub device: u64,
    /// Content of a file, target of a link.
    pub content: Content,
    /// Names in the order they were made, each with its position.
    pub entries: Vec<(u64, Vec<u8>, Node)>,
    /// The position of the next name.
    pub next: u64,
    /// Of a directory.
    pub parent: Node,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub accessed: Timestamp,
    pub modified: Timestamp,
    pub changed: Timestamp,
    pub created: Option<Timestamp>,
    pub generation: Option<u64>,
    pub data_version: Option<u64>,
    /// How often it is retained.
    pub retained: u32,
    /// It is never written: EACCES.
    pub sealed: bool,
    /// Reading the content fails with EIO after it was put.
    pub broken: bool,
    /// Reading the content puts one byte less than it says.
    pub miscounts: bool,
}

pub struct Tree {
    /// Node n is at n − 2. What is gone leaves an empty place, so that no node comes again.
    pub inodes: Vec<Option<Inode>>,
    /// The time of every change.
    pub clock: Timestamp,
    /// Nothing can be changed: EROFS.
    pub read_only: bool,
    /// What the next change is refused with.
    pub refuse: Option<Errno>,
    /// What committing and synchronizing fail with.
    pub unreliable: Option<Errno>,
    /// Most names of a file.
    pub link_max: u64,
    /// Longest file, in bytes.
    pub size_max: u64,
    /// Most files that are retained at a time.
    pub retained_max: usize,
    /// The files whose number is not the node's, as if it came again.
    pub numbers: BTreeMap<Node, u64>,
    /// How often all was committed, and synchronized.
    pub commits: u32,
    pub synchronizations: u32,
    /// On whose behalf the last change was.
    pub caller: Option<Caller>,
    /// How often somebody asked what is above a directory.
    pub ways_up: Cell<u32>,
}

impl Tree {
    pub fn new() -> Self {
        let mut tree = Self {
            inodes: Vec::new(),
            clock: Timestamp { seconds: 1000, nanoseconds: 1 },
            read_only: false,
            refuse: None,
            unreliable: None,
            link_max: 65_000,
            size_max: 1 << 44,
            retained_max: usize::MAX,
            numbers: BTreeMap::new(),
            commits: 0,
            synchronizations: 0,
            caller: None,
            ways_up: Cell::new(0),
        };
        tree.insert(Inode { uid: 0, gid: 0, mode: 0o755, ..an_inode(FileKind::Directory, ROOT, b"") });
        tree
    }

    fn insert(&mut self, inode: Inode) -> Node {
        self.inodes.push(Some(inode));
        Node(self.inodes.len() as u64 + 1)
    }

    /// Puts a file there that was made long ago.
    pub fn add(&mut self, directory: Node, name: &str, kind: FileKind, content: &[u8]) -> Node {
        let node = self.insert(an_inode(kind, directory, content));
        let parent = self.inode(directory);
        parent.entries.push((parent.next, name.as_bytes().to_vec(), node));
        parent.next += 1;
        parent.links += u64::from(kind == FileKind::Directory);
        node
    }

    pub fn inode(&mut self, node: Node) -> &mut Inode {
        self.at_mut(node).unwrap()
    }

    /// How often all files together are retained.
    pub fn retained(&self) -> u32 {
        self.inodes.iter().flatten().map(|inode| inode.retained).sum()
    }

    fn at(&self, node: Node) -> Result<&Inode, Errno> {
        let index = usize::try_from(node.0).ok().and_then(|number| number.checked_sub(2));
        index.and_then(|index| self.inodes.get(index)?.as_ref()).ok_or(Errno::ESTALE)
    }

    fn at_mut(&mut self, node: Node) -> Result<&mut Inode, Errno> {
        let index = usize::try_from(node.0).ok().and_then(|number| number.checked_sub(2));
        index.and_then(|index| self.inodes.get_mut(index)?.as_mut()).ok_or(Errno::ESTALE)
    }

    fn directory(&self, node: Node) -> Result<&Inode, Errno> {
        self.at(node)
            .and_then(|inode| if inode.kind == FileKind::Directory { Ok(inode) } else { Err(Errno::ENOTDIR) })
    }

    /// A directory that names can be put into, and taken out of.
    fn directory_to_fill(&self, node: Node) -> Result<&Inode, Errno> {
        self.directory(node).and_then(|inode| if inode.links > 0 { Ok(inode) } else { Err(Errno::ENOENT) })
    }

    fn find(&self, directory: Node, name: &[u8]) -> Result<Option<Node>, Errno> {
        assert!((1..=255).contains(&name.len()), "the server must check names");
        assert!(name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0));
        let directory = self.directory(directory)?;
        Ok(directory.entries.iter().find(|(_, other, _)| other == name).map(|(_, _, node)| *node))
    }

    /// That something can be changed now.
    fn check_change(&mut self, caller: Option<Caller>) -> Result<(), Errno> {
        if self.read_only {
            return Err(Errno::EROFS);
        }
        self.caller = caller.or(self.caller);
        self.refuse.take().map_or(Ok(()), Err)
    }

    /// Notes the time of a change of the inode.
    fn changed(&mut self, node: Node) -> &mut Inode {
        let now = self.clock;
        let inode = self.inode(node);
        inode.changed = inode.changed.max(now);
        inode.data_version = inode.data_version.map(|version| version + 1);
        inode
    }

    /// Notes the time of a change of the content.
    fn modified(&mut self, node: Node) {
        let now = self.clock;
        let inode = self.changed(node);
        inode.modified = inode.modified.max(now);
    }

    fn put_name(&mut self, directory: Node, name: &[u8], node: Node) {
        let is_directory = self.inode(node).kind == FileKind::Directory;
        self.modified(directory);
        let parent = self.inode(directory);
        match parent.entries.iter_mut().find(|(_, other, _)| other == name) {
            Some((_, _, old)) => *old = node,
            None => {
                parent.entries.push((parent.next, name.to_vec(), node));
                parent.next += 1;
            }
        }
        if is_directory {
            parent.links += 1;
            self.inode(node).parent = directory;
        }
    }

    fn take_name(&mut self, directory: Node, name: &[u8]) {
        let node = self.find(directory, name).unwrap().unwrap();
        let is_directory = self.inode(node).kind == FileKind::Directory;
        self.modified(directory);
        let parent = self.inode(directory);
        parent.entries.retain(|(_, other, _)| other != name);
        parent.links -= u64::from(is_directory);
    }

    /// A name of `node` was taken away.
    fn lose_name(&mut self, node: Node) {
        let inode = self.changed(node);
        inode.links = if inode.kind == FileKind::Directory { 0 } else { inode.links - 1 };
        self.free_if_unneeded(node);
    }

    fn free_if_unneeded(&mut self, node: Node) {
        let inode = self.inode(node);
        if inode.links == 0 && inode.retained == 0 {
            self.inodes[usize::try_from(node.0).unwrap() - 2] = None;
        }
    }

    fn make(
        &mut self,
        caller: Caller,
        directory: Node,
        name: &[u8],
        new: &NewFile<'_>,
    ) -> Result<Node, Errno> {
        self.check_change(Some(caller))?;
        let parent = self.directory_to_fill(directory)?;
        let (mut mode, mut gid) = (new.mode & 0o7777, new.gid);
        if parent.mode & SET_GROUP_ID != 0 {
            gid = parent.gid;
            mode |= if new.kind == NewKind::Directory { SET_GROUP_ID } else { 0 };
        }
        if self.find(directory, name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        let now = self.clock;
        let (content, device) = match new.kind {
            NewKind::Symlink(target) => {
                assert!(
                    (1..=4095).contains(&target.len()) && !target.contains(&0),
                    "the server must check targets"
                );
                (target, 0)
            }
            NewKind::CharacterDevice(device) | NewKind::BlockDevice(device) => (&b""[..], device),
            _ => (&b""[..], 0),
        };
        let node = self.insert(Inode {
            mode,
            uid: new.uid,
            gid,
            device,
            accessed: now,
            modified: now,
            changed: now,
            created: Some(now),
            ..an_inode(new.kind.kind(), directory, content)
        });
        self.put_name(directory, name, node);
        Ok(node)
    }

    fn add_name(&mut self, caller: Caller, node: Node, directory: Node, name: &[u8]) -> Result<(), Errno> {
        self.check_change(Some(caller))?;
        let inode = self.at(node)?;
        if inode.kind == FileKind::Directory {
            return Err(Errno::EPERM);
        }
        self.directory_to_fill(directory)?;
        if inode.links == 0 {
            return Err(Errno::ENOENT);
        }
        if self.find(directory, name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        if inode.links >= self.link_max {
            return Err(Errno::EMLINK);
        }
        self.changed(node).links += 1;
        self.put_name(directory, name, node);
        Ok(())
    }

    fn remove_name(&mut self, directory: Node, name: &[u8], removal: Removal) -> Result<(), Errno> {
        self.check_change(None)?;
        self.directory_to_fill(directory)?;
        let node = self.find(directory, name)?.ok_or(Errno::ENOENT)?;
        let inode = self.at(node)?;
        match (removal, inode.kind == FileKind::Directory) {
            (Removal::File, true) => return Err(Errno::EISDIR),
            (Removal::Directory, false) => return Err(Errno::ENOTDIR),
            (Removal::Directory, true) if !inode.entries.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        self.take_name(directory, name);
        self.lose_name(node);
        Ok(())
    }

    fn move_name(&mut self, caller: Caller, from: (Node, &[u8]), to: (Node, &[u8])) -> Result<(), Errno> {
        self.check_change(Some(caller))?;
        self.directory_to_fill(from.0)?;
        self.directory_to_fill(to.0)?;
        let node = self.find(from.0, from.1)?.ok_or(Errno::ENOENT)?;
        let is_directory = self.at(node)?.kind == FileKind::Directory;
        if is_directory && self.is_within(to.0, node) {
            return Err(Errno::EINVAL);
        }
        let victim = self.find(to.0, to.1)?;
        if victim == Some(node) {
            return Ok(());
        }
        if let Some(victim) = victim {
            let inode = self.at(victim)?;
            match (is_directory, inode.kind == FileKind::Directory) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                (true, true) if !inode.entries.is_empty() => return Err(Errno::ENOTEMPTY),
                _ => {}
            }
            self.inode(to.0).links -= u64::from(is_directory);
        }
        self.put_name(to.0, to.1, node);
        self.take_name(from.0, from.1);
        self.changed(node);
        if let Some(victim) = victim {
            self.lose_name(victim);
        }
        Ok(())
    }

    fn is_within(&self, mut directory: Node, above: Node) -> bool {
        while directory != above && directory != ROOT {
            directory = self.at(directory).unwrap().parent;
        }
        directory == above
    }

    fn change_attributes(
        &mut self,
        caller: Caller,
        node: Node,
        changes: &AttributeChanges,
    ) -> Result<(), Errno> {
        self.check_change(Some(caller))?;
        let (size_max, now) = (self.size_max, self.clock);
        let inode = self.at(node)?;
        match inode.kind {
            _ if changes.size.is_none() => {}
            FileKind::Regular if changes.size > Some(size_max) => return Err(Errno::EFBIG),
            FileKind::Regular => {}
            FileKind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        let time = |change| match change {
            TimeChange::Now => now,
            TimeChange::To(time) => time,
        };
        let inode = self.changed(node);
        let owned_anew = changes.uid.is_some() || changes.gid.is_some();
        let cut = changes.size.is_some() && !caller.is_root();
        match changes.mode {
            Some(mode) => inode.mode = mode & 0o7777,
            None if (owned_anew || cut) && inode.kind != FileKind::Directory => inode.drop_set_id(),
            None => {}
        }
        inode.uid = changes.uid.unwrap_or(inode.uid);
        inode.gid = changes.gid.unwrap_or(inode.gid);
        if let Some(size) = changes.size {
            inode.content.set_size(size);
            inode.modified = inode.modified.max(now);
        }
        inode.accessed = changes.accessed.map_or(inode.accessed, time);
        inode.modified = changes.modified.map_or(inode.modified, time);
        Ok(())
    }

    fn write_content(
        &mut self,
        caller: Caller,
        node: Node,
        position: Position,
        source: &mut dyn Source,
    ) -> Result<u32, Errno> {
        self.check_change(Some(caller))?;
        let inode = self.at(node)?;
        match inode.kind {
            FileKind::Regular if inode.sealed => return Err(Errno::EACCES),
            FileKind::Regular => {}
            FileKind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        let offset = match position {
            Position::At(offset) => offset,
            Position::End => inode.content.size(),
        };
        if source.remaining() == 0 {
            return Ok(0);
        }
        let room = usize::try_from(self.size_max.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = std::vec![0; source.remaining().min(room)];
        if bytes.is_empty() {
            return Err(Errno::EFBIG);
        }
        source.take(&mut bytes).map_err(|_| Errno::EIO)?;
        self.modified(node);
        let inode = self.inode(node);
        inode.content.write(offset, &bytes);
        if !caller.is_root() {
            inode.drop_set_id();
        }
        Ok(u32::try_from(bytes.len()).unwrap())
    }

    fn change_attribute(
        &mut self,
        caller: Caller,
        node: Node,
        name: &[u8],
        value: Option<&[u8]>,
        existence: AttributeExistence,
    ) -> Result<(), Errno> {
        self.check_change(Some(caller))?;
        let is_there = self.at(node)?.xattrs.contains_key(name);
        if !is_served(name) {
            return Err(Errno::EOPNOTSUPP);
        }
        match existence {
            AttributeExistence::Absent if is_there => return Err(Errno::EEXIST),
            AttributeExistence::Present if !is_there => return Err(Errno::ENODATA),
            _ => {}
        }
        let xattrs = &mut self.changed(node).xattrs;
        match value {
            Some(value) => drop(xattrs.insert(name.to_vec(), value.to_vec())),
            None => drop(xattrs.remove(name)),
        }
        Ok(())
    }
}

impl Inode {
    /// Takes the set-id bits away. Without execution by the group the one of the group means something else.
    fn drop_set_id(&mut self) {
        let group = if self.mode & GROUP_EXECUTE != 0 { SET_GROUP_ID } else { 0 };
        self.mode &= !(SET_USER_ID | group);
    }
}

/// Whether attributes may have this name.
fn is_served(name: &[u8]) -> bool {
    let prefixes = [&b"user."[..], b"trusted.", b"security."];
    prefixes.iter().any(|prefix| name.starts_with(prefix) && name.len() > prefix.len())
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
}

/// An inode with a value of its own in each field.
fn an_inode(kind: FileKind, parent: Node, content: &[u8]) -> Inode {
    Inode {
        kind,
        mode: if kind == FileKind::Directory { 0o750 } else { 0o640 },
        uid: 1001,
        gid: 1002,
        links: if kind == FileKind::Directory { 2 } else { 1 },
        device: if kind == FileKind::CharacterDevice { 0x0103 } else { 0 },
        content: Content::new(content),
        entries: Vec::new(),
        next: 3,
        parent,
        xattrs: BTreeMap::new(),
        accessed: Timestamp { seconds: 1, nanoseconds: 11 },
        modified: Timestamp { seconds: -2, nanoseconds: 12 },
        changed: Timestamp { seconds: 3, nanoseconds: 13 },
        created: Some(Timestamp { seconds: 1_500_000_000, nanoseconds: 5 }),
        generation: Some(77),
        data_version: Some(9),
        retained: 0,
        sealed: false,
        broken: false,
        miscounts: false,
    }
}
