// SPDX-License-Identifier: MIT OR Apache-2.0

//! Extents of a file: what it costs to read at one of them, to append one, and to cut it off. Every second block of a file is a hole,
//! so that each block that there is, is an extent.

use anyhow::Result;
use skerry::wire::{Fid, OpenFlags, SetattrMask, Time, Tlopen, Tread, Tsetattr, Twrite};

use super::{Dimension, Extent, MICROSECONDS, core_with, scattered, send_all, timed};
use crate::bench::core::message::Message;
use crate::bench::core::peer::send;

/// Reads, and changes, in each round.
const READS: u64 = 1000;
const CHANGES: u64 = 100;
/// Bytes of a block of the volume, and so of an extent.
const BLOCK: u32 = 4096;
/// Bytes from one extent to the next.
const STRIDE: u64 = 2 * BLOCK as u64;

/// Measures all sizes.
///
/// # Errors
/// If the core gives a wrong answer.
pub fn measure(extent: Extent) -> Result<Dimension> {
    let sizes = extent.extents;
    let most: u64 = sizes.iter().sum();
    let names: Vec<String> = sizes.iter().map(|size| format!("with-{size}")).collect();
    // Some of the space is for leaves of the trees.
    let size = (128 << 20) + u64::from(BLOCK) * (most + most / 20);
    let (mut core, files) = core_with(size, &["-b", &BLOCK.to_string()], &[], &names)?;
    for (file, size) in files.iter().zip(sizes) {
        send(&mut core, &[Message::new(0, Tlopen { fid: *file, flags: OpenFlags::RDWR }, 0)])?;
        send_all(&mut core, *size, |tag, number| write(tag, *file, number))?;
        eprintln!("skerry: scale: a file with {size} extents");
    }
    let mut dimension = Dimension::new("extents", "extents in a file", sizes);
    for round in 0..extent.rounds {
        for (place, (file, size)) in files.iter().zip(sizes).enumerate() {
            let reads = scattered(*size, READS, round as u64 * READS).map(|number| read(*file, number));
            let time = timed(&mut core, reads.collect())?;
            dimension.sample("Tread 4 KiB", MICROSECONDS, place).add(time);
            // One at a time, so that the file has the extents that it is said to have.
            let (mut append, mut cuts) = (0.0, 0.0);
            for _ in 0..CHANGES {
                append += timed(&mut core, vec![write(0, *file, *size)])?;
                cuts += timed(&mut core, vec![cut(*file, *size)])?;
            }
            let changes = CHANGES as f64;
            dimension.sample("Twrite 4 KiB, one extent more", MICROSECONDS, place).add(append / changes);
            dimension.sample("Tsetattr, one extent less", MICROSECONDS, place).add(cuts / changes);
        }
    }
    Ok(dimension)
}

fn read(file: Fid, number: u64) -> Message {
    Message::new(0, Tread { fid: file, offset: number * STRIDE, count: BLOCK }, BLOCK)
}

fn write(tag: u16, file: Fid, number: u64) -> Message {
    Message::new(tag, Twrite { fid: file, offset: number * STRIDE, count: BLOCK }, 0)
}

/// Cuts off what is behind the first `size` extents.
fn cut(file: Fid, size: u64) -> Message {
    let (time, none) = (Time::default(), u32::MAX);
    let end = (size - 1) * STRIDE + u64::from(BLOCK);
    let valid = SetattrMask::SIZE;
    let request =
        Tsetattr { fid: file, valid, mode: 0, uid: none, gid: none, size: end, atime: time, mtime: time };
    Message::new(0, request, 0)
}
