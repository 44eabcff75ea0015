// SPDX-License-Identifier: MIT OR Apache-2.0

//! The arithmetic of a split ring's indices, for every index, against definitions by counting. Indices go on to 65535 and begin anew at 0
//! (virtio 1.2, section 2.7.13.3); an entry's place in the ring is its index modulo the queue size (2.7.6, 2.7.8).

use super::*;
use crate::virtq::driver_model::{Driver, PLAIN};
use std::vec;

/// All sizes that a queue can have.
fn sizes() -> impl Iterator<Item = u16> {
    (1..16).map(|power| 1 << power)
}

/// Indices at which a ring of `size` begins, ends, or comes to 0 again.
fn corners(size: u16) -> [u16; 8] {
    [0, 1, size - 1, size, 0x7fff, 0x8000, size.wrapping_neg(), 0xffff]
}

fn queue(driver: &Driver, next: u16) -> Result<SplitQueue, Fault> {
    SplitQueue::new(&driver.memory(), &QueueConfiguration { next, ..driver.configuration })
}

/// For each index whether it is one of the `size + 1` from `first` on.
fn up_to_a_full_ring(first: u16, size: u16) -> vec::Vec<bool> {
    let mut reached = vec![false; 1 << 16];
    let mut index = first;
    for _ in 0..=size {
        reached[usize::from(index)] = true;
        index = index.wrapping_add(1);
    }
    reached
}

#[test]
fn of_all_available_indices_those_are_believed_that_are_up_to_a_full_ring_ahead() {
    for size in sizes() {
        for next in corners(size) {
            let mut driver = Driver::at(size, PLAIN, next, 64);
            let memory = driver.memory();
            let mut queue = queue(&driver, next).unwrap();
            for (index, possible) in (0..=u16::MAX).zip(up_to_a_full_ring(next, size)) {
                driver.available = index;
                driver.show();
                let expected = if possible {
                    Ok(index != next)
                } else {
                    Err(Fault::AvailableIndex { next, index, size })
                };
                assert_eq!(queue.look(&memory), expected, "{size} {next} {index}");
            }
        }
    }
}

#[test]
fn of_all_positions_those_can_be_resumed_that_are_up_to_a_full_ring_ahead_of_what_was_used() {
    for size in sizes() {
        for used in corners(size) {
            let driver = Driver::at(size, PLAIN, used, 64);
            for (next, possible) in (0..=u16::MAX).zip(up_to_a_full_ring(used, size)) {
                let fault = queue(&driver, next).err();
                let expected = (!possible).then_some(Fault::Resume { next, used, size });
                assert_eq!(fault, expected, "{size} {used} {next}");
            }
        }
    }
}

#[test]
fn the_place_of_every_index_is_its_remainder() {
    for size in sizes() {
        let queue = queue(&Driver::new(size, PLAIN), 0).unwrap();
        for index in 0..=u16::MAX {
            assert_eq!(queue.slot(index), index % size);
        }
    }
}
