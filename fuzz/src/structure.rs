// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the structures of an ext4 volume lie, and their checksums: written from the format alone, without the core.
//!
//! A [`Layout`] is taken of a volume that is whole. Its [`resum`](Layout::resum) sets checksums right in a damaged one, too, and
//! leaves alone what has no place for a checksum any more.

use crate::checksum::{crc16, crc32c, crc32c_without, le16, le32, put};

/// Where the superblock lies.
const SUPERBLOCK: usize = 1024;
/// The root directory, the journal, and the first inode of a file.
pub const ROOT: u32 = 2;
/// The inode of the journal.
pub const JOURNAL: u32 = 8;
const FIRST: u32 = 11;

/// What a structure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The superblock.
    Superblock,
    /// A group descriptor.
    Descriptor,
    /// A bitmap of blocks.
    BlockBitmap,
    /// A bitmap of inodes.
    InodeBitmap,
    /// An inode that is in use.
    Inode,
    /// A block of a directory, with records.
    Leaf,
    /// A block of a directory's index.
    Index,
    /// A block of an extent tree.
    Extents,
    /// A block of block numbers.
    Map,
    /// A block of extended attributes.
    Attributes,
}

/// A structure.
#[derive(Debug, Clone, Copy)]
pub struct Structure {
    /// What it is.
    pub kind: Kind,
    /// Its first byte in the volume.
    pub at: usize,
    /// Its length in bytes.
    pub length: usize,
    /// The group or the inode that it is of.
    pub owner: u32,
}

/// How descriptors are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sums {
    None,
    /// Of descriptors only.
    Crc16,
    /// Of all metadata.
    Crc32c,
}

/// Where everything lies.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Bytes of a block.
    pub block_size: usize,
    /// The first block of group 0.
    pub first_block: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Blocks of a group.
    pub blocks_per_group: u64,
    /// Inodes in all.
    pub inodes: u32,
    /// Inodes of a group.
    pub inodes_per_group: u32,
    inode_size: usize,
    descriptor_size: usize,
    sums: Sums,
    seed: u32,
    uuid: [u8; 16],
    /// First byte of each group's bitmaps and inode table.
    groups: Vec<[usize; 3]>,
    /// The structures of each kind, where there are any.
    pub structures: Vec<Vec<Structure>>,
}

/// A file's blocks.
#[derive(Debug, Default)]
pub struct Blocks {
    /// Each block of content: its number in the file and in the volume.
    pub content: Vec<(u64, u64)>,
    /// Blocks of the tree or map that leads there.
    pub tree: Vec<u64>,
}

impl Layout {
    /// The layout of a volume that is whole.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn of(volume: &[u8]) -> Self {
        let sb = &volume[SUPERBLOCK..2 * SUPERBLOCK];
        let block_size = 1024_usize << le32(sb, 0x18);
        let (incompat, ro_compat) = (le32(sb, 0x60), le32(sb, 0x64));
        let uuid: [u8; 16] = sb[0x68..0x78].try_into().expect("16 bytes");
        let sums = match (ro_compat & 0x400 != 0, ro_compat & 0x10 != 0) {
            (true, _) => Sums::Crc32c,
            (false, true) => Sums::Crc16,
            (false, false) => Sums::None,
        };
        let mut layout = Self {
            block_size,
            first_block: le32(sb, 0x14).into(),
            blocks: le32(sb, 0x4).into(),
            blocks_per_group: le32(sb, 0x20).into(),
            inodes: le32(sb, 0),
            inodes_per_group: le32(sb, 0x28),
            inode_size: le16(sb, 0x58).into(),
            descriptor_size: if incompat & 0x80 != 0 { le16(sb, 0xfe).into() } else { 32 },
            sums,
            seed: if incompat & 0x2000 != 0 { le32(sb, 0x270) } else { crc32c(u32::MAX, &uuid) },
            uuid,
            groups: Vec::new(),
            structures: Vec::new(),
        };
        let groups = u32::try_from((layout.blocks - layout.first_block).div_ceil(layout.blocks_per_group));
        for group in 0..groups.expect("a number of groups") {
            let descriptor = layout.descriptor(group);
            let place = |offset| le32(volume, descriptor + offset) as usize * block_size;
            layout.groups.push([place(0), place(4), place(8)]);
        }
        layout.collect(volume);
        layout
    }

    /// First byte of a group's descriptor.
    #[must_use]
    pub fn descriptor(&self, group: u32) -> usize {
        (self.first_block as usize + 1) * self.block_size + group as usize * self.descriptor_size
    }

    /// First bytes of a group's bitmaps, of blocks and of inodes.
    #[must_use]
    pub fn bitmaps(&self, group: u32) -> (usize, usize) {
        let [blocks, inodes, _] = self.groups[group as usize];
        (blocks, inodes)
    }

    /// How many groups there are.
    #[must_use]
    pub fn group_count(&self) -> u32 {
        u32::try_from(self.groups.len()).expect("a number of groups")
    }

    /// First byte of an inode.
    #[must_use]
    pub fn inode(&self, number: u32) -> usize {
        let (group, index) = ((number - 1) / self.inodes_per_group, (number - 1) % self.inodes_per_group);
        self.groups[group as usize][2] + index as usize * self.inode_size
    }

    /// Whether an inode is in use, by its bitmap.
    #[must_use]
    pub fn is_used(&self, volume: &[u8], number: u32) -> bool {
        let (group, index) = ((number - 1) / self.inodes_per_group, (number - 1) % self.inodes_per_group);
        // The bitmap of a group with INODE_UNINIT was never written.
        if le16(volume, self.descriptor(group) + 0x12) & 1 != 0 && self.sums != Sums::None {
            return false;
        }
        let (_, bitmap) = self.bitmaps(group);
        volume[bitmap + index as usize / 8] >> (index % 8) & 1 != 0
    }

    /// The numbers of the files' inodes in use, the root among them.
    pub fn files<'v>(&'v self, volume: &'v [u8]) -> impl Iterator<Item = u32> + 'v {
        (ROOT..=self.inodes)
            .filter(|number| *number == ROOT || *number >= FIRST)
            .filter(|number| self.is_used(volume, *number))
    }

    fn add(&mut self, kind: Kind, at: usize, length: usize, owner: u32) {
        match self.structures.iter_mut().find(|of| of[0].kind == kind) {
            Some(of) => of.push(Structure { kind, at, length, owner }),
            None => self.structures.push(vec![Structure { kind, at, length, owner }]),
        }
    }

    fn collect(&mut self, volume: &[u8]) {
        let size = self.block_size;
        self.add(Kind::Superblock, SUPERBLOCK, 0x400, 0);
        for group in 0..self.group_count() {
            let (blocks, inodes) = self.bitmaps(group);
            self.add(Kind::Descriptor, self.descriptor(group), self.descriptor_size, group);
            self.add(Kind::BlockBitmap, blocks, self.blocks_per_group as usize / 8, group);
            self.add(Kind::InodeBitmap, inodes, self.inodes_per_group as usize / 8, group);
        }
        let numbers: Vec<u32> = [JOURNAL].into_iter().chain(self.files(volume)).collect();
        for number in numbers {
            let inode = self.inode(number);
            if !self.is_used(volume, number) {
                continue;
            }
            self.add(Kind::Inode, inode, self.inode_size, number);
            let blocks = self.file_blocks(volume, number);
            let tree = if is_extents(volume, inode) { Kind::Extents } else { Kind::Map };
            for block in blocks.tree {
                self.add(tree, block as usize * size, size, number);
            }
            if is_directory(volume, inode) {
                for (index, block) in blocks.content {
                    let at = block as usize * size;
                    let kind = if self.is_index(volume, inode, index, at) { Kind::Index } else { Kind::Leaf };
                    self.add(kind, at, size, number);
                }
            }
            let attributes = le32(volume, inode + 0x68) as usize;
            if attributes != 0 {
                self.add(Kind::Attributes, attributes * size, size, number);
            }
        }
        self.structures.sort_by_key(|of| of[0].kind);
    }

    /// Whether the block at `at`, number `index` of the directory, belongs to its index.
    #[must_use]
    pub fn is_index(&self, volume: &[u8], inode: usize, index: u64, at: usize) -> bool {
        let is_node = le32(volume, at) == 0 && usize::from(le16(volume, at + 4)) == self.block_size;
        le32(volume, inode + 0x20) & 0x1000 != 0 && (index == 0 || is_node)
    }

    /// The blocks of a file.
    #[must_use]
    pub fn file_blocks(&self, volume: &[u8], number: u32) -> Blocks {
        let inode = self.inode(number);
        let mut blocks = Blocks::default();
        // Devices and short symbolic links have something else there, and so has inline data.
        let kind = le16(volume, inode) >> 12;
        let is_short_link = kind == 0xa && le32(volume, inode + 4) < 60;
        let has_blocks = matches!(kind, 4 | 8 | 0xa) && !is_short_link;
        if !has_blocks || le32(volume, inode + 0x20) & 0x1000_0000 != 0 {
            return blocks;
        }
        if is_extents(volume, inode) {
            self.extents(volume, inode + 0x28, &mut blocks);
        } else {
            let mut next = 0;
            for slot in 0..15_usize {
                let depth = slot.saturating_sub(11);
                self.map(volume, le32(volume, inode + 0x28 + 4 * slot), depth, &mut next, &mut blocks);
            }
        }
        blocks
    }

    fn extents(&self, volume: &[u8], node: usize, blocks: &mut Blocks) {
        assert_eq!(le16(volume, node), 0xf30a, "an extent node");
        for entry in (0..usize::from(le16(volume, node + 2))).map(|index| node + 12 + 12 * index) {
            if le16(volume, node + 6) == 0 {
                let length = le16(volume, entry + 4);
                // Longer ones are not written yet.
                let length = u64::from(if length > 32768 { length - 32768 } else { length });
                let (first, start) = (u64::from(le32(volume, entry)), u64::from(le32(volume, entry + 8)));
                blocks.content.extend((0..length).map(|index| (first + index, start + index)));
            } else {
                let child = u64::from(le32(volume, entry + 4));
                blocks.tree.push(child);
                self.extents(volume, child as usize * self.block_size, blocks);
            }
        }
    }

    fn map(&self, volume: &[u8], block: u32, depth: usize, next: &mut u64, blocks: &mut Blocks) {
        let entries = self.block_size / 4;
        if block == 0 {
            *next += (entries as u64).pow(u32::try_from(depth).expect("at most 3"));
        } else if depth == 0 {
            blocks.content.push((*next, block.into()));
            *next += 1;
        } else {
            blocks.tree.push(block.into());
            for index in 0..entries {
                let entry = le32(volume, block as usize * self.block_size + 4 * index);
                self.map(volume, entry, depth - 1, next, blocks);
            }
        }
    }

    /// Sets the checksum of a structure right, if it has one.
    pub fn resum(&self, volume: &mut [u8], structure: Structure) {
        let Structure { kind, at, length, owner } = structure;
        if self.sums == Sums::None || (self.sums == Sums::Crc16 && kind != Kind::Descriptor) {
            return;
        }
        let block = volume[at..at + length].to_vec();
        let tail = length - 4;
        match kind {
            Kind::Superblock => put(volume, at + tail, crc32c(u32::MAX, &block[..tail]).into(), 4),
            Kind::Descriptor => {
                let number = owner.to_le_bytes();
                let sum = if self.sums == Sums::Crc16 {
                    let sum = crc16(crc16(crc16(u16::MAX, &self.uuid), &number), &block[..0x1e]);
                    crc16(sum, &block[0x20..])
                } else {
                    (crc32c_without(crc32c(self.seed, &number), &block, 0x1e, 2) & 0xffff) as u16
                };
                put(volume, at + 0x1e, sum.into(), 2);
            }
            Kind::BlockBitmap | Kind::InodeBitmap => {
                let sum = u64::from(crc32c(self.seed, &block));
                let descriptor = self.descriptor(owner);
                let (low, high) = if kind == Kind::BlockBitmap { (0x18, 0x38) } else { (0x1a, 0x3a) };
                put(volume, descriptor + low, sum, 2);
                if self.descriptor_size >= 64 {
                    put(volume, descriptor + high, sum >> 16, 2);
                }
                let length = self.descriptor_size;
                self.resum(volume, Structure { kind: Kind::Descriptor, at: descriptor, length, owner });
            }
            Kind::Inode => {
                let has_high = length > 128 && le16(&block, 0x80) >= 4;
                let mut block = block;
                put(&mut block, 0x7c, 0, 2);
                if has_high {
                    put(&mut block, 0x82, 0, 2);
                }
                let sum = u64::from(crc32c(self.inode_seed(volume, owner), &block));
                put(volume, at + 0x7c, sum, 2);
                if has_high {
                    put(volume, at + 0x82, sum >> 16, 2);
                }
            }
            Kind::Leaf => {
                let sum = crc32c(self.inode_seed(volume, owner), &block[..length - 12]);
                put(volume, at + tail, sum.into(), 4);
            }
            Kind::Index => {
                let start = if le16(&block, 4) == 12 { 0x20 } else { 8 };
                let (limit, count) = (usize::from(le16(&block, start)), usize::from(le16(&block, start + 2)));
                let (place, summed) = (start + 8 * limit, start + 8 * count);
                if place + 8 <= length && summed <= length {
                    let sum = crc32c(self.inode_seed(volume, owner), &block[..summed]);
                    let sum = crc32c(crc32c(sum, &block[place..place + 4]), &[0; 4]);
                    put(volume, at + place + 4, sum.into(), 4);
                }
            }
            Kind::Extents => {
                let place = 12 + 12 * usize::from(le16(&block, 4));
                if place + 4 <= length {
                    let sum = crc32c(self.inode_seed(volume, owner), &block[..place]);
                    put(volume, at + place, sum.into(), 4);
                }
            }
            Kind::Attributes => {
                let number = (at / self.block_size) as u64;
                let sum = crc32c_without(crc32c(self.seed, &number.to_le_bytes()), &block, 0x10, 4);
                put(volume, at + 0x10, sum.into(), 4);
            }
            Kind::Map => {}
        }
    }

    /// What the sums of an inode and its blocks start with.
    fn inode_seed(&self, volume: &[u8], number: u32) -> u32 {
        let generation = self.inode(number) + 0x64;
        crc32c(crc32c(self.seed, &number.to_le_bytes()), &volume[generation..generation + 4])
    }
}

/// Whether the inode at `inode` is mapped by extents.
fn is_extents(volume: &[u8], inode: usize) -> bool {
    le32(volume, inode + 0x20) & 0x8_0000 != 0
}

/// Whether the inode at `inode` is a directory.
#[must_use]
pub fn is_directory(volume: &[u8], inode: usize) -> bool {
    le16(volume, inode) >> 12 == 4
}
