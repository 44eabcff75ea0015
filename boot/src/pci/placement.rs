// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where everything on the PCI bus is: the image places it by itself, whatever the firmware did, so that a firmware which places
//! nothing and starts the image early is enough.
//!
//! Two windows of physical addresses belong to PCI on q35. The low one, for what is small or has 32 bits only, lies between the
//! most RAM that is ever below 4 GiB and the I/O APIC. The high one, for what can be large, is the upper half of what the
//! processor can address: RAM and the volume grow from below. (Were they to reach that far, they would not be overlaid: QEMU gives RAM
//! the precedence, and a range that is mapped already is refused by `paging`.)
//!
//! Each root port gets a bus of its own and a part of each window, for whatever will be plugged into it. PCI-to-PCI Bridge
//! Architecture 1.2, section 3.2.5.

use core::ops::Range;

use super::bridge::RootPort;
use super::{Function, HEADER_TYPE, functions};
use crate::layout::PAGE;
use crate::processor;

/// From the end of the largest RAM below 4 GiB (3 GiB) to the I/O APIC.
const LOW: Range<u64> = 0xc000_0000..0xfec0_0000;
/// What a port gets of the low window: 1 MiB is the unit.
const PORT_LOW: u64 = 1 << 20;
/// What a port gets of the high window: room for a client's RAM of 8 GiB, the most that the bridge accepts.
const PORT_HIGH: u64 = 8 << 30;
/// Header type of a PCI-to-PCI bridge.
const BRIDGE: u8 = 1;
/// Base address registers of an ordinary function, and of a bridge.
const REGISTERS: u8 = 6;
const BRIDGE_REGISTERS: u8 = 2;
/// The leaf of CPUID with the width of physical addresses in the low eight bits of EAX.
const ADDRESS_WIDTHS: u32 = 0x8000_0008;
/// The width where the processor does not say: that of the first 64-bit ones; and the most that the page tables reach.
const WIDTH: Range<u32> = 36..47;

/// A range of addresses that is handed out from its front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window(pub Range<u64>);

impl Window {
    /// Takes `size` bytes, a power of two, aligned to their size and to a page: each has pages of its own.
    pub fn take(&mut self, size: u64) -> Option<u64> {
        let start = self.0.start.checked_next_multiple_of(size.max(PAGE))?;
        let end = start.checked_add(size)?;
        (end <= self.0.end && start != 0).then(|| {
            self.0.start = end;
            start
        })
    }
}

/// Places the memory of all functions of bus 0, and gives each root port its bus and its windows. Nothing decodes memory afterwards:
/// who uses a function enables it. What does not fit is left without an address, and refused by whoever wants to use it.
///
/// # Safety
/// No function of bus 0 is in use.
pub unsafe fn place_all() {
    let mut low = Window(LOW);
    let mut high = high_window();
    let mut bus = 0;
    for (function, _) in functions(0) {
        function.disable();
        let is_bridge = function.read_u8(HEADER_TYPE) & 0x7f == BRIDGE;
        let registers = if is_bridge { BRIDGE_REGISTERS } else { REGISTERS };
        // SAFETY: the windows lead to bus 0, `Window::take` hands out each part once, and nobody uses the function.
        unsafe { place_bars(function, registers, &mut low, &mut high) };
        if let Ok(port) = RootPort::at(function.device) {
            bus += 1;
            let memory = low.take(PORT_LOW).map_or(0..0, |start| start..start + PORT_LOW);
            let prefetchable = high.take(PORT_HIGH).map_or(0..0, |start| start..start + PORT_HIGH);
            // SAFETY: as above; the bus number is new, and behind it is the port's slot alone.
            unsafe { port.lead_to(bus, &memory, &prefetchable) };
        }
    }
}

/// # Safety
/// The windows lead to the function's bus, and nobody uses the function, which does not decode memory.
unsafe fn place_bars(function: Function, registers: u8, low: &mut Window, high: &mut Window) {
    let mut index = 0;
    while index < registers {
        let Ok(mut bar) = function.bar(index) else {
            index += 1;
            continue;
        };
        let window = if bar.is_64_bit { &mut *high } else { &mut *low };
        match window.take(bar.size) {
            // SAFETY: the caller's word, and `take` hands out each part of a window once. It cannot fail: the address is a multiple of
            // the size, and the low window ends below 4 GiB.
            Some(address) => drop(unsafe { function.place_bar(index, &mut bar, address) }),
            None => function.clear_bar(index, &bar),
        }
        index += if bar.is_64_bit { 2 } else { 1 };
    }
}

fn high_window() -> Window {
    let width = processor::leaf(ADDRESS_WIDTHS)
        .map_or(WIDTH.start, |leaf| (leaf.eax & 0xff).clamp(WIDTH.start, WIDTH.end));
    Window(1 << (width - 1)..1 << width)
}
