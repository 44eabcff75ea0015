// SPDX-License-Identifier: MIT OR Apache-2.0

//! The image in QEMU, apart from what it serves: it starts and says so, each of its protections is provoked and seen to
//! hold, each way in which it can refuse to start ends it with one clear line and an exit value of its own (they are listed in
//! `boot/src/exit.rs`).

#[path = "image/copies.rs"]
mod copies;
#[path = "image/elf.rs"]
mod elf;
#[path = "image/hotplug.rs"]
mod hotplug;
#[path = "image/machine.rs"]
mod machine;
#[path = "image/panics.rs"]
mod panics;
#[path = "image/parsers.rs"]
mod parsers;
#[path = "image/protections.rs"]
mod protections;
#[path = "image/wall_time.rs"]
mod wall_time;

use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_setfl};

use serde_json::json;
use skerry::wire::OpenFlags;

use machine::{Machine, VolumeFile};
use skerry_host::qemu::Exit;
use skerry_host::service_vm::ServiceVm;

const START_FAILED: Exit = Exit::Guest(0x11);
const PANIC: Exit = Exit::Guest(0x12);
const EXCEPTION: Exit = Exit::Guest(0x13);
const COMMAND_LINE: Exit = Exit::Guest(0x14);

const EUCLEAN: u32 = 117;

/// The machine ends with this exit, and what it writes is one line of level "error" that contains `reason`.
#[track_caller]
fn refused(machine: Machine, expected: Exit, reason: &str) {
    let (exit, said) = machine.run();
    assert_eq!(exit, expected, "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("] ERROR ")).collect();
    let [line] = errors[..] else { panic!("not one line of level error in\n{said}") };
    assert!(line.contains("start failed: ") && line.contains(reason), "no {reason:?} in\n{said}");
    assert!(said.ends_with(line), "it is not the last line\n{said}");
}

/// What a service VM with this log level writes until it has answered a request, and how long that took.
fn started(log_level: &str) -> (Vec<String>, Duration) {
    let volume = VolumeFile::new(&[]);
    let begin = Instant::now();
    let (mut vm, connections) = ServiceVm::start(&volume.options(log_level)).unwrap();
    let mut client = vm.connect(connections.requests).unwrap();
    let elapsed = begin.elapsed();
    client.attach(b"").unwrap();
    if log_level != "error" {
        assert!(vm.transcript().wait_for("ready after ", Duration::from_secs(5)).is_some());
    }
    (vm.transcript().last(100), elapsed)
}

#[test]
fn the_image_starts_in_32_mib_and_says_so_in_a_few_lines() {
    let (lines, elapsed) = started("info");
    println!("answers {elapsed:?} after QEMU's start; {}", lines.last().unwrap());
    let has = |text: &str| assert!(lines.iter().any(|line| line.contains(text)), "no {text:?} in {lines:#?}");
    has(concat!("skerry ", env!("CARGO_PKG_VERSION"), " starts"));
    has("volume of 8 MiB mounted");
    has("ready after ");
    for line in &lines {
        let (time, rest) = line.strip_prefix('[').and_then(|line| line.split_once("] ")).expect(line);
        assert!(time.trim_start().parse::<f64>().is_ok(), "{line}");
        assert!(rest.starts_with("INFO "), "{line}");
    }
}

#[test]
fn whatever_a_firmware_has_placed_is_placed_anew() {
    let volume = VolumeFile::new(&[]);
    let mut options = volume.options("warn");
    // The last one counts.
    options.arguments = ["-bios", "bios-256k.bin"].map(str::to_owned).to_vec();
    let (mut vm, connections) = ServiceVm::start(&options).unwrap();
    let mut client = vm.connect(connections.requests).unwrap();
    let (root, _) = client.attach(b"").unwrap();
    client.create_file(root, b"file", b"content").unwrap();
    assert_eq!(client.read_file(root, b"file").unwrap(), b"content");
    assert_eq!(vm.transcript().last(1), [""; 0]);
}

#[test]
fn the_level_on_the_command_line_decides_what_is_logged() {
    let (lines, _) = started("error");
    assert_eq!(lines, [""; 0]);
    let (lines, _) = started("debug");
    for text in ["DEBUG heap of ", "DEBUG 00:03.0 is 1af4:105b", "INFO  ready after "] {
        assert!(lines.iter().any(|line| line.contains(text)), "no {text:?} in {lines:#?}");
    }
}

#[test]
fn a_command_line_with_an_unknown_word_is_refused() {
    let long_word = "x".repeat(450);
    for (line, reason) in [
        ("quiet", "word \"quiet\" is not of the form key=value"),
        ("colour=blue", "key \"colour\" is unknown"),
        ("log=loud", "log=loud; known are error warn info debug trace"),
        // What the service VM ended for is always told.
        ("log=off", "log=off; known are error"),
        ("log=info log=info", "gives \"log\" more than once"),
        ("readonly readonly", "gives \"readonly\" more than once"),
        ("export=volume", "wrong export: "),
        ("provoke=sleep", "provoke=sleep; known are panic "),
        (&long_word, &long_word),
        (&"log=info ".repeat(300), "longer than 2048 bytes"),
    ] {
        refused(Machine::new(line), COMMAND_LINE, reason);
    }
}

#[test]
fn a_broken_rule_of_the_address_space_is_an_exception_with_a_report() {
    for (provocation, words) in [
        ("undefined-instruction", &["exception 6 (invalid opcode)"][..]),
        ("null", &["exception 14 (page fault) error code 0x0", "read at 0x0: not mapped"]),
        ("write-code", &["exception 14 (page fault) error code 0x3", "write at 0x", "not allowed"]),
        ("write-constant", &["exception 14 (page fault) error code 0x3", "write at 0x", "not allowed"]),
        (
            "execute-data",
            &["exception 14 (page fault) error code 0x11", "instruction fetch at 0x", "not allowed"],
        ),
        ("stack-overflow", &["exception 14 (page fault) error code 0x2", "the main stack overflowed"]),
    ] {
        // Whatever the level, the report is written.
        let (exit, said) = Machine::new(&format!("log=error provoke={provocation}")).run();
        assert_eq!(exit, EXCEPTION, "{provocation}: {said}");
        let registers =
            ["RIP", "CR2", "RFLAGS", "CS", "SS", "RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "RSP"];
        let numbered = ["R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15"];
        for register in registers.into_iter().chain(numbered) {
            assert!(said.contains(&format!("{register} 0x")), "{provocation}: no {register} in\n{said}");
        }
        for word in words {
            assert!(said.contains(word), "{provocation}: no {word:?} in\n{said}");
        }
    }
}

#[test]
fn a_report_tells_where_it_happened() {
    let (_, said) = Machine::new("provoke=null").run();
    let after = |text: &str| {
        let rest = said.split_once(text).unwrap_or_else(|| panic!("no {text} in\n{said}")).1;
        u64::from_str_radix(rest.split_whitespace().next().unwrap(), 16).unwrap()
    };
    assert_eq!(after("CR2 0x"), 0);
    assert!(elf::is_code(after("RIP 0x")), "RIP is not in the image's code\n{said}");
    assert!(!elf::is_code(after("RSP 0x")), "RSP is in the image's code\n{said}");
}

#[test]
fn a_panic_is_told_with_file_and_line() {
    let (exit, said) = Machine::new("log=error provoke=panic").run();
    assert_eq!(exit, PANIC, "{said}");
    let place = said.split_once("panic at boot/src/provoke.rs:").unwrap_or_else(|| panic!("{said}")).1;
    let (line, message) = place.split_once(": ").unwrap();
    assert!(line.parse::<u32>().is_ok() && message.starts_with("provoked"), "{said}");
}

#[test]
fn the_main_stack_is_twice_as_large_as_what_is_used() {
    let tree = tempfile::tempdir().unwrap();
    let deep = tree.path().join("d/".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    (0..1500).for_each(|number| drop(std::fs::File::create(deep.join(format!("file-{number}"))).unwrap()));
    let volume = VolumeFile::new(&["-b", "1024", "-d", tree.path().to_str().unwrap()]);
    let (mut vm, mut connections) = ServiceVm::start(&volume.options("info")).unwrap();
    let mut client = vm.connect(connections.requests).unwrap();
    let (root, _) = client.attach(b"").unwrap();
    let directory = client.walk_path(root, "d/".repeat(100).trim_end_matches('/').as_bytes()).unwrap();
    client.open(directory, OpenFlags::RDONLY).unwrap();
    assert_eq!(client.list(directory).unwrap().len(), 1502);
    client.statfs(root).unwrap();

    // RAM is zero at first, so what was never used still is.
    let (bottom, top) = (elf::symbol("__stack_main_guard") + 4096, elf::symbol("__stack_main_top"));
    let file = tree.path().join("stack");
    let range = json!({ "val": bottom, "size": top - bottom, "filename": file });
    connections.qmp.execute("pmemsave", range).unwrap();
    let stack = std::fs::read(&file).unwrap();
    let used = stack.len() - stack.iter().position(|byte| *byte != 0).unwrap();
    println!("{used} bytes of the main stack's {} were used", stack.len());
    assert!(used <= stack.len() / 2);
}

#[test]
fn what_the_service_takes_of_the_heap_is_what_the_image_asks_for() {
    let volume = VolumeFile::new(&[]);
    let (mut vm, connections) = ServiceVm::start(&volume.options("info")).unwrap();
    let mut client = vm.connect(connections.requests).unwrap();
    let (ctl, _) = client.attach(b"ctl").unwrap();
    let stats = String::from_utf8(client.read_file(ctl, b"stats").unwrap()).unwrap();
    let used = stats.lines().find_map(|line| line.strip_prefix("heap_used ")).unwrap();
    let used: u64 = used.parse().unwrap();
    let least = elf::symbol("__memory_required_end") - elf::symbol("__heap_start");
    println!("{used} bytes of the heap are used, {least} are asked for");
    // Each of eight clients' control operations takes little more.
    assert!(used + (1 << 20) <= least);
}

#[test]
fn a_console_that_nobody_reads_does_not_stop_the_image() {
    let (_reader, writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b'.'; 4096]).is_ok() {}
    let begin = Instant::now();
    let (exit, _) = Machine::new("log=debug").console(writer.into()).run();
    assert_eq!(exit, START_FAILED);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?} for some lines", begin.elapsed());
}

#[test]
fn a_client_that_reads_damage_again_and_again_does_not_flood_the_log() {
    let volume = VolumeFile::new(&[]);
    volume.debugfs("write /proc/version damaged");
    volume.debugfs("set_inode_field damaged checksum 0x12345678");
    let (mut vm, connections) = ServiceVm::start(&volume.options("info")).unwrap();
    let mut client = vm.connect(connections.requests).unwrap();
    let (root, _) = client.attach(b"").unwrap();
    for _ in 0..500 {
        assert_eq!(client.walk_path(root, b"damaged").unwrap_err().errno(), Some(EUCLEAN));
    }
    let lines = vm.transcript().last(1000);
    let of_damage = lines.iter().filter(|line| line.contains("] ERROR ")).count();
    // The first 64, then those whose number is a power of two: 128, 256.
    assert_eq!(of_damage, 66, "{lines:#?}");
}

#[test]
fn too_little_memory_is_refused_with_what_is_needed() {
    // The memory map says 256 KiB less than QEMU was told to give.
    for memory in ["4M", "8M", "14M", "20M"] {
        refused(Machine::new("").memory(memory), START_FAILED, "start it with 32 MiB or more");
    }
}

#[test]
fn a_missing_device_is_named() {
    refused(Machine::new(""), START_FAILED, "there is no virtio-pmem device on PCI bus 0");
    refused(
        Machine::new("").volume(&VolumeFile::new(&[])),
        START_FAILED,
        "there is no ivshmem-doorbell device on PCI bus 0",
    );
}

#[test]
fn a_volume_that_cannot_be_served_is_refused_by_name() {
    let zeros = VolumeFile::of_zeros(8 << 20);
    let unclean = VolumeFile::new(&[]);
    unclean.debugfs("feature needs_recovery");
    let cut = VolumeFile::new(&[]);
    cut.resize(4 << 20);
    let encrypted = VolumeFile::new(&["-O", "encrypt"]);
    let page = VolumeFile::of_zeros(4096);
    for (volume, reason) in [
        (&zeros, "the volume is refused: no ext4 volume"),
        (&unclean, "e2fsck -p"),
        (&cut, "the volume is refused: "),
        (&encrypted, "encrypt"),
        (&page, "the volume is refused: "),
    ] {
        // Only read: a volume that needs recovery cannot have it then.
        refused(Machine::new("log=error readonly").volume(volume), START_FAILED, reason);
    }
}

#[test]
fn a_control_ring_that_cannot_be_is_refused_with_what_is_wrong() {
    let volume = VolumeFile::new(&[]);
    let with = |place: usize, bytes: &'static [u8]| {
        let change = move |header: &mut [u8; 56]| header[place..place + bytes.len()].copy_from_slice(bytes);
        Machine::new("log=error").volume(&volume).control(1 << 20, change)
    };
    refused(with(0, &[0; 56]), START_FAILED, "not SKRYRING");
    refused(with(0, b"skryring"), START_FAILED, "not SKRYRING");
    refused(with(8, &[2]), START_FAILED, "version 2, not 1");
    refused(with(12, &[0; 4]), START_FAILED, "size");
    refused(with(12, &[100]), START_FAILED, "size");
    refused(with(12, &[0, 0, 1]), START_FAILED, "queue size 65536");
    refused(with(16, &[1]), START_FAILED, "0x1001");
    refused(with(32, &[0xff; 8]), START_FAILED, "0xffffffffffffffff");
    let small = Machine::new("log=error").volume(&volume).control(4096, |_| {});
    refused(small, START_FAILED, "the ivshmem device ");
}
