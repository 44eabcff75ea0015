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
pub struct Run {
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
        self.map(inode, first..first.saturating_add(1), &mut |run| {
            physical = run.physical;
            Ok(())
        })?;
        physical.map(|block| self.block(block)).transpose()
    }

    /// Puts the `length` bytes of the region from `place` on into `sink`.
    pub(super) fn put_bytes(&self, place: u64, length: u64, sink: &mut dyn Sink) -> Result<u32, Error> {
        sink.put(self.bytes(place, length)?)?;
        // Of a read, so that it fits.
        Ok(u32::try_from(length).unwrap_or(u32::MAX))
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
        let block_size = self.superblock.block_size;
        let size = u64::from(block_size);
        self.map(inode, offset / block_size..block_size.count_for(end), &mut |run| {
            let first = run.blocks.start.saturating_mul(size);
            let from = first.max(offset);
            let length = run.blocks.end.saturating_mul(size).min(end).saturating_sub(from);
            match run.physical {
                Some(block) => {
                    let place = block.saturating_mul(size).saturating_add(from.saturating_sub(first));
                    sink.put(self.bytes(place, length)?)?;
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::testing::{Collected, Image, Numbers, pattern, read};
    use crate::fs::{Errno, FileSystem, Node};
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::vec::Vec;

    /// A content of `blocks` pieces of `size` bytes; each second one is zeros, and the last is cut short.
    fn comb(blocks: usize, size: usize) -> Vec<u8> {
        let mut bytes = std::vec![0; blocks * size];
        for (index, piece) in bytes.chunks_mut(size).enumerate().step_by(2) {
            piece.fill(u8::try_from(index % 250 + 1).unwrap());
            piece[..8].copy_from_slice(&index.to_le_bytes());
        }
        bytes.truncate(blocks * size - 3);
        bytes
    }

    /// Writes `bytes` with holes where pieces of `size` bytes are zeros.
    fn write_sparse(path: &Path, bytes: &[u8], size: usize) {
        let file = File::create(path).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        for (index, piece) in bytes.chunks(size).enumerate() {
            if piece.iter().any(|byte| *byte != 0) {
                file.write_all_at(piece, (index * size) as u64).unwrap();
            }
        }
    }

    /// Compares all of `file`, and many pieces of it, with `content`.
    fn assert_content(image: &Image, path: &str, content: &[u8]) {
        let (volume, number) = (image.mount(), image.inode(path));
        assert!(read(&volume, number, 0, u32::MAX).unwrap() == content, "{path}");
        let mut numbers = Numbers(0x5eed);
        for _ in 0..400 {
            let offset = numbers.below(content.len() + 9);
            let count = numbers.below(20_000);
            let start = content.len().min(offset);
            let end = content.len().min(start + count);
            let found = read(&volume, number, offset as u64, u32::try_from(count).unwrap()).unwrap();
            assert!(found == content[start..end], "{path}: {count} bytes at {offset}");
        }
    }

    /// The depth that the root of the extent tree of `path` states.
    fn depth(image: &Image, path: &str) -> u8 {
        image.mount().inode(image.inode(path)).unwrap().i_block[6]
    }

    #[test]
    fn files_read_back_whatever_maps_them_and_however_scattered_they_are() {
        for (options, levels) in [
            (&["-b", "1024"][..], Some(2)),
            (&["-b", "2048"], Some(1)),
            (&["-b", "4096"], Some(1)),
            (&["-b", "1024", "-O", "^metadata_csum"], Some(2)),
            (&["-b", "1024", "-t", "ext2"], None),
            (&["-b", "4096", "-t", "ext3", "-O", "^has_journal"], None),
        ] {
            let size: usize = options[1].parse().unwrap();
            let content = comb(800, size);
            let image = Image::new("16M", options, |root| write_sparse(&root.join("comb"), &content, size));
            assert_content(&image, "/comb", &content);
            if let Some(levels) = levels {
                assert_eq!(depth(&image, "/comb"), levels, "{options:?}");
            }
        }
    }

    #[test]
    fn a_tree_of_three_levels_is_read_and_one_walk_gives_all_of_it() {
        let content = comb(58_000, 1024);
        let image =
            Image::new("64M", &["-b", "1024"], |root| write_sparse(&root.join("comb"), &content, 1024));
        assert_eq!(depth(&image, "/comb"), 3);
        let volume = image.mount();
        let number = image.inode("/comb");
        let mut sink = Collected::default();
        assert_eq!(
            volume.read(Node(number.into()), 0, u32::MAX, &mut sink),
            Ok(u32::try_from(content.len()).unwrap())
        );
        assert!(sink.bytes == content);
        assert_eq!(sink.pieces, 58_000, "one for each extent and each hole");
    }

    #[test]
    fn a_block_map_of_three_levels_is_read_with_its_holes() {
        let mut content = std::vec![0; 70 << 20];
        for at in [0, 11 << 10, 12 << 10, 267 << 10, 268 << 10, (268 + 65536) << 10, (70 << 20) - 5] {
            content[at..at + 5].copy_from_slice(b"piece");
        }
        let image = Image::new("8M", &["-b", "1024", "-t", "ext2"], |root| {
            write_sparse(&root.join("file"), &content, 1024)
        });
        let volume = image.mount();
        let mut sink = Collected::default();
        let number = image.inode("/file");
        assert_eq!(volume.read(Node(number.into()), 0, u32::MAX, &mut sink), Ok(70 << 20));
        assert!(sink.bytes == content);
        assert!(sink.pieces < 20, "neighbours are merged, holes too: {}", sink.pieces);
        for offset in [(268 + 65536) << 10, 268 << 10, 11 << 10] {
            assert_eq!(read(&volume, number, offset, 5).unwrap(), b"piece");
        }
    }

    #[test]
    fn an_extent_is_handed_over_in_one_piece() {
        let content = pattern(3_000_000);
        let image =
            Image::new("16M", &["-b", "1024"], |root| std::fs::write(root.join("file"), &content).unwrap());
        let number = image.inode("/file");
        let extents = image.debugfs("dump_extents -l /file").lines().count() - 1;
        let mut sink = Collected::default();
        image.mount().read(Node(number.into()), 0, u32::MAX, &mut sink).unwrap();
        assert!(sink.bytes == content);
        assert_eq!(sink.pieces, extents);
        assert_content(&image, "/file", &content);
    }

    #[test]
    fn unwritten_extents_and_holes_read_as_zeros() {
        let content = std::vec![7; 10_000];
        let image =
            Image::new("4M", &["-b", "1024"], |root| std::fs::write(root.join("file"), &content).unwrap());
        image.debugfs("fallocate /file 20 39");
        image.debugfs(&std::format!("set_inode_field /file size {}", 60 * 1024));
        assert!(image.debugfs("dump_extents /file").contains("Uninit"), "debugfs made an unwritten extent");
        let mut expected = content;
        expected.resize(60 * 1024, 0);
        assert_content(&image, "/file", &expected);
        let volume = image.mount();
        let inode = volume.inode(image.inode("/file")).unwrap();
        assert_eq!(volume.file_block(&inode, 9).unwrap().map(|block| block[0]), Some(7));
        assert_eq!(volume.file_block(&inode, 15), Ok(None), "a hole");
        assert_eq!(volume.file_block(&inode, 25), Ok(None), "unwritten");
        assert_eq!(volume.file_block(&inode, u32::MAX), Ok(None), "past the end");
    }

    #[test]
    fn reads_stop_at_the_end_of_the_file() {
        let image = Image::new("1M", &[], |root| std::fs::write(root.join("file"), "0123456789").unwrap());
        let (volume, number) = (image.mount(), image.inode("/file"));
        assert_eq!(read(&volume, number, 7, 100).unwrap(), b"789");
        assert_eq!(read(&volume, number, 3, 2).unwrap(), b"34");
        for (offset, count) in [(10, 1), (11, 5), (i64::MAX as u64, 0), (u64::MAX, u32::MAX), (0, 0)] {
            assert_eq!(read(&volume, number, offset, count).unwrap(), b"");
        }
    }

    #[test]
    fn only_regular_files_are_read() {
        let image =
            Image::new("1M", &[], |root| std::os::unix::fs::symlink("target", root.join("link")).unwrap());
        image.debugfs("mknod pipe p");
        let volume = image.mount();
        assert_eq!(read(&volume, 2, 0, 1), Err(Errno::EISDIR));
        assert_eq!(read(&volume, image.inode("/link"), 0, 1), Err(Errno::EINVAL));
        assert_eq!(read(&volume, image.inode("/pipe"), 0, 1), Err(Errno::EINVAL));
    }

    #[test]
    fn a_sink_without_room_is_an_error_and_no_damage() {
        struct Closed;
        impl Sink for Closed {
            fn put(&mut self, _: &[u8]) -> Result<(), crate::mem::Full> {
                Err(crate::mem::Full)
            }
            fn put_zeros(&mut self, _: usize) -> Result<(), crate::mem::Full> {
                Err(crate::mem::Full)
            }
        }
        let image = Image::new("1M", &[], |root| std::fs::write(root.join("file"), "x").unwrap());
        let node = Node(image.inode("/file").into());
        assert_eq!(image.mount().read(node, 0, 1, &mut Closed), Err(Errno::EMSGSIZE));
    }
}
