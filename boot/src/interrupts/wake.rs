// SPDX-License-Identifier: MIT OR Apache-2.0

//! Device interrupts only wake the processor: a handler counts and acknowledges, and the main loop does the rest.
//!
//! Interrupts are let in at one place, [`halt`], so nothing else can be interrupted, and a wake-up between the last
//! look at the rings and the halt is not lost: the local APIC holds it until then.

use core::arch::{asm, naked_asm};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::interrupts::exceptions::Stub;

/// Wake-ups so far.
static WAKE_UPS: AtomicU64 = AtomicU64::new(0);
/// Address of the local APIC's end-of-interrupt register, or 0: then it is the MSR of x2APIC mode.
static END_OF_INTERRUPT: AtomicU64 = AtomicU64::new(0);
/// Interrupts on vectors that nothing was set up to use.
static UNEXPECTED: AtomicU32 = AtomicU32::new(0);

/// The vector that all devices' interrupts use.
pub const WAKE_VECTOR: u8 = 0x40;
/// The vector of the local APIC's spurious interrupts, which are not acknowledged.
pub const SPURIOUS_VECTOR: u8 = 0xff;

/// Tells where interrupts are acknowledged: the address of the register, mapped, or `None` for x2APIC mode.
pub fn set_end_of_interrupt(register: Option<u64>) {
    END_OF_INTERRUPT.store(register.unwrap_or(0), Ordering::Relaxed);
}

/// The stub of a vector of 32…255.
pub fn stub(vector: u8) -> Stub {
    match vector {
        WAKE_VECTOR => wake,
        SPURIOUS_VECTOR => spurious,
        _ => unexpected,
    }
}

/// Counts and acknowledges. It calls no Rust, so there is no SSE state to save.
#[unsafe(naked)]
unsafe extern "C" fn wake() {
    naked_asm!(
        "inc qword ptr [rip + {wake_ups}]",
        "jmp {acknowledge}",
        wake_ups = sym WAKE_UPS,
        acknowledge = sym acknowledge,
    )
}

#[unsafe(naked)]
unsafe extern "C" fn unexpected() {
    naked_asm!(
        "inc dword ptr [rip + {unexpected}]",
        "jmp {acknowledge}",
        unexpected = sym UNEXPECTED,
        acknowledge = sym acknowledge,
    )
}

/// The local APIC took an interrupt back: there is nothing to acknowledge.
#[unsafe(naked)]
unsafe extern "C" fn spurious() {
    naked_asm!("iretq")
}

#[unsafe(naked)]
unsafe extern "C" fn acknowledge() {
    naked_asm!(
        "push rax",
        "mov rax, [rip + {register}]",
        "test rax, rax",
        "jz 2f",
        "mov dword ptr [rax], 0",
        "pop rax",
        "iretq",
        // x2APIC: MSR 0x80b.
        "2: push rcx",
        "push rdx",
        "mov ecx, 0x80b",
        "xor eax, eax",
        "xor edx, edx",
        "wrmsr",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "iretq",
        register = sym END_OF_INTERRUPT,
    )
}

/// Waits for an interrupt, with interrupts let in only while the processor halts.
///
/// STI takes effect after the next instruction, so no interrupt comes between it and HLT: one that is pending
/// already ends the halt at once.
pub fn halt() {
    // SAFETY: the interrupt descriptor table has a handler for every vector, which keeps all registers and runs on a stack
    // of its own (so the red zone is safe); memory that it changes is accessed through atomics only.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Wake-ups so far.
pub fn wake_ups() -> u64 {
    WAKE_UPS.load(Ordering::Relaxed)
}

/// Interrupts that no device was told to send.
pub fn unexpected_interrupts() -> u32 {
    UNEXPECTED.load(Ordering::Relaxed)
}
