// SPDX-License-Identifier: MIT OR Apache-2.0

//! From a volume to one that is written, and back: recovery, the start of the log, and its end.
//!
//! While a volume is written its superblock says `needs_recovery`, and so does every copy in the journal.

use super::super::checksum::crc32c_compensation;
use super::super::error::{Error, MountError};
use super::super::error_state::STATE_ERROR;
use super::super::features::{Incompat, RoCompat};
use super::super::field::{bytes, le16, le32, put, put_le16, put_le32};
use super::super::superblock::{self, Superblock};
use super::super::{Clock, Volume};
use super::format::{self, COMPAT_CHECKSUM, JournalSuperblock};
use super::log::{JournalStatistics, Log};
use super::recovery::Recovery;
use crate::fs::Errno;
use crate::mem::region::Region;

/// Blocks of a journal that is written: Linux wants 1024 and takes a superblock and some more from them.
const SMALLEST_LOG: u32 = 1000;
/// Group descriptor blocks that are kept.
const KEPT_DESCRIPTORS: u64 = 64;
/// `s_snapshot_id`, which nothing uses: it keeps the checksum of the superblock in place as it is.
const S_SNAPSHOT_ID: usize = 0x184;
/// `s_feature_incompat`.
const S_FEATURE_INCOMPAT: usize = 0x60;

/// Words of eight bytes of the superblock that differ at most between mount and unmount: counts, times, `s_last_orphan`,
/// `s_checksum` and what makes up for it, and a few; and where an error was found, its 15.
const WORDS_THAT_CHANGE: usize = 31;

const IN_ERROR: &str = "errors were found in it, and it asks not to be written then: run `e2fsck -f IMAGE`";
const NOT_WRITTEN: MountError = MountError::Journal("the region cannot be stored to, or not be flushed");

/// Where a log goes on.
pub(super) enum Start {
    /// Empty, with this sequence number.
    Empty(u32),
    /// Behind what it holds.
    Resumed,
}

impl<R: Region> Volume<R> {
    /// Mounts the volume that `region` holds, to be changed too; `clock` tells the time of each change. A journal that was
    /// left with transactions is recovered. A volume that this writer cannot change is only read, and
    /// [`read_only_reason`](Self::read_only_reason) says why.
    ///
    /// # Errors
    /// As [`mount`](Self::mount), but for the journal: a damaged one, or one that only Linux can recover.
    pub fn mount_writable(mut region: R, clock: Clock) -> Result<Self, MountError> {
        let writable = region.bytes_mut(0, 1).is_some();
        let superblock = match Superblock::read(&region) {
            Err(damaged @ MountError::Checksum { .. }) if writable => {
                region = Self::mend_superblock(region).ok_or(damaged)?;
                Superblock::read(&region)?
            }
            outcome => outcome?,
        };
        let mut volume = Self::unchecked(region, superblock);
        let reason = if writable { volume.why_not_written() } else { Some("its region is only read") };
        if let Some(reason) = reason {
            return Self::mount_refused(volume.region, reason);
        }
        volume.clock = clock;
        let Some(found) = volume.journal_superblock()? else {
            return Self::mount_refused(volume.region, "it has no journal inside");
        };
        let (mut log, start) = volume.recover(&found)?;
        volume.forget_everything();
        if let Start::Empty(_) = start {
            // What Linux left may have had news in its superblock.
            volume.superblock = Superblock::read(&volume.region)?;
            if let Some(reason) = volume.why_not_written() {
                volume.set_recover(false)?;
                volume.region.flush().map_err(|_| NOT_WRITTEN)?;
                return Self::mount_refused(volume.region, reason);
            }
        }
        if let Start::Empty(sequence) = start {
            volume.set_recover(true)?;
            volume.region.flush().map_err(|_| NOT_WRITTEN)?;
            log.begin(sequence);
        }
        volume.log = Some(log);
        volume.reread_superblock()?;
        volume.check_journal_stayed(&found)?;
        volume.check(found.s_maxlen)?;
        volume.begin_log()?;
        volume.resume_errors();
        match volume.reclaim_orphans() {
            Ok(0) => {}
            Ok(reclaimed) => log::info!(
                "ext4: {reclaimed} files that had no name any more, or were being shortened, are freed"
            ),
            Err(error @ Error::Corrupt(_)) => {
                // The list is left to `e2fsck`.
                volume.answer(error, 0);
                volume.store_errors()?;
                volume.commit_transaction()?;
            }
            Err(error) => return Err(error.into()),
        }
        if volume.is_halted() {
            log::warn!("ext4: the volume is only read: {IN_ERROR}");
            volume.read_only = Some(IN_ERROR);
        }
        Ok(volume)
    }

    fn mount_refused(region: R, reason: &'static str) -> Result<Self, MountError> {
        let mut volume = Self::mount(region)?;
        log::warn!("ext4: the volume is only read: {reason}");
        volume.read_only = Some(reason);
        Ok(volume)
    }

    /// Why the volume is only read although it was to be written; `None` if it is written.
    #[must_use]
    pub fn read_only_reason(&self) -> Option<&'static str> {
        self.read_only
    }

    /// What the journal did since the volume was mounted; `None` on a volume that is only read.
    #[must_use]
    pub fn journal_statistics(&self) -> Option<JournalStatistics> {
        self.log.as_ref().map(|log| log.statistics)
    }

    /// Why the volume cannot be written, if it cannot.
    fn why_not_written(&self) -> Option<&'static str> {
        let Superblock { incompat, ro_compat, .. } = self.superblock;
        let raw = self.region.bytes(superblock::OFFSET, superblock::LENGTH).unwrap_or_default();
        let s_state = le16(raw, 0x3a);
        if !incompat.contains(Incompat::EXTENTS) {
            return Some("its files are not mapped by extents");
        }
        if incompat.contains(Incompat::INLINE_DATA) {
            return Some("it has the feature inline_data");
        }
        if incompat.contains(Incompat::EA_INODE) {
            return Some("it has the feature ea_inode");
        }
        for (feature, reason) in [
            (RoCompat::QUOTA, "it has the feature quota"),
            (RoCompat::PROJECT, "it has the feature project"),
            (RoCompat::READONLY, "it has the feature read-only"),
            (RoCompat::SHARED_BLOCKS, "it has the feature shared_blocks"),
            (RoCompat::VERITY, "it has the feature verity"),
            (RoCompat::ORPHAN_PRESENT, "its orphan file is not empty: run `e2fsck -p IMAGE`"),
        ] {
            if ro_compat.contains(feature) {
                return Some(reason);
            }
        }
        if !RoCompat::KNOWN.contains(ro_compat) {
            return Some("it has a feature that is unknown here");
        }
        if s_state & STATE_ERROR != 0 && self.superblock.read_only_on_error() {
            return Some(IN_ERROR);
        }
        match self.journal_superblock() {
            Ok(Some(journal)) if journal.s_maxlen.saturating_sub(journal.s_first) < SMALLEST_LOG => {
                Some("its journal is too small")
            }
            _ => None,
        }
    }

    /// Puts what the journal holds in place, as far as that is to be, and makes the journal one of the form that is
    /// written here.
    pub(super) fn recover(&mut self, found: &JournalSuperblock) -> Result<(Log, Start), MountError> {
        let needed = self.superblock.incompat.contains(Incompat::RECOVER);
        if found.s_start != 0 && !needed {
            return Err(MountError::JournalNotEmpty);
        }
        if !format::Incompat::KNOWN.contains(found.incompat) {
            return Err(MountError::Journal("it has features that only Linux knows"));
        }
        let (size, wide) =
            (self.superblock.block_size, self.superblock.incompat.contains(Incompat::BLOCKS_64BIT));
        let mut log = Log::new(self.journal_area(found)?, size, wide, self.kept_blocks());
        let mut sequence = found.s_sequence.wrapping_add(1);
        if found.s_start != 0 {
            if found.incompat.intersects(format::Incompat::FAST_COMMIT.union(format::Incompat::ASYNC_COMMIT))
            {
                return Err(MountError::Journal(
                    "it holds transactions that only Linux can recover: run `e2fsck -p IMAGE`",
                ));
            }
            let area = self.journal_area(found)?;
            let blocks_count = self.superblock.s_blocks_count;
            let recovery = Recovery { area: &area, superblock: found, block_size: size, blocks_count };
            let end = recovery.find_end(&self.region)?;
            log::warn!("ext4: recovering {} transactions of the journal", end.transactions);
            // What is copied home must be in the journal on the medium too.
            self.region.flush().map_err(|_| NOT_WRITTEN)?;
            recovery.replay(&mut self.region, end, &mut log)?;
            self.region.flush().map_err(|_| NOT_WRITTEN)?;
            log.resume(end.position, end.sequence, found.s_start, end.time);
            if found.is_own_form(wide) && end.transactions > 0 && log.has_reserve() {
                return Ok((log, Start::Resumed));
            }
            self.put_kept(&log)?;
            self.region.flush().map_err(|_| NOT_WRITTEN)?;
            // Without its first header the log is empty, whatever the superblock says of it.
            self.region.publish(area.offset(found.s_start), [0; 4]).ok_or(NOT_WRITTEN)?;
            self.region.flush().map_err(|_| NOT_WRITTEN)?;
            sequence = end.sequence.wrapping_add(1);
            log = Log::new(area, size, wide, self.kept_blocks());
        }
        self.adapt_journal(found, &log, sequence).ok_or(NOT_WRITTEN)?;
        Ok((log, Start::Empty(sequence)))
    }

    /// The blocks that are not put in place while the volume is mounted.
    fn kept_blocks(&self) -> core::ops::Range<u64> {
        let superblock = &self.superblock;
        let descriptors = if superblock.incompat.contains(Incompat::META_BG) {
            superblock.s_first_meta_bg
        } else {
            superblock.descriptor_blocks
        };
        let (first, _) = self.superblock_place();
        first..first.saturating_add(u64::from(descriptors).min(KEPT_DESCRIPTORS)).saturating_add(1)
    }

    /// Gives the journal, whose log is empty, the form that is written here. Each of these stores leaves a journal that
    /// Linux accepts.
    fn adapt_journal(&mut self, found: &JournalSuperblock, log: &Log, sequence: u32) -> Option<()> {
        let start = log.area().offset(0);
        let at = |field: u64| start.saturating_add(field);
        let wide = self.superblock.incompat.contains(Incompat::BLOCKS_64BIT);
        if found.version == format::SUPERBLOCK_V1 {
            // Version 1 ends in front of the features.
            self.region.bytes_mut(at(format::S_FEATURE_COMPAT), 1024 - 0x24)?.fill(0);
            self.region.publish(at(format::S_BLOCKTYPE), format::SUPERBLOCK_V2.to_be_bytes())?;
        }
        // From the first on, no checksum of the journal's superblock is looked at.
        let features = format::own_features(wide).bits().to_be_bytes();
        self.region.publish(at(format::S_FEATURE_INCOMPAT), features)?;
        self.region.publish(at(format::S_FEATURE_COMPAT), COMPAT_CHECKSUM.to_be_bytes())?;
        log.store_tail(&mut self.region, sequence, 0)
    }

    /// Stores the kept blocks, as the log has them, in place.
    fn put_kept(&mut self, log: &Log) -> Result<(), MountError> {
        let size = self.superblock.block_size;
        let (superblock, start) = self.superblock_place();
        let mut from = 0;
        while let Some((index, number)) = log.kept_copies(from) {
            from = index.saturating_add(1);
            let copy = log.newest(number).ok_or(NOT_WRITTEN)?;
            let home = number.saturating_mul(size.into());
            if number != superblock {
                self.region.copy_within(copy, home, size.length()).ok_or(NOT_WRITTEN)?;
                continue;
            }
            // With larger blocks the superblock has a neighbour on each side, which nobody changes.
            let raw = self.region.bytes(copy.saturating_add(start as u64), superblock::LENGTH);
            let raw = raw.and_then(<[u8]>::first_chunk).copied().ok_or(NOT_WRITTEN)?;
            self.store_superblock(raw)?;
        }
        Ok(())
    }

    /// Stores the superblock in place, word by word, with the checksum that is there.
    fn store_superblock(&mut self, mut raw: [u8; superblock::LENGTH]) -> Result<(), MountError> {
        let present = self.region.bytes(superblock::OFFSET, superblock::LENGTH).ok_or(NOT_WRITTEN)?;
        if self.superblock.has_metadata_csum() {
            let sum = le32(present, superblock::CHECKSUM_OFFSET);
            put_le32(&mut raw, superblock::CHECKSUM_OFFSET, sum);
            let before = raw.get(..S_SNAPSHOT_ID).unwrap_or_default();
            let after = raw.get(S_SNAPSHOT_ID + 4..superblock::CHECKSUM_OFFSET).unwrap_or_default();
            let compensation = crc32c_compensation(before, after, sum);
            put(&mut raw, S_SNAPSHOT_ID, compensation);
        }
        for offset in (0..superblock::LENGTH).step_by(8) {
            let (word, at) = (bytes::<8>(&raw, offset), superblock::OFFSET.saturating_add(offset as u64));
            if self.region.bytes(at, 8) != Some(&word[..]) {
                self.region.publish_pair(at, word).ok_or(NOT_WRITTEN)?;
            }
        }
        Ok(())
    }

    /// Sets or clears `needs_recovery` in the superblock in place.
    fn set_recover(&mut self, recover: bool) -> Result<(), MountError> {
        let raw = self.region.bytes(superblock::OFFSET, superblock::LENGTH);
        let mut raw: [u8; superblock::LENGTH] =
            raw.and_then(<[u8]>::first_chunk).copied().ok_or(NOT_WRITTEN)?;
        let mut incompat = Incompat::from_bits_retain(le32(&raw, S_FEATURE_INCOMPAT));
        if incompat.contains(Incompat::RECOVER) == recover {
            return Ok(());
        }
        incompat.set(Incompat::RECOVER, recover);
        put_le32(&mut raw, S_FEATURE_INCOMPAT, incompat.bits());
        self.store_superblock(raw)
    }

    /// Ends a change of the superblock in place in the middle of which a program died. There are two: that of
    /// [`set_recover`](Self::set_recover), of which only the first store was done, is taken back; any other was the end of a log
    /// that has the superblock still. `None` if the damage is something else.
    fn mend_superblock(mut region: R) -> Option<R> {
        let raw = region.bytes(superblock::OFFSET, superblock::LENGTH)?;
        let mut raw: [u8; superblock::LENGTH] = *raw.first_chunk()?;
        let torn = raw;
        let incompat = Incompat::from_bits_retain(le32(&raw, S_FEATURE_INCOMPAT));
        put_le32(&mut raw, S_FEATURE_INCOMPAT, incompat.symmetric_difference(Incompat::RECOVER).bits());
        if Superblock::parse(&raw).is_ok() {
            let at = superblock::OFFSET.saturating_add(S_FEATURE_INCOMPAT as u64);
            region.publish_pair(at, bytes(&raw, S_FEATURE_INCOMPAT))?;
            log::warn!("ext4: the superblock was mended: a program had died while it changed it");
            return Some(region);
        }
        let mut volume = Self::unchecked(region, Superblock::parse_fields(&torn).ok()?);
        let found = volume.journal_superblock().ok()??;
        let (size, wide) =
            (volume.superblock.block_size, volume.superblock.incompat.contains(Incompat::BLOCKS_64BIT));
        if found.s_start == 0 || !found.is_own_form(wide) {
            return None;
        }
        let area = volume.journal_area(&found).ok()?;
        let blocks_count = volume.superblock.s_blocks_count;
        let recovery = Recovery { area: &area, superblock: &found, block_size: size, blocks_count };
        let (number, start) = volume.superblock_place();
        let position = recovery.newest(&mut volume.region, number).ok()??;
        let copy =
            volume.region.bytes(area.offset(position).saturating_add(start as u64), superblock::LENGTH)?;
        let copy = *copy.first_chunk()?;
        // It must be the same volume's: only what changes while a volume is mounted may differ.
        let (before, after) = (torn.as_chunks::<8>().0, copy.as_chunks::<8>().0);
        let differing = before.iter().zip(after).filter(|(one, other)| one != other).count();
        Superblock::parse(&copy).ok()?;
        if differing > WORDS_THAT_CHANGE {
            return None;
        }
        volume.store_superblock(copy).ok()?;
        log::warn!(
            "ext4: the superblock was mended from the journal: a program had died while it changed it"
        );
        Some(volume.region)
    }

    /// Takes over the superblock as the log has it.
    fn reread_superblock(&mut self) -> Result<(), MountError> {
        let (number, start) = self.superblock_place();
        let raw = self.block(number)?.get(start..).and_then(|rest| rest.get(..superblock::LENGTH));
        let fresh = Superblock::parse(raw.unwrap_or_default())?;
        if fresh.s_blocks_count != self.superblock.s_blocks_count
            || fresh.block_size != self.superblock.block_size
        {
            return Err(MountError::Journal("it holds the superblock of another volume"));
        }
        self.superblock = fresh;
        if self.why_not_written().is_some() {
            return Err(MountError::Journal("it holds a superblock with features that are not written"));
        }
        Ok(())
    }

    /// Checks that what was recovered has left the journal where it is: nobody could find the log another time.
    fn check_journal_stayed(&self, found: &JournalSuperblock) -> Result<(), MountError> {
        let area = self.journal_area(found)?;
        if self.log.as_ref().is_none_or(|log| *log.area() != area) || self.journal_superblock()?.is_none() {
            return Err(MountError::Journal("a transaction in it changes where it lies"));
        }
        Ok(())
    }

    /// Commits the first transaction, which is where the log begins.
    fn begin_log(&mut self) -> Result<(), MountError> {
        let [s0, s1, s2, s3, s4, ..] = self.now().seconds.to_le_bytes();
        self.edit_superblock(|raw| {
            // s_mtime and s_wtime, with their fifth bytes.
            for (low, high) in [(0x2c, 0x275), (0x30, 0x274)] {
                put(raw, low, [s0, s1, s2, s3]);
                put(raw, high, [s4]);
            }
            let s_mnt_count = le16(raw, 0x34).saturating_add(1);
            put_le16(raw, 0x34, s_mnt_count);
        })?;
        self.commit_with(true)?;
        while self.log.as_ref().is_some_and(|log| !log.is_settled()) {
            self.flush_region()?;
        }
        Ok(())
    }

    /// Puts all that was changed into its place and gives the region back: the volume is clean then.
    ///
    /// # Errors
    /// EIO: the region cannot be flushed; what was changed is in the journal.
    pub fn unmount(mut self) -> Result<R, Errno> {
        self.rest()?;
        Ok(self.region)
    }

    /// Puts all that was changed into its place: the volume is clean then, and only read from then on.
    ///
    /// # Errors
    /// As [`unmount`](Self::unmount).
    pub fn rest(&mut self) -> Result<(), Errno> {
        self.end_log().map_err(|error| self.answer(error, 0))
    }

    fn end_log(&mut self) -> Result<(), Error> {
        if self.log.is_some() {
            // A clean volume has no orphans, so a file without a name goes although somebody has it open.
            match self.reclaim_orphans() {
                Err(error @ Error::Corrupt(_)) => _ = self.answer(error, 0),
                other => _ = other?,
            }
        }
        self.store_errors()?;
        self.flush_volume()?;
        // Once more, so that what that copied home is durable, and only the kept blocks are missing there.
        self.flush_region()?;
        let Some(log) = self.log.take() else { return Ok(()) };
        self.close_log(&log).map_err(|_| Error::Reply(Errno::EIO))
    }

    fn close_log(&mut self, log: &Log) -> Result<(), MountError> {
        self.put_kept(log)?;
        self.region.flush().map_err(|_| NOT_WRITTEN)?;
        log.store_tail(&mut self.region, log.sequence(), 0).ok_or(NOT_WRITTEN)?;
        self.region.flush().map_err(|_| NOT_WRITTEN)?;
        self.set_recover(false)?;
        self.region.flush().map_err(|_| NOT_WRITTEN)
    }
}
