// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files are written, grown and cut on real volumes, and compared with plain bytes; `e2fsck` and `debugfs` judge what is left.

mod fragmented;

use super::*;
use crate::ext4::testing::{Image, NOON, Numbers, TestVolume, pattern, read};
use crate::fs::{FileSystem, Timestamp};
use std::format;
use std::vec::Vec;

/// Feature sets and block sizes, each first option pair the block size.
const KINDS: [&[&str]; 5] = [
    &["-b", "1024"],
    &["-b", "2048", "-O", "^metadata_csum,^64bit"],
    &["-b", "4096"],
    &["-b", "1024", "-O", "^metadata_csum,uninit_bg,^64bit"],
    &["-b", "4096", "-O", "^flex_bg", "-I", "128"],
];

/// Writes `bytes` as one request; how many went.
fn write(volume: &mut TestVolume, number: u32, offset: u64, bytes: &[u8]) -> Result<u32, Error> {
    volume.write_content(number, Caller::ROOT, Position::At(offset), &mut &*bytes)
}

/// Writes all of `bytes`, in as many requests as it takes.
fn write_all(volume: &mut TestVolume, number: u32, offset: u64, bytes: &[u8]) -> Result<(), Error> {
    let mut done = 0;
    while done < bytes.len() {
        let went = write(volume, number, offset + done as u64, &bytes[done..])?;
        assert_ne!(went, 0);
        done += went as usize;
    }
    Ok(())
}

/// Sets the size, as a change of a file's attributes does it.
fn resize(volume: &mut TestVolume, number: u32, size: u64) {
    if size >= volume.inode(number).unwrap().size {
        return volume.atomically(|volume| volume.grow_content(number, size)).unwrap();
    }
    let set = |inode: &mut crate::ext4::inode_edit::InodeEditor<'_>| {
        inode.set_size(size);
        Ok(())
    };
    volume.atomically(|volume| volume.edit_inode(number, set)).unwrap();
    volume.commit_transaction().unwrap();
    volume.zero_tail(number, size).unwrap();
    while volume.atomically(|volume| volume.free_content_step(number, size)).unwrap() {}
}

/// A volume with empty files `/0`, `/1`, …
fn volume(size: &str, options: &[&str], files: u32) -> (Image, Vec<u32>) {
    let image = Image::new(size, options, |root| {
        for file in 0..files {
            std::fs::write(root.join(format!("{file}")), "").unwrap();
        }
    });
    let numbers = (0..files).map(|file| image.inode(&format!("/{file}"))).collect();
    (image, numbers)
}

/// A size in bytes, as an index.
fn index(size: u64) -> usize {
    usize::try_from(size).unwrap()
}

/// Every block of the volume as it is in its place after a flush; zeros for those of the journal.
fn blocks_in_place(volume: &mut TestVolume) -> Vec<Vec<u8>> {
    volume.flush_volume().unwrap();
    let size = volume.superblock().block_size.length();
    let mut blocks: Vec<Vec<u8>> = volume.region.chunks(size).map(<[u8]>::to_vec).collect();
    let journal = volume.journal_inode().unwrap();
    for number in blocks_of(volume, &journal) {
        blocks[index(number)].fill(0);
    }
    blocks
}

/// The blocks that hold the content of `inode`.
fn blocks_of(volume: &TestVolume, inode: &Inode<'_>) -> Vec<u64> {
    let mut blocks = Vec::new();
    let end = inode.size.div_ceil(u64::from(volume.superblock().block_size));
    volume
        .map(inode, 0..end, &mut |run| {
            if let Some(first) = run.physical {
                blocks.extend(first..first + (run.blocks.end - run.blocks.start));
            }
            Ok(())
        })
        .unwrap();
    blocks
}

/// How many blocks differ that hold nothing of inode `number`'s content.
fn changed_metadata(volume: &mut TestVolume, before: &[Vec<u8>], number: u32) -> Vec<u64> {
    let after = blocks_in_place(volume);
    let data = blocks_of(volume, &volume.inode(number).unwrap());
    let changed = (0..).zip(before.iter().zip(&after)).filter(|(_, (old, new))| old != new);
    changed.map(|(number, _)| number).filter(|number| !data.contains(number)).collect()
}

/// All of the file.
fn content(volume: &TestVolume, number: u32) -> Vec<u8> {
    read(volume, number, 0, u32::MAX).unwrap()
}

/// What `debugfs` finds in `path`.
fn dumped(image: &Image, path: &str) -> Vec<u8> {
    let out = format!("{}.dump", image.file());
    image.debugfs(&format!("dump {path} {out}"));
    std::fs::read(out).unwrap()
}

/// How many extents `path` has, and how deep its tree is.
fn extents(image: &Image, path: &str) -> (usize, usize) {
    let leaves = image.debugfs(&format!("dump_extents -l {path}")).lines().count() - 1;
    let all = image.debugfs(&format!("dump_extents {path}"));
    let levels = all.lines().nth(1).map_or(0, |line| {
        let (_, levels) = line.split_once('/').unwrap();
        levels.split_whitespace().next().unwrap().parse().unwrap()
    });
    (leaves, levels)
}

fn free_blocks(image: &Image) -> u64 {
    image.header("Free blocks").parse().unwrap()
}

/// Changes a volume and plain bytes in the same way.
struct Models {
    numbers: Vec<u32>,
    bytes: Vec<Vec<u8>>,
    random: Numbers,
}

impl Models {
    fn step(&mut self, volume: &mut TestVolume, longest: usize) {
        let random = &mut self.random;
        let file = random.below(self.numbers.len());
        let (number, bytes) = (self.numbers[file], &mut self.bytes[file]);
        let most = [20, 1000, 30_000][random.below(3)];
        let length = 1 + random.below(most);
        let new: Vec<u8> = std::iter::repeat_with(|| random.byte()).take(length).collect();
        match random.below(10) {
            0..=5 => {
                let offset = random.below(longest);
                if bytes.len() < offset + length {
                    bytes.resize(offset + length, 0);
                }
                bytes[offset..offset + length].copy_from_slice(&new);
                write_all(volume, number, offset as u64, &new).unwrap();
            }
            6..=7 => {
                let position = Position::End;
                let mut source = &new[..];
                let went = volume.write_content(number, Caller::ROOT, position, &mut source).unwrap();
                bytes.extend_from_slice(&new[..went as usize]);
            }
            _ => {
                let size = random.below(longest);
                bytes.resize(size, 0);
                resize(volume, number, size as u64);
            }
        }
        if random.below(4) == 0 {
            volume.flush_volume().unwrap();
        }
    }

    fn compare(&self, volume: &TestVolume) {
        for (number, bytes) in self.numbers.iter().zip(&self.bytes) {
            let found = content(volume, *number);
            let differs = found.iter().zip(bytes).position(|(found, byte)| found != byte);
            assert!(found == *bytes, "inode {number}: {} of {}, {differs:?}", found.len(), bytes.len());
        }
    }
}

#[test]
fn files_hold_what_was_written_whatever_the_order_of_writes_and_cuts() {
    for (seed, options) in KINDS.iter().enumerate() {
        let (image, numbers) = volume("16M", options, 3);
        let mut volume = image.mount_writable();
        let random = Numbers(0xf11e + seed as u64);
        let mut models = Models { bytes: std::vec![Vec::new(); 3], numbers, random };
        for step in 0..600 {
            models.step(&mut volume, 400_000);
            if step % 20 == 0 {
                models.compare(&volume);
            }
        }
        models.compare(&volume);
        image.check(volume);
        models.compare(&image.mount());
        for (file, bytes) in models.bytes.iter().enumerate() {
            assert!(dumped(&image, &format!("/{file}")) == *bytes);
        }
    }
}

#[test]
fn unwritten_extents_become_written_where_they_are_written() {
    for (seed, options) in KINDS.iter().enumerate() {
        let (image, numbers) = volume("16M", options, 2);
        image.debugfs("fallocate /0 0 150");
        image.debugfs("fallocate /1 3 90");
        image.debugfs("fallocate /1 100 300");
        let mut volume = image.mount_writable();
        let random = Numbers(0xa110c + seed as u64);
        let mut models = Models { bytes: std::vec![Vec::new(); 2], numbers, random };
        for _ in 0..150 {
            models.step(&mut volume, 200_000);
            models.compare(&volume);
        }
        image.check(volume);
        for (file, bytes) in models.bytes.iter().enumerate() {
            assert!(dumped(&image, &format!("/{file}")) == *bytes);
        }
    }
}

#[test]
fn an_unwritten_extent_is_split_in_three_and_whole_again_once_all_is_written() {
    let (image, numbers) = volume("8M", &["-b", "1024"], 1);
    image.debugfs("fallocate /0 0 99");
    let (whole, _) = extents(&image, "/0");
    let mut volume = image.mount_writable();
    write(&mut volume, numbers[0], 40 * 1024 + 5, b"middle").unwrap();
    image.check(volume);
    assert_eq!(extents(&image, "/0").0, whole + 2);
    let mut expected = std::vec![0; 40 * 1024 + 5];
    expected.extend_from_slice(b"middle");
    assert!(dumped(&image, "/0") == expected);
    let mut volume = image.mount_writable();
    for block in (0..100).rev() {
        write(&mut volume, numbers[0], block * 1024, &[7; 1024]).unwrap();
    }
    image.check(volume);
    assert_eq!(extents(&image, "/0"), (whole, 0));
    assert!(dumped(&image, "/0") == [7; 100 * 1024]);
}

#[test]
fn a_full_volume_gives_short_writes_and_then_an_error_that_changes_nothing() {
    for options in KINDS {
        let (image, numbers) = volume("8M", &[options, &["-m", "0"]].concat(), 3);
        let mut volume = image.mount_writable();
        let chunk = pattern(100_000);
        let mut written = [Vec::new(), Vec::new()];
        'full: loop {
            for (number, bytes) in numbers.iter().zip(&mut written) {
                match write(&mut volume, *number, bytes.len() as u64, &chunk) {
                    Ok(went) => {
                        assert!(went > 0);
                        bytes.extend_from_slice(&chunk[..went as usize]);
                    }
                    Err(Error::Reply(Errno::ENOSPC)) => break 'full,
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
        assert!(written.concat().len() > 3_000_000);
        let full = blocks_in_place(&mut volume);
        let totals = volume.totals;
        assert_eq!(write(&mut volume, numbers[2], 500_000, &chunk), Err(Errno::ENOSPC.into()));
        assert_eq!(volume.totals, totals);
        assert!(blocks_in_place(&mut volume) == full, "not a byte was changed");
        for (number, bytes) in numbers.iter().zip(&written) {
            assert!(content(&volume, *number) == *bytes);
        }
        resize(&mut volume, numbers[0], 0);
        write_all(&mut volume, numbers[2], 7, &chunk).unwrap();
        assert!(content(&volume, numbers[2])[7..] == chunk);
        image.check(volume);
    }
}

#[test]
fn a_write_is_not_cut_short_while_there_is_space_that_was_freed() {
    let (image, numbers) = volume("4M", &["-b", "1024"], 2);
    let mut volume = image.mount_writable();
    let chunk = [7; 60_000];
    let mut end = 0;
    // Until the volume is full.
    while let Ok(count) = write(&mut volume, numbers[0], end, &chunk) {
        end += u64::from(count);
    }
    resize(&mut volume, numbers[0], 0);
    assert_eq!(write(&mut volume, numbers[1], 0, &chunk), Ok(60_000));
    image.check(volume);
}

#[test]
fn what_a_file_held_behind_its_end_is_never_seen_again() {
    for options in KINDS {
        let (image, numbers) = volume("8M", options, 1);
        let mut volume = image.mount_writable();
        let number = numbers[0];
        write_all(&mut volume, number, 0, &[0xee; 20_000]).unwrap();
        // Cut without zeroing: what is behind the end is still there.
        volume
            .atomically(|volume| {
                volume.edit_inode(number, |inode| {
                    inode.set_size(5000);
                    Ok(())
                })
            })
            .unwrap();
        while volume.atomically(|volume| volume.free_content_step(number, 5000)).unwrap() {}
        let mut expected = std::vec![0xee; 5000];
        let check = |volume: &TestVolume, expected: &[u8]| assert!(content(volume, number) == expected);
        resize(&mut volume, number, 5010);
        expected.resize(5010, 0);
        check(&volume, &expected);
        write(&mut volume, number, 5020, b"abc").unwrap();
        expected.resize(5020, 0);
        expected.extend_from_slice(b"abc");
        check(&volume, &expected);
        resize(&mut volume, number, 5500);
        expected.resize(5500, 0);
        check(&volume, &expected);
        resize(&mut volume, number, 3000);
        write(&mut volume, number, 30_000, b"far").unwrap();
        expected.truncate(3000);
        expected.resize(30_000, 0);
        expected.extend_from_slice(b"far");
        check(&volume, &expected);
        image.check(volume);
    }
}

#[test]
fn a_write_sets_times_and_version_and_takes_set_id_bits_from_others_than_root() {
    let (image, numbers) = volume("4M", &[], 1);
    let number = numbers[0];
    image.debugfs("set_inode_field /0 mode 0106755");
    let mut volume = image.mount_writable();
    let version = volume.inode(number).unwrap().version;
    write(&mut volume, number, 0, b"root").unwrap();
    let inode = volume.inode(number).unwrap();
    assert_eq!((inode.modified, inode.changed, inode.mode), (NOON, NOON, 0o106_755));
    assert!(inode.version > version);
    let other = Caller { uid: 1000 };
    volume.write_content(number, other, Position::End, &mut &b" and others"[..]).unwrap();
    assert_eq!(volume.inode(number).unwrap().mode, 0o100_755);
    assert_eq!(content(&volume, number), b"root and others");
    let set = |mode| {
        move |inode: &mut crate::ext4::inode_edit::InodeEditor<'_>| {
            inode.set_mode(mode);
            Ok(())
        }
    };
    volume.atomically(|volume| volume.edit_inode(number, set(0o106_745))).unwrap();
    volume.write_content(number, other, Position::At(0), &mut &b"x"[..]).unwrap();
    assert_eq!(volume.inode(number).unwrap().mode, 0o102_745, "without S_IXGRP it means locking");
    volume.clock = || Timestamp { seconds: 5, nanoseconds: 0 };
    write(&mut volume, number, 0, b"y").unwrap();
    assert_eq!(volume.inode(number).unwrap().modified, NOON, "time does not go back");
    image.check(volume);
}

#[test]
fn overwrites_within_a_tick_are_one_change_unless_somebody_looked_in_between() {
    let (image, numbers) = volume("8M", &["-b", "1024"], 1);
    let mut volume = image.mount_writable();
    let number = numbers[0];
    let node = volume.inode(number).unwrap().node();
    let commits = |volume: &mut TestVolume, caller| {
        volume.write_content(number, caller, Position::At(5), &mut &b"bytes"[..]).unwrap();
        let before = volume.log.as_ref().unwrap().statistics.transactions;
        volume.commit_transaction().unwrap();
        volume.log.as_ref().unwrap().statistics.transactions - before
    };
    let version = |volume: &TestVolume| volume.attributes(node).unwrap().data_version.unwrap();
    assert_eq!(commits(&mut volume, Caller::ROOT), 1, "it grows");
    assert_eq!(commits(&mut volume, Caller::ROOT), 0);
    let seen = version(&volume);
    assert_eq!(commits(&mut volume, Caller::ROOT), 1, "who looked can tell the difference");
    assert_ne!(version(&volume), seen);
    assert_eq!([(); 3].map(|()| commits(&mut volume, Caller::ROOT)), [1, 0, 0]);
    volume.clock = || Timestamp { seconds: NOON.seconds + 1, nanoseconds: 0 };
    assert_eq!([(); 2].map(|()| commits(&mut volume, Caller::ROOT)), [1, 0], "another tick");
    let set_id = |inode: &mut crate::ext4::inode_edit::InodeEditor<'_>| {
        inode.set_mode(0o104_755);
        Ok(())
    };
    volume.atomically(|volume| volume.edit_inode(number, set_id)).unwrap();
    volume.commit_transaction().unwrap();
    assert_eq!(commits(&mut volume, Caller::ROOT), 0);
    assert_eq!(commits(&mut volume, Caller { uid: 1000 }), 1, "it loses what sets the user");
    assert_eq!(volume.inode(number).unwrap().mode, 0o100_755);
    volume.flush_volume().unwrap();
    assert_eq!(content(&volume, number), b"\0\0\0\0\0bytes");
    image.check(volume);
}

#[test]
fn an_overwrite_changes_no_metadata_but_the_inode() {
    let (image, numbers) = volume("8M", &["-b", "1024"], 1);
    let mut volume = image.mount_writable();
    write_all(&mut volume, numbers[0], 0, &pattern(500_000)).unwrap();
    let before = blocks_in_place(&mut volume);
    volume.clock = || Timestamp { seconds: NOON.seconds + 1, nanoseconds: 0 };
    write_all(&mut volume, numbers[0], 1000, &pattern(100_000)).unwrap();
    let (inode, _) = volume.inode_place(numbers[0]).unwrap();
    assert_eq!(changed_metadata(&mut volume, &before, numbers[0]), [inode]);
    image.check(volume);
}

#[test]
fn nothing_is_written_beyond_what_the_format_can_hold() {
    let (image, numbers) = volume("4M", &["-b", "1024"], 1);
    let mut volume = image.mount_writable();
    let limit = (u64::from(u32::MAX)) * 1024;
    assert_eq!(write(&mut volume, numbers[0], limit, b"x"), Err(Errno::EFBIG.into()));
    assert_eq!(write(&mut volume, numbers[0], i64::MAX as u64, b"x"), Err(Errno::EFBIG.into()));
    assert_eq!(write(&mut volume, numbers[0], limit - 2, b"xyz"), Ok(2));
    assert_eq!(volume.inode(numbers[0]).unwrap().size, limit);
    assert_eq!(read(&volume, numbers[0], limit - 2, 9).unwrap(), b"xy");
    let number = numbers[0];
    let grown = volume.atomically(|volume| volume.grow_content(number, limit + 1));
    assert_eq!(grown, Err(Errno::EFBIG.into()));
    assert_eq!(volume.append_block(number, u32::MAX, Caller::ROOT), Err(Errno::EFBIG.into()));
    image.check(volume);
}

#[test]
fn the_first_file_beyond_two_gigabytes_sets_the_feature() {
    let (image, numbers) = volume("4M", &["-O", "^large_file,^huge_file"], 1);
    let mut volume = image.mount_writable();
    let has_feature = || image.mount().superblock().ro_compat.contains(RoCompat::LARGE_FILE);
    write(&mut volume, numbers[0], 0x7fff_fffe, b"x").unwrap();
    image.check(volume);
    assert!(!has_feature());
    let mut volume = image.mount_writable();
    write(&mut volume, numbers[0], 0x7fff_ffff, b"x").unwrap();
    image.check(volume);
    assert!(has_feature());
}

#[test]
fn a_file_with_a_block_map_is_overwritten_but_not_extended() {
    let image = Image::new("4M", &["-t", "ext3", "-b", "1024"], |root| {
        std::fs::write(root.join("file"), pattern(300_000)).unwrap();
    });
    // As `tune2fs -O extents` leaves it: old files keep their maps.
    image.debugfs("feature extents");
    let number = image.inode("/file");
    let mut volume = image.mount_writable();
    write_all(&mut volume, number, 5000, &[1; 280_000]).unwrap();
    let mut expected = pattern(300_000);
    expected[5000..285_000].fill(1);
    assert!(content(&volume, number) == expected);
    let unsupported = Errno::EOPNOTSUPP.into();
    assert_eq!(write(&mut volume, number, 300_000, &[1; 2000]), Err(unsupported));
    assert!(content(&volume, number) == expected);
    image.check(volume);
}

#[test]
fn blocks_of_metadata_are_appended_and_freed() {
    let (image, _) = volume("4M", &["-b", "1024"], 1);
    let (number, mut volume) = (image.inode("/lost+found"), image.mount_writable());
    let size = volume.inode(number).unwrap().size;
    let first = u32::try_from(size / 1024).unwrap();
    let free = volume.totals.free_blocks;
    for logical in first..first + 20 {
        let block = volume.atomically(|volume| {
            let block = volume.append_block(number, logical, Caller::ROOT)?;
            volume.new_block(block)?;
            Ok(block)
        });
        let inode = volume.inode(number).unwrap();
        let found = volume.content_at(&inode, u64::from(logical)..u64::from(logical) + 1);
        assert!(matches!(found, Ok(Mapped::Written { physical, .. }) if Ok(physical) == block));
    }
    assert!(volume.totals.free_blocks <= free - 20);
    while volume.atomically(|volume| volume.free_content_step(number, size)).unwrap() {}
    assert_eq!(volume.totals.free_blocks, free);
    image.check(volume);
}

#[test]
fn one_request_changes_few_blocks_however_scattered_the_free_ones_are() {
    for options in KINDS {
        let size = options[1].parse::<u64>().unwrap();
        let (image, numbers) = volume("16M", &[options, &["-m", "0", "-g", "1024"]].concat(), 3);
        let mut volume = image.mount_writable();
        // Every block in turn to one of two files, until there are none; then one of the two goes.
        for block in 0.. {
            match write(&mut volume, numbers[index(block % 2)], block * 2 * size, &[1; 5]) {
                Ok(_) => {}
                Err(Error::Reply(Errno::ENOSPC)) => break,
                Err(error) => panic!("{error:?}"),
            }
            if block % 50 == 0 {
                volume.commit_transaction().unwrap();
            }
        }
        resize(&mut volume, numbers[0], 0);
        let before = blocks_in_place(&mut volume);
        let went = write(&mut volume, numbers[2], 0, &[2; 1 << 20]).unwrap();
        assert!(u64::from(went) >= 16 * size, "{went}");
        let changed = changed_metadata(&mut volume, &before, numbers[2]);
        assert!(changed.len() < 50, "by a write of {went} bytes: {changed:?}");
        let before = blocks_in_place(&mut volume);
        volume.atomically(|volume| volume.free_content_step(numbers[1], 0)).unwrap();
        let changed = changed_metadata(&mut volume, &before, numbers[2]);
        assert!(!changed.is_empty() && changed.len() < 100, "by one step: {changed:?}");
        resize(&mut volume, numbers[1], 0);
        image.check(volume);
    }
}
