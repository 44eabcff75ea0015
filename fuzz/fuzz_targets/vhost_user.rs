// SPDX-License-Identifier: MIT OR Apache-2.0

//! A vhost-user front end that sends anything: messages in any order, of any length, with any descriptors, and memory tables that
//! overlap, exceed their files, or are in files that are none. The backend answers or hangs up; what it maps is memory that cannot
//! go away; rings are served as host mode does it, and whatever the ring says, nobody but this connection ends.

#![no_main]

#[path = "ring/tiny.rs"]
mod tiny;

use std::fs::File;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock};

use anyhow::{Result, anyhow};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use skerry::server::{ExportList, Exports, LockTable, SessionLimits};
use skerry::service::{Connection, Scratch, Turn};
use skerry::virtq::Notify;
use skerry::wire::{Tag, Tmessage, Tversion, VERSION};
use skerry_fuzz::sequence::{Few, Rest};
use skerry_host::serve::client_memory::ClientMemory;
use skerry_host::vhost_user::{ClientRing, MemoryTable, RingServer, serve_connection};
use tiny::Tiny;

#[derive(Debug, Arbitrary)]
struct Input {
    /// Whether the front end first does what every front end does, up to a ring that runs.
    begun: bool,
    /// Bytes of a message that is cut short by the end of the connection.
    rest: Few<u8>,
    messages: Rest<Message>,
}

#[derive(Debug, Arbitrary)]
struct Message {
    request: u8,
    /// Beyond the version: `reply`, `need_reply`, and wrong ones.
    flags: u8,
    /// The length in the header, if not the right one.
    size: Option<u16>,
    payload: Payload,
    descriptors: Few<Descriptor>,
}

#[derive(Debug, Arbitrary)]
enum Payload {
    Number(u64),
    Features(u8),
    /// The index of the ring, a number; with the eighth bit of the first, no descriptor follows.
    Ring(u8, u32),
    Addresses {
        index: u8,
        flags: u8,
        places: [Place; 3],
    },
    Memory {
        count: u8,
        regions: Few<Range>,
    },
    Config {
        offset: u8,
        size: u8,
        more: Vec<u8>,
    },
    Any(Vec<u8>),
}

#[derive(Debug, Arbitrary, Clone, Copy)]
struct Range {
    guest: Place,
    length: Place,
    user: Place,
    offset: Place,
}

/// An address, offset or length.
#[derive(Debug, Arbitrary, Clone, Copy)]
enum Place {
    Page(u8),
    Byte(u16),
    Top(u16),
    Any(u64),
}

/// What a descriptor is of.
#[derive(Debug, Arbitrary, Clone, Copy)]
enum Descriptor {
    Memory,
    Large,
    Small,
    Unsealed,
    Event,
    Pipe,
    File,
}

const MESSAGES: usize = 40;
/// Bytes of the client's memory, and where its ring is in it.
const MEMORY: u64 = 0x1_0000;
const RING: u64 = 0x1000;
/// Where the front end has the memory.
const USER: u64 = 0x7000_0000;

impl Place {
    fn value(self) -> u64 {
        match self {
            Self::Page(n) => u64::from(n) << 12,
            Self::Byte(n) => n.into(),
            Self::Top(n) => u64::MAX - u64::from(n),
            Self::Any(n) => n,
        }
    }
}

/// What there is to send.
struct Descriptors {
    memory: File,
    large: File,
    small: File,
    unsealed: File,
    event: OwnedFd,
    pipe: OwnedFd,
    file: File,
}

static DESCRIPTORS: LazyLock<Descriptors> = LazyLock::new(|| {
    skerry_fuzz::told::install();
    let memfd = |length: u64, seals: SealFlags| {
        let file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap());
        file.set_len(length).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file
    };
    Descriptors {
        memory: memfd(MEMORY, SealFlags::SHRINK),
        large: memfd(1 << 36, SealFlags::SHRINK),
        small: memfd(100, SealFlags::SHRINK),
        unsealed: memfd(MEMORY, SealFlags::empty()),
        event: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap(),
        pipe: rustix::pipe::pipe().unwrap().0,
        file: File::open("/dev/zero").unwrap(),
    }
});

impl Descriptors {
    fn get(&self, descriptor: Descriptor) -> BorrowedFd<'_> {
        match descriptor {
            Descriptor::Memory => self.memory.as_fd(),
            Descriptor::Large => self.large.as_fd(),
            Descriptor::Small => self.small.as_fd(),
            Descriptor::Unsealed => self.unsealed.as_fd(),
            Descriptor::Event => self.event.as_fd(),
            Descriptor::Pipe => self.pipe.as_fd(),
            Descriptor::File => self.file.as_fd(),
        }
    }

    /// Makes the memory that of a client with one request in its ring of 8 entries.
    fn fill(&self) {
        let mut bytes = vec![0; usize::try_from(MEMORY).unwrap()];
        let message = Tmessage::from(Tversion { msize: 8192, version: VERSION });
        message.emit(Tag::NOTAG, &mut bytes[0x4000..]).unwrap();
        let length = u32::try_from(message.head_length()).unwrap();
        let mut put = |at: u64, value: &[u8]| {
            let at = usize::try_from(at).unwrap();
            bytes[at..at + value.len()].copy_from_slice(value);
        };
        for (entry, (address, length, flags)) in
            [(0x4000_u64, length, 1_u16), (0x5000, 4096, 2)].into_iter().enumerate()
        {
            let at = RING + 16 * entry as u64;
            put(at, &address.to_le_bytes());
            put(at + 8, &length.to_le_bytes());
            put(at + 12, &flags.to_le_bytes());
            put(at + 14, &1_u16.to_le_bytes());
        }
        put(RING + 0x1000 + 2, &1_u16.to_le_bytes());
        self.memory.write_all_at(&bytes, 0).unwrap();
    }
}

/// Serves rings in this thread, when they start: as host mode does it, without a volume.
#[derive(Debug)]
struct Server;

struct Attached {
    connection: Connection,
    _memory: ClientMemory,
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attached").finish_non_exhaustive()
    }
}

struct Nobody;

impl Notify for Nobody {
    fn call(&mut self) {}
}

impl RingServer for Server {
    type Attached = Attached;

    fn check_memory(&self, _memory: &MemoryTable) -> Result<()> {
        Ok(())
    }

    fn add_kick(&self, _kick: &File) -> Result<()> {
        Ok(())
    }

    fn attach(&self, _slot: u8, ring: ClientRing<'_>) -> Result<Attached> {
        let ClientRing { memory, addresses, .. } = ring;
        let configuration = addresses.queue()?;
        let mapped = ClientMemory::map(memory)?;
        // SAFETY: the connection is dropped before the mapping: it is the first field of `Attached`, and until then the local
        // that is declared last.
        let guest = unsafe { mapped.guest_memory() }?;
        let mut connection = Connection::new(SessionLimits { max_fids: 8, max_msize: 8192 });
        connection.attach(guest, &configuration).map_err(|fault| anyhow!("the client's {fault}"))?;
        let (mut tiny, list, mut locks) = (Tiny, ExportList::default(), LockTable::default());
        let mut exports = Exports::new(&mut tiny, &list, &mut locks);
        // A fault is told, and the ring stands still.
        let _ = connection.drain(&mut exports, &mut Scratch::default(), &mut Nobody, Turn::of_requests(32));
        Ok(Attached { connection, _memory: mapped })
    }

    fn change_call(&self, _attached: &mut Attached, _call: &File) -> Result<bool> {
        Ok(true)
    }

    fn detach(&self, mut attached: Attached) -> Result<u16> {
        Ok(attached.connection.detach().unwrap_or(0))
    }
}

impl Payload {
    fn bytes(&self) -> Vec<u8> {
        let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
        match self {
            Self::Number(number) => words(&[*number]),
            Self::Features(chosen) => {
                let bits = [0, 28, 29, 30, 32, 33, 26, 63];
                let features = (0..8).filter(|bit| chosen >> bit & 1 != 0).map(|bit| 1_u64 << bits[bit]);
                words(&[features.sum()])
            }
            Self::Ring(index, number) => {
                let index = u64::from(index & 1) | if index & 0x80 != 0 { 0x100 } else { 0 };
                words(&[index | u64::from(*number) << 32])
            }
            Self::Addresses { index, flags, places } => {
                let head = u64::from(index & 1) | u64::from(*flags) << 32;
                let [first, second, third] = places.map(|place| USER.wrapping_add(place.value()));
                words(&[head, first, second, third, 0])
            }
            Self::Memory { count, regions } => {
                let regions = &regions.0;
                let count = if *count < 100 { regions.len() as u64 } else { u64::from(*count) };
                let mut all = vec![count];
                for Range { guest, length, user, offset } in regions {
                    let user = USER.wrapping_add(user.value());
                    all.extend([guest.value(), length.value(), user, offset.value()]);
                }
                words(&all)
            }
            Self::Config { offset, size, more } => {
                let mut bytes = Vec::new();
                for word in [u32::from(*offset), u32::from(*size), 1] {
                    bytes.extend(word.to_le_bytes());
                }
                bytes.extend(more);
                bytes
            }
            Self::Any(bytes) => bytes.clone(),
        }
    }
}

/// Sends bytes with descriptors; `false` if nobody takes any more.
fn send(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    let sent =
        sendmsg(stream, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    sent.is_ok_and(|sent| sent == bytes.len())
}

fn message(request: u32, flags: u32, size: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let size = size.map_or(u32::try_from(payload.len()).unwrap(), u32::from);
    [&request.to_le_bytes()[..], &flags.to_le_bytes(), &size.to_le_bytes(), payload].concat()
}

/// What a front end says until its ring runs.
fn begin(stream: &UnixStream, descriptors: &Descriptors) {
    let number = |number: u64| number.to_le_bytes().to_vec();
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let features = 1 << 32 | 1 << 30 | 1 << 29 | 1 << 28;
    let (memory, event) = (descriptors.memory.as_fd(), descriptors.event.as_fd());
    let (desc, avail, used) = (USER + RING, USER + RING + 0x1000, USER + RING + 0x2000);
    let messages: [(u32, Vec<u8>, &[BorrowedFd<'_>]); 12] = [
        (3, Vec::new(), &[]),
        (1, Vec::new(), &[]),
        (15, Vec::new(), &[]),
        (16, number(1 << 0 | 1 << 3 | 1 << 9), &[]),
        (2, number(features), &[]),
        (5, words(&[1, 0, MEMORY, USER, 0]), &[memory]),
        (8, words(&[8 << 32]), &[]),
        (10, words(&[0]), &[]),
        (9, words(&[0, desc, used, avail, 0]), &[]),
        (12, number(0), &[event]),
        (13, number(0), &[event]),
        (18, words(&[1 << 32]), &[]),
    ];
    for (request, payload, descriptors) in messages {
        assert!(send(stream, &message(request, 1, None, &payload), descriptors));
    }
}

fuzz_target!(|input: Input| {
    let descriptors = &*DESCRIPTORS;
    descriptors.fill();
    let (mut front, back) = UnixStream::pair().unwrap();
    if input.begun {
        begin(&front, descriptors);
    }
    for said in input.messages.0.iter().take(MESSAGES) {
        let flags = 1 ^ u32::from(said.flags);
        let sent: Vec<BorrowedFd<'_>> =
            said.descriptors.0.iter().map(|descriptor| descriptors.get(*descriptor)).collect();
        let bytes = message(u32::from(said.request) % 48, flags, said.size, &said.payload.bytes());
        if !send(&front, &bytes, &sent) {
            break;
        }
    }
    if !input.rest.0.is_empty() {
        send(&front, &input.rest.0, &[]);
    }
    front.shutdown(std::net::Shutdown::Write).unwrap();
    serve_connection(0, "fuzz", back, &Arc::new(Server));
    // What was answered is messages, whole.
    let mut replies = Vec::new();
    // The backend may have hung up with messages unread, which is an error here.
    let _ = front.read_to_end(&mut replies);
    let mut rest = &replies[..];
    while !rest.is_empty() {
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("a whole header"));
        assert_eq!(word(4) & 7, 5, "a reply of version 1");
        let length = 12 + word(8) as usize;
        rest = rest.get(length..).expect("a whole reply");
    }
    if input.begun && input.messages.0.is_empty() {
        let mut used = [0; 2];
        descriptors.memory.read_exact_at(&mut used, RING + 0x2000 + 2).unwrap();
        assert_eq!(used, [1, 0], "the request in the ring is answered");
    }
});
