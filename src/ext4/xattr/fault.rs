// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can be wrong with extended attributes.

use core::fmt;

use super::MAGIC;
use crate::ext4::acl::AclFault;
use crate::ext4::ea_inode::ValueFault;

/// What is wrong with the extended attributes of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttributeFault {
    /// Behind the magic number there is no room for even an end of entries.
    NoRoom,
    /// `h_magic` or `h_blocks` is not what it must be.
    Header {
        /// `h_magic`.
        magic: u32,
        /// `h_blocks`, always 1.
        h_blocks: u32,
    },
    /// `h_refcount` is 0, though an inode refers to the block.
    NoReference,
    /// `h_checksum` does not match.
    Checksum {
        /// What the block says.
        stored: u32,
        /// What it should say.
        computed: u32,
    },
    /// An entry runs out of its place.
    NameOverrun {
        /// Where it starts.
        offset: usize,
    },
    /// A name contains NUL.
    NameByte,
    /// A value is larger than the format allows.
    ValueSize(u32),
    /// A value is outside its place, or within the entries.
    ValuePlace {
        /// `e_value_offs`.
        offset: u16,
        /// `e_value_size`.
        size: u32,
    },
    /// A value in an inode, on a volume without the feature `ea_inode`.
    NoEaInodeFeature {
        /// `e_value_inum`.
        inode: u32,
    },
    /// A value in an inode that cannot hold one.
    InodeOutOfRange {
        /// `e_value_inum`.
        inode: u32,
    },
    /// A value in an inode.
    Value {
        /// `e_value_inum`.
        inode: u32,
        /// What is wrong.
        fault: ValueFault,
    },
    /// The end of inline content lies outside the inode.
    InlineElsewhere {
        /// `e_value_inum`.
        inode: u32,
    },
    /// An access control list.
    Acl(AclFault),
}

impl fmt::Display for AttributeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoRoom => f.write_str("no room for entries"),
            Self::Header { magic, h_blocks } => {
                write!(f, "h_magic is {magic:#010x} and h_blocks {h_blocks}, not {MAGIC:#010x} and 1")
            }
            Self::NoReference => f.write_str("h_refcount is 0"),
            Self::Checksum { stored, computed } => {
                write!(f, "h_checksum is {stored:#010x}, computed {computed:#010x}")
            }
            Self::NameOverrun { offset } => write!(f, "the entry at {offset} does not fit"),
            Self::NameByte => f.write_str("a name contains NUL"),
            Self::ValueSize(size) => write!(f, "e_value_size is {size}"),
            Self::ValuePlace { offset, size } => write!(f, "{size} bytes of a value cannot be at {offset}"),
            Self::NoEaInodeFeature { inode } => {
                write!(f, "e_value_inum is {inode}, but the volume lacks ea_inode")
            }
            Self::InodeOutOfRange { inode } => write!(f, "e_value_inum is {inode}"),
            Self::Value { inode, fault } => write!(f, "inode {inode} of a value: {fault}"),
            Self::InlineElsewhere { inode } => write!(f, "system.data is in inode {inode}"),
            Self::Acl(fault) => write!(f, "access control list: {fault}"),
        }
    }
}
