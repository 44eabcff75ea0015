// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tlopen and Tlcreate: a fid becomes an open file.

use super::codec::{flags, message};
use super::{Fid, Qid};

flags! {
    /// How a file is opened: the bits of Linux's `open(2)`, as the generic table (and x86) numbers them,
    /// whatever the client's architecture. The two lowest are not flags but a number: see
    /// [`OpenFlags::access`].
    pub struct OpenFlags: u32 {
        /// P9_DOTL_WRONLY. Of the two lowest bits; see [`OpenFlags::access`].
        const WRONLY = 0o1;
        /// P9_DOTL_RDWR. Of the two lowest bits; see [`OpenFlags::access`].
        const RDWR = 0o2;
        /// P9_DOTL_CREATE: make the file if it is not there.
        const CREATE = 0o100;
        /// P9_DOTL_EXCL: with CREATE, fail if it is there.
        const EXCL = 0o200;
        /// P9_DOTL_NOCTTY.
        const NOCTTY = 0o400;
        /// P9_DOTL_TRUNC: cut the file to nothing.
        const TRUNC = 0o1000;
        /// P9_DOTL_APPEND: each write goes to the end.
        const APPEND = 0o2000;
        /// P9_DOTL_NONBLOCK.
        const NONBLOCK = 0o4000;
        /// P9_DOTL_DSYNC: a write is answered when its data is durable.
        const DSYNC = 0o1_0000;
        /// P9_DOTL_FASYNC.
        const FASYNC = 0o2_0000;
        /// P9_DOTL_DIRECT: past the client's cache.
        const DIRECT = 0o4_0000;
        /// P9_DOTL_LARGEFILE.
        const LARGEFILE = 0o10_0000;
        /// P9_DOTL_DIRECTORY: fail if it is no directory.
        const DIRECTORY = 0o20_0000;
        /// P9_DOTL_NOFOLLOW: fail if it is a symbolic link.
        const NOFOLLOW = 0o40_0000;
        /// P9_DOTL_NOATIME: reading does not change `atime`.
        const NOATIME = 0o100_0000;
        /// P9_DOTL_CLOEXEC.
        const CLOEXEC = 0o200_0000;
        /// P9_DOTL_SYNC: a write is answered when its data and metadata are durable. (Linux's `O_SYNC` is
        /// this and DSYNC.)
        const SYNC = 0o400_0000;
    }
}

impl OpenFlags {
    /// P9_DOTL_RDONLY: no bit at all.
    pub const RDONLY: Self = Self::empty();

    /// What the two lowest bits say.
    #[must_use]
    pub fn access(self) -> Access {
        match (self.contains(Self::RDWR), self.contains(Self::WRONLY)) {
            (false, false) => Access::Read,
            (false, true) => Access::Write,
            (true, false) => Access::ReadWrite,
            (true, true) => Access::Neither,
        }
    }
}

/// What an open file may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// P9_DOTL_RDONLY, 0.
    Read,
    /// P9_DOTL_WRONLY, 1.
    Write,
    /// P9_DOTL_RDWR, 2.
    ReadWrite,
    /// P9_DOTL_NOACCESS, 3: Linux checks for both and gives neither.
    Neither,
}

message! {
    /// `size[4] Tlopen tag[2] fid[4] flags[4]`: opens the file of `fid`.
    pub struct Tlopen {
        /// The file.
        pub fid: Fid,
        /// How.
        pub flags: OpenFlags,
    }
}

message! {
    /// `size[4] Rlopen tag[2] qid[13] iounit[4]`
    pub struct Rlopen {
        /// The file.
        pub qid: Qid,
        /// The most bytes of one Tread or Twrite; 0 leaves it to msize.
        pub iounit: u32,
    }
}

message! {
    /// `size[4] Tlcreate tag[2] fid[4] name[s] flags[4] mode[4] gid[4]`: makes a regular file in the
    /// directory of `fid`, and opens it. `fid` stands for the new file then.
    pub struct Tlcreate<'a> {
        /// The directory.
        pub fid: Fid,
        /// The new file's name.
        pub name: &'a [u8],
        /// How to open it.
        pub flags: OpenFlags,
        /// `st_mode` of the new file, with the client's umask applied.
        pub mode: u32,
        /// Its group, unless the directory decides.
        pub gid: u32,
    }
}

message! {
    /// `size[4] Rlcreate tag[2] qid[13] iounit[4]`
    pub struct Rlcreate {
        /// The new file.
        pub qid: Qid,
        /// As in [`Rlopen`].
        pub iounit: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{QidKind, Tag, golden};
    use super::*;

    const QID: Qid = Qid { kind: QidKind::empty(), version: 0x1112_1314, path: 0x2122_2324_2526_2728 };

    #[test]
    fn tlopen_is_its_golden_bytes() {
        golden::request(
            "0f000000 0c 0201 06050403 02800100",
            Tag(0x0102),
            Tlopen {
                fid: Fid(0x0304_0506),
                flags: OpenFlags::RDWR | OpenFlags::LARGEFILE | OpenFlags::DIRECTORY,
            },
        );
    }

    #[test]
    fn rlopen_is_its_golden_bytes() {
        golden::reply(
            "18000000 0d 0201 00 14131211 28272625 24232221 00100000",
            Tag(0x0102),
            Rlopen { qid: QID, iounit: 4096 },
        );
    }

    #[test]
    fn tlcreate_is_its_golden_bytes() {
        golden::request(
            "1c000000 0e 0201 06050403 0300 'foo' 41820000 a4810000 f4010000",
            Tag(0x0102),
            Tlcreate {
                fid: Fid(0x0304_0506),
                name: b"foo",
                flags: OpenFlags::WRONLY | OpenFlags::CREATE | OpenFlags::TRUNC | OpenFlags::LARGEFILE,
                mode: 0o100_644,
                gid: 500,
            },
        );
    }

    #[test]
    fn rlcreate_is_its_golden_bytes() {
        golden::reply(
            "18000000 0f 0201 00 14131211 28272625 24232221 0d0c0b0a",
            Tag(0x0102),
            Rlcreate { qid: QID, iounit: 0x0a0b_0c0d },
        );
    }

    #[test]
    fn the_two_lowest_bits_of_the_flags_are_a_number() {
        let access = |bits| OpenFlags::from_bits_retain(bits).access();
        assert_eq!(access(0o100_000), Access::Read);
        assert_eq!(access(0o2001), Access::Write);
        assert_eq!(access(2), Access::ReadWrite);
        assert_eq!(access(3), Access::Neither);
    }
}
