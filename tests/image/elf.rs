// SPDX-License-Identifier: MIT OR Apache-2.0

//! The image as a file: what its program headers ask for.

use object::LittleEndian;
use object::elf::{PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE, ProgramType};
use object::read::elf::ProgramHeader;
use skerry_host::image_file::ImageFile;
use skerry_host::service_vm::default_image;

/// What is loaded is at most this long.
const LONGEST: u64 = 1 << 20;

fn image() -> ImageFile {
    ImageFile::read(&default_image().unwrap()).unwrap()
}

#[test]
fn the_image_is_small_static_and_has_no_segment_that_is_both_writable_and_executable() {
    let image = image();
    let endian = LittleEndian;
    let headers = image.segments().unwrap();
    let mut executable = 0;
    for segment in headers.iter().filter(|segment| segment.p_type(endian) == PT_LOAD) {
        let flags = segment.p_flags(endian);
        assert!(!flags.contains(PF_W | PF_X), "{segment:x?}");
        assert_eq!(segment.p_vaddr(endian), segment.p_paddr(endian), "everything is mapped where it is");
        assert!(segment.p_vaddr(endian) >= 1 << 20 && segment.p_vaddr(endian) % 4096 == 0, "{segment:x?}");
        let end = segment.p_vaddr(endian) + segment.p_memsz(endian);
        assert!(end <= 30 << 20, "a segment ends at {end:#x}, too high for 32 MiB");
        executable += u32::from(flags.contains(PF_X));
    }
    assert_eq!(executable, 1, "code is in one place");
    let loaded = image.loaded().unwrap();
    assert!((1..=LONGEST).contains(&loaded), "{loaded} bytes are loaded");
    let has = |kind: ProgramType| headers.iter().any(|segment| segment.p_type(endian) == kind);
    assert!(!has(PT_INTERP) && !has(PT_DYNAMIC), "it needs no loader but QEMU's");
    assert!(has(PT_NOTE), "the PVH note has a header of its own");
    println!("{loaded} bytes are loaded, of a file of {}", image.bytes().len());
}

/// The address of a symbol of `linker.ld`.
pub fn symbol(name: &str) -> u64 {
    image().address(name).unwrap()
}

/// Whether `address` is in the image's executable segment.
pub fn is_code(address: u64) -> bool {
    image().is_code(address).unwrap()
}
