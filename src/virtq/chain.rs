// SPDX-License-Identifier: MIT OR Apache-2.0

//! Descriptor chains: from a head to the streams of a request (virtio 1.3, section 2.7.5).
//!
//! What the walk settles where the specification leaves room:
//!
//! * **A descriptor of length 0** adds nothing, and its address is not looked at. The specification does not
//!   forbid one. It counts toward the length and the order of its chain.
//! * **An indirect table** lies in one region, as every table that a driver allocates does; QEMU asks the same.
//! * **A chain in an indirect table** may be longer than the queue. The specification says it may not, but
//!   Linux's and Windows' drivers make such chains, and every device model takes them.

use super::Fault;
use super::desc::{DESCRIPTOR_SIZE, Descriptor, DescriptorFlags, descriptor_table};
use crate::mem::guest::{GuestAddress, GuestMemory, Window};
use crate::mem::scatter::{Loader, ScatterList, ScatterReader, ScatterWriter};

/// Most descriptors that a chain may have in an indirect table: as many as the largest queue has. It bounds
/// the time that one request can take from other clients.
pub const MAX_INDIRECT: u32 = 32768;

/// The right to give one chain back to its queue.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a chain that is not pushed is lost to the driver"]
pub struct Token {
    pub(super) head: u16,
}

/// A request: what the driver wants to be read, and where it wants the answer.
///
/// * Every byte of both streams was checked to be guest memory.
/// * The descriptors were read once; what the driver makes of them afterwards has no effect.
/// * Both streams together are shorter than 2³² bytes; each may be empty.
/// * The buffers may overlap each other, the rings, and the buffers of other chains: nothing forbids it.
#[derive(Debug)]
pub struct Chain<'a> {
    /// To give the chain back with.
    pub token: Token,
    /// The device-readable part.
    pub readable: ScatterReader<'a>,
    /// The device-writable part.
    pub writable: ScatterWriter<'a>,
}

/// What is walked: a table, and what its descriptors may do.
struct Table<'w, 'm> {
    window: &'w Window<'m>,
    entries: u32,
    /// The most descriptors that the chain may have in this table.
    limit: u32,
    /// Whether a descriptor may refer to a table.
    indirect: Indirect,
}

/// Whether `INDIRECT` may occur.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Indirect {
    Allowed,
    NotNegotiated,
    Nested,
}

/// The indirect table that a chain goes on in.
struct Continuation {
    address: GuestAddress,
    length: u32,
}

/// The chain as loaded so far.
struct Walk<'a> {
    head: u16,
    readable: Loader<'a>,
    writable: Loader<'a>,
    /// Whether a writable descriptor has been met.
    writing: bool,
}

impl Walk<'_> {
    /// Loads the buffers of the chain that begins at descriptor `first` of `table`, up to its end or to the indirect
    /// table it ends with.
    fn table(&mut self, table: &Table<'_, '_>, first: u16) -> Result<Option<Continuation>, Fault> {
        let head = self.head;
        let mut index = first;
        for _ in 0..table.limit {
            let descriptor = table
                .window
                .copy_out(descriptor_table::entry(index))
                .map(Descriptor::parse)
                .map_err(|_| Fault::Next { head, next: index, entries: table.entries })?;
            let goes_on = descriptor.flags.contains(DescriptorFlags::NEXT);
            if descriptor.flags.contains(DescriptorFlags::INDIRECT) {
                match table.indirect {
                    Indirect::NotNegotiated => return Err(Fault::IndirectNotNegotiated { head }),
                    Indirect::Nested => return Err(Fault::IndirectNested { head }),
                    Indirect::Allowed if goes_on => return Err(Fault::IndirectWithNext { head }),
                    // WRITE is ignored here (section 2.7.5.3.2).
                    Indirect::Allowed => {
                        let Descriptor { address, length, .. } = descriptor;
                        return Ok(Some(Continuation { address, length }));
                    }
                }
            }
            self.buffer(&descriptor)?;
            if !goes_on {
                return Ok(None);
            }
            index = descriptor.next;
        }
        Err(Fault::ChainTooLong { head, limit: table.limit })
    }

    fn buffer(&mut self, descriptor: &Descriptor) -> Result<(), Fault> {
        let head = self.head;
        let total = self.readable.length().checked_add(self.writable.length());
        if total.and_then(|total| total.checked_add(descriptor.length)).is_none() {
            return Err(Fault::ChainTooLarge { head });
        }
        let list = if descriptor.flags.contains(DescriptorFlags::WRITE) {
            self.writing = true;
            &mut self.writable
        } else if self.writing {
            return Err(Fault::Order { head });
        } else {
            &mut self.readable
        };
        list.push(descriptor.address, descriptor.length).map_err(|cause| Fault::Buffer { head, cause })
    }
}

/// Walks the chain that begins at descriptor `head` (which is less than `size`) of the descriptor table, and loads
/// its buffers into the lists.
pub(super) fn walk<'a>(
    memory: &'a GuestMemory,
    descriptors: &Window<'_>,
    head: u16,
    size: u16,
    indirect: bool,
    readable: &'a mut ScatterList,
    writable: &'a mut ScatterList,
) -> Result<Chain<'a>, Fault> {
    let mut walk =
        Walk { head, readable: readable.load(memory), writable: writable.load(memory), writing: false };
    let direct = Table {
        window: descriptors,
        entries: u32::from(size),
        limit: u32::from(size),
        indirect: if indirect { Indirect::Allowed } else { Indirect::NotNegotiated },
    };
    if let Some(Continuation { address, length }) = walk.table(&direct, head)? {
        let entries = length / DESCRIPTOR_SIZE;
        if entries == 0 || !length.is_multiple_of(DESCRIPTOR_SIZE) {
            return Err(Fault::IndirectLength { head, length });
        }
        let window = memory.window(address, length).map_err(|cause| Fault::IndirectTable { head, cause })?;
        let limit = entries.min(MAX_INDIRECT);
        walk.table(&Table { window: &window, entries, limit, indirect: Indirect::Nested }, 0)?;
    }
    let (readable, writable) = (walk.readable.into_reader(), walk.writable.into_writer());
    Ok(Chain { token: Token { head }, readable, writable })
}
