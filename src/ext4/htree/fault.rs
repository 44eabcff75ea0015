// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can be wrong with an index.

use core::fmt;

/// What is wrong with an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexFault {
    /// The records `.` and `..` do not have the lengths that make room for the index.
    Dots {
        /// `rec_len` of `.`.
        dot: u16,
        /// `rec_len` of `..`.
        dot_dot: u16,
    },
    /// `dx_root_info` is not one.
    Info {
        /// `reserved_zero`.
        reserved: u32,
        /// `info_length`.
        info_length: u8,
    },
    /// `unused_flags` asks for what nobody defined.
    Flags(u8),
    /// `hash_version` is none that a directory of this volume can have.
    HashVersion(u8),
    /// More levels than the volume allows.
    Levels(usize),
    /// A leaf where a node should be.
    NoNode,
    /// `limit` is not what a block has room for.
    Limit {
        /// What the node says.
        limit: u16,
        /// What fits.
        expected: usize,
    },
    /// `count` is 0 or above `limit`.
    Count {
        /// Entries that fit.
        limit: u16,
        /// Entries in use.
        count: u16,
    },
    /// `dt_checksum` does not match.
    Checksum {
        /// What the block says.
        stored: u32,
        /// What it should say.
        computed: u32,
    },
    /// An entry refers to a block outside the directory, or to the root.
    Child {
        /// The block.
        block: u32,
        /// Blocks of the directory.
        blocks: u32,
    },
    /// The hashes of the entries do not ascend.
    Order,
    /// A run of names with one hash has more leaves than the directory has blocks.
    Endless,
}

impl fmt::Display for IndexFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Dots { dot, dot_dot } => {
                write!(f, "rec_len of `.` is {dot} and of `..` {dot_dot}: no room for dx_root_info")
            }
            Self::Info { reserved, info_length } => {
                write!(
                    f,
                    "dx_root_info has reserved_zero {reserved:#x} and info_length {info_length}, not 0 and 8"
                )
            }
            Self::Flags(flags) => write!(f, "unused_flags is {flags:#x}"),
            Self::HashVersion(version) => write!(f, "hash_version {version} is not supported"),
            Self::Levels(levels) => write!(f, "{levels} levels are more than the volume allows"),
            Self::NoNode => f.write_str("a leaf where an index node should be"),
            Self::Limit { limit, expected } => write!(f, "limit is {limit}, expected {expected}"),
            Self::Count { limit, count } => write!(f, "count is {count}, limit {limit}"),
            Self::Checksum { stored, computed } => {
                write!(f, "dt_checksum is {stored:#010x}, computed {computed:#010x}")
            }
            Self::Child { block, blocks } => {
                write!(f, "an entry refers to block {block} of {blocks}")
            }
            Self::Order => f.write_str("the hashes of its entries do not ascend"),
            Self::Endless => f.write_str("a run of names with one hash does not end"),
        }
    }
}
