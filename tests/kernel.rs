// SPDX-License-Identifier: MIT OR Apache-2.0

//! The volumes that other suites left, shown to judges that this project did not write: `e2fsck`, `debugfs`, and the ext4 of a
//! Linux client's kernel.
//!
//! Runs behind those suites: a suite that left fewer volumes than it should is a failure, which names the command that runs it.

#[path = "ext4_oracle/comparison.rs"]
mod comparison;
#[path = "ext4_oracle/debugfs.rs"]
mod debugfs;
#[path = "support/kept.rs"]
mod kept;
#[path = "support/kernel.rs"]
mod kernel;
#[path = "support/length.rs"]
mod length;

use std::fs;
use std::path::{Path, PathBuf};

use comparison::{compare_data, compare_directories, compare_stats, walk};
use kernel::the_kernel_agrees;
use skerry::ext4::Volume;
use skerry_host::workspace;

/// The states that the crash suite keeps: of each kind at least so many, or so many in the long form.
const CRASH_STATES: ([&str; 4], usize, usize) = (
    ["death-1-KiB-blocks", "death-4-KiB-blocks", "loss-of-power-1-KiB-blocks", "loss-of-power-4-KiB-blocks"],
    8,
    50,
);

/// A suite: its directory, how many volumes it leaves at least, and the step of `tests/run.sh` that runs it.
struct Suite(&'static str, usize, &'static str);

fn suites() -> Vec<Suite> {
    let kills = length::kills(3);
    vec![
        Suite("writing", 16, "ring"),
        Suite("client", 4 + kills, "client"),
        Suite("conformance", 4, "conformance"),
        Suite("model", 24, "model"),
        Suite("programs", 7, "programs"),
    ]
}

/// The volumes in `directory`, which are so many at least.
fn at_least(count: usize, directory: &Path, step: &str) -> Vec<PathBuf> {
    let found = kept::volumes(directory);
    let (number, place) = (found.len(), directory.display());
    assert!(
        number >= count,
        "{number} volumes in {place}, at least {count} expected; run tests/run.sh {step}"
    );
    found
}

/// All volumes that a suite left.
fn left() -> Vec<PathBuf> {
    let suites = suites();
    for entry in fs::read_dir(kept::directory("")).into_iter().flatten() {
        let name = entry.unwrap().file_name();
        assert!(
            suites.iter().any(|Suite(known, ..)| name == *known),
            "nobody knows what should be in {name:?}"
        );
    }
    suites
        .iter()
        .flat_map(|Suite(name, count, step)| at_least(*count, &kept::directory(name), step))
        .collect()
}

#[test]
fn the_kernels_ext4_sees_what_we_see_in_every_volume_that_a_test_left() {
    println!("shown: the kernel's ext4: {}", the_kernel_agrees(&left()));
}

#[test]
fn the_kernels_ext4_recovers_what_we_recover_from_what_a_crash_left() {
    let (kinds, short, long) = CRASH_STATES;
    let count = if length::is_long() { long } else { short };
    let directory = workspace::target().join("tmp/crash-states");
    let states: Vec<_> =
        kinds.iter().flat_map(|kind| at_least(count, &directory.join(kind), "unit")).collect();
    let agreement = the_kernel_agrees(&states);
    assert!(agreement.recovered * 2 > states.len(), "{agreement}: most crashes leave a journal to replay");
    println!("shown: the kernel's ext4, after crashes: {agreement}");
}

/// Contents of a volume that `debugfs` dumps, about. Where each file's blocks are, it tells of all.
const DUMPED: usize = 60;

/// What `e2fsck -p` does to a volume that is in order: it replays the journal, and works off the orphans.
const IN_ORDER: [&str; 4] =
    ["recovering journal", "Clearing orphaned inode", "Truncating orphaned inode", ": clean, "];

#[test]
fn e2fsck_finds_nothing_and_debugfs_agrees_in_every_volume_that_a_test_left() {
    let (mut volumes, mut inodes, mut attributes) = (0, 0, 0);
    for image in left() {
        let scratch = tempfile::tempdir().unwrap();
        let copy = scratch.path().join("volume.ext4");
        fs::copy(&image, &copy).unwrap();
        let said = debugfs::run(debugfs::tool("e2fsck").arg("-p").arg(&copy), &[0, 1]);
        let unusual = said.lines().find(|line| !IN_ORDER.iter().any(|usual| line.contains(usual)));
        assert_eq!(unusual, None, "{}: {said}", image.display());
        debugfs::run(debugfs::tool("e2fsck").arg("-fn").arg(&copy), &[0]);
        let volume = Volume::mount(fs::read(&copy).unwrap());
        let volume = volume.unwrap_or_else(|error| panic!("{}: {error}", image.display()));
        // What fails there does not say in which volume.
        println!("debugfs: {}", image.display());
        let found = walk(&volume);
        let stats = compare_stats(&volume, &copy, &found);
        compare_directories(&volume, &copy, &stats);
        attributes += compare_data(&volume, &copy, scratch.path(), &stats, found.len() / DUMPED + 1);
        inodes += found.len();
        volumes += 1;
    }
    println!(
        "shown: e2fsck and debugfs: {volumes} volumes, {inodes} inodes, {attributes} extended attributes"
    );
}
