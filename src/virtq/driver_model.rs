// SPDX-License-Identifier: MIT OR Apache-2.0

//! A driver for the tests of this module: it owns a guest's RAM, builds rings in it, and follows sections 2.7.13
//! and 2.7.14, or breaks them as a test likes. It shares no code with the device side but the layout constants.

#![allow(unsafe_code)]

pub mod packed;

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use super::desc::{available_ring, descriptor_table, used_ring};
use super::{QueueConfiguration, RingFeatures};
use crate::mem::access::{AtomicU16, AtomicU32, fence, observed};
use crate::mem::guest::{GuestAddress, GuestMemory};

/// Where the RAM begins in the guest's address space.
pub const RAM: u64 = 0x10_0000;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// What every modern driver negotiates.
pub const PLAIN: RingFeatures = RingFeatures::VERSION_1;
pub const EVENT_IDX: RingFeatures = RingFeatures::VERSION_1.union(RingFeatures::EVENT_IDX);
pub const WITH_INDIRECT: RingFeatures = RingFeatures::VERSION_1.union(RingFeatures::INDIRECT_DESC);

/// What drivers of both kinds of virtqueue do, for the tests that are the same for both.
pub trait RingDriver {
    /// The RAM, for buffers.
    fn ram(&mut self) -> &mut Driver;
    /// Makes a chain of `(buffer, WRITE or 0)` available, which the driver knows by `id`; the device does not see it yet.
    fn stage_chain(&mut self, id: u16, buffers: &[((u64, u32), u16)]);
    /// Shows the device what was staged.
    fn show_staged(&mut self);
    /// A number that grows with what was made available.
    fn shown(&self) -> u64;
    /// Whether the device wants a kick for what was shown since [`shown`](Self::shown) said `old`.
    fn kick_wanted_since(&self, old: u64) -> bool;
    /// Takes the next chain that came back: its id, and how many bytes were written.
    fn take(&mut self) -> Option<(u32, u32)>;
    /// Asks the device to interrupt, or not to. Returns whether a chain came back meanwhile.
    fn want(&self, wanted: bool) -> bool;
    /// Forgets everything and clears the RAM, as for a queue that is being set up. Buffers stay where they were.
    fn start_anew(&mut self);
}

impl RingDriver for Driver {
    fn ram(&mut self) -> &mut Driver {
        self
    }

    fn stage_chain(&mut self, id: u16, buffers: &[((u64, u32), u16)]) {
        self.chain(RAM, id, buffers);
        self.stage(id);
    }

    fn show_staged(&mut self) {
        self.show();
    }

    fn shown(&self) -> u64 {
        u64::from(self.available)
    }

    fn kick_wanted_since(&self, old: u64) -> bool {
        self.kick_wanted(u16::try_from(old).expect("an index"))
    }

    fn take(&mut self) -> Option<(u32, u32)> {
        self.take_used()
    }

    fn want(&self, wanted: bool) -> bool {
        self.want_interrupts(wanted)
    }

    fn start_anew(&mut self) {
        let words = &self.ram[MARGIN..][..self.words];
        words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        (self.available, self.used) = (0, 0);
    }
}

/// Words in front of the RAM and behind it that the device has no business with, and what they hold. That they are as they were is checked
/// when the driver goes.
const MARGIN: usize = 128;
const UNTOUCHED: u64 = 0xa5a5_a5a5_a5a5_a5a5;

/// A driver and its guest's RAM: the descriptor table, the two rings, and the rest for buffers.
pub struct Driver {
    /// With the margins.
    ram: Arc<Vec<AtomicU64>>,
    /// Words of RAM, without the margins.
    words: usize,
    pub configuration: QueueConfiguration,
    /// The free RAM begins here.
    heap: u64,
    /// `avail.idx`, as the driver last wrote it.
    pub available: u16,
    /// The next used element to take.
    pub used: u16,
}

/// A guest's RAM, without the driver.
pub struct SharedRam {
    ram: Arc<Vec<AtomicU64>>,
    words: usize,
}

impl SharedRam {
    /// The word of the RAM that holds the byte at `offset`, modulo its length.
    pub fn word(&self, offset: u64) -> &AtomicU64 {
        let word = usize::try_from(offset / 8).unwrap() % self.words;
        &self.ram[MARGIN + word]
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let (before, behind) = (&self.ram[..MARGIN], &self.ram[MARGIN + self.words..]);
        let untouched = before.iter().chain(behind).all(|word| word.load(Ordering::Relaxed) == UNTOUCHED);
        assert!(untouched || std::thread::panicking(), "the device wrote outside of the RAM");
    }
}

fn align(address: u64, alignment: u64) -> u64 {
    address.div_ceil(alignment) * alignment
}

impl Driver {
    /// A driver with an empty queue of `size`, and 64 KiB for buffers.
    pub fn new(size: u16, features: RingFeatures) -> Self {
        Self::at(size, features, 0, 1 << 16)
    }

    /// A driver whose rings have come to `index`, with everything answered.
    pub fn at(size: u16, features: RingFeatures, index: u16, room: u64) -> Self {
        let descriptors = RAM;
        let available = descriptors + u64::from(descriptor_table::length(size));
        let used = align(available + u64::from(available_ring::length(size, true)), 4);
        let heap = align(used + u64::from(used_ring::length(size, true)), 64);
        let words = usize::try_from((heap + room - RAM).div_ceil(8)).unwrap();
        let configuration = QueueConfiguration {
            size,
            descriptors: GuestAddress(descriptors),
            available: GuestAddress(available),
            used: GuestAddress(used),
            features,
            next: index,
        };
        let margin = || (0..MARGIN).map(|_| AtomicU64::new(UNTOUCHED));
        let inside = (0..words).map(|_| AtomicU64::new(0));
        let ram = Arc::new(margin().chain(inside).chain(margin()).collect());
        let driver = Self { ram, words, configuration, heap, available: index, used: index };
        driver.u16(available + available_ring::IDX as u64).store(index.to_le(), Ordering::Relaxed);
        driver.u16(used + used_ring::IDX as u64).store(index.to_le(), Ordering::Relaxed);
        driver
    }

    /// The address behind the last byte of RAM.
    pub fn end(&self) -> u64 {
        RAM + 8 * self.words as u64
    }

    /// The host's view of the RAM. It must be dropped before the driver is.
    pub fn memory(&self) -> GuestMemory {
        let mut memory = GuestMemory::new();
        // SAFETY: the vector is one allocation, longer than that, which is never resized and is only referred to as
        // atomics; it lives as long as the driver.
        unsafe { memory.add_region(GuestAddress(RAM), 8 * self.words, self.host(RAM, 1)) }.unwrap();
        memory
    }

    /// The host address of `length` bytes at `address`.
    pub fn host(&self, address: u64, length: usize) -> NonNull<u8> {
        let offset = usize::try_from(address - RAM).unwrap();
        assert!(offset + length <= 8 * self.words);
        NonNull::new(self.ram[MARGIN..].as_ptr().cast_mut().cast::<u8>().wrapping_add(offset)).unwrap()
    }

    /// The RAM, for a thread that writes it behind everybody's back.
    pub fn shared(&self) -> SharedRam {
        SharedRam { ram: self.ram.clone(), words: self.words }
    }

    fn u16(&self, address: u64) -> &AtomicU16 {
        assert!(address.is_multiple_of(2));
        // SAFETY: in the RAM (checked by `host`), aligned, and shared with the device as atomics only.
        unsafe { AtomicU16::from_ptr(self.host(address, 2).as_ptr().cast()) }
    }

    fn u32(&self, address: u64) -> &AtomicU32 {
        assert!(address.is_multiple_of(4));
        // SAFETY: as in `u16`.
        unsafe { AtomicU32::from_ptr(self.host(address, 4).as_ptr().cast()) }
    }

    /// Writes RAM.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        if observed::store_bytes(self.host(address, bytes.len()), bytes) {
            return;
        }
        // SAFETY: in the RAM (checked by `host`); the device does not hold these bytes, or a test wants the race.
        unsafe { self.host(address, bytes.len()).as_ptr().copy_from(bytes.as_ptr(), bytes.len()) };
    }

    /// Reads RAM.
    pub fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        // SAFETY: as in `write`.
        unsafe { bytes.as_mut_ptr().copy_from(self.host(address, length).as_ptr(), length) };
        bytes
    }

    /// RAM for a buffer.
    pub fn buffer(&mut self, length: u64) -> u64 {
        let address = self.heap;
        self.heap = align(self.heap + length, 16);
        assert!(self.heap <= self.end());
        address
    }

    /// Writes entry `index` of the table of descriptors at `table`.
    pub fn entry(&self, table: u64, index: u16, (address, length): (u64, u32), flags: u16, next: u16) {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&address.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&next.to_le_bytes());
        self.write(table + 16 * u64::from(index), &bytes);
    }

    /// Writes entry `index` of the queue's descriptor table.
    pub fn descriptor(&self, index: u16, buffer: (u64, u32), flags: u16, next: u16) {
        self.entry(RAM, index, buffer, flags, next);
    }

    /// Writes a chain of `(buffer, WRITE or 0)` into the table at `table`, from `first` on in order.
    pub fn chain(&self, table: u64, first: u16, buffers: &[((u64, u32), u16)]) {
        for (index, &(buffer, flags)) in (first..).zip(buffers) {
            let last = index == first + u16::try_from(buffers.len()).unwrap() - 1;
            self.entry(table, index, buffer, if last { flags } else { flags | NEXT }, index.wrapping_add(1));
        }
    }

    /// Makes the chain at `head` available; the device does not see it before [`show`](Self::show).
    pub fn stage(&mut self, head: u16) {
        let slot = self.available % self.configuration.size;
        let entry = self.configuration.available.0 + available_ring::entry(slot) as u64;
        self.u16(entry).store(head.to_le(), Ordering::Relaxed);
        self.available = self.available.wrapping_add(1);
    }

    /// Writes `avail.idx`.
    pub fn show(&self) {
        let idx = self.configuration.available.0 + available_ring::IDX as u64;
        self.u16(idx).store(self.available.to_le(), Ordering::Release);
    }

    /// Makes the chain at `head` available.
    pub fn offer(&mut self, head: u16) {
        self.stage(head);
        self.show();
    }

    /// Whether the device wants a kick for the entries from `old` on that were just shown.
    pub fn kick_wanted(&self, old: u16) -> bool {
        fence(Ordering::SeqCst);
        if self.configuration.features.contains(RingFeatures::EVENT_IDX) {
            // Is the entry that avail_event names among old .. available?
            self.avail_event().wrapping_sub(old) < self.available.wrapping_sub(old)
        } else {
            self.used_flags() & used_ring::NO_NOTIFY == 0
        }
    }

    /// `used.flags`.
    pub fn used_flags(&self) -> u16 {
        u16::from_le(self.u16(self.configuration.used.0).load(Ordering::Relaxed))
    }

    /// `used.idx`.
    pub fn used_index(&self) -> u16 {
        let idx = self.configuration.used.0 + used_ring::IDX as u64;
        u16::from_le(self.u16(idx).load(Ordering::Acquire))
    }

    /// `avail_event`, behind the used ring.
    pub fn avail_event(&self) -> u16 {
        let event = self.configuration.used.0 + used_ring::avail_event(self.configuration.size) as u64;
        u16::from_le(self.u16(event).load(Ordering::Relaxed))
    }

    /// Writes `avail.flags`.
    pub fn set_available_flags(&self, flags: u16) {
        self.u16(self.configuration.available.0).store(flags.to_le(), Ordering::Relaxed);
    }

    /// Writes `used_event`, behind the available ring.
    pub fn set_used_event(&self, event: u16) {
        let address =
            self.configuration.available.0 + available_ring::used_event(self.configuration.size) as u64;
        self.u16(address).store(event.to_le(), Ordering::Relaxed);
    }

    /// Takes the next used element: `id`, `len`.
    pub fn take_used(&mut self) -> Option<(u32, u32)> {
        if self.used_index() == self.used {
            return None;
        }
        let slot = self.used % self.configuration.size;
        let element = self.configuration.used.0 + used_ring::entry(slot) as u64;
        self.used = self.used.wrapping_add(1);
        let field = |offset| u32::from_le(self.u32(element + offset).load(Ordering::Relaxed));
        Some((field(0), field(4)))
    }

    /// Asks the device to interrupt, or not to. Returns whether a used element came meanwhile.
    pub fn want_interrupts(&self, wanted: bool) -> bool {
        if !self.configuration.features.contains(RingFeatures::EVENT_IDX) {
            self.set_available_flags(u16::from(!wanted));
        } else if wanted {
            self.set_used_event(self.used);
        }
        fence(Ordering::SeqCst);
        self.used_index() != self.used
    }
}
