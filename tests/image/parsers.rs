// SPDX-License-Identifier: MIT OR Apache-2.0

//! The image's two parsers of text and bytes from outside, compiled for the host: the kernel command line, and the header of
//! the control ring.

#[path = "../../boot/src/command_line.rs"]
mod command_line;
#[path = "../../boot/src/control_ring.rs"]
mod control_ring;

use command_line::{CommandLine, CommandLineError, Provocation};
use control_ring::{ControlRing, ControlRingError};
use log::LevelFilter;
use skerry::mem::guest::GuestAddress;
use skerry::server::ExportList;
use skerry::virtq::RingFeatures;

#[test]
fn the_command_line_is_parsed_word_by_word() {
    let parsed = CommandLine::parse(b"").unwrap();
    assert_eq!((parsed.log, parsed.provoke), (LevelFilter::Info, None));
    assert_eq!((parsed.readonly, parsed.exports), (false, ExportList::default()));
    let parsed = CommandLine::parse(b"  provoke=null log=debug readonly ").unwrap();
    assert_eq!((parsed.log, parsed.provoke), (LevelFilter::Debug, Some(Provocation::Null)));
    assert!(parsed.readonly);
    assert_eq!(CommandLine::parse(b"log"), Err(CommandLineError::NoValue("log")));
    assert_eq!(CommandLine::parse(b"log="), Err(CommandLineError::UnknownValue("log", "")));
    assert_eq!(CommandLine::parse(b"log=INFO"), Err(CommandLineError::UnknownValue("log", "INFO")));
    assert_eq!(CommandLine::parse(b"Log=info"), Err(CommandLineError::UnknownKey("Log")));
    assert_eq!(CommandLine::parse(b"log=info log=warn"), Err(CommandLineError::Repeated("log")));
    assert_eq!(CommandLine::parse(b"\xff=1"), Err(CommandLineError::Encoding));
}

#[test]
fn each_export_on_the_command_line_is_one_more_in_the_list() {
    let parsed = CommandLine::parse(b"export=/home:check log=warn export=/pub:readonly").unwrap();
    let mut expected = ExportList::new();
    expected.add("/home:check").unwrap();
    expected.add("/pub:readonly").unwrap();
    assert_eq!(parsed.exports, expected);
    let error = CommandLine::parse(b"export=/a export=nowhere").unwrap_err();
    assert!(matches!(error, CommandLineError::Export(_)), "{error}");
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
    assert_eq!(ring.configuration.features, RingFeatures::all() - RingFeatures::RING_PACKED);

    let refused = |offset: usize, byte: u8| {
        let mut header = header;
        header[offset] = byte;
        ControlRing::parse(&header).unwrap_err()
    };
    assert_eq!(refused(0, b's'), ControlRingError::Magic(*b"sKRYRING"));
    assert_eq!(refused(8, 2), ControlRingError::Version(2));
    assert_eq!(refused(14, 1), ControlRingError::Size(0x1_0080));
}
