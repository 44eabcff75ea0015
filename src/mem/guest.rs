// SPDX-License-Identifier: MIT OR Apache-2.0

//! Guest memory: a client's RAM as a list of regions.
//!
//! An address that a driver wrote is an *allegation*. [`GuestMemory::translate`] checks one for a buffer,
//! [`GuestMemory::window`] for a structure with fields; only what they return can be read or written.
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
use core::sync::atomic::{AtomicU16, AtomicU32};

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
struct GuestRegion {
    guest: u64,
    length: usize,
    host: NonNull<u8>,
}

impl GuestRegion {
    fn end(&self) -> u64 {
        self.guest.saturating_add(self.length as u64)
    }

    /// The host memory of `address`, and how many bytes of the region follow from there (1 or more);
    /// `None` if the region does not hold it.
    fn at(&self, address: u64) -> Option<(NonNull<u8>, usize)> {
        let offset = usize::try_from(address.checked_sub(self.guest)?).ok()?;
        let left = self.length.checked_sub(offset).filter(|&left| left > 0)?;
        // SAFETY: `offset < length`, and `host .. host + length` is one mapped range of at most `isize::MAX`
        // bytes (the contract of `add_region`), so the sum stays inside it.
        Some((unsafe { self.host.add(offset) }, left))
    }
}

/// A guest's memory: up to [`MAX_REGIONS`] regions, sorted by guest address, none overlapping.
///
/// Everything that points into it ([`Window`], and the readers and writers of [`super::scatter`]) borrows
/// it. So whoever unmaps memory drops this value first, and the borrow checker proves that nobody still
/// points there.
#[derive(Debug, Default)]
pub struct GuestMemory {
    regions: heapless::Vec<GuestRegion, MAX_REGIONS>,
}

// SAFETY: the pointers are to mapped memory that belongs to no thread (the contract of `add_region`). It is
// not `Sync`: safe code could otherwise copy from two threads into one buffer.
unsafe impl Send for GuestMemory {}

impl GuestMemory {
    /// No memory at all.
    #[must_use]
    pub const fn new() -> Self {
        Self { regions: heapless::Vec::new() }
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
            .map_err(|_| RegionError::TooMany)
    }

    /// The regions from the one that holds `address` on; none if no region does.
    fn regions_from(&self, address: u64) -> &[GuestRegion] {
        // Those that end at or before `address` come first, as they are sorted and do not overlap.
        let index = self.regions.partition_point(|region| region.end() <= address);
        self.regions
            .get(index..)
            .filter(|from| from.first().is_some_and(|r| r.guest <= address))
            .unwrap_or(&[])
    }

    /// Checks the alleged buffer `address .. address + length`, and yields the memory it consists of: one
    /// segment, or as many as there are regions that it crosses without a gap. None for a length of 0,
    /// whatever the address.
    ///
    /// # Errors
    /// [`BadRange::Wraps`], [`BadRange::Unmapped`].
    pub fn translate(&self, address: GuestAddress, length: u32) -> Result<Segments<'_>, BadRange> {
        let range = |at| BadRange::Unmapped { address, length: u64::from(length), at: GuestAddress(at) };
        let Some(end) = address.0.checked_add(u64::from(length)) else {
            return Err(BadRange::Wraps { address, length: u64::from(length) });
        };
        let regions = self.regions_from(address.0);
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

    /// Checks the alleged structure `address .. address + length`, which must lie in one region, and lends it.
    ///
    /// # Errors
    /// [`BadRange::Wraps`], [`BadRange::Unmapped`], [`BadRange::Divided`].
    pub fn window(&self, address: GuestAddress, length: u32) -> Result<Window<'_>, BadRange> {
        // Fast path: a ring is looked up for each request.
        if let Some((start, left)) = self.regions_from(address.0).first().and_then(|r| r.at(address.0))
            && left >= length as usize
        {
            return Ok(Window { start, length: length as usize, memory: PhantomData });
        }
        self.translate(address, length)?;
        Err(BadRange::Divided { address, length: u64::from(length) })
    }
}

/// The segments of a checked range, in order. See [`GuestMemory::translate`].
#[derive(Debug)]
pub struct Segments<'m> {
    regions: core::slice::Iter<'m, GuestRegion>,
    address: u64,
    left: u32,
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        if self.left == 0 {
            return None;
        }
        let region = self.regions.next()?;
        let (start, available) = region.at(self.address)?;
        let length = u32::try_from(available).map_or(self.left, |available| available.min(self.left));
        self.address = self.address.checked_add(u64::from(length))?;
        self.left = self.left.checked_sub(length)?;
        Some(Segment::new(start, length, GuestAddress(region.guest)))
    }
}

/// A structure with fields in guest memory: a ring, or a table of descriptors.
///
/// Holding one proves that its bytes lie in one region of a [`GuestMemory`] that is borrowed, hence mapped,
/// for `'m`. What the bytes say proves nothing, and may change at any time.
#[derive(Debug, Clone, Copy)]
pub struct Window<'m> {
    start: NonNull<u8>,
    length: usize,
    memory: PhantomData<&'m GuestMemory>,
}

impl<'m> Window<'m> {
    /// The memory of the `size` bytes at `offset`.
    fn at(&self, offset: usize, size: usize) -> Result<NonNull<u8>, BadRange> {
        if offset.checked_add(size).is_none_or(|end| end > self.length) {
            return Err(BadRange::Beyond { offset, size });
        }
        // SAFETY: `offset` is at most `length` (just checked), and `start .. start + length` is one mapped range
        // of at most `isize::MAX` bytes (what holding a `Window` proves).
        Ok(unsafe { self.start.add(offset) })
    }

    /// [`at`](Self::at), for a field that is `size` aligned.
    fn aligned(&self, offset: usize, size: usize) -> Result<NonNull<u8>, BadRange> {
        let field = self.at(offset, size)?;
        if field.addr().get().is_multiple_of(size) {
            Ok(field)
        } else {
            Err(BadRange::Misaligned { offset, size })
        }
    }

    /// The 16-bit field at `offset`, for atomic access. Its value is little-endian.
    ///
    /// # Errors
    /// [`BadRange::Beyond`], [`BadRange::Misaligned`].
    pub fn u16_at(&self, offset: usize) -> Result<&'m AtomicU16, BadRange> {
        let field = self.aligned(offset, size_of::<u16>())?;
        // SAFETY: the field is aligned (just checked), mapped, readable and writable for `'m` (what holding a
        // `Window` proves). This program accesses it only by atomics of this size while the reference lives,
        // or by copies of a driver's buffers that a hostile driver placed over its own ring; the module's
        // documentation says how those are seen.
        Ok(unsafe { AtomicU16::from_ptr(field.cast::<u16>().as_ptr()) })
    }

    /// The 32-bit field at `offset`, for atomic access. Its value is little-endian.
    ///
    /// # Errors
    /// [`BadRange::Beyond`], [`BadRange::Misaligned`].
    pub fn u32_at(&self, offset: usize) -> Result<&'m AtomicU32, BadRange> {
        let field = self.aligned(offset, size_of::<u32>())?;
        // SAFETY: as in `u16_at`.
        Ok(unsafe { AtomicU32::from_ptr(field.cast::<u32>().as_ptr()) })
    }

    /// A private copy of the `N` bytes at `offset`, each read exactly once. No alignment is needed.
    ///
    /// # Errors
    /// [`BadRange::Beyond`].
    pub fn copy_out<const N: usize>(&self, offset: usize) -> Result<[u8; N], BadRange> {
        let bytes = self.at(offset, N)?;
        // SAFETY: the `N` bytes are mapped and readable (checked by `at`); an array of bytes has no alignment
        // and no invalid values. The read is volatile, so the compiler does it once, and keeps the value.
        Ok(unsafe { bytes.cast::<[u8; N]>().read_volatile() })
    }
}
