// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tauth and Tattach: a user enters an export. (Plan 9 manual, attach(5), with the `n_uname` of 9P2000.u.)

use super::codec::message;
use super::{Fid, Qid};

/// An `n_uname` that says nothing; `uname` counts then.
pub const NONUNAME: u32 = u32::MAX;

message! {
    /// `size[4] Tauth tag[2] afid[4] uname[s] aname[s] n_uname[4]`: starts authentication.
    pub struct Tauth<'a> {
        /// What will stand for the authentication file.
        pub afid: Fid,
        /// The user, by name.
        pub uname: &'a [u8],
        /// The export.
        pub aname: &'a [u8],
        /// The user, by number, or [`NONUNAME`].
        pub n_uname: u32,
    }
}

message! {
    /// `size[4] Rauth tag[2] aqid[13]`
    pub struct Rauth {
        /// The authentication file.
        pub aqid: Qid,
    }
}

message! {
    /// `size[4] Tattach tag[2] fid[4] afid[4] uname[s] aname[s] n_uname[4]`: makes `fid` the root of an
    /// export.
    pub struct Tattach<'a> {
        /// What will stand for the root.
        pub fid: Fid,
        /// From an authentication, or [`Fid::NOFID`].
        pub afid: Fid,
        /// The user, by name.
        pub uname: &'a [u8],
        /// The export.
        pub aname: &'a [u8],
        /// The user, by number, or [`NONUNAME`].
        pub n_uname: u32,
    }
}

message! {
    /// `size[4] Rattach tag[2] qid[13]`
    pub struct Rattach {
        /// The root.
        pub qid: Qid,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{QidKind, Tag, golden};
    use super::*;

    #[test]
    fn tauth_is_its_golden_bytes() {
        golden::request(
            "1a000000 66 0201 06050403 0300 'ann' 0400 '/srv' 0a090807",
            Tag(0x0102),
            Tauth { afid: Fid(0x0304_0506), uname: b"ann", aname: b"/srv", n_uname: 0x0708_090a },
        );
    }

    #[test]
    fn rauth_is_its_golden_bytes() {
        golden::reply(
            "14000000 67 0201 08 14131211 28272625 24232221",
            Tag(0x0102),
            Rauth { aqid: Qid { kind: QidKind::AUTH, version: 0x1112_1314, path: 0x2122_2324_2526_2728 } },
        );
    }

    #[test]
    fn tattach_is_its_golden_bytes() {
        golden::request(
            "1d000000 68 0100 06050403 ffffffff 0400 'root' 0200 '/a' ffffffff",
            Tag(1),
            Tattach {
                fid: Fid(0x0304_0506),
                afid: Fid::NOFID,
                uname: b"root",
                aname: b"/a",
                n_uname: NONUNAME,
            },
        );
    }

    #[test]
    fn rattach_is_its_golden_bytes() {
        golden::reply(
            "14000000 69 0100 80 14131211 28272625 24232221",
            Tag(1),
            Rattach { qid: Qid { kind: QidKind::DIR, version: 0x1112_1314, path: 0x2122_2324_2526_2728 } },
        );
    }
}
