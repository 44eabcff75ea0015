// SPDX-License-Identifier: MIT OR Apache-2.0

//! A region in the middle of memory that nobody may touch, which gives up when it is used without end.

use core::cell::Cell;
use std::vec::Vec;

use crate::mem::region::{FlushFault, Region};

/// Guard bytes on each side.
const GUARD: usize = 4096;
/// What they are.
const PATTERN: u8 = 0xa5;
/// Uses of the region by one volume: many times what a sound one needs.
const USES: u64 = 4_000_000;

/// The region. Nothing in it is flushed anywhere: every flush succeeds.
pub(super) struct Guarded {
    memory: Vec<u8>,
    uses: Cell<u64>,
}

impl Guarded {
    pub(super) fn new(volume: &[u8]) -> Self {
        let guard = [PATTERN; GUARD];
        Self { memory: [&guard[..], volume, &guard[..]].concat(), uses: Cell::new(0) }
    }

    /// The volume.
    pub(super) fn volume(&self) -> &[u8] {
        &self.memory[GUARD..self.memory.len() - GUARD]
    }

    /// Whether the guards are as they were.
    pub(super) fn is_intact(&self) -> bool {
        let (before, rest) = self.memory.split_at(GUARD);
        let (_, behind) = rest.split_at(rest.len() - GUARD);
        before.iter().chain(behind).all(|byte| *byte == PATTERN)
    }

    /// How often it was used.
    pub(super) fn uses(&self) -> u64 {
        self.uses.get()
    }

    /// Counts one use.
    fn count(&self) {
        self.uses.set(self.uses.get() + 1);
        assert!(self.uses.get() < USES, "it does not end");
    }

    /// Where `length` bytes from `offset` on are in the memory, if they are in the region.
    fn place(&self, offset: u64, length: usize) -> Option<core::ops::Range<usize>> {
        self.count();
        let start = usize::try_from(offset).ok()?.checked_add(GUARD)?;
        let end = start.checked_add(length)?;
        (end <= self.memory.len() - GUARD).then_some(start..end)
    }
}

impl Region for Guarded {
    fn len(&self) -> u64 {
        self.volume().len() as u64
    }

    fn bytes(&self, offset: u64, length: usize) -> Option<&[u8]> {
        self.memory.get(self.place(offset, length)?)
    }

    fn bytes_mut(&mut self, offset: u64, length: usize) -> Option<&mut [u8]> {
        let place = self.place(offset, length)?;
        self.memory.get_mut(place)
    }

    fn publish(&mut self, offset: u64, bytes: [u8; 4]) -> Option<()> {
        self.bytes_mut(offset, 4)?.copy_from_slice(&bytes);
        Some(())
    }

    fn publish_pair(&mut self, offset: u64, bytes: [u8; 8]) -> Option<()> {
        self.bytes_mut(offset, 8)?.copy_from_slice(&bytes);
        Some(())
    }

    fn flush(&mut self) -> Result<(), FlushFault> {
        self.count();
        Ok(())
    }
}
