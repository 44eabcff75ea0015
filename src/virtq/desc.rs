// SPDX-License-Identifier: MIT OR Apache-2.0

//! The descriptors, and the layout of the three parts of a split virtqueue (virtio 1.3, sections 2.7.5, 2.7.6 and
//! 2.7.8) and of a packed one (sections 2.8.13 and 2.8.14). All fields are little-endian.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "lengths and places are a number of 16 bits times 16 at most, and a little: they fit 32 bits"
)]

use crate::mem::guest::GuestAddress;

/// `struct virtq_desc`: `addr[8] len[4] flags[2] next[2]`.
pub const DESCRIPTOR_SIZE: u32 = 16;

/// The descriptor table: `virtq_desc` × size.
pub mod descriptor_table {
    /// Its address is a multiple of this.
    pub const ALIGNMENT: usize = 16;

    /// Its length in bytes, for a queue of `size`.
    #[must_use]
    pub const fn length(size: u16) -> u32 {
        super::DESCRIPTOR_SIZE * size as u32
    }

    /// Where descriptor `index` is.
    #[must_use]
    pub const fn entry(index: u16) -> usize {
        super::DESCRIPTOR_SIZE as usize * index as usize
    }
}

/// The available ring, which the driver writes: `flags[2] idx[2] ring[2 × size] used_event[2]`.
pub mod available_ring {
    /// Its address is a multiple of this.
    pub const ALIGNMENT: usize = 2;
    /// Where `flags` is.
    pub const FLAGS: usize = 0;
    /// Where `idx` is.
    pub const IDX: usize = 2;
    /// In `flags`: the driver needs no notification of used buffers. A hint, and without meaning under `EVENT_IDX`.
    pub const NO_INTERRUPT: u16 = 1;

    /// Its length in bytes, for a queue of `size`, with `used_event` only where it exists.
    #[must_use]
    pub const fn length(size: u16, event_idx: bool) -> u32 {
        4 + 2 * size as u32 + 2 * event_idx as u32
    }

    /// Where `ring[index]` is.
    #[must_use]
    pub const fn entry(index: u16) -> usize {
        4 + 2 * index as usize
    }

    /// Where `used_event` is.
    #[must_use]
    pub const fn used_event(size: u16) -> usize {
        entry(size)
    }
}

/// The used ring, which the device writes: `flags[2] idx[2] ring[(id[4] len[4]) × size] avail_event[2]`.
pub mod used_ring {
    /// Its address is a multiple of this.
    pub const ALIGNMENT: usize = 4;
    /// Where `flags` is.
    pub const FLAGS: usize = 0;
    /// Where `idx` is.
    pub const IDX: usize = 2;
    /// Where `len` is in an element, behind `id`.
    pub const LEN: usize = 4;
    /// In `flags`: the device needs no kick. A hint, and without meaning under `EVENT_IDX`.
    pub const NO_NOTIFY: u16 = 1;

    /// Its length in bytes, for a queue of `size`, with `avail_event` only where it exists.
    #[must_use]
    pub const fn length(size: u16, event_idx: bool) -> u32 {
        4 + 8 * size as u32 + 2 * event_idx as u32
    }

    /// Where `ring[index]` is.
    #[must_use]
    pub const fn entry(index: u16) -> usize {
        4 + 8 * index as usize
    }

    /// Where `avail_event` is.
    #[must_use]
    pub const fn avail_event(size: u16) -> usize {
        entry(size)
    }
}

/// The descriptor ring of a packed virtqueue, which both sides write: `pvirtq_desc` × size, each
/// `addr[8] len[4] id[2] flags[2]`.
pub mod descriptor_ring {
    pub use super::descriptor_table::{ALIGNMENT, entry, length};

    /// Where `len` is in a descriptor.
    pub const LEN: usize = 8;
    /// Where `id` is in a descriptor.
    pub const ID: usize = 12;
    /// Where `flags` is in a descriptor.
    pub const FLAGS: usize = 14;
    /// In `flags`: the driver's mark, its wrap counter when it made the descriptor available.
    pub const AVAILABLE: u16 = 1 << 7;
    /// In `flags`: the device's mark, its wrap counter when it used the descriptor. Until then, the opposite of the driver's.
    pub const USED: u16 = 1 << 15;
}

/// An event suppression structure of a packed virtqueue, one of the driver and one of the device: `off_wrap[2] flags[2]`, which is
/// read and written as one word.
pub mod event_suppression {
    /// Its address is a multiple of this.
    pub const ALIGNMENT: usize = 4;
    /// Its length in bytes.
    pub const LENGTH: u32 = 4;
    /// `flags`: the owner wants to be told of everything.
    pub const ENABLE: u16 = 0;
    /// `flags`: of nothing.
    pub const DISABLE: u16 = 1;
    /// `flags`: of the descriptor that `off_wrap` names. Under `EVENT_IDX` only.
    pub const DESCRIPTOR: u16 = 2;
    /// The bits of `flags` that have a meaning.
    pub const FLAGS_MASK: u16 = 3;

    /// The word with these fields.
    #[must_use]
    pub const fn word(off_wrap: u16, flags: u16) -> u32 {
        off_wrap as u32 | (flags as u32) << 16
    }

    /// `off_wrap` and `flags` of a word.
    #[must_use]
    pub const fn fields(word: u32) -> (u16, u16) {
        let [o0, o1, f0, f1] = word.to_le_bytes();
        (u16::from_le_bytes([o0, o1]), u16::from_le_bytes([f0, f1]))
    }
}

bitflags::bitflags! {
    /// `virtq_desc.flags`, and those of `pvirtq_desc.flags` that are not marks. Bits that the specification does not define are ignored.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct DescriptorFlags: u16 {
        /// `VIRTQ_DESC_F_NEXT`: the chain goes on, at `next` or with the next descriptor of a packed ring.
        const NEXT = 1;
        /// `VIRTQ_DESC_F_WRITE`: the device writes the buffer; else it reads it.
        const WRITE = 2;
        /// `VIRTQ_DESC_F_INDIRECT`: the buffer is a table of descriptors.
        const INDIRECT = 4;
    }
}

/// A descriptor of a split virtqueue, as the driver alleges it: a private copy, nothing of which has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// `addr`: where the buffer begins.
    pub address: GuestAddress,
    /// `len`: its length in bytes.
    pub length: u32,
    /// `flags`.
    pub flags: DescriptorFlags,
    /// `next`: the next descriptor of the chain, where [`DescriptorFlags::NEXT`] is set.
    pub next: u16,
}

impl Descriptor {
    /// Decodes a `struct virtq_desc` that was read as two little-endian words.
    #[must_use]
    pub const fn from_words([address, rest]: [u64; 2]) -> Self {
        let [l0, l1, l2, l3, f0, f1, n0, n1] = rest.to_le_bytes();
        Self {
            address: GuestAddress(address),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            flags: DescriptorFlags::from_bits_truncate(u16::from_le_bytes([f0, f1])),
            next: u16::from_le_bytes([n0, n1]),
        }
    }
}

/// A descriptor of a packed virtqueue, as the driver alleges it: a private copy, nothing of which has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedDescriptor {
    /// `addr`: where the buffer begins.
    pub address: GuestAddress,
    /// `len`: its length in bytes.
    pub length: u32,
    /// `id`: the driver's name for the chain, in its last descriptor.
    pub id: u16,
    /// `flags`, without the marks.
    pub flags: DescriptorFlags,
}

impl PackedDescriptor {
    /// Decodes a `struct pvirtq_desc` that was read as two little-endian words.
    #[must_use]
    pub const fn from_words([address, rest]: [u64; 2]) -> Self {
        let [l0, l1, l2, l3, i0, i1, f0, f1] = rest.to_le_bytes();
        Self {
            address: GuestAddress(address),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            id: u16::from_le_bytes([i0, i1]),
            flags: DescriptorFlags::from_bits_truncate(u16::from_le_bytes([f0, f1])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_taken_apart_field_by_field() {
        assert_eq!(
            Descriptor::from_words([0x0807_0605_0403_0201, 0x1234_8083_0c0b_0a09]),
            Descriptor {
                address: GuestAddress(0x0807_0605_0403_0201),
                length: 0x0c0b_0a09,
                flags: DescriptorFlags::NEXT | DescriptorFlags::WRITE,
                next: 0x1234,
            }
        );
    }

    #[test]
    fn a_packed_descriptor_is_taken_apart_field_by_field() {
        assert_eq!(
            PackedDescriptor::from_words([0x0807_0605_0403_0201, 0x8083_1234_0c0b_0a09]),
            PackedDescriptor {
                address: GuestAddress(0x0807_0605_0403_0201),
                length: 0x0c0b_0a09,
                id: 0x1234,
                flags: DescriptorFlags::NEXT | DescriptorFlags::WRITE,
            }
        );
    }

    #[test]
    fn an_event_suppression_structure_is_one_word_with_the_offset_below() {
        assert_eq!(event_suppression::word(0x8001, 2).to_le_bytes(), [1, 0x80, 2, 0]);
        assert_eq!(event_suppression::fields(0x0002_8001), (0x8001, 2));
    }

    #[test]
    fn the_three_parts_have_the_lengths_of_the_specification() {
        // The table in section 2.7: 16 × size, 6 + 2 × size, 6 + 8 × size; two less without the event field.
        assert_eq!(descriptor_table::length(32768), 16 * 32768);
        assert_eq!(available_ring::length(2, true), 10);
        assert_eq!(available_ring::length(32768, false), 4 + 65536);
        assert_eq!(used_ring::length(2, true), 22);
        assert_eq!(used_ring::length(32768, false), 4 + 8 * 32768);
        assert_eq!(available_ring::used_event(4), 12);
        assert_eq!(used_ring::avail_event(4), 36);
    }
}
