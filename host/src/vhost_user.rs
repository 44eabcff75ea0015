// SPDX-License-Identifier: MIT OR Apache-2.0

//! The backend side of vhost-user: what a client's QEMU says of a virtio-9p device, up to a ring that can be served.
//!
//! Who serves the ring is a [`RingServer`]: the bridge has the service VM do it, [`crate::serve`] does it in this process.
//!
//! | file             | subject                                                        |
//! |------------------|----------------------------------------------------------------|
//! | `slot`           | a socket, and the threads that serve it                        |
//! | `backend`        | vhost-user requests, one method each                           |
//! | `device`         | a client's device: what is known of it, when its ring runs     |
//! | `memory_table`   | a client's memory, checked                                     |

mod backend;
mod device;
mod memory_table;
mod slot;

use std::fmt;
use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use skerry::mem::guest::GuestAddress;
use skerry::virtq::{QueueConfiguration, RingFeatures};

pub use memory_table::{MemoryTable, MemoryTableError, Region};
pub use slot::{Slot, SocketFile, serve_connection};

/// The longest mount tag, in bytes.
pub const LONGEST_TAG: usize = 254;

/// One place that a client can attach to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Where the vhost-user socket is made.
    pub path: PathBuf,
    /// The mount tag that a client sees: 1…[`LONGEST_TAG`] bytes.
    pub tag: String,
}

impl Socket {
    /// Checks the tag's length.
    ///
    /// # Errors
    /// If it is not 1…[`LONGEST_TAG`] bytes.
    pub fn check(&self) -> Result<()> {
        if !(1..=LONGEST_TAG).contains(&self.tag.len()) {
            bail!(
                "the mount tag {:?} has {} bytes; it may have 1 to {LONGEST_TAG}",
                self.tag,
                self.tag.len()
            );
        }
        Ok(())
    }
}

/// A client's ring, ready to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingAddresses {
    /// Entries.
    pub size: u32,
    /// Guest-physical address of the descriptor area.
    pub desc: u64,
    /// Guest-physical address of the available ring.
    pub avail: u64,
    /// Guest-physical address of the used ring.
    pub used: u64,
    /// The next available entry to take.
    pub next: u16,
    /// Negotiated feature bits.
    pub features: u64,
}

impl RingAddresses {
    /// The ring as the core takes it up.
    ///
    /// # Errors
    /// If the size is none of a ring.
    pub fn queue(&self) -> Result<QueueConfiguration> {
        Ok(QueueConfiguration {
            size: u16::try_from(self.size).context("the ring's size")?,
            descriptors: GuestAddress(self.desc),
            available: GuestAddress(self.avail),
            used: GuestAddress(self.used),
            features: RingFeatures::from_bits_truncate(self.features),
            next: self.next,
        })
    }
}

/// All that a ring needs to be served.
#[derive(Debug, Clone, Copy)]
pub struct ClientRing<'a> {
    /// The client's memory.
    pub memory: &'a MemoryTable,
    /// Where the ring is in it.
    pub addresses: &'a RingAddresses,
    /// What the client signals.
    pub kick: &'a File,
    /// What the client wants to be signalled.
    pub call: &'a File,
}

/// Who serves the rings of clients.
pub trait RingServer: fmt::Debug + Send + Sync + 'static {
    /// A ring that is being served.
    type Attached: fmt::Debug + Send;

    /// Looks at a client's memory, before any ring in it is to be served.
    ///
    /// # Errors
    /// If it cannot be used; the message says what can.
    fn check_memory(&self, memory: &MemoryTable) -> Result<()>;

    /// Takes notice of an eventfd that a client will signal: once for each, before the first ring with it is attached.
    ///
    /// # Errors
    /// If it cannot be used.
    fn add_kick(&self, kick: &File) -> Result<()>;

    /// Serves a ring for slot `slot`.
    ///
    /// # Errors
    /// If it cannot be served; nothing of it is kept then.
    fn attach(&self, slot: u8, ring: ClientRing<'_>) -> Result<Self::Attached>;

    /// Signals `call` from now on. `false`: this cannot be done any more; attach anew.
    ///
    /// # Errors
    /// If it cannot be signalled.
    fn change_call(&self, attached: &mut Self::Attached, call: &File) -> Result<bool>;

    /// Lets go of a ring and of the memory that it is in. Returns the next available entry to take.
    ///
    /// # Errors
    /// If that cannot be done.
    fn detach(&self, attached: Self::Attached) -> Result<u16>;
}
