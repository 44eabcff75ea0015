// SPDX-License-Identifier: MIT OR Apache-2.0

//! Recovery: what the log holds is checked, then put in place.
//!
//! Three passes as in Linux: find where the log ends; collect what is revoked; put the rest in place, after every checksum was
//! found right. The log stays as it is meanwhile, so all of it may be repeated.

use alloc::collections::BTreeMap;

use super::super::checksum::crc32;
use super::super::error::MountError;
use super::super::field::be32;
use super::super::power_of_two::PowerOfTwo;
use super::area::Area;
use super::format::{self, Commit, JournalSuperblock, MAGIC, Tag};
use super::log::Log;
use crate::mem::region::Region;
use crate::mem::slice;

/// Where a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// How many transactions it holds.
    pub transactions: u32,
    /// Position behind the last.
    pub position: u32,
    /// Sequence number of the next.
    pub sequence: u32,
    /// `h_commit_sec` of the last.
    pub time: u64,
}

/// A walk over the blocks with headers of a log.
struct Cursor<'a> {
    area: &'a Area,
    size: usize,
    position: u32,
    /// Of the transaction that the next block must belong to.
    sequence: u32,
    /// Blocks until the walk would be once around.
    left: u32,
}

impl<'a> Cursor<'a> {
    fn new(area: &'a Area, superblock: &JournalSuperblock, block_size: PowerOfTwo) -> Self {
        Self {
            area,
            size: block_size.length(),
            position: superblock.s_start,
            sequence: superblock.s_sequence,
            left: area.len(),
        }
    }

    /// Where the next block begins, which is passed; `None` if the log goes once around without an end.
    fn pass(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let offset = self.area.offset(self.position);
        self.position = self.area.after(self.position, 1);
        Some(offset)
    }

    /// The next block with a header, passed, and its `h_blocktype`; `None` where the log ends.
    fn next<'r, R: Region>(&mut self, region: &'r R) -> Option<(u32, &'r [u8])> {
        let block = region.bytes(self.pass()?, self.size)?;
        let belongs = be32(block, 0) == MAGIC && be32(block, 8) == self.sequence;
        belongs.then(|| (be32(block, 4), block))
    }
}

/// Takes a data block: its tag, the sequence number of its transaction, its position.
type Visit<'a, R> = dyn FnMut(&mut R, &Tag, u32, u32) -> Result<(), MountError> + 'a;

/// A log that is to be recovered.
pub(super) struct Recovery<'a> {
    pub area: &'a Area,
    pub superblock: &'a JournalSuperblock,
    pub block_size: PowerOfTwo,
    pub blocks_count: u64,
}

impl Recovery<'_> {
    fn cursor(&self) -> Cursor<'_> {
        Cursor::new(self.area, self.superblock, self.block_size)
    }

    /// Finds the end of the log.
    pub(super) fn find_end<R: Region>(&self, region: &R) -> Result<End, MountError> {
        let mut cursor = self.cursor();
        let mut end = End { transactions: 0, position: cursor.position, sequence: cursor.sequence, time: 0 };
        let (mut sum, mut sound) = (u32::MAX, true);
        while let Some((kind, block)) = cursor.next(region) {
            match kind {
                format::DESCRIPTOR => {
                    sound &= self.superblock.block_is_sound(block);
                    sum = crc32(sum, block);
                    for _ in self.superblock.tags(block) {
                        let Some(offset) = cursor.pass() else { return Ok(end) };
                        if self.superblock.has_transaction_checksums() {
                            sum = crc32(sum, region.bytes(offset, cursor.size).unwrap_or_default());
                        }
                    }
                }
                format::REVOKE => sound &= self.superblock.block_is_sound(block),
                format::COMMIT => {
                    let commit = Commit::parse(block);
                    sound &= self.superblock.commit_is_sound(block);
                    if self.superblock.has_transaction_checksums() {
                        sound &= commit.checksum.is_none_or(|checksum| checksum == sum);
                    }
                    if !sound && (end.transactions == 0 || commit.time >= end.time) {
                        return Err(MountError::Journal("a committed transaction has a wrong checksum"));
                    }
                    if !sound {
                        return Ok(end);
                    }
                    sum = u32::MAX;
                    cursor.sequence = cursor.sequence.wrapping_add(1);
                    end = End {
                        transactions: end.transactions.saturating_add(1),
                        position: cursor.position,
                        sequence: cursor.sequence,
                        time: commit.time,
                    };
                }
                _ => return Ok(end),
            }
        }
        if cursor.left == 0 {
            // Whoever writes a log keeps a gap between its end and its start.
            return Err(MountError::Journal("its log goes once around without an end"));
        }
        Ok(end)
    }

    /// Shows `visit` each data block of the log up to `end` that is not revoked, in order.
    fn each_block<R: Region>(
        &self,
        region: &mut R,
        end: End,
        revoked: &BTreeMap<u64, u32>,
        visit: &mut Visit<'_, R>,
    ) -> Result<(), MountError> {
        let mut cursor = self.cursor();
        while cursor.sequence != end.sequence {
            let descriptor = self.area.offset(cursor.position);
            match cursor.next(region) {
                Some((format::DESCRIPTOR, _)) => {}
                Some((format::COMMIT, _)) => {
                    cursor.sequence = cursor.sequence.wrapping_add(1);
                    continue;
                }
                Some((format::REVOKE, _)) => continue,
                _ => return Ok(()),
            }
            let sequence = cursor.sequence;
            // The descriptor block is read anew for each tag, as `visit` may change the region.
            for index in 0.. {
                let block = region.bytes(descriptor, cursor.size).unwrap_or_default();
                let Some(tag) = self.superblock.tags(block).nth(index) else { break };
                let position = cursor.position;
                if cursor.pass().is_none() {
                    return Ok(());
                }
                // A block is revoked for all transactions up to the one that revokes it.
                let after = |&revoker: &u32| {
                    let distance = sequence.wrapping_sub(revoker);
                    distance != 0 && distance < 1 << 31
                };
                if revoked.get(&tag.number).is_none_or(after) {
                    visit(region, &tag, sequence, position)?;
                }
            }
        }
        Ok(())
    }

    /// The last transaction up to `end` that revokes each revoked block.
    fn revoked<R: Region>(&self, region: &R, end: End) -> BTreeMap<u64, u32> {
        let mut revoked = BTreeMap::new();
        let mut cursor = self.cursor();
        while cursor.sequence != end.sequence {
            let Some((kind, block)) = cursor.next(region) else { break };
            match kind {
                format::DESCRIPTOR => {
                    for _ in self.superblock.tags(block) {
                        cursor.pass();
                    }
                }
                format::REVOKE => {
                    revoked.extend(self.superblock.revoked(block).map(|number| (number, cursor.sequence)));
                }
                _ => cursor.sequence = cursor.sequence.wrapping_add(1),
            }
        }
        revoked
    }

    /// The position of the newest copy of block `number`, if the log has one.
    pub(super) fn newest<R: Region>(&self, region: &mut R, number: u64) -> Result<Option<u32>, MountError> {
        let end = self.find_end(region)?;
        let revoked = self.revoked(region, end);
        let mut newest = None;
        self.each_block(region, end, &revoked, &mut |_, tag, _, position| {
            if tag.number == number {
                newest = Some(position);
            }
            Ok(())
        })?;
        Ok(newest)
    }

    /// Puts what the log holds up to `end` in place, and has `log` know the newest copies of kept blocks.
    pub(super) fn replay<R: Region>(
        &self,
        region: &mut R,
        end: End,
        log: &mut Log,
    ) -> Result<(), MountError> {
        let revoked = self.revoked(region, end);
        let size = self.block_size.length();
        let outside = MountError::Journal("it is not in the region");
        let mut newest = BTreeMap::new();
        self.each_block(region, end, &revoked, &mut |region, tag, sequence, position| {
            let block = region.bytes(self.area.offset(position), size).ok_or(outside)?;
            if !self.superblock.data_is_sound(tag, sequence, block) {
                return Err(MountError::Journal("a block of a committed transaction has a wrong checksum"));
            }
            if tag.number >= self.blocks_count || self.area.holds(tag.number) {
                return Err(MountError::Journal("a transaction changes a block that is not the volume's"));
            }
            if log.keeps(tag.number) {
                newest.insert(tag.number, position);
            }
            Ok(())
        })?;
        self.each_block(region, end, &revoked, &mut |region, tag, _, position| {
            if log.keeps(tag.number) {
                if newest.get(&tag.number) != Some(&position) {
                    return Ok(());
                }
                if !tag.escaped {
                    return log.adopt(tag.number, position).ok_or(MountError::Journal("it is too small"));
                }
                // It cannot be read where it lies.
            }
            let home = tag.number.saturating_mul(self.block_size.into());
            region.copy_within(self.area.offset(position), home, size).ok_or(outside)?;
            if tag.escaped {
                let start = region.bytes_mut(home, 4).ok_or(outside)?;
                slice::copy(start, &MAGIC.to_be_bytes());
            }
            Ok(())
        })
    }
}
