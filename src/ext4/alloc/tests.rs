// SPDX-License-Identifier: MIT OR Apache-2.0

//! Blocks and inodes that are taken and freed on volumes of many layouts, judged by `e2fsck`: for it to see what is in use,
//! files are made of it by hand.

mod damage;
mod large;

use std::format;
use std::string::String;
use std::vec::Vec;

use super::{Allocated, Freed};
use crate::ext4::Volume;
use crate::ext4::error::Error;
use crate::ext4::field::{put_le16, put_le32};
use crate::ext4::group::GroupFlags;
use crate::ext4::inode::{InodeFlags, ROOT};
use crate::ext4::inode_edit::i_extra_isize;
use crate::ext4::testing::{Image, Numbers, TestVolume, blocks};
use crate::fs::{Caller, Errno};
use crate::mem::region::Region;

const USER: Caller = Caller { uid: 1000 };

/// What mkfs is asked for: size and options. Several groups each, and each way to lay them out.
const LAYOUTS: [(&str, &[&str]); 12] = [
    ("40M", &["-b", "1024"]),
    ("40M", &["-b", "2048", "-g", "4096"]),
    ("24M", &["-b", "4096", "-g", "1024"]),
    ("40M", &["-b", "1024", "-O", "^64bit"]),
    ("40M", &["-b", "1024", "-O", "^metadata_csum,uninit_bg"]),
    ("40M", &["-b", "1024", "-O", "^metadata_csum,^uninit_bg"]),
    ("40M", &["-b", "1024", "-O", "^metadata_csum,uninit_bg,^64bit,^flex_bg", "-I", "128"]),
    ("40M", &["-b", "1024", "-O", "^flex_bg"]),
    ("40M", &["-b", "1024", "-O", "meta_bg,^resize_inode", "-g", "1024", "-N", "4096"]),
    ("40M", &["-b", "1024", "-O", "sparse_super2", "-g", "2048"]),
    ("24M", &["-b", "4096", "-g", "1024", "-G", "4", "-E", "lazy_itable_init=1"]),
    ("40500K", &["-b", "1024", "-O", "^resize_inode", "-I", "128"]),
];

/// A volume with nothing in it.
fn empty(size: &str, options: &[&str]) -> Image {
    Image::new(size, options, |_| {})
}

fn take(volume: &mut TestVolume, goal: u64, wanted: u32, caller: Caller) -> Result<Allocated, Error> {
    volume.atomically(|volume| volume.allocate_blocks(goal, wanted, caller))
}

/// Takes blocks until there are none, each run behind the last.
fn take_all(volume: &mut TestVolume, wanted: u32, caller: Caller) -> Vec<Allocated> {
    let mut taken: Vec<Allocated> = Vec::new();
    loop {
        match take(volume, taken.last().map_or(0, end), wanted, caller) {
            Ok(run) => taken.push(run),
            Err(error) => {
                assert_eq!(error, Errno::ENOSPC.into());
                return taken;
            }
        }
    }
}

/// The block behind a run.
fn end(run: &Allocated) -> u64 {
    run.start + u64::from(run.count)
}

/// The number of blocks in `runs`.
fn sum(runs: &[Allocated]) -> u64 {
    runs.iter().map(|run| u64::from(run.count)).sum()
}

/// The runs, with those joined that follow each other.
fn joined(runs: &[Allocated]) -> Vec<Allocated> {
    let mut joined: Vec<Allocated> = Vec::new();
    for run in runs {
        match joined.last_mut() {
            Some(last) if end(last) == run.start => last.count += run.count,
            _ => joined.push(*run),
        }
    }
    joined
}

fn free(volume: &mut TestVolume, run: Allocated, content: Freed) {
    volume.atomically(|volume| volume.free_blocks(run.start, run.count, content)).unwrap();
}

/// Makes a regular file of up to four `runs`; its inode.
fn make_file<R: Region>(volume: &mut Volume<R>, runs: &[Allocated]) -> u32 {
    assert!(runs.len() <= 4);
    let extra = i_extra_isize(&volume.superblock);
    let size = sum(runs) * u64::from(volume.superblock.block_size);
    let made = volume.atomically(|volume| {
        let number = volume.allocate_inode(ROOT, false)?;
        volume.edit_inode(number, |inode| {
            inode.initialize(extra, 1);
            inode.set_mode(0o100_644);
            inode.set_links(1);
            inode.set_flags(InodeFlags::EXTENTS);
            inode.set_size(size);
            inode.set_blocks512(size / 512);
            let tree = inode.i_block();
            put_le16(tree, 0, 0xf30a);
            put_le16(tree, 2, u16::try_from(runs.len()).unwrap());
            put_le16(tree, 4, 4);
            let mut logical = 0;
            for (index, run) in runs.iter().enumerate() {
                let place = 12 + index * 12;
                put_le32(tree, place, logical);
                put_le16(tree, place + 4, u16::try_from(run.count).unwrap());
                put_le16(tree, place + 6, u16::try_from(run.start >> 32).unwrap());
                put_le32(tree, place + 8, u32::try_from(run.start & 0xffff_ffff).unwrap());
                logical += run.count;
            }
            Ok(number)
        })
    });
    made.unwrap()
}

/// Removes a file made by [`make_file`].
fn remove_file(volume: &mut TestVolume, number: u32, runs: &[Allocated]) {
    let removed = volume.atomically(|volume| {
        for run in runs {
            volume.free_blocks(run.start, run.count, Freed::Data)?;
        }
        volume.edit_inode(number, |inode| {
            inode.set_links(0);
            inode.set_dtime(1_800_000_000);
            Ok(())
        })?;
        volume.free_inode(number, false)
    });
    removed.unwrap();
}

/// Has `debugfs` give each inode a name in the one directory that has room for many.
fn name_all(image: &Image, numbers: impl Iterator<Item = u32>) {
    let requests: Vec<String> =
        numbers.map(|number| format!("link <{number}> lost+found/{number}")).collect();
    image.debugfs_script(&requests.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Unmounts, and has `e2fsck` find that just the named files are in use.
fn check_with_names(image: &Image, volume: TestVolume, numbers: impl Iterator<Item = u32>) {
    std::fs::write(image.file(), volume.unmount().unwrap()).unwrap();
    name_all(image, numbers);
    image.check_file();
}

#[test]
fn a_volume_that_was_full_and_is_empty_again_is_clean() {
    for (size, options) in LAYOUTS {
        let image = empty(size, options);
        let mut volume = image.mount_writable();
        let before = volume.totals;
        let taken = take_all(&mut volume, 300, Caller::ROOT);
        assert_eq!(sum(&taken), before.free_blocks, "{options:?}");
        assert_eq!(volume.totals.free_blocks, 0);
        volume.commit_transaction().unwrap();
        for run in taken {
            free(&mut volume, run, Freed::Data);
        }
        assert_eq!(volume.totals, before);
        image.check(volume);
    }
}

#[test]
fn what_files_use_at_random_is_what_the_bitmaps_say() {
    let mut numbers = Numbers(0xa110c);
    for (size, options) in LAYOUTS {
        let image = empty(size, options);
        let mut volume = image.mount_writable();
        let mut files: Vec<(u32, Vec<Allocated>)> = Vec::new();
        for step in 0..300 {
            if numbers.below(3) == 0 && !files.is_empty() {
                let (number, runs) = files.swap_remove(numbers.below(files.len()));
                remove_file(&mut volume, number, &runs);
            } else {
                let blocks = usize::try_from(volume.superblock.s_blocks_count).unwrap();
                let goal = numbers.below(blocks + 100) as u64;
                let mut runs = Vec::new();
                for _ in 0..numbers.below(5) {
                    let wanted = u32::try_from(1 + numbers.below(200)).unwrap();
                    let goal = runs.last().map_or(goal, end);
                    runs.extend(take(&mut volume, goal, wanted, USER).ok());
                }
                files.push((make_file(&mut volume, &runs), runs));
            }
            if step % 17 == 0 {
                volume.commit_transaction().unwrap();
            }
        }
        // What is known in memory, in the descriptors, and to the tools is the same.
        assert_eq!(volume.check_groups(), Ok(volume.totals), "{options:?}");
        let totals = volume.totals;
        std::fs::write(image.file(), volume.unmount().unwrap()).unwrap();
        assert_eq!(image.header("Free blocks"), format!("{}", totals.free_blocks));
        assert_eq!(image.header("Free inodes"), format!("{}", totals.free_inodes));
        name_all(&image, files.iter().map(|(number, _)| *number));
        image.check_file();
    }
}

#[test]
fn every_group_can_be_used_for_the_first_time() {
    for (size, options) in LAYOUTS {
        let image = empty(size, options);
        let mut volume = image.mount_writable();
        let groups = volume.superblock.group_count.get();
        let per_group = volume.superblock.s_blocks_per_group.get();
        let files: Vec<u32> = (0..groups)
            .map(|group| {
                let goal = u64::from(group) * u64::from(per_group) + u64::from(per_group / 2);
                let run = take(&mut volume, goal, 3, USER).unwrap();
                make_file(&mut volume, &[run])
            })
            .collect();
        for group in 0..groups {
            assert!(!volume.group(group).unwrap().flags.contains(GroupFlags::BLOCK_UNINIT), "{options:?}");
        }
        check_with_names(&image, volume, files.into_iter());
    }
}

#[test]
fn every_inode_can_be_used_and_each_only_once() {
    for (size, options) in LAYOUTS {
        let image = Image::new(size, &[options, &["-N", "700"]].concat(), |_| {});
        let mut volume = image.mount_writable();
        let free = volume.totals.free_inodes;
        let files: Vec<u32> = (0..free).map(|_| make_file(&mut volume, &[])).collect();
        let mut distinct = files.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), files.len());
        let first = volume.superblock.s_first_ino;
        assert!(distinct.iter().all(|number| (first..=volume.superblock.s_inodes_count).contains(number)));
        assert_eq!(volume.atomically(|volume| volume.allocate_inode(ROOT, false)), Err(Errno::ENOSPC.into()));
        for number in files.iter().skip(1).step_by(2) {
            remove_file(&mut volume, *number, &[]);
        }
        assert_eq!(volume.totals.free_inodes, free / 2);
        check_with_names(&image, volume, files.into_iter().step_by(2));
    }
}

#[test]
fn blocks_are_reserved_for_root_to_the_last() {
    let image = Image::new("20M", &["-b", "1024", "-m", "10"], |_| {});
    let mut volume = image.mount_writable();
    let reserved = volume.superblock.s_r_blocks_count;
    assert_eq!(reserved, 2048);
    let free = volume.totals.free_blocks;
    let taken = take_all(&mut volume, 1000, USER);
    assert_eq!(sum(&taken), free - reserved);
    let taken = take_all(&mut volume, 1000, Caller::ROOT);
    assert_eq!((sum(&taken), volume.totals.free_blocks), (reserved, 0));
}

#[test]
fn the_user_whom_the_volume_names_has_the_reserve_too() {
    let image = Image::new("20M", &["-b", "1024", "-m", "10"], |_| {});
    image.debugfs("set_super_value def_resuid 1000");
    let mut volume = image.mount_writable();
    let free = volume.totals.free_blocks;
    assert_eq!(sum(&take_all(&mut volume, 1000, USER)), free);
}

#[test]
fn an_operation_that_fails_changes_nothing() {
    for (size, options) in LAYOUTS {
        let image = empty(size, options);
        let mut volume = image.mount_writable();
        // What a bitmap that was never used has in its place is nobody's.
        let unused: Vec<u64> = (0..volume.superblock.group_count.get())
            .map(|number| volume.group(number).unwrap())
            .filter(|group| group.flags.contains(GroupFlags::BLOCK_UNINIT))
            .map(|group| group.block_bitmap)
            .collect();
        let used = |volume: &TestVolume| {
            let mut blocks = blocks(volume);
            for &number in &unused {
                blocks[usize::try_from(number).unwrap()].fill(0);
            }
            blocks
        };
        let (totals, before) = (volume.totals, used(&volume));
        let failed: Result<(), Error> = volume.atomically(|volume| {
            for goal in [0, 9000, 20_000, 30_000] {
                volume.allocate_blocks(goal, 400, Caller::ROOT)?;
                volume.allocate_inode(ROOT, true)?;
            }
            Err(Errno::EMLINK.into())
        });
        assert_eq!(failed, Err(Errno::EMLINK.into()));
        assert_eq!((volume.totals, volume.check_groups()), (totals, Ok(totals)));
        assert!(used(&volume) == before, "{options:?}");
        image.check(volume);
    }
}

#[test]
fn blocks_that_are_taken_one_by_one_are_one_piece() {
    let image = empty("40M", &["-b", "1024"]);
    let mut volume = image.mount_writable();
    let mut runs: Vec<Allocated> = Vec::new();
    for _ in 0..5000 {
        let goal = runs.last().map_or(26_000, end);
        runs.push(take(&mut volume, goal, 1, USER).unwrap());
    }
    assert_eq!(joined(&runs).len(), 1);
}

#[test]
fn files_that_grow_together_do_not_grow_into_each_other() {
    let image = Image::new("128M", &["-b", "4096", "-g", "8192"], |_| {});
    let mut volume = image.mount_writable();
    let first = 3 * volume.superblock.s_inodes_per_group.get() + 5;
    let goals: Vec<u64> = (first..first + 8).map(|number| volume.goal_for_inode(number)).collect();
    let mut files: Vec<Vec<Allocated>> = std::vec![Vec::new(); goals.len()];
    for _ in 0..30 {
        for (file, goal) in files.iter_mut().zip(&goals) {
            let goal = file.last().map_or(*goal, end);
            file.push(take(&mut volume, goal, 16, USER).unwrap());
        }
    }
    for file in &files {
        assert_eq!((sum(file), joined(file).len()), (480, 1));
    }
}

#[test]
fn a_long_run_elsewhere_is_better_than_holes_at_the_goal() {
    let image = empty("40M", &["-b", "1024"]);
    let mut volume = image.mount_writable();
    // Group 0: only every second block is free.
    let taken = take_all(&mut volume, 1, Caller::ROOT);
    volume.commit_transaction().unwrap();
    for run in taken.iter().filter(|run| run.start < 8000 && run.start % 2 == 0) {
        free(&mut volume, *run, Freed::Data);
    }
    for run in taken.iter().filter(|run| (26_000..26_300).contains(&run.start)) {
        free(&mut volume, *run, Freed::Data);
    }
    volume.commit_transaction().unwrap();
    let run = take(&mut volume, 7001, 300, Caller::ROOT).unwrap();
    assert_eq!((run.start, run.count), (26_000, 300));
    let at_goal = taken.iter().find(|run| run.start > 5000 && run.start % 2 == 0).unwrap().start;
    let run = take(&mut volume, at_goal, 300, Caller::ROOT).unwrap();
    assert_eq!((run.start, run.count), (at_goal, 1));
}

#[test]
fn what_is_freed_is_not_taken_before_the_freeing_is_in_place() {
    let image = empty("20M", &["-b", "1024", "-m", "0"]);
    let mut volume = image.mount_writable();
    let taken = take_all(&mut volume, 500, USER);
    volume.commit_transaction().unwrap();
    free(&mut volume, taken[3], Freed::Data);
    free(&mut volume, taken[5], Freed::Metadata);
    assert_eq!(volume.totals.free_blocks, u64::from(taken[3].count + taken[5].count));
    assert_eq!(take(&mut volume, taken[3].start, 1, USER), Err(Errno::ENOSPC.into()));
    volume.commit_transaction().unwrap();
    assert_eq!(take(&mut volume, taken[3].start, 500, USER), Ok(taken[3]));
    assert_eq!(take(&mut volume, taken[5].start, 500, USER), Ok(taken[5]));
}

#[test]
fn what_the_same_transaction_took_and_freed_waits_for_its_commit() {
    let image = empty("20M", &["-b", "1024"]);
    let mut volume = image.mount_writable();
    let run = take(&mut volume, 9000, 10, USER).unwrap();
    free(&mut volume, run, Freed::Data);
    let other = take(&mut volume, 9000, 10, USER).unwrap();
    assert!(other.start >= end(&run), "{other:?}");
    free(&mut volume, other, Freed::Data);
    volume.commit_transaction().unwrap();
    assert_eq!(take(&mut volume, 9000, 10, USER), Ok(run));
}

#[test]
fn directories_of_the_root_are_spread_and_deeper_ones_stay_with_their_parent() {
    let image = Image::new("40M", &["-b", "1024", "-g", "1024", "-N", "4096"], |_| {});
    let mut volume = image.mount_writable();
    let per_group = volume.superblock.s_inodes_per_group;
    let group = |number: u32| (number - 1) / per_group;
    let mut directory = |parent| volume.atomically(|volume| volume.allocate_inode(parent, true)).unwrap();
    let tops: Vec<u32> = (0..20).map(|_| directory(ROOT)).collect();
    let mut groups: Vec<u32> = tops.iter().map(|number| group(*number)).collect();
    groups.sort_unstable();
    groups.dedup();
    assert!(groups.len() >= 15, "20 directories in {} groups", groups.len());
    for parent in &tops {
        for _ in 0..3 {
            assert_eq!(group(directory(*parent)), group(*parent));
        }
    }
    for parent in tops {
        let file = volume.atomically(|volume| volume.allocate_inode(parent, false)).unwrap();
        assert_eq!(group(file), group(parent));
    }
}

#[test]
fn directories_are_counted_where_they_lie() {
    let image = empty("40M", &["-b", "1024", "-O", "^metadata_csum,uninit_bg"]);
    let mut volume = image.mount_writable();
    let extra = i_extra_isize(&volume.superblock);
    let mut made = Vec::new();
    for _ in 0..12 {
        let number = volume.atomically(|volume| {
            let number = volume.allocate_inode(ROOT, true)?;
            let block = volume.allocate_blocks(volume.goal_for_inode(number), 1, Caller::ROOT)?;
            let content = volume.new_block(block.start)?;
            put_le32(content, 0, number);
            content[4..9].copy_from_slice(&[12, 0, 1, 2, b'.']);
            put_le32(content, 12, ROOT);
            put_le16(content, 16, 1024 - 12);
            content[18..22].copy_from_slice(&[2, 2, b'.', b'.']);
            volume.edit_inode(number, |inode| {
                inode.initialize(extra, 1);
                inode.set_mode(0o40_755);
                inode.set_links(2);
                inode.set_size(1024);
                inode.set_blocks512(2);
                put_le32(inode.i_block(), 0, u32::try_from(block.start).unwrap());
                Ok(())
            })?;
            volume.edit_inode(ROOT, |root| {
                root.set_links(root.links() + 1);
                Ok(())
            })?;
            Ok(number)
        });
        made.push(number.unwrap());
    }
    let spare = volume.atomically(|volume| volume.allocate_inode(ROOT, true)).unwrap();
    volume.atomically(|volume| volume.free_inode(spare, true)).unwrap();
    volume.commit_transaction().unwrap();
    std::fs::write(image.file(), volume.unmount().unwrap()).unwrap();
    let requests: Vec<String> = made.iter().map(|number| format!("link <{number}> dir{number}")).collect();
    image.debugfs_script(&requests.iter().map(String::as_str).collect::<Vec<_>>());
    image.check_file();
}
