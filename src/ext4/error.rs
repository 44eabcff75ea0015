// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can be wrong with a volume: why it does not mount, and what a request finds damaged.

use core::fmt;

use super::blockmap::BlockMapFault;
use super::dir::DirectoryFault;
use super::extent::ExtentFault;
use super::features::{Incompat, RoCompat};
use super::group::GroupFault;
use super::inline::InlineFault;
use super::inode::InodeFault;
use super::symlink::SymlinkFault;
use super::xattr::AttributeFault;
use crate::fs::Errno;
use crate::mem::Full;

/// Why a region cannot be mounted as a volume. The message says what to do where something can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MountError {
    /// The region ends before the superblock does.
    NoSuperblock {
        /// Length of the region, in bytes.
        region: u64,
    },
    /// `s_magic` is not 0xEF53.
    Magic(u16),
    /// `s_rev_level` is not 1.
    Revision(u32),
    /// `s_creator_os` lays out inodes in another way than Linux.
    CreatorOs(u32),
    /// `s_checksum_type` is not 1, CRC-32C.
    ChecksumType(u8),
    /// `s_checksum` does not match.
    Checksum {
        /// What the superblock says.
        stored: u32,
        /// What it should say.
        computed: u32,
    },
    /// Features that keep anyone off who does not implement them.
    Incompatible(Incompat),
    /// Features that this reader does not implement, though reading might be possible.
    Unsupported(RoCompat),
    /// The journal holds transactions that are not in place yet.
    NeedsRecovery,
    /// The journal holds transactions, though the volume claims to need no recovery.
    JournalNotEmpty,
    /// A field of the superblock that is out of its range.
    Field {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: u64,
        /// What it should be.
        expected: &'static str,
    },
    /// The region ends before the volume does.
    Truncated {
        /// Length of the volume, in bytes.
        volume: u64,
        /// Length of the region, in bytes.
        region: u64,
    },
    /// The journal's superblock is not one.
    Journal(&'static str),
    /// A group descriptor, the root directory or the journal's inode is damaged.
    Damaged(Damage),
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoSuperblock { region } => {
                write!(f, "no ext4 volume: {region} bytes are too few for a superblock")
            }
            Self::Magic(found) => write!(f, "no ext4 volume: s_magic is {found:#06x}, not 0xef53"),
            Self::Revision(found) => write!(f, "s_rev_level is {found}: only revision 1 (dynamic) is served"),
            Self::CreatorOs(found) => {
                write!(f, "s_creator_os is {found}: only the inode layout of Linux is served")
            }
            Self::ChecksumType(found) => write!(f, "s_checksum_type is {found}, not 1 (crc32c)"),
            Self::Checksum { stored, computed } => write!(
                f,
                "the superblock is damaged: s_checksum is {stored:#010x}, computed {computed:#010x}; \
                 `e2fsck -f IMAGE` can restore it from a copy"
            ),
            Self::Incompatible(features) => write!(f, "unsupported features: {features}"),
            Self::Unsupported(features) => write!(f, "unsupported features: {features}"),
            Self::NeedsRecovery => f.write_str(
                "the journal must be replayed first (feature needs_recovery): run `e2fsck -p IMAGE`",
            ),
            Self::JournalNotEmpty => f.write_str(
                "the journal holds transactions though the superblock says that none need recovery: \
                 run `e2fsck IMAGE` and decide which is right",
            ),
            Self::Field { name, value, expected } => {
                write!(f, "the superblock is damaged: {name} is {value}, expected {expected}")
            }
            Self::Truncated { volume, region } => {
                write!(f, "the volume is {volume} bytes long, but its region only {region}")
            }
            Self::Journal(why) => write!(f, "the journal is damaged: {why}"),
            Self::Damaged(damage) => write!(f, "the volume is damaged: {damage}; run `e2fsck -f IMAGE`"),
        }
    }
}

impl core::error::Error for MountError {}

impl From<Error> for MountError {
    fn from(error: Error) -> Self {
        match error {
            Error::Corrupt(damage) => Self::Damaged(damage),
            Error::Reply(_) | Error::TransactionFull => Self::Journal("it cannot be read"),
        }
    }
}

/// Why a request is not answered with what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Error {
    /// The volume is sound; the answer is an error number.
    Reply(Errno),
    /// A check of the volume's structure failed.
    Corrupt(Damage),
    /// One change touches more blocks than are left in the running transaction: see
    /// [`atomically`](super::Volume::atomically).
    TransactionFull,
}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        Self::Corrupt(damage)
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::Reply(errno)
    }
}

impl From<Full> for Error {
    fn from(Full: Full) -> Self {
        Self::Reply(Errno::EMSGSIZE)
    }
}

/// A check that the volume failed, with the values that it was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// A block number beyond the end of the volume, or in front of its first block.
    BlockOutOfRange {
        /// The number.
        block: u64,
        /// `s_blocks_count`.
        blocks_count: u64,
    },
    /// A group descriptor.
    Group {
        /// Its number.
        group: u32,
        /// What is wrong.
        fault: GroupFault,
    },
    /// An inode.
    Inode {
        /// Its number.
        inode: u32,
        /// What is wrong.
        fault: InodeFault,
    },
    /// The extent tree of an inode.
    Extent {
        /// The inode's number.
        inode: u32,
        /// What is wrong.
        fault: ExtentFault,
    },
    /// The block map of an inode.
    BlockMap {
        /// The inode's number.
        inode: u32,
        /// What is wrong.
        fault: BlockMapFault,
    },
    /// A directory.
    Directory {
        /// The inode's number.
        inode: u32,
        /// What is wrong.
        fault: DirectoryFault,
    },
    /// The extended attributes of an inode.
    Attributes {
        /// The inode's number.
        inode: u32,
        /// The block they are in; 0 for the inode itself.
        block: u64,
        /// What is wrong.
        fault: AttributeFault,
    },
    /// The inline content of an inode.
    Inline {
        /// The inode's number.
        inode: u32,
        /// What is wrong.
        fault: InlineFault,
    },
    /// The target of a symbolic link.
    Symlink {
        /// The inode's number.
        inode: u32,
        /// What is wrong.
        fault: SymlinkFault,
    },
    /// The list of orphans goes in a circle.
    OrphanList {
        /// An inode of the circle.
        inode: u32,
    },
    /// A block that two structures claim.
    Claimed {
        /// Its number.
        block: u64,
    },
}

/// What damage is about, as the superblock keeps it of the first error and of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DamagePlace {
    /// The structure, where Linux names a function of its own.
    pub subject: &'static str,
    /// The inode, if it is one's.
    pub inode: Option<u32>,
    /// The block; 0 where none is known.
    pub block: u64,
}

impl Damage {
    /// What it is about.
    pub(super) fn place(&self) -> DamagePlace {
        let of_inode = |subject, inode| DamagePlace { subject, inode: Some(inode), block: 0 };
        let of_block = |subject, block| DamagePlace { subject, inode: None, block };
        match *self {
            Self::BlockOutOfRange { block, .. } => of_block("skerry: block number", block),
            Self::Claimed { block } => of_block("skerry: block claimed twice", block),
            Self::Group { .. } => of_block("skerry: group descriptor", 0),
            Self::Inode { inode, .. } => of_inode("skerry: inode", inode),
            Self::Extent { inode, .. } => of_inode("skerry: extent tree", inode),
            Self::BlockMap { inode, .. } => of_inode("skerry: block map", inode),
            Self::Directory { inode, .. } => of_inode("skerry: directory", inode),
            Self::Attributes { inode, block, .. } => {
                DamagePlace { block, ..of_inode("skerry: extended attributes", inode) }
            }
            Self::Inline { inode, .. } => of_inode("skerry: inline data", inode),
            Self::Symlink { inode, .. } => of_inode("skerry: symbolic link", inode),
            Self::OrphanList { inode } => of_inode("skerry: orphan list", inode),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BlockOutOfRange { block, blocks_count } => {
                write!(f, "block {block} is outside the volume's {blocks_count}")
            }
            Self::Group { group, fault } => write!(f, "group descriptor {group}: {fault}"),
            Self::Inode { inode, fault } => write!(f, "inode {inode}: {fault}"),
            Self::Extent { inode, fault } => write!(f, "extent tree of inode {inode}: {fault}"),
            Self::BlockMap { inode, fault } => write!(f, "block map of inode {inode}: {fault}"),
            Self::Directory { inode, fault } => write!(f, "directory {inode}: {fault}"),
            Self::Attributes { inode, block: 0, fault } => {
                write!(f, "attributes in inode {inode}: {fault}")
            }
            Self::Attributes { inode, block, fault } => {
                write!(f, "attributes of inode {inode}, block {block}: {fault}")
            }
            Self::Inline { inode, fault } => write!(f, "inline data of inode {inode}: {fault}"),
            Self::Symlink { inode, fault } => write!(f, "symbolic link {inode}: {fault}"),
            Self::OrphanList { inode } => write!(f, "the list of orphans goes in a circle at inode {inode}"),
            Self::Claimed { block } => write!(f, "block {block} is claimed twice"),
        }
    }
}
