// SPDX-License-Identifier: MIT OR Apache-2.0

//! The core in this process: a split ring in memory that it sees as a client's, and a volume that `mkfs.ext4` made.
//!
//! The ring is filled as Linux's driver does it: 128 entries, for each request an indirect table, and data in pages that do
//! not adjoin. The tables are written beforehand, so that what is measured of the driver is an entry for each request.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use skerry::ext4::{Clock, Volume};
use skerry::mem::guest::{GuestAddress, GuestMemory};
use skerry::mem::region::{Flush, FlushFault, MappedRegion};
use skerry::server::{ExportList, Exports, LockTable, SessionLimits};
use skerry::service::{Connection, Scratch, Turn};
use skerry::virtq::{Notify, QueueConfiguration, RingFeatures};

use super::message::{LARGEST, MSIZE, Message, payload};
use super::peer::{Peer, SLOTS, begin, refused};
use crate::ring_driver::{Descriptor, DescriptorFlags, Layout};
use crate::shared_memory::SharedMemory;

/// Entries of the ring.
const ENTRIES: u16 = 128;
/// Bytes of a page, and of what lies between two pages of data.
const PAGE: u64 = 4096;
/// Bytes for the head of a reply.
const HEAD: u64 = 8192;
/// Bytes of a slot: the head of a reply, and pages of data, each with one behind it that is not used.
const SLOT: u64 = HEAD + 2 * LARGEST as u64;
/// Bytes for requests and their tables.
const ARENA: u64 = 16 << 20;
/// Length of the head of an Rread: what Linux lends for it.
const READ_HEAD: u32 = 11;

/// Memory is as durable as it gets.
struct Nowhere;

impl Flush for Nowhere {
    fn flush(&mut self) -> Result<(), FlushFault> {
        Ok(())
    }
}

/// Nobody is to be told: the driver looks.
struct Nobody;

impl Notify for Nobody {
    fn call(&mut self) {}
}

/// A message in the arena: the descriptor that leads to its table.
#[derive(Debug, Clone, Copy)]
struct Prepared {
    table: u64,
    length: u32,
    answer: u8,
}

/// Which steps' instructions are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// None's.
    Nothing,
    /// Those of one.
    Step(usize),
    /// Those of all.
    Everything,
}

/// The core, and the driver of its ring.
pub struct Ring {
    connection: Connection,
    volume: Volume<MappedRegion<Nowhere>>,
    exports: ExportList,
    locks: LockTable,
    scratch: Box<Scratch>,
    steps: Vec<Vec<Prepared>>,
    loaded: Vec<Vec<Message>>,
    layout: Layout,
    arena: u64,
    slots: u64,
    /// The next `avail.idx`, and the same of `used`: nothing is in flight between two steps.
    next: u16,
    /// Bytes of the last reply of each slot.
    written: [u32; SLOTS],
    counted: Counted,
    msize: u32,
    /// Behind `connection` and `volume`, which have pointers into them.
    memory: SharedMemory,
    _region: SharedMemory,
}

/// Where `memory` is mapped.
fn start(memory: &SharedMemory) -> Result<NonNull<u8>> {
    NonNull::new(std::ptr::with_exposed_provenance_mut(usize::try_from(memory.address())?))
        .ok_or_else(|| anyhow!("memory at address 0"))
}

impl Ring {
    /// Serves the volume in the file `image`, which is copied into memory and stays as it is; `clock` tells it the time.
    ///
    /// # Errors
    /// If it cannot be read or mounted.
    pub fn new(image: &File, clock: Clock) -> Result<Self> {
        let length = image.metadata()?.len();
        let region = SharedMemory::new("skerry-bench-volume", length)?;
        // The mapping is shared, so what the file gets the region has.
        copy(image, &File::from(region.file().try_clone_to_owned()?), length)?;
        // SAFETY: all of the mapping is readable and writable, and lives as long as `_region`, which is dropped after the
        // volume; nothing else reads or writes it from here on.
        let mapped = unsafe { MappedRegion::writable(start(&region)?, usize::try_from(length)?, Nowhere) };
        let volume = Volume::mount_writable(mapped, clock).context("the volume of the benchmark")?;
        ensure!(volume.read_only_reason().is_none(), "the volume of the benchmark is read-only");

        let (layout, arena) = Layout::packed_at(0, ENTRIES);
        let slots = arena + ARENA;
        let memory = SharedMemory::new("skerry-bench-ring", slots + SLOTS as u64 * SLOT)?;
        let mut guest = GuestMemory::new();
        // SAFETY: all of the mapping is readable and writable, and lives as long as `memory`, which is dropped after the
        // connection that takes `guest`; `SharedMemory` forms no references to it but to atomics, and this is the only
        // `GuestMemory` of it.
        unsafe { guest.add_region(GuestAddress(0), usize::try_from(memory.size())?, start(&memory)?) }
            .map_err(|error| anyhow!("{error}"))?;
        let mut connection = Connection::new(SessionLimits { max_fids: 4096, max_msize: MSIZE });
        let configuration = QueueConfiguration {
            size: ENTRIES,
            descriptors: GuestAddress(layout.desc),
            available: GuestAddress(layout.avail),
            used: GuestAddress(layout.used),
            features: RingFeatures::all() - RingFeatures::RING_PACKED,
            next: 0,
        };
        connection.attach(guest, &configuration).map_err(|fault| anyhow!("{fault}"))?;
        let mut ring = Self {
            connection,
            volume,
            exports: ExportList::default(),
            locks: LockTable::default(),
            scratch: Box::default(),
            steps: Vec::new(),
            loaded: Vec::new(),
            layout,
            arena,
            slots,
            next: 0,
            written: [0; SLOTS],
            counted: Counted::Nothing,
            msize: 0,
            memory,
            _region: region,
        };
        ring.msize = begin(&mut ring, b"/")?;
        Ok(ring)
    }

    /// Has what `counted` says be served by the function whose instructions are counted, from here on.
    pub fn count(&mut self, counted: Counted) {
        self.counted = counted;
    }

    /// Where page `index` of the data of `slot` is.
    fn page(&self, slot: usize, index: u64) -> u64 {
        self.slots + slot as u64 * SLOT + HEAD + 2 * PAGE * index
    }

    /// Writes a message to `at`, and its table behind it. Returns where the next may stand.
    fn prepare(&self, slot: usize, message: &Message, at: u64) -> (Prepared, u64) {
        let device_writes = DescriptorFlags::WRITE;
        let descriptor = |addr, len: u64, flags| Descriptor {
            addr,
            len: u32::try_from(len).unwrap_or(u32::MAX),
            flags,
            next: 0,
        };
        let pages = |length: usize, flags| {
            (0..(length as u64).div_ceil(PAGE)).map(move |index| {
                descriptor(self.page(slot, index), PAGE.min(length as u64 - PAGE * index), flags)
            })
        };
        self.memory.write(at, &message.head);
        let head = message.head.len() as u64;
        let mut table = vec![descriptor(at, head, DescriptorFlags::default())];
        table.extend(pages(message.payload, DescriptorFlags::default()));
        let reply = if message.room > 0 { u64::from(READ_HEAD) } else { HEAD };
        table.push(descriptor(self.slots + slot as u64 * SLOT, reply, device_writes));
        table.extend(pages(message.room, device_writes));

        let place = (at + head).next_multiple_of(64);
        for (index, descriptor) in (0_u16..).zip(&table) {
            let mut descriptor = *descriptor;
            if usize::from(index) + 1 < table.len() {
                descriptor.flags = descriptor.flags.and(DescriptorFlags::NEXT);
                descriptor.next = index + 1;
            }
            self.memory.write(place + 16 * u64::from(index), &descriptor.encode());
        }
        let length = 16 * u32::try_from(table.len()).unwrap_or(u32::MAX);
        let prepared = Prepared { table: place, length, answer: message.answer.into() };
        (prepared, (place + u64::from(length)).next_multiple_of(64))
    }

    /// Makes a step's messages available.
    fn offer(&mut self, step: usize) {
        for (slot, message) in (0_u16..).zip(&self.steps[step]) {
            let flags = DescriptorFlags::INDIRECT;
            let descriptor = Descriptor { addr: message.table, len: message.length, flags, next: 0 };
            self.memory.store_pair(self.layout.desc + 16 * u64::from(slot), descriptor.words());
            let entry = self.layout.avail + 4 + 2 * u64::from(self.next % ENTRIES);
            self.memory.store(entry, slot, Ordering::Relaxed);
            self.next = self.next.wrapping_add(1);
        }
        // Release: pairs with the device's acquiring load of `avail.idx`.
        self.memory.store(self.layout.avail + 2, self.next, Ordering::Release);
    }

    /// Lets the device drain the ring once.
    fn serve(&mut self) -> Result<u32> {
        let mut exports = Exports::new(&mut self.volume, &self.exports, &mut self.locks);
        let drained = self.connection.drain(
            &mut exports,
            &mut self.scratch,
            &mut Nobody,
            Turn::of_requests(SLOTS as u32),
        );
        drained.map(|drained| drained.requests).map_err(|fault| anyhow!("{fault}"))
    }
}

/// What `bench instructions` counts the instructions in. Its name is what the profiler looks for.
#[inline(never)]
fn serve_counted(ring: &mut Ring) -> Result<u32> {
    ring.serve()
}

/// The name of the function whose instructions are counted, as a profiler shows it.
pub const COUNTED: &str = "*core::ring::serve_counted*";

impl Peer for Ring {
    fn name(&self) -> &'static str {
        "Skerry"
    }

    fn msize(&self) -> u32 {
        self.msize
    }

    fn load(&mut self, steps: &[Vec<Message>]) -> Result<()> {
        let mut at = self.arena;
        let mut prepared = Vec::new();
        for step in steps {
            let mut messages = Vec::new();
            for (slot, message) in step.iter().enumerate() {
                let longest = (message.head.len() + 16 * 260) as u64;
                ensure!(at + longest <= self.slots, "the messages do not fit {ARENA} bytes");
                let (message, next) = self.prepare(slot, message, at);
                at = next;
                messages.push(message);
            }
            prepared.push(messages);
        }
        // All payloads of a slot are the same bytes in the same pages.
        let slots = steps.iter().map(Vec::len).max().unwrap_or_default();
        let longest = steps.iter().flatten().map(|message| message.payload).max().unwrap_or_default();
        for slot in 0..slots {
            for (index, page) in (0..).zip(payload()[..longest].chunks(4096)) {
                self.memory.write(self.page(slot, index), page);
            }
        }
        (self.steps, self.loaded) = (prepared, steps.to_vec());
        Ok(())
    }

    fn exchange(&mut self, step: usize) -> Result<()> {
        let first = self.next;
        self.offer(step);
        let counted = match self.counted {
            Counted::Nothing => false,
            Counted::Step(of) => of == step,
            Counted::Everything => true,
        };
        let served = if counted { serve_counted(self)? } else { self.serve()? };
        let count = self.steps[step].len();
        // Acquire: pairs with the device's releasing store of `used.idx`.
        let used = self.memory.load(self.layout.used + 2, Ordering::Acquire);
        ensure!(used == self.next, "{served} of {count} requests were served");
        for (index, slot) in (0..).zip(0..count) {
            let entry = self.layout.used + 4 + 8 * u64::from(first.wrapping_add(index) % ENTRIES);
            // A ring is served in order.
            self.written[slot] = self.memory.load_word(entry + 4);
            let kind =
                self.memory.load(self.slots + slot as u64 * SLOT + 4, Ordering::Relaxed).to_le_bytes()[0];
            if kind != self.steps[step][slot].answer {
                let reply = self.reply(slot);
                return refused(self.name(), &self.loaded[step][slot], &reply);
            }
        }
        Ok(())
    }

    fn reply(&self, slot: usize) -> Vec<u8> {
        let base = self.slots + slot as u64 * SLOT;
        let (head, length) = (READ_HEAD as usize, self.written[slot] as usize);
        // An Rread's data lies in pages, that of others behind its head.
        let kind = self.memory.bytes(base + 4, 1);
        if kind != [117] && kind != [41] {
            return self.memory.bytes(base, length);
        }
        let mut reply = self.memory.bytes(base, head);
        let mut index = 0;
        while reply.len() < length {
            let piece = (length - reply.len()).min(4096);
            reply.extend(self.memory.bytes(self.page(slot, index), piece));
            index += 1;
        }
        reply
    }
}

/// Copies the first `length` bytes of a file, its holes excepted.
fn copy(from: &File, to: &File, length: u64) -> Result<()> {
    let mut bytes = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            start => start?,
        };
        at = start;
        let end = rustix::fs::seek(from, SeekFrom::Hole(start))?.min(length);
        while at < end {
            let piece = usize::try_from((end - at).min(bytes.len() as u64))?;
            from.read_exact_at(&mut bytes[..piece], at)?;
            to.write_all_at(&bytes[..piece], at)?;
            at += piece as u64;
        }
    }
    Ok(())
}
