// SPDX-License-Identifier: MIT OR Apache-2.0

//! Copies forward, by the way that suits the processor: the inner loop of the server, since the payload of every read and write
//! goes through it once.
//!
//! There are three. 64 bytes an iteration through SSE registers, which every x86-64 processor has; 128 through AVX registers; and the
//! string instruction `rep movsb`, which a processor that says so (ERMS, FSRM) does at the width of its caches. An emulated
//! processor says so, too, but does one byte at a time; and AVX takes half of SSE's instructions, each of which is translated.
//!
//! The routines are assembly because a compiler may turn a Rust copy loop back into a call of `memcpy`. They use registers that no
//! interrupt handler saves: the handlers call no Rust.

use core::arch::naked_asm;
use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

/// Which routine [`copy_forward`] takes for [`LARGE`] copies: a [`Routine`]. A number and not the routine's address, so that a stray
/// store cannot make it anything else.
static ROUTINE: AtomicU8 = AtomicU8::new(Routine::Sse as u8);

/// From how many bytes on the choice matters. Below, SSE registers are as good as anything.
pub const LARGE: usize = 256;

/// A way to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Routine {
    /// 64 bytes an iteration, through SSE registers.
    Sse = 0,
    /// 128 bytes an iteration, through AVX registers.
    Avx = 1,
    /// `rep movsb`.
    String = 2,
}

/// What a choice depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processor {
    /// Its instructions are translated, by QEMU's TCG.
    pub emulated: bool,
    /// It has AVX.
    pub avx: bool,
    /// `rep movsb` is fast, by its own words: it has ERMS or FSRM (Intel SDM, volume 1, section 7.3.9.3).
    pub fast_strings: bool,
}

impl Routine {
    /// The quickest for large copies.
    #[must_use]
    pub fn best_for(processor: Processor) -> Self {
        if processor.fast_strings && !processor.emulated {
            Self::String
        } else if processor.avx {
            Self::Avx
        } else {
            Self::Sse
        }
    }

    /// Makes it the one that is used from here on.
    ///
    /// # Safety
    /// The processor has it, and AVX is switched on if it is [`Routine::Avx`].
    pub unsafe fn use_from_now_on(self) {
        // Relaxed: there is one processor, and each routine is right at any time.
        ROUTINE.store(self as u8, Ordering::Relaxed);
    }
}

impl fmt::Display for Routine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sse => "SSE registers",
            Self::Avx => "AVX registers",
            Self::String => "rep movsb",
        })
    }
}

/// Copies `count` bytes, and leaves RAX alone: `memcpy` and `memmove`, which return the destination, end here.
///
/// Each step reads all of its bytes before it writes them, so a destination below an overlapping source is right for `memmove`
/// as well.
///
/// # Safety
/// `count` readable bytes at `source`, writable ones at `destination`, which is not within the source behind its first byte.
#[unsafe(naked)]
pub unsafe extern "C" fn copy_forward(destination: *mut u8, source: *const u8, count: usize) {
    naked_asm!(
        "cmp rdx, {large}",
        "jb {sse}",
        "cmp byte ptr [rip + {routine}], {through_avx}",
        "jb {sse}",
        "je {avx}",
        "jmp {string}",
        large = const LARGE,
        routine = sym ROUTINE,
        through_avx = const Routine::Avx as u8,
        sse = sym sse,
        avx = sym avx,
        string = sym string,
    )
}

/// Any number of bytes, through SSE registers.
#[unsafe(naked)]
unsafe extern "C" fn sse(destination: *mut u8, source: *const u8, count: usize) {
    naked_asm!(
        "cmp rdx, 64",
        "jb 3f",
        "2: movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + 32]",
        "movups xmm3, [rsi + 48]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + 32], xmm2",
        "movups [rdi + 48], xmm3",
        "add rsi, 64",
        "add rdi, 64",
        "sub rdx, 64",
        "cmp rdx, 64",
        "jae 2b",
        "3: cmp rdx, 16",
        "jb 4f",
        "movups xmm0, [rsi]",
        "movups [rdi], xmm0",
        "add rsi, 16",
        "add rdi, 16",
        "sub rdx, 16",
        "jmp 3b",
        "4: cmp rdx, 8",
        "jb 5f",
        "mov rcx, [rsi]",
        "mov [rdi], rcx",
        "add rsi, 8",
        "add rdi, 8",
        "sub rdx, 8",
        "5: test rdx, rdx",
        "jz 6f",
        "mov cl, [rsi]",
        "mov [rdi], cl",
        "inc rsi",
        "inc rdi",
        "dec rdx",
        "jmp 5b",
        "6: ret",
    )
}

/// At least 128 bytes, through AVX registers; what is left over through SSE registers.
#[unsafe(naked)]
unsafe extern "C" fn avx(destination: *mut u8, source: *const u8, count: usize) {
    naked_asm!(
        "2: vmovdqu ymm0, [rsi]",
        "vmovdqu ymm1, [rsi + 32]",
        "vmovdqu ymm2, [rsi + 64]",
        "vmovdqu ymm3, [rsi + 96]",
        "vmovdqu [rdi], ymm0",
        "vmovdqu [rdi + 32], ymm1",
        "vmovdqu [rdi + 64], ymm2",
        "vmovdqu [rdi + 96], ymm3",
        "add rsi, 128",
        "add rdi, 128",
        "sub rdx, 128",
        "cmp rdx, 128",
        "jae 2b",
        // SSE instructions are slow while the upper halves are in use.
        "vzeroupper",
        "jmp {sse}",
        sse = sym sse,
    )
}

/// Any number of bytes, by the string instruction. (The direction flag is clear, as the calling convention has it.)
#[unsafe(naked)]
unsafe extern "C" fn string(destination: *mut u8, source: *const u8, count: usize) {
    naked_asm!("mov rcx, rdx", "rep movsb", "ret")
}
