// SPDX-License-Identifier: MIT OR Apache-2.0

//! What front ends lie about, one line each, and what becomes of them.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::SealFlags;

use super::liar::*;
use crate::support;

/// What becomes of a front end that lied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server hangs up.
    Refused,
    /// The server goes on answering: it hurts nobody, or is nobody else's business.
    Tolerated,
}
use End::{Refused, Tolerated};

/// What is said, and how: the length in the header and its flags may be lies, too.
pub enum Lie {
    Messages(Vec<Message>),
    Header { flags: u32, length: u32, message: Message },
    Bytes(Vec<u8>),
}

pub fn one(message: Message) -> Lie {
    Lie::Messages(vec![message])
}

pub fn region(region: [u64; 4]) -> Lie {
    one(memory_table(&[region], vec![sealed()]))
}

pub fn two_regions(first: [u64; 4], second: [u64; 4]) -> Lie {
    let file = sealed();
    let copy = file.try_clone().unwrap();
    one(memory_table(&[first, second], vec![file, copy]))
}

pub fn table_of(file: OwnedFd) -> Lie {
    one(memory_table(&[[0, 4096, USER, 0]], vec![file]))
}

pub fn header(flags: u32, length: u32) -> Lie {
    // As much of it as there may be; more is waited for.
    let payload = vec![0; length.min(PAGE as u32) as usize];
    let message = Message { payload, ..numbers(request::SET_FEATURES, &[]) };
    Lie::Header { flags, length, message }
}

pub type Case = (&'static str, usize, fn() -> Lie, End);

/// Each with how much of the handshake comes before it.
pub const LIES: &[Case] = &[
    // Framing.
    ("noise", NOTHING, || Lie::Bytes(support::pattern(4096)), Refused),
    ("zeros", NOTHING, || Lie::Bytes(vec![0; 4096]), Refused),
    ("an unknown request", NOTHING, || one(numbers(0x4000, &[])), Refused),
    ("request 0", NOTHING, || one(numbers(0, &[])), Refused),
    ("another version", NOTHING, || header(2, 8), Refused),
    ("a reply", NOTHING, || header(VERSION | 1 << 2, 8), Refused),
    ("a payload longer than any", NOTHING, || header(VERSION, 1 << 20), Refused),
    ("a payload of 4 GiB", NOTHING, || header(VERSION, u32::MAX), Refused),
    ("no payload where there must be one", NOTHING, || header(VERSION, 0), Refused),
    (
        "a payload one byte short",
        NOTHING,
        || Lie::Header {
            flags: VERSION,
            length: 7,
            message: Message { payload: vec![0; 7], ..numbers(request::SET_FEATURES, &[]) },
        },
        Refused,
    ),
    (
        "a payload one byte long",
        NOTHING,
        || Lie::Header {
            flags: VERSION,
            length: 9,
            message: Message { payload: vec![0; 9], ..numbers(request::SET_FEATURES, &[]) },
        },
        Refused,
    ),
    ("a payload where there is none", NOTHING, || one(numbers(request::GET_FEATURES, &[7])), Refused),
    // What was not offered.
    ("features that were not offered", NOTHING, || one(numbers(request::SET_FEATURES, &[u64::MAX])), Refused),
    (
        "a log",
        FEATURES_ARE_SET,
        || one(Message { descriptors: vec![sealed()], ..numbers(request::SET_LOG_BASE, &[PAGE, 0]) }),
        Refused,
    ),
    (
        "a region of its own",
        FEATURES_ARE_SET,
        || {
            one(Message {
                descriptors: vec![sealed()],
                ..numbers(request::ADD_MEM_REG, &[0, 0, PAGE, USER, 0])
            })
        },
        Refused,
    ),
    (
        "an inflight buffer",
        FEATURES_ARE_SET,
        || one(numbers(request::GET_INFLIGHT_FD, &[PAGE, 0, 1 << 16 | 1])),
        Refused,
    ),
    ("a device status", FEATURES_ARE_SET, || one(numbers(request::SET_STATUS, &[0xf])), Refused),
    (
        "another configuration",
        FEATURES_ARE_SET,
        || one(Message { payload: vec![0; 14], ..numbers(request::SET_CONFIG, &[]) }),
        Refused,
    ),
    (
        "more configuration than there is",
        FEATURES_ARE_SET,
        || {
            one(Message {
                payload: [&0u32.to_le_bytes()[..], &200u32.to_le_bytes(), &[0; 204]].concat(),
                ..numbers(request::GET_CONFIG, &[])
            })
        },
        Tolerated,
    ),
    // Descriptors.
    (
        "descriptors where none belong",
        NOTHING,
        || one(Message { descriptors: vec![new_event()], ..numbers(request::SET_OWNER, &[]) }),
        Refused,
    ),
    (
        "200 descriptors",
        NOTHING,
        || {
            one(Message {
                descriptors: (0..200).map(|_| new_event()).collect(),
                ..numbers(request::SET_OWNER, &[])
            })
        },
        Tolerated,
    ),
    (
        "memory without a descriptor",
        FEATURES_ARE_SET,
        || one(memory_table(&[[0, MEMORY, USER, 0]], vec![])),
        Refused,
    ),
    (
        "memory with two descriptors for one region",
        FEATURES_ARE_SET,
        || one(memory_table(&[[0, MEMORY, USER, 0]], vec![sealed(), sealed()])),
        Refused,
    ),
    (
        "a kick without a descriptor",
        ALL_BUT_EVENTS,
        || one(numbers(request::SET_VRING_KICK, &[NO_DESCRIPTOR])),
        Refused,
    ),
    (
        "a kick of two descriptors",
        ALL_BUT_EVENTS,
        || {
            one(Message {
                descriptors: vec![new_event(), new_event()],
                ..numbers(request::SET_VRING_KICK, &[0])
            })
        },
        Refused,
    ),
    (
        "a kick that is always readable",
        ALL_BUT_EVENTS,
        || one(event(request::SET_VRING_KICK, open("/dev/zero"))),
        Refused,
    ),
    (
        "a kick that is a file",
        ALL_BUT_EVENTS,
        || one(event(request::SET_VRING_KICK, open("/proc/self/exe"))),
        Refused,
    ),
    (
        "a kick that is a directory",
        ALL_BUT_EVENTS,
        || one(event(request::SET_VRING_KICK, open("/"))),
        Refused,
    ),
    (
        "a kick that is a pipe",
        ALL_BUT_EVENTS,
        || one(event(request::SET_VRING_KICK, std::io::pipe().unwrap().0)),
        Refused,
    ),
    (
        "a call that blocks whoever writes it",
        ALL_BUT_EVENTS,
        || one(event(request::SET_VRING_CALL, std::io::pipe().unwrap().1)),
        Refused,
    ),
    (
        "a call that is a socket",
        ALL_BUT_EVENTS,
        || one(event(request::SET_VRING_CALL, UnixStream::pair().unwrap().0)),
        Refused,
    ),
    ("a call that is only read", RUNNING, || one(event(request::SET_VRING_CALL, open("/dev/null"))), Refused),
    // Memory.
    ("memory that is a directory", FEATURES_ARE_SET, || table_of(open("/")), Refused),
    ("memory that is a device", FEATURES_ARE_SET, || table_of(open("/dev/zero")), Refused),
    ("memory that is a pipe", FEATURES_ARE_SET, || table_of(std::io::pipe().unwrap().0.into()), Refused),
    (
        "memory that is a file of the file system",
        FEATURES_ARE_SET,
        || table_of(tempfile::tempfile().inspect(|file| file.set_len(MEMORY).unwrap()).unwrap().into()),
        Refused,
    ),
    ("memory that may shrink", FEATURES_ARE_SET, || table_of(memfd(MEMORY, SealFlags::empty())), Refused),
    (
        "memory that cannot be written",
        FEATURES_ARE_SET,
        || table_of(memfd(MEMORY, SealFlags::SHRINK | SealFlags::WRITE)),
        Refused,
    ),
    (
        "memory that is only read",
        FEATURES_ARE_SET,
        || {
            let file = sealed();
            table_of(open(&format!("/proc/self/fd/{}", file.as_raw_fd())))
        },
        Refused,
    ),
    ("memory beyond its file", FEATURES_ARE_SET, || region([0, MEMORY + PAGE, USER, 0]), Refused),
    ("memory that starts beyond its file", FEATURES_ARE_SET, || region([0, PAGE, USER, MEMORY]), Refused),
    (
        "memory whose offset wraps",
        FEATURES_ARE_SET,
        || region([0, MEMORY, USER, u64::MAX - PAGE + 1]),
        Refused,
    ),
    ("memory whose address wraps", FEATURES_ARE_SET, || region([u64::MAX - PAGE, MEMORY, USER, 0]), Refused),
    ("memory whose own address wraps", FEATURES_ARE_SET, || region([0, MEMORY, u64::MAX - PAGE, 0]), Refused),
    ("no memory", FEATURES_ARE_SET, || region([0, 0, USER, 0]), Refused),
    ("no regions", FEATURES_ARE_SET, || one(memory_table(&[], vec![])), Refused),
    (
        "regions that overlap",
        FEATURES_ARE_SET,
        || two_regions([0, 2 * PAGE, USER, 0], [PAGE, PAGE, USER + 2 * PAGE, 0]),
        Refused,
    ),
    ("one region twice", FEATURES_ARE_SET, || two_regions([0, PAGE, USER, 0], [0, PAGE, USER, 0]), Refused),
    (
        "33 regions",
        FEATURES_ARE_SET,
        || {
            one(memory_table(
                &(0..33).map(|n| [n * PAGE, PAGE, USER + n * PAGE, 0]).collect::<Vec<_>>(),
                (0..33).map(|_| sealed()).collect(),
            ))
        },
        Refused,
    ),
    (
        "a count of regions that overruns",
        FEATURES_ARE_SET,
        || {
            one(Message {
                descriptors: vec![sealed()],
                ..numbers(request::SET_MEM_TABLE, &[8, 0, MEMORY, USER, 0])
            })
        },
        Refused,
    ),
    // Rings.
    ("ring 1", MEMORY_IS_SET, || one(vring(request::SET_VRING_NUM, 1, ENTRIES)), Refused),
    ("addresses of ring 2^32 - 1", MEMORY_IS_SET, || one(addresses(u64::from(u32::MAX), [USER; 3])), Refused),
    ("no entries", MEMORY_IS_SET, || one(vring(request::SET_VRING_NUM, 0, 0)), Refused),
    ("3 entries", MEMORY_IS_SET, || one(vring(request::SET_VRING_NUM, 0, 3)), Refused),
    ("65,536 entries", MEMORY_IS_SET, || one(vring(request::SET_VRING_NUM, 0, 1 << 16)), Refused),
    ("2^31 entries", MEMORY_IS_SET, || one(vring(request::SET_VRING_NUM, 0, 1 << 31)), Refused),
    ("a base beyond 65,535", MEMORY_IS_SET, || one(vring(request::SET_VRING_BASE, 0, 1 << 16)), Refused),
    ("rings outside of the memory", RUNNING, || one(addresses(0, [USER + MEMORY, USER, USER])), Refused),
    (
        "rings of which a part is outside",
        RUNNING,
        || one(addresses(0, [USER + MEMORY - 16, USER, USER])),
        Refused,
    ),
    (
        "rings at odd addresses",
        RUNNING,
        || one(addresses(0, [USER + 1, USER + 0x3001, USER + 0x2001])),
        Refused,
    ),
    ("rings that lie on each other", RUNNING, || one(addresses(0, [USER; 3])), Tolerated),
    (
        "a running ring is moved",
        RUNNING,
        || one(addresses(0, [USER + 0x10000, USER + 0x13000, USER + 0x12000])),
        Tolerated,
    ),
    (
        "the memory of a running ring is exchanged",
        RUNNING,
        || one(memory_table(&[[0, MEMORY, USER, 0]], vec![sealed()])),
        Tolerated,
    ),
    (
        "the memory of a running ring goes elsewhere",
        RUNNING,
        || one(memory_table(&[[0, MEMORY, 2 * USER, 0]], vec![sealed()])),
        Refused,
    ),
    (
        "features of a running ring change",
        RUNNING,
        || one(numbers(request::SET_FEATURES, &[1 << 32])),
        Tolerated,
    ),
    ("a running ring is reset", RUNNING, || one(numbers(request::RESET_OWNER, &[])), Tolerated),
    ("a base before anything else", NOTHING, || one(vring(request::GET_VRING_BASE, 0, 0)), Tolerated),
    (
        "enabled before there is a ring",
        FEATURES_ARE_SET,
        || one(vring(request::SET_VRING_ENABLE, 0, 1)),
        Tolerated,
    ),
];
