// SPDX-License-Identifier: MIT OR Apache-2.0

//! An ext4 volume as a [`FileSystem`]: read only, in place, without allocation.
//!
//! A [`Volume`] is mounted on a [`Region`] and keeps nothing of it but the parsed superblock: each request finds its inode
//! through the group descriptors, its blocks through the extent tree, and verifies every structure on the way (ranges always,
//! checksums where the volume has them). Nothing that the volume says is taken for granted, so that a
//! damaged one gives errors, and never a panic, a loop, or a read outside the region.
//!
//! | file         | subject                                                         |
//! |--------------|-----------------------------------------------------------------|
//! | `superblock` | the volume's parameters; `features`: what can be honoured        |
//! | `group`      | group descriptors                                                |
//! | `inode`      | inodes; `timestamp`: their times                                 |
//! | `mapping`    | file blocks to volume blocks, reading; over `extent`, `blockmap` |
//! | `inline`     | content in the inode                                             |
//! | `symlink`    | targets of symbolic links                                        |
//! | `journal`    | whether the journal is empty                                     |
//! | `status`     | what `statfs` tells                                              |
//! | `error`      | what can be wrong                                                |
//! | `checksum`, `field` | sums and numbers as the format has them                   |

mod blockmap;
mod checksum;
mod error;
mod extent;
mod features;
mod field;
mod group;
mod inline;
mod inode;
mod journal;
mod mapping;
mod status;
mod superblock;
mod symlink;
#[cfg(test)]
mod testing;
mod timestamp;

use core::fmt;
use core::ops::ControlFlow;

pub use blockmap::BlockMapFault;
use error::Error;
pub use error::{Damage, MountError};
pub use extent::ExtentFault;
pub use features::{Incompat, RoCompat};
pub use group::GroupFault;
pub use inline::InlineFault;
use inode::Inode;
pub use inode::InodeFault;
use superblock::Superblock;
pub use symlink::SymlinkFault;

use crate::fs::{Attributes, DirectoryEntry, Errno, FileKind, FileSystem, FileSystemStatus, Node};
use crate::mem::Sink;
use crate::mem::region::Region;

/// A mounted volume.
pub struct Volume<R: Region> {
    region: R,
    superblock: Superblock,
    totals: group::Totals,
    overhead: u64,
}

impl<R: Region> Volume<R> {
    /// Mounts the volume that `region` holds: checks the superblock, every group descriptor, the journal and the root directory.
    ///
    /// # Errors
    /// [`MountError`]: no volume, a damaged one, one that must be recovered first, or one with features that this reader
    /// does not have.
    pub fn mount(region: R) -> Result<Self, MountError> {
        let superblock = Superblock::read(&region)?;
        let mut volume = Self { region, superblock, totals: group::Totals::default(), overhead: 0 };
        volume.totals = volume.check_groups()?;
        let journal = volume.check_journal()?;
        volume.overhead = status::overhead(&volume.superblock, journal);
        if volume.inode(inode::ROOT)?.kind != FileKind::Directory {
            let fault = InodeFault::NotDirectory;
            return Err(MountError::Damaged(Damage::Inode { inode: inode::ROOT, fault }));
        }
        Ok(volume)
    }

    /// The superblock.
    fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Block `number`, in place.
    fn block(&self, number: u64) -> Result<&[u8], Error> {
        if number >= self.superblock.s_blocks_count {
            return Err(self.out_of_range(number));
        }
        let size = u64::from(self.superblock.block_size);
        self.bytes(number * size, size)
    }

    /// The `length` bytes of the volume from `offset` on, in place.
    fn bytes(&self, offset: u64, length: u64) -> Result<&[u8], Error> {
        usize::try_from(length)
            .ok()
            .and_then(|length| self.region.bytes(offset, length))
            .ok_or_else(|| self.out_of_range(offset / u64::from(self.superblock.block_size)))
    }

    fn out_of_range(&self, block: u64) -> Error {
        Damage::BlockOutOfRange { block, blocks_count: self.superblock.s_blocks_count }.into()
    }

    /// Whether the `length` blocks from `start` on lie in the volume and behind its superblock.
    fn holds(&self, start: u64, length: u64) -> bool {
        start > u64::from(self.superblock.s_first_data_block)
            && start.checked_add(length).is_some_and(|end| end <= self.superblock.s_blocks_count)
    }

    /// The inode of a node that was handed out: of a file, not of an attribute value.
    fn file(&self, node: Node) -> Result<Inode<'_>, Error> {
        let number = u32::try_from(node.0).map_err(|_| Errno::ENOENT)?;
        let inode = self.inode(number)?;
        if inode.flags.contains(inode::InodeFlags::EA_INODE) {
            return Err(Damage::Inode { inode: number, fault: InodeFault::AttributeValue }.into());
        }
        Ok(inode)
    }
}

impl<R: Region> fmt::Debug for Volume<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volume").field("superblock", &self.superblock).finish_non_exhaustive()
    }
}

impl<R: Region> FileSystem for Volume<R> {
    fn root(&self) -> Node {
        Node(u64::from(inode::ROOT))
    }

    fn lookup(&self, directory: Node, _name: &[u8]) -> Result<Node, Errno> {
        self.file(directory).map_err(|error| error.answer(directory.0))?;
        Err(Errno::EOPNOTSUPP)
    }

    fn parent(&self, directory: Node) -> Result<Node, Errno> {
        self.file(directory).map_err(|error| error.answer(directory.0))?;
        Err(Errno::EOPNOTSUPP)
    }

    fn attributes(&self, node: Node) -> Result<Attributes, Errno> {
        let inode = self.file(node).map_err(|error| error.answer(node.0))?;
        Ok(inode.attributes(self.superblock.block_size))
    }

    fn read(&self, node: Node, offset: u64, count: u32, sink: &mut dyn Sink) -> Result<u32, Errno> {
        self.file(node)
            .and_then(|inode| match inode.kind {
                FileKind::Regular => self.read_content(&inode, offset, count, sink),
                FileKind::Directory => Err(Errno::EISDIR.into()),
                _ => Err(Errno::EINVAL.into()),
            })
            .map_err(|error| error.answer(node.0))
    }

    fn read_directory(
        &self,
        directory: Node,
        _offset: u64,
        _visit: &mut dyn FnMut(&DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        self.file(directory).map_err(|error| error.answer(directory.0))?;
        Err(Errno::EOPNOTSUPP)
    }

    fn read_link(&self, node: Node, sink: &mut dyn Sink) -> Result<(), Errno> {
        self.file(node).and_then(|inode| self.read_target(&inode, sink)).map_err(|error| error.answer(node.0))
    }

    fn list_attributes(&self, _node: Node, _sink: &mut dyn Sink) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn read_attribute(&self, _node: Node, _name: &[u8], _sink: &mut dyn Sink) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn status(&self) -> Result<FileSystemStatus, Errno> {
        Ok(self.volume_status())
    }
}
