// SPDX-License-Identifier: MIT OR Apache-2.0

//! The split virtqueue, device side (virtio 1.3, section 2.7).

use core::sync::atomic::Ordering;

use super::chain::{self, Chain, Token};
use super::desc::{available_ring, descriptor_table, used_ring};
use super::notify::need_event;
use super::{Area, Fault, QueueConfiguration, Ring, RingFeatures, check_alignment, placement};
use crate::mem::access::{AtomicU16, fence};
use crate::mem::guest::{Fields, GuestMemory, Structure};
use crate::mem::scatter::ScatterList;

/// A split virtqueue.
///
/// Each method is given the guest's memory and finds the rings in it, so the memory may change between two calls; a ring that is
/// no longer there is a fault.
#[derive(Debug)]
pub struct SplitQueue {
    size: u16,
    /// It is copied out, so where it is in the mapping does not matter.
    descriptors: Structure<1>,
    available: Structure<{ available_ring::ALIGNMENT }>,
    used: Structure<{ used_ring::ALIGNMENT }>,
    indirect: bool,
    event_idx: bool,
    /// The next entry of the available ring to take.
    next: u16,
    /// `avail.idx` when it was last read and found to be possible: entries before it may be taken.
    available_index: u16,
    /// The entry of the used ring that the next chain is staged in.
    staged: u16,
    /// `used.idx`, as this side last wrote it.
    published: u16,
    /// Whether the driver is known to have been told of everything that is published.
    told: bool,
}

fn load(field: &AtomicU16, order: Ordering) -> u16 {
    u16::from_le(field.load(order))
}

fn store(field: &AtomicU16, value: u16, order: Ordering) {
    field.store(value.to_le(), order);
}

impl SplitQueue {
    /// Checks a configuration and takes up the queue that it describes.
    ///
    /// The queue goes on after `used.idx` as found in memory, and with the entry `next` of the available ring. Those
    /// are equal, unless some other device left requests unanswered; their answers are not awaited here. After a
    /// device died without telling its position, `used.idx` is that position, because chains are answered in order.
    ///
    /// What an earlier device published it may not have notified, and may have left kicks suppressed: the first
    /// [`publish`](Ring::publish) asks for a notification in any case, and kicks come after the first
    /// [`arm`](Ring::arm). So begin with a pass over the queue; do not wait for a kick.
    ///
    /// # Errors
    /// [`Fault::Legacy`], [`Fault::Size`], [`Fault::Alignment`], [`Fault::Placement`], [`Fault::Resume`].
    pub fn new(memory: &GuestMemory, configuration: &QueueConfiguration) -> Result<Self, Fault> {
        let QueueConfiguration { size, descriptors, available, used, features, next } = *configuration;
        if !features.contains(RingFeatures::VERSION_1) {
            return Err(Fault::Legacy);
        }
        if !size.is_power_of_two() || size < 2 {
            return Err(Fault::Size { size });
        }
        check_alignment(Area::Descriptors, descriptors, descriptor_table::ALIGNMENT)?;
        check_alignment(Area::Available, available, available_ring::ALIGNMENT)?;
        check_alignment(Area::Used, used, used_ring::ALIGNMENT)?;
        let event_idx = features.contains(RingFeatures::EVENT_IDX);
        let mut queue = Self {
            size,
            descriptors: Structure::new(descriptors, descriptor_table::length(size)),
            available: Structure::new(available, available_ring::length(size, event_idx)),
            used: Structure::new(used, used_ring::length(size, event_idx)),
            indirect: features.contains(RingFeatures::INDIRECT_DESC),
            event_idx,
            next,
            available_index: next,
            staged: 0,
            published: 0,
            told: false,
        };
        queue.descriptor_table(memory)?;
        queue.available_ring(memory)?.u16_at(available_ring::IDX).map_err(placement(Area::Available))?;
        let ring = queue.used_ring(memory)?;
        ring.u32_at(used_ring::entry(0)).map_err(placement(Area::Used))?;
        // Relaxed: only a device writes `used.idx`, and the one before this one has stopped.
        let used = load(ring.u16_at(used_ring::IDX).map_err(placement(Area::Used))?, Ordering::Relaxed);
        if next.wrapping_sub(used) > size {
            return Err(Fault::Resume { next, used, size });
        }
        (queue.staged, queue.published) = (used, used);
        Ok(queue)
    }

    #[inline(always)]
    fn descriptor_table<'m>(&mut self, memory: &'m GuestMemory) -> Result<Fields<'m, 1>, Fault> {
        memory.structure(&mut self.descriptors).map_err(placement(Area::Descriptors))
    }

    #[inline(always)]
    fn available_ring<'m>(
        &mut self,
        memory: &'m GuestMemory,
    ) -> Result<Fields<'m, { available_ring::ALIGNMENT }>, Fault> {
        memory.structure(&mut self.available).map_err(placement(Area::Available))
    }

    #[inline(always)]
    fn used_ring<'m>(
        &mut self,
        memory: &'m GuestMemory,
    ) -> Result<Fields<'m, { used_ring::ALIGNMENT }>, Fault> {
        memory.structure(&mut self.used).map_err(placement(Area::Used))
    }

    /// The field of the available ring at `offset`.
    #[inline(always)]
    fn available_field<'m>(
        &mut self,
        memory: &'m GuestMemory,
        offset: usize,
    ) -> Result<&'m AtomicU16, Fault> {
        self.available_ring(memory)?.u16_at(offset).map_err(placement(Area::Available))
    }

    /// The field of the used ring at `offset`.
    #[inline(always)]
    fn used_field<'m>(&mut self, memory: &'m GuestMemory, offset: usize) -> Result<&'m AtomicU16, Fault> {
        self.used_ring(memory)?.u16_at(offset).map_err(placement(Area::Used))
    }

    /// The index of an entry, as an offset into a ring.
    #[inline]
    fn slot(&self, index: u16) -> u16 {
        index & self.size.wrapping_sub(1)
    }

    /// Reads `avail.idx`; returns whether there is an entry to take.
    #[inline(always)]
    fn look(&mut self, memory: &GuestMemory) -> Result<bool, Fault> {
        // Acquire: what the driver wrote before it moved `avail.idx` (ring entries, descriptors, buffers) is read after
        // it. Pairs with the write barrier that the driver has before it writes `avail.idx` (section 2.7.13.3).
        let index = load(self.available_field(memory, available_ring::IDX)?, Ordering::Acquire);
        if index.wrapping_sub(self.next) > self.size {
            return Err(Fault::AvailableIndex { next: self.next, index, size: self.size });
        }
        self.available_index = index;
        Ok(index != self.next)
    }
}

impl Ring for SplitQueue {
    #[inline(always)]
    fn has_available(&mut self, memory: &GuestMemory) -> Result<bool, Fault> {
        Ok(self.next != self.available_index || self.look(memory)?)
    }

    #[inline(always)]
    fn pop<'a>(
        &mut self,
        memory: &'a GuestMemory,
        list: &'a mut ScatterList,
    ) -> Result<Option<Chain<'a>>, Fault> {
        if !self.has_available(memory)? {
            return Ok(None);
        }
        // Relaxed: `look` acquired this entry.
        let entry = self.available_field(memory, available_ring::entry(self.slot(self.next)))?;
        let head = load(entry, Ordering::Relaxed);
        if head >= self.size {
            return Err(Fault::Head { head, size: self.size });
        }
        let table = self.descriptor_table(memory)?;
        let buffers = chain::walk(list, memory, table.slice(), head, self.indirect)?;
        self.next = self.next.wrapping_add(1);
        Ok(Some(Chain { token: Token { id: head, places: 1 }, buffers }))
    }

    #[inline(always)]
    fn push(&mut self, memory: &GuestMemory, token: Token, written: u32) -> Result<(), Fault> {
        let ring = self.used_ring(memory)?;
        let element = used_ring::entry(self.slot(self.staged));
        let field = |offset| ring.u32_at(offset).map_err(placement(Area::Used));
        // The field behind first: where that is, this is.
        let (len, id) = (field(element.wrapping_add(used_ring::LEN))?, field(element)?);
        // Relaxed: the store of `used.idx` in `publish` releases both, and the buffers.
        id.store(u32::from(token.id).to_le(), Ordering::Relaxed);
        len.store(written.to_le(), Ordering::Relaxed);
        self.staged = self.staged.wrapping_add(1);
        Ok(())
    }

    #[inline(always)]
    fn publish(&mut self, memory: &GuestMemory) -> Result<bool, Fault> {
        let (old, new) = (self.published, self.staged);
        if old != new {
            // Release: the used elements and the buffers are there before `used.idx` says so. Pairs with the read
            // barrier that the driver has after it has read `used.idx` (section 2.7.14).
            store(self.used_field(memory, used_ring::IDX)?, new, Ordering::Release);
            self.published = new;
        } else if self.told {
            return Ok(false);
        }
        // `used.idx` is written before the driver's wish is read. Pairs with the full barrier that the driver has after
        // it has asked to be notified, before it looks at `used.idx` once more: one of the two sees the other.
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            let event = self.available_field(memory, available_ring::used_event(self.size))?;
            need_event(load(event, Ordering::Relaxed), new, old)
        } else {
            let flags = self.available_field(memory, available_ring::FLAGS)?;
            load(flags, Ordering::Relaxed) & available_ring::NO_INTERRUPT == 0
        };
        let told = core::mem::replace(&mut self.told, true);
        Ok(wanted || !told)
    }

    #[inline(always)]
    fn disarm(&mut self, memory: &GuestMemory) -> Result<(), Fault> {
        // Under `EVENT_IDX` the driver kicks when it passes `avail_event`; the one that is there stays behind.
        if !self.event_idx {
            // Relaxed: nothing depends on when the driver sees it.
            store(self.used_field(memory, used_ring::FLAGS)?, used_ring::NO_NOTIFY, Ordering::Relaxed);
        }
        Ok(())
    }

    fn arm(&mut self, memory: &GuestMemory) -> Result<bool, Fault> {
        if self.event_idx {
            let event = self.used_field(memory, used_ring::avail_event(self.size))?;
            store(event, self.next, Ordering::Relaxed);
        } else {
            store(self.used_field(memory, used_ring::FLAGS)?, 0, Ordering::Relaxed);
        }
        // The wish is written before `avail.idx` is read. Pairs with the full barrier that the driver has after it has
        // written `avail.idx`, before it reads the wish (section 2.7.13.4.1): one of the two sees the other.
        fence(Ordering::SeqCst);
        self.look(memory)
    }

    fn position(&self) -> u16 {
        self.next
    }
}

#[cfg(test)]
mod arithmetic;
#[cfg(test)]
mod tests;
