// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changing an inode: field by field, then its checksum.
//! Field names are the format's (`struct ext4_inode`).

use super::error::Error;
use super::field::{le16, le32, put, put_le16, put_le32, put_split32, put_split64, split64};
use super::inode::{self, BLOCK_OFFSET, CHECKSUM_HI, CHECKSUM_LO, GOOD_OLD_SIZE, InodeFlags};
use super::timestamp;
use super::{Superblock, Volume};
use crate::fs::Timestamp;
use crate::mem::region::Region;

/// An inode of the running transaction. What is set is stored at once; the checksum follows when the change is over.
pub(super) struct InodeEditor<'a> {
    raw: &'a mut [u8],
}

impl<R: Region> Volume<R> {
    /// Changes inode `number` with `change`, then sets its checksum. The inode may be one that is not in use.
    ///
    /// # Errors
    /// Damage for a number that is no inode's; [`Error::TransactionFull`]; what `change` says.
    pub(super) fn edit_inode<T>(
        &mut self,
        number: u32,
        change: impl FnOnce(&mut InodeEditor<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (block, range) = self.inode_place(number)?;
        let seed = self.superblock.has_metadata_csum().then(|| self.superblock.checksum_seed());
        let block = self.block_mut(block)?;
        let mut editor = InodeEditor { raw: block.get_mut(range).unwrap_or_default() };
        let changed = change(&mut editor)?;
        if let Some(seed) = seed {
            editor.seal(seed, number);
        }
        Ok(changed)
    }
}

impl InodeEditor<'_> {
    /// The whole inode.
    pub(super) fn raw(&mut self) -> &mut [u8] {
        self.raw
    }

    /// Makes the inode a new one, in which all is 0 but the size of its extra fields and its generation.
    pub(super) fn initialize(&mut self, i_extra_isize: u16, generation: u32) {
        self.raw.fill(0);
        put_le32(self.raw, 0x64, generation);
        if self.raw.len() > GOOD_OLD_SIZE {
            put_le16(self.raw, GOOD_OLD_SIZE, i_extra_isize);
        }
    }

    /// Where the fields end that this inode has.
    fn fields_end(&self) -> usize {
        if self.raw.len() > GOOD_OLD_SIZE {
            GOOD_OLD_SIZE.saturating_add(usize::from(le16(self.raw, GOOD_OLD_SIZE))).min(self.raw.len())
        } else {
            self.raw.len()
        }
    }

    /// Those fields.
    fn fields(&mut self) -> &mut [u8] {
        let end = self.fields_end();
        self.raw.get_mut(..end).unwrap_or_default()
    }

    /// What lies between the last field and the end: the attributes within the inode.
    pub(super) fn attribute_area(&mut self) -> &mut [u8] {
        let end = self.fields_end();
        self.raw.get_mut(end..).unwrap_or_default()
    }

    pub(super) fn set_mode(&mut self, mode: u16) {
        put_le16(self.raw, 0, mode);
    }

    pub(super) fn set_uid(&mut self, uid: u32) {
        put_split32(self.raw, 0x2, 0x78, uid);
    }

    pub(super) fn set_gid(&mut self, gid: u32) {
        put_split32(self.raw, 0x18, 0x7a, gid);
    }

    pub(super) fn set_size(&mut self, size: u64) {
        put_split64(self.raw, 0x4, 0x6c, size);
    }

    pub(super) fn links(&self) -> u16 {
        le16(self.raw, 0x1a)
    }

    pub(super) fn set_links(&mut self, links: u16) {
        put_le16(self.raw, 0x1a, links);
    }

    pub(super) fn flags(&self) -> InodeFlags {
        InodeFlags::from_bits_retain(le32(self.raw, 0x20))
    }

    pub(super) fn set_flags(&mut self, flags: InodeFlags) {
        put_le32(self.raw, 0x20, flags.bits());
    }

    /// `i_dtime`: when the file was deleted; of an orphan, the number of the next one.
    pub(super) fn set_dtime(&mut self, dtime: u32) {
        put_le32(self.raw, 0x14, dtime);
    }

    /// Counts `i_version` up.
    pub(super) fn count_version(&mut self) {
        let fields = self.fields();
        // i_version_hi is a field of large inodes only.
        let version = split64(fields, 0x24, 0x98).wrapping_add(1);
        put_split64(fields, 0x24, 0x98, version);
    }

    pub(super) fn set_accessed(&mut self, time: Timestamp) {
        self.set_time(0x8, 0x8c, time);
    }

    pub(super) fn set_modified(&mut self, time: Timestamp) {
        self.set_time(0x10, 0x88, time);
    }

    pub(super) fn set_changed(&mut self, time: Timestamp) {
        self.set_time(0xc, 0x84, time);
    }

    pub(super) fn set_created(&mut self, time: Timestamp) {
        if self.fields_end() >= 0x98 {
            self.set_time(0x90, 0x94, time);
        }
    }

    fn set_time(&mut self, seconds: usize, extra: usize, time: Timestamp) {
        let fields = self.fields();
        let has_extra = fields.len() >= extra.saturating_add(4);
        let (low, high) = timestamp::encode(time, has_extra);
        put_le32(fields, seconds, low);
        put_le32(fields, extra, high);
    }

    /// Sets the space taken, in units of 512 bytes; below 2^48.
    pub(super) fn set_blocks512(&mut self, blocks: u64) {
        let flags = self.flags();
        self.set_flags(flags.difference(InodeFlags::HUGE_FILE));
        let [a, b, c, d, e, f, ..] = blocks.to_le_bytes();
        put(self.raw, 0x1c, [a, b, c, d]);
        put(self.raw, 0x74, [e, f]);
    }

    /// Sets the block of the extended attributes; 0 for none.
    pub(super) fn set_file_acl(&mut self, block: u64) {
        let [a, b, c, d, e, f, ..] = block.to_le_bytes();
        put(self.raw, 0x68, [a, b, c, d]);
        put(self.raw, 0x76, [e, f]);
    }

    /// `i_block`.
    pub(super) fn i_block(&mut self) -> &mut [u8] {
        self.raw.get_mut(BLOCK_OFFSET..BLOCK_OFFSET + 60).unwrap_or_default()
    }

    /// Sets the checksum. `seed` is the volume's.
    fn seal(&mut self, seed: u32, number: u32) {
        let end = self.fields_end();
        let generation = le32(self.raw, 0x64);
        let seed = inode::checksum_seed(seed, number, generation);
        let sum = inode::checksum(seed, self.raw, end);
        let [a, b, c, d] = sum.to_le_bytes();
        put(self.raw, CHECKSUM_LO, [a, b]);
        if end >= CHECKSUM_HI + 2 {
            put(self.raw, CHECKSUM_HI, [c, d]);
        }
    }
}

/// Whether an inode of `superblock`'s volume can hold more than 2^32 sectors or bytes: not used on volumes without the
/// features.
pub(super) fn i_extra_isize(superblock: &Superblock) -> u16 {
    if superblock.s_inode_size.length() > GOOD_OLD_SIZE { superblock.s_want_extra_isize } else { 0 }
}
