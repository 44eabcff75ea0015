// SPDX-License-Identifier: MIT OR Apache-2.0

//! A 9P2000.L client: what the bridge configures the image with, and what tests drive a server with.
//!
//! One request at a time, over any [`Transport`]. Messages are put together and taken apart by [`skerry::wire`]. A
//! [`Client`] has exactly one session; fids are given out by it and belong to it.

mod changes;
mod files;
mod transport;

use skerry::wire::{
    Fid, MessageType, Qid, Rmessage, Tag, Tattach, Tmessage, Tversion, VERSION, WireError, parse_r_with_data,
};

pub use changes::HeldLock;
pub use files::{DirectoryEntry, Walked};
pub use transport::{RingTransport, Transport, TransportError};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered Rlerror.
    #[error("{request}: the server answers {}", errno_text(*.errno))]
    Reply {
        /// What was asked.
        request: MessageType,
        /// A Linux error number.
        errno: u32,
    },
    /// No reply arrived.
    #[error("{request}: {reason}")]
    Transport {
        /// What was asked.
        request: MessageType,
        /// Why.
        reason: TransportError,
    },
    /// The request cannot be put together, or the reply does not parse.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The reply parses, but is not a reply to this request.
    #[error("{request}: {what}")]
    Mismatch {
        /// What was asked.
        request: MessageType,
        /// What is wrong with the reply.
        what: String,
    },
}

impl ClientError {
    /// The error number, if the server answered with one.
    #[must_use]
    pub fn errno(&self) -> Option<u32> {
        match self {
            Self::Reply { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// An error number with its meaning.
fn errno_text(errno: u32) -> String {
    let number = errno.cast_signed();
    format!("{}", std::io::Error::from_raw_os_error(number))
}

/// A session with a server.
#[derive(Debug)]
pub struct Client<T> {
    transport: T,
    msize: u32,
    next_fid: u32,
    next_tag: u16,
}

impl<T: Transport> Client<T> {
    /// Starts a session: agrees on 9P2000.L and on the longest message, at most `msize` bytes and what the transport takes.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Mismatch`] if the server does not speak 9P2000.L.
    pub fn new(transport: T, msize: u32) -> Result<Self, ClientError> {
        let msize = msize.min(transport.limit());
        let mut client = Self { transport, msize, next_fid: 0, next_tag: 0 };
        client.version(VERSION, msize)?;
        Ok(client)
    }

    /// Sends a Tversion; what the session had is gone then. Returns the msize that was agreed on.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Mismatch`] if the server answers with another version.
    pub fn version(&mut self, version: &[u8], msize: u32) -> Result<u32, ClientError> {
        let (agreed, answer) = self.call_with(Tversion { msize, version }, &[], |reply, _| match reply {
            Rmessage::Rversion(reply) => Some((reply.msize, reply.version.to_vec())),
            _ => None,
        })?;
        if answer != version || agreed > msize {
            let what = format!("the server answers {} with msize {agreed}", String::from_utf8_lossy(&answer));
            return Err(ClientError::Mismatch { request: MessageType::Tversion, what });
        }
        self.msize = agreed;
        Ok(agreed)
    }

    /// The longest message of the session, in bytes.
    #[must_use]
    pub fn msize(&self) -> u32 {
        self.msize
    }

    /// The transport, for what this client does not do.
    pub fn transport(&mut self) -> &mut T {
        &mut self.transport
    }

    /// A fid that is not in use.
    pub fn fresh_fid(&mut self) -> Fid {
        let fid = Fid(self.next_fid);
        self.next_fid += 1;
        fid
    }

    /// Attaches to the export `aname` as root.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn attach(&mut self, aname: &[u8]) -> Result<(Fid, Qid), ClientError> {
        self.attach_as(aname, 0)
    }

    /// Attaches to the export `aname` as the user `n_uname`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn attach_as(&mut self, aname: &[u8], n_uname: u32) -> Result<(Fid, Qid), ClientError> {
        let fid = self.fresh_fid();
        let request = Tattach { fid, afid: Fid::NOFID, uname: b"", aname, n_uname };
        self.call_with(request, &[], |reply, _| match reply {
            Rmessage::Rattach(reply) => Some((fid, reply.qid)),
            _ => None,
        })
    }

    /// Sends `request` with `data` behind its head and waits for the reply of its type; `take` takes from it what is wanted,
    /// or `None` if it is another reply.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn call_with<'a, R>(
        &mut self,
        request: impl Into<Tmessage<'a>>,
        data: &[u8],
        take: impl FnOnce(Rmessage<'_>, &[u8]) -> Option<R>,
    ) -> Result<R, ClientError> {
        let request = request.into();
        let kind = request.kind();
        let tag = self.fresh_tag(kind);
        let mut message = vec![0; request.head_length()];
        request.emit(tag, &mut message)?;
        message.extend_from_slice(data);
        let reply = self.rpc(kind, &message)?;
        let (answered, reply, data) = parse_r_with_data(&reply)?;
        if answered != tag {
            let what = format!("the reply has tag {}, the request {}", answered.0, tag.0);
            return Err(ClientError::Mismatch { request: kind, what });
        }
        if let Rmessage::Rlerror(error) = reply {
            return Err(ClientError::Reply { request: kind, errno: error.ecode });
        }
        let answer = reply.kind();
        take(reply, data)
            .ok_or_else(|| ClientError::Mismatch { request: kind, what: format!("the reply is an {answer}") })
    }

    fn rpc(&mut self, request: MessageType, message: &[u8]) -> Result<Vec<u8>, ClientError> {
        self.transport.rpc(message).map_err(|reason| ClientError::Transport { request, reason })
    }

    /// The tag of the next request: each another one, so that a late reply is not taken for an early one.
    fn fresh_tag(&mut self, kind: MessageType) -> Tag {
        if kind == MessageType::Tversion {
            return Tag::NOTAG;
        }
        let tag = Tag(self.next_tag);
        self.next_tag = (self.next_tag + 1) % Tag::NOTAG.0;
        tag
    }
}
