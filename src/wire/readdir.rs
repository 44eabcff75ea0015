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
    /// `size[4] Rreaddir tag[2] count[4] data[count]`: `data` is whole entries, one after the other
    /// ([`Dirent`]).
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

#[cfg(test)]
mod tests {
    use super::super::{QidKind, Tag, golden};
    use super::*;
    use std::vec::Vec;

    const TAG: Tag = Tag(0x0102);

    const ENTRIES: &str = "80 14131211 28272625 24232221 38373635 34333231 04 0100 '.'
                           00 00000000 0c000000 00000000 02000000 00000000 08 0500 'a.txt'";

    fn entries() -> [Dirent<'static>; 2] {
        [
            Dirent {
                qid: Qid { kind: QidKind::DIR, version: 0x1112_1314, path: 0x2122_2324_2526_2728 },
                offset: 0x3132_3334_3536_3738,
                kind: 4,
                name: b".",
            },
            Dirent {
                qid: Qid { kind: QidKind::empty(), version: 0, path: 12 },
                offset: 2,
                kind: 8,
                name: b"a.txt",
            },
        ]
    }

    #[test]
    fn treaddir_is_its_golden_bytes() {
        golden::request(
            "17000000 28 0201 06050403 18171615 14131211 e8ff0000",
            TAG,
            Treaddir { fid: Fid(0x0304_0506), offset: 0x1112_1314_1516_1718, count: 65_512 },
        );
    }

    #[test]
    fn rreaddir_is_its_golden_bytes() {
        golden::reply_with_data("41000000 29 0201 36000000", ENTRIES, TAG, Rreaddir { count: 54 });
        golden::reply("0b000000 29 0201 00000000", TAG, Rreaddir { count: 0 });
    }

    #[test]
    fn entries_are_their_golden_bytes() {
        let golden = golden::bytes(ENTRIES);
        let parsed: Result<Vec<_>, _> = Dirents::new(&golden).collect();
        assert_eq!(parsed.unwrap(), entries());

        let mut buffer = [0xa5; 60];
        let mut filled = 0;
        for entry in entries() {
            assert_eq!(entry.emit(&mut buffer[filled..]), Ok(entry.encoded_length()));
            filled += entry.encoded_length();
        }
        assert_eq!(buffer[..filled], golden);
        assert_eq!(buffer[filled..], [0xa5; 6]);
    }

    /// The start of a reply that diod's `protocol.md` shows.
    #[test]
    fn entries_of_another_server_parse() {
        let data = golden::bytes(
            "80000000 00ac1f2c 00000000 00010000 00000000 00040100 2e800000 0000ffff
             25000000 00002658 ea000000 00000402 002e2e",
        );
        let directory = |path| Qid { kind: QidKind::DIR, version: 0, path };
        let parsed: Result<Vec<_>, _> = Dirents::new(&data).collect();
        assert_eq!(
            parsed.unwrap(),
            [
                Dirent { qid: directory(0x2c_1fac), offset: 1, kind: 4, name: b"." },
                Dirent { qid: directory(0x25_ffff), offset: 0xea_5826, kind: 4, name: b".." },
            ]
        );
    }

    #[test]
    fn an_entry_without_room_for_all_of_it_is_not_put() {
        let [_, entry] = entries();
        let mut buffer = [0xa5; 28];
        assert_eq!(
            entry.emit(&mut buffer),
            Err(WireError::BufferTooSmall { message: MessageType::Rreaddir, needed: 29, available: 28 })
        );
        assert_eq!(buffer, [0xa5; 28]);
    }

    #[test]
    fn a_cut_entry_is_an_error_once_and_ends_the_entries() {
        let golden = golden::bytes(ENTRIES);
        for length in 26..golden.len() {
            let mut entries = Dirents::new(&golden[..length]);
            assert!(entries.next().unwrap().is_ok());
            assert!(entries.next().unwrap().is_err());
            assert_eq!(entries.next(), None);
        }
    }

    #[test]
    fn no_data_is_no_entries() {
        assert_eq!(Dirents::new(&[]).next(), None);
    }
}
