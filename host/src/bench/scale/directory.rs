// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files in a directory: what it costs to find one, to make one and to remove one, of those that are there and one more.

use anyhow::{Context, Result};
use skerry::wire::{Fid, Names, Tclunk, Tmknod, Tunlinkat, Twalk, UnlinkFlags};

use super::{Dimension, Extent, MICROSECONDS, core_with, scattered, send_all, timed};
use crate::bench::core::message::Message;

/// Requests of a kind in each round.
const BATCH: u64 = 100;
/// The fid that walks lead to.
const FOUND: Fid = Fid(99);
/// A regular file's mode.
const MODE: u32 = 0o100_644;

/// Measures all sizes.
///
/// # Errors
/// If the core gives a wrong answer.
pub fn measure(extent: Extent) -> Result<Dimension> {
    let sizes = extent.files;
    let most: u64 = sizes.iter().sum();
    let names: Vec<String> = sizes.iter().map(|size| format!("with-{size}")).collect();
    let inodes = (most + 1000).to_string();
    // An inode of 256 bytes and an entry of some 30, in blocks that are half full. With blocks of 1 KiB, ext4's index would not hold
    // a million.
    let options = ["-b", "4096", "-I", "256", "-N", &inodes];
    let (mut core, directories) = core_with((128 << 20) + 400 * most, &options, &names, &[])?;
    for (directory, size) in directories.iter().zip(sizes) {
        send_all(&mut core, *size, |tag, number| make(tag, *directory, number))?;
        eprintln!("skerry: scale: a directory with {size} files");
    }
    let mut dimension = Dimension::new("directory", "files in a directory", sizes);
    for round in 0..extent.rounds {
        for (place, (directory, size)) in directories.iter().zip(sizes).enumerate() {
            let wanted = scattered(*size, BATCH, round as u64 * BATCH);
            let walks = wanted.map(|number| walk(*directory, number)).collect::<Result<Vec<_>>>()?;
            let clunk = Message::new(0, Tclunk { fid: FOUND }, 0);
            let walks = walks.into_iter().flat_map(|walk| [walk, clunk.clone()]).collect();
            let new = || *size..*size + BATCH;
            let mut add = |operation, time| dimension.sample(operation, MICROSECONDS, place).add(time);
            // Two messages an operation.
            add("Twalk(1) + Tclunk", 2.0 * timed(&mut core, walks)?);
            add("Tmknod", timed(&mut core, new().map(|number| make(0, *directory, number)).collect())?);
            add("Tunlinkat", timed(&mut core, new().map(|number| remove(*directory, number)).collect())?);
        }
    }
    Ok(dimension)
}

fn name(number: u64) -> String {
    format!("some-name-{number}")
}

fn make(tag: u16, directory: Fid, number: u64) -> Message {
    let name = name(number);
    Message::new(
        tag,
        Tmknod { dfid: directory, name: name.as_bytes(), mode: MODE, major: 0, minor: 0, gid: 0 },
        0,
    )
}

fn remove(directory: Fid, number: u64) -> Message {
    let name = name(number);
    Message::new(0, Tunlinkat { dirfd: directory, name: name.as_bytes(), flags: UnlinkFlags::empty() }, 0)
}

fn walk(directory: Fid, number: u64) -> Result<Message> {
    let name = name(number);
    let names = [name.as_bytes()];
    let wnames = Names::new(&names).context("one name")?;
    Ok(Message::new(0, Twalk { fid: directory, newfid: FOUND, wnames }, 0))
}
