// SPDX-License-Identifier: MIT OR Apache-2.0

//! Some of the states that were tried, kept in files for another judge: `tests/kernel.rs` shows them to the kernel's own ext4.
//!
//! That reads the superblock and the group descriptors before it looks at the journal, so a state in which one of these is half
//! changed in place cannot be shown to it. `e2fsck -p` and the next mount here mend the descriptors.

use std::format;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::string::String;

use super::judge::is_torn;
use crate::ext4::Volume;
use crate::ext4::superblock::Superblock;
use crate::ext4::testing::Borrowed;

/// Runs of so many zeros are holes in the file.
const PIECE: usize = 4096;

/// Where the states are put: below the directory that cargo builds into, as `skerry_host::workspace` finds it.
fn directory() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |path| root.join(path));
    target.join("tmp/crash-states")
}

/// Whether the superblock and the group descriptors are whole, as they are in place.
fn is_whole(bytes: &[u8]) -> bool {
    let superblock = Superblock::read(&Borrowed(bytes));
    superblock.is_ok_and(|superblock| Volume::unchecked(Borrowed(bytes), superblock).check_groups().is_ok())
}

/// The states that are kept of one kind: the files of a directory, which takes the place of an older one when all are there.
pub(super) struct Kept {
    part: PathBuf,
    whole: PathBuf,
    /// One of so many is kept.
    of: usize,
    offered: usize,
    kept: usize,
    halves: usize,
}

impl Kept {
    /// For some of `all` states of `kind`; `wanted`, if all are whole.
    pub(super) fn new(volume: &str, kind: &str, all: usize, wanted: usize) -> Self {
        let name = format!("{kind} {volume}").replace(' ', "-");
        let (part, whole) = (directory().join(format!("{name}.part")), directory().join(name));
        for old in [&part, &whole] {
            match fs::remove_dir_all(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{}: {error}", old.display()),
                _ => {}
            }
        }
        fs::create_dir_all(&part).unwrap_or_else(|error| panic!("{}: {error}", part.display()));
        Self { part, whole, of: all.div_ceil(wanted), offered: 0, kept: 0, halves: 0 }
    }

    /// Offers the volume `bytes`, as it is after `point` events; `at_rest` if it is being mounted or unmounted.
    pub(super) fn offer(&mut self, point: usize, bytes: &[u8], at_rest: bool) {
        let whole = is_whole(bytes);
        assert!(whole || at_rest, "the group descriptors in place are half changed after {point} events");
        self.halves += usize::from(!whole && !is_torn(bytes));
        self.offered += 1;
        // Instead of one that is not whole, the next that is.
        if whole && self.offered > self.of * self.kept + self.of / 2 {
            let file = self.part.join(format!("{:02}-{point}.ext4", self.kept));
            write(&file, bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            self.kept += 1;
        }
    }

    /// Ends the set; says what was kept.
    pub(super) fn finish(self) -> String {
        fs::rename(&self.part, &self.whole)
            .unwrap_or_else(|error| panic!("{}: {error}", self.whole.display()));
        format!("{} kept, {} with a group descriptor half in place", self.kept, self.halves)
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_len(bytes.len() as u64)?;
    for (piece, number) in bytes.chunks(PIECE).zip(0_u64..) {
        if piece.iter().any(|byte| *byte != 0) {
            file.write_all_at(piece, number * PIECE as u64)?;
        }
    }
    Ok(())
}
