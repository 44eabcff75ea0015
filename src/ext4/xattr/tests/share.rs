// SPDX-License-Identifier: MIT OR Apache-2.0

//! Blocks of attributes that several inodes refer to.

use super::*;
use crate::ext4::field::{le32, put_le32};

const PATHS: [&str; 3] = ["/f", "/g", "/d"];

/// A volume whose `/f`, `/g` and `/d` share a block with the attributes `user.one` and `user.two`, and their numbers.
fn shared(options: &[&str]) -> (Image, TestVolume, [u32; 3]) {
    let image = image("8M", options);
    let long = "1".repeat(300);
    image.debugfs_script(&[&format!("ea_set /f user.one {long}"), &format!("ea_set /f user.two {long}")]);
    let numbers = PATHS.map(|path| image.inode(path));
    let mut volume = image.mount_writable();
    let block = volume.inode(numbers[0]).unwrap().file_acl;
    let sectors = u64::from(volume.superblock().sectors_per_block());
    let seed = volume.block_seed(block);
    volume
        .atomically(|volume| {
            let raw = volume.block_mut(block)?;
            put_le32(raw, 4, 3);
            block::seal(raw, seed);
            for number in &numbers[1..] {
                let blocks = volume.inode(*number)?.blocks512;
                volume.edit_inode(*number, |inode| {
                    inode.set_file_acl(block);
                    inode.set_blocks512(blocks + sectors);
                    Ok(())
                })?;
            }
            Ok(())
        })
        .unwrap();
    image.check(volume);
    let volume = image.mount_writable();
    (image, volume, numbers)
}

/// A name and a value.
type Attribute<'a> = (&'a str, &'a [u8]);

/// How many refer to the block of inode `number`.
fn references(volume: &TestVolume, number: u32) -> u32 {
    le32(volume.block(volume.inode(number).unwrap().file_acl).unwrap(), 4)
}

const OPTIONS: [&[&str]; 3] = [
    &["-b", "1024", "-I", "128"],
    &["-b", "4096", "-I", "128"],
    &["-b", "1024", "-O", "^metadata_csum", "-I", "128"],
];

#[test]
fn a_change_of_one_file_is_not_seen_by_those_that_shared_its_block() {
    for options in OPTIONS {
        let (image, mut volume, [f, g, d]) = shared(options);
        let free = volume.totals.free_blocks;
        set(&mut volume, f, "user.one", b"new").unwrap();
        set(&mut volume, f, "user.three", b"3").unwrap();
        assert_eq!(volume.totals.free_blocks, free - 1, "one copy for both");
        assert_eq!((references(&volume, f), references(&volume, g)), (1, 2));
        remove(&mut volume, g, "user.one").unwrap();
        assert_eq!((references(&volume, g), references(&volume, d)), (1, 1));
        set(&mut volume, d, "user.two", b"in place").unwrap();
        assert_eq!(volume.totals.free_blocks, free - 2, "the last one needs no copy");
        let expected: [(u32, &[Attribute<'_>]); 3] = [
            (f, &[("user.one", b"new"), ("user.two", &[b'1'; 300]), ("user.three", b"3")]),
            (g, &[("user.two", &[b'1'; 300])]),
            (d, &[("user.one", &[b'1'; 300]), ("user.two", b"in place")]),
        ];
        image.check(volume);
        let volume = image.mount();
        for ((number, attributes), path) in expected.into_iter().zip(PATHS) {
            assert_eq!(
                names(&volume, number).unwrap().len(),
                attributes.iter().map(|(name, _)| name.len() + 1).sum()
            );
            for (name, value) in attributes {
                assert_eq!(get(&volume, number, name).unwrap(), *value, "{path} {name}");
                assert_eq!(debugfs_get(&image, path, name), *value, "{path} {name}");
            }
        }
    }
}

#[test]
fn the_last_who_gives_a_block_up_frees_it() {
    for options in OPTIONS {
        let (image, mut volume, [f, g, d]) = shared(options);
        let free = volume.totals.free_blocks;
        remove(&mut volume, f, "user.one").unwrap();
        remove(&mut volume, f, "user.two").unwrap();
        assert_eq!((volume.inode(f).unwrap().file_acl, references(&volume, g)), (0, 2));
        volume.atomically(|volume| volume.free_attributes(g)).unwrap();
        assert_eq!((volume.inode(g).unwrap().file_acl, references(&volume, d)), (0, 1));
        assert_eq!(volume.totals.free_blocks, free);
        volume.atomically(|volume| volume.free_attributes(d)).unwrap();
        volume.atomically(|volume| volume.free_attributes(d)).unwrap();
        assert_eq!(volume.totals.free_blocks, free + 1);
        for number in [f, g, d] {
            assert_eq!(names(&volume, number), Ok(Vec::new()));
        }
        image.check(volume);
    }
}

#[test]
fn a_block_that_nobody_refers_to_is_damage() {
    let (_image, mut volume, [f, ..]) = shared(OPTIONS[0]);
    let number = volume.inode(f).unwrap().file_acl;
    let seed = volume.block_seed(number);
    volume
        .atomically(|volume| {
            let raw = volume.block_mut(number)?;
            put_le32(raw, 4, 0);
            block::seal(raw, seed);
            Ok(())
        })
        .unwrap();
    let fault = AttributeFault::NoReference;
    let damage = Error::from(Damage::Attributes { inode: f, block: number, fault });
    assert_eq!(set(&mut volume, f, "user.one", b"new"), Err(damage));
    assert_eq!(volume.atomically(|volume| volume.free_attributes(f)), Err(damage));
    assert_eq!(get(&volume, f, "user.one").unwrap(), [b'1'; 300]);
}
