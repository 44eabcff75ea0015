// SPDX-License-Identifier: MIT OR Apache-2.0

//! The content of a file: bytes with holes, however far apart.

use std::collections::BTreeMap;
use std::vec::Vec;

use crate::mem::{Full, Sink};

const BLOCK: u64 = 512;

/// What was never written is zero.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    size: u64,
    /// Whole blocks, by their number.
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Content {
    pub fn new(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Blocks of 512 bytes that are no holes.
    pub fn stored(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.read(0, self.size, &mut bytes).unwrap();
        bytes
    }

    pub fn set_size(&mut self, size: u64) {
        self.size = size;
        self.blocks.retain(|number, _| number * BLOCK < size);
        if let Some(last) = self.blocks.get_mut(&(size / BLOCK)) {
            last[usize::try_from(size % BLOCK).unwrap()..].fill(0);
        }
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            let block = self.blocks.entry(at / BLOCK).or_insert_with(|| std::vec![0; 512]);
            block[usize::try_from(at % BLOCK).unwrap()] = *byte;
        }
        self.size = self.size.max(offset + bytes.len() as u64);
    }

    /// Puts the bytes `offset .. offset + count`, all of which are there.
    pub fn read(&self, mut offset: u64, count: u64, sink: &mut dyn Sink) -> Result<(), Full> {
        let end = offset + count;
        while offset < end {
            let start = usize::try_from(offset % BLOCK).unwrap();
            let length = usize::try_from((end - offset).min(BLOCK - offset % BLOCK)).unwrap();
            match self.blocks.get(&(offset / BLOCK)) {
                Some(block) => sink.put(&block[start..start + length])?,
                None => sink.put_zeros(length)?,
            }
            offset += length as u64;
        }
        Ok(())
    }
}
