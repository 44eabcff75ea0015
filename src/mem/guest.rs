// SPDX-License-Identifier: MIT OR Apache-2.0

//! Guest memory: a client's RAM as a list of regions.
//!
//! An address that a driver wrote is an *allegation*. [`GuestMemory::translate`] checks one for a buffer,
//! [`GuestMemory::volatile_slice`] for a structure with fields; only what they return can be read or written.
//!
//! # Shared with a running, hostile guest
//! The guest's processors may write any of this memory at any time, so
//!
//! * no Rust reference to its bytes is ever formed, except to atomics (which allow others to write);
//! * a field of a ring is an atomic access; a structure is copied out once, with volatile reads, and the copy
//!   is what gets checked and used;
//! * bulk payload is copied through raw pointers. A guest that writes a buffer which it lent to the device
//!   races with that copy. Like every device model we take the view that the guest's accesses are not part
//!   of this program, as a disk's or a network card's are not: what the copy yields is then unspecified
//!   bytes, and any byte is valid in a `u8` buffer. It never decides about a bound or a pointer, because a
//!   compiler fence behind each copy keeps the compiler from reading the source again later.

#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use super::access::{self, AtomicU16, AtomicU32};
use super::scatter::Segment;

/// Most regions that one guest's memory may consist of. (vhost-user front ends use 8, some 32.)
pub const MAX_REGIONS: usize = 32;

/// An address in the guest's physical memory; nothing is known about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GuestAddress(pub u64);

impl fmt::Display for GuestAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Why a region was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegionError {
    /// Its length is 0.
    Empty {
        /// Where it was to begin.
        guest: GuestAddress,
    },
    /// It is longer than `isize::MAX`, or its end exceeds 2⁶⁴ − 1.
    Wraps {
        /// Where it was to begin.
        guest: GuestAddress,
        /// Its length in bytes.
        length: usize,
    },
    /// It shares guest addresses with a region that is there already.
    Overlaps {
        /// Where it was to begin.
        guest: GuestAddress,
        /// Its length in bytes.
        length: usize,
        /// Where the other one begins.
        other: GuestAddress,
    },
    /// There are [`MAX_REGIONS`] already.
    TooMany,
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty { guest } => write!(f, "the memory region at {guest} is empty"),
            Self::Wraps { guest, length } => {
                write!(f, "the memory region at {guest} of {length:#x} bytes exceeds the address space")
            }
            Self::Overlaps { guest, length, other } => {
                write!(f, "the memory region at {guest} of {length:#x} bytes overlaps the one at {other}")
            }
            Self::TooMany => write!(f, "more than {MAX_REGIONS} memory regions"),
        }
    }
}

impl core::error::Error for RegionError {}

/// Why an alleged range of guest memory was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRange {
    /// Its end exceeds 2⁶⁴ − 1.
    Wraps {
        /// Where it begins.
        address: GuestAddress,
        /// Its length in bytes.
        length: u64,
    },
    /// Some of it is in no region.
    Unmapped {
        /// Where it begins.
        address: GuestAddress,
        /// Its length in bytes.
        length: u64,
        /// The first address of it that is in no region.
        at: GuestAddress,
    },
    /// All of it is mapped, but by more than one region, where it must be by one.
    Divided {
        /// Where it begins.
        address: GuestAddress,
        /// Its length in bytes.
        length: u64,
    },
    /// A field's address (the guest's or the mapping's) is not a multiple of its size.
    Misaligned {
        /// The offset of the field in its structure.
        offset: usize,
        /// The size of the field in bytes.
        size: usize,
    },
    /// A field is not inside its structure.
    Beyond {
        /// The offset of the field in its structure.
        offset: usize,
        /// The size of the field in bytes.
        size: usize,
    },
}

impl fmt::Display for BadRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Wraps { address, length } => {
                write!(f, "{length:#x} bytes at {address} exceed the address space")
            }
            Self::Unmapped { address, length, at } => {
                write!(f, "{length:#x} bytes at {address}: {at} is not mapped")
            }
            Self::Divided { address, length } => {
                write!(f, "{length:#x} bytes at {address} lie in more than one region")
            }
            Self::Misaligned { offset, size } => {
                write!(f, "the field at offset {offset:#x} is not aligned to {size} bytes")
            }
            Self::Beyond { offset, size } => {
                write!(f, "the field of {size} bytes at offset {offset:#x} is beyond the end")
            }
        }
    }
}

impl core::error::Error for BadRange {}

/// Guest addresses that are mapped to host memory. `guest + length` does not overflow.
#[derive(Debug, Clone, Copy)]
pub(super) struct GuestRegion {
    guest: u64,
    length: usize,
    host: NonNull<u8>,
}

/// A region that holds nothing.
const NO_REGION: GuestRegion = GuestRegion { guest: 0, length: 0, host: NonNull::dangling() };

impl GuestRegion {
    fn end(&self) -> u64 {
        self.guest.saturating_add(self.length as u64)
    }

    /// Whether `address` is the first of the region.
    #[inline]
    pub(super) fn begins_at(&self, address: GuestAddress) -> bool {
        self.guest == address.0
    }

    /// The host memory of `address`, and how many bytes of the region follow from there (1 or more);
    /// `None` if the region does not hold it.
    #[inline]
    fn at(&self, address: u64) -> Option<(NonNull<u8>, usize)> {
        // An address in front of the region gives an offset that is far behind it.
        let offset = usize::try_from(address.wrapping_sub(self.guest)).ok()?;
        if offset >= self.length {
            return None;
        }
        // SAFETY: `offset < length`, and `host .. host + length` is one mapped range of at most `isize::MAX`
        // bytes (the contract of `add_region`), so the sum stays inside it.
        Some((unsafe { self.host.add(offset) }, self.length.wrapping_sub(offset)))
    }

    /// The alleged buffer `address .. address + length`, if it is longer than 0 and lies in this region.
    #[inline]
    pub(super) fn segment(&self, address: GuestAddress, length: u32) -> Option<Segment> {
        let (start, left) = self.at(address.0)?;
        // A length of 0 wraps to one that is in no region.
        ((length as usize).wrapping_sub(1) < left).then_some(Segment { start, length })
    }
}

/// A guest's memory: up to [`MAX_REGIONS`] regions, sorted by guest address, none overlapping.
///
/// Everything that points into it ([`VolatileSlice`], and the readers and writers of [`super::scatter`]) borrows
/// it. So whoever unmaps memory drops this value first, and the borrow checker proves that nobody still
/// points there.
#[derive(Debug)]
pub struct GuestMemory {
    regions: heapless::Vec<GuestRegion, MAX_REGIONS>,
    /// The first of them.
    first: GuestRegion,
    /// Tells these regions from those of any other memory that there is or was. 0 for none at all.
    stamp: u64,
}

/// The stamp that was given last.
static STAMP: AtomicU64 = AtomicU64::new(0);

/// An alleged structure in guest memory that is looked up time and again, and where it was found. Its address in the mapping is
/// a multiple of `ALIGNMENT`, a power of two.
#[derive(Debug)]
pub struct Structure<const ALIGNMENT: usize> {
    address: GuestAddress,
    length: u32,
    /// The stamp of the memory that it was found in, [`NOWHERE`] for none.
    stamp: u64,
    /// Where it was found there: all `length` bytes, aligned.
    start: NonNull<u8>,
}

/// The stamp that no memory has.
const NOWHERE: u64 = u64::MAX;

// SAFETY: the address is followed only under a borrow of the memory that it was found in, whose stamp no other memory has.
unsafe impl<const ALIGNMENT: usize> Send for Structure<ALIGNMENT> {}

impl<const ALIGNMENT: usize> Structure<ALIGNMENT> {
    /// The `length` bytes (1 or more) at `address`, which nobody has looked for yet.
    #[must_use]
    pub const fn new(address: GuestAddress, length: u32) -> Self {
        Self { address, length, stamp: NOWHERE, start: NonNull::dangling() }
    }
}

// SAFETY: the pointers are to mapped memory that belongs to no thread (the contract of `add_region`). It is
// not `Sync`: safe code could otherwise copy from two threads into one buffer.
unsafe impl Send for GuestMemory {}

impl Default for GuestMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl GuestMemory {
    /// No memory at all.
    #[must_use]
    pub const fn new() -> Self {
        Self { regions: heapless::Vec::new(), first: NO_REGION, stamp: 0 }
    }

    /// Maps the guest addresses `guest .. guest + length` to the memory at `host`.
    ///
    /// # Errors
    /// [`RegionError`]; nothing has changed then.
    ///
    /// # Safety
    /// Until this value is dropped:
    /// * `host .. host + length` is mapped, readable and writable, within one mapping (or allocation);
    /// * this process holds no Rust reference to any of it, except to atomics, and no other value of this type
    ///   that another thread uses maps it.
    ///
    /// The guest itself may read and write it at any time.
    pub unsafe fn add_region(
        &mut self,
        guest: GuestAddress,
        length: usize,
        host: NonNull<u8>,
    ) -> Result<(), RegionError> {
        if length == 0 {
            return Err(RegionError::Empty { guest });
        }
        let Some(end) = guest.0.checked_add(length as u64).filter(|_| isize::try_from(length).is_ok()) else {
            return Err(RegionError::Wraps { guest, length });
        };
        if let Some(other) = self.regions.iter().find(|other| guest.0 < other.end() && other.guest < end) {
            return Err(RegionError::Overlaps { guest, length, other: GuestAddress(other.guest) });
        }
        let index = self.regions.partition_point(|other| other.guest < guest.0);
        self.regions
            .insert(index, GuestRegion { guest: guest.0, length, host })
            .map_err(|_| RegionError::TooMany)?;
        self.first = self.regions.first().copied().unwrap_or(NO_REGION);
        // Relaxed: all that matters is that no number is given twice. There are not 2⁶⁴ regions in the life of a program.
        self.stamp = STAMP.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        Ok(())
    }

    /// The region at the lowest address, or one that holds nothing.
    #[inline]
    pub(super) fn first_region(&self) -> &GuestRegion {
        &self.first
    }

    /// Checks the alleged buffer `address .. address + length`, and yields the memory it consists of: one
    /// segment, or as many as there are regions that it crosses without a gap. None for a length of 0,
    /// whatever the address.
    ///
    /// # Errors
    /// [`BadRange::Wraps`], [`BadRange::Unmapped`].
    pub(super) fn translate(&self, address: GuestAddress, length: u32) -> Result<Segments<'_>, BadRange> {
        let range = |at| BadRange::Unmapped { address, length: u64::from(length), at: GuestAddress(at) };
        let Some(end) = address.0.checked_add(u64::from(length)) else {
            return Err(BadRange::Wraps { address, length: u64::from(length) });
        };
        // The regions that end in front of it come first, as they are sorted and do not overlap.
        let before = self.regions.iter().take_while(|region| region.end() <= address.0).count();
        let regions = self.regions.get(before..).unwrap_or_default();
        let mut mapped = address.0;
        for region in regions {
            if mapped >= end || region.guest > mapped {
                break;
            }
            mapped = region.end();
        }
        if mapped < end {
            return Err(range(mapped));
        }
        Ok(Segments { regions: regions.iter(), address: address.0, left: length })
    }

    /// Lends an alleged structure that was looked up before, as [`volatile_slice`](Self::volatile_slice) does, and looks it up
    /// only if this is not the memory in which it was found, or has other regions now.
    ///
    /// # Errors
    /// As [`volatile_slice`](Self::volatile_slice); [`BadRange::Misaligned`].
    #[inline(always)]
    pub fn structure<const ALIGNMENT: usize>(
        &self,
        structure: &mut Structure<ALIGNMENT>,
    ) -> Result<Fields<'_, ALIGNMENT>, BadRange> {
        if structure.stamp != self.stamp {
            self.find(structure)?;
        }
        let (start, length) = (structure.start, structure.length);
        Ok(Fields { slice: VolatileSlice { start, length, memory: PhantomData } })
    }

    /// Looks up a structure.
    #[cold]
    fn find<const ALIGNMENT: usize>(&self, structure: &mut Structure<ALIGNMENT>) -> Result<(), BadRange> {
        let slice = self.volatile_slice(structure.address, structure.length)?;
        if slice.fields::<ALIGNMENT>().is_none() {
            return Err(BadRange::Misaligned { offset: 0, size: ALIGNMENT });
        }
        (structure.stamp, structure.start) = (self.stamp, slice.start);
        Ok(())
    }

    /// Checks the alleged structure `address .. address + length` (1 byte or more), which must lie in one region,
    /// and lends it.
    ///
    /// # Errors
    /// [`BadRange::Wraps`], [`BadRange::Unmapped`], [`BadRange::Divided`].
    #[inline]
    pub fn volatile_slice(&self, address: GuestAddress, length: u32) -> Result<VolatileSlice<'_>, BadRange> {
        match self.regions.iter().find_map(|region| region.segment(address, length)) {
            Some(Segment { start, length }) => Ok(VolatileSlice { start, length, memory: PhantomData }),
            None => Err(self.not_in_one(address, length)),
        }
    }

    /// The alleged structure `address .. address + length`, if it lies in the first region, and is aligned there.
    #[inline(always)]
    pub fn first_fields<const ALIGNMENT: usize>(
        &self,
        address: GuestAddress,
        length: u32,
    ) -> Option<Fields<'_, ALIGNMENT>> {
        let Segment { start, length } = self.first_region().segment(address, length)?;
        VolatileSlice { start, length, memory: PhantomData }.fields()
    }

    /// Why `address .. address + length` is not in one region.
    #[cold]
    #[inline(never)]
    fn not_in_one(&self, address: GuestAddress, length: u32) -> BadRange {
        match self.translate(address, length) {
            Ok(_) => BadRange::Divided { address, length: u64::from(length) },
            Err(cause) => cause,
        }
    }
}

/// The segments of a checked range, in order. See [`GuestMemory::translate`].
#[derive(Debug)]
pub(super) struct Segments<'m> {
    regions: core::slice::Iter<'m, GuestRegion>,
    address: u64,
    left: u32,
}

impl<'m> Iterator for Segments<'m> {
    type Item = (&'m GuestRegion, Segment);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let region = self.regions.next()?;
        let (start, available) = region.at(self.address)?;
        let length = u32::try_from(available).map_or(self.left, |available| available.min(self.left));
        self.address = self.address.checked_add(u64::from(length))?;
        self.left = self.left.checked_sub(length)?;
        Some((region, Segment { start, length }))
    }
}

/// A structure with fields in guest memory: a ring, or the table of its descriptors. See [`GuestMemory::structure`].
///
/// Holding one proves what a [`VolatileSlice`] proves, and that its address in the mapping is a multiple of `ALIGNMENT`.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'m, const ALIGNMENT: usize> {
    slice: VolatileSlice<'m>,
}

impl<'m, const ALIGNMENT: usize> Fields<'m, ALIGNMENT> {
    /// All of it.
    #[must_use]
    #[inline]
    pub fn slice(&self) -> VolatileSlice<'m> {
        self.slice
    }

    /// The memory of the field of `size` bytes at `offset`, which is aligned to its size.
    #[inline(always)]
    fn field(&self, offset: usize, size: usize) -> Result<NonNull<u8>, BadRange> {
        if !ALIGNMENT.is_multiple_of(size) || !offset.is_multiple_of(size) {
            return Err(BadRange::Misaligned { offset, size });
        }
        self.slice.at(offset, size)
    }

    /// The 16-bit field at `offset`, for atomic access. Its value is little-endian.
    ///
    /// # Errors
    /// [`BadRange::Beyond`], [`BadRange::Misaligned`].
    #[inline(always)]
    pub fn u16_at(&self, offset: usize) -> Result<&'m AtomicU16, BadRange> {
        let field = self.field(offset, size_of::<u16>())?;
        // SAFETY: the field is aligned, as the structure and its offset are (just checked), mapped, readable and writable for
        // `'m` (what holding a `Fields` proves). This program accesses it only by atomics of this size while the reference lives,
        // or by copies of a driver's buffers that a hostile driver placed over its own ring; the module's
        // documentation says how those are seen.
        Ok(unsafe { AtomicU16::from_ptr(field.cast::<u16>().as_ptr()) })
    }

    /// The 32-bit field at `offset`, for atomic access. Its value is little-endian.
    ///
    /// # Errors
    /// [`BadRange::Beyond`], [`BadRange::Misaligned`].
    #[inline(always)]
    pub fn u32_at(&self, offset: usize) -> Result<&'m AtomicU32, BadRange> {
        let field = self.field(offset, size_of::<u32>())?;
        // SAFETY: as in `u16_at`.
        Ok(unsafe { AtomicU32::from_ptr(field.cast::<u32>().as_ptr()) })
    }
}

impl Fields<'_, { align_of::<u64>() }> {
    /// A private copy of the 16 bytes at `offset`, each read exactly once, as two little-endian words, if they are there and
    /// aligned.
    #[inline(always)]
    pub fn words_at(&self, offset: usize) -> Option<[u64; 2]> {
        if !offset.is_multiple_of(align_of::<u64>()) {
            return None;
        }
        let bytes = self.slice.at(offset, 16).ok()?;
        // SAFETY: the 16 bytes are mapped and readable (checked by `at`), and aligned, as the structure and the offset are.
        let words = unsafe { access::read_words(bytes.cast::<u64>()) };
        Some(words.map(u64::from_le))
    }
}

/// Bytes in guest memory that are copied out: a table of descriptors.
///
/// Holding one proves that its bytes lie in one region of a [`GuestMemory`] that is borrowed, hence mapped,
/// for `'m`. What the bytes say proves nothing, and may change at any time.
#[derive(Debug, Clone, Copy)]
pub struct VolatileSlice<'m> {
    start: NonNull<u8>,
    length: u32,
    memory: PhantomData<&'m GuestMemory>,
}

impl<'m> VolatileSlice<'m> {
    /// The same as a structure with fields, if it is aligned.
    #[must_use]
    #[inline(always)]
    pub fn fields<const ALIGNMENT: usize>(self) -> Option<Fields<'m, ALIGNMENT>> {
        self.start.addr().get().is_multiple_of(ALIGNMENT).then_some(Fields { slice: self })
    }

    /// Its length in bytes.
    #[must_use]
    #[inline]
    pub fn length(&self) -> u32 {
        self.length
    }

    /// The memory of the `size` bytes at `offset`.
    #[inline]
    fn at(&self, offset: usize, size: usize) -> Result<NonNull<u8>, BadRange> {
        if offset.checked_add(size).is_none_or(|end| end > self.length as usize) {
            return Err(BadRange::Beyond { offset, size });
        }
        // SAFETY: `offset` is at most `length` (just checked), and `start .. start + length` is one mapped range
        // of at most `isize::MAX` bytes (what holding a `VolatileSlice` proves).
        Ok(unsafe { self.start.add(offset) })
    }

    /// A private copy of the `N` bytes at `offset`, each read exactly once. No alignment is needed.
    ///
    /// # Errors
    /// [`BadRange::Beyond`].
    #[inline]
    pub fn copy_out<const N: usize>(&self, offset: usize) -> Result<[u8; N], BadRange> {
        let bytes = self.at(offset, N)?;
        // SAFETY: the `N` bytes are mapped and readable (checked by `at`); an array of bytes has no alignment
        // and no invalid values. The read is volatile, so the compiler does it once, and keeps the value.
        Ok(unsafe { bytes.cast::<[u8; N]>().read_volatile() })
    }

    /// A private copy of the 16 bytes at `offset`, each read exactly once, as two little-endian words. The compiler reads an
    /// array byte by byte; words that are aligned it does not.
    ///
    /// # Errors
    /// [`BadRange::Beyond`].
    #[inline]
    pub fn copy_out_words(&self, offset: usize) -> Result<[u64; 2], BadRange> {
        match self.fields().and_then(|fields| fields.words_at(offset)) {
            Some(words) => Ok(words),
            None => self.copy_out_unaligned(offset),
        }
    }

    /// [`copy_out_words`](Self::copy_out_words) where they are not aligned.
    #[cold]
    fn copy_out_unaligned(&self, offset: usize) -> Result<[u64; 2], BadRange> {
        let bytes = self.copy_out::<16>(offset)?;
        let (&[first, second], _) = bytes.as_chunks::<8>() else {
            return Err(BadRange::Beyond { offset, size: 16 });
        };
        Ok([first, second].map(u64::from_le_bytes))
    }
}

#[cfg(test)]
mod tests;
