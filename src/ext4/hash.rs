// SPDX-License-Identifier: MIT OR Apache-2.0

//! The hash of a name, by which an indexed directory is ordered.
//!
//! The major hash is what an index knows; the minor one tells names apart that have the same major hash, where a
//! directory is read.
//!
//! Three functions, each in two variants: bytes of a name are taken as signed or as unsigned, as the `char` of
//! the machine that made the volume was (`s_flags` tells which). The judge in the tests is `debugfs`.

use super::checksum::crc32c;

/// How a directory's index hashes names: `dx_root_info.hash_version`, with the signedness of `s_flags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NameHash {
    /// The function.
    pub(super) function: HashFunction,
    /// Whether the bytes of a name are signed.
    pub(super) signed: bool,
    /// `s_hash_seed`; all zeros stands for the functions' own start values.
    pub(super) seed: [u32; 4],
}

/// The hash functions of `dx_root_info.hash_version`. SipHash (6) belongs to encrypted and case-folded
/// directories, which are not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HashFunction {
    /// `DX_HASH_LEGACY`.
    Legacy,
    /// `DX_HASH_HALF_MD4`, the default.
    HalfMd4,
    /// `DX_HASH_TEA`.
    Tea,
}

impl HashFunction {
    /// The function that `hash_version` names.
    pub(super) const fn from_version(hash_version: u8) -> Option<Self> {
        match hash_version {
            0 => Some(Self::Legacy),
            1 => Some(Self::HalfMd4),
            2 => Some(Self::Tea),
            _ => None,
        }
    }

    /// The `hash_version` that names the function.
    pub(super) const fn version(self) -> u8 {
        match self {
            Self::Legacy => 0,
            Self::HalfMd4 => 1,
            Self::Tea => 2,
        }
    }
}

/// The state both block functions start from when the volume has no seed: MD4's.
const INITIAL_STATE: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// The largest hash an index can hold is kept as the end mark of a directory's position.
const END_MARK: u32 = 0xffff_fffe;

impl NameHash {
    /// The major hash of `name`. Its lowest bit is always 0: in an index that bit marks a continued run of one hash.
    pub(super) fn hash(&self, name: &[u8]) -> u32 {
        self.hashes(name).0
    }

    /// The major and the minor hash of `name`. The minor one of the legacy function, which has none, is a sum of this reader's own.
    pub(super) fn hashes(&self, name: &[u8]) -> (u32, u32) {
        let mut state = if self.seed == [0; 4] { INITIAL_STATE } else { self.seed };
        let mut rest = name;
        let (raw, minor) = match self.function {
            HashFunction::Legacy => (self.legacy(name), crc32c(u32::MAX, name)),
            HashFunction::HalfMd4 => {
                while !rest.is_empty() {
                    half_md4(&mut state, &self.words::<8>(rest));
                    rest = rest.get(32..).unwrap_or_default();
                }
                (state[1], state[2])
            }
            HashFunction::Tea => {
                while !rest.is_empty() {
                    tea(&mut state, &self.words::<4>(rest));
                    rest = rest.get(16..).unwrap_or_default();
                }
                (state[0], state[1])
            }
        };
        match raw & !1 {
            END_MARK => (END_MARK.wrapping_sub(2), minor),
            major => (major, minor),
        }
    }

    /// A byte of a name as the 32-bit number it is added as.
    fn extend(&self, byte: u8) -> u32 {
        if self.signed { i32::from(byte.cast_signed()).cast_unsigned() } else { u32::from(byte) }
    }

    /// The next `4 * N` bytes of a name as words, big-endian. What is missing is padded with the number of
    /// bytes that are left, `rest.len()`, repeated in each byte.
    fn words<const N: usize>(&self, rest: &[u8]) -> [u32; N] {
        // A name has at most 255 bytes; a longer slice would merely hash in some other way.
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let pad = length | length.wrapping_shl(8);
        let pad = pad | pad.wrapping_shl(16);
        let mut words = [pad; N];
        for (word, bytes) in words.iter_mut().zip(rest.chunks(4)) {
            for byte in bytes {
                *word = self.extend(*byte).wrapping_add(word.wrapping_shl(8));
            }
        }
        words
    }

    fn legacy(&self, name: &[u8]) -> u32 {
        let (mut last, mut before) = (0x12a3_fe2d_u32, 0x37ab_e8f9_u32);
        for byte in name {
            let mixed = before.wrapping_add(last ^ self.extend(*byte).wrapping_mul(7_152_373));
            before = last;
            last = if mixed & 0x8000_0000 == 0 { mixed } else { mixed.wrapping_sub(0x7fff_ffff) };
        }
        last.wrapping_shl(1)
    }
}

/// Half of MD4's compression: eight words instead of sixteen, three rounds of eight steps.
fn half_md4(state: &mut [u32; 4], words: &[u32; 8]) {
    /// For each round: the order of the words, and the four rotations that its steps cycle through.
    const ROUNDS: [([usize; 8], [u32; 4]); 3] = [
        ([0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        ([1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        ([3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    /// The square roots of 2 and 3, as in MD4; the first round adds nothing.
    const CONSTANTS: [u32; 3] = [0, 0x5a82_7999, 0x6ed9_eba1];

    let [mut a, mut b, mut c, mut d] = *state;
    for (round, ((order, rotations), constant)) in ROUNDS.iter().zip(CONSTANTS).enumerate() {
        for (index, rotation) in order.iter().zip(rotations.iter().cycle()) {
            let mixed = match round {
                0 => (b & c) | (!b & d),
                1 => (b & c) | (b & d) | (c & d),
                _ => b ^ c ^ d,
            };
            let word = words.get(*index).copied().unwrap_or_default();
            let sum = a.wrapping_add(mixed).wrapping_add(word).wrapping_add(constant);
            (a, b, c, d) = (d, sum.rotate_left(*rotation), b, c);
        }
    }
    for (sum, addend) in state.iter_mut().zip([a, b, c, d]) {
        *sum = sum.wrapping_add(addend);
    }
}

/// The Tiny Encryption Algorithm with sixteen cycles; the words are the key, the first half of the state the text.
fn tea(state: &mut [u32; 4], key: &[u32; 4]) {
    const DELTA: u32 = 0x9e37_79b9;
    let (mut left, mut right, mut sum) = (state[0], state[1], 0_u32);
    for _ in 0..16 {
        sum = sum.wrapping_add(DELTA);
        let half = |text: u32, k0: u32, k1: u32| {
            text.wrapping_shl(4).wrapping_add(k0)
                ^ text.wrapping_add(sum)
                ^ text.wrapping_shr(5).wrapping_add(k1)
        };
        left = left.wrapping_add(half(right, key[0], key[1]));
        right = right.wrapping_add(half(left, key[2], key[3]));
    }
    state[0] = state[0].wrapping_add(left);
    state[1] = state[1].wrapping_add(right);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::testing::tool;
    use std::format;
    use std::io::Write as _;
    use std::process::Stdio;
    use std::string::{String, ToString};
    use std::vec::Vec;

    /// The answers of `debugfs dx_hash`, one for each name. Its algorithms are named by `hash_version`, where 3, 4
    /// and 5 are the unsigned variants of 0, 1 and 2.
    fn debugfs_hashes(version: u8, seed: &str, names: &[String]) -> Vec<u32> {
        let mut debugfs = tool("debugfs")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("debugfs (package e2fsprogs) is the judge of this test");
        let script: String =
            names.iter().map(|name| format!("dx_hash -h {version} {seed} \"{name}\"\n")).collect();
        debugfs.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = debugfs.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| line.strip_prefix("Hash of ")?.rsplit_once(" is 0x"))
            .map(|(_, value)| u32::from_str_radix(value.split(' ').next().unwrap(), 16).unwrap())
            .collect()
    }

    fn names() -> Vec<String> {
        let mut names: Vec<String> =
            ["a", "lost+found", "hé", "größe", "日本語", "ÿþýüûú", "😀😀😀😀😀😀😀😀😀"]
                .map(ToString::to_string)
                .into();
        // Every length around the block functions' boundaries, and the longest.
        names.extend((1..70).chain([127, 128, 129, 254, 255]).map(|length| {
            (0..length).map(|i| char::from(b'a' + u8::try_from((i * 7 + length) % 26).unwrap())).collect()
        }));
        names
    }

    #[test]
    fn every_function_and_variant_hashes_as_debugfs_does() {
        // A UUID is read as bytes; the seed's words are little-endian.
        let seeds = [
            ("", [0; 4]),
            ("-s 11223344-5566-7788-99aa-bbccddeeff00", [0x4433_2211, 0x8877_6655, 0xccbb_aa99, 0x00ff_eedd]),
        ];
        let names = names();
        for version in 0..6_u8 {
            for (option, seed) in seeds {
                let function = HashFunction::from_version(version % 3).unwrap();
                let hash = NameHash { function, signed: version < 3, seed };
                let expected = debugfs_hashes(version, option, &names);
                assert_eq!(expected.len(), names.len(), "debugfs answered each name");
                for (name, expected) in names.iter().zip(expected) {
                    assert_eq!(hash.hash(name.as_bytes()), expected, "{hash:?} of {name:?}");
                }
            }
        }
    }

    #[test]
    fn versions_that_an_index_cannot_hold_are_not_functions() {
        for version in 3..=u8::MAX {
            assert_eq!(HashFunction::from_version(version), None);
        }
    }
}
