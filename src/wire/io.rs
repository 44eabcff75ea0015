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

#[cfg(test)]
mod tests {
    use super::super::{MessageType, Tag, Tmessage, WireError, golden, parse_t};
    use super::*;

    const FID: Fid = Fid(0x0304_0506);
    const TAG: Tag = Tag(0x0102);

    #[test]
    fn tread_is_its_golden_bytes() {
        golden::request(
            "17000000 74 0201 06050403 18171615 14131211 00f00100",
            TAG,
            Tread { fid: FID, offset: 0x1112_1314_1516_1718, count: 126_976 },
        );
    }

    #[test]
    fn rread_is_its_golden_bytes() {
        golden::reply_with_data("10000000 75 0201 05000000", "'hello'", TAG, Rread { count: 5 });
        golden::reply("0b000000 75 0201 00000000", TAG, Rread { count: 0 });
    }

    #[test]
    fn twrite_is_its_golden_bytes() {
        golden::request_with_data(
            "1c000000 76 0201 06050403 18171615 14131211 05000000",
            "'hello'",
            TAG,
            Twrite { fid: FID, offset: 0x1112_1314_1516_1718, count: 5 },
        );
    }

    #[test]
    fn rwrite_is_its_golden_bytes() {
        golden::reply("0b000000 77 0201 0d0c0b0a", TAG, Rwrite { count: 0x0a0b_0c0d });
    }

    #[test]
    fn tfsync_is_its_golden_bytes() {
        golden::request("0f000000 32 0201 06050403 01000000", TAG, Tfsync { fid: FID, datasync: 1 });
    }

    #[test]
    fn rfsync_is_its_golden_bytes() {
        golden::reply("07000000 33 0201", TAG, Rfsync);
    }

    #[test]
    fn tclunk_is_its_golden_bytes() {
        golden::request("0b000000 78 0201 06050403", TAG, Tclunk { fid: FID });
    }

    #[test]
    fn rclunk_is_its_golden_bytes() {
        golden::reply("07000000 79 0201", TAG, Rclunk);
    }

    #[test]
    fn the_heads_of_twrite_and_rread_have_the_lengths_that_the_constants_say() {
        let write = Tmessage::from(Twrite { fid: FID, offset: 0, count: 0 });
        assert_eq!(write.head_length(), TWRITE_HEADER as usize);
        let read = super::super::Rmessage::from(Rread { count: 0 });
        assert_eq!(read.head_length(), RREAD_HEADER as usize);
    }

    #[test]
    fn a_write_that_announces_other_than_what_follows_is_an_error_with_both_counts() {
        let head = golden::bytes("1c000000 76 0201 06050403 00000000 00000000 ffffffff");
        assert_eq!(
            parse_t(&head, 28),
            Err(WireError::DataMismatch { message: MessageType::Twrite, count: u32::MAX, follow: 5 })
        );
    }

    #[test]
    fn a_write_too_long_for_its_size_is_not_emitted() {
        let write = Tmessage::from(Twrite { fid: FID, offset: 0, count: u32::MAX - 22 });
        assert_eq!(
            write.emit(TAG, &mut [0xa5; 32]),
            Err(WireError::MessageTooLong { message: MessageType::Twrite })
        );
    }
}
