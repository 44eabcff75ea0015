// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests that were put together before anything is measured.

use std::sync::LazyLock;

use skerry::wire::{MessageType, RREAD_HEADER, Tag, Tmessage};

/// One request, and what is to come back.
#[derive(Debug, Clone)]
pub struct Message {
    /// The message without the payload of a Twrite.
    pub head: Vec<u8>,
    /// Bytes of payload that follow: the first of [`payload`].
    pub payload: usize,
    /// Bytes of data that an Rread or Rreaddir may have: what a client lends pages for.
    pub room: usize,
    /// The reply's type.
    pub answer: MessageType,
}

/// Largest payload of any message here: what Linux asks for with its largest msize, in whole pages.
pub const LARGEST: usize = 124 * 4096;

/// The largest message here.
pub const MSIZE: u32 = 512_000;

impl Message {
    /// `request` with the tag `tag`, answered by `room` bytes of data at most.
    ///
    /// # Panics
    /// If 9P cannot say it: the requests are this program's own.
    #[must_use]
    pub fn new<'a>(tag: u16, request: impl Into<Tmessage<'a>>, room: u32) -> Self {
        let request = request.into();
        let mut head = vec![0; request.head_length()];
        request.emit(Tag(tag), &mut head).expect("a request that 9P can say");
        let answer = MessageType::from(u8::from(request.kind()) + 1);
        Self { head, payload: request.data_length() as usize, room: room as usize, answer }
    }

    /// Bytes of the longer of the message and its reply: what msize has to be, at least.
    #[must_use]
    pub fn longest(&self) -> usize {
        (self.head.len() + self.payload).max(RREAD_HEADER as usize + self.room)
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        [&self.head[..], &payload()[..self.payload]].concat()
    }
}

/// What is written: bytes that differ from their neighbours.
#[must_use]
pub fn payload() -> &'static [u8] {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        (0..LARGEST).map(|index| (index.wrapping_mul(0x9e37_79b1) >> 24).to_le_bytes()[0]).collect()
    });
    &BYTES
}
