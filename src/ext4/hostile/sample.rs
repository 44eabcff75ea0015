// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sound volumes with something of everything, and where their structures lie.

use std::format;
use std::path::Path;
use std::string::String;
use std::vec::Vec;

use super::format::{self, Field};
use super::journal_format;
use super::lies::Targets;
use super::seal::{self, Seal};
use crate::ext4::checksum::crc32c;
use crate::ext4::field::{be32, bytes, le16, le32};
use crate::ext4::testing::{Image, NOON, TestVolume, pattern, set_superblock, tool};
use crate::ext4::{Volume, inode};
use crate::fs::{Caller, FileSystem, NewFile, NewKind, Node, Removal};

/// Bytes of a block of the samples that have the smallest, which are most.
pub(super) const BLOCK: usize = 1024;
/// A file that no lie but those of the superblock and the first directories is about; and what is in it.
pub(super) const HEALTHY: [&str; 2] = ["healthy", "data"];
pub(super) const HEALTHY_LENGTH: usize = 40_000;
const UUID: &str = "0c2f8f3c-52d1-4b6e-9c35-3f3e1d8a7b61";

/// A structure of a sample.
#[derive(Debug, Clone)]
pub(super) struct Structure {
    pub name: &'static str,
    pub fields: &'static [Field],
    pub big_endian: bool,
    /// Where it begins.
    pub place: usize,
    pub seal: Seal,
    /// The inode that it belongs to; 0 for none.
    pub inode: u32,
    /// Whether the healthy file is read through it.
    pub is_on_the_way: bool,
}

/// A sound volume.
pub(super) struct Sample {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub structures: Vec<Structure>,
    pub seals: seal::Volume,
    blocks: Vec<u64>,
    inodes: Vec<u64>,
}

impl Sample {
    /// What the fields of `structure` may claim.
    pub(super) fn targets(&self, structure: &Structure) -> Targets {
        Targets {
            block_size: self.seals.block_size as u64,
            own_block: (structure.place / self.seals.block_size) as u64,
            blocks: self.blocks.clone(),
            own_inode: structure.inode.into(),
            inodes: self.inodes.clone(),
        }
    }
}

/// The files of a sample with blocks of `block_size` bytes. Names are as short as they may be where their number matters.
fn fill(root: &Path, block_size: usize) {
    let write = |path: &str, content: &[u8]| std::fs::write(root.join(path), content).unwrap();
    std::fs::create_dir(root.join(HEALTHY[0])).unwrap();
    write(&HEALTHY.join("/"), &pattern(HEALTHY_LENGTH));
    write("small", b"a few bytes");
    write("plain", &pattern(5000));
    // Every second block is a hole: an extent each.
    let comb: Vec<u8> =
        (0..1400usize).flat_map(|index| std::iter::repeat_n(u8::from(index % 2 == 0), block_size)).collect();
    let file = std::fs::File::create(root.join("comb")).unwrap();
    file.set_len(comb.len() as u64).unwrap();
    for (index, piece) in comb.chunks(block_size).enumerate().step_by(2) {
        std::os::unix::fs::FileExt::write_all_at(&file, piece, (index * block_size) as u64).unwrap();
    }
    std::fs::create_dir_all(root.join("one/two/three")).unwrap();
    write("one/two/leaf", b"leaf");
    std::fs::hard_link(root.join("small"), root.join("one/linked")).unwrap();
    std::os::unix::fs::symlink("one/two", root.join("fast")).unwrap();
    std::os::unix::fs::symlink("one/".repeat(30), root.join("slow")).unwrap();
    write("attributed", b"x");
    for orphan in ["orphan1", "orphan2"] {
        write(orphan, &pattern(3000));
    }
    // Four names of this length fill a block of 1 KiB: an index of two levels needs more than 123 blocks, one of one level less. Of 4 KiB
    // blocks both have one level.
    for (directory, names) in [("many", 620), ("some", 40)] {
        std::fs::create_dir(root.join(directory)).unwrap();
        for name in 0..names {
            let name = format!("{directory}/{name:0>220}");
            std::fs::hard_link(root.join("plain"), root.join(name)).unwrap();
        }
    }
}

/// A volume of three groups, with 1 KiB blocks.
fn image(options: &[&str], extents: bool) -> Image {
    let fixed = ["-b", "1024", "-J", "size=1", "-g", "4096"];
    image_of("12M", BLOCK, &[&fixed[..], options].concat(), extents)
}

fn image_of(size: &str, block_size: usize, options: &[&str], extents: bool) -> Image {
    // Names have the same order in each, which decides what is changed of it.
    let hash_seed = format!("hash_seed={UUID}");
    let fixed = ["-N", "512", "-U", UUID, "-E", &hash_seed];
    let image = Image::new(size, &[&fixed[..], options].concat(), |root| fill(root, block_size));
    if !extents {
        let output = tool("tune2fs").args(["-O", "extents", &image.file()]).output();
        let output =
            output.unwrap_or_else(|error| panic!("tune2fs: {error} (the tests need the package e2fsprogs)"));
        assert!(output.status.success(), "{output:?}");
    }
    // Makes the indexes.
    let output = tool("e2fsck").args(["-fyD", &image.file()]).output();
    let output =
        output.unwrap_or_else(|error| panic!("e2fsck: {error} (the tests need the package e2fsprogs)"));
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    let value = "v".repeat(300);
    image.debugfs("ea_set /attributed user.small value");
    image.debugfs(&format!("ea_set /attributed user.large {value}"));
    image.debugfs("mknod pipe p");
    image
}

fn seals(bytes: &[u8]) -> seal::Volume {
    let superblock = &bytes[1024..2048];
    let uuid: [u8; 16] = bytes_at(superblock, 0x68);
    let block_size = BLOCK << le32(superblock, 0x18);
    let incompat = le32(superblock, 0x60);
    let descriptor_size = if incompat & 0x80 == 0 { 32 } else { usize::from(le16(superblock, 0xfe)) };
    let (first, blocks_per_group) = (le32(superblock, 0x14), le32(superblock, 0x20));
    let groups = (le32(superblock, 4) - first).div_ceil(blocks_per_group);
    let in_a_block = u32::try_from(block_size / descriptor_size).unwrap();
    let descriptors = (0..groups).map(|group| {
        let (block, index) = (group / in_a_block, group % in_a_block);
        let block = if incompat & 0x10 == 0 {
            first + 1 + block
        } else {
            // With meta_bg: in the first of the groups that it describes, behind a copy of the superblock.
            let group = block * in_a_block;
            first + group * blocks_per_group + u32::from(has_superblock(group))
        };
        block as usize * block_size + index as usize * descriptor_size
    });
    seal::Volume {
        block_size,
        seed: crc32c(u32::MAX, &uuid),
        journal_seed: 0,
        descriptors: descriptors.collect(),
        descriptor_size,
        inodes_per_group: le32(superblock, 0x28),
        blocks_per_group,
    }
}

/// Whether a group begins with a copy of the superblock (`sparse_super`): 0, 1, and powers of 3, 5, 7.
fn has_superblock(group: u32) -> bool {
    let is_power_of = |base: u32| (0..20).any(|exponent| base.checked_pow(exponent) == Some(group));
    group == 0 || [3, 5, 7].into_iter().any(is_power_of)
}

fn bytes_at<const N: usize>(raw: &[u8], offset: usize) -> [u8; N] {
    bytes(raw, offset)
}

/// Collects the structures of a volume.
pub(super) struct Collector {
    volume: TestVolume,
    bytes: Vec<u8>,
    seals: seal::Volume,
    summed: bool,
    structures: Vec<Structure>,
}

impl Collector {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let volume = Volume::mount(bytes.clone()).unwrap();
        let summed = volume.superblock.has_metadata_csum();
        Self { volume, seals: seals(&bytes), bytes, summed, structures: Vec::new() }
    }

    /// Of the volume that `sample` is, with a journal that is not recovered.
    pub(super) fn new_of(sample: &Sample) -> Self {
        let mut bytes = sample.bytes.clone();
        let incompat = le32(&bytes[1024..], 0x60) & !4;
        set_superblock(&mut bytes, 0x60, &incompat.to_le_bytes());
        let journal =
            sample.structures.iter().find(|structure| structure.name.starts_with("journal superblock"));
        bytes[journal.unwrap().place + 0x1c..][..4].fill(0);
        Self::new(bytes)
    }

    fn add(&mut self, name: &'static str, fields: &'static [Field], place: usize, seal: Seal, inode: u32) {
        let seal = if self.summed { seal } else { Seal::None };
        seal::check(&self.seals, &seal, &self.bytes, place, name);
        let is_on_the_way = false;
        self.structures.push(Structure {
            name,
            fields,
            big_endian: false,
            place,
            seal,
            inode,
            is_on_the_way,
        });
    }

    /// What was added last is on the way to the healthy file.
    fn on_the_way(&mut self) {
        self.structures.last_mut().unwrap().is_on_the_way = true;
    }

    pub(super) fn number(&self, path: &str) -> u32 {
        let node = path.split('/').filter(|name| !name.is_empty()).fold(self.volume.root(), |at, name| {
            self.volume.lookup(at, name.as_bytes()).unwrap_or_else(|errno| panic!("{path}: {errno:?}"))
        });
        u32::try_from(self.volume.number(node)).unwrap()
    }

    /// Where block `logical` of inode `number` lies.
    pub(super) fn block(&self, number: u32, logical: u32) -> usize {
        let inode = self.volume.allocated_inode(number).unwrap();
        let mut physical = None;
        self.volume
            .map(&inode, u64::from(logical)..u64::from(logical) + 1, &mut |run| {
                physical = run.physical;
                Ok(())
            })
            .unwrap();
        usize::try_from(physical.unwrap()).unwrap() * self.seals.block_size
    }

    /// Where the block is whose number stands at `place`.
    fn block_named_at(&self, place: usize) -> usize {
        le32(&self.bytes, place) as usize * self.seals.block_size
    }

    /// What the last 1024 bytes of the block at `place` begin with: the tables of what ends a block count from there.
    fn end_of(&self, place: usize) -> usize {
        place + self.seals.block_size - 1024
    }

    fn collect(&mut self) {
        self.add("superblock", format::SUPERBLOCK, 1024, Seal::Superblock, 0);
        self.on_the_way();
        let groups = self.seals.descriptors.len();
        // Of the first three, and of a block of descriptors that lies elsewhere.
        for group in [0, 1, 2, 32, 33].into_iter().filter(|group| *group < groups) {
            let place = self.seals.descriptors[group];
            let group = u32::try_from(group).unwrap();
            self.add("group descriptor", format::GROUP, place, Seal::Group(group), 0);
            self.on_the_way();
            if self.seals.descriptor_size >= 64 {
                self.add("group descriptor, high halves", format::GROUP_HIGH, place, Seal::Group(group), 0);
                self.on_the_way();
            }
            let (blocks, inodes) = (self.block_named_at(place), self.block_named_at(place + 4));
            // A bitmap that was never written has no checksum.
            let bg_flags = if self.summed { le16(&self.bytes, place + 0x12) } else { 0 };
            if bg_flags & 2 == 0 {
                self.add("block bitmap", format::BITMAP, blocks, Seal::BlockBitmap(group), 0);
            }
            if bg_flags & 1 == 0 {
                self.add("inode bitmap", format::BITMAP, inodes, Seal::InodeBitmap(group), 0);
            }
        }
        self.inodes();
        self.directories();
        let attributed = self.number("attributed");
        let inode = self.seals.inode(&self.bytes, attributed);
        self.add(
            "attributes in an inode",
            format::ATTRIBUTES_IN_INODE,
            inode,
            Seal::Inode(attributed),
            attributed,
        );
        let block = self.block_named_at(inode + 0x68);
        assert_ne!(block, 0, "a block of attributes");
        self.add("attribute block, header", format::ATTRIBUTE_HEADER, block, Seal::Attributes, attributed);
        self.add("attribute block, entry", format::ATTRIBUTE_ENTRY, block, Seal::Attributes, attributed);
        let slow = self.number("slow");
        self.add("long symbolic link", format::SLOW_SYMLINK, self.block(slow, 0), Seal::None, slow);
    }

    fn inodes(&mut self) {
        for (path, name) in [
            ("", "inode of the root"),
            ("plain", "inode of a file"),
            ("one", "inode of a directory"),
            ("many", "inode of a directory with an index"),
            ("slow", "inode of a symbolic link"),
            ("pipe", "inode of a pipe"),
            ("attributed", "inode with attributes"),
        ] {
            let number = self.number(path);
            let place = self.seals.inode(&self.bytes, number);
            self.add(name, format::INODE, place, Seal::Inode(number), number);
            let is_root = number == inode::ROOT;
            if is_root {
                self.on_the_way();
            }
            self.add(name, format::INODE_EXTRA, place, Seal::Inode(number), number);
            if is_root {
                self.on_the_way();
            }
        }
        let journal = self.volume.superblock.s_journal_inum;
        let place = self.seals.inode(&self.bytes, journal);
        self.add("inode of the journal", format::INODE, place, Seal::Inode(journal), journal);
        self.on_the_way();
        let fast = self.number("fast");
        let place = self.seals.inode(&self.bytes, fast);
        self.add("short symbolic link", format::FAST_SYMLINK, place, Seal::Inode(fast), fast);

        for (path, name) in [("plain", "extents in an inode"), ("one", "extents of a directory")] {
            let number = self.number(path);
            let place = self.seals.inode(&self.bytes, number) + inode::BLOCK_OFFSET;
            if le16(&self.bytes, place) == 0xf30a {
                self.add(name, format::EXTENT_HEADER, place, Seal::Inode(number), number);
                self.add(name, format::EXTENT_LEAF, place, Seal::Inode(number), number);
            }
        }
        let comb = self.number("comb");
        let mut place = self.seals.inode(&self.bytes, comb) + inode::BLOCK_OFFSET;
        if le16(&self.bytes, place) != 0xf30a {
            let inode = place - inode::BLOCK_OFFSET;
            self.add("block map", format::BLOCK_MAP, inode, Seal::Inode(comb), comb);
            for (slot, name) in [(12, "indirect block"), (13, "double indirect block")] {
                let block = self.block_named_at(place + slot * 4);
                self.add(name, format::INDIRECT, block, Seal::None, comb);
            }
            return;
        }
        let levels: &[(u16, &str)] = if self.seals.block_size == BLOCK {
            &[(2, "extent tree, root"), (1, "extent tree, index block"), (0, "extent tree, leaf block")]
        } else {
            &[(1, "extent tree, root"), (0, "extent tree, leaf block")]
        };
        for (position, &(depth, name)) in levels.iter().enumerate() {
            assert_eq!(le16(&self.bytes, place + 6), depth, "of the tree");
            let seal = || if position == 0 { Seal::Inode(comb) } else { Seal::ExtentNode(comb) };
            self.add(name, format::EXTENT_HEADER, place, seal(), comb);
            let entries = if depth > 0 { format::EXTENT_INDEX } else { format::EXTENT_LEAF };
            self.add(name, entries, place, seal(), comb);
            if position > 0 {
                self.add(name, format::EXTENT_TAIL, self.end_of(place), seal(), comb);
            }
            place = self.block_named_at(place + 0x10);
        }
    }

    fn directories(&mut self) {
        for (path, name) in [("", "root directory"), ("one", "directory")] {
            let number = self.number(path);
            let place = self.block(number, 0);
            for (fields, place) in [(format::DIRECTORY, place), (format::DIRECTORY_TAIL, self.end_of(place))]
            {
                if fields == format::DIRECTORY_TAIL && !self.summed {
                    continue;
                }
                self.add(name, fields, place, Seal::Records(number), number);
                if number == inode::ROOT {
                    self.on_the_way();
                }
            }
        }
        for (path, levels) in [("some", 0), ("many", u8::from(self.seals.block_size == BLOCK))] {
            let number = self.number(path);
            let mut place = self.block(number, 0);
            assert_eq!(self.bytes[place + 0x1e], levels, "of the index");
            self.add("index, root", format::INDEX_ROOT, place, Seal::IndexRoot(number), number);
            self.add("index, root", format::INDEX_TAIL, self.end_of(place), Seal::IndexRoot(number), number);
            let mut below = le32(&self.bytes, place + 0x24);
            if levels == 1 {
                place = self.block(number, below);
                self.add("index, node", format::INDEX_NODE, place, Seal::IndexNode(number), number);
                self.add(
                    "index, node",
                    format::INDEX_TAIL,
                    self.end_of(place),
                    Seal::IndexNode(number),
                    number,
                );
                below = le32(&self.bytes, place + 0xc);
            }
            place = self.block(number, below);
            self.add("leaf of an index", format::DIRECTORY, place, Seal::Records(number), number);
        }
    }

    /// The blocks that the journal has, in order.
    pub(super) fn journal(&self) -> Vec<usize> {
        let journal = self.volume.superblock.s_journal_inum;
        (0..1024).map(|logical| self.block(journal, logical)).collect()
    }

    fn finish(self, name: &'static str) -> Sample {
        let descriptor = |field| u64::from(le32(&self.bytes, self.seals.descriptors[0] + field));
        let [inode_count, count] = [0, 4].map(|field| u64::from(le32(&self.bytes, 1024 + field)));
        let block_size = self.seals.block_size;
        let journal = self.journal();
        let healthy = self.number(&HEALTHY.join("/"));
        let blocks = std::vec![
            2,
            3,
            descriptor(0),
            descriptor(4),
            descriptor(8),
            descriptor(8) + 5,
            (journal[0] / block_size) as u64,
            (journal[9] / block_size) as u64,
            (self.block(healthy, 3) / block_size) as u64,
            (self.block(inode::ROOT, 0) / block_size) as u64,
            u64::from(self.seals.blocks_per_group) + 1,
            count - 1,
            count,
            count + 1,
        ];
        let one = u64::from(self.number("one"));
        let inodes = std::vec![
            2,
            7,
            8,
            11,
            one,
            u64::from(self.number("one/two")),
            u64::from(healthy),
            u64::from(self.number("fast")),
            inode_count - 12,
            inode_count,
            inode_count + 1,
        ];
        Sample { name, bytes: self.bytes, structures: self.structures, seals: self.seals, blocks, inodes }
    }
}

/// All that a volume can have today.
pub(super) fn with_checksums() -> Sample {
    with_orphans(&image(&[], true), "with checksums")
}

/// The same with blocks of 4 KiB: the superblock lies within a block, and the descriptors in the next.
pub(super) fn with_4_kib_blocks() -> Sample {
    let image = image_of("16M", 4096, &["-b", "4096", "-J", "size=4", "-g", "1536"], true);
    with_orphans(&image, "with 4 KiB blocks")
}

/// The same with meta_bg: the descriptors lie in the groups that they describe. They are short ones, without 64bit.
pub(super) fn with_meta_bg() -> Sample {
    let fixed = ["-b", "1024", "-J", "size=1", "-g", "256"];
    let image = image_of("12M", BLOCK, &[&fixed[..], &["-O", "meta_bg,^resize_inode,^64bit"]].concat(), true);
    let sample = with_orphans(&image, "with meta_bg");
    let second = sample.seals.descriptors[32] / BLOCK;
    assert!(second > 32 * 256, "the second block of descriptors is block {second}");
    sample
}

/// A sample of a volume with extents and checksums, two inodes of which are on the list of orphans.
fn with_orphans(image: &Image, name: &'static str) -> Sample {
    let numbers = ["/orphan1", "/orphan2"].map(|path| image.inode(path));
    image.debugfs("unlink /orphan1");
    let mut collector = Collector::new(image.bytes());
    // The first orphan has lost its name; the second still has one, and is being truncated.
    for (number, next, links) in [(numbers[0], numbers[1], 0u8), (numbers[1], 0, 1)] {
        let place = collector.seals.inode(&collector.bytes, number);
        collector.bytes[place + 0x14..][..4].copy_from_slice(&next.to_le_bytes());
        collector.bytes[place + 0x1a] = links;
        collector.seals.apply(&Seal::Inode(number), &mut collector.bytes, place);
        let bytes = collector.bytes.clone();
        collector.volume = Volume::mount(bytes).unwrap();
        collector.add("inode of an orphan", format::INODE, place, Seal::Inode(number), number);
    }
    set_superblock(&mut collector.bytes, 0xe8, &numbers[0].to_le_bytes());
    collector.collect();
    let journal = collector.journal()[0];
    collector.add(
        "journal superblock",
        journal_format::JOURNAL_SUPERBLOCK,
        journal,
        Seal::None,
        collector.volume.superblock.s_journal_inum,
    );
    big_endian(&mut collector);
    collector.finish(name)
}

/// A volume that once was ext3: block maps, no checksums.
pub(super) fn without_checksums() -> Sample {
    let image = image(&["-t", "ext3", "-I", "256"], false);
    let mut collector = Collector::new(image.bytes());
    collector.collect();
    collector.finish("without checksums")
}

/// The structures that were added last are big-endian, and on the way.
fn big_endian(collector: &mut Collector) {
    let last = collector.structures.last_mut().unwrap();
    last.big_endian = true;
    last.is_on_the_way = true;
}

/// The positions of the headers of the log in `positions`, which begins with the journal's superblock: block type by position.
fn headers(bytes: &[u8], positions: &[usize]) -> Vec<(usize, u32)> {
    let header = |(index, at): (usize, &usize)| {
        (be32(bytes, *at) == 0xc03b_3998).then(|| (index, be32(bytes, at + 4)))
    };
    positions.iter().enumerate().skip(1).filter_map(header).collect()
}

/// A volume with a journal that Linux left (as `debugfs` writes it): version 3 of the checksums.
pub(super) fn with_a_journal_of_linux() -> Sample {
    let image = image(&[], true);
    let content: String = image.file() + "-content";
    std::fs::write(&content, [0xd1; 3 * BLOCK]).unwrap();
    let journal = Collector::new(image.bytes());
    let positions = journal.journal();
    image.debugfs_script(&[
        "journal_open -c -v 3",
        &format!("journal_write -b 11901,11902,11903 {content}"),
        "journal_write -r 11903",
        &format!("journal_write -b 11904 {content}"),
        "journal_close",
    ]);
    let mut collector = journal;
    collector.bytes = image.bytes();
    let uuid: [u8; 16] = bytes_at(&collector.bytes, positions[0] + 0x30);
    collector.seals.journal_seed = crc32c(u32::MAX, &uuid);
    let inode = collector.volume.superblock.s_journal_inum;
    collector.add(
        "journal superblock, version 3",
        journal_format::JOURNAL_SUPERBLOCK,
        positions[0],
        Seal::JournalSuperblock,
        inode,
    );
    big_endian(&mut collector);
    for (position, kind) in headers(&collector.bytes.clone(), &positions) {
        let (name, fields, seal) = match kind {
            1 => ("descriptor block, version 3", journal_format::DESCRIPTOR_V3, Seal::JournalTail),
            2 => ("commit block, version 3", journal_format::COMMIT, Seal::JournalCommit),
            _ => ("revoke block, version 3", journal_format::REVOKE, Seal::JournalTail),
        };
        collector.add(name, fields, positions[position], seal, inode);
        big_endian(&mut collector);
    }
    collector.finish("with a journal of Linux")
}

/// A volume whose server was killed: a journal of version 1 with several transactions, and a kept superblock.
pub(super) fn after_a_kill() -> Sample {
    let image = image(&[], true);
    let mut collector = Collector::new(image.bytes());
    let mut volume = Volume::mount_writable(image.bytes(), || NOON).unwrap();
    let root = volume.root();
    let new = NewFile { kind: NewKind::Directory, mode: 0o755, uid: 0, gid: 0 };
    let mut made: Vec<Node> = Vec::new();
    for name in [&b"a"[..], b"b", b"c"] {
        made.push(volume.create(Caller::ROOT, root, name, &new).unwrap());
        volume.commit().unwrap();
    }
    volume.remove(root, b"b", Removal::Directory).unwrap();
    volume.commit().unwrap();
    collector.bytes = volume.region.clone();
    let positions = collector.journal();
    let inode = collector.volume.superblock.s_journal_inum;
    let found = headers(&collector.bytes.clone(), &positions);
    collector.add(
        "journal superblock, version 1",
        journal_format::JOURNAL_SUPERBLOCK,
        positions[0],
        Seal::None,
        inode,
    );
    big_endian(&mut collector);
    // A transaction here has one descriptor block, at its start.
    let mut start = None;
    for (index, (position, kind)) in found.iter().enumerate() {
        if *kind == 1 {
            start = Some(index);
        }
        let Some(first) = start else { continue };
        let commit = found[first..].iter().find(|(_, kind)| *kind == 2).map(|(position, _)| *position);
        let revoke = found[first..].iter().find(|(_, kind)| *kind == 5).map(|(position, _)| *position);
        let Some(commit) = commit else { continue };
        let end = revoke.filter(|revoke| *revoke < commit).unwrap_or(commit);
        let covered = (found[first].0..end).map(|position| positions[position]).collect();
        let seal = Seal::Transaction(covered, positions[commit]);
        let (name, fields, seal) = match kind {
            1 => ("descriptor block, version 1", journal_format::DESCRIPTOR_V1, seal),
            2 => ("commit block, version 1", journal_format::COMMIT, Seal::None),
            _ => ("revoke block, version 1", &journal_format::REVOKE[..5], Seal::None),
        };
        collector.add(name, fields, positions[*position], seal, inode);
        big_endian(&mut collector);
    }
    collector.finish("after a kill")
}
