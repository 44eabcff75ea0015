// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a change of a directory costs: time, and blocks.

use super::*;
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
    time(&mut subject, 1100, 100_000);
    let large = time(&mut subject, 100_000, 101_000);
    std::eprintln!("a name in a directory of 100: {small:?}; of 100,000: {large:?}");
    assert!(large < small * 3, "{large:?} is more than three times {small:?}");
}

/// All blocks of the volume but the journal's, as they are read.
fn blocks(volume: &TestVolume) -> Vec<Vec<u8>> {
    let journal = volume.journal_inode().unwrap();
    let mut logged = BTreeSet::new();
    let length = journal.size / u64::from(volume.superblock().block_size);
    volume
        .map(&journal, 0..length, &mut |run| {
            let first = run.physical.unwrap();
            logged.extend(first..first + run.blocks.end - run.blocks.start);
            Ok(())
        })
        .unwrap();
    let all = (2..volume.superblock().s_blocks_count).filter(|block| !logged.contains(block));
    all.map(|block| volume.block(block).unwrap().to_vec()).collect()
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
