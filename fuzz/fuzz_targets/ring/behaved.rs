// SPDX-License-Identifier: MIT OR Apache-2.0

//! A driver that keeps to the rules, and checks that the device does: every chain comes once and in order, with its content;
//! what is written is where it should be; `used` and the wish to notify are what the specification says.

use std::collections::VecDeque;

use arbitrary::Arbitrary;
use skerry::mem::guest::{GuestAddress, GuestMemory};
use skerry::mem::scatter::ScatterList;
use skerry::mem::{Sink, Source};
use skerry::virtq::desc::{available_ring, descriptor_table, used_ring};
use skerry::virtq::{Chain, Queue, QueueConfiguration, Ring, RingFeatures};
use skerry_fuzz::guarded::Guarded;
use skerry_fuzz::sequence::{Few, Rest};

use super::{INDIRECT, NEXT, WRITE, descriptor};

/// Where the memory begins in the guest.
const RAM: u64 = 0x10_0000;
/// Bytes of it: the rings, and a kilobyte for each descriptor.
const LENGTH: usize = 0x2_0000;
/// What lies in a writable buffer before it is written.
const POISON: u8 = 0xa5;

/// What the driver does.
#[derive(Debug, Arbitrary)]
pub struct Script {
    size: u8,
    event_idx: bool,
    indirect: bool,
    start: u16,
    steps: Rest<Step>,
}

#[derive(Debug, Arbitrary)]
enum Step {
    /// Makes a chain available, of buffers of these lengths.
    Offer {
        readable: Few<u8>,
        writable: Few<u8>,
        in_table: bool,
    },
    /// The device takes up to so many, and writes so much of each.
    Drain {
        budget: u8,
        written: u16,
    },
    /// The driver wants no more notifications, or again, after so many.
    Wish {
        wanted: bool,
        after: u8,
    },
    Arm,
}

/// A chain that is available.
struct Offered {
    head: u16,
    content: Vec<u8>,
    writable: Vec<(usize, usize)>,
}

struct Driver {
    ram: Guarded,
    configuration: QueueConfiguration,
    event_idx: bool,
    offered: VecDeque<Offered>,
    /// `avail.idx`, and the number of chains that came back.
    available: u16,
    used: u16,
    /// The next free descriptor, and byte, while no chain is in flight.
    descriptors: u16,
    heap: usize,
    /// The first publication tells the driver in any case.
    told: bool,
}

pub fn run(script: &Script) {
    let size = 2u16 << (script.size % 6);
    let available = u64::from(descriptor_table::length(size));
    let used = (available + u64::from(available_ring::length(size, true))).next_multiple_of(4);
    let heap = (used + u64::from(used_ring::length(size, true))).next_multiple_of(16);
    let mut features = RingFeatures::VERSION_1;
    features.set(RingFeatures::EVENT_IDX, script.event_idx);
    features.set(RingFeatures::INDIRECT_DESC, script.indirect);
    let mut driver = Driver {
        ram: Guarded::new(LENGTH),
        configuration: QueueConfiguration {
            size,
            descriptors: GuestAddress(RAM),
            available: GuestAddress(RAM + available),
            used: GuestAddress(RAM + used),
            features,
            next: script.start,
        },
        event_idx: script.event_idx,
        offered: VecDeque::new(),
        available: script.start,
        used: script.start,
        descriptors: 0,
        heap: usize::try_from(heap).unwrap(),
        told: false,
    };
    let rings = driver.heap;
    driver.put_u16(driver.available_at(available_ring::IDX), script.start);
    driver.put_u16(driver.used_at(used_ring::IDX), script.start);
    let mut memory = GuestMemory::new();
    // SAFETY: the memory is mapped as long as `driver`, which is dropped after this value; no reference into it exists.
    unsafe { memory.add_region(GuestAddress(RAM), LENGTH, driver.ram.start()) }.unwrap();
    let mut queue = Queue::new(&memory, &driver.configuration).unwrap();
    queue.disarm(&memory).unwrap();
    for step in script.steps.0.iter().take(64) {
        match step {
            Step::Offer { readable, writable, in_table } => {
                if driver.offered.is_empty() {
                    (driver.descriptors, driver.heap) = (0, rings);
                }
                driver.offer(&readable.0, &writable.0, *in_table && script.indirect);
            }
            Step::Drain { budget, written } => driver.drain(&memory, &mut queue, *budget, *written),
            Step::Wish { wanted, after } => driver.wish(*wanted, *after),
            Step::Arm => {
                let more = queue.arm(&memory).unwrap();
                assert_eq!(more, !driver.offered.is_empty(), "a chain is seen when the driver is to kick");
                if driver.event_idx {
                    let event = driver.used_at(used_ring::avail_event(size));
                    assert_eq!(
                        driver.u16(event),
                        queue.position(),
                        "the driver is to kick for the next chain"
                    );
                } else {
                    assert_eq!(driver.u16(driver.used_at(used_ring::FLAGS)) & used_ring::NO_NOTIFY, 0);
                }
                queue.disarm(&memory).unwrap();
            }
        }
        assert_eq!(queue.has_available(&memory), Ok(!driver.offered.is_empty()));
    }
    drop(memory);
    driver.ram.check();
}

impl Driver {
    fn available_at(&self, offset: usize) -> usize {
        usize::try_from(self.configuration.available.0 - RAM).unwrap() + offset
    }

    fn used_at(&self, offset: usize) -> usize {
        usize::try_from(self.configuration.used.0 - RAM).unwrap() + offset
    }

    fn put_u16(&self, at: usize, value: u16) {
        self.ram.write(at, &value.to_le_bytes());
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.ram.read(at, 2).try_into().unwrap())
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.ram.read(at, 4).try_into().unwrap())
    }

    /// A place for `length` bytes, no two of which adjoin.
    fn place(&mut self, length: usize) -> Option<usize> {
        let at = self.heap;
        self.heap = at + length + 1;
        (self.heap <= LENGTH).then_some(at)
    }

    fn offer(&mut self, readable: &[u8], writable: &[u8], in_table: bool) {
        let size = self.configuration.size;
        let count = (readable.len() + writable.len()).min(if in_table { 100 } else { usize::from(size) });
        let needed = if in_table { 1 } else { u16::try_from(count).unwrap() };
        if count == 0 || self.descriptors + needed > size {
            return;
        }
        let mut content = Vec::new();
        let mut places = Vec::new();
        let mut buffers = Vec::new();
        let lengths = readable.iter().map(|n| (n, 0)).chain(writable.iter().map(|n| (n, WRITE)));
        for (&length, write) in lengths.take(count) {
            let length = usize::from(length);
            let Some(at) = self.place(length) else { return };
            if write == 0 {
                let bytes: Vec<u8> = (0..length).map(|index| (index * 7 + at) as u8).collect();
                self.ram.write(at, &bytes);
                content.extend(bytes);
            } else {
                self.ram.write(at, &vec![POISON; length + 1]);
                places.push((at, length));
            }
            buffers.push((RAM + at as u64, u32::try_from(length).unwrap(), write));
        }
        let head = self.descriptors;
        let first = if in_table { 0 } else { head };
        let mut table = Vec::new();
        for (index, &(address, length, write)) in buffers.iter().enumerate() {
            let next = first + u16::try_from(index).unwrap() + 1;
            let more = if index + 1 < buffers.len() { NEXT } else { 0 };
            table.extend(descriptor(address, length, write | more, if more == 0 { 0 } else { next }));
        }
        if in_table {
            let Some(at) = self.place(table.len()) else { return };
            self.ram.write(at, &table);
            let length = u32::try_from(table.len()).unwrap();
            table = descriptor(RAM + at as u64, length, INDIRECT, 0);
        }
        self.ram.write(descriptor_table::entry(head), &table);
        self.descriptors += needed;
        let slot = self.available % size;
        self.put_u16(self.available_at(available_ring::entry(slot)), head);
        self.available = self.available.wrapping_add(1);
        self.put_u16(self.available_at(available_ring::IDX), self.available);
        self.offered.push_back(Offered { head, content, writable: places });
    }

    fn wish(&self, wanted: bool, after: u8) {
        if self.event_idx {
            let event =
                if wanted { self.used.wrapping_add(u16::from(after)) } else { self.used.wrapping_sub(1) };
            self.put_u16(self.available_at(available_ring::used_event(self.configuration.size)), event);
        } else {
            self.put_u16(self.available_at(available_ring::FLAGS), u16::from(!wanted));
        }
    }

    /// One pass of the device.
    fn drain(&mut self, memory: &GuestMemory, queue: &mut Queue, budget: u8, written: u16) {
        let mut list = ScatterList::new();
        let old = self.used;
        let mut answered = Vec::new();
        for _ in 0..budget {
            let popped = queue.pop(memory, &mut list).unwrap();
            let Some(Chain { token, buffers }) = popped else {
                assert!(self.offered.is_empty(), "every chain is seen");
                break;
            };
            let (mut from, mut to) = buffers.into_streams();
            let offered = self.offered.pop_front().expect("a chain that was made available");
            let mut content = vec![0; from.remaining()];
            from.take(&mut content).unwrap();
            assert_eq!(content, offered.content);
            let room: usize = offered.writable.iter().map(|(_, length)| length).sum();
            assert_eq!(to.remaining(), room);
            let count = usize::from(written).min(room);
            let bytes: Vec<u8> = (0..count).map(|index| (index % 249) as u8).collect();
            to.put(&bytes).unwrap();
            assert_eq!(to.written() as usize, count);
            queue.push(memory, token, u32::try_from(count).unwrap()).unwrap();
            answered.push((offered, bytes));
        }
        assert_eq!(self.u16(self.used_at(used_ring::IDX)), old, "nothing is shown before it is published");
        let wanted = queue.publish(memory).unwrap();
        self.used = old.wrapping_add(u16::try_from(answered.len()).unwrap());
        assert_eq!(self.u16(self.used_at(used_ring::IDX)), self.used);
        let wishes = if self.event_idx {
            let event = self.u16(self.available_at(available_ring::used_event(self.configuration.size)));
            // Section 2.7.7.2: is the element that used_event names among the new ones?
            event.wrapping_sub(old) < self.used.wrapping_sub(old)
        } else {
            self.u16(self.available_at(available_ring::FLAGS)) & available_ring::NO_INTERRUPT == 0
                && !answered.is_empty()
        };
        if self.told {
            assert_eq!(wanted, wishes, "the driver is told when it wants to be");
        }
        self.told = self.told || wanted;
        for (index, (offered, bytes)) in (0..).zip(answered) {
            let slot = old.wrapping_add(index) % self.configuration.size;
            let element = self.used_at(used_ring::entry(slot));
            assert_eq!(self.u32(element), u32::from(offered.head));
            assert_eq!(self.u32(element + used_ring::LEN) as usize, bytes.len());
            let mut expected = bytes.into_iter();
            for (at, length) in offered.writable {
                let found = self.ram.read(at, length + 1);
                let wanted: Vec<u8> = expected
                    .by_ref()
                    .take(length)
                    .chain(std::iter::repeat(POISON))
                    .take(length + 1)
                    .collect();
                assert_eq!(found, wanted, "the bytes are where the driver wants them, and nowhere else");
            }
        }
    }
}
