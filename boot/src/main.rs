// SPDX-License-Identifier: MIT OR Apache-2.0

//! The image: the core on bare metal, as a service VM.
//!
//! | subject                                | modules                                                          |
//! |----------------------------------------|------------------------------------------------------------------|
//! | how it starts and ends                 | `entry pvh command_line startup exit provoke`                    |
//! | processor and memory                   | `layout paging heap interrupts apic clock memory_functions`      |
//! | what it tells                          | `serial logger`                                                  |
//! | devices                                | `pci virtio_pci pmem ivshmem`                                    |
//! | serving                                | `control_ring control_plane clients service_loop`                |
//!
//! One processor, one thread, one address space in which every address is mapped to itself. Interrupts only wake.

#![no_std]
#![no_main]

extern crate alloc;

mod apic;
mod clients;
mod clock;
mod command_line;
mod control_plane;
mod control_ring;
mod copy;
mod entry;
mod exit;
mod heap;
mod interrupts;
mod ivshmem;
mod layout;
mod logger;
mod memory_functions;
mod paging;
mod pci;
mod pmem;
mod processor;
mod provoke;
mod pvh;
mod serial;
mod service_loop;
mod startup;
mod virtio_pci;

/// Called by [`entry`], once, on the main stack, with the physical address of the start info, and the time-stamp counter as it was
/// at the image's first instruction.
extern "C" fn start(start_info: u32, entered: u64) -> ! {
    clock::start(entered);
    logger::initialize();
    // SAFETY: `entry` calls this once, with what the loader left in EBX.
    match unsafe { startup::start(start_info) } {
        Ok(service) => service.run(),
        Err(status) => exit::exit(status),
    }
}
