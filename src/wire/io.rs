// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tread, Twrite, Tfsync, Tclunk: the life of an open file. (Plan 9 manual, read(5) and clunk(5).)

use super::Fid;
use super::codec::message;

/// Length of a Twrite up to its data: `size[4] Twrite tag[2] fid[4] offset[8] count[4]`.
pub const TWRITE_HEADER: u32 = 23;

/// Length of an Rread up to its data, and of an Rreaddir: `size[4] Rread tag[2] count[4]`.
pub const RREAD_HEADER: u32 = 11;

/// What of msize a client leaves for the head of Twrite and Rread: the most data of one is `msize - IOHDRSZ`.
pub const IOHDRSZ: u32 = 24;

message! {
    /// `size[4] Tread tag[2] fid[4] offset[8] count[4]`
    pub struct Tread {
        /// An open file, or an extended attribute.
        pub fid: Fid,
        /// Where, in bytes.
        pub offset: u64,
        /// The most bytes to answer with.
        pub count: u32,
    }
}

message! {
    /// `size[4] Rread tag[2] count[4] data[count]`
    pub struct Rread {
        /// Bytes read; 0 at the end of the file.
        pub count: u32,
    }
    data[count]
}

message! {
    /// `size[4] Twrite tag[2] fid[4] offset[8] count[4] data[count]`
    pub struct Twrite {
        /// An open file, or an extended attribute that is being made.
        pub fid: Fid,
        /// Where, in bytes.
        pub offset: u64,
        /// Bytes to write.
        pub count: u32,
    }
    data[count]
}

message! {
    /// `size[4] Rwrite tag[2] count[4]`
    pub struct Rwrite {
        /// Bytes written.
        pub count: u32,
    }
}

message! {
    /// `size[4] Tfsync tag[2] fid[4] datasync[4]`: makes an open file durable.
    pub struct Tfsync {
        /// The file.
        pub fid: Fid,
        /// Not 0: only what is needed to read the data again, as in `fdatasync(2)`.
        pub datasync: u32,
    }
}

message! {
    /// `size[4] Rfsync tag[2]`
    pub struct Rfsync;
}

message! {
    /// `size[4] Tclunk tag[2] fid[4]`: `fid` stands for nothing any more.
    pub struct Tclunk {
        /// Gone afterwards, even if the reply is an error.
        pub fid: Fid,
    }
}

message! {
    /// `size[4] Rclunk tag[2]`
    pub struct Rclunk;
}
