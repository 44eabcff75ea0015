// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a field may say instead of the truth.

use std::vec::Vec;

/// What a field stands for: which lies are worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Any number.
    Number,
    /// How many there are of something, or which of them.
    Count,
    /// Bytes of a structure, or how far it is.
    Length,
    /// A block of the volume.
    Block,
    /// An inode.
    Inode,
    /// Flags.
    Bits,
    /// Text, or the bits of a bitmap.
    Bytes,
}

/// Blocks and inodes of a volume that a field may claim.
#[derive(Debug, Clone)]
pub(super) struct Targets {
    /// Bytes of a block.
    pub block_size: u64,
    /// The block that the structure itself lies in: a loop.
    pub own_block: u64,
    /// Blocks of other structures, the first ones behind the volume, and the last one in it.
    pub blocks: Vec<u64>,
    /// The inode that the structure belongs to: a loop.
    pub own_inode: u64,
    /// Inodes of other kinds, free ones, reserved ones, and the first that there is not.
    pub inodes: Vec<u64>,
}

/// What a field of `width` bytes may say that says `truth`.
pub(super) fn lies(meaning: Meaning, width: usize, truth: u64, targets: &Targets) -> Vec<u64> {
    let bits = u32::try_from(width * 8).unwrap();
    let max = u64::MAX >> (64 - bits);
    let top = 1u64 << (bits - 1);
    let mut lies = std::vec![
        0,
        1,
        max,
        max - 1,
        truth.wrapping_add(1),
        truth.wrapping_sub(1),
        truth ^ top,
        top,
        top - 1
    ];
    match meaning {
        Meaning::Number => {}
        Meaning::Count => {
            lies.extend([2, 3, truth * 2, truth / 2, 0x7fff, 0x8000, 0x8001, 512, 513, 2048, 5 * 1024])
        }
        Meaning::Length => {
            let size = targets.block_size;
            lies.extend([
                2,
                4,
                7,
                8,
                11,
                12,
                13,
                16,
                size,
                size - 1,
                size + 1,
                size - 4,
                size - 8,
                size - 12,
            ]);
            lies.extend([truth.wrapping_add(4), truth.wrapping_sub(4), 252, 256, 128, 1 << 20, 1 << 31]);
        }
        Meaning::Block => {
            lies.push(targets.own_block);
            lies.extend(&targets.blocks);
        }
        Meaning::Inode => {
            lies.push(targets.own_inode);
            lies.extend(&targets.inodes);
        }
        Meaning::Bits => lies.extend((0..bits).map(|bit| truth ^ 1 << bit)),
        Meaning::Bytes => {
            lies.extend([truth ^ 0xff, u64::from(b'/'), 0x2e, 0x00ff_00ff_00ff_00ff, 0xaaaa_aaaa_aaaa_aaaa])
        }
    }
    let mut told = Vec::new();
    for lie in lies.into_iter().map(|lie| lie & max) {
        if lie != truth && !told.contains(&lie) {
            told.push(lie);
        }
    }
    told
}
