// SPDX-License-Identifier: MIT OR Apache-2.0

//! The three feature sets of a superblock, and which of them a reader of this kind can honour.
//!
//! ext4 sorts features by what someone who does not know one may still do: everything (compatible), read
//! (`ro_compat`), nothing (incompatible). This reader:
//!
//! * ignores the compatible set, but for what it uses of it;
//! * mounts any volume whose *incompatible* features are all in [`Incompat::HONOURED`], and refuses others by name;
//! * reads past every `ro_compat` feature, also those it does not know, for that is what the set promises; only
//!   `bigalloc` is refused, as the unit of the free counts changes with it.
//!
//! Refused although reading could be made to work: `mmp`, for whoever asks for protection against two mounts must not get
//! a reader that does not look; `encrypt` and `casefold`, for their names and contents would be wrong without keys and
//! folding tables.
//!
//! Names are those that `dumpe2fs` prints and `mkfs.ext4 -O` takes.

use core::fmt;

use bitflags::bitflags;

bitflags! {
    /// `s_feature_compat`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Compat: u32 {
        const HAS_JOURNAL = 0x4;
        const EXT_ATTR = 0x8;
        const DIR_INDEX = 0x20;
        const SPARSE_SUPER2 = 0x200;
        const _ = !0;
    }

    /// `s_feature_incompat`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Incompat: u32 {
        /// Compressed files, never finished.
        const COMPRESSION = 0x1;
        /// Directory entries carry the kind of what they name.
        const FILETYPE = 0x2;
        /// The journal holds transactions that are not in place yet.
        const RECOVER = 0x4;
        /// The volume is the external journal of another.
        const JOURNAL_DEV = 0x8;
        /// Group descriptors lie in the groups they describe.
        const META_BG = 0x10;
        /// Files are mapped by extents.
        const EXTENTS = 0x40;
        /// Block numbers have 64 bits.
        const BLOCKS_64BIT = 0x80;
        /// Multiple mount protection.
        const MMP = 0x100;
        /// Bitmaps and inode tables may lie in other groups.
        const FLEX_BG = 0x200;
        /// Attribute values may lie in inodes of their own.
        const EA_INODE = 0x400;
        /// Directory entries carry data.
        const DIRDATA = 0x1000;
        /// The checksum seed is in the superblock, apart from the UUID.
        const CSUM_SEED = 0x2000;
        /// Directories above 2 GiB, and a third level of hash tree.
        const LARGEDIR = 0x4000;
        /// Small files lie in their inode.
        const INLINE_DATA = 0x8000;
        /// Encrypted files.
        const ENCRYPT = 0x1_0000;
        /// Directories whose names ignore case.
        const CASEFOLD = 0x2_0000;
        const _ = !0;
    }

    /// `s_feature_ro_compat`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct RoCompat: u32 {
        /// Superblock copies in few groups.
        const SPARSE_SUPER = 0x1;
        /// Files above 2 GiB.
        const LARGE_FILE = 0x2;
        /// Files above 2 TiB: `i_blocks` may count blocks.
        const HUGE_FILE = 0x8;
        /// Group descriptors have CRC-16 checksums; tables may be uninitialised.
        const GDT_CSUM = 0x10;
        /// Directories of more than 65,000 directories.
        const DIR_NLINK = 0x20;
        /// Inodes promise a minimum of extra fields.
        const EXTRA_ISIZE = 0x40;
        /// Quota in hidden inodes.
        const QUOTA = 0x100;
        /// Space is managed in clusters of blocks.
        const BIGALLOC = 0x200;
        /// All metadata has CRC-32C checksums.
        const METADATA_CSUM = 0x400;
        /// Nobody should write.
        const READONLY = 0x1000;
        /// Project quota.
        const PROJECT = 0x2000;
        /// Files may share blocks.
        const SHARED_BLOCKS = 0x4000;
        /// Files with a hash tree over their content.
        const VERITY = 0x8000;
        /// The orphan file is not empty.
        const ORPHAN_PRESENT = 0x1_0000;
        const _ = !0;
    }
}

impl Incompat {
    /// What this reader implements. [`Incompat::RECOVER`] has a refusal of its own.
    pub(super) const HONOURED: Self = Self::FILETYPE
        .union(Self::META_BG)
        .union(Self::EXTENTS)
        .union(Self::BLOCKS_64BIT)
        .union(Self::FLEX_BG)
        .union(Self::EA_INODE)
        .union(Self::CSUM_SEED)
        .union(Self::LARGEDIR)
        .union(Self::INLINE_DATA);

    fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::COMPRESSION => "compression",
            Self::FILETYPE => "filetype",
            Self::RECOVER => "needs_recovery",
            Self::JOURNAL_DEV => "journal_dev",
            Self::META_BG => "meta_bg",
            Self::EXTENTS => "extent",
            Self::BLOCKS_64BIT => "64bit",
            Self::MMP => "mmp",
            Self::FLEX_BG => "flex_bg",
            Self::EA_INODE => "ea_inode",
            Self::DIRDATA => "dirdata",
            Self::CSUM_SEED => "metadata_csum_seed",
            Self::LARGEDIR => "large_dir",
            Self::INLINE_DATA => "inline_data",
            Self::ENCRYPT => "encrypt",
            Self::CASEFOLD => "casefold",
            _ => return None,
        })
    }
}

impl RoCompat {
    /// What this reader knows; reading past others is allowed, and logged.
    pub(super) const KNOWN: Self = Self::SPARSE_SUPER
        .union(Self::LARGE_FILE)
        .union(Self::HUGE_FILE)
        .union(Self::GDT_CSUM)
        .union(Self::DIR_NLINK)
        .union(Self::EXTRA_ISIZE)
        .union(Self::QUOTA)
        .union(Self::BIGALLOC)
        .union(Self::METADATA_CSUM)
        .union(Self::READONLY)
        .union(Self::PROJECT)
        .union(Self::SHARED_BLOCKS)
        .union(Self::VERITY)
        .union(Self::ORPHAN_PRESENT);

    fn name(self) -> Option<&'static str> {
        (self == Self::BIGALLOC).then_some("bigalloc")
    }
}

/// Writes the name of each bit of `bits`, or its value where it has none, separated by commas.
fn list(f: &mut fmt::Formatter<'_>, bits: u32, name: impl Fn(u32) -> Option<&'static str>) -> fmt::Result {
    let mut separator = "";
    for bit in (0..u32::BITS).map(|shift| 1u32 << shift).filter(|bit| bits & bit != 0) {
        f.write_str(separator)?;
        match name(bit) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "{bit:#x}")?,
        }
        separator = ", ";
    }
    Ok(())
}

impl fmt::Display for Incompat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.bits(), |bit| Self::from_bits_retain(bit).name())
    }
}

impl fmt::Display for RoCompat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.bits(), |bit| Self::from_bits_retain(bit).name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn features_are_listed_by_name_and_unknown_bits_by_value() {
        let features = Incompat::ENCRYPT | Incompat::MMP | Incompat::from_bits_retain(0x8000_0000);
        assert_eq!(features.to_string(), "mmp, encrypt, 0x80000000");
        assert_eq!(RoCompat::BIGALLOC.to_string(), "bigalloc");
    }
}
