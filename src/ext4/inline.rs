// SPDX-License-Identifier: MIT OR Apache-2.0

//! Inline data: content that lies in the inode itself. The first 60 bytes are in `i_block`, the rest is the value of the
//! attribute `system.data` in the same inode.

use core::fmt;

use super::Volume;
use super::error::{Damage, Error};
use super::inode::Inode;
use crate::mem::Sink;
use crate::mem::region::Region;

/// What is wrong with inline content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InlineFault {
    /// `i_size` is larger than what the inode holds.
    Size {
        /// `i_size`.
        size: u64,
        /// What the inode holds, in bytes.
        held: usize,
    },
    /// The content is in the inode, where blocks were expected.
    NoBlocks,
}

impl fmt::Display for InlineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Size { size, held } => write!(f, "i_size is {size}, but the inode holds {held} bytes"),
            Self::NoBlocks => f.write_str("it has no blocks"),
        }
    }
}

impl<R: Region> Volume<R> {
    /// The content of `inode`, in two pieces: they are as long as `i_size` together.
    pub(super) fn inline_content<'v>(&self, inode: &Inode<'v>) -> Result<[&'v [u8]; 2], Error> {
        let rest: &[u8] = &[];
        let held = inode.i_block.len() + rest.len();
        let size = usize::try_from(inode.size).unwrap_or(usize::MAX);
        let front = inode.i_block.get(..size.min(inode.i_block.len())).unwrap_or_default();
        match rest.get(..size - front.len()) {
            Some(rest) => Ok([front, rest]),
            None => {
                let fault = InlineFault::Size { size: inode.size, held };
                Err(Damage::Inline { inode: inode.number, fault }.into())
            }
        }
    }

    /// Puts `length` bytes from `offset` on into `sink`; they lie within `i_size`.
    pub(super) fn read_inline(
        &self,
        inode: &Inode<'_>,
        offset: u64,
        length: u32,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let mut skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut left = length as usize;
        for piece in self.inline_content(inode)? {
            let piece = piece.get(skip.min(piece.len())..).unwrap_or_default();
            skip = skip.saturating_sub(piece.len());
            let taken = piece.get(..left.min(piece.len())).unwrap_or_default();
            sink.put(taken)?;
            left -= taken.len();
        }
        Ok(())
    }
}
