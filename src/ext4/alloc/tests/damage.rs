// SPDX-License-Identifier: MIT OR Apache-2.0

//! Bitmaps and counts that cannot be right.

use super::{USER, empty, take};
use crate::ext4::alloc::Freed;
use crate::ext4::error::{Damage, Error};
use crate::ext4::group::{Group, GroupFault, first_block};
use crate::ext4::inode::ROOT;
use crate::ext4::testing::{Image, Numbers, TestVolume, set_superblock};
use crate::ext4::{Superblock, Volume};
use crate::fs::Caller;

const PLAIN: &[&str] = &["-b", "1024", "-O", "^metadata_csum,^uninit_bg"];

/// The volume of `image` after `change` of its bytes, with the place of a block of 1 KiB.
fn changed(image: &Image, change: impl FnOnce(&mut [u8], &Group)) -> TestVolume {
    let group = image.mount().group(1).unwrap();
    let mut bytes = image.bytes();
    change(&mut bytes, &group);
    Volume::mount_writable(bytes, || crate::ext4::testing::NOON).unwrap()
}

fn place(block: u64) -> usize {
    usize::try_from(block).unwrap() * 1024
}

fn free(volume: &mut TestVolume, start: u64, count: u32) -> Result<(), Error> {
    volume.atomically(|volume| volume.free_blocks(start, count, Freed::Metadata))
}

fn fault(group: u32, fault: GroupFault) -> Error {
    Damage::Group { group, fault }.into()
}

#[test]
fn a_bitmap_that_does_not_match_its_checksum_is_not_used() {
    for options in [&["-b", "1024"][..], &["-b", "1024", "-O", "^64bit"]] {
        let image = empty("20M", options);
        for byte in [0, 700, 1023] {
            let mut volume = changed(&image, |bytes, group| bytes[place(group.block_bitmap) + byte] ^= 0x10);
            let goal = first_block(&volume.superblock, 1) + 300;
            for result in [take(&mut volume, goal, 1, USER).map(drop), free(&mut volume, 9000, 1)] {
                let expected = matches!(
                    result,
                    Err(Error::Corrupt(Damage::Group {
                        group: 1,
                        fault: GroupFault::BitmapChecksum { name: "bg_block_bitmap", .. }
                    }))
                );
                assert!(expected, "{options:?} {result:?}");
            }
        }
        let group = image.mount().group(0).unwrap();
        let mut bytes = image.bytes();
        bytes[place(group.inode_bitmap) + 3] ^= 1;
        let mut volume = Volume::mount_writable(bytes, || crate::ext4::testing::NOON).unwrap();
        for result in [
            volume.atomically(|volume| volume.allocate_inode(ROOT, false)).map(drop),
            volume.atomically(|volume| volume.free_inode(11, true)),
        ] {
            assert!(
                matches!(
                    result,
                    Err(Error::Corrupt(Damage::Group {
                        group: 0,
                        fault: GroupFault::BitmapChecksum { name: "bg_inode_bitmap", .. }
                    }))
                ),
                "{options:?} {result:?}"
            );
        }
    }
}

#[test]
fn freeing_twice_is_damage() {
    for options in [PLAIN, &["-b", "1024"]] {
        let image = empty("40M", options);
        let mut volume = image.mount_writable();
        let run = take(&mut volume, 9000, 10, USER).unwrap();
        let behind = run.start + 10;
        let twice = fault(1, GroupFault::FreeBlock { block: behind });
        assert_eq!(free(&mut volume, run.start, 11), Err(twice));
        free(&mut volume, run.start + 2, 1).unwrap();
        let twice = fault(1, GroupFault::FreeBlock { block: run.start + 2 });
        assert_eq!(free(&mut volume, run.start, 10), Err(twice));
        // A group that was never used, if the volume tells.
        let block = first_block(&volume.superblock, 4) + 4000;
        assert_eq!(free(&mut volume, block, 1), Err(fault(4, GroupFault::FreeBlock { block })));

        let number = volume.atomically(|volume| volume.allocate_inode(ROOT, false)).unwrap();
        volume.atomically(|volume| volume.free_inode(number, false)).unwrap();
        let twice = volume.atomically(|volume| volume.free_inode(number, false));
        assert_eq!(twice, Err(fault(0, GroupFault::FreeInode { inode: number })));
        for number in [0, ROOT, volume.superblock.s_inodes_count + 1, u32::MAX] {
            let reserved = volume.atomically(|volume| volume.free_inode(number, false));
            assert!(matches!(reserved, Err(Error::Corrupt(Damage::Inode { .. }))), "{number}: {reserved:?}");
        }
        assert_eq!(volume.check_groups(), Ok(volume.totals));
    }
}

#[test]
fn structures_are_neither_freed_nor_taken() {
    for options in [PLAIN, &["-b", "1024", "-O", "^metadata_csum,^uninit_bg,^flex_bg"]] {
        let image = empty("40M", options);
        let mut volume = image.mount_writable();
        let group = volume.group(1).unwrap();
        for block in [2, group.block_bitmap, group.inode_bitmap, group.inode_table + 5, 8193] {
            let result = free(&mut volume, block, 1);
            assert!(
                matches!(
                    result,
                    Err(Error::Corrupt(Damage::Group { fault: GroupFault::Metadata { block: found }, .. }))
                    if found == block
                ),
                "{block}: {result:?}"
            );
        }
        for block in [0, 1, volume.superblock.s_blocks_count, u64::MAX] {
            assert!(matches!(
                free(&mut volume, block, 1),
                Err(Error::Corrupt(Damage::BlockOutOfRange { .. }))
            ));
        }
        // Bitmaps that have structures as free.
        for structure in [group.block_bitmap, group.inode_table + 5] {
            let number = u32::try_from((structure - 1) / 8192).unwrap();
            let bit = usize::try_from((structure - 1) % 8192).unwrap();
            let bitmap = volume.group(number).unwrap().block_bitmap;
            let mut volume = changed(&image, |bytes, _| bytes[place(bitmap) + bit / 8] &= !(1 << (bit % 8)));
            assert_eq!(
                take(&mut volume, structure, 1, USER),
                Err(fault(number, GroupFault::Metadata { block: structure }))
            );
        }
    }
}

#[test]
fn counts_that_contradict_the_bitmap_are_damage() {
    let image = empty("40M", PLAIN);
    let descriptor = 2 * 1024 + 64;
    // Group 1 has 2 free blocks and 2 free inodes by its descriptor.
    let mut volume = changed(&image, |bytes, _| {
        bytes[descriptor + 0xc..descriptor + 0xe].copy_from_slice(&[2, 0]);
    });
    let found = take(&mut volume, 9000, 3, USER);
    assert_eq!(found, Err(fault(1, GroupFault::Bitmap { name: "bg_free_blocks_count", value: 2 })));

    let mut volume = changed(&image, |bytes, group| bytes[place(group.inode_bitmap)..][..1024].fill(0xff));
    let parent = volume.superblock.s_inodes_per_group.get() + 1;
    let value = volume.group(1).unwrap().bg_free_inodes_count;
    let found = volume.atomically(|volume| volume.allocate_inode(parent, false));
    assert_eq!(found, Err(fault(1, GroupFault::Bitmap { name: "bg_free_inodes_count", value })));
}

#[test]
fn bitmaps_outside_the_volume_fail_the_mount() {
    let image = empty("40M", PLAIN);
    let descriptor = 2 * 1024 + 64;
    for offset in [0, 4] {
        let mut bytes = image.bytes();
        bytes[descriptor + offset + 3] = 1;
        let error = Volume::mount(bytes).unwrap_err();
        assert!(std::format!("{error}").contains("where it cannot be"), "{error}");
    }
}

#[test]
fn no_changed_bytes_of_descriptors_and_bitmaps_make_it_panic() {
    let mut numbers = Numbers(0xbad);
    for features in ["^metadata_csum,^uninit_bg", "^metadata_csum,^uninit_bg,^flex_bg"] {
        let image = empty("10M", &["-b", "1024", "-g", "2048", "-O", features]);
        let original = image.bytes();
        let group = image.mount().group(1).unwrap();
        for _ in 0..200 {
            let mut bytes = original.clone();
            for _ in 0..=numbers.below(4) {
                let at = match numbers.below(3) {
                    0 => 2048 + numbers.below(5 * 64),
                    1 => place(group.block_bitmap) + numbers.below(1024),
                    _ => place(group.inode_bitmap) + numbers.below(1024),
                };
                bytes[at] = numbers.byte();
            }
            if numbers.below(4) == 0 {
                let shift = [numbers.byte()];
                set_superblock(&mut bytes, 0x174, &shift);
                set_superblock(&mut bytes, 0x54, &[numbers.byte(), numbers.byte(), 0, 0]);
            }
            if Superblock::read(&bytes).is_err() {
                continue;
            }
            let Ok(mut volume) = Volume::mount_writable(bytes, || crate::ext4::testing::NOON) else {
                continue;
            };
            for _ in 0..20 {
                let goal = numbers.below(12_000) as u64;
                let wanted = u32::try_from(numbers.below(3000)).unwrap();
                let _ = take(&mut volume, goal, wanted, Caller::ROOT);
                let _ = free(&mut volume, goal, wanted);
                let parent = u32::try_from(numbers.below(3000)).unwrap();
                let directory = numbers.below(2) == 0;
                let _ = volume.atomically(|volume| volume.allocate_inode(parent, directory));
                let _ = volume.atomically(|volume| volume.free_inode(parent, directory));
            }
        }
    }
}
