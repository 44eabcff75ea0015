// SPDX-License-Identifier: MIT OR Apache-2.0

//! The first instructions: from the PVH entry (32-bit protected mode, paging off) to Rust in long mode.
//!
//! The entry state is that of the "x86/HVM direct boot ABI" of Xen's documentation: EBX holds the physical
//! address of the start info, flat segments are loaded, paging and interrupts are off, and there is no stack.
//! The page tables made here are provisional: the first 4 GiB, writable and executable, so that the start info
//! can be read wherever it lies. [`crate::paging`] replaces them before anything else happens.

use core::arch::global_asm;

// The note that says where to enter: name "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY), a 32-bit address.
global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .balign 4
    .long 4
    .long 4
    .long 18
    .asciz "Xen"
    .long pvh_entry
    "#
);

global_asm!(
    r#"
    .section .text.entry, "ax"
    .code32
    .global pvh_entry
pvh_entry:
    cld
    cli
    mov esi, ebx
    /* When the image's time begins, in EBX and EBP until there is a stack. */
    rdtsc
    mov ebx, edx
    mov ebp, eax

    /* .bss is zero: the loader may have left it to us. Its ends are multiples of 4. */
    mov edi, offset __bss_start
    mov ecx, offset __bss_end
    sub ecx, edi
    shr ecx, 2
    xor eax, eax
    rep stosd

    /* Four page directories, 2048 entries of 2 MiB each: the first 4 GiB. 0x83: present, writable, large. */
    mov edi, offset boot_page_directories
    mov eax, 0x83
    mov ecx, 2048
2:  mov [edi], eax
    add eax, 0x200000
    add edi, 8
    loop 2b
    mov eax, offset boot_page_directories + 3
    mov [boot_page_directory_pointers], eax
    add eax, 4096
    mov [boot_page_directory_pointers + 8], eax
    add eax, 4096
    mov [boot_page_directory_pointers + 16], eax
    add eax, 4096
    mov [boot_page_directory_pointers + 24], eax
    mov eax, offset boot_page_directory_pointers + 3
    mov [boot_page_map], eax

    mov eax, offset boot_page_map
    mov cr3, eax
    /* PAE for long mode; OSFXSR and OSXMMEXCPT because the precompiled `core` uses SSE2. */
    mov eax, (1 << 5) | (1 << 9) | (1 << 10)
    mov cr4, eax
    /* EFER.LME */
    mov ecx, 0xc0000080
    rdmsr
    or eax, 1 << 8
    wrmsr
    /* PG, WP, NE, MP, PE on; EM and TS, which would make SSE fault, off. */
    mov eax, (1 << 31) | (1 << 16) | (1 << 5) | (1 << 4) | (1 << 1) | 1
    mov cr0, eax

    lgdt [boot_gdt_pointer]
    ljmp 8, offset pvh_entry_64

    .code64
pvh_entry_64:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax
    lea rsp, [rip + __stack_main_top]
    /* The first argument; this clears its upper half too. The call leaves RSP as the calling convention wants it. */
    mov edi, esi
    /* The second. The upper halves of registers are undefined after the change to 64 bits. */
    shl rbx, 32
    mov esi, ebp
    or rsi, rbx
    xor ebp, ebp
    call {start}
    ud2

    .section .rodata.entry, "a"
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff   /* 8: code, 64-bit */
    .quad 0x00cf93000000ffff   /* 16: data */
boot_gdt_pointer:
    .word . - boot_gdt - 1
    .long boot_gdt

    .section .bss.entry, "aw", @nobits
    .balign 4096
boot_page_map:
    .skip 4096
boot_page_directory_pointers:
    .skip 4096
boot_page_directories:
    .skip 4 * 4096
    "#,
    start = sym crate::start,
);
