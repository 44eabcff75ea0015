// SPDX-License-Identifier: MIT OR Apache-2.0

//! The bridge.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::qemu::{Exit, Transcript};
use crate::service_vm;

/// The most clients at a time: one slot, and one PCIe root port of the service VM, for each.
pub const SLOTS: usize = 8;

/// One place that a client can attach to.
#[derive(Debug, Clone)]
pub struct Socket {
    /// Where the vhost-user socket is made.
    pub path: PathBuf,
    /// The mount tag that a client sees: 1…256 bytes.
    pub tag: String,
}

/// What to serve, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The service VM.
    pub service: service_vm::Options,
    /// 1…[`SLOTS`] sockets.
    pub sockets: Vec<Socket>,
}

/// A running bridge with its service VM. Dropping it ends both and removes the sockets.
#[derive(Debug)]
pub struct Bridge {}

impl Bridge {
    /// Starts the service VM, then listens on every socket. When it returns, clients may connect.
    ///
    /// # Errors
    /// One clear message; nothing is left running then.
    pub fn start(_options: &Options) -> Result<Self> {
        unimplemented!()
    }

    /// How the service VM ended, if it has ended within `limit`. It should not end while the bridge lives: to the user
    /// that is an error.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn wait_for(&mut self, _limit: Duration) -> Result<Option<Exit>> {
        unimplemented!()
    }

    /// What the service VM has written to its console.
    #[must_use]
    pub fn transcript(&self) -> &Transcript {
        unimplemented!()
    }
}
