// SPDX-License-Identifier: MIT OR Apache-2.0

//! What changes a directory: Tsymlink, Tmknod, Tmkdir, Tlink, Trename, Trenameat, Tunlinkat, Tremove; and
//! Treadlink.
//!
//! A `name` here is one name of one directory. This layer takes any bytes; the server checks them.

use super::codec::{flags, message};
use super::{Fid, Qid};

message! {
    /// `size[4] Tsymlink tag[2] fid[4] name[s] symtgt[s] gid[4]`
    pub struct Tsymlink<'a> {
        /// The directory.
        pub fid: Fid,
        /// The new link's name.
        pub name: &'a [u8],
        /// What it points to.
        pub symtgt: &'a [u8],
        /// Its group, unless the directory decides.
        pub gid: u32,
    }
}

message! {
    /// `size[4] Rsymlink tag[2] qid[13]`
    pub struct Rsymlink {
        /// The new link.
        pub qid: Qid,
    }
}

message! {
    /// `size[4] Tmknod tag[2] dfid[4] name[s] mode[4] major[4] minor[4] gid[4]`
    pub struct Tmknod<'a> {
        /// The directory.
        pub dfid: Fid,
        /// The new node's name.
        pub name: &'a [u8],
        /// `st_mode`: a device, FIFO, socket or regular file, and its permissions.
        pub mode: u32,
        /// Of a device.
        pub major: u32,
        /// Of a device.
        pub minor: u32,
        /// Its group, unless the directory decides.
        pub gid: u32,
    }
}

message! {
    /// `size[4] Rmknod tag[2] qid[13]`
    pub struct Rmknod {
        /// The new node.
        pub qid: Qid,
    }
}

message! {
    /// `size[4] Trename tag[2] fid[4] dfid[4] name[s]`: gives the file of `fid` another place.
    pub struct Trename<'a> {
        /// The file.
        pub fid: Fid,
        /// The directory it goes to.
        pub dfid: Fid,
        /// Its name there.
        pub name: &'a [u8],
    }
}

message! {
    /// `size[4] Rrename tag[2]`
    pub struct Rrename;
}

message! {
    /// `size[4] Treadlink tag[2] fid[4]`
    pub struct Treadlink {
        /// A symbolic link.
        pub fid: Fid,
    }
}

message! {
    /// `size[4] Rreadlink tag[2] target[s]`
    pub struct Rreadlink<'a> {
        /// What the link points to.
        pub target: &'a [u8],
    }
}

message! {
    /// `size[4] Tlink tag[2] dfid[4] fid[4] name[s]`: gives the file of `fid` one more name.
    pub struct Tlink<'a> {
        /// The directory of the new name.
        pub dfid: Fid,
        /// The file.
        pub fid: Fid,
        /// The new name.
        pub name: &'a [u8],
    }
}

message! {
    /// `size[4] Rlink tag[2]`
    pub struct Rlink;
}

message! {
    /// `size[4] Tmkdir tag[2] dfid[4] name[s] mode[4] gid[4]`
    pub struct Tmkdir<'a> {
        /// The directory that the new one will be in.
        pub dfid: Fid,
        /// The new directory's name.
        pub name: &'a [u8],
        /// Its permissions, with the client's umask applied.
        pub mode: u32,
        /// Its group, unless the directory it is in decides.
        pub gid: u32,
    }
}

message! {
    /// `size[4] Rmkdir tag[2] qid[13]`
    pub struct Rmkdir {
        /// The new directory.
        pub qid: Qid,
    }
}

message! {
    /// `size[4] Trenameat tag[2] olddirfid[4] oldname[s] newdirfid[4] newname[s]`
    pub struct Trenameat<'a> {
        /// The directory that the file is in.
        pub olddirfid: Fid,
        /// Its name there.
        pub oldname: &'a [u8],
        /// The directory it goes to.
        pub newdirfid: Fid,
        /// Its name there.
        pub newname: &'a [u8],
    }
}

message! {
    /// `size[4] Rrenameat tag[2]`
    pub struct Rrenameat;
}

flags! {
    /// Flags of a Tunlinkat.
    pub struct UnlinkFlags: u32 {
        /// P9_DOTL_AT_REMOVEDIR: it must be an empty directory; without this it must be none.
        const REMOVEDIR = 0x200;
    }
}

message! {
    /// `size[4] Tunlinkat tag[2] dirfd[4] name[s] flags[4]`: takes a name away.
    pub struct Tunlinkat<'a> {
        /// The directory (a fid, despite its name).
        pub dirfd: Fid,
        /// The name.
        pub name: &'a [u8],
        /// File or directory.
        pub flags: UnlinkFlags,
    }
}

message! {
    /// `size[4] Runlinkat tag[2]`
    pub struct Runlinkat;
}

message! {
    /// `size[4] Tremove tag[2] fid[4]`: takes away the name that `fid` was walked to, and clunks `fid`.
    pub struct Tremove {
        /// Gone afterwards, even if the reply is an error.
        pub fid: Fid,
    }
}

message! {
    /// `size[4] Rremove tag[2]`
    pub struct Rremove;
}

#[cfg(test)]
mod tests {
    use super::super::{QidKind, Tag, golden};
    use super::*;

    const FID: Fid = Fid(0x0304_0506);
    const OTHER: Fid = Fid(0x0708_090a);
    const TAG: Tag = Tag(0x0102);

    fn qid(kind: QidKind) -> Qid {
        Qid { kind, version: 0x1112_1314, path: 0x2122_2324_2526_2728 }
    }

    #[test]
    fn tsymlink_is_its_golden_bytes() {
        golden::request(
            "1b000000 10 0201 06050403 0200 'ln' 0600 '/etc/x' e9030000",
            TAG,
            Tsymlink { fid: FID, name: b"ln", symtgt: b"/etc/x", gid: 1001 },
        );
    }

    #[test]
    fn rsymlink_is_its_golden_bytes() {
        golden::reply(
            "14000000 11 0201 02 14131211 28272625 24232221",
            TAG,
            Rsymlink { qid: qid(QidKind::SYMLINK) },
        );
    }

    #[test]
    fn tmknod_is_its_golden_bytes() {
        golden::request(
            "21000000 12 0201 06050403 0400 'null' b6210000 01000000 03000000 e9030000",
            TAG,
            Tmknod { dfid: FID, name: b"null", mode: 0o20_666, major: 1, minor: 3, gid: 1001 },
        );
    }

    #[test]
    fn rmknod_is_its_golden_bytes() {
        golden::reply(
            "14000000 13 0201 00 14131211 28272625 24232221",
            TAG,
            Rmknod { qid: qid(QidKind::empty()) },
        );
    }

    #[test]
    fn trename_is_its_golden_bytes() {
        golden::request(
            "14000000 14 0201 06050403 0a090807 0300 'new'",
            TAG,
            Trename { fid: FID, dfid: OTHER, name: b"new" },
        );
    }

    #[test]
    fn rrename_is_its_golden_bytes() {
        golden::reply("07000000 15 0201", TAG, Rrename);
    }

    #[test]
    fn treadlink_is_its_golden_bytes() {
        golden::request("0b000000 16 0201 06050403", TAG, Treadlink { fid: FID });
    }

    #[test]
    fn rreadlink_is_its_golden_bytes() {
        golden::reply("0f000000 17 0201 0600 '/etc/x'", TAG, Rreadlink { target: b"/etc/x" });
    }

    #[test]
    fn tlink_is_its_golden_bytes() {
        golden::request(
            "16000000 46 0201 06050403 0a090807 0500 'again'",
            TAG,
            Tlink { dfid: FID, fid: OTHER, name: b"again" },
        );
    }

    #[test]
    fn rlink_is_its_golden_bytes() {
        golden::reply("07000000 47 0201", TAG, Rlink);
    }

    #[test]
    fn tmkdir_is_its_golden_bytes() {
        golden::request(
            "18000000 48 0201 06050403 0300 'sub' ed010000 e9030000",
            TAG,
            Tmkdir { dfid: FID, name: b"sub", mode: 0o755, gid: 1001 },
        );
    }

    #[test]
    fn rmkdir_is_its_golden_bytes() {
        golden::reply(
            "14000000 49 0201 80 14131211 28272625 24232221",
            TAG,
            Rmkdir { qid: qid(QidKind::DIR) },
        );
    }

    #[test]
    fn trenameat_is_its_golden_bytes() {
        golden::request(
            "1a000000 4a 0201 06050403 0300 'old' 0a090807 0400 'newn'",
            TAG,
            Trenameat { olddirfid: FID, oldname: b"old", newdirfid: OTHER, newname: b"newn" },
        );
    }

    #[test]
    fn rrenameat_is_its_golden_bytes() {
        golden::reply("07000000 4b 0201", TAG, Rrenameat);
    }

    #[test]
    fn tunlinkat_is_its_golden_bytes() {
        golden::request(
            "14000000 4c 0201 06050403 0300 'sub' 00020000",
            TAG,
            Tunlinkat { dirfd: FID, name: b"sub", flags: UnlinkFlags::REMOVEDIR },
        );
    }

    #[test]
    fn runlinkat_is_its_golden_bytes() {
        golden::reply("07000000 4d 0201", TAG, Runlinkat);
    }

    #[test]
    fn tremove_is_its_golden_bytes() {
        golden::request("0b000000 7a 0201 06050403", TAG, Tremove { fid: FID });
    }

    #[test]
    fn rremove_is_its_golden_bytes() {
        golden::reply("07000000 7b 0201", TAG, Rremove);
    }
}
