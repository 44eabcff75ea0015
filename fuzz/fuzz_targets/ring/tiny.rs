// SPDX-License-Identifier: MIT OR Apache-2.0

//! The smallest file system: an empty directory.

use std::ops::ControlFlow;

use skerry::fs::{
    Attributes, DirectoryEntry, Errno, FileKind, FileSystem, FileSystemStatus, Node, Timestamp,
};
use skerry::mem::Sink;

/// An empty directory that everybody may read.
pub struct Tiny;

const ROOT: Node = Node(2);

impl FileSystem for Tiny {
    fn root(&self) -> Node {
        ROOT
    }

    fn lookup(&self, _directory: Node, _name: &[u8]) -> Result<Node, Errno> {
        Err(Errno::ENOENT)
    }

    fn parent(&self, _directory: Node) -> Result<Node, Errno> {
        Ok(ROOT)
    }

    fn attributes(&self, _node: Node) -> Result<Attributes, Errno> {
        let time = Timestamp::default();
        Ok(Attributes {
            kind: FileKind::Directory,
            mode: 0o040_755,
            uid: 0,
            gid: 0,
            links: 2,
            device: 0,
            size: 1024,
            block_size: 1024,
            blocks: 2,
            accessed: time,
            modified: time,
            changed: time,
            created: None,
            generation: None,
            data_version: None,
        })
    }

    fn read(&self, _node: Node, _offset: u64, _count: u32, _sink: &mut dyn Sink) -> Result<u32, Errno> {
        Err(Errno::EISDIR)
    }

    fn read_directory(
        &self,
        _directory: Node,
        offset: u64,
        visit: &mut dyn FnMut(&DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        for (next, name) in [(1, &b"."[..]), (2, b"..")] {
            let entry = DirectoryEntry { number: ROOT.0, kind: FileKind::Directory, next, name };
            if next > offset && visit(&entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn read_link(&self, _node: Node, _sink: &mut dyn Sink) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn list_attributes(&self, _node: Node, _sink: &mut dyn Sink) -> Result<(), Errno> {
        Ok(())
    }

    fn read_attribute(&self, _node: Node, _name: &[u8], _sink: &mut dyn Sink) -> Result<(), Errno> {
        Err(Errno::ENODATA)
    }

    fn status(&self) -> Result<FileSystemStatus, Errno> {
        Err(Errno::EIO)
    }
}
