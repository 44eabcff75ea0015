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
    /// The content of `inode`, a directory or a symbolic link, in two pieces: they are as long as `i_size` together.
    pub(super) fn inline_content<'v>(&self, inode: &Inode<'v>) -> Result<[&'v [u8]; 2], Error> {
        let [_, rest] = self.inline_space(inode)?;
        let held = inode.i_block.len().saturating_add(rest.len());
        let size = usize::try_from(inode.size).unwrap_or(usize::MAX);
        let front = inode.i_block.get(..size.min(inode.i_block.len())).unwrap_or_default();
        match rest.get(..size.saturating_sub(front.len())) {
            Some(rest) => Ok([front, rest]),
            None => {
                let fault = InlineFault::Size { size: inode.size, held };
                Err(Damage::Inline { inode: inode.number, fault }.into())
            }
        }
    }

    /// The space in `inode`.
    fn inline_space<'v>(&self, inode: &Inode<'v>) -> Result<[&'v [u8]; 2], Error> {
        Ok([inode.i_block, self.inline_data(inode)?.unwrap_or_default()])
    }

    /// Puts `length` bytes of the regular file `inode` from `offset` on into `sink`; they lie within `i_size`.
    ///
    /// What `i_size` counts beyond the inode's space is a hole, as it is for Linux: `mkfs.ext4 -d` makes such an inode of a
    /// file that is one hole, and `e2fsck` lets it be.
    pub(super) fn read_inline(
        &self,
        inode: &Inode<'_>,
        offset: u64,
        length: u32,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let mut skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut left = length as usize;
        for piece in self.inline_space(inode)? {
            let (_, rest) = piece.split_at(skip.min(piece.len()));
            skip = skip.saturating_sub(piece.len());
            let (taken, _) = rest.split_at(left.min(rest.len()));
            sink.put(taken)?;
            left = left.saturating_sub(taken.len());
        }
        Ok(sink.put_zeros(left)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::inode::InodeFlags;
    use crate::ext4::testing::{Image, TestVolume, pattern, read};
    use crate::fs::{FileSystem, Node};
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
            let blocks = volume.attributes(Node(number.into())).unwrap().blocks;
            assert_eq!((inode.blocks512, blocks), (0, 1), "it takes no blocks, and is no hole");
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
    fn a_size_beyond_what_the_inode_holds_is_a_hole_in_a_file_and_else_damage() {
        let image = Image::new("1M", &["-O", "inline_data"], |root| {
            std::fs::write(root.join("file"), pattern(100)).unwrap();
        });
        image.debugfs("set_inode_field /file size 101");
        let (volume, number): (TestVolume, _) = (image.mount(), image.inode("/file"));
        let inode = volume.inode(number).unwrap();
        let fault = InlineFault::Size { size: 101, held: 100 };
        assert_eq!(volume.inline_content(&inode), Err(Damage::Inline { inode: number, fault }.into()));
        assert_eq!(read(&volume, number, 99, 10), Ok([pattern(100)[99], 0].into()));
        let fault = InlineFault::NoBlocks;
        assert_eq!(volume.file_block(&inode, 0), Err(Damage::Inline { inode: number, fault }.into()));
    }
}
