// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can be wrong with a directory.

use core::fmt;

use crate::ext4::dirent::RecordFault;
use crate::ext4::htree::IndexFault;

/// What is wrong with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirectoryFault {
    /// `i_size` is 0 or no multiple of the block size, or an inline directory is not as long as `i_block`.
    Size(u64),
    /// A block of it was never written.
    Hole {
        /// Which of the directory's.
        block: u32,
    },
    /// A block of records.
    Leaf {
        /// Which of the directory's.
        block: u32,
        /// What is wrong.
        fault: LeafFault,
    },
    /// A record.
    Record {
        /// Where it is in the directory, in bytes.
        position: u64,
        /// What is wrong.
        fault: RecordFault,
    },
    /// It does not begin with `.`, itself, and `..`.
    Dots,
    /// A name in it names the directory itself.
    NamesItself,
    /// A block of its index.
    Index {
        /// Which of the directory's.
        block: u32,
        /// What is wrong.
        fault: IndexFault,
    },
}

/// What is wrong with a block of records as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafFault {
    /// It does not end with `ext4_dir_entry_tail`.
    NoChecksum,
    /// `det_checksum` does not match.
    Checksum {
        /// What the block says.
        stored: u32,
        /// What it should say.
        computed: u32,
    },
}

impl fmt::Display for DirectoryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Size(size) => write!(f, "i_size is {size}"),
            Self::Hole { block } => write!(f, "block {block} is a hole"),
            Self::Leaf { block, fault } => write!(f, "block {block}: {fault}"),
            Self::Record { position, fault } => write!(f, "entry at {position}: {fault}"),
            Self::Dots => f.write_str("it does not begin with `.` and `..`"),
            Self::NamesItself => f.write_str("a name in it names itself"),
            Self::Index { block, fault } => write!(f, "index, block {block}: {fault}"),
        }
    }
}

impl fmt::Display for LeafFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoChecksum => f.write_str("no checksum at its end"),
            Self::Checksum { stored, computed } => {
                write!(f, "det_checksum is {stored:#010x}, computed {computed:#010x}")
            }
        }
    }
}
