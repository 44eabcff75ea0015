// SPDX-License-Identifier: MIT OR Apache-2.0

//! Symbolic links: the target lies in `i_block` if it is shorter than 60 bytes, else in one block; with inline data
//! also behind `i_block`.

use core::fmt;

use super::Volume;
use super::error::{Damage, Error};
use super::inode::{Inode, InodeFlags};
use crate::fs::{Errno, FileKind};
use crate::mem::Sink;
use crate::mem::region::Region;

/// What is wrong with a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SymlinkFault {
    /// `i_size` is 0, or leaves no room for a NUL in a block.
    Length(u64),
    /// The target contains a NUL.
    Nul {
        /// Where.
        position: usize,
    },
    /// The target's block is a hole.
    Hole,
}

impl fmt::Display for SymlinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Length(length) => write!(f, "its target is {length} bytes long"),
            Self::Nul { position } => write!(f, "byte {position} of its target is NUL"),
            Self::Hole => f.write_str("its target was never written"),
        }
    }
}

impl<R: Region> Volume<R> {
    /// Puts the target of `inode` into `sink`.
    pub(super) fn read_target(&self, inode: &Inode<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        if inode.kind != FileKind::Symlink {
            return Err(Errno::EINVAL.into());
        }
        let fail = |fault| Error::Corrupt(Damage::Symlink { inode: inode.number, fault });
        if inode.size == 0 || inode.size >= u64::from(self.superblock.block_size) {
            return Err(fail(SymlinkFault::Length(inode.size)));
        }
        let length = usize::try_from(inode.size).unwrap_or(usize::MAX);
        let pieces: [&[u8]; 2] = if inode.flags.contains(InodeFlags::INLINE_DATA) {
            self.inline_content(inode)?
        } else if let Some(target) =
            inode.i_block.get(..length).filter(|target| target.len() < inode.i_block.len())
        {
            [target, &[]]
        } else {
            let block = self.file_block(inode, 0)?.ok_or(fail(SymlinkFault::Hole))?;
            [block.get(..length).unwrap_or_default(), &[]]
        };
        let mut bytes = pieces.iter().flat_map(|piece| piece.iter());
        if let Some(position) = bytes.position(|byte| *byte == 0) {
            return Err(fail(SymlinkFault::Nul { position }));
        }
        for piece in pieces {
            sink.put(piece)?;
        }
        Ok(())
    }
}
