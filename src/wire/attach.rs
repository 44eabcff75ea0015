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
    /// `size[4] Tattach tag[2] fid[4] afid[4] uname[s] aname[s] n_uname[4]`: makes `fid` the root of an export.
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
