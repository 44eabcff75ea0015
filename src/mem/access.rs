// SPDX-License-Identifier: MIT OR Apache-2.0

//! How the fields of a ring are read and written: as atomics, and whole descriptors as words.
//!
//! In the unit tests of this crate the same names stand for accesses that somebody can watch, and answer, so that a test can let a
//! driver and a device meet in every order that a processor allows (`virtq/interleaving.rs`). Else they are those of `core`.

#![allow(unsafe_code)]

#[cfg(test)]
pub mod observed;

#[cfg(test)]
pub use observed::{AtomicU16, AtomicU32, fence, read_words};

#[cfg(not(test))]
pub use core::sync::atomic::{AtomicU16, AtomicU32, fence};

/// The 16 bytes at `words`, each read exactly once.
///
/// # Safety
/// They are mapped, readable and aligned to 8 bytes.
#[cfg(not(test))]
#[inline(always)]
pub unsafe fn read_words(words: core::ptr::NonNull<u64>) -> [u64; 2] {
    // SAFETY: mapped, readable, aligned (the contract); a `u64` has no invalid values. The reads are volatile, so the compiler does
    // each once.
    unsafe { [words.read_volatile(), words.add(1).read_volatile()] }
}
