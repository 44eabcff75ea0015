// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the servers are asked for: for each message a script that can be repeated without end.

use anyhow::{Context, Result};
use skerry::wire::{
    Fid, GetattrMask, LockFlags, LockType, Names, OpenFlags, SetattrMask, Tclunk, Tfsync, Tgetattr, Time,
    Tlcreate, Tlink, Tlock, Tlopen, Tmkdir, Tread, Treaddir, Treadlink, Tremove, Trenameat, Tsetattr,
    Tstatfs, Tunlinkat, Twalk, Twrite, UnlinkFlags,
};

use super::message::Message;
use super::peer::{FILES, NEW, ROOT};
use super::tree::{FILE, small};

/// Something to measure.
pub struct Workload {
    /// The requests of one operation.
    pub name: &'static str,
    /// Bytes of data that one operation moves.
    pub bytes: u64,
    /// The script for so many operations in flight.
    pub script: fn(&Workload, usize) -> Script,
}

/// The requests of a workload.
pub struct Script {
    /// What stands before, one after the other.
    pub setup: Vec<Message>,
    /// The steps that are measured, again and again. The messages of one are in flight together.
    pub steps: Vec<Vec<Message>>,
    /// Operations in all steps together.
    pub operations: u64,
    /// What stands behind, one after the other.
    pub teardown: Vec<Message>,
}

/// All of them.
pub const WORKLOADS: [Workload; 23] = [
    Workload { name: "Tread 4 KiB", bytes: 4096, script: reads },
    Workload { name: "Tread 64 KiB", bytes: 65_536, script: reads },
    Workload { name: "Tread 496 KiB", bytes: 507_904, script: reads },
    Workload { name: "Twrite 4 KiB", bytes: 4096, script: writes },
    Workload { name: "Twrite 64 KiB", bytes: 65_536, script: writes },
    Workload { name: "Twrite 496 KiB", bytes: 507_904, script: writes },
    Workload { name: "Twrite 4 KiB + Tfsync", bytes: 4096, script: synced_writes },
    Workload { name: "Tfsync", bytes: 0, script: syncs },
    Workload { name: "Tgetattr", bytes: 0, script: attributes },
    Workload { name: "Tsetattr (mode)", bytes: 0, script: modes },
    Workload { name: "Tstatfs", bytes: 0, script: status },
    Workload { name: "Treadlink", bytes: 0, script: targets },
    Workload { name: "Treaddir, 1000 entries", bytes: 0, script: directories },
    Workload { name: "Tlock + unlock", bytes: 0, script: locks },
    Workload { name: "Twalk(0) + Tclunk", bytes: 0, script: clones },
    Workload { name: "Twalk(1) + Tclunk", bytes: 0, script: walks },
    Workload { name: "Twalk(1) + Tgetattr + Tclunk", bytes: 0, script: lookups },
    Workload { name: "Twalk(1) + Tlopen + Tclunk", bytes: 0, script: opens },
    Workload { name: "Tlcreate, Tremove", bytes: 0, script: removals },
    Workload { name: "Tlcreate, Tunlinkat", bytes: 0, script: creations },
    Workload { name: "Tmkdir, Tunlinkat", bytes: 0, script: new_directories },
    Workload { name: "Tlink, Tunlinkat", bytes: 0, script: links },
    Workload { name: "Trenameat", bytes: 0, script: renames },
];

/// A read without a payload to speak of: what is left of a read without its copy.
pub const SMALL_READ: Workload = Workload { name: "Tread 1 byte", bytes: 1, script: reads };

impl Workload {
    /// The one of [`WORKLOADS`], or [`SMALL_READ`], that is called so.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(name: &str) -> Result<&'static Self> {
        let mut all = WORKLOADS.iter().chain([&SMALL_READ]);
        all.find(|of| of.name == name).with_context(|| format!("there is no workload {name}"))
    }
}

/// The fid of a slot.
fn own(slot: usize) -> Fid {
    Fid(100 + u32::from(tag(slot)))
}

fn tag(slot: usize) -> u16 {
    u16::try_from(slot).unwrap_or(u16::MAX)
}

fn walk(slot: usize, from: Fid, names: &[&[u8]]) -> Message {
    let wnames = Names::new(names).expect("at most 16 names");
    Message::new(tag(slot), Twalk { fid: from, newfid: own(slot), wnames }, 0)
}

/// What undoes a script that was refused half-way, as far as it goes.
pub fn leftovers() -> impl Iterator<Item = Message> {
    (0..super::peer::SLOTS).flat_map(|slot| {
        let remove = Message::new(tag(slot), Tremove { fid: own(slot) }, 0);
        let unlink = [UnlinkFlags::empty(), UnlinkFlags::REMOVEDIR].map(|flags| unlink(slot, flags));
        let walk = walk(slot, NEW, &[small(slot).as_bytes()]);
        [clunk(slot), walk, remove, clunk(slot)].into_iter().chain(unlink)
    })
}

fn clunk(slot: usize) -> Message {
    Message::new(tag(slot), Tclunk { fid: own(slot) }, 0)
}

fn open(slot: usize, flags: OpenFlags) -> Message {
    Message::new(tag(slot), Tlopen { fid: own(slot), flags }, 0)
}

/// One message for each operation in flight.
fn each(in_flight: usize, message: impl FnMut(usize) -> Message) -> Vec<Message> {
    (0..in_flight).map(message).collect()
}

/// Each slot has its own fid for the file `name`, which `steps` works with.
fn with_file(
    in_flight: usize,
    name: &[u8],
    flags: Option<OpenFlags>,
    operations: usize,
    steps: Vec<Vec<Message>>,
) -> Script {
    let mut setup = each(in_flight, |slot| walk(slot, ROOT, &[name]));
    if let Some(flags) = flags {
        setup.extend(each(in_flight, |slot| open(slot, flags)));
    }
    let teardown = each(in_flight, clunk);
    Script { setup, steps, operations: (operations * in_flight) as u64, teardown }
}

/// Offsets of pieces of `length` bytes, in an order without a pattern.
fn offsets(length: u64) -> impl Iterator<Item = u64> {
    let pieces = FILE / length;
    let mut state = 0x5eed_u64;
    std::iter::repeat_with(move || {
        // Knuth's constants; the upper bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % pieces * length
    })
}

/// Steps that are enough for offsets not to be learned, and few enough for their messages to be kept.
fn rounds_of(length: u64) -> usize {
    if length > 65_536 {
        4
    } else if length > 4096 {
        16
    } else {
        128
    }
}

fn reads(of: &Workload, in_flight: usize) -> Script {
    let (rounds, mut offsets) = (rounds_of(of.bytes), offsets(of.bytes));
    let count = u32::try_from(of.bytes).unwrap_or(u32::MAX);
    let mut read = |slot| {
        Message::new(
            tag(slot),
            Tread { fid: own(slot), offset: offsets.next().unwrap_or_default(), count },
            count,
        )
    };
    let steps = (0..rounds).map(|_| each(in_flight, &mut read)).collect();
    with_file(in_flight, b"data", Some(OpenFlags::RDONLY), rounds, steps)
}

fn writes(of: &Workload, in_flight: usize) -> Script {
    let (rounds, mut offsets) = (rounds_of(of.bytes), offsets(of.bytes));
    let count = u32::try_from(of.bytes).unwrap_or(u32::MAX);
    let mut write = |slot| {
        Message::new(
            tag(slot),
            Twrite { fid: own(slot), offset: offsets.next().unwrap_or_default(), count },
            0,
        )
    };
    let steps = (0..rounds).map(|_| each(in_flight, &mut write)).collect();
    with_file(in_flight, b"out", Some(OpenFlags::RDWR), rounds, steps)
}

fn sync(slot: usize) -> Message {
    Message::new(tag(slot), Tfsync { fid: own(slot), datasync: 0 }, 0)
}

fn synced_writes(of: &Workload, in_flight: usize) -> Script {
    let script = writes(of, in_flight);
    let steps = script.steps.into_iter().flat_map(|step| [step, each(in_flight, sync)]).collect();
    Script { steps, ..script }
}

fn syncs(_: &Workload, in_flight: usize) -> Script {
    with_file(in_flight, b"out", Some(OpenFlags::RDWR), 1, vec![each(in_flight, sync)])
}

fn getattr(slot: usize) -> Message {
    Message::new(tag(slot), Tgetattr { fid: own(slot), request_mask: GetattrMask::BASIC }, 0)
}

fn attributes(_: &Workload, in_flight: usize) -> Script {
    with_file(in_flight, b"data", None, 1, vec![each(in_flight, getattr)])
}

fn modes(_: &Workload, in_flight: usize) -> Script {
    let change = |slot: usize, mode: u32| {
        let (time, none) = (Time::default(), u32::MAX);
        let (fid, valid) = (own(slot), SetattrMask::MODE);
        let request = Tsetattr { fid, valid, mode, uid: none, gid: none, size: 0, atime: time, mtime: time };
        Message::new(tag(slot), request, 0)
    };
    let steps = [0o600, 0o644].map(|mode| each(in_flight, |slot| change(slot, mode))).into();
    with_file(in_flight, b"out", None, 2, steps)
}

fn status(_: &Workload, in_flight: usize) -> Script {
    let step = each(in_flight, |slot| Message::new(tag(slot), Tstatfs { fid: ROOT }, 0));
    Script { setup: Vec::new(), steps: vec![step], operations: in_flight as u64, teardown: Vec::new() }
}

fn targets(_: &Workload, in_flight: usize) -> Script {
    let step = each(in_flight, |slot| Message::new(tag(slot), Treadlink { fid: own(slot) }, 0));
    with_file(in_flight, b"link", None, 1, vec![step])
}

fn directories(_: &Workload, in_flight: usize) -> Script {
    // Enough for all entries at once.
    let count = 60_000;
    let list = |slot| Message::new(tag(slot), Treaddir { fid: own(slot), offset: 0, count }, count);
    let flags = OpenFlags::RDONLY | OpenFlags::DIRECTORY;
    with_file(in_flight, b"many", Some(flags), 1, vec![each(in_flight, list)])
}

fn locks(_: &Workload, in_flight: usize) -> Script {
    let lock = |slot: usize, kind| {
        let start = 10 * slot as u64;
        let (fid, flags, proc_id) = (own(slot), LockFlags::empty(), u32::from(tag(slot)) + 1);
        Message::new(
            tag(slot),
            Tlock { fid, kind, flags, start, length: 10, proc_id, client_id: b"bench" },
            0,
        )
    };
    let steps =
        [LockType::Write, LockType::Unlock].map(|kind| each(in_flight, |slot| lock(slot, kind))).into();
    with_file(in_flight, b"out", Some(OpenFlags::RDWR), 1, steps)
}

/// Steps that leave no fid behind.
fn free(in_flight: usize, steps: Vec<Vec<Message>>) -> Script {
    Script { setup: Vec::new(), steps, operations: in_flight as u64, teardown: Vec::new() }
}

fn clones(_: &Workload, in_flight: usize) -> Script {
    free(in_flight, vec![each(in_flight, |slot| walk(slot, FILES, &[])), each(in_flight, clunk)])
}

fn to_small(in_flight: usize) -> Vec<Message> {
    each(in_flight, |slot| walk(slot, FILES, &[small(slot).as_bytes()]))
}

fn walks(_: &Workload, in_flight: usize) -> Script {
    free(in_flight, vec![to_small(in_flight), each(in_flight, clunk)])
}

fn lookups(_: &Workload, in_flight: usize) -> Script {
    free(in_flight, vec![to_small(in_flight), each(in_flight, getattr), each(in_flight, clunk)])
}

fn opens(_: &Workload, in_flight: usize) -> Script {
    let open = |slot| open(slot, OpenFlags::RDONLY);
    free(in_flight, vec![to_small(in_flight), each(in_flight, open), each(in_flight, clunk)])
}

fn unlink(slot: usize, flags: UnlinkFlags) -> Message {
    Message::new(tag(slot), Tunlinkat { dirfd: NEW, name: small(slot).as_bytes(), flags }, 0)
}

fn create(slot: usize) -> Message {
    let flags = OpenFlags::WRONLY | OpenFlags::CREATE | OpenFlags::EXCL;
    let name = small(slot);
    let request = Tlcreate { fid: own(slot), name: name.as_bytes(), flags, mode: 0o644, gid: 0 };
    Message::new(tag(slot), request, 0)
}

fn removals(_: &Workload, in_flight: usize) -> Script {
    let remove = |slot| Message::new(tag(slot), Tremove { fid: own(slot) }, 0);
    let walk = |slot| walk(slot, NEW, &[]);
    free(in_flight, vec![each(in_flight, walk), each(in_flight, create), each(in_flight, remove)])
}

fn creations(_: &Workload, in_flight: usize) -> Script {
    let steps = vec![
        each(in_flight, |slot| walk(slot, NEW, &[])),
        each(in_flight, create),
        each(in_flight, clunk),
        each(in_flight, |slot| unlink(slot, UnlinkFlags::empty())),
    ];
    free(in_flight, steps)
}

fn new_directories(_: &Workload, in_flight: usize) -> Script {
    let make = |slot| {
        let name = small(slot);
        Message::new(tag(slot), Tmkdir { dfid: NEW, name: name.as_bytes(), mode: 0o755, gid: 0 }, 0)
    };
    let steps = vec![each(in_flight, make), each(in_flight, |slot| unlink(slot, UnlinkFlags::REMOVEDIR))];
    free(in_flight, steps)
}

fn links(_: &Workload, in_flight: usize) -> Script {
    let link = |slot| {
        let name = small(slot);
        Message::new(tag(slot), Tlink { dfid: NEW, fid: own(slot), name: name.as_bytes() }, 0)
    };
    let steps = vec![each(in_flight, link), each(in_flight, |slot| unlink(slot, UnlinkFlags::empty()))];
    with_file(in_flight, b"data", None, 1, steps)
}

fn renames(_: &Workload, in_flight: usize) -> Script {
    let rename = |slot: usize, back: bool| {
        let (plain, other) = (small(slot), format!("g{slot:02}"));
        let (from, to) = if back { (&other, &plain) } else { (&plain, &other) };
        let (oldname, newname) = (from.as_bytes(), to.as_bytes());
        Message::new(tag(slot), Trenameat { olddirfid: FILES, oldname, newdirfid: FILES, newname }, 0)
    };
    let steps = [false, true].map(|back| each(in_flight, |slot| rename(slot, back))).into();
    Script { operations: 2 * in_flight as u64, ..free(in_flight, steps) }
}
