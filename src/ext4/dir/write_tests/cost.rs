// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a change of a directory costs: time, and blocks. With `SKERRY_LONG=1`, in a larger one.

use super::*;
use crate::ext4::testing::blocks;
use std::time::{Duration, Instant};

#[test]
fn a_name_costs_the_same_in_a_large_directory() {
    let mut subject = Subject::new("64M", &["-b", "4096"]);
    let time = |subject: &mut Subject, from: usize, to: usize| {
        let mut fastest = Duration::MAX;
        for start in (from..to).step_by(100) {
            let begin = Instant::now();
            for number in start..start + 100 {
                let (directory, inode) = (subject.directory, subject.files[0]);
                subject
                    .volume
                    .atomically(|volume| {
                        let name = format!("some-name-{number}");
                        volume.insert_name(directory, name.as_bytes(), inode, FileKind::Regular, Caller::ROOT)
                    })
                    .unwrap();
                subject.volume.commit_transaction().unwrap();
            }
            fastest = fastest.min(begin.elapsed());
        }
        fastest / 100
    };
    let small = time(&mut subject, 100, 1100);
    let many = repeats(30_000, 100_000);
    time(&mut subject, 1100, many);
    let large = time(&mut subject, many, many + 1000);
    std::eprintln!("a name in a directory of 100: {small:?}; of {many}: {large:?}");
    assert!(large < small * 3, "{large:?} is more than three times {small:?}");
}

#[test]
fn a_name_that_has_room_changes_the_block_of_its_leaf_alone() {
    let mut subject = Subject::new("4M", &["-b", "1024"]);
    let mut numbers = Numbers(0x1eaf);
    churn(&mut subject, &mut numbers, 1200, 600);
    let (mut alone, mut grown) = (0, 0);
    for _ in 0..200 {
        let name = name(&mut numbers, 60);
        if subject.model.contains_key(&name) {
            continue;
        }
        let (before, free) = (blocks(&subject.volume), subject.volume.status().unwrap().blocks_free);
        subject.insert(&name).unwrap();
        let changed = before.iter().zip(blocks(&subject.volume)).filter(|(a, b)| *a != b).count();
        if subject.volume.status().unwrap().blocks_free == free {
            assert_eq!(changed, 1);
            alone += 1;
        } else {
            // Leaf, new leaf, node above; inode; bitmap, descriptor.
            assert!(changed <= 8, "{changed}");
            grown += 1;
        }
    }
    assert!(alone > 100 && grown > 0, "{alone} {grown}");
    subject.check();
}
