// SPDX-License-Identifier: MIT OR Apache-2.0

//! The page tables and the control registers of an image that serves, as QEMU sees them (`info tlb` and `info registers` of its
//! monitor). Other tests provoke single protections; this one looks at every page that is mapped.

use std::fs;

use serde_json::json;
use skerry_host::qemu::Accelerator;
use skerry_host::service_vm::FIRST_PORT;
use skerry_host::shared_memory::SharedMemory;

use crate::elf;
use crate::hotplug::{MEMORY, Service, attach};

/// Bits of CR0, CR4 and EFER (Intel SDM volume 3, section 2.5).
const CR0_WP: u64 = 1 << 16;
const CR4_UMIP: u64 = 1 << 11;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER_NXE: u64 = 1 << 11;

/// What QEMU's monitor answers.
fn monitor(service: &mut Service, command: &str) -> String {
    let arguments = json!({ "command-line": command });
    let answer = service.qmp.execute("human-monitor-command", arguments).expect(command);
    answer.as_str().expect("a text").to_owned()
}

/// The value of a register in what `info registers` answered.
fn register(registers: &str, name: &str) -> u64 {
    let value = registers.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let value = value.unwrap_or_else(|| panic!("no {name} in\n{registers}"));
    u64::from_str_radix(value, 16).unwrap_or_else(|error| panic!("{name}={value}: {error}"))
}

/// A service VM that has a client's memory, on the usual processor but for what `without` takes away.
fn serving(without: &str) -> Service {
    let accelerator = Accelerator::choose().unwrap();
    // The last one counts.
    let mut service = Service::start_with(&["-cpu", &format!("{}{without}", accelerator.processor())]);
    let memory = SharedMemory::new("client", MEMORY).unwrap();
    // The device stays in its port until the end.
    std::mem::forget(service.plug(&memory));
    service.tell(&attach(u32::from(FIRST_PORT), &[])).unwrap();
    service
}

#[test]
fn no_page_is_writable_and_executable_or_a_users_and_what_guards_is_not_mapped() {
    let mut service = serving("");
    let tables = monitor(&mut service, "info tlb");
    let (mut executable, mut writable, mut read_only) = (0, 0, 0);
    for line in tables.lines() {
        // "address: physical address flags", where X stands for a page that must not be executed.
        let (address, rest) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
        let (physical, flags) = rest.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        let address = u64::from_str_radix(address, 16).unwrap();
        assert_eq!(u64::from_str_radix(physical, 16), Ok(address), "{line}");
        assert!(!flags.contains('U'), "a user's page: {line}");
        match (flags.contains('W'), flags.contains('X')) {
            (true, false) => panic!("writable and executable: {line}"),
            (true, true) => writable += 1,
            (false, true) => read_only += 1,
            (false, false) => {
                assert!(elf::is_code(address), "executable, and not the image's code: {line}");
                executable += 1;
            }
        }
        assert_ne!(address, 0, "page 0 is mapped");
        assert_ne!(address, elf::symbol("__stack_main_guard"), "the guard page of the main stack is mapped");
    }
    println!(
        "shown: pages of the image: {executable} of code, {read_only} read-only, {writable} writable, none both, none a user's"
    );
    assert!(executable > 0 && read_only > 0 && writable > 0, "{tables}");
}

#[test]
fn what_the_processor_has_to_protect_is_switched_on_and_what_it_has_not_is_left() {
    let protections = [("smep", CR4_SMEP), ("smap", CR4_SMAP), ("umip", CR4_UMIP)];
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap();
    let has = |name| match Accelerator::choose().unwrap() {
        // QEMU's translator has them all.
        Accelerator::Tcg => true,
        Accelerator::Kvm => processor.split_whitespace().any(|flag| flag == name),
    };
    for without in [false, true] {
        let words: String = protections.map(|(name, _)| format!(",{name}=off")).concat();
        let registers = monitor(&mut serving(if without { &words } else { "" }), "info registers");
        for (name, bit) in protections {
            let expected = if !without && has(name) { bit } else { 0 };
            assert_eq!(register(&registers, "CR4") & bit, expected, "{name}, {without}\n{registers}");
        }
        assert_ne!(register(&registers, "CR0") & CR0_WP, 0, "{registers}");
        assert_ne!(register(&registers, "EFER") & EFER_NXE, 0, "{registers}");
    }
}
