// SPDX-License-Identifier: MIT OR Apache-2.0

//! From the blocks of a file to the blocks of the volume, whatever the inode maps them with; and reading a file's
//! content along that mapping.

use core::ops::Range;

use super::Volume;
use super::blockmap::BlockMapWalk;
use super::error::{Damage, Error};
use super::extent::ExtentWalk;
use super::inline::InlineFault;
use super::inode::{Inode, InodeFlags};
use crate::mem::Sink;
use crate::mem::region::Region;

/// Some consecutive blocks of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Which of the file.
    pub blocks: Range<u64>,
    /// The first of the consecutive blocks of the volume that hold them; `None` where they were never written and read as zeros.
    pub physical: Option<u64>,
}

/// Takes the runs of a range, in order and without gaps.
pub(super) type Visit<'a> = dyn FnMut(Run) -> Result<(), Error> + 'a;

impl<R: Region> Volume<R> {
    /// Shows `visit` the runs that make up the blocks `wanted` of `inode`. Each run lies within the volume.
    pub(super) fn map<'v>(
        &'v self,
        inode: &Inode<'v>,
        wanted: Range<u64>,
        visit: &mut Visit<'_>,
    ) -> Result<(), Error> {
        if inode.flags.contains(InodeFlags::INLINE_DATA) {
            Err(Damage::Inline { inode: inode.number, fault: InlineFault::NoBlocks }.into())
        } else if inode.flags.contains(InodeFlags::EXTENTS) {
            ExtentWalk { volume: self, inode, wanted, visit }.run()
        } else {
            BlockMapWalk { volume: self, inode, wanted, visit, pending: None }.run()
        }
    }

    /// The block `logical` of `inode`; `None` for a hole.
    pub(super) fn file_block<'v>(
        &'v self,
        inode: &Inode<'v>,
        logical: u32,
    ) -> Result<Option<&'v [u8]>, Error> {
        let first = u64::from(logical);
        let mut physical = None;
        self.map(inode, first..first + 1, &mut |run| {
            physical = run.physical;
            Ok(())
        })?;
        physical.map(|block| self.block(block)).transpose()
    }

    /// Puts the bytes of `inode` from `offset` on into `sink`, `count` or as many as there are; returns how many.
    ///
    /// One slice for each extent: the sink's copy out of the region is the only one.
    pub(super) fn read_content(
        &self,
        inode: &Inode<'_>,
        offset: u64,
        count: u32,
        sink: &mut dyn Sink,
    ) -> Result<u32, Error> {
        let end = inode.size.min(offset.saturating_add(u64::from(count)));
        let Some(length) = end.checked_sub(offset).and_then(|length| u32::try_from(length).ok()) else {
            return Ok(0);
        };
        if length == 0 {
            return Ok(0);
        }
        if inode.flags.contains(InodeFlags::INLINE_DATA) {
            self.read_inline(inode, offset, length, sink)?;
            return Ok(length);
        }
        let size = u64::from(self.superblock.block_size);
        self.map(inode, offset / size..end.div_ceil(size), &mut |run| {
            let first = run.blocks.start * size;
            let from = first.max(offset);
            let length = (run.blocks.end * size).min(end) - from;
            match run.physical {
                Some(block) => sink.put(self.bytes(block * size + (from - first), length)?)?,
                None => put_zeros(sink, length)?,
            }
            Ok(())
        })?;
        Ok(length)
    }
}

/// Puts `count` zeros, at most 2^32 as a read is no longer.
fn put_zeros(sink: &mut dyn Sink, count: u64) -> Result<(), Error> {
    let count = usize::try_from(count).map_err(|_| crate::mem::Full)?;
    Ok(sink.put_zeros(count)?)
}
