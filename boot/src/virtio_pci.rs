// SPDX-License-Identifier: MIT OR Apache-2.0

//! The image's own virtio transport: modern PCI, with the notify addresses looked up once, and without interrupts.
//!
//! Virtio 1.3, section 4.1. The ring itself is [`virtio_drivers::queue::VirtQueue`], which drives any [`Transport`].
//! The one virtio device of the service VM is virtio-pmem, and QEMU's has no MSI-X: its queue is polled.

use core::fmt;
use core::ptr::NonNull;

use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::paging::{AddressSpace, Rights};
use crate::pci::bar::{BarError, MappedBar};
use crate::pci::{Function, Identity};

/// The vendor of all virtio devices.
const VENDOR: u16 = 0x1af4;
/// A modern device's identifier is this plus its virtio device type.
const DEVICE_BASE: u16 = 0x1040;

/// The capability's identifier: vendor specific; and the fields of `struct virtio_pci_cap`.
const CAPABILITY: u8 = 0x09;
const CAP_CFG_TYPE: u8 = 3;
const CAP_BAR: u8 = 4;
const CAP_OFFSET: u8 = 8;
const CAP_LENGTH: u8 = 12;
/// Bytes of `struct virtio_pci_cap`.
const CAP_SIZE: u8 = 16;
/// Behind a notify capability: `notify_off_multiplier`, le32.
const CAP_NOTIFY_MULTIPLIER: u8 = CAP_SIZE;

/// `cfg_type` values.
const COMMON_CFG: u8 = 1;
const NOTIFY_CFG: u8 = 2;
const DEVICE_CFG: u8 = 4;

/// Offsets in `struct virtio_pci_common_cfg`.
mod common {
    pub const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub const DEVICE_FEATURE: u64 = 0x04;
    pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub const DRIVER_FEATURE: u64 = 0x0c;
    pub const DEVICE_STATUS: u64 = 0x14;
    pub const CONFIG_GENERATION: u64 = 0x15;
    pub const QUEUE_SELECT: u64 = 0x16;
    pub const QUEUE_SIZE: u64 = 0x18;
    pub const QUEUE_ENABLE: u64 = 0x1c;
    pub const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub const QUEUE_DESC: u64 = 0x20;
    pub const QUEUE_DRIVER: u64 = 0x28;
    pub const QUEUE_DEVICE: u64 = 0x30;
    /// Bytes of the structure that are used.
    pub const LENGTH: u64 = 0x38;
}

/// Queues whose notify address is kept; the devices that the image drives have one.
const QUEUES: usize = 2;

/// Why a device cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VirtioError {
    /// Not a modern virtio device.
    Identity(Identity),
    /// It lacks the capability of this `cfg_type`, or the structure leaves its BAR.
    Structure(u8),
    /// A BAR cannot be used.
    Bar(BarError),
}

impl fmt::Display for VirtioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(identity) => write!(f, "{identity} is not a modern virtio device"),
            Self::Structure(kind) => {
                write!(f, "its configuration structure of type {kind} is missing or cut")
            }
            Self::Bar(error) => write!(f, "{error}"),
        }
    }
}

/// Registers, in a mapped BAR.
#[derive(Debug, Clone, Copy)]
struct Registers {
    address: u64,
    length: u64,
}

/// Values that a register can have.
trait Register: Copy {}
impl Register for u8 {}
impl Register for u16 {}
impl Register for u32 {}

impl Registers {
    fn pointer<T: Register>(self, offset: u64) -> *mut T {
        let end = offset + size_of::<T>() as u64;
        assert!(
            end <= self.length && (self.address + offset).is_multiple_of(size_of::<T>() as u64),
            "a register within"
        );
        (self.address + offset) as *mut T
    }

    fn read<T: Register>(self, offset: u64) -> T {
        // SAFETY: `pointer` checked that the register lies in these registers, which are mapped for ever, and is aligned;
        // `Register` types are integers. The device is this transport's alone.
        unsafe { core::ptr::read_volatile(self.pointer(offset)) }
    }

    fn write<T: Register>(self, offset: u64, value: T) {
        // SAFETY: as for `read`.
        unsafe { core::ptr::write_volatile(self.pointer(offset), value) }
    }

    /// Writes a 64-bit register as two halves (section 4.1.3.1).
    fn write_u64(self, offset: u64, value: u64) {
        self.write(offset, value as u32);
        self.write(offset + 4, (value >> 32) as u32);
    }
}

/// A device's registers, mapped for ever.
#[derive(Debug)]
pub struct PciTransport {
    device_type: u16,
    common: Registers,
    device: Registers,
    notify: Registers,
    notify_multiplier: u32,
    /// By queue: where its notification is written; 0 before `queue_set`.
    notify_offsets: [u64; QUEUES],
}

/// The virtio device type of a function, if it is a modern virtio device.
pub fn device_type(identity: Identity) -> Option<u16> {
    (identity.vendor == VENDOR).then(|| identity.device.checked_sub(DEVICE_BASE)).flatten()
}

impl PciTransport {
    /// Maps the registers of `function`.
    ///
    /// # Errors
    /// [`VirtioError`]. What was mapped stays mapped: the image does not go on without its devices.
    pub fn new(
        function: Function,
        identity: Identity,
        space: &mut AddressSpace,
    ) -> Result<Self, VirtioError> {
        let device_type = device_type(identity).ok_or(VirtioError::Identity(identity))?;
        let mut bars = [None; 6];
        // Sized before the function decodes memory; each is mapped once, though several structures lie in it.
        let mut mapped = |index: u8| {
            let place = bars.get_mut(usize::from(index)).ok_or(VirtioError::Bar(BarError::Missing(index)))?;
            if place.is_none() {
                let bar = function.bar(index).map_err(VirtioError::Bar)?;
                *place =
                    Some(MappedBar::map(bar, index, Rights::Registers, space).map_err(VirtioError::Bar)?);
            }
            place.ok_or(VirtioError::Bar(BarError::Missing(index)))
        };
        let mut structure = |kind: u8| {
            // The first of a type is the one that the device prefers (section 4.1.4).
            let of_kind = |(identifier, offset): &(u8, u8)| {
                *identifier == CAPABILITY && function.read_u8(offset + CAP_CFG_TYPE) == kind
            };
            let size = if kind == NOTIFY_CFG { CAP_NOTIFY_MULTIPLIER + 4 } else { CAP_SIZE };
            let (_, capability) =
                function.capabilities(size).find(of_kind).ok_or(VirtioError::Structure(kind))?;
            let length = u64::from(function.read_u32(capability + CAP_LENGTH));
            let offset = u64::from(function.read_u32(capability + CAP_OFFSET));
            let bar = mapped(function.read_u8(capability + CAP_BAR))?;
            let address = bar.at(offset, length).ok_or(VirtioError::Structure(kind))?;
            Ok((Registers { address, length }, capability))
        };
        let (common, _) = structure(COMMON_CFG)?;
        if common.length < common::LENGTH {
            return Err(VirtioError::Structure(COMMON_CFG));
        }
        let (device, _) = structure(DEVICE_CFG)?;
        let (notify, capability) = structure(NOTIFY_CFG)?;
        let notify_multiplier = function.read_u32(capability + CAP_NOTIFY_MULTIPLIER);
        function.enable();
        Ok(Self { device_type, common, device, notify, notify_multiplier, notify_offsets: [0; QUEUES] })
    }

    fn select(&mut self, queue: u16) {
        self.common.write(common::QUEUE_SELECT, queue);
    }
}

impl Transport for PciTransport {
    fn device_type(&self) -> DeviceType {
        // Asked by the crate's own drivers only, of which the image uses none: the crate has no name for virtio-pmem.
        match DeviceType::try_from(self.device_type) {
            Ok(known) => known,
            Err(error) => panic!("{error}"),
        }
    }

    fn read_device_features(&mut self) -> u64 {
        let half = |select: u32| {
            self.common.write(common::DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read::<u32>(common::DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        for (select, half) in [(0u32, driver_features as u32), (1, (driver_features >> 32) as u32)] {
            self.common.write(common::DRIVER_FEATURE_SELECT, select);
            self.common.write(common::DRIVER_FEATURE, half);
        }
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.select(queue);
        u32::from(self.common.read::<u16>(common::QUEUE_SIZE))
    }

    fn notify(&mut self, queue: u16) {
        if let Some(offset) = self.notify_offsets.get(usize::from(queue)) {
            self.notify.write(*offset, queue);
        }
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_retain(u32::from(self.common.read::<u8>(common::DEVICE_STATUS)))
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.common.write(common::DEVICE_STATUS, status.bits() as u8);
        // A reset is done when the status reads as 0 (section 4.1.4.3.2); QEMU does it within the write.
        while status.is_empty() && !self.get_status().is_empty() {
            core::hint::spin_loop();
        }
    }

    fn set_guest_page_size(&mut self, _guest_page_size: u32) {
        // Legacy devices only.
    }

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        self.select(queue);
        // The size is at most what `max_queue_size` said, a 16-bit value.
        self.common.write(common::QUEUE_SIZE, size as u16);
        self.common.write_u64(common::QUEUE_DESC, descriptors);
        self.common.write_u64(common::QUEUE_DRIVER, driver_area);
        self.common.write_u64(common::QUEUE_DEVICE, device_area);
        let offset = u64::from(self.common.read::<u16>(common::QUEUE_NOTIFY_OFF));
        if let Some(place) = self.notify_offsets.get_mut(usize::from(queue)) {
            *place = offset * u64::from(self.notify_multiplier);
        }
        self.common.write(common::QUEUE_ENABLE, 1u16);
    }

    fn queue_unset(&mut self, _queue: u16) {
        // A modern device's queue is disabled by resetting the device (section 4.1.4.3.2).
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.select(queue);
        self.common.read::<u16>(common::QUEUE_ENABLE) == 1
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        // No interrupt is ever asked for, and the interrupt line is silenced.
        InterruptStatus::empty()
    }

    fn read_config_generation(&self) -> u32 {
        u32::from(self.common.read::<u8>(common::CONFIG_GENERATION))
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> virtio_drivers::Result<T> {
        let mut value = T::new_zeroed();
        let end = (offset + size_of::<T>()) as u64;
        if end > self.device.length {
            return Err(virtio_drivers::Error::ConfigSpaceTooSmall);
        }
        // By the width of the field; a 64-bit field as two halves (section 4.1.3.1).
        let width = size_of::<T>().min(4);
        for (offset, part) in (offset as u64..).step_by(width).zip(value.as_mut_bytes().chunks_mut(width)) {
            match part.len() {
                4 => part.copy_from_slice(&self.device.read::<u32>(offset).to_le_bytes()),
                2 => part.copy_from_slice(&self.device.read::<u16>(offset).to_le_bytes()),
                1 => part.copy_from_slice(&[self.device.read::<u8>(offset)]),
                _ => return Err(virtio_drivers::Error::InvalidParam),
            }
        }
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        _offset: usize,
        _value: T,
    ) -> virtio_drivers::Result<()> {
        // No device that the image drives has a field to write.
        Err(virtio_drivers::Error::Unsupported)
    }
}

/// Memory for rings: from the heap, which is mapped to itself.
#[derive(Debug)]
pub struct IdentityMapped;

fn pages(count: usize) -> core::alloc::Layout {
    match core::alloc::Layout::from_size_align(count * PAGE_SIZE, PAGE_SIZE) {
        Ok(layout) => layout,
        Err(error) => panic!("{count} pages: {error}"),
    }
}

// SAFETY: blocks come from the global allocator: valid, page aligned, zeroed, not aliased until they are given back. All RAM
// is mapped to itself, so a virtual address is the physical one, for these and for shared buffers. There is no IOMMU.
unsafe impl Hal for IdentityMapped {
    fn dma_alloc(count: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // SAFETY: queues ask for one page or more, so the layout is not empty.
        let block = unsafe { alloc::alloc::alloc_zeroed(pages(count)) };
        // The address 0 tells the caller that there is no memory.
        (block as PhysAddr, NonNull::new(block).unwrap_or(NonNull::dangling()))
    }

    unsafe fn dma_dealloc(_physical: PhysAddr, block: NonNull<u8>, count: usize) -> i32 {
        // SAFETY: `block` came from `dma_alloc` with the same count (the contract of this function).
        unsafe { alloc::alloc::dealloc(block.as_ptr(), pages(count)) };
        0
    }

    unsafe fn mmio_phys_to_virt(physical: PhysAddr, _size: usize) -> NonNull<u8> {
        // For the crate's own PCI transport, which is not used; the address of a BAR is not null.
        NonNull::new(physical as *mut u8).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr() as PhysAddr
    }

    unsafe fn unshare(_physical: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}
