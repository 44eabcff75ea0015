// SPDX-License-Identifier: MIT OR Apache-2.0

//! The header that every message starts with: `size[4] type[1] tag[2]`.

use super::{MessageType, TWRITE_HEADER, Tag};

/// Length of the header in bytes.
pub const HEADER: u32 = 7;

/// The header of a message.
///
/// It is parsed apart from the body, because the tag is needed to answer a malformed body with Rlerror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Length of the whole message in bytes, these four included. Anything: it was not checked.
    pub size: u32,
    /// `type`.
    pub kind: MessageType,
    /// What the reply must carry, too.
    pub tag: Tag,
}

impl Header {
    /// Takes the header apart. Any seven bytes are a header.
    #[must_use]
    pub fn parse(bytes: &[u8; HEADER as usize]) -> Self {
        let [size0, size1, size2, size3, kind, tag0, tag1] = *bytes;
        Self {
            size: u32::from_le_bytes([size0, size1, size2, size3]),
            kind: MessageType::from(kind),
            tag: Tag(u16::from_le_bytes([tag0, tag1])),
        }
    }

    /// Puts the header together.
    #[must_use]
    pub fn emit(self) -> [u8; HEADER as usize] {
        let [size0, size1, size2, size3] = self.size.to_le_bytes();
        let [tag0, tag1] = self.tag.0.to_le_bytes();
        [size0, size1, size2, size3, u8::from(self.kind), tag0, tag1]
    }

    /// How many bytes of this request, header included, [`parse_t`](super::parse_t) wants to see: all of
    /// them, but of a Twrite only what stands before its data.
    #[must_use]
    pub fn head_length(self) -> u32 {
        match self.kind {
            MessageType::Twrite => self.size.min(TWRITE_HEADER),
            _ => self.size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_size_type_and_tag() {
        let bytes = [0x44, 0x33, 0x22, 0x11, 110, 0x66, 0x55];
        let header = Header { size: 0x1122_3344, kind: MessageType::Twalk, tag: Tag(0x5566) };
        assert_eq!(Header::parse(&bytes), header);
        assert_eq!(header.emit(), bytes);
    }

    #[test]
    fn only_the_head_of_a_write_is_gathered() {
        let header = |kind, size| Header { size, kind, tag: Tag(1) };
        assert_eq!(header(MessageType::Twrite, 512_000).head_length(), 23);
        assert_eq!(header(MessageType::Twrite, 9).head_length(), 9);
        assert_eq!(header(MessageType::Twalk, 512).head_length(), 512);
    }
}
