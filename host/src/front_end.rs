// SPDX-License-Identifier: MIT OR Apache-2.0

//! A vhost-user front end: what a client's QEMU is to the bridge, without the client.
//!
//! It has memory of its own, one ring in it, and the two eventfds. Tests drive the server with it, through the same socket
//! and the same messages that QEMU uses.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

use crate::event::Event;
use crate::ring_driver::{Layout, Requests, Ring, features};
use crate::shared_memory::SharedMemory;

/// What the front end's client looks like.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Its memory, in bytes.
    pub memory: u64,
    /// Entries of its ring.
    pub queue_size: u16,
    /// Requests in flight.
    pub in_flight: usize,
    /// The longest message, in bytes.
    pub longest: u32,
    /// Virtio features to accept, of those that are offered, but for packed rings.
    pub features: u64,
    /// Whether to accept packed rings as well. [`FrontEnd::start`] makes a split one: whoever accepts them has a driver of its own.
    pub packed: bool,
}

impl Default for Options {
    /// As Linux's driver has it: 128 entries, all features; messages of 128 KiB.
    fn default() -> Self {
        Self {
            memory: 16 << 20,
            queue_size: 128,
            in_flight: 16,
            longest: 128 << 10,
            features: u64::MAX,
            packed: false,
        }
    }
}

/// A connection to the bridge.
pub struct FrontEnd {
    frontend: Frontend,
    memory: Arc<SharedMemory>,
    options: Options,
    features: u64,
}

impl FrontEnd {
    /// Connects to the bridge's socket at `path` and negotiates features.
    ///
    /// # Errors
    /// If there is nobody, or something is refused.
    pub fn connect(path: &Path, options: Options) -> Result<Self> {
        let memory = Arc::new(SharedMemory::new("skerry-client", options.memory)?);
        let mut frontend =
            Frontend::connect(path, 1).with_context(|| format!("connecting to {}", path.display()))?;
        frontend.set_owner()?;
        let offered = frontend.get_features()?;
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        if offered & protocol == 0 {
            bail!("the backend offers features {offered:#x}, without protocol features");
        }
        let packed = if options.packed { features::RING_PACKED } else { 0 };
        let features = offered & (options.features & !features::RING_PACKED | packed | protocol);
        let wanted = VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::MQ;
        let offered = frontend.get_protocol_features()?;
        frontend.set_protocol_features(wanted & offered)?;
        // From here on every request is answered, so that an error comes back where it was made.
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        frontend.set_features(features)?;
        Ok(Self { frontend, memory, options, features })
    }

    /// The features that were negotiated, with vhost-user's own bit.
    #[must_use]
    pub fn features(&self) -> u64 {
        self.features
    }

    /// The client's memory.
    #[must_use]
    pub fn memory(&self) -> &Arc<SharedMemory> {
        &self.memory
    }

    /// The first `length` bytes of the configuration space.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn config(&mut self, length: u32) -> Result<Vec<u8>> {
        let room = vec![0; length as usize];
        let (_, bytes) = self.frontend.get_config(0, length, VhostUserConfigFlags::WRITABLE, &room)?;
        Ok(bytes)
    }

    /// Tells of the memory, in two adjacent regions, as guest-physical addresses from 0 on.
    ///
    /// # Errors
    /// If it is refused.
    pub fn share_memory(&mut self) -> Result<()> {
        let half = self.options.memory / 2;
        let region = |offset: u64| VhostUserMemoryRegionInfo {
            guest_phys_addr: offset,
            memory_size: half,
            userspace_addr: self.memory.address() + offset,
            mmap_offset: offset,
            mmap_handle: self.memory.file().as_raw_fd(),
        };
        self.frontend.set_mem_table(&[region(0), region(half)])?;
        Ok(())
    }

    /// Makes a fresh ring and has the backend serve it.
    ///
    /// # Errors
    /// If something is refused.
    pub fn start(&mut self) -> Result<Requests> {
        let Options { queue_size, in_flight, longest, .. } = self.options;
        let (layout, end) = Layout::packed_at(4096, queue_size);
        let ring = Ring::new(self.memory.clone(), layout, self.features);
        let (kick, call) = self.start_queue(&layout, 0)?;
        Ok(Requests::new(ring, self.memory.clone(), end, in_flight, longest, kick, call))
    }

    /// Raw: has the backend serve whatever is at `layout`, from `base` on, a number as `VHOST_USER_SET_VRING_BASE` takes it. Returns what
    /// wakes the backend, and what it signals.
    ///
    /// # Errors
    /// If something is refused.
    pub fn start_queue(&mut self, layout: &Layout, base: u32) -> Result<(Event, Event)> {
        self.share_memory()?;
        let (kick, call) = (Event::new()?, Event::new()?);
        self.frontend.set_vring_num(0, layout.size)?;
        self.set_base(base)?;
        self.set_addresses(layout)?;
        self.frontend.set_vring_call(0, &borrowed(&call)?)?;
        self.frontend.set_vring_kick(0, &borrowed(&kick)?)?;
        self.frontend.set_vring_enable(0, true)?;
        Ok((kick, call))
    }

    /// Says where the ring goes on. It is written here: the `vhost` crate has 16 bits for it, of which a packed ring takes 32.
    fn set_base(&mut self, base: u32) -> Result<()> {
        const SET_VRING_BASE: u32 = 10;
        const VERSION: u32 = 1;
        let message: Vec<u8> = [SET_VRING_BASE, VERSION | VhostUserHeaderFlag::NEED_REPLY.bits(), 8, 0, base]
            .into_iter()
            .flat_map(u32::to_le_bytes)
            .collect();
        // SAFETY: the descriptor is the front end's, which has it open for as long as it lives, and that is longer than this call.
        let socket = unsafe { BorrowedFd::borrow_raw(self.frontend.as_raw_fd()) };
        let mut socket = UnixStream::from(socket.try_clone_to_owned()?);
        socket.write_all(&message)?;
        let mut answer = [0; 20];
        socket.read_exact(&mut answer)?;
        if answer[12..] != [0; 8] {
            bail!("the backend refuses to begin at {base:#x}");
        }
        Ok(())
    }

    /// Raw: says where the ring lies, also while it runs.
    ///
    /// # Errors
    /// If it is refused.
    pub fn set_addresses(&mut self, layout: &Layout) -> Result<()> {
        let address = |offset: u64| self.memory.address().wrapping_add(offset);
        let config = VringConfigData {
            queue_max_size: layout.size,
            queue_size: layout.size,
            flags: 0,
            desc_table_addr: address(layout.desc),
            used_ring_addr: address(layout.used),
            avail_ring_addr: address(layout.avail),
            log_addr: None,
        };
        self.frontend.set_vring_addr(0, &config)?;
        Ok(())
    }

    /// Raw: accepts features, whether they were offered or not.
    ///
    /// # Errors
    /// If it is refused.
    pub fn accept(&mut self, features: u64) -> Result<()> {
        self.frontend.set_features(features)?;
        self.features = features;
        Ok(())
    }

    /// Gives the backend another eventfd to signal, as QEMU does when a guest masks an interrupt.
    ///
    /// # Errors
    /// If it is refused.
    pub fn change_call(&mut self, call: &Event) -> Result<()> {
        self.frontend.set_vring_call(0, &borrowed(call)?)?;
        Ok(())
    }

    /// Switches the ring off or on.
    ///
    /// # Errors
    /// If it is refused.
    pub fn set_enabled(&mut self, enabled: bool) -> Result<()> {
        self.frontend.set_vring_enable(0, enabled)?;
        Ok(())
    }

    /// Stops the ring. Returns the next available entry that the backend would have taken.
    ///
    /// # Errors
    /// If it is refused.
    pub fn stop(&mut self) -> Result<u32> {
        Ok(self.frontend.get_vring_base(0)?)
    }
}

/// The same eventfd in the `vhost` crate's type.
fn borrowed(event: &Event) -> Result<EventFd> {
    let copy: OwnedFd = event.as_fd().try_clone_to_owned()?;
    // SAFETY: the descriptor was just duplicated and is owned by nobody else; it is an eventfd, as the type wants.
    Ok(unsafe { EventFd::from_raw_fd(copy.into_raw_fd()) })
}
