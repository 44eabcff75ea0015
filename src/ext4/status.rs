// SPDX-License-Identifier: MIT OR Apache-2.0

//! What `statfs` tells of the volume, computed as Linux does for a mount with default options.

use super::Volume;
use super::features::Incompat;
use super::group::{Totals, base_blocks};
use super::superblock::Superblock;
use crate::fs::FileSystemStatus;
use crate::mem::region::Region;

/// The two bitmaps of a group.
const BITMAPS: u64 = 2;
/// Linux holds back one fiftieth of a volume with extents, at most this many blocks, for what delayed
/// allocation cannot foresee.
const MAX_HELD_BACK: u64 = 4096;

impl<R: Region> Volume<R> {
    /// The state of the volume.
    pub(super) fn volume_status(&self) -> FileSystemStatus {
        let superblock = &self.superblock;
        let Totals { free_blocks, free_inodes } = self.totals;
        let held_back = if superblock.incompat.contains(Incompat::EXTENTS) {
            (superblock.s_blocks_count / 50).min(MAX_HELD_BACK)
        } else {
            0
        };
        let reserved = superblock.s_r_blocks_count.saturating_add(held_back);
        let (low, high) = halves(superblock.s_uuid);
        FileSystemStatus {
            block_size: superblock.block_size.get(),
            blocks: superblock.s_blocks_count.saturating_sub(self.overhead),
            blocks_free: free_blocks,
            blocks_available: free_blocks.saturating_sub(reserved),
            files: u64::from(superblock.s_inodes_count),
            files_free: free_inodes,
            identifier: low ^ high,
            name_length: 255,
        }
    }
}

/// The blocks that the volume's own structures take: what no file can ever have. `journal` is the journal's length.
pub(super) fn overhead(superblock: &Superblock, journal: u32) -> u64 {
    let before = u64::from(superblock.s_first_data_block).saturating_add(u64::from(journal));
    (0..superblock.group_count.get())
        .fold(before, |sum, group| sum.saturating_add(group_overhead(superblock, group)))
}

/// The blocks of `group` that hold a superblock, descriptors, bitmaps and the inode table.
fn group_overhead(superblock: &Superblock, group: u32) -> u64 {
    let base = u64::from(base_blocks(superblock, group));
    base.saturating_add(BITMAPS).saturating_add(u64::from(superblock.inode_table_blocks))
}

/// The two halves of a UUID as little-endian numbers.
fn halves(uuid: [u8; 16]) -> (u64, u64) {
    let whole = u128::from_le_bytes(uuid);
    let low = whole & u128::from(u64::MAX);
    let number = |half: u128| u64::try_from(half).unwrap_or_default();
    (number(low), number(whole >> 64))
}

#[cfg(test)]
mod tests {
    use crate::ext4::testing::Image;
    use crate::fs::FileSystem;

    #[test]
    fn counts_agree_with_dumpe2fs() {
        for options in [
            &["-b", "1024"][..],
            &["-b", "4096", "-O", "^flex_bg"],
            &["-b", "1024", "-O", "^has_journal,^sparse_super,^resize_inode"],
            &["-b", "1024", "-O", "sparse_super2", "-g", "1024"],
            &["-b", "1024", "-O", "meta_bg,^resize_inode", "-g", "256", "-N", "2048"],
        ] {
            let image = Image::new("24M", options, |_| {});
            let number = |label| image.header(label).parse::<u64>().unwrap();
            let status = image.mount().status().unwrap();
            let blocks = number("Block count");
            assert_eq!(status.block_size, u32::try_from(number("Block size")).unwrap());
            assert_eq!(status.blocks, blocks - number("Overhead clusters"), "{options:?}");
            assert_eq!(status.blocks_free, number("Free blocks"), "{options:?}");
            let reserved = number("Reserved block count") + blocks / 50;
            assert_eq!(status.blocks_available, status.blocks_free - reserved);
            assert_eq!(status.files, number("Inode count"));
            assert_eq!(status.files_free, number("Free inodes"));
            assert_eq!(status.name_length, 255);
        }
    }

    #[test]
    fn the_identifier_is_both_halves_of_the_uuid_folded() {
        let uuid = "01020304-0506-0708-1112-131415161718";
        let status = Image::new("1M", &["-U", uuid], |_| {}).mount().status().unwrap();
        assert_eq!(status.identifier, 0x0807_0605_0403_0201 ^ 0x1817_1615_1413_1211);
    }
}
