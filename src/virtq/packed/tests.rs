// SPDX-License-Identifier: MIT OR Apache-2.0

//! The packed virtqueue against a driver that follows the rules, and against some that do not. See also
//! `two_threads.rs`.

use super::*;
use crate::mem::guest::{BadRange, GuestAddress};
use crate::mem::scatter::{LoadError, MAX_SEGMENTS};
use crate::mem::{Sink, Source};
use crate::virtq::driver_model::packed::PackedDriver;
use crate::virtq::driver_model::{EVENT_IDX, INDIRECT, NEXT, PLAIN, RAM, RingDriver, WITH_INDIRECT, WRITE};
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

/// A chain without a byte.
const NOTHING: [((u64, u32), u16); 1] = [((0, 0), 0)];

/// A device that answers each request with as many bytes 0xaa as it has bytes.
struct Device {
    memory: GuestMemory,
    queue: PackedQueue,
    list: Box<ScatterList>,
}

impl Device {
    fn new(driver: &PackedDriver) -> Self {
        let memory = driver.ram.memory();
        let queue = PackedQueue::new(&memory, &driver.ram.configuration).unwrap();
        Self { memory, queue, list: Box::default() }
    }

    /// Stages the answer to one request; returns its id.
    fn serve(&mut self) -> Result<Option<u16>, Fault> {
        let Some(chain) = self.queue.pop(&self.memory, &mut self.list)? else { return Ok(None) };
        let (readable, mut writable) = chain.buffers.into_streams();
        for _ in 0..readable.remaining() {
            writable.put(&[0xaa]).unwrap();
        }
        let (id, written) = (chain.token.id, writable.written());
        self.queue.push(&self.memory, chain.token, written)?;
        Ok(Some(id))
    }

    fn publish(&mut self) -> bool {
        self.queue.publish(&self.memory).unwrap()
    }

    /// Serves everything, publishes, and returns whether to notify.
    fn pass(&mut self) -> bool {
        while self.serve().unwrap().is_some() {}
        self.publish()
    }
}

fn refused(driver: &PackedDriver) -> Fault {
    PackedQueue::new(&driver.ram.memory(), &driver.ram.configuration).unwrap_err()
}

/// A driver with a buffer in which each byte is its own offset.
fn with_bytes(features: RingFeatures, size: u16) -> (PackedDriver, u64) {
    let mut driver = PackedDriver::new(size, features);
    let buffer = driver.ram.buffer(256);
    driver.ram.write(buffer, &core::array::from_fn::<u8, 256, _>(|index| u8::try_from(index).unwrap()));
    (driver, buffer)
}

/// Offers a chain to a device that was just set up; shows the bytes of the readable stream, the room of the other, and how many places
/// the chain took.
fn popped(driver: &mut PackedDriver, chain: &[((u64, u32), u16)]) -> Result<(Vec<u8>, usize, u16), Fault> {
    driver.ram.configuration.next = driver.off_wrap(driver.available);
    driver.used = driver.available;
    let mut device = Device::new(driver);
    driver.offer(7, chain);
    let chain = device.queue.pop(&device.memory, &mut device.list)?.unwrap();
    assert_eq!(chain.token.id, 7);
    let (mut readable, writable) = chain.buffers.into_streams();
    let mut bytes = vec![0; readable.remaining()];
    readable.take(&mut bytes).unwrap();
    Ok((bytes, writable.remaining(), chain.token.places))
}

#[test]
fn the_size_is_any_number_from_1_to_32768() {
    let mut driver = PackedDriver::new(2, PLAIN);
    for size in [0, 32769, 0xffff] {
        driver.ram.configuration.size = size;
        assert_eq!(refused(&driver), Fault::PackedSize { size });
    }
    for size in [1, 3, 100, 32767, 32768] {
        let mut driver = PackedDriver::new(4, PLAIN);
        driver.ram.configuration.size = size;
        // The ring of a large one does not fit into this RAM; the size is not what is wrong with it.
        let result = PackedQueue::new(&driver.ram.memory(), &driver.ram.configuration);
        assert!(!matches!(result, Err(Fault::PackedSize { .. })), "{size}");
    }
}

#[test]
fn a_legacy_driver_is_refused() {
    let mut driver = PackedDriver::new(2, PLAIN);
    driver.ram.configuration.features = RingFeatures::RING_PACKED;
    assert_eq!(refused(&driver), Fault::Legacy);
}

#[test]
fn each_part_is_aligned_and_lies_in_one_region_to_its_last_byte() {
    let parts = [(Area::Descriptors, 16, 256), (Area::DriverEvent, 4, 4), (Area::DeviceEvent, 4, 4)];
    for (area, alignment, length) in parts {
        let mut driver = PackedDriver::new(16, PLAIN);
        let end = driver.ram.end();
        let place = |driver: &mut PackedDriver, address: u64| {
            let configuration = &mut driver.ram.configuration;
            *match area {
                Area::Descriptors => &mut configuration.descriptors,
                Area::DriverEvent => &mut configuration.available,
                _ => &mut configuration.used,
            } = GuestAddress(address);
        };
        for shift in 1..alignment {
            let address = RAM + 4096 + shift;
            place(&mut driver, address);
            let address = GuestAddress(address);
            assert_eq!(refused(&driver), Fault::Alignment { area, address, alignment });
        }
        let last = (end - length) & !(alignment - 1);
        place(&mut driver, last);
        assert!(PackedQueue::new(&driver.ram.memory(), &driver.ram.configuration).is_ok());
        let address = GuestAddress(last + alignment);
        place(&mut driver, address.0);
        let cause = BadRange::Unmapped { address, length, at: GuestAddress(end) };
        assert_eq!(refused(&driver), Fault::Placement { area, cause });
    }
}

#[test]
fn a_position_behind_the_ring_is_a_fault() {
    for next in [5, 0x7fff, 0x8005, 0xffff] {
        let mut driver = PackedDriver::new(5, PLAIN);
        driver.ram.configuration.next = next;
        assert_eq!(refused(&driver), Fault::PackedResume { next, size: 5 });
    }
}

#[test]
fn a_request_comes_back_with_its_id_and_what_was_written() {
    for features in [PLAIN, EVENT_IDX] {
        let mut driver = PackedDriver::new(8, features);
        let buffer = driver.ram.buffer(64);
        let mut device = Device::new(&driver);
        assert_eq!(device.serve(), Ok(None));
        driver.offer(0x1234, &[((buffer, 7), 0), ((buffer + 32, 9), WRITE)]);
        assert_eq!(device.serve(), Ok(Some(0x1234)));
        assert_eq!(driver.take(), None, "it was seen before it was published");
        assert!(device.publish());
        assert_eq!(driver.flags(0) & WRITE, WRITE, "bytes were written");
        assert_eq!(driver.take(), Some((0x1234, 7)));
        assert_eq!(driver.ram.read(buffer + 32, 9), [0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0, 0]);
        assert_eq!(device.serve(), Ok(None));
        assert_eq!(device.queue.position(), 0x8002);
        driver.offer(1, &NOTHING);
        device.pass();
        assert_eq!((driver.flags(2) & WRITE, driver.take()), (0, Some((1, 0))));
    }
}

#[test]
fn rings_of_every_kind_of_size_go_round_and_round() {
    for size in [1, 2, 3, 5, 8, 13, 100, 128, 1000] {
        let mut driver = PackedDriver::new(size, EVENT_IDX);
        let mut device = Device::new(&driver);
        for round in 0..7_u16 {
            // A full ring, in one pass, from another place each time.
            let ids: Vec<u16> = (0..size).map(|id| id.wrapping_mul(3).wrapping_add(round)).collect();
            ids.iter().for_each(|&id| driver.stage(id, &NOTHING));
            driver.show();
            driver.want(true);
            assert!(device.pass());
            let used: Vec<u32> = core::iter::from_fn(|| driver.take()).map(|(id, _)| id).collect();
            assert!(used.iter().copied().eq(ids.iter().map(|&id| u32::from(id))));
            driver.offer(9, &NOTHING);
            driver.want(true);
            assert!(device.pass());
            assert_eq!(driver.take(), Some((9, 0)));
            assert_eq!(device.queue.position(), driver.off_wrap(driver.available));
        }
    }
}

#[test]
fn chains_of_all_lengths_lie_across_the_end_of_the_ring() {
    let mut driver = PackedDriver::new(7, PLAIN);
    let buffer = driver.ram.buffer(64);
    let mut device = Device::new(&driver);
    for round in 0..200_u16 {
        let length = u32::from(round % 7) + 1;
        let mut chain = vec![((buffer, 1), 0); length as usize];
        if length > 1 {
            *chain.last_mut().unwrap() = ((buffer + 32, 16), WRITE);
        }
        let written = length - 1;
        driver.offer(round, &chain);
        if length == 1 {
            // It has no room for an answer.
            let chain = device.queue.pop(&device.memory, &mut device.list).unwrap().unwrap();
            device.queue.push(&device.memory, chain.token, 0).unwrap();
        }
        device.pass();
        assert_eq!(driver.take(), Some((u32::from(round), written)));
    }
}

#[test]
fn what_a_pass_answered_is_seen_all_at_once() {
    let mut driver = PackedDriver::new(4, PLAIN);
    let mut device = Device::new(&driver);
    for round in 0..9 {
        (0..4).for_each(|id| driver.stage(id, &NOTHING));
        driver.show();
        for _ in 0..4 {
            assert!(device.serve().unwrap().is_some());
            assert_eq!(driver.take(), None, "round {round}");
        }
        assert_eq!(device.serve(), Ok(None), "a chain that was taken is there again");
        device.publish();
        let ids: Vec<_> = core::iter::from_fn(|| driver.take()).map(|(id, _)| id).collect();
        assert_eq!(ids, [0, 1, 2, 3]);
    }
}

#[test]
fn what_is_left_in_the_ring_from_other_laps_is_not_available() {
    // Whatever the marks of a place say but those of this lap, there is nothing to take.
    for (laps, available) in [(0, AVAILABLE_IN_ODD_LAPS), (1, AVAILABLE_IN_EVEN_LAPS)] {
        let driver = PackedDriver::at(4, PLAIN, laps, 1);
        let mut device = Device::new(&driver);
        for marks in [0, 1 << 7, 1 << 15, 1 << 7 | 1 << 15] {
            driver.ram.write(driver.descriptor(driver.available) + 14, &u16::to_le_bytes(marks));
            assert_eq!(
                device.queue.has_available(&device.memory),
                Ok(marks == available),
                "{laps} {marks:#x}"
            );
        }
    }
}

const AVAILABLE_IN_ODD_LAPS: u16 = 1 << 7;
const AVAILABLE_IN_EVEN_LAPS: u16 = 1 << 15;

#[test]
fn a_chain_is_its_readable_and_its_writable_buffers_in_order() {
    let (mut driver, buffer) = with_bytes(PLAIN, 8);
    let nowhere = (u64::MAX, 0);
    let chain = [
        ((buffer + 9, 2), 0),
        (nowhere, 0),
        ((buffer + 4, 1), 0),
        ((buffer, 100), WRITE),
        ((buffer, 20), WRITE),
    ];
    assert_eq!(popped(&mut driver, &chain), Ok((vec![9, 10, 4], 120, 5)));
    assert_eq!(popped(&mut driver, &[((buffer, 3), WRITE)]), Ok((vec![], 3, 1)));
    // Across the end of the ring.
    assert_eq!(popped(&mut driver, &[((buffer + 2, 1), 0); 8]), Ok((vec![2; 8], 0, 8)));
}

#[test]
fn what_the_driver_makes_of_its_descriptors_after_the_walk_has_no_effect() {
    let (mut driver, buffer) = with_bytes(WITH_INDIRECT, 4);
    let table = driver.ram.buffer(32);
    driver.ram.entry(table, 0, (buffer, 2), 0, 0);
    driver.ram.entry(table, 1, (buffer + 8, 2), 0, WRITE);
    let mut device = Device::new(&driver);
    driver.offer(3, &[((table, 32), INDIRECT)]);
    let chain = device.queue.pop(&device.memory, &mut device.list).unwrap().unwrap();
    driver.ram.write(table, &[0xff; 32]);
    driver.ram.write(RAM, &[0xff; 64]);
    let mut request = [0; 2];
    let (mut readable, mut writable) = chain.buffers.into_streams();
    readable.take(&mut request).unwrap();
    writable.put(&[9, 9]).unwrap();
    assert_eq!((request, driver.ram.read(buffer + 8, 3)), ([0, 1], vec![9, 9, 10]));
}

#[test]
fn a_readable_descriptor_after_a_writable_one_is_a_fault() {
    let (mut driver, buffer) = with_bytes(WITH_INDIRECT, 8);
    let chain = [((buffer, 1), 0), ((buffer, 0), WRITE), ((buffer, 1), 0)];
    assert_eq!(popped(&mut driver, &chain), Err(Fault::Order { head: 0 }));
    let table = driver.ram.buffer(16);
    driver.ram.entry(table, 0, (buffer, 1), 0, 0);
    let chain = [((buffer, 1), WRITE), ((table, 16), INDIRECT)];
    assert_eq!(popped(&mut driver, &chain), Err(Fault::Order { head: 3 }));
}

#[test]
fn a_chain_that_does_not_end_is_a_fault_after_one_lap() {
    let (mut driver, buffer) = with_bytes(PLAIN, 4);
    let chain = [((buffer, 1), NEXT); 4];
    assert_eq!(popped(&mut driver, &chain), Err(Fault::ChainTooLong { head: 0, limit: 4 }));
}

#[test]
fn buffers_are_checked_as_those_of_a_split_queue() {
    let (mut driver, buffer) = with_bytes(PLAIN, 4096);
    let end = GuestAddress(driver.ram.end());
    let address = GuestAddress(end.0 - 1);
    let cause = LoadError::Range(BadRange::Unmapped { address, length: 2, at: end });
    assert_eq!(popped(&mut driver, &[((address.0, 2), 0)]), Err(Fault::Buffer { head: 0, cause }));
    let chain = [((buffer, 1), 0); MAX_SEGMENTS + 1];
    let cause = LoadError::TooManySegments;
    assert_eq!(popped(&mut driver, &chain), Err(Fault::Buffer { head: 1, cause }));
    let many = [((RAM, 1 << 16), WRITE); 4096];
    assert!(matches!(popped(&mut driver, &many), Err(Fault::Buffer { .. } | Fault::ChainTooLarge { .. })));
}

#[test]
fn an_indirect_table_is_all_of_a_chain_or_its_end_and_all_of_it_counts() {
    let (mut driver, buffer) = with_bytes(WITH_INDIRECT, 4);
    // A table needs no alignment.
    let table = driver.ram.buffer(65) + 1;
    // NEXT, the marks and the id mean nothing in a table.
    driver.ram.entry(table, 0, (buffer + 1, 1), 77, NEXT);
    driver.ram.entry(table, 1, (buffer + 2, 1), 0, 0);
    driver.ram.entry(table, 2, (buffer + 3, 9), 0, WRITE | 1 << 15);
    for flags in [INDIRECT, INDIRECT | WRITE] {
        assert_eq!(popped(&mut driver, &[((table, 48), flags)]), Ok((vec![1, 2], 9, 1)));
        let chain = [((buffer, 1), 0), ((buffer + 7, 1), 0), ((table, 48), flags)];
        assert_eq!(popped(&mut driver, &chain), Ok((vec![0, 7, 1, 2], 9, 3)));
    }
    // Longer than the queue.
    let table = driver.ram.buffer(16 * 500);
    (0..500).for_each(|entry| driver.ram.entry(table, entry, (buffer + 3, 1), 0, 0));
    assert_eq!(popped(&mut driver, &[((table, 16 * 500), INDIRECT)]), Ok((vec![3; 500], 0, 1)));
}

#[test]
fn an_indirect_descriptor_that_breaks_a_rule_is_a_fault() {
    let (mut driver, buffer) = with_bytes(PLAIN, 4);
    let table = driver.ram.buffer(32);
    driver.ram.entry(table, 0, (buffer, 1), 0, 0);
    driver.ram.entry(table, 1, (table, 16), 0, INDIRECT);
    let head = |driver: &PackedDriver| u16::try_from(driver.available % 4).unwrap();
    let at = head(&driver);
    assert_eq!(
        popped(&mut driver, &[((table, 16), INDIRECT)]),
        Err(Fault::IndirectNotNegotiated { head: at })
    );
    driver.ram.configuration.features |= RingFeatures::INDIRECT_DESC;
    let at = head(&driver);
    let fault = Fault::IndirectWithNext { head: at };
    assert_eq!(popped(&mut driver, &[((table, 16), INDIRECT | NEXT)]), Err(fault));
    for length in [0, 1, 15, 17, 31, u32::MAX] {
        let at = head(&driver);
        let fault = Fault::IndirectLength { head: at, length };
        assert_eq!(popped(&mut driver, &[((table, length), INDIRECT)]), Err(fault));
    }
    let at = head(&driver);
    assert_eq!(popped(&mut driver, &[((table, 32), INDIRECT)]), Err(Fault::IndirectNested { head: at }));
    let at = head(&driver);
    let end = GuestAddress(driver.ram.end());
    let address = GuestAddress(end.0 - 16);
    let cause = BadRange::Unmapped { address, length: 32, at: end };
    assert_eq!(
        popped(&mut driver, &[((address.0, 32), INDIRECT)]),
        Err(Fault::IndirectTable { head: at, cause })
    );
}

#[test]
fn an_indirect_table_of_too_many_entries_is_a_fault() {
    let mut driver = PackedDriver::new(4, WITH_INDIRECT);
    driver.ram = crate::virtq::driver_model::Driver::at(4, driver.ram.configuration.features, 0, 1 << 20);
    driver.ram.configuration.next = 1 << 15;
    driver.ram.write(driver.ram.configuration.available.0, &[0; 4]);
    let length = 16 * (chain::MAX_CHAIN + 1);
    let table = driver.ram.buffer(u64::from(length));
    let fault = Fault::ChainTooLong { head: 0, limit: chain::MAX_CHAIN };
    assert_eq!(popped(&mut driver, &[((table, length), INDIRECT)]), Err(fault));
}

#[test]
fn a_ring_that_is_no_longer_mapped_is_a_fault() {
    let mut driver = PackedDriver::new(4, PLAIN);
    let mut device = Device::new(&driver);
    driver.offer(0, &NOTHING);
    let Chain { token, .. } = device.queue.pop(&device.memory, &mut device.list).unwrap().unwrap();
    device.memory = GuestMemory::new();
    let unmapped = |area, address, length| {
        let cause = BadRange::Unmapped { address, length, at: address };
        Fault::Placement { area, cause }
    };
    let ring = unmapped(Area::Descriptors, driver.ram.configuration.descriptors, 64);
    assert_eq!(device.queue.push(&device.memory, token, 0), Err(ring));
    assert_eq!(device.serve(), Err(ring));
    let device_event = unmapped(Area::DeviceEvent, driver.ram.configuration.used, 4);
    assert_eq!(device.queue.disarm(&device.memory), Err(device_event));
    assert_eq!(device.queue.arm(&device.memory), Err(device_event));
    let driver_event = unmapped(Area::DriverEvent, driver.ram.configuration.available, 4);
    assert_eq!(device.queue.publish(&device.memory), Err(driver_event));
}

#[test]
fn a_queue_goes_on_in_the_middle_of_its_life() {
    let mut driver = PackedDriver::at(4, PLAIN, 3, 2);
    let mut device = Device::new(&driver);
    for id in 0..4 {
        driver.offer(id, &NOTHING);
    }
    assert_eq!((device.serve(), device.serve()), (Ok(Some(0)), Ok(Some(1))));
    device.publish();
    driver.ram.configuration.next = device.queue.position();
    let mut device = Device::new(&driver);
    assert!(device.pass());
    let used: Vec<_> = core::iter::from_fn(|| driver.take()).collect();
    assert_eq!(used, [(0, 0), (1, 0), (2, 0), (3, 0)]);
    assert_eq!(device.queue.position(), 0x8002);
}

#[test]
fn the_first_publication_notifies_whatever_the_driver_wishes() {
    for features in [PLAIN, EVENT_IDX] {
        let driver = PackedDriver::new(4, features);
        driver.want(false);
        let mut device = Device::new(&driver);
        assert!(device.publish());
        assert!(!device.publish());
    }
}

/// Every event, at every place of a ring, of this lap and of the one before, against every pass.
#[test]
fn the_driver_is_notified_exactly_when_the_place_that_it_named_was_passed() {
    for size in [1_u16, 2, 3, 4, 7] {
        for start in 0..2 * size {
            for count in 1..=size {
                for event in start.saturating_sub(size - count)..start + size {
                    let mut driver = PackedDriver::at(size, EVENT_IDX, start / size, start % size);
                    let mut device = Device::new(&driver);
                    device.publish();
                    driver.set_driver_event(driver.off_wrap(event.into()), 2);
                    (0..count).for_each(|id| driver.offer(id, &NOTHING));
                    let passed = (start..start + count).contains(&event);
                    assert_eq!(device.pass(), passed, "{size} {start} {count} {event}");
                    assert!(!device.publish(), "a second notification");
                }
            }
        }
    }
}

#[test]
fn the_driver_is_notified_as_its_flags_say() {
    let mut driver = PackedDriver::new(4, PLAIN);
    let mut device = Device::new(&driver);
    device.publish();
    // DESCRIPTOR was not negotiated, and 3 means nothing: better once too often. Other bits mean nothing.
    for (flags, wanted) in [(0, true), (1, false), (2, true), (3, true), (0xfffc, true), (0xfffd, false)] {
        driver.set_driver_event(0, flags);
        driver.offer(0, &NOTHING);
        assert_eq!(device.pass(), wanted, "{flags}");
        assert!(driver.take().is_some());
    }
}

#[test]
fn kicks_are_asked_for_between_arm_and_disarm() {
    for features in [PLAIN, EVENT_IDX] {
        let mut driver = PackedDriver::at(3, features, 1, 2);
        let mut device = Device::new(&driver);
        for _ in 0..10 {
            device.queue.disarm(&device.memory).unwrap();
            let old = driver.shown();
            driver.offer(0, &NOTHING);
            assert!(!driver.kick_wanted_since(old));
            assert_eq!(
                device.queue.arm(&device.memory),
                Ok(true),
                "a request came while the queue was disarmed"
            );
            device.pass();
            assert_eq!(device.queue.arm(&device.memory), Ok(false));
            let old = driver.shown();
            driver.offer(1, &NOTHING);
            assert!(driver.kick_wanted_since(old));
            device.pass();
            assert_eq!((driver.take(), driver.take()), (Some((0, 0)), Some((1, 0))));
        }
        let expected = if features == EVENT_IDX { (device.queue.position(), 2) } else { (0, 0) };
        device.queue.arm(&device.memory).unwrap();
        assert_eq!(driver.device_event(), expected);
    }
}
