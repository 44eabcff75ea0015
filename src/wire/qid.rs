// SPDX-License-Identifier: MIT OR Apache-2.0

//! What 9P identifies things by: tags for requests, fids for a client's files, qids for the server's.

use super::WireError;
use super::codec::{Decoder, Encoder, Field, field_as, flags};

/// Identifies a request among those of a session that are not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u16);

impl Tag {
    /// The tag of Tversion.
    pub const NOTAG: Self = Self(u16::MAX);
}

field_as!(Tag as u16, Self, |tag| tag.0);

/// A file of a session; the client chooses the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fid(pub u32);

impl Fid {
    /// No fid: an `afid` where no authentication is wanted.
    pub const NOFID: Self = Self(u32::MAX);
}

field_as!(Fid as u32, Self, |fid| fid.0);

flags! {
    /// The `type` of a qid: what sort of file it is. No bit is a regular file (and, in 9P2000.L, a device,
    /// FIFO or socket).
    pub struct QidKind: u8 {
        /// QTDIR: a directory.
        const DIR = 0x80;
        /// QTAPPEND: append-only.
        const APPEND = 0x40;
        /// QTEXCL: open by one at a time.
        const EXCL = 0x20;
        /// QTMOUNT: a mounted channel.
        const MOUNT = 0x10;
        /// QTAUTH: an authentication file.
        const AUTH = 0x08;
        /// QTTMP: not backed up.
        const TMP = 0x04;
        /// QTSYMLINK: a symbolic link.
        const SYMLINK = 0x02;
        /// QTLINK: a hard link (9P2000.u).
        const LINK = 0x01;
    }
}

/// A file of the server: `type[1] version[4] path[8]`, 13 bytes. (Plan 9 manual, intro(5).)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Qid {
    /// `type`.
    pub kind: QidKind,
    /// Changes when the file does; 0 says that the client must not cache by it.
    pub version: u32,
    /// Two files of an export are the same exactly when their paths are.
    pub path: u64,
}

impl Qid {
    /// Bytes on the wire.
    pub const LENGTH: usize = 13;
}

impl Field<'_> for Qid {
    fn length(&self) -> usize {
        Self::LENGTH
    }

    fn decode(decoder: &mut Decoder<'_>, field: &'static str) -> Result<Self, WireError> {
        Ok(Self {
            kind: Field::decode(decoder, field)?,
            version: Field::decode(decoder, field)?,
            path: Field::decode(decoder, field)?,
        })
    }

    #[inline(always)]
    fn encode(&self, encoder: &mut Encoder<'_>, field: &'static str) -> Result<(), WireError> {
        self.kind.encode(encoder, field)?;
        self.version.encode(encoder, field)?;
        self.path.encode(encoder, field)
    }
}

#[cfg(test)]
mod tests {
    use super::super::MessageType;
    use super::*;

    #[test]
    fn a_qid_is_its_type_version_and_path_in_thirteen_bytes() {
        let qid = Qid { kind: QidKind::DIR, version: 0x0403_0201, path: 0x0c0b_0a09_0807_0605 };
        let mut buffer = [0xa5; 14];
        let mut encoder = Encoder::new(MessageType::Rattach, &mut buffer, 13).unwrap();
        qid.encode(&mut encoder, "qid").unwrap();
        assert_eq!(buffer, [0x80, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0xa5]);
        assert_eq!(Qid::decode(&mut Decoder::new(MessageType::Rattach, &buffer), "qid"), Ok(qid));
    }

    #[test]
    fn a_bit_without_a_name_is_kept() {
        let flags = <super::super::UnlinkFlags as Field>::decode(
            &mut Decoder::new(MessageType::Tunlinkat, &[0x00, 0x02, 0x00, 0x40]),
            "flags",
        );
        assert_eq!(flags.map(|flags| flags.bits()), Ok(0x4000_0200));
    }
}
