// SPDX-License-Identifier: MIT OR Apache-2.0

//! The inodes that need attention beyond their names: those that somebody has open, and orphans.
//!
//! A fixed hash table with open addressing. Of an orphan it keeps which one stands in front of it in the list on the
//! volume, so that it can be taken out without a walk through the list.

use alloc::boxed::Box;
use alloc::vec;

/// Inodes that can be attended to at a time.
const CAPACITY: usize = 32_768;
/// Of these, how many are kept back for orphans that nobody has open: files in the middle of being truncated.
const KEPT_BACK: usize = 64;
/// Places of the table: a power of two, and enough that chains stay short.
const PLACES: usize = 65_536;

/// Why an inode is attended to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// The inode; 0 for a free place.
    number: u32,
    /// How often it is kept open.
    opens: u32,
    /// If it is an orphan: the one in front of it.
    orphan: Option<Front>,
}

/// What stands in front of an orphan in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Front {
    /// The superblock: it is the first.
    Superblock,
    /// Another orphan.
    Orphan(u32),
}

/// The table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TableFull;

const FREE: Entry = Entry { number: 0, opens: 0, orphan: None };

/// The table.
#[derive(Debug)]
pub(super) struct Attended {
    places: Box<[Entry]>,
    count: usize,
}

impl Attended {
    /// An empty table; all its memory is allocated here.
    pub(super) fn new() -> Self {
        Self { places: vec![FREE; PLACES].into_boxed_slice(), count: 0 }
    }

    /// Where the search for `number` begins.
    fn home(&self, number: u32) -> usize {
        // Fibonacci hashing: neighbouring numbers, as directories have them, are spread.
        let mixed = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        usize::try_from(mixed).unwrap_or_default() & self.mask()
    }

    fn mask(&self) -> usize {
        self.places.len().saturating_sub(1)
    }

    /// The places from `number`'s home on.
    fn probe(&self, number: u32) -> impl Iterator<Item = usize> + use<> {
        let (home, mask) = (self.home(number), self.mask());
        (0..=mask).map(move |step| home.wrapping_add(step) & mask)
    }

    fn position(&self, number: u32) -> Option<usize> {
        for place in self.probe(number) {
            match self.places.get(place) {
                Some(entry) if entry.number == number => return Some(place),
                Some(entry) if entry.number == 0 => return None,
                _ => {}
            }
        }
        None
    }

    fn get(&self, number: u32) -> Option<&Entry> {
        self.places.get(self.position(number)?)
    }

    /// The entry of `number`, made if there is room below `limit`.
    fn entry(&mut self, number: u32, limit: usize) -> Result<&mut Entry, TableFull> {
        let place = match self.position(number) {
            Some(place) => place,
            None if self.count < limit => {
                let is_free = |place: &usize| self.places.get(*place).is_some_and(|entry| entry.number == 0);
                let free = self.probe(number).find(is_free).ok_or(TableFull)?;
                self.count = self.count.saturating_add(1);
                if let Some(entry) = self.places.get_mut(free) {
                    *entry = Entry { number, ..FREE };
                }
                free
            }
            None => return Err(TableFull),
        };
        self.places.get_mut(place).ok_or(TableFull)
    }

    /// Frees the entry of `number` if nothing needs it any more.
    fn drop_if_unneeded(&mut self, number: u32) {
        let Some(mut hole) = self.position(number) else { return };
        let unneeded = |entry: &Entry| entry.opens == 0 && entry.orphan.is_none();
        if !self.places.get(hole).is_some_and(unneeded) {
            return;
        }
        self.count = self.count.saturating_sub(1);
        // What follows without a gap moves up where that brings it no further in front than its home.
        let mask = self.mask();
        let mut next = hole.wrapping_add(1) & mask;
        while let Some(entry) = self.places.get(next).copied().filter(|entry| entry.number != 0) {
            let from_home = next.wrapping_sub(self.home(entry.number)) & mask;
            let from_hole = next.wrapping_sub(hole) & mask;
            if from_home >= from_hole {
                if let Some(place) = self.places.get_mut(hole) {
                    *place = entry;
                }
                hole = next;
            }
            next = next.wrapping_add(1) & mask;
        }
        if let Some(place) = self.places.get_mut(hole) {
            *place = FREE;
        }
    }

    /// Counts one more who has `number` open.
    pub(super) fn open(&mut self, number: u32) -> Result<(), TableFull> {
        let entry = self.entry(number, CAPACITY - KEPT_BACK)?;
        entry.opens = entry.opens.checked_add(1).ok_or(TableFull)?;
        Ok(())
    }

    /// Counts one less; says whether that was the last.
    pub(super) fn close(&mut self, number: u32) -> bool {
        let Some(entry) = self.position(number).and_then(|place| self.places.get_mut(place)) else {
            return false;
        };
        let was_last = entry.opens == 1;
        entry.opens = entry.opens.saturating_sub(1);
        self.drop_if_unneeded(number);
        was_last
    }

    /// Whether anybody has `number` open.
    pub(super) fn is_open(&self, number: u32) -> bool {
        self.get(number).is_some_and(|entry| entry.opens > 0)
    }

    /// Whether there is room for one more orphan that is not open.
    pub(super) fn has_room(&self, number: u32) -> bool {
        self.count < CAPACITY || self.position(number).is_some()
    }

    /// What stands in front of the orphan `number`; `None` if it is none.
    pub(super) fn front(&self, number: u32) -> Option<Front> {
        self.get(number)?.orphan
    }

    /// Says what stands in front of `number` in the list of orphans; `None` if it is no orphan any more.
    pub(super) fn set_front(&mut self, number: u32, front: Option<Front>) -> Result<(), TableFull> {
        if front.is_some() || self.position(number).is_some() {
            self.entry(number, CAPACITY)?.orphan = front;
        }
        self.drop_if_unneeded(number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::testing::Numbers;
    use std::collections::BTreeMap;

    #[test]
    fn opens_are_counted_and_the_last_close_says_so() {
        let mut table = Attended::new();
        table.open(12).unwrap();
        table.open(12).unwrap();
        assert!(table.is_open(12) && !table.is_open(13));
        assert!(!table.close(12));
        assert!(table.close(12));
        assert!(!table.close(12) && !table.is_open(12));
    }

    #[test]
    fn an_orphan_is_kept_whether_it_is_open_or_not() {
        let mut table = Attended::new();
        table.set_front(5, Some(Front::Superblock)).unwrap();
        table.open(5).unwrap();
        assert!(table.close(5));
        assert_eq!(table.front(5), Some(Front::Superblock));
        table.set_front(5, Some(Front::Orphan(9))).unwrap();
        assert_eq!(table.front(5), Some(Front::Orphan(9)));
        table.set_front(5, None).unwrap();
        assert_eq!((table.front(5), table.count), (None, 0));
    }

    #[test]
    fn a_full_table_keeps_room_for_orphans() {
        let mut table = Attended::new();
        let capacity = u32::try_from(CAPACITY - KEPT_BACK).unwrap();
        for number in 1..=capacity {
            table.open(number).unwrap();
        }
        assert_eq!(table.open(capacity + 1), Err(TableFull));
        assert_eq!(table.open(1), Ok(()));
        assert!(table.has_room(capacity + 1));
        assert_eq!(table.set_front(capacity + 1, Some(Front::Superblock)), Ok(()));
    }

    #[test]
    fn it_agrees_with_a_map_whatever_is_opened_and_closed() {
        let (mut table, mut map) = (Attended::new(), BTreeMap::<u32, u32>::new());
        let mut numbers = Numbers(7);
        for _ in 0..200_000 {
            let number = u32::try_from(numbers.below(3000) * 65_536 + 1).unwrap();
            if numbers.below(2) == 0 {
                table.open(number).unwrap();
                *map.entry(number).or_default() += 1;
            } else {
                let was_last = map.get(&number) == Some(&1);
                assert_eq!(table.close(number), was_last);
                if let Some(opens) = map.get_mut(&number) {
                    *opens -= 1;
                }
                map.retain(|_, opens| *opens > 0);
            }
            assert_eq!(table.is_open(number), map.contains_key(&number));
        }
        assert_eq!(table.count, map.len());
    }
}
