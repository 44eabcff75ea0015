// SPDX-License-Identifier: MIT OR Apache-2.0

//! Volumes that tests leave behind: `tests/kernel.rs` shows them to judges that need a while to start, many at a time.
//!
//! A suite is a directory below `target/tmp/volumes`, which `tests/run.sh` empties before the suite runs. How many volumes each must
//! hold is for the judge to know.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use skerry_host::workspace;

/// Where the volumes of `suite` are.
pub fn directory(suite: &str) -> PathBuf {
    workspace::target().join("tmp/volumes").join(suite)
}

/// Leaves a copy of the volume in the file `image`, in place of an older one of that name.
pub fn keep(suite: &str, name: &str, image: &Path) {
    let directory = directory(suite);
    fs::create_dir_all(&directory).unwrap();
    let (part, whole) = (directory.join(format!("{name}.part")), directory.join(format!("{name}.ext4")));
    let copied = Command::new("cp").args(["--sparse=always", "--"]).arg(image).arg(&part).status().unwrap();
    assert!(copied.success(), "cp {} {}: {copied}", image.display(), part.display());
    fs::rename(&part, &whole).unwrap();
}

/// Leaves a volume that is in memory.
pub fn keep_bytes(suite: &str, name: &str, bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    keep(suite, name, file.path());
}

/// The volumes in `directory`, in the order of their names.
pub fn volumes(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut volumes: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|it| it == "ext4")).collect();
    volumes.sort();
    volumes
}
