// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tflush: the client is no longer interested in a reply. (Plan 9 manual, flush(5).)

use super::Tag;
use super::codec::message;

message! {
    /// `size[4] Tflush tag[2] oldtag[2]`
    pub struct Tflush {
        /// The request that need not be answered any more. It may be answered already.
        pub oldtag: Tag,
    }
}

message! {
    /// `size[4] Rflush tag[2]`: no reply to `oldtag` comes after this one.
    pub struct Rflush;
}

#[cfg(test)]
mod tests {
    use super::super::golden;
    use super::*;

    #[test]
    fn tflush_is_its_golden_bytes() {
        golden::request("09000000 6c 0201 0403", Tag(0x0102), Tflush { oldtag: Tag(0x0304) });
    }

    #[test]
    fn rflush_is_its_golden_bytes() {
        golden::reply("07000000 6d 0201", Tag(0x0102), Rflush);
    }
}
