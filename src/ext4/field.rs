// SPDX-License-Identifier: MIT OR Apache-2.0

//! Little-endian fields of on-disk structures, by offset.
//!
//! ext4's structures grew: a 128-byte inode lacks the fields that a 256-byte one has at its end, a 32-byte group
//! descriptor the high halves of a 64-byte one. The format says that a field the structure is too short to hold
//! is zero, and so do these functions. Whoever parses hands in the structure at its declared length.

/// The field of `N` bytes at `offset`; zeros where the structure ends before it.
fn field<const N: usize>(structure: &[u8], offset: usize) -> [u8; N] {
    structure.get(offset..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

/// The `__u8` at `offset`.
pub(super) fn le8(structure: &[u8], offset: usize) -> u8 {
    u8::from_le_bytes(field(structure, offset))
}

/// The `__le16` at `offset`.
pub(super) fn le16(structure: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(field(structure, offset))
}

/// The `__le32` at `offset`.
pub(super) fn le32(structure: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(field(structure, offset))
}

/// The `__be32` at `offset`: the journal's byte order.
pub(super) fn be32(structure: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes(field(structure, offset))
}

/// The `__be16` at `offset`.
pub(super) fn be16(structure: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes(field(structure, offset))
}

/// The `__be64` at `offset`.
pub(super) fn be64(structure: &[u8], offset: usize) -> u64 {
    u64::from_be_bytes(field(structure, offset))
}

/// The 32-bit number whose halves are `__le16` at `low` and `high`.
pub(super) fn split32(structure: &[u8], low: usize, high: usize) -> u32 {
    u32::from(le16(structure, low)) | u32::from(le16(structure, high)) << 16
}

/// The 64-bit number whose halves are `__le32` at `low` and `high`.
pub(super) fn split64(structure: &[u8], low: usize, high: usize) -> u64 {
    u64::from(le32(structure, low)) | u64::from(le32(structure, high)) << 32
}

/// The `N` bytes at `offset`; zeros where the structure ends before them.
pub(super) fn bytes<const N: usize>(structure: &[u8], offset: usize) -> [u8; N] {
    field(structure, offset)
}

/// Stores `bytes` at `offset`; nothing where the structure ends before them (it does not have the field then).
pub(super) fn put<const N: usize>(structure: &mut [u8], offset: usize, bytes: [u8; N]) {
    if let Some(place) = structure.get_mut(offset..).and_then(<[u8]>::first_chunk_mut) {
        *place = bytes;
    }
}

/// Stores the `__le16` at `offset`.
pub(super) fn put_le16(structure: &mut [u8], offset: usize, value: u16) {
    put(structure, offset, value.to_le_bytes());
}

/// Stores the `__le32` at `offset`.
pub(super) fn put_le32(structure: &mut [u8], offset: usize, value: u32) {
    put(structure, offset, value.to_le_bytes());
}

/// Stores the `__be32` at `offset`: the journal's byte order.
pub(super) fn put_be32(structure: &mut [u8], offset: usize, value: u32) {
    put(structure, offset, value.to_be_bytes());
}

/// Stores a 32-bit number as two `__le16` at `low` and `high`.
pub(super) fn put_split32(structure: &mut [u8], low: usize, high: usize, value: u32) {
    let [a, b, c, d] = value.to_le_bytes();
    put(structure, low, [a, b]);
    put(structure, high, [c, d]);
}

/// Stores a 64-bit number as two `__le32` at `low` and `high`.
pub(super) fn put_split64(structure: &mut [u8], low: usize, high: usize, value: u64) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    put(structure, low, [a, b, c, d]);
    put(structure, high, [e, f, g, h]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_their_byte_order() {
        let structure = [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08];
        assert_eq!(le8(&structure, 7), 8);
        assert_eq!(le16(&structure, 1), 0x0302);
        assert_eq!(le32(&structure, 4), 0x0807_0605);
        assert_eq!(be32(&structure, 4), 0x0506_0708);
        assert_eq!(split32(&structure, 0, 6), 0x0807_0201);
        assert_eq!(split64(&structure, 4, 0), 0x0403_0201_0807_0605);
    }

    #[test]
    fn a_field_past_the_end_of_a_structure_is_zero() {
        let structure = [0xff; 4];
        assert_eq!(le32(&structure, 1), 0);
        assert_eq!(le16(&structure, usize::MAX), 0);
        assert_eq!(bytes::<3>(&structure, 2), [0; 3]);
    }
}
