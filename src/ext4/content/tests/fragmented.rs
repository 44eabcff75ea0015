// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files of thousands of extents: their trees grow, are split, joined, cut and damaged.

use super::*;
use crate::ext4::testing::blocks;

#[test]
fn a_file_of_every_second_block_is_filled_up_and_then_cut_to_nothing() {
    for (options, blocks, levels) in
        [(&["-b", "1024"][..], 6400, 2), (&["-b", "4096", "-O", "^metadata_csum"], 6400, 2)]
    {
        let size = options[1].parse().unwrap();
        let (image, numbers) = volume(if size == 1024 { "16M" } else { "48M" }, options, 1);
        let before = free_blocks(&image);
        let number = numbers[0];
        let block = |index: u64| {
            pattern(size)[..].iter().map(|byte| byte ^ index.to_le_bytes()[0]).collect::<Vec<u8>>()
        };
        let mut volume = image.mount_writable();
        for index in (0..blocks).step_by(2) {
            write(&mut volume, number, index * size as u64, &block(index)).unwrap();
            if index % 100 == 0 {
                volume.commit_transaction().unwrap();
            }
        }
        image.check(volume);
        let (count, depth) = extents(&image, "/0");
        assert_eq!(count as u64, blocks / 2);
        assert!(depth >= levels - usize::from(size == 4096), "{depth}");
        let mut volume = image.mount_writable();
        let mut random = Numbers(9);
        let mut gaps: Vec<u64> = (1..blocks).step_by(2).collect();
        while !gaps.is_empty() {
            let index = gaps.swap_remove(random.below(gaps.len()));
            write(&mut volume, number, index * size as u64, &block(index)).unwrap();
            if index % 100 == 1 {
                volume.commit_transaction().unwrap();
            }
        }
        let expected: Vec<u8> = (0..blocks).flat_map(block).collect();
        assert!(content(&volume, number) == expected);
        image.check(volume);
        let (count, depth) = extents(&image, "/0");
        assert!(count < 100, "neighbours are joined: {count}, {depth}");
        assert!(dumped(&image, "/0") == expected);
        let mut volume = image.mount_writable();
        for size in [expected.len() as u64 - 1, 3_000_001, 3_000_000, 1_234_567, 70_000, 4096, 1, 0] {
            resize(&mut volume, number, size);
            assert!(content(&volume, number) == expected[..index(size)]);
        }
        image.check(volume);
        assert_eq!(free_blocks(&image), before);
    }
}

#[test]
fn a_fragmented_file_is_cut_in_steps_to_every_kind_of_size() {
    let (image, numbers) = volume("16M", &["-b", "1024"], 1);
    let before = free_blocks(&image);
    let number = numbers[0];
    let mut volume = image.mount_writable();
    let mut expected = std::vec![0; 2 * 3000 * 1024];
    for index in 0..3000 {
        let at = index * 2048 + 1000;
        expected[at..at + 50].fill(9);
        write(&mut volume, number, at as u64, &[9; 50]).unwrap();
    }
    expected.truncate(2999 * 2048 + 1050);
    assert!(content(&volume, number) == expected);
    for size in [
        2999 * 2048 + 1049,
        5_000_000,
        4_999_999,
        4_000_000,
        2_000_000,
        84 * 2048,
        83 * 2048,
        5 * 2048,
        4 * 2048,
        1040,
        0,
    ] {
        resize(&mut volume, number, size as u64);
        assert!(content(&volume, number) == expected[..size]);
        image.check(volume);
        volume = image.mount_writable();
        assert!(content(&volume, number) == expected[..size]);
    }
    image.check(volume);
    assert_eq!(free_blocks(&image), before);
}

#[test]
fn extents_come_in_any_order_and_the_tree_stays_valid() {
    for (options, seed) in KINDS.iter().zip(1..) {
        let size: usize = options[1].parse().unwrap();
        let count: u64 = if size == 4096 { 2000 } else { 1500 };
        let (image, numbers) = volume(if size == 1024 { "16M" } else { "64M" }, options, 3);
        image.debugfs(&format!("fallocate /2 0 {}", 2 * count - 1));
        let mut volume = image.mount_writable();
        let mut random = Numbers(seed);
        let mut shuffled: Vec<u64> = (0..count).collect();
        for index in 0..shuffled.len() {
            let other = random.below(index + 1);
            shuffled.swap(index, other);
        }
        let mut expected = std::vec![0; 2 * (index(count) - 1) * size + 8];
        for (step, (down, any)) in (0..count).rev().zip(&shuffled).enumerate() {
            for (number, piece) in [(numbers[0], down), (numbers[1], *any), (numbers[2], *any)] {
                let at = 2 * piece * size as u64;
                write(&mut volume, number, at, &piece.to_le_bytes()).unwrap();
                expected[index(at)..index(at) + 8].copy_from_slice(&piece.to_le_bytes());
            }
            if step % 64 == 0 {
                volume.flush_volume().unwrap();
            }
        }
        for number in &numbers {
            assert!(content(&volume, *number) == expected);
        }
        image.check(volume);
        for file in 0..3 {
            assert!(dumped(&image, &format!("/{file}")) == expected);
        }
        assert_eq!(extents(&image, "/0").0 as u64, count);
        let mut volume = image.mount_writable();
        for number in numbers {
            resize(&mut volume, number, 0);
        }
        image.check(volume);
    }
}

#[test]
fn no_changed_byte_of_the_metadata_makes_a_change_panic() {
    for options in [&["-b", "1024", "-N", "64", "-O", "^metadata_csum"][..], &["-b", "1024", "-N", "64"]] {
        let (image, numbers) = volume("3M", options, 2);
        let mut volume = image.mount_writable();
        for index in 0..120 {
            write(&mut volume, numbers[0], index * 2048, b"piece").unwrap();
        }
        volume.flush_volume().unwrap();
        let nodes: Vec<usize> = blocks(&volume)
            .iter()
            .enumerate()
            .filter(|(_, block)| block[..2] == 0xf30au16.to_le_bytes())
            .map(|(number, _)| number * 1024)
            .collect();
        assert_eq!(nodes.len(), 2, "leaves");
        let (table, range) = volume.inode_place(numbers[0]).unwrap();
        let inode = usize::try_from(table).unwrap() * 1024 + range.start;
        // Without a journal to be recovered: what is changed is what is read.
        let original = volume.unmount().unwrap();
        let mut random = Numbers(0xbad);
        let mut went_well = 0;
        for round in 0..1000 {
            let mut bytes = original.clone();
            for _ in 0..=random.below(2) {
                let place = match random.below(4) {
                    0 => inode + random.below(range.len()),
                    1 => 1024 + random.below(40 * 1024),
                    _ => nodes[random.below(2)] + random.below(if round % 2 == 0 { 40 } else { 1024 }),
                };
                bytes[place] = [0, 0xff, random.byte()][random.below(3)];
            }
            let Ok(mut volume) = TestVolume::mount_writable(bytes, || NOON) else { continue };
            for _ in 0..4 {
                let offset = random.below(300_000) as u64;
                went_well += u32::from(write(&mut volume, numbers[0], offset, &[1; 3000]).is_ok());
            }
            let size = random.below(200_000) as u64;
            for _ in 0..100 {
                match volume.atomically(|volume| volume.free_content_step(numbers[0], size)) {
                    Ok(true) => went_well += 1,
                    Ok(false) | Err(_) => break,
                }
            }
            let _ = volume.commit_transaction();
        }
        assert!(went_well > 500, "{went_well}");
    }
}
