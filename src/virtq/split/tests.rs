// SPDX-License-Identifier: MIT OR Apache-2.0

//! The split virtqueue against a driver that follows the rules, and against some that do not. See also
//! `two_threads.rs`.

use super::*;
use crate::mem::guest::{BadRange, GuestAddress};
use crate::mem::{Sink, Source};
use crate::virtq::driver_model::{Driver, EVENT_IDX, PLAIN, RAM, WRITE};
use core::ptr::NonNull;
use std::boxed::Box;
use std::vec::Vec;

/// A device that answers each request with as many bytes 0xaa as it has bytes.
struct Device {
    memory: GuestMemory,
    queue: SplitQueue,
    list: Box<ScatterList>,
}

impl Device {
    fn new(driver: &Driver) -> Self {
        let memory = driver.memory();
        let queue = SplitQueue::new(&memory, &driver.configuration).unwrap();
        Self { memory, queue, list: Box::default() }
    }

    /// Stages the answer to one request; returns its head.
    fn serve(&mut self) -> Result<Option<u16>, Fault> {
        let Some(chain) = self.queue.pop(&self.memory, &mut self.list)? else { return Ok(None) };
        let (readable, mut writable) = chain.buffers.into_streams();
        for _ in 0..readable.remaining() {
            writable.put(&[0xaa]).unwrap();
        }
        let (head, written) = (chain.token.id, writable.written());
        self.queue.push(&self.memory, chain.token, written)?;
        Ok(Some(head))
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

/// A driver whose every descriptor is a chain: one byte to read, none to write.
fn singles(size: u16, features: RingFeatures, index: u16) -> Driver {
    let mut driver = Driver::at(size, features, index, 1 << 16);
    let buffer = driver.buffer(16);
    for descriptor in 0..size {
        driver.descriptor(descriptor, (buffer, 0), 0, 0);
    }
    driver
}

fn address_of(configuration: &mut QueueConfiguration, area: Area) -> &mut GuestAddress {
    match area {
        Area::Descriptors => &mut configuration.descriptors,
        Area::Available => &mut configuration.available,
        Area::Used => &mut configuration.used,
        Area::DriverEvent | Area::DeviceEvent => unreachable!("a part of packed queues"),
    }
}

#[test]
fn the_size_is_a_power_of_two_from_2_to_32768() {
    let driver = Driver::new(2, PLAIN);
    for size in 0..=u16::MAX {
        let configuration = QueueConfiguration { size, ..driver.configuration };
        let fault = SplitQueue::new(&GuestMemory::new(), &configuration).unwrap_err();
        let valid = (1..16).any(|power| size == 1 << power);
        assert_eq!(fault == Fault::Size { size }, !valid, "{size}");
    }
}

#[test]
fn a_legacy_driver_is_refused() {
    let mut driver = Driver::new(2, PLAIN);
    driver.configuration.features = RingFeatures::EVENT_IDX;
    assert_eq!(SplitQueue::new(&driver.memory(), &driver.configuration).unwrap_err(), Fault::Legacy);
}

#[test]
fn each_part_is_aligned_as_the_specification_says() {
    let driver = Driver::new(16, PLAIN);
    for (area, alignment) in [(Area::Descriptors, 16), (Area::Available, 2), (Area::Used, 4)] {
        for shift in 1..alignment {
            let mut configuration = driver.configuration;
            address_of(&mut configuration, area).0 += shift;
            let address = *address_of(&mut configuration, area);
            let fault = SplitQueue::new(&driver.memory(), &configuration).unwrap_err();
            assert_eq!(fault, Fault::Alignment { area, address, alignment });
        }
    }
}

#[test]
fn each_part_must_be_in_one_region_to_its_last_byte() {
    for features in [PLAIN, EVENT_IDX] {
        let driver = Driver::new(16, features);
        let event = if features == PLAIN { 0 } else { 2 };
        let lengths = [(Area::Descriptors, 256), (Area::Available, 36 + event), (Area::Used, 132 + event)];
        for (area, length) in lengths {
            let last = (driver.end() - length) & !15;
            let mut configuration = driver.configuration;
            address_of(&mut configuration, area).0 = last;
            assert!(SplitQueue::new(&driver.memory(), &configuration).is_ok());
            let address = GuestAddress(last + 16);
            *address_of(&mut configuration, area) = address;
            let fault = SplitQueue::new(&driver.memory(), &configuration).unwrap_err();
            let at = GuestAddress(driver.end());
            assert_eq!(fault, Fault::Placement { area, cause: BadRange::Unmapped { address, length, at } });
        }
    }
}

#[test]
fn rings_that_the_host_mapped_at_odd_addresses_are_refused() {
    let driver = Driver::new(2, PLAIN);
    let mut memory = GuestMemory::new();
    let host: NonNull<u8> = driver.host(RAM + 1, 4096);
    // SAFETY: a part of the driver's RAM, which lives longer than `memory`.
    #[allow(unsafe_code)]
    unsafe { memory.add_region(GuestAddress(RAM), 4096, host) }.unwrap();
    let fault = SplitQueue::new(&memory, &driver.configuration).unwrap_err();
    let cause = BadRange::Misaligned { offset: 0, size: 2 };
    assert_eq!(fault, Fault::Placement { area: Area::Available, cause });
}

#[test]
fn a_request_comes_back_with_its_head_and_what_was_written() {
    for features in [PLAIN, EVENT_IDX] {
        let mut driver = Driver::new(8, features);
        let buffer = driver.buffer(64);
        driver.chain(RAM, 5, &[((buffer, 7), 0), ((buffer + 32, 9), WRITE)]);
        let mut device = Device::new(&driver);
        assert_eq!(device.serve(), Ok(None));
        driver.offer(5);
        assert_eq!(device.serve(), Ok(Some(5)));
        assert_eq!(driver.take_used(), None, "it was seen before it was published");
        assert!(device.publish());
        assert_eq!(driver.take_used(), Some((5, 7)));
        assert_eq!(driver.read(buffer + 32, 9), [0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0, 0]);
        assert_eq!(device.serve(), Ok(None));
        assert_eq!(device.queue.position(), 1);
    }
}

#[test]
fn rings_of_every_size_go_round_past_the_wrap_of_the_index() {
    for size in (1..16).map(|power| 1 << power) {
        let mut driver = singles(size, EVENT_IDX, 65535 - size / 2);
        let mut device = Device::new(&driver);
        for round in 0..3 {
            // A full ring, in one pass.
            let heads: Vec<u16> = (0..size).map(|head| head ^ round & (size - 1)).collect();
            heads.iter().for_each(|&head| driver.stage(head));
            driver.show();
            driver.set_used_event(driver.used);
            assert!(device.pass());
            let used: Vec<u16> = core::iter::from_fn(|| driver.take_used())
                .map(|(id, length)| {
                    assert_eq!(length, 0);
                    u16::try_from(id).unwrap()
                })
                .collect();
            assert_eq!(used, heads);
            assert_eq!(device.queue.position(), driver.available);
        }
    }
}

#[test]
fn the_smallest_ring_goes_round_for_all_indices() {
    let mut driver = singles(2, PLAIN, 0);
    let mut device = Device::new(&driver);
    for request in 0..70_000u32 {
        let head = u16::from(request % 3 == 0);
        driver.offer(head);
        assert!(device.pass());
        assert_eq!(driver.take_used(), Some((u32::from(head), 0)));
    }
}

#[test]
fn an_available_index_that_jumps_or_goes_back_is_a_fault() {
    for (start, index) in [(0, 5), (0, 0x8000), (0, 0xffff), (65534, 3), (65534, 65533), (7, 6)] {
        let mut driver = singles(4, PLAIN, start);
        let mut device = Device::new(&driver);
        driver.available = index;
        driver.show();
        let fault = Fault::AvailableIndex { next: start, index, size: 4 };
        assert_eq!(device.queue.arm(&device.memory), Err(fault));
        assert_eq!(device.serve(), Err(fault));
    }
}

#[test]
fn a_head_that_is_no_descriptor_is_a_fault() {
    for head in [4, 5, 0xffff] {
        let mut driver = singles(4, PLAIN, 0);
        let mut device = Device::new(&driver);
        driver.offer(3);
        driver.offer(head);
        assert_eq!(device.serve(), Ok(Some(3)));
        assert_eq!(device.serve(), Err(Fault::Head { head, size: 4 }));
    }
}

#[test]
fn a_ring_that_is_no_longer_mapped_is_a_fault() {
    let mut driver = singles(4, PLAIN, 0);
    let mut device = Device::new(&driver);
    driver.offer(0);
    let Chain { token, .. } = device.queue.pop(&device.memory, &mut device.list).unwrap().unwrap();
    device.memory = GuestMemory::new();
    let unmapped = |area, address, length| {
        let cause = BadRange::Unmapped { address, length, at: address };
        Fault::Placement { area, cause }
    };
    let used = unmapped(Area::Used, driver.configuration.used, 36);
    assert_eq!(device.queue.push(&device.memory, token, 0), Err(used));
    assert_eq!(device.queue.disarm(&device.memory), Err(used));
    assert_eq!(device.queue.arm(&device.memory), Err(used));
    let available = unmapped(Area::Available, driver.configuration.available, 12);
    assert_eq!(device.queue.publish(&device.memory), Err(available));
    assert_eq!(device.serve(), Err(available));
}

#[test]
fn a_queue_goes_on_in_the_middle_of_its_life() {
    let mut driver = singles(4, PLAIN, 65533);
    let mut device = Device::new(&driver);
    for head in 0..4 {
        driver.offer(head);
    }
    assert_eq!((device.serve(), device.serve()), (Ok(Some(0)), Ok(Some(1))));
    device.publish();
    assert_eq!(device.queue.position(), 65535);
    // The next device gets the position from this one, and its place in the used ring from memory.
    driver.configuration.next = device.queue.position();
    let mut device = Device::new(&driver);
    assert!(device.pass());
    let used: Vec<_> = core::iter::from_fn(|| driver.take_used()).collect();
    assert_eq!(used, [(0, 0), (1, 0), (2, 0), (3, 0)]);
    assert_eq!(device.queue.position(), 1);
}

#[test]
fn requests_that_another_device_left_unanswered_leave_no_gap_in_the_used_ring() {
    let mut driver = singles(4, PLAIN, 100);
    (0..4).for_each(|head| driver.offer(head));
    driver.configuration.next = 103;
    let mut device = Device::new(&driver);
    device.pass();
    assert_eq!((driver.take_used(), driver.take_used()), (Some((3, 0)), None));
}

#[test]
fn a_position_that_cannot_be_is_a_fault() {
    for (used, next) in [(0, 5), (1, 0), (65535, 4), (5, 65535)] {
        let mut driver = singles(4, PLAIN, used);
        driver.configuration.next = next;
        let fault = SplitQueue::new(&driver.memory(), &driver.configuration).unwrap_err();
        assert_eq!(fault, Fault::Resume { next, used, size: 4 });
    }
}

#[test]
fn the_first_publication_notifies_whatever_the_driver_wishes() {
    for features in [PLAIN, EVENT_IDX] {
        let driver = singles(4, features, 9);
        driver.set_available_flags(available_ring::NO_INTERRUPT);
        driver.set_used_event(1000);
        let mut device = Device::new(&driver);
        assert!(device.publish());
        assert!(!device.publish());
    }
}

#[test]
fn the_driver_is_notified_when_its_event_index_is_passed() {
    // (used_event relative to what is published, entries published, whether to notify)
    for (event, count, wanted) in
        [(0, 1, true), (0, 4, true), (3, 4, true), (4, 4, false), (1, 1, false), (-1, 4, false)]
    {
        for start in [0, 1, 65533, 65535] {
            let mut driver = singles(4, EVENT_IDX, start);
            let mut device = Device::new(&driver);
            device.publish();
            // The flags mean nothing with event indices.
            driver.set_available_flags(available_ring::NO_INTERRUPT);
            driver.set_used_event(start.wrapping_add_signed(event));
            (0..count).for_each(|head| driver.offer(head));
            assert_eq!(device.pass(), wanted, "{event} {count} {start}");
            assert!(!device.publish(), "a second notification");
        }
    }
}

#[test]
fn the_driver_is_notified_unless_its_flag_says_no() {
    let mut driver = singles(4, PLAIN, 0);
    let mut device = Device::new(&driver);
    device.publish();
    driver.offer(0);
    assert!(device.pass());
    driver.set_available_flags(available_ring::NO_INTERRUPT);
    driver.offer(0);
    assert!(!device.pass());
    // A bit that means nothing.
    driver.set_available_flags(0xfffe);
    driver.offer(0);
    assert!(device.pass());
}

#[test]
fn kicks_are_asked_for_between_arm_and_disarm_by_the_flag() {
    let mut driver = singles(4, PLAIN, 0);
    let mut device = Device::new(&driver);
    device.queue.disarm(&device.memory).unwrap();
    driver.offer(0);
    assert!(!driver.kick_wanted(0));
    assert_eq!(driver.used_flags(), 1);
    assert_eq!(device.queue.arm(&device.memory), Ok(true), "a request came while the queue was disarmed");
    assert!(driver.kick_wanted(0));
    device.pass();
    assert_eq!(device.queue.arm(&device.memory), Ok(false));
    assert_eq!(driver.used_flags(), 0);
}

#[test]
fn kicks_are_asked_for_once_after_arm_by_the_event_index() {
    for start in [0, 65534, 65535] {
        let mut driver = singles(4, EVENT_IDX, start);
        let mut device = Device::new(&driver);
        assert_eq!(device.queue.arm(&device.memory), Ok(false));
        assert_eq!(driver.avail_event(), start);
        driver.offer(0);
        assert!(driver.kick_wanted(start));
        // From now on the index stays behind.
        device.queue.disarm(&device.memory).unwrap();
        driver.offer(1);
        assert!(!driver.kick_wanted(start.wrapping_add(1)));
        assert_eq!(device.queue.arm(&device.memory), Ok(true));
        device.pass();
        driver.offer(2);
        assert!(!driver.kick_wanted(start.wrapping_add(2)));
        assert_eq!(device.serve(), Ok(Some(2)));
        assert_eq!(device.queue.arm(&device.memory), Ok(false));
        assert_eq!(driver.avail_event(), start.wrapping_add(3));
        assert_eq!(driver.used_flags(), 0, "the flags mean nothing with event indices");
    }
}
