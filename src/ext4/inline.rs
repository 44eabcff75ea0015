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
        let rest = self.inline_data(inode)?.unwrap_or_default();
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
            let (_, rest) = piece.split_at(skip.min(piece.len()));
            skip = skip.saturating_sub(piece.len());
            let (taken, _) = rest.split_at(left.min(rest.len()));
            sink.put(taken)?;
            left -= taken.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::inode::InodeFlags;
    use crate::ext4::testing::{Image, TestVolume, pattern, read};
    use crate::fs::Errno;
    use std::format;

    #[test]
    fn files_within_their_inode_are_read_from_any_place() {
        let lengths = [1, 59, 60, 61, 100, 120];
        let image = Image::new("1M", &["-O", "inline_data"], |root| {
            for length in lengths {
                std::fs::write(root.join(format!("file{length}")), pattern(length)).unwrap();
            }
        });
        let volume = image.mount();
        for length in lengths {
            let number = image.inode(&format!("/file{length}"));
            let inode = volume.inode(number).unwrap();
            assert!(inode.flags.contains(InodeFlags::INLINE_DATA), "{length} bytes fit the inode");
            for offset in 0..=length {
                for count in [1u32, 30, 200] {
                    let end = length.min(offset + count as usize);
                    let found = read(&volume, number, offset as u64, count).unwrap();
                    assert_eq!(found, pattern(length)[offset..end], "{length}: {count} at {offset}");
                }
            }
        }
    }

    #[test]
    fn a_size_beyond_what_the_inode_holds_is_damage() {
        let image = Image::new("1M", &["-O", "inline_data"], |root| {
            std::fs::write(root.join("file"), pattern(100)).unwrap();
        });
        image.debugfs("set_inode_field /file size 101");
        let (volume, number): (TestVolume, _) = (image.mount(), image.inode("/file"));
        let inode = volume.inode(number).unwrap();
        let fault = InlineFault::Size { size: 101, held: 100 };
        assert_eq!(volume.inline_content(&inode), Err(Damage::Inline { inode: number, fault }.into()));
        assert_eq!(read(&volume, number, 0, 1), Err(Errno::EUCLEAN));
        let fault = InlineFault::NoBlocks;
        assert_eq!(volume.file_block(&inode, 0), Err(Damage::Inline { inode: number, fault }.into()));
    }
}
