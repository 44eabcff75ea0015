// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rlerror: the reply to any request that failed. There is no Tlerror.

use super::codec::message;

message! {
    /// `size[4] Rlerror tag[2] ecode[4]`
    pub struct Rlerror {
        /// A Linux error number.
        pub ecode: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Tag, golden};
    use super::*;

    #[test]
    fn rlerror_is_its_golden_bytes() {
        golden::reply("0b000000 07 0201 5f000000", Tag(0x0102), Rlerror { ecode: 95 });
    }
}
