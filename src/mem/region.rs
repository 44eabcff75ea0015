// SPDX-License-Identifier: MIT OR Apache-2.0

//! The region: the bytes of a volume, mapped from a host file.
//!
//! In the image it is the memory of a virtio-pmem device, in a host process an `mmap`, in tests a `Vec`.

#![allow(unsafe_code)]

use alloc::vec::Vec;
use core::ptr::NonNull;

/// A contiguous run of bytes that holds a volume.
pub trait Region {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Whether the region holds nothing at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `length` bytes from `offset` on, in place; `None` if any of them lies outside the region.
    fn bytes(&self, offset: u64, length: usize) -> Option<&[u8]>;
}

/// A region that somebody mapped.
#[derive(Debug)]
pub struct MappedRegion {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the region is plain memory that only this value refers to (the contract of `new`), so it may move
// to another thread with its owner.
unsafe impl Send for MappedRegion {}
// SAFETY: `&MappedRegion` gives out only `&[u8]`; nothing is written through a shared reference.
unsafe impl Sync for MappedRegion {}

impl MappedRegion {
    /// Wraps the `length` bytes at `start`.
    ///
    /// # Safety
    /// For as long as the value lives:
    /// * `start .. start + length` is mapped and readable, and `length` is at most `isize::MAX`;
    /// * nobody else writes to it. (The bridge holds an exclusive lock on the volume's file.)
    #[must_use]
    pub unsafe fn new(start: NonNull<u8>, length: usize) -> Self {
        Self { start, length }
    }
}

/// `offset .. offset + length` as indices, if it lies within `available` bytes.
fn checked_range(offset: u64, length: usize, available: usize) -> Option<core::ops::Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(length)?;
    (end <= available).then_some(start..end)
}

impl Region for MappedRegion {
    fn len(&self) -> u64 {
        self.length as u64
    }

    fn bytes(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let range = checked_range(offset, length, self.length)?;
        // SAFETY: the range lies within the region (just checked), which is mapped, readable, at most
        // `isize::MAX` long and not written by others while `self` lives (the contract of `new`); `u8` has no
        // alignment and no invalid values.
        Some(unsafe { core::slice::from_raw_parts(self.start.as_ptr().add(range.start), length) })
    }
}

impl Region for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn bytes(&self, offset: u64, length: usize) -> Option<&[u8]> {
        self.get(checked_range(offset, length, self.as_slice().len())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn a_range_inside_the_region_is_its_bytes() {
        let mut memory = vec![1u8, 2, 3, 4];
        // SAFETY: `memory` outlives `region`, is not touched in between, and is four bytes long.
        let region = unsafe { MappedRegion::new(NonNull::new(memory.as_mut_ptr()).unwrap(), 4) };
        assert_eq!(region.bytes(1, 2), Some(&[2, 3][..]));
        assert_eq!(region.bytes(4, 0), Some(&[][..]));
        assert_eq!(region.bytes(0, 4), Some(&[1, 2, 3, 4][..]));
    }

    #[test]
    fn a_range_that_leaves_the_region_or_wraps_is_refused() {
        let region = vec![0u8; 4];
        assert_eq!(Region::bytes(&region, 1, 4), None);
        assert_eq!(Region::bytes(&region, 5, 0), None);
        assert_eq!(Region::bytes(&region, u64::MAX, 1), None);
        assert_eq!(Region::bytes(&region, 1, usize::MAX), None);
    }
}
