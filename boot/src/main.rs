// SPDX-License-Identifier: MIT OR Apache-2.0

//! The image.

#![no_std]
#![no_main]

extern crate alloc;

mod apic;
mod clock;
mod command_line;
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
mod pvh;
mod serial;

use command_line::CommandLine;
use exit::Status;

/// Called by [`entry`], once, on the main stack.
extern "C" fn start(start_info: u32) -> ! {
    clock::start();
    logger::initialize();
    clock::calibrate();
    log::info!("skerry {}", env!("CARGO_PKG_VERSION"));
    // SAFETY: entry
    let b = unsafe { pvh::read_start_info(start_info) }.ok().unwrap();
    log::info!("{:x?}", b.ram);
    log::info!("{:?}", CommandLine::parse(&b.command_line));
    log::set_max_level(log::LevelFilter::Trace);
    interrupts::initialize();
    let ram = b.ram_around(layout::image_start(), layout::memory_required_end()).ok().unwrap();
    let mut space = paging::AddressSpace::install(ram).ok().unwrap();
    unsafe { heap::initialize(paging::heap(ram)) };
    let target = apic::initialize(&mut space).ok().unwrap();
    for (f, i) in pci::functions(0) {
        log::info!("{f} {i}");
    }
    for d in 8..16 {
        if let Ok(p) = pci::bridge::RootPort::at(d) {
            log::info!("port {d} {:x?} {:x?}", p.memory_window(), p.prefetchable_window());
        }
    }
    let mut n = 0;
    while n < 3 {
        match ivshmem::PluggedIvshmem::open(8, &mut space, target) {
            Ok(p) => {
                let (a, l) = p.device.memory();
                log::info!("plugged {a:x} {l:x}");
                let m = a as *mut u64;
                unsafe {
                    log::info!("first {:x}", m.read_volatile());
                    m.write_volatile(0x1122334455667788);
                }
                p.device.ring(1 << 16);
                let w = interrupts::wake::wake_ups();
                while interrupts::wake::wake_ups() == w {
                    interrupts::wake::halt();
                }
                log::info!("woken {}", interrupts::wake::wake_ups());
                log::info!("close {:?}", p.close(&mut space));
                n += 1;
            }
            Err(ivshmem::IvshmemError::Port(pci::bridge::PortError::Empty(_))) => {}
            Err(e) => log::error!("{e}"),
        }
    }
    exit::exit(Status::Done)
}
