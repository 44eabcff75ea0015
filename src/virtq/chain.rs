// SPDX-License-Identifier: MIT OR Apache-2.0

//! Descriptor chains: from a head to the streams of a request (virtio 1.3, sections 2.7.5 and 2.8.5).
//!
//! What the walk settles where the specification leaves room:
//!
//! * **A descriptor of length 0** adds nothing, and its address is not looked at. The specification does not
//!   forbid one. It counts toward the length and the order of its chain.
//! * **An indirect table** lies in one region, as every table that a driver allocates does; QEMU asks the same.
//! * **A chain in an indirect table** may be longer than the queue. The specification says it may not, but
//!   Linux's and Windows' drivers make such chains, and every device model takes them.
//! * **A chain of more than [`MAX_CHAIN`] descriptors** is a fault, also in a queue that has more. The specification would allow it;
//!   nobody makes one.

use super::Fault;
use super::desc::{DESCRIPTOR_SIZE, Descriptor, DescriptorFlags, PackedDescriptor, descriptor_table};
use crate::mem::guest::{BadRange, Fields, GuestAddress, GuestMemory, VolatileSlice};
use crate::mem::scatter::{LoadError, Loaded, Loader, ScatterList};

/// Most descriptors that a chain may have in one table, whatever the size of the queue: twice as many as the pieces of memory that
/// a list holds. It bounds the time that one request can take from other clients. (QEMU takes 1024; Linux makes 128 for 9P.)
pub const MAX_CHAIN: u32 = 4096;

/// What an indirect table is mostly aligned to: descriptors are read as two words then.
const DESCRIPTOR_ALIGNMENT: usize = align_of::<u64>();

/// The right to give one chain back to its queue.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a chain that is not pushed is lost to the driver"]
pub struct Token {
    /// How the driver knows the chain: in a split virtqueue its head, in a packed one the buffer id.
    pub(super) id: u16,
    /// How many places it takes in a packed virtqueue's ring.
    pub(super) places: u16,
}

/// A request: what the driver wants to be read, and where it wants the answer.
///
/// * Every byte of both streams was checked to be guest memory.
/// * The descriptors were read once; what the driver makes of them afterwards has no effect.
/// * Both streams together are shorter than 2³² bytes; each may be empty.
/// * The buffers may overlap each other, the rings, and the buffers of other chains: nothing forbids it.
#[derive(Debug)]
pub struct Chain<'a> {
    /// To give the chain back with.
    pub token: Token,
    /// The device-readable part, and the device-writable part.
    pub buffers: Loaded<'a>,
}

/// Whether a descriptor of the table that is walked may refer to an indirect one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Indirect {
    Allowed,
    NotNegotiated,
    Nested,
}

/// Walks the chain that begins at descriptor `head` of the descriptor table, and loads its buffers: to its end, or to that of
/// the indirect table that it ends with.
///
/// Nearly every chain is one descriptor that refers to a table of all others, in the first region of memory, aligned, and of buffers
/// there. It is walked with no branch that another chain needs. Any other is walked anew from its beginning by [`walk_any`], and
/// nothing is used that was made of the first reading.
#[inline(always)] // Into the loop that serves.
pub(super) fn walk<'a>(
    list: &'a mut ScatterList,
    memory: &'a GuestMemory,
    descriptors: VolatileSlice<'a>,
    head: u16,
    indirect: bool,
) -> Result<Loaded<'a>, Fault> {
    match walk_table(list, memory, descriptors, head, indirect) {
        Ok(loaded) => Ok(loaded),
        Err(list) => walk_any(list.load(memory), descriptors, head, indirect),
    }
}

/// The indirect table that descriptor `head` refers to, if that is as in nearly every chain.
#[inline(always)]
fn only_table<'a>(
    memory: &'a GuestMemory,
    descriptors: VolatileSlice<'a>,
    head: u16,
    indirect: bool,
) -> Option<Fields<'a, DESCRIPTOR_ALIGNMENT>> {
    let words = descriptors.fields::<DESCRIPTOR_ALIGNMENT>()?.words_at(descriptor_table::entry(head))?;
    let Descriptor { address, length, flags, .. } = Descriptor::from_words(words);
    if !indirect || flags != DescriptorFlags::INDIRECT || !length.is_multiple_of(DESCRIPTOR_SIZE) {
        return None;
    }
    memory.first_fields(address, length)
}

/// Walks the chain, if it is as nearly every one. Else the list is given back, with anything in it.
#[inline(never)] // What it works with is in registers then.
fn walk_table<'a>(
    list: &'a mut ScatterList,
    memory: &'a GuestMemory,
    descriptors: VolatileSlice<'a>,
    head: u16,
    indirect: bool,
) -> Result<Loaded<'a>, &'a mut ScatterList> {
    let Some(table) = only_table(memory, descriptors, head, indirect) else { return Err(list) };
    let mut buffers = list.load(memory);
    let mut left = limit(table.slice().length());
    let (mut index, mut side) = (0, Side::READABLE);
    while let Some(words) = table.words_at(descriptor_table::entry(index)) {
        let Descriptor { address, length, flags, next } = Descriptor::from_words(words);
        if !side.has(flags) {
            if side == Side::WRITABLE || flags.contains(DescriptorFlags::INDIRECT) {
                break;
            }
            side = Side::WRITABLE;
            buffers.turn();
        }
        if !buffers.push_near(address, length) {
            break;
        }
        if !flags.contains(DescriptorFlags::NEXT) {
            if side == Side::READABLE {
                buffers.turn();
            }
            return Ok(buffers.finish());
        }
        index = next;
        left = left.wrapping_sub(1);
        if left == 0 {
            break;
        }
    }
    Err(buffers.give_back())
}

/// Walks any chain, as [`walk`].
#[inline(never)]
fn walk_any<'a>(
    mut buffers: Loader<'a>,
    descriptors: VolatileSlice<'a>,
    head: u16,
    indirect: bool,
) -> Result<Loaded<'a>, Fault> {
    let memory = buffers.memory();
    let mut table = descriptors;
    let mut indirect = if indirect { Indirect::Allowed } else { Indirect::NotNegotiated };
    // The most descriptors that the chain may still have in the table.
    let mut left = limit(table.length());
    let mut index = head;
    let mut side = Side::READABLE;
    loop {
        let Some(others) = left.checked_sub(1) else {
            return Err(too_long(head, table.length()));
        };
        left = others;
        let Ok(words) = table.copy_out_words(descriptor_table::entry(index)) else {
            return Err(bad_next(head, index, table.length()));
        };
        let Descriptor { address, length, flags, next } = Descriptor::from_words(words);
        let goes_on = flags.contains(DescriptorFlags::NEXT);
        if flags.contains(DescriptorFlags::INDIRECT) {
            // WRITE is ignored here (section 2.7.5.3.2).
            let whole = length > 0 && length.is_multiple_of(DESCRIPTOR_SIZE);
            if indirect != Indirect::Allowed || goes_on || !whole {
                return Err(bad_indirect(head, indirect, goes_on, length));
            }
            table = memory.volatile_slice(address, length).map_err(|cause| bad_table(head, cause))?;
            indirect = Indirect::Nested;
            (left, index) = (limit(length), 0);
            continue;
        }
        add(&mut buffers, &mut side, head, address, length, flags)?;
        if !goes_on {
            break;
        }
        index = next;
    }
    if side == Side::READABLE {
        buffers.turn();
    }
    Ok(buffers.finish())
}

/// Walks the chain that begins at the place `head` of a packed virtqueue's ring of `size` descriptors, and loads its buffers. The
/// descriptors of a chain are in places that follow each other; in an indirect table, all are of the chain.
#[inline(always)] // As `walk`.
pub(super) fn walk_packed(
    buffers: &mut Loader<'_>,
    ring: VolatileSlice<'_>,
    head: u16,
    size: u16,
    indirect: bool,
) -> Result<Token, Fault> {
    let memory = buffers.memory();
    let mut side = Side::READABLE;
    let mut index = head;
    let mut places = 0_u16;
    let most = limit(ring.length());
    let id = loop {
        if u32::from(places) == most {
            return Err(too_long(head, ring.length()));
        }
        // It is below `most`.
        places = places.wrapping_add(1);
        let PackedDescriptor { address, length, id, flags } = packed_descriptor(ring, head, index)?;
        let goes_on = flags.contains(DescriptorFlags::NEXT);
        if flags.contains(DescriptorFlags::INDIRECT) {
            let whole = length > 0 && length.is_multiple_of(DESCRIPTOR_SIZE);
            if !indirect || goes_on || !whole {
                let indirect = if indirect { Indirect::Allowed } else { Indirect::NotNegotiated };
                return Err(bad_indirect(head, indirect, goes_on, length));
            }
            let table = memory.volatile_slice(address, length).map_err(|cause| bad_table(head, cause))?;
            let entries = length / DESCRIPTOR_SIZE;
            if entries > MAX_CHAIN {
                return Err(too_long(head, length));
            }
            for entry in 0..u16::try_from(entries).unwrap_or(u16::MAX) {
                let PackedDescriptor { address, length, flags, .. } = packed_descriptor(table, head, entry)?;
                if flags.contains(DescriptorFlags::INDIRECT) {
                    return Err(bad_indirect(head, Indirect::Nested, false, length));
                }
                // NEXT and the id mean nothing here (section 2.8.7).
                add(buffers, &mut side, head, address, length, flags)?;
            }
        } else {
            add(buffers, &mut side, head, address, length, flags)?;
        }
        if !goes_on {
            break id;
        }
        index = index.wrapping_add(1);
        if index == size {
            index = 0;
        }
    };
    if side == Side::READABLE {
        buffers.turn();
    }
    Ok(Token { id, places })
}

#[inline(always)]
fn packed_descriptor(table: VolatileSlice<'_>, head: u16, index: u16) -> Result<PackedDescriptor, Fault> {
    match table.copy_out_words(descriptor_table::entry(index)) {
        Ok(words) => Ok(PackedDescriptor::from_words(words)),
        Err(_) => Err(bad_next(head, index, table.length())),
    }
}

/// To which stream the buffers of a chain belong that come next.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Side(DescriptorFlags);

impl Side {
    const READABLE: Self = Self(DescriptorFlags::empty());
    const WRITABLE: Self = Self(DescriptorFlags::WRITE);

    /// Whether a descriptor with these flags has a buffer, and that is of this side.
    #[inline(always)]
    fn has(self, flags: DescriptorFlags) -> bool {
        flags.intersection(DescriptorFlags::WRITE.union(DescriptorFlags::INDIRECT)) == self.0
    }
}

/// Adds the buffer of a descriptor of the chain at `head` to its stream; it is no indirect one.
#[inline(always)]
fn add(
    buffers: &mut Loader<'_>,
    side: &mut Side,
    head: u16,
    address: GuestAddress,
    length: u32,
    flags: DescriptorFlags,
) -> Result<(), Fault> {
    if !side.has(flags) {
        if *side == Side::WRITABLE {
            return Err(Fault::Order { head });
        }
        *side = Side::WRITABLE;
        buffers.turn();
    }
    buffers.push(address, length).map_err(|cause| bad_buffer(head, cause))
}

/// The most descriptors that a chain may have in a table of `length` bytes.
fn limit(length: u32) -> u32 {
    (length / DESCRIPTOR_SIZE).min(MAX_CHAIN)
}

// Faults are made out of line, so that the walk of a sound chain does not step around them.

#[cold]
#[inline(never)]
fn too_long(head: u16, table: u32) -> Fault {
    Fault::ChainTooLong { head, limit: limit(table) }
}

#[cold]
#[inline(never)]
fn bad_next(head: u16, next: u16, table: u32) -> Fault {
    Fault::Next { head, next, entries: table / DESCRIPTOR_SIZE }
}

/// Why a descriptor cannot refer to a table of `length` bytes.
#[cold]
#[inline(never)]
fn bad_indirect(head: u16, indirect: Indirect, goes_on: bool, length: u32) -> Fault {
    match indirect {
        Indirect::NotNegotiated => Fault::IndirectNotNegotiated { head },
        Indirect::Nested => Fault::IndirectNested { head },
        Indirect::Allowed if goes_on => Fault::IndirectWithNext { head },
        Indirect::Allowed => Fault::IndirectLength { head, length },
    }
}

#[cold]
#[inline(never)]
fn bad_table(head: u16, cause: BadRange) -> Fault {
    Fault::IndirectTable { head, cause }
}

#[cold]
#[inline(never)]
fn bad_buffer(head: u16, cause: LoadError) -> Fault {
    match cause {
        LoadError::TooLong => Fault::ChainTooLarge { head },
        LoadError::Range(_) | LoadError::TooManySegments => Fault::Buffer { head, cause },
    }
}

#[cfg(test)]
mod tests {
    use super::super::driver_model::{Driver, INDIRECT, NEXT, PLAIN, RAM, WITH_INDIRECT, WRITE};
    use super::super::{Queue, QueueConfiguration, Ring, RingFeatures};
    use super::*;
    use crate::mem::scatter::MAX_SEGMENTS;
    use crate::mem::{Sink, Source};
    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    /// Offers the chain at `head` and pops it; shows the bytes of the readable stream and the room of the other.
    fn pop(driver: &mut Driver, head: u16) -> Result<(Vec<u8>, usize), Fault> {
        let memory = driver.memory();
        let configuration = QueueConfiguration { next: driver.available, ..driver.configuration };
        // A queue is taken up for each call: after a fault it must not go on.
        let idx = configuration.used.0 + 2;
        driver.write(idx, &driver.available.to_le_bytes());
        let mut queue = Queue::new(&memory, &configuration).unwrap();
        driver.offer(head);
        let mut list = Box::<ScatterList>::default();
        let chain = queue.pop(&memory, &mut list)?.unwrap();
        assert_eq!(chain.token, Token { id: head, places: 1 });
        let (mut readable, writable) = chain.buffers.into_streams();
        let mut bytes = vec![0; readable.remaining()];
        readable.take(&mut bytes).unwrap();
        Ok((bytes, writable.remaining()))
    }

    fn with_bytes(features: RingFeatures, size: u16) -> (Driver, u64) {
        let mut driver = Driver::new(size, features);
        let buffer = driver.buffer(256);
        driver.write(buffer, &core::array::from_fn::<u8, 256, _>(|index| u8::try_from(index).unwrap()));
        (driver, buffer)
    }

    #[test]
    fn a_chain_is_its_readable_and_its_writable_buffers_in_order() {
        let (mut driver, buffer) = with_bytes(PLAIN, 8);
        driver.descriptor(6, (buffer + 9, 2), NEXT, 1);
        driver.descriptor(1, (buffer + 4, 1), NEXT, 7);
        driver.descriptor(7, (buffer, 100), NEXT | WRITE, 0);
        driver.descriptor(0, (buffer, 20), WRITE, 0xffff);
        assert_eq!(pop(&mut driver, 6), Ok((vec![9, 10, 4], 120)));
        driver.descriptor(2, (buffer, 3), 0, 0);
        assert_eq!(pop(&mut driver, 2), Ok((vec![0, 1, 2], 0)));
        driver.descriptor(3, (buffer, 3), WRITE, 0);
        assert_eq!(pop(&mut driver, 3), Ok((vec![], 3)));
    }

    #[test]
    fn a_request_and_its_reply_may_be_cut_into_descriptors_of_one_byte() {
        let (mut driver, buffer) = with_bytes(PLAIN, 64);
        let buffers: Vec<_> = (0..64u32)
            .map(|index| ((buffer + 255 - 2 * u64::from(index), 1), if index < 23 { 0 } else { WRITE }))
            .collect();
        driver.chain(RAM, 0, &buffers);
        let memory = driver.memory();
        let mut queue = Queue::new(&memory, &driver.configuration).unwrap();
        driver.offer(0);
        let mut list = Box::<ScatterList>::default();
        let chain = queue.pop(&memory, &mut list).unwrap().unwrap();
        let (mut readable, writable) = chain.buffers.into_streams();
        let mut request = [0; 23];
        readable.take(&mut request).unwrap();
        assert_eq!(request, core::array::from_fn(|index| 255 - 2 * u8::try_from(index).unwrap()));
        let (mut header, mut payload) = writable.split_at(11).unwrap();
        payload.put(&[0xbb; 30]).unwrap();
        header.put(&[0xaa; 11]).unwrap();
        let reply: Vec<u8> =
            buffers[23..].iter().map(|&((address, _), _)| driver.read(address, 1)[0]).collect();
        assert_eq!(reply, [&[0xaa; 11][..], &[0xbb; 30][..]].concat());
        assert_eq!(driver.read(buffer + 255 - 2 * 22, 1), [255 - 2 * 22], "the request was written");
    }

    #[test]
    fn what_the_driver_makes_of_its_descriptors_after_the_walk_has_no_effect() {
        let (mut driver, buffer) = with_bytes(WITH_INDIRECT, 4);
        let table = driver.buffer(32);
        driver.descriptor(0, (table, 32), INDIRECT, 0);
        driver.chain(table, 0, &[((buffer, 2), 0), ((buffer + 8, 2), WRITE)]);
        let memory = driver.memory();
        let mut queue = Queue::new(&memory, &driver.configuration).unwrap();
        driver.offer(0);
        let mut list = Box::<ScatterList>::default();
        let chain = queue.pop(&memory, &mut list).unwrap().unwrap();
        driver.write(table, &[0xff; 32]);
        driver.write(RAM, &[0xff; 16]);
        let (mut readable, mut writable) = chain.buffers.into_streams();
        let mut request = [0; 2];
        readable.take(&mut request).unwrap();
        writable.put(&[9, 9]).unwrap();
        assert_eq!((request, driver.read(buffer + 8, 3)), ([0, 1], vec![9, 9, 10]));
    }

    #[test]
    fn a_readable_descriptor_after_a_writable_one_is_a_fault() {
        let (mut driver, buffer) = with_bytes(WITH_INDIRECT, 8);
        driver.chain(RAM, 2, &[((buffer, 1), 0), ((buffer, 1), WRITE), ((buffer, 1), 0)]);
        assert_eq!(pop(&mut driver, 2), Err(Fault::Order { head: 2 }));
        // The order is that of the descriptors, also of empty ones and across the border of a table.
        driver.chain(RAM, 2, &[((buffer, 0), WRITE), ((buffer, 1), 0)]);
        assert_eq!(pop(&mut driver, 2), Err(Fault::Order { head: 2 }));
        let table = driver.buffer(16);
        driver.chain(RAM, 2, &[((buffer, 1), WRITE), ((table, 16), INDIRECT)]);
        driver.chain(table, 0, &[((buffer, 1), 0)]);
        assert_eq!(pop(&mut driver, 2), Err(Fault::Order { head: 2 }));
    }

    #[test]
    fn a_descriptor_of_length_zero_adds_nothing() {
        let (mut driver, buffer) = with_bytes(PLAIN, 8);
        let nowhere = (u64::MAX, 0);
        driver.chain(
            RAM,
            0,
            &[(nowhere, 0), ((buffer, 2), 0), (nowhere, 0), ((buffer, 5), WRITE), (nowhere, WRITE)],
        );
        assert_eq!(pop(&mut driver, 0), Ok((vec![0, 1], 5)));
        driver.chain(RAM, 0, &[(nowhere, 0)]);
        assert_eq!(pop(&mut driver, 0), Ok((vec![], 0)));
    }

    #[test]
    fn a_loop_ends_after_as_many_descriptors_as_the_queue_has() {
        let (mut driver, buffer) = with_bytes(PLAIN, 4);
        let too_long = |head| Err(Fault::ChainTooLong { head, limit: 4 });
        driver.descriptor(3, (buffer, 1), NEXT, 3);
        assert_eq!(pop(&mut driver, 3), too_long(3));
        driver.descriptor(0, (buffer, 1), NEXT, 1);
        driver.descriptor(1, (buffer, 1), NEXT, 0);
        assert_eq!(pop(&mut driver, 0), too_long(0));
        driver.chain(RAM, 0, &[((buffer, 1), 0); 4]);
        assert_eq!(pop(&mut driver, 0), Ok((vec![0; 4], 0)), "a chain of all descriptors is no loop");
    }

    #[test]
    fn next_must_name_a_descriptor_of_its_table() {
        let (mut driver, buffer) = with_bytes(WITH_INDIRECT, 4);
        let table = driver.buffer(64);
        for next in [4, 5, 0xffff] {
            driver.descriptor(1, (buffer, 1), NEXT, next);
            assert_eq!(pop(&mut driver, 1), Err(Fault::Next { head: 1, next, entries: 4 }));
        }
        driver.descriptor(0, (table, 48), INDIRECT, 0);
        for next in [3, 0xffff] {
            driver.entry(table, 0, (buffer, 1), NEXT, next);
            assert_eq!(pop(&mut driver, 0), Err(Fault::Next { head: 0, next, entries: 3 }));
        }
    }

    #[test]
    fn a_buffer_outside_guest_memory_is_a_fault() {
        let (mut driver, buffer) = with_bytes(PLAIN, 4);
        let end = driver.end();
        for (address, length, at) in
            [(0, 1, 0), (end - 1, 2, end), (buffer, u32::MAX, end), (RAM - 1, 9, RAM - 1)]
        {
            driver.descriptor(0, (address, length), 0, 0);
            let (address, at) = (GuestAddress(address), GuestAddress(at));
            let cause = LoadError::Range(BadRange::Unmapped { address, length: u64::from(length), at });
            assert_eq!(pop(&mut driver, 0), Err(Fault::Buffer { head: 0, cause }));
        }
        let address = GuestAddress(u64::MAX);
        driver.descriptor(0, (address.0, 1), WRITE, 0);
        let cause = LoadError::Range(BadRange::Wraps { address, length: 1 });
        assert_eq!(pop(&mut driver, 0), Err(Fault::Buffer { head: 0, cause }));
    }

    #[test]
    fn an_indirect_table_may_be_all_of_a_chain_or_its_end() {
        let (mut driver, buffer) = with_bytes(WITH_INDIRECT, 4);
        // A table needs no alignment.
        let table = driver.buffer(65) + 1;
        driver.entry(table, 0, (buffer + 1, 1), NEXT, 3);
        driver.entry(table, 3, (buffer + 2, 1), NEXT, 1);
        driver.entry(table, 1, (buffer + 3, 9), WRITE, 0);
        // WRITE means nothing on a descriptor that refers to a table.
        for flags in [INDIRECT, INDIRECT | WRITE] {
            driver.descriptor(2, (table, 64), flags, 0);
            assert_eq!(pop(&mut driver, 2), Ok((vec![1, 2], 9)));
            driver.chain(RAM, 0, &[((buffer, 1), 0), ((buffer + 7, 1), 0), ((table, 64), flags)]);
            assert_eq!(pop(&mut driver, 0), Ok((vec![0, 7, 1, 2], 9)));
        }
    }

    #[test]
    fn a_table_that_begins_as_others_and_goes_on_otherwise_is_walked_from_its_beginning() {
        let (mut driver, buffer) = with_bytes(WITH_INDIRECT, 4);
        let table = driver.buffer(64);
        driver.descriptor(2, (table, 64), INDIRECT, 0);
        // One that adjoins the last, and an empty one: neither adds a segment.
        driver.chain(
            table,
            0,
            &[((buffer, 1), 0), ((buffer + 1, 2), 0), ((buffer, 0), WRITE), ((buffer + 9, 5), WRITE)],
        );
        assert_eq!(pop(&mut driver, 2), Ok((vec![0, 1, 2], 5)));
        driver.entry(table, 3, (buffer, 5), 0, 0);
        assert_eq!(pop(&mut driver, 2), Err(Fault::Order { head: 2 }));
        driver.entry(table, 3, (driver.end(), 5), WRITE, 0);
        assert!(matches!(pop(&mut driver, 2), Err(Fault::Buffer { head: 2, .. })));
    }

    #[test]
    fn an_indirect_table_may_be_longer_than_the_queue() {
        let (mut driver, buffer) = with_bytes(WITH_INDIRECT, 2);
        let table = driver.buffer(16 * 500);
        driver.descriptor(1, (table, 16 * 500), INDIRECT, 0);
        driver.chain(table, 0, &[((buffer + 3, 1), 0); 500]);
        assert_eq!(pop(&mut driver, 1), Ok((vec![3; 500], 0)));
    }

    #[test]
    fn a_loop_in_an_indirect_table_ends() {
        let (mut driver, buffer) = with_bytes(WITH_INDIRECT, 8);
        let table = driver.buffer(48);
        driver.descriptor(1, (table, 48), INDIRECT, 0);
        driver.chain(table, 0, &[((buffer, 1), 0); 3]);
        assert!(pop(&mut driver, 1).is_ok());
        driver.entry(table, 2, (buffer, 1), NEXT, 0);
        assert_eq!(pop(&mut driver, 1), Err(Fault::ChainTooLong { head: 1, limit: 3 }));
        // However long the table, or the queue, the chain is bounded.
        let mut driver = Driver::at(8, WITH_INDIRECT, 0, 1 << 20);
        let length = 16 * (MAX_CHAIN + 1);
        let table = driver.buffer(u64::from(length));
        driver.descriptor(1, (table, length), INDIRECT, 0);
        driver.entry(table, 0, (0, 0), NEXT, 0);
        assert_eq!(pop(&mut driver, 1), Err(Fault::ChainTooLong { head: 1, limit: MAX_CHAIN }));
        let mut driver = Driver::at(8192, PLAIN, 0, 1 << 20);
        driver.descriptor(1, (0, 0), NEXT, 1);
        assert_eq!(pop(&mut driver, 1), Err(Fault::ChainTooLong { head: 1, limit: MAX_CHAIN }));
    }

    #[test]
    fn an_indirect_descriptor_that_breaks_a_rule_is_a_fault() {
        let (mut driver, buffer) = with_bytes(PLAIN, 4);
        let table = driver.buffer(32);
        driver.chain(table, 0, &[((buffer, 1), 0), ((buffer, 1), 0)]);
        driver.descriptor(0, (table, 32), INDIRECT, 0);
        assert_eq!(pop(&mut driver, 0), Err(Fault::IndirectNotNegotiated { head: 0 }));

        driver.configuration.features = WITH_INDIRECT;
        assert!(pop(&mut driver, 0).is_ok());
        driver.descriptor(0, (table, 32), INDIRECT | NEXT, 1);
        assert_eq!(pop(&mut driver, 0), Err(Fault::IndirectWithNext { head: 0 }));
        for length in [0, 1, 15, 17, 31, u32::MAX] {
            driver.descriptor(0, (table, length), INDIRECT, 0);
            assert_eq!(pop(&mut driver, 0), Err(Fault::IndirectLength { head: 0, length }));
        }
        driver.descriptor(0, (table, 32), INDIRECT, 0);
        driver.entry(table, 1, (table, 32), INDIRECT, 0);
        assert_eq!(pop(&mut driver, 0), Err(Fault::IndirectNested { head: 0 }));
    }

    #[test]
    fn an_indirect_table_must_lie_in_one_region() {
        let (mut driver, _) = with_bytes(WITH_INDIRECT, 4);
        let end = driver.end();
        let (address, at) = (GuestAddress(end - 16), GuestAddress(end));
        driver.descriptor(0, (address.0, 32), INDIRECT, 0);
        let cause = BadRange::Unmapped { address, length: 32, at };
        assert_eq!(pop(&mut driver, 0), Err(Fault::IndirectTable { head: 0, cause }));

        let mut memory = driver.memory();
        let more = Driver::new(2, PLAIN);
        // SAFETY: the other driver's RAM, which nothing else uses, and which lives longer than `memory` is used.
        #[allow(unsafe_code)]
        unsafe { memory.add_region(at, 64, more.host(RAM, 64)) }.unwrap();
        let mut queue =
            Queue::new(&memory, &QueueConfiguration { next: driver.available - 1, ..driver.configuration })
                .unwrap();
        let mut list = Box::<ScatterList>::default();
        let cause = BadRange::Divided { address, length: 32 };
        let fault = queue.pop(&memory, &mut list).unwrap_err();
        assert_eq!(fault, Fault::IndirectTable { head: 0, cause });
    }

    #[test]
    fn a_chain_of_4_gib_is_a_fault() {
        let mut driver = Driver::at(1024, PLAIN, 0, 8 << 20);
        let buffer = driver.buffer(8 << 20);
        let mut buffers = vec![((buffer, 8 << 20), 0); 256];
        buffers.extend_from_slice(&[((buffer, 8 << 20), WRITE); 255]);
        buffers.push(((buffer, (8 << 20) - 1), WRITE));
        driver.chain(RAM, 0, &buffers);
        let memory = driver.memory();
        let mut queue = Queue::new(&memory, &driver.configuration).unwrap();
        let mut list = Box::<ScatterList>::default();
        driver.offer(0);
        let chain = queue.pop(&memory, &mut list).unwrap().unwrap();
        let (readable, writable) = chain.buffers.into_streams();
        assert_eq!(readable.remaining() + writable.remaining(), u32::MAX as usize);
        buffers.push(((buffer, 1), WRITE));
        driver.chain(RAM, 0, &buffers);
        driver.offer(0);
        let fault = queue.pop(&memory, &mut list).unwrap_err();
        assert_eq!(fault, Fault::ChainTooLarge { head: 0 });
    }

    #[test]
    fn a_chain_of_more_pieces_than_a_list_holds_is_a_fault() {
        let (mut driver, buffer) = with_bytes(PLAIN, 4096);
        driver.chain(RAM, 0, &[((buffer, 1), 0); MAX_SEGMENTS]);
        assert_eq!(pop(&mut driver, 0), Ok((vec![0; MAX_SEGMENTS], 0)));
        driver.chain(RAM, 0, &[((buffer, 1), 0); MAX_SEGMENTS + 1]);
        let cause = LoadError::TooManySegments;
        assert_eq!(pop(&mut driver, 0), Err(Fault::Buffer { head: 0, cause }));
        // Pieces that adjoin are one.
        let buffers: Vec<_> = (0..4096).map(|index| ((buffer + index % 256, 1), 0)).collect();
        driver.chain(RAM, 0, &buffers);
        assert_eq!(pop(&mut driver, 0).unwrap().0.len(), 4096);
    }
}
