// SPDX-License-Identifier: MIT OR Apache-2.0

//! The flush: what is committed becomes durable and is copied home, and the tail of the log moves.

use super::super::super::error::Error;
use super::super::format::{self, MAGIC};
use super::{Log, Tail, failed_region};
use crate::mem::region::Region;
use crate::mem::slice;

impl Log {
    /// Flushes the region, copies home what is committed, and moves the tail one step on. The running transaction is empty.
    pub(in crate::ext4) fn flush<R: Region>(&mut self, region: &mut R) -> Result<(), Error> {
        self.check()?;
        self.statistics.flushes = self.statistics.flushes.wrapping_add(1);
        if region.flush().is_err() || self.after_flush(region).is_none() {
            // Nobody knows what is durable now, so nothing that a replay would need may be overwritten.
            log::error!("ext4: the region was not flushed: nothing is written any more");
            self.failed = true;
            return Err(failed_region());
        }
        self.dirty = false;
        Ok(())
    }

    fn after_flush<R: Region>(&mut self, region: &mut R) -> Option<()> {
        self.copy_home(region)?;
        self.tail = match self.tail {
            Tail::Settled => Tail::Settled,
            Tail::Committed(position, sequence) => Tail::Copied(position, sequence),
            Tail::Copied(position, sequence) => {
                self.store_tail(region, sequence, position)?;
                Tail::Named(position)
            }
            Tail::Named(position) => {
                self.oldest = position;
                Tail::Settled
            }
        };
        Some(())
    }

    /// Copies home what is committed, but for kept blocks.
    fn copy_home<R: Region>(&mut self, region: &mut R) -> Option<()> {
        let size = self.block_size.length();
        for (number, versions) in self.copies.iter() {
            if versions.committed == 0 || self.keeps(number) {
                continue;
            }
            let home = number.checked_mul(u64::from(self.block_size))?;
            region.copy_within(self.area.offset(versions.committed), home, size)?;
            if versions.escaped {
                slice::copy(region.bytes_mut(home, 4)?, &MAGIC.to_be_bytes());
            }
        }
        let kept = self.kept.clone();
        self.copies.retain(|number, versions| kept.contains(&number) && versions.committed != 0);
        Some(())
    }

    /// Stores where the log begins, in one store. The journal's superblock has no checksum.
    pub(in super::super) fn store_tail<R: Region>(
        &self,
        region: &mut R,
        sequence: u32,
        position: u32,
    ) -> Option<()> {
        let [a, b, c, d] = sequence.to_be_bytes();
        let [e, f, g, h] = position.to_be_bytes();
        region.publish_pair(self.area.offset(0).saturating_add(format::S_SEQUENCE), [a, b, c, d, e, f, g, h])
    }

    /// Whether the log's tail is where it was meant to be, on the medium too.
    pub(in crate::ext4) fn is_settled(&self) -> bool {
        self.tail == Tail::Settled
    }
}
