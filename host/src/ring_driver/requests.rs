// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests and replies over a [`Ring`]: a slab of buffers, each for one request in flight.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Descriptor, DescriptorFlags, Ring, RingError};
use crate::event::Event;
use crate::shared_memory::SharedMemory;

/// Room for the indirect table of one request, in bytes: 256 descriptors.
const TABLE: u64 = 4096;

/// Why a request got no reply.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The device broke the ring, or the ring has no room.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// All buffers hold requests in flight.
    #[error("all {0} requests are in flight")]
    Busy(usize),
    /// The request or the room for its reply is longer than a buffer.
    #[error("a message of {length} bytes does not fit a buffer of {limit}")]
    TooLong {
        /// The message's.
        length: usize,
        /// The buffer's.
        limit: usize,
    },
    /// The device says that it wrote more than there is room for.
    #[error("the device says it wrote {written} bytes into a buffer of {capacity}")]
    Overrun {
        /// By the used entry.
        written: u32,
        /// Of the buffer.
        capacity: u32,
    },
    /// The process of the device ended.
    #[error("the service VM has ended")]
    Gone,
    /// No reply in time.
    #[error("no reply within {0:?}")]
    Silence(Duration),
    /// An eventfd failed.
    #[error("eventfd: {0}")]
    Event(std::io::Error),
}

impl From<std::io::Error> for RequestError {
    fn from(error: std::io::Error) -> Self {
        Self::Event(error)
    }
}

/// How a message is cut into descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chaining {
    /// Most bytes of one descriptor.
    pub piece: u32,
    /// Whether the descriptors stand in an indirect table.
    pub indirect: bool,
}

impl Default for Chaining {
    /// One descriptor for the request, one for the reply.
    fn default() -> Self {
        Self { piece: u32::MAX, indirect: false }
    }
}

/// A request in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(usize);

/// One buffer of the slab: an indirect table, a request, a reply.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// While in flight: the head of its chain and the room for the reply.
    in_flight: Option<(u16, u32)>,
}

/// Requests over a ring.
#[derive(Debug)]
pub struct Requests {
    ring: Ring,
    memory: Arc<SharedMemory>,
    /// Offset of the first slot.
    start: u64,
    /// Longest message, in bytes.
    limit: u32,
    slots: Vec<Slot>,
    chaining: Chaining,
    kick: Event,
    call: Event,
    device: Option<OwnedFd>,
}

impl Requests {
    /// Requests over `ring`, with up to `count` in flight of up to `limit` bytes each way, in buffers from the
    /// page-aligned offset `start` of `memory` on. `kick` wakes the device; the device signals `call`.
    ///
    /// The memory's offsets are the guest-physical addresses that the device gets.
    ///
    /// # Panics
    /// If the buffers leave the memory.
    #[must_use]
    pub fn new(
        ring: Ring,
        memory: Arc<SharedMemory>,
        start: u64,
        count: usize,
        limit: u32,
        kick: Event,
        call: Event,
    ) -> Self {
        let slots = vec![Slot { in_flight: None }; count];
        let requests = Self {
            ring,
            memory,
            start,
            limit,
            slots,
            chaining: Chaining::default(),
            kick,
            call,
            device: None,
        };
        let end = requests.slot(count);
        assert!(end <= requests.memory.size(), "{count} buffers end at {end:#x}, behind the memory");
        requests
    }

    /// Watches the process behind `device`, a pidfd: when it ends, waiting ends.
    pub fn watch(&mut self, device: OwnedFd) {
        self.device = Some(device);
    }

    /// Cuts the messages of later requests so.
    pub fn set_chaining(&mut self, chaining: Chaining) {
        self.chaining = chaining;
    }

    /// The longest message, in bytes.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Raw access to the ring.
    pub fn ring(&mut self) -> &mut Ring {
        &mut self.ring
    }

    /// Raw access to the kick eventfd.
    #[must_use]
    pub fn kick_event(&self) -> &Event {
        &self.kick
    }

    /// Waits for another eventfd from now on.
    pub fn set_call(&mut self, call: Event) {
        self.call = call;
    }

    fn area(&self) -> u64 {
        u64::from(self.limit).next_multiple_of(4096)
    }

    fn slot(&self, index: usize) -> u64 {
        self.start + index as u64 * (TABLE + 2 * self.area())
    }

    /// Makes `request` available with room for a reply of `capacity` bytes. The device learns of it with [`Requests::kick`].
    ///
    /// # Errors
    /// [`RequestError::Busy`], [`RequestError::TooLong`], [`RequestError::Ring`].
    pub fn submit(&mut self, request: &[u8], capacity: u32) -> Result<Token, RequestError> {
        let limit = self.limit as usize;
        let longest = request.len().max(capacity as usize);
        if longest > limit {
            return Err(RequestError::TooLong { length: longest, limit });
        }
        let index = self.slots.iter().position(|slot| slot.in_flight.is_none());
        let index = index.ok_or(RequestError::Busy(self.slots.len()))?;
        let table = self.slot(index);
        let (request_at, reply_at) = (table + TABLE, table + TABLE + self.area());
        self.memory.write(request_at, request);
        let mut chain = self.pieces(request_at, request.len() as u64, DescriptorFlags::default());
        chain.extend(self.pieces(reply_at, capacity.into(), DescriptorFlags::WRITE));
        if self.chaining.indirect {
            chain = vec![self.write_table(table, &chain)?];
        }
        let head = self.ring.add(&chain)?;
        self.slots[index].in_flight = Some((head, capacity));
        Ok(Token(index))
    }

    /// The `length` bytes at `addr` as descriptors.
    fn pieces(&self, addr: u64, length: u64, flags: DescriptorFlags) -> Vec<Descriptor> {
        let piece = u64::from(self.chaining.piece.max(1));
        (0..length)
            .step_by(usize::try_from(piece).unwrap_or(usize::MAX))
            .map(|offset| {
                let len = u32::try_from(piece.min(length - offset)).unwrap_or(u32::MAX);
                Descriptor { addr: addr + offset, len, flags, next: 0 }
            })
            .collect()
    }

    /// Writes `chain` as an indirect table; returns the descriptor that stands for it.
    fn write_table(&self, table: u64, chain: &[Descriptor]) -> Result<Descriptor, RequestError> {
        let length = 16 * chain.len();
        if length as u64 > TABLE {
            return Err(RequestError::TooLong { length, limit: TABLE as usize });
        }
        for (position, descriptor) in chain.iter().enumerate() {
            let mut descriptor = *descriptor;
            if position + 1 < chain.len() {
                descriptor.flags = descriptor.flags.and(DescriptorFlags::NEXT);
                descriptor.next = u16::try_from(position + 1).unwrap_or(u16::MAX);
            }
            self.memory.write(table + 16 * position as u64, &descriptor.encode());
        }
        let len = u32::try_from(length).unwrap_or(u32::MAX);
        Ok(Descriptor { addr: table, len, flags: DescriptorFlags::INDIRECT, next: 0 })
    }

    /// Publishes what was submitted, and kicks the device if it wants that.
    ///
    /// # Errors
    /// [`RequestError::Event`].
    pub fn kick(&mut self) -> Result<(), RequestError> {
        if self.ring.publish() {
            self.kick.signal()?;
        }
        Ok(())
    }

    /// The next reply that is there.
    ///
    /// # Errors
    /// [`RequestError::Ring`], [`RequestError::Overrun`].
    pub fn collect(&mut self) -> Result<Option<(Token, Vec<u8>)>, RequestError> {
        let Some((head, written)) = self.ring.take_used()? else { return Ok(None) };
        let found = self.slots.iter_mut().enumerate().find_map(|(index, slot)| {
            let (_, capacity) = slot.in_flight.take_if(|(of_slot, _)| *of_slot == head)?;
            Some((index, capacity))
        });
        // A chain that was put into the ring past this slab has no slot.
        let (index, capacity) = found.ok_or(RingError::UsedHead(head.into()))?;
        if written > capacity {
            return Err(RequestError::Overrun { written, capacity });
        }
        let reply = self.memory.bytes(self.slot(index) + TABLE + self.area(), written as usize);
        Ok(Some((Token(index), reply)))
    }

    /// Waits for the next reply, for at most `limit`.
    ///
    /// # Errors
    /// [`RequestError::Silence`], [`RequestError::Gone`], and those of [`Requests::collect`].
    pub fn wait(&mut self, limit: Duration) -> Result<(Token, Vec<u8>), RequestError> {
        let end = Instant::now() + limit;
        loop {
            if let Some(reply) = self.collect()? {
                return Ok(reply);
            }
            if !self.ring.arm() && !self.sleep(end)? {
                return self.collect()?.ok_or(RequestError::Silence(limit));
            }
        }
    }

    /// Sleeps until the device calls; `false` if it did not by `end`.
    fn sleep(&self, end: Instant) -> Result<bool, RequestError> {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        let mut wakers = vec![PollFd::new(&self.call, PollFlags::IN)];
        wakers.extend(self.device.as_ref().map(|device| PollFd::new(device, PollFlags::IN)));
        match poll(&mut wakers, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(true),
            result => result.map_err(std::io::Error::from)?,
        };
        let called = !wakers[0].revents().is_empty();
        let ended = wakers.get(1).is_some_and(|waker| !waker.revents().is_empty());
        if called {
            self.call.take()?;
        } else if ended {
            return Err(RequestError::Gone);
        }
        Ok(called)
    }

    /// Sends one request with room for a reply of `capacity` bytes and waits for it, for at most `limit`. Replies to other requests are dropped.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn exchange(
        &mut self,
        request: &[u8],
        capacity: u32,
        limit: Duration,
    ) -> Result<Vec<u8>, RequestError> {
        let token = self.submit(request, capacity)?;
        self.kick()?;
        loop {
            let (of, reply) = self.wait(limit)?;
            if of == token {
                return Ok(reply);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring_driver::{Layout, features};
    use std::sync::atomic::Ordering;

    const LIMIT: Duration = Duration::from_secs(5);

    fn requests(negotiated: u64) -> (Arc<SharedMemory>, Requests) {
        let memory = Arc::new(SharedMemory::new("test", 1 << 17).unwrap());
        let (layout, end) = Layout::packed_at(0, 16);
        let ring = Ring::new(memory.clone(), layout, negotiated);
        let event = || Event::new().unwrap();
        (memory.clone(), Requests::new(ring, memory, end, 2, 4096, event(), event()))
    }

    /// Returns the chain `head` with a reply, as a device would.
    fn answer(
        memory: &SharedMemory,
        requests: &Requests,
        position: u16,
        head: u32,
        token: Token,
        reply: &[u8],
    ) {
        let layout = requests.ring.layout();
        memory.write(requests.slot(token.0) + TABLE + requests.area(), reply);
        let entry = layout.used + 4 + 8 * u64::from(position);
        memory.write(entry, &head.to_le_bytes());
        memory.write(entry + 4, &u32::try_from(reply.len()).unwrap().to_le_bytes());
        memory.store(layout.used + 2, position + 1, Ordering::Release);
    }

    #[test]
    fn replies_find_their_requests_in_any_order() {
        let (memory, mut requests) = requests(features::EVENT_IDX);
        let first = requests.submit(b"one", 100).unwrap();
        let second = requests.submit(b"two", 100).unwrap();
        assert!(matches!(requests.submit(b"three", 100), Err(RequestError::Busy(2))));
        requests.kick().unwrap();
        assert_eq!(requests.kick_event().take().unwrap(), 1, "one kick for both");
        answer(&memory, &requests, 0, 2, second, b"reply two");
        answer(&memory, &requests, 1, 0, first, b"reply one");
        assert_eq!(requests.wait(LIMIT).unwrap(), (second, b"reply two".to_vec()));
        assert_eq!(requests.wait(LIMIT).unwrap(), (first, b"reply one".to_vec()));
        assert!(matches!(requests.wait(Duration::from_millis(1)), Err(RequestError::Silence(_))));
    }

    #[test]
    fn a_message_is_cut_into_pieces_in_a_table_or_out_of_it() {
        let (memory, mut requests) = requests(features::INDIRECT_DESC);
        requests.set_chaining(Chaining { piece: 4, indirect: false });
        requests.submit(b"0123456789", 8).unwrap();
        assert_eq!(requests.ring.free(), 16 - 5);
        requests.set_chaining(Chaining { piece: 4, indirect: true });
        let token = requests.submit(b"0123456789", 8).unwrap();
        assert_eq!(requests.ring.free(), 16 - 6);
        let table = memory.bytes(requests.slot(token.0), 16 * 5);
        let lengths: Vec<u8> = table.chunks(16).map(|descriptor| descriptor[8]).collect();
        let flags: Vec<u8> = table.chunks(16).map(|descriptor| descriptor[12]).collect();
        assert_eq!((lengths, flags), (vec![4, 4, 2, 4, 4], vec![1, 1, 1, 3, 2]));
    }

    #[test]
    fn a_device_that_claims_to_have_written_too_much_is_an_error() {
        let (memory, mut requests) = requests(0);
        let token = requests.submit(b"one", 4).unwrap();
        requests.kick().unwrap();
        answer(&memory, &requests, 0, 0, token, b"12345");
        assert!(matches!(requests.wait(LIMIT), Err(RequestError::Overrun { written: 5, capacity: 4 })));
    }

    #[test]
    fn waiting_ends_when_the_device_does() {
        let (_, mut requests) = requests(0);
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        requests.watch(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap());
        requests.submit(b"one", 4).unwrap();
        assert!(matches!(requests.wait(LIMIT), Err(RequestError::Gone)));
        child.wait().unwrap();
    }
}
