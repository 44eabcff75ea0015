// SPDX-License-Identifier: MIT OR Apache-2.0

//! The parts of the targets `split_ring` and `packed_ring`.

pub mod behaved;
pub mod hostile;
mod tiny;

use arbitrary::Arbitrary;

/// Which driver there is.
#[derive(Debug, Arbitrary)]
pub enum Input {
    Hostile(hostile::Script),
    Behaved(behaved::Script),
}

/// The 16 bytes of a descriptor.
fn descriptor(address: u64, length: u32, flags: u16, next: u16) -> Vec<u8> {
    [&address.to_le_bytes()[..], &length.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat()
}

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
