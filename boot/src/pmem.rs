// SPDX-License-Identifier: MIT OR Apache-2.0

//! The driver of virtio-pmem (virtio 1.3, section 5.19): a host file as memory, and a request that makes it durable.

use core::fmt;

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceStatus, Transport};

use crate::paging::{AddressSpace, MapError, Rights};
use crate::pci::{Function, Identity};
use crate::virtio_pci::{IdentityMapped, PciTransport, VirtioError};

/// The device type.
pub const DEVICE_TYPE: u16 = 27;
/// The one queue: flush requests.
const QUEUE: u16 = 0;
/// Descriptors of the queue: a request takes two, and one is in flight at a time.
const QUEUE_SIZE: usize = 4;
/// `VIRTIO_PMEM_REQ_TYPE_FLUSH`.
const FLUSH: u32 = 0;
/// Offsets in the device's configuration.
const CONFIG_START: usize = 0;
const CONFIG_SIZE: usize = 8;

bitflags::bitflags! {
    /// The features that are accepted.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Features: u64 {
        /// Not a legacy device.
        const VERSION_1 = 1 << 32;
    }
}

/// Why the device cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PmemError {
    /// The transport cannot be set up.
    Virtio(VirtioError),
    /// The device did not accept the features.
    Features,
    /// The driver of the queue gave up.
    Queue(virtio_drivers::Error),
    /// The memory cannot be mapped.
    Map(MapError),
    /// The host could not make the memory durable; this is what it answered.
    Flush(u32),
}

impl fmt::Display for PmemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Virtio(error) => write!(f, "{error}"),
            Self::Features => write!(f, "it does not accept VIRTIO_F_VERSION_1"),
            Self::Queue(error) => write!(f, "its queue: {error}"),
            Self::Map(error) => write!(f, "its memory: {error}"),
            Self::Flush(answer) => {
                write!(f, "the host failed to flush the file to its disk (answer {answer:#x})")
            }
        }
    }
}

impl From<virtio_drivers::Error> for PmemError {
    fn from(error: virtio_drivers::Error) -> Self {
        Self::Queue(error)
    }
}

/// A virtio-pmem device in use.
#[derive(Debug)]
pub struct Pmem {
    transport: PciTransport,
    queue: VirtQueue<IdentityMapped, QUEUE_SIZE>,
    start: u64,
    length: u64,
}

impl Pmem {
    /// Sets up the device and maps its memory with `rights`.
    ///
    /// # Errors
    /// [`PmemError`].
    pub fn open(
        function: Function,
        identity: Identity,
        rights: Rights,
        space: &mut AddressSpace,
    ) -> Result<Self, PmemError> {
        let mut transport = PciTransport::new(function, identity, space).map_err(PmemError::Virtio)?;
        let features = transport.begin_init(Features::VERSION_1);
        if features != Features::VERSION_1 || !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
            return Err(PmemError::Features);
        }
        let (start, length) = transport.read_consistent(|| {
            let start: u64 = transport.read_config_space(CONFIG_START)?;
            let length: u64 = transport.read_config_space(CONFIG_SIZE)?;
            Ok((start, length))
        })?;
        space.map(start, length, rights).map_err(PmemError::Map)?;
        let mut queue = VirtQueue::new(&mut transport, QUEUE, false, false)?;
        queue.set_dev_notify(false);
        transport.finish_init();
        Ok(Self { transport, queue, start, length })
    }

    /// The memory: address and length.
    pub fn memory(&self) -> (u64, u64) {
        (self.start, self.length)
    }

    /// Makes all that was stored durable: returns after the host has written the file to its disk. Meanwhile the
    /// queue is polled: the device cannot interrupt.
    ///
    /// # Errors
    /// [`PmemError::Flush`], [`PmemError::Queue`].
    pub fn flush(&mut self) -> Result<(), PmemError> {
        let request = FLUSH.to_le_bytes();
        let mut answer = [0xff; 4];
        let (inputs, outputs) = (&[&request[..]], &mut [&mut answer[..]]);
        // SAFETY: request and answer live on, untouched, until `pop_used` below has taken the token back: nothing in between
        // returns.
        let token = unsafe { self.queue.add(inputs, outputs) }?;
        if self.queue.should_notify() {
            self.transport.notify(QUEUE);
        }
        while !self.queue.can_pop() {
            core::hint::spin_loop();
        }
        // SAFETY: the same buffers as were passed to `add`, still valid.
        unsafe { self.queue.pop_used(token, inputs, outputs) }?;
        match u32::from_le_bytes(answer) {
            0 => Ok(()),
            answer => Err(PmemError::Flush(answer)),
        }
    }
}
