// SPDX-License-Identifier: MIT OR Apache-2.0

//! A driver that does anything, to the ring alone or to a session behind it.

use arbitrary::Arbitrary;
use skerry::mem::guest::{GuestAddress, GuestMemory};
use skerry::mem::scatter::ScatterList;
use skerry::mem::{Sink, Source};
use skerry::server::{ExportList, Exports, LockTable, SessionLimits};
use skerry::service::{Connection, Scratch, State, Turn};
use skerry::virtq::desc::{available_ring, descriptor_table, used_ring};
use skerry::virtq::{Chain, Fault, Notify, Queue, QueueConfiguration, Ring, RingFeatures};
use skerry::wire::{Fid, NONUNAME, Tag, Tattach, Tclunk, Tmessage, Tread, Treaddir, Tversion, VERSION};
use skerry_fuzz::guarded::Guarded;
use skerry_fuzz::sequence::Rest;

use super::descriptor;
use super::tiny::Tiny;

/// Where the first region begins in the guest.
const RAM: u64 = 0x10_0000;
/// Lengths of the regions; the second adjoins the first, the third lies behind a gap.
const LENGTHS: [usize; 3] = [0x8000, 0x4000, 0x2000];
const GAP: u64 = 0x1000;
/// Most bytes of a chain that are moved each way.
const MOVED: usize = 1 << 16;

/// An address, mostly near something.
#[derive(Debug, Arbitrary, Clone, Copy)]
struct Place {
    base: u8,
    offset: u16,
}

/// What the driver does.
#[derive(Debug, Arbitrary)]
pub struct Script {
    /// How much shorter the first region is: the second does not adjoin it then, and fields are not aligned in this process.
    shorter: u8,
    /// Which regions there are.
    regions: u8,
    setting: Setting,
    /// Whether a session is behind the ring.
    session: bool,
    steps: Rest<Step>,
}

#[derive(Debug, Arbitrary, Clone, Copy)]
struct Setting {
    /// A power of two below 16, as it is from there on.
    size: u16,
    /// `EVENT_IDX`, `INDIRECT_DESC`, and against `VERSION_1`.
    features: u8,
    /// Where the rings are, if not at the beginning.
    elsewhere: Option<[Place; 3]>,
    next: u16,
}

#[derive(Debug, Arbitrary)]
enum Step {
    Drain {
        budget: u8,
        consume: bool,
    },
    Arm,
    Disarm,
    Publish,
    HasAvailable,
    Attach(Setting),
    Write {
        at: Place,
        bytes: Vec<u8>,
    },
    Entry {
        slot: u8,
        head: u16,
    },
    /// `avail.idx`, from the next entry on.
    Ahead(u8),
    Index(u16),
    UsedEvent(u16),
    Flags(u16),
    UsedIndex(u16),
    Descriptor {
        index: u8,
        at: Place,
        length: u32,
        flags: u8,
        next: u16,
    },
    TableEntry {
        table: Place,
        index: u8,
        at: Place,
        length: u16,
        flags: u8,
        next: u16,
    },
    /// A request that makes sense, at `at`.
    Message {
        at: Place,
        kind: u8,
        fid: u8,
    },
}

/// The guest's memory, and the view of the device, which is dropped first.
struct Guest {
    regions: Vec<(u64, Guarded)>,
}

impl Guest {
    fn new(script: &Script) -> Self {
        let mut guest = RAM;
        let mut regions = Vec::new();
        for (index, length) in LENGTHS.into_iter().enumerate() {
            let shorter = if index == 0 { usize::from(script.shorter) } else { 0 };
            if index == 0 || script.regions >> index & 1 == 0 {
                regions.push((guest, Guarded::new(length - shorter)));
            }
            guest += length as u64 + if index == 1 { GAP } else { 0 };
        }
        Self { regions }
    }

    fn memory(&self) -> GuestMemory {
        let mut memory = GuestMemory::new();
        for (guest, region) in &self.regions {
            // SAFETY: the region is mapped as long as `self`, which outlives all that is attached to it; no reference into it
            // exists.
            unsafe { memory.add_region(GuestAddress(*guest), region.len(), region.start()) }.unwrap();
        }
        memory
    }

    fn write(&self, address: u64, bytes: &[u8]) {
        for (guest, region) in &self.regions {
            if let Some(offset) = address.checked_sub(*guest).and_then(|offset| usize::try_from(offset).ok())
            {
                region.write(offset, bytes);
            }
        }
    }
}

impl Place {
    fn address(self) -> u64 {
        let offset = u64::from(self.offset);
        let second = RAM + LENGTHS[0] as u64;
        let third = second + LENGTHS[1] as u64 + GAP;
        match self.base % 8 {
            0..3 => RAM + offset % 0x9000,
            3 => (second - 64) + offset % 128,
            4 => (second + LENGTHS[1] as u64 - 64) + offset % 128,
            5 => third + offset,
            6 => offset << 48 | offset,
            _ => u64::MAX - offset,
        }
    }
}

fn configuration(setting: &Setting, further: RingFeatures) -> QueueConfiguration {
    let size = if setting.size < 16 { 1 << setting.size } else { setting.size };
    let available = RAM + u64::from(descriptor_table::length(size));
    let used = (available + u64::from(available_ring::length(size, true))).next_multiple_of(4);
    let places = match setting.elsewhere {
        None => [RAM, available, used],
        Some(places) => places.map(Place::address),
    };
    let [descriptors, available, used] = places.map(GuestAddress);
    let mut features = RingFeatures::VERSION_1 | further;
    features.set(RingFeatures::EVENT_IDX, setting.features & 1 != 0);
    features.set(RingFeatures::INDIRECT_DESC, setting.features & 2 != 0);
    features.set(RingFeatures::VERSION_1, setting.features & 0x1c != 0x1c);
    QueueConfiguration { size, descriptors, available, used, features, next: setting.next }
}

fn message(kind: u8, fid: u8) -> Vec<u8> {
    let fid = Fid(u32::from(fid % 4));
    let message: Tmessage<'_> = match kind % 5 {
        0 => Tversion { msize: 8192, version: VERSION }.into(),
        1 => Tattach { fid, afid: Fid::NOFID, uname: b"", aname: b"", n_uname: NONUNAME }.into(),
        2 => Tread { fid, offset: 3, count: 4000 }.into(),
        3 => Treaddir { fid, offset: 0, count: 4000 }.into(),
        _ => Tclunk { fid }.into(),
    };
    let tag = if kind.is_multiple_of(5) { Tag::NOTAG } else { Tag(kind.into()) };
    let mut bytes = vec![0; message.head_length()];
    message.emit(tag, &mut bytes).unwrap();
    bytes
}

/// The device, in one of two forms.
enum Device {
    Queue(Option<Queue>),
    Session(Box<Connection>),
}

struct Calls(u32);

impl Notify for Calls {
    fn call(&mut self) {
        self.0 += 1;
    }
}

/// Runs a script with a queue of which `further` features were negotiated, whatever it says.
pub fn run(script: &Script, further: RingFeatures) {
    let guest = Guest::new(script);
    let memory = guest.memory();
    let mut setting = configuration(&script.setting, further);
    let mut device = if script.session {
        let limits = SessionLimits { max_fids: 16, max_msize: 1 << 16 };
        let mut connection = Box::new(Connection::new(limits));
        // A refusal is told in words.
        let _ = connection.attach(guest.memory(), &setting).map_err(|fault| fault.to_string());
        Device::Session(connection)
    } else {
        Device::Queue(taken_up(&memory, &setting))
    };
    let mut backend = Backend::default();
    for step in script.steps.0.iter().take(100) {
        let available = |offset: usize| setting.available.0.wrapping_add(offset as u64);
        let used = |offset: usize| setting.used.0.wrapping_add(offset as u64);
        match step {
            Step::Drain { .. } | Step::Arm | Step::Disarm | Step::Publish | Step::HasAvailable => {
                act(&mut device, &memory, step, &mut backend);
            }
            Step::Attach(new) => {
                setting = configuration(new, further);
                match &mut device {
                    Device::Queue(queue) => *queue = taken_up(&memory, &setting),
                    Device::Session(connection) => {
                        connection.detach();
                        let _ =
                            connection.attach(guest.memory(), &setting).map_err(|fault| fault.to_string());
                    }
                }
            }
            Step::Write { at, bytes } => guest.write(at.address(), bytes),
            Step::Entry { slot, head } => {
                guest.write(available(available_ring::entry((*slot).into())), &head.to_le_bytes());
            }
            Step::Ahead(count) => {
                let position = match &device {
                    Device::Queue(queue) => queue.as_ref().map_or(0, Queue::position),
                    Device::Session(connection) => connection.position().unwrap_or(0),
                };
                let index = position.wrapping_add(u16::from(*count));
                guest.write(available(available_ring::IDX), &index.to_le_bytes());
            }
            Step::Index(index) => guest.write(available(available_ring::IDX), &index.to_le_bytes()),
            Step::UsedEvent(event) => {
                guest.write(available(available_ring::used_event(setting.size)), &event.to_le_bytes());
            }
            Step::Flags(flags) => guest.write(available(available_ring::FLAGS), &flags.to_le_bytes()),
            Step::UsedIndex(index) => guest.write(used(used_ring::IDX), &index.to_le_bytes()),
            Step::Descriptor { index, at, length, flags, next } => {
                let place =
                    setting.descriptors.0.wrapping_add(descriptor_table::entry((*index).into()) as u64);
                guest.write(place, &descriptor(at.address(), *length, (*flags).into(), *next));
            }
            Step::TableEntry { table, index, at, length, flags, next } => {
                let place = table.address().wrapping_add(descriptor_table::entry((*index).into()) as u64);
                guest.write(place, &descriptor(at.address(), (*length).into(), (*flags).into(), *next));
            }
            Step::Message { at, kind, fid } => guest.write(at.address(), &message(*kind, *fid)),
        }
    }
    drop((device, memory));
    guest.regions.iter().for_each(|(_, region)| region.check());
}

fn taken_up(memory: &GuestMemory, setting: &QueueConfiguration) -> Option<Queue> {
    let queue = Queue::new(memory, setting);
    if let Ok(queue) = &queue {
        let any_size = setting.features.contains(RingFeatures::RING_PACKED);
        assert!(any_size && setting.size <= 1 << 15 || setting.size.is_power_of_two());
        assert!(setting.features.contains(RingFeatures::VERSION_1));
        assert_eq!(queue.position(), setting.next);
    }
    queue.map_err(|fault| assert_ne!(fault.to_string(), "")).ok()
}

/// What the device has beside its ring.
struct Backend {
    tiny: Tiny,
    list: ExportList,
    locks: LockTable,
    scratch: Box<Scratch>,
}

impl Default for Backend {
    fn default() -> Self {
        Self { tiny: Tiny, list: ExportList::default(), locks: LockTable::default(), scratch: Box::default() }
    }
}

/// One step of the device. A fault ends the use of the ring.
fn act(device: &mut Device, memory: &GuestMemory, step: &Step, backend: &mut Backend) {
    match device {
        Device::Queue(queue) => {
            let outcome = queue.as_mut().map_or(Ok(()), |queue| act_on_queue(queue, memory, step));
            if let Err(fault) = outcome {
                assert_ne!(fault.to_string(), "");
                *queue = None;
            }
        }
        Device::Session(connection) => {
            let Backend { tiny, list, locks, scratch } = backend;
            let was = connection.state();
            let outcome = match *step {
                Step::Drain { budget, .. } => {
                    let mut exports = Exports::new(tiny, list, locks);
                    let mut calls = Calls(0);
                    let outcome =
                        connection.drain(&mut exports, scratch, &mut calls, Turn::of_requests(budget.into()));
                    assert!(calls.0 <= 1, "one pass notifies once");
                    outcome.map(|drained| assert!(drained.requests <= budget.into()))
                }
                Step::HasAvailable => connection.has_requests().map(|_| ()),
                _ => connection.arm().map(|_| ()),
            };
            match outcome {
                Err(fault) => {
                    assert_ne!(fault.to_string(), "");
                    assert_eq!(connection.state(), State::Faulted(fault));
                    assert_eq!(connection.session().fids_in_use(), 0);
                }
                Ok(()) => assert_eq!(connection.state(), was),
            }
            assert_ne!(format!("{:?}", connection.status()), "");
        }
    }
}

fn act_on_queue(queue: &mut Queue, memory: &GuestMemory, step: &Step) -> Result<(), Fault> {
    match *step {
        Step::Drain { budget, consume } => {
            let mut list = ScatterList::new();
            queue.disarm(memory)?;
            for _ in 0..budget {
                let Some(chain) = queue.pop(memory, &mut list)? else { break };
                let Chain { token, buffers } = chain;
                let (mut from, mut to) = buffers.into_streams();
                assert!(u32::try_from(from.remaining() + to.remaining()).is_ok());
                if consume {
                    let mut bytes = vec![0; from.remaining().min(MOVED)];
                    from.take(&mut bytes).unwrap();
                    from.skip(from.remaining()).unwrap();
                    let room = to.remaining();
                    // What was read goes back, over rings and tables if the driver says so.
                    to.put(&bytes[..bytes.len().min(room)]).unwrap();
                    to.put_zeros(to.remaining().min(100)).unwrap();
                }
                let written = to.written();
                queue.push(memory, token, written)?;
            }
            queue.publish(memory).map(|_| ())
        }
        Step::Arm => queue.arm(memory).map(|_| ()),
        Step::Disarm => queue.disarm(memory),
        Step::Publish => queue.publish(memory).map(|_| ()),
        _ => queue.has_available(memory).map(|_| ()),
    }
}
