// SPDX-License-Identifier: MIT OR Apache-2.0

//! Breaking on purpose, so that a test sees each protection hold: `provoke=` on the kernel command line.

use core::arch::asm;
use core::hint::black_box;

use crate::command_line::Provocation;
use crate::layout;

/// Does it. Comes back only if a protection failed, and then panics.
pub fn provoke(provocation: Provocation) -> ! {
    match provocation {
        Provocation::Panic => panic!("provoked"),
        // SAFETY: this raises an exception, whose handler does not return.
        Provocation::UndefinedInstruction => unsafe { asm!("ud2") },
        Provocation::Null => read(0),
        Provocation::WriteCode => write(layout::text_start()),
        Provocation::WriteConstant => write(layout::rodata_start()),
        Provocation::ExecuteData => {
            let code = [0xc3u8; 16];
            // SAFETY: this raises an exception, whose handler does not return; should it be executed, it is a RET.
            unsafe { asm!("call {}", in(reg) black_box(&code), clobber_abi("C")) }
        }
        Provocation::StackOverflow => {
            black_box(overflow(1));
        }
    }
    panic!("{provocation:?} went unnoticed")
}

fn read(address: u64) {
    // SAFETY: this raises an exception, whose handler does not return; should it not, a read changes nothing. Assembly,
    // because to a compiler this access cannot be.
    unsafe { asm!("mov {0}, [{0}]", inout(reg) address => _, options(nostack)) }
}

fn write(address: u64) {
    // SAFETY: this raises an exception, whose handler does not return; should it not, the panic of `provoke` ends the
    // image before what was overwritten is used.
    unsafe { asm!("mov byte ptr [{}], 0", in(reg) address, options(nostack)) }
}

#[expect(unconditional_recursion, reason = "it is what is provoked")]
fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    overflow(depth + 1) + frame[0]
}
