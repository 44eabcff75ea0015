// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tflush: nothing to do.

use crate::wire::{Rflush, Tflush};

/// Tflush. Each request is answered before the next is looked at, so `oldtag` was answered already.
pub(super) fn flush(_request: Tflush) -> Rflush {
    Rflush
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client::Client;
    use crate::wire::Tag;

    #[test]
    fn every_flush_is_answered() {
        let mut client = Client::attached();
        for oldtag in [Tag(0), Tag(7), Tag::NOTAG] {
            assert_eq!(client.call(Tflush { oldtag }), Ok(()));
        }
    }
}
