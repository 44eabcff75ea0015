// SPDX-License-Identifier: MIT OR Apache-2.0

//! The structures of ext4 and their fields, named as in the kernel's documentation (Documentation/filesystems/ext4).

use super::lies::Meaning::{self, Bits, Block, Bytes, Count, Inode, Length, Number};

/// A field of a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub name: &'static str,
    /// Where it lies in the structure.
    pub offset: usize,
    /// Bytes: 1, 2, 4 or 8.
    pub width: usize,
    pub meaning: Meaning,
}

const fn field(offset: usize, width: usize, name: &'static str, meaning: Meaning) -> Field {
    Field { name, offset, width, meaning }
}

/// `struct ext4_super_block`: 1024 bytes at byte 1024.
pub(super) const SUPERBLOCK: &[Field] = &[
    field(0x0, 4, "s_inodes_count", Count),
    field(0x4, 4, "s_blocks_count_lo", Count),
    field(0x8, 4, "s_r_blocks_count_lo", Count),
    field(0xc, 4, "s_free_blocks_count_lo", Count),
    field(0x10, 4, "s_free_inodes_count", Count),
    field(0x14, 4, "s_first_data_block", Number),
    field(0x18, 4, "s_log_block_size", Number),
    field(0x1c, 4, "s_log_cluster_size", Number),
    field(0x20, 4, "s_blocks_per_group", Count),
    field(0x24, 4, "s_clusters_per_group", Count),
    field(0x28, 4, "s_inodes_per_group", Count),
    field(0x2c, 4, "s_mtime", Number),
    field(0x30, 4, "s_wtime", Number),
    field(0x34, 2, "s_mnt_count", Number),
    field(0x36, 2, "s_max_mnt_count", Number),
    field(0x38, 2, "s_magic", Number),
    field(0x3a, 2, "s_state", Bits),
    field(0x3c, 2, "s_errors", Number),
    field(0x3e, 2, "s_minor_rev_level", Number),
    field(0x40, 4, "s_lastcheck", Number),
    field(0x44, 4, "s_checkinterval", Number),
    field(0x48, 4, "s_creator_os", Number),
    field(0x4c, 4, "s_rev_level", Number),
    field(0x50, 2, "s_def_resuid", Number),
    field(0x52, 2, "s_def_resgid", Number),
    field(0x54, 4, "s_first_ino", Inode),
    field(0x58, 2, "s_inode_size", Length),
    field(0x5a, 2, "s_block_group_nr", Number),
    field(0x5c, 4, "s_feature_compat", Bits),
    field(0x60, 4, "s_feature_incompat", Bits),
    field(0x64, 4, "s_feature_ro_compat", Bits),
    field(0x68, 8, "s_uuid", Number),
    field(0xc8, 4, "s_algorithm_usage_bitmap", Bits),
    field(0xcc, 1, "s_prealloc_blocks", Number),
    field(0xcd, 1, "s_prealloc_dir_blocks", Number),
    field(0xce, 2, "s_reserved_gdt_blocks", Count),
    field(0xd0, 8, "s_journal_uuid", Number),
    field(0xe0, 4, "s_journal_inum", Inode),
    field(0xe4, 4, "s_journal_dev", Number),
    field(0xe8, 4, "s_last_orphan", Inode),
    field(0xec, 4, "s_hash_seed[0]", Number),
    field(0xfc, 1, "s_def_hash_version", Number),
    field(0xfd, 1, "s_jnl_backup_type", Number),
    field(0xfe, 2, "s_desc_size", Length),
    field(0x100, 4, "s_default_mount_opts", Bits),
    field(0x104, 4, "s_first_meta_bg", Count),
    field(0x108, 4, "s_mkfs_time", Number),
    field(0x10c, 4, "s_jnl_blocks[0]", Number),
    field(0x150, 4, "s_blocks_count_hi", Count),
    field(0x154, 4, "s_r_blocks_count_hi", Count),
    field(0x158, 4, "s_free_blocks_count_hi", Count),
    field(0x15c, 2, "s_min_extra_isize", Length),
    field(0x15e, 2, "s_want_extra_isize", Length),
    field(0x160, 4, "s_flags", Bits),
    field(0x164, 2, "s_raid_stride", Number),
    field(0x166, 2, "s_mmp_interval", Number),
    field(0x168, 8, "s_mmp_block", Block),
    field(0x170, 4, "s_raid_stripe_width", Number),
    field(0x174, 1, "s_log_groups_per_flex", Number),
    field(0x175, 1, "s_checksum_type", Number),
    field(0x178, 8, "s_kbytes_written", Number),
    field(0x180, 4, "s_snapshot_inum", Inode),
    field(0x184, 4, "s_snapshot_id", Number),
    field(0x188, 8, "s_snapshot_r_blocks_count", Count),
    field(0x190, 4, "s_snapshot_list", Inode),
    field(0x194, 4, "s_error_count", Number),
    field(0x198, 4, "s_first_error_time", Number),
    field(0x19c, 4, "s_first_error_ino", Inode),
    field(0x1a0, 8, "s_first_error_block", Block),
    field(0x1a8, 8, "s_first_error_func", Number),
    field(0x1c8, 4, "s_first_error_line", Number),
    field(0x1cc, 4, "s_last_error_time", Number),
    field(0x1d0, 4, "s_last_error_ino", Inode),
    field(0x1d4, 4, "s_last_error_line", Number),
    field(0x1d8, 8, "s_last_error_block", Block),
    field(0x1e0, 8, "s_last_error_func", Number),
    field(0x200, 8, "s_mount_opts", Bytes),
    field(0x240, 4, "s_usr_quota_inum", Inode),
    field(0x244, 4, "s_grp_quota_inum", Inode),
    field(0x248, 4, "s_overhead_clusters", Count),
    field(0x24c, 4, "s_backup_bgs[0]", Number),
    field(0x254, 4, "s_encrypt_algos", Number),
    field(0x268, 4, "s_lpf_ino", Inode),
    field(0x26c, 4, "s_prj_quota_inum", Inode),
    field(0x270, 4, "s_checksum_seed", Number),
    field(0x274, 1, "s_wtime_hi", Number),
    field(0x27c, 2, "s_encoding", Number),
    field(0x280, 4, "s_orphan_file_inum", Inode),
    field(0x3fc, 4, "s_checksum", Number),
];

/// `struct ext4_group_desc`: 64 bytes with `64bit`, else the first 32.
pub(super) const GROUP: &[Field] = &[
    field(0x0, 4, "bg_block_bitmap_lo", Block),
    field(0x4, 4, "bg_inode_bitmap_lo", Block),
    field(0x8, 4, "bg_inode_table_lo", Block),
    field(0xc, 2, "bg_free_blocks_count_lo", Count),
    field(0xe, 2, "bg_free_inodes_count_lo", Count),
    field(0x10, 2, "bg_used_dirs_count_lo", Count),
    field(0x12, 2, "bg_flags", Bits),
    field(0x14, 4, "bg_exclude_bitmap_lo", Block),
    field(0x18, 2, "bg_block_bitmap_csum_lo", Number),
    field(0x1a, 2, "bg_inode_bitmap_csum_lo", Number),
    field(0x1c, 2, "bg_itable_unused_lo", Count),
    field(0x1e, 2, "bg_checksum", Number),
];

/// The high halves in a descriptor of 64 bytes.
pub(super) const GROUP_HIGH: &[Field] = &[
    field(0x20, 4, "bg_block_bitmap_hi", Number),
    field(0x24, 4, "bg_inode_bitmap_hi", Number),
    field(0x28, 4, "bg_inode_table_hi", Number),
    field(0x2c, 2, "bg_free_blocks_count_hi", Count),
    field(0x2e, 2, "bg_free_inodes_count_hi", Count),
    field(0x30, 2, "bg_used_dirs_count_hi", Count),
    field(0x32, 2, "bg_itable_unused_hi", Count),
    field(0x34, 4, "bg_exclude_bitmap_hi", Number),
    field(0x38, 2, "bg_block_bitmap_csum_hi", Number),
    field(0x3a, 2, "bg_inode_bitmap_csum_hi", Number),
    field(0x3c, 4, "bg_reserved", Number),
];

/// A bitmap: the bits of the group's first structures or inodes, of some in its middle, and of its end.
pub(super) const BITMAP: &[Field] = &[
    field(0x0, 8, "bits 0-63", Bytes),
    field(0x8, 8, "bits 64-127", Bytes),
    field(0x28, 8, "bits 320-383", Bytes),
    field(0xf8, 8, "the last bits of the group", Bytes),
    field(0x3f8, 8, "the bits behind the group", Bytes),
];

/// `struct ext4_inode`: the first 128 bytes, `i_block` apart from the rest.
pub(super) const INODE: &[Field] = &[
    field(0x0, 2, "i_mode", Bits),
    field(0x2, 2, "i_uid", Number),
    field(0x4, 4, "i_size_lo", Length),
    field(0x8, 4, "i_atime", Number),
    field(0xc, 4, "i_ctime", Number),
    field(0x10, 4, "i_mtime", Number),
    field(0x14, 4, "i_dtime", Inode),
    field(0x18, 2, "i_gid", Number),
    field(0x1a, 2, "i_links_count", Count),
    field(0x1c, 4, "i_blocks_lo", Count),
    field(0x20, 4, "i_flags", Bits),
    field(0x24, 4, "l_i_version", Number),
    field(0x64, 4, "i_generation", Number),
    field(0x68, 4, "i_file_acl_lo", Block),
    field(0x6c, 4, "i_size_high", Count),
    field(0x70, 4, "i_obso_faddr", Number),
    field(0x74, 2, "l_i_blocks_high", Count),
    field(0x76, 2, "l_i_file_acl_high", Number),
    field(0x78, 2, "l_i_uid_high", Number),
    field(0x7a, 2, "l_i_gid_high", Number),
    field(0x7c, 2, "l_i_checksum_lo", Number),
    field(0x7e, 2, "l_i_reserved", Number),
];

/// The fields behind the first 128 bytes: `i_extra_isize` says how many there are.
pub(super) const INODE_EXTRA: &[Field] = &[
    field(0x80, 2, "i_extra_isize", Length),
    field(0x82, 2, "i_checksum_hi", Number),
    field(0x84, 4, "i_ctime_extra", Number),
    field(0x88, 4, "i_mtime_extra", Number),
    field(0x8c, 4, "i_atime_extra", Number),
    field(0x90, 4, "i_crtime", Number),
    field(0x94, 4, "i_crtime_extra", Number),
    field(0x98, 4, "i_version_hi", Number),
    field(0x9c, 4, "i_projid", Number),
];

/// `i_block` as a block map: twelve blocks, and three blocks of numbers.
pub(super) const BLOCK_MAP: &[Field] = &[
    field(0x28, 4, "i_block[0]", Block),
    field(0x54, 4, "i_block[11]", Block),
    field(0x58, 4, "i_block[12], indirect", Block),
    field(0x5c, 4, "i_block[13], double indirect", Block),
    field(0x60, 4, "i_block[14], triple indirect", Block),
];

/// A block of numbers of a block map.
pub(super) const INDIRECT: &[Field] = &[
    field(0x0, 4, "number 0", Block),
    field(0x4, 4, "number 1", Block),
    field(0x3fc, 4, "number 255", Block),
];

/// `i_block` as the target of a short symbolic link.
pub(super) const FAST_SYMLINK: &[Field] =
    &[field(0x28, 1, "the first character", Bytes), field(0x2b, 1, "a later one", Bytes)];

/// A block with the target of a long symbolic link.
pub(super) const SLOW_SYMLINK: &[Field] =
    &[field(0x0, 1, "the first character", Bytes), field(0x20, 8, "later ones", Bytes)];

/// `struct ext4_extent_header`: in front of the entries of every node.
pub(super) const EXTENT_HEADER: &[Field] = &[
    field(0x0, 2, "eh_magic", Number),
    field(0x2, 2, "eh_entries", Count),
    field(0x4, 2, "eh_max", Count),
    field(0x6, 2, "eh_depth", Count),
    field(0x8, 4, "eh_generation", Number),
];

/// `struct ext4_extent_idx`, the first and the second of a node.
pub(super) const EXTENT_INDEX: &[Field] = &[
    field(0xc, 4, "ei_block", Count),
    field(0x10, 4, "ei_leaf_lo", Block),
    field(0x14, 2, "ei_leaf_hi", Number),
    field(0x16, 2, "ei_unused", Number),
    field(0x18, 4, "ei_block of the second", Count),
    field(0x1c, 4, "ei_leaf_lo of the second", Block),
    field(0x20, 2, "ei_leaf_hi of the second", Number),
];

/// `struct ext4_extent`, the first and the second of a leaf.
pub(super) const EXTENT_LEAF: &[Field] = &[
    field(0xc, 4, "ee_block", Count),
    field(0x10, 2, "ee_len", Count),
    field(0x12, 2, "ee_start_hi", Number),
    field(0x14, 4, "ee_start_lo", Block),
    field(0x18, 4, "ee_block of the second", Count),
    field(0x1c, 2, "ee_len of the second", Count),
    field(0x1e, 2, "ee_start_hi of the second", Number),
    field(0x20, 4, "ee_start_lo of the second", Block),
];

/// `struct ext4_extent_tail`: `eh_max` entries behind the header.
pub(super) const EXTENT_TAIL: &[Field] = &[field(0x3fc, 4, "et_checksum", Number)];

/// `struct ext4_dir_entry_2`: the first two of a directory, `.` and `..`, and the one behind them.
pub(super) const DIRECTORY: &[Field] = &[
    field(0x0, 4, "inode of .", Inode),
    field(0x4, 2, "rec_len of .", Length),
    field(0x6, 1, "name_len of .", Count),
    field(0x7, 1, "file_type of .", Number),
    field(0x8, 1, "name of .", Bytes),
    field(0xc, 4, "inode of ..", Inode),
    field(0x10, 2, "rec_len of ..", Length),
    field(0x12, 1, "name_len of ..", Count),
    field(0x13, 1, "file_type of ..", Number),
    field(0x14, 1, "name of ..", Bytes),
    field(0x18, 4, "inode", Inode),
    field(0x1c, 2, "rec_len", Length),
    field(0x1e, 1, "name_len", Count),
    field(0x1f, 1, "file_type", Number),
    field(0x20, 1, "name", Bytes),
];

/// `struct ext4_dir_entry_tail`: the last twelve bytes of a block of a directory that has checksums.
pub(super) const DIRECTORY_TAIL: &[Field] = &[
    field(0x3f4, 4, "det_reserved_zero1", Inode),
    field(0x3f8, 2, "det_rec_len", Length),
    field(0x3fa, 1, "det_reserved_zero2", Number),
    field(0x3fb, 1, "det_reserved_ft", Number),
    field(0x3fc, 4, "det_checksum", Number),
];

/// `struct dx_root`: the first block of a directory with an index.
pub(super) const INDEX_ROOT: &[Field] = &[
    field(0x0, 4, "dot.inode", Inode),
    field(0x4, 2, "dot.rec_len", Length),
    field(0xc, 4, "dotdot.inode", Inode),
    field(0x10, 2, "dotdot.rec_len", Length),
    field(0x18, 4, "dx_root_info.reserved_zero", Number),
    field(0x1c, 1, "dx_root_info.hash_version", Number),
    field(0x1d, 1, "dx_root_info.info_length", Length),
    field(0x1e, 1, "dx_root_info.indirect_levels", Number),
    field(0x1f, 1, "dx_root_info.unused_flags", Bits),
    field(0x20, 2, "limit", Count),
    field(0x22, 2, "count", Count),
    field(0x24, 4, "block", Count),
    field(0x28, 4, "entries[1].hash", Number),
    field(0x2c, 4, "entries[1].block", Count),
    field(0x30, 4, "entries[2].hash", Number),
    field(0x34, 4, "entries[2].block", Count),
];

/// `struct dx_node`: a block of the index below the root.
pub(super) const INDEX_NODE: &[Field] = &[
    field(0x0, 4, "fake.inode", Inode),
    field(0x4, 2, "fake.rec_len", Length),
    field(0x8, 2, "limit", Count),
    field(0xa, 2, "count", Count),
    field(0xc, 4, "block", Count),
    field(0x10, 4, "entries[1].hash", Number),
    field(0x14, 4, "entries[1].block", Count),
];

/// `struct dx_tail`, behind `limit` entries.
pub(super) const INDEX_TAIL: &[Field] =
    &[field(0x3f8, 4, "dt_reserved", Number), field(0x3fc, 4, "dt_checksum", Number)];

/// `struct ext4_xattr_header`: in front of the entries of a block of attributes.
pub(super) const ATTRIBUTE_HEADER: &[Field] = &[
    field(0x0, 4, "h_magic", Number),
    field(0x4, 4, "h_refcount", Count),
    field(0x8, 4, "h_blocks", Count),
    field(0xc, 4, "h_hash", Number),
    field(0x10, 4, "h_checksum", Number),
    field(0x14, 4, "h_reserved", Number),
];

/// `struct ext4_xattr_entry`, the first of a block.
pub(super) const ATTRIBUTE_ENTRY: &[Field] = &[
    field(0x20, 1, "e_name_len", Count),
    field(0x21, 1, "e_name_index", Number),
    field(0x22, 2, "e_value_offs", Length),
    field(0x24, 4, "e_value_inum", Inode),
    field(0x28, 4, "e_value_size", Length),
    field(0x2c, 4, "e_hash", Number),
    field(0x30, 1, "e_name", Bytes),
];

/// `struct ext4_xattr_ibody_header` and the first entry, behind the 32 bytes of extra fields of an inode.
pub(super) const ATTRIBUTES_IN_INODE: &[Field] = &[
    field(0xa0, 4, "h_magic", Number),
    field(0xa4, 1, "e_name_len", Count),
    field(0xa5, 1, "e_name_index", Number),
    field(0xa6, 2, "e_value_offs", Length),
    field(0xa8, 4, "e_value_inum", Inode),
    field(0xac, 4, "e_value_size", Length),
    field(0xb0, 4, "e_hash", Number),
    field(0xb4, 1, "e_name", Bytes),
];
