// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attributes of whole volumes.

mod random;
mod read;
mod share;
mod write;

use super::*;
use crate::ext4::testing::{Collected, Image, TestVolume};
use crate::fs::{AttributeExistence, Caller};
use std::format;
use std::vec::Vec;

fn get(volume: &TestVolume, number: u32, name: &str) -> Result<Vec<u8>, Error> {
    let mut sink = Collected::default();
    volume.read_value(&volume.inode(number)?, name.as_bytes(), &mut sink).map(|()| sink.bytes)
}

fn names(volume: &TestVolume, number: u32) -> Result<Vec<u8>, Error> {
    let mut sink = Collected::default();
    volume.list_names(&volume.inode(number)?, &mut sink).map(|()| sink.bytes)
}

fn set(volume: &mut TestVolume, number: u32, name: &str, value: &[u8]) -> Result<(), Error> {
    write(volume, number, name, Some(value), AttributeExistence::Any)
}

fn remove(volume: &mut TestVolume, number: u32, name: &str) -> Result<(), Error> {
    write(volume, number, name, None, AttributeExistence::Any)
}

/// One operation.
fn write(
    volume: &mut TestVolume,
    number: u32,
    name: &str,
    value: Option<&[u8]>,
    existence: AttributeExistence,
) -> Result<(), Error> {
    volume
        .atomically(|volume| volume.write_attribute(number, name.as_bytes(), value, existence, Caller::ROOT))
}

/// A volume of `size` with the regular files `/f`, `/g` and `/h` and the directory `/d`.
fn image(size: &str, options: &[&str]) -> Image {
    Image::new(size, options, |root| {
        for file in ["f", "g", "h"] {
            std::fs::write(root.join(file), "content").unwrap();
        }
        std::fs::create_dir(root.join("d")).unwrap();
    })
}

/// The value that `debugfs` reads.
fn debugfs_get(image: &Image, path: &str, name: &str) -> Vec<u8> {
    let output = format!("{}.value", image.file());
    image.debugfs(&format!("ea_get -f {output} {path} {name}"));
    std::fs::read(&output).unwrap()
}

/// How many names `debugfs` lists.
fn debugfs_count(image: &Image, path: &str) -> usize {
    let list = image.debugfs(&format!("ea_list {path}"));
    list.lines().filter(|line| line.starts_with("  ")).count()
}
