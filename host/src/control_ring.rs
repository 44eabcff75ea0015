// SPDX-License-Identifier: MIT OR Apache-2.0

//! The preallocated ring: a virtqueue between a host process and the image, with nothing to negotiate.
//!
//! It lies in the memory (BAR 2) of the service VM's first ivshmem device. A header says where; the host is the driver.
//! The bridge configures the image over it, and tests drive the server with it. All values are little endian:
//!
//! | offset | field          | value                                                                   |
//! |--------|----------------|-------------------------------------------------------------------------|
//! | 0      | magic          | `SKRYRING`                                                              |
//! | 8      | version        | u32, 1                                                                  |
//! | 12     | queue_size     | u32                                                                     |
//! | 16     | desc           | u64; offsets into the memory, which are the ring's guest addresses, too |
//! | 24     | avail          | u64                                                                     |
//! | 32     | used           | u64                                                                     |
//! | 40     | features       | u64, the ring's virtio feature bits                                     |
//! | 48     | doorbell       | u32, what rings the host                                                |
//! | 52     | reserved       | u32, 0                                                                  |

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::client::{Client, RingTransport};
use crate::event::Event;
use crate::ivshmem::{self, Doorbell, Server};
use crate::ring_driver::{Layout, Requests, Ring, features};
use crate::shared_memory::SharedMemory;

/// Size of the memory in bytes: a power of two, as a BAR is.
pub const SIZE: u64 = 4 << 20;

const MAGIC: &[u8; 8] = b"SKRYRING";
const VERSION: u32 = 1;
const QUEUE_SIZE: u16 = 128;
const FEATURES: u64 = features::INDIRECT_DESC | features::EVENT_IDX | features::VERSION_1;

/// Requests in flight, and the longest message: together with the ring they fit [`SIZE`].
const IN_FLIGHT: usize = 15;
const LONGEST: u32 = 128 << 10;

/// How long the image may take to boot and answer the first request. TCG under load takes its time.
const BOOT_PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take for a later one.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The preallocated ring, made and not yet connected.
#[derive(Debug)]
pub struct ControlRing {
    /// The device that carries it. It stays plugged, so further kicks become vectors of it.
    pub device: Server,
    /// The ring's driver.
    pub requests: Requests,
    /// QEMU's end of the device's chardev.
    pub socket: OwnedFd,
}

impl ControlRing {
    /// Makes the memory with the ring in it, and the device's server.
    ///
    /// # Errors
    /// If the system has no memory or descriptors left.
    pub fn new() -> Result<Self> {
        let memory =
            Arc::new(SharedMemory::new("skerry-control", SIZE).context("the control ring's memory")?);
        let (mut device, socket) = Server::new(memory.file(), SIZE, ivshmem::MAX_VECTORS)?;
        let (kick, call) = (Event::new()?, Event::new()?);
        let doorbell = device.join(call.as_fd())?;
        device.add_vector(kick.as_fd())?;
        let (layout, end) = Layout::packed_at(4096, QUEUE_SIZE);
        let ring = Ring::new(memory.clone(), layout, FEATURES);
        memory.write(0, &header(layout, doorbell));
        let requests = Requests::new(ring, memory, end, IN_FLIGHT, LONGEST, kick, call);
        Ok(Self { device, requests, socket })
    }
}

/// Starts a 9P session over the control ring's `requests`; the image may still be booting.
///
/// # Errors
/// If the image does not answer.
pub fn connect(requests: Requests) -> Result<Client<RingTransport>> {
    let limit = requests.limit();
    let mut client = Client::new(RingTransport::new(requests, BOOT_PATIENCE), limit)
        .context("the service VM does not answer over its control ring")?;
    client.transport().set_patience(PATIENCE);
    Ok(client)
}

/// The header, as the image reads it.
fn header(layout: Layout, doorbell: Doorbell) -> Vec<u8> {
    let mut header = Vec::with_capacity(56);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&u32::from(layout.size).to_le_bytes());
    for offset in [layout.desc, layout.avail, layout.used, FEATURES] {
        header.extend_from_slice(&offset.to_le_bytes());
    }
    header.extend_from_slice(&doorbell.0.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_fields_where_the_image_looks() {
        let layout = Layout { size: 64, desc: 0x1000, avail: 0x1400, used: 0x2000 };
        let header = header(layout, Doorbell(0x1_0000));
        assert_eq!(header.len(), 56);
        assert_eq!(&header[..16], b"SKRYRING\x01\0\0\0\x40\0\0\0");
        assert_eq!(&header[16..32], b"\0\x10\0\0\0\0\0\0\0\x14\0\0\0\0\0\0");
        assert_eq!(&header[32..48], b"\0\x20\0\0\0\0\0\0\0\0\0\x30\x01\0\0\0");
        assert_eq!(&header[48..], b"\0\0\x01\0\0\0\0\0");
    }

    #[test]
    fn a_control_ring_fits_its_memory() {
        ControlRing::new().unwrap();
    }
}
