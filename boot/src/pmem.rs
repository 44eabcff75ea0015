// SPDX-License-Identifier: MIT OR Apache-2.0

//! The driver of virtio-pmem (virtio 1.3, section 5.19): a host file as memory, and a request that makes it durable.

use alloc::boxed::Box;
use core::fmt;

use skerry::mem::region::{Flush, FlushFault};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceStatus, Transport};

use crate::clock::Deadline;
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
/// How long the host may take for a flush, in microseconds. All clients wait meanwhile.
const PATIENCE: u64 = 120_000_000;
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
    /// The host did not answer in time. The device is not used any more.
    Silence,
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
            Self::Silence => {
                write!(f, "the host did not answer a flush request within {} s", PATIENCE / 1_000_000)
            }
        }
    }
}

impl From<virtio_drivers::Error> for PmemError {
    fn from(error: virtio_drivers::Error) -> Self {
        Self::Queue(error)
    }
}

/// A request and the room for its answer, as the device sees them.
#[derive(Debug)]
struct Exchange {
    request: [u8; 4],
    answer: [u8; 4],
}

/// A virtio-pmem device in use.
#[derive(Debug)]
pub struct Pmem {
    transport: PciTransport,
    queue: VirtQueue<IdentityMapped, QUEUE_SIZE>,
    start: u64,
    length: u64,
    /// `None` while a request is in flight: for ever, if the device does not answer it.
    exchange: Option<Box<Exchange>>,
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
        let exchange = Some(Box::new(Exchange { request: FLUSH.to_le_bytes(), answer: [0; 4] }));
        Ok(Self { transport, queue, start, length, exchange })
    }

    /// The memory: address and length.
    pub fn memory(&self) -> (u64, u64) {
        (self.start, self.length)
    }

    /// Makes all that was stored durable: returns after the host has written the file to its disk. Meanwhile the
    /// queue is polled: the device cannot interrupt.
    ///
    /// # Errors
    /// [`PmemError::Flush`], [`PmemError::Queue`], [`PmemError::Silence`].
    pub fn request_flush(&mut self) -> Result<(), PmemError> {
        let mut exchange = self.exchange.take().ok_or(PmemError::Silence)?;
        exchange.answer = [0xff; 4];
        let Exchange { request, answer } = &mut *exchange;
        let (inputs, outputs) = (&[&request[..]], &mut [&mut answer[..]]);
        // SAFETY: request and answer are in a box that is either taken back from the device by `pop_used` below, untouched until
        // then, or leaked.
        let token = match unsafe { self.queue.add(inputs, outputs) } {
            Ok(token) => token,
            Err(error) => {
                self.exchange = Some(exchange);
                return Err(error.into());
            }
        };
        if self.queue.should_notify() {
            self.transport.notify(QUEUE);
        }
        let deadline = Deadline::after(PATIENCE);
        while !self.queue.can_pop() {
            if deadline.is_past() {
                // The device may still write to it.
                Box::leak(exchange);
                return Err(PmemError::Silence);
            }
            core::hint::spin_loop();
        }
        // SAFETY: the same buffers as were passed to `add`, still valid.
        if let Err(error) = unsafe { self.queue.pop_used(token, inputs, outputs) } {
            Box::leak(exchange);
            return Err(error.into());
        }
        let answer = u32::from_le_bytes(exchange.answer);
        self.exchange = Some(exchange);
        if answer == 0 { Ok(()) } else { Err(PmemError::Flush(answer)) }
    }
}

impl Flush for Pmem {
    fn flush(&mut self) -> Result<(), FlushFault> {
        self.request_flush().map_err(|error| {
            log::error!("the volume's device: {error}");
            FlushFault
        })
    }
}
