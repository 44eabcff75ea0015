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
        self.is_settled() && self.area.len() - 1 - self.free() > self.area.len() / 4
    }

    /// The kept blocks of which the journal has a copy.
    pub(in crate::ext4) fn kept_copies(&self, mut from: usize) -> Option<(usize, u64)> {
        loop {
            let (number, versions) = self.copies.get(from)?;
            if self.keeps(number) && (versions.committed != 0 || versions.staged != 0) {
                return Some((from, number));
            }
            from += 1;
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
        self.statistics.transactions += 1;
        self.statistics.blocks += u64::from(self.area.distance(self.start, next));
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
        let (size, wide, sequence) = (self.block_size as usize, self.wide, self.sequence);
        let mut position = self.start;
        let mut sum = u32::MAX;
        let mut any_escaped = false;
        for chunk in self.staged.chunks(self.tags()) {
            let descriptor = self.area.offset(position);
            begin_block(region, descriptor, size, format::DESCRIPTOR, sequence)?;
            let first = self.area.after(position, 1);
            for (index, &entry) in chunk.iter().enumerate() {
                let offset = self.area.offset(self.area.after(first, u32::try_from(index).ok()?));
                let escaped = region.bytes(offset, 4)? == MAGIC.to_be_bytes();
                if escaped {
                    region.bytes_mut(offset, 4)?.fill(0);
                    any_escaped = true;
                }
                let (number, _) = self.copies.get(entry)?;
                self.copies.get_mut(entry)?.escaped = escaped;
                let last = index + 1 == chunk.len();
                let block = region.bytes_mut(descriptor, size)?;
                format::write_tag(block, wide, index, number, escaped, last);
            }
            sum = crc32(sum, region.bytes(descriptor, size)?);
            position = first;
            for _ in chunk {
                sum = crc32(sum, region.bytes(self.area.offset(position), size)?);
                position = self.area.after(position, 1);
            }
        }
        let records = self.records();
        for (index, (number, ())) in self.revoked.iter().enumerate() {
            if index.is_multiple_of(records) {
                begin_block(region, self.area.offset(position), size, format::REVOKE, sequence)?;
                position = self.area.after(position, 1);
            }
            let block = self.area.offset(self.area.after(position, self.area.len() - 1));
            format::write_record(region.bytes_mut(block, size)?, wide, index % records, number);
        }
        let next = self.area.after(position, 1);
        // What lay here before may have been a commit block: its magic goes before the rest becomes ours. And what lies
        // behind must not be taken for the next transaction.
        let commit = self.area.offset(position);
        region.publish(commit, [0; 4])?;
        Commit::write(sum, self.time, sequence, region.bytes_mut(commit, size)?);
        region.bytes_mut(self.area.offset(next), 4)?.fill(0);
        region.publish(commit, MAGIC.to_be_bytes())?;
        Some((next, any_escaped))
    }
}

/// Makes the block at `offset` one of kind `kind`. What lay there before may have been a commit block: with its kind and the new
/// sequence number it would commit what is not complete, so both its magic and its kind go first.
fn begin_block<R: Region>(region: &mut R, offset: u64, size: usize, kind: u32, sequence: u32) -> Option<()> {
    region.publish_pair(offset, [0; 8])?;
    format::write_header(region.bytes_mut(offset, size)?, kind, sequence);
    Some(())
}
