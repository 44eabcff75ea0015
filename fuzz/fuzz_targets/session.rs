// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sequences of requests of two clients on one volume: every message, with fids, names, offsets, counts and lengths that are good
//! and bad. Each request has exactly one reply, whole, with its tag, of its kind or an error that exists; nothing is written
//! behind it. The volume is whole afterwards, and the next mount sees what was there before the unmount.

#![no_main]

#[path = "session/request.rs"]
mod request;

use std::cell::RefCell;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use request::Request;
use skerry::fs::FileSystem;
use skerry::mem::guest::{GuestAddress, GuestMemory};
use skerry::mem::scatter::{Loader, MAX_SEGMENTS, ScatterList};
use skerry::server::{ExportList, Exports, LockTable, Scratch, Session, SessionFault, SessionLimits};
use skerry::wire::{Dirents, HEADER, Header, MessageType, Rmessage, Tag, parse_r_with_data, parse_t};
use skerry_fuzz::check;
use skerry_fuzz::guarded::Guarded;
use skerry_fuzz::look::Seen;
use skerry_fuzz::mounted::{self, MemoryVolume};
use skerry_fuzz::sequence::Rest;
use skerry_fuzz::told;
use skerry_fuzz::volumes::{FLAVOURS, WRITTEN, plain};

#[derive(Debug, Arbitrary)]
struct Input {
    flavour: u8,
    policy: u8,
    /// Whether both clients attach before the sequence.
    attached: bool,
    steps: Rest<Step>,
}

#[derive(Debug, Arbitrary)]
struct Step {
    second: bool,
    /// Length of the buffers of both directions.
    piece: u16,
    /// Bytes of room for the reply: few, some, or plenty.
    room: u8,
    /// The end of a pass comes before.
    commit: bool,
    request: Request,
}

const STEPS: usize = 60;
/// Room for a reply, and for a request.
const ROOM: u32 = 72 << 10;
const REQUESTS: u64 = 0x1000;
const RAM: usize = 0x6_0000;
const REPLIES: u64 = REQUESTS + 0x2_8000;
const POISON: u8 = 0xa5;
static POISONS: [u8; 2 * ROOM as usize + 1] = [POISON; 2 * ROOM as usize + 1];

struct Base {
    memory: RefCell<Guarded>,
    own: usize,
}

thread_local! {
    static BASES: LazyLock<Vec<Base>> = LazyLock::new(|| {
        told::install();
        FLAVOURS[..WRITTEN].iter().map(|flavour| {
            let memory = Guarded::of_file(&plain(flavour));
            let own = check::own_blocks(memory.bytes());
            Base { memory: RefCell::new(memory), own }
        }).collect()
    });
}

/// What clients talk to, and through.
struct Service<'a> {
    volume: &'a mut MemoryVolume,
    list: ExportList,
    locks: LockTable,
    sessions: [Session; 2],
    scratch: Box<Scratch>,
    ram: Guarded,
}

/// How long the buffers of `length` bytes are which may come in pieces of `piece`: a list has room for no more than [`MAX_SEGMENTS`].
fn buffer_length(length: u32, piece: u16) -> u32 {
    u32::from(piece.max(if length as usize > MAX_SEGMENTS { 600 } else { 1 }))
}

fn load<'a>(
    list: &'a mut ScatterList,
    memory: &'a GuestMemory,
    at: u64,
    length: u32,
    piece: u16,
) -> Loader<'a> {
    let mut loader = list.load(memory);
    let piece = buffer_length(length, piece);
    let mut address = at;
    while loader.length() < length {
        let length = piece.min(length - loader.length());
        // A list has an end: then the last buffer has all the rest.
        if loader.push(GuestAddress(address), length).is_err() {
            break;
        }
        address += u64::from(length) + 1;
    }
    loader
}

impl Service<'_> {
    /// Begins a session, as every client does.
    fn connect(&mut self, session: usize) {
        assert!(self.exchange(session, &request::version(), 4096, ROOM));
        assert!(self.exchange(session, &request::attach(session), 4096, ROOM));
    }

    /// Sends `request`; whether the session goes on.
    fn exchange(&mut self, session: usize, request: &[u8], piece: u16, room: u32) -> bool {
        let mut memory = GuestMemory::new();
        // SAFETY: the memory is mapped as long as `self`, which outlives this value; no reference into it exists.
        unsafe { memory.add_region(GuestAddress(REQUESTS), RAM, self.ram.start()) }.unwrap();
        let (mut readable, mut writable) = (ScatterList::new(), ScatterList::new());
        let length = u32::try_from(request.len()).unwrap();
        let place = |address: u64| usize::try_from(address - REQUESTS).unwrap();
        // The buffers do not adjoin: what is between them is poison, too.
        let mut at = place(REQUESTS);
        let step = buffer_length(length, piece) as usize;
        for bytes in request.chunks(step) {
            self.ram.write(at, bytes);
            at += bytes.len() + 1;
        }
        // A byte behind each buffer, at most.
        self.ram.write(place(REPLIES), &POISONS[..2 * room as usize + 1]);

        let mut exports = Exports::new(self.volume, &self.list, &mut self.locks);
        let msize = self.sessions[session].msize();
        let reader = load(&mut readable, &memory, REQUESTS, length, piece).into_reader();
        let loader = load(&mut writable, &memory, REPLIES, room, piece);
        let given = loader.length();
        let outcome =
            self.sessions[session].handle(&mut exports, reader, loader.into_writer(), &mut self.scratch);
        let Some(first) = request.first_chunk::<{ HEADER as usize }>() else {
            assert!(outcome.is_err(), "less than a header has no answer");
            return false;
        };
        let header = Header::parse(first);
        let written = match outcome {
            Ok(written) => written,
            Err(fault) => {
                assert_ne!(fault.to_string(), "");
                let framing = header.size < HEADER || header.size > length || header.size > msize;
                match fault {
                    SessionFault::NoRoomForReply { needed, .. } => assert!(needed > given as usize),
                    SessionFault::Reply(error) => panic!("a reply that cannot be: {error}"),
                    _ => assert!(framing, "{fault}"),
                }
                return false;
            }
        };
        assert!(header.size >= HEADER && header.size <= length && header.size <= msize);
        assert!(written <= given);
        let reply = self.reply(given, piece, written);
        self.check_reply(session, header, request, &reply, msize);
        true
    }

    /// The reply, put together from its buffers.
    fn reply(&self, given: u32, piece: u16, written: u32) -> Vec<u8> {
        let step = buffer_length(given, piece) as usize;
        let mut at = usize::try_from(REPLIES - REQUESTS).unwrap();
        let (mut left, mut reply) = (given as usize, Vec::new());
        while left > 0 {
            let length = step.min(left);
            let bytes = self.ram.read(at, length + 1);
            assert_eq!(bytes[length], POISON, "nothing is written between the buffers");
            reply.extend_from_slice(&bytes[..length]);
            at += length + 1;
            left -= length;
        }
        let behind = reply.split_off(written as usize);
        // What a request had put before it failed may stand behind the error.
        if reply.get(4) != Some(&u8::from(MessageType::Rlerror)) {
            assert!(behind == POISONS[..behind.len()], "nothing is written behind a reply");
        }
        reply
    }

    fn check_reply(&self, session: usize, header: Header, request: &[u8], reply: &[u8], before: u32) {
        let (tag, parsed, data) = parse_r_with_data(reply).expect("a reply is well-formed");
        assert_eq!(tag, header.tag, "a reply has the tag of its request");
        // An answer to Tversion may be as long as it was before.
        let msize = self.sessions[session].msize().max(before);
        assert!(reply.len() <= msize as usize, "a reply of {} bytes with msize {msize}", reply.len());
        let head = request.get(..header.head_length() as usize);
        let sense = head.and_then(|head| parse_t(head, header.size).ok());
        match parsed {
            Rmessage::Rlerror(error) => {
                assert!((1..=133).contains(&error.ecode), "{} is an error number", error.ecode);
                assert!(
                    header.kind != MessageType::Tflush
                        || sense.is_none()
                        || header.tag == Tag::NOTAG
                        || !self.versioned(session)
                );
            }
            other => {
                assert_eq!(u8::from(other.kind()), u8::from(header.kind) + 1);
                assert!(sense.is_some(), "only what is well-formed is carried out");
                if let Rmessage::Rreaddir(_) = other {
                    for entry in Dirents::new(data) {
                        let entry = entry.expect("entries are whole");
                        assert!((1..=255).contains(&entry.name.len()) && !entry.name.contains(&b'/'));
                    }
                }
            }
        }
    }

    fn versioned(&self, session: usize) -> bool {
        // Before Tversion nothing can be held.
        self.sessions[session].fids_in_use() > 0
    }

    /// Both clients are gone, and the pass ends.
    fn end(&mut self) {
        for session in &mut self.sessions {
            session.reset();
            session.settle(&mut Exports::new(&mut *self.volume, &self.list, &mut self.locks));
            assert_eq!(session.fids_in_use(), 0);
        }
        assert_eq!(self.locks.len(), 0, "locks go with their holders");
        self.volume.commit().unwrap();
    }
}

fn run(base: &Base, input: &Input) {
    let mut memory = base.memory.borrow_mut();
    // SAFETY: the volume is gone before the memory is looked at below.
    let mut volume = unsafe { mounted::mount(&memory, true) }.unwrap();
    assert_eq!(volume.read_only_reason(), None);
    let mut list = ExportList::new();
    let policies: &[&str] = match input.policy % 4 {
        0 | 1 => &["/"],
        2 => &["/:check,squash=root:1000:1000"],
        _ => &["/one:readonly", "/:check"],
    };
    policies.iter().for_each(|policy| list.add(policy).unwrap());
    let limits = SessionLimits { max_fids: 24, max_msize: 64 << 10 };
    let mut service = Service {
        volume: &mut volume,
        list,
        locks: LockTable::default(),
        sessions: [Session::new(limits), Session::new(limits)],
        scratch: Box::new(Scratch::new()),
        ram: Guarded::new(RAM),
    };
    if input.attached {
        for session in 0..2 {
            service.connect(session);
        }
    }
    for step in input.steps.0.iter().take(STEPS) {
        if step.commit {
            service.volume.commit().unwrap();
        }
        let session = usize::from(step.second);
        let room = match step.room {
            0..6 => 3 * u32::from(step.room),
            6..224 => 9000,
            _ => ROOM,
        };
        if !service.exchange(session, &step.request.bytes(), step.piece, room) {
            // As a ring that stops, and is set up anew.
            service.sessions[session].reset();
            if input.attached {
                service.connect(session);
            }
        }
    }
    service.end();
    drop(service);
    let before = Seen::of(&volume);
    assert!(!before.damaged, "no request damages the volume");
    volume.unmount().map(|_| ()).unwrap();
    check::check(memory.bytes_mut(), base.own).unwrap();
    // SAFETY: as above.
    let volume = unsafe { mounted::mount(&memory, false) }.unwrap();
    assert!(before == Seen::of(&volume), "what was seen before the unmount is seen after it");
}

fuzz_target!(|input: Input| {
    BASES.with(|bases| {
        let base = &bases[usize::from(input.flavour) % bases.len()];
        run(base, &input);
        base.memory.borrow_mut().restore();
    });
});
