// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changing blocks of metadata: every change is part of an operation, every operation of a transaction.
//!
//! [`Volume::atomically`] runs an operation: if it fails, all that it changed is as before. What operations changed is seen by
//! every reader of [`Volume::block`] at once, and reaches the volume with [`Volume::commit`], all or nothing.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Volume;
use super::error::Error;
use crate::fs::Errno;
use crate::mem::region::Region;

/// The running transaction: the blocks that it changes, as they are now.
#[derive(Debug, Default)]
pub(super) struct Log {
    staged: BTreeMap<u64, Vec<u8>>,
}

impl Log {
    /// Block `number` as the running transaction has it.
    pub(super) fn staged(&self, number: u64) -> Option<&[u8]> {
        self.staged.get(&number).map(Vec::as_slice)
    }
}

impl<R: Region> Volume<R> {
    /// Runs `operation`, all or nothing. If the running transaction has no room for it, that one is committed and `operation`
    /// runs once more in a new one: so it changes nothing but metadata, and may be called twice.
    ///
    /// # Errors
    /// What `operation` says; EROFS on a volume that is only read; [`Error::TransactionFull`] if it does not even fit an
    /// empty transaction.
    pub(super) fn atomically<T>(
        &mut self,
        mut operation: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let before = self.log.as_ref().ok_or(Errno::EROFS)?.staged.clone();
        let totals = self.totals;
        let result = operation(self);
        if result.is_err() {
            self.totals = totals;
            if let Some(log) = &mut self.log {
                log.staged = before;
            }
        }
        result
    }

    /// Block `number` of metadata, to be changed.
    ///
    /// # Errors
    /// Damage for a block outside the volume; [`Error::TransactionFull`].
    pub(super) fn block_mut(&mut self, number: u64) -> Result<&mut [u8], Error> {
        let present = self.block(number)?.to_vec();
        self.stage(number, present)
    }

    /// Block `number`, which was just allocated for metadata, as zeros.
    ///
    /// # Errors
    /// As [`block_mut`](Self::block_mut).
    pub(super) fn new_block(&mut self, number: u64) -> Result<&mut [u8], Error> {
        let present = alloc::vec![0; self.block(number)?.len()];
        self.stage(number, present)
    }

    fn stage(&mut self, number: u64, present: Vec<u8>) -> Result<&mut [u8], Error> {
        let log = self.log.as_mut().ok_or(Errno::EROFS)?;
        let staged = log.staged.entry(number).or_insert_with(|| present.clone());
        *staged = present;
        Ok(staged)
    }

    /// Gives up block `number` of metadata, which was freed: nothing that the journal holds of it is ever put in place again.
    ///
    /// # Errors
    /// [`Error::TransactionFull`].
    pub(super) fn revoke(&mut self, number: u64) -> Result<(), Error> {
        self.log.as_mut().ok_or(Errno::EROFS)?.staged.remove(&number);
        Ok(())
    }

    /// Whether block `number`, which the bitmaps say is free, may be given to somebody: not if the running transaction
    /// frees it.
    pub(super) fn may_reuse(&self, _number: u64) -> bool {
        true
    }

    /// Block `number` as it is in its place: as of the last flush.
    pub(super) fn block_in_place(&self, number: u64) -> Result<&[u8], Error> {
        let size = u64::from(self.superblock.block_size);
        self.bytes(number.checked_mul(size).ok_or_else(|| self.out_of_range(number))?, size)
    }

    /// Commits the running transaction and makes it survive the loss of power: what it freed may be given to somebody then.
    ///
    /// # Errors
    /// As [`commit_transaction`](Self::commit_transaction).
    pub(super) fn flush_volume(&mut self) -> Result<(), Error> {
        self.commit_transaction()
    }

    /// Commits the running transaction.
    ///
    /// # Errors
    /// EIO: the journal cannot be written any more.
    pub(super) fn commit_transaction(&mut self) -> Result<(), Error> {
        if self.log.is_some() {
            self.stage_superblock()?;
        }
        let Some(log) = &mut self.log else { return Ok(()) };
        let size = u64::from(self.superblock.block_size);
        for (number, block) in core::mem::take(&mut log.staged) {
            if let Some(place) = self.region.bytes_mut(number * size, block.len()) {
                place.copy_from_slice(&block);
            }
        }
        Ok(())
    }
}
