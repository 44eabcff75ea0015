// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changing directories: what was inserted and removed is compared with a model, and judged by `e2fsck` and `debugfs`.
//! With `SKERRY_LONG=1`, more of it.

mod cost;
mod damage;

use super::*;
use crate::ext4::testing::{Image, Numbers, TestVolume, repeats, tool};
use crate::fs::{Caller, FileSystem, Position};
use crate::mem::{Short, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::String;
use std::vec::Vec;

/// A volume with an empty directory and some files, to which names are to be given.
struct Subject {
    image: Image,
    volume: TestVolume,
    directory: u32,
    files: Vec<u32>,
    /// The names that the directory should have.
    model: BTreeMap<Vec<u8>, u32>,
}

impl Subject {
    fn new(size: &str, options: &[&str]) -> Self {
        // Else each run has other hashes.
        let seed = ["-E", "hash_seed=5eed5eed-5eed-5eed-5eed-5eed5eed5eed"];
        let image = Image::new(size, &[options, &seed].concat(), |root| {
            std::fs::create_dir(root.join("d")).unwrap();
            for number in 0..4 {
                std::fs::write(root.join(format!("file{number}")), "").unwrap();
            }
        });
        let files = (0..4).map(|number| image.inode(&format!("/file{number}"))).collect();
        let (directory, volume) = (image.inode("/d"), image.mount_writable());
        Self { image, volume, directory, files, model: BTreeMap::new() }
    }

    fn insert(&mut self, name: &[u8]) -> Result<(), Error> {
        let (directory, inode) = (self.directory, self.files[self.model.len() % 4]);
        self.volume.atomically(|volume| {
            volume.insert_name(directory, name, inode, FileKind::Regular, Caller::ROOT)
        })?;
        self.model.insert(name.to_vec(), inode);
        self.volume.commit_transaction()
    }

    /// Gives one of the files all free blocks but some `left`.
    fn fill(&mut self, left: u64) {
        struct Zeros(usize);
        impl Source for Zeros {
            fn remaining(&self) -> usize {
                self.0
            }
            fn take(&mut self, bytes: &mut [u8]) -> Result<(), Short> {
                bytes.fill(0);
                self.0 -= bytes.len();
                Ok(())
            }
        }
        let mut end = 0;
        while let Some(more) =
            self.volume.status().unwrap().blocks_free.checked_sub(left).filter(|&more| more > 0)
        {
            let mut zeros = Zeros(usize::try_from(more).unwrap().min(100) * 1024);
            let position = Position::At(end);
            let went = self.volume.write_content(self.files[0], Caller::ROOT, position, &mut zeros).unwrap();
            end += u64::from(went);
            self.volume.commit_transaction().unwrap();
        }
    }

    fn remove(&mut self, name: &[u8]) {
        let directory = self.directory;
        let removed = self.volume.atomically(|volume| volume.remove_name(directory, name));
        assert_eq!(removed.ok(), self.model.remove(name));
        self.volume.commit_transaction().unwrap();
    }

    fn replace(&mut self, name: &[u8], inode: u32) {
        let directory = self.directory;
        let replaced =
            self.volume.atomically(|volume| volume.replace_name(directory, name, inode, FileKind::Regular));
        assert_eq!(replaced.ok(), self.model.insert(name.to_vec(), inode));
        self.volume.commit_transaction().unwrap();
    }

    /// A name of the model, or another of about the same size.
    fn some_name(&self, numbers: &mut Numbers) -> Option<Vec<u8>> {
        let from = name(numbers, 255);
        self.model.range(from..).next().or_else(|| self.model.iter().next()).map(|(name, _)| name.clone())
    }

    fn read(&self, position: u64, limit: usize) -> Vec<(Vec<u8>, u64, u64)> {
        let mut entries = Vec::new();
        let mut visit = |entry: &DirectoryEntry<'_>| {
            if entries.len() == limit {
                return ControlFlow::Break(());
            }
            entries.push((entry.name.to_vec(), entry.number, entry.next));
            ControlFlow::Continue(())
        };
        self.volume.directory_of(self.directory).unwrap().read(position, &mut visit).unwrap();
        entries
    }

    /// Compares lookups and the whole list with the model.
    fn compare(&self) {
        let directory = self.volume.directory_of(self.directory).unwrap();
        for (name, inode) in &self.model {
            assert_eq!(directory.lookup(name), Ok(*inode), "{}", name.escape_ascii());
        }
        let entries = self.read(0, usize::MAX);
        assert_eq!((&entries[0].0[..], &entries[1].0[..]), (&b"."[..], &b".."[..]));
        let found: BTreeMap<_, _> = entries[2..]
            .iter()
            .map(|(name, inode, _)| (name.clone(), u32::try_from(*inode).unwrap()))
            .collect();
        assert_eq!(found.len() + 2, entries.len(), "no name comes twice");
        assert!(found == self.model);
        assert!(entries.windows(2).all(|pair| pair[0].2 < pair[1].2 && pair[1].2 < 1 << 63));
        assert_eq!(self.volume.is_empty_directory(self.directory), Ok(self.model.is_empty()));
    }

    /// Sets the link counts right, and has `e2fsck` check all.
    fn check(mut self) -> Image {
        self.compare();
        for file in self.files {
            let links = 1 + self.model.values().filter(|inode| **inode == file).count();
            let links = u16::try_from(links).unwrap();
            let set = |volume: &mut TestVolume| {
                volume.edit_inode(file, |inode| {
                    inode.set_links(links);
                    Ok(())
                })
            };
            self.volume.atomically(set).unwrap();
        }
        self.image.check(self.volume);
        self.image
    }
}

/// A name of up to `longest` bytes, of all that names may have.
fn name(numbers: &mut Numbers, longest: usize) -> Vec<u8> {
    loop {
        let longest = if numbers.below(3) == 0 { longest } else { longest.min(30) };
        let length = 1 + numbers.below(longest);
        let name: Vec<u8> =
            (0..length).map(|_| numbers.byte()).filter(|byte| !matches!(byte, 0 | b'/')).collect();
        if !matches!(&name[..], b"" | b"." | b"..") {
            return name;
        }
    }
}

/// Inserts, removes and replaces at random, `count` times; the directory tends to `size` names. Returns what was removed.
fn churn(subject: &mut Subject, numbers: &mut Numbers, count: usize, size: usize) -> Vec<Vec<u8>> {
    let mut removed = Vec::new();
    for _ in 0..count {
        let grow = numbers.below(2 * size) >= subject.model.len();
        let known = if grow && numbers.below(10) > 0 { None } else { subject.some_name(numbers) };
        match known {
            None => {
                let name = name(numbers, 255);
                if !subject.model.contains_key(&name) {
                    subject.insert(&name).unwrap();
                }
            }
            Some(name) if grow => {
                let inode = subject.files[numbers.below(4)];
                subject.replace(&name, inode);
            }
            Some(name) => {
                subject.remove(&name);
                removed.push(name);
            }
        }
    }
    removed
}

const LAYOUTS: [&[&str]; 10] = [
    &["-b", "1024"],
    &["-b", "2048"],
    &["-b", "4096"],
    &["-b", "1024", "-O", "^metadata_csum"],
    &["-b", "4096", "-O", "^metadata_csum,^64bit"],
    &["-b", "1024", "-O", "^dir_index"],
    &["-b", "2048", "-O", "^dir_index,^metadata_csum"],
    &["-b", "1024", "-O", "^filetype"],
    &["-b", "1024", "-O", "large_dir"],
    &["-b", "1024", "-I", "128"],
];

#[test]
fn directories_agree_with_a_model_whatever_is_inserted_and_removed() {
    for (seed, options) in LAYOUTS.into_iter().enumerate() {
        let mut numbers = Numbers(0xd1_5c0 + seed as u64);
        let mut subject = Subject::new("16M", options);
        let linear = options.iter().any(|option| option.contains("^dir_index"));
        let many = repeats(1500, 4000);
        for (count, size) in [(20, 10), (300, 100), (many, if linear { 600 } else { 2500 }), (many / 2, 20)] {
            churn(&mut subject, &mut numbers, count, size);
            subject.compare();
        }
        subject.check();
    }
}

#[test]
fn every_hash_function_orders_a_directory_as_e2fsck_expects() {
    for function in ["legacy", "half_md4", "tea"] {
        for flags in [1, 2] {
            let mut subject = Subject::new("16M", &["-b", "1024"]);
            subject.image.debugfs_script(&[
                &format!("ssv def_hash_version {function}"),
                &format!("ssv flags {flags}"),
            ]);
            subject.volume = subject.image.mount_writable();
            churn(&mut subject, &mut Numbers(0x4a54), 3000, 2000);
            let image = subject.check();
            let dump = image.debugfs("htree_dump /d");
            assert!(dump.contains("Indirect levels: 1"), "{function} {flags}: {dump}");
        }
    }
}

/// Lists the directory in pieces of random length while names come and go: of those that were there all the time, each is
/// listed exactly once.
fn list_while_changing(subject: &mut Subject, numbers: &mut Numbers, changes: usize, size: usize) {
    let mut stayed: BTreeSet<Vec<u8>> = subject.model.keys().cloned().collect();
    let mut seen = BTreeMap::new();
    let mut position = 0;
    loop {
        let limit = 1 + numbers.below(40);
        let entries = subject.read(position, limit);
        for (name, _, next) in &entries {
            *seen.entry(name.clone()).or_insert(0) += 1;
            position = *next;
        }
        if entries.len() < limit {
            break;
        }
        let changes = numbers.below(changes);
        for gone in churn(subject, numbers, changes, size) {
            stayed.remove(&gone);
        }
    }
    stayed.extend([b".".to_vec(), b"..".to_vec()]);
    for name in stayed {
        assert_eq!(seen.get(&name), Some(&1), "{}", name.escape_ascii());
    }
}

#[test]
fn what_stays_is_listed_once_while_names_come_and_go() {
    let layouts: [&[&str]; 5] = [
        &["-b", "1024"],
        &["-b", "4096"],
        &["-b", "1024", "-O", "^dir_index"],
        &["-b", "1024", "-O", "^filetype,^metadata_csum"],
        &["-b", "2048"],
    ];
    for (seed, options) in layouts.into_iter().enumerate() {
        let mut numbers = Numbers(0x1157 + seed as u64);
        for round in 0..repeats(4, 12) {
            let mut subject = Subject::new("8M", options);
            // From less than a block, so that a directory gets its index while it is read.
            churn(&mut subject, &mut numbers, 4 + 30 * round, 1000);
            for size in [500, 30, 400] {
                list_while_changing(&mut subject, &mut numbers, 60, size);
            }
            if round % 4 == 0 {
                subject.check();
            }
        }
    }
}

#[test]
fn an_index_grows_to_two_levels_and_is_full_then() {
    let mut subject = Subject::new("64M", &["-b", "1024", "-N", "64"]);
    let mut numbers = Numbers(0xf011);
    let mut inserted = 0;
    let error = loop {
        let name: Vec<u8> = (0..255).map(|_| b'a' + u8::try_from(numbers.below(26)).unwrap()).collect();
        match subject.insert(&name) {
            Ok(()) => inserted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Errno::ENOSPC.into());
    assert!(subject.volume.status().unwrap().blocks_free > 1000, "the volume is not full");
    assert!(inserted > 15_000, "{inserted}");
    // There may be room in other leaves, and there is where a name was.
    let gone = subject.some_name(&mut numbers).unwrap();
    subject.remove(&gone);
    subject.insert(&gone).unwrap();
    let image = subject.check();
    assert!(image.debugfs("htree_dump /d").contains("Indirect levels: 1"));
}

#[test]
fn a_third_level_is_made_with_large_dir() {
    let mut subject = Subject::new("64M", &["-b", "1024", "-N", "64", "-O", "large_dir"]);
    let mut numbers = Numbers(0xf012);
    for _ in 0..34_000 {
        let name: Vec<u8> = (0..255).map(|_| b'a' + u8::try_from(numbers.below(26)).unwrap()).collect();
        subject.insert(&name).unwrap();
    }
    churn(&mut subject, &mut numbers, 500, 34_000);
    let image = subject.check();
    assert!(image.debugfs("htree_dump /d").contains("Indirect levels: 2"));
}

#[test]
fn when_the_volume_is_full_a_name_is_refused_and_nothing_is_changed() {
    for options in [&["-b", "1024", "-N", "64"][..], &["-b", "1024", "-N", "64", "-O", "^dir_index"]] {
        let mut numbers = Numbers(0xe05);
        let mut subject = Subject::new("3M", options);
        subject.fill(300);
        let mut refused = 0;
        while refused < 20 {
            let free = subject.volume.status().unwrap().blocks_free;
            let name: Vec<u8> = (0..200 + numbers.below(56)).map(|_| 1 + numbers.byte() % 46).collect();
            match subject.insert(&name) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error, Errno::ENOSPC.into());
                    assert_eq!(subject.volume.status().unwrap().blocks_free, free);
                    refused += 1;
                }
            }
        }
        churn(&mut subject, &mut numbers, 100, 1);
        subject.check();
    }
}

#[test]
fn a_new_directory_has_its_dots_and_moves_with_its_parent() {
    for options in LAYOUTS {
        let image = Image::new("8M", options, |root| std::fs::create_dir_all(root.join("a/moved")).unwrap());
        let (a, moved) = (image.inode("/a"), image.inode("/a/moved"));
        let mut volume = image.mount_writable();
        let made = volume
            .atomically(|volume| {
                let number = volume.allocate_inode(a, true)?;
                let extra = crate::ext4::inode_edit::i_extra_isize(volume.superblock());
                volume.edit_inode(number, |inode| {
                    inode.initialize(extra, 7);
                    inode.set_mode(0o40755);
                    inode.set_links(2);
                    inode.set_flags(InodeFlags::EXTENTS);
                    inode.i_block()[..8].copy_from_slice(&[0x0a, 0xf3, 0, 0, 4, 0, 0, 0]);
                    Ok(())
                })?;
                volume.initialize_directory(number, a, Caller::ROOT)?;
                volume.insert_name(a, b"made", number, FileKind::Directory, Caller::ROOT)?;
                // And `moved` into it.
                assert_eq!(volume.remove_name(a, b"moved"), Ok(moved));
                volume.insert_name(number, b"moved", moved, FileKind::Directory, Caller::ROOT)?;
                volume.set_parent(moved, number)?;
                volume.edit_inode(number, |inode| {
                    inode.set_links(3);
                    Ok(())
                })?;
                Ok(number)
            })
            .unwrap();
        assert_eq!(volume.directory_of(moved).unwrap().parent(), Ok(made));
        assert_eq!(volume.directory_of(made).unwrap().parent(), Ok(a));
        assert_eq!(volume.is_empty_directory(moved), Ok(true));
        assert_eq!(volume.is_empty_directory(made), Ok(false));
        assert_eq!(volume.remove_name(made, b"absent"), Err(Errno::ENOENT.into()));
        image.check(volume);
        let list = image.debugfs("ls -p /a/made");
        assert!(list.contains(&format!("/{moved}/040755/")) && list.contains("/moved/"), "{list}");
    }
}

#[test]
fn an_indexed_directory_moves_and_debugfs_lists_the_same_names() {
    let mut subject = Subject::new("8M", &["-b", "1024"]);
    for number in 0..2000 {
        subject.insert(format!("name-{number}").as_bytes()).unwrap();
    }
    let directory = subject.directory;
    subject.volume.atomically(|volume| volume.set_parent(directory, 2)).unwrap();
    let model = subject.model.clone();
    let image = subject.check();
    let list = image.debugfs("ls -p /d");
    let theirs: BTreeMap<Vec<u8>, u32> = (list.lines())
        .filter_map(|line| {
            let fields: Vec<&str> = line.split('/').collect();
            Some((fields.get(5)?.as_bytes().to_vec(), fields.get(1)?.parse().ok()?))
        })
        .filter(|(name, _)| !matches!(&name[..], b"." | b".." | b""))
        .collect();
    assert!(theirs == model);
}

#[test]
fn directories_that_others_made_are_changed() {
    for rebuild in [false, true] {
        let names: Vec<String> = (0..300).map(|number| format!("a-name-made-by-mkfs-{number}")).collect();
        let image = Image::new("8M", &["-b", "1024"], |root| {
            std::fs::create_dir(root.join("d")).unwrap();
            std::fs::write(root.join("file"), "").unwrap();
            for name in &names {
                std::fs::hard_link(root.join("file"), root.join("d").join(name)).unwrap();
            }
        });
        if rebuild {
            let status = tool("e2fsck").args(["-fyD", &image.file()]).output().unwrap().status;
            assert!(status.code().is_some_and(|code| code <= 1), "{status}");
        }
        let (file, directory, volume) = (image.inode("/file"), image.inode("/d"), image.mount_writable());
        let indexed = volume.directory_of(directory).unwrap().is_indexed();
        assert_eq!(indexed, rebuild);
        let model = names.into_iter().map(|name| (name.into_bytes(), file)).collect();
        let mut subject = Subject { image, volume, directory, files: [file; 4].into(), model };
        let mut numbers = Numbers(0x3b);
        for size in [600, 100] {
            churn(&mut subject, &mut numbers, 600, size);
            list_while_changing(&mut subject, &mut numbers, 30, size);
        }
        subject.files.truncate(1);
        subject.check();
    }
}

/// Names of one major hash of the legacy function, with unsigned bytes.
fn colliding(count: usize, length: usize) -> Vec<Vec<u8>> {
    const FACTOR: u32 = 7_152_373;
    // What FACTOR is multiplied with to be 1, by Newton's method.
    let inverse = (0..5)
        .fold(FACTOR, |inverse, _| inverse.wrapping_mul(2u32.wrapping_sub(FACTOR.wrapping_mul(inverse))));
    let names = NameHash { function: HashFunction::Legacy, signed: false, seed: [0; 4] };
    let step = |(last, before): (u32, u32), byte: u8| {
        let mixed = before.wrapping_add(last ^ u32::from(byte).wrapping_mul(FACTOR));
        (if mixed & 0x8000_0000 == 0 { mixed } else { mixed.wrapping_sub(0x7fff_ffff) }, last)
    };
    let target = 0x1234_5678;
    let mut numbers = Numbers(0xc011);
    let mut found = BTreeSet::new();
    while found.len() < count {
        let prefix: Vec<u8> =
            (0..length - 3).map(|_| b'a' + u8::try_from(numbers.below(26)).unwrap()).collect();
        let state = prefix.iter().fold((0x12a3_fe2d, 0x37ab_e8f9), |state, byte| step(state, *byte));
        // One more byte is tried, and for each last byte the one in front of it is computed.
        for first in 1..=u8::MAX {
            let (last, before) = step(state, first);
            for end in 1..=u8::MAX {
                let sum = u32::wrapping_sub(target, last) ^ u32::from(end).wrapping_mul(FACTOR);
                let byte = (sum.wrapping_sub(before) ^ last).wrapping_mul(inverse);
                let Ok(byte) = u8::try_from(byte) else { continue };
                let name = [&prefix[..], &[first, byte, end]].concat();
                // Sums that the function folds are not the target.
                if !name.iter().any(|byte| matches!(byte, 0 | b'/')) && names.hash(&name) == target << 1 {
                    found.insert(name);
                }
            }
        }
    }
    found.into_iter().collect()
}

#[test]
fn names_of_one_hash_fill_many_leaves_and_are_found_and_listed() {
    let mut subject = Subject::new("8M", &["-b", "1024"]);
    subject.image.debugfs_script(&["ssv def_hash_version legacy", "ssv flags 2"]);
    subject.volume = subject.image.mount_writable();
    let mut numbers = Numbers(0x1ea);
    churn(&mut subject, &mut numbers, 100, 100);
    let names = colliding(50, 200);
    for name in &names {
        subject.insert(name).unwrap();
        subject.compare();
    }
    for name in names.iter().step_by(3) {
        subject.remove(name);
    }
    for size in [300, 100] {
        list_while_changing(&mut subject, &mut numbers, 30, size);
        churn(&mut subject, &mut numbers, 300, size);
    }
    // What is collected at once makes no difference.
    let whole = subject.read(0, usize::MAX);
    let directory = subject.volume.directory_of(subject.directory).unwrap();
    let blocks = directory.layout().unwrap().index.blocks;
    for collected in [1, 2, 7] {
        let mut entries = Vec::new();
        let mut visit = |entry: &DirectoryEntry<'_>| {
            entries.push((entry.name.to_vec(), entry.number, entry.next));
            ControlFlow::Continue(())
        };
        match collected {
            1 => directory.read_in_hash_order::<1>(blocks, 0, &mut visit),
            2 => directory.read_in_hash_order::<2>(blocks, 0, &mut visit),
            _ => directory.read_in_hash_order::<7>(blocks, 0, &mut visit),
        }
        .unwrap();
        assert!(entries == whole, "{collected} at once");
    }
    subject.check();
}
