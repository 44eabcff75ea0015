// SPDX-License-Identifier: MIT OR Apache-2.0

//! A sink that lets only a part of a stream through: how a value that its backend renders as a whole (an
//! extended attribute, a line of statistics) is read at an offset, without a buffer to hold it.

use super::{Full, Sink};

/// Passes on the bytes `offset .. offset + limit` of what is put into it, and counts all of them.
pub struct Window<'a> {
    skip: u64,
    room: usize,
    passed: usize,
    total: u64,
    sink: Option<&'a mut dyn Sink>,
}

impl<'a> Window<'a> {
    /// A window over `sink`, `limit` bytes long, that begins at `offset` of the stream.
    pub fn new(sink: &'a mut dyn Sink, offset: u64, limit: usize) -> Self {
        Self { skip: offset, room: limit, passed: 0, total: 0, sink: Some(sink) }
    }

    /// A window of no length: it only measures the stream.
    #[must_use]
    pub fn counting() -> Self {
        Self { skip: 0, room: 0, passed: 0, total: 0, sink: None }
    }

    /// Bytes that were passed on.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// Bytes of the whole stream so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Accounts for `length` more bytes of the stream; returns which of them lie in the window.
    fn advance(&mut self, length: usize) -> core::ops::Range<usize> {
        self.total = self.total.saturating_add(length as u64);
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(length);
        self.skip = self.skip.saturating_sub(skipped as u64);
        let taken = length.saturating_sub(skipped).min(self.room);
        self.room = self.room.saturating_sub(taken);
        self.passed = self.passed.saturating_add(taken);
        skipped..skipped.saturating_add(taken)
    }
}

impl Sink for Window<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let range = self.advance(bytes.len());
        match (bytes.get(range), self.sink.as_deref_mut()) {
            (Some(inside), Some(sink)) if !inside.is_empty() => sink.put(inside),
            _ => Ok(()),
        }
    }

    fn put_zeros(&mut self, count: usize) -> Result<(), Full> {
        let inside = self.advance(count).len();
        match self.sink.as_deref_mut() {
            Some(sink) if inside > 0 => sink.put_zeros(inside),
            _ => Ok(()),
        }
    }
}

impl core::fmt::Write for Window<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.put(text.as_bytes()).map_err(|Full| core::fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn every_window_over_pieces_equals_the_slice_of_the_whole() {
        let whole = b"abc\0\0\0\0defg";
        for offset in 0..=whole.len() + 1 {
            for limit in 0..=whole.len() + 1 {
                let mut out = Vec::new();
                let mut window = Window::new(&mut out, offset as u64, limit);
                window.put(b"abc").unwrap();
                window.put_zeros(4).unwrap();
                window.put(b"").unwrap();
                window.put(b"defg").unwrap();
                let start = offset.min(whole.len());
                let end = (start + limit).min(whole.len());
                assert_eq!((window.passed(), window.total()), (end - start, whole.len() as u64));
                assert_eq!(out, &whole[start..end], "offset {offset}, limit {limit}");
            }
        }
    }

    #[test]
    fn a_counting_window_measures_and_passes_nothing() {
        let mut window = Window::counting();
        window.put(b"four").unwrap();
        window.put_zeros(3).unwrap();
        assert_eq!((window.passed(), window.total()), (0, 7));
    }
}
