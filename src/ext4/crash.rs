// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a crash may leave: a region that records every store, and the states that follow from the record.
//!
//! * Death of the program: all stores up to some ordered one (a publish or a flush), and any of those that follow it up to the
//!   next ordered one, in units of eight bytes.
//! * Loss of power: all that was stored before the last flush; of each 512-byte sector that was stored to since, any version that
//!   it had.
//!
//! A record can be falsified, for controls: whoever judges states must notice that.

use std::collections::BTreeMap;
use std::mem::take;
use std::ops::Range;
use std::vec::Vec;

use super::testing::Numbers;
use crate::mem::region::{FlushFault, Region};

/// Stores of this many bytes are whole or not there when a program dies.
const WORD: usize = 8;
/// Stores within this many bytes are on the medium together.
const SECTOR: usize = 512;

/// Something that happened to a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Bytes were stored, in any order within the event and among neighbours of the kind.
    Store(usize, Vec<u8>),
    /// Bytes were stored after everything before and before everything after.
    Publish(usize, Vec<u8>),
    /// Everything before became durable.
    Flush,
    /// The workload says something about itself.
    Mark(u64),
}

/// A region that records.
pub(super) struct Recorder {
    bytes: Vec<u8>,
    /// The bytes as the events tell them.
    told: Vec<u8>,
    /// What was lent out and may have been stored to.
    lent: Range<usize>,
    events: Vec<Event>,
    initial: Vec<u8>,
}

impl Recorder {
    /// A region that holds `bytes`, durably.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { told: bytes.clone(), initial: bytes.clone(), bytes, lent: 0..0, events: Vec::new() }
    }

    /// Records a mark.
    pub(super) fn mark(&mut self, mark: u64) {
        self.settle();
        self.events.push(Event::Mark(mark));
    }

    /// The record so far.
    pub(super) fn record(mut self) -> Record {
        self.settle();
        Record { initial: self.initial, events: self.events }
    }

    /// Turns what was stored to the lent range into events, one for each run of words that differ.
    fn settle(&mut self) {
        let range = take(&mut self.lent);
        let mut at = range.start - range.start % WORD;
        while at < range.end {
            let start = at;
            while at < range.end && self.bytes[at..at + WORD] != self.told[at..at + WORD] {
                at += WORD;
            }
            if at > start {
                self.events.push(Event::Store(start, self.bytes[start..at].to_vec()));
                self.told[start..at].copy_from_slice(&self.bytes[start..at]);
            } else {
                at += WORD;
            }
        }
    }

    fn store_in_order(&mut self, offset: u64, bytes: &[u8]) -> Option<()> {
        self.settle();
        let start = usize::try_from(offset).ok()?;
        assert!(start.is_multiple_of(bytes.len()), "an ordered store is aligned");
        self.bytes.get_mut(start..start + bytes.len())?.copy_from_slice(bytes);
        self.told[start..start + bytes.len()].copy_from_slice(bytes);
        self.events.push(Event::Publish(start, bytes.to_vec()));
        Some(())
    }
}

impl Region for Recorder {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn bytes(&self, offset: u64, length: usize) -> Option<&[u8]> {
        Region::bytes(&self.bytes, offset, length)
    }

    fn bytes_mut(&mut self, offset: u64, length: usize) -> Option<&mut [u8]> {
        self.settle();
        let start = usize::try_from(offset).ok()?;
        let slice = self.bytes.get_mut(start..start.checked_add(length)?)?;
        self.lent = start..start + length;
        Some(slice)
    }

    fn copy_within(&mut self, from: u64, to: u64, length: usize) -> Option<()> {
        let copy = self.bytes(from, length)?.to_vec();
        self.bytes_mut(to, length)?.copy_from_slice(&copy);
        Some(())
    }

    fn publish(&mut self, offset: u64, bytes: [u8; 4]) -> Option<()> {
        self.store_in_order(offset, &bytes)
    }

    fn publish_pair(&mut self, offset: u64, bytes: [u8; 8]) -> Option<()> {
        self.store_in_order(offset, &bytes)
    }

    fn flush(&mut self) -> Result<(), FlushFault> {
        self.settle();
        self.events.push(Event::Flush);
        Ok(())
    }
}

/// A state that a crash may leave.
pub(super) struct Crash {
    pub bytes: Vec<u8>,
    /// The last mark before the crash.
    pub marked: Option<u64>,
    /// The last mark before the last flush.
    pub flushed: Option<u64>,
}

/// What happened to a region that held `initial` at first.
#[derive(Clone)]
pub(super) struct Record {
    initial: Vec<u8>,
    events: Vec<Event>,
}

impl Record {
    pub(super) fn events(&self) -> &[Event] {
        &self.events
    }

    /// A control: the record as if flush `index` had done nothing.
    pub(super) fn without_flush(&self, index: usize) -> Self {
        let mut record = self.clone();
        let flushes: Vec<usize> =
            (0..self.events.len()).filter(|at| self.events[*at] == Event::Flush).collect();
        record.events.remove(flushes[index]);
        record
    }

    /// A control: the record as if event `index`, a publish, came behind the next event that has a place in the order.
    pub(super) fn with_late_publish(&self, index: usize) -> Self {
        let mut record = self.clone();
        let late = record.events.remove(index);
        let ordered = |event: &Event| matches!(event, Event::Publish(..) | Event::Flush);
        let next = record.events[index..]
            .iter()
            .position(ordered)
            .map_or(record.events.len(), |next| index + next + 1);
        record.events.insert(next, late);
        record
    }

    /// A control: the record as if no store had a place in an order.
    pub(super) fn with_publishes_unordered(&self) -> Self {
        let mut record = self.clone();
        for event in &mut record.events {
            if let Event::Publish(offset, bytes) = event {
                *event = Event::Store(*offset, take(bytes));
            }
        }
        record
    }

    /// The states that this record leads to; those of points that grow are found quickly.
    pub(super) fn replay(&self) -> Replay<'_> {
        Replay { record: self, done: 0, bytes: self.initial.clone() }
    }

    /// The state if the program dies after `point` events, in the order in which they are recorded.
    pub(super) fn dead_after(&self, point: usize) -> Vec<u8> {
        self.replay().after(point).to_vec()
    }

    /// The record of two programs: the first died after `point` events, the second, which `next` is of, went on with
    /// [`what it left`](Self::dead_after).
    pub(super) fn followed_by(&self, point: usize, mut next: Self) -> Self {
        let mut events = self.events[..point].to_vec();
        events.append(&mut next.events);
        Self { initial: self.initial.clone(), events }
    }

    /// How many points there are at which the program may die: [`kill`](Self::kill).
    pub(super) fn len(&self) -> usize {
        self.events.len() + 1
    }

    fn marks(&self, point: usize) -> (Option<u64>, Option<u64>) {
        let (mut marked, mut flushed) = (None, None);
        for event in &self.events[..point] {
            match event {
                Event::Mark(mark) => marked = Some(*mark),
                Event::Flush => flushed = marked,
                _ => {}
            }
        }
        (marked, flushed)
    }

    /// As [`Replay::kill`], of one point.
    pub(super) fn kill(&self, point: usize, numbers: &mut Numbers) -> Crash {
        self.replay().kill(point, numbers)
    }

    /// As [`Replay::power_loss`], of one point.
    pub(super) fn power_loss(&self, point: usize, numbers: &mut Numbers) -> Crash {
        self.replay().power_loss(point, numbers)
    }
}

/// A record, and the bytes after some of its events.
pub(super) struct Replay<'a> {
    record: &'a Record,
    done: usize,
    bytes: Vec<u8>,
}

impl Replay<'_> {
    /// The bytes after `count` events.
    fn after(&mut self, count: usize) -> &[u8] {
        if count < self.done {
            self.bytes.copy_from_slice(&self.record.initial);
            self.done = 0;
        }
        for event in &self.record.events[self.done..count] {
            if let Event::Store(offset, stored) | Event::Publish(offset, stored) = event {
                self.bytes[*offset..offset + stored.len()].copy_from_slice(stored);
            }
        }
        self.done = count;
        &self.bytes
    }

    /// The state if the program dies after `point` events, with some of the stores after the last ordered event.
    ///
    /// A mark has a place in the order too: what it speaks of was ordered by the workload.
    pub(super) fn kill(&mut self, point: usize, numbers: &mut Numbers) -> Crash {
        let events = &self.record.events;
        let ordered = |event: &Event| matches!(event, Event::Publish(..) | Event::Flush);
        let whole = events[..point].iter().rposition(ordered).map_or(0, |last| last + 1);
        // Stores that the compiler moved up from behind `point` are among those that may be there.
        let end = events[point..].iter().position(ordered).map_or(events.len(), |next| point + next);
        let likely = 1 + numbers.below(7);
        let mut bytes = self.after(whole).to_vec();
        for event in &events[whole..end] {
            let (Event::Store(offset, stored) | Event::Publish(offset, stored)) = event else { continue };
            for (word, at) in stored.chunks(WORD).zip((*offset..).step_by(WORD)) {
                if numbers.below(8) < likely {
                    bytes[at..at + word.len()].copy_from_slice(word);
                }
            }
        }
        let (marked, flushed) = self.record.marks(point);
        Crash { bytes, marked, flushed }
    }

    /// The state if the power fails after `point` events, with some version of each sector.
    pub(super) fn power_loss(&mut self, point: usize, numbers: &mut Numbers) -> Crash {
        let events = &self.record.events;
        let durable = events[..point].iter().rposition(|event| *event == Event::Flush);
        let durable = durable.map_or(0, |last| last + 1);
        let mut bytes = self.after(durable).to_vec();
        let mut versions: BTreeMap<usize, Vec<[u8; SECTOR]>> = BTreeMap::new();
        for event in &events[durable..point] {
            let (Event::Store(offset, stored) | Event::Publish(offset, stored)) = event else { continue };
            let range = *offset..offset + stored.len();
            for sector in range.start / SECTOR..range.end.div_ceil(SECTOR) {
                let start = sector * SECTOR;
                let versions = versions.entry(sector).or_default();
                let mut version =
                    versions.last().copied().unwrap_or_else(|| bytes[start..][..SECTOR].try_into().unwrap());
                let part = range.start.max(start)..range.end.min(start + SECTOR);
                let stored = &stored[part.start - range.start..part.end - range.start];
                version[part.start - start..part.end - start].copy_from_slice(stored);
                versions.push(version);
            }
        }
        // Each sample prefers old or new versions, so that long runs of either are seen too.
        let likely = numbers.below(9);
        for (sector, versions) in versions {
            let place = &mut bytes[sector * SECTOR..(sector + 1) * SECTOR];
            match numbers.below(8) {
                0 => place.copy_from_slice(&versions[numbers.below(versions.len())]),
                choice if choice < likely => place.copy_from_slice(&versions[versions.len() - 1]),
                _ => {}
            }
        }
        let (marked, flushed) = self.record.marks(point);
        Crash { bytes, marked, flushed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn record() -> Record {
        let mut recorder = Recorder::new(vec![0; 2048]);
        recorder.bytes_mut(0, 1024).unwrap()[16] = 1;
        recorder.publish(600, [2; 4]).unwrap();
        recorder.mark(7);
        recorder.bytes_mut(1024, 8).unwrap().fill(3);
        recorder.flush().unwrap();
        recorder.copy_within(16, 1600, 8).unwrap();
        recorder.record()
    }

    #[test]
    fn only_what_changed_is_recorded_in_order() {
        let one = vec![1, 0, 0, 0, 0, 0, 0, 0];
        let events = [
            Event::Store(16, one.clone()),
            Event::Publish(600, vec![2; 4]),
            Event::Mark(7),
            Event::Store(1024, vec![3; 8]),
            Event::Flush,
            Event::Store(1600, one),
        ];
        assert_eq!(record().events(), events);
    }

    #[test]
    fn a_publish_is_never_there_without_what_came_before() {
        let (record, mut numbers) = (record(), Numbers(3));
        let mut seen = [false; 4];
        for point in (0..record.len()).cycle().take(600) {
            let bytes = record.kill(point, &mut numbers).bytes;
            assert!(bytes[600] == 0 || bytes[16] == 1);
            assert!(bytes[1600] == 0 || bytes[1024] == 3);
            seen[usize::from(bytes[16] == 1) + usize::from(bytes[600] == 2)] = true;
            let bytes = record.with_publishes_unordered().kill(point, &mut numbers).bytes;
            seen[3] |= bytes[600] == 2 && bytes[16] == 0;
        }
        assert_eq!(seen, [true; 4]);
    }

    #[test]
    fn what_was_flushed_is_there_and_the_rest_may_be() {
        let (record, mut numbers) = (record(), Numbers(3));
        let (mut without, mut lost) = (false, false);
        for _ in 0..200 {
            let crash = record.power_loss(record.len() - 1, &mut numbers);
            assert_eq!((crash.bytes[16], crash.bytes[600], crash.bytes[1024]), (1, 2, 3));
            assert_eq!((crash.marked, crash.flushed), (Some(7), Some(7)));
            lost |= crash.bytes[1600] == 0;
            let crash = record.without_flush(0).power_loss(record.len() - 2, &mut numbers);
            without |= crash.bytes[600] == 2 && crash.bytes[16] == 0;
        }
        assert!(without && lost);
    }
}
