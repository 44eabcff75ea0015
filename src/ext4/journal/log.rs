// SPDX-License-Identifier: MIT OR Apache-2.0

//! The running journal: changed blocks, transactions, and how they reach their places.
//!
//! A changed block is *staged*: its copy lies in the journal itself, where the running transaction will have it, and is changed
//! there. The transaction takes consecutive positions: a descriptor block, data blocks, the next descriptor block and so on,
//! revoke blocks, the commit block. Descriptor blocks are written at the commit. One ordered store, of the commit block's magic
//! number, commits.
//!
//! After the region's next flush the committed copies are durable and are copied to their homes. The space behind them comes
//! back in the steps of [`Tail`], one a flush.
//!
//! *Kept* blocks, the superblock and the group descriptors, are not copied home while the volume is mounted: whoever replays the
//! journal reads them first, so they must not be found half copied. They are in the transaction that the log's tail is at,
//! or a later one.

mod commit;
mod flush;

use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZero;
use core::ops::Range;

use super::super::error::{Damage, Error};
use super::super::power_of_two::PowerOfTwo;
use super::area::Area;
use super::format;
use super::table::Table;
use crate::fs::Errno;
use crate::mem::region::Region;
use crate::mem::slice;

/// Blocks that one operation may change which an earlier operation of the same transaction changed too.
const UNDO_BLOCKS: usize = 128;
/// Changes that one operation can take back: those blocks, and revocations.
const UNDO_STEPS: usize = 1024;
/// Blocks that one transaction can revoke.
const MAX_REVOKED: usize = 2048;
/// Blocks that are changed and not in place.
const MAX_CHANGED: u32 = 16384;
/// `h_commit_sec` of the first transaction of a mount. It counts down: see [`super`].
const FIRST_TIME: u64 = 1 << 40;
/// Blocks of a transaction that no operation gets: its commit block, the superblock, and what one more descriptor block takes.
const SPARE: u32 = 4;

/// What the journal did since the volume was mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct JournalStatistics {
    /// Transactions committed.
    pub transactions: u64,
    /// Blocks written to the journal, descriptor, revoke and commit blocks included.
    pub blocks: u64,
    /// Flushes of the region.
    pub flushes: u64,
    /// Operations that were repeated because the transaction had no room for them.
    pub repeated: u64,
}

/// The copies that the journal holds of a block. A position is 0 where there is none.
#[derive(Debug, Clone, Copy, Default)]
struct Versions {
    /// Position of the newest committed copy.
    committed: u32,
    /// Position of the running transaction's.
    staged: u32,
    /// The operation that staged it or saved what it was: it is not saved again.
    saved: u64,
    /// The committed copy begins with zeros instead of [`MAGIC`].
    escaped: bool,
}

/// What an operation did that a failure takes back.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// It changed a staged block, which was copied to this slot of the undo buffer before.
    Changed { entry: usize, slot: u32 },
    /// It revoked a block of which the journal held this.
    Revoked { entry: usize, versions: Versions },
}

/// Where the transaction stood when an operation began.
#[derive(Debug, Clone, Copy)]
struct Operation {
    number: u64,
    entries: usize,
    staged: usize,
    revoked: usize,
}

/// How a place in the log becomes its tail: each step with one flush of the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Where it is, and on the medium too.
    Settled,
    /// The transaction of this position and sequence number, with all kept blocks, is committed.
    Committed(u32, u32),
    /// It is durable, and what was committed up to it is copied home.
    Copied(u32, u32),
    /// Those copies are durable, and the journal's superblock names this position.
    Named(u32),
}

/// The log of a mounted volume.
#[derive(Debug)]
pub(in crate::ext4) struct Log {
    area: Area,
    block_size: PowerOfTwo,
    /// Tags and records have 64-bit block numbers.
    wide: bool,
    /// Tags of a descriptor block.
    tags: NonZero<usize>,
    /// Records of a revoke block.
    records: NonZero<usize>,
    kept: Range<u64>,
    copies: Table<Versions>,
    /// Entries of `copies`, in the order of the running transaction's data blocks.
    staged: Vec<usize>,
    revoked: Table<()>,
    operation: Option<Operation>,
    operations: u64,
    steps: Vec<Step>,
    undo: Vec<u8>,
    saved: u32,
    /// Of the running transaction: first position, sequence number, time.
    start: u32,
    sequence: u32,
    time: u64,
    /// The oldest position that must not be overwritten.
    oldest: u32,
    tail: Tail,
    /// Something was stored that the next flush is to make durable.
    dirty: bool,
    /// A flush failed: nothing is changed any more.
    failed: bool,
    /// Blocks that operations may take of a transaction.
    longest: u32,
    /// Blocks that every transaction must have room for besides: all kept blocks, and a few.
    reserve: u32,
    /// The transaction takes its reserve now: it is being committed.
    closing: bool,
    pub(in crate::ext4) statistics: JournalStatistics,
}

fn failed_region() -> Error {
    Errno::EIO.into()
}

impl Log {
    /// A log in `area`, to [`begin`](Self::begin) or to [`resume`](Self::resume). Blocks `kept` are kept.
    pub(super) fn new(area: Area, block_size: PowerOfTwo, wide: bool, kept: Range<u64>) -> Self {
        let capacity = area.len().min(MAX_CHANGED);
        let longest = (area.len() / 4).min(capacity / 4);
        let start = area.first();
        let kept_blocks = kept.end.saturating_sub(kept.start);
        let reserve = u32::try_from(kept_blocks).unwrap_or_default().saturating_add(SPARE);
        Self {
            block_size,
            wide,
            tags: format::tags_per_descriptor(block_size, wide),
            records: format::records_per_block(wide),
            kept,
            copies: Table::new(capacity as usize),
            staged: Vec::with_capacity(longest.saturating_add(reserve) as usize),
            revoked: Table::new(MAX_REVOKED),
            operation: None,
            operations: 0,
            steps: Vec::with_capacity(UNDO_STEPS),
            undo: vec![0; block_size.length().saturating_mul(UNDO_BLOCKS)],
            saved: 0,
            start,
            sequence: 0,
            time: FIRST_TIME,
            oldest: start,
            tail: Tail::Settled,
            dirty: false,
            failed: false,
            longest,
            reserve,
            closing: false,
            statistics: JournalStatistics::default(),
            area,
        }
    }

    /// The log starts empty, with transaction `sequence` at its first position.
    pub(super) fn begin(&mut self, sequence: u32) {
        self.start = self.area.first();
        self.oldest = self.start;
        self.sequence = sequence;
    }

    /// The log goes on with transaction `sequence` at position `start`; its tail is at `oldest`, and its last transaction has
    /// the time `time`.
    pub(super) fn resume(&mut self, start: u32, sequence: u32, oldest: u32, time: u64) {
        self.start = start;
        self.sequence = sequence;
        self.oldest = oldest;
        self.time = time.saturating_sub(1);
    }

    /// The committed copy of the kept block `number` is at `position`. `None` if there are too many.
    pub(super) fn adopt(&mut self, number: u64, position: u32) -> Option<()> {
        let index = self.copies.insert(number)?;
        self.copies.get_mut(index)?.committed = position;
        Some(())
    }

    pub(super) fn area(&self) -> &Area {
        &self.area
    }

    pub(super) fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Whether block `number` is kept.
    pub(super) fn keeps(&self, number: u64) -> bool {
        self.kept.contains(&number)
    }

    /// Where the newest copy of block `number` begins in the region; `None` if that is its home.
    pub(in crate::ext4) fn newest(&self, number: u64) -> Option<u64> {
        let (_, versions) = self.copies.get(self.copies.find(number)?)?;
        let position = if versions.staged != 0 { versions.staged } else { versions.committed };
        (position != 0).then(|| self.area.offset(position))
    }

    /// Whether the running transaction revokes block `number`.
    pub(in crate::ext4) fn revokes(&self, number: u64) -> bool {
        self.revoked.find(number).is_some()
    }

    /// Something was stored outside of the journal that the next flush is to make durable.
    pub(in crate::ext4) fn note_stored(&mut self) {
        self.dirty = true;
    }

    pub(in crate::ext4) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// # Errors
    /// EIO after a flush failed.
    pub(in crate::ext4) fn check(&self) -> Result<(), Error> {
        if self.failed { Err(Errno::EIO.into()) } else { Ok(()) }
    }

    /// An operation begins. `false` if one is going on, of which this one is a part.
    pub(in crate::ext4) fn begin_operation(&mut self) -> bool {
        if self.operation.is_some() {
            return false;
        }
        self.operations = self.operations.wrapping_add(1);
        self.operation = Some(Operation {
            number: self.operations,
            entries: self.copies.len(),
            staged: self.staged.len(),
            revoked: self.revoked.len(),
        });
        true
    }

    /// The operation is over; what it did stays.
    pub(in crate::ext4) fn end_operation(&mut self) {
        self.operation = None;
        self.steps.clear();
        self.saved = 0;
    }

    /// The operation is over; what it did is taken back.
    pub(in crate::ext4) fn undo_operation<R: Region>(&mut self, region: &mut R) {
        let Some(before) = self.operation else { return };
        let size = self.block_size.length();
        for step in self.steps.iter().rev() {
            match *step {
                Step::Revoked { entry, versions } => {
                    if let Some(place) = self.copies.get_mut(entry) {
                        *place = versions;
                    }
                }
                Step::Changed { entry, slot } => {
                    let copy = self.undo.get(self.block_size.place(slot));
                    let staged = self.copies.get(entry).map_or(0, |(_, versions)| versions.staged);
                    let place = region.bytes_mut(self.area.offset(staged), size);
                    if let (Some(place), Some(copy)) = (place, copy) {
                        slice::copy(place, copy);
                    }
                }
            }
        }
        for entry in self.staged.iter().skip(before.staged) {
            if let Some(versions) = self.copies.get_mut(*entry) {
                versions.staged = 0;
            }
        }
        self.staged.truncate(before.staged);
        self.copies.truncate(before.entries);
        self.revoked.truncate(before.revoked);
        self.end_operation();
    }

    /// Stages block `number`, as it is or, if `zeroed`, as zeros; `home` is where it begins in the region. Returns where its copy
    /// does.
    pub(in crate::ext4) fn stage<R: Region>(
        &mut self,
        region: &mut R,
        number: u64,
        home: u64,
        zeroed: bool,
    ) -> Result<u64, Error> {
        self.check()?;
        let size = self.block_size.length();
        let present = self.copies.find(number);
        let versions = present.and_then(|index| self.copies.get(index)).map(|(_, versions)| *versions);
        let offset = match (present, versions) {
            (Some(index), Some(versions)) if versions.staged != 0 => {
                let offset = self.area.offset(versions.staged);
                self.save(region, index, versions, offset)?;
                offset
            }
            _ => self.stage_first(region, number, home, zeroed)?,
        };
        if zeroed {
            region.bytes_mut(offset, size).ok_or_else(failed_region)?.fill(0);
        }
        Ok(offset)
    }

    /// Saves the staged block of entry `index` for the case that the operation fails, unless it need not.
    fn save<R: Region>(
        &mut self,
        region: &R,
        index: usize,
        versions: Versions,
        offset: u64,
    ) -> Result<(), Error> {
        let Some(operation) = self.operation else { return Ok(()) };
        if versions.saved == operation.number {
            return Ok(());
        }
        let size = self.block_size.length();
        let slot = self.saved;
        let place = self.undo.get_mut(self.block_size.place(slot));
        let place = place.filter(|_| self.steps.len() < UNDO_STEPS).ok_or(Error::TransactionFull)?;
        slice::copy(place, region.bytes(offset, size).ok_or_else(failed_region)?);
        self.steps.push(Step::Changed { entry: index, slot });
        self.saved = slot.saturating_add(1);
        if let Some(place) = self.copies.get_mut(index) {
            place.saved = operation.number;
        }
        Ok(())
    }

    /// Stages a block that the running transaction does not have yet.
    fn stage_first<R: Region>(
        &mut self,
        region: &mut R,
        number: u64,
        home: u64,
        zeroed: bool,
    ) -> Result<u64, Error> {
        // Nobody changes a block that he just freed, or one of the journal: only a damaged volume lets two structures
        // have the same block.
        if self.revokes(number) || self.area.holds(number) {
            return Err(Damage::Claimed { block: number }.into());
        }
        let data = self.staged.len();
        if !self.has_room(data.saturating_add(1), self.revoked.len()) || self.staged.capacity() == data {
            return Err(Error::TransactionFull);
        }
        let source = self.newest(number).unwrap_or(home);
        let index = self.copies.insert(number).ok_or(Error::TransactionFull)?;
        let position = self.data_position(data);
        let offset = self.area.offset(position);
        if !zeroed {
            region.copy_within(source, offset, self.block_size.length()).ok_or_else(failed_region)?;
        }
        self.staged.push(index);
        if let Some(versions) = self.copies.get_mut(index) {
            versions.staged = position;
            versions.saved = self.operation.map_or(0, |operation| operation.number);
        }
        Ok(offset)
    }

    /// Revokes block `number`: no copy of it that the journal holds so far is ever put in place.
    pub(in crate::ext4) fn revoke(&mut self, number: u64) -> Result<(), Error> {
        self.check()?;
        if self.keeps(number) || self.area.holds(number) {
            return Err(Damage::Claimed { block: number }.into());
        }
        if self.revokes(number) {
            return Ok(());
        }
        if !self.has_room(self.staged.len(), self.revoked.len().saturating_add(1))
            || self.steps.len() == UNDO_STEPS
        {
            return Err(Error::TransactionFull);
        }
        self.revoked.insert(number).ok_or(Error::TransactionFull)?;
        if let Some(entry) = self.copies.find(number)
            && let Some(versions) = self.copies.get_mut(entry)
        {
            if self.operation.is_some() {
                self.steps.push(Step::Revoked { entry, versions: *versions });
            }
            // The tag of a staged copy stays in the descriptor block; the record keeps it from being replayed.
            versions.staged = 0;
            versions.committed = 0;
        }
        Ok(())
    }

    /// Blocks of a transaction with `data` data blocks and `revoked` revoked ones.
    fn length(&self, data: usize, revoked: usize) -> u32 {
        let descriptors = data.div_ceil(self.tags.get());
        let revokes = revoked.div_ceil(self.records.get());
        let blocks = data.saturating_add(descriptors).saturating_add(revokes).saturating_add(1);
        u32::try_from(blocks).unwrap_or(u32::MAX)
    }

    /// The position of data block `index` of the running transaction.
    fn data_position(&self, index: usize) -> u32 {
        let count =
            u32::try_from(index.saturating_add(index / self.tags).saturating_add(1)).unwrap_or_default();
        self.area.after(self.start, count)
    }

    /// How many positions there are for the running transaction and those to come.
    fn free(&self) -> u32 {
        let distance = self.area.distance(self.start, self.oldest);
        // The block behind the last transaction must not be the oldest one: its first bytes are cleared.
        if self.start == self.oldest { self.area.len() } else { distance }.saturating_sub(1)
    }

    fn has_room(&self, data: usize, revoked: usize) -> bool {
        let length = self.length(data, revoked);
        if self.closing {
            return length <= self.free();
        }
        length <= self.longest
            && length.saturating_add(self.reserve) <= self.free()
            && self.copies.room() > self.reserve as usize
    }

    /// The transaction takes what was kept back for its commit.
    pub(in crate::ext4) fn close(&mut self) {
        self.closing = true;
    }

    /// Whether there is room for a transaction of kept blocks alone.
    pub(super) fn has_reserve(&self) -> bool {
        self.free() > self.reserve && self.copies.room() > self.reserve as usize
    }

    /// Whether there is room for a transaction of any allowed length.
    pub(in crate::ext4) fn is_roomy(&self) -> bool {
        self.free() >= self.longest.saturating_add(self.reserve)
            && self.copies.room() >= self.longest.saturating_add(self.reserve) as usize
    }
}
