// SPDX-License-Identifier: MIT OR Apache-2.0

//! What changes a directory: Tsymlink, Tmknod, Tmkdir, Tlink, Trename, Trenameat, Tunlinkat, Tremove; and Treadlink.
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
