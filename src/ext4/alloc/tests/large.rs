// SPDX-License-Identifier: MIT OR Apache-2.0

//! What allocation costs on a volume of 1 TiB, of which only what is read or changed is ever in memory.

use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::string::ToString;
use std::time::Instant;
use std::vec::Vec;

use super::{end, make_file, name_all};
use crate::ext4::Volume;
use crate::ext4::alloc::{Allocated, Freed};
use crate::ext4::error::Error;
use crate::ext4::inode::ROOT;
use crate::ext4::testing::{Image, NOON};
use crate::fs::{Caller, Errno};
use crate::mem::region::{FlushFault, Region};

/// The unit that is read from the file: a block of the volume.
const PAGE: u64 = 4096;

/// A region over a sparse file. What is stored stays in memory until [`write_back`](Self::write_back).
struct SparseRegion {
    file: File,
    length: u64,
    stored: BTreeMap<u64, Vec<u8>>,
    /// Pages as the file has them: read once, and never given back, for what borrows them is given out behind `&self`.
    pages: RefCell<BTreeMap<u64, &'static [u8]>>,
    /// How often bytes were asked for.
    asked: Cell<u64>,
}

impl SparseRegion {
    fn open(path: &str) -> Self {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len();
        Self { file, length, stored: BTreeMap::new(), pages: RefCell::default(), asked: Cell::new(0) }
    }

    fn page(&self, page: u64) -> &'static [u8] {
        self.pages.borrow_mut().entry(page).or_insert_with(|| {
            let mut bytes = std::vec![0; 4096];
            self.file.read_exact_at(&mut bytes, page * PAGE).unwrap();
            Box::leak(bytes.into_boxed_slice())
        })
    }

    fn write_back(&self) {
        for (page, bytes) in &self.stored {
            self.file.write_all_at(bytes, page * PAGE).unwrap();
        }
    }
}

impl Region for SparseRegion {
    fn len(&self) -> u64 {
        self.length
    }

    fn bytes(&self, offset: u64, length: usize) -> Option<&[u8]> {
        self.asked.set(self.asked.get() + 1);
        let start = usize::try_from(offset % PAGE).unwrap();
        let page = match self.stored.get(&(offset / PAGE)) {
            Some(stored) => stored,
            None => self.page(offset / PAGE),
        };
        page.get(start..start + length)
    }

    fn bytes_mut(&mut self, offset: u64, length: usize) -> Option<&mut [u8]> {
        let page = offset / PAGE;
        let start = usize::try_from(offset % PAGE).unwrap();
        let present = self.page(page);
        let stored = self.stored.entry(page).or_insert_with(|| present.to_vec());
        stored.get_mut(start..start + length)
    }

    fn publish(&mut self, offset: u64, bytes: [u8; 4]) -> Option<()> {
        self.bytes_mut(offset, 4)?.copy_from_slice(&bytes);
        Some(())
    }

    fn publish_pair(&mut self, offset: u64, bytes: [u8; 8]) -> Option<()> {
        self.bytes_mut(offset, 8)?.copy_from_slice(&bytes);
        Some(())
    }

    fn copy_within(&mut self, from: u64, to: u64, length: usize) -> Option<()> {
        let bytes = self.bytes(from, length)?.to_vec();
        self.bytes_mut(to, length)?.copy_from_slice(&bytes);
        Some(())
    }

    fn flush(&mut self) -> Result<(), FlushFault> {
        Ok(())
    }
}

/// A volume of 1 TiB: 8192 groups.
fn tebibyte() -> (Image, Volume<SparseRegion>) {
    let options = [
        "-b",
        "4096",
        "-m",
        "0",
        "-J",
        "size=16",
        "-E",
        "lazy_itable_init=1,lazy_journal_init=1",
        "-i",
        "65536",
    ];
    let image = Image::new("1T", &options, |_| {});
    let volume = Volume::mount_writable(SparseRegion::open(&image.file()), || NOON).unwrap();
    assert_eq!(volume.superblock.group_count.get(), 8192);
    (image, volume)
}

fn take(volume: &mut Volume<SparseRegion>, goal: u64, wanted: u32) -> Result<Allocated, Error> {
    volume.atomically(|volume| volume.allocate_blocks(goal, wanted, Caller::ROOT))
}

impl Volume<SparseRegion> {
    /// How often `work` asks for bytes of the region.
    fn cost<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> (T, u64) {
        let before = self.region.asked.get();
        let result = work(self);
        (result, self.region.asked.get() - before)
    }
}

#[test]
fn taking_a_block_of_a_tebibyte_looks_at_few_blocks() {
    let (image, mut volume) = tebibyte();
    let mut files = Vec::new();
    let mut worst = 0;
    let started = Instant::now();
    for index in 0..64u64 {
        let goal = index * 4_100_000;
        let (run, cost) = volume.cost(|volume| take(volume, goal, 100).unwrap());
        let (file, inode_cost) = volume.cost(|volume| make_file(volume, &[run]));
        files.push(file);
        worst = worst.max(cost).max(inode_cost);
        volume.commit_transaction().unwrap();
    }
    assert!(worst < 100, "{worst} blocks");
    std::println!("1 TiB: at most {worst} blocks looked at; {:?} for 64 files", started.elapsed());
    let totals = volume.totals;
    volume.unmount().unwrap().write_back();
    assert_eq!(image.header("Free blocks"), totals.free_blocks.to_string());
    name_all(&image, files.into_iter());
    image.check_file();
}

#[test]
fn a_tebibyte_that_is_nearly_full_is_searched_once_and_then_no_more() {
    let (_image, mut volume) = tebibyte();
    // Everything is taken, then 100 blocks of each of two groups are freed.
    let mut last = Allocated { start: 0, count: 0 };
    loop {
        match take(&mut volume, end(&last), u32::MAX) {
            Ok(run) => last = run,
            Err(error) => break assert_eq!(error, Errno::ENOSPC.into()),
        }
    }
    assert_eq!(volume.totals.free_blocks, 0);
    for group in [3000, 6000] {
        volume.atomically(|volume| volume.free_blocks(group * 32_768 + 20_000, 100, Freed::Data)).unwrap();
    }
    volume.flush_volume().unwrap();

    let goal = volume.goal_for_inode(ROOT);
    let mut costs = Vec::new();
    let started = Instant::now();
    for _ in 0..200 {
        let (run, cost) = volume.cost(|volume| take(volume, goal, 1).unwrap());
        assert_eq!(run.count, 1);
        costs.push(cost);
    }
    let elapsed = started.elapsed();
    let long = costs.iter().filter(|cost| **cost > 100).count();
    assert!(long <= 2, "{costs:?}");
    std::println!("1 TiB nearly full: {elapsed:?} for 200 blocks, {long} long searches");
    let (full, cost) = volume.cost(|volume| take(volume, goal, 1));
    assert_eq!((full, cost), (Err(Errno::ENOSPC.into()), 0));
}
