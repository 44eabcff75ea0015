// SPDX-License-Identifier: MIT OR Apache-2.0

//! A driver that keeps to no rule: it writes any descriptor and any index, and reads what the device makes of them.
//!
//! Honest requests go over it too, one at a time ([`Transport`]): it knows where they begin to be lies. What is said of chains, by
//! their numbers, is said in the same words for both kinds of rings.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use skerry::wire::{MessageType, parse_r_with_data};
use skerry_host::client::{Transport, TransportError};
use skerry_host::event::Event;
use skerry_host::front_end::Options;
use skerry_host::ring_driver::{Descriptor, DescriptorFlags, Layout, RequestError, Requests, Ring};
use skerry_host::shared_memory::SharedMemory;

use crate::packed_queue::PackedQueue;

/// Where the request of [`Driver::exchange`] is in the client's memory; 2 MiB.
pub const REQUEST: u64 = 2 << 20;
/// Where its reply is; 2 MiB.
pub const REPLY: u64 = 4 << 20;
/// Memory for tables and buffers, to the end. The client's memory is two regions, and this begins with the second.
pub const FREE: u64 = 8 << 20;

/// What the attacker's client looks like: 128 entries, all features. What is in flight is not the front end's business here.
pub const OPTIONS: Options = Options {
    memory: 16 << 20,
    queue_size: 128,
    in_flight: 1,
    longest: 4096,
    features: u64::MAX,
    packed: false,
};

pub const READ: DescriptorFlags = DescriptorFlags(0);
pub const NEXT: DescriptorFlags = DescriptorFlags::NEXT;
pub const WRITE: DescriptorFlags = DescriptorFlags::WRITE;
pub const INDIRECT: DescriptorFlags = DescriptorFlags::INDIRECT;

/// A buffer: its address, its length, and whether the device writes it.
pub type Buffer = (u64, u32, DescriptorFlags);

/// How long a request may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Either kind of a ring.
#[derive(Debug)]
enum Queue {
    Split(Requests),
    Packed(PackedQueue, Event),
}

#[derive(Debug)]
pub struct Driver {
    queue: Queue,
    memory: Arc<SharedMemory>,
    layout: Layout,
    /// The used entry to look at next, of a split ring.
    next_used: u16,
    /// Requests that were answered, and those of them with Rlerror.
    pub answered: u64,
    pub errors: u64,
}

impl Driver {
    pub fn new(mut requests: Requests, memory: Arc<SharedMemory>) -> Self {
        let layout = requests.ring().layout();
        Self { queue: Queue::Split(requests), memory, layout, next_used: 0, answered: 0, errors: 0 }
    }

    /// The driver of an empty packed ring at `layout`, which wakes the device by `kick`.
    pub fn packed(layout: Layout, kick: Event, memory: Arc<SharedMemory>) -> Self {
        let queue = Queue::Packed(PackedQueue::new(memory.clone(), layout), kick);
        Self { queue, memory, layout, next_used: 0, answered: 0, errors: 0 }
    }

    /// The ring, which is a split one.
    fn split_ring(&mut self) -> &mut Ring {
        match &mut self.queue {
            Queue::Split(requests) => requests.ring(),
            Queue::Packed(..) => panic!("the ring is a packed one"),
        }
    }

    /// The ring, which is a packed one.
    pub fn packed_ring(&mut self) -> &mut PackedQueue {
        match &mut self.queue {
            Queue::Packed(ring, _) => ring,
            Queue::Split(_) => panic!("the ring is a split one"),
        }
    }

    pub fn memory(&self) -> &Arc<SharedMemory> {
        &self.memory
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The number of the first byte behind the client's memory.
    pub fn end(&self) -> u64 {
        self.memory.size()
    }

    pub fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write(at, bytes);
    }

    /// Writes one descriptor of a split ring's table.
    pub fn descriptor(&mut self, index: u16, (addr, len, flags): Buffer, next: u16) {
        self.split_ring().write_descriptor(index, Descriptor { addr, len, flags, next });
    }

    /// Writes one descriptor of an indirect table.
    pub fn entry(&self, table: u64, index: u16, (addr, len, flags): Buffer, next: u16) {
        self.put(table + 16 * u64::from(index), &Descriptor { addr, len, flags, next }.encode());
    }

    /// Writes a chain into a split ring's table, from descriptor `first` on; for a packed ring, writes it down as number `first`.
    pub fn chain(&mut self, first: u16, buffers: &[Buffer]) {
        if let Queue::Packed(ring, _) = &mut self.queue {
            return ring.chain(first, buffers);
        }
        for ((addr, len, flags), next, index) in linked(first, buffers) {
            self.descriptor(index, (addr, len, flags), next);
        }
    }

    /// Writes a chain into an indirect table, and a descriptor for that as the chain `head`. Returns the table's length.
    pub fn indirect(&mut self, head: u16, table: u64, buffers: &[Buffer]) -> u32 {
        if let Queue::Packed(ring, _) = &mut self.queue {
            return ring.indirect(head, table, buffers);
        }
        for (buffer, next, index) in linked(0, buffers) {
            self.entry(table, index, buffer, next);
        }
        let length = u32::try_from(16 * buffers.len()).unwrap();
        self.descriptor(head, (table, length, INDIRECT), 0);
        length
    }

    /// Puts any number into a split ring's available ring; puts a chain that was written down into a packed one.
    pub fn offer(&mut self, head: u16) {
        match &mut self.queue {
            Queue::Split(requests) => requests.ring().offer(head),
            Queue::Packed(ring, _) => ring.offer(head),
        }
    }

    /// Moves a split ring's `avail.idx` by `distance`, whatever is in the ring.
    pub fn skip(&mut self, distance: u16) {
        self.split_ring().skip(distance);
    }

    /// Goes on with a split ring at another place, where all three parts are copied to.
    pub fn relocate(&mut self, layout: Layout) {
        self.split_ring().relocate(layout);
        self.layout = layout;
    }

    /// Publishes what was offered; kicks, whether the device wants it or not.
    pub fn publish(&mut self) {
        let kick = match &mut self.queue {
            Queue::Split(requests) => {
                requests.ring().publish();
                requests.kick_event()
            }
            Queue::Packed(ring, kick) => {
                ring.show();
                kick
            }
        };
        kick.signal().expect("the kick");
    }

    /// Publishes what was offered; kicks if the device wants it.
    pub fn publish_politely(&mut self) {
        match &mut self.queue {
            Queue::Split(requests) => requests.kick().expect("the kick"),
            Queue::Packed(ring, kick) => {
                if ring.show() {
                    kick.signal().expect("the kick");
                }
            }
        }
    }

    /// Wakes the device of a packed ring by another eventfd from now on.
    pub fn set_kick(&mut self, kick: Event) {
        match &mut self.queue {
            Queue::Packed(_, old) => *old = kick,
            Queue::Split(_) => panic!("the ring is a split one"),
        }
    }

    /// Where the next chain goes that the device returns: it changes when it returns one. (Of a packed ring, chains that were returned
    /// are taken for this.)
    pub fn progress(&mut self) -> u64 {
        while let Queue::Packed(ring, _) = &mut self.queue {
            if ring.take_used().is_none() {
                return ring.returned;
            }
        }
        self.used_index().into()
    }

    /// Makes the next chain available where the device stands: of a packed ring, what did not come back is taken back.
    pub fn go_back(&mut self) {
        if let Queue::Packed(ring, _) = &mut self.queue {
            ring.go_back();
        }
    }

    /// Whether there is room for so many descriptors more. (Of a split ring that is not known here.)
    pub fn has_room(&self, descriptors: u64) -> bool {
        match &self.queue {
            Queue::Packed(ring, _) => ring.room() >= descriptors,
            Queue::Split(_) => true,
        }
    }

    /// A split ring's `used.idx`: chains that the device has returned, modulo 65536.
    pub fn used_index(&self) -> u16 {
        // Acquire: pairs with the device's release store; the entry and the buffers are read after it.
        self.memory.load(self.layout.used + 2, Ordering::Acquire)
    }

    /// The next chain that the device has returned: its head, and how many bytes it has written.
    pub fn take_used(&mut self) -> Option<(u32, u32)> {
        if let Queue::Packed(ring, _) = &mut self.queue {
            return ring.take_used();
        }
        if self.used_index() == self.next_used {
            return None;
        }
        let entry = self.layout.used + 4 + 8 * u64::from(self.next_used % self.layout.size);
        self.next_used = self.next_used.wrapping_add(1);
        Some((self.memory.load_word(entry), self.memory.load_word(entry + 4)))
    }

    /// The same; waits for it, for at most `limit`.
    pub fn wait_used(&mut self, limit: Duration) -> Option<(u32, u32)> {
        let start = Instant::now();
        loop {
            if let Some(used) = self.take_used() {
                return Some(used);
            }
            match start.elapsed() {
                elapsed if elapsed > limit => return self.take_used(),
                elapsed if elapsed > Duration::from_micros(200) => {
                    thread::sleep(Duration::from_micros(50));
                }
                _ => thread::yield_now(),
            }
        }
    }

    /// The next chain that the device returns.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn returned(&mut self) -> (u32, u32) {
        self.wait_used(PATIENCE).expect("the chain comes back")
    }

    /// The reply in the chain that comes back next, which has to have the head `head` and its reply at `at`.
    #[track_caller]
    pub fn reply(&mut self, head: u16, at: u64) -> Vec<u8> {
        let (id, written) = self.returned();
        assert_eq!(id, u32::from(head));
        self.counted(self.memory.bytes(at, written as usize))
    }

    /// Counts a reply, which has to be a whole message.
    #[track_caller]
    fn counted(&mut self, reply: Vec<u8>) -> Vec<u8> {
        let (_, message, _) = parse_r_with_data(&reply).expect("a reply is a whole message");
        self.answered += 1;
        self.errors += u64::from(message.kind() == MessageType::Rlerror);
        reply
    }

    /// Makes any bytes a request, with room for a reply of `room` bytes.
    pub fn ask(&mut self, request: &[u8], room: u32) {
        self.put(REQUEST, request);
        self.chain(0, &[(REQUEST, u32::try_from(request.len()).unwrap(), READ), (REPLY, room, WRITE)]);
        self.offer(0);
        self.publish();
    }

    /// The same, and the reply to it.
    ///
    /// # Panics
    /// If there is none, or it is not one to this request.
    #[track_caller]
    pub fn exchange(&mut self, request: &[u8], room: u32) -> Vec<u8> {
        self.ask(request, room);
        let reply = self.reply(0, REPLY);
        is_reply_to(request, &reply);
        reply
    }

    /// The replies to as many requests at once as the queue takes, each with room for 4096 bytes.
    #[track_caller]
    pub fn exchange_all(&mut self, requests: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let places: Vec<_> = (0u16..).step_by(2).zip((FREE..).step_by(8192)).take(requests.len()).collect();
        for (request, &(head, at)) in requests.iter().zip(&places) {
            self.put(at, request);
            let length = u32::try_from(request.len()).unwrap();
            self.chain(head, &[(at, length, READ), (at + 4096, 4096, WRITE)]);
            self.offer(head);
        }
        self.publish();
        let mut replies = Vec::new();
        for (request, (head, at)) in requests.iter().zip(places) {
            let reply = self.reply(head, at + 4096);
            is_reply_to(request, &reply);
            replies.push(reply);
        }
        replies
    }
}

/// The tag and the type of a reply are those that are due.
#[track_caller]
fn is_reply_to(request: &[u8], reply: &[u8]) {
    assert_eq!(reply[5..7], request[5..7], "the tag of {reply:?}");
    assert!([7, request[4].wrapping_add(1)].contains(&reply[4]), "{request:?} is answered {reply:?}");
}

/// Each of `buffers` with the flags and the number of the next one, and its own.
fn linked(first: u16, buffers: &[Buffer]) -> impl Iterator<Item = (Buffer, u16, u16)> {
    let last = buffers.len() - 1;
    (first..).zip(buffers).enumerate().map(move |(position, (index, &(addr, len, flags)))| {
        let goes_on = position < last;
        let flags = if goes_on { flags.and(NEXT) } else { flags };
        ((addr, len, flags), if goes_on { index + 1 } else { 0 }, index)
    })
}

impl Transport for Driver {
    fn limit(&self) -> u32 {
        1 << 20
    }

    fn rpc(&mut self, request: &[u8]) -> Result<Vec<u8>, TransportError> {
        self.ask(request, self.limit());
        let Some((_, written)) = self.wait_used(PATIENCE) else {
            return Err(RequestError::Silence(PATIENCE).into());
        };
        Ok(self.counted(self.memory.bytes(REPLY, written as usize)))
    }
}
