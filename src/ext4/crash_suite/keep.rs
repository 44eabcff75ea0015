// SPDX-License-Identifier: MIT OR Apache-2.0

//! Some of the states that were tried, kept in files for another judge: `tests/kernel.rs` shows them to the kernel's own ext4.

use std::format;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::string::String;

/// Runs of so many zeros are holes in the file.
const PIECE: usize = 4096;

/// Where states of one kind are put: below `tmp/crash-states` in the directory that cargo builds into, so that they are not looked for
/// elsewhere when the tests themselves are.
fn directory() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |path| root.join(path));
    target.join("tmp/crash-states")
}

/// The states that are kept of one kind: the files of a directory, which takes the place of an older one when all are there.
pub(super) struct Kept {
    part: PathBuf,
    whole: PathBuf,
    count: usize,
}

impl Kept {
    /// For states of `kind`; a word for a file's name.
    pub(super) fn new(kind: &str) -> Self {
        let (part, whole) = (directory().join(format!("{kind}.part")), directory().join(kind));
        for old in [&part, &whole] {
            match fs::remove_dir_all(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{}: {error}", old.display()),
                _ => {}
            }
        }
        fs::create_dir_all(&part).unwrap_or_else(|error| panic!("{}: {error}", part.display()));
        Self { part, whole, count: 0 }
    }

    /// Keeps the volume `bytes`, as it is after `point` events.
    pub(super) fn keep(&mut self, point: usize, bytes: &[u8]) {
        let file = self.part.join(format!("{:02}-{point}.ext4", self.count));
        write(&file, bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.count += 1;
    }

    /// Ends the set, which has that many.
    pub(super) fn finish(self) -> usize {
        fs::rename(&self.part, &self.whole)
            .unwrap_or_else(|error| panic!("{}: {error}", self.whole.display()));
        self.count
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    for piece in bytes.chunks(PIECE) {
        if piece.iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(piece.len() as i64))?;
        } else {
            file.write_all(piece)?;
        }
    }
    file.set_len(bytes.len() as u64)
}

/// A kind of states as a word.
pub(super) fn word(volume: &str, kind: &str) -> String {
    format!("{kind} {volume}").replace(' ', "-")
}
