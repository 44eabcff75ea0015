// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attacks on the structure of a volume, by name.

use std::collections::BTreeMap;
use std::string::String;
use std::sync::OnceLock;
use std::vec::Vec;

use super::judge::{Expectation, Verdict, judge, take_logged};
use super::region::Guarded;
use super::sample::{self, BLOCK, Collector, Sample};
use super::seal::Seal;
use crate::ext4::field::{be32, le16, le32, put_be32, put_le16, put_le32};
use crate::ext4::testing::{Image, NOON, pattern, read, tool};
use crate::ext4::{Volume, inode};
use crate::fs::{Caller, Errno, FileSystem, NewFile, NewKind, Node, Position};

const FILE: NewFile<'static> = NewFile { kind: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };

fn sound() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(sample::with_checksums)
}

/// A volume that is being damaged: what is changed has a right checksum again.
struct Victim {
    map: Collector,
    bytes: Vec<u8>,
}

impl Victim {
    fn new() -> Self {
        let bytes = sound().bytes.clone();
        Self { map: Collector::new(bytes.clone()), bytes }
    }

    fn number(&self, path: &str) -> u32 {
        self.map.number(path)
    }

    /// Where block `logical` of `path` lies.
    fn block(&self, path: &str, logical: u32) -> usize {
        self.map.block(self.number(path), logical)
    }

    /// Where the inode of `path` lies.
    fn inode(&self, path: &str) -> usize {
        sound().seals.inode(&self.bytes, self.number(path))
    }

    fn seal(&mut self, seal: &Seal, place: usize) {
        sound().seals.apply(seal, &mut self.bytes, place);
    }

    fn seal_inode(&mut self, path: &str) {
        let place = self.inode(path);
        self.seal(&Seal::Inode(self.number(path)), place);
    }

    /// Sets 32 bits at `offset` of the inode of `path`.
    fn set_inode(mut self, path: &str, offset: usize, value: u32) -> Self {
        let place = self.inode(path) + offset;
        put_le32(&mut self.bytes, place, value);
        self.seal_inode(path);
        self
    }

    /// Sets 16 bits there.
    fn set_inode_16(mut self, path: &str, offset: usize, value: u16) -> Self {
        let place = self.inode(path) + offset;
        put_le16(&mut self.bytes, place, value);
        self.seal_inode(path);
        self
    }

    /// Where the record of `name` in the directory `path` begins.
    fn record(&self, path: &str, name: &str) -> usize {
        let start = self.block(path, 0);
        let mut at = start;
        while self.bytes[at + 8..].get(..name.len()) != Some(name.as_bytes()) {
            at += usize::from(le16(&self.bytes, at + 4));
            assert!(at < start + BLOCK, "{name} is in {path}");
        }
        at
    }

    /// Judges the volume; what it was found to be.
    fn verdict(&self) -> Verdict {
        self.judged(true).0
    }

    fn judged(&self, healthy: bool) -> (Verdict, Option<Vec<u8>>) {
        judge(&self.bytes, Expectation { healthy, replayed: false }).unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// What the reading of `path` answers.
    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let volume = Volume::mount(self.bytes.clone()).unwrap();
        read(&volume, self.number(path), 0, 10_000)
    }
}

#[test]
fn an_index_block_that_points_at_itself_or_above_is_damage() {
    let victim = Victim::new();
    let comb = victim.number("comb");
    let root = victim.inode("comb") + inode::BLOCK_OFFSET;
    let index = le32(&victim.bytes, root + 0x10) as usize * BLOCK;
    let mut itself = victim;
    put_le32(&mut itself.bytes, index + 0x10, u32::try_from(index / BLOCK).unwrap());
    itself.seal(&Seal::ExtentNode(comb), index);
    assert_eq!(itself.read("comb"), Err(Errno::EUCLEAN));
    assert_eq!(itself.verdict(), Verdict::Errors);

    let mut twice = Victim::new();
    let leaf = le32(&twice.bytes, index + 0x10);
    put_le32(&mut twice.bytes, index + 0x1c, leaf);
    twice.seal(&Seal::ExtentNode(comb), index);
    assert_eq!(twice.verdict(), Verdict::Errors, "a leaf in two places");
}

#[test]
fn extents_that_overlap_or_go_backwards_are_damage() {
    for second in [0u32, 1] {
        let mut victim = Victim::new();
        let comb = victim.number("comb");
        let root = victim.inode("comb") + inode::BLOCK_OFFSET;
        let index = le32(&victim.bytes, root + 0x10) as usize * BLOCK;
        let leaf = le32(&victim.bytes, index + 0x10) as usize * BLOCK;
        // The first one becomes longer than the gap behind it, or the second begins before it.
        put_le32(&mut victim.bytes, leaf + 0x18, second * 2);
        put_le16(&mut victim.bytes, leaf + 0x10, 3);
        victim.seal(&Seal::ExtentNode(comb), leaf);
        assert_eq!(victim.read("comb"), Err(Errno::EUCLEAN));
        assert_eq!(victim.verdict(), Verdict::Errors);
    }
}

#[test]
fn extents_that_claim_a_structure_of_the_volume_are_neither_read_nor_written() {
    let group = |field| le32(&sound().bytes, 2 * BLOCK + field);
    let journal = u32::try_from(Victim::new().map.journal()[5] / BLOCK).unwrap();
    for block in [2, group(0), group(4), group(8), group(8) + 3, journal, 4097] {
        let victim = Victim::new().set_inode("plain", inode::BLOCK_OFFSET + 0x14, block);
        assert_eq!(victim.read("plain"), Err(Errno::EUCLEAN), "{block}");
        let mut volume = Volume::mount_writable(victim.bytes.clone(), || NOON).unwrap();
        let node = volume.lookup(volume.root(), b"plain").unwrap();
        let write = volume.write(Caller::ROOT, node, Position::At(0), &mut &[0xee; 3000][..]);
        assert_eq!(write, Err(Errno::EUCLEAN), "{block}");
        assert_eq!(victim.verdict(), Verdict::Errors, "{block}");
    }
}

#[test]
fn a_directory_block_that_two_directories_claim_belongs_to_one_of_them() {
    let victim = Victim::new();
    let block = u32::try_from(victim.block("one", 0) / BLOCK).unwrap();
    let victim = victim.set_inode("one/two", inode::BLOCK_OFFSET + 0x14, block);
    assert_eq!(victim.verdict(), Verdict::Errors);
}

#[test]
fn directories_in_a_circle_are_walked_and_renamed_with_an_end() {
    for (directory, name, to) in [
        ("one/two", "leaf", "one"),
        ("one/two", "three", "one"),
        ("one/two", "leaf", "one/two"),
        ("one", "two", ""),
    ] {
        let mut victim = Victim::new();
        let record = victim.record(directory, name);
        let target = victim.number(to);
        put_le32(&mut victim.bytes, record, target);
        victim.bytes[record + 7] = 2;
        victim.seal(&Seal::Records(victim.number(directory)), record);
        victim.judged(true);
    }
    for (directory, parent) in
        [("one", "one/two/three"), ("one", "one"), ("one", "fast"), ("one/two", "one/two/three")]
    {
        let mut victim = Victim::new();
        let record = victim.record(directory, "..");
        let target = victim.number(parent);
        put_le32(&mut victim.bytes, record, target);
        victim.seal(&Seal::Records(victim.number(directory)), record);
        let mut volume = Volume::mount_writable(victim.bytes.clone(), || NOON).unwrap();
        let root = volume.root();
        let one = volume.lookup(root, b"one").unwrap();
        let below = volume.lookup(volume.lookup(one, b"two").unwrap(), b"three").unwrap();
        let moved = volume.rename(Caller::ROOT, (root, b"one"), (below, b"circle"));
        assert!(matches!(moved, Err(Errno::EINVAL | Errno::EUCLEAN)), "{directory} {parent}: {moved:?}");
        victim.judged(true);
    }
}

#[test]
fn a_circle_above_a_directory_is_found_in_few_steps() {
    let mut victim = Victim::new();
    let record = victim.record("one", "..");
    let below = victim.number("one/two/three");
    put_le32(&mut victim.bytes, record, below);
    victim.seal(&Seal::Records(victim.number("one")), record);
    let mut volume = Volume::mount_writable(Guarded::new(&victim.bytes), || NOON).unwrap();
    let root = volume.root();
    let one = volume.lookup(root, b"one").unwrap();
    let two = volume.lookup(one, b"two").unwrap();
    let many = volume.lookup(root, b"many").unwrap();
    let before = volume.region.uses();
    let moved = volume.rename(Caller::ROOT, (root, b"some"), (two, b"below"));
    assert_eq!(moved, Err(Errno::EUCLEAN));
    let uses = volume.region.uses() - before;
    assert!(uses < 300, "{uses}: the volume has {} inodes", volume.superblock.s_inodes_count);
    assert_eq!(volume.rename(Caller::ROOT, (root, b"some"), (many, b"below")), Ok(()), "elsewhere");
}

#[test]
fn an_index_that_leaves_its_directory_is_damage() {
    for (offset, value) in [(0x2c, 100_000u32), (0x1c, 0x0003_0801), (0x20, 0x00ff_007b), (0x24, 0)] {
        let mut victim = Victim::new();
        let many = victim.number("many");
        let root = victim.block("many", 0);
        put_le32(&mut victim.bytes, root + offset, value);
        victim.seal(&Seal::IndexRoot(many), root);
        assert_eq!(victim.verdict(), Verdict::Errors, "{offset:#x}");
    }
}

/// A volume whose first orphan is `first`, and the next of `number` is `next`.
fn orphans(first: u32, next: Option<(u32, u32)>) -> Victim {
    let mut victim = Victim::new();
    put_le32(&mut victim.bytes[1024..], 0xe8, first);
    victim.seal(&Seal::Superblock, 1024);
    if let Some((number, next)) = next {
        let place = sound().seals.inode(&victim.bytes, number);
        put_le32(&mut victim.bytes, place + 0x14, next);
        victim.seal(&Seal::Inode(number), place);
    }
    victim
}

#[test]
fn a_list_of_orphans_that_is_none_is_left_to_others_and_the_volume_is_served() {
    let first = le32(&sound().bytes[1024..], 0xe8);
    let second = le32(&sound().bytes, sound().seals.inode(&sound().bytes, first) + 0x14);
    let live = Victim::new().number("plain");
    for (name, victim, verdict) in [
        ("a circle of one", orphans(first, Some((first, first))), Verdict::Errors),
        ("a circle of two", orphans(first, Some((second, first))), Verdict::Errors),
        ("the journal", orphans(8, None), Verdict::Errors),
        ("the first inode", orphans(1, None), Verdict::Errors),
        ("no inode", orphans(513, None), Verdict::Errors),
        ("a free inode", orphans(500, None), Verdict::Errors),
        ("a live file", orphans(live, None), Verdict::Harmless),
        ("a directory", orphans(Victim::new().number("one"), None), Verdict::Harmless),
    ] {
        let (found, _) = victim.judged(true);
        assert_eq!(found, verdict, "{name}");
    }
    let victim = orphans(live, None);
    let volume = Volume::mount_writable(victim.bytes, || NOON).unwrap();
    let node = volume.lookup(volume.root(), b"plain").unwrap();
    let found = read(
        &Volume::mount(volume.unmount().unwrap()).unwrap(),
        u32::try_from(node.0 & 0xffff).unwrap(),
        0,
        9000,
    );
    assert_eq!(found, Ok(pattern(5000)), "it has a name, and nothing behind its end");
}

#[test]
fn sizes_that_lie_give_zeros_or_damage() {
    for (low, high) in [(0, 1 << 31), (u32::MAX, u32::MAX >> 1), (u32::MAX, u32::MAX)] {
        let victim = Victim::new().set_inode("plain", 0x6c, high).set_inode("plain", 4, low);
        assert_eq!(victim.read("plain"), Err(Errno::EUCLEAN));
        assert_eq!(victim.verdict(), Verdict::Errors);
    }
    let victim = Victim::new().set_inode("plain", 0x6c, 1);
    let found = victim.read("plain").unwrap();
    assert!(found[..5000] == pattern(5000) && found[5120..].iter().all(|byte| *byte == 0));
    assert_eq!(victim.verdict(), Verdict::Harmless);
}

#[test]
fn counts_of_links_that_lie_do_no_harm_to_others() {
    assert_eq!(
        Victim::new().set_inode_16("small", 0x1a, 0).verdict(),
        Verdict::Errors,
        "it is gone, and has a name"
    );
    for links in [1, 2, 65_000, 65_535] {
        Victim::new().set_inode_16("plain", 0x1a, links).judged(true);
        Victim::new().set_inode_16("one", 0x1a, links).judged(true);
    }
}

#[test]
fn records_that_end_where_they_cannot_are_damage() {
    for rec_len in [0u16, 1, 5, 8, 13, 2000, 0xfffc, 0xffff] {
        let mut victim = Victim::new();
        let record = victim.record("one", "..");
        put_le16(&mut victim.bytes, record + 4, rec_len);
        victim.seal(&Seal::Records(victim.number("one")), record);
        assert_eq!(victim.verdict(), Verdict::Errors, "{rec_len}");
    }
}

#[test]
fn attributes_that_overlap_or_are_endless_are_damage() {
    let sound = Victim::new();
    let block = le32(&sound.bytes, sound.inode("attributed") + 0x68) as usize * BLOCK;
    for (offset, value, verdict) in [
        (0x4, 0, Verdict::Errors),
        (0x22, 0x20, Verdict::Errors),
        (0x22, 0x3ff, Verdict::Errors),
        (0x28, 1 << 31, Verdict::Errors),
        (0x28, u32::MAX, Verdict::Errors),
    ] {
        let mut victim = Victim::new();
        match offset {
            0x22 => put_le16(&mut victim.bytes, block + offset, u16::try_from(value).unwrap()),
            _ => put_le32(&mut victim.bytes, block + offset, value),
        }
        victim.seal(&Seal::Attributes, block);
        assert_eq!(victim.verdict(), verdict, "{offset:#x} {value:#x}");
    }
    let group = |field| le32(&sound.bytes, 2 * BLOCK + field);
    for shared in [group(0), group(8), u32::try_from(sound.block("one", 0) / BLOCK).unwrap()] {
        let victim = Victim::new().set_inode("attributed", 0x68, shared);
        assert_eq!(victim.verdict(), Verdict::Errors, "{shared}");
    }
}

#[test]
fn descriptors_that_claim_the_same_block_are_refused() {
    let group = |field| le32(&sound().bytes, 2 * BLOCK + field);
    for (field, block) in
        [(0, group(4)), (0, group(8)), (4, group(8) + 2), (8, group(8) + 1), (4, 2), (0, 4097)]
    {
        let mut victim = Victim::new();
        put_le32(&mut victim.bytes, 2 * BLOCK + 64 + field, block);
        victim.seal(&Seal::Group(1), 2 * BLOCK + 64);
        assert_eq!(victim.verdict(), Verdict::Refused, "{field} {block}");
    }
}

/// Every bitmap of blocks says that all is free.
fn all_free() -> Victim {
    let mut victim = Victim::new();
    for group in 0..3 {
        let descriptor = 2 * BLOCK + group as usize * 64;
        let bitmap = le32(&victim.bytes, descriptor) as usize * BLOCK;
        victim.bytes[bitmap..bitmap + 512].fill(0);
        put_le16(&mut victim.bytes, descriptor + 0xc, 4096);
        let flags = le16(&victim.bytes, descriptor + 0x12);
        put_le16(&mut victim.bytes, descriptor + 0x12, flags & !2);
        victim.seal(&Seal::BlockBitmap(group), bitmap);
    }
    victim
}

#[test]
fn bitmaps_that_say_all_is_free_give_no_structure_of_the_volume_away() {
    let victim = all_free();
    let before = victim.bytes.clone();
    let mut volume = Volume::mount_writable(victim.bytes.clone(), || NOON).unwrap();
    let root = volume.root();
    let node = volume.create(Caller::ROOT, root, b"flood", &FILE).unwrap();
    let mut written = 0;
    let mut failures = 0;
    while failures < 40 {
        match volume.write(Caller::ROOT, node, Position::End, &mut &[0xee; 50_000][..]) {
            Ok(count) => written += u64::from(count),
            Err(errno) => {
                assert!(matches!(errno, Errno::EUCLEAN | Errno::ENOSPC), "{errno:?}");
                failures += 1;
            }
        }
        volume.commit().unwrap();
    }
    assert!(volume.errors_found() > 0, "{written}");
    let mut runs = Vec::new();
    volume.visit_runs(node, &mut |run| runs.push(run)).unwrap();
    for run in runs {
        let Some(first) = run.physical else { continue };
        let blocks = first..first + (run.blocks.end - run.blocks.start);
        assert_eq!(volume.system_zone.first_in(&blocks), None, "{blocks:?}");
    }
    let after = volume.unmount().unwrap();
    for path in ["plain", "one", "comb", "healthy"] {
        let place = victim.inode(path);
        assert!(before[place..place + 256] == after[place..place + 256], "the inode of {path} is as it was");
    }
    assert_eq!(all_free().verdict(), Verdict::Errors);
}

#[test]
fn an_inode_in_use_that_its_bitmap_says_is_free_is_not_given_away() {
    let mut victim = Victim::new();
    let bitmap = le32(&victim.bytes, 2 * BLOCK + 4) as usize * BLOCK;
    victim.bytes[bitmap + 1..bitmap + 6].fill(0);
    victim.seal(&Seal::InodeBitmap(0), bitmap);
    let content = victim.read("plain").unwrap();
    let mut volume = Volume::mount_writable(victim.bytes.clone(), || NOON).unwrap();
    let root = volume.root();
    for name in [&b"a"[..], b"b", b"c"] {
        assert_eq!(volume.create(Caller::ROOT, root, name, &FILE), Err(Errno::EUCLEAN));
    }
    let after = Victim { bytes: volume.unmount().unwrap(), ..Victim::new() };
    assert_eq!(after.read("plain").unwrap(), content);
    assert_eq!(victim.verdict(), Verdict::Errors);
}

#[test]
fn a_group_in_use_that_says_it_never_was_is_damage() {
    for (group, flag, verdict) in [(0, 1, Verdict::Refused), (0, 2, Verdict::Errors), (1, 1, Verdict::Errors)]
    {
        let mut victim = Victim::new();
        let descriptor = 2 * BLOCK + group as usize * 64;
        let flags = le16(&victim.bytes, descriptor + 0x12);
        put_le16(&mut victim.bytes, descriptor + 0x12, flags | flag);
        if flag == 1 {
            let free = le16(&victim.bytes, descriptor + 0xe);
            put_le16(&mut victim.bytes, descriptor + 0xe, free - 9);
        }
        victim.seal(&Seal::Group(group), descriptor);
        assert_eq!(victim.verdict(), verdict, "{group} {flag}");
    }
}

#[test]
fn a_journal_that_aims_at_itself_or_outside_is_refused() {
    let sample = sample::with_a_journal_of_linux();
    let descriptor =
        sample.structures.iter().find(|structure| structure.name.starts_with("descriptor")).unwrap();
    let own = u32::try_from(descriptor.place / BLOCK).unwrap();
    for block in [own, own + 1, 12_288, u32::MAX] {
        let mut bytes = sample.bytes.clone();
        bytes[descriptor.place + 0xc..][..4].copy_from_slice(&block.to_be_bytes());
        sample.seals.apply(&descriptor.seal, &mut bytes, descriptor.place);
        let (verdict, _) = judge(&bytes, Expectation::default()).unwrap();
        assert_eq!(verdict, Verdict::Refused, "{block}");
    }
}

#[test]
fn a_log_in_which_each_block_is_the_next_transaction_ends() {
    let sample = sample::after_a_kill();
    let commit = sample.structures.iter().find(|structure| structure.name.starts_with("commit")).unwrap();
    let positions = Collector::new_of(&sample).journal();
    let mut bytes = sample.bytes.clone();
    let block = bytes[commit.place..commit.place + BLOCK].to_vec();
    let (first, start) = (be32(&bytes, positions[0] + 0x18), be32(&bytes, positions[0] + 0x1c));
    let length = u32::try_from(positions.len() - 1).unwrap();
    for step in 0..length {
        let at = positions[(1 + (start - 1 + step) % length) as usize];
        bytes[at..at + BLOCK].copy_from_slice(&block);
        put_be32(&mut bytes[at..], 8, first.wrapping_add(step));
    }
    let (verdict, _) = judge(&bytes, Expectation::default()).unwrap();
    assert_eq!(verdict, Verdict::Refused, "there is no place where the log would go on");
}

/// What `e2fsck -fn` says of `bytes`.
fn checked(bytes: &[u8]) -> String {
    let image = Image::new("1M", &[], |_| {});
    std::fs::write(image.file(), bytes).unwrap();
    let output = tool("e2fsck").args(["-fn", &image.file()]).output();
    let output =
        output.unwrap_or_else(|error| panic!("e2fsck: {error} (the tests need the package e2fsprogs)"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn counts_that_lie_are_not_made_worse_in_the_eyes_of_e2fsck() {
    let mut lies: BTreeMap<&str, Victim> = BTreeMap::new();
    for (name, offset, value) in
        [("s_free_blocks_count", 0xc, 77), ("s_free_inodes_count", 0x10, 5), ("s_wtime", 0x30, 0xffff_ffff)]
    {
        let mut victim = Victim::new();
        put_le32(&mut victim.bytes[1024..], offset, value);
        victim.seal(&Seal::Superblock, 1024);
        lies.insert(name, victim);
    }
    for (name, offset, value) in [
        ("bg_free_blocks_count", 0xc, 99),
        ("bg_free_inodes_count", 0xe, 60),
        ("bg_used_dirs_count", 0x10, 40),
    ] {
        let mut victim = Victim::new();
        let group = if name == "bg_free_blocks_count" { 1 } else { 0 };
        put_le16(&mut victim.bytes, 2 * BLOCK + group as usize * 64 + offset, value);
        victim.seal(&Seal::Group(group), 2 * BLOCK);
        lies.insert(name, victim);
    }
    lies.insert("i_blocks", Victim::new().set_inode("plain", 0x1c, 4));
    lies.insert("nothing", Victim::new());
    for (name, victim) in lies {
        let (_, after) = victim.judged(true);
        let said = checked(&after.unwrap());
        let said = said.split_once("Pass 1").unwrap().1;
        let grown = ["claimed", "uplicate", "illegal", "corrupt", "deleted/unused", "Unattached"];
        assert!(!grown.iter().any(|word| said.contains(word)), "{name}: {said}");
        if name.starts_with("s_") || name == "nothing" {
            assert!(!said.contains("Fix?"), "{name}: {said}");
        }
    }
}

#[test]
fn every_error_is_logged_up_to_a_number_and_then_now_and_again() {
    let victim = Victim::new().set_inode("plain", inode::BLOCK_OFFSET, 0xbad);
    let volume = Volume::mount(victim.bytes.clone()).unwrap();
    let number = victim.number("plain");
    take_logged();
    for _ in 0..1000 {
        assert_eq!(read(&volume, number, 0, 9), Err(Errno::EUCLEAN));
    }
    let told = take_logged().len();
    assert!((64..80).contains(&told), "{told}");
    assert_eq!(volume.attributes(Node(u64::from(number))).map(|attributes| attributes.size), Ok(5000));
}
