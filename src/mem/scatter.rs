// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scatter lists: the buffers of a descriptor chain, checked, and read or written as one stream of bytes.
//!
//! A [`ScatterList`] is storage that its owner keeps from chain to chain. [`ScatterList::load`] empties it and
//! lends it together with the guest memory that the next chain lies in; what comes out, a [`ScatterReader`]
//! or a [`ScatterWriter`], borrows both. The addresses that a list still holds afterwards are dead: no safe
//! function follows them, and the next `load` forgets them.

#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, compiler_fence};

use super::guest::{BadRange, GuestAddress, GuestMemory, GuestRegion};
use super::{Full, Short, Sink, Source};

/// Most segments of one list, after segments that adjoin were merged.
pub const MAX_SEGMENTS: usize = 2048;

/// A piece of guest memory.
///
/// Holding one proves that its 1 … 2³² − 1 bytes lie in one region of the [`GuestMemory`] that made it. They
/// are mapped, readable and writable as long as that value lives, which a segment does not prove: this
/// module follows one only under a borrow of the memory.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    pub(super) start: NonNull<u8>,
    pub(super) length: u32,
}

/// Why a buffer was not added to a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadError {
    /// It is not all guest memory.
    Range(BadRange),
    /// The list holds [`MAX_SEGMENTS`] already.
    TooManySegments,
    /// The list would hold 2³² bytes or more.
    TooLong,
}

impl From<BadRange> for LoadError {
    fn from(cause: BadRange) -> Self {
        Self::Range(cause)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(cause) => cause.fmt(f),
            Self::TooManySegments => write!(f, "more than {MAX_SEGMENTS} separate pieces of memory"),
            Self::TooLong => write!(f, "4 GiB or more"),
        }
    }
}

impl core::error::Error for LoadError {}

/// Room for the segments of a chain. See the module.
#[derive(Debug, Default)]
pub struct ScatterList {
    segments: heapless::Vec<Segment, MAX_SEGMENTS>,
    border: Border,
}

/// Where the second stream of a list begins.
#[derive(Debug, Clone, Copy, Default)]
struct Border {
    segments: usize,
    bytes: u32,
}

// SAFETY: the addresses in a list that is not lent are never followed; a list that is lent is borrowed, so
// it does not move.
unsafe impl Send for ScatterList {}

impl ScatterList {
    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self { segments: heapless::Vec::new(), border: Border { segments: 0, bytes: 0 } }
    }

    /// Empties the list, and lends it to take buffers that lie in `memory`.
    #[inline]
    pub fn load<'a>(&'a mut self, memory: &'a GuestMemory) -> Loader<'a> {
        self.segments.clear();
        self.border = Border::default();
        Loader { list: self, memory, region: memory.first_region(), length: 0, end: NO_END }
    }

    /// Appends a segment; `goes_on` says that it is in the region of the last one, and begins where that ends.
    #[inline(always)]
    fn append(&mut self, segment: Segment, goes_on: bool) -> Result<(), LoadError> {
        if goes_on && let Some(last) = self.segments.last_mut() {
            last.length = last.length.checked_add(segment.length).ok_or(LoadError::TooLong)?;
            return Ok(());
        }
        self.segments.push(segment).map_err(|_| LoadError::TooManySegments)
    }
}

/// An end that no buffer has behind which another may begin: no region reaches so far.
const NO_END: u64 = u64::MAX;

/// A list that is being filled with buffers of one guest's memory.
#[derive(Debug)]
pub struct Loader<'a> {
    list: &'a mut ScatterList,
    memory: &'a GuestMemory,
    /// Where the last buffer was, or any other region: the next one is likely to be there.
    region: &'a GuestRegion,
    length: u32,
    /// The guest's address behind the last segment, if the next buffer may go on there.
    end: u64,
}

impl<'a> Loader<'a> {
    /// Checks the alleged buffer `address .. address + length` and appends it. A length of 0 adds nothing.
    ///
    /// # Errors
    /// [`LoadError`]; the list may hold a part of the buffer then, and should not be used.
    #[inline(always)]
    pub fn push(&mut self, address: GuestAddress, length: u32) -> Result<(), LoadError> {
        self.length = self.length.checked_add(length).ok_or(LoadError::TooLong)?;
        let Some(segment) = self.region.segment(address, length) else {
            (self.region, self.end) = push_elsewhere(self.list, self.memory, address, length, self.end)?;
            return Ok(());
        };
        // The last segment ends where this one begins: in the same region, unless the region begins here. A pointer into one
        // region must not leave it, even where two adjoin in host memory by chance.
        self.list.append(segment, address.0 == self.end && !self.region.begins_at(address))?;
        // No region ends behind 2⁶⁴ − 1, so this does not wrap.
        self.end = address.0.wrapping_add(u64::from(length));
        Ok(())
    }

    /// The memory that the buffers lie in.
    #[must_use]
    #[inline]
    pub fn memory(&self) -> &'a GuestMemory {
        self.memory
    }

    /// What is pushed from here on is another stream.
    #[inline]
    pub fn turn(&mut self) {
        self.list.border = Border { segments: self.list.segments.len(), bytes: self.length };
        self.end = NO_END;
    }

    /// Bytes in the list.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.length
    }

    /// What was pushed before the [turn](Self::turn), to be read, and what was pushed after it, to be written.
    #[must_use]
    #[inline]
    pub fn into_streams(self) -> (ScatterReader<'a>, ScatterWriter<'a>) {
        let Self { list, length, .. } = self;
        let Border { segments, bytes } = list.border;
        // The border is at most the end, of both: so nothing is lost here.
        let (before, after) = list.segments.split_at_checked(segments).unwrap_or_default();
        let left = length.saturating_sub(bytes);
        (
            ScatterReader {
                cursor: Cursor { segments: before, offset: 0, left: bytes, memory: PhantomData },
            },
            ScatterWriter {
                cursor: Cursor { segments: after, offset: 0, left, memory: PhantomData },
                written: 0,
            },
        )
    }

    /// All of the list, to be read.
    #[must_use]
    pub fn into_reader(mut self) -> ScatterReader<'a> {
        self.turn();
        self.into_streams().0
    }

    /// All of the list, to be written.
    #[must_use]
    pub fn into_writer(self) -> ScatterWriter<'a> {
        self.into_streams().1
    }
}

/// [`Loader::push`] of a buffer that is empty, in another region than the last one, divided between regions, or not all guest
/// memory. Returns the region in which it ends, and the end.
#[cold]
#[inline(never)]
fn push_elsewhere<'a>(
    list: &mut ScatterList,
    memory: &'a GuestMemory,
    address: GuestAddress,
    length: u32,
    end: u64,
) -> Result<(&'a GuestRegion, u64), LoadError> {
    let mut last = (memory.first_region(), end);
    let mut at = address;
    for (region, segment) in memory.translate(address, length)? {
        list.append(segment, at.0 == end && !region.begins_at(at))?;
        at = GuestAddress(at.0.wrapping_add(u64::from(segment.length)));
        last = (region, at.0);
    }
    Ok(last)
}

/// A range of a list: `left` bytes, the first of which is `offset` bytes into the first segment.
///
/// The segments hold at least `offset + left` bytes, and all lie in memory that is borrowed for `'a`.
#[derive(Debug)]
struct Cursor<'a> {
    segments: &'a [Segment],
    offset: u32,
    left: u32,
    memory: PhantomData<&'a GuestMemory>,
}

impl<'a> Cursor<'a> {
    /// Consumes `count` bytes (if that many are left) and shows each contiguous piece of them to `each`. The
    /// pieces are 1 byte or longer, and mapped, readable and writable for `'a`.
    #[inline(always)] // A header of a known length is then copied without a call.
    fn advance(&mut self, count: usize, mut each: impl FnMut(NonNull<u8>, usize)) -> Option<()> {
        let count = u32::try_from(count).ok()?;
        // Most of what is asked for ends within the segment in which it begins.
        if let Some(left) = self.left.checked_sub(count)
            && let Some(segment) = self.segments.first()
            && let Some(end) = self.offset.checked_add(count)
            && end <= segment.length
        {
            if count > 0 {
                // SAFETY: as in `advance_across`, where `piece` is `count`.
                each(unsafe { segment.start.add(self.offset as usize) }, count as usize);
            }
            (self.offset, self.left) = (end, left);
            return Some(());
        }
        self.advance_across(count, each)
    }

    /// [`advance`](Self::advance) across segments.
    #[inline(never)]
    fn advance_across(&mut self, mut count: u32, mut each: impl FnMut(NonNull<u8>, usize)) -> Option<()> {
        let left = self.left.checked_sub(count)?;
        while count > 0 {
            let (segment, rest) = self.segments.split_first()?;
            let available = segment.length.checked_sub(self.offset)?;
            let piece = available.min(count);
            if piece > 0 {
                // SAFETY: `offset + piece` is at most the segment's length, and the segment is one mapped
                // range of at most `isize::MAX` bytes (what holding one under a borrow of its memory proves).
                each(unsafe { segment.start.add(self.offset as usize) }, piece as usize);
            }
            count = count.checked_sub(piece)?;
            if piece == available {
                self.segments = rest;
                self.offset = 0;
            } else {
                self.offset = self.offset.checked_add(piece)?;
            }
        }
        self.left = left;
        Some(())
    }

    /// The first `count` bytes, and the others.
    fn split_at(mut self, count: usize) -> Option<(Self, Self)> {
        let (segments, offset) = (self.segments, self.offset);
        let head = u32::try_from(count).ok()?;
        self.advance(count, |_, _| ())?;
        Some((Cursor { segments, offset, left: head, memory: PhantomData }, self))
    }
}

/// The readable part of a chain (a request), as a stream. It reads each byte of guest memory at most once.
#[derive(Debug)]
pub struct ScatterReader<'a> {
    cursor: Cursor<'a>,
}

impl ScatterReader<'_> {
    /// Drops the next `count` bytes unread.
    ///
    /// # Errors
    /// [`Short`] if fewer are left; nothing is consumed then.
    pub fn skip(&mut self, count: usize) -> Result<(), Short> {
        self.cursor.advance(count, |_, _| ()).ok_or(Short)
    }

    /// Leaves only the next `count` bytes.
    ///
    /// # Errors
    /// [`Short`] if fewer are left; nothing changes then.
    #[inline]
    pub fn truncate(&mut self, count: u32) -> Result<(), Short> {
        if count > self.cursor.left {
            return Err(Short);
        }
        self.cursor.left = count;
        Ok(())
    }

    /// The next `count` bytes, and those behind them.
    ///
    /// # Errors
    /// [`Short`] if fewer are left.
    pub fn split_at(self, count: usize) -> Result<(Self, Self), Short> {
        let (head, tail) = self.cursor.split_at(count).ok_or(Short)?;
        Ok((Self { cursor: head }, Self { cursor: tail }))
    }
}

impl Source for ScatterReader<'_> {
    fn remaining(&self) -> usize {
        self.cursor.left as usize
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), Short> {
        let mut to = bytes.as_mut_ptr();
        let taken = self.cursor.advance(bytes.len(), |from, length| {
            // SAFETY: `from` is mapped and readable for `length` bytes (`advance`). The pieces add up to at most
            // `bytes.len()`, and `to` has moved by those before, so `to` is writable for `length` bytes and moves to
            // at most the end of `bytes`. The two do not overlap, since no reference to guest memory exists (the
            // contract of `GuestMemory::add_region`) and `bytes` is one. The guest may write meanwhile: see the
            // documentation of `mem::guest`.
            unsafe {
                to.copy_from_nonoverlapping(from.as_ptr(), length);
                to = to.add(length);
            }
        });
        // The copy in `bytes` is what will be checked and used: the compiler must not fetch from the guest again.
        compiler_fence(Ordering::SeqCst);
        taken.ok_or(Short)
    }
}

/// The writable part of a chain (room for the reply), as a stream.
///
/// A reply whose header depends on its payload is written back to front with [`split_at`](Self::split_at).
#[derive(Debug)]
pub struct ScatterWriter<'a> {
    cursor: Cursor<'a>,
    written: u32,
}

impl ScatterWriter<'_> {
    /// Room that is left, in bytes.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.cursor.left as usize
    }

    /// Bytes that were put into this writer.
    #[must_use]
    pub fn written(&self) -> u32 {
        self.written
    }

    /// The next `count` bytes of room, and the room behind them. Both start to count what is written at 0.
    ///
    /// # Errors
    /// [`Full`] if less room is left.
    pub fn split_at(self, count: usize) -> Result<(Self, Self), Full> {
        let (head, tail) = self.cursor.split_at(count).ok_or(Full)?;
        Ok((Self { cursor: head, written: 0 }, Self { cursor: tail, written: 0 }))
    }

    /// A second writer, for the room behind the next `count` bytes; this one keeps all of its room. It counts from 0.
    ///
    /// # Errors
    /// [`Full`] if less room is left.
    #[inline]
    pub fn behind(&self, count: usize) -> Result<Self, Full> {
        let mut cursor = Cursor { ..self.cursor };
        cursor.advance(count, |_, _| ()).ok_or(Full)?;
        // Where a segment ends there, as with a head that has a buffer of its own, the room begins with the next one.
        if let Some((segment, rest)) = cursor.segments.split_first()
            && segment.length == cursor.offset
        {
            (cursor.segments, cursor.offset) = (rest, 0);
        }
        Ok(Self { cursor, written: 0 })
    }

    /// Fills the next `count` bytes, piece by piece, with `fill`.
    #[inline(always)]
    fn advance(&mut self, count: usize, fill: impl FnMut(NonNull<u8>, usize)) -> Result<(), Full> {
        let before = self.cursor.left;
        self.cursor.advance(count, fill).ok_or(Full)?;
        self.written = self.written.saturating_add(before.saturating_sub(self.cursor.left));
        Ok(())
    }
}

/// All or nothing: [`Full`] means that nothing was put.
impl Sink for ScatterWriter<'_> {
    #[inline(always)] // A reply of a known length is then some stores.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let mut from = bytes.as_ptr();
        self.advance(bytes.len(), |to, length| {
            // SAFETY: `to` is mapped and writable for `length` bytes (`Cursor::advance`). The pieces add up to at most
            // `bytes.len()`, and `from` has moved by those before, so `from` is readable for `length` bytes and moves
            // to at most the end of `bytes`. The two do not overlap, since no reference to guest memory exists (the
            // contract of `GuestMemory::add_region`) and `bytes` is one.
            unsafe {
                to.as_ptr().copy_from_nonoverlapping(from, length);
                from = from.add(length);
            }
        })
    }

    fn put_zeros(&mut self, count: usize) -> Result<(), Full> {
        self.advance(count, |to, length| {
            // SAFETY: `to` is mapped and writable for `length` bytes (`Cursor::advance`); a byte has no alignment.
            unsafe { to.as_ptr().write_bytes(0, length) };
        })
    }
}

#[cfg(test)]
mod tests;
