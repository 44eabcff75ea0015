// SPDX-License-Identifier: MIT OR Apache-2.0

//! The blocks of a jbd2 journal: its superblock, and the descriptor, revoke and commit blocks of a transaction.
//!
//! Field names are the format's (`journal_superblock_t`, `journal_block_tag_t`, `struct commit_header`); all numbers are
//! big-endian. Everything that is found in a journal is checked against the length of its block before use.

use core::num::NonZero;

use bitflags::bitflags;

use super::super::checksum::crc32c;
use super::super::error::MountError;
use super::super::field::{be16, be32, be64, bytes, le8, put, put_be32};
use super::super::power_of_two::PowerOfTwo;

/// `h_magic` of every journal block with a header. A block of the volume that begins with it is *escaped* in the journal: these
/// four bytes are zero there, and its tag says so.
pub(super) const MAGIC: u32 = 0xc03b_3998;
/// Length of `journal_header_t`: `h_magic`, `h_blocktype`, `h_sequence`.
pub(super) const HEADER: usize = 12;
/// `h_blocktype`.
pub(super) const DESCRIPTOR: u32 = 1;
pub(super) const COMMIT: u32 = 2;
pub(super) const SUPERBLOCK_V1: u32 = 3;
pub(super) const SUPERBLOCK_V2: u32 = 4;
pub(super) const REVOKE: u32 = 5;

/// Where the fields of the journal's superblock lie that are stored one by one. `s_start` follows `s_sequence`, so that one
/// store of eight bytes changes both.
pub(super) const S_BLOCKTYPE: u64 = 0x4;
pub(super) const S_SEQUENCE: u64 = 0x18;
pub(super) const S_FEATURE_COMPAT: u64 = 0x24;
pub(super) const S_FEATURE_INCOMPAT: u64 = 0x28;

/// `s_feature_compat`: the commit block has a checksum of all descriptor and data blocks (version 1).
pub(super) const COMPAT_CHECKSUM: u32 = 0x1;
/// `h_chksum_type` and `h_chksum_size` of a version 1 checksum: CRC-32, four bytes.
const CHECKSUM_CRC32: [u8; 2] = [1, 4];
/// `s_checksum_type` of versions 2 and 3: CRC-32C.
const CHECKSUM_CRC32C: u8 = 4;
/// Where `s_checksum` lies; it covers the first [`SUPERBLOCK`] bytes.
const S_CHECKSUM: usize = 0xfc;
const SUPERBLOCK: usize = 1024;

bitflags! {
    /// `s_feature_incompat` of a journal.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Incompat: u32 {
        const REVOKE = 0x1;
        const BLOCKS_64BIT = 0x2;
        const ASYNC_COMMIT = 0x4;
        const CSUM_V2 = 0x8;
        const CSUM_V3 = 0x10;
        const FAST_COMMIT = 0x20;
        const _ = !0;
    }
}

impl Incompat {
    /// What is known here. Not all of it can be recovered.
    pub(super) const KNOWN: Self = Self::REVOKE
        .union(Self::BLOCKS_64BIT)
        .union(Self::ASYNC_COMMIT)
        .union(Self::CSUM_V2)
        .union(Self::CSUM_V3)
        .union(Self::FAST_COMMIT);
}

/// The superblock of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JournalSuperblock {
    /// Blocks in all, the superblock at position 0 included.
    pub s_maxlen: u32,
    /// The first position of the log.
    pub s_first: u32,
    /// Sequence number of the first transaction.
    pub s_sequence: u32,
    /// Where it lies; 0 for an empty log.
    pub s_start: u32,
    pub version: u32,
    pub compat: u32,
    pub incompat: Incompat,
    /// Seed of the checksums of versions 2 and 3.
    pub seed: u32,
}

impl JournalSuperblock {
    /// Parses `block`, the first of a journal of `length` blocks on a volume with blocks of `block_size` bytes.
    pub(super) fn parse(block: &[u8], block_size: PowerOfTwo, length: u64) -> Result<Self, MountError> {
        let version = be32(block, 4);
        if be32(block, 0) != MAGIC || !(version == SUPERBLOCK_V1 || version == SUPERBLOCK_V2) {
            return Err(MountError::Journal("its first block is no journal superblock"));
        }
        if be32(block, 0xc) != block_size.get() {
            return Err(MountError::Journal("s_blocksize is not that of the volume"));
        }
        // Version 1 has no features; what lies there means nothing.
        let feature = |offset| if version == SUPERBLOCK_V2 { be32(block, offset) } else { 0 };
        let superblock = Self {
            s_maxlen: be32(block, 0x10),
            s_first: be32(block, 0x14),
            s_sequence: be32(block, 0x18),
            s_start: be32(block, 0x1c),
            version,
            compat: feature(0x24),
            incompat: Incompat::from_bits_retain(feature(0x28)),
            seed: crc32c(u32::MAX, &bytes::<16>(block, 0x30)),
        };
        if superblock.has_block_checksums() {
            let summed = block.get(..SUPERBLOCK).unwrap_or_default();
            if le8(block, 0x50) != CHECKSUM_CRC32C {
                return Err(MountError::Journal("s_checksum_type is not crc32c"));
            }
            if sum_without(u32::MAX, summed, S_CHECKSUM) != be32(block, S_CHECKSUM) {
                return Err(MountError::Journal("the checksum of its superblock does not match"));
            }
        }
        if u64::from(superblock.s_maxlen) > length {
            return Err(MountError::Journal("s_maxlen is beyond the end of its inode"));
        }
        if superblock.s_first == 0 || superblock.s_first >= superblock.s_maxlen {
            return Err(MountError::Journal("s_first is outside of it"));
        }
        let start = superblock.s_start;
        if start != 0 && !(superblock.s_first..superblock.s_maxlen).contains(&start) {
            return Err(MountError::Journal("s_start is outside of its log"));
        }
        Ok(superblock)
    }

    /// Whether each block has a CRC-32C (versions 2 and 3).
    pub(super) fn has_block_checksums(&self) -> bool {
        self.incompat.intersects(Incompat::CSUM_V2.union(Incompat::CSUM_V3))
    }

    /// Whether commit blocks have a CRC-32 of the whole transaction (version 1).
    pub(super) fn has_transaction_checksums(&self) -> bool {
        self.compat & COMPAT_CHECKSUM != 0
    }

    /// Whether this is the form that is written here: see [`own_features`].
    pub(super) fn is_own_form(&self, wide: bool) -> bool {
        self.version == SUPERBLOCK_V2 && self.compat == COMPAT_CHECKSUM && self.incompat == own_features(wide)
    }

    /// Length of a tag of a descriptor block.
    pub(super) fn tag_bytes(&self) -> usize {
        if self.incompat.contains(Incompat::CSUM_V3) {
            return 16;
        }
        let checksum = self.incompat.contains(Incompat::CSUM_V2);
        match (self.incompat.contains(Incompat::BLOCKS_64BIT), checksum) {
            (false, false) => 8,
            (false, true) => 10,
            (true, false) => 12,
            (true, true) => 14,
        }
    }

    /// Whether the tail checksum of the descriptor or revoke block `block` matches, if it has one.
    pub(super) fn block_is_sound(&self, block: &[u8]) -> bool {
        let tail = block.len().saturating_sub(4);
        !self.has_block_checksums() || sum_without(self.seed, block, tail) == be32(block, tail)
    }

    /// Whether the checksum of the commit block `block` itself matches, if it has one.
    pub(super) fn commit_is_sound(&self, block: &[u8]) -> bool {
        !self.has_block_checksums() || sum_without(self.seed, block, 0x10) == be32(block, 0x10)
    }

    /// Whether the checksum of `tag` is that of its block, as it lies in the journal.
    pub(super) fn data_is_sound(&self, tag: &Tag, sequence: u32, block: &[u8]) -> bool {
        if !self.has_block_checksums() {
            return true;
        }
        let sum = crc32c(crc32c(self.seed, &sequence.to_be_bytes()), block);
        if self.incompat.contains(Incompat::CSUM_V3) {
            sum == tag.checksum
        } else {
            // Version 2 keeps the low half, in the same field.
            sum & 0xffff == tag.checksum
        }
    }

    /// The tags of the descriptor block `block`.
    pub(super) fn tags<'b>(&self, block: &'b [u8]) -> Tags<'b> {
        let tail = if self.has_block_checksums() { 4 } else { 0 };
        let end = block.len().saturating_sub(tail);
        Tags {
            block: block.get(..end).unwrap_or_default(),
            next: HEADER,
            length: self.tag_bytes(),
            wide: self.incompat.contains(Incompat::BLOCKS_64BIT),
            third: self.incompat.contains(Incompat::CSUM_V3),
        }
    }

    /// Length of a record of a revoke block.
    pub(super) fn record_bytes(&self) -> usize {
        if self.incompat.contains(Incompat::BLOCKS_64BIT) { 8 } else { 4 }
    }

    /// The block numbers that the revoke block `block` lists.
    pub(super) fn revoked<'b>(&self, block: &'b [u8]) -> impl Iterator<Item = u64> + use<'b> {
        let record = self.record_bytes();
        let tail = if self.has_block_checksums() { 4 } else { 0 };
        let end = usize::try_from(be32(block, HEADER)).unwrap_or(usize::MAX);
        let end = end.min(block.len().saturating_sub(tail));
        let records = block.get(RECORDS..end).unwrap_or_default();
        records
            .chunks_exact(record)
            .map(move |number| if record == 8 { be64(number, 0) } else { u64::from(be32(number, 0)) })
    }
}

/// The incompatible features of the journals that are written here; `wide` is that the volume has 64-bit block numbers.
pub(super) fn own_features(wide: bool) -> Incompat {
    if wide { Incompat::REVOKE.union(Incompat::BLOCKS_64BIT) } else { Incompat::REVOKE }
}

/// The CRC-32C of `bytes` with the four at `hole` taken as zeros.
fn sum_without(seed: u32, bytes: &[u8], hole: usize) -> u32 {
    let before = crc32c(seed, bytes.get(..hole).unwrap_or_default());
    crc32c(crc32c(before, &[0; 4]), bytes.get(hole.saturating_add(4)..).unwrap_or_default())
}

/// One tag: which block of the volume a data block of the journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub number: u64,
    /// The block begins with [`MAGIC`] in the volume.
    pub escaped: bool,
    checksum: u32,
}

/// `t_flags`.
const ESCAPE: u16 = 1;
const SAME_UUID: u16 = 2;
const LAST_TAG: u16 = 8;
/// Where the records of a revoke block begin, behind its header and `r_count`.
const RECORDS: usize = HEADER + 4;
/// Behind the first tag lies a UUID.
const UUID: usize = 16;

/// The tags of a descriptor block, in order.
pub(super) struct Tags<'b> {
    block: &'b [u8],
    next: usize,
    length: usize,
    wide: bool,
    third: bool,
}

impl Iterator for Tags<'_> {
    type Item = Tag;

    fn next(&mut self) -> Option<Tag> {
        let tag = self.block.get(self.next..self.next.checked_add(self.length)?)?;
        // t_flags has 16 bits, or 32 with the same low half in the same place.
        let flags = be16(tag, 6);
        let high = if self.wide { u64::from(be32(tag, 8)) << 32 } else { 0 };
        let checksum = if self.third { be32(tag, 12) } else { u32::from(be16(tag, 4)) };
        self.next = if flags & LAST_TAG != 0 {
            usize::MAX
        } else {
            let uuid = if flags & SAME_UUID == 0 { UUID } else { 0 };
            self.next.saturating_add(self.length).saturating_add(uuid)
        };
        let number = u64::from(be32(tag, 0)) | high;
        Some(Tag { number, escaped: flags & ESCAPE != 0, checksum })
    }
}

/// How many tags a descriptor block of our form has room for.
pub(super) fn tags_per_descriptor(block_size: PowerOfTwo, wide: bool) -> NonZero<usize> {
    let room = block_size.length().saturating_sub(HEADER + UUID);
    NonZero::new(if wide { room / 12 } else { room / 8 }).unwrap_or(NonZero::<usize>::MIN)
}

/// Revoke records that a revoke block of our form has: no more than fit its first 512 bytes, which are on the medium whole or not
/// at all (no checksum of version 1 covers them).
pub(super) fn records_per_block(wide: bool) -> NonZero<usize> {
    let room = 512 - RECORDS;
    NonZero::new(if wide { room / 8 } else { room / 4 }).unwrap_or(NonZero::<usize>::MIN)
}

/// Makes `block` a block of the journal with a header, otherwise zeros.
pub(super) fn write_header(block: &mut [u8], blocktype: u32, sequence: u32) {
    block.fill(0);
    put_be32(block, 0, MAGIC);
    put_be32(block, 4, blocktype);
    put_be32(block, 8, sequence);
}

/// Writes tag `index` of a descriptor block of our form.
pub(super) fn write_tag(block: &mut [u8], wide: bool, index: usize, number: u64, escaped: bool, last: bool) {
    let length = if wide { 12 } else { 8 };
    let uuid = if index == 0 { 0 } else { UUID };
    let at = index.saturating_mul(length).saturating_add(HEADER).saturating_add(uuid);
    let mut flags = if index == 0 { 0 } else { SAME_UUID };
    flags |= if escaped { ESCAPE } else { 0 };
    flags |= if last { LAST_TAG } else { 0 };
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    put(block, at, [e, f, g, h]);
    put(block, at.saturating_add(6), flags.to_be_bytes());
    if wide {
        put(block, at.saturating_add(8), [a, b, c, d]);
    }
}

/// Writes record `index` of a revoke block of our form, which becomes the last.
pub(super) fn write_record(block: &mut [u8], wide: bool, index: usize, number: u64) {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    let at = index.saturating_mul(if wide { 8 } else { 4 }).saturating_add(RECORDS);
    if wide {
        put(block, at, [a, b, c, d, e, f, g, h]);
    } else {
        put(block, at, [e, f, g, h]);
    }
    let end = be32(block, HEADER).max(16).saturating_add(if wide { 8 } else { 4 });
    put_be32(block, HEADER, end);
}

/// A commit block, as far as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Commit {
    /// The CRC-32 of all descriptor and data blocks; `None` if it has none.
    pub checksum: Option<u32>,
    /// `h_commit_sec`.
    pub time: u64,
}

impl Commit {
    /// Parses the commit block `block` of a journal with transaction checksums.
    pub(super) fn parse(block: &[u8]) -> Self {
        let kind = bytes::<2>(block, HEADER);
        let checksum = (kind != [0; 2] || be32(block, 0x10) != 0).then(|| be32(block, 0x10));
        Self { checksum, time: be64(block, 0x30) }
    }

    /// Writes everything but `h_magic`, which stays as it is.
    pub(super) fn write(checksum: u32, time: u64, sequence: u32, block: &mut [u8]) {
        if let Some(rest) = block.get_mut(4..) {
            rest.fill(0);
        }
        put_be32(block, 4, COMMIT);
        put_be32(block, 8, sequence);
        put(block, HEADER, CHECKSUM_CRC32);
        put_be32(block, 0x10, checksum);
        put(block, 0x30, time.to_be_bytes());
    }
}
