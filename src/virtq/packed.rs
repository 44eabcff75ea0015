// SPDX-License-Identifier: MIT OR Apache-2.0

//! The packed virtqueue, device side (virtio 1.3, section 2.8).
//!
//! One ring of descriptors serves both directions. The driver makes a descriptor available in its place in the ring by its flags; the
//! device writes a used one over the first descriptor of each chain that it has answered, in the order of its answers. Each side
//! counts its laps by a bit, the *wrap counter*, and marks with it what it writes: so each tells by the flags of the
//! one descriptor at its place whether there is something new, without an index to read.
//!
//! Here chains are answered in the order in which they are taken, and all of a pass are shown at once: the flags of the first are written
//! last.

use core::sync::atomic::Ordering;

use super::chain::{self, Chain, Token};
use super::desc::{descriptor_ring, event_suppression};
use super::notify::need_event;
use super::{Area, Fault, QueueConfiguration, Ring, RingFeatures, check_alignment, placement};
use crate::mem::access::{AtomicU16, AtomicU32, fence};
use crate::mem::guest::{Fields, GuestMemory, Structure};
use crate::mem::scatter::ScatterList;

/// The largest queue.
const MAX_SIZE: u16 = 1 << 15;
/// The bit of a position that is the wrap counter, where it is told as a number.
const WRAP: u16 = 1 << 15;

/// A place in the ring, and the wrap counter there: how either side counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    /// Below the queue size.
    index: u16,
    wrap: bool,
}

impl Position {
    /// As it is told: the index, and the wrap counter in the highest bit (`GET_VRING_BASE`; `off_wrap`).
    fn from_number(number: u16) -> Self {
        Self { index: number & !WRAP, wrap: number & WRAP != 0 }
    }

    fn number(self) -> u16 {
        self.index | if self.wrap { WRAP } else { 0 }
    }

    /// `count` places further, at most `size`.
    #[inline]
    fn advanced(self, count: u16, size: u16) -> Self {
        // Both are at most 2^15.
        let index = self.index.wrapping_add(count);
        if index >= size {
            Self { index: index.wrapping_sub(size), wrap: !self.wrap }
        } else {
            Self { index, ..self }
        }
    }

    /// The marks of a descriptor that was used here.
    fn used_marks(self) -> u16 {
        if self.wrap { descriptor_ring::AVAILABLE | descriptor_ring::USED } else { 0 }
    }

    /// Whether flags with these marks are those of a descriptor that was made available here.
    fn is_available(self, flags: u16) -> bool {
        let marks = flags & (descriptor_ring::AVAILABLE | descriptor_ring::USED);
        marks == if self.wrap { descriptor_ring::AVAILABLE } else { descriptor_ring::USED }
    }
}

/// A packed virtqueue.
///
/// Each method is given the guest's memory and finds the ring in it, so the memory may change between two calls; a ring that is
/// no longer there is a fault.
#[derive(Debug)]
pub struct PackedQueue {
    size: u16,
    ring: Structure<{ descriptor_ring::ALIGNMENT }>,
    driver_event: Structure<{ event_suppression::ALIGNMENT }>,
    device_event: Structure<{ event_suppression::ALIGNMENT }>,
    indirect: bool,
    event_idx: bool,
    /// Where the next chain begins.
    next: Position,
    /// Where the next used descriptor is written.
    staged: Position,
    /// Places that were staged since the last publication.
    unpublished: u16,
    /// The first used descriptor that was staged since then: its place, and its flags, which are not written yet.
    first: Option<(u16, u16)>,
    /// Whether the driver is known to have been told of everything that is published.
    told: bool,
}

impl PackedQueue {
    /// Checks a configuration and takes up the queue that it describes. `descriptors` is the descriptor ring, `available` the driver's
    /// event suppression structure, `used` the device's.
    ///
    /// The queue goes on at the position `next`: `0x8000` for a queue that was just set up, since both wrap counters begin with 1. What
    /// was taken before has been answered.
    ///
    /// As for [`SplitQueue::new`](super::SplitQueue::new), the first [`publish`](Ring::publish) asks for a notification in any case,
    /// and kicks come after the first [`arm`](Ring::arm). So begin with a pass over the queue; do not wait for a kick.
    ///
    /// # Errors
    /// [`Fault::Legacy`], [`Fault::PackedSize`], [`Fault::Alignment`], [`Fault::Placement`], [`Fault::PackedResume`].
    pub fn new(memory: &GuestMemory, configuration: &QueueConfiguration) -> Result<Self, Fault> {
        let QueueConfiguration { size, descriptors, available, used, features, next } = *configuration;
        if !features.contains(RingFeatures::VERSION_1) {
            return Err(Fault::Legacy);
        }
        if size == 0 || size > MAX_SIZE {
            return Err(Fault::PackedSize { size });
        }
        check_alignment(Area::Descriptors, descriptors, descriptor_ring::ALIGNMENT)?;
        check_alignment(Area::DriverEvent, available, event_suppression::ALIGNMENT)?;
        check_alignment(Area::DeviceEvent, used, event_suppression::ALIGNMENT)?;
        let position = Position::from_number(next);
        if position.index >= size {
            return Err(Fault::PackedResume { next, size });
        }
        let mut queue = Self {
            size,
            ring: Structure::new(descriptors, descriptor_ring::length(size)),
            driver_event: Structure::new(available, event_suppression::LENGTH),
            device_event: Structure::new(used, event_suppression::LENGTH),
            indirect: features.contains(RingFeatures::INDIRECT_DESC),
            event_idx: features.contains(RingFeatures::EVENT_IDX),
            next: position,
            staged: position,
            unpublished: 0,
            first: None,
            told: false,
        };
        queue.flags(memory, 0)?;
        queue.driver_event(memory)?;
        queue.device_event(memory)?;
        Ok(queue)
    }

    #[inline(always)]
    fn ring<'m>(
        &mut self,
        memory: &'m GuestMemory,
    ) -> Result<Fields<'m, { descriptor_ring::ALIGNMENT }>, Fault> {
        memory.structure(&mut self.ring).map_err(placement(Area::Descriptors))
    }

    /// The flags of the descriptor at `index`.
    #[inline(always)]
    fn flags<'m>(&mut self, memory: &'m GuestMemory, index: u16) -> Result<&'m AtomicU16, Fault> {
        let offset = descriptor_ring::entry(index).wrapping_add(descriptor_ring::FLAGS);
        self.ring(memory)?.u16_at(offset).map_err(placement(Area::Descriptors))
    }

    #[inline(always)]
    fn driver_event<'m>(&mut self, memory: &'m GuestMemory) -> Result<&'m AtomicU32, Fault> {
        let failed = placement(Area::DriverEvent);
        memory.structure(&mut self.driver_event).and_then(|structure| structure.u32_at(0)).map_err(failed)
    }

    #[inline(always)]
    fn device_event<'m>(&mut self, memory: &'m GuestMemory) -> Result<&'m AtomicU32, Fault> {
        let failed = placement(Area::DeviceEvent);
        memory.structure(&mut self.device_event).and_then(|structure| structure.u32_at(0)).map_err(failed)
    }

    /// Whether `event` is among the last `passed` places before the one that is staged next.
    fn has_passed(&self, event: Position, passed: u16) -> bool {
        let new = self.staged.index;
        // In numbers that go on where the ring begins anew: the place is of this lap, or of the one before.
        let event =
            if event.wrap == self.staged.wrap { event.index } else { event.index.wrapping_sub(self.size) };
        need_event(event, new, new.wrapping_sub(passed))
    }
}

impl Ring for PackedQueue {
    #[inline(always)]
    fn has_available(&mut self, memory: &GuestMemory) -> Result<bool, Fault> {
        // Acquire: what the driver wrote before it marked the first descriptor of a chain as available (all of its descriptors, its
        // buffers) is read after the mark. Pairs with the write barrier that the driver has before it writes these flags (section
        // 2.8.21).
        let flags = u16::from_le(self.flags(memory, self.next.index)?.load(Ordering::Acquire));
        Ok(self.next.is_available(flags))
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
        let ring = self.ring(memory)?.slice();
        let mut buffers = list.load(memory);
        let token = chain::walk_packed(&mut buffers, ring, self.next.index, self.size, self.indirect)?;
        self.next = self.next.advanced(token.places, self.size);
        Ok(Some(Chain { token, buffers: buffers.finish() }))
    }

    #[inline(always)]
    fn push(&mut self, memory: &GuestMemory, token: Token, written: u32) -> Result<(), Fault> {
        let Position { index, .. } = self.staged;
        let failed = placement(Area::Descriptors);
        let ring = self.ring(memory)?;
        let descriptor = descriptor_ring::entry(index);
        let length = ring.u32_at(descriptor.wrapping_add(descriptor_ring::LEN)).map_err(&failed)?;
        let id = ring.u16_at(descriptor.wrapping_add(descriptor_ring::ID)).map_err(&failed)?;
        // Relaxed, and the flags below as well: the driver looks at these after the flags of the first descriptor of the pass, whose
        // store in `publish` releases them all, and the buffers.
        length.store(written.to_le(), Ordering::Relaxed);
        id.store(token.id.to_le(), Ordering::Relaxed);
        let write = if written > 0 { super::desc::DescriptorFlags::WRITE.bits() } else { 0 };
        let flags = self.staged.used_marks() | write;
        if self.first.is_none() {
            self.first = Some((index, flags));
        } else {
            self.flags(memory, index)?.store(flags.to_le(), Ordering::Relaxed);
        }
        self.staged = self.staged.advanced(token.places, self.size);
        // At most the queue size: there are no more chains than that between two publications.
        self.unpublished = self.unpublished.saturating_add(token.places);
        Ok(())
    }

    #[inline(never)] // Once a pass, and out of the way of split queues.
    fn publish(&mut self, memory: &GuestMemory) -> Result<bool, Fault> {
        let passed = core::mem::take(&mut self.unpublished);
        if let Some((index, flags)) = self.first.take() {
            // Release: all used descriptors and the buffers are there before the first one is marked. Pairs with the read
            // barrier that the driver has after it has read these flags (section 2.8.22).
            self.flags(memory, index)?.store(flags.to_le(), Ordering::Release);
        } else if self.told {
            return Ok(false);
        }
        // The mark is written before the driver's wish is read. Pairs with the full barrier that the driver has after
        // it has asked to be notified, before it looks at the next flags once more: one of the two sees the other.
        fence(Ordering::SeqCst);
        let word = u32::from_le(self.driver_event(memory)?.load(Ordering::Relaxed));
        let (off_wrap, flags) = event_suppression::fields(word);
        let wanted = match flags & event_suppression::FLAGS_MASK {
            event_suppression::DISABLE => false,
            event_suppression::DESCRIPTOR if self.event_idx => {
                self.has_passed(Position::from_number(off_wrap), passed)
            }
            // Everything; and what means nothing is better told once too often.
            _ => true,
        };
        let told = core::mem::replace(&mut self.told, true);
        Ok(wanted || !told)
    }

    #[inline(always)]
    fn disarm(&mut self, memory: &GuestMemory) -> Result<(), Fault> {
        let word = event_suppression::word(0, event_suppression::DISABLE);
        // Relaxed: nothing depends on when the driver sees it.
        self.device_event(memory)?.store(word.to_le(), Ordering::Relaxed);
        Ok(())
    }

    fn arm(&mut self, memory: &GuestMemory) -> Result<bool, Fault> {
        let word = if self.event_idx {
            event_suppression::word(self.next.number(), event_suppression::DESCRIPTOR)
        } else {
            event_suppression::word(0, event_suppression::ENABLE)
        };
        self.device_event(memory)?.store(word.to_le(), Ordering::Relaxed);
        // The wish is written before the flags are read. Pairs with the full barrier that the driver has after it has
        // written the flags, before it reads the wish (section 2.8.21.3): one of the two sees the other.
        fence(Ordering::SeqCst);
        self.has_available(memory)
    }

    fn position(&self) -> u16 {
        self.next.number()
    }
}

#[cfg(test)]
mod arithmetic;
#[cfg(test)]
mod tests;
