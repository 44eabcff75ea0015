// SPDX-License-Identifier: MIT OR Apache-2.0

//! How much RAM a client VM has.
//!
//! The service VM sees a client's RAM as a PCI BAR, and a BAR's size is a power of two.

use std::fmt;
use std::str::FromStr;

/// The least RAM in MiB: Debian's kernel with its initramfs does not boot with less.
const LEAST: u64 = 128;
/// The most RAM in MiB: what the service VM's root port reserves for one client.
const MOST: u64 = 8192;

/// RAM of a client VM: a power of two, from 128 MiB to 8 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySize {
    mebibytes: u64,
}

/// Why a size cannot be a client's RAM.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemorySizeError {
    /// It is not a number with one of the suffixes.
    #[error("{0:?} is no size: write it as 512M or 1G")]
    Unreadable(String),
    /// It is below 128 MiB.
    #[error("{0:?} is too small for a client VM: the least is 128M")]
    TooSmall(String),
    /// It is above 8 GiB.
    #[error("{0:?} is too large for the service VM to map: the most is 8G")]
    TooLarge(String),
    /// It is not a power of two.
    #[error(
        "{given:?} is no power of two, which the mapping into the service VM needs: use {below} or {above}"
    )]
    NoPowerOfTwo {
        /// The size as given.
        given: String,
        /// The next smaller power of two.
        below: MemorySize,
        /// The next larger power of two.
        above: MemorySize,
    },
}

impl Default for MemorySize {
    fn default() -> Self {
        Self { mebibytes: 512 }
    }
}

impl MemorySize {
    /// The size in MiB.
    #[must_use]
    pub const fn mebibytes(self) -> u64 {
        self.mebibytes
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mebibytes {
            whole if whole % 1024 == 0 => write!(f, "{}G", whole / 1024),
            mebibytes => write!(f, "{mebibytes}M"),
        }
    }
}

impl FromStr for MemorySize {
    type Err = MemorySizeError;

    fn from_str(text: &str) -> Result<Self, MemorySizeError> {
        let unreadable = || MemorySizeError::Unreadable(text.to_owned());
        let suffix = text.chars().last().filter(|last| !last.is_ascii_digit());
        let shift = match suffix.map(|letter| letter.to_ascii_uppercase()) {
            None | Some('B') => 0,
            Some('K') => 10,
            Some('M') => 20,
            Some('G') => 30,
            Some('T') => 40,
            Some(_) => return Err(unreadable()),
        };
        let digits = &text[..text.len() - suffix.map_or(0, char::len_utf8)];
        let number: u64 = digits.parse().map_err(|_| unreadable())?;
        let bytes =
            number.checked_mul(1 << shift).ok_or_else(|| MemorySizeError::TooLarge(text.to_owned()))?;
        if bytes < LEAST << 20 {
            return Err(MemorySizeError::TooSmall(text.to_owned()));
        }
        if bytes > MOST << 20 {
            return Err(MemorySizeError::TooLarge(text.to_owned()));
        }
        if !bytes.is_power_of_two() {
            let above = Self { mebibytes: bytes.next_power_of_two() >> 20 };
            let below = Self { mebibytes: above.mebibytes / 2 };
            return Err(MemorySizeError::NoPowerOfTwo { given: text.to_owned(), below, above });
        }
        Ok(Self { mebibytes: bytes >> 20 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_are_taken_in_any_unit() {
        for (text, mebibytes) in
            [("128M", 128), ("1g", 1024), ("8G", 8192), ("536870912", 512), ("262144K", 256)]
        {
            assert_eq!(text.parse::<MemorySize>().unwrap().mebibytes(), mebibytes, "{text}");
        }
    }

    #[test]
    fn a_size_that_is_no_power_of_two_is_refused_with_its_neighbours() {
        let message = "768M".parse::<MemorySize>().unwrap_err().to_string();
        assert!(message.ends_with("use 512M or 1G"), "{message}");
        // The least that lies above a power of two, in bytes.
        let message = "134217729".parse::<MemorySize>().unwrap_err().to_string();
        assert!(message.ends_with("use 128M or 256M"), "{message}");
    }

    #[test]
    fn sizes_outside_the_limits_are_refused_with_the_limit() {
        assert_eq!("64M".parse::<MemorySize>(), Err(MemorySizeError::TooSmall("64M".into())));
        assert_eq!("16G".parse::<MemorySize>(), Err(MemorySizeError::TooLarge("16G".into())));
        let huge = "99999999999G";
        assert_eq!(huge.parse::<MemorySize>(), Err(MemorySizeError::TooLarge(huge.into())));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "M", "half", "-1G", "1.5G", "512µ", "512MiB"] {
            assert_eq!(text.parse::<MemorySize>(), Err(MemorySizeError::Unreadable(text.into())), "{text}");
        }
    }
}
