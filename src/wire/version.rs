// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tversion: both sides agree on a version and on the longest message. (Plan 9 manual, version(5).)

use super::codec::message;

/// The version string of 9P2000.L.
pub const VERSION: &[u8] = b"9P2000.L";

/// The version string of a reply to a version that the server does not speak.
pub const VERSION_UNKNOWN: &[u8] = b"unknown";

message! {
    /// `size[4] Tversion tag[2] msize[4] version[s]`: starts a session, and ends the one that was.
    pub struct Tversion<'a> {
        /// The longest message that the client can handle, in bytes, header included.
        pub msize: u32,
        /// The version that the client wants to speak.
        pub version: &'a [u8],
    }
}

message! {
    /// `size[4] Rversion tag[2] msize[4] version[s]`
    pub struct Rversion<'a> {
        /// The longest message of the session, in bytes: at most the client's.
        pub msize: u32,
        /// The version of the session, or [`VERSION_UNKNOWN`].
        pub version: &'a [u8],
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Tag, golden};
    use super::*;

    #[test]
    fn tversion_is_its_golden_bytes() {
        golden::request(
            "15000000 64 ffff 00200000 0800 '9P2000.L'",
            Tag::NOTAG,
            Tversion { msize: 8192, version: VERSION },
        );
    }

    #[test]
    fn rversion_is_its_golden_bytes() {
        golden::reply(
            "14000000 65 ffff 78563412 0700 'unknown'",
            Tag::NOTAG,
            Rversion { msize: 0x1234_5678, version: VERSION_UNKNOWN },
        );
    }

    #[test]
    fn a_version_may_be_any_bytes() {
        golden::request(
            "0f000000 64 ffff 00200000 0200 ff00",
            Tag::NOTAG,
            Tversion { msize: 8192, version: &[0xff, 0] },
        );
    }
}
