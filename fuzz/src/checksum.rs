// SPDX-License-Identifier: MIT OR Apache-2.0

//! The sums of ext4 and jbd2, written down once more, and numbers at offsets.

use crc::{Algorithm, CRC_16_MODBUS, CRC_32_ISCSI, CRC_32_MPEG_2, Crc, Table};

static CRC32C_ALGORITHM: Algorithm<u32> = Algorithm { xorout: 0, ..CRC_32_ISCSI };
static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC32C_ALGORITHM);
static CRC32: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_MPEG_2);
static CRC16: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_MODBUS);

/// CRC-32C that goes on from `seed`.
pub fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    let mut digest = CRC32C.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// CRC-32, most significant bit first, that goes on from `seed`.
pub fn crc32(seed: u32, bytes: &[u8]) -> u32 {
    let mut digest = CRC32.digest_with_initial(seed);
    digest.update(bytes);
    digest.finalize()
}

/// CRC-16 that goes on from `seed`.
pub fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    let mut digest = CRC16.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// CRC-32C of `bytes` with `length` of them at `hole` taken as zeros.
pub fn crc32c_without(seed: u32, bytes: &[u8], hole: usize, length: usize) -> u32 {
    let before = crc32c(seed, &bytes[..hole]);
    crc32c(crc32c(before, &vec![0; length]), &bytes[hole + length..])
}

/// The little-endian 16 bits at `at`.
pub fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The little-endian 32 bits at `at`.
pub fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from(le16(bytes, at)) | u32::from(le16(bytes, at + 2)) << 16
}

/// The big-endian 32 bits at `at`.
pub fn be32(bytes: &[u8], at: usize) -> u32 {
    le32(bytes, at).swap_bytes()
}

/// Stores the low `length` bytes of `value` at `at`, little-endian.
pub fn put(bytes: &mut [u8], at: usize, value: u64, length: usize) {
    bytes[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
}

/// Stores `value` at `at`, big-endian.
pub fn put_be32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}
