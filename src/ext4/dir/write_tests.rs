// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changing directories: what was inserted and removed is compared with a model, and judged by `e2fsck` and `debugfs`.

use super::*;
use crate::ext4::testing::{Image, Numbers, TestVolume};
use crate::fs::Caller;
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::String;
use std::time::{Duration, Instant};
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
        let image = Image::new(size, options, |root| {
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

    fn remove(&mut self, name: &[u8]) {
        let directory = self.directory;
        let removed = self.volume.atomically(|volume| volume.remove_name(directory, name));
        assert_eq!(removed.ok(), self.model.remove(name));
        self.volume.commit_transaction().unwrap();
    }

    fn replace(&mut self, name: &[u8], inode: u32) {
        let directory = self.directory;
        let replaced = self
            .volume
            .atomically(|volume| volume.replace_name(directory, name, inode, FileKind::Regular));
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
        let found: BTreeMap<_, _> =
            entries[2..].iter().map(|(name, inode, _)| (name.clone(), u32::try_from(*inode).unwrap())).collect();
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
            self.volume
                .edit_inode(file, |inode| {
                    inode.set_links(links);
                    Ok(())
                })
                .unwrap();
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
        let name: Vec<u8> = (0..length).map(|_| numbers.byte()).filter(|byte| !matches!(byte, 0 | b'/')).collect();
        if !matches!(&name[..], b"" | b"." | b"..") {
            return name;
        }
    }
}

/// Inserts, removes and replaces at random, `count` times; the directory tends to `size` names.
fn churn(subject: &mut Subject, numbers: &mut Numbers, count: usize, size: usize) {
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
            Some(name) => subject.remove(&name),
        }
    }
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
        for (count, size) in [(20, 10), (300, 100), (4000, if linear { 600 } else { 2500 }), (2000, 20)] {
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
