// SPDX-License-Identifier: MIT OR Apache-2.0

//! What stops a session: the faults, as opposed to the errors that are answered.

use core::fmt;

use crate::wire::{HEADER, MessageType, WireError};

/// A client that broke the rules which let request and reply find each other. Its ring must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionFault {
    /// The readable part of the chain is shorter than a header.
    RequestTooShort {
        /// Its length in bytes.
        readable: usize,
    },
    /// `size` does not even count the header.
    SizeBelowHeader {
        /// The field of the request.
        size: u32,
    },
    /// `size` is more than the readable part of the chain holds.
    SizeBeyondChain {
        /// The field of the request.
        size: u32,
        /// The length of the readable part in bytes.
        readable: usize,
    },
    /// `size` is more than was agreed to.
    SizeAboveMsize {
        /// The field of the request.
        size: u32,
        /// What the session agreed to; [`MAX_REQUEST_HEAD`](super::session::MAX_REQUEST_HEAD) before Tversion.
        msize: u32,
    },
    /// The writable part of the chain has no room for the reply (Rlerror at the least).
    NoRoomForReply {
        /// What would be the reply.
        reply: MessageType,
        /// Its length in bytes.
        needed: usize,
        /// The length of the writable part in bytes.
        room: usize,
    },
    /// A reply cannot be put together. It is the server's own fault, and stops only this session all the same.
    Reply(WireError),
}

impl fmt::Display for SessionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequestTooShort { readable } => {
                write!(f, "the request has {readable} bytes, a header has {HEADER}")
            }
            Self::SizeBelowHeader { size } => {
                write!(f, "the request's size is {size}, its header alone has {HEADER}")
            }
            Self::SizeBeyondChain { size, readable } => {
                write!(f, "the request's size is {size}, its buffers hold {readable} bytes")
            }
            Self::SizeAboveMsize { size, msize } => {
                write!(f, "the request's size is {size}, the session's msize {msize}")
            }
            Self::NoRoomForReply { reply, needed, room } => {
                write!(f, "{reply} takes {needed} bytes, the buffers for it hold {room}")
            }
            Self::Reply(cause) => write!(f, "the reply cannot be put together: {cause}"),
        }
    }
}

impl core::error::Error for SessionFault {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_fault_says_what_was_wrong_with_which_values() {
        let fault = SessionFault::SizeAboveMsize { size: 9000, msize: 8192 };
        assert_eq!(fault.to_string(), "the request's size is 9000, the session's msize 8192");
        let fault = SessionFault::NoRoomForReply { reply: MessageType::Rwalk, needed: 22, room: 12 };
        assert_eq!(fault.to_string(), "Rwalk takes 22 bytes, the buffers for it hold 12");
    }
}
