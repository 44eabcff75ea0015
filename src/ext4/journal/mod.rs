// SPDX-License-Identifier: MIT OR Apache-2.0

//! The journal, as far as a reader must know it: whether it holds something that is not in place yet.
//!
//! The superblock's feature `needs_recovery` says so while a volume is mounted for writing and after a crash. Once it is
//! clear, `s_start` of the journal's own superblock should be 0. If it is not, the tools disagree: Linux drops what the
//! journal holds, `e2fsck` asks. Such a volume is refused here, so that somebody decides.

use super::Volume;
use super::error::MountError;
use super::features::Compat;
use super::field::be32;
use crate::mem::region::Region;

/// `h_magic` of every journal block with a header.
const MAGIC: u32 = 0xc03b_3998;
/// `h_blocktype` of a journal superblock, versions 1 and 2.
const SUPERBLOCK: [u32; 2] = [3, 4];

impl<R: Region> Volume<R> {
    /// Checks that the journal is empty. Returns its length in blocks: 0 if the volume has none inside.
    pub(super) fn check_journal(&self) -> Result<u32, MountError> {
        let number = self.superblock.s_journal_inum;
        if !self.superblock.compat.contains(Compat::HAS_JOURNAL) || number == 0 {
            return Ok(0);
        }
        let inode = self.any_inode(number)?;
        let block =
            self.file_block(&inode, 0)?.ok_or(MountError::Journal("its first block was never written"))?;
        if be32(block, 0) != MAGIC || !SUPERBLOCK.contains(&be32(block, 4)) {
            return Err(MountError::Journal("its first block is no journal superblock"));
        }
        if be32(block, 0xc) != self.superblock.block_size {
            return Err(MountError::Journal("s_blocksize is not that of the volume"));
        }
        let s_maxlen = be32(block, 0x10);
        let length = inode.size / u64::from(self.superblock.block_size);
        if u64::from(s_maxlen) > length {
            return Err(MountError::Journal("s_maxlen is beyond the end of its inode"));
        }
        if be32(block, 0x1c) != 0 {
            return Err(MountError::JournalNotEmpty);
        }
        Ok(s_maxlen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::testing::Image;

    #[test]
    fn a_journal_that_holds_something_is_refused_even_without_the_feature() {
        let image = Image::new("8M", &["-b", "1024"], |_| {});
        image.debugfs_script(&["journal_open", "journal_write -b 333 /dev/zero", "journal_close"]);
        assert_eq!(Volume::mount(image.bytes()).unwrap_err(), MountError::NeedsRecovery);
        image.debugfs("feature -needs_recovery");
        assert_eq!(Volume::mount(image.bytes()).unwrap_err(), MountError::JournalNotEmpty);
    }

    #[test]
    fn a_damaged_journal_superblock_is_refused() {
        let image = Image::new("8M", &["-b", "1024", "-O", "^metadata_csum"], |_| {});
        let blocks = image.debugfs("bmap <8> 0");
        let start = blocks.trim().parse::<usize>().unwrap() * 1024;
        for offset in [0, 7, 0xf, 0x10] {
            let mut bytes = image.bytes();
            bytes[start + offset] ^= 0x70;
            assert!(matches!(Volume::mount(bytes), Err(MountError::Journal(_))), "byte {offset:#x}");
        }
    }
}
