// SPDX-License-Identifier: MIT OR Apache-2.0

//! The block of attributes: its header (`ext4_xattr_header`), and how inodes share it.
//!
//! `h_refcount` inodes refer to a block, and each counts it among its own. A block that others refer to too is never
//! changed: whoever changes an attribute takes a copy. New blocks are not looked up among those that there are.

use super::edit::{Change, Hashing, rewrite};
use super::fault::AttributeFault;
use super::hash::block_hash;
use super::place::Place;
use super::{MAGIC, attribute_damage};
use crate::ext4::Volume;
use crate::ext4::alloc::Freed;
use crate::ext4::checksum::crc32c;
use crate::ext4::error::Error;
use crate::ext4::field::{le32, put_le32};
use crate::fs::{Caller, Errno};
use crate::mem::region::Region;
use crate::mem::slice;

/// Length of `ext4_xattr_header`, in front of a block's entries.
pub(super) const BLOCK_HEADER: usize = 32;
/// The header's fields.
const H_MAGIC: usize = 0;
const H_REFCOUNT: usize = 4;
const H_BLOCKS: usize = 8;
const H_HASH: usize = 12;
const H_CHECKSUM: usize = 16;
/// The largest block, and so the largest place.
pub(super) const LARGEST_PLACE: usize = 4096;
/// `s_flags`: characters are unsigned.
const UNSIGNED_CHARACTERS: u32 = 2;

/// What `h_checksum` of the block `raw` should be.
fn checksum(raw: &[u8], seed: u32) -> u32 {
    let sum = crc32c(crc32c(seed, raw.get(..H_CHECKSUM).unwrap_or_default()), &[0; 4]);
    crc32c(sum, raw.get(H_CHECKSUM.saturating_add(4)..).unwrap_or_default())
}

/// Checks the header of the block `raw`, whose checksum starts from `seed` if it has one.
pub(super) fn check_header(raw: &[u8], seed: Option<u32>) -> Result<(), AttributeFault> {
    let (magic, h_blocks) = (le32(raw, H_MAGIC), le32(raw, H_BLOCKS));
    if magic != MAGIC || h_blocks != 1 {
        return Err(AttributeFault::Header { magic, h_blocks });
    }
    if let Some(seed) = seed {
        let (stored, computed) = (le32(raw, H_CHECKSUM), checksum(raw, seed));
        if stored != computed {
            return Err(AttributeFault::Checksum { stored, computed });
        }
    }
    Ok(())
}

/// Sets the checksum of the block `raw`, if it has one.
pub(super) fn seal(raw: &mut [u8], seed: Option<u32>) {
    if let Some(seed) = seed {
        put_le32(raw, H_CHECKSUM, checksum(raw, seed));
    }
}

impl<R: Region> Volume<R> {
    /// The seed of the checksum of the attribute block `number`, if the volume has checksums.
    pub(super) fn block_seed(&self, number: u64) -> Option<u32> {
        let superblock = self.superblock();
        superblock.has_metadata_csum().then(|| crc32c(superblock.checksum_seed(), &number.to_le_bytes()))
    }

    /// Makes `change` in the block of inode `number`: in a new one if there is none, or if others share it. A block that
    /// becomes empty is given up.
    ///
    /// # Errors
    /// ENOSPC if the change does not fit, or there is no block for it; damage.
    #[inline(never)]
    pub(super) fn change_in_block(
        &mut self,
        number: u32,
        change: &Change<'_>,
        caller: Caller,
    ) -> Result<(), Error> {
        let inode = self.allocated_inode(number)?;
        let old = inode.file_acl;
        let mut copy = [0; LARGEST_PLACE];
        let copy = copy.get_mut(..self.superblock.block_size.length()).unwrap_or_default();
        if let Some(place) = self.place_in_block(&inode)? {
            slice::copy(copy, place.area);
        }
        let before = Place { area: copy, first: BLOCK_HEADER, block: old };
        if change.empties(&before) {
            return self.free_attributes(number);
        }
        if change.space_in(&before) > copy.len().saturating_sub(BLOCK_HEADER) {
            return Err(Errno::ENOSPC.into());
        }
        let is_own = old != 0 && self.references(number, old)? == 1;
        let block = if is_own {
            old
        } else {
            let goal = self.goal_for_inode(number);
            self.allocate_blocks(goal, 1, caller)?.start
        };

        let seed = self.block_seed(block);
        let signed = self.superblock.s_flags & UNSIGNED_CHARACTERS == 0;
        let target = if is_own { self.block_mut(block)? } else { self.new_block(block)? };
        target.fill(0);
        rewrite(&before, change, target, BLOCK_HEADER, Hashing::Name { signed })
            .map_err(|fault| attribute_damage(number, old, fault))?;
        let hash = {
            let entries = Place { area: target, first: BLOCK_HEADER, block }.entries();
            block_hash(entries.map(|entry| entry.e_hash))
        };
        put_le32(target, H_MAGIC, MAGIC);
        put_le32(target, H_REFCOUNT, 1);
        put_le32(target, H_BLOCKS, 1);
        put_le32(target, H_HASH, hash);
        seal(target, seed);

        if is_own {
            return Ok(());
        }
        if old != 0 {
            self.drop_reference(number, old)?;
        }
        self.refer_to_block(number, block)
    }

    /// Gives up the attributes of inode `number` that are outside of it: on its deletion. Part of an operation.
    ///
    /// # Errors
    /// Damage of the inode or the block.
    pub(in crate::ext4) fn free_attributes(&mut self, number: u32) -> Result<(), Error> {
        match self.allocated_inode(number)?.file_acl {
            0 => Ok(()),
            block => {
                self.drop_reference(number, block)?;
                self.refer_to_block(number, 0)
            }
        }
    }

    /// How many inodes refer to `block`, the attribute block of inode `number`.
    fn references(&self, number: u32, block: u64) -> Result<u32, Error> {
        let damage = |fault| attribute_damage(number, block, fault);
        if !self.holds(block, 1) {
            return Err(self.out_of_range(block));
        }
        let raw = self.block(block)?;
        check_header(raw, self.block_seed(block)).map_err(damage)?;
        match le32(raw, H_REFCOUNT) {
            0 => Err(damage(AttributeFault::NoReference)),
            references => Ok(references),
        }
    }

    /// Takes one reference of `block`, the attribute block of inode `number`, away, and frees it with the last.
    fn drop_reference(&mut self, number: u32, block: u64) -> Result<(), Error> {
        match self.references(number, block)?.saturating_sub(1) {
            0 => self.free_blocks(block, 1, Freed::Metadata),
            others => {
                let seed = self.block_seed(block);
                let raw = self.block_mut(block)?;
                put_le32(raw, H_REFCOUNT, others);
                seal(raw, seed);
                Ok(())
            }
        }
    }

    /// Makes `block` the attribute block of inode `number`, 0 for none, and counts it.
    fn refer_to_block(&mut self, number: u32, block: u64) -> Result<(), Error> {
        let sectors = u64::from(self.superblock.sectors_per_block());
        let inode = self.allocated_inode(number)?;
        let others = inode.blocks512.saturating_sub(if inode.file_acl == 0 { 0 } else { sectors });
        let blocks512 = others.saturating_add(if block == 0 { 0 } else { sectors });
        self.edit_inode(number, |inode| {
            inode.set_file_acl(block);
            inode.set_blocks512(blocks512);
            Ok(())
        })
    }
}
