// SPDX-License-Identifier: MIT OR Apache-2.0

//! Copies between slices and within one, as those of `core` but for this: none can panic.

use core::ops::Range;

/// Copies `from` to the start of `to`: both have one length, or what both have is copied.
#[inline]
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    debug_assert_eq!(to.len(), from.len());
    let length = to.len().min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(..length), from.get(..length)) {
        to.copy_from_slice(from);
    }
}

/// Copies the bytes `range` of `bytes` to `to`; `None`, and nothing else, if any of the two lies outside.
#[inline]
pub(crate) fn copy_within(bytes: &mut [u8], range: Range<usize>, to: usize) -> Option<()> {
    let length = range.end.checked_sub(range.start)?;
    let last = bytes.len().checked_sub(length)?;
    if range.end > bytes.len() || to > last {
        return None;
    }
    bytes.copy_within(range, to);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_move_is_one_of_core_or_none() {
        let original = [0, 1, 2, 3, 4];
        for (start, end, to) in (0..7_usize.pow(3)).map(|n| (n % 7, n / 7 % 7, n / 49)) {
            let mut bytes = original;
            let inside = start <= end && end <= 5 && to + (end - start) <= 5;
            assert_eq!(copy_within(&mut bytes, start..end, to).is_some(), inside);
            let mut expected = original;
            if inside {
                expected.copy_within(start..end, to);
            }
            assert_eq!(bytes, expected, "{start}..{end} to {to}");
        }
        assert_eq!(copy_within(&mut [0; 4], 1..usize::MAX, usize::MAX), None);
    }

    #[test]
    fn a_slice_is_copied_whole() {
        let mut bytes = [0; 3];
        copy(&mut bytes, &[1, 2, 3]);
        assert_eq!(bytes, [1, 2, 3]);
    }
}
