// SPDX-License-Identifier: MIT OR Apache-2.0

//! How the image copies: each of its three routines, compiled for the host, and which of them it takes on which processor.

#[path = "../../boot/src/copy.rs"]
mod copy;

use std::time::Duration;

use copy::{LARGE, Processor, Routine, copy_forward};
use skerry_host::service_vm::ServiceVm;

use crate::machine::VolumeFile;

/// Bytes that no length and no offset of the tests repeats.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 251) as u8).collect()
}

/// Copies `length` bytes of `memory` from `source` to `destination` by the image's routine.
fn copied(memory: &[u8], destination: usize, source: usize, length: usize) -> Vec<u8> {
    let mut memory = memory.to_vec();
    assert!(source + length <= memory.len() && destination + length <= memory.len());
    // SAFETY: both ranges are within the vector, as was just asserted, and the callers' destinations are not within the source
    // behind its first byte.
    unsafe {
        let start = memory.as_mut_ptr();
        copy_forward(start.add(destination), start.add(source), length);
    }
    memory
}

#[test]
fn every_routine_copies_every_length_from_and_to_every_alignment_and_nothing_else() {
    assert!(
        std::arch::is_x86_feature_detected!("avx"),
        "this host has no AVX, so that one routine cannot be tried"
    );
    let memory = pattern(4096);
    for routine in [Routine::Sse, Routine::Avx, Routine::String] {
        // SAFETY: the host has SSE as every x86-64 processor, `rep movsb` as well, and AVX as was just asserted; Linux has it on.
        unsafe { routine.use_from_now_on() };
        for length in (0..2 * LARGE + 130).chain([1000, 1024, 1500]) {
            for (destination, source) in [(2000, 16), (2001, 16), (2000, 31), (2007, 9)] {
                let mut expected = memory.clone();
                expected.copy_within(source..source + length, destination);
                assert_eq!(copied(&memory, destination, source, length), expected, "{routine} {length}");
            }
            // A destination below a source that it overlaps, as `memmove` may have.
            for distance in [1, 8, 31, 64, 127] {
                let mut expected = memory.clone();
                expected.copy_within(300..300 + length, 300 - distance);
                assert_eq!(
                    copied(&memory, 300 - distance, 300, length),
                    expected,
                    "{routine} {length} {distance}"
                );
            }
        }
    }
}

#[test]
fn string_instructions_are_for_processors_that_are_not_emulated() {
    let best = |emulated, avx, fast_strings| Routine::best_for(Processor { emulated, avx, fast_strings });
    assert_eq!(best(true, true, true), Routine::Avx);
    assert_eq!(best(true, false, true), Routine::Sse);
    assert_eq!(best(false, true, true), Routine::String);
    assert_eq!(best(false, true, false), Routine::Avx);
    assert_eq!(best(false, false, false), Routine::Sse);
}

#[test]
fn the_image_copies_as_suits_the_processor_and_all_ways_copy_right() {
    for (processor, words) in [
        ("max", "large copies go through AVX registers"),
        ("max,-avx", "large copies go through SSE registers"),
        // The translator does not say what it is.
        ("max,tcg-cpuid=off", "large copies go through rep movsb"),
    ] {
        let volume = VolumeFile::new(&[]);
        let mut options = volume.options("debug");
        options.accelerator = Some(skerry_host::qemu::Accelerator::Tcg);
        options.arguments = vec!["-cpu".to_owned(), processor.to_owned()];
        let (mut vm, connections) = ServiceVm::start(&options).unwrap();
        let mut client = vm.connect(connections.requests).unwrap();
        assert!(
            vm.transcript().wait_for(words, Duration::from_secs(5)).is_some(),
            "{processor}: {:#?}",
            vm.transcript().last(100)
        );
        let (root, _) = client.attach(b"").unwrap();
        let content = pattern(100_003);
        client.create_file(root, b"copied", &content).unwrap();
        assert!(client.read_file(root, b"copied").unwrap() == content, "{processor}");
    }
}
