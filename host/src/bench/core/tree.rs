// SPDX-License-Identifier: MIT OR Apache-2.0

//! The files that all servers serve: made once in a directory, and as a volume.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::{NamedTempFile, TempDir};

use super::message::{LARGEST, payload};
use super::peer::SLOTS;
use crate::volume_image;

/// Bytes in `data` and in `out`: a multiple of all lengths that are read and written.
pub const FILE: u64 = 31 * LARGEST as u64;

/// Names in `many`.
pub const ENTRIES: usize = 1000;

/// The name of the small file `number`.
#[must_use]
pub fn small(number: usize) -> String {
    format!("f{number:02}")
}

/// A new directory in memory.
///
/// # Errors
/// If there is no room for one.
pub fn directory() -> Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("skerry-bench-").tempdir_in("/dev/shm");
    directory.context("cannot make a directory in /dev/shm")
}

/// The files as a volume.
///
/// # Errors
/// If it cannot be made.
pub fn image() -> Result<NamedTempFile> {
    let root = directory()?;
    fill(root.path())?;
    volume_image::import(root.path())
}

/// Fills `directory`: `data` to read and `out` to write, `files` with small ones, `many` with [`ENTRIES`] empty ones, `link`, and
/// `new` for what is made.
///
/// # Errors
/// If it cannot be written.
pub fn fill(directory: &Path) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let content = payload().repeat(31);
        fs::write(directory.join("data"), &content)?;
        fs::write(directory.join("out"), &content)?;
        for name in ["files", "many", "new"] {
            fs::create_dir(directory.join(name))?;
        }
        for number in 0..SLOTS {
            fs::write(directory.join("files").join(small(number)), "small")?;
        }
        for number in 0..ENTRIES {
            fs::write(directory.join("many").join(format!("entry-{number:03}")), "")?;
        }
        symlink("data", directory.join("link"))
    };
    write().with_context(|| format!("cannot fill {}", directory.display()))
}
