// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sequences as long as an input makes them. (A `Vec` of the crate `arbitrary` ends after each element with even chance, so that it
//! is hardly ever long.)

use arbitrary::{Arbitrary, Result, Unstructured};

/// Most elements of a [`Rest`].
pub const LONGEST: usize = 100;

/// Elements up to the end of the input, at most [`LONGEST`]: for the last field.
#[derive(Debug)]
pub struct Rest<T>(pub Vec<T>);

impl<'a, T: Arbitrary<'a>> Arbitrary<'a> for Rest<T> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut elements = Vec::new();
        while !u.is_empty() && elements.len() < LONGEST {
            elements.push(T::arbitrary(u)?);
        }
        Ok(Self(elements))
    }
}

/// Up to seven elements; none as often as any other number.
#[derive(Debug)]
pub struct Few<T>(pub Vec<T>);

impl<'a, T: Arbitrary<'a>> Arbitrary<'a> for Few<T> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let count = u8::arbitrary(u)? % 8;
        Ok(Self((0..count).map(|_| T::arbitrary(u)).collect::<Result<_>>()?))
    }
}
