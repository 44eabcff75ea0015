// SPDX-License-Identifier: MIT OR Apache-2.0

//! Damaged trees: each fault is found and named.

use super::node::{ENTRY, MAGIC, MAX_WRITTEN, child_block};
use super::*;
use crate::ext4::Damage;
use crate::ext4::inode::InodeFlags;
use crate::ext4::testing::{Image, TestVolume, damage};
use std::vec::Vec;

const BLOCKS: u64 = 1024;

fn volume(options: &[&str]) -> (Image, u32) {
    let image = Image::new("1M", options, |root| std::fs::write(root.join("file"), "x").unwrap());
    let number = image.inode("/file");
    (image, number)
}

fn header(entries: u16, max: u16, depth: u16) -> [u8; ENTRY] {
    let mut raw = [0; ENTRY];
    for (field, value) in [MAGIC, entries, max, depth].into_iter().enumerate() {
        raw[2 * field..2 * field + 2].copy_from_slice(&value.to_le_bytes());
    }
    raw
}

fn extent(block: u32, ee_len: u16, start: u64) -> [u8; ENTRY] {
    let mut raw = [0; ENTRY];
    raw[..4].copy_from_slice(&block.to_le_bytes());
    raw[4..6].copy_from_slice(&ee_len.to_le_bytes());
    raw[6..8].copy_from_slice(&start.to_le_bytes()[4..6]);
    raw[8..].copy_from_slice(&start.to_le_bytes()[..4]);
    raw
}

fn index(block: u32, leaf: u64) -> [u8; ENTRY] {
    let mut raw = [0; ENTRY];
    raw[..4].copy_from_slice(&block.to_le_bytes());
    raw[4..8].copy_from_slice(&leaf.to_le_bytes()[..4]);
    raw[8..10].copy_from_slice(&leaf.to_le_bytes()[4..6]);
    raw
}

/// What reading a file whose `i_block` holds `pieces` finds wrong.
fn root_fault(volume: &TestVolume, number: u32, pieces: &[[u8; ENTRY]]) -> Option<ExtentFault> {
    let mut i_block = [0; 60];
    i_block[..pieces.len() * ENTRY].copy_from_slice(pieces.as_flattened());
    let mut inode = volume.inode(number).unwrap();
    inode.i_block = &i_block;
    inode.size = 1 << 30;
    assert!(inode.flags.contains(InodeFlags::EXTENTS));
    match damage(volume, &inode) {
        Some(Damage::Extent { inode, fault }) if inode == number => Some(fault),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_damage_of_a_root_is_named() {
    let (image, number) = volume(&["-b", "1024"]);
    let volume = image.mount();
    let end = 1 << 32;
    let physical = |start, length| Some(ExtentFault::Physical { start, length });
    let order = |block, lowest| Some(ExtentFault::Order { block, lowest, end });
    for (pieces, expected) in [
        (&[[0; ENTRY]][..], Some(ExtentFault::Magic(0))),
        (&[header(0, 4, 0)], None),
        (&[header(5, 4, 0)], Some(ExtentFault::Entries { entries: 5, max: 4 })),
        (&[header(0, 5, 0)], Some(ExtentFault::Entries { entries: 0, max: 5 })),
        (&[header(0, 4, 6)], Some(ExtentFault::Depth { found: 6, expected: 5 })),
        (&[header(0, 4, 1)], Some(ExtentFault::EmptyIndex)),
        (&[header(1, 4, 0), extent(0, 0, 500)], Some(ExtentFault::EmptyExtent { block: 0 })),
        (&[header(1, 4, 0), extent(0, 1, 0)], physical(0, 1)),
        (&[header(1, 4, 0), extent(0, 1, 1)], physical(1, 1)),
        (&[header(1, 4, 0), extent(0, 2, BLOCKS - 1)], physical(BLOCKS - 1, 2)),
        (&[header(1, 4, 0), extent(0, 1, 0xffff_ffff_ffff)], physical(0xffff_ffff_ffff, 1)),
        (&[header(1, 4, 0), extent(0, MAX_WRITTEN, 2)], physical(2, MAX_WRITTEN)),
        (&[header(1, 4, 0), extent(0, MAX_WRITTEN + 2, BLOCKS - 1)], physical(BLOCKS - 1, MAX_WRITTEN + 2)),
        (&[header(2, 4, 0), extent(0, 3, 500), extent(2, 1, 600)], order(2, 3)),
        (&[header(2, 4, 0), extent(9, 1, 500), extent(2, 1, 600)], order(2, 10)),
        (&[header(1, 4, 0), extent(u32::MAX, 2, 500)], order(u32::MAX, 0)),
        (&[header(2, 4, 1), index(0, 500), index(0, 501)], order(0, 1)),
        (&[header(1, 4, 1), index(0, BLOCKS)], physical(BLOCKS, 1)),
        (&[header(1, 4, 1), index(0, 0)], physical(0, 1)),
        (&[header(2, 4, 0), extent(0, 2, 500), extent(2, MAX_WRITTEN + 1, 600)], None),
    ] {
        assert_eq!(root_fault(&volume, number, pieces), expected, "{pieces:?}");
    }
}

/// A volume without checksums whose block 1000 starts with `pieces`.
fn with_node(pieces: &[[u8; ENTRY]]) -> (TestVolume, u32) {
    let (image, number) = volume(&["-b", "1024", "-O", "^metadata_csum"]);
    let mut bytes = image.bytes();
    let node = pieces.as_flattened();
    bytes[1000 * 1024..1000 * 1024 + node.len()].copy_from_slice(node);
    (TestVolume::mount(bytes).unwrap(), number)
}

#[test]
fn each_damage_below_the_root_is_named() {
    let order = |block, lowest, end| Some(ExtentFault::Order { block, lowest, end });
    let depth = |found, expected| Some(ExtentFault::Depth { found, expected });
    for (node, root_depth, expected) in [
        (&[header(1, 84, 0), extent(10, 10, 500)][..], 1, None),
        (&[header(1, 84, 0), extent(10, 11, 500)], 1, order(10, 10, 20)),
        (&[header(1, 84, 0), extent(9, 1, 500)], 1, order(9, 10, 20)),
        (&[header(1, 85, 0), extent(10, 1, 500)], 1, Some(ExtentFault::Entries { entries: 1, max: 85 })),
        (&[header(1, 84, 0), extent(10, 1, 500)], 2, depth(0, 1)),
        (&[header(1, 84, 1), index(10, 1000)], 1, depth(1, 0)),
        (&[header(1, 84, 4), index(10, 1000)], 5, depth(4, 3)),
        (&[header(0, 84, 1)], 2, Some(ExtentFault::EmptyIndex)),
    ] {
        let (volume, number) = with_node(node);
        let root = [header(2, 4, root_depth), index(10, 1000), index(20, 1000)];
        let found = root_fault(&volume, number, &root);
        // The second entry points to the same node, whose blocks are then out of place.
        let expected = expected.or(match root_depth {
            1 => order(10, 20, 1 << 32),
            _ => None,
        });
        assert_eq!(found, expected, "{node:?}");
    }
}

#[test]
fn a_changed_byte_of_a_node_is_noticed_by_its_checksum() {
    let content: Vec<u8> = (0..40u8).flat_map(|index| [[index % 2; 1024], [0; 1024]].concat()).collect();
    let image = Image::new("1M", &["-b", "1024"], |root| std::fs::write(root.join("file"), content).unwrap());
    let number = image.inode("/file");
    let volume = image.mount();
    let block = child_block(&volume.inode(number).unwrap().i_block[12..24].try_into().unwrap());
    let start = usize::try_from(block).unwrap() * 1024;
    for offset in (0..1024).step_by(7) {
        let mut bytes = image.bytes();
        bytes[start + offset] ^= 1;
        let volume = TestVolume::mount(bytes).unwrap();
        let found = damage(&volume, &volume.inode(number).unwrap());
        assert!(matches!(found, Some(Damage::Extent { .. })), "byte {offset}: {found:?}");
    }
}
