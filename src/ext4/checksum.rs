// SPDX-License-Identifier: MIT OR Apache-2.0

//! The checksums of ext4: CRC-32C (`metadata_csum`) and CRC-16 (`uninit_bg`, group descriptors only); and of its journal: CRC-32,
//! most significant bit first.
//!
//! ext4 chains them: the result over one piece is the seed for the next, with no inversion at the end. The
//! tables take 40 KiB; a 4 KiB block is summed in a few microseconds, and in less where it is zeros, as much of metadata is.

use crc::{Algorithm, CRC_16_MODBUS, CRC_32_ISCSI, CRC_32_MPEG_2, Crc, Table};

/// CRC-32C with ext4's convention for start and end.
static CRC32C_ALGORITHM: Algorithm<u32> = Algorithm { xorout: 0, ..CRC_32_ISCSI };
static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC32C_ALGORITHM);
static CRC32: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_MPEG_2);
static CRC16: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);

/// The polynomial of CRC-32C, reflected.
const CRC32C_POLYNOMIAL: u32 = CRC_32_ISCSI.poly.reverse_bits();

/// Bytes that are summed in a few steps if all of them are zero.
const PIECE: usize = 256;

/// What a CRC is after [`PIECE`] zero bytes, whatever it was before them: it is linear in that, bit by bit, so that four tables say it,
/// one for each byte.
struct Zeros([[u32; 256]; 4]);

static ZEROS_OF_CRC32C: Zeros = Zeros::new(CRC32C_POLYNOMIAL, true);
static ZEROS_OF_CRC32: Zeros = Zeros::new(CRC_32_MPEG_2.poly, false);

impl Zeros {
    /// For a CRC with this polynomial, which is `reflected` or not.
    #[expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "the compiler evaluates it, to which an index out of range or an overflow is an error"
    )]
    const fn new(polynomial: u32, reflected: bool) -> Self {
        let mut tables = [[0; 256]; 4];
        let mut bit = 0;
        while bit < 32 {
            let mut state = 1_u32 << bit;
            let mut step = 0;
            while step < 8 * PIECE {
                let (set, shifted) =
                    if reflected { (state & 1 == 1, state >> 1) } else { (state >> 31 == 1, state << 1) };
                state = if set { shifted ^ polynomial } else { shifted };
                step += 1;
            }
            let mut byte = 0;
            while byte < 256 {
                if byte >> (bit % 8) & 1 == 1 {
                    tables[bit / 8][byte] ^= state;
                }
                byte += 1;
            }
            bit += 1;
        }
        Self(tables)
    }

    /// Continues a CRC whose value so far is `seed` over [`PIECE`] zero bytes.
    fn after(&self, seed: u32) -> u32 {
        let bytes = self.0.iter().zip(seed.to_le_bytes());
        bytes.fold(0, |sum, (table, byte)| sum ^ table.get(usize::from(byte)).copied().unwrap_or_default())
    }

    /// Continues a CRC whose value so far is `seed` over `bytes`, as `sum` would.
    #[inline]
    fn sum(&self, seed: u32, bytes: &[u8], sum: impl Fn(u32, &[u8]) -> u32) -> u32 {
        let (pieces, _) = bytes.as_chunks::<PIECE>();
        let (mut state, mut rest, mut ahead) = (seed, bytes, 0_usize);
        for piece in pieces {
            let (words, _) = piece.as_chunks::<8>();
            if piece.first() != Some(&0) || words.iter().any(|word| *word != [0; 8]) {
                ahead = ahead.saturating_add(PIECE);
            } else if let Some((front, behind)) = rest.split_at_checked(ahead) {
                if ahead > 0 {
                    state = sum(state, front);
                }
                state = self.after(state);
                (rest, ahead) = (behind.get(PIECE..).unwrap_or_default(), 0);
            }
        }
        if rest.is_empty() { state } else { sum(state, rest) }
    }
}

/// Continues a CRC-32C whose value so far is `seed` over `bytes`. A fresh one starts with [`u32::MAX`].
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    ZEROS_OF_CRC32C.sum(seed, bytes, |seed, bytes| {
        // The crate takes the initial value most significant bit first; the register of a reflected CRC is the mirror.
        let mut digest = CRC32C.digest_with_initial(seed.reverse_bits());
        digest.update(bytes);
        digest.finalize()
    })
}

/// The state that a CRC-32C had `bits` zero bits before it had `state`.
fn before_zeros(mut state: u32, bits: u32) -> u32 {
    for _ in 0..bits {
        // A step forward shifts out the lowest bit and, if it was set, adds the polynomial, whose highest bit is set.
        state = if state >> 31 == 0 { state << 1 } else { (state ^ CRC32C_POLYNOMIAL) << 1 | 1 };
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
    ZEROS_OF_CRC32.sum(seed, bytes, |seed, bytes| {
        let mut digest = CRC32.digest_with_initial(seed);
        digest.update(bytes);
        digest.finalize()
    })
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
    fn zeros_are_summed_piece_by_piece_as_they_are_one_by_one() {
        // One byte at a time is no piece.
        let crc32c_slowly = |bytes: &[u8]| bytes.chunks(1).fold(u32::MAX, crc32c);
        let crc32_slowly = |bytes: &[u8]| bytes.chunks(1).fold(u32::MAX, crc32);
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 5 * PIECE + 7] {
            let mut bytes = std::vec![0; length];
            // A byte other than zero everywhere, one after the other; those before stay.
            for at in core::iter::once(length).chain((0..length).rev().step_by(PIECE / 2 - 1)) {
                bytes.get_mut(at..).unwrap().first_mut().into_iter().for_each(|byte| *byte = 0xa5);
                assert_eq!(
                    crc32c(u32::MAX, &bytes),
                    crc32c_slowly(&bytes),
                    "{length} bytes, changed at {at}"
                );
                assert_eq!(crc32(u32::MAX, &bytes), crc32_slowly(&bytes), "{length} bytes, changed at {at}");
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
