// SPDX-License-Identifier: MIT OR Apache-2.0

//! A front end of a few lines: messages of vhost-user made by hand, and sent as they are.

use std::fs::File;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::PATIENCE;
use crate::support::Volume;

/// Numbers of requests (vhost-user, "Front-end message types").
pub mod request {
    pub const GET_FEATURES: u32 = 1;
    pub const SET_FEATURES: u32 = 2;
    pub const SET_OWNER: u32 = 3;
    pub const RESET_OWNER: u32 = 4;
    pub const SET_MEM_TABLE: u32 = 5;
    pub const SET_LOG_BASE: u32 = 6;
    pub const SET_VRING_NUM: u32 = 8;
    pub const SET_VRING_ADDR: u32 = 9;
    pub const SET_VRING_BASE: u32 = 10;
    pub const GET_VRING_BASE: u32 = 11;
    pub const SET_VRING_KICK: u32 = 12;
    pub const SET_VRING_CALL: u32 = 13;
    pub const GET_PROTOCOL_FEATURES: u32 = 15;
    pub const SET_PROTOCOL_FEATURES: u32 = 16;
    pub const SET_VRING_ENABLE: u32 = 18;
    pub const GET_CONFIG: u32 = 24;
    pub const SET_CONFIG: u32 = 25;
    pub const GET_INFLIGHT_FD: u32 = 31;
    pub const ADD_MEM_REG: u32 = 37;
    pub const SET_STATUS: u32 = 39;
}

/// The version of the protocol, as the header's flags have it.
pub const VERSION: u32 = 1;
/// REPLY_ACK, CONFIG and MQ.
pub const PROTOCOL_FEATURES: u64 = 1 << 3 | 1 << 9 | 1;
/// VIRTIO_F_VERSION_1 and VHOST_USER_F_PROTOCOL_FEATURES.
pub const FEATURES: u64 = 1 << 32 | 1 << 30;
/// A kick or call without a descriptor.
pub const NO_DESCRIPTOR: u64 = 1 << 8;
pub const MEMORY: u64 = 16 << 20;
/// Where the memory is in the front end's own addresses.
pub const USER: u64 = 0x7000_0000_0000;
pub const ENTRIES: u32 = 64;

pub const PAGE: u64 = 4096;

/// One message with its descriptors.
pub struct Message {
    pub request: u32,
    pub payload: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

/// A message of 64-bit numbers.
pub fn numbers(request: u32, values: &[u64]) -> Message {
    let payload = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Message { request, payload, descriptors: Vec::new() }
}

/// A number for ring `index`.
pub fn vring(request: u32, index: u32, value: u32) -> Message {
    numbers(request, &[u64::from(value) << 32 | u64::from(index)])
}

/// The addresses of ring `index`: descriptors, used, available, log.
pub fn addresses(index: u64, places: [u64; 3]) -> Message {
    numbers(request::SET_VRING_ADDR, &[index, places[0], places[1], places[2], 0])
}

/// Guest address, length, user address and offset of each region, with its file.
pub fn memory_table(regions: &[[u64; 4]], files: Vec<OwnedFd>) -> Message {
    let count = [u64::try_from(regions.len()).unwrap()];
    let message = numbers(request::SET_MEM_TABLE, &[&count[..], &regions.concat()].concat());
    Message { descriptors: files, ..message }
}

/// A kick or call for ring 0.
pub fn event(request: u32, descriptor: impl Into<OwnedFd>) -> Message {
    Message { descriptors: vec![descriptor.into()], ..numbers(request, &[0]) }
}

pub fn memfd(size: u64, seals: SealFlags) -> OwnedFd {
    let file = memfd_create("liar", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, size).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

/// Memory as an honest front end has it.
pub fn sealed() -> OwnedFd {
    memfd(MEMORY, SealFlags::SHRINK)
}

pub fn new_event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

pub fn open(path: &str) -> OwnedFd {
    File::open(path).unwrap().into()
}

/// All that an honest front end says until its ring runs. A lie comes after some of it.
pub fn handshake() -> Vec<Message> {
    vec![
        numbers(request::SET_OWNER, &[]),
        numbers(request::GET_FEATURES, &[]),
        numbers(request::GET_PROTOCOL_FEATURES, &[]),
        numbers(request::SET_PROTOCOL_FEATURES, &[PROTOCOL_FEATURES]),
        numbers(request::SET_FEATURES, &[FEATURES]),
        memory_table(&[[0, MEMORY, USER, 0]], vec![sealed()]),
        vring(request::SET_VRING_NUM, 0, ENTRIES),
        vring(request::SET_VRING_BASE, 0, 0),
        addresses(0, [USER + 0x1000, USER + 0x3000, USER + 0x2000]),
        event(request::SET_VRING_CALL, new_event()),
        event(request::SET_VRING_KICK, new_event()),
        vring(request::SET_VRING_ENABLE, 0, 1),
    ]
}

/// How much of [`handshake`] comes before a lie.
pub const NOTHING: usize = 0;
pub const FEATURES_ARE_SET: usize = 5;
pub const MEMORY_IS_SET: usize = 6;
pub const ALL_BUT_EVENTS: usize = 9;
pub const RUNNING: usize = 12;

/// A front end that sends what it is told to.
pub struct Liar(pub UnixStream);

impl Liar {
    pub fn connect(volume: &Volume) -> Self {
        let stream = UnixStream::connect(volume.socket(0)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// Sends the header and as much of the payload as there is. That the other end has hung up is found out later.
    pub fn send(&self, flags: u32, length: u32, message: &Message) {
        let header = [message.request, flags, length].map(u32::to_le_bytes).concat();
        let bytes = [header, message.payload.clone()].concat();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<BorrowedFd<'_>> = message.descriptors.iter().map(AsFd::as_fd).collect();
        if !descriptors.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        }
        let _ = sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL);
    }

    pub fn say(&self, message: &Message) {
        self.send(VERSION, u32::try_from(message.payload.len()).unwrap(), message);
    }

    /// Sends the first `count` messages of the handshake.
    pub fn begin(&self, count: usize) {
        for message in handshake().iter().take(count) {
            self.say(message);
        }
    }

    /// Whether the server has hung up; all that it has answered is passed over.
    pub fn was_refused(&mut self) -> bool {
        let mut answers = [0; 4096];
        loop {
            match self.0.read(&mut answers) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return true,
                Err(_) => return false,
            }
        }
    }

    /// Whether the server still answers.
    pub fn is_answered(&mut self) -> bool {
        self.say(&vring(request::GET_VRING_BASE, 0, 0));
        // Answers to what was asked before come first: the one that is waited for is the only one of this request.
        let mut answer = [0; 20];
        loop {
            if self.0.read_exact(&mut answer[..12]).is_err() {
                return false;
            }
            let [request, _, length] =
                [0, 4, 8].map(|at| u32::from_le_bytes(*answer[at..].first_chunk().unwrap()));
            let mut rest = vec![0; length as usize];
            if self.0.read_exact(&mut rest).is_err() {
                return false;
            }
            if request == request::GET_VRING_BASE {
                return true;
            }
        }
    }
}
