// SPDX-License-Identifier: MIT OR Apache-2.0

//! The clients' slots: what the bridge attaches and detaches through the `ctl` export.

use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;

use skerry::fs::Errno;
use skerry::fs::command::{Attachment, Command, MemoryRange};
use skerry::mem::guest::{GuestAddress, GuestMemory};
use skerry::server::SessionLimits;
use skerry::service::{Connection, Status};
use skerry::virtq::{Notify, QueueConfiguration, RingFeatures};

use crate::ivshmem::{Doorbell, IvshmemError, PluggedIvshmem};
use crate::paging::AddressSpace;
use crate::pci::bridge::PortError;

/// Clients at a time.
pub const SLOTS: u8 = 8;

/// What a client's session may hold. Eight tables of fids take 8.5 MiB of the heap (`HEAP_MINIMUM` in linker.ld).
const LIMITS: SessionLimits = SessionLimits { max_fids: 32_768, max_msize: 1 << 20 };

/// One client's place.
pub struct Slot {
    /// Its ring and session.
    pub connection: Connection,
    plugged: Option<Plugged>,
    /// Where a detached client's ring stopped.
    last_position: Option<u16>,
}

/// The device that an attached client's memory came with. The connection is detached before it is closed.
struct Plugged {
    port: u8,
    device: PluggedIvshmem,
    doorbell: Doorbell,
}

/// All slots, and what attaching a client takes.
pub struct Clients {
    slots: Vec<Slot>,
    space: AddressSpace,
}

/// Signals the client of a slot; nobody, if the slot is free.
pub struct SlotNotify(Option<Doorbell>);

impl Notify for SlotNotify {
    fn call(&mut self) {
        if let Some(doorbell) = &mut self.0 {
            doorbell.call();
        }
    }
}

impl Slot {
    /// Signals this slot's client.
    pub fn notify(&self) -> SlotNotify {
        SlotNotify(self.plugged.as_ref().map(|plugged| plugged.doorbell))
    }
}

impl Clients {
    /// Free slots; all memory that their sessions will need is allocated here.
    pub fn new(space: AddressSpace) -> Self {
        let slot = |_| Slot { connection: Connection::new(LIMITS), plugged: None, last_position: None };
        Self { slots: (0..SLOTS).map(slot).collect(), space }
    }

    /// The slots with their numbers.
    pub fn slots_mut(&mut self) -> impl Iterator<Item = (usize, &mut Slot)> {
        self.slots.iter_mut().enumerate()
    }

    fn slot(&mut self, slot: u8) -> Result<&mut Slot, Errno> {
        self.slots.get_mut(usize::from(slot)).ok_or(Errno::ENOENT)
    }

    fn attach(&mut self, number: u8, attachment: &Attachment) -> Result<(), Errno> {
        let in_use =
            |slot: &Slot| slot.plugged.as_ref().is_some_and(|plugged| plugged.port == attachment.port);
        if self.slot(number)?.plugged.is_some() || self.slots.iter().any(in_use) {
            return Err(Errno::EBUSY);
        }
        let configuration = queue_configuration(attachment).ok_or(Errno::EINVAL)?;
        let device = PluggedIvshmem::open(attachment.port, &mut self.space).map_err(|error| {
            log::error!("client {number}: {error}");
            match error {
                IvshmemError::Window(..) => Errno::EINVAL,
                _ => Errno::ENODEV,
            }
        })?;
        let (start, length) = device.device.memory();
        let slot = self.slot(number)?;
        // SAFETY: the device stays mapped until `detach`, or `close` below, has dropped what this makes.
        let attached = unsafe { client_memory(start, length, &attachment.memory) }
            .and_then(|memory| slot.connection.attach(memory, &configuration).map_err(AttachError::Ring));
        match attached {
            Ok(()) => {
                let doorbell = device.device.doorbell(attachment.doorbell);
                slot.plugged = Some(Plugged { port: attachment.port, device, doorbell });
                slot.last_position = None;
                log::info!(
                    "client {number}: attached, {} MiB at {start:#x}, ring of {} from {}",
                    length >> 20,
                    configuration.size,
                    configuration.next
                );
                Ok(())
            }
            Err(error) => {
                log::error!("client {number}: not attached: {error}");
                if let Err(error) = device.close(&mut self.space) {
                    log::error!("client {number}: {error}");
                }
                Err(Errno::EINVAL)
            }
        }
    }

    fn detach(&mut self, number: u8) -> Result<(), Errno> {
        let slot = self.slot(number)?;
        let position = slot.connection.detach();
        let Some(plugged) = slot.plugged.take() else { return Ok(()) };
        slot.last_position = position;
        log::info!("client {number}: detached at entry {}", position.unwrap_or(0));
        plugged.device.close(&mut self.space).map_err(|error: PortError| {
            log::error!("client {number}: {error}");
            Errno::EIO
        })
    }

    fn set_doorbell(&mut self, number: u8, value: u32) -> Result<(), Errno> {
        let plugged = self.slot(number)?.plugged.as_mut().ok_or(Errno::ENODATA)?;
        plugged.doorbell = plugged.doorbell.with_value(value);
        // Replies may have been signalled to whoever was there before.
        plugged.doorbell.call();
        Ok(())
    }
}

impl Clients {
    /// Clients that are attached.
    pub fn attached(&self) -> usize {
        self.slots.iter().filter(|slot| slot.plugged.is_some()).count()
    }

    /// Page tables that further clients can have.
    pub fn free_page_tables(&self) -> usize {
        self.space.free_tables()
    }

    /// As [`ControlPlane::write_status`](skerry::fs::synth::ControlPlane::write_status).
    pub fn write_status(&self, slot: u8, out: &mut dyn fmt::Write) -> fmt::Result {
        let Some(slot) = self.slots.get(usize::from(slot)) else { return Ok(()) };
        let status = slot.connection.status();
        write!(out, "{}", Status { next: status.next.or(slot.last_position), ..status })
    }

    /// As [`ControlPlane::command`](skerry::fs::synth::ControlPlane::command).
    pub fn command(&mut self, slot: u8, command: &Command) -> Result<(), Errno> {
        match command {
            Command::Attach(attachment) => self.attach(slot, attachment),
            Command::Doorbell(value) => self.set_doorbell(slot, *value),
            Command::Detach => self.detach(slot),
        }
    }
}

/// Why a client's memory or ring was refused.
enum AttachError {
    /// A range is not within the memory that was plugged, of this length.
    Outside(MemoryRange, u64),
    /// The ranges cannot be a guest's memory.
    Memory(skerry::mem::guest::RegionError),
    /// The ring cannot be.
    Ring(skerry::virtq::Fault),
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside(range, length) => write!(
                f,
                "{:#x} bytes at {:#x} are not within the {length:#x} bytes that were plugged",
                range.length, range.offset
            ),
            Self::Memory(error) => write!(f, "{error}"),
            Self::Ring(fault) => write!(f, "{fault}"),
        }
    }
}

/// The ring of an attachment, if its size is one of 16 bits.
fn queue_configuration(attachment: &Attachment) -> Option<QueueConfiguration> {
    Some(QueueConfiguration {
        size: u16::try_from(attachment.size).ok()?,
        descriptors: GuestAddress(attachment.descriptors),
        available: GuestAddress(attachment.available),
        used: GuestAddress(attachment.used),
        features: RingFeatures::from_bits_truncate(attachment.features),
        next: attachment.next,
    })
}

/// The client's ranges, in the `length` bytes of memory mapped at `start`.
///
/// # Safety
/// That memory stays mapped for as long as the result lives, and nobody here refers to it otherwise.
unsafe fn client_memory(start: u64, length: u64, ranges: &[MemoryRange]) -> Result<GuestMemory, AttachError> {
    let mut memory = GuestMemory::new();
    for range in ranges {
        let inside = range.offset.checked_add(range.length).is_some_and(|end| end <= length);
        let host = NonNull::new((start + range.offset.min(length)) as *mut u8);
        let (true, Some(host)) = (inside, host) else { return Err(AttachError::Outside(*range, length)) };
        // SAFETY: the range lies within the mapped memory (just checked), one mapping; the rest is the caller's word.
        unsafe { memory.add_region(GuestAddress(range.guest), range.length as usize, host) }
            .map_err(AttachError::Memory)?;
    }
    Ok(memory)
}
