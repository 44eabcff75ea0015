// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a change costs in a large directory and in a large file, against what it costs in small ones: time, of requests as a
//! client makes them, with their commits. `SKERRY_LONG=1` makes the directory one of a million files and the file one of 100,000
//! extents.
//!
//! The small and the large take turns, and the least of many rounds counts for each: what else the machine does counts for
//! neither.

use std::format;
use std::string::String;
use std::time::{Duration, Instant};
use std::vec::Vec;

use super::testing::{Image, TestVolume, repeats};
use crate::fs::{AttributeChanges, Caller, FileSystem, NewFile, NewKind, Node, Position, Removal};

/// Times that a change of a large one may cost what it does in a small one.
const MOST: u32 = 3;
/// Times that a look-up may cost so much more. It does little else than to read a leaf, and a leaf of the small directory is in the
/// processor's cache, which one of the large directory's tens of thousands is not: that, and no longer search, is the difference.
const MOST_OF_A_LOOKUP: u32 = 6;
/// Requests of a transaction: what a client with several in flight makes of one pass over its ring.
const DRAIN: usize = 4;
/// Requests that are timed together.
const BATCH: u32 = 40;
/// Batches of each, in turns.
const ROUNDS: u32 = 75;
/// Files and extents of the small ones.
const FEW: usize = 100;

fn create(volume: &mut TestVolume, directory: Node, name: &str, kind: NewKind<'_>) -> Node {
    let new = NewFile { kind, mode: 0o755, uid: 0, gid: 0 };
    volume.create(Caller::ROOT, directory, name.as_bytes(), &new).unwrap()
}

/// A name that says how many were before it, and is as long as names are.
fn name(number: usize) -> String {
    format!("some-name-{number}")
}

/// Does `request` with each of `numbers`, in transactions of [`DRAIN`].
fn drained(
    volume: &mut TestVolume,
    numbers: core::ops::Range<usize>,
    mut request: impl FnMut(&mut TestVolume, usize),
) {
    for number in numbers {
        request(volume, number);
        if number % DRAIN == 0 {
            volume.commit().unwrap();
        }
    }
}

/// Times batches of `request`, which is told which of `subjects` and which number, in turns; fails if the first, the large one,
/// costs more than `most` times as much.
fn compare(
    (what, most): (&str, u32),
    volume: &mut TestVolume,
    subjects: [(Node, usize); 2],
    mut request: impl FnMut(&mut TestVolume, Node, usize),
) {
    let mut times = [const { Vec::<Duration>::new() }; 2];
    for round in 0..ROUNDS {
        for ((subject, count), times) in subjects.into_iter().zip(&mut times) {
            let start = Instant::now();
            let first = count + (round * BATCH) as usize;
            drained(volume, first..first + BATCH as usize, |volume, number| request(volume, subject, number));
            times.push(start.elapsed());
        }
    }
    let [(large, large_mean), (small, small_mean)] = times.map(|times| {
        let least = times.iter().min().unwrap();
        let sum: Duration = times.iter().sum();
        (*least / BATCH, sum / (BATCH * ROUNDS))
    });
    std::println!(
        "shown: cost: {what}: with {}: {large:?} (mean {large_mean:?}), with {}: {small:?} (mean {small_mean:?})",
        subjects[0].1,
        subjects[1].1
    );
    assert!(large < small * most, "{what}: {large:?} is more than {most} times {small:?}");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "costs are those of release: tests/run.sh unit")]
fn a_file_in_a_directory_of_a_million_costs_what_it_costs_in_one_of_a_hundred() {
    let many = repeats(30_000, 1_000_000);
    let inodes = format!("{}", many + (4 * ROUNDS * BATCH) as usize);
    let size = format!("{}M", 64 + many / 1500);
    let image = Image::new(&size, &["-b", "4096", "-N", &inodes], |_| {});
    let mut volume = image.mount_writable();
    let root = volume.root();
    let directories = [("large", many), ("small", FEW)].map(|(name_of, count)| {
        let directory = create(&mut volume, root, name_of, NewKind::Directory);
        drained(&mut volume, 0..count, |volume, number| {
            create(volume, directory, &name(number), NewKind::Regular);
        });
        (directory, count)
    });
    compare(("a file is made", MOST), &mut volume, directories, |volume, directory, number| {
        create(volume, directory, &name(number), NewKind::Regular);
    });
    compare(("a file is found", MOST_OF_A_LOOKUP), &mut volume, directories, |volume, directory, number| {
        volume.lookup(directory, name(number).as_bytes()).unwrap();
    });
    compare(("a file is renamed", MOST), &mut volume, directories, |volume, directory, number| {
        let (old, new) = (name(number), format!("another-{number}"));
        volume.rename(Caller::ROOT, (directory, old.as_bytes()), (directory, new.as_bytes())).unwrap();
    });
    compare(("a file is removed", MOST), &mut volume, directories, |volume, directory, number| {
        volume.remove(directory, format!("another-{number}").as_bytes(), Removal::File).unwrap();
    });
    image.check(volume);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "costs are those of release: tests/run.sh unit")]
fn an_extent_of_a_file_of_a_hundred_thousand_costs_what_it_costs_with_a_hundred() {
    let many = repeats(10_000, 100_000);
    let size = format!("{}M", 48 + many / 900);
    let image = Image::new(&size, &["-b", "1024"], |_| {});
    let mut volume = image.mount_writable();
    let root = volume.root();
    // Every second block, so that no extent grows.
    let write = |volume: &mut TestVolume, file: Node, number: usize| {
        let at = Position::At(number as u64 * 2048);
        assert_eq!(volume.write(Caller::ROOT, file, at, &mut &b"piece"[..]), Ok(5));
    };
    let files = [("large", many), ("small", FEW)].map(|(name_of, count)| {
        let file = create(&mut volume, root, name_of, NewKind::Regular);
        drained(&mut volume, 0..count, |volume, number| write(volume, file, number));
        (file, count)
    });
    compare(("an extent is appended", MOST), &mut volume, files, write);
    compare(("an extent is written again", MOST), &mut volume, files, write);
    compare(("an extent is cut off", MOST), &mut volume, files, |volume, file, _| {
        let size = volume.attributes(file).unwrap().size - 2048;
        let changes = AttributeChanges { size: Some(size), ..AttributeChanges::default() };
        volume.set_attributes(Caller::ROOT, file, &changes).unwrap();
    });
    image.check(volume);
}
