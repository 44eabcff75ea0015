// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names that go, or come to mean another file; and whether there are any.
//!
//! The space of a removed name is joined with the record in front of it. A directory does not give up blocks: as on Linux, it
//! keeps them for names to come.

use super::{Content, Directory, leaf};
use crate::ext4::Volume;
use crate::ext4::error::Error;
use crate::ext4::field::put_le32;
use crate::ext4::htree;
use crate::fs::FileKind;
use crate::mem::region::Region;

impl<R: Region> Directory<'_, R> {
    /// Whether there are no names but `.` and `..`.
    pub(super) fn is_empty(&self) -> Result<bool, Error> {
        let blocks = match self.content()? {
            Content::Inline { areas, .. } => {
                for record in areas.into_iter().flat_map(|area| self.records(area, 0)) {
                    if record?.inode != 0 {
                        return Ok(false);
                    }
                }
                return Ok(true);
            }
            Content::Blocks(blocks) => blocks,
        };
        for block in 0..blocks {
            let area = self.linear_block(block, blocks)?;
            let dots = if block == 0 {
                self.check_dots(area)?;
                2
            } else {
                0
            };
            for record in self.records(area, self.position(block)).skip(dots) {
                if record?.inode != 0 {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

impl<R: Region> Volume<R> {
    /// Removes `name`, neither `.` nor `..`, from `directory`; returns the inode that it named.
    ///
    /// # Errors
    /// ENOENT; damage; [`Error::TransactionFull`].
    pub(in crate::ext4) fn remove_name(&mut self, directory: u32, name: &[u8]) -> Result<u32, Error> {
        let directory = self.directory_of(directory)?;
        let layout = directory.layout()?;
        let place = directory.locate(layout.index.blocks, name)?;
        let inode = directory.check_named(place.record.inode)?;
        let (previous, record) = (place.previous, (place.record.start, place.record.end));
        let physical = directory.physical(place.block)?;
        let raw = self.block_mut(physical)?;
        leaf::remove(raw, previous, record);
        leaf::seal(raw, layout.index.checksum_seed);
        Ok(inode)
    }

    /// Lets `name`, neither `.` nor `..`, of `directory` name `inode`, of that kind; returns the inode that it named.
    ///
    /// # Errors
    /// ENOENT; damage; [`Error::TransactionFull`].
    pub(in crate::ext4) fn replace_name(
        &mut self,
        directory: u32,
        name: &[u8],
        inode: u32,
        kind: FileKind,
    ) -> Result<u32, Error> {
        let directory = self.directory_of(directory)?;
        let layout = directory.layout()?;
        let place = directory.locate(layout.index.blocks, name)?;
        let old = directory.check_named(place.record.inode)?;
        let start = place.record.start;
        let physical = directory.physical(place.block)?;
        let raw = self.block_mut(physical)?;
        leaf::replace(raw, start, inode, layout.file_type(kind));
        leaf::seal(raw, layout.index.checksum_seed);
        Ok(old)
    }

    /// Makes `parent` the directory that `directory` is in: lets its `..` name it.
    ///
    /// # Errors
    /// Damage; [`Error::TransactionFull`].
    pub(in crate::ext4) fn set_parent(&mut self, directory: u32, parent: u32) -> Result<(), Error> {
        let directory = self.directory_of(directory)?;
        let layout = directory.layout()?;
        let start = directory.dots(directory.linear_block(0, layout.index.blocks)?)?.start;
        let physical = directory.physical(0)?;
        let raw = self.block_mut(physical)?;
        put_le32(raw, start, parent);
        if layout.indexed {
            htree::seal_index(raw, &layout.index, 0);
        } else {
            leaf::seal(raw, layout.index.checksum_seed);
        }
        Ok(())
    }

    /// Whether `directory` has no names but `.` and `..`.
    ///
    /// # Errors
    /// ENOTDIR; damage.
    pub(in crate::ext4) fn is_empty_directory(&self, directory: u32) -> Result<bool, Error> {
        self.directory_of(directory)?.is_empty()
    }
}
