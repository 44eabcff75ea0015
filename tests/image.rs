// SPDX-License-Identifier: MIT OR Apache-2.0

//! The image alone in QEMU: each of its protections is provoked and seen to hold, each way in which it can refuse to start
//! is seen to end it with a message and an exit value of its own. (The values are in `boot/src/exit.rs`.)

#[path = "../boot/src/command_line.rs"]
mod command_line;
#[path = "../boot/src/control_ring.rs"]
mod control_ring;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use command_line::{CommandLine, CommandLineError, Provocation};
use control_ring::{ControlRing, ControlRingError};
use log::LevelFilter;
use skerry::mem::guest::GuestAddress;
use skerry::virtq::RingFeatures;
use skerry_host::qemu::{Accelerator, Command, Exit};
use skerry_host::service_vm::default_image;

const START_FAILED: Exit = Exit::Guest(0x11);
const PANIC: Exit = Exit::Guest(0x12);
const EXCEPTION: Exit = Exit::Guest(0x13);
const COMMAND_LINE: Exit = Exit::Guest(0x14);

/// Boots the image; returns how it ended and what it said.
fn boot(memory: &str, line: &str, devices: &[String]) -> (Exit, String) {
    let accelerator = Accelerator::choose().unwrap();
    let mut command = Command::new("image").unwrap();
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-smp", "1"]);
    command.args(["-machine", &format!("q35,accel={}", accelerator.name()), "-cpu", accelerator.processor()]);
    command.args(["-m", memory, "-append", line, "-kernel"]).arg(default_image().unwrap());
    command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-serial", "stdio"]).args(devices);
    let mut process = command.spawn_logged().unwrap();
    let exit = process.wait_for(Duration::from_secs(60)).unwrap().expect("the image ends within a minute");
    (exit, process.transcript().last(20).join("\n"))
}

/// A virtio-pmem device whose memory is the file at `path`.
fn volume(path: &Path, size: u64) -> [String; 4] {
    [
        "-object".to_owned(),
        format!("memory-backend-file,id=volume,mem-path={},share=on,size={size}", path.display()),
        "-device".to_owned(),
        "virtio-pmem-pci,memdev=volume".to_owned(),
    ]
}

#[test]
fn a_broken_rule_of_the_address_space_is_an_exception_with_a_report() {
    for (provocation, words) in [
        ("undefined-instruction", &["exception 6 (invalid opcode)"][..]),
        ("null", &["exception 14 (page fault)", "read at 0x0: not mapped"]),
        ("write-code", &["exception 14 (page fault)", "write at 0x", "not allowed"]),
        ("write-constant", &["exception 14 (page fault)", "write at 0x", "not allowed"]),
        ("execute-data", &["exception 14 (page fault)", "instruction fetch at 0x", "not allowed"]),
        ("stack-overflow", &["exception 14 (page fault)", "the main stack overflowed"]),
    ] {
        let (exit, said) = boot("32M", &format!("provoke={provocation}"), &[]);
        assert_eq!(exit, EXCEPTION, "{provocation}: {said}");
        for word in [&["error code", "RIP 0x", "CR2 0x", "RAX 0x", "R15 0x"], words].concat() {
            assert!(said.contains(word), "{provocation}: no {word:?} in\n{said}");
        }
    }
}

#[test]
fn a_panic_is_told_with_file_and_line() {
    let (exit, said) = boot("32M", "provoke=panic", &[]);
    assert_eq!(exit, PANIC, "{said}");
    assert!(said.contains("panic at boot/src/provoke.rs:"), "{said}");
}

#[test]
fn a_command_line_with_an_unknown_word_is_refused() {
    for line in ["quiet", "colour=blue", "log=loud", "log=off", "log=info log=info"] {
        let (exit, said) = boot("32M", line, &[]);
        assert_eq!(exit, COMMAND_LINE, "{line}: {said}");
        assert!(said.contains("start failed: the kernel command line"), "{line}: {said}");
    }
}

#[test]
fn a_machine_that_lacks_something_is_refused_by_what_it_lacks() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(2 << 20).unwrap();
    let devices = volume(file.path(), 2 << 20);
    for (memory, devices, reason) in [
        ("8M", &[][..], "start it with 32 MiB or more"),
        ("32M", &[], "no virtio-pmem device"),
        ("32M,maxmem=2G", &devices, "the volume is refused: no ext4 volume"),
    ] {
        let (exit, said) = boot(memory, "log=error", devices);
        assert_eq!(exit, START_FAILED, "{said}");
        assert!(said.contains("start failed") && said.contains(reason), "no {reason:?} in\n{said}");
        assert_eq!(said.lines().count(), 1, "one clear line: {said}");
    }
}

#[test]
fn a_volume_without_a_control_ring_is_not_served() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.flush().unwrap();
    let made = std::process::Command::new("mkfs.ext4").args(["-q", "-F"]).arg(file.path()).arg("8M").status();
    assert!(made.unwrap().success());
    let (exit, said) = boot("32M,maxmem=2G", "log=info", &volume(file.path(), 8 << 20));
    assert_eq!(exit, START_FAILED, "{said}");
    assert!(said.contains("no ivshmem-doorbell device"), "{said}");
}

#[test]
fn the_command_line_is_parsed_word_by_word() {
    let parsed = CommandLine::parse(b"").unwrap();
    assert_eq!((parsed.log, parsed.provoke), (LevelFilter::Info, None));
    let parsed = CommandLine::parse(b"  provoke=null log=debug ").unwrap();
    assert_eq!((parsed.log, parsed.provoke), (LevelFilter::Debug, Some(Provocation::Null)));
    assert_eq!(CommandLine::parse(b"log"), Err(CommandLineError::NoValue("log")));
    assert_eq!(CommandLine::parse(b"log="), Err(CommandLineError::UnknownValue("log", "")));
    assert_eq!(CommandLine::parse(b"log=INFO"), Err(CommandLineError::UnknownValue("log", "INFO")));
    assert_eq!(CommandLine::parse(b"Log=info"), Err(CommandLineError::UnknownKey("Log")));
    assert_eq!(CommandLine::parse(b"log=info log=warn"), Err(CommandLineError::Repeated("log")));
    assert_eq!(CommandLine::parse(b"\xff=1"), Err(CommandLineError::Encoding));
}

#[test]
fn the_control_rings_header_is_parsed_field_by_field() {
    let mut header = [0xa5; control_ring::LENGTH];
    header[..8].copy_from_slice(b"SKRYRING");
    header[8..16].copy_from_slice(&[1, 0, 0, 0, 0x80, 0, 0, 0]);
    header[16..24].copy_from_slice(&0x1000u64.to_le_bytes());
    header[24..32].copy_from_slice(&0x1_0000_1800u64.to_le_bytes());
    header[32..40].copy_from_slice(&0x2000u64.to_le_bytes());
    header[40..48].copy_from_slice(&[0, 0, 0, 0x30, 1, 0, 0, 0x80]);
    header[48..52].copy_from_slice(&0x0003_0001u32.to_le_bytes());
    let ring = ControlRing::parse(&header).unwrap();
    assert_eq!((ring.configuration.size, ring.configuration.next, ring.doorbell), (128, 0, 0x3_0001));
    assert_eq!(ring.configuration.descriptors, GuestAddress(0x1000));
    assert_eq!(ring.configuration.available, GuestAddress(0x1_0000_1800));
    assert_eq!(ring.configuration.used, GuestAddress(0x2000));
    assert_eq!(ring.configuration.features, RingFeatures::all());

    let refused = |offset: usize, byte: u8| {
        let mut header = header;
        header[offset] = byte;
        ControlRing::parse(&header).unwrap_err()
    };
    assert_eq!(refused(0, b's'), ControlRingError::Magic(*b"sKRYRING"));
    assert_eq!(refused(8, 2), ControlRingError::Version(2));
    assert_eq!(refused(14, 1), ControlRingError::Size(0x1_0080));
}
