// SPDX-License-Identifier: MIT OR Apache-2.0

//! A table by block number, in memory that is allocated once.
//!
//! The entries lie in the order in which they were added, so that the newest can be taken back and all of them be
//! visited; an open-addressing index finds them.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// Up to a fixed number of entries, each with the number of a block.
#[derive(Debug)]
pub(super) struct Table<V> {
    entries: Vec<Entry<V>>,
    /// Indices of entries, plus one; 0 where there is none. A power of two, at least twice as long as the entries.
    buckets: Box<[u32]>,
    capacity: usize,
}

#[derive(Debug)]
struct Entry<V> {
    number: u64,
    bucket: usize,
    value: V,
}

impl<V: Default> Table<V> {
    /// An empty table for up to `capacity` entries.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: Vec::with_capacity(capacity),
            buckets: vec![0; capacity.max(1).saturating_mul(2).next_power_of_two()].into_boxed_slice(),
            capacity,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many more entries there is room for.
    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.entries.len())
    }

    /// The index of the entry for block `number`.
    pub(super) fn find(&self, number: u64) -> Option<usize> {
        let mut bucket = self.first_bucket(number);
        loop {
            // A bucket of 0 ends the search: at least half of them are.
            let index = self.buckets.get(bucket)?.checked_sub(1)? as usize;
            if self.entries.get(index)?.number == number {
                return Some(index);
            }
            bucket = bucket.wrapping_add(1) & self.mask();
        }
    }

    /// The index of the entry for block `number`, which is added if there is none; `None` if the table is full.
    pub(super) fn insert(&mut self, number: u64) -> Option<usize> {
        if let Some(index) = self.find(number) {
            return Some(index);
        }
        if self.room() == 0 {
            return None;
        }
        let index = self.entries.len();
        let bucket = self.occupy(number, index)?;
        self.entries.push(Entry { number, bucket, value: V::default() });
        Some(index)
    }

    /// Takes the first free bucket for entry `index` with `number`.
    fn occupy(&mut self, number: u64, index: usize) -> Option<usize> {
        let mut bucket = self.first_bucket(number);
        while *self.buckets.get(bucket)? != 0 {
            bucket = bucket.wrapping_add(1) & self.mask();
        }
        *self.buckets.get_mut(bucket)? = u32::try_from(index).ok()?.checked_add(1)?;
        Some(bucket)
    }

    fn first_bucket(&self, number: u64) -> usize {
        /// 2^64 divided by the golden ratio: spreads neighbours.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let hash = number.wrapping_mul(SPREAD) >> 32;
        usize::try_from(hash).unwrap_or_default() & self.mask()
    }

    /// The bits of an index of a bucket.
    fn mask(&self) -> usize {
        // A power of two, so at least 1.
        self.buckets.len().wrapping_sub(1)
    }

    /// The number and the value of entry `index`.
    pub(super) fn get(&self, index: usize) -> Option<(u64, &V)> {
        self.entries.get(index).map(|entry| (entry.number, &entry.value))
    }

    /// The value of entry `index`.
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut V> {
        self.entries.get_mut(index).map(|entry| &mut entry.value)
    }

    /// The numbers and values, in the order in which they were added.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.entries.iter().map(|entry| (entry.number, &entry.value))
    }

    /// Takes back all but the first `length` entries.
    pub(super) fn truncate(&mut self, length: usize) {
        // The newest first: no entry that stays was put behind one that goes.
        while self.entries.len() > length {
            if let Some(bucket) = self.entries.pop().and_then(|entry| self.buckets.get_mut(entry.bucket)) {
                *bucket = 0;
            }
        }
    }

    /// Keeps only the entries for which `keep` holds.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(u64, &V) -> bool) {
        for entry in &self.entries {
            if let Some(bucket) = self.buckets.get_mut(entry.bucket) {
                *bucket = 0;
            }
        }
        self.entries.retain(|entry| keep(entry.number, &entry.value));
        for index in 0..self.entries.len() {
            let Some(number) = self.entries.get(index).map(|entry| entry.number) else { return };
            let bucket = self.occupy(number, index).unwrap_or_default();
            if let Some(entry) = self.entries.get_mut(index) {
                entry.bucket = bucket;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::testing::Numbers;
    use std::collections::BTreeMap;

    #[test]
    fn it_agrees_with_a_map_through_insertions_truncations_and_filters() {
        let mut numbers = Numbers(7);
        let mut table = Table::<u32>::new(100);
        let mut order: Vec<u64> = Vec::new();
        let mut model = BTreeMap::new();
        for step in 0..20_000u32 {
            match numbers.below(40) {
                0 => {
                    let length = numbers.below(order.len() + 1);
                    table.truncate(length);
                    for number in order.drain(length..) {
                        model.remove(&number);
                    }
                }
                1 => {
                    table.retain(|number, _| number % 3 != 0);
                    order.retain(|number| number % 3 != 0);
                    model.retain(|number, _| number % 3 != 0);
                }
                _ => {
                    let number = numbers.below(300) as u64;
                    match table.insert(number) {
                        Some(index) => {
                            *table.get_mut(index).unwrap() = step;
                            if model.insert(number, step).is_none() {
                                order.push(number);
                            }
                        }
                        None => assert!(model.len() == 100 && !model.contains_key(&number)),
                    }
                }
            }
            assert_eq!(table.len(), model.len());
            let probe = numbers.below(300) as u64;
            let found = table.find(probe).and_then(|index| table.get(index)).map(|(_, value)| *value);
            assert_eq!(found, model.get(&probe).copied());
            assert!(table.iter().map(|(number, _)| number).eq(order.iter().copied()));
        }
    }
}
