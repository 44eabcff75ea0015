// SPDX-License-Identifier: MIT OR Apache-2.0

//! Values of extended attributes that lie in an inode of their own, the feature `ea_inode`.
//!
//! Such an inode has the flag `EA_INODE`, no name, and the value as its content. Its i_atime holds the value's hash, as
//! several attributes may share it; one of Lustre's older kind belongs to one attribute, and refers back instead.

use core::fmt;

use super::Volume;
use super::checksum::crc32c;
use super::error::Error;
use super::inode::{Inode, InodeFlags};
use super::xattr::Entry;
use crate::mem::region::Region;

impl<R: Region> Volume<R> {
    /// Gives the value of `entry`, an attribute of `owner`, to `take` block by block. The hash is known at the end only: what was
    /// taken before an error is not to be used. `fail` makes an error of what is wrong.
    pub(super) fn read_value_inode(
        &self,
        owner: &Inode<'_>,
        entry: &Entry<'_>,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
        fail: impl Fn(ValueFault) -> Error,
    ) -> Result<(), Error> {
        if entry.e_value_inum == owner.number {
            return Err(fail(ValueFault::Owner));
        }
        let inode = self.inode(entry.e_value_inum)?;
        if !inode.flags.contains(InodeFlags::EA_INODE) {
            return Err(fail(ValueFault::Flag));
        }
        if inode.size != u64::from(entry.e_value_size) {
            return Err(fail(ValueFault::Size { i_size: inode.size, e_value_size: entry.e_value_size }));
        }
        let mut left = entry.e_value_size as usize;
        let mut hash = self.superblock().checksum_seed();
        let mut block = 0_u32;
        while left > 0 {
            let raw = self.file_block(&inode, block)?.ok_or_else(|| fail(ValueFault::Hole { block }))?;
            let piece = raw.get(..left).unwrap_or(raw);
            hash = crc32c(hash, piece);
            take(piece)?;
            left = left.saturating_sub(piece.len());
            block = block.saturating_add(1);
        }
        check_value_hash(owner, &inode, entry, hash).map_err(fail)
    }
}

/// Compares the hash of a value in an inode with the two places that keep it: the inode's i_atime, and e_hash, where it
/// is mixed with the name (by some kernels, as signed bytes).
///
/// Values of Lustre's older kind have no hash: the inode's i_mtime and i_generation refer to the owner instead.
fn check_value_hash(
    owner: &Inode<'_>,
    inode: &Inode<'_>,
    entry: &Entry<'_>,
    computed: u32,
) -> Result<(), ValueFault> {
    let low_half = |seconds: i64| seconds & i64::from(u32::MAX);
    let i_atime = low_half(inode.accessed.seconds);
    let refers_to_owner =
        low_half(inode.modified.seconds) == i64::from(owner.number) && inode.generation == owner.generation;
    if i64::from(entry.e_hash) != i_atime && refers_to_owner {
        return Ok(());
    }
    let unsigned = entry_hash(entry.e_name, computed, u32::from);
    let signed = entry_hash(entry.e_name, computed, |byte| i32::from(byte.cast_signed()).cast_unsigned());
    if i64::from(computed) != i_atime || ![unsigned, signed].contains(&entry.e_hash) {
        return Err(ValueFault::Hash { computed });
    }
    Ok(())
}

/// `e_hash` of an attribute whose value is in an inode: over the name, its bytes extended by `extend`, and the
/// value's hash.
fn entry_hash(name: &[u8], value_hash: u32, extend: impl Fn(u8) -> u32) -> u32 {
    let named = name.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ extend(*byte));
    named.rotate_left(16) ^ value_hash
}

/// What is wrong with the inode of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueFault {
    /// It is the inode that has the attribute.
    Owner,
    /// It does not have the flag of such inodes.
    Flag,
    /// It is not as long as the value.
    Size {
        /// Its length.
        i_size: u64,
        /// The value's.
        e_value_size: u32,
    },
    /// A block of it was never written.
    Hole {
        /// Which.
        block: u32,
    },
    /// The hash of the value is not the one that inode and entry keep.
    Hash {
        /// What it is.
        computed: u32,
    },
}

impl fmt::Display for ValueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Owner => f.write_str("it is the attribute's owner"),
            Self::Flag => f.write_str("it lacks the flag EA_INODE"),
            Self::Size { i_size, e_value_size } => {
                write!(f, "i_size is {i_size}, e_value_size {e_value_size}")
            }
            Self::Hole { block } => write!(f, "block {block} is a hole"),
            Self::Hash { computed } => write!(f, "its hash is {computed:#010x}, and not what is stored"),
        }
    }
}
