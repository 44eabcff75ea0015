// SPDX-License-Identifier: MIT OR Apache-2.0

//! The driver of QEMU's `ivshmem-doorbell`: memory shared with others, and interrupts both ways.
//!
//! QEMU's "Device Specification for Inter-VM shared memory device": BAR 0 holds the registers, BAR 1 the MSI-X table, BAR 2
//! the memory. Such a device carries the control ring on bus 0 and stays; each client's RAM comes with another one, behind a
//! root port, and goes with the client.

use core::fmt;
use core::sync::atomic::{Ordering, fence};

use skerry::virtq::Notify;

use crate::apic::InterruptTarget;
use crate::interrupts::wake::WAKE_VECTOR;
use crate::paging::{AddressSpace, Rights};
use crate::pci::bar::{Bar, BarError, MappedBar};
use crate::pci::bridge::{PortError, RootPort};
use crate::pci::msix::{MsixCapability, MsixError};
use crate::pci::placement::Window;
use crate::pci::{Function, Identity};

/// What the device says it is.
pub const IDENTITY: Identity = Identity { vendor: 0x1af4, device: 0x1110 };

/// Which BAR is what.
const REGISTERS: u8 = 0;
const INTERRUPT_TABLE: u8 = 1;
const MEMORY: u8 = 2;
/// The doorbell register: peer in the upper 16 bits, vector in the lower.
const DOORBELL: u64 = 12;
/// Bytes of registers.
const REGISTERS_LENGTH: u64 = 16;

/// Why a device cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IvshmemError {
    /// It is something else.
    Identity(Identity),
    /// A BAR cannot be used.
    Bar(BarError),
    /// Interrupts cannot be set up.
    Msix(MsixError),
    /// The slot cannot be used.
    Port(PortError),
    /// The port's windows are too small for the BAR of this number and size.
    Window(u8, u64),
}

impl fmt::Display for IvshmemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(identity) => {
                write!(f, "the device is {identity}, not an ivshmem device ({IDENTITY})")
            }
            Self::Bar(error) => write!(f, "{error}"),
            Self::Msix(error) => write!(f, "{error}"),
            Self::Port(error) => write!(f, "{error}"),
            Self::Window(bar, size) => {
                write!(f, "BAR {bar} of {size:#x} bytes does not fit the port's window")
            }
        }
    }
}

impl From<BarError> for IvshmemError {
    fn from(error: BarError) -> Self {
        Self::Bar(error)
    }
}

impl From<MsixError> for IvshmemError {
    fn from(error: MsixError) -> Self {
        Self::Msix(error)
    }
}

impl From<PortError> for IvshmemError {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

/// A device that is mapped.
#[derive(Debug)]
pub struct Ivshmem {
    function: Function,
    registers: MappedBar,
    memory: MappedBar,
}

/// A client's device, in the slot of a root port.
#[derive(Debug)]
pub struct PluggedIvshmem {
    port: RootPort,
    /// The device.
    pub device: Ivshmem,
}

/// The device's BARs: registers, interrupt table, memory.
type Bars = [Bar; 3];

fn bars(function: Function) -> Result<Bars, IvshmemError> {
    match function.identity() {
        Some(IDENTITY) => {
            Ok([function.bar(REGISTERS)?, function.bar(INTERRUPT_TABLE)?, function.bar(MEMORY)?])
        }
        other => Err(IvshmemError::Identity(other.unwrap_or(Identity { vendor: 0xffff, device: 0xffff }))),
    }
}

impl Ivshmem {
    /// Sets up a device that has been placed. Each of its vectors raises the wake-up vector: the first is for
    /// the ring in its own memory, the others are kicks of clients.
    ///
    /// # Errors
    /// [`IvshmemError`]. What was mapped may stay mapped: the image does not go on without this device.
    pub fn open(
        function: Function,
        space: &mut AddressSpace,
        target: InterruptTarget,
    ) -> Result<Self, IvshmemError> {
        let bars = bars(function)?;
        let msix = MsixCapability::of(function)?;
        if msix.bar != INTERRUPT_TABLE {
            return Err(MsixError::Missing.into());
        }
        let device = Self::map(function, &bars, space)?;
        let table =
            MappedBar::map(bars[usize::from(INTERRUPT_TABLE)], INTERRUPT_TABLE, Rights::Registers, space)?;
        // SAFETY: `table` is the mapped BAR of the table (just checked), and this driver alone uses the device.
        unsafe { msix.enable(function, table, target, WAKE_VECTOR) }?;
        Ok(device)
    }

    /// Maps registers and memory, and lets the function decode them.
    fn map(function: Function, bars: &Bars, space: &mut AddressSpace) -> Result<Self, IvshmemError> {
        let [registers, _, memory] = *bars;
        if registers.size < REGISTERS_LENGTH {
            return Err(BarError::TooSmall(REGISTERS, registers.size).into());
        }
        let registers = MappedBar::map(registers, REGISTERS, Rights::Registers, space)?;
        match MappedBar::map(memory, MEMORY, Rights::ReadWrite, space) {
            Ok(memory) => {
                function.enable();
                Ok(Self { function, registers, memory })
            }
            Err(error) => {
                registers.unmap(space);
                Err(error.into())
            }
        }
    }

    /// The shared memory: address and length.
    pub fn memory(&self) -> (u64, u64) {
        (self.memory.address, self.memory.size)
    }

    /// The doorbell, which goes on working for as long as the device is mapped.
    pub fn doorbell(&self, value: u32) -> Doorbell {
        Doorbell { register: self.registers.address + DOORBELL, value }
    }
}

/// How a peer is interrupted. To be used only while the device that it belongs to is mapped.
#[derive(Debug, Clone, Copy)]
pub struct Doorbell {
    register: u64,
    value: u32,
}

impl Doorbell {
    /// The same device's doorbell, for another peer or vector.
    pub fn with_value(self, value: u32) -> Self {
        Self { value, ..self }
    }
}

impl Notify for Doorbell {
    fn call(&mut self) {
        // What was written to the shared memory is seen by whoever the doorbell wakes: its partner is the read of the
        // event that the peer waits for, a system call or an interrupt, which orders the loads behind it.
        fence(Ordering::SeqCst);
        // SAFETY: the register is one of at least `REGISTERS_LENGTH` bytes of registers (checked in `map`), mapped as long as
        // the device is (the type's condition), and four-byte aligned. Writing it interrupts somebody else, if anybody.
        unsafe { core::ptr::write_volatile(self.register as *mut u32, self.value) };
    }
}

impl PluggedIvshmem {
    /// Powers the slot of the root port on that is device `device` of bus 0, and sets up the device in it: places its BARs
    /// in the port's windows and maps them. It raises no interrupts: a client's kicks are vectors of the device that stays,
    /// because QEMU goes on polling an unplugged device's.
    ///
    /// # Errors
    /// [`IvshmemError`]; the slot has no power then, so that the device goes.
    pub fn open(device: u8, space: &mut AddressSpace) -> Result<Self, IvshmemError> {
        let port = RootPort::at(device)?;
        let function = port.power_on()?;
        let placed = bars(function).and_then(|bars| place(port, function, bars));
        match placed.and_then(|bars| Ivshmem::map(function, &bars, space)) {
            Ok(device) => Ok(Self { port, device }),
            Err(error) => {
                // The first error is the one to tell.
                let _ = port.power_off();
                Err(error)
            }
        }
    }

    /// Takes the device out of use, unmaps it, and takes it out of its slot. Nothing may refer to its memory any more.
    ///
    /// # Errors
    /// [`PortError::NotReleased`]; it is unmapped all the same.
    pub fn close(self, space: &mut AddressSpace) -> Result<(), PortError> {
        let Ivshmem { function, registers, memory } = self.device;
        function.disable();
        registers.unmap(space);
        memory.unmap(space);
        self.port.power_off()
    }
}

/// Places registers and interrupt table in the port's memory window, each on pages of its own, and the memory in its
/// prefetchable window.
fn place(port: RootPort, function: Function, mut bars: Bars) -> Result<Bars, IvshmemError> {
    let mut low = Window(port.memory_window());
    let mut high = Window(port.prefetchable_window());
    for (index, bar) in (REGISTERS..).zip(&mut bars) {
        let window = if index == MEMORY { &mut high } else { &mut low };
        let address = window.take(bar.size).ok_or(IvshmemError::Window(index, bar.size))?;
        // SAFETY: the window leads to this port's only device, and `Window::take` hands out each part of it once.
        unsafe { function.place_bar(index, bar, address)? };
    }
    Ok(bars)
}
