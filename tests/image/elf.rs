// SPDX-License-Identifier: MIT OR Apache-2.0

//! The image as a file: what its program headers ask for, judged by another project's reader.

use object::LittleEndian;
use object::elf::{
    FileHeader64, PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE, ProgramType, SHT_SYMTAB, Sym64,
};
use object::read::elf::{FileHeader, ProgramHeader};
use skerry_host::service_vm::default_image;

/// What is loaded is at most this long.
const LONGEST: u64 = 1 << 20;

#[test]
fn the_image_is_small_static_and_has_no_segment_that_is_both_writable_and_executable() {
    let bytes = std::fs::read(default_image().unwrap()).unwrap();
    let header = FileHeader64::<LittleEndian>::parse(&*bytes).unwrap();
    let endian = header.endian().unwrap();
    let headers = header.program_headers(endian, &*bytes).unwrap();
    let mut loaded = 0;
    let mut executable = 0;
    for segment in headers.iter().filter(|segment| segment.p_type(endian) == PT_LOAD) {
        let flags = segment.p_flags(endian);
        assert!(!flags.contains(PF_W | PF_X), "{segment:x?}");
        assert_eq!(segment.p_vaddr(endian), segment.p_paddr(endian), "everything is mapped where it is");
        assert!(segment.p_vaddr(endian) >= 1 << 20 && segment.p_vaddr(endian) % 4096 == 0, "{segment:x?}");
        let end = segment.p_vaddr(endian) + segment.p_memsz(endian);
        assert!(end <= 30 << 20, "a segment ends at {end:#x}, too high for 32 MiB");
        executable += u32::from(flags.contains(PF_X));
        loaded += segment.p_filesz(endian);
    }
    assert_eq!(executable, 1, "code is in one place");
    assert!(loaded <= LONGEST, "{loaded} bytes are loaded");
    let has = |kind: ProgramType| headers.iter().any(|segment| segment.p_type(endian) == kind);
    assert!(!has(PT_INTERP) && !has(PT_DYNAMIC), "it needs no loader but QEMU's");
    assert!(has(PT_NOTE), "the PVH note has a header of its own");
    println!("{loaded} bytes are loaded, of a file of {}", bytes.len());
}

/// The address of a symbol of `linker.ld`.
pub fn symbol(name: &str) -> u64 {
    let bytes = std::fs::read(default_image().unwrap()).unwrap();
    let header = FileHeader64::<LittleEndian>::parse(&*bytes).unwrap();
    let endian = header.endian().unwrap();
    let symbols = header.sections(endian, &*bytes).unwrap().symbols(endian, &*bytes, SHT_SYMTAB).unwrap();
    let is_it = |symbol: &&Sym64<LittleEndian>| symbols.symbol_name(endian, symbol) == Ok(name.as_bytes());
    symbols.iter().find(is_it).unwrap_or_else(|| panic!("no symbol {name}")).st_value.get(endian)
}

/// Whether `address` is in the image's executable segment.
pub fn is_code(address: u64) -> bool {
    let bytes = std::fs::read(default_image().unwrap()).unwrap();
    let header = FileHeader64::<LittleEndian>::parse(&*bytes).unwrap();
    let endian = header.endian().unwrap();
    header.program_headers(endian, &*bytes).unwrap().iter().any(|segment| {
        let range = segment.p_vaddr(endian)..segment.p_vaddr(endian) + segment.p_memsz(endian);
        segment.p_flags(endian).contains(PF_X) && range.contains(&address)
    })
}
