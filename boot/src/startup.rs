// SPDX-License-Identifier: MIT OR Apache-2.0

//! From the first Rust function to a service that is ready, and every way that this can fail.

use core::fmt;
use core::ptr::NonNull;

use skerry::ext4::Volume;
use skerry::mem::guest::{GuestAddress, GuestMemory};
use skerry::mem::region::MappedRegion;
use skerry::server::SessionLimits;
use skerry::service::Connection;

use crate::apic::{self, InterruptTarget};
use crate::clients::Clients;
use crate::command_line::CommandLine;
use crate::control_ring::{self, ControlRing};
use crate::exit::Status;
use crate::ivshmem::{self, Ivshmem};
use crate::paging::{AddressSpace, Rights};
use crate::pci::{self, Function, Identity};
use crate::pmem::{self, Pmem};
use crate::pvh::StartInfoError;
use crate::service_loop::{Control, ServedVolume, Service};
use crate::{clock, heap, interrupts, layout, paging, processor, provoke, pvh, virtio_pci};

/// What the session on the control ring may hold: it serves one process of the host.
const CONTROL_LIMITS: SessionLimits = SessionLimits { max_fids: 1024, max_msize: 1 << 20 };

/// Tells why the service does not start; returns the exit status that says so too.
fn refuse(reason: fmt::Arguments<'_>) -> Status {
    log::error!("start failed: {reason}");
    Status::StartFailed
}

/// Brings everything up.
///
/// # Errors
/// The exit status of a failure, which has been told in one line of the log.
///
/// # Safety
/// Called once, on the main stack, with what the loader passed and with the provisional page tables.
pub unsafe fn start(start_info: u32) -> Result<Service, Status> {
    // First, so that an exception in what follows is told.
    interrupts::initialize();
    clock::calibrate();
    // SAFETY: the caller's word.
    let information = unsafe { pvh::read_start_info(start_info) }.map_err(|error| {
        let status = refuse(format_args!("{error}"));
        if error == StartInfoError::CommandLineLength { Status::CommandLine } else { status }
    })?;
    let command_line = CommandLine::parse(&information.command_line).map_err(|error| {
        refuse(format_args!("{error}"));
        Status::CommandLine
    })?;
    log::set_max_level(command_line.log);
    log::info!("skerry {} starts", env!("CARGO_PKG_VERSION"));
    // The provisional page tables map nothing as a user's, nor do those that replace them.
    processor::protect();
    let routine = processor::prepare();
    log::debug!("large copies go through {routine}");

    let ram = information
        .ram_around(layout::image_start(), layout::memory_required_end())
        .map_err(|error| refuse(format_args!("{error}")))?;
    let mut space = AddressSpace::install(ram)
        .map_err(|error| refuse(format_args!("the image's memory cannot be mapped: {error}")))?;
    // SAFETY: the heap's range was just mapped, it lies behind everything else in that RAM, and `start` runs once.
    unsafe { heap::initialize(paging::heap(ram)) };
    log::debug!("heap of {} KiB up to {:#x}", heap::statistics().size / 1024, ram.end);
    if let Some(provocation) = command_line.provoke {
        provoke::provoke(provocation);
    }

    let target = apic::initialize(&mut space)
        .map_err(|error| refuse(format_args!("the local APIC cannot be mapped: {error}")))?;
    // SAFETY: no driver has been started.
    unsafe { pci::placement::place_all() };
    for (function, identity) in pci::functions(0) {
        log::debug!("{function} is {identity}");
    }
    let volume = open_volume(&mut space, command_line.readonly)?;
    let control = open_control(&mut space, target)?;
    let clients = Clients::new(space);
    let service = Service::new(volume, command_line.exports, control, clients);
    log::info!(
        "ready after {} microseconds, the entry took {}",
        clock::microseconds_since_start(),
        clock::microseconds_of_entry()
    );
    Ok(service)
}

fn find(what: &str, is_it: impl Fn(Identity) -> bool) -> Result<(Function, Identity), Status> {
    pci::functions(0)
        .find(|(_, identity)| is_it(*identity))
        .ok_or_else(|| refuse(format_args!("there is no {what} on PCI bus 0: add one to the service VM")))
}

fn open_volume(space: &mut AddressSpace, readonly: bool) -> Result<ServedVolume, Status> {
    let (function, identity) =
        find("virtio-pmem device", |identity| virtio_pci::device_type(identity) == Some(pmem::DEVICE_TYPE))?;
    let failed =
        |error: &dyn fmt::Display| refuse(format_args!("the virtio-pmem device {function}: {error}"));
    // Where nothing is to be written, a stray store is an exception, not a damaged volume.
    let rights = if readonly { Rights::ReadOnly } else { Rights::ReadWrite };
    let mut pmem = Pmem::open(function, identity, rights, space).map_err(|error| failed(&error))?;
    let (start, length) = pmem.memory();
    log::debug!("volume: {length} bytes at {start:#x}");
    // A host that cannot flush is found out now, not when a client asks for it.
    pmem.request_flush().map_err(|error| failed(&error))?;
    let start = NonNull::new(start as *mut u8).ok_or_else(|| failed(&"it has no address"))?;
    let volume = if readonly {
        // SAFETY: the device's memory was mapped, readable, and is never unmapped; its length is below 2^47, the limit of
        // what is mapped; the host keeps others from writing the file, and the image has no right to.
        Volume::mount(unsafe { MappedRegion::read_only(start, length as usize, pmem) })
    } else {
        // SAFETY: as above, but the memory was mapped writable, too; nothing else of the image refers to it.
        Volume::mount_writable(unsafe { MappedRegion::writable(start, length as usize, pmem) }, clock::now)
    };
    let volume = volume.map_err(|error| refuse(format_args!("the volume is refused: {error}")))?;
    log::info!("volume of {} MiB mounted{}", length >> 20, if readonly { ", read-only" } else { "" });
    Ok(volume)
}

fn open_control(space: &mut AddressSpace, target: InterruptTarget) -> Result<Control, Status> {
    let (function, _) = find("ivshmem-doorbell device", |identity| identity == ivshmem::IDENTITY)?;
    let failed = |error: &dyn fmt::Display| refuse(format_args!("the ivshmem device {function}: {error}"));
    let device = Ivshmem::open(function, space, target).map_err(|error| failed(&error))?;
    let (start, length) = device.memory();
    if length < control_ring::LENGTH as u64 {
        return Err(failed(&"its memory is too small for a ring"));
    }
    // SAFETY: the memory is mapped and at least as long as the header (just checked), page aligned, and bytes have no invalid
    // values. Volatile, because the host may write it at any time; only this copy is used.
    let header = unsafe { core::ptr::read_volatile(start as *const [u8; control_ring::LENGTH]) };
    let ring = ControlRing::parse(&header).map_err(|error| failed(&error))?;
    let host = NonNull::new(start as *mut u8).ok_or_else(|| failed(&"its memory has no address"))?;
    let mut memory = GuestMemory::new();
    // SAFETY: the memory was mapped, readable and writable, as one mapping, and is never unmapped; nothing else of the
    // image refers to it.
    unsafe { memory.add_region(GuestAddress(0), length as usize, host) }.map_err(|error| failed(&error))?;
    let mut connection = Connection::new(CONTROL_LIMITS);
    connection.attach(memory, &ring.configuration).map_err(|fault| failed(&fault))?;
    log::debug!("control ring of {} at {start:#x}", ring.configuration.size);
    Ok(Control { connection, doorbell: device.doorbell(ring.doorbell) })
}
