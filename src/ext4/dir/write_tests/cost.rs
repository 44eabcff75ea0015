// SPDX-License-Identifier: MIT OR Apache-2.0

//! How many blocks a change of a directory changes.

use super::*;
use crate::ext4::testing::blocks;

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
