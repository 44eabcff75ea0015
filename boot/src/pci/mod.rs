// SPDX-License-Identifier: MIT OR Apache-2.0

//! PCI: configuration space, enumeration, capabilities.
//!
//! Configuration mechanism #1 (ports 0xcf8 and 0xcfc; PCI Local Bus 3.0, section 3.2.2.3.2) reaches the first 256 bytes of
//! a function's configuration space. All that the image uses is there, and no table of the firmware has to be parsed.

pub mod bar;
pub mod bridge;
pub mod msix;
pub mod placement;

use core::fmt;

use x86_64::instructions::port::{Port, PortWriteOnly};

/// Command register: the function answers memory accesses.
const COMMAND_MEMORY: u16 = 1 << 1;
/// Command register: the function may access memory, which includes sending interrupt messages.
const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Command register: the legacy interrupt line stays silent.
const COMMAND_INTERRUPT_DISABLE: u16 = 1 << 10;
/// Status register: there is a list of capabilities.
const STATUS_CAPABILITIES: u16 = 1 << 4;

/// Offsets of registers.
const VENDOR: u8 = 0x00;
const DEVICE: u8 = 0x02;
const COMMAND: u8 = 0x04;
const STATUS: u8 = 0x06;
const HEADER_TYPE: u8 = 0x0e;
const CAPABILITIES: u8 = 0x34;

/// Capability list entries that are followed: more than fit into a configuration space, so a list that loops ends.
const CAPABILITIES_MAXIMUM: usize = 48;

/// A function, by where it is. Its registers are read and written by naming their offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// Bus number.
    pub bus: u8,
    /// Device number, 0…31.
    pub device: u8,
    /// Function number, 0…7.
    pub function: u8,
}

/// What a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

/// The functions of `bus` that answer.
pub fn functions(bus: u8) -> impl Iterator<Item = (Function, Identity)> {
    (0..32u8).flat_map(move |device| {
        let first = Function { bus, device, function: 0 };
        let multiple = first.identity().is_some() && first.read_u8(HEADER_TYPE) & 0x80 != 0;
        let count = if multiple { 8 } else { 1 };
        (0..count).filter_map(move |function| {
            let function = Function { bus, device, function };
            function.identity().map(|identity| (function, identity))
        })
    })
}

impl Function {
    /// What it is; `None` if nothing answers.
    pub fn identity(self) -> Option<Identity> {
        let identity = Identity { vendor: self.read_u16(VENDOR), device: self.read_u16(DEVICE) };
        (identity.vendor != 0xffff).then_some(identity)
    }

    /// Lets it answer memory accesses, access memory and send messages; silences its interrupt line.
    pub fn enable(self) {
        let enabled = COMMAND_MEMORY | COMMAND_BUS_MASTER | COMMAND_INTERRUPT_DISABLE;
        self.write_u16(COMMAND, self.read_u16(COMMAND) | enabled);
    }

    /// The opposite of [`Function::enable`].
    pub fn disable(self) {
        let disabled = COMMAND_MEMORY | COMMAND_BUS_MASTER;
        self.write_u16(COMMAND, self.read_u16(COMMAND) & !disabled);
    }

    /// The capabilities whose structure has room for `length` bytes: identifier, and offset of the structure.
    pub fn capabilities(self, length: u8) -> impl Iterator<Item = (u8, u8)> {
        let listed = self.read_u16(STATUS) & STATUS_CAPABILITIES != 0;
        let mut next = if listed { self.read_u8(CAPABILITIES) & !3 } else { 0 };
        core::iter::from_fn(move || {
            let offset = next;
            // A structure lies behind the header.
            (offset >= 0x40).then(|| {
                next = self.read_u8(offset + 1) & !3;
                (self.read_u8(offset), offset)
            })
        })
        .take(CAPABILITIES_MAXIMUM)
        .filter(move |(_, offset)| *offset <= u8::MAX - (length - 1))
    }

    /// The offset of the first capability of that identifier whose structure has room for `length` bytes.
    pub fn capability(self, identifier: u8, length: u8) -> Option<u8> {
        self.capabilities(length).find(|(found, _)| *found == identifier).map(|(_, offset)| offset)
    }

    fn select(self, offset: u8) {
        let address = 1 << 31
            | u32::from(self.bus) << 16
            | u32::from(self.device) << 11
            | u32::from(self.function) << 8
            | u32::from(offset & !3);
        // SAFETY: the address port of the configuration mechanism; writing it selects a register and changes nothing.
        unsafe { PortWriteOnly::<u32>::new(0xcf8).write(address) };
    }

    /// Reads the byte at `offset`.
    pub fn read_u8(self, offset: u8) -> u8 {
        self.read_u32(offset & !3).to_le_bytes()[usize::from(offset & 3)]
    }

    /// Reads the 16-bit register at `offset`, which is even.
    pub fn read_u16(self, offset: u8) -> u16 {
        (self.read_u32(offset & !3) >> (8 * (offset & 2))) as u16
    }

    /// Reads the 32-bit register at `offset`, a multiple of four.
    pub fn read_u32(self, offset: u8) -> u32 {
        self.select(offset);
        // SAFETY: reading a configuration register has no side effect in the functions that the image meets.
        unsafe { Port::<u32>::new(0xcfc).read() }
    }

    /// Writes the 16-bit register at `offset`, which is even.
    fn write_u16(self, offset: u8, value: u16) {
        self.select(offset);
        // SAFETY: `pci` writes command, slot and message control registers, and those below; none moves memory that the
        // image uses, because base addresses are written by `bar` only, within a window that nothing else uses.
        unsafe { Port::<u16>::new(0xcfc + u16::from(offset & 2)).write(value) }
    }

    /// Writes the 32-bit register at `offset`, a multiple of four.
    fn write_u32(self, offset: u8, value: u32) {
        self.select(offset);
        // SAFETY: as for `write_u16`.
        unsafe { Port::<u32>::new(0xcfc).write(value) }
    }
}
