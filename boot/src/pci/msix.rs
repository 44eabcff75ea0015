// SPDX-License-Identifier: MIT OR Apache-2.0

//! MSI-X: interrupts as messages. PCI Local Bus 3.0, section 6.8.2.

use core::fmt;

use super::Function;
use super::bar::MappedBar;
use crate::apic::InterruptTarget;

/// The capability's identifier.
const CAPABILITY: u8 = 0x11;
/// Bytes of the structure.
const LENGTH: u8 = 12;
/// Message control: MSI-X is on.
const ENABLE: u16 = 1 << 15;
/// Message control: all vectors are masked.
const MASK_ALL: u16 = 1 << 14;
/// Bytes of a table entry: address (le64), data (le32), control (le32; bit 0 masks).
const ENTRY: u64 = 16;

/// Where a function's MSI-X table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsixCapability {
    capability: u8,
    /// The base address register of the table.
    pub bar: u8,
    /// The table's offset in that range.
    offset: u64,
    /// Entries, 1…2048.
    entries: u16,
}

/// Why MSI-X cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MsixError {
    /// The function has no such capability.
    Missing,
    /// The table leaves its BAR.
    Table(u64),
}

impl fmt::Display for MsixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "it has no MSI-X capability"),
            Self::Table(offset) => write!(f, "its MSI-X table at offset {offset:#x} leaves its BAR"),
        }
    }
}

impl MsixCapability {
    /// Reads the capability of `function`.
    ///
    /// # Errors
    /// [`MsixError::Missing`].
    pub fn of(function: Function) -> Result<Self, MsixError> {
        let capability = function.capability(CAPABILITY, LENGTH).ok_or(MsixError::Missing)?;
        let table = function.read_u32(capability + 4);
        Ok(Self {
            capability,
            bar: (table & 7) as u8,
            offset: u64::from(table & !7),
            entries: (function.read_u16(capability + 2) & 0x7ff) + 1,
        })
    }

    /// Lets every entry of the table raise `vector` at `target`, and switches MSI-X on.
    ///
    /// # Errors
    /// [`MsixError::Table`].
    ///
    /// # Safety
    /// `table` is the mapped range of the register `self.bar` of `function`, and nothing else writes its table.
    pub unsafe fn enable(
        self,
        function: Function,
        table: MappedBar,
        target: InterruptTarget,
        vector: u8,
    ) -> Result<(), MsixError> {
        let length = u64::from(self.entries) * ENTRY;
        let start = table.at(self.offset, length).ok_or(MsixError::Table(self.offset))?;
        let (address, data) = target.message(vector);
        // The last word of an entry is its control: 0, not masked.
        let words = [address as u32, (address >> 32) as u32, data, 0];
        function.write_u16(self.capability + 2, ENABLE | MASK_ALL);
        for entry in (start..start + length).step_by(ENTRY as usize) {
            for (register, value) in (entry..).step_by(4).zip(words) {
                // SAFETY: the table lies in the mapped range (checked by `at`), 8-byte aligned as the capability's format
                // says; it is the device's table (the caller's word), and a message can only go to the local APIC.
                unsafe { core::ptr::write_volatile(register as *mut u32, value) };
            }
        }
        function.write_u16(self.capability + 2, ENABLE);
        Ok(())
    }
}
