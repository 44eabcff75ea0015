// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tflush: nothing to do.

use crate::wire::{Rflush, Tflush};

/// Tflush. Each request is answered before the next is looked at, so `oldtag` was answered already.
pub(super) fn flush(_request: Tflush) -> Rflush {
    Rflush
}
