// SPDX-License-Identifier: MIT OR Apache-2.0

//! A split virtqueue as its driver sees it. Names of fields are those of virtio 1.3, section 2.7.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use crate::shared_memory::SharedMemory;

/// Feature bits that matter to a ring.
pub mod features {
    /// `VIRTIO_F_INDIRECT_DESC`.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// `VIRTIO_F_EVENT_IDX`.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// `VIRTIO_F_VERSION_1`.
    pub const VERSION_1: u64 = 1 << 32;
    /// `VIRTIO_F_RING_PACKED`. The driver here has split rings only.
    pub const RING_PACKED: u64 = 1 << 34;
}

/// `VIRTQ_USED_F_NO_NOTIFY`: the device wants no kick. (Without `EVENT_IDX`.)
const NO_NOTIFY: u16 = 1;

/// Length of a descriptor in bytes.
const DESCRIPTOR: u64 = 16;

/// The `flags` of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DescriptorFlags(pub u16);

impl DescriptorFlags {
    /// `VIRTQ_DESC_F_NEXT`: `next` names the next descriptor of the chain.
    pub const NEXT: Self = Self(1);
    /// `VIRTQ_DESC_F_WRITE`: the device writes to the buffer.
    pub const WRITE: Self = Self(2);
    /// `VIRTQ_DESC_F_INDIRECT`: the buffer is a table of descriptors.
    pub const INDIRECT: Self = Self(4);

    /// The flags of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A descriptor: a buffer of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Descriptor {
    /// Guest-physical address of the buffer.
    pub addr: u64,
    /// Its length in bytes.
    pub len: u32,
    /// What it is.
    pub flags: DescriptorFlags,
    /// The next descriptor, if `flags` says so.
    pub next: u16,
}

impl Descriptor {
    /// The 16 bytes of `struct virtq_desc`.
    #[must_use]
    pub fn encode(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.addr.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.0.to_le_bytes());
        bytes[14..].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }

    /// The same bytes as two little-endian words.
    #[must_use]
    pub fn words(&self) -> [u64; 2] {
        let rest = u64::from(self.len) | u64::from(self.flags.0) << 32 | u64::from(self.next) << 48;
        [self.addr, rest]
    }
}

/// Where a ring lies: offsets into the shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Entries: a power of two, 2…32768.
    pub size: u16,
    /// The descriptor table, `16 * size` bytes.
    pub desc: u64,
    /// The available ring, `6 + 2 * size` bytes.
    pub avail: u64,
    /// The used ring, `6 + 8 * size` bytes.
    pub used: u64,
}

impl Layout {
    /// Three areas one after the other, from the page-aligned `start` on. Returns the first offset behind them, on a page.
    #[must_use]
    pub fn packed_at(start: u64, size: u16) -> (Self, u64) {
        let entries = u64::from(size);
        let avail = start + DESCRIPTOR * entries;
        let used = (avail + 6 + 2 * entries).next_multiple_of(4096);
        let end = (used + 6 + 8 * entries).next_multiple_of(4096);
        (Self { size, desc: start, avail, used }, end)
    }

    fn avail_idx(&self) -> u64 {
        self.avail + 2
    }
    fn avail_entry(&self, index: u16) -> u64 {
        self.avail + 4 + 2 * u64::from(index % self.size)
    }
    fn used_event(&self) -> u64 {
        self.avail + 4 + 2 * u64::from(self.size)
    }
    fn used_flags(&self) -> u64 {
        self.used
    }
    fn used_idx(&self) -> u64 {
        self.used + 2
    }
    fn used_entry(&self, index: u16) -> u64 {
        self.used + 4 + 8 * u64::from(index % self.size)
    }
    fn avail_event(&self) -> u64 {
        self.used + 4 + 8 * u64::from(self.size)
    }
}

/// What a device did that no device may do, or what does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Too few descriptors are free.
    #[error("the ring is full: {needed} descriptors needed, {free} free")]
    Full {
        /// For the chain.
        needed: usize,
        /// There are.
        free: usize,
    },
    /// `used.idx` is further ahead than there are chains in flight.
    #[error("the device returned {returned} chains of {in_flight} in flight")]
    UsedIndex {
        /// By `used.idx`.
        returned: u16,
        /// By the driver's count.
        in_flight: u16,
    },
    /// A used entry names no chain in flight.
    #[error("the device returned descriptor {0}, which heads no chain in flight")]
    UsedHead(u32),
}

/// A split virtqueue, seen from its driver.
#[derive(Debug)]
pub struct Ring {
    memory: Arc<SharedMemory>,
    layout: Layout,
    event_idx: bool,
    /// Heads of the free descriptors, last freed last.
    free: Vec<u16>,
    /// For each descriptor that heads a chain in flight: the descriptors of the chain.
    chains: Vec<Option<Vec<u16>>>,
    in_flight: u16,
    /// The next `avail.idx`, of which the device knows after [`Ring::publish`].
    next_avail: u16,
    published: u16,
    /// The used entry to look at next.
    next_used: u16,
}

impl Ring {
    /// A fresh ring at `layout`, of which every byte is zeroed.
    ///
    /// # Panics
    /// If the layout leaves the memory, or its size is no power of two of 2…32768.
    #[must_use]
    pub fn new(memory: Arc<SharedMemory>, layout: Layout, negotiated: u64) -> Self {
        let size = layout.size;
        assert!(size.is_power_of_two() && (2..=32768).contains(&size), "a ring of {size} entries");
        let entries = usize::from(size);
        memory.write(layout.desc, &vec![0; 16 * entries]);
        memory.write(layout.avail, &vec![0; 6 + 2 * entries]);
        memory.write(layout.used, &vec![0; 6 + 8 * entries]);
        Self {
            memory,
            layout,
            event_idx: negotiated & features::EVENT_IDX != 0,
            free: (0..size).rev().collect(),
            chains: vec![None; entries],
            in_flight: 0,
            next_avail: 0,
            published: 0,
            next_used: 0,
        }
    }

    /// Where it lies.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Descriptors that are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Makes `buffers` available as one chain; `flags.NEXT` and `next` are filled in. Returns the chain's head.
    /// The device learns of it with [`Ring::publish`].
    ///
    /// # Errors
    /// [`RingError::Full`].
    pub fn add(&mut self, buffers: &[Descriptor]) -> Result<u16, RingError> {
        let needed = buffers.len();
        if needed == 0 || needed > self.free.len() {
            return Err(RingError::Full { needed, free: self.free.len() });
        }
        let chain: Vec<u16> = self.free.split_off(self.free.len() - needed).into_iter().rev().collect();
        for (position, buffer) in buffers.iter().enumerate() {
            let mut descriptor = *buffer;
            if let Some(&next) = chain.get(position + 1) {
                descriptor.flags = descriptor.flags.and(DescriptorFlags::NEXT);
                descriptor.next = next;
            }
            self.write_descriptor(chain[position], descriptor);
        }
        let head = chain[0];
        self.chains[usize::from(head)] = Some(chain);
        self.in_flight += 1;
        self.offer(head);
        Ok(head)
    }

    /// Raw: writes a descriptor as it is.
    pub fn write_descriptor(&self, index: u16, descriptor: Descriptor) {
        self.memory.write(self.layout.desc + DESCRIPTOR * u64::from(index), &descriptor.encode());
    }

    /// Raw: puts any number into the available ring.
    pub fn offer(&mut self, head: u16) {
        self.memory.write(self.layout.avail_entry(self.next_avail), &head.to_le_bytes());
        self.next_avail = self.next_avail.wrapping_add(1);
    }

    /// Raw: moves `avail.idx` by `distance`, whatever is in the ring.
    pub fn skip(&mut self, distance: u16) {
        self.next_avail = self.next_avail.wrapping_add(distance);
    }

    /// Raw: copies the three parts to `layout`, which is of the same size, and goes on there.
    ///
    /// # Panics
    /// If the layout leaves the memory.
    pub fn relocate(&mut self, layout: Layout) {
        let entries = usize::from(self.layout.size);
        let old = self.layout;
        for (from, to, length) in [
            (old.desc, layout.desc, 16 * entries),
            (old.avail, layout.avail, 6 + 2 * entries),
            (old.used, layout.used, 6 + 8 * entries),
        ] {
            self.memory.write(to, &self.memory.bytes(from, length));
        }
        self.layout = layout;
    }

    /// Publishes what was offered. Returns whether the device wants a kick.
    pub fn publish(&mut self) -> bool {
        let (old, new) = (self.published, self.next_avail);
        // Release: the device's acquire load of `avail.idx` sees the descriptors and entries that were written before.
        self.memory.store(self.layout.avail_idx(), new, Ordering::Release);
        self.published = new;
        // Between the store of `avail.idx` and the load of what suppresses kicks. It pairs with the device's full fence
        // between re-arming (its store of `avail_event` or `used.flags`) and its last look at `avail.idx`: one of the two
        // sides sees the other's store.
        fence(Ordering::SeqCst);
        if self.event_idx {
            let event = self.memory.load(self.layout.avail_event(), Ordering::Relaxed);
            passed(event, new, old)
        } else {
            old != new && self.memory.load(self.layout.used_flags(), Ordering::Relaxed) & NO_NOTIFY == 0
        }
    }

    /// The next chain that the device is done with: its head and how many bytes the device says it wrote.
    ///
    /// # Errors
    /// [`RingError`] if the device broke the ring.
    pub fn take_used(&mut self) -> Result<Option<(u16, u32)>, RingError> {
        // Acquire: pairs with the device's release store of `used.idx`; the entry and the buffers are read after it.
        let used = self.memory.load(self.layout.used_idx(), Ordering::Acquire);
        let returned = used.wrapping_sub(self.next_used);
        if returned == 0 {
            return Ok(None);
        }
        if returned > self.in_flight {
            return Err(RingError::UsedIndex { returned, in_flight: self.in_flight });
        }
        let mut entry = [0; 8];
        self.memory.read(self.layout.used_entry(self.next_used), &mut entry);
        let [i0, i1, i2, i3, l0, l1, l2, l3] = entry;
        let id = u32::from_le_bytes([i0, i1, i2, i3]);
        let head = u16::try_from(id).map_err(|_| RingError::UsedHead(id))?;
        let chain = self.chains.get_mut(usize::from(head)).and_then(Option::take);
        self.free.extend(chain.ok_or(RingError::UsedHead(id))?.into_iter().rev());
        self.in_flight -= 1;
        self.next_used = self.next_used.wrapping_add(1);
        Ok(Some((head, u32::from_le_bytes([l0, l1, l2, l3]))))
    }

    /// Asks for a call on the next used chain. (Without `EVENT_IDX` the driver never asks for none.) Returns whether one was used in the meantime, so that no call will come.
    #[must_use]
    pub fn arm(&mut self) -> bool {
        self.memory.store(self.layout.used_event(), self.next_used, Ordering::Relaxed);
        // Between re-arming and the last look at `used.idx`. It pairs with the device's full fence between its store of
        // `used.idx` and its load of `used_event`: one of the two sides sees the other's store.
        fence(Ordering::SeqCst);
        self.memory.load(self.layout.used_idx(), Ordering::Acquire) != self.next_used
    }
}

/// `vring_need_event`: whether moving an index from `old` to `new` passed `event`.
fn passed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(negotiated: u64) -> (Arc<SharedMemory>, Ring) {
        let memory = Arc::new(SharedMemory::new("test", 1 << 16).unwrap());
        let (layout, end) = Layout::packed_at(4096, 4);
        assert!(end <= memory.size());
        (memory.clone(), Ring::new(memory, layout, negotiated))
    }

    fn buffer(addr: u64, flags: DescriptorFlags) -> Descriptor {
        Descriptor { addr, len: 16, flags, next: 0 }
    }

    /// What a device would do to return a chain.
    fn complete(memory: &SharedMemory, layout: Layout, position: u16, id: u32, written: u32) {
        let entry = layout.used_entry(position);
        memory.write(entry, &id.to_le_bytes());
        memory.write(entry + 4, &written.to_le_bytes());
        memory.store(layout.used_idx(), position.wrapping_add(1), Ordering::Release);
    }

    #[test]
    fn a_chain_is_linked_in_memory_as_the_specification_has_it() {
        let (memory, mut ring) = ring(features::VERSION_1);
        let layout = ring.layout();
        let head = ring
            .add(&[buffer(0x1000, DescriptorFlags::default()), buffer(0x2000, DescriptorFlags::WRITE)])
            .unwrap();
        assert_eq!(head, 0);
        assert_eq!(memory.bytes(layout.avail_idx(), 2), [0, 0], "not published yet");
        assert!(ring.publish());
        assert_eq!(memory.bytes(layout.avail, 6), [0, 0, 1, 0, 0, 0]);
        let expected: [u8; 32] = [
            0x00, 0x10, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, //
            0x00, 0x20, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 2, 0, 0, 0,
        ];
        assert_eq!(memory.bytes(layout.desc, 32), expected);
    }

    #[test]
    fn descriptors_come_back_with_their_chain() {
        let (memory, mut ring) = ring(features::VERSION_1);
        let layout = ring.layout();
        for round in 0..10u16 {
            let one = [buffer(0, DescriptorFlags::default()); 3];
            let head = ring.add(&one).unwrap();
            assert_eq!(ring.add(&one), Err(RingError::Full { needed: 3, free: 1 }));
            ring.publish();
            assert_eq!(ring.take_used(), Ok(None));
            complete(&memory, layout, round, head.into(), 7);
            assert_eq!(ring.take_used(), Ok(Some((head, 7))));
            assert_eq!(ring.free(), 4);
        }
    }

    #[test]
    fn a_device_that_returns_what_it_does_not_have_is_an_error() {
        let (memory, mut ring) = ring(features::VERSION_1);
        let layout = ring.layout();
        ring.add(&[buffer(0, DescriptorFlags::default())]).unwrap();
        ring.publish();
        for wrong in [1, 4, 0x1_0000] {
            complete(&memory, layout, 0, wrong, 0);
            assert_eq!(ring.take_used(), Err(RingError::UsedHead(wrong)));
        }
        memory.store(layout.used_idx(), 2, Ordering::Relaxed);
        assert_eq!(ring.take_used(), Err(RingError::UsedIndex { returned: 2, in_flight: 1 }));
    }

    #[test]
    fn the_device_can_ask_for_no_kick() {
        let (memory, mut ring) = ring(features::VERSION_1);
        memory.store(ring.layout().used_flags(), NO_NOTIFY, Ordering::Relaxed);
        ring.add(&[buffer(0, DescriptorFlags::default())]).unwrap();
        assert!(!ring.publish());
    }

    #[test]
    fn with_event_idx_a_kick_is_due_when_avail_event_is_passed() {
        let (memory, mut ring) = ring(features::VERSION_1 | features::EVENT_IDX);
        memory.store(ring.layout().avail_event(), 1, Ordering::Relaxed);
        ring.add(&[buffer(0, DescriptorFlags::default())]).unwrap();
        assert!(!ring.publish(), "0 to 1 does not pass 1");
        ring.add(&[buffer(0, DescriptorFlags::default())]).unwrap();
        assert!(ring.publish(), "1 to 2 does");
        assert!(!ring.publish(), "nothing new");
    }

    #[test]
    fn arming_tells_of_a_chain_that_came_before_it() {
        let (memory, mut ring) = ring(features::VERSION_1 | features::EVENT_IDX);
        let head = ring.add(&[buffer(0, DescriptorFlags::default())]).unwrap();
        ring.publish();
        assert!(!ring.arm());
        complete(&memory, ring.layout(), 0, head.into(), 0);
        assert!(ring.arm());
        ring.take_used().unwrap();
        assert!(!ring.arm());
        assert_eq!(memory.load(ring.layout().used_event(), Ordering::Relaxed), 1);
    }

    #[test]
    fn passing_an_event_works_across_the_wrap() {
        assert!(passed(0xffff, 0, 0xffff));
        assert!(!passed(0, 0, 0xffff));
        assert!(passed(0xfffe, 2, 0xfffe));
        assert!(!passed(5, 5, 5));
    }
}
