// SPDX-License-Identifier: MIT OR Apache-2.0

//! How a client's messages travel.

use std::time::Duration;

use crate::ring_driver::{RequestError, Requests};

/// Why a message got no reply.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Over a ring.
    #[error(transparent)]
    Ring(#[from] RequestError),
}

/// Carries one request to a server and its reply back.
pub trait Transport {
    /// The longest message it carries, in bytes.
    fn limit(&self) -> u32;

    /// Sends the bytes of one request, whatever they are, and waits for the bytes of its reply.
    ///
    /// # Errors
    /// [`TransportError`].
    fn rpc(&mut self, request: &[u8]) -> Result<Vec<u8>, TransportError>;
}

/// A virtqueue as a transport.
#[derive(Debug)]
pub struct RingTransport {
    requests: Requests,
    reply_room: u32,
    patience: Duration,
}

impl RingTransport {
    /// Over `requests`; waits for each reply for at most `patience`.
    #[must_use]
    pub fn new(requests: Requests, patience: Duration) -> Self {
        let reply_room = requests.limit();
        Self { requests, reply_room, patience }
    }

    /// Waits for later replies for at most `patience`.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Gives later replies room for `length` bytes. (Without this call: for the longest message.)
    pub fn set_reply_room(&mut self, length: u32) {
        self.reply_room = length;
    }

    /// The ring's requests, for tests that do more than a client does.
    pub fn requests(&mut self) -> &mut Requests {
        &mut self.requests
    }
}

impl Transport for RingTransport {
    fn limit(&self) -> u32 {
        self.requests.limit()
    }

    fn rpc(&mut self, request: &[u8]) -> Result<Vec<u8>, TransportError> {
        Ok(self.requests.exchange(request, self.reply_room, self.patience)?)
    }
}
