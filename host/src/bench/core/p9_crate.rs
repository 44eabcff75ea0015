// SPDX-License-Identifier: MIT OR Apache-2.0

//! The `p9` crate, the server of crosvm, in this process: messages and replies are in memory, its files on tmpfs.

use std::path::Path;

use anyhow::{Context, Result};
use p9::Server;

use super::message::Message;
use super::peer::{Peer, SLOTS, begin, refused};

/// The server.
pub struct P9Crate {
    server: Server,
    steps: Vec<Vec<Prepared>>,
    replies: Vec<Vec<u8>>,
    loaded: Vec<Vec<Message>>,
    msize: u32,
}

struct Prepared {
    bytes: Vec<u8>,
    answer: u8,
}

impl P9Crate {
    /// Serves what is below `directory`.
    ///
    /// # Errors
    /// If it cannot be attached to.
    pub fn new(directory: &Path) -> Result<Self> {
        let server = Server::new(directory, Default::default(), Default::default())?;
        let replies = vec![Vec::new(); SLOTS];
        let mut peer = Self { server, steps: Vec::new(), replies, loaded: Vec::new(), msize: 0 };
        peer.msize = begin(&mut peer, b"")?;
        Ok(peer)
    }
}

impl Peer for P9Crate {
    fn name(&self) -> &'static str {
        "p9 crate"
    }

    fn msize(&self) -> u32 {
        self.msize
    }

    fn load(&mut self, steps: &[Vec<Message>]) -> Result<()> {
        let prepare = |message: &Message| Prepared { bytes: message.bytes(), answer: message.answer.into() };
        self.steps = steps.iter().map(|step| step.iter().map(prepare).collect()).collect();
        self.loaded = steps.to_vec();
        Ok(())
    }

    fn exchange(&mut self, step: usize) -> Result<()> {
        for (slot, (message, reply)) in self.steps[step].iter().zip(&mut self.replies).enumerate() {
            reply.clear();
            self.server.handle_message(&mut &message.bytes[..], reply).context("p9 crate")?;
            if reply.get(4) != Some(&message.answer) {
                return refused("p9 crate", &self.loaded[step][slot], reply);
            }
        }
        Ok(())
    }

    fn reply(&self, slot: usize) -> Vec<u8> {
        self.replies[slot].clone()
    }
}
