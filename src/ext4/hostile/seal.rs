// SPDX-License-Identifier: MIT OR Apache-2.0

//! Makes the checksum of a structure right after it was changed, so that only the lie is left to be found.

use std::vec::Vec;

use crate::ext4::checksum::{crc32, crc32c};
use crate::ext4::field::{le16, le32, put_be32, put_le16, put_le32, put_split32};
use crate::ext4::inode;

/// Which checksum a structure has.
#[derive(Debug, Clone)]
pub(super) enum Seal {
    /// None.
    None,
    Superblock,
    /// Of the descriptor with this number.
    Group(u32),
    /// Of this group's bitmap of blocks, in the descriptor.
    BlockBitmap(u32),
    /// The same of inodes.
    InodeBitmap(u32),
    /// Of this inode.
    Inode(u32),
    /// Of a node of this inode's extent tree.
    ExtentNode(u32),
    /// Of a block of this directory with records.
    Records(u32),
    /// Of the root of this directory's index.
    IndexRoot(u32),
    /// Of a node of it.
    IndexNode(u32),
    /// Of a block of extended attributes.
    Attributes,
    /// Of the journal's superblock.
    JournalSuperblock,
    /// Version 3 of a descriptor or revoke block of a journal.
    JournalTail,
    /// Version 3 of a commit block.
    JournalCommit,
    /// Version 1 of a transaction: where the blocks are that it covers, and its commit block.
    Transaction(Vec<usize>, usize),
}

/// What the seals of a volume need to know.
#[derive(Debug, Clone)]
pub(super) struct Volume {
    /// Bytes of a block.
    pub block_size: usize,
    /// The seed of its checksums.
    pub seed: u32,
    /// The seed of its journal's.
    pub journal_seed: u32,
    /// Where the descriptor of each group is.
    pub descriptors: Vec<usize>,
    pub descriptor_size: usize,
    pub inodes_per_group: u32,
    pub blocks_per_group: u32,
}

impl Volume {
    fn descriptor(&self, group: u32) -> usize {
        self.descriptors[group as usize]
    }

    /// Where inode `number` lies, as its group's descriptor says.
    pub(super) fn inode(&self, bytes: &[u8], number: u32) -> usize {
        let (group, index) = ((number - 1) / self.inodes_per_group, (number - 1) % self.inodes_per_group);
        le32(bytes, self.descriptor(group) + 8) as usize * self.block_size + index as usize * 256
    }

    fn inode_seed(&self, bytes: &[u8], number: u32) -> u32 {
        let generation = le32(bytes, self.inode(bytes, number) + 0x64);
        inode::checksum_seed(self.seed, number, generation)
    }

    fn seal_group(&self, bytes: &mut [u8], group: u32) {
        let raw = &mut bytes[self.descriptor(group)..][..self.descriptor_size];
        put_le16(raw, 0x1e, 0);
        let sum = crc32c(crc32c(self.seed, &group.to_le_bytes()), raw);
        put_le16(raw, 0x1e, u16::try_from(sum & 0xffff).unwrap());
    }

    fn seal_bitmap(&self, bytes: &mut [u8], group: u32, field: usize, bits: u32, sum: [usize; 2]) {
        let place = self.descriptor(group);
        let bitmap = le32(bytes, place + field) as usize * self.block_size;
        let value = crc32c(self.seed, &bytes[bitmap..][..bits as usize / 8]);
        if self.descriptor_size < 64 {
            put_le16(&mut bytes[place..], sum[0], u16::try_from(value & 0xffff).unwrap());
        } else {
            put_split32(&mut bytes[place..], sum[0], sum[1], value);
        }
        self.seal_group(bytes, group);
    }

    /// Makes `seal` right for the structure in the block that begins at `place`.
    pub(super) fn apply(&self, seal: &Seal, bytes: &mut [u8], place: usize) {
        let block_size = self.block_size;
        let start = place / block_size * block_size;
        match *seal {
            Seal::None => {}
            Seal::Superblock => {
                let sum = crc32c(u32::MAX, &bytes[1024..1024 + 0x3fc]);
                put_le32(&mut bytes[1024..], 0x3fc, sum);
            }
            Seal::Group(group) => self.seal_group(bytes, group),
            Seal::BlockBitmap(group) => {
                self.seal_bitmap(bytes, group, 0, self.blocks_per_group, [0x18, 0x38]);
            }
            Seal::InodeBitmap(group) => {
                self.seal_bitmap(bytes, group, 4, self.inodes_per_group, [0x1a, 0x3a]);
            }
            Seal::Inode(number) => {
                let seed = self.inode_seed(bytes, number);
                let place = self.inode(bytes, number);
                let raw = &mut bytes[place..place + 256];
                let end = 128 + usize::from(le16(raw, 128)).min(128);
                put_split32(raw, 0x7c, 0x82, inode::checksum(seed, raw, end));
            }
            Seal::ExtentNode(number) => {
                let seed = self.inode_seed(bytes, number);
                let raw = &mut bytes[start..start + block_size];
                let tail = (12 + usize::from(le16(raw, 4)) * 12).min(block_size - 4);
                let sum = crc32c(seed, &raw[..tail]);
                put_le32(raw, tail, sum);
            }
            Seal::Records(number) => {
                let sum = crc32c(self.inode_seed(bytes, number), &bytes[start..start + block_size - 12]);
                put_le32(&mut bytes[start..], block_size - 4, sum);
            }
            Seal::IndexRoot(number) => self.seal_index(bytes, number, start, 0x20),
            Seal::IndexNode(number) => self.seal_index(bytes, number, start, 8),
            Seal::Attributes => {
                let number = (start / block_size) as u64;
                put_le32(&mut bytes[start..], 0x10, 0);
                let sum = crc32c(crc32c(self.seed, &number.to_le_bytes()), &bytes[start..start + block_size]);
                put_le32(&mut bytes[start..], 0x10, sum);
            }
            Seal::JournalSuperblock => {
                put_be32(&mut bytes[start..], 0xfc, 0);
                let sum = crc32c(u32::MAX, &bytes[start..start + 1024]);
                put_be32(&mut bytes[start..], 0xfc, sum);
            }
            Seal::JournalTail => self.seal_journal(bytes, start, block_size - 4),
            Seal::JournalCommit => self.seal_journal(bytes, start, 0x10),
            Seal::Transaction(ref covered, commit) => {
                let sum = covered.iter().fold(u32::MAX, |sum, at| crc32(sum, &bytes[*at..*at + block_size]));
                put_be32(&mut bytes[commit..], 0x10, sum);
            }
        }
    }

    fn seal_index(&self, bytes: &mut [u8], number: u32, start: usize, entries: usize) {
        let seed = self.inode_seed(bytes, number);
        let block_size = self.block_size;
        let raw = &mut bytes[start..start + block_size];
        let end = entries + usize::from(le16(raw, entries + 2)) * 8;
        let sum = crc32c(
            crc32c(seed, &raw[..end.min(block_size - 8)]),
            &[raw[block_size - 8], raw[block_size - 7], raw[block_size - 6], raw[block_size - 5], 0, 0, 0, 0],
        );
        put_le32(raw, block_size - 4, sum);
    }

    fn seal_journal(&self, bytes: &mut [u8], start: usize, hole: usize) {
        put_be32(&mut bytes[start..], hole, 0);
        let sum = crc32c(self.journal_seed, &bytes[start..start + self.block_size]);
        put_be32(&mut bytes[start..], hole, sum);
    }
}

/// That the seals of a sound volume are what it has: else a lie told with them would be found by its checksum.
pub(super) fn check(volume: &Volume, seal: &Seal, bytes: &[u8], place: usize, name: &str) {
    let mut sealed = bytes.to_vec();
    volume.apply(seal, &mut sealed, place);
    let changed = sealed.iter().zip(bytes).position(|(one, other)| one != other);
    assert_eq!(
        changed.map(|at| (at / volume.block_size, at % volume.block_size)),
        None,
        "{name}: the seal is another"
    );
}
