// SPDX-License-Identifier: MIT OR Apache-2.0

//! A packed ring, seen from a driver that keeps to no rule (virtio 1.3, sections 2.8.21 and 2.8.22): it writes any descriptor in any
//! place, with any marks. It counts places in numbers that go on where the ring begins anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use skerry_host::ring_driver::{Descriptor, DescriptorFlags, Layout};
use skerry_host::shared_memory::SharedMemory;

use crate::driver::{Buffer, INDIRECT, NEXT};

/// Marks in the flags of a descriptor.
pub const AVAILABLE: DescriptorFlags = DescriptorFlags(1 << 7);
pub const USED: DescriptorFlags = DescriptorFlags(1 << 15);

/// Where a queue of `size` entries is in the client's memory: the descriptor ring; the driver's event suppression structure; the device's.
pub fn layout(size: u16) -> Layout {
    let avail = 4096 + 16 * u64::from(size);
    Layout { size, desc: 4096, avail, used: avail + 4 }
}

/// Where the device begins, as vhost-user tells it: its next chain and its next used descriptor at place 0, both wrap counters 1.
pub const START: u32 = 0x8000_8000;

#[derive(Debug)]
pub struct PackedQueue {
    memory: Arc<SharedMemory>,
    layout: Layout,
    /// Places that were ever made available, and those that came back.
    pub available: u64,
    pub returned: u64,
    /// Places of each chain that the device has. It returns them in the order in which it has taken them.
    in_flight: VecDeque<u16>,
    /// Chains that were written down, by their ids: each offer puts one into the next places.
    chains: BTreeMap<u16, Vec<Buffer>>,
    /// The flags that show what was offered since: the place of each chain's first descriptor, and what goes there.
    staged: Vec<(u64, DescriptorFlags)>,
}

impl PackedQueue {
    /// An empty queue at `layout`, in memory that is zero.
    pub fn new(memory: Arc<SharedMemory>, layout: Layout) -> Self {
        Self {
            memory,
            layout,
            available: 0,
            returned: 0,
            in_flight: VecDeque::new(),
            chains: BTreeMap::new(),
            staged: Vec::new(),
        }
    }

    fn size(&self) -> u64 {
        self.layout.size.into()
    }

    /// The wrap counter at a place: 1 in the first lap.
    fn wrap(&self, place: u64) -> bool {
        (place / self.size()).is_multiple_of(2)
    }

    /// The marks of a descriptor that is made available at a place.
    pub fn marks(&self, place: u64) -> DescriptorFlags {
        if self.wrap(place) { AVAILABLE } else { USED }
    }

    /// A place as an event suppression structure tells it.
    pub fn off_wrap(&self, place: u64) -> u16 {
        u16::try_from(place % self.size()).unwrap() | if self.wrap(place) { 1 << 15 } else { 0 }
    }

    /// Where the descriptor at a place is.
    pub fn descriptor_at(&self, place: u64) -> u64 {
        self.layout.desc + 16 * (place % self.size())
    }

    /// Writes the flags of a descriptor.
    pub fn set_flags(&self, place: u64, flags: DescriptorFlags) {
        // Release: pairs with the device's acquire load; the chain was written before.
        self.memory.store(self.descriptor_at(place) + 14, flags.0, Ordering::Release);
    }

    fn flags(&self, place: u64) -> u16 {
        // Acquire: pairs with the device's release store; the length and the id are read after it.
        self.memory.load(self.descriptor_at(place) + 14, Ordering::Acquire)
    }

    /// Writes all of a descriptor but its flags. (The id stands where a split ring has `next`, and the flags behind it.)
    pub fn write(&self, place: u64, (addr, len, _): Buffer, id: u16) {
        let bytes = Descriptor { addr, len, flags: DescriptorFlags(id), next: 0 }.encode();
        self.memory.write(self.descriptor_at(place), &bytes[..14]);
    }

    /// Puts a chain with this id, whatever marks and flags come with its buffers, into the next places: all but the flags of the first.
    pub fn stage(&mut self, id: u16, buffers: &[Buffer]) {
        for (place, &buffer) in (self.available..).zip(buffers) {
            self.write(place, buffer, id);
            if place == self.available {
                self.staged.push((place, buffer.2));
            } else {
                self.set_flags(place, buffer.2);
            }
        }
        self.in_flight.push_back(u16::try_from(buffers.len()).unwrap());
        self.available += buffers.len() as u64;
    }

    /// The buffers of a chain that begins at the next place, with NEXT and the marks that are due.
    pub fn linked(&self, buffers: &[Buffer]) -> Vec<Buffer> {
        let last = buffers.len() - 1;
        let link = |(position, &(addr, len, flags)): (usize, &Buffer)| {
            let flags = if position < last { flags.and(NEXT) } else { flags };
            (addr, len, flags.and(self.marks(self.available + position as u64)))
        };
        buffers.iter().enumerate().map(link).collect()
    }

    /// Writes a chain down; [`offer`](Self::offer) makes it available.
    pub fn chain(&mut self, id: u16, buffers: &[Buffer]) {
        self.chains.insert(id, buffers.to_vec());
    }

    /// The same, in an indirect table at `table`, which is written at once. Returns the table's length.
    pub fn indirect(&mut self, id: u16, table: u64, buffers: &[Buffer]) -> u32 {
        for (entry, &(addr, len, flags)) in (0..).zip(buffers) {
            let bytes = Descriptor { addr, len, flags: DescriptorFlags(0), next: flags.0 }.encode();
            self.memory.write(table + 16 * entry, &bytes);
        }
        let length = u32::try_from(16 * buffers.len()).unwrap();
        self.chain(id, &[(table, length, INDIRECT)]);
        length
    }

    /// Makes the chain with this id available at the next places; the device sees it with [`show`](Self::show).
    ///
    /// # Panics
    /// If there is none, or no room for it.
    pub fn offer(&mut self, id: u16) {
        let chain = self.linked(&self.chains[&id]);
        assert!(self.room() >= chain.len() as u64, "the ring is full");
        self.stage(id, &chain);
    }

    /// Places that are free.
    pub fn room(&self) -> u64 {
        self.size() - (self.available - self.returned)
    }

    /// Shows what was offered. Returns whether the device wants a kick for it.
    pub fn show(&mut self) -> bool {
        let staged = std::mem::take(&mut self.staged);
        let Some(&(first, _)) = staged.first() else { return false };
        for (place, flags) in staged {
            self.set_flags(place, flags);
        }
        // Between the flags and the load of what suppresses kicks. It pairs with the device's full fence between its store of that and its
        // last look at the flags.
        fence(Ordering::SeqCst);
        let wish = self.memory.load_word(self.layout.used);
        match wish >> 16 & 3 {
            1 => false,
            2 => (first..self.available).any(|place| self.off_wrap(place) == wish as u16),
            _ => true,
        }
    }

    /// Writes the driver's event suppression structure.
    pub fn set_event(&self, off_wrap: u16, flags: u16) {
        self.memory.store(self.layout.avail, off_wrap, Ordering::Relaxed);
        self.memory.store(self.layout.avail + 2, flags, Ordering::Relaxed);
    }

    /// The next chain that the device has returned: its id, and how many bytes it has written.
    pub fn take_used(&mut self) -> Option<(u32, u32)> {
        let due = if self.wrap(self.returned) { AVAILABLE.0 | USED.0 } else { 0 };
        let &places = self.in_flight.front()?;
        if self.flags(self.returned) & (AVAILABLE.0 | USED.0) != due {
            return None;
        }
        let descriptor = self.descriptor_at(self.returned);
        let length = self.memory.load_word(descriptor + 8);
        let id = self.memory.load(descriptor + 12, Ordering::Relaxed);
        self.in_flight.pop_front();
        self.returned += u64::from(places);
        Some((id.into(), length))
    }

    /// Goes back to where the device stands: what it has not returned was never made available.
    pub fn go_back(&mut self) {
        self.available = self.returned;
        self.in_flight.clear();
        self.staged.clear();
    }
}
