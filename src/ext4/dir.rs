// SPDX-License-Identifier: MIT OR Apache-2.0

//! Directories: names to inode numbers, the parent, and reading all names in a stable order.
//!
//! A directory is a file of records (see [`super::dirent`]) in blocks, with `.` and `..` first; a large one has an
//! index ([`super::htree`]), a very small one lies in its inode.
//!
//! **Positions.** Where reading goes on is the byte offset of the next record in the directory's file. A position
//! that has become the middle of a record (its record was joined with another) means the next record: its block is
//! read from the start. In an inline directory `.` and `..` count as records of 12 bytes, as they have in a block, so
//! that a directory keeps its positions when it outgrows its inode.
//!
//! A directory without holes is what `e2fsck` makes sure of, and Linux passes over a hole in some places and
//! not in others. Here a hole is damage: it bounds the walk through a directory that claims to be huge.

use core::fmt;
use core::ops::ControlFlow;

use super::Volume;
use super::checksum::crc32c;
use super::dirent::{Record, RecordFault, Records, Rules};
use super::error::{Damage, Error};
use super::features::Compat;
use super::field::{le8, le16, le32};
use super::htree::{self, Index, IndexFault};
use super::inode::{Inode, InodeFault, InodeFlags};
use crate::fs::{DirectoryEntry, Errno, FileKind};
use crate::mem::region::Region;

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
        let found = match self.content()? {
            Content::Inline { areas: [front, rest], .. } => {
                let behind = BEHIND_DOT_DOT.saturating_add(front.len() as u64);
                match self.search(front, BEHIND_DOT_DOT, name)? {
                    Some(found) => Some(found),
                    None => self.search(rest, behind, name)?,
                }
            }
            Content::Blocks(count) if self.is_indexed() => {
                let search = |block| self.search(self.leaf(block)?, self.position(block), name);
                self.index(count).find(name, |block| self.block(block), search)?
            }
            Content::Blocks(count) => {
                let mut found = None;
                for block in 0..count {
                    found = self.search(self.leaf(block)?, self.position(block), name)?;
                    if found.is_some() {
                        break;
                    }
                }
                found
            }
        };
        let number = found.ok_or(Errno::ENOENT)?;
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
            Content::Blocks(count) => {
                let size = u64::from(self.volume.superblock().block_size);
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
            let kind = match record.kind {
                Some(kind) => kind,
                None => self.volume.inode(record.inode)?.kind,
            };
            let entry = DirectoryEntry {
                number: u64::from(record.inode),
                kind,
                next: start.saturating_add(record.end as u64),
                name: record.name,
            };
            if visit(&entry).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The inode that `name` names in `area`, which starts at `start` in the directory.
    fn search(&self, area: &'v [u8], start: u64, name: &[u8]) -> Result<Option<u32>, Error> {
        for record in self.records(area, start) {
            let record = record?;
            if record.inode != 0 && record.name == name {
                return Ok(Some(record.inode));
            }
        }
        Ok(None)
    }

    /// The records of `area`, which starts at `start` in the directory.
    fn records(&self, area: &'v [u8], start: u64) -> impl Iterator<Item = Result<Record<'v>, Error>> {
        let superblock = self.volume.superblock();
        let rules = Rules { inodes_count: superblock.s_inodes_count, file_type: superblock.has_filetype() };
        Records::new(area, rules).map(move |record| {
            record.map_err(|(offset, fault)| {
                let position = start.saturating_add(offset as u64);
                self.damage(DirectoryFault::Record { position, fault })
            })
        })
    }

    /// That the first block begins with `.`, this directory, and `..`; returns the number of the latter.
    fn check_dots(&self, area: &'v [u8]) -> Result<u32, Error> {
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
                Ok(dot_dot.inode)
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
        let size = u64::from(self.volume.superblock().block_size);
        match u32::try_from(self.inode.size / size) {
            Ok(count) if count > 0 && self.inode.size.is_multiple_of(size) => Ok(Content::Blocks(count)),
            _ => Err(self.damage(DirectoryFault::Size(self.inode.size))),
        }
    }

    /// Whether there is an index. The inode's flag means nothing on a volume without indexes.
    fn is_indexed(&self) -> bool {
        self.inode.flags.contains(InodeFlags::INDEX)
            && self.volume.superblock().compat.contains(Compat::DIR_INDEX)
    }

    fn index(&self, blocks: u32) -> Index {
        let superblock = self.volume.superblock();
        Index {
            directory: self.inode.number,
            block_size: superblock.block_size as usize,
            blocks,
            checksum_seed: superblock.has_metadata_csum().then_some(self.inode.checksum_seed),
            hash_seed: superblock.s_hash_seed,
            signed: superblock.s_flags & UNSIGNED_HASH == 0,
            large: superblock.has_large_dir(),
        }
    }

    /// Where `block` starts in the directory, in bytes.
    fn position(&self, block: u32) -> u64 {
        u64::from(block).saturating_mul(u64::from(self.volume.superblock().block_size))
    }

    /// Block `block` of the directory, as it is.
    fn block(&self, block: u32) -> Result<&'v [u8], Error> {
        let volume = self.volume;
        volume.file_block(&self.inode, block)?.ok_or_else(|| self.damage(DirectoryFault::Hole { block }))
    }

    /// Block `block`, which holds records, after a check of its checksum.
    fn leaf(&self, block: u32) -> Result<&'v [u8], Error> {
        let raw = self.block(block)?;
        if self.volume.superblock().has_metadata_csum() {
            self.check_leaf(raw).map_err(|fault| self.damage(DirectoryFault::Leaf { block, fault }))?;
        }
        Ok(raw)
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
        let (stored, computed) = (le32(tail, 8), crc32c(self.inode.checksum_seed, records));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::testing::{Image, TestVolume};
    use std::format;
    use std::vec::Vec;

    /// Blocks of 1 KiB and no checksums, so that a structure can be changed alone.
    const PLAIN: [&str; 4] = ["-b", "1024", "-O", "^metadata_csum,^uninit_bg"];

    /// A volume with the directory `d` of a few names, the offset of the directory's first block, and its inode number.
    fn volume(options: &[&str]) -> (Image, TestVolume, usize, u32) {
        let image = Image::new("1M", options, |root| {
            std::fs::create_dir(root.join("d")).unwrap();
            for name in ["one", "two", "three"] {
                std::fs::write(root.join("d").join(name), name).unwrap();
            }
        });
        let number = image.inode("/d");
        let block: usize = image.debugfs("blocks /d").split_whitespace().next().unwrap().parse().unwrap();
        let volume = image.mount();
        (image, volume, block * 1024, number)
    }

    fn directory(volume: &TestVolume, number: u32) -> Directory<'_, Vec<u8>> {
        Directory::new(volume, volume.inode(number).unwrap()).unwrap()
    }

    /// The entries from `position` on, as position behind and name.
    fn list(volume: &TestVolume, number: u32, position: u64) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let mut entries = Vec::new();
        directory(volume, number).read(position, &mut |entry| {
            entries.push((entry.next, entry.name.to_vec()));
            ControlFlow::Continue(())
        })?;
        Ok(entries)
    }

    /// All that a client can ask of a directory.
    fn ask(volume: &TestVolume, number: u32) -> [Result<(), Error>; 3] {
        let directory = directory(volume, number);
        let absent = match directory.lookup(b"absent") {
            Err(Error::Reply(Errno::ENOENT)) => Ok(()),
            other => other.map(drop),
        };
        [absent, directory.parent().map(drop), list(volume, number, 0).map(drop)]
    }

    #[test]
    fn each_damage_of_a_block_is_its_own_fault() {
        let (_image, mut volume, start, number) = volume(&PLAIN);
        let fail = |fault| Err(Damage::Directory { inode: number, fault }.into());
        let record = |position, fault| DirectoryFault::Record { position, fault };
        assert_eq!(ask(&volume, number), [Ok(()); 3]);
        // Where, what, and whether the lookup, the parent and the list see it.
        let cases: [(usize, &[u8], DirectoryFault, [bool; 3]); 6] = [
            (4, &[13], record(0, RecordFault::Unaligned { rec_len: 13 }), [true; 3]),
            (24 + 4, &[4, 0], record(24, RecordFault::Short { rec_len: 4 }), [true, false, true]),
            (24 + 8, b"/", record(24, RecordFault::NameByte { byte: b'/' }), [true, false, true]),
            (8, b"x", DirectoryFault::Dots, [false, true, true]),
            (0, &[2], DirectoryFault::Dots, [false, true, true]),
            (12, &[0, 0, 0, 0], DirectoryFault::Dots, [false, true, true]),
        ];
        for (offset, bytes, fault, seen) in cases {
            let place = start + offset..start + offset + bytes.len();
            let before = volume.region[place.clone()].to_vec();
            volume.region[place.clone()].copy_from_slice(bytes);
            let expected = seen.map(|seen| if seen { fail(fault) } else { Ok(()) });
            assert_eq!(ask(&volume, number), expected, "{fault}");
            volume.region[place].copy_from_slice(&before);
        }
        // A name that names the directory.
        volume.region[start + 24..start + 28].copy_from_slice(&number.to_le_bytes());
        let name = list(&volume, number, 24).unwrap().remove(0).1;
        assert_eq!(directory(&volume, number).lookup(&name), fail(DirectoryFault::NamesItself).map(|()| 0));
    }

    #[test]
    fn a_parent_that_is_no_directory_is_damage() {
        let (image, mut volume, start, number) = volume(&PLAIN);
        let file = image.inode("/d/one");
        volume.region[start + 12..start + 16].copy_from_slice(&file.to_le_bytes());
        let damage = Damage::Inode { inode: file, fault: InodeFault::NotDirectory };
        assert_eq!(directory(&volume, number).parent(), Err(damage.into()));
    }

    #[test]
    fn holes_and_sizes_that_cannot_be_are_damage() {
        let (image, ..) = volume(&PLAIN);
        let number = image.inode("/d");
        let fail = |fault| Err(Damage::Directory { inode: number, fault }.into());
        for size in [0, 1, 1023, 1536] {
            image.debugfs(&format!("set_inode_field /d size {size}"));
            assert_eq!(ask(&image.mount(), number), [fail(DirectoryFault::Size(size)); 3]);
        }
        image.debugfs("set_inode_field /d size 4294966272");
        let hole = fail(DirectoryFault::Hole { block: 1 });
        assert_eq!(ask(&image.mount(), number), [hole, Ok(()), hole]);
    }

    #[test]
    fn every_byte_of_a_block_with_checksums_is_covered() {
        let (_image, mut volume, start, number) = volume(&["-b", "1024"]);
        assert_eq!(ask(&volume, number), [Ok(()); 3]);
        for offset in 0..1024 {
            volume.region[start + offset] ^= 0x40;
            for answer in ask(&volume, number) {
                let Err(Error::Corrupt(Damage::Directory { inode, fault })) = answer else {
                    panic!("a change at {offset} gives {answer:?}");
                };
                assert_eq!(inode, number);
                let is_tail = (1024 - TAIL..1024 - 4).contains(&offset);
                let DirectoryFault::Leaf { block: 0, fault } = fault else { panic!("{fault}") };
                assert_eq!(fault == LeafFault::NoChecksum, is_tail, "a change at {offset}: {fault}");
            }
            volume.region[start + offset] ^= 0x40;
        }
    }

    #[test]
    fn no_byte_of_a_block_without_checksums_can_make_a_request_panic() {
        let (_image, mut volume, start, number) = volume(&PLAIN);
        for offset in 0..1024 {
            let before = volume.region[start + offset];
            for value in [0, 1, 4, 0x2f, 0x7f, 0x80, 0xff] {
                volume.region[start + offset] = value;
                for answer in ask(&volume, number) {
                    assert!(matches!(answer, Ok(()) | Err(Error::Corrupt(_))), "{value} at {offset}");
                }
            }
            volume.region[start + offset] = before;
        }
    }

    #[test]
    fn a_position_within_a_record_leads_to_the_next_one() {
        let (_image, volume, _, number) = volume(&PLAIN);
        let whole = list(&volume, number, 0).unwrap();
        assert_eq!(whole.len(), 5);
        let mut start = 0;
        for (index, (end, _)) in whole.iter().enumerate() {
            assert_eq!(list(&volume, number, start), Ok(whole[index..].to_vec()));
            for position in start + 1..=*end {
                assert_eq!(list(&volume, number, position), Ok(whole[index + 1..].to_vec()));
            }
            start = *end;
        }
        assert_eq!(list(&volume, number, u64::MAX), Ok(Vec::new()));
    }

    #[test]
    fn a_directory_keeps_its_positions_when_it_outgrows_its_inode() {
        let options = ["-b", "1024", "-O", "inline_data"];
        let (inline, block) = (
            Image::new("1M", &options, |root| fill(&root.join("d"))),
            Image::new("1M", &["-b", "1024"], |root| fill(&root.join("d"))),
        );
        fn fill(directory: &std::path::Path) {
            std::fs::create_dir(directory).unwrap();
            std::fs::write(directory.join("a-name-of-28-bytes-plus-eight"), "").unwrap();
        }
        let number = inline.inode("/d");
        let volume = inline.mount();
        assert!(volume.inode(number).unwrap().flags.contains(InodeFlags::INLINE_DATA));
        let starts = |volume: &TestVolume, number| {
            let ends: Vec<u64> = list(volume, number, 0).unwrap().iter().map(|(end, _)| *end).collect();
            [0].into_iter().chain(ends).take(3).collect::<Vec<_>>()
        };
        assert_eq!(starts(&volume, number), [0, 12, 24]);
        assert_eq!(starts(&block.mount(), block.inode("/d")), [0, 12, 24]);
        assert_eq!(list(&volume, number, 13).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let (image, volume, ..) = volume(&PLAIN);
        let inode = volume.inode(image.inode("/d/one")).unwrap();
        assert_eq!(Directory::new(&volume, inode).map(drop), Err(Errno::ENOTDIR.into()));
    }
}
