// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changing blocks of metadata: every change is part of an operation, every operation of a transaction.
//!
//! [`Volume::atomically`] runs an operation: if it fails, all that it changed is as before. What operations changed is seen by
//! every reader of [`Volume::block`] at once, and reaches the volume with [`Volume::commit_transaction`], all or nothing. How
//! is the business of [`journal`](super::journal).

use super::Volume;
use super::error::Error;
use super::journal::Log;
use crate::fs::Errno;
use crate::mem::region::Region;

/// Flushes after which a journal has room again: three for its tail to move, and as many for a move that was on its way.
const FLUSHES_FOR_ROOM: u32 = 6;

impl<R: Region> Volume<R> {
    /// Runs `operation`, all or nothing. If the running transaction has no room for it, that one is committed and `operation`
    /// runs once more in a new one: so it changes nothing but metadata, and may be called twice. Within an operation, it
    /// is a part of that one.
    ///
    /// # Errors
    /// What `operation` says; EROFS on a volume that is only read; EIO once a flush failed; [`Error::TransactionFull`] if it
    /// does not even fit an empty transaction.
    pub(super) fn atomically<T>(
        &mut self,
        mut operation: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.check_not_halted()?;
        self.operate(&mut operation)
    }

    /// As [`atomically`](Self::atomically), also on a volume that is not changed any more because of damage: for the note of
    /// that.
    pub(super) fn operate<T>(
        &mut self,
        operation: &mut impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if !self.log.as_mut().ok_or(Errno::EROFS)?.begin_operation() {
            return operation(self);
        }
        let first = self.attempt(operation);
        if !matches!(first, Err(Error::TransactionFull)) {
            return first;
        }
        self.make_room()?;
        if let Some(log) = &mut self.log {
            log.statistics.repeated = log.statistics.repeated.wrapping_add(1);
            log.begin_operation();
        }
        self.attempt(operation)
    }

    /// Runs `operation`, which has begun, and ends or undoes it.
    fn attempt<T>(&mut self, operation: &mut impl FnMut(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let totals = self.totals;
        let result = operation(self);
        if let Some(log) = &mut self.log {
            if result.is_ok() {
                log.end_operation();
            } else {
                log.undo_operation(&mut self.region);
                self.forget_everything();
                self.totals = totals;
            }
        }
        result
    }

    /// Commits the running transaction and sees to it that the next has room for any operation.
    fn make_room(&mut self) -> Result<(), Error> {
        self.commit_with(false)?;
        for _ in 0..FLUSHES_FOR_ROOM {
            let Some(log) = self.log.as_ref().filter(|log| !log.is_roomy()) else { return Ok(()) };
            if log.is_settled() {
                self.commit_with(true)?;
            }
            self.flush_region()?;
        }
        Ok(())
    }

    /// Block `number` of metadata, to be changed.
    ///
    /// # Errors
    /// Damage for a block outside the volume; EUCLEAN for one of the journal, or one that this transaction freed; EIO once a
    /// flush failed; [`Error::TransactionFull`].
    pub(super) fn block_mut(&mut self, number: u64) -> Result<&mut [u8], Error> {
        self.stage(number, false)
    }

    /// Block `number`, which was just allocated for metadata, as zeros.
    ///
    /// # Errors
    /// As [`block_mut`](Self::block_mut).
    pub(super) fn new_block(&mut self, number: u64) -> Result<&mut [u8], Error> {
        self.stage(number, true)
    }

    fn stage(&mut self, number: u64, zeroed: bool) -> Result<&mut [u8], Error> {
        if number >= self.superblock.s_blocks_count {
            return Err(self.out_of_range(number));
        }
        let size = self.superblock.block_size;
        self.forget_block(number);
        let log = self.log.as_mut().ok_or(Errno::EROFS)?;
        let offset = log.stage(&mut self.region, number, number.saturating_mul(size.into()), zeroed)?;
        self.region.bytes_mut(offset, size.length()).ok_or(Error::Reply(Errno::EIO))
    }

    /// Gives up block `number` of metadata, which was freed: nothing that the journal holds of it is ever put in place again.
    ///
    /// # Errors
    /// EUCLEAN for a block that is never freed; EIO once a flush failed; [`Error::TransactionFull`].
    pub(super) fn revoke(&mut self, number: u64) -> Result<(), Error> {
        self.forget_block(number);
        self.log.as_mut().ok_or(Errno::EROFS)?.revoke(number)
    }

    /// Block `number` of metadata is to be changed: nothing that was found in it holds any longer.
    fn forget_block(&mut self, number: u64) {
        self.verified.forget(number);
        self.remembered.forget(number);
    }

    /// Metadata was changed, no matter which.
    pub(super) fn forget_everything(&mut self) {
        self.verified.forget_all();
        self.remembered.forget_all();
    }

    /// Whether block `number`, which the bitmaps say is free, may be given to somebody: not if the running transaction
    /// frees it.
    pub(super) fn may_reuse(&self, number: u64) -> bool {
        self.log.as_ref().is_none_or(|log| !log.revokes(number))
    }

    /// Block `number` as it is in its place: as of the last flush.
    ///
    /// The superblock and the group descriptors are there as of the mount.
    pub(super) fn block_in_place(&self, number: u64) -> Result<&[u8], Error> {
        let size = u64::from(self.superblock.block_size);
        self.bytes(number.checked_mul(size).ok_or_else(|| self.out_of_range(number))?, size)
    }

    /// Puts block `number`, as the running operation has it, in place at once: for a block that nothing refers to there.
    pub(super) fn put_in_place(&mut self, number: u64) -> Result<(), Error> {
        let Some(newest) = self.log.as_ref().and_then(|log| log.newest(number)) else { return Ok(()) };
        let size = self.superblock.block_size;
        let home = number.saturating_mul(u64::from(size));
        self.region.copy_within(newest, home, size.length()).ok_or(Error::Reply(Errno::EIO))
    }

    /// Whether anything was changed since the last flush.
    pub(super) fn has_unflushed(&self) -> bool {
        self.log.as_ref().is_some_and(|log| !log.is_clean() || log.is_dirty())
    }

    /// Says that file data was stored in place, which the next flush is to make durable.
    pub(super) fn note_data_stored(&mut self) {
        if let Some(log) = &mut self.log {
            log.note_stored();
        }
    }

    /// Whether nothing is to be committed, and what will be can be.
    pub(super) fn is_committed(&self) -> bool {
        self.log.as_ref().is_none_or(|log| log.is_clean() && log.check().is_ok())
    }

    /// Commits the running transaction: it survives the death of this program.
    ///
    /// # Errors
    /// EIO: the journal cannot be written any more.
    pub(super) fn commit_transaction(&mut self) -> Result<(), Error> {
        self.commit_with(false)
    }

    /// Commits the running transaction; if `tail`, it has all kept blocks, so that the log may begin with it.
    pub(super) fn commit_with(&mut self, tail: bool) -> Result<(), Error> {
        let Some(log) = &mut self.log else { return Ok(()) };
        log.check()?;
        if log.is_clean() && !tail {
            return Ok(());
        }
        log.close();
        self.stage_superblock()?;
        if tail {
            self.stage_kept()?;
        }
        let Some(log) = &mut self.log else { return Ok(()) };
        if log.commit(&mut self.region, tail)? {
            // An escaped block cannot be read from the journal.
            self.flush_region()?;
        }
        Ok(())
    }

    /// Stages the superblock, and every kept block of which the journal has a copy.
    fn stage_kept(&mut self) -> Result<(), Error> {
        let (superblock, _) = self.superblock_place();
        self.block_mut(superblock)?;
        let mut from = 0;
        while let Some((index, number)) = self.log.as_ref().and_then(|log| log.kept_copies(from)) {
            self.block_mut(number)?;
            from = index.saturating_add(1);
        }
        Ok(())
    }

    /// Makes all that was changed survive the loss of power: commits, flushes the region if anything was stored since the
    /// last flush, and puts what is durable in place.
    ///
    /// # Errors
    /// EIO: it may not survive, and nothing can be changed any more.
    pub(super) fn flush_volume(&mut self) -> Result<(), Error> {
        let tail = self.log.as_ref().is_some_and(Log::wants_tail);
        self.commit_with(tail)?;
        if self.log.as_ref().is_some_and(Log::is_dirty) {
            self.flush_region()?;
        }
        Ok(())
    }

    /// Flushes the region.
    pub(super) fn flush_region(&mut self) -> Result<(), Error> {
        match &mut self.log {
            Some(log) => log.flush(&mut self.region),
            None => Ok(()),
        }
    }
}
