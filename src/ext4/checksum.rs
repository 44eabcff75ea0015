// SPDX-License-Identifier: MIT OR Apache-2.0

//! The checksums of ext4: CRC-32C (`metadata_csum`) and CRC-16 (`uninit_bg`, group descriptors only); and of its journal: CRC-32,
//! most significant bit first.
//!
//! ext4 chains them: the result over one piece is the seed for the next, with no inversion at the end. The
//! tables take 32 KiB; a 4 KiB block is summed in a few microseconds.

use alloc::boxed::Box;

use crc::{Algorithm, CRC_16_MODBUS, CRC_32_ISCSI, CRC_32_MPEG_2, Crc, Table};

/// CRC-32C with ext4's convention for start and end.
static CRC32C_ALGORITHM: Algorithm<u32> = Algorithm { xorout: 0, ..CRC_32_ISCSI };
static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC32C_ALGORITHM);
static CRC32: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_MPEG_2);
static CRC16: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);

/// Continues a CRC-32C whose value so far is `seed` over `bytes`. A fresh one starts with [`u32::MAX`].
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    // The crate takes the initial value most significant bit first; the register of a reflected CRC is the mirror.
    let mut digest = CRC32C.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// The state that a CRC-32C had `bits` zero bits before it had `state`.
fn before_zeros(mut state: u32, bits: u32) -> u32 {
    /// The polynomial, reflected.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    for _ in 0..bits {
        // A step forward shifts out the lowest bit and, if it was set, adds the polynomial, whose highest bit is set.
        state = if state >> 31 == 0 { state << 1 } else { (state ^ POLYNOMIAL) << 1 | 1 };
    }
    state
}

/// The four bytes which make the CRC-32C of `before`, then they, then `after`, equal to `wanted`. A fresh sum, as [`crc32c`] with
/// [`u32::MAX`].
pub(super) fn crc32c_compensation(before: &[u8], after: &[u8], wanted: u32) -> [u8; 4] {
    let state = after.iter().rev().fold(wanted, |state, byte| before_zeros(state, 8) ^ u32::from(*byte));
    (before_zeros(state, 32) ^ crc32c(u32::MAX, before)).to_le_bytes()
}

/// Continues a CRC-32 (polynomial 0x04c11db7, not reflected) whose value so far is `seed` over `bytes`. A fresh one starts
/// with [`u32::MAX`].
pub(super) fn crc32(seed: u32, bytes: &[u8]) -> u32 {
    let mut digest = CRC32.digest_with_initial(seed);
    digest.update(bytes);
    digest.finalize()
}

/// A CRC-32 over so many zero bytes, whatever it was before them, in four steps: bit by bit, the sum is linear in what it was.
#[derive(Debug)]
pub(super) struct Crc32Zeros {
    /// By the number of the byte, and the byte.
    tables: Box<[[u32; 256]; 4]>,
}

impl Crc32Zeros {
    /// For `count` zero bytes.
    pub(super) fn new(count: usize) -> Self {
        let zeros = [0; 64];
        let after_zeros = |state| {
            let whole = (0..count / zeros.len()).fold(state, |state, _| crc32(state, &zeros));
            crc32(whole, zeros.get(..count % zeros.len()).unwrap_or_default())
        };
        let mut tables = Box::new([[0; 256]; 4]);
        for (shift, table) in (0..).step_by(8).zip(tables.iter_mut()) {
            let bits: [u32; 8] = core::array::from_fn(|bit| after_zeros(1 << bit << shift));
            for (byte, after) in table.iter_mut().enumerate() {
                let set = bits.iter().enumerate().filter(|(bit, _)| byte >> bit & 1 == 1);
                *after = set.fold(0, |sum, (_, of_bit)| sum ^ of_bit);
            }
        }
        Self { tables }
    }

    /// Continues a CRC-32 whose value so far is `seed`.
    pub(super) fn after(&self, seed: u32) -> u32 {
        let bytes = self.tables.iter().zip(seed.to_le_bytes());
        bytes.fold(0, |sum, (table, byte)| sum ^ table.get(usize::from(byte)).copied().unwrap_or_default())
    }
}

/// Continues a CRC-16 (polynomial 0x8005, reflected) whose value so far is `seed` over `bytes`. A fresh one starts
/// with [`u16::MAX`].
pub(super) fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    let mut digest = CRC16.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_is_the_castagnoli_sum_without_the_final_inversion() {
        assert_eq!(!crc32c(u32::MAX, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(0x1234_5678, b""), 0x1234_5678);
    }

    #[test]
    fn a_sum_over_two_pieces_chains_through_the_seed() {
        assert_eq!(crc32c(crc32c(u32::MAX, b"1234"), b"56789"), crc32c(u32::MAX, b"123456789"));
        assert_eq!(crc32(crc32(u32::MAX, b"1234"), b"56789"), crc32(u32::MAX, b"123456789"));
        assert_eq!(crc16(crc16(u16::MAX, b"1234"), b"56789"), crc16(u16::MAX, b"123456789"));
    }

    #[test]
    fn crc32_is_the_sum_of_bzip2_without_the_final_inversion() {
        assert_eq!(!crc32(u32::MAX, b"123456789"), 0xfc89_1918);
    }

    #[test]
    fn zeros_are_summed_in_four_steps_as_they_are_one_by_one() {
        for count in [0, 1, 63, 64, 65, 896, 3968] {
            let (zeros, at_once) = (std::vec![0; count], Crc32Zeros::new(count));
            for seed in [0, 1, 0x8000_0000, u32::MAX, 0x1234_5678] {
                assert_eq!(at_once.after(seed), crc32(seed, &zeros), "{count} zeros after {seed:#x}");
            }
        }
    }

    #[test]
    fn four_bytes_make_a_sum_what_it_is_wanted_to_be() {
        for wanted in [0, 1, 0x8000_0000, 0xdead_beef] {
            let four = crc32c_compensation(b"12345", b"6789abc", wanted);
            assert_eq!(crc32c(crc32c(crc32c(u32::MAX, b"12345"), &four), b"6789abc"), wanted);
        }
    }

    #[test]
    fn crc16_is_the_reflected_sum_of_polynomial_8005() {
        assert_eq!(crc16(u16::MAX, b"123456789"), 0x4b37);
    }
}
