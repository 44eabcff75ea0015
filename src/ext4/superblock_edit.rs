// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changing the superblock: field by field, then its checksum; and the counts of what is free in the whole volume, which
//! operations keep in memory and which are stored once for each transaction.

use super::Volume;
use super::checksum::crc32c;
use super::error::Error;
use super::features::Incompat;
use super::field::{le32, put, put_le32};
use super::group::Totals;
use super::superblock::{CHECKSUM_OFFSET, LENGTH, OFFSET};
use crate::mem::region::Region;

/// `s_free_blocks_count`, low and high half; the high half counts with `64bit` only.
const FREE_BLOCKS_LO: usize = 0xc;
const FREE_BLOCKS_HI: usize = 0x158;
/// `s_free_inodes_count`.
const FREE_INODES: usize = 0x10;
/// `s_wtime`: when the superblock was last written; low four bytes, and a fifth.
const WTIME_LO: usize = 0x30;
const WTIME_HI: usize = 0x274;

impl<R: Region> Volume<R> {
    /// Changes the superblock, 1024 bytes, with `change`, then sets its checksum.
    ///
    /// # Errors
    /// EROFS; [`Error::TransactionFull`].
    pub(super) fn edit_superblock(&mut self, change: impl FnOnce(&mut [u8])) -> Result<(), Error> {
        let sealed = self.superblock.has_metadata_csum();
        let (number, start) = self.superblock_place();
        let block = self.block_mut(number)?;
        let raw = block.get_mut(start..).and_then(|rest| rest.get_mut(..LENGTH)).unwrap_or_default();
        change(raw);
        if sealed {
            let sum = crc32c(u32::MAX, raw.get(..CHECKSUM_OFFSET).unwrap_or_default());
            put_le32(raw, CHECKSUM_OFFSET, sum);
        }
        Ok(())
    }

    /// The superblock as the last operation left it.
    pub(super) fn superblock_bytes(&self) -> Result<&[u8], Error> {
        let (number, start) = self.superblock_place();
        Ok(self.block(number)?.get(start..).unwrap_or_default())
    }

    /// Makes the superblock say what is free, if it does not, and lets what was freed be taken again: the last step before a
    /// transaction is committed.
    ///
    /// # Errors
    /// As [`edit_superblock`](Self::edit_superblock).
    pub(super) fn stage_superblock(&mut self) -> Result<(), Error> {
        self.stage_counts()?;
        self.recent.forget_freed();
        Ok(())
    }

    fn stage_counts(&mut self) -> Result<(), Error> {
        let wide = self.superblock.incompat.contains(Incompat::BLOCKS_64BIT);
        let Totals { free_blocks, free_inodes } = self.totals;
        let [b0, b1, b2, b3, b4, b5, b6, b7] = free_blocks.to_le_bytes();
        let (low, high) = ([b0, b1, b2, b3], [b4, b5, b6, b7]);
        let [i0, i1, i2, i3, ..] = free_inodes.to_le_bytes();
        let inodes = [i0, i1, i2, i3];

        let raw = self.superblock_bytes()?;
        let said = |offset| le32(raw, offset).to_le_bytes();
        let right = said(FREE_BLOCKS_LO) == low
            && (!wide || said(FREE_BLOCKS_HI) == high)
            && said(FREE_INODES) == inodes;
        if right {
            return Ok(());
        }
        let [s0, s1, s2, s3, s4, ..] = self.now().seconds.to_le_bytes();
        self.edit_superblock(|raw| {
            put(raw, FREE_BLOCKS_LO, low);
            if wide {
                put(raw, FREE_BLOCKS_HI, high);
            }
            put(raw, FREE_INODES, inodes);
            put(raw, WTIME_LO, [s0, s1, s2, s3]);
            put(raw, WTIME_HI, [s4]);
        })
    }

    /// Where the superblock lies: the block, and from which byte of it on.
    pub(super) fn superblock_place(&self) -> (u64, usize) {
        let size = self.superblock.block_size;
        // OFFSET is 1024 and a block at least that: the remainder is 0 or 1024.
        (OFFSET / size, if size.divides(OFFSET) { 0 } else { LENGTH })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::inode;
    use crate::ext4::testing::{Image, NOON};
    use crate::fs::Caller;
    use std::format;

    #[test]
    fn a_commit_stores_what_is_free_wherever_the_superblock_lies() {
        for options in [
            &["-b", "1024"][..],
            &["-b", "2048"],
            &["-b", "4096"],
            &["-b", "4096", "-O", "^64bit"],
            &["-b", "1024", "-O", "^metadata_csum"],
        ] {
            let image = Image::new("16M", options, |_| {});
            let mut volume = image.mount_writable();
            let before = volume.totals;
            let taken = volume.atomically(|volume| {
                volume.allocate_inode(inode::ROOT, false)?;
                volume.allocate_blocks(0, 1, Caller::ROOT)
            });
            assert_eq!(taken.unwrap().count, 1);
            let bytes = volume.unmount().unwrap();
            std::fs::write(image.file(), &bytes).unwrap();
            assert_eq!(image.header("Free blocks"), format!("{}", before.free_blocks - 1));
            assert_eq!(image.header("Free inodes"), format!("{}", before.free_inodes - 1));
            assert_eq!(u32::try_from(NOON.seconds), Ok(le32(&bytes, 1024 + WTIME_LO)));
            assert_eq!(
                Volume::mount_writable(bytes, || NOON).unwrap().totals.free_blocks,
                before.free_blocks - 1
            );
        }
    }
}
