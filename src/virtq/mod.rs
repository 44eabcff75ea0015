// SPDX-License-Identifier: MIT OR Apache-2.0

//! Virtqueues, seen from the device (virtio 1.3, section 2.6 and after).
//!
//! A [`Queue`] takes chains of buffers that a driver made available and gives them back used. It relies on
//! [`crate::mem`] for every access, and believes nothing that the driver wrote: a violation is a [`Fault`], after
//! which the ring is to be stopped (the driver gets what `DEVICE_NEEDS_RESET` means), and nothing else is.
//!
//! * [`desc`]: the descriptors, and where the fields of the rings are.
//! * [`chain`]: from a head to the two streams of a request, readable and writable.
//! * [`split`]: the split ring, three areas of which each side writes its own.
//! * [`packed`]: the packed ring, one area that both write.
//! * [`notify`]: when the other side wants to be told.
//!
//! How a device goes over a queue, from the moment it takes it up:
//!
//! ```text
//! loop {
//!     queue.disarm(memory)?;
//!     while let Some(Chain { token, buffers }) = queue.pop(memory, list)? {
//!         let (readable, writable) = buffers.into_streams();
//!         let written = …;                       // serve `readable` into `writable`
//!         queue.push(memory, token, written)?;
//!     }
//!     if queue.publish(memory)? { notify.call(); }
//!     if !queue.arm(memory)? { wait for a kick; }
//! }
//! ```

pub mod chain;
pub mod desc;
pub mod notify;
pub mod packed;
pub mod split;

#[cfg(test)]
pub(crate) mod driver_model;
#[cfg(test)]
mod interleaving;
#[cfg(test)]
mod two_threads;

use core::fmt;

pub use chain::{Chain, Token};
pub use notify::Notify;
pub use packed::PackedQueue;
pub use split::SplitQueue;

use crate::mem::guest::{BadRange, GuestAddress, GuestMemory};
use crate::mem::scatter::{LoadError, ScatterList};

bitflags::bitflags! {
    /// The feature bits that concern rings (section 6).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct RingFeatures: u64 {
        /// `VIRTIO_F_INDIRECT_DESC`: a descriptor may refer to a table of descriptors.
        const INDIRECT_DESC = 1 << 28;
        /// `VIRTIO_F_EVENT_IDX`: `used_event` and `avail_event` say when to notify, not the flags.
        const EVENT_IDX = 1 << 29;
        /// `VIRTIO_F_VERSION_1`: not a legacy driver.
        const VERSION_1 = 1 << 32;
        /// `VIRTIO_F_RING_PACKED`: the queue is a packed one.
        const RING_PACKED = 1 << 34;
    }
}

/// What a device does with a queue, of whichever kind it is. A loop that is made for a `Ring` is compiled for each kind by itself.
///
/// After a [`Fault`] of any of these the queue must not be used again. Which there are is said for both kinds together.
pub trait Ring {
    /// Whether the driver has made chains available that were not taken yet.
    ///
    /// # Errors
    /// [`Fault::Placement`], [`Fault::AvailableIndex`].
    fn has_available(&mut self, memory: &GuestMemory) -> Result<bool, Fault>;

    /// The next chain that the driver made available, if there is one. It is loaded into the list, which is emptied
    /// first.
    ///
    /// # Errors
    /// Any [`Fault`] from [`Fault::Placement`] on.
    fn pop<'a>(
        &mut self,
        memory: &'a GuestMemory,
        list: &'a mut ScatterList,
    ) -> Result<Option<Chain<'a>>, Fault>;

    /// Stages a chain as used. `written` is how many bytes of its writable part were written, from its beginning
    /// on without a gap. The driver does not see it before [`publish`](Self::publish).
    ///
    /// # Errors
    /// [`Fault::Placement`].
    fn push(&mut self, memory: &GuestMemory, token: Token, written: u32) -> Result<(), Fault>;

    /// Shows the driver all chains that were staged, with one store: of `used.idx`, or of a packed queue's flags; returns whether the
    /// driver is to be notified of them ([`Notify::call`]).
    ///
    /// # Errors
    /// [`Fault::Placement`].
    fn publish(&mut self, memory: &GuestMemory) -> Result<bool, Fault>;

    /// Asks the driver not to kick, while the device looks at the ring by itself. A hint: kicks may come.
    ///
    /// # Errors
    /// [`Fault::Placement`].
    fn disarm(&mut self, memory: &GuestMemory) -> Result<(), Fault>;

    /// Asks the driver to kick when the next chain comes; returns whether it has come already. If so, no kick may
    /// follow, and the device must go over the queue again.
    ///
    /// # Errors
    /// [`Fault::Placement`], [`Fault::AvailableIndex`].
    fn arm(&mut self, memory: &GuestMemory) -> Result<bool, Fault>;

    /// The index of the next entry of the available ring that will be taken, or where the next chain of a packed queue begins, with the
    /// wrap counter in the highest bit (`GET_VRING_BASE`).
    #[must_use]
    fn position(&self) -> u16;
}

/// Where a driver put a queue, and how it is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfiguration {
    /// Number of descriptors, and of entries in each ring: a power of two, 2 … 32768; of a packed queue any number, 1 … 32768.
    pub size: u16,
    /// The descriptor table, or the descriptor ring of a packed queue.
    pub descriptors: GuestAddress,
    /// The driver area: the available ring, or the driver's event suppression structure.
    pub available: GuestAddress,
    /// The device area: the used ring, or the device's event suppression structure.
    pub used: GuestAddress,
    /// What was negotiated. Bits that do not concern rings are left out (`from_bits_truncate`).
    pub features: RingFeatures,
    /// The index of the first entry of the available ring to take: 0 for a queue that was just set up, else what
    /// [`Ring::position`] said when the queue was stopped. See [`SplitQueue::new`]. For a packed one the position in its ring, with the
    /// wrap counter in the highest bit: 0x8000 at first. See [`PackedQueue::new`].
    pub next: u16,
}

/// A virtqueue.
#[derive(Debug)]
pub enum Queue {
    /// A split virtqueue (section 2.7).
    Split(SplitQueue),
    /// A packed virtqueue (section 2.8).
    Packed(PackedQueue),
}

impl Queue {
    /// Checks a configuration and takes up the queue that it describes.
    ///
    /// # Errors
    /// [`Fault`], as for [`SplitQueue::new`] and [`PackedQueue::new`].
    pub fn new(memory: &GuestMemory, configuration: &QueueConfiguration) -> Result<Self, Fault> {
        if configuration.features.contains(RingFeatures::RING_PACKED) {
            PackedQueue::new(memory, configuration).map(Self::Packed)
        } else {
            SplitQueue::new(memory, configuration).map(Self::Split)
        }
    }
}

impl Ring for Queue {
    fn has_available(&mut self, memory: &GuestMemory) -> Result<bool, Fault> {
        match self {
            Self::Split(queue) => queue.has_available(memory),
            Self::Packed(queue) => queue.has_available(memory),
        }
    }

    #[inline(always)]
    fn pop<'a>(
        &mut self,
        memory: &'a GuestMemory,
        list: &'a mut ScatterList,
    ) -> Result<Option<Chain<'a>>, Fault> {
        match self {
            Self::Split(queue) => queue.pop(memory, list),
            Self::Packed(queue) => queue.pop(memory, list),
        }
    }

    #[inline(always)]
    fn push(&mut self, memory: &GuestMemory, token: Token, written: u32) -> Result<(), Fault> {
        match self {
            Self::Split(queue) => queue.push(memory, token, written),
            Self::Packed(queue) => queue.push(memory, token, written),
        }
    }

    #[inline(always)]
    fn publish(&mut self, memory: &GuestMemory) -> Result<bool, Fault> {
        match self {
            Self::Split(queue) => queue.publish(memory),
            Self::Packed(queue) => queue.publish(memory),
        }
    }

    #[inline(always)]
    fn disarm(&mut self, memory: &GuestMemory) -> Result<(), Fault> {
        match self {
            Self::Split(queue) => queue.disarm(memory),
            Self::Packed(queue) => queue.disarm(memory),
        }
    }

    fn arm(&mut self, memory: &GuestMemory) -> Result<bool, Fault> {
        match self {
            Self::Split(queue) => queue.arm(memory),
            Self::Packed(queue) => queue.arm(memory),
        }
    }

    fn position(&self) -> u16 {
        match self {
            Self::Split(queue) => queue.position(),
            Self::Packed(queue) => queue.position(),
        }
    }
}

/// The parts of a virtqueue, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// The descriptor table, or the descriptor ring.
    Descriptors,
    /// The available ring.
    Available,
    /// The used ring.
    Used,
    /// The driver's event suppression structure.
    DriverEvent,
    /// The device's event suppression structure.
    DeviceEvent,
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptors => "descriptor table",
            Self::Available => "available ring",
            Self::Used => "used ring",
            Self::DriverEvent => "driver's event suppression structure",
            Self::DeviceEvent => "device's event suppression structure",
        })
    }
}

/// The check that a ring failed. It stops this ring and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The driver did not accept `VIRTIO_F_VERSION_1`.
    Legacy,
    /// The queue size is not a power of two from 2 to 32768.
    Size {
        /// The size.
        size: u16,
    },
    /// The size of a packed queue is not from 1 to 32768.
    PackedSize {
        /// The size.
        size: u16,
    },
    /// On taking up a packed queue: a position behind its ring.
    PackedResume {
        /// The `next` of the configuration.
        next: u16,
        /// The queue size.
        size: u16,
    },
    /// A part of the queue does not begin at a multiple of its alignment.
    Alignment {
        /// The part.
        area: Area,
        /// Where it begins.
        address: GuestAddress,
        /// What that should be a multiple of, in bytes.
        alignment: u64,
    },
    /// A part of the queue is not in one region of guest memory, or not aligned there.
    Placement {
        /// The part.
        area: Area,
        /// What is wrong with it.
        cause: BadRange,
    },
    /// On taking up a queue: more requests between `used.idx` and the first to take than the queue can hold.
    Resume {
        /// The `next` of the configuration.
        next: u16,
        /// `used.idx` in memory.
        used: u16,
        /// The queue size.
        size: u16,
    },
    /// `avail.idx` is ahead by more entries than the ring has, or went back.
    AvailableIndex {
        /// The index of the next entry to take.
        next: u16,
        /// `avail.idx` in memory.
        index: u16,
        /// The queue size.
        size: u16,
    },
    /// An entry of the available ring names a descriptor that does not exist.
    Head {
        /// What the entry says.
        head: u16,
        /// The queue size.
        size: u16,
    },
    /// A descriptor's `next` names one that does not exist in its table.
    Next {
        /// The head of the chain.
        head: u16,
        /// What `next` says.
        next: u16,
        /// Number of descriptors in the table.
        entries: u32,
    },
    /// A chain has more descriptors than it may have; most likely it is a loop.
    ChainTooLong {
        /// The head of the chain.
        head: u16,
        /// The most descriptors that were accepted: the queue size or, for an indirect table, the number of its
        /// entries, and never more than [`chain::MAX_CHAIN`].
        limit: u32,
    },
    /// The buffers of a chain add up to 2³² bytes or more.
    ChainTooLarge {
        /// The head of the chain.
        head: u16,
    },
    /// A readable descriptor comes after a writable one.
    Order {
        /// The head of the chain.
        head: u16,
    },
    /// A buffer was refused.
    Buffer {
        /// The head of the chain.
        head: u16,
        /// Why.
        cause: LoadError,
    },
    /// `INDIRECT` although `VIRTIO_F_INDIRECT_DESC` was not negotiated.
    IndirectNotNegotiated {
        /// The head of the chain.
        head: u16,
    },
    /// `INDIRECT` in an indirect table.
    IndirectNested {
        /// The head of the chain.
        head: u16,
    },
    /// `INDIRECT` together with `NEXT`.
    IndirectWithNext {
        /// The head of the chain.
        head: u16,
    },
    /// The length of an indirect table is 0 or not a multiple of 16.
    IndirectLength {
        /// The head of the chain.
        head: u16,
        /// The length in bytes.
        length: u32,
    },
    /// An indirect table is not in one region of guest memory.
    IndirectTable {
        /// The head of the chain.
        head: u16,
        /// Why.
        cause: BadRange,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Legacy => f.write_str("the driver did not accept VIRTIO_F_VERSION_1"),
            Self::Size { size } => write!(f, "queue size {size} is not a power of two from 2 to 32768"),
            Self::PackedSize { size } => write!(f, "size {size} of a packed queue is not from 1 to 32768"),
            Self::PackedResume { next, size } => {
                write!(f, "cannot resume a packed queue of {size} at {next:#x}")
            }
            Self::Alignment { area, address, alignment } => {
                write!(f, "the {area} at {address} is not aligned to {alignment} bytes")
            }
            Self::Placement { area, cause } => write!(f, "the {area} is misplaced: {cause}"),
            Self::Resume { next, used, size } => {
                write!(f, "cannot resume at {next}: used.idx is {used} and the queue size {size}")
            }
            Self::AvailableIndex { next, index, size } => {
                write!(f, "avail.idx is {index} where {next} is next and the queue size {size}")
            }
            Self::Head { head, size } => write!(f, "head {head} in a queue of size {size}"),
            Self::Next { head, next, entries } => {
                write!(f, "chain {head}: next is {next} in a table of {entries} descriptors")
            }
            Self::ChainTooLong { head, limit } => {
                write!(f, "chain {head}: more than {limit} descriptors (a loop?)")
            }
            Self::ChainTooLarge { head } => write!(f, "chain {head}: 4 GiB or more"),
            Self::Order { head } => write!(f, "chain {head}: a readable descriptor after a writable one"),
            Self::Buffer { head, cause } => write!(f, "chain {head}: {cause}"),
            Self::IndirectNotNegotiated { head } => {
                write!(f, "chain {head}: INDIRECT was not negotiated")
            }
            Self::IndirectNested { head } => write!(f, "chain {head}: INDIRECT in an indirect table"),
            Self::IndirectWithNext { head } => write!(f, "chain {head}: INDIRECT together with NEXT"),
            Self::IndirectLength { head, length } => {
                write!(f, "chain {head}: an indirect table of {length} bytes")
            }
            Self::IndirectTable { head, cause } => write!(f, "chain {head}: indirect table: {cause}"),
        }
    }
}

impl core::error::Error for Fault {}

/// An error of a part of the queue. Errors are made out of line, so that the way without one does not step around them.
fn placement(area: Area) -> impl Fn(BadRange) -> Fault {
    #[cold]
    #[inline(never)]
    fn fault(area: Area, cause: BadRange) -> Fault {
        Fault::Placement { area, cause }
    }
    move |cause| fault(area, cause)
}

/// # Errors
/// [`Fault::Alignment`] for a part of the queue that does not begin at a multiple of `alignment`.
fn check_alignment(area: Area, address: GuestAddress, alignment: usize) -> Result<(), Fault> {
    let alignment = alignment as u64;
    if address.0.is_multiple_of(alignment) {
        Ok(())
    } else {
        Err(Fault::Alignment { area, address, alignment })
    }
}
