// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tgetattr, Tsetattr, Tstatfs: what `stat`, `chmod`, `chown`, `truncate`, `utimensat` and `statfs` are made
//! of.

use super::codec::{Decoder, Encoder, Field, flags, message, total_length};
use super::{Fid, Qid, WireError};

flags! {
    /// Fields of an Rgetattr: asked for (`request_mask`), or there (`valid`).
    pub struct GetattrMask: u64 {
        /// P9_GETATTR_MODE
        const MODE = 0x0001;
        /// P9_GETATTR_NLINK
        const NLINK = 0x0002;
        /// P9_GETATTR_UID
        const UID = 0x0004;
        /// P9_GETATTR_GID
        const GID = 0x0008;
        /// P9_GETATTR_RDEV
        const RDEV = 0x0010;
        /// P9_GETATTR_ATIME
        const ATIME = 0x0020;
        /// P9_GETATTR_MTIME
        const MTIME = 0x0040;
        /// P9_GETATTR_CTIME
        const CTIME = 0x0080;
        /// P9_GETATTR_INO: the inode number, in `qid.path`.
        const INO = 0x0100;
        /// P9_GETATTR_SIZE
        const SIZE = 0x0200;
        /// P9_GETATTR_BLOCKS
        const BLOCKS = 0x0400;
        /// P9_GETATTR_BTIME
        const BTIME = 0x0800;
        /// P9_GETATTR_GEN
        const GEN = 0x1000;
        /// P9_GETATTR_DATA_VERSION
        const DATA_VERSION = 0x2000;
        /// P9_GETATTR_BASIC: all that `stat(2)` tells.
        const BASIC = 0x07ff;
        /// P9_GETATTR_ALL
        const ALL = 0x3fff;
    }
}

flags! {
    /// What a Tsetattr changes.
    pub struct SetattrMask: u32 {
        /// P9_SETATTR_MODE
        const MODE = 0x0001;
        /// P9_SETATTR_UID
        const UID = 0x0002;
        /// P9_SETATTR_GID
        const GID = 0x0004;
        /// P9_SETATTR_SIZE: truncate or extend.
        const SIZE = 0x0008;
        /// P9_SETATTR_ATIME: to the server's time, unless ATIME_SET.
        const ATIME = 0x0010;
        /// P9_SETATTR_MTIME: to the server's time, unless MTIME_SET.
        const MTIME = 0x0020;
        /// P9_SETATTR_CTIME: to the server's time.
        const CTIME = 0x0040;
        /// P9_SETATTR_ATIME_SET: to the time in the message.
        const ATIME_SET = 0x0080;
        /// P9_SETATTR_MTIME_SET: to the time in the message.
        const MTIME_SET = 0x0100;
    }
}

/// A point in time: `sec[8] nsec[8]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Time {
    /// Seconds since 1970-01-01 00:00:00 UTC. On the wire it has no sign, and both ends read one into it.
    pub sec: i64,
    /// Nanoseconds; whatever the message says, and so maybe more than 999,999,999.
    pub nsec: u64,
}

impl Field<'_> for Time {
    fn length(&self) -> usize {
        total_length([self.sec.length(), self.nsec.length()])
    }

    fn decode(decoder: &mut Decoder<'_>, field: &'static str) -> Result<Self, WireError> {
        Ok(Self { sec: Field::decode(decoder, field)?, nsec: Field::decode(decoder, field)? })
    }

    #[inline(always)]
    fn encode(&self, encoder: &mut Encoder<'_>, field: &'static str) -> Result<(), WireError> {
        self.sec.encode(encoder, field)?;
        self.nsec.encode(encoder, field)
    }
}

message! {
    /// `size[4] Tgetattr tag[2] fid[4] request_mask[8]`
    pub struct Tgetattr {
        /// The file.
        pub fid: Fid,
        /// What the client wants to know.
        pub request_mask: GetattrMask,
    }
}

message! {
    /// `size[4] Rgetattr tag[2] valid[8] qid[13] mode[4] uid[4] gid[4] nlink[8] rdev[8] size[8] blksize[8]
    /// blocks[8] atime_sec[8] atime_nsec[8] mtime_sec[8] mtime_nsec[8] ctime_sec[8] ctime_nsec[8]
    /// btime_sec[8] btime_nsec[8] gen[8] data_version[8]`
    pub struct Rgetattr {
        /// Which of the fields below mean something.
        pub valid: GetattrMask,
        /// The file; always meant.
        pub qid: Qid,
        /// `st_mode`, kind and permissions.
        pub mode: u32,
        /// Owner.
        pub uid: u32,
        /// Group.
        pub gid: u32,
        /// Number of hard links.
        pub nlink: u64,
        /// The device that a device node stands for, as Linux's `new_encode_dev` packs it.
        pub rdev: u64,
        /// Length in bytes.
        pub size: u64,
        /// Preferred size of an I/O request, in bytes.
        pub blksize: u64,
        /// Space taken, in units of 512 bytes.
        pub blocks: u64,
        /// Last access.
        pub atime: Time,
        /// Last change of the content.
        pub mtime: Time,
        /// Last change of the inode.
        pub ctime: Time,
        /// Creation.
        pub btime: Time,
        /// The inode's generation: tells two files apart that had the same number one after the other. (`gen`
        /// is a keyword.)
        pub generation: u64,
        /// Changes whenever content or attributes do.
        pub data_version: u64,
    }
}

message! {
    /// `size[4] Tsetattr tag[2] fid[4] valid[4] mode[4] uid[4] gid[4] size[8] atime_sec[8] atime_nsec[8]
    /// mtime_sec[8] mtime_nsec[8]`
    pub struct Tsetattr {
        /// The file.
        pub fid: Fid,
        /// Which of the fields below to set.
        pub valid: SetattrMask,
        /// Permissions, as in `chmod(2)`.
        pub mode: u32,
        /// Owner.
        pub uid: u32,
        /// Group.
        pub gid: u32,
        /// Length in bytes.
        pub size: u64,
        /// Last access.
        pub atime: Time,
        /// Last change of the content.
        pub mtime: Time,
    }
}

message! {
    /// `size[4] Rsetattr tag[2]`
    pub struct Rsetattr;
}

message! {
    /// `size[4] Tstatfs tag[2] fid[4]`
    pub struct Tstatfs {
        /// Any file of the file system.
        pub fid: Fid,
    }
}

message! {
    /// `size[4] Rstatfs tag[2] type[4] bsize[4] blocks[8] bfree[8] bavail[8] files[8] ffree[8] fsid[8]
    /// namelen[4]`
    pub struct Rstatfs {
        /// `type`: the magic number of the file system.
        pub kind: u32,
        /// Unit of the block counts, in bytes.
        pub bsize: u32,
        /// Data blocks.
        pub blocks: u64,
        /// Free ones.
        pub bfree: u64,
        /// Free ones that anybody may take.
        pub bavail: u64,
        /// Inodes.
        pub files: u64,
        /// Free ones.
        pub ffree: u64,
        /// An identifier of the file system.
        pub fsid: u64,
        /// The longest name, in bytes.
        pub namelen: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{QidKind, Tag, golden};
    use super::*;

    const FID: Fid = Fid(0x0304_0506);
    const TAG: Tag = Tag(0x0102);

    #[test]
    fn tgetattr_is_its_golden_bytes() {
        golden::request(
            "13000000 18 0201 06050403 ff3f0000 00000000",
            TAG,
            Tgetattr { fid: FID, request_mask: GetattrMask::ALL },
        );
    }

    #[test]
    fn rgetattr_is_its_golden_bytes() {
        golden::reply(
            "a0000000 19 0201 ff070000 00000000 80 14131211 28272625 24232221
             ed410000 e8030000 e9030000 03000000 00000000 01080000 00000000
             00000050 04000000 00100000 00000000 10000000 00000000
             00ca9a3b 00000000 01000000 00000000 00000080 00000000 02000000 00000000
             ffffffff ffffffff ffc99a3b 00000000 04000000 00000000 05000000 00000000
             06000000 00000000 38373635 34333231",
            TAG,
            Rgetattr {
                valid: GetattrMask::BASIC,
                qid: Qid { kind: QidKind::DIR, version: 0x1112_1314, path: 0x2122_2324_2526_2728 },
                mode: 0o40_755,
                uid: 1000,
                gid: 1001,
                nlink: 3,
                rdev: 0x0801,
                size: 0x4_5000_0000,
                blksize: 4096,
                blocks: 16,
                atime: Time { sec: 1_000_000_000, nsec: 1 },
                mtime: Time { sec: 0x8000_0000, nsec: 2 },
                ctime: Time { sec: -1, nsec: 999_999_999 },
                btime: Time { sec: 4, nsec: 5 },
                generation: 6,
                data_version: 0x3132_3334_3536_3738,
            },
        );
    }

    #[test]
    fn tsetattr_is_its_golden_bytes() {
        golden::request(
            "43000000 1a 0201 06050403 a9010000 a4010000 e8030000 e9030000 38373635 34333231
             01000000 00000000 02000000 00000000 feffffff ffffffff 04000000 00000000",
            TAG,
            Tsetattr {
                fid: FID,
                valid: SetattrMask::MODE
                    | SetattrMask::SIZE
                    | SetattrMask::MTIME
                    | SetattrMask::ATIME_SET
                    | SetattrMask::MTIME_SET,
                mode: 0o644,
                uid: 1000,
                gid: 1001,
                size: 0x3132_3334_3536_3738,
                atime: Time { sec: 1, nsec: 2 },
                mtime: Time { sec: -2, nsec: 4 },
            },
        );
    }

    #[test]
    fn rsetattr_is_its_golden_bytes() {
        golden::reply("07000000 1b 0201", TAG, Rsetattr);
    }

    #[test]
    fn tstatfs_is_its_golden_bytes() {
        golden::request("0b000000 08 0201 06050403", TAG, Tstatfs { fid: FID });
    }

    #[test]
    fn rstatfs_is_its_golden_bytes() {
        golden::reply(
            "43000000 09 0201 53ef0000 00100000 18171615 14131211 02000000 00000000 03000000 00000000
             04000000 00000000 05000000 00000000 28272625 24232221 ff000000",
            TAG,
            Rstatfs {
                kind: 0xef53,
                bsize: 4096,
                blocks: 0x1112_1314_1516_1718,
                bfree: 2,
                bavail: 3,
                files: 4,
                ffree: 5,
                fsid: 0x2122_2324_2526_2728,
                namelen: 255,
            },
        );
    }

    #[test]
    fn basic_and_all_are_the_bits_before_them() {
        assert_eq!(GetattrMask::BASIC.bits(), (GetattrMask::BLOCKS.bits() << 1) - 1);
        assert_eq!(GetattrMask::ALL.bits(), (GetattrMask::DATA_VERSION.bits() << 1) - 1);
    }
}
