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
