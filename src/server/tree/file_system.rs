// SPDX-License-Identifier: MIT OR Apache-2.0

//! The tree as a backend.

use core::ops::ControlFlow;

use super::{ROOT, Tree};
use crate::fs::{
    AttributeChanges, AttributeExistence, Attributes, Caller, DirectoryEntry, Errno, FileKind, FileSystem,
    FileSystemStatus, NewFile, Node, Position, Removal,
};
use crate::mem::{Full, Sink, Source};

fn full(_: Full) -> Errno {
    Errno::EIO
}

impl FileSystem for Tree {
    fn root(&self) -> Node {
        ROOT
    }

    fn lookup(&self, directory: Node, name: &[u8]) -> Result<Node, Errno> {
        self.find(directory, name)?.ok_or(Errno::ENOENT)
    }

    fn parent(&self, directory: Node) -> Result<Node, Errno> {
        self.ways_up.set(self.ways_up.get() + 1);
        self.directory(directory).map(|directory| directory.parent)
    }

    fn attributes(&self, node: Node) -> Result<Attributes, Errno> {
        let inode = self.at(node)?;
        Ok(Attributes {
            kind: inode.kind,
            mode: (inode.kind as u32) << 12 | inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            links: inode.links,
            device: inode.device,
            size: inode.content.size(),
            block_size: 4096,
            blocks: inode.content.stored(),
            accessed: inode.accessed,
            modified: inode.modified,
            changed: inode.changed,
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
        let count = u64::from(count).min(inode.content.size().saturating_sub(offset));
        inode.content.read(offset, count, sink).map_err(full)?;
        if inode.broken {
            return Err(Errno::EIO);
        }
        Ok(u32::try_from(count).unwrap() + u32::from(inode.miscounts))
    }

    fn read_directory(
        &self,
        directory: Node,
        offset: u64,
        visit: &mut dyn FnMut(&DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        let inode = self.directory(directory)?;
        if offset >= inode.next {
            return Err(Errno::EINVAL);
        }
        let dots = [(1, &b"."[..], directory), (2, b"..", inode.parent)].into_iter();
        let names = inode.entries.iter().map(|(position, name, node)| (*position, name.as_slice(), *node));
        for (next, name, node) in dots.chain(names).filter(|(position, _, _)| *position > offset) {
            // A directory that is removed may be in one that is gone.
            let kind = self.at(node).map_or(FileKind::Directory, |inode| inode.kind);
            if visit(&DirectoryEntry { number: self.number(node), kind, next, name }).is_break() {
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
        sink.put(&inode.content.bytes()).map_err(full)
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

    fn number(&self, node: Node) -> u64 {
        self.numbers.get(&node).copied().unwrap_or(node.0)
    }

    fn check_writable(&self, node: Node) -> Result<(), Errno> {
        match self.at(node)? {
            _ if self.read_only => Err(Errno::EROFS),
            inode if inode.sealed => Err(Errno::EACCES),
            _ => Ok(()),
        }
    }

    fn write(
        &mut self,
        caller: Caller,
        node: Node,
        position: Position,
        source: &mut dyn Source,
    ) -> Result<u32, Errno> {
        self.write_content(caller, node, position, source)
    }

    fn create(
        &mut self,
        caller: Caller,
        directory: Node,
        name: &[u8],
        new: &NewFile<'_>,
    ) -> Result<Node, Errno> {
        self.make(caller, directory, name, new)
    }

    fn link(&mut self, caller: Caller, node: Node, directory: Node, name: &[u8]) -> Result<(), Errno> {
        self.add_name(caller, node, directory, name)
    }

    fn remove(&mut self, directory: Node, name: &[u8], removal: Removal) -> Result<(), Errno> {
        self.remove_name(directory, name, removal)
    }

    fn rename(&mut self, caller: Caller, from: (Node, &[u8]), to: (Node, &[u8])) -> Result<(), Errno> {
        self.move_name(caller, from, to)
    }

    fn set_attributes(
        &mut self,
        caller: Caller,
        node: Node,
        changes: &AttributeChanges,
    ) -> Result<(), Errno> {
        self.change_attributes(caller, node, changes)
    }

    fn set_attribute(
        &mut self,
        caller: Caller,
        node: Node,
        name: &[u8],
        value: &[u8],
        existence: AttributeExistence,
    ) -> Result<(), Errno> {
        self.change_attribute(caller, node, name, Some(value), existence)
    }

    fn remove_attribute(&mut self, caller: Caller, node: Node, name: &[u8]) -> Result<(), Errno> {
        self.change_attribute(caller, node, name, None, AttributeExistence::Present)
    }

    fn retain(&mut self, node: Node) -> Result<(), Errno> {
        let others = self.inodes.iter().flatten().filter(|inode| inode.retained > 0).count();
        let full = others >= self.retained_max;
        let inode = self.at_mut(node)?;
        if full && inode.retained == 0 {
            return Err(Errno::ENFILE);
        }
        inode.retained += 1;
        Ok(())
    }

    fn release(&mut self, node: Node) {
        let inode = self.inode(node);
        inode.retained = inode.retained.checked_sub(1).expect("it was retained");
        self.free_if_unneeded(node);
    }

    fn commit(&mut self) -> Result<(), Errno> {
        self.commits += 1;
        self.unreliable.map_or(Ok(()), Err)
    }

    fn synchronize(&mut self) -> Result<(), Errno> {
        self.synchronizations += 1;
        self.unreliable.map_or(Ok(()), Err)
    }
}
