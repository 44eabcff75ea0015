// SPDX-License-Identifier: MIT OR Apache-2.0

//! One client's virtio-9p device: what its QEMU has said so far, and the ring that is served when all of it is there.
//!
//! A ring runs when its addresses, memory, kick and call are known and it is enabled (vhost-user, "Ring states"). Every change
//! goes through [`Device::settle`], which attaches or detaches accordingly.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustix::fs::FileType;

use super::memory_table::MemoryTable;
use super::{ClientRing, RingAddresses, RingServer};
use crate::event::Event;
use crate::ring_driver::features;

/// `VIRTIO_9P_MOUNT_TAG`: the configuration space has a tag.
const MOUNT_TAG: u64 = 1 << 0;

/// `VHOST_USER_F_PROTOCOL_FEATURES`: not of virtio; rings then start disabled.
pub const PROTOCOL_FEATURES: u64 = 1 << 30;

/// What a driver may negotiate.
const DRIVER_FEATURES: u64 =
    MOUNT_TAG | features::INDIRECT_DESC | features::EVENT_IDX | features::VERSION_1 | features::RING_PACKED;

/// What a front end may accept.
pub const OFFERED: u64 = DRIVER_FEATURES | PROTOCOL_FEATURES;

/// Where the vring is, in the front end's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VringAddresses {
    /// The descriptor area.
    pub desc: u64,
    /// The available ring.
    pub avail: u64,
    /// The used ring.
    pub used: u64,
}

/// Refuses what cannot be an eventfd: one that is always readable would keep whoever waits for it awake, and one whose reader is slow
/// whoever writes to it. Files of the kernel's own, of which eventfds are, have no type of file.
fn check_event(file: &File, name: &str) -> Result<()> {
    let mode = rustix::fs::fstat(file).with_context(|| format!("the client's {name} eventfd"))?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::Unknown {
        bail!("the client's {name} eventfd is none: its mode is {mode:#o}");
    }
    Ok(())
}

/// A client's device.
#[derive(Debug)]
pub struct Device<S: RingServer> {
    slot: u8,
    tag: String,
    server: Arc<S>,
    features: u64,
    size: u32,
    next: u16,
    addresses: Option<VringAddresses>,
    memory: Option<MemoryTable>,
    kick: Option<File>,
    /// Whether the server knows of `kick`.
    kick_is_known: bool,
    call: Option<File>,
    enabled: bool,
    attached: Option<S::Attached>,
}

impl<S: RingServer> Device<S> {
    /// A device of which nothing is known but its tag.
    #[must_use]
    pub fn new(slot: u8, tag: String, server: Arc<S>) -> Self {
        Self {
            slot,
            tag,
            server,
            features: 0,
            size: 0,
            next: 0,
            addresses: None,
            memory: None,
            kick: None,
            kick_is_known: false,
            call: None,
            enabled: false,
            attached: None,
        }
    }

    /// The configuration space: `tag_len` and the tag (virtio 9P, `struct virtio_9p_config`).
    #[must_use]
    pub fn config(&self) -> Vec<u8> {
        let length = u16::try_from(self.tag.len()).unwrap_or(u16::MAX);
        [&length.to_le_bytes(), self.tag.as_bytes()].concat()
    }

    /// The features that were accepted.
    pub fn set_features(&mut self, accepted: u64) -> Result<()> {
        if accepted & !OFFERED != 0 {
            bail!("the client accepts features {:#x} that were not offered", accepted & !OFFERED);
        }
        self.change(|device| device.features != accepted, |device| device.features = accepted)
    }

    /// The client's memory.
    pub fn set_memory(&mut self, memory: MemoryTable) -> Result<()> {
        let differs = |device: &Self| !device.memory.as_ref().is_some_and(|old| old.is_same(&memory));
        if differs(self) {
            self.server.check_memory(&memory)?;
            self.change(|_| true, |device| device.memory = Some(memory))?;
        }
        Ok(())
    }

    /// The ring's number of entries.
    pub fn set_size(&mut self, size: u32) -> Result<()> {
        if !size.is_power_of_two() || size > 32768 {
            bail!("the client's ring has {size} entries, which is no power of two up to 32768");
        }
        self.change(|device| device.size != size, |device| device.size = size)
    }

    /// Where the ring goes on (vhost-user, `VHOST_USER_SET_VRING_BASE`). It counts when the ring starts.
    ///
    /// Of a split ring it is the next available entry. Of a packed one there are two places, in one half of the number each: of the
    /// next chain to take, and of the next used descriptor. They are the same here, since what was taken is answered before a
    /// ring stops.
    pub fn set_base(&mut self, base: u32) -> Result<()> {
        let [low, high] = [base as u16, (base >> 16) as u16];
        if high != if self.is_packed() { low } else { 0 } {
            bail!("the client's ring cannot go on at {base:#x}");
        }
        self.next = low;
        Ok(())
    }

    fn is_packed(&self) -> bool {
        self.features & features::RING_PACKED != 0
    }

    /// Where the ring is.
    pub fn set_addresses(&mut self, addresses: VringAddresses) -> Result<()> {
        let addresses = Some(addresses);
        self.change(|device| device.addresses != addresses, |device| device.addresses = addresses)
    }

    /// What the client signals. It starts the ring.
    pub fn set_kick(&mut self, kick: Option<File>) -> Result<()> {
        let Some(file) = &kick else {
            bail!("the client wants its ring to be polled; it must give a kick eventfd");
        };
        check_event(file, "kick")?;
        self.change(
            |_| true,
            |device| {
                device.kick = kick;
                device.kick_is_known = false;
            },
        )
    }

    /// What the client wants to be signalled; `None`: nothing.
    pub fn set_call(&mut self, call: Option<File>) -> Result<()> {
        let call = match call {
            Some(call) => {
                check_event(&call, "call")?;
                call
            }
            // The client polls. It is signalled all the same, by an eventfd that nobody waits for.
            None => Event::new()?.into(),
        };
        let Some(attached) = &mut self.attached else {
            self.call = Some(call);
            return self.settle();
        };
        let changed = self.server.change_call(attached, &call)?;
        self.call = Some(call);
        if changed {
            // What was signalled while the eventfds changed may have gone to the old one.
            return self.call_once();
        }
        self.stop()?;
        self.settle()
    }

    /// Whether the ring may run.
    pub fn set_enabled(&mut self, enabled: bool) -> Result<()> {
        self.change(|device| device.enabled != enabled, |device| device.enabled = enabled)
    }

    /// Stops the ring. Returns where it is to go on, as [`Device::set_base`] takes it.
    pub fn stop_ring(&mut self) -> Result<u32> {
        self.stop()?;
        self.kick = None;
        let next = u32::from(self.next);
        Ok(if self.is_packed() { next << 16 | next } else { next })
    }

    /// Forgets all that the client has said.
    pub fn reset(&mut self) -> Result<()> {
        let stopped = self.stop();
        *self = Self::new(self.slot, std::mem::take(&mut self.tag), self.server.clone());
        stopped
    }

    /// Whether the ring is served.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.attached.is_some()
    }

    /// Applies a change, with the ring stopped if it `differs`.
    fn change(&mut self, differs: impl FnOnce(&Self) -> bool, apply: impl FnOnce(&mut Self)) -> Result<()> {
        if differs(self) {
            self.stop()?;
        }
        apply(self);
        self.settle()
    }

    /// Starts the ring if all that it takes is there, stops it if it may not run.
    fn settle(&mut self) -> Result<()> {
        let may_run = self.enabled || self.features & PROTOCOL_FEATURES == 0;
        match (&self.attached, may_run) {
            (Some(_), false) => self.stop(),
            (None, true) => self.start(),
            _ => Ok(()),
        }
    }

    /// Starts the ring, if all that it takes is there.
    fn start(&mut self) -> Result<()> {
        let (Some(addresses), Some(memory), Some(kick), Some(call)) =
            (self.addresses, &self.memory, &self.kick, &self.call)
        else {
            return Ok(());
        };
        if self.size == 0 {
            return Ok(());
        }
        let translate = |name: &str, user: u64| {
            let guest = memory.translate(user);
            guest
                .with_context(|| format!("the client's {name} at {user:#x} is in none of its memory regions"))
        };
        let ring = RingAddresses {
            size: self.size,
            desc: translate("descriptor area", addresses.desc)?,
            avail: translate("available ring", addresses.avail)?,
            used: translate("used ring", addresses.used)?,
            next: self.next,
            features: self.features & DRIVER_FEATURES,
        };
        if !self.kick_is_known {
            self.server.add_kick(kick)?;
            self.kick_is_known = true;
        }
        let attached = self.server.attach(self.slot, ClientRing { memory, addresses: &ring, kick, call })?;
        log::info!(
            "client {}: attached, {} MiB of memory, a ring of {} entries",
            self.slot,
            memory.size() >> 20,
            ring.size
        );
        self.attached = Some(attached);
        Ok(())
    }

    /// Stops the ring, if it runs, and keeps where it stopped.
    fn stop(&mut self) -> Result<()> {
        let Some(attached) = self.attached.take() else { return Ok(()) };
        self.next = self.server.detach(attached)?;
        log::info!("client {}: detached", self.slot);
        Ok(())
    }

    /// Signals the client once for nothing, which a driver must expect.
    fn call_once(&self) -> Result<()> {
        if let Some(call) = &self.call {
            match rustix::io::write(call, &1u64.to_ne_bytes()) {
                Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(error).context("the client's call eventfd"),
            }
        }
        Ok(())
    }
}
