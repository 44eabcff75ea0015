// SPDX-License-Identifier: MIT OR Apache-2.0

//! Treaddir, and the entries of a directory in the data of its reply.

use super::codec::{Decoder, Encoder, Field, message, total_length};
use super::{Fid, MessageType, Qid, WireError};

/// What of msize a client leaves for the head of Rreaddir: the most data of one is `msize - READDIRHDRSZ`.
pub const READDIRHDRSZ: u32 = 24;

message! {
    /// `size[4] Treaddir tag[2] fid[4] offset[8] count[4]`
    pub struct Treaddir {
        /// An open directory.
        pub fid: Fid,
        /// 0, or the `offset` of an entry, to go on after it.
        pub offset: u64,
        /// The most bytes of entries to answer with.
        pub count: u32,
    }
}

message! {
    /// `size[4] Rreaddir tag[2] count[4] data[count]`: `data` is whole entries, one after the other ([`Dirent`]).
    pub struct Rreaddir {
        /// Bytes of entries; 0 after the last entry.
        pub count: u32,
    }
    data[count]
}

/// An entry of a directory: `qid[13] offset[8] type[1] name[s]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirent<'a> {
    /// What the name stands for.
    pub qid: Qid,
    /// Where reading goes on after this entry.
    pub offset: u64,
    /// `type`: the `d_type` of `getdents(2)`.
    pub kind: u8,
    /// The name.
    pub name: &'a [u8],
}

impl<'a> Dirent<'a> {
    /// Bytes on the wire. An entry is sent whole or not at all: compare with the room that is left.
    #[must_use]
    pub fn encoded_length(&self) -> usize {
        total_length([self.qid.length(), self.offset.length(), self.kind.length(), self.name.length()])
    }

    /// Puts the entry at the start of `buffer`, and returns its length.
    ///
    /// # Errors
    /// [`WireError::BufferTooSmall`], and `buffer` is as it was; [`WireError::StringTooLong`].
    pub fn emit(&self, buffer: &mut [u8]) -> Result<usize, WireError> {
        let length = self.encoded_length();
        let mut encoder = Encoder::new(MessageType::Rreaddir, buffer, length)?;
        self.qid.encode(&mut encoder, "qid")?;
        self.offset.encode(&mut encoder, "offset")?;
        self.kind.encode(&mut encoder, "type")?;
        self.name.encode(&mut encoder, "name")?;
        Ok(length)
    }

    fn decode(decoder: &mut Decoder<'a>) -> Result<Self, WireError> {
        Ok(Self {
            qid: Field::decode(decoder, "qid")?,
            offset: Field::decode(decoder, "offset")?,
            kind: Field::decode(decoder, "type")?,
            name: Field::decode(decoder, "name")?,
        })
    }
}

/// The entries in the data of an Rreaddir. Ends after the first one that is cut short, which is an error.
#[derive(Debug, Clone)]
pub struct Dirents<'a> {
    decoder: Decoder<'a>,
}

impl<'a> Dirents<'a> {
    /// The entries in `data`.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self { decoder: Decoder::new(MessageType::Rreaddir, data) }
    }
}

impl<'a> Iterator for Dirents<'a> {
    type Item = Result<Dirent<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.decoder.rest().is_empty() {
            return None;
        }
        let entry = Dirent::decode(&mut self.decoder);
        if entry.is_err() {
            *self = Self::new(&[]);
        }
        Some(entry)
    }
}
