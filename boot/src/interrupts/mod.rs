// SPDX-License-Identifier: MIT OR Apache-2.0

//! Interrupts and exceptions: the descriptor tables, and the stack that each vector runs on.
//!
//! Every vector has a stack of the interrupt stack table, because the precompiled `core` keeps data in the red
//! zone below the stack pointer, which a handler on the same stack would overwrite.
//!
//! | vectors            | stack (table entry)        | what happens                                          |
//! |--------------------|----------------------------|-------------------------------------------------------|
//! | 0…31 but these     | exception (0)              | a report, and the end ([`exceptions`]). The reserved ones have no gate: a general protection fault |
//! | 8                  | double fault (1)           | the same                                              |
//! | 2                  | non-maskable interrupt (2) | the same                                              |
//! | 18                 | machine check (3)          | the same                                              |
//! | 32…255             | wake-up (4)                | counted and acknowledged; the processor wakes ([`wake`]) |

mod exceptions;
pub mod wake;

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::load_tss;
use x86_64::registers::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

use crate::layout;

/// Indices into the interrupt stack table, in the order of [`layout::interrupt_stacks`].
const EXCEPTION_STACK: u16 = 0;
const DOUBLE_FAULT_STACK: u16 = 1;
const NON_MASKABLE_STACK: u16 = 2;
const MACHINE_CHECK_STACK: u16 = 3;
const WAKE_STACK: u16 = 4;

static TASK_STATE: Once<TaskStateSegment> = Once::new();
static SEGMENTS: Once<GlobalDescriptorTable> = Once::new();
static VECTORS: Once<InterruptDescriptorTable> = Once::new();

/// Loads the segments, the task state with its stacks, and the interrupt descriptor table.
pub fn initialize() {
    let task_state = TASK_STATE.call_once(|| {
        let mut task_state = TaskStateSegment::new();
        for (entry, stack) in layout::interrupt_stacks().iter().enumerate() {
            task_state.interrupt_stack_table[entry] = VirtAddr::new(stack.top);
        }
        task_state
    });

    let mut segments = GlobalDescriptorTable::new();
    let code = segments.append(Descriptor::kernel_code_segment());
    let data = segments.append(Descriptor::kernel_data_segment());
    let task = segments.append(Descriptor::tss_segment(task_state));
    SEGMENTS.call_once(|| segments).load();
    // SAFETY: the selectors are those of the table just loaded: a 64-bit code segment and a flat data segment of ring 0, and
    // an available task state segment that lives for ever.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(data);
        ES::set_reg(data);
        load_tss(task);
    }

    VECTORS.call_once(vectors).load();
}

fn vectors() -> InterruptDescriptorTable {
    let mut table = InterruptDescriptorTable::new();
    let stubs = exceptions::stubs();
    let address = |vector: usize| VirtAddr::from_ptr(stubs[vector] as *const ());

    // SAFETY: each address is that of a stub that was made for this vector, with an error code exactly where
    // the processor pushes one; each index is that of a mapped stack, and no two vectors that can interrupt each other share
    // one, except exceptions within the report of an exception, which the report detects.
    unsafe {
        macro_rules! exception {
            ($($field:ident = $vector:literal on $stack:expr;)*) => {
                $(table.$field.set_handler_addr(address($vector)).set_stack_index($stack);)*
            };
        }
        exception! {
            divide_error = 0 on EXCEPTION_STACK;
            debug = 1 on EXCEPTION_STACK;
            non_maskable_interrupt = 2 on NON_MASKABLE_STACK;
            breakpoint = 3 on EXCEPTION_STACK;
            overflow = 4 on EXCEPTION_STACK;
            bound_range_exceeded = 5 on EXCEPTION_STACK;
            invalid_opcode = 6 on EXCEPTION_STACK;
            device_not_available = 7 on EXCEPTION_STACK;
            double_fault = 8 on DOUBLE_FAULT_STACK;
            invalid_tss = 10 on EXCEPTION_STACK;
            segment_not_present = 11 on EXCEPTION_STACK;
            stack_segment_fault = 12 on EXCEPTION_STACK;
            general_protection_fault = 13 on EXCEPTION_STACK;
            page_fault = 14 on EXCEPTION_STACK;
            x87_floating_point = 16 on EXCEPTION_STACK;
            alignment_check = 17 on EXCEPTION_STACK;
            machine_check = 18 on MACHINE_CHECK_STACK;
            simd_floating_point = 19 on EXCEPTION_STACK;
            virtualization = 20 on EXCEPTION_STACK;
            cp_protection_exception = 21 on EXCEPTION_STACK;
            hv_injection_exception = 28 on EXCEPTION_STACK;
            vmm_communication_exception = 29 on EXCEPTION_STACK;
            security_exception = 30 on EXCEPTION_STACK;
        }
        for vector in 32..=255u8 {
            let stub = wake::stub(vector);
            table[vector].set_handler_addr(VirtAddr::from_ptr(stub as *const ())).set_stack_index(WAKE_STACK);
        }
    }
    table
}
