// SPDX-License-Identifier: MIT OR Apache-2.0

//! The hashes of attributes: `e_hash` over name and value of one, `h_hash` over those of a block.
//!
//! Some kernels took the bytes of a name as signed: they did on machines whose `char` is, which `s_flags` of the volume
//! tells. What checks an `e_hash` accepts either.

/// `e_hash` of an attribute: over the bytes of its name, and the words of its value (with zeros at the end) or, if that is in
/// an inode, the value's hash as the one word.
pub(in crate::ext4) fn entry_hash(name: &[u8], signed: bool, words: impl Iterator<Item = u32>) -> u32 {
    let named = name.iter().fold(0_u32, |hash, byte| {
        let byte = if signed { i32::from(byte.cast_signed()).cast_unsigned() } else { u32::from(*byte) };
        hash.rotate_left(5) ^ byte
    });
    words.fold(named, |hash, word| hash.rotate_left(16) ^ word)
}

/// The 32-bit words of a value whose length is a multiple of 4.
pub(super) fn words(value: &[u8]) -> impl Iterator<Item = u32> {
    value.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word))
}

/// `h_hash` of a block whose entries have these `e_hash`es. One of 0 says that the block is not to be shared.
pub(super) fn block_hash(mut hashes: impl Iterator<Item = u32>) -> u32 {
    let mix = |hash: u32, e_hash| if e_hash == 0 { None } else { Some(hash.rotate_left(16) ^ e_hash) };
    hashes.try_fold(0, mix).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_hash_mixes_name_and_value() {
        let hash = |name: &[u8], words: &[u32]| entry_hash(name, false, words.iter().copied());
        assert_eq!(hash(b"", &[5]), 5);
        assert_eq!(hash(b"a", &[]), 0x61);
        assert_eq!(hash(b"a", &[0]), 0x0061_0000);
        assert_eq!(hash(b"ab", &[0]), (0x61_u32 << 5 ^ 0x62) << 16);
        assert_eq!(hash(b"a", &[1, 2]), 0x0001_0063);
    }

    #[test]
    fn signed_bytes_of_a_name_are_extended() {
        assert_eq!(entry_hash(&[0x80], false, core::iter::empty()), 0x80);
        assert_eq!(entry_hash(&[0x80], true, core::iter::empty()), 0xffff_ff80);
    }

    #[test]
    fn a_block_with_an_entry_without_hash_has_none() {
        assert_eq!(block_hash([1, 2].into_iter()), 0x0001_0002);
        assert_eq!(block_hash([1, 0, 2].into_iter()), 0);
        assert_eq!(words(&[1, 0, 0, 0, 2, 1, 0, 0]).collect::<std::vec::Vec<_>>(), [1, 0x102]);
    }
}
