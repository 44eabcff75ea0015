// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names that no directory may hold, paths that lead out of what was attached, directories moved and removed under a fid.

use skerry::fs::Errno;
use skerry::wire::{
    Fid, GetattrMask, Names, OpenFlags, QidKind, Tattach, Tclunk, Tgetattr, Tlcreate, Tlink, Tlopen,
    Tmessage, Tmkdir, Tmknod, Treaddir, Treadlink, Tremove, Trename, Trenameat, Tsymlink, Tunlinkat, Twalk,
    UnlinkFlags,
};

use crate::attacker::{Attacker, Case, Expected, HOME, bytes};
use Expected::Serves;

/// Directories below each other: more than there may be between one and what was attached.
pub const DEEP: usize = 4200;
/// How deep below what is attached `..` is taken, nearly.
const WAY_BACK: usize = 500;
/// Of these, as many as one batch of requests makes.
const BATCH: usize = 30;

const REMOVEDIR: UnlinkFlags = UnlinkFlags::REMOVEDIR;
const NO_FLAGS: UnlinkFlags = UnlinkFlags::empty();

pub const CASES: &[Case] = &[
    ("names with a slash or a NUL, no name, and the names of two directories", |a| {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"../x", b"a\0b", b"\0"] {
            for request in naming(a, name) {
                a.refused_bytes(Errno::EINVAL, &request);
            }
            if name != b".." {
                a.refused(Errno::EINVAL, walk(HOME, Fid(1), &[name]));
            }
        }
        Serves
    }),
    ("names of 256 bytes, and of thousands", |a| {
        for length in [256, 257, 4096, 8000] {
            let name = vec![b'n'; length];
            for request in naming(a, &name) {
                a.refused_bytes(Errno::ENAMETOOLONG, &request);
            }
            a.refused(Errno::ENAMETOOLONG, walk(HOME, Fid(1), &[&name]));
        }
        Serves
    }),
    ("names of 255 bytes and of bytes that are no text", |a| {
        let long = vec![b'n'; 255];
        let names: [&[u8]; 9] =
            [&long, b"\xff\xfe", b"\x80", b"\xed\xa0\x80", b"...", b" ", b"a\nb", b"-rf", b"C:\\x"];
        for name in names {
            a.refused(Errno::ENOENT, walk(HOME, Fid(1), &[name]));
            a.done(Tmkdir { dfid: HOME, name, mode: 0o700, gid: 0 });
            a.refused(Errno::EEXIST, Tmkdir { dfid: HOME, name, mode: 0o700, gid: 0 });
            a.done(walk(HOME, Fid(1), &[name]));
            a.done(Tclunk { fid: Fid(1) });
            let list = a.walked("");
            a.client().open(list, OpenFlags::RDONLY).unwrap();
            assert!(a.client().list(list).unwrap().iter().any(|entry| entry.name == name));
            a.done(Tunlinkat { dirfd: HOME, name, flags: REMOVEDIR });
        }
        Serves
    }),
    ("a walk of 16 names of 255 bytes", |a| {
        let name = [b'n'; 255];
        a.refused(Errno::ENOENT, walk(HOME, Fid(1), &[&name[..]; 16]));
        Serves
    }),
    ("targets of symbolic links that cannot be", |a| {
        let (name, gid) = (&b"link"[..], 0);
        let link = |symtgt| Tsymlink { fid: HOME, name, symtgt, gid };
        a.refused(Errno::ENOENT, link(b""));
        a.refused(Errno::EINVAL, link(b"a\0b"));
        a.refused(Errno::ENAMETOOLONG, link(&[b't'; 4096]));
        a.refused(Errno::ENOENT, walk(HOME, Fid(1), &[name]));
        Serves
    }),
    ("walks through symbolic links", |a| {
        for target in [&b"/"[..], b"..", b"../..", b"/etc/passwd", b"link", b"bytes"] {
            a.done(Tsymlink { fid: HOME, name: b"link", symtgt: target, gid: 0 });
            // It is reached, and nothing behind it.
            assert_eq!(walked(a, HOME, Fid(1), &[b"link", b"hello"]), 1);
            assert_eq!(walked(a, HOME, Fid(1), &[b"link", b".."]), 1);
            a.done(walk(HOME, Fid(1), &[b"link"]));
            a.refused(Errno::ENOTDIR, walk(Fid(1), Fid(2), &[b".."]));
            a.refused(Errno::ENOTDIR, walk(Fid(1), Fid(2), &[b"hello"]));
            a.refused(Errno::ELOOP, Tlopen { fid: Fid(1), flags: OpenFlags::RDONLY });
            a.refused(Errno::ENOTDIR, Tmkdir { dfid: Fid(1), name: b"x", mode: 0o700, gid: 0 });
            assert_eq!(a.done(Treadlink { fid: Fid(1) })[9..], *target);
            a.done(walk(HOME, Fid(2), &[]));
            let create = Tlcreate { fid: Fid(2), name: b"link", flags: OpenFlags::RDWR, mode: 0o600, gid: 0 };
            a.refused(Errno::ELOOP, create);
            a.refused(Errno::ENOTDIR, attach(Fid(3), b"/hostile/link"));
            a.refused(Errno::ENOTDIR, attach(Fid(3), b"/hostile/link/hello"));
            a.done(Tunlinkat { dirfd: HOME, name: b"link", flags: NO_FLAGS });
            a.session();
        }
        Serves
    }),
    ("steps up from what was attached", |a| {
        let reply = a.done(walk(HOME, Fid(1), &[&b".."[..]; 16]));
        let home = a.done(walk(HOME, Fid(2), &[b".."]));
        for qid in reply[9..].chunks(13) {
            assert_eq!(*qid, home[9..]);
        }
        assert_eq!(walked(a, HOME, Fid(3), &[b"..", b"hello"]), 1);
        assert_eq!(walked(a, HOME, Fid(3), &[b"bytes", b".."]), 1);
        Serves
    }),
    ("steps up from a directory that was moved out of what was attached", |a| {
        a.done(Tmkdir { dfid: HOME, name: b"moved", mode: 0o700, gid: 0 });
        a.done(walk(HOME, Fid(1), &[b"moved"]));
        a.done(attach(Fid(2), b"/"));
        let (oldname, newname) = (&b"moved"[..], &b"away"[..]);
        a.done(Trenameat { olddirfid: HOME, oldname, newdirfid: Fid(2), newname });
        a.refused(Errno::ESTALE, walk(Fid(1), Fid(3), &[b".."]));
        a.refused(Errno::ESTALE, walk(Fid(1), Fid(3), &[b"..", b"hello"]));
        a.refused(Errno::ESTALE, Trename { fid: Fid(1), dfid: HOME, name: b"back" });
        a.done(Tunlinkat { dirfd: Fid(2), name: b"away", flags: REMOVEDIR });
        Serves
    }),
    ("directories moved into themselves, or onto what is above them", |a| {
        let mkdir = |a: &mut Attacker, dfid, name: &'static [u8]| {
            a.done(Tmkdir { dfid, name, mode: 0o700, gid: 0 });
        };
        mkdir(a, HOME, b"one");
        a.done(walk(HOME, Fid(1), &[b"one"]));
        mkdir(a, Fid(1), b"two");
        a.done(walk(HOME, Fid(2), &[b"one", b"two"]));
        let (olddirfid, oldname) = (HOME, &b"one"[..]);
        for newdirfid in [Fid(1), Fid(2)] {
            a.refused(Errno::EINVAL, Trenameat { olddirfid, oldname, newdirfid, newname: b"x" });
            a.refused(Errno::EINVAL, Trename { fid: Fid(1), dfid: newdirfid, name: b"x" });
        }
        let newname = &b"one"[..];
        a.refused(
            Errno::ENOTEMPTY,
            Trenameat { olddirfid: Fid(1), oldname: b"two", newdirfid: HOME, newname },
        );
        // Its own name is where it is.
        a.done(Trenameat { olddirfid, oldname, newdirfid: HOME, newname });
        a.refused(Errno::EPERM, Tlink { dfid: Fid(2), fid: Fid(1), name: b"x" });
        a.refused(Errno::ENOTEMPTY, Tunlinkat { dirfd: HOME, name: b"one", flags: REMOVEDIR });
        a.refused(Errno::EISDIR, Tunlinkat { dirfd: HOME, name: b"one", flags: NO_FLAGS });
        a.refused(Errno::ENOTDIR, Tunlinkat { dirfd: HOME, name: b"bytes", flags: REMOVEDIR });
        for bits in [1, 0x100, 0x400, 0x201, u32::MAX] {
            let flags = UnlinkFlags::from_bits_retain(bits);
            a.refused(Errno::EINVAL, Tunlinkat { dirfd: HOME, name: b"bytes", flags });
        }
        a.refused(Errno::EISDIR, Trenameat { olddirfid, oldname: b"bytes", newdirfid: HOME, newname });
        a.refused(Errno::ENOTDIR, Trenameat { olddirfid, oldname, newdirfid: HOME, newname: b"bytes" });
        a.done(Tunlinkat { dirfd: Fid(1), name: b"two", flags: REMOVEDIR });
        a.done(Tremove { fid: Fid(1) });
        Serves
    }),
    ("the directory that was attached, moved and removed by its fid", |a| {
        a.refused(Errno::EBUSY, Trename { fid: HOME, dfid: HOME, name: b"x" });
        a.refused(Errno::EBUSY, Tremove { fid: HOME });
        a.refused(Errno::EBADF, Tclunk { fid: HOME });
        Serves
    }),
    ("a directory that was removed, and is open", |a| {
        let mkdir = Tmkdir { dfid: HOME, name: b"gone", mode: 0o700, gid: 0 };
        a.done(mkdir);
        for fid in 1..=4 {
            a.done(walk(HOME, Fid(fid), &[b"gone"]));
        }
        a.done(Tlopen { fid: Fid(1), flags: OpenFlags::RDONLY });
        a.done(Tunlinkat { dirfd: HOME, name: b"gone", flags: REMOVEDIR });
        a.refused(Errno::ENOENT, walk(Fid(1), Fid(9), &[b".."]));
        a.refused(Errno::ENOENT, walk(Fid(2), Fid(9), &[b"x"]));
        a.refused(Errno::ENOENT, Tmkdir { dfid: Fid(1), name: b"x", mode: 0o700, gid: 0 });
        let create = Tlcreate { fid: Fid(2), name: b"x", flags: OpenFlags::RDWR, mode: 0o600, gid: 0 };
        a.refused(Errno::ENOENT, create);
        a.refused(Errno::ENOENT, Treaddir { fid: Fid(1), offset: 0, count: 4096 });
        a.refused(
            Errno::ENOENT,
            Trenameat { olddirfid: HOME, oldname: b"bytes", newdirfid: Fid(1), newname: b"x" },
        );
        a.done(Tclunk { fid: Fid(1) });
        // Nobody keeps it now.
        a.refused(Errno::ESTALE, Tgetattr { fid: Fid(3), request_mask: GetattrMask::BASIC });
        a.refused(Errno::ESTALE, Tlopen { fid: Fid(4), flags: OpenFlags::RDONLY });
        a.refused(Errno::ESTALE, Tmkdir { dfid: Fid(4), name: b"x", mode: 0o700, gid: 0 });
        Serves
    }),
    ("thousands of directories below each other", |a| {
        dig(a);
        // As deep as the way back is known, and deeper.
        let (near, far) = (Fid(1), Fid(2));
        descend(a, HOME, near, WAY_BACK);
        assert_eq!(walked(a, near, Fid(3), &[&b".."[..]; 16]), 16);
        descend(a, near, far, DEEP - WAY_BACK);
        a.refused(Errno::ESTALE, walk(far, Fid(6), &[b".."]));
        let path = [&b"/hostile"[..], &b"/d".repeat(4000)].concat();
        a.done(attach(Fid(4), &path));
        let reply = a.done(walk(Fid(4), Fid(5), &[b".."]));
        assert_eq!(reply[9], QidKind::DIR.bits());
        fill_up(a);
        Serves
    }),
];

/// One request of each kind that names something, other than a Twalk; the name is `name`, and no directory can hold it.
fn naming(a: &mut Attacker, name: &[u8]) -> Vec<Vec<u8>> {
    let (file, directory, gid) = (Fid(10), Fid(11), 0);
    // They are there from the call before, maybe.
    for (fid, names) in [(file, &[&b"bytes"[..]][..]), (directory, &[])] {
        let _ = a.answer(&bytes(walk(HOME, fid, names)));
    }
    let (flags, bytes_name) = (OpenFlags::RDWR, &b"bytes"[..]);
    let requests: [Tmessage<'_>; 9] = [
        Tlcreate { fid: directory, name, flags, mode: 0o600, gid }.into(),
        Tsymlink { fid: HOME, name, symtgt: b"x", gid }.into(),
        Tmknod { dfid: HOME, name, mode: 0o10_600, major: 0, minor: 0, gid }.into(),
        Tmkdir { dfid: HOME, name, mode: 0o700, gid }.into(),
        Tlink { dfid: HOME, fid: file, name }.into(),
        Trename { fid: file, dfid: HOME, name }.into(),
        Trenameat { olddirfid: HOME, oldname: name, newdirfid: HOME, newname: bytes_name }.into(),
        Trenameat { olddirfid: HOME, oldname: bytes_name, newdirfid: HOME, newname: name }.into(),
        Tunlinkat { dirfd: HOME, name, flags: NO_FLAGS }.into(),
    ];
    requests.into_iter().map(bytes).collect()
}

fn attach(fid: Fid, aname: &[u8]) -> Tattach<'_> {
    Tattach { fid, afid: Fid::NOFID, uname: b"", aname, n_uname: 0 }
}

fn walk<'a>(fid: Fid, newfid: Fid, names: &'a [&'a [u8]]) -> Twalk<'a> {
    Twalk { fid, newfid, wnames: Names::new(names).unwrap() }
}

/// How many names of a Twalk were found.
#[track_caller]
fn walked(a: &mut Attacker, fid: Fid, newfid: Fid, names: &[&[u8]]) -> usize {
    let reply = a.done(walk(fid, newfid, names));
    usize::from(u16::from_le_bytes([reply[7], reply[8]]))
}

/// Walks `depth` directories down.
#[track_caller]
pub fn descend(a: &mut Attacker, fid: Fid, newfid: Fid, depth: usize) {
    a.done(walk(fid, newfid, &[]));
    let (all, rest) = (depth / 16, depth % 16);
    for count in std::iter::repeat_n(16, all).chain([rest]) {
        let reply = a.done(walk(newfid, newfid, &vec![&b"d"[..]; count]));
        assert_eq!(usize::from(reply[7]), count);
    }
}

/// Makes [`DEEP`] directories below each other.
pub fn dig(a: &mut Attacker) {
    let fid = Fid(100);
    a.done(walk(HOME, fid, &[]));
    let make = bytes(Tmkdir { dfid: fid, name: b"d", mode: 0o700, gid: 0 });
    let go = bytes(walk(fid, fid, &[b"d"]));
    each_is_done(a, &vec![[make, go]; BATCH].concat(), DEEP / BATCH);
    a.done(Tclunk { fid });
}

/// Removes them again.
pub fn fill_up(a: &mut Attacker) {
    // From the root of the volume the way up has no end.
    let (root, fid) = (Fid(100), Fid(101));
    a.done(attach(root, b""));
    a.done(walk(root, fid, &[b"hostile"]));
    descend(a, fid, Fid(102), DEEP);
    let go = bytes(walk(Fid(102), Fid(102), &[b".."]));
    let remove = bytes(Tunlinkat { dirfd: Fid(102), name: b"d", flags: REMOVEDIR });
    each_is_done(a, &vec![[go, remove]; BATCH].concat(), DEEP / BATCH);
}

#[track_caller]
fn each_is_done(a: &mut Attacker, requests: &[Vec<u8>], times: usize) {
    for _ in 0..times {
        for reply in a.driver().exchange_all(requests) {
            assert_ne!(reply[4], 7, "{reply:?}");
        }
    }
}
