// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests that each request asks the policy of its export. What a policy answers is tested in [`super::access`].

use super::client::{Client, DEEP, FILE, GID, SUB};
use super::export_options::ExportList;
use super::tree::ROOT;
use crate::fs::{Caller, Errno, Node};
use crate::wire::{
    Fid, LockFlags, LockType, OpenFlags, SetattrMask, Time, Tlcreate, Tlink, Tlock, Tmessage, Tmkdir, Tmknod,
    Tremove, Trename, Trenameat, Tsetattr, Tsymlink, Tunlinkat, Txattrcreate, UnlinkFlags, XattrFlags,
};
use std::vec;
use std::vec::Vec;

const NEW: OpenFlags = OpenFlags::CREATE.union(OpenFlags::EXCL);

/// A client of these exports; it has not attached.
fn client(exports: &[&'static str]) -> Client {
    let mut client = Client::versioned(8192);
    client.list = ExportList::new();
    exports.iter().for_each(|text| client.list.add(text).unwrap());
    client
}

fn chmod(fid: u32) -> Tsetattr {
    let time = Time::default();
    let (mode, uid, gid, size) = (0o600, 0, 0, 0);
    Tsetattr { fid: Fid(fid), valid: SetattrMask::MODE, mode, uid, gid, size, atime: time, mtime: time }
}

/// Every request that changes something, for the directory `dfid` with a name `file` and the file `fid`. The last clunks.
fn changes(dfid: u32, fid: u32) -> Vec<Tmessage<'static>> {
    let (dfid, fid, gid, mode) = (Fid(dfid), Fid(fid), GID, 0o010_644);
    let (name, old) = (&b"new"[..], &b"file"[..]);
    vec![
        Tlcreate { fid: dfid, name, flags: NEW, mode, gid }.into(),
        Tlcreate { fid: dfid, name: old, flags: OpenFlags::CREATE | OpenFlags::WRONLY, mode, gid }.into(),
        Tsymlink { fid: dfid, name, symtgt: b"x", gid }.into(),
        Tmknod { dfid, name, mode, major: 0, minor: 0, gid }.into(),
        Tmkdir { dfid, name, mode, gid }.into(),
        Tlink { dfid, fid, name }.into(),
        Trename { fid, dfid, name }.into(),
        Trenameat { olddirfid: dfid, oldname: old, newdirfid: dfid, newname: name }.into(),
        Tunlinkat { dirfd: dfid, name: old, flags: UnlinkFlags::empty() }.into(),
        chmod(fid.0).into(),
        Txattrcreate { fid, name: b"user.new", attr_size: 1, flags: XattrFlags::empty() }.into(),
        Tremove { fid }.into(),
    ]
}

#[test]
fn a_read_only_export_refuses_every_way_to_write_and_lets_everything_be_read() {
    let mut client = client(&["/:readonly"]);
    client.attach(0, b"/").unwrap();
    client.walk(0, 1, &[b"file"]).unwrap();
    for flags in [OpenFlags::WRONLY, OpenFlags::RDWR, OpenFlags::TRUNC, OpenFlags::WRONLY | OpenFlags::RDWR] {
        assert_eq!(client.open(1, flags), Err(Errno::EROFS));
    }
    for request in changes(0, 1) {
        assert_eq!(client.call(request), Err(Errno::EROFS), "{request:?}");
    }
    assert_eq!(client.create(0, b"file", NEW, 0o600), Err(Errno::EEXIST));
    assert_eq!(client.mkdir(0, b"sub"), Err(Errno::EEXIST));
    assert_eq!((client.tree.caller, client.tree.retained()), (None, 0));

    client.open_path(2, &[b"file"]);
    assert_eq!(client.read(2, 0, 1).as_deref(), Ok(&b"A"[..]));
    assert_eq!(client.xattrwalk(2, 3, b"user.colour"), Ok(12));
    let (kind, flags, client_id) = (LockType::Write, LockFlags::empty(), &b"host"[..]);
    let lock = Tlock { fid: Fid(2), kind, flags, start: 0, length: 0, proc_id: 1, client_id };
    assert_eq!(client.call(lock), Ok(()));
    client.walk(0, 4, &[]).unwrap();
    assert!(client.create(4, b"file", OpenFlags::CREATE, 0o600).is_ok(), "it is there and only read");
}

#[test]
fn a_file_is_not_changed_through_a_second_export_that_is_not_read_only() {
    let mut client = client(&["/", "/sub:readonly"]);
    client.attach(0, b"/").unwrap();
    client.attach(1, b"/sub/deep").unwrap();
    client.walk(1, 2, &[b"leaf"]).unwrap();
    assert_eq!(client.link(0, 2, b"new"), Err(Errno::EROFS));
    assert_eq!(client.rename((1, b"leaf"), (0, b"new")), Err(Errno::EROFS));
    assert_eq!(client.rename((0, b"file"), (1, b"new")), Err(Errno::EROFS));
    client.walk(0, 3, &[b"file"]).unwrap();
    assert_eq!(client.link(1, 3, b"new"), Err(Errno::EROFS));
    assert_eq!(client.link(0, 3, b"new"), Ok(()));
}

/// A client of an export that checks: fid 0 is the root as user 1000 sees it. The root is open to all, and `file` belongs to
/// another and can be read.
fn checked() -> Client {
    let mut client = client(&["/:check"]);
    client.attach_as(0, b"/", 1000).unwrap();
    client.tree.inode(ROOT).mode = 0o755;
    client.tree.inode(FILE).mode = 0o644;
    client
}

#[test]
fn a_directory_that_may_not_be_searched_is_not_walked_through() {
    let mut client = checked();
    assert_eq!(client.walk(0, 1, &[b"sub", b"deep"]), Ok(vec![SUB.0]));
    client.walk(0, 1, &[b"sub"]).unwrap();
    assert_eq!(client.walk(1, 2, &[b"deep"]), Err(Errno::EACCES));
    assert_eq!(client.walk(1, 2, &[b".."]), Err(Errno::EACCES));
    client.tree.inode(SUB).mode = 0o751;
    assert_eq!(client.walk(1, 2, &[b"deep"]), Ok(vec![DEEP.0]));
}

#[test]
fn a_file_opens_for_what_its_mode_permits() {
    for (mode, flags, expected) in [
        (0o644, OpenFlags::RDONLY, Ok(8168)),
        (0o644, OpenFlags::WRONLY, Err(Errno::EACCES)),
        (0o644, OpenFlags::TRUNC, Err(Errno::EACCES)),
        (0o642, OpenFlags::WRONLY, Ok(8168)),
        (0o642, OpenFlags::WRONLY | OpenFlags::TRUNC, Ok(8168)),
        (0o642, OpenFlags::RDWR, Err(Errno::EACCES)),
        (0o642, OpenFlags::TRUNC, Err(Errno::EACCES)),
        (0o646, OpenFlags::RDWR | OpenFlags::TRUNC, Ok(8168)),
        (0o646, OpenFlags::WRONLY | OpenFlags::RDWR, Ok(8168)),
    ] {
        let mut client = checked();
        client.tree.inode(FILE).mode = mode;
        client.walk(0, 1, &[b"file"]).unwrap();
        assert_eq!(client.open(1, flags), expected, "{mode:o} {flags:?}");
        client.walk(0, 2, &[]).unwrap();
        assert_eq!(client.create(2, b"file", flags, 0o600).map(|_| 8168), expected, "{mode:o} {flags:?}");
    }
}

#[test]
fn names_are_changed_only_where_the_directory_may_be_written() {
    let mut client = checked();
    client.walk(0, 1, &[b"file"]).unwrap();
    // Neither the attributes nor the content of the file of another may be changed either.
    for request in changes(0, 1) {
        let owner_only = matches!(request, Tmessage::Tsetattr(_));
        let expected = if owner_only { Errno::EPERM } else { Errno::EACCES };
        assert_eq!(client.call(request), Err(expected), "{request:?}");
    }
    assert_eq!(client.mkdir(0, b"sub"), Err(Errno::EEXIST), "as in Linux, what is there comes first");
    assert_eq!(client.tree.caller, None);

    client.tree.inode(ROOT).mode = 0o777;
    assert!(client.mkdir(0, b"new").is_ok());
    assert_eq!(client.rename((0, b"new"), (0, b"newer")), Ok(()));
    assert_eq!(client.rmdir(0, b"newer"), Ok(()));
    assert_eq!(client.tree.caller, Some(Caller { uid: 1000 }));
}

#[test]
fn in_a_sticky_directory_the_file_of_another_is_neither_removed_nor_replaced() {
    let mut client = checked();
    client.tree.inode(ROOT).mode = 0o1777;
    client.mkdir(0, b"own").unwrap();
    client.walk(0, 1, &[]).unwrap();
    client.create(1, b"mine", NEW, 0o600).unwrap();
    assert_eq!(client.unlink(0, b"file"), Err(Errno::EPERM));
    assert_eq!(client.rename((0, b"mine"), (0, b"file")), Err(Errno::EPERM));
    assert_eq!(client.rename((0, b"file"), (0, b"other")), Err(Errno::EPERM));
    assert_eq!(client.rename((0, b"mine"), (0, b"other")), Ok(()));
    assert_eq!(client.unlink(0, b"other"), Ok(()));
}

#[test]
fn who_has_a_file_open_for_writing_cuts_it_and_others_do_not() {
    let mut client = checked();
    let cut = |fid| Tsetattr { valid: SetattrMask::SIZE, ..chmod(fid) };
    client.tree.inode(FILE).mode = 0o646;
    for fid in [1, 2] {
        client.walk(0, fid, &[b"file"]).unwrap();
    }
    client.open(1, OpenFlags::RDWR).unwrap();
    client.tree.inode(FILE).mode = 0o644;
    assert_eq!(client.call(cut(2)), Err(Errno::EACCES));
    assert_eq!(client.call(cut(1)), Ok(()));
}

#[test]
fn attributes_are_hidden_and_kept_as_linux_does() {
    let mut client = checked();
    client.tree.inode(FILE).xattrs.insert(b"trusted.x".to_vec(), b"y".to_vec());
    client.walk(0, 1, &[b"file"]).unwrap();
    assert_eq!(client.xattrwalk(1, 2, b"trusted.x"), Err(Errno::ENODATA));
    assert_eq!(client.xattrwalk(1, 2, b"user.colour"), Ok(12));
    assert_eq!(client.xattrcreate(1, b"trusted.x", 1, XattrFlags::empty()), Err(Errno::EPERM));
    client.tree.inode(FILE).uid = 1000;
    assert_eq!(client.xattrcreate(1, b"user.colour", 1, XattrFlags::empty()), Ok(()));
}

#[test]
fn what_a_squashed_user_makes_belongs_to_whom_it_acts_as() {
    for (export, n_uname, owner) in [
        ("/:squash=root:7:8", 0, (7, 8)),
        ("/:squash=root:7:8", 1000, (1000, GID)),
        ("/:squash=all:7:8", 1000, (7, 8)),
        ("/:squash=all:7:8", u32::MAX, (7, 8)),
        ("/", u32::MAX, (65_534, GID)),
    ] {
        let mut client = client(&[export]);
        client.attach_as(0, b"/", n_uname).unwrap();
        let made = client.mkdir(0, b"new").unwrap();
        let inode = client.tree.inode(Node(made.path));
        assert_eq!((inode.uid, inode.gid), owner, "{export} {n_uname}");
        assert_eq!(client.tree.caller, Some(Caller { uid: owner.0 }));
    }
}
