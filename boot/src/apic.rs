// SPDX-License-Identifier: MIT OR Apache-2.0

//! The local APIC, set up to take message-signalled interrupts; the legacy interrupt controllers, masked.
//!
//! Intel SDM volume 3, chapter 12. x2APIC mode is used where the processor has it, else the registers in memory.

use core::arch::x86_64::__cpuid;

use x86_64::instructions::port::PortWriteOnly;
use x86_64::registers::model_specific::Msr;

use crate::interrupts::wake::{self, SPURIOUS_VECTOR};
use crate::layout::PAGE;
use crate::paging::{AddressSpace, MapError, Rights};

/// IA32_APIC_BASE: bit 11 enables the local APIC, bit 10 its x2APIC mode, the rest is where its registers are.
const APIC_BASE: u32 = 0x1b;
const ENABLE: u64 = 1 << 11;
const ENABLE_X2APIC: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Registers, by their offset in memory; in x2APIC mode the MSR is 0x800 + offset / 16.
const IDENTIFIER: u16 = 0x20;
const TASK_PRIORITY: u16 = 0x80;
const END_OF_INTERRUPT: u16 = 0xb0;
const SPURIOUS: u16 = 0xf0;
/// Bit 8 of the spurious vector register: the local APIC delivers interrupts.
const SOFTWARE_ENABLE: u32 = 1 << 8;

/// Where messages of interrupts go: the local APIC of this processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterruptTarget {
    /// The APIC's identifier, below 256.
    identifier: u8,
}

impl InterruptTarget {
    /// The address and the data of the message that raises `vector` (fixed delivery, edge triggered).
    pub fn message(self, vector: u8) -> (u64, u32) {
        (0xfee0_0000 | u64::from(self.identifier) << 12, u32::from(vector))
    }
}

enum LocalApic {
    /// Registers are MSRs.
    X2,
    /// Registers are in memory, from this address on.
    Memory(u64),
}

/// Masks the legacy controllers, enables the local APIC and says where interrupt messages go.
///
/// # Errors
/// As [`AddressSpace::map`], if the registers are in memory.
pub fn initialize(space: &mut AddressSpace) -> Result<InterruptTarget, MapError> {
    mask_legacy_controllers();
    let mut base = Msr::new(APIC_BASE);
    // SAFETY: every x86-64 processor has this MSR.
    let found = unsafe { base.read() };
    // SAFETY: this enables the APIC where it is, in the mode that it has.
    unsafe { base.write(found | ENABLE) };
    let x2apic = __cpuid(1).ecx & (1 << 21) != 0;
    let apic = if x2apic {
        // SAFETY: the processor has x2APIC mode (CPUID.1:ECX bit 21), and the APIC is enabled: from the disabled state this
        // step would be a general protection fault (Intel SDM volume 3, section 12.12.5).
        unsafe { base.write(found | ENABLE | ENABLE_X2APIC) };
        LocalApic::X2
    } else {
        let address = found & BASE_ADDRESS;
        space.map(address, PAGE, Rights::Registers)?;
        LocalApic::Memory(address)
    };
    apic.write(TASK_PRIORITY, 0);
    apic.write(SPURIOUS, SOFTWARE_ENABLE | u32::from(SPURIOUS_VECTOR));
    let identifier = apic.identifier();
    wake::set_end_of_interrupt(apic.memory(END_OF_INTERRUPT));
    log::debug!("local APIC {identifier}, {}", if x2apic { "x2APIC mode" } else { "registers in memory" });
    Ok(InterruptTarget { identifier })
}

impl LocalApic {
    fn memory(&self, register: u16) -> Option<u64> {
        match self {
            Self::X2 => None,
            Self::Memory(base) => Some(base + u64::from(register)),
        }
    }

    fn write(&self, register: u16, value: u32) {
        match self.memory(register) {
            // SAFETY: the registers are mapped, uncached; `register` is one of the constants above, 16-byte aligned.
            Some(address) => unsafe { core::ptr::write_volatile(address as *mut u32, value) },
            // SAFETY: x2APIC mode is on, and `register` is one that this mode has.
            None => unsafe { Msr::new(0x800 + u32::from(register / 16)).write(u64::from(value)) },
        }
    }

    /// This processor's identifier. There is one processor, so it is a small one.
    fn identifier(&self) -> u8 {
        match self.memory(IDENTIFIER) {
            // SAFETY: as for `write`. The identifier is in bits 31…24.
            Some(address) => unsafe { core::ptr::read_volatile(address as *const u32) }.to_be_bytes()[0],
            // SAFETY: as for `write`; the identifier is all 32 bits, of which messages can carry the low eight.
            None => unsafe { Msr::new(0x800 + u32::from(IDENTIFIER / 16)).read() }.to_le_bytes()[0],
        }
    }
}

/// Moves the two 8259 controllers' vectors off the exceptions and masks all their lines.
fn mask_legacy_controllers() {
    // (port, value): initialization of both with vectors 0x20 and 0x28, cascade on line 2, 8086 mode; then all masked.
    const SEQUENCE: [(u16, u8); 10] = [
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, 0x20),
        (0xa1, 0x28),
        (0x21, 4),
        (0xa1, 2),
        (0x21, 1),
        (0xa1, 1),
        (0x21, 0xff),
        (0xa1, 0xff),
    ];
    for (port, value) in SEQUENCE {
        // SAFETY: these are the ports of the 8259 controllers, and interrupts are off; no memory is touched.
        unsafe { PortWriteOnly::<u8>::new(port).write(value) };
    }
}
