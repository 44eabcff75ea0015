// SPDX-License-Identifier: MIT OR Apache-2.0

//! The volume as a [`FileSystem`]: nodes to inodes, operations, answers.
//!
//! A node is the inode's number and, above it, its generation: a node of a file that is gone is not mistaken for the file that
//! has its number now.

use core::ops::ControlFlow;

use super::error::{Damage, Error};
use super::inode::{self, Inode, InodeFault};
use super::{Directory, Volume};
use crate::fs::{
    AttributeChanges, AttributeExistence, Attributes, Caller, DirectoryEntry, Errno, FileKind, FileSystem,
    FileSystemStatus, NewFile, Node, Position, Removal,
};
use crate::mem::region::Region;
use crate::mem::{Sink, Source};

/// The number of `node`'s inode.
pub(super) fn number(node: Node) -> u32 {
    u32::try_from(node.0 & u64::from(u32::MAX)).unwrap_or_default()
}

/// That `inode` is a file, and not the value of an attribute.
fn check_no_value(inode: &Inode<'_>) -> Result<(), Error> {
    if inode.flags.contains(inode::InodeFlags::EA_INODE) {
        let fault = InodeFault::AttributeValue;
        return Err(Damage::Inode { inode: inode.number, fault }.into());
    }
    Ok(())
}

impl<R: Region> Volume<R> {
    /// The inode of a node that was handed out: of a file, not of an attribute value.
    ///
    /// # Errors
    /// ESTALE if the file is gone.
    pub(super) fn file(&self, node: Node) -> Result<Inode<'_>, Error> {
        let inode = self.inode(number(node)).map_err(|error| match error {
            Error::Corrupt(Damage::Inode { fault: InodeFault::NotInUse, .. }) => Errno::ESTALE.into(),
            other => other,
        })?;
        if u64::from(inode.generation) != node.0 >> 32 {
            return Err(Errno::ESTALE.into());
        }
        check_no_value(&inode)?;
        Ok(inode)
    }

    /// The directory of a node that was handed out.
    ///
    /// # Errors
    /// ENOENT for one that was removed and that somebody has open: it holds nothing, and the one above it may be another by
    /// now.
    fn directory(&self, node: Node) -> Result<Directory<'_, R>, Error> {
        let inode = self.file(node)?;
        if inode.kind == FileKind::Directory && inode.links == 0 {
            return Err(Errno::ENOENT.into());
        }
        Directory::new(self, inode)
    }

    /// Runs `operation`, which changes the files `nodes`: all or nothing. Where space ends, what was freed since the
    /// last flush is made reusable, and it runs once more.
    fn change<T>(
        &mut self,
        nodes: &[Node],
        mut operation: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Errno> {
        let first = nodes.first().map_or(0, |node| number(*node));
        let mut run = |volume: &mut Self| {
            volume.check_log()?;
            for node in nodes {
                volume.file(*node)?;
            }
            volume.atomically(&mut operation)
        };
        let changed = match run(self) {
            Err(Error::Reply(Errno::ENOSPC)) if self.has_unflushed() => {
                self.flush_volume().and_then(|()| run(self))
            }
            other => other,
        };
        changed.map_err(|error| self.answer(error, first))
    }

    // What is not remembered is found out of line, so that what is takes no room for it.

    /// The file `name` in `directory`, as [`lookup`](FileSystem::lookup).
    #[inline(never)]
    fn look_up(&self, directory: Node, name: &[u8]) -> Result<Node, Errno> {
        self.directory(directory)
            .and_then(|within| {
                let (number, block) = within.lookup_in_block(name)?;
                let inode = self.inode(number)?;
                check_no_value(&inode)?;
                self.remembered.set_name(directory, name, inode.node(), block);
                Ok(inode.node())
            })
            .map_err(|error| self.answer(error, number(directory)))
    }

    /// The attributes that the inode of `node` has.
    #[inline(never)]
    fn read_attributes(&self, node: Node) -> Result<Attributes, Errno> {
        let inode = self.file(node).map_err(|error| self.answer(error, number(node)))?;
        let attributes = inode.attributes(self.superblock.block_size.get());
        self.remembered.set_attributes(node, attributes, inode.block);
        Ok(attributes)
    }

    /// Puts bytes of the file `node` into `sink`, as [`read`](FileSystem::read).
    #[inline(never)]
    fn read_file(&self, node: Node, offset: u64, count: u32, sink: &mut dyn Sink) -> Result<u32, Errno> {
        self.file(node)
            .and_then(|inode| match inode.kind {
                FileKind::Regular => self.read_content(&inode, offset, count, sink),
                FileKind::Directory => Err(Errno::EISDIR.into()),
                _ => Err(Errno::EINVAL.into()),
            })
            .map_err(|error| self.answer(error, number(node)))
    }

    /// Puts the `length` bytes of the file `node` that lie at `place` in the region into `sink`.
    #[inline(always)]
    fn put_known(&self, node: Node, place: u64, length: u64, sink: &mut dyn Sink) -> Result<u32, Errno> {
        self.put_bytes(place, length, sink).map_err(|error| self.answer(error, number(node)))
    }

    /// Makes what was changed, and what was found of damage, survive the death of this program.
    #[inline(never)]
    fn commit_changes(&mut self) -> Result<(), Errno> {
        self.store_errors().and_then(|()| self.commit_transaction()).map_err(|error| self.answer(error, 0))
    }

    /// That the volume is not only read.
    fn check_log(&self) -> Result<(), Error> {
        if self.log.is_some() { self.check_not_halted() } else { Err(Errno::EROFS.into()) }
    }
}

impl<R: Region> FileSystem for Volume<R> {
    fn root(&self) -> Node {
        // The mount checked that there is one.
        self.inode(inode::ROOT).map_or(Node(u64::from(inode::ROOT)), |root| root.node())
    }

    fn lookup(&self, directory: Node, name: &[u8]) -> Result<Node, Errno> {
        match self.remembered.name(directory, name) {
            Some(node) => Ok(node),
            None => self.look_up(directory, name),
        }
    }

    fn parent(&self, directory: Node) -> Result<Node, Errno> {
        self.directory(directory)
            .and_then(|directory| directory.parent())
            .and_then(|number| Ok(self.inode(number)?.node()))
            .map_err(|error| self.answer(error, number(directory)))
    }

    fn attributes(&self, node: Node) -> Result<Attributes, Errno> {
        self.remembered.tell(node);
        match self.remembered.attributes(node) {
            Some(attributes) => Ok(attributes),
            None => self.read_attributes(node),
        }
    }

    fn read(&self, node: Node, offset: u64, count: u32, sink: &mut dyn Sink) -> Result<u32, Errno> {
        let known = self.remembered.piece(node).and_then(|piece| piece.locate(offset, count));
        match known {
            Some((place, length)) => self.put_known(node, place, length, sink),
            None => self.read_file(node, offset, count, sink),
        }
    }

    fn read_directory(
        &self,
        directory: Node,
        offset: u64,
        visit: &mut dyn FnMut(&DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        self.directory(directory)
            .and_then(|directory| directory.read(offset, visit))
            .map_err(|error| self.answer(error, number(directory)))
    }

    fn read_link(&self, node: Node, sink: &mut dyn Sink) -> Result<(), Errno> {
        self.file(node)
            .and_then(|inode| self.read_target(&inode, sink))
            .map_err(|error| self.answer(error, number(node)))
    }

    fn list_attributes(&self, node: Node, sink: &mut dyn Sink) -> Result<(), Errno> {
        self.file(node)
            .and_then(|inode| self.list_names(&inode, sink))
            .map_err(|error| self.answer(error, number(node)))
    }

    fn read_attribute(&self, node: Node, name: &[u8], sink: &mut dyn Sink) -> Result<(), Errno> {
        self.file(node)
            .and_then(|inode| self.read_value(&inode, name, sink))
            .map_err(|error| self.answer(error, number(node)))
    }

    fn status(&self) -> Result<FileSystemStatus, Errno> {
        Ok(self.volume_status())
    }

    fn number(&self, node: Node) -> u64 {
        number(node).into()
    }

    fn check_writable(&self, node: Node) -> Result<(), Errno> {
        let check = || {
            self.check_log()?;
            if self.file(node)?.flags.contains(inode::InodeFlags::IMMUTABLE) {
                return Err(Errno::EPERM.into());
            }
            Ok(())
        };
        check().map_err(|error: Error| self.answer(error, number(node)))
    }

    fn write(
        &mut self,
        caller: Caller,
        node: Node,
        position: Position,
        source: &mut dyn Source,
    ) -> Result<u32, Errno> {
        let mut write = || {
            self.check_log()?;
            let inode = self.file(node)?;
            match inode.kind {
                FileKind::Regular => {}
                FileKind::Directory => return Err(Errno::EISDIR.into()),
                _ => return Err(Errno::EINVAL.into()),
            }
            let append_only = inode.flags.contains(inode::InodeFlags::APPEND) && position != Position::End;
            if inode.flags.contains(inode::InodeFlags::IMMUTABLE) || append_only {
                return Err(Errno::EPERM.into());
            }
            self.write_content(number(node), caller, position, source)
        };
        write().map_err(|error: Error| self.answer(error, number(node)))
    }

    fn create(
        &mut self,
        caller: Caller,
        directory: Node,
        name: &[u8],
        new: &NewFile<'_>,
    ) -> Result<Node, Errno> {
        let parent = number(directory);
        let made = self.change(&[directory], |volume| volume.create_file(caller, parent, name, new))?;
        self.inode(made).map(|inode| inode.node()).map_err(|error| self.answer(error, made))
    }

    fn link(&mut self, caller: Caller, node: Node, directory: Node, name: &[u8]) -> Result<(), Errno> {
        let (file, parent) = (number(node), number(directory));
        self.change(&[node, directory], |volume| volume.link_file(caller, file, parent, name))
    }

    fn remove(&mut self, directory: Node, name: &[u8], removal: Removal) -> Result<(), Errno> {
        let parent = number(directory);
        let fate = self.change(&[directory], |volume| volume.remove_file(parent, name, removal))?;
        self.settle(fate);
        Ok(())
    }

    fn rename(&mut self, caller: Caller, from: (Node, &[u8]), to: (Node, &[u8])) -> Result<(), Errno> {
        let (old, new) = ((number(from.0), from.1), (number(to.0), to.1));
        let fate = self.change(&[from.0, to.0], |volume| volume.rename_file(caller, old, new))?;
        self.settle(fate);
        Ok(())
    }

    fn set_attributes(
        &mut self,
        caller: Caller,
        node: Node,
        changes: &AttributeChanges,
    ) -> Result<(), Errno> {
        let file = number(node);
        let shortened = self.change(&[node], |volume| volume.change_attributes(caller, file, changes))?;
        // The change is made: what is left over is freed now, or by the next mount.
        if let Err(error) = self.finish_change(file, shortened) {
            let errno = self.answer(error, file);
            log::error!("ext4: inode {file} was shortened, but not all behind its end is freed now: {errno}");
        }
        Ok(())
    }

    fn set_attribute(
        &mut self,
        caller: Caller,
        node: Node,
        name: &[u8],
        value: &[u8],
        existence: AttributeExistence,
    ) -> Result<(), Errno> {
        self.change(&[node], |volume| {
            volume.check_changeable(number(node))?;
            volume.write_attribute(number(node), name, Some(value), existence, caller)
        })
    }

    fn remove_attribute(&mut self, caller: Caller, node: Node, name: &[u8]) -> Result<(), Errno> {
        self.change(&[node], |volume| {
            volume.check_changeable(number(node))?;
            volume.write_attribute(number(node), name, None, AttributeExistence::Any, caller)
        })
    }

    fn retain(&mut self, node: Node) -> Result<(), Errno> {
        if self.log.is_none() {
            return Ok(());
        }
        self.file(node).map_err(|error| self.answer(error, number(node)))?;
        self.attended.open(number(node)).map_err(|_| Errno::ENFILE)
    }

    fn release(&mut self, node: Node) {
        let file = number(node);
        if self.attended.close(file) && self.attended.front(file).is_some() {
            // It may be removed little by little: from now on it is found no more.
            self.remembered.forget_all();
            self.release_orphan(file);
        }
    }

    fn commit(&mut self) -> Result<(), Errno> {
        // So ends each pass over a ring that changed nothing.
        if self.is_committed() && !self.has_unstored_errors() { Ok(()) } else { self.commit_changes() }
    }

    fn synchronize(&mut self) -> Result<(), Errno> {
        if self.log.is_none() {
            return Ok(());
        }
        self.store_errors().and_then(|()| self.flush_volume()).map_err(|error| self.answer(error, 0))
    }
}

#[cfg(test)]
mod tests;
