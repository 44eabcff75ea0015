// SPDX-License-Identifier: MIT OR Apache-2.0

//! The region: the bytes of a volume, mapped from a host file.
//!
//! In the image it is the memory of a virtio-pmem device, in a host process an `mmap`, in tests a `Vec`.

#![allow(unsafe_code)]

use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::slice;

/// A contiguous run of bytes that holds a volume.
///
/// # Order of stores
/// Bytes are stored through [`bytes_mut`](Self::bytes_mut) in any order; [`publish`](Self::publish) and
/// [`publish_pair`](Self::publish_pair) are the stores that have a place: after everything stored before, before everything
/// stored after. Whoever dies between two instructions
/// leaves, for each published store, either all that was stored before it or not it. What survives the loss of power is
/// only what [`flush`](Self::flush) confirmed.
///
/// A region that is only read implements none of those that change it.
pub trait Region {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Whether the region holds nothing at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `length` bytes from `offset` on, in place; `None` if any of them lies outside the region.
    fn bytes(&self, offset: u64, length: usize) -> Option<&[u8]>;

    /// The same bytes to be stored to; `None` if any of them lies outside the region, or it is only read.
    fn bytes_mut(&mut self, _offset: u64, _length: usize) -> Option<&mut [u8]> {
        None
    }

    /// Stores `bytes` at `offset`, a multiple of 4, with one store that is ordered against all others; `None` as for
    /// [`bytes_mut`](Self::bytes_mut), or for another `offset`.
    fn publish(&mut self, _offset: u64, _bytes: [u8; 4]) -> Option<()> {
        None
    }

    /// As [`publish`](Self::publish), but eight bytes, and `offset` a multiple of 8.
    fn publish_pair(&mut self, _offset: u64, _bytes: [u8; 8]) -> Option<()> {
        None
    }

    /// Stores the `length` bytes at `from` also at `to`; `None` if any of them lies outside the region, or it is only read.
    fn copy_within(&mut self, from: u64, to: u64, length: usize) -> Option<()> {
        let start = from.min(to);
        let place = |offset: u64| usize::try_from(offset.saturating_sub(start)).ok();
        let (from, to) = (place(from)?, place(to)?);
        let end = from.checked_add(length)?;
        let span = self.bytes_mut(start, end.max(to.checked_add(length)?))?;
        slice::copy_within(span, from..end, to)
    }

    /// Makes everything that was stored so far survive the loss of power.
    ///
    /// # Errors
    /// [`FlushFault`]: nothing is known of what survives.
    fn flush(&mut self) -> Result<(), FlushFault> {
        Err(FlushFault)
    }
}

/// The host did not confirm that a region's bytes are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushFault;

impl fmt::Display for FlushFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host did not confirm the flush of the region")
    }
}

impl core::error::Error for FlushFault {}

/// Stores `bytes` to the first four of `place` as one store, after all earlier stores and before all later ones; `None` if
/// `place` is shorter or not aligned.
///
/// For implementations of [`Region::publish`].
fn store_in_order(place: &mut [u8], bytes: [u8; 4]) -> Option<()> {
    let place: *mut u8 = place.first_chunk_mut::<4>()?.as_mut_ptr();
    if !place.cast::<u32>().is_aligned() {
        return None;
    }
    // SAFETY: four bytes that are exclusively borrowed, aligned for a `u32` (just checked), valid for reads and writes for
    // as long as the reference lives, and accessed in no other way meanwhile.
    let place = unsafe { AtomicU32::from_ptr(place.cast()) };
    // Release: what was stored before is stored before this. There is no reader that runs beside us, so the partner of
    // both fences is the death of this program: what is left behind is a prefix of the order of stores.
    fence(Ordering::Release);
    place.store(u32::from_ne_bytes(bytes), Ordering::Relaxed);
    fence(Ordering::SeqCst);
    Some(())
}

/// As [`store_in_order`], eight bytes.
///
/// For implementations of [`Region::publish_pair`].
fn store_pair_in_order(place: &mut [u8], bytes: [u8; 8]) -> Option<()> {
    let place: *mut u8 = place.first_chunk_mut::<8>()?.as_mut_ptr();
    if !place.cast::<u64>().is_aligned() {
        return None;
    }
    // SAFETY: eight bytes that are exclusively borrowed, aligned for a `u64` (just checked), valid for reads and writes for
    // as long as the reference lives, and accessed in no other way meanwhile.
    let place = unsafe { AtomicU64::from_ptr(place.cast()) };
    // As in `store_in_order`.
    fence(Ordering::Release);
    place.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
    fence(Ordering::SeqCst);
    Some(())
}

/// Makes the stores to a mapped region durable: the host's flush, or what stands for it.
pub trait Flush {
    /// As [`Region::flush`].
    ///
    /// # Errors
    /// [`FlushFault`].
    fn flush(&mut self) -> Result<(), FlushFault>;
}

/// A region that somebody mapped, and what flushes it.
#[derive(Debug)]
pub struct MappedRegion<F> {
    start: NonNull<u8>,
    length: usize,
    writable: bool,
    flush: F,
}

// SAFETY: the region is plain memory that only this value refers to (the contract of `read_only`), so it may move
// to another thread with its owner.
unsafe impl<F: Send> Send for MappedRegion<F> {}
// SAFETY: `&MappedRegion` gives out only `&[u8]`; nothing is written through a shared reference.
unsafe impl<F: Sync> Sync for MappedRegion<F> {}

impl<F: Flush> MappedRegion<F> {
    /// Wraps the `length` bytes at `start`, to be read only; `flush` makes what others wrote before durable.
    ///
    /// # Safety
    /// For as long as the value lives:
    /// * `start .. start + length` is mapped and readable, and `length` is at most `isize::MAX`;
    /// * nobody else writes to it. (The bridge holds an exclusive lock on the volume's file.)
    #[must_use]
    pub unsafe fn read_only(start: NonNull<u8>, length: usize, flush: F) -> Self {
        Self { start, length, writable: false, flush }
    }

    /// Wraps the `length` bytes at `start`, to be read and written; `flush` makes what was written durable.
    ///
    /// # Safety
    /// As for [`read_only`](Self::read_only); and the memory is mapped writable, and nobody else reads it through a reference.
    #[must_use]
    pub unsafe fn writable(start: NonNull<u8>, length: usize, flush: F) -> Self {
        Self { start, length, writable: true, flush }
    }
}

/// `offset .. offset + length` as indices, if it lies within `available` bytes.
fn checked_range(offset: u64, length: usize, available: usize) -> Option<core::ops::Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(length)?;
    (end <= available).then_some(start..end)
}

impl<F: Flush> Region for MappedRegion<F> {
    fn len(&self) -> u64 {
        self.length as u64
    }

    fn bytes(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let range = checked_range(offset, length, self.length)?;
        // SAFETY: the range lies within the region (just checked), which is mapped, readable, at most
        // `isize::MAX` long and not written by others while `self` lives (the contract of `read_only`); `u8` has no
        // alignment and no invalid values.
        Some(unsafe { core::slice::from_raw_parts(self.start.as_ptr().add(range.start), length) })
    }

    fn bytes_mut(&mut self, offset: u64, length: usize) -> Option<&mut [u8]> {
        let range = checked_range(offset, length, self.length).filter(|_| self.writable)?;
        // SAFETY: as for `bytes`; the region is mapped writable (the contract of `writable`), and the exclusive borrow of
        // `self` keeps every other reference away.
        Some(unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr().add(range.start), length) })
    }

    fn publish(&mut self, offset: u64, bytes: [u8; 4]) -> Option<()> {
        store_in_order(self.bytes_mut(offset, bytes.len())?, bytes)
    }

    fn publish_pair(&mut self, offset: u64, bytes: [u8; 8]) -> Option<()> {
        store_pair_in_order(self.bytes_mut(offset, bytes.len())?, bytes)
    }

    fn flush(&mut self) -> Result<(), FlushFault> {
        self.flush.flush()
    }
}

impl Region for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn bytes(&self, offset: u64, length: usize) -> Option<&[u8]> {
        self.get(checked_range(offset, length, self.as_slice().len())?)
    }

    fn bytes_mut(&mut self, offset: u64, length: usize) -> Option<&mut [u8]> {
        let range = checked_range(offset, length, self.as_slice().len())?;
        self.get_mut(range)
    }

    fn publish(&mut self, offset: u64, bytes: [u8; 4]) -> Option<()> {
        if !offset.is_multiple_of(4) {
            return None;
        }
        self.bytes_mut(offset, bytes.len())?.copy_from_slice(&bytes);
        Some(())
    }

    fn publish_pair(&mut self, offset: u64, bytes: [u8; 8]) -> Option<()> {
        if !offset.is_multiple_of(8) {
            return None;
        }
        self.bytes_mut(offset, bytes.len())?.copy_from_slice(&bytes);
        Some(())
    }

    fn flush(&mut self) -> Result<(), FlushFault> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    /// Counts.
    struct Flushes<'a>(&'a mut u32);

    impl Flush for Flushes<'_> {
        fn flush(&mut self) -> Result<(), FlushFault> {
            *self.0 += 1;
            Ok(())
        }
    }

    #[test]
    fn a_range_inside_the_region_is_its_bytes() {
        let (mut memory, mut flushes) = (vec![1u8, 2, 3, 4], 0);
        let start = NonNull::new(memory.as_mut_ptr()).unwrap();
        // SAFETY: `memory` outlives `region`, is not touched in between, and is four bytes long.
        let mut region = unsafe { MappedRegion::read_only(start, 4, Flushes(&mut flushes)) };
        assert_eq!(region.bytes(1, 2), Some(&[2, 3][..]));
        assert_eq!(region.bytes(4, 0), Some(&[][..]));
        assert_eq!(region.bytes(0, 4), Some(&[1, 2, 3, 4][..]));
        assert_eq!(region.bytes_mut(0, 4), None);
        assert_eq!(region.publish(0, [5; 4]), None);
    }

    #[test]
    fn a_writable_region_is_stored_to_and_flushed() {
        let (mut memory, mut flushes) = ([0u32; 4], 0);
        let start = NonNull::new(memory.as_mut_ptr()).unwrap().cast();
        // SAFETY: `memory` outlives `region`, is not touched in between, and is sixteen bytes long.
        let mut region = unsafe { MappedRegion::writable(start, 16, Flushes(&mut flushes)) };
        region.bytes_mut(1, 2).unwrap().copy_from_slice(&[1, 2]);
        assert_eq!(region.publish(4, [3, 4, 5, 6]), Some(()));
        assert_eq!((region.publish(6, [7; 4]), region.publish(14, [7; 4])), (None, None));
        assert_eq!(region.bytes(0, 9), Some(&[0, 1, 2, 0, 3, 4, 5, 6, 0][..]));
        region.flush().unwrap();
        assert_eq!(flushes, 1);
    }

    #[test]
    fn a_range_that_leaves_the_region_or_wraps_is_refused() {
        let region = vec![0u8; 4];
        assert_eq!(Region::bytes(&region, 1, 4), None);
        assert_eq!(Region::bytes(&region, 5, 0), None);
        assert_eq!(Region::bytes(&region, u64::MAX, 1), None);
        assert_eq!(Region::bytes(&region, 1, usize::MAX), None);
    }

    #[test]
    fn a_published_store_is_refused_where_it_would_not_be_one_store() {
        let mut memory = vec![0u64; 2];
        let start = NonNull::new(memory.as_mut_ptr().cast::<u8>()).unwrap();
        struct Nothing;
        impl Flush for Nothing {
            fn flush(&mut self) -> Result<(), FlushFault> {
                Ok(())
            }
        }
        // SAFETY: `memory` outlives `region`, is not touched in between, and is sixteen bytes long.
        let mut region = unsafe { MappedRegion::writable(start, 16, Nothing) };
        assert_eq!(region.publish(4, [1; 4]), Some(()));
        assert_eq!(region.publish_pair(8, [2; 8]), Some(()));
        assert_eq!(region.bytes(0, 16), Some(&[0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2][..]));
        assert_eq!(region.publish(2, [3; 4]), None);
        assert_eq!(region.publish_pair(4, [3; 8]), None);
        assert_eq!(region.publish_pair(16, [3; 8]), None);
    }

    #[test]
    fn bytes_are_copied_forwards_and_backwards_within_a_region() {
        let mut region = vec![1u8, 2, 3, 4, 5, 6];
        assert_eq!(Region::copy_within(&mut region, 0, 4, 2), Some(()));
        assert_eq!(region, [1, 2, 3, 4, 1, 2]);
        assert_eq!(Region::copy_within(&mut region, 3, 0, 2), Some(()));
        assert_eq!(region, [4, 1, 3, 4, 1, 2]);
        assert_eq!(Region::copy_within(&mut region, 0, 5, 2), None);
        assert_eq!(Region::copy_within(&mut region, u64::MAX, 0, 2), None);
    }
}
