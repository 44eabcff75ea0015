// SPDX-License-Identifier: MIT OR Apache-2.0

//! The server side of QEMU's ivshmem-doorbell protocol, over a socket pair.
//!
//! A device gets from its server the memory that becomes its BAR 2, the eventfds that raise its own MSI-X vectors,
//! and *peers*: eventfds that the guest signals by writing `peer << 16 | vector` to the doorbell register. Each
//! message is an `i64`, little endian, with at most one descriptor (QEMU, "Device Specification for Inter-VM shared
//! memory device"). QEMU reads the first three synchronously while it makes the device, so they are written before
//! it starts; the socket's buffer holds them, and no thread is needed.
//!
//! What QEMU 11 gets wrong shapes the interface:
//!
//! * A memory whose size is no power of two aborts it: [`check_size`] refuses first.
//! * It never stops polling the eventfd of a device's own vector. After the device is unplugged, a kick is a use
//!   after free. So a device that will be unplugged gets no vector of its own: kicks of clients become further
//!   vectors of a device that stays ([`Server::add_vector`]).
//! * A peer that left and joins again is a use after free, and a device that is unplugged after a peer left
//!   frees twice. So ids are never reused, and only a device that stays may be told of a leave.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::qmp::send_all;

/// The protocol's version.
const VERSION: i64 = 0;
/// The id of the device itself.
const OWN_ID: u16 = 0;
/// Announces the memory.
const MEMORY: i64 = -1;

/// Most vectors of a device: what an MSI-X table holds.
pub const MAX_VECTORS: u16 = 2048;

/// The largest memory of a client: what its root port reserves, in bytes.
pub const MAX_SIZE: u64 = 8 << 30;

/// How long QEMU may leave its end unread before a write fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a device cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum IvshmemError {
    /// The memory has a size that no BAR has.
    #[error(
        "memory of {} cannot be mapped by the service VM, which takes powers of two: use {} or {}",
        mebibytes(*size), mebibytes(*below), mebibytes(*above)
    )]
    NotPowerOfTwo {
        /// Its size in bytes.
        size: u64,
        /// The next smaller power of two.
        below: u64,
        /// The next larger one.
        above: u64,
    },
    /// The memory does not fit behind a root port.
    #[error("memory of {} is more than the service VM maps: use {} or less", mebibytes(*.0), mebibytes(MAX_SIZE))]
    TooLarge(u64),
    /// All vectors of the device are in use for good.
    #[error(
        "the service VM has used up its {0} interrupt vectors (one for each start of a client's ring); restart it"
    )]
    NoVectorLeft(u16),
    /// All peer ids are used up.
    #[error("the device has used up its peer ids")]
    NoPeerLeft,
    /// QEMU is gone, or does not read.
    #[error("ivshmem connection: {0}")]
    Connection(io::Error),
}

impl From<io::Error> for IvshmemError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// A size for people.
fn mebibytes(size: u64) -> String {
    if size.is_multiple_of(1 << 20) { format!("{}M", size >> 20) } else { format!("{size} bytes") }
}

/// Whether a memory of `size` bytes can be a client's BAR 2.
///
/// # Errors
/// [`IvshmemError::NotPowerOfTwo`], [`IvshmemError::TooLarge`].
pub fn check_size(size: u64) -> Result<(), IvshmemError> {
    if size > MAX_SIZE {
        return Err(IvshmemError::TooLarge(size));
    }
    if !size.is_power_of_two() {
        let above = size.next_power_of_two();
        return Err(IvshmemError::NotPowerOfTwo { size, below: above / 2, above });
    }
    Ok(())
}

/// What the guest writes to the doorbell register to signal a peer: `peer << 16 | vector`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doorbell(pub u32);

/// The server's end of one device's connection. Keep it while the device lives.
#[derive(Debug)]
pub struct Server {
    stream: UnixStream,
    vectors: u16,
    vectors_used: u16,
    next_peer: u16,
}

impl Server {
    /// Serves a device with up to `vectors` vectors whose BAR 2 will be `memory`, of `size` bytes. Returns QEMU's end,
    /// with the messages that it waits for already in it.
    ///
    /// # Errors
    /// [`IvshmemError`].
    pub fn new(memory: BorrowedFd<'_>, size: u64, vectors: u16) -> Result<(Self, OwnedFd), IvshmemError> {
        check_size(size)?;
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_write_timeout(Some(PATIENCE))?;
        let mut server = Self { stream: ours, vectors, vectors_used: 0, next_peer: OWN_ID + 1 };
        server.send(VERSION, None)?;
        server.send(OWN_ID.into(), None)?;
        server.send(MEMORY, Some(memory))?;
        Ok((server, theirs.into()))
    }

    /// Makes `kick` raise the device's next unused vector, for as long as the device lives; returns which.
    ///
    /// # Errors
    /// [`IvshmemError::NoVectorLeft`], [`IvshmemError::Connection`].
    pub fn add_vector(&mut self, kick: BorrowedFd<'_>) -> Result<u16, IvshmemError> {
        if self.vectors_used >= self.vectors {
            return Err(IvshmemError::NoVectorLeft(self.vectors));
        }
        self.send(OWN_ID.into(), Some(kick))?;
        self.vectors_used += 1;
        Ok(self.vectors_used - 1)
    }

    /// Adds a peer whose vector 0 signals `call`; returns how the guest rings it.
    ///
    /// # Errors
    /// [`IvshmemError::NoPeerLeft`], [`IvshmemError::Connection`].
    pub fn join(&mut self, call: BorrowedFd<'_>) -> Result<Doorbell, IvshmemError> {
        let peer = self.next_peer;
        let next = peer.checked_add(1).ok_or(IvshmemError::NoPeerLeft)?;
        self.send(peer.into(), Some(call))?;
        self.next_peer = next;
        Ok(Doorbell(u32::from(peer) << 16))
    }

    fn send(&mut self, message: i64, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        send_all(&self.stream, &message.to_le_bytes(), descriptor)
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::IoSliceMut;
    use std::mem::MaybeUninit;

    /// The next message and whether a descriptor came with it.
    fn receive(socket: &OwnedFd) -> ([u8; 8], bool) {
        let mut message = [0xa5; 8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(socket, &mut [IoSliceMut::new(&mut message)], &mut ancillary, RecvFlags::empty())
                .unwrap();
        assert_eq!(received.bytes, 8);
        let descriptors: usize = ancillary
            .drain()
            .map(|message| match message {
                RecvAncillaryMessage::ScmRights(rights) => rights.count(),
                _ => 0,
            })
            .sum();
        (message, descriptors == 1)
    }

    fn event() -> OwnedFd {
        rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn the_messages_are_those_of_the_protocol_and_wait_for_the_reader() {
        let memory = event();
        let (mut server, socket) = Server::new(memory.as_fd(), 1 << 20, 2).unwrap();
        assert_eq!(server.join(event().as_fd()).unwrap(), Doorbell(0x1_0000));
        assert_eq!(server.add_vector(event().as_fd()).unwrap(), 0);
        assert_eq!(server.join(event().as_fd()).unwrap(), Doorbell(0x2_0000));
        assert_eq!(server.add_vector(event().as_fd()).unwrap(), 1);
        let number = |low: u8| [low, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(receive(&socket), (number(0), false), "version");
        assert_eq!(receive(&socket), (number(0), false), "own id");
        assert_eq!(receive(&socket), ([0xff; 8], true), "memory");
        assert_eq!(receive(&socket), (number(1), true), "the first peer");
        assert_eq!(receive(&socket), (number(0), true), "the own vector");
        assert_eq!(receive(&socket), (number(2), true), "a later peer");
        assert_eq!(receive(&socket), (number(0), true), "a later vector");
    }

    #[test]
    fn vectors_and_peers_run_out_with_an_error() {
        let memory = event();
        let (mut server, _socket) = Server::new(memory.as_fd(), 4096, 1).unwrap();
        server.add_vector(memory.as_fd()).unwrap();
        assert!(matches!(server.add_vector(memory.as_fd()), Err(IvshmemError::NoVectorLeft(1))));
        server.next_peer = u16::MAX;
        assert!(matches!(server.join(memory.as_fd()), Err(IvshmemError::NoPeerLeft)));
    }

    #[test]
    fn a_size_that_no_bar_has_is_refused_with_the_sizes_to_use() {
        let error = check_size(384 << 20).unwrap_err().to_string();
        assert!(error.contains("384M") && error.contains("use 256M or 512M"), "{error}");
        let error = check_size((8 << 30) + 4096).unwrap_err().to_string();
        assert!(error.contains("8589938688 bytes") && error.contains("8192M or less"), "{error}");
        assert!(check_size(0).is_err());
        check_size(8 << 30).unwrap();
        check_size(4096).unwrap();
    }

    #[test]
    fn a_qemu_that_is_gone_is_an_error() {
        let memory = event();
        let (mut server, socket) = Server::new(memory.as_fd(), 4096, 1).unwrap();
        drop(socket);
        assert!(matches!(server.join(memory.as_fd()), Err(IvshmemError::Connection(_))));
    }
}
