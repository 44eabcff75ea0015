// SPDX-License-Identifier: MIT OR Apache-2.0

//! Numbers that are powers of two, as the superblock says sizes: a division by one is a shift, and cannot fail.

use core::ops::{Div, Range, Rem};

/// A power of two, from 1 to 2^31.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PowerOfTwo {
    /// 2 to the `exponent`: kept, as it is needed as often.
    number: u32,
    /// Below 32.
    exponent: u32,
}

impl PowerOfTwo {
    /// `number`; `None` if it is no power of two.
    pub(super) const fn new(number: u32) -> Option<Self> {
        if number.is_power_of_two() { Some(Self { number, exponent: number.trailing_zeros() }) } else { None }
    }

    /// 2 to the `exponent`, which is below 32.
    pub(super) const fn two_to(exponent: u32) -> Self {
        let exponent = exponent % u32::BITS;
        Self { number: 1_u32.wrapping_shl(exponent), exponent }
    }

    /// It to the power of `level`: at most 2^31.
    pub(super) const fn power(self, level: u32) -> Self {
        Self::two_to(self.exponent.saturating_mul(level))
    }

    pub(super) const fn get(self) -> u32 {
        self.number
    }

    /// The number as a length in memory.
    pub(super) const fn length(self) -> usize {
        self.number as usize
    }

    /// How many times `part` fits into it; at least 1.
    pub(super) const fn split_into(self, part: Self) -> Self {
        Self::two_to(self.exponent.saturating_sub(part.exponent))
    }

    /// The bits below its own: what a remainder can have.
    const fn mask(self) -> u32 {
        // At least 1 as a power of two.
        self.number.wrapping_sub(1)
    }

    /// `number` divided by it and rounded up: how many of this size hold `number`.
    pub(super) fn count_for(self, number: u64) -> u64 {
        // At most 2^63 if something was rounded off, as then the exponent is not 0.
        (number / self).wrapping_add(u64::from(!self.divides(number)))
    }

    /// Whether `number` is a multiple of it.
    pub(super) fn divides(self, number: u64) -> bool {
        number % self == 0
    }

    /// Where thing `index` lies among things of this size.
    pub(super) const fn place(self, index: u32) -> Range<usize> {
        let start = (index as usize).saturating_mul(self.length());
        start..start.saturating_add(self.length())
    }

    /// The largest multiple of it that is not above `number`.
    pub(super) fn round_down(self, number: u64) -> u64 {
        number & !u64::from(self.mask())
    }
}

impl Div<PowerOfTwo> for u64 {
    type Output = Self;

    #[inline]
    fn div(self, divisor: PowerOfTwo) -> Self {
        self.wrapping_shr(divisor.exponent)
    }
}

impl Rem<PowerOfTwo> for u64 {
    type Output = Self;

    #[inline]
    #[expect(clippy::suspicious_arithmetic_impl, reason = "it is the remainder, of a power of two")]
    fn rem(self, divisor: PowerOfTwo) -> Self {
        self & Self::from(divisor.mask())
    }
}

impl Div<PowerOfTwo> for u32 {
    type Output = Self;

    #[inline]
    fn div(self, divisor: PowerOfTwo) -> Self {
        self.wrapping_shr(divisor.exponent)
    }
}

impl Rem<PowerOfTwo> for u32 {
    type Output = Self;

    #[inline]
    #[expect(clippy::suspicious_arithmetic_impl, reason = "it is the remainder, of a power of two")]
    fn rem(self, divisor: PowerOfTwo) -> Self {
        self & divisor.mask()
    }
}

impl Div<PowerOfTwo> for usize {
    type Output = Self;

    #[inline]
    fn div(self, divisor: PowerOfTwo) -> Self {
        self.wrapping_shr(divisor.exponent)
    }
}

impl From<PowerOfTwo> for u32 {
    fn from(number: PowerOfTwo) -> Self {
        number.number
    }
}

impl From<PowerOfTwo> for u64 {
    fn from(number: PowerOfTwo) -> Self {
        Self::from(number.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn only_powers_of_two_are_taken() {
        let taken: Vec<u32> = (0..=64).filter_map(PowerOfTwo::new).map(PowerOfTwo::get).collect();
        assert_eq!(taken, [1, 2, 4, 8, 16, 32, 64]);
        assert_eq!(PowerOfTwo::new(1 << 31).map(PowerOfTwo::get), Some(1 << 31));
        assert_eq!(PowerOfTwo::new(u32::MAX), None);
    }

    #[test]
    fn divisions_are_those_of_numbers() {
        for exponent in 0..32 {
            let divisor = PowerOfTwo::new(1 << exponent).unwrap();
            let plain = u64::from(divisor);
            let numbers = [0, 1, 2, 3, 1023, 1024, 1025, 4096, 1 << 31, 1 << 32, (1 << 63) + 1, u64::MAX];
            for number in numbers.into_iter().flat_map(|number| [number, number.wrapping_sub(1), number / 3])
            {
                assert_eq!(number / divisor, number / plain);
                assert_eq!(number % divisor, number % plain);
                assert_eq!(divisor.count_for(number), number.div_ceil(plain));
                assert_eq!(divisor.divides(number), number.is_multiple_of(plain));
                assert_eq!(divisor.round_down(number), number / plain * plain);
                let length = usize::try_from(number).unwrap();
                assert_eq!(length / divisor, length / divisor.length());
                let (number, plain) = (u32::try_from(number & 0xffff_ffff).unwrap(), divisor.get());
                assert_eq!((number / divisor, number % divisor), (number / plain, number % plain));
            }
        }
    }

    #[test]
    fn a_number_is_split_into_whole_parts() {
        let power = |number| PowerOfTwo::new(number).unwrap();
        assert_eq!(power(4096).split_into(power(256)), power(16));
        assert_eq!(power(1024).split_into(power(1024)), power(1));
        assert_eq!(power(1024).split_into(power(2048)), power(1));
        assert_eq!((power(1024).power(0), power(1024).power(3)), (power(1), PowerOfTwo::two_to(30)));
    }
}
