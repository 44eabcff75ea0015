// SPDX-License-Identifier: MIT OR Apache-2.0

//! The journal: jbd2 in the volume itself, in the format that Linux and `e2fsck` replay.
//!
//! | file       | subject                                                              |
//! |------------|----------------------------------------------------------------------|
//! | `format`   | the structures and their checksums                                   |
//! | `area`     | where the journal lies; `table`: finding its copies by block number  |
//! | `log`      | the journal of a mounted volume: staging; its `commit`, its `flush` |
//! | `mount`    | from a clean or a crashed volume to a running log, and back          |
//! | `recovery` | what a crash left is checked and put in place                        |
//!
//! # Why transactions have checksums of version 1
//! A transaction is committed by stores alone, and answered: the host's page cache keeps it if this program dies. Loss of power
//! however may leave any part of what was stored since the last flush, a commit block without its data for example. Whoever
//! replays must then stop in front of that transaction. Linux and `e2fsck` find this out before they replay only with the
//! checksum of version 1 (`JBD2_FEATURE_COMPAT_CHECKSUM`), which the commit block has over all that the transaction wrote. With
//! versions 2 and 3 they check data blocks one by one, while they replay, and give up with an error.
//!
//! A mismatch counts as the end of the log, not as damage, if `h_commit_sec` is less than that of the transaction before
//! (then they take the block for an old one). So it counts down here, by one for each transaction, and is no time. The
//! first transaction, which has none before, is durable before the journal's superblock names it.
//!
//! Version 1 leaves the journal's superblock without a checksum, so `s_sequence` and `s_start` change with one store.
//!
//! # What is not atomic
//! The superblock of the volume has a checksum. It is changed in place only while the journal is started and ended, word by
//! word: who dies between two of those stores (a handful, at mount and unmount) leaves one that the next mount mends, and that
//! `e2fsck -y` restores from a copy. The sector with the checksum does not change, as `s_snapshot_id`, which nothing uses, makes
//! up for the rest: the loss of power tears it only if the host wrote it back between two of those stores.

mod area;
mod format;
mod log;
mod mount;
mod recovery;
mod table;
#[cfg(test)]
mod tests;

use area::Area;
use format::JournalSuperblock;
pub use log::JournalStatistics;
pub(super) use log::Log;

use super::Volume;
use super::error::MountError;
use super::features::Compat;
use crate::mem::region::Region;

impl<R: Region> Volume<R> {
    /// Checks that the journal is empty. Returns its length in blocks: 0 if the volume has none inside.
    pub(super) fn check_journal(&self) -> Result<u32, MountError> {
        let Some(superblock) = self.journal_superblock()? else { return Ok(0) };
        if superblock.s_start != 0 {
            return Err(MountError::JournalNotEmpty);
        }
        Ok(superblock.s_maxlen)
    }

    /// The superblock of the journal; `None` if the volume has none inside.
    fn journal_superblock(&self) -> Result<Option<JournalSuperblock>, MountError> {
        let number = self.superblock.s_journal_inum;
        if !self.superblock.compat.contains(Compat::HAS_JOURNAL) || number == 0 {
            return Ok(None);
        }
        let inode = self.journal_inode()?;
        let block =
            self.file_block(&inode, 0)?.ok_or(MountError::Journal("its first block was never written"))?;
        let size = self.superblock.block_size;
        JournalSuperblock::parse(block, size, inode.size / size).map(Some)
    }

    /// Where the journal lies.
    fn journal_area(&self, superblock: &JournalSuperblock) -> Result<Area, MountError> {
        let inode = self.journal_inode()?;
        let mut area = Area::new(superblock.s_first, superblock.s_maxlen, self.superblock.block_size);
        let mut outcome = Ok(());
        self.map(&inode, 0..u64::from(superblock.s_maxlen), &mut |run| {
            if outcome.is_ok() {
                outcome = area.add(&run);
            }
            Ok(())
        })?;
        outcome.map(|()| area)
    }
}
