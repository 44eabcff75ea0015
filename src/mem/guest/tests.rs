// SPDX-License-Identifier: MIT OR Apache-2.0

//! Regions, allegations, structures.

use super::*;
use core::sync::atomic::Ordering;
use std::vec::Vec;

/// Room for regions, aligned to 16 bytes, and counted up from 0.
#[repr(align(16))]
struct Room([u8; 256]);

impl Room {
    fn new() -> Self {
        Self(core::array::from_fn(|index| u8::try_from(index).unwrap()))
    }

    /// Memory of the regions `(guest address, offset into the room, length)`. The room must not be touched while
    /// it is used.
    fn memory(&mut self, regions: &[(u64, usize, usize)]) -> GuestMemory {
        let mut memory = GuestMemory::new();
        for &(guest, offset, length) in regions {
            assert!(offset + length <= 256);
            let host = NonNull::new(self.0.as_mut_ptr().wrapping_add(offset)).unwrap();
            // SAFETY: the range lies in the room (just checked), which the tests leave alone.
            unsafe { memory.add_region(GuestAddress(guest), length, host) }.unwrap();
        }
        memory
    }
}

fn add(memory: &mut GuestMemory, guest: u64, length: usize) -> Result<(), RegionError> {
    // SAFETY: nothing in this test follows the pointer.
    unsafe { memory.add_region(GuestAddress(guest), length, NonNull::dangling()) }
}

/// The first byte and the length of each segment.
fn pieces(memory: &GuestMemory, address: u64, length: u32) -> Result<Vec<(u8, u32)>, BadRange> {
    let segments = memory.translate(GuestAddress(address), length)?;
    // SAFETY: a segment is readable while the memory is borrowed, and the room is initialized.
    Ok(segments.map(|(_, segment)| (unsafe { segment.start.read() }, segment.length)).collect())
}

fn unmapped(address: u64, length: u64, at: u64) -> BadRange {
    BadRange::Unmapped { address: GuestAddress(address), length, at: GuestAddress(at) }
}

#[test]
fn an_impossible_region_is_refused_by_name() {
    let mut memory = GuestMemory::new();
    let guest = GuestAddress;
    assert_eq!(add(&mut memory, 0, 0), Err(RegionError::Empty { guest: guest(0) }));
    let top = guest(u64::MAX - 15);
    assert_eq!(add(&mut memory, top.0, 16), Err(RegionError::Wraps { guest: top, length: 16 }));
    let long = isize::MAX as usize + 1;
    assert_eq!(add(&mut memory, 0, long), Err(RegionError::Wraps { guest: guest(0), length: long }));
    assert_eq!(add(&mut memory, top.0, 15), Ok(()));
}

#[test]
fn a_region_that_overlaps_another_by_one_byte_is_refused() {
    let mut memory = GuestMemory::new();
    add(&mut memory, 0x1000, 0x1000).unwrap();
    for (address, length) in [(0xfff, 2), (0x1fff, 1), (0x1000, 0x1000), (0, 0x5000), (0x1800, 1)] {
        let other = GuestAddress(0x1000);
        let expected = RegionError::Overlaps { guest: GuestAddress(address), length, other };
        assert_eq!(add(&mut memory, address, length), Err(expected));
    }
    assert_eq!(add(&mut memory, 0xfff, 1), Ok(()));
    assert_eq!(add(&mut memory, 0x2000, 1), Ok(()));
}

#[test]
fn the_list_of_regions_is_bounded() {
    let mut memory = GuestMemory::new();
    for index in 0..MAX_REGIONS as u64 {
        add(&mut memory, index * 2, 1).unwrap();
    }
    assert_eq!(add(&mut memory, 0x1000, 1), Err(RegionError::TooMany));
}

#[test]
fn a_range_is_translated_whatever_the_order_in_which_regions_were_added() {
    let regions = [(0x3000, 0, 16), (0x1000, 16, 16), (0x2000, 32, 16)];
    for first in 0..3 {
        for second in (0..3).filter(|&second| second != first) {
            let mut room = Room::new();
            let memory = room.memory(&[regions[first], regions[second], regions[3 - first - second]]);
            assert_eq!(pieces(&memory, 0x1000, 16), Ok([(16, 16)].to_vec()));
            assert_eq!(pieces(&memory, 0x2003, 1), Ok([(35, 1)].to_vec()));
            assert_eq!(pieces(&memory, 0x300f, 1), Ok([(15, 1)].to_vec()));
        }
    }
}

#[test]
fn a_buffer_may_cross_regions_that_adjoin() {
    let mut room = Room::new();
    let memory = room.memory(&[(0x1000, 128, 16), (0x1010, 0, 4), (0x1014, 64, 16)]);
    assert_eq!(pieces(&memory, 0x100f, 2), Ok([(143, 1), (0, 1)].to_vec()));
    assert_eq!(pieces(&memory, 0x1010, 5), Ok([(0, 4), (64, 1)].to_vec()));
    assert_eq!(pieces(&memory, 0x100e, 16), Ok([(142, 2), (0, 4), (64, 10)].to_vec()));
    assert_eq!(pieces(&memory, 0x1000, 36), Ok([(128, 16), (0, 4), (64, 16)].to_vec()));
    assert_eq!(pieces(&memory, 0x1000, 37), Err(unmapped(0x1000, 37, 0x1024)));
}

#[test]
fn a_buffer_that_leaves_the_mapped_memory_is_refused() {
    let mut room = Room::new();
    let memory = room.memory(&[(0x1000, 0, 16), (0x1011, 16, 16)]);
    assert_eq!(pieces(&memory, 0x0fff, 1), Err(unmapped(0xfff, 1, 0xfff)));
    assert_eq!(pieces(&memory, 0x0fff, 2), Err(unmapped(0xfff, 2, 0xfff)));
    assert_eq!(pieces(&memory, 0x1010, 1), Err(unmapped(0x1010, 1, 0x1010)));
    assert_eq!(pieces(&memory, 0x1000, 17), Err(unmapped(0x1000, 17, 0x1010)), "across a gap of one byte");
    assert_eq!(pieces(&memory, 0x1011, u32::MAX), Err(unmapped(0x1011, 0xffff_ffff, 0x1021)));
    assert_eq!(pieces(&GuestMemory::new(), 0, 1), Err(unmapped(0, 1, 0)));
}

#[test]
fn a_range_that_wraps_is_refused() {
    let mut room = Room::new();
    let memory = room.memory(&[(0, 0, 16), (u64::MAX - 16, 16, 16)]);
    let address = GuestAddress(u64::MAX - 1);
    assert_eq!(pieces(&memory, address.0, 2), Err(BadRange::Wraps { address, length: 2 }));
    let wraps = BadRange::Wraps { address, length: 0xffff_ffff };
    assert_eq!(memory.volatile_slice(address, u32::MAX).unwrap_err(), wraps);
    assert_eq!(pieces(&memory, address.0, 1), Ok([(31, 1)].to_vec()));
}

#[test]
fn an_empty_range_is_nothing_wherever_it_is() {
    let mut room = Room::new();
    let memory = room.memory(&[(0x1000, 0, 16)]);
    for address in [0, 0x1000, 0x1010, u64::MAX] {
        assert_eq!(pieces(&memory, address, 0), Ok(Vec::new()));
    }
}

#[test]
fn a_structure_must_lie_in_one_region() {
    let mut room = Room::new();
    let memory = room.memory(&[(0x1000, 0, 16), (0x1010, 32, 16)]);
    let address = GuestAddress(0x1001);
    assert!(memory.volatile_slice(address, 15).is_ok());
    assert_eq!(memory.volatile_slice(address, 16).unwrap_err(), BadRange::Divided { address, length: 16 });
    assert_eq!(memory.volatile_slice(address, 32).unwrap_err(), unmapped(0x1001, 32, 0x1020));
    assert_eq!(memory.volatile_slice(GuestAddress(0xfff), 1).unwrap_err(), unmapped(0xfff, 1, 0xfff));
}

#[test]
fn fields_are_read_and_written_in_place() {
    let mut room = Room::new();
    let memory = room.memory(&[(0x1000, 0, 256)]);
    let mut structure = Structure::<4>::new(GuestAddress(0x1010), 16);
    let fields = memory.structure(&mut structure).unwrap();
    assert_eq!(u16::from_le(fields.u16_at(2).unwrap().load(Ordering::Relaxed)), 0x1312);
    assert_eq!(u32::from_le(fields.u32_at(12).unwrap().load(Ordering::Relaxed)), 0x1f1e_1d1c);
    assert_eq!(fields.slice().copy_out::<3>(13), Ok([0x1d, 0x1e, 0x1f]));
    fields.u16_at(14).unwrap().store(0xabcd_u16.to_le(), Ordering::Relaxed);
    drop(memory);
    assert_eq!(room.0[0x1d..0x21], [0x1d, 0xcd, 0xab, 0x20]);
}

#[test]
fn a_field_beyond_the_structure_or_misaligned_is_refused() {
    let mut room = Room::new();
    let memory = room.memory(&[(0x1000, 1, 64)]);
    let mut structure = Structure::<4>::new(GuestAddress(0x100f), 15);
    let fields = memory.structure(&mut structure).unwrap();
    assert!(fields.u16_at(12).is_ok());
    assert_eq!(fields.u16_at(14).unwrap_err(), BadRange::Beyond { offset: 14, size: 2 });
    let last = usize::MAX - 1;
    assert_eq!(fields.u16_at(last).unwrap_err(), BadRange::Beyond { offset: last, size: 2 });
    assert_eq!(fields.u32_at(12).unwrap_err(), BadRange::Beyond { offset: 12, size: 4 });
    assert_eq!(fields.u16_at(1).unwrap_err(), BadRange::Misaligned { offset: 1, size: 2 });
    assert_eq!(fields.u32_at(2).unwrap_err(), BadRange::Misaligned { offset: 2, size: 4 });
    assert_eq!(fields.slice().copy_out::<17>(0), Err(BadRange::Beyond { offset: 0, size: 17 }));
}

#[test]
fn a_structure_whose_mapping_is_misaligned_is_refused_as_a_whole() {
    let mut room = Room::new();
    let memory = room.memory(&[(0x1000, 2, 64)]);
    assert!(memory.structure(&mut Structure::<2>::new(GuestAddress(0x1000), 16)).is_ok());
    let refused = memory.structure(&mut Structure::<4>::new(GuestAddress(0x1000), 16)).unwrap_err();
    assert_eq!(refused, BadRange::Misaligned { offset: 0, size: 4 });
    let narrow = memory.structure(&mut Structure::<2>::new(GuestAddress(0x1000), 16)).unwrap();
    assert_eq!(narrow.u32_at(4).unwrap_err(), BadRange::Misaligned { offset: 4, size: 4 });
}
