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
#[derive(Debug)]
pub struct ScatterList {
    segments: [Segment; MAX_SEGMENTS],
    /// Where the second stream begins.
    border: Place,
    end: Place,
}

/// A place in a list.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Segments before it.
    segments: usize,
    /// Bytes before it.
    bytes: u32,
}

impl Place {
    const START: Self = Self { segments: 0, bytes: 0 };
}

// SAFETY: the addresses in a list that is not lent are never followed; a list that is lent is borrowed, so
// it does not move.
unsafe impl Send for ScatterList {}

impl Default for ScatterList {
    fn default() -> Self {
        Self::new()
    }
}

impl ScatterList {
    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        let segments = [Segment { start: NonNull::dangling(), length: 0 }; MAX_SEGMENTS];
        Self { segments, border: Place::START, end: Place::START }
    }

    /// Empties the list, and lends it to take buffers that lie in `memory`.
    #[inline(always)]
    pub fn load<'a>(&'a mut self, memory: &'a GuestMemory) -> Loader<'a> {
        self.border = Place::START;
        Loader { list: self, memory, region: memory.first_region(), at: Place::START, end: NO_END }
    }

    /// Appends a segment behind `count` others; `goes_on` says that it is in the region of the
    /// last one, and begins where that ends. Returns how many there are now.
    #[inline(always)]
    fn append(&mut self, count: usize, segment: Segment, goes_on: bool) -> Result<usize, LoadError> {
        if goes_on && let Some(last) = count.checked_sub(1).and_then(|last| self.segments.get_mut(last)) {
            last.length = last.length.checked_add(segment.length).ok_or(LoadError::TooLong)?;
            return Ok(count);
        }
        *self.segments.get_mut(count).ok_or(LoadError::TooManySegments)? = segment;
        Ok(count.wrapping_add(1))
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
    /// The end of the list.
    at: Place,
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
        self.at.bytes = self.at.bytes.checked_add(length).ok_or(LoadError::TooLong)?;
        let Some(segment) = self.region.segment(address, length) else {
            let end = (self.at.segments, self.end);
            (self.at.segments, self.region, self.end) =
                push_elsewhere(self.list, self.memory, address, length, end)?;
            return Ok(());
        };
        // The last segment ends where this one begins: in the same region, unless the region begins here. A pointer into one
        // region must not leave it, even where two adjoin in host memory by chance.
        let goes_on = address.0 == self.end && !self.region.begins_at(address);
        self.at.segments = self.list.append(self.at.segments, segment, goes_on)?;
        // No region ends behind 2⁶⁴ − 1, so this does not wrap.
        self.end = address.0.wrapping_add(u64::from(length));
        Ok(())
    }

    /// [`push`](Self::push) of a buffer as they mostly are: in the region of the last one, or in the first. Returns whether it is, and
    /// there is room for it; nothing is done else.
    #[inline(always)]
    pub fn push_near(&mut self, address: GuestAddress, length: u32) -> bool {
        let Some(segment) = self.region.segment(address, length) else { return false };
        let Some(bytes) = self.at.bytes.checked_add(length) else { return false };
        let goes_on = address.0 == self.end;
        if goes_on && self.region.begins_at(address) {
            return false;
        }
        let Ok(segments) = self.list.append(self.at.segments, segment, goes_on) else { return false };
        self.at = Place { segments, bytes };
        // No region ends behind 2⁶⁴ − 1, so this does not wrap.
        self.end = address.0.wrapping_add(u64::from(length));
        true
    }

    /// The list, to be loaded anew.
    #[must_use]
    #[inline(always)]
    pub fn give_back(self) -> &'a mut ScatterList {
        self.list
    }

    /// The memory that the buffers lie in.
    #[must_use]
    #[inline]
    pub fn memory(&self) -> &'a GuestMemory {
        self.memory
    }

    /// What is pushed from here on is another stream.
    #[inline(always)]
    pub fn turn(&mut self) {
        self.list.border = self.at;
        self.end = NO_END;
    }

    /// Bytes in the list.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.at.bytes
    }

    /// The list, as it is now.
    #[must_use]
    #[inline(always)]
    pub fn finish(self) -> Loaded<'a> {
        self.list.end = self.at;
        Loaded { list: self.list, memory: PhantomData }
    }

    /// What was pushed before the [turn](Self::turn), to be read, and what was pushed after it, to be written.
    #[must_use]
    pub fn into_streams(self) -> (ScatterReader<'a>, ScatterWriter<'a>) {
        self.finish().into_streams()
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

/// A list that was filled: two streams.
#[derive(Debug)]
pub struct Loaded<'a> {
    list: &'a ScatterList,
    memory: PhantomData<&'a GuestMemory>,
}

impl<'a> Loaded<'a> {
    /// What was pushed before the [turn](Loader::turn), to be read, and what was pushed after it, to be written.
    #[must_use]
    #[inline(always)]
    pub fn into_streams(self) -> (ScatterReader<'a>, ScatterWriter<'a>) {
        let ScatterList { segments, border, end } = self.list;
        let (before, after) = segments.split_at_checked(border.segments).unwrap_or_default();
        // The border is at most the end, so nothing is lost here.
        let length = end.bytes.saturating_sub(border.bytes);
        (
            ScatterReader { cursor: Cursor::new(before, border.bytes) },
            ScatterWriter::of(Cursor::new(after, length)),
        )
    }
}

/// [`Loader::push`] of a buffer that is empty, in another region than the last one, divided between regions, or not all guest
/// memory. `segments` and `end` are the loader's; returned is what they are then, and the region in which the buffer ends.
#[cold]
#[inline(never)]
fn push_elsewhere<'a>(
    list: &mut ScatterList,
    memory: &'a GuestMemory,
    address: GuestAddress,
    length: u32,
    (mut segments, end): (usize, u64),
) -> Result<(usize, &'a GuestRegion, u64), LoadError> {
    let mut last = (memory.first_region(), end);
    let mut at = address;
    for (region, segment) in memory.translate(address, length)? {
        segments = list.append(segments, segment, at.0 == end && !region.begins_at(at))?;
        at = GuestAddress(at.0.wrapping_add(u64::from(segment.length)));
        last = (region, at.0);
    }
    Ok((segments, last.0, last.1))
}

/// A range of a list: what is left of the segment in which it goes on, and what lies in the segments behind that.
///
/// `piece` bytes from `at` on are of one segment, `segments` hold at least `behind` bytes, and all lie in memory that is borrowed
/// for `'a`. Both together are shorter than 2³².
#[derive(Debug)]
struct Cursor<'a> {
    at: NonNull<u8>,
    piece: u32,
    behind: u32,
    segments: &'a [Segment],
    memory: PhantomData<&'a GuestMemory>,
}

impl<'a> Cursor<'a> {
    /// The first `length` bytes of `segments`, which hold so many.
    #[inline(always)]
    fn new(segments: &'a [Segment], length: u32) -> Self {
        let mut cursor =
            Self { at: NonNull::dangling(), piece: 0, behind: length, segments, memory: PhantomData };
        cursor.go_on();
        cursor
    }

    /// Bytes of the range.
    #[inline(always)]
    fn left(&self) -> u32 {
        self.piece.wrapping_add(self.behind)
    }

    /// Goes on in the next segment, if there is one; nothing is left of the one before.
    #[inline(always)]
    fn go_on(&mut self) -> Option<()> {
        let (segment, rest) = self.segments.split_first()?;
        let piece = segment.length.min(self.behind);
        self.behind = self.behind.wrapping_sub(piece);
        (self.at, self.piece, self.segments) = (segment.start, piece, rest);
        Some(())
    }

    /// Consumes `count` bytes (if that many are left) and shows each contiguous piece of them to `each`. The
    /// pieces are mapped, readable and writable for `'a`.
    #[inline(always)] // A header of a known length is then copied without a call.
    fn advance(&mut self, count: usize, mut each: impl FnMut(NonNull<u8>, usize)) -> Option<()> {
        // Most of what is asked for ends within the segment in which it begins.
        if count <= self.piece as usize {
            each(self.at, count);
            self.skip_in_piece(count);
            return Some(());
        }
        self.advance_across(count, each)
    }

    /// Consumes `count` bytes, if so many are of one segment.
    #[inline(always)]
    fn skip_in_piece(&mut self, count: usize) {
        if let Some(piece) = u32::try_from(count).ok().and_then(|count| self.piece.checked_sub(count)) {
            // SAFETY: `count` is at most `piece` (just checked), and the `piece` bytes from `at` on are one mapped range of at most
            // `isize::MAX` bytes (what holding a segment under a borrow of its memory proves).
            self.at = unsafe { self.at.add(count) };
            self.piece = piece;
        }
    }

    /// [`advance`](Self::advance) across segments.
    #[inline(never)]
    fn advance_across(&mut self, mut count: usize, mut each: impl FnMut(NonNull<u8>, usize)) -> Option<()> {
        if count > self.left() as usize {
            return None;
        }
        loop {
            let length = count.min(self.piece as usize);
            each(self.at, length);
            self.skip_in_piece(length);
            count = count.checked_sub(length)?;
            if count == 0 {
                return Some(());
            }
            self.go_on()?;
        }
    }

    /// Leaves only the first `count` bytes, if there are so many.
    #[inline]
    fn truncate(&mut self, count: u32) -> Option<()> {
        if count > self.left() {
            return None;
        }
        self.piece = self.piece.min(count);
        self.behind = count.wrapping_sub(self.piece);
        Some(())
    }

    /// The first `count` bytes, and the others.
    fn split_at(mut self, count: usize) -> Option<(Self, Self)> {
        let mut head = Self { ..self };
        head.truncate(u32::try_from(count).ok()?)?;
        self.advance(count, |_, _| ())?;
        Some((head, self))
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
        self.cursor.truncate(count).ok_or(Short)
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
        self.cursor.left() as usize
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
    /// Bytes that there was room for at first.
    room: u32,
}

impl<'a> ScatterWriter<'a> {
    /// Room that is left, in bytes.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.cursor.left() as usize
    }

    /// Bytes that were put into this writer.
    #[must_use]
    #[inline]
    pub fn written(&self) -> u32 {
        self.room.wrapping_sub(self.cursor.left())
    }

    /// The next `count` bytes of room, and the room behind them. Both start to count what is written at 0.
    ///
    /// # Errors
    /// [`Full`] if less room is left.
    pub fn split_at(self, count: usize) -> Result<(Self, Self), Full> {
        let (head, tail) = self.cursor.split_at(count).ok_or(Full)?;
        Ok((Self::of(head), Self::of(tail)))
    }

    /// A second writer, for the room behind the next `count` bytes; this one keeps all of its room. It counts from 0.
    ///
    /// # Errors
    /// [`Full`] if less room is left.
    #[inline(always)]
    pub fn behind(&self, count: usize) -> Result<Self, Full> {
        let mut cursor = Cursor { ..self.cursor };
        cursor.advance(count, |_, _| ()).ok_or(Full)?;
        // Where a segment ends there, as with a head that has a buffer of its own, the room begins with the next one.
        if cursor.piece == 0 {
            cursor.go_on();
        }
        Ok(Self::of(cursor))
    }

    /// To fill the range with.
    #[inline(always)]
    fn of(cursor: Cursor<'a>) -> Self {
        Self { room: cursor.left(), cursor }
    }

    /// Fills the next `count` bytes, piece by piece, with `fill`.
    #[inline(always)]
    fn advance(&mut self, count: usize, fill: impl FnMut(NonNull<u8>, usize)) -> Result<(), Full> {
        self.cursor.advance(count, fill).ok_or(Full)
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
