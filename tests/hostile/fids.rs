// SPDX-License-Identifier: MIT OR Apache-2.0

//! Fids that are unknown, taken, open, or of another sort than a request needs; numbers that no file reaches.

use skerry::fs::Errno;
use skerry::wire::{
    Fid, GetattrMask, LockFlags, LockType, Names, OpenFlags, SetattrMask, Tattach, Tclunk, Tfsync, Tgetattr,
    Tgetlock, Time, Tlcreate, Tlink, Tlock, Tlopen, Tmkdir, Tmknod, Tread, Treaddir, Treadlink, Tremove,
    Trename, Trenameat, Tsetattr, Tstatfs, Tsymlink, Tunlinkat, Twalk, Twrite, Txattrcreate, Txattrwalk,
    UnlinkFlags, XattrFlags,
};

use crate::attacker::{Attacker, Case, Expected, HOME, bytes};
use Expected::Serves;

/// A fid that nobody uses.
const UNKNOWN: Fid = Fid(0x7777_7777);
const NAME: &[u8] = b"name";
const ANY: XattrFlags = XattrFlags::empty();
/// One more than the last byte that a file can have.
const TOO_FAR: u64 = 1 << 63;

pub const CASES: &[Case] = &[
    ("fids that are not in use, and NOFID, in every place of every kind of request", |a| {
        for fid in [UNKNOWN, Fid::NOFID, Fid(0xffff_fffe), Fid(0x8000_0000)] {
            for request in all_of_a_file(fid).into_iter().chain(second_places(fid)) {
                a.refused_bytes(Errno::EBADF, &request);
            }
            a.refused_bytes(Errno::EBADF, &bytes(Tread { fid, offset: 0, count: 1 }));
            a.refused_bytes(Errno::EBADF, &write(fid, 0, b"x"));
            a.refused(Errno::EBADF, Tclunk { fid });
            a.refused(Errno::EBADF, Tremove { fid });
        }
        Serves
    }),
    ("new fids that are in use, and NOFID", |a| {
        let fid = a.walked("bytes");
        for taken in [HOME, fid, Fid::NOFID] {
            a.refused(Errno::EBADF, attach(taken));
            if taken != fid {
                a.refused(Errno::EBADF, walk(fid, taken, &[]));
                a.refused(Errno::EBADF, Txattrwalk { fid, newfid: taken, name: b"" });
            }
        }
        a.refused(Errno::EBADF, walk(HOME, fid, &[b"nothing", b"at", b"all"]));
        Serves
    }),
    ("a fid that is reused at once, thousands of times", |a| {
        let fid = Fid(3);
        let cycle = [
            bytes(walk(HOME, fid, &[b"bytes"])),
            bytes(Tgetattr { fid, request_mask: GetattrMask::BASIC }),
            bytes(Tclunk { fid }),
            bytes(Tclunk { fid }),
        ];
        for _ in 0..100 {
            let replies = a.driver().exchange_all(&vec![cycle.clone(); 15].concat());
            for replies in replies.chunks(4) {
                let kinds: Vec<u8> = replies.iter().map(|reply| reply[4]).collect();
                assert_eq!(kinds, [111, 25, 121, 7]);
            }
        }
        Serves
    }),
    ("a file that is open, in requests for one that is not", |a| {
        let fid = opened(a, "bytes", OpenFlags::RDONLY);
        a.refused(Errno::EINVAL, Tlopen { fid, flags: OpenFlags::RDONLY });
        a.refused(Errno::EINVAL, walk(fid, fid, &[]));
        a.refused(Errno::EINVAL, Tlcreate { fid, name: NAME, flags: OpenFlags::RDWR, mode: 0, gid: 0 });
        a.refused(Errno::EINVAL, Txattrcreate { fid, name: b"user.x", attr_size: 1, flags: ANY });
        a.refused_bytes(Errno::EBADF, &write(fid, 0, b"x"));
        a.refused(Errno::ENOTDIR, Treaddir { fid, offset: 0, count: 100 });
        a.refused(Errno::ENOTDIR, walk(fid, UNKNOWN, &[NAME]));
        a.refused(Errno::ENOTDIR, walk(fid, UNKNOWN, &[b".."]));
        a.refused(Errno::EINVAL, Treadlink { fid });
        let list = opened(a, "", OpenFlags::RDONLY);
        a.refused(Errno::EISDIR, Tread { fid: list, offset: 0, count: 100 });
        a.refused_bytes(Errno::EBADF, &write(list, 0, b"x"));
        a.refused(Errno::EINVAL, walk(list, list, &[b"bytes"]));
        a.done(walk(list, UNKNOWN, &[b"bytes"]));
        let blind = opened(a, "bytes", OpenFlags::WRONLY);
        a.refused(Errno::EBADF, Tread { fid: blind, offset: 0, count: 100 });
        let neither = opened(a, "bytes", OpenFlags::WRONLY | OpenFlags::RDWR);
        a.refused(Errno::EBADF, Tread { fid: neither, offset: 0, count: 100 });
        a.refused_bytes(Errno::EBADF, &write(neither, 0, b"x"));
        Serves
    }),
    ("a file that is not open, in requests for one that is", |a| {
        let fid = a.walked("bytes");
        a.refused(Errno::EBADF, Tread { fid, offset: 0, count: 100 });
        a.refused_bytes(Errno::EBADF, &write(fid, 0, b"x"));
        a.refused(Errno::EBADF, Treaddir { fid, offset: 0, count: 100 });
        a.refused(Errno::EBADF, Tfsync { fid, datasync: 0 });
        a.refused(Errno::EBADF, lock(fid, 0, 1));
        a.refused(Errno::EBADF, getlock(fid, 0, 1));
        Serves
    }),
    ("a file, in requests for a directory", |a| {
        let (fid, gid) = (a.walked("bytes"), 0);
        a.refused(Errno::ENOTDIR, Tlcreate { fid, name: NAME, flags: OpenFlags::RDWR, mode: 0, gid });
        a.refused(Errno::ENOTDIR, Tsymlink { fid, name: NAME, symtgt: b"x", gid });
        a.refused(Errno::ENOTDIR, Tmknod { dfid: fid, name: NAME, mode: 0o10_600, major: 0, minor: 0, gid });
        a.refused(Errno::ENOTDIR, Tmkdir { dfid: fid, name: NAME, mode: 0, gid });
        a.refused(Errno::ENOTDIR, Tlink { dfid: fid, fid, name: NAME });
        a.refused(Errno::ENOTDIR, Tunlinkat { dirfd: fid, name: NAME, flags: UnlinkFlags::empty() });
        a.refused(Errno::ENOTDIR, Trename { fid, dfid: fid, name: NAME });
        let (oldname, newname) = (NAME, NAME);
        a.refused(Errno::ENOTDIR, Trenameat { olddirfid: fid, oldname, newdirfid: HOME, newname });
        a.refused(Errno::ENOTDIR, Tlopen { fid, flags: OpenFlags::DIRECTORY });
        for flags in [OpenFlags::WRONLY, OpenFlags::RDWR, OpenFlags::TRUNC] {
            a.refused(Errno::EISDIR, Tlopen { fid: HOME, flags });
        }
        let directory = OpenFlags::RDWR | OpenFlags::DIRECTORY;
        a.refused(Errno::EINVAL, Tlcreate { fid: HOME, name: NAME, flags: directory, mode: 0, gid });
        Serves
    }),
    ("devices, opened", |a| {
        for kind in [0o1, 0o2, 0o6, 0o14] {
            let mode = kind << 12 | 0o600;
            a.done(Tmknod { dfid: HOME, name: b"device", mode, major: 1, minor: 1, gid: 0 });
            let fid = a.walked("device");
            for flags in [OpenFlags::RDONLY, OpenFlags::RDWR, OpenFlags::TRUNC] {
                a.refused(Errno::ENXIO, Tlopen { fid, flags });
            }
            a.refused(Errno::EINVAL, Tsetattr { size: 1, ..set(fid, SetattrMask::SIZE) });
            a.done(Tunlinkat { dirfd: HOME, name: b"device", flags: UnlinkFlags::empty() });
        }
        let mknod = |mode, major, minor| Tmknod { dfid: HOME, name: NAME, mode, major, minor, gid: 0 };
        for (mode, major, minor) in [
            (0o40_700, 0, 0),
            (0o120_700, 0, 0),
            (0o170_700, 0, 0),
            (0o20_600, 0x1000, 0),
            (0o60_600, 0, 0x10_0000),
            (0o20_600, u32::MAX, u32::MAX),
        ] {
            a.refused(Errno::EINVAL, mknod(mode, major, minor));
        }
        Serves
    }),
    ("a fid that reads an attribute, in every other request", |a| {
        a.client().set_xattr(HOME, b"user.x", b"value", ANY).unwrap();
        for name in [&b"user.x"[..], b""] {
            let newfid = Fid(50);
            a.done(Txattrwalk { fid: HOME, newfid, name });
            for request in all_of_a_file(newfid) {
                a.refused_bytes(Errno::EBADF, &request);
            }
            a.refused_bytes(Errno::EBADF, &write(newfid, 0, b"x"));
            let all = a.client().read(newfid, 0, 1000).unwrap();
            assert!(all.ends_with(if name.is_empty() { b"user.x\0" } else { b"value" }), "{all:?}");
            for offset in [all.len() as u64, 1 << 32, TOO_FAR - 1] {
                assert_eq!(a.client().read(newfid, offset, u32::MAX).unwrap(), b"");
            }
            a.refused(Errno::EINVAL, Tread { fid: newfid, offset: TOO_FAR, count: 1 });
            // It is gone then.
            a.refused(Errno::EBADF, Tremove { fid: newfid });
            a.done(Txattrwalk { fid: HOME, newfid, name });
            a.done(Tclunk { fid: newfid });
        }
        Serves
    }),
    ("a fid that sets an attribute, in every other request", |a| {
        let fid = a.walked("");
        a.done(Txattrcreate { fid, name: b"user.y", attr_size: 5, flags: ANY });
        for request in all_of_a_file(fid) {
            a.refused_bytes(Errno::EBADF, &request);
        }
        a.refused(Errno::EBADF, Tread { fid, offset: 0, count: 1 });
        a.refused(Errno::EBADF, Tremove { fid });
        a.refused(Errno::EBADF, Tclunk { fid });
        a.refused(Errno::ENODATA, Txattrwalk { fid: HOME, newfid: UNKNOWN, name: b"user.y" });
        Serves
    }),
    ("attributes that are announced, and come otherwise", |a| {
        let announced = |a: &mut Attacker, name: &[u8], attr_size, flags| {
            let fid = a.walked("");
            a.done(Txattrcreate { fid, name, attr_size, flags });
            fid
        };
        let fid = announced(a, b"user.z", 10, ANY);
        for offset in [1, 10, 11, 1 << 32, TOO_FAR, u64::MAX] {
            a.refused_bytes(Errno::EINVAL, &write(fid, offset, b"x"));
        }
        a.refused_bytes(Errno::ENOSPC, &write(fid, 0, b"more than ten"));
        a.client().write(fid, 0, b"12345").unwrap();
        a.refused_bytes(Errno::EINVAL, &write(fid, 0, b"12345"));
        a.refused_bytes(Errno::ENOSPC, &write(fid, 5, b"123456"));
        // Half of it is none.
        a.refused(Errno::EINVAL, Tclunk { fid });
        a.refused(Errno::ENODATA, Txattrwalk { fid: HOME, newfid: UNKNOWN, name: b"user.z" });
        let fid = announced(a, b"user.z", 1, XattrFlags::REPLACE);
        a.client().write(fid, 0, b"1").unwrap();
        a.refused(Errno::ENODATA, Tclunk { fid });
        a.client().set_xattr(HOME, b"user.z", b"1", ANY).unwrap();
        let fid = announced(a, b"user.z", 1, XattrFlags::CREATE);
        a.client().write(fid, 0, b"2").unwrap();
        a.refused(Errno::EEXIST, Tclunk { fid });
        let fid = announced(a, b"nobody.z", 1, ANY);
        a.client().write(fid, 0, b"2").unwrap();
        a.refused(Errno::EOPNOTSUPP, Tclunk { fid });
        assert_eq!(a.client().xattr(HOME, b"user.z").unwrap(), b"1");
        Serves
    }),
    ("attributes of impossible names, sizes and flags", |a| {
        let fid = a.walked("");
        let create = |name, attr_size, flags| Txattrcreate { fid, name, attr_size, flags };
        let long = vec![b'n'; 256];
        a.refused(Errno::ERANGE, create(b"", 1, ANY));
        a.refused(Errno::ERANGE, create(&long, 1, ANY));
        a.refused(Errno::EINVAL, create(b"user.a\0b", 1, ANY));
        for size in [65_537, 1 << 32, TOO_FAR, u64::MAX] {
            a.refused(Errno::E2BIG, create(b"user.x", size, ANY));
        }
        for bits in [3, 4, u32::MAX] {
            a.refused(Errno::EINVAL, create(b"user.x", 1, XattrFlags::from_bits_retain(bits)));
        }
        a.refused(Errno::ERANGE, Txattrwalk { fid, newfid: UNKNOWN, name: &long });
        a.refused(Errno::EINVAL, Txattrwalk { fid, newfid: UNKNOWN, name: b"user.a\0b" });
        a.refused(Errno::ENODATA, Txattrwalk { fid, newfid: UNKNOWN, name: b"user.nothing" });
        Serves
    }),
    ("attributes of 64 KiB", |a| {
        // A volume of this format has no room for one; what it says comes with the clunk.
        let value = vec![0xa5; 65_536];
        for _ in 0..10 {
            let fid = a.walked("");
            a.done(Txattrcreate { fid, name: b"user.big", attr_size: 65_536, flags: ANY });
            a.client().write_all(fid, 0, &value).unwrap();
            a.refused_bytes(Errno::ENOSPC, &write(fid, 65_536, b"x"));
            a.refused(Errno::ENOSPC, Tclunk { fid });
        }
        a.refused(Errno::ENODATA, Txattrwalk { fid: HOME, newfid: UNKNOWN, name: b"user.big" });
        Serves
    }),
    ("offsets and counts near 2^32, 2^63 and 2^64", |a| {
        let fid = opened(a, "bytes", OpenFlags::RDWR);
        for offset in [1 << 31, (1 << 32) - 1, 1 << 32, TOO_FAR - 2, TOO_FAR - 1] {
            for count in [0, 1, (1 << 31) - 1, 1 << 31, u32::MAX] {
                assert_eq!(a.client().read(fid, offset, count).unwrap(), b"");
            }
        }
        for offset in [TOO_FAR, TOO_FAR + 1, u64::MAX - 1, u64::MAX] {
            for count in [0, 1, u32::MAX] {
                a.refused(Errno::EINVAL, Tread { fid, offset, count });
            }
            a.refused_bytes(Errno::EFBIG, &write(fid, offset, b"x"));
        }
        for offset in [TOO_FAR - 1, TOO_FAR - 2, 1 << 62, 1 << 50] {
            a.refused_bytes(Errno::EFBIG, &write(fid, offset, b"xyz"));
        }
        assert_eq!(a.client().getattr(fid, GetattrMask::BASIC).unwrap().size, 100_000);
        let list = opened(a, "", OpenFlags::RDONLY);
        for offset in [TOO_FAR, u64::MAX, 0x1234_5678_9abc_def0] {
            let request = bytes(Treaddir { fid: list, offset, count: u32::MAX });
            let answer = a.answer(&request);
            assert!(matches!(&answer, Err(22)) || answer.is_ok_and(|reply| reply[4] == 41), "{offset:#x}");
        }
        Serves
    }),
    ("attributes of files that cannot be", |a| {
        let fid = a.walked("bytes");
        for size in [TOO_FAR, u64::MAX, TOO_FAR - 1, 1 << 50] {
            a.refused(Errno::EFBIG, Tsetattr { size, ..set(fid, SetattrMask::SIZE) });
        }
        for size in [0, 1, u64::MAX >> 1] {
            a.refused(Errno::EISDIR, Tsetattr { size, ..set(HOME, SetattrMask::SIZE) });
        }
        a.refused(Errno::EINVAL, Tsetattr { uid: u32::MAX, ..set(fid, SetattrMask::UID) });
        a.refused(Errno::EINVAL, Tsetattr { gid: u32::MAX, ..set(fid, SetattrMask::GID) });
        for nsec in [1_000_000_000, 1 << 32, u64::MAX] {
            let time = Time { sec: 0, nsec };
            let atime = set(fid, SetattrMask::ATIME | SetattrMask::ATIME_SET);
            a.refused(Errno::EINVAL, Tsetattr { atime: time, ..atime });
            let mtime = set(fid, SetattrMask::MTIME | SetattrMask::MTIME_SET);
            a.refused(Errno::EINVAL, Tsetattr { mtime: time, ..mtime });
        }
        // Bits without a meaning are not looked at, and all of it or nothing happens.
        a.done(set(fid, SetattrMask::from_bits_retain(0xffff_fe00)));
        a.refused(Errno::EINVAL, Tsetattr { size: 0, uid: u32::MAX, ..set(fid, SetattrMask::all()) });
        assert_eq!(a.client().getattr(fid, GetattrMask::BASIC).unwrap().size, 100_000);
        Serves
    }),
    ("locks of impossible bytes, kinds, flags and owners", |a| {
        let fid = opened(a, "bytes", OpenFlags::RDWR);
        for start in [TOO_FAR, u64::MAX] {
            a.refused(Errno::EINVAL, lock(fid, start, 0));
            a.refused(Errno::EINVAL, getlock(fid, start, 1));
        }
        for (start, length) in
            [(TOO_FAR - 1, 2), (1, u64::MAX), (2, u64::MAX), (1, TOO_FAR), (0, TOO_FAR + 1)]
        {
            a.refused(Errno::EOVERFLOW, lock(fid, start, length));
            a.refused(Errno::EOVERFLOW, getlock(fid, start, length));
        }
        let client_id = [b'c'; 65];
        a.refused(Errno::EINVAL, Tlock { client_id: &client_id, ..lock(fid, 0, 1) });
        a.refused(Errno::EINVAL, Tgetlock { client_id: &client_id, ..getlock(fid, 0, 1) });
        for bits in [4, 8, u32::MAX] {
            a.refused(Errno::EINVAL, Tlock { flags: LockFlags::from_bits_retain(bits), ..lock(fid, 0, 1) });
        }
        for kind in [3, 4, 255] {
            a.refused(Errno::EINVAL, Tlock { kind: LockType::from(kind), ..lock(fid, 0, 1) });
            a.refused(Errno::EINVAL, Tgetlock { kind: LockType::from(kind), ..getlock(fid, 0, 1) });
        }
        Serves
    }),
];

/// Every request of a file, but for Tread, Twrite, Tclunk and Tremove, with `fid` where the file is.
fn all_of_a_file(fid: Fid) -> Vec<Vec<u8>> {
    let (name, gid, newfid) = (NAME, 0, Fid(60));
    vec![
        bytes(Tstatfs { fid }),
        bytes(Tlopen { fid, flags: OpenFlags::RDONLY }),
        bytes(Tlcreate { fid, name, flags: OpenFlags::RDWR, mode: 0o600, gid }),
        bytes(Tsymlink { fid, name, symtgt: b"x", gid }),
        bytes(Tmknod { dfid: fid, name, mode: 0o10_600, major: 0, minor: 0, gid }),
        bytes(Trename { fid, dfid: HOME, name }),
        bytes(Treadlink { fid }),
        bytes(Tgetattr { fid, request_mask: GetattrMask::all() }),
        bytes(set(fid, SetattrMask::MODE)),
        bytes(Txattrwalk { fid, newfid, name: b"" }),
        bytes(Txattrcreate { fid, name, attr_size: 1, flags: ANY }),
        bytes(Treaddir { fid, offset: 0, count: 100 }),
        bytes(Tfsync { fid, datasync: 0 }),
        bytes(lock(fid, 0, 1)),
        bytes(getlock(fid, 0, 1)),
        bytes(Tlink { dfid: HOME, fid, name }),
        bytes(Tlink { dfid: fid, fid: HOME, name }),
        bytes(Tmkdir { dfid: fid, name, mode: 0o700, gid }),
        bytes(Trenameat { olddirfid: fid, oldname: name, newdirfid: HOME, newname: name }),
        bytes(Tunlinkat { dirfd: fid, name, flags: UnlinkFlags::empty() }),
        bytes(walk(fid, newfid, &[])),
        bytes(walk(fid, fid, &[])),
    ]
}

/// Requests of two fids, with `fid` as the second one.
fn second_places(fid: Fid) -> Vec<Vec<u8>> {
    let name = NAME;
    let mut requests = vec![
        bytes(Trename { fid: HOME, dfid: fid, name }),
        bytes(Trenameat { olddirfid: HOME, oldname: name, newdirfid: fid, newname: name }),
    ];
    if fid != Fid::NOFID {
        requests.push(bytes(Tattach { afid: fid, ..attach(Fid(61)) }));
    }
    requests
}

fn attach(fid: Fid) -> Tattach<'static> {
    Tattach { fid, afid: Fid::NOFID, uname: b"", aname: b"", n_uname: 0 }
}

fn walk<'a>(fid: Fid, newfid: Fid, names: &'a [&'a [u8]]) -> Twalk<'a> {
    Twalk { fid, newfid, wnames: Names::new(names).unwrap() }
}

fn write(fid: Fid, offset: u64, data: &[u8]) -> Vec<u8> {
    let count = u32::try_from(data.len()).unwrap();
    [&bytes(Twrite { fid, offset, count }), data].concat()
}

fn set(fid: Fid, valid: SetattrMask) -> Tsetattr {
    let (atime, mtime) = (Time { sec: 0, nsec: 0 }, Time { sec: 0, nsec: 0 });
    Tsetattr { fid, valid, mode: 0o600, uid: 0, gid: 0, size: 0, atime, mtime }
}

fn lock(fid: Fid, start: u64, length: u64) -> Tlock<'static> {
    let (kind, flags) = (LockType::Write, LockFlags::empty());
    Tlock { fid, kind, flags, start, length, proc_id: 1, client_id: b"attacker" }
}

fn getlock(fid: Fid, start: u64, length: u64) -> Tgetlock<'static> {
    Tgetlock { fid, kind: LockType::Write, start, length, proc_id: 1, client_id: b"attacker" }
}

/// A fid at a name in the attacker's directory, open as `flags` say.
#[track_caller]
fn opened(a: &mut Attacker, name: &str, flags: OpenFlags) -> Fid {
    let fid = a.walked(name);
    a.client().open(fid, flags).expect("the file");
    fid
}
