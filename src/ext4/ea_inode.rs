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
use super::xattr::{Entry, entry_hash};
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
    let hash = |signed| entry_hash(entry.e_name, signed, core::iter::once(computed));
    if i64::from(computed) != i_atime || ![hash(false), hash(true)].contains(&entry.e_hash) {
        return Err(ValueFault::Hash { computed });
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::testing::{Collected, Image, TestVolume};
    use crate::ext4::{AttributeFault, Damage};
    use crate::fs::Errno;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    /// The value: of more than one block, and letters, as `debugfs` takes longer ones from its command line only.
    fn value() -> Vec<u8> {
        (b'a'..=b'y').cycle().take(5000).collect()
    }

    /// A volume whose file `/f` has the attribute `user.large` with its value in an inode, and the numbers of both.
    fn image() -> (Image, u32, u32) {
        let image = Image::new("1M", &["-b", "1024", "-O", "ea_inode,^metadata_csum"], |root| {
            std::fs::write(root.join("f"), "content").unwrap();
        });
        image.debugfs_script(&[&format!("ea_set /f user.large {}", String::from_utf8(value()).unwrap())]);
        let owner = image.inode("/f");
        // The first inode that is free.
        (image, owner, owner + 1)
    }

    fn get(volume: &TestVolume, owner: u32) -> Result<Vec<u8>, Error> {
        let mut sink = Collected::default();
        volume.read_value(&volume.inode(owner)?, b"user.large", &mut sink).map(|()| sink.bytes)
    }

    fn fault(image: &Image, owner: u32) -> Option<(u32, ValueFault)> {
        match get(&image.mount(), owner) {
            Err(Error::Corrupt(Damage::Attributes {
                fault: AttributeFault::Value { inode, fault }, ..
            })) => Some((inode, fault)),
            _ => None,
        }
    }

    #[test]
    fn a_value_in_an_inode_is_read_and_verified() {
        let (image, owner, inode) = image();
        assert_eq!(get(&image.mount(), owner), Ok(value()));
        image.debugfs(&format!("set_inode_field <{inode}> atime @1"));
        let Some((found, ValueFault::Hash { .. })) = fault(&image, owner) else {
            panic!("a wrong hash is not seen")
        };
        assert_eq!(found, inode);
    }

    #[test]
    fn a_change_of_the_value_is_damage() {
        let (image, owner, inode) = image();
        let blocks = image.debugfs(&format!("blocks <{inode}>"));
        let last: usize = blocks.split_whitespace().last().unwrap().parse().unwrap();
        let mut volume = image.mount();
        // The last byte of the value, and the first behind it, which does not count.
        volume.region[last * 1024 + 5000 % 1024 - 1] ^= 1;
        assert!(matches!(get(&volume, owner), Err(Error::Corrupt(_))));
        volume.region[last * 1024 + 5000 % 1024 - 1] ^= 1;
        volume.region[last * 1024 + 5000 % 1024] ^= 1;
        assert_eq!(get(&volume, owner), Ok(value()));
    }

    #[test]
    fn a_value_of_the_older_kind_refers_to_its_owner_instead_of_a_hash() {
        let (image, owner, inode) = image();
        image.debugfs(&format!("set_inode_field <{inode}> atime @0"));
        image.debugfs(&format!("set_inode_field <{inode}> mtime @{owner}"));
        assert_eq!(get(&image.mount(), owner), Ok(value()));
        image.debugfs(&format!("set_inode_field <{inode}> generation 1"));
        assert!(matches!(fault(&image, owner), Some((_, ValueFault::Hash { .. }))));
    }

    #[test]
    fn an_inode_that_cannot_hold_the_value_is_damage() {
        let (image, owner, inode) = image();
        image.debugfs(&format!("set_inode_field <{inode}> size 4999"));
        let size = ValueFault::Size { i_size: 4999, e_value_size: 5000 };
        assert_eq!(fault(&image, owner), Some((inode, size)));
        image.debugfs(&format!("set_inode_field <{inode}> size 5000"));
        image.debugfs(&format!("punch <{inode}> 2 2"));
        assert_eq!(fault(&image, owner), Some((inode, ValueFault::Hole { block: 2 })));
        image.debugfs(&format!("set_inode_field <{inode}> flags 0x80000"));
        assert_eq!(fault(&image, owner), Some((inode, ValueFault::Flag)));
    }

    #[test]
    fn an_attribute_whose_value_is_its_owner_is_damage() {
        let (image, owner, inode) = image();
        let mut volume = image.mount();
        // The entry, by its name; e_value_inum stands twelve bytes in front of that.
        let name = volume.region.windows(8).position(|window| window == b"large\0\0\0").unwrap();
        let field = name - 12..name - 8;
        assert_eq!(volume.region[field.clone()], inode.to_le_bytes());
        volume.region[field].copy_from_slice(&owner.to_le_bytes());
        let Err(Error::Corrupt(Damage::Attributes { fault, .. })) = get(&volume, owner) else { panic!() };
        assert_eq!(fault, AttributeFault::Value { inode: owner, fault: ValueFault::Owner });
    }

    #[test]
    fn a_value_above_what_a_client_takes_is_too_big() {
        let (image, owner, _) = image();
        let mut volume = image.mount();
        let name = volume.region.windows(8).position(|window| window == b"large\0\0\0").unwrap();
        volume.region[name - 8..name - 4].copy_from_slice(&65_537_u32.to_le_bytes());
        assert_eq!(get(&volume, owner), Err(Errno::E2BIG.into()));
    }
}
