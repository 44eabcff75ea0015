// SPDX-License-Identifier: MIT OR Apache-2.0

//! Directories: names to inode numbers, the parent, and reading all names in a stable order.
//!
//! A directory is a file of records (see [`super::dirent`]) in blocks, with `.` and `..` first; a large one has an
//! index ([`super::htree`]), a very small one lies in its inode.
//!
//! **Positions.** Where reading goes on is a number that stays valid while names come and go. A directory that has an
//! index, or may get one, is read in the order of its names' hashes, and positions are hashes: see [`order`]. Any other
//! keeps its records where they are, and a position is the byte offset of the next record; one that has become the
//! middle of a record (its record was joined with another) means the next record: its block is read from the start. In
//! an inline directory `.` and `..` count as records of 12 bytes, as they have in a block.
//!
//! A directory without holes is what `e2fsck` makes sure of, and Linux passes over a hole in some places and
//! not in others. Here a hole is damage: it bounds the walk through a directory that claims to be huge.

mod fault;
mod insert;
mod leaf;
mod order;
mod remove;
mod split;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod write_tests;

use core::ops::ControlFlow;

pub use fault::{DirectoryFault, LeafFault};

use super::Volume;
use super::checksum::crc32c;
use super::dirent::{Record, RecordFault, Records, Rules};
use super::error::{Damage, Error};
use super::features::Compat;
use super::field::{le8, le16, le32};
use super::hash::{HashFunction, NameHash};
use super::htree::{self, Index};
use super::inode::{Inode, InodeFault, InodeFlags};
use super::verified::Kind;
use crate::fs::{DirectoryEntry, Errno, FileKind};
use crate::mem::region::Region;
use leaf::MOST_RECORDS;

/// `ext4_dir_entry_tail`: an unused record of this length at the end of a block, with its checksum.
const TAIL: usize = 12;
/// `det_reserved_ft`: what marks it.
const TAIL_FILE_TYPE: u8 = 0xde;
/// `s_flags`: the volume's names are hashed as unsigned bytes.
const UNSIGNED_HASH: u32 = 0x2;
/// In an inline directory the number of the parent comes first, in place of `.` and `..`.
const INLINE_PARENT: usize = 4;
/// The positions behind `.` and behind `..` in an inline directory.
const BEHIND_DOT: u64 = 12;
const BEHIND_DOT_DOT: u64 = 24;

/// What is called by each request: sees only what its visitor needs.
pub(super) type Visit<'a> = dyn FnMut(&DirectoryEntry<'_>) -> ControlFlow<()> + 'a;

/// A directory of a volume.
#[derive(Debug)]
pub(super) struct Directory<'v, R: Region> {
    volume: &'v Volume<R>,
    inode: Inode<'v>,
}

/// The record of a name.
struct Place<'v> {
    /// Which block of the directory it is in.
    block: u32,
    /// Which block of the volume that is.
    physical: u64,
    /// Where the record in front of it in its block starts; `None` for the first.
    previous: Option<usize>,
    record: Record<'v>,
}

/// Where the records are.
enum Content<'v> {
    /// In the inode: the number of the parent, then records in two areas.
    Inline { parent: u32, areas: [&'v [u8]; 2] },
    /// In so many blocks.
    Blocks(u32),
}

impl<'v, R: Region> Directory<'v, R> {
    /// `inode` as a directory.
    ///
    /// # Errors
    /// ENOTDIR.
    pub(super) fn new(volume: &'v Volume<R>, inode: Inode<'v>) -> Result<Self, Error> {
        if inode.kind == FileKind::Directory {
            Ok(Self { volume, inode })
        } else {
            Err(Errno::ENOTDIR.into())
        }
    }

    /// The number of the inode that `name` names; neither `.` nor `..`.
    ///
    /// # Errors
    /// ENOENT; damage.
    pub(super) fn lookup(&self, name: &[u8]) -> Result<u32, Error> {
        self.lookup_in_block(name).map(|(number, _)| number)
    }

    /// As [`lookup`](Self::lookup), with the block of the volume that the record of `name` lies in.
    pub(super) fn lookup_in_block(&self, name: &[u8]) -> Result<(u32, u64), Error> {
        let (number, block) = match self.content()? {
            Content::Inline { areas: [front, rest], .. } => {
                let behind = BEHIND_DOT_DOT.saturating_add(front.len() as u64);
                let found = match self.search(front, BEHIND_DOT_DOT, name)? {
                    Some((_, found)) => Some(found),
                    None => self.search(rest, behind, name)?.map(|(_, found)| found),
                };
                (found.ok_or(Errno::ENOENT)?.inode, self.inode.block)
            }
            Content::Blocks(count) => {
                let place = self.locate(count, name)?;
                (place.record.inode, place.physical)
            }
        };
        Ok((self.check_named(number)?, block))
    }

    /// The record of `name` in the directory's `count` blocks.
    fn locate(&self, count: u32, name: &[u8]) -> Result<Place<'v>, Error> {
        let search = |block| {
            let (physical, raw) = self.leaf_in_block(block)?;
            let found = self.search(raw, self.position(block), name)?;
            Ok(found.map(|(previous, record)| Place { block, physical, previous, record }))
        };
        let mut found = None;
        if self.is_indexed() {
            found = self.index(count).find(name, |block| self.block(block), search)?;
        } else {
            for block in 0..count {
                found = search(block)?;
                if found.is_some() {
                    break;
                }
            }
        }
        Ok(found.ok_or(Errno::ENOENT)?)
    }

    /// `number`, unless it is what no name but `.` may refer to.
    fn check_named(&self, number: u32) -> Result<u32, Error> {
        if number == self.inode.number {
            return Err(self.damage(DirectoryFault::NamesItself));
        }
        Ok(number)
    }

    /// The number of the directory that this one is in; the root is in itself.
    pub(super) fn parent(&self) -> Result<u32, Error> {
        let parent = match self.content()? {
            Content::Inline { parent, .. } => parent,
            Content::Blocks(count) => self.check_dots(self.linear_block(0, count)?)?,
        };
        let inode = self.volume.inode(parent)?;
        if inode.kind != FileKind::Directory {
            return Err(Damage::Inode { inode: parent, fault: InodeFault::NotDirectory }.into());
        }
        Ok(parent)
    }

    /// Shows the records from `position` on to `visit`, until it breaks.
    pub(super) fn read(&self, position: u64, visit: &mut Visit<'_>) -> Result<(), Error> {
        match self.content()? {
            Content::Inline { parent, areas } => self.read_inline(parent, areas, position, visit),
            Content::Blocks(count) if self.is_hash_ordered(count) => {
                self.read_in_hash_order::<MOST_RECORDS>(count, position, visit)
            }
            Content::Blocks(count) => {
                let size = self.volume.superblock().block_size;
                // A position beyond the last block is beyond every record.
                let first = u32::try_from(position / size).unwrap_or(u32::MAX);
                for block in first..count {
                    let area = self.linear_block(block, count)?;
                    if block == 0 {
                        self.check_dots(area)?;
                    }
                    if self.show(area, self.position(block), position, visit)?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    fn read_inline(
        &self,
        parent: u32,
        areas: [&'v [u8]; 2],
        position: u64,
        visit: &mut Visit<'_>,
    ) -> Result<(), Error> {
        let dots =
            [(0, self.inode.number, BEHIND_DOT, &b"."[..]), (BEHIND_DOT, parent, BEHIND_DOT_DOT, b"..")];
        for (start, number, next, name) in dots {
            let (number, kind) = (u64::from(number), FileKind::Directory);
            if start >= position && visit(&DirectoryEntry { number, kind, next, name }).is_break() {
                return Ok(());
            }
        }
        let mut start = BEHIND_DOT_DOT;
        for area in areas {
            if self.show(area, start, position, visit)?.is_break() {
                break;
            }
            start = start.saturating_add(area.len() as u64);
        }
        Ok(())
    }

    /// Shows the used records of `area`, which starts at `start`, from `position` on.
    fn show(
        &self,
        area: &'v [u8],
        start: u64,
        position: u64,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, Error> {
        for record in self.records(area, start) {
            let record = record?;
            if record.inode == 0 || start.saturating_add(record.start as u64) < position {
                continue;
            }
            let entry = self.entry(&record, start.saturating_add(record.end as u64))?;
            if visit(&entry).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The used `record` as an entry, behind which reading goes on at `next`.
    fn entry(&self, record: &Record<'v>, next: u64) -> Result<DirectoryEntry<'v>, Error> {
        let kind = match record.kind {
            Some(kind) => kind,
            None => self.volume.inode(record.inode)?.kind,
        };
        Ok(DirectoryEntry { number: u64::from(record.inode), kind, next, name: record.name })
    }

    /// The record of `name` in `area`, which starts at `start` in the directory, and where the one in front of it starts.
    fn search(
        &self,
        area: &'v [u8],
        start: u64,
        name: &[u8],
    ) -> Result<Option<(Option<usize>, Record<'v>)>, Error> {
        let mut previous = None;
        for record in self.records(area, start) {
            let record = record?;
            if record.inode != 0 && record.name == name {
                return Ok(Some((previous, record)));
            }
            previous = Some(record.start);
        }
        Ok(None)
    }

    /// The records of `area`, which starts at `start` in the directory.
    fn records(&self, area: &'v [u8], start: u64) -> impl Iterator<Item = Result<Record<'v>, Error>> {
        Records::new(area, self.rules())
            .map(move |record| record.map_err(|(offset, fault)| self.record_damage(start, offset, fault)))
    }

    /// The damage of the record at `offset` of an area that starts at `start` in the directory.
    fn record_damage(&self, start: u64, offset: usize, fault: RecordFault) -> Error {
        let position = start.saturating_add(offset as u64);
        self.damage(DirectoryFault::Record { position, fault })
    }

    fn rules(&self) -> Rules {
        let superblock = self.volume.superblock();
        Rules { inodes_count: superblock.s_inodes_count, file_type: superblock.has_filetype() }
    }

    /// That the first block begins with `.`, this directory, and `..`; returns the number of the latter.
    fn check_dots(&self, area: &'v [u8]) -> Result<u32, Error> {
        Ok(self.dots(area)?.inode)
    }

    /// The record of `..` in the first block, after a check of both.
    fn dots(&self, area: &'v [u8]) -> Result<Record<'v>, Error> {
        let mut records = self.records(area, 0);
        let dot = records.next().transpose()?;
        let dot_dot = records.next().transpose()?;
        match (dot, dot_dot) {
            (Some(dot), Some(dot_dot))
                if dot.name == b"."
                    && dot.inode == self.inode.number
                    && dot_dot.name == b".."
                    && dot_dot.inode != 0 =>
            {
                Ok(dot_dot)
            }
            _ => Err(self.damage(DirectoryFault::Dots)),
        }
    }

    fn content(&self) -> Result<Content<'v>, Error> {
        if self.inode.flags.contains(InodeFlags::INLINE_DATA) {
            let [front, rest] = self.volume.inline_content(&self.inode)?;
            let Some(front) = front.get(INLINE_PARENT..).filter(|_| front.len() == self.inode.i_block.len())
            else {
                return Err(self.damage(DirectoryFault::Size(self.inode.size)));
            };
            return Ok(Content::Inline { parent: le32(self.inode.i_block, 0), areas: [front, rest] });
        }
        let size = self.volume.superblock().block_size;
        match u32::try_from(self.inode.size / size) {
            Ok(count) if count > 0 && size.divides(self.inode.size) => Ok(Content::Blocks(count)),
            _ => Err(self.damage(DirectoryFault::Size(self.inode.size))),
        }
    }

    /// Whether there is an index. The inode's flag means nothing on a volume without indexes.
    fn is_indexed(&self) -> bool {
        self.inode.flags.contains(InodeFlags::INDEX)
            && self.volume.superblock().compat.contains(Compat::DIR_INDEX)
    }

    /// Whether the directory, of so many blocks, is read in the order of hashes.
    fn is_hash_ordered(&self, blocks: u32) -> bool {
        self.volume.superblock().compat.contains(Compat::DIR_INDEX) && (blocks == 1 || self.is_indexed())
    }

    /// How the names of a directory are hashed that has no index yet.
    fn names(&self) -> NameHash {
        let superblock = self.volume.superblock();
        // Linux does not mount a volume whose default is no function; nobody relies on what it means then.
        let function =
            HashFunction::from_version(superblock.s_def_hash_version).unwrap_or(HashFunction::HalfMd4);
        NameHash { function, signed: superblock.s_flags & UNSIGNED_HASH == 0, seed: superblock.s_hash_seed }
    }

    fn index(&self, blocks: u32) -> Index {
        let superblock = self.volume.superblock();
        Index {
            directory: self.inode.number,
            block_size: superblock.block_size.length(),
            blocks,
            checksum_seed: superblock.has_metadata_csum().then(|| self.inode.checksum_seed()),
            hash_seed: superblock.s_hash_seed,
            signed: superblock.s_flags & UNSIGNED_HASH == 0,
            large: superblock.has_large_dir(),
        }
    }

    /// Where `block` starts in the directory, in bytes.
    fn position(&self, block: u32) -> u64 {
        u64::from(block).saturating_mul(u64::from(self.volume.superblock().block_size))
    }

    /// The block of the volume that holds block `block` of the directory.
    fn physical(&self, block: u32) -> Result<u64, Error> {
        let first = u64::from(block);
        let mut physical = None;
        self.volume.map(&self.inode, first..first.saturating_add(1), &mut |run| {
            physical = run.physical;
            Ok(())
        })?;
        physical.ok_or_else(|| self.damage(DirectoryFault::Hole { block }))
    }

    /// Block `block` of the directory, as it is.
    fn block(&self, block: u32) -> Result<&'v [u8], Error> {
        let volume = self.volume;
        volume.file_block(&self.inode, block)?.ok_or_else(|| self.damage(DirectoryFault::Hole { block }))
    }

    /// Block `block`, which holds records, after a check of its checksum.
    fn leaf(&self, block: u32) -> Result<&'v [u8], Error> {
        self.leaf_in_block(block).map(|(_, raw)| raw)
    }

    /// As [`leaf`](Self::leaf), with the block of the volume that it lies in.
    fn leaf_in_block(&self, block: u32) -> Result<(u64, &'v [u8]), Error> {
        let physical = self.physical(block)?;
        let raw = self.volume.block(physical)?;
        let verified = &self.volume.verified;
        if self.volume.superblock().has_metadata_csum()
            && !verified.has_owned(Kind::Records, physical, self.inode.node())
        {
            self.check_leaf(raw).map_err(|fault| self.damage(DirectoryFault::Leaf { block, fault }))?;
            verified.note_owned(Kind::Records, physical, self.inode.node());
        }
        Ok((physical, raw))
    }

    fn check_leaf(&self, raw: &[u8]) -> Result<(), LeafFault> {
        let (records, tail) = raw.split_last_chunk::<TAIL>().ok_or(LeafFault::NoChecksum)?;
        let is_tail = le32(tail, 0) == 0
            && usize::from(le16(tail, 4)) == TAIL
            && le8(tail, 6) == 0
            && le8(tail, 7) == TAIL_FILE_TYPE;
        if !is_tail {
            return Err(LeafFault::NoChecksum);
        }
        let (stored, computed) = (le32(tail, 8), crc32c(self.inode.checksum_seed(), records));
        if stored == computed { Ok(()) } else { Err(LeafFault::Checksum { stored, computed }) }
    }

    /// Block `block` for a walk through all blocks: of an index block, which shows no names but `.` and `..`, the
    /// checksum is another.
    fn linear_block(&self, block: u32, count: u32) -> Result<&'v [u8], Error> {
        let raw = self.block(block)?;
        let is_index = self.is_indexed() && (block == 0 || htree::is_node(raw));
        if !is_index {
            return self.leaf(block);
        }
        if self.volume.superblock().has_metadata_csum() {
            self.index(count).check_block(raw, block)?;
        }
        Ok(raw)
    }

    fn damage(&self, fault: DirectoryFault) -> Error {
        Damage::Directory { inode: self.inode.number, fault }.into()
    }
}
