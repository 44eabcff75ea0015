// SPDX-License-Identifier: MIT OR Apache-2.0

//! Txattrwalk and Txattrcreate: extended attributes, read and written like files.

use super::Fid;
use super::codec::{flags, message};

message! {
    /// `size[4] Txattrwalk tag[2] fid[4] newfid[4] name[s]`: makes `newfid` an attribute of `fid`'s file, to
    /// be read with Tread.
    pub struct Txattrwalk<'a> {
        /// The file.
        pub fid: Fid,
        /// What will stand for the attribute.
        pub newfid: Fid,
        /// The attribute; empty: the list of names, each closed by a NUL, as in `listxattr(2)`.
        pub name: &'a [u8],
    }
}

message! {
    /// `size[4] Rxattrwalk tag[2] size[8]`
    pub struct Rxattrwalk {
        /// Length of the value, or of the list, in bytes.
        pub size: u64,
    }
}

flags! {
    /// Flags of a Txattrcreate: those of `setxattr(2)`. None: make it or replace it.
    pub struct XattrFlags: u32 {
        /// XATTR_CREATE: fail if it is there.
        const CREATE = 1;
        /// XATTR_REPLACE: fail if it is not.
        const REPLACE = 2;
    }
}

message! {
    /// `size[4] Txattrcreate tag[2] fid[4] name[s] attr_size[8] flags[4]`: makes `fid` an attribute of its
    /// file, to be written with Twrite. The attribute is set when `fid` is clunked.
    pub struct Txattrcreate<'a> {
        /// The file; the attribute afterwards.
        pub fid: Fid,
        /// The attribute.
        pub name: &'a [u8],
        /// Bytes that will be written; 0: remove the attribute.
        pub attr_size: u64,
        /// As `setxattr(2)` has them.
        pub flags: XattrFlags,
    }
}

message! {
    /// `size[4] Rxattrcreate tag[2]`
    pub struct Rxattrcreate;
}

#[cfg(test)]
mod tests {
    use super::super::{Tag, golden};
    use super::*;

    const FID: Fid = Fid(0x0304_0506);
    const TAG: Tag = Tag(0x0102);

    #[test]
    fn txattrwalk_is_its_golden_bytes() {
        golden::request(
            "17000000 1e 0201 06050403 0a090807 0600 'user.k'",
            TAG,
            Txattrwalk { fid: FID, newfid: Fid(0x0708_090a), name: b"user.k" },
        );
    }

    #[test]
    fn txattrwalk_to_the_list_is_its_golden_bytes() {
        golden::request(
            "11000000 1e 0201 06050403 0a090807 0000",
            TAG,
            Txattrwalk { fid: FID, newfid: Fid(0x0708_090a), name: b"" },
        );
    }

    #[test]
    fn rxattrwalk_is_its_golden_bytes() {
        golden::reply("0f000000 1f 0201 18171615 14131211", TAG, Rxattrwalk { size: 0x1112_1314_1516_1718 });
    }

    #[test]
    fn txattrcreate_is_its_golden_bytes() {
        golden::request(
            "1f000000 20 0201 06050403 0600 'user.k' 18171615 14131211 02000000",
            TAG,
            Txattrcreate {
                fid: FID,
                name: b"user.k",
                attr_size: 0x1112_1314_1516_1718,
                flags: XattrFlags::REPLACE,
            },
        );
    }

    #[test]
    fn rxattrcreate_is_its_golden_bytes() {
        golden::reply("07000000 21 0201", TAG, Rxattrcreate);
    }
}
