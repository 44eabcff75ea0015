// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the processor is, and what of it is switched on at the start because it is there: protections, and the AVX registers, for
//! copies.
//!
//! Features are told by CPUID (Intel SDM, volume 2, chapter "CPUID"); QEMU's translator by its signature in the leaf that is
//! reserved for hypervisors.

use core::arch::x86_64::{__cpuid, __cpuid_count, CpuidResult};

use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

use crate::copy::{Processor, Routine};

/// The leaf of features, and what ECX says in it.
const FEATURES: u32 = 1;
const ECX_XSAVE: u32 = 1 << 26;
const ECX_AVX: u32 = 1 << 28;
const ECX_HYPERVISOR: u32 = 1 << 31;
/// The leaf of further features, and what EBX, ECX and EDX say in it.
const STRUCTURED_FEATURES: u32 = 7;
const EBX_SMEP: u32 = 1 << 7;
const EBX_ERMS: u32 = 1 << 9;
const EBX_SMAP: u32 = 1 << 20;
const ECX_UMIP: u32 = 1 << 2;
const EDX_FSRM: u32 = 1 << 4;
/// The leaf with a hypervisor's signature in EBX, ECX, EDX; and that of QEMU's translator.
const HYPERVISOR: u32 = 0x4000_0000;
const TCG: [&[u8; 4]; 3] = [b"TCGT", b"CGTC", b"GTCG"];

/// Subleaf 0 of the leaf `number`, if the processor has it: a basic one, or one from 0x8000_0000 on.
pub fn leaf(number: u32) -> Option<CpuidResult> {
    const EXTENDED: u32 = 1 << 31;
    (__cpuid(number & EXTENDED).eax >= number).then(|| __cpuid_count(number, 0))
}

/// Switches on, where the processor has them, SMEP and SMAP, by which the image can neither execute nor access what is mapped as a
/// user's, and UMIP, by which code without privilege does not learn where the descriptor tables are. There are no such pages and there is no such
/// code: should damage to the page tables make some, they are of less use. Called with page tables that map nothing as a user's.
pub fn protect() {
    let Some(features) = leaf(STRUCTURED_FEATURES) else { return };
    let mut protections = Cr4Flags::empty();
    protections.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, features.ebx & EBX_SMEP != 0);
    protections.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, features.ebx & EBX_SMAP != 0);
    protections.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, features.ecx & ECX_UMIP != 0);
    // SAFETY: the processor has what is set. It takes away only the use of a user's pages, of which there are none (the caller's
    // word), and from code without privilege, of which there is none.
    unsafe { Cr4::update(|flags| flags.insert(protections)) };
}

/// Switches AVX on where the processor has it, and chooses how to copy. Called once.
pub fn prepare() -> Routine {
    let processor = identify();
    if processor.avx {
        // SAFETY: the processor has XSAVE, so that the bit is allowed. It adds instructions, and takes none away.
        unsafe { Cr4::update(|flags| flags.insert(Cr4Flags::OSXSAVE)) };
        // SAFETY: OSXSAVE is set, the processor has AVX, and x87 and SSE are enabled with it, as they must be.
        unsafe { XCr0::write(XCr0Flags::X87 | XCr0Flags::SSE | XCr0Flags::AVX) };
    }
    let routine = Routine::best_for(processor);
    // SAFETY: `best_for` chooses what the processor has, and AVX was switched on above.
    unsafe { routine.use_from_now_on() };
    routine
}

fn identify() -> Processor {
    let ecx = __cpuid(FEATURES).ecx;
    let structured = leaf(STRUCTURED_FEATURES);
    let emulated = ecx & ECX_HYPERVISOR != 0 && {
        let leaf = __cpuid(HYPERVISOR);
        [leaf.ebx, leaf.ecx, leaf.edx] == TCG.map(|word| u32::from_le_bytes(*word))
    };
    Processor {
        emulated,
        avx: ecx & ECX_XSAVE != 0 && ecx & ECX_AVX != 0,
        fast_strings: structured.is_some_and(|leaf| leaf.ebx & EBX_ERMS != 0 || leaf.edx & EDX_FSRM != 0),
    }
}
