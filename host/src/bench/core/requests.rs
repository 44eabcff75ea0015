// SPDX-License-Identifier: MIT OR Apache-2.0

//! A server behind a ring that this process shares with it: the image behind its preallocated ring, host mode behind a socket.

use anyhow::{Context, Result};

use super::message::Message;
use super::peer::{Peer, SLOTS, begin, refused};
use crate::control_ring::PATIENCE;
use crate::ring_driver::{Chaining, Requests, Token};

/// Bytes of a page: messages are cut as Linux's driver cuts them.
const PAGE: u32 = 4096;
/// Length of the head of an Rread and of an Rreaddir.
const READ_HEAD: u32 = 11;

/// The server, and the driver of its ring.
pub struct OverRing {
    name: &'static str,
    requests: Requests,
    /// The messages, and their bytes.
    steps: Vec<Vec<(Message, Vec<u8>)>>,
    in_flight: Vec<Token>,
    replies: Vec<Vec<u8>>,
    msize: u32,
}

impl OverRing {
    /// Begins a session with the server `name`.
    ///
    /// # Errors
    /// If it does not answer, or has not the files of the benchmarks.
    pub fn new(name: &'static str, mut requests: Requests) -> Result<Self> {
        requests.set_chaining(Chaining { piece: PAGE, indirect: true });
        let replies = vec![Vec::new(); SLOTS];
        let (steps, in_flight) = (Vec::new(), Vec::new());
        let mut peer = Self { name, requests, steps, in_flight, replies, msize: 0 };
        peer.msize = begin(&mut peer, b"/")?;
        Ok(peer)
    }
}

impl Peer for OverRing {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_in_process(&self) -> bool {
        false
    }

    fn msize(&self) -> u32 {
        self.msize
    }

    fn load(&mut self, steps: &[Vec<Message>]) -> Result<()> {
        let with_bytes = |message: &Message| (message.clone(), message.bytes());
        self.steps = steps.iter().map(|step| step.iter().map(with_bytes).collect()).collect();
        Ok(())
    }

    fn exchange(&mut self, step: usize) -> Result<()> {
        let messages = &self.steps[step];
        self.in_flight.clear();
        for (message, bytes) in messages {
            let room = if message.room > 0 { READ_HEAD + u32::try_from(message.room)? } else { PAGE };
            self.in_flight.push(self.requests.submit(bytes, room)?);
        }
        self.requests.kick()?;
        // All replies are taken, also behind one that is an error.
        let mut outcome = Ok(());
        for _ in messages {
            let (token, reply) = self.requests.wait(PATIENCE)?;
            let slot = self.in_flight.iter().position(|of| *of == token).context("a reply to nothing")?;
            let (message, _) = &messages[slot];
            if reply.get(4).copied() != Some(message.answer.into()) {
                outcome = outcome.and(refused(self.name, message, &reply));
            }
            self.replies[slot] = reply;
        }
        outcome
    }

    fn reply(&self, slot: usize) -> Vec<u8> {
        self.replies[slot].clone()
    }
}
