// SPDX-License-Identifier: MIT OR Apache-2.0

//! The blocks of a jbd2 journal inside a volume, and their checksums: written from the format alone, without the core.

use crate::checksum::{be32, crc32, crc32c, crc32c_without, put_be32};
use crate::structure::{JOURNAL, Layout};

const MAGIC: u32 = 0xc03b_3998;
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;

/// `s_feature_compat`: commit blocks have a sum of the transaction.
const COMPAT_CHECKSUM: u32 = 1;
/// `s_feature_incompat`.
const WIDE: u32 = 2;
const CSUM_V2: u32 = 8;
const CSUM_V3: u32 = 16;

/// Where the blocks of a volume's journal lie.
#[derive(Debug, Clone)]
pub struct Journal {
    /// First byte of each block in the volume.
    blocks: Vec<usize>,
    block_size: usize,
}

impl Journal {
    /// The journal of a volume whose journal inode is whole.
    #[must_use]
    pub fn of(volume: &[u8], layout: &Layout) -> Self {
        let content = layout.file_blocks(volume, JOURNAL).content;
        let blocks = content.into_iter().map(|(_, block)| block as usize * layout.block_size).collect();
        Self { blocks, block_size: layout.block_size }
    }

    /// First byte of the superblock, and of the blocks of the log from its start on, `count` of them.
    #[must_use]
    pub fn log(&self, volume: &[u8], count: usize) -> Vec<usize> {
        let (first, start) = (self.word(volume, 0x14), self.word(volume, 0x1c));
        let mut at = if start == 0 { first } else { start };
        let mut log = vec![self.blocks[0]];
        for _ in 0..count {
            log.push(self.blocks[at as usize]);
            at = self.next(volume, at);
        }
        log
    }

    /// A field of the superblock.
    fn word(&self, volume: &[u8], offset: usize) -> u32 {
        be32(volume, self.blocks[0] + offset)
    }

    /// The position behind `at`.
    fn next(&self, volume: &[u8], at: u32) -> u32 {
        let end = self.word(volume, 0x10).min(u32::try_from(self.blocks.len()).expect("a number of blocks"));
        if at + 1 >= end { self.word(volume, 0x14) } else { at + 1 }
    }

    /// Sets the checksums of the superblock and of all blocks of the log right that can still be found from its start.
    pub fn resum(&self, volume: &mut [u8]) {
        let superblock = self.blocks[0];
        let incompat = if self.word(volume, 4) == 4 { self.word(volume, 0x28) } else { 0 };
        let sums_blocks = incompat & (CSUM_V2 | CSUM_V3) != 0;
        if sums_blocks {
            let sum = crc32c_without(u32::MAX, &volume[superblock..superblock + 1024], 0xfc, 4);
            put_be32(volume, superblock + 0xfc, sum);
        }
        let seed = crc32c(u32::MAX, &volume[superblock + 0x30..superblock + 0x40]);
        let sums_transactions = self.word(volume, 0x24) & COMPAT_CHECKSUM != 0;
        let mut at = self.word(volume, 0x1c);
        let mut sequence = self.word(volume, 0x18);
        let mut transaction = u32::MAX;
        for _ in 0..self.blocks.len() {
            let Some(&block) = self.blocks.get(at as usize) else { return };
            let range = block..block + self.block_size;
            let tail = block + self.block_size - 4;
            if be32(volume, block) != MAGIC || be32(volume, block + 8) != sequence {
                return;
            }
            at = self.next(volume, at);
            match be32(volume, block + 4) {
                DESCRIPTOR => {
                    let data = self.tags(volume, block, incompat);
                    let mut sums = Vec::new();
                    for tag in data {
                        let Some(&home) = self.blocks.get(at as usize) else { return };
                        let bytes = &volume[home..home + self.block_size];
                        let sum = crc32c(crc32c(seed, &sequence.to_be_bytes()), bytes);
                        if incompat & CSUM_V3 != 0 {
                            put_be32(volume, tag + 12, sum);
                        } else if incompat & CSUM_V2 != 0 {
                            volume[tag + 4..tag + 6].copy_from_slice(&sum.to_be_bytes()[2..]);
                        }
                        sums.push(home);
                        at = self.next(volume, at);
                    }
                    if sums_blocks {
                        let sum = crc32c_without(seed, &volume[range.clone()], self.block_size - 4, 4);
                        put_be32(volume, tail, sum);
                    }
                    transaction = crc32(transaction, &volume[range]);
                    for home in sums {
                        transaction = crc32(transaction, &volume[home..home + self.block_size]);
                    }
                }
                REVOKE if sums_blocks => {
                    let sum = crc32c_without(seed, &volume[range], self.block_size - 4, 4);
                    put_be32(volume, tail, sum);
                }
                REVOKE => {}
                COMMIT => {
                    if sums_blocks {
                        let sum = crc32c_without(seed, &volume[range], 0x10, 4);
                        put_be32(volume, block + 0x10, sum);
                    } else if sums_transactions {
                        put_be32(volume, block + 0x10, transaction);
                    }
                    transaction = u32::MAX;
                    sequence = sequence.wrapping_add(1);
                }
                _ => return,
            }
        }
    }

    /// First byte of each tag of the descriptor block at `block`.
    fn tags(&self, volume: &[u8], block: usize, incompat: u32) -> Vec<usize> {
        let wide = incompat & WIDE != 0;
        let length = match (incompat & CSUM_V3 != 0, incompat & CSUM_V2 != 0) {
            (true, _) => 16,
            (false, second) => 8 + if wide { 4 } else { 0 } + if second { 2 } else { 0 },
        };
        let tail = if incompat & (CSUM_V2 | CSUM_V3) != 0 { 4 } else { 0 };
        let end = block + self.block_size - tail;
        let mut tags = Vec::new();
        let mut tag = block + 12;
        while tag + length <= end {
            tags.push(tag);
            let flags = volume[tag + 7];
            if flags & 8 != 0 {
                break;
            }
            // Without SAME_UUID, there is a UUID.
            tag += length + if flags & 2 == 0 { 16 } else { 0 };
        }
        tags
    }
}
