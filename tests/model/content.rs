// SPDX-License-Identifier: MIT OR Apache-2.0

//! The content of a file as the reference keeps it: plain bytes, with what was never written left out.

use std::collections::BTreeMap;

/// Bytes of a piece. No block size of a volume is smaller.
const PIECE: u64 = 1024;

/// A sequence of bytes; what has no piece is zeros.
#[derive(Debug, Clone, Default)]
pub struct Content {
    size: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
}

impl Content {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Up to `count` bytes from `offset` on: fewer at the end.
    pub fn read(&self, offset: u64, count: usize) -> Vec<u8> {
        let end = self.size.min(offset.saturating_add(count as u64));
        if end <= offset {
            return Vec::new();
        }
        let mut bytes = vec![0; (end - offset) as usize];
        for (number, piece) in self.pieces.range(offset / PIECE..end.div_ceil(PIECE)) {
            let start = number * PIECE;
            let (from, to) = (start.max(offset), (start + PIECE).min(end));
            if from < to {
                bytes[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&piece[(from - start) as usize..(to - start) as usize]);
            }
        }
        bytes
    }

    /// Puts `bytes` at `offset`.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        let mut left = bytes;
        while !left.is_empty() {
            let within = (at % PIECE) as usize;
            let (now, later) = left.split_at(left.len().min(PIECE as usize - within));
            let piece = self.pieces.entry(at / PIECE).or_insert_with(|| vec![0; PIECE as usize]);
            piece[within..within + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            left = later;
        }
        self.size = self.size.max(at);
    }

    /// Makes it `size` bytes long.
    pub fn resize(&mut self, size: u64) {
        self.pieces.retain(|number, _| number * PIECE < size);
        if let Some(last) = self.pieces.get_mut(&(size / PIECE)) {
            last[(size % PIECE) as usize..].fill(0);
        }
        self.size = size;
    }

    /// Where to look to compare all of it: ranges of at most `most` bytes, all that was written and some of what was not.
    pub fn places(&self, most: u64) -> Vec<(u64, u64)> {
        if self.size <= 64 * PIECE {
            return (0..self.size).step_by(most as usize).map(|offset| (offset, most)).collect();
        }
        let mut places: Vec<_> = self.pieces.keys().map(|number| (number * PIECE, 2 * PIECE)).collect();
        places.extend([(0, PIECE), (self.size / 2, PIECE), (self.size - PIECE, 2 * PIECE)]);
        places
    }
}
