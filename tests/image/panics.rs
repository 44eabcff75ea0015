// SPDX-License-Identifier: MIT OR Apache-2.0

//! How many places of the image's code can call a function that panics, and which: the number only goes down.
//!
//! Each is a call or a jump, direct or through the linker's table of addresses, to one of the functions of `core` and `alloc` that end in
//! a panic. The code is looked through byte by byte: a byte that merely looks like such a call would have to be followed by the very
//! distance to one of them.

use std::collections::BTreeMap;

use rustc_demangle::demangle;
use skerry_host::image_file::ImageFile;
use skerry_host::service_vm::default_image;

/// The functions that do not return, by what their names begin with.
const PANICS: [&str; 11] = [
    "core::panicking::",
    "core::cell::panic_",
    "core::option::expect_failed",
    "core::option::unwrap_failed",
    "core::result::unwrap_failed",
    "core::slice::copy_from_slice_impl::len_mismatch_fail",
    "core::slice::index::slice_index_fail",
    "core::str::slice_error_fail",
    "alloc::alloc::handle_alloc_error",
    "alloc::raw_vec::capacity_overflow",
    "alloc::raw_vec::handle_error",
];

/// How many places there may be, by the crate that they are in: as many as there are. docs/threat-model.md says why each is there.
const FLOOR: [(&str, usize); 3] = [("skerry", 25), ("skerry_image", 18), ("libraries", 90)];

/// The bytes of a call and a jump to an address that is told by its distance, and of those through a word of memory.
const DIRECT: [u8; 2] = [0xe8, 0xe9];
const INDIRECT: [[u8; 2]; 2] = [[0xff, 0x15], [0xff, 0x25]];

/// Where the call or jump at the beginning of `code`, which is at `address`, leads to.
fn target(image: &ImageFile, address: u64, code: &[u8]) -> Option<u64> {
    let distance = |from: usize| {
        let bytes = code.get(from..)?.first_chunk::<4>()?;
        let next = address + from as u64 + 4;
        Some(next.wrapping_add_signed(i64::from(i32::from_le_bytes(*bytes))))
    };
    if DIRECT.contains(code.first()?) {
        return distance(1);
    }
    if INDIRECT.iter().any(|bytes| code.starts_with(bytes)) {
        return image.word(distance(2)?).unwrap();
    }
    None
}

/// The crate of a function: the core, the image, or anything else.
fn owner(function: &str) -> &'static str {
    // "<skerry::… as …>" and "core::ptr::drop_in_place<skerry::…>" are not told from what they are instances of.
    let name = function.trim_start_matches('<');
    if name.starts_with("skerry::") {
        "skerry"
    } else if name.starts_with("skerry_image::") {
        "skerry_image"
    } else {
        "libraries"
    }
}

#[test]
fn no_more_places_of_the_code_can_panic_than_are_known() {
    let image = ImageFile::read(&default_image().unwrap()).unwrap();
    let mut functions: Vec<(u64, String)> = image
        .symbols()
        .unwrap()
        .into_iter()
        .filter(|(addresses, _)| image.is_code(addresses.start).unwrap())
        .map(|(addresses, name)| (addresses.start, format!("{:#}", demangle(name))))
        .collect();
    functions.sort();
    let panics = |name: &str| PANICS.iter().any(|prefix| name.starts_with(prefix));
    let function_at = |address: u64| {
        let behind = functions.partition_point(|(start, _)| *start <= address);
        behind.checked_sub(1).map_or("?", |index| functions[index].1.as_str())
    };
    assert!(
        functions.iter().any(|(_, name)| panics(name)),
        "the image has no symbols of functions that panic"
    );

    let (start, code) = image.code().unwrap();
    let mut sites: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for (index, address) in (start..).take(code.len()).enumerate() {
        let Some(target) = target(&image, address, &code[index..]) else { continue };
        let Ok(found) = functions.binary_search_by_key(&target, |(start, _)| *start) else { continue };
        let (panic, caller) = (functions[found].1.as_str(), function_at(address));
        if panics(panic) && !panics(caller) {
            *sites.entry((owner(caller), caller, panic)).or_default() += 1;
        }
    }
    for (&(_, caller, panic), count) in &sites {
        println!("{count} in {caller}: {panic}");
    }
    for (owner, floor) in FLOOR {
        let count: usize = sites.iter().filter(|((of, ..), _)| *of == owner).map(|(_, count)| count).sum();
        println!("shown: places that can panic in {owner}: {count}");
        assert_eq!(
            count, floor,
            "places of {owner} that can panic: the list is above; if there are fewer, the floor goes down"
        );
    }
}
