// SPDX-License-Identifier: MIT OR Apache-2.0

//! A processor exception ends the image, after a report of everything that helps to find the cause.
//!
//! Vectors and error codes: Intel SDM volume 3, section 7.15 ("Exception and interrupt reference").

use core::arch::naked_asm;
use core::fmt::Write as _;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::registers::control::Cr2;

use crate::exit::{Status, exit};
use crate::layout;
use crate::serial::Serial;

/// What a stub leaves on the stack: the registers in the order of `report_entry`'s pushes, the vector and the error code
/// of the stub, and the processor's frame.
#[repr(C)]
struct ExceptionFrame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    vector: u64,
    error_code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// The address of a stub.
pub type Stub = unsafe extern "C" fn();

/// The stubs of the vectors 0…31.
pub fn stubs() -> [Stub; 32] {
    macro_rules! stubs {
        ($($kind:ident $vector:literal)*) => { [$($kind::<$vector>),*] };
    }
    stubs![
        plain 0 plain 1 plain 2 plain 3 plain 4 plain 5 plain 6 plain 7
        coded 8 plain 9 coded 10 coded 11 coded 12 coded 13 coded 14 plain 15
        plain 16 coded 17 plain 18 plain 19 plain 20 coded 21 plain 22 plain 23
        plain 24 plain 25 plain 26 plain 27 plain 28 coded 29 coded 30 plain 31
    ]
}

/// A vector for which the processor pushes no error code: zero takes its place.
#[unsafe(naked)]
unsafe extern "C" fn plain<const VECTOR: u8>() {
    naked_asm!("push 0", "push {vector}", "jmp {entry}", vector = const VECTOR, entry = sym report_entry)
}

/// A vector for which the processor pushes an error code.
#[unsafe(naked)]
unsafe extern "C" fn coded<const VECTOR: u8>() {
    naked_asm!("push {vector}", "jmp {entry}", vector = const VECTOR, entry = sym report_entry)
}

/// Completes the [`ExceptionFrame`] and calls [`report`], which does not return, so that neither the registers nor
/// the SSE state have to be restored.
#[unsafe(naked)]
unsafe extern "C" fn report_entry() {
    naked_asm!(
        "push rax",
        "push rbx",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push rbp",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov rdi, rsp",
        "cld",
        "and rsp, -16",
        "call {report}",
        "ud2",
        report = sym report,
    )
}

extern "C" fn report(frame: &ExceptionFrame) -> ! {
    static REPORTING: AtomicBool = AtomicBool::new(false);
    if REPORTING.swap(true, Ordering::Relaxed) {
        exit(Status::NestedException);
    }
    let cr2 = Cr2::read_raw();
    // Serial output cannot fail. It bypasses the log's level: this is always told.
    let _ = writeln!(
        Serial,
        "exception {} ({}) error code {:#x} at RIP {:#018x}\n\
         \x20 CR2 {cr2:#018x}  RFLAGS {:#018x}  CS {:#06x}  SS {:#06x}\n\
         \x20 RAX {:#018x}  RBX {:#018x}  RCX {:#018x}  RDX {:#018x}\n\
         \x20 RSI {:#018x}  RDI {:#018x}  RBP {:#018x}  RSP {:#018x}\n\
         \x20 R8  {:#018x}  R9  {:#018x}  R10 {:#018x}  R11 {:#018x}\n\
         \x20 R12 {:#018x}  R13 {:#018x}  R14 {:#018x}  R15 {:#018x}",
        frame.vector,
        name(frame.vector),
        frame.error_code,
        frame.rip,
        frame.rflags,
        frame.cs,
        frame.ss,
        frame.rax,
        frame.rbx,
        frame.rcx,
        frame.rdx,
        frame.rsi,
        frame.rdi,
        frame.rbp,
        frame.rsp,
        frame.r8,
        frame.r9,
        frame.r10,
        frame.r11,
        frame.r12,
        frame.r13,
        frame.r14,
        frame.r15,
    );
    if frame.vector == PAGE_FAULT {
        explain_page_fault(frame.error_code, cr2);
    }
    exit(Status::Exception)
}

const PAGE_FAULT: u64 = 14;

/// Says in words what the error code of a page fault says in bits, and whether a guard page was hit.
fn explain_page_fault(error_code: u64, address: u64) {
    let action = match error_code & 0b1_0010 {
        0b0_0000 => "read",
        0b0_0010 => "write",
        _ => "instruction fetch",
    };
    let reason = if error_code & 1 == 0 { "not mapped" } else { "not allowed" };
    let _ = writeln!(Serial, "  {action} at {address:#x}: {reason}");
    let stacks = [layout::main_stack()].into_iter().chain(layout::interrupt_stacks());
    for stack in stacks.filter(|stack| (stack.guard..stack.guard + layout::PAGE).contains(&address)) {
        let _ = writeln!(Serial, "  the {} stack overflowed", stack.name);
    }
}

fn name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid task state segment",
        11 => "segment not present",
        12 => "stack segment fault",
        13 => "general protection fault",
        14 => "page fault",
        16 => "x87 floating point",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD floating point",
        20 => "virtualization",
        21 => "control protection",
        28 => "hypervisor injection",
        29 => "VMM communication",
        30 => "security",
        _ => "reserved",
    }
}
