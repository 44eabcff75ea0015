// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can be wrong with a message, to parse or to emit.

use core::fmt;

use super::MessageType;

/// The check that a message failed, with the values that failed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// The bytes end before the header `size[4] type[1] tag[2]` does.
    HeaderTruncated {
        /// Bytes there are.
        length: usize,
    },
    /// The header's `size` is not the number of bytes that the message has.
    SizeMismatch {
        /// From the header.
        message: MessageType,
        /// From the header.
        size: u32,
        /// What the caller said arrived.
        total: u32,
    },
    /// `type` is none of 9P2000.L.
    UnknownType {
        /// The header's `type`.
        number: u8,
    },
    /// `type` is a reply (or Tlerror, which nobody sends) where a request should be.
    NotARequest {
        /// From the header.
        message: MessageType,
    },
    /// `type` is a request where a reply should be.
    NotAReply {
        /// From the header.
        message: MessageType,
    },
    /// The bytes end inside a field.
    Truncated {
        /// The message.
        message: MessageType,
        /// The field, by its name in the specification.
        field: &'static str,
        /// Bytes that the field, or the rest of it, takes.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// Bytes are left after the last field.
    TrailingBytes {
        /// The message.
        message: MessageType,
        /// How many.
        count: usize,
    },
    /// `count` is not the number of bytes that follow the head. (0 for messages without `data`.)
    DataMismatch {
        /// The message.
        message: MessageType,
        /// What the message announces.
        count: u32,
        /// What the header's `size` leaves for it.
        follow: u32,
    },
    /// More elements than the field may have.
    TooManyElements {
        /// The message.
        message: MessageType,
        /// The field.
        field: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A string to emit is longer than `length[2]` can say.
    StringTooLong {
        /// The message.
        message: MessageType,
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// A message to emit is longer than `size[4]` can say.
    MessageTooLong {
        /// The message.
        message: MessageType,
    },
    /// The buffer to emit into is too small.
    BufferTooSmall {
        /// The message.
        message: MessageType,
        /// Bytes that are to be put.
        needed: usize,
        /// Bytes there is room for.
        available: usize,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::HeaderTruncated { length } => write!(f, "{length} bytes are too few for a 9P header of 7"),
            Self::SizeMismatch { message, size, total } => {
                write!(f, "{message}: size is {size}, but the message has {total} bytes")
            }
            Self::UnknownType { number } => write!(f, "type {number} is no message of 9P2000.L"),
            Self::NotARequest { message } => write!(f, "{message} is not a request"),
            Self::NotAReply { message } => write!(f, "{message} is not a reply"),
            Self::Truncated { message, field, needed, left } => {
                write!(f, "{message}: {field} needs {needed} bytes, {left} are left")
            }
            Self::TrailingBytes { message, count } => {
                write!(f, "{message}: {count} bytes after the last field")
            }
            Self::DataMismatch { message, count, follow } => {
                write!(f, "{message}: {count} bytes of data announced, {follow} follow")
            }
            Self::TooManyElements { message, field, count, limit } => {
                write!(f, "{message}: {count} {field}, the limit is {limit}")
            }
            Self::StringTooLong { message, field, length } => {
                write!(f, "{message}: {field} has {length} bytes, a string holds at most 65535")
            }
            Self::MessageTooLong { message } => write!(f, "{message}: too long for size[4]"),
            Self::BufferTooSmall { message, needed, available } => {
                write!(f, "{message}: {needed} bytes do not fit into {available}")
            }
        }
    }
}

impl core::error::Error for WireError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn an_error_reads_with_the_message_the_field_and_the_values() {
        let error =
            WireError::Truncated { message: MessageType::Twalk, field: "wname", needed: 300, left: 12 };
        assert_eq!(error.to_string(), "Twalk: wname needs 300 bytes, 12 are left");
        let error = WireError::NotARequest { message: MessageType::from(211) };
        assert_eq!(error.to_string(), "type 211 is not a request");
    }
}
