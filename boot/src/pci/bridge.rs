// SPDX-License-Identifier: MIT OR Apache-2.0

//! PCI Express root ports: the slots that clients' devices are plugged into while the image runs.
//!
//! Native hotplug (PCI Express Base 4.0, sections 6.7 and 7.5.3.10): the image powers the slot on and off through the Slot
//! Control register. QEMU lets a plugged device answer once its slot has power, and takes it out when the slot loses power
//! and the power indicator is off. [`super::placement`] has given each port a secondary bus and two windows.

use core::fmt;
use core::ops::Range;

use super::Function;
use crate::clock::Deadline;

/// The PCI Express capability's identifier.
const EXPRESS: u8 = 0x10;
/// Bytes of its structure up to the slot's registers.
const EXPRESS_LENGTH: u8 = 0x1c;
/// Device/port type in the capabilities register: root port of a root complex.
const ROOT_PORT: u16 = 4;
/// PCI Express capabilities register: a slot is behind the port.
const SLOT_IMPLEMENTED: u16 = 1 << 8;

/// Offsets in the capability.
const EXPRESS_CAPABILITIES: u8 = 0x02;
const SLOT_CONTROL: u8 = 0x18;
const SLOT_STATUS: u8 = 0x1a;

/// Slot control: power indicator, two bits: 01 on, 11 off.
const POWER_INDICATOR: u16 = 0b11 << 8;
const POWER_INDICATOR_ON: u16 = 0b01 << 8;
const POWER_INDICATOR_OFF: u16 = 0b11 << 8;
/// Slot control: the slot has no power.
const POWER_OFF: u16 = 1 << 10;
/// Slot status: events, cleared by writing ones: attention button, power fault, latch, presence, command, link state.
const SLOT_EVENTS: u16 = 0b1_0001_1111;
/// Slot status: a device is in the slot.
const PRESENT: u16 = 1 << 6;

/// Offsets in a bridge's header: primary, secondary and subordinate bus, a byte each, and the latency timer; the windows.
const BUSES: u8 = 0x18;
const SECONDARY_BUS: u8 = 0x19;
const PORTS_WINDOW: u8 = 0x1c;
const MEMORY_WINDOW: u8 = 0x20;
const PREFETCHABLE_WINDOW: u8 = 0x24;
const PREFETCHABLE_BASE_UPPER: u8 = 0x28;
const PREFETCHABLE_LIMIT_UPPER: u8 = 0x2c;

/// The unit of windows.
const UNIT: u64 = 1 << 20;

/// How long a device may take to answer after its slot has got power: a second, as section 6.6.1 of the specification.
const POWER_ON_MICROSECONDS: u64 = 1_000_000;
/// How long a device may take to go after its slot has lost power.
const POWER_OFF_MICROSECONDS: u64 = 1_000_000;

/// A root port with a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootPort {
    function: Function,
    express: u8,
}

/// Why a port cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortError {
    /// The function is not a root port with a slot.
    NotAPort(Function),
    /// The port has no secondary bus.
    NoBus(Function),
    /// The slot is empty.
    Empty(Function),
    /// The device in the slot did not answer within a second.
    NoAnswer(Function),
    /// The device stays in the slot.
    NotReleased(Function),
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPort(port) => write!(f, "{port} is not a PCI Express root port with a slot"),
            Self::NoBus(port) => write!(f, "the port {port} has no secondary bus"),
            Self::Empty(port) => write!(f, "no device is plugged into the port {port}"),
            Self::NoAnswer(port) => write!(f, "the device in the port {port} does not answer"),
            Self::NotReleased(port) => write!(f, "the device in the port {port} does not go"),
        }
    }
}

impl RootPort {
    /// The root port that is device `device` of bus 0.
    ///
    /// # Errors
    /// [`PortError::NotAPort`].
    pub fn at(device: u8) -> Result<Self, PortError> {
        let function = Function { bus: 0, device, function: 0 };
        let port = function.identity().and_then(|_| function.capability(EXPRESS, EXPRESS_LENGTH)).and_then(
            |express| {
                let capabilities = function.read_u16(express + EXPRESS_CAPABILITIES);
                let is_port = capabilities >> 4 & 0xf == ROOT_PORT && capabilities & SLOT_IMPLEMENTED != 0;
                is_port.then_some(Self { function, express })
            },
        );
        port.ok_or(PortError::NotAPort(function))
    }

    /// Makes it lead to bus `bus`, of which it is the only way, and to these windows: whole units of 1 MiB, or empty. The one for I/O
    /// ports is closed.
    ///
    /// # Safety
    /// Nothing else decodes what is in the windows, and no device behind the port is in use.
    pub(super) unsafe fn lead_to(self, bus: u8, memory: &Range<u64>, prefetchable: &Range<u64>) {
        self.function.write_u32(BUSES, u32::from_le_bytes([self.function.bus, bus, bus, 0]));
        // A base above its limit: no window. The upper half is status, cleared by ones.
        self.function.write_u16(PORTS_WINDOW, 0x00f0);
        let (base, limit) = window_ends(memory);
        self.function.write_u32(MEMORY_WINDOW, window_register(base, limit));
        let (base, limit) = window_ends(prefetchable);
        self.function.write_u32(PREFETCHABLE_WINDOW, window_register(base, limit));
        self.function.write_u32(PREFETCHABLE_BASE_UPPER, (base >> 32) as u32);
        self.function.write_u32(PREFETCHABLE_LIMIT_UPPER, (limit >> 32) as u32);
    }

    /// Powers the slot on and waits until the device in it answers.
    ///
    /// # Errors
    /// [`PortError::NoBus`], [`PortError::Empty`], [`PortError::NoAnswer`]; the slot has no power then.
    pub fn power_on(self) -> Result<Function, PortError> {
        let bus = self.function.read_u8(SECONDARY_BUS);
        if bus == 0 {
            return Err(PortError::NoBus(self.function));
        }
        if self.status() & PRESENT == 0 {
            return Err(PortError::Empty(self.function));
        }
        self.function.enable();
        self.set_power(POWER_INDICATOR_ON);
        let device = Function { bus, device: 0, function: 0 };
        let deadline = Deadline::after(POWER_ON_MICROSECONDS);
        while device.identity().is_none() {
            if deadline.is_past() {
                self.set_power(POWER_INDICATOR_OFF | POWER_OFF);
                return Err(PortError::NoAnswer(self.function));
            }
        }
        Ok(device)
    }

    /// Powers the slot off, upon which QEMU takes the device out, and waits until it is gone.
    ///
    /// # Errors
    /// [`PortError::NotReleased`].
    pub fn power_off(self) -> Result<(), PortError> {
        self.set_power(POWER_INDICATOR_OFF | POWER_OFF);
        let deadline = Deadline::after(POWER_OFF_MICROSECONDS);
        while self.status() & PRESENT != 0 {
            if deadline.is_past() {
                return Err(PortError::NotReleased(self.function));
            }
        }
        self.status();
        Ok(())
    }

    /// Reads the slot status and clears the events in it.
    fn status(self) -> u16 {
        let register = self.express + SLOT_STATUS;
        let status = self.function.read_u16(register);
        self.function.write_u16(register, status & SLOT_EVENTS);
        status
    }

    fn set_power(self, bits: u16) {
        let register = self.express + SLOT_CONTROL;
        let others = self.function.read_u16(register) & !(POWER_INDICATOR | POWER_OFF);
        self.function.write_u16(register, others | bits);
    }

    /// The window for 32-bit memory that is not prefetchable: physical addresses. Empty if there was no room for one.
    pub fn memory_window(self) -> Range<u64> {
        let (base, limit) = self.window(MEMORY_WINDOW);
        window_range(base, limit)
    }

    /// The window for 64-bit prefetchable memory: physical addresses. Empty if there was no room for one.
    pub fn prefetchable_window(self) -> Range<u64> {
        let (base, limit) = self.window(PREFETCHABLE_WINDOW);
        let upper = |offset| u64::from(self.function.read_u32(offset)) << 32;
        window_range(base | upper(PREFETCHABLE_BASE_UPPER), limit | upper(PREFETCHABLE_LIMIT_UPPER))
    }

    /// Base and limit of a window, bits 31…20 of the address; the low four bits of each register are its type.
    fn window(self, offset: u8) -> (u64, u64) {
        let both = self.function.read_u32(offset);
        (u64::from(both & 0xfff0) << 16, u64::from(both & 0xfff0_0000))
    }
}

/// The first and the last unit of a window, by their addresses; the wrong way round if it is empty.
fn window_ends(window: &Range<u64>) -> (u64, u64) {
    if window.is_empty() { (UNIT, 0) } else { (window.start, window.end - UNIT) }
}

/// Base and limit as a register has them, without what is above 4 GiB.
fn window_register(base: u64, limit: u64) -> u32 {
    (base >> 16) as u32 & 0xfff0 | limit as u32 & 0xfff0_0000
}

/// Both ends of a window are in units of 1 MiB, and the limit is its last unit.
fn window_range(base: u64, limit: u64) -> Range<u64> {
    if base <= limit && base != 0 { base..limit + UNIT } else { 0..0 }
}
