// SPDX-License-Identifier: MIT OR Apache-2.0

//! The preallocated ring: a virtqueue in the memory of the ivshmem device on bus 0, whose driver is a process of the host.
//!
//! The memory starts with a header, all little endian:
//!
//! | offset | field                                                                                  |
//! |--------|----------------------------------------------------------------------------------------|
//! | 0      | magic, the bytes `SKRYRING`                                                            |
//! | 8      | version, le32: 1                                                                       |
//! | 12     | queue size, le32                                                                       |
//! | 16     | descriptor area, le64                                                                  |
//! | 24     | driver area (available ring), le64                                                     |
//! | 32     | device area (used ring), le64                                                          |
//! | 40     | features of the ring, le64: bits 28 INDIRECT_DESC, 29 EVENT_IDX, 32 VERSION_1          |
//! | 48     | what the image writes to the doorbell register to signal replies, le32                 |
//! | 52     | reserved, le32                                                                         |
//!
//! The areas, and the addresses in descriptors, are offsets in the memory. The driver writes the header before the service VM
//! starts. Nothing in it is believed: what is out of place is refused here, or by the queue.

use core::fmt;

use skerry::mem::guest::GuestAddress;
use skerry::virtq::{QueueConfiguration, RingFeatures};

/// Bytes of the header.
pub const LENGTH: usize = 56;
const MAGIC: [u8; 8] = *b"SKRYRING";
const VERSION: u32 = 1;

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlRing {
    /// Where the queue is.
    pub configuration: QueueConfiguration,
    /// What signals replies.
    pub doorbell: u32,
}

/// Why a header was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlRingError {
    /// There is no header.
    Magic([u8; 8]),
    /// A version that is not spoken.
    Version(u32),
    /// A queue size that no queue has.
    Size(u32),
}

impl fmt::Display for ControlRingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic(found) => {
                write!(f, "the control ring's memory starts with {found:02x?}, not SKRYRING")
            }
            Self::Version(found) => write!(f, "the control ring's header has version {found}, not {VERSION}"),
            Self::Size(found) => write!(f, "the control ring's queue size {found} cannot be"),
        }
    }
}

impl ControlRing {
    /// Parses a private copy of the header.
    ///
    /// # Errors
    /// [`ControlRingError`].
    pub fn parse(header: &[u8; LENGTH]) -> Result<Self, ControlRingError> {
        let magic = field(header, 0);
        if magic != MAGIC {
            return Err(ControlRingError::Magic(magic));
        }
        let version = u32::from_le_bytes(field(header, 8));
        if version != VERSION {
            return Err(ControlRingError::Version(version));
        }
        let size = u32::from_le_bytes(field(header, 12));
        let area = |offset| GuestAddress(u64::from_le_bytes(field(header, offset)));
        let configuration = QueueConfiguration {
            size: u16::try_from(size).map_err(|_| ControlRingError::Size(size))?,
            descriptors: area(16),
            available: area(24),
            used: area(32),
            features: RingFeatures::from_bits_truncate(u64::from_le_bytes(field(header, 40))),
            next: 0,
        };
        Ok(Self { configuration, doorbell: u32::from_le_bytes(field(header, 48)) })
    }
}

/// The `N` bytes at `offset`, which lie within the header.
fn field<const N: usize>(header: &[u8; LENGTH], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[offset..offset + N]);
    bytes
}
