// SPDX-License-Identifier: MIT OR Apache-2.0

//! The memory functions that compiled code calls: `memcpy`, `memmove`, `memset`, `memcmp`, `bcmp`, `strlen`,
//! and the two symbols of unwinding that the precompiled `core` refers to.
//!
//! They are assembly because a compiler may turn a Rust loop back into a call of the function that it is in. Copies forward are
//! in [`crate::copy`].

use core::arch::naked_asm;

use crate::copy::copy_forward;

/// Copies `count` bytes; the ranges do not overlap.
///
/// # Safety
/// As for C: `count` readable bytes at `source`, writable ones at `destination`, no overlap.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn memcpy(destination: *mut u8, source: *const u8, count: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "jmp {forward}",
        forward = sym copy_forward,
    )
}

/// Copies `count` bytes; the ranges may overlap.
///
/// # Safety
/// As for C: `count` readable bytes at `source`, writable ones at `destination`.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn memmove(destination: *mut u8, source: *const u8, count: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        // Forward unless the destination starts inside the source: (destination - source) < count, unsigned.
        "mov rcx, rdi",
        "sub rcx, rsi",
        "cmp rcx, rdx",
        "jae {forward}",
        // Backward, from the end: 16 bytes, then single ones.
        "2: cmp rdx, 16",
        "jb 3f",
        "sub rdx, 16",
        "movups xmm0, [rsi + rdx]",
        "movups [rdi + rdx], xmm0",
        "jmp 2b",
        "3: test rdx, rdx",
        "jz 4f",
        "dec rdx",
        "mov cl, [rsi + rdx]",
        "mov [rdi + rdx], cl",
        "jmp 3b",
        "4: ret",
        forward = sym copy_forward,
    )
}

/// Sets `count` bytes to the low byte of `value`.
///
/// # Safety
/// As for C: `count` writable bytes at `destination`.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn memset(destination: *mut u8, value: i32, count: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "movzx esi, sil",
        "mov rcx, 0x0101010101010101",
        "imul rsi, rcx",
        "movq xmm0, rsi",
        "punpcklqdq xmm0, xmm0",
        "2: cmp rdx, 64",
        "jb 3f",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm0",
        "movups [rdi + 32], xmm0",
        "movups [rdi + 48], xmm0",
        "add rdi, 64",
        "sub rdx, 64",
        "jmp 2b",
        "3: cmp rdx, 8",
        "jb 4f",
        "mov [rdi], rsi",
        "add rdi, 8",
        "sub rdx, 8",
        "jmp 3b",
        "4: test rdx, rdx",
        "jz 5f",
        "mov [rdi], sil",
        "inc rdi",
        "dec rdx",
        "jmp 4b",
        "5: ret",
    )
}

/// Compares `count` bytes: negative, zero or positive as the first difference says.
///
/// # Safety
/// As for C: `count` readable bytes at each.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    naked_asm!(
        "2: cmp rdx, 8",
        "jb 3f",
        "mov rax, [rdi]",
        "mov rcx, [rsi]",
        "cmp rax, rcx",
        "jne 5f",
        "add rdi, 8",
        "add rsi, 8",
        "sub rdx, 8",
        "jmp 2b",
        "3: test rdx, rdx",
        "jz 4f",
        "movzx eax, byte ptr [rdi]",
        "movzx ecx, byte ptr [rsi]",
        "sub eax, ecx",
        "jnz 6f",
        "inc rdi",
        "inc rsi",
        "dec rdx",
        "jmp 3b",
        "4: xor eax, eax",
        "ret",
        // The first differing byte decides, and it is the most significant one when read as big endian.
        "5: bswap rax",
        "bswap rcx",
        "cmp rax, rcx",
        "sbb eax, eax",
        "or eax, 1",
        "6: ret",
    )
}

/// Compares `count` bytes: zero if they are equal.
///
/// # Safety
/// As for C: `count` readable bytes at each.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}

/// The number of bytes before the first NUL.
///
/// # Safety
/// As for C: readable bytes at `string` up to a NUL.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn strlen(string: *const u8) -> usize {
    naked_asm!("xor eax, eax", "2: cmp byte ptr [rdi + rax], 0", "je 3f", "inc rax", "jmp 2b", "3: ret",)
}

/// Referred to by the precompiled `core`, never called: a panic aborts.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Referred to by the precompiled `core`, never called: a panic aborts.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    crate::exit::exit(crate::exit::Status::Panic)
}
