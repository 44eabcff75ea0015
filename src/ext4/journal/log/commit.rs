// SPDX-License-Identifier: MIT OR Apache-2.0

//! The commit: what is missing of the running transaction is written, and one ordered store makes it valid.

use super::super::super::checksum::crc32;
use super::super::super::error::Error;
use super::super::format::{self, Commit, MAGIC};
use super::{Log, Tail, failed_region};
use crate::mem::region::Region;

impl Log {
    /// Whether the running transaction changes nothing.
    pub(in crate::ext4) fn is_clean(&self) -> bool {
        self.staged.is_empty() && self.revoked.is_empty()
    }

    /// Whether a quarter of the log is taken, and no place in it is becoming the tail: the next transaction should.
    pub(in crate::ext4) fn wants_tail(&self) -> bool {
        let taken = || self.area.len().saturating_sub(1).saturating_sub(self.free());
        self.is_settled() && taken() > self.area.len() / 4
    }

    /// The kept blocks of which the journal has a copy.
    pub(in crate::ext4) fn kept_copies(&self, mut from: usize) -> Option<(usize, u64)> {
        loop {
            let (number, versions) = self.copies.get(from)?;
            if self.keeps(number) && (versions.committed != 0 || versions.staged != 0) {
                return Some((from, number));
            }
            from = from.saturating_add(1);
        }
    }

    /// Commits the running transaction, if it changes anything; if `tail`, it has all kept blocks. Returns whether a flush must
    /// follow at once.
    pub(in crate::ext4) fn commit<R: Region>(&mut self, region: &mut R, tail: bool) -> Result<bool, Error> {
        self.closing = false;
        self.check()?;
        if self.is_clean() {
            return Ok(false);
        }
        let result = self.write_transaction(region);
        if result.is_none() {
            self.failed = true;
        }
        let (next, escaped) = result.ok_or_else(failed_region)?;
        if tail {
            self.tail = Tail::Committed(self.start, self.sequence);
        }
        self.statistics.transactions = self.statistics.transactions.wrapping_add(1);
        let blocks = u64::from(self.area.distance(self.start, next));
        self.statistics.blocks = self.statistics.blocks.wrapping_add(blocks);
        for entry in self.staged.drain(..) {
            if let Some(versions) = self.copies.get_mut(entry)
                && versions.staged != 0
            {
                versions.committed = versions.staged;
                versions.staged = 0;
            }
        }
        self.revoked.truncate(0);
        self.start = next;
        self.sequence = self.sequence.wrapping_add(1);
        self.time = self.time.saturating_sub(1);
        self.dirty = true;
        Ok(escaped)
    }

    /// Writes what is missing of the running transaction, the commit block's magic last. Returns the position behind it and
    /// whether a block was escaped.
    fn write_transaction<R: Region>(&mut self, region: &mut R) -> Option<(u32, bool)> {
        let (size, wide, sequence) = (self.block_size.length(), self.wide, self.sequence);
        let (commit, any_escaped) = self.clear_headers(region)?;
        let mut position = self.start;
        let mut sum = u32::MAX;
        for chunk in self.staged.chunks(self.tags.get()) {
            let descriptor = self.area.offset(position);
            format::write_header(region.bytes_mut(descriptor, size)?, format::DESCRIPTOR, sequence);
            for (index, &entry) in chunk.iter().enumerate() {
                let (number, versions) = self.copies.get(entry)?;
                let (escaped, last) = (versions.escaped, index.saturating_add(1) == chunk.len());
                let block = region.bytes_mut(descriptor, size)?;
                format::write_tag(block, wide, index, number, escaped, last);
            }
            sum = crc32(sum, region.bytes(descriptor, size)?);
            position = self.area.after(position, 1);
            for _ in chunk {
                sum = crc32(sum, region.bytes(self.area.offset(position), size)?);
                position = self.area.after(position, 1);
            }
        }
        let records = self.records;
        for (index, (number, ())) in self.revoked.iter().enumerate() {
            if index % records == 0 {
                let block = region.bytes_mut(self.area.offset(position), size)?;
                format::write_header(block, format::REVOKE, sequence);
                position = self.area.after(position, 1);
            }
            let block = self.area.offset(self.area.after(position, self.area.len().saturating_sub(1)));
            format::write_record(region.bytes_mut(block, size)?, wide, index % records, number);
        }
        let next = self.area.after(position, 1);
        // What lies behind must not be taken for the next transaction.
        Commit::write(sum, self.time, sequence, region.bytes_mut(commit, size)?);
        region.bytes_mut(self.area.offset(next), 4)?.fill(0);
        region.publish(commit, MAGIC.to_be_bytes())?;
        Some((next, any_escaped))
    }

    /// Sees to it that no block of the running transaction has a header, before anything of its own is stored: what lay there before
    /// may have been a commit block, and with the new sequence number alone it would be one of this transaction. Returns where
    /// the commit block will lie in the region, and whether a block of data was escaped.
    ///
    /// A kept block is not escaped, as it is read where it lies in the log. It would have to be of group descriptors, the first of
    /// which begins with the magic number: a block bitmap at block 2,553,887,680.
    fn clear_headers<R: Region>(&mut self, region: &mut R) -> Option<(u64, bool)> {
        let mut position = self.start;
        let mut any_escaped = false;
        for chunk in self.staged.chunks(self.tags.get()) {
            region.bytes_mut(self.area.offset(position), format::HEADER)?.fill(0);
            for &entry in chunk {
                position = self.area.after(position, 1);
                let offset = self.area.offset(position);
                let (number, _) = self.copies.get(entry)?;
                let escaped = !self.keeps(number) && region.bytes(offset, 4)? == MAGIC.to_be_bytes();
                if escaped {
                    region.bytes_mut(offset, 4)?.fill(0);
                    any_escaped = true;
                }
                self.copies.get_mut(entry)?.escaped = escaped;
            }
            position = self.area.after(position, 1);
        }
        for _ in 0..self.revoked.len().div_ceil(self.records.get()) {
            region.bytes_mut(self.area.offset(position), format::HEADER)?.fill(0);
            position = self.area.after(position, 1);
        }
        let commit = self.area.offset(position);
        // Ordered behind all of these, and in front of what follows.
        region.publish(commit, [0; 4])?;
        Some((commit, any_escaped))
    }
}
