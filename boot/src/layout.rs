// SPDX-License-Identifier: MIT OR Apache-2.0

//! The symbols of `linker.ld` as numbers: where each part of the image lies.

use core::ops::Range;

/// The guard page below a stack, and the size of a page everywhere.
pub const PAGE: u64 = 4096;

macro_rules! addresses {
    ($($(#[$documentation:meta])* $name:ident = $symbol:ident;)*) => {
        unsafe extern "C" {
            $(static $symbol: u8;)*
        }
        $(
            $(#[$documentation])*
            pub fn $name() -> u64 {
                (&raw const $symbol) as u64
            }
        )*
    };
}

addresses! {
    /// First byte of the image.
    image_start = __image_start;
    /// Start of the read-only data.
    rodata_start = __rodata_start;
    /// End of the read-only data.
    rodata_end = __rodata_end;
    /// Start of the code.
    text_start = __text_start;
    /// End of the code.
    text_end = __text_end;
    /// Start of the initialized and zeroed data.
    data_start = __data_start;
    /// End of the initialized and zeroed data.
    data_end = __data_end;
    /// Start of the heap, which reaches to the end of the RAM.
    heap_start = __heap_start;
    /// The RAM must reach to here.
    memory_required_end = __memory_required_end;

    main_guard = __stack_main_guard;
    main_top = __stack_main_top;
    exception_guard = __stack_exception_guard;
    exception_top = __stack_exception_top;
    double_fault_guard = __stack_double_fault_guard;
    double_fault_top = __stack_double_fault_top;
    non_maskable_guard = __stack_non_maskable_guard;
    non_maskable_top = __stack_non_maskable_top;
    machine_check_guard = __stack_machine_check_guard;
    machine_check_top = __stack_machine_check_top;
    wake_guard = __stack_wake_guard;
    wake_top = __stack_wake_top;
}

/// A stack, with an unmapped page below it.
#[derive(Debug, Clone, Copy)]
pub struct Stack {
    /// What runs on it.
    pub name: &'static str,
    /// The guard page.
    pub guard: u64,
    /// The byte after the highest one.
    pub top: u64,
}

impl Stack {
    /// The bytes of the stack itself.
    pub fn bytes(&self) -> Range<u64> {
        self.guard + PAGE..self.top
    }
}

/// The stack of the main loop.
pub fn main_stack() -> Stack {
    Stack { name: "main", guard: main_guard(), top: main_top() }
}

/// The stacks of the interrupt stack table, in its order; what each is for is in [`crate::interrupts`].
pub fn interrupt_stacks() -> [Stack; 5] {
    [
        Stack { name: "exception", guard: exception_guard(), top: exception_top() },
        Stack { name: "double fault", guard: double_fault_guard(), top: double_fault_top() },
        Stack { name: "non-maskable interrupt", guard: non_maskable_guard(), top: non_maskable_top() },
        Stack { name: "machine check", guard: machine_check_guard(), top: machine_check_top() },
        Stack { name: "wake-up", guard: wake_guard(), top: wake_top() },
    ]
}
