// SPDX-License-Identifier: MIT OR Apache-2.0

//! Base address registers: where a function's memory is, how much it is, and placing it.
//!
//! PCI Local Bus 3.0, section 6.2.5.1.

use core::fmt;

use super::{COMMAND, COMMAND_MEMORY, Function};
use crate::layout::PAGE;
use crate::paging::{AddressSpace, MapError, Rights};

/// Offset of the first base address register.
const FIRST: u8 = 0x10;
/// Registers of an ordinary function.
const COUNT: u8 = 6;

/// A memory range that a function decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Physical address; 0 if it was not placed.
    pub address: u64,
    /// Bytes, a power of two of at least 16.
    pub size: u64,
    /// It can be placed above 4 GiB.
    pub is_64_bit: bool,
}

/// Why a base address register cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarError {
    /// There is no such register, or it is the upper half of another, or it is not implemented.
    Missing(u8),
    /// It decodes I/O ports.
    Ports(u8),
    /// It has no address, or one that its size does not divide.
    Address(u8, u64),
    /// It does not fit below 4 GiB, and must.
    TooHigh(u8, u64),
    /// It has fewer bytes than the driver needs.
    TooSmall(u8, u64),
    /// Its pages could not be mapped.
    Map(u8, MapError),
}

impl fmt::Display for BarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(index) => write!(f, "BAR {index} is not implemented"),
            Self::Ports(index) => write!(f, "BAR {index} is one of I/O ports, not of memory"),
            Self::Address(index, address) => {
                write!(f, "BAR {index} has the address {address:#x}, which cannot be")
            }
            Self::TooHigh(index, address) => {
                write!(f, "BAR {index} has 32 bits, which cannot hold {address:#x}")
            }
            Self::TooSmall(index, size) => write!(f, "BAR {index} has {size:#x} bytes only"),
            Self::Map(index, error) => write!(f, "BAR {index} cannot be mapped: {error}"),
        }
    }
}

impl Function {
    /// The range of the register `index`, sized with memory decoding switched off for that moment.
    ///
    /// # Errors
    /// [`BarError::Missing`], [`BarError::Ports`].
    pub fn bar(self, index: u8) -> Result<Bar, BarError> {
        if index >= COUNT {
            return Err(BarError::Missing(index));
        }
        let offset = FIRST + 4 * index;
        let low = self.read_u32(offset);
        if low & 1 != 0 {
            return Err(BarError::Ports(index));
        }
        let is_64_bit = low & 0b110 == 0b100;
        if is_64_bit && index + 1 == COUNT {
            return Err(BarError::Missing(index));
        }
        let address =
            u64::from(low & !0xf) | if is_64_bit { u64::from(self.read_u32(offset + 4)) << 32 } else { 0 };

        let command = self.read_u16(COMMAND);
        self.write_u16(COMMAND, command & !COMMAND_MEMORY);
        self.write_address(offset, is_64_bit, u64::MAX);
        let ones = u64::from(self.read_u32(offset) & !0xf);
        let high = if is_64_bit { self.read_u32(offset + 4) } else { u32::MAX };
        self.write_address(offset, is_64_bit, address);
        self.write_u16(COMMAND, command);

        let mask = u64::from(high) << 32 | ones;
        if ones == 0 && (high == 0 || !is_64_bit) {
            return Err(BarError::Missing(index));
        }
        Ok(Bar { address, size: (!mask).wrapping_add(1), is_64_bit })
    }

    /// Gives the register `index`, whose memory is `bar`, the address `address`. Decoding must be off.
    ///
    /// # Errors
    /// [`BarError::Address`] if the size does not divide the address, [`BarError::TooHigh`].
    ///
    /// # Safety
    /// `address .. address + bar.size` is in a window that leads to this function, and nothing else is placed there.
    pub unsafe fn place_bar(self, index: u8, bar: &mut Bar, address: u64) -> Result<(), BarError> {
        if address == 0 || !address.is_multiple_of(bar.size) {
            return Err(BarError::Address(index, address));
        }
        if !bar.is_64_bit && address + bar.size > 1 << 32 {
            return Err(BarError::TooHigh(index, address));
        }
        self.write_address(FIRST + 4 * index, bar.is_64_bit, address);
        bar.address = address;
        Ok(())
    }

    /// Takes the address of the register `index`, whose memory is `bar`, away: 0 is none.
    pub fn clear_bar(self, index: u8, bar: &Bar) {
        self.write_address(FIRST + 4 * index, bar.is_64_bit, 0);
    }

    fn write_address(self, offset: u8, is_64_bit: bool, address: u64) {
        self.write_u32(offset, address as u32);
        if is_64_bit {
            self.write_u32(offset + 4, (address >> 32) as u32);
        }
    }
}

/// A BAR that is mapped, to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedBar {
    /// Address of its first byte.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

impl MappedBar {
    /// Maps the range of the register `index`, in whole pages.
    ///
    /// # Errors
    /// [`BarError::Address`] if it was not placed, [`BarError::Map`].
    pub fn map(bar: Bar, index: u8, rights: Rights, space: &mut AddressSpace) -> Result<Self, BarError> {
        // A BAR smaller than a page may share it with another device's: `placement` gives each its own page,
        // and if not, the second one to be mapped is refused.
        let start = bar.address & !(PAGE - 1);
        let length = (bar.address - start + bar.size).next_multiple_of(PAGE);
        if bar.address == 0 {
            return Err(BarError::Address(index, bar.address));
        }
        space.map(start, length, rights).map_err(|error| BarError::Map(index, error))?;
        Ok(Self { address: bar.address, size: bar.size })
    }

    /// Unmaps it. Nothing may refer to its bytes any more.
    pub fn unmap(self, space: &mut AddressSpace) {
        let start = self.address & !(PAGE - 1);
        space.unmap(start, (self.address - start + self.size).next_multiple_of(PAGE));
    }

    /// The address of the `length` bytes at `offset`, if they lie within.
    pub fn at(self, offset: u64, length: u64) -> Option<u64> {
        (offset.checked_add(length)? <= self.size).then_some(self.address + offset)
    }
}
