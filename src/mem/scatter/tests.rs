// SPDX-License-Identifier: MIT OR Apache-2.0

//! Streams over buffers cut anywhere.

use super::*;
use std::vec;
use std::vec::Vec;

/// Guest addresses from 0x1000 on, backed by `bytes`, which is not to be touched while the value lives.
fn memory(bytes: &mut Vec<u8>) -> GuestMemory {
    let mut memory = GuestMemory::new();
    let host = NonNull::new(bytes.as_mut_ptr()).unwrap();
    // SAFETY: the vector's bytes are one allocation; every test drops the memory before it uses them again.
    unsafe { memory.add_region(GuestAddress(0x1000), bytes.len(), host) }.unwrap();
    memory
}

fn load<'a>(list: &'a mut ScatterList, memory: &'a GuestMemory, buffers: &[(u64, u32)]) -> Loader<'a> {
    let mut loader = list.load(memory);
    for &(address, length) in buffers {
        loader.push(GuestAddress(address), length).unwrap();
    }
    loader
}

/// How long each segment is that was loaded.
fn lengths(loader: Loader<'_>) -> Vec<u32> {
    let Loaded { list, .. } = loader.finish();
    list.segments[..list.end.segments].iter().map(|segment| segment.length).collect()
}

/// 16 bytes of stream as three buffers that are apart in memory, cut at `first` and `second`; either may be
/// empty.
fn cut(first: u32, second: u32) -> [(u64, u32); 3] {
    [(0x1040, first), (0x1000, second - first), (0x1020, 16 - second)]
}

/// What a stream that is laid out by [`cut`] holds.
fn gather(bytes: &[u8], first: u32, second: u32) -> Vec<u8> {
    let mut stream = Vec::new();
    for (address, length) in cut(first, second) {
        let start = usize::try_from(address - 0x1000).unwrap();
        stream.extend_from_slice(&bytes[start..start + length as usize]);
    }
    stream
}

#[test]
fn a_stream_is_read_across_buffers_cut_at_every_byte() {
    let mut list = ScatterList::new();
    for (first, second) in (0..=16).flat_map(|first| (first..=16).map(move |second| (first, second))) {
        let mut bytes: Vec<u8> = (0..0x60).collect();
        let expected = gather(&bytes, first, second);
        for header in 0..=16 {
            let memory = memory(&mut bytes);
            let mut reader = load(&mut list, &memory, &cut(first, second)).into_reader();
            assert_eq!(reader.remaining(), 16);
            let (mut head, mut tail) = (vec![0; header], vec![0; 16 - header]);
            reader.take(&mut head).unwrap();
            assert_eq!(reader.remaining(), 16 - header);
            reader.take(&mut tail).unwrap();
            assert_eq!((&head[..], &tail[..]), expected.split_at(header));
            assert_eq!(reader.take(&mut [0]), Err(Short));
        }
    }
}

#[test]
fn a_header_is_written_after_its_payload_across_buffers_cut_at_every_byte() {
    let mut list = ScatterList::new();
    let stream: Vec<u8> = (1..=16).collect();
    for (first, second) in (0..=16).flat_map(|first| (first..=16).map(move |second| (first, second))) {
        for header in 0..=16 {
            let mut bytes = vec![0xa5; 0x60];
            let memory = memory(&mut bytes);
            let writer = load(&mut list, &memory, &cut(first, second)).into_writer();
            let (mut head, mut tail) = writer.split_at(header).unwrap();
            assert_eq!((head.remaining(), tail.remaining()), (header, 16 - header));
            tail.put(&stream[header..]).unwrap();
            head.put(&stream[..header]).unwrap();
            assert_eq!((head.written() as usize, tail.written() as usize), (header, 16 - header));
            assert_eq!((head.put(&[0]), tail.put(&[0])), (Err(Full), Err(Full)));
            drop(memory);
            assert_eq!(gather(&bytes, first, second), stream);
            let others = bytes.iter().filter(|&&byte| byte == 0xa5).count();
            assert_eq!(others, 0x60 - 16, "bytes beside the buffers were written");
        }
    }
}

#[test]
fn zeros_cover_exactly_the_bytes_that_were_asked_for() {
    let mut bytes = vec![0xa5; 0x60];
    let memory = memory(&mut bytes);
    let mut list = ScatterList::new();
    let mut writer = load(&mut list, &memory, &cut(3, 7)).into_writer();
    writer.put(&[1]).unwrap();
    writer.put_zeros(0).unwrap();
    writer.put_zeros(13).unwrap();
    assert_eq!((writer.written(), writer.remaining()), (14, 2));
    writer.put(&[2]).unwrap();
    drop(memory);
    assert_eq!(gather(&bytes, 3, 7), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0xa5]);
}

#[test]
fn taking_or_putting_too_much_moves_nothing() {
    let mut bytes = vec![7; 0x60];
    let memory = memory(&mut bytes);
    let (mut list, mut other) = (ScatterList::new(), ScatterList::new());
    let mut reader = load(&mut list, &memory, &cut(3, 7)).into_reader();
    let mut into = [0; 17];
    assert_eq!(reader.take(&mut into), Err(Short));
    assert_eq!(reader.skip(17), Err(Short));
    assert_eq!((into, reader.remaining()), ([0; 17], 16));
    assert!(reader.split_at(17).is_err());

    let mut writer = load(&mut other, &memory, &cut(3, 7)).into_writer();
    assert_eq!(writer.put(&[0; 17]), Err(Full));
    assert_eq!(writer.put_zeros(17), Err(Full));
    assert_eq!(writer.put_zeros(usize::MAX), Err(Full));
    assert_eq!((writer.remaining(), writer.written()), (16, 0));
    assert!(writer.split_at(17).is_err());
    drop(memory);
    assert!(bytes.iter().all(|&byte| byte == 7));
}

#[test]
fn skipping_and_splitting_a_reader_keep_the_place() {
    let mut bytes: Vec<u8> = (0..0x60).collect();
    let expected = gather(&bytes, 3, 7);
    let memory = memory(&mut bytes);
    let mut list = ScatterList::new();
    for skipped in 0..=16 {
        for head_length in 0..=16 - skipped {
            let mut reader = load(&mut list, &memory, &cut(3, 7)).into_reader();
            reader.skip(skipped).unwrap();
            let (mut head, mut tail) = reader.split_at(head_length).unwrap();
            let mut first = vec![0; head_length];
            head.take(&mut first).unwrap();
            assert_eq!(head.take(&mut [0]), Err(Short), "the head ends where the tail begins");
            let mut second = vec![0; tail.remaining()];
            tail.take(&mut second).unwrap();
            assert_eq!(first, expected[skipped..skipped + head_length]);
            assert_eq!(second, expected[skipped + head_length..]);
        }
    }
}

#[test]
fn buffers_that_adjoin_become_one_segment() {
    let mut bytes = vec![0; 0x60];
    let memory = memory(&mut bytes);
    let mut list = ScatterList::new();
    let loader = load(&mut list, &memory, &[(0x1000, 4), (0x1004, 4), (0x1008, 0), (0x1008, 1), (0x1000, 4)]);
    assert_eq!(loader.length(), 13);
    assert_eq!(lengths(loader), [9, 4]);
}

#[test]
fn regions_that_adjoin_in_both_memories_are_separate_segments() {
    let mut bytes = [1u8, 2, 3, 4];
    let host = NonNull::new(bytes.as_mut_ptr()).unwrap();
    let mut memory = GuestMemory::new();
    // SAFETY: both regions lie in `bytes`, which is used again after the memory's last use only.
    unsafe {
        memory.add_region(GuestAddress(0x1000), 2, host).unwrap();
        memory.add_region(GuestAddress(0x1002), 2, host.add(2)).unwrap();
    }
    let mut list = ScatterList::new();
    let mut reader = load(&mut list, &memory, &[(0x1000, 4)]).into_reader();
    let mut into = [0; 4];
    reader.take(&mut into).unwrap();
    assert_eq!(into, [1, 2, 3, 4]);
    assert_eq!(lengths(load(&mut list, &memory, &[(0x1000, 4)])), [2, 2]);
    // The same, where each is a buffer of its own; and where the second goes on in its region.
    assert_eq!(lengths(load(&mut list, &memory, &[(0x1000, 2), (0x1002, 1), (0x1003, 1)])), [2, 2]);
}

#[test]
fn buffers_on_both_sides_of_a_turn_are_two_streams_also_where_they_adjoin() {
    let mut bytes: Vec<u8> = (0..0x60).collect();
    let memory = memory(&mut bytes);
    let mut list = ScatterList::new();
    let mut loader = load(&mut list, &memory, &[(0x1000, 2), (0x1002, 2)]);
    loader.turn();
    loader.push(GuestAddress(0x1004), 3).unwrap();
    loader.push(GuestAddress(0x1010), 4).unwrap();
    let (mut reader, mut writer) = loader.into_streams();
    assert_eq!((reader.remaining(), writer.remaining()), (4, 7));
    let mut read = [0; 4];
    reader.take(&mut read).unwrap();
    let mut behind = writer.behind(3).unwrap();
    assert_eq!((behind.remaining(), writer.remaining()), (4, 7));
    behind.put(&[0xbb; 4]).unwrap();
    writer.put(&[0xaa; 3]).unwrap();
    assert_eq!((behind.written(), writer.written()), (4, 3));
    assert!(writer.behind(5).is_err());
    drop(memory);
    assert_eq!(
        (read, &bytes[4..8], &bytes[0x10..0x15]),
        ([0, 1, 2, 3], &[0xaa, 0xaa, 0xaa, 7][..], &[0xbb, 0xbb, 0xbb, 0xbb, 0x14][..])
    );
}

#[test]
fn a_reader_that_is_cut_off_ends_there() {
    let mut bytes: Vec<u8> = (0..0x60).collect();
    let memory = memory(&mut bytes);
    let mut list = ScatterList::new();
    let mut reader = load(&mut list, &memory, &cut(3, 7)).into_reader();
    assert_eq!(reader.truncate(17), Err(Short));
    reader.truncate(5).unwrap();
    assert_eq!((reader.remaining(), reader.take(&mut [0; 6])), (5, Err(Short)));
    reader.take(&mut [0; 5]).unwrap();
}

#[test]
fn a_list_takes_its_capacity_of_separate_buffers_and_no_more() {
    let mut bytes = vec![0; 2 * MAX_SEGMENTS + 2];
    let memory = memory(&mut bytes);
    let mut list = ScatterList::new();
    let mut loader = list.load(&memory);
    for index in 0..MAX_SEGMENTS as u64 {
        loader.push(GuestAddress(0x1000 + 2 * index), 1).unwrap();
    }
    let last = GuestAddress(0x1000 + 2 * MAX_SEGMENTS as u64);
    assert_eq!(loader.push(last, 1), Err(LoadError::TooManySegments));
    // Loading anew forgets them.
    assert_eq!(lengths(list.load(&memory)), []);
    assert_eq!(list.load(&memory).into_reader().remaining(), 0);
}

#[test]
fn a_buffer_near_the_last_one_is_taken_and_any_other_is_left() {
    let mut bytes = vec![0; 0x60];
    let memory = memory(&mut bytes);
    let mut list = ScatterList::new();
    let mut loader = list.load(&memory);
    assert!(loader.push_near(GuestAddress(0x1000), 4));
    assert!(loader.push_near(GuestAddress(0x1004), 2), "it adjoins");
    for (address, length) in [(0x1010, 0), (0x105f, 2), (0xfff, 2), (0x1010, u32::MAX), (u64::MAX, 1)] {
        assert!(!loader.push_near(GuestAddress(address), length), "{address:#x}");
        assert_eq!(loader.length(), 6);
    }
    loader.turn();
    assert!(loader.push_near(GuestAddress(0x1006), 4), "another stream begins");
    assert_eq!(loader.length(), 10);
    assert_eq!(lengths(loader), [6, 4]);
}

#[test]
fn a_buffer_outside_guest_memory_is_not_loaded() {
    let mut bytes = vec![0; 0x60];
    let memory = memory(&mut bytes);
    let mut list = ScatterList::new();
    let (address, at) = (GuestAddress(0x1050), GuestAddress(0x1060));
    let cause = BadRange::Unmapped { address, length: 0x11, at };
    assert_eq!(list.load(&memory).push(address, 0x11), Err(LoadError::Range(cause)));
}

#[test]
fn a_list_of_4_gib_is_too_long() {
    // The bytes of this region are never accessed, so one allocation of no pages will do.
    let length = 1 << 31;
    let layout = std::alloc::Layout::from_size_align(length, 4096).unwrap();
    // SAFETY: the layout is not empty.
    let host = NonNull::new(unsafe { std::alloc::alloc(layout) }).unwrap();
    let mut memory = GuestMemory::new();
    // SAFETY: `host` is one allocation of `length` bytes, freed after the memory was dropped.
    unsafe { memory.add_region(GuestAddress(0), length, host) }.unwrap();
    let mut list = ScatterList::new();
    let mut loader = list.load(&memory);
    loader.push(GuestAddress(0), 1 << 31).unwrap();
    loader.push(GuestAddress(0), (1 << 31) - 1).unwrap();
    assert_eq!(loader.push(GuestAddress(0), 1), Err(LoadError::TooLong));
    drop(memory);
    // SAFETY: allocated above with this layout, and nothing points there any more.
    unsafe { std::alloc::dealloc(host.as_ptr(), layout) };
}
