// SPDX-License-Identifier: MIT OR Apache-2.0

//! A small file system in memory, for the tests of the server: a tree of directories, files with holes,
//! symbolic links, special files and extended attributes. It is a true [`FileSystem`], with every guarantee of
//! the trait.

use core::ops::ControlFlow;
use std::collections::BTreeMap;
use std::vec::Vec;

use crate::fs::{
    Attributes, Caller, DirectoryEntry, Errno, FileKind, FileSystem, FileSystemStatus, Node, Position,
    Timestamp,
};
use crate::mem::{Full, Sink, Source};

pub struct Inode {
    pub kind: FileKind,
    /// Content of a file, target of a link.
    pub content: Vec<u8>,
    /// This many zeros follow `content`.
    pub hole: u64,
    /// Names in the order they were made; the position of a name is its index plus 3.
    pub entries: Vec<(Vec<u8>, Node)>,
    pub parent: Node,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub writable: bool,
    pub created: Option<Timestamp>,
    pub generation: Option<u64>,
    pub data_version: Option<u64>,
    /// Reading the content fails with EIO after `content` was put.
    pub broken: bool,
    /// Reading the content puts one byte less than it says.
    pub miscounts: bool,
}

pub struct Tree {
    /// Node n is at n − 2.
    pub inodes: Vec<Inode>,
}

pub const ROOT: Node = Node(2);

impl Tree {
    pub fn new() -> Self {
        let mut tree = Self { inodes: Vec::new() };
        tree.add_inode(FileKind::Directory, ROOT, b"");
        tree
    }

    fn add_inode(&mut self, kind: FileKind, parent: Node, content: &[u8]) -> Node {
        let node = Node(self.inodes.len() as u64 + 2);
        self.inodes.push(Inode {
            kind,
            content: content.to_vec(),
            hole: 0,
            entries: Vec::new(),
            parent,
            xattrs: BTreeMap::new(),
            writable: false,
            created: Some(Timestamp { seconds: 1_500_000_000, nanoseconds: 5 }),
            generation: Some(77),
            data_version: Some(9),
            broken: false,
            miscounts: false,
        });
        node
    }

    pub fn add(&mut self, directory: Node, name: &str, kind: FileKind, content: &[u8]) -> Node {
        let node = self.add_inode(kind, directory, content);
        self.inode(directory).entries.push((name.as_bytes().to_vec(), node));
        node
    }

    pub fn inode(&mut self, node: Node) -> &mut Inode {
        &mut self.inodes[usize::try_from(node.0).unwrap() - 2]
    }

    fn at(&self, node: Node) -> Result<&Inode, Errno> {
        let index = usize::try_from(node.0).ok().and_then(|number| number.checked_sub(2));
        index.and_then(|index| self.inodes.get(index)).ok_or(Errno::ENOENT)
    }

    fn directory(&self, node: Node) -> Result<&Inode, Errno> {
        self.at(node)
            .and_then(|inode| if inode.kind == FileKind::Directory { Ok(inode) } else { Err(Errno::ENOTDIR) })
    }
}

fn full(_: Full) -> Errno {
    Errno::EIO
}

impl FileSystem for Tree {
    fn root(&self) -> Node {
        ROOT
    }

    fn lookup(&self, directory: Node, name: &[u8]) -> Result<Node, Errno> {
        assert!((1..=255).contains(&name.len()), "the server must check names");
        assert!(name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0));
        let directory = self.directory(directory)?;
        directory.entries.iter().find(|(other, _)| other == name).map(|(_, node)| *node).ok_or(Errno::ENOENT)
    }

    fn parent(&self, directory: Node) -> Result<Node, Errno> {
        self.directory(directory).map(|directory| directory.parent)
    }

    fn attributes(&self, node: Node) -> Result<Attributes, Errno> {
        let inode = self.at(node)?;
        Ok(Attributes {
            kind: inode.kind,
            mode: (inode.kind as u32) << 12 | 0o640,
            uid: 1001,
            gid: 1002,
            links: 1,
            device: if inode.kind == FileKind::CharacterDevice { 0x0103 } else { 0 },
            size: inode.content.len() as u64 + inode.hole,
            block_size: 4096,
            blocks: inode.content.len().div_ceil(512) as u64,
            accessed: Timestamp { seconds: 1, nanoseconds: 11 },
            modified: Timestamp { seconds: -2, nanoseconds: 12 },
            changed: Timestamp { seconds: 3, nanoseconds: 13 },
            created: inode.created,
            generation: inode.generation,
            data_version: inode.data_version,
        })
    }

    fn read(&self, node: Node, offset: u64, count: u32, sink: &mut dyn Sink) -> Result<u32, Errno> {
        assert!(offset.checked_add(u64::from(count)).is_some_and(|end| end <= i64::MAX as u64));
        let inode = self.at(node)?;
        match inode.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        let size = inode.content.len() as u64 + inode.hole;
        let count = u64::from(count).min(size.saturating_sub(offset));
        let start = usize::try_from(offset.min(inode.content.len() as u64)).unwrap();
        let data = (inode.content.len() - start).min(usize::try_from(count).unwrap());
        sink.put(&inode.content[start..start + data]).map_err(full)?;
        if inode.broken {
            return Err(Errno::EIO);
        }
        sink.put_zeros(usize::try_from(count).unwrap() - data).map_err(full)?;
        Ok(u32::try_from(count).unwrap() + u32::from(inode.miscounts))
    }

    fn read_directory(
        &self,
        directory: Node,
        offset: u64,
        visit: &mut dyn FnMut(&DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        let inode = self.directory(directory)?;
        let names = [(&b"."[..], directory), (b"..", inode.parent)].into_iter();
        let names = names.chain(inode.entries.iter().map(|(name, node)| (name.as_slice(), *node)));
        if offset > inode.entries.len() as u64 + 2 {
            return Err(Errno::EINVAL);
        }
        for (position, (name, node)) in names.enumerate().skip(usize::try_from(offset).unwrap()) {
            let entry =
                DirectoryEntry { number: node.0, kind: self.at(node)?.kind, next: position as u64 + 1, name };
            if visit(&entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn read_link(&self, node: Node, sink: &mut dyn Sink) -> Result<(), Errno> {
        let inode = self.at(node)?;
        if inode.kind != FileKind::Symlink {
            return Err(Errno::EINVAL);
        }
        sink.put(&inode.content).map_err(full)
    }

    fn list_attributes(&self, node: Node, sink: &mut dyn Sink) -> Result<(), Errno> {
        for name in self.at(node)?.xattrs.keys() {
            sink.put(name).and_then(|()| sink.put(&[0])).map_err(full)?;
        }
        Ok(())
    }

    fn read_attribute(&self, node: Node, name: &[u8], sink: &mut dyn Sink) -> Result<(), Errno> {
        sink.put(self.at(node)?.xattrs.get(name).ok_or(Errno::ENODATA)?).map_err(full)
    }

    fn status(&self) -> Result<FileSystemStatus, Errno> {
        Ok(FileSystemStatus {
            kind: 0xef53,
            block_size: 1024,
            blocks: 100,
            blocks_free: 50,
            blocks_available: 45,
            files: 30,
            files_free: 20,
            identifier: 0x0123_4567_89ab_cdef,
            name_length: 255,
        })
    }

    fn check_writable(&self, node: Node) -> Result<(), Errno> {
        if self.at(node)?.writable { Ok(()) } else { Err(Errno::EROFS) }
    }

    fn write(
        &mut self,
        _caller: Caller,
        node: Node,
        position: Position,
        source: &mut dyn Source,
    ) -> Result<u32, Errno> {
        self.check_writable(node)?;
        let offset = match position {
            Position::At(offset) => offset,
            Position::End => self.at(node)?.content.len() as u64,
        };
        let mut bytes = std::vec![0; source.remaining()];
        source.take(&mut bytes).map_err(|_| Errno::EIO)?;
        let start = usize::try_from(offset).unwrap();
        let content = &mut self.inode(node).content;
        content.resize(content.len().max(start + bytes.len()), 0);
        content[start..start + bytes.len()].copy_from_slice(&bytes);
        Ok(u32::try_from(bytes.len()).unwrap())
    }
}
