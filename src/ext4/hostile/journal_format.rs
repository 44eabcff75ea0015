// SPDX-License-Identifier: MIT OR Apache-2.0

//! The structures of the journal and their fields, named as in the kernel's documentation of jbd2. All are big-endian.

use super::format::Field;
use super::lies::Meaning::{self, Bits, Block, Count, Length, Number};

const fn field(offset: usize, width: usize, name: &'static str, meaning: Meaning) -> Field {
    Field { name, offset, width, meaning }
}

/// `struct journal_superblock_s`: the journal's first block.
pub(super) const JOURNAL_SUPERBLOCK: &[Field] = &[
    field(0x0, 4, "h_magic", Number),
    field(0x4, 4, "h_blocktype", Number),
    field(0x8, 4, "h_sequence", Number),
    field(0xc, 4, "s_blocksize", Length),
    field(0x10, 4, "s_maxlen", Count),
    field(0x14, 4, "s_first", Count),
    field(0x18, 4, "s_sequence", Number),
    field(0x1c, 4, "s_start", Count),
    field(0x20, 4, "s_errno", Number),
    field(0x24, 4, "s_feature_compat", Bits),
    field(0x28, 4, "s_feature_incompat", Bits),
    field(0x2c, 4, "s_feature_ro_compat", Bits),
    field(0x30, 8, "s_uuid", Number),
    field(0x40, 4, "s_nr_users", Count),
    field(0x44, 4, "s_dynsuper", Block),
    field(0x48, 4, "s_max_transaction", Count),
    field(0x4c, 4, "s_max_trans_data", Count),
    field(0x50, 1, "s_checksum_type", Number),
    field(0x54, 4, "s_num_fc_blks", Count),
    field(0x58, 4, "s_head", Count),
    field(0xfc, 4, "s_checksum", Number),
];

/// A descriptor block: header, and the first `journal_block_tag3_s`, of 16 bytes; behind it lies a UUID, then the second.
pub(super) const DESCRIPTOR_V3: &[Field] = &[
    field(0x0, 4, "h_magic", Number),
    field(0x4, 4, "h_blocktype", Number),
    field(0x8, 4, "h_sequence", Number),
    field(0xc, 4, "t_blocknr", Block),
    field(0x10, 4, "t_flags", Bits),
    field(0x14, 4, "t_blocknr_high", Number),
    field(0x18, 4, "t_checksum", Number),
    field(0x1c, 8, "uuid", Number),
    field(0x2c, 4, "t_blocknr of the second", Block),
    field(0x30, 4, "t_flags of the second", Bits),
    field(0x34, 4, "t_blocknr_high of the second", Number),
    field(0x3fc, 4, "r_checksum", Number),
];

/// The same with `journal_block_tag_s`, of 12 bytes with 64-bit block numbers.
pub(super) const DESCRIPTOR_V1: &[Field] = &[
    field(0x0, 4, "h_magic", Number),
    field(0x4, 4, "h_blocktype", Number),
    field(0x8, 4, "h_sequence", Number),
    field(0xc, 4, "t_blocknr", Block),
    field(0x10, 2, "t_checksum", Number),
    field(0x12, 2, "t_flags", Bits),
    field(0x14, 4, "t_blocknr_high", Number),
    field(0x18, 8, "uuid", Number),
    field(0x28, 4, "t_blocknr of the second", Block),
    field(0x2e, 2, "t_flags of the second", Bits),
];

/// `struct jbd2_journal_revoke_header_s`, and the first record.
pub(super) const REVOKE: &[Field] = &[
    field(0x0, 4, "h_magic", Number),
    field(0x4, 4, "h_blocktype", Number),
    field(0x8, 4, "h_sequence", Number),
    field(0xc, 4, "r_count", Length),
    field(0x10, 8, "the first block", Block),
    field(0x3fc, 4, "r_checksum", Number),
];

/// `struct commit_header`.
pub(super) const COMMIT: &[Field] = &[
    field(0x0, 4, "h_magic", Number),
    field(0x4, 4, "h_blocktype", Number),
    field(0x8, 4, "h_sequence", Number),
    field(0xc, 1, "h_chksum_type", Number),
    field(0xd, 1, "h_chksum_size", Number),
    field(0x10, 4, "h_chksum[0]", Number),
    field(0x30, 8, "h_commit_sec", Number),
    field(0x38, 4, "h_commit_nsec", Number),
];
