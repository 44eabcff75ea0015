// SPDX-License-Identifier: MIT OR Apache-2.0

//! Messages that are not what they say: sizes, fields that end early, types that are none.

use skerry::fs::Errno;
use skerry::wire::{
    Fid, GetattrMask, LockFlags, LockType, Names, OpenFlags, SetattrMask, Tag, Tattach, Tauth, Tclunk,
    Tflush, Tfsync, Tgetattr, Tgetlock, Time, Tlcreate, Tlink, Tlock, Tlopen, Tmkdir, Tmknod, Tread,
    Treaddir, Treadlink, Tremove, Trename, Trenameat, Tsetattr, Tstatfs, Tsymlink, Tunlinkat, Tversion,
    Twalk, Twrite, Txattrcreate, Txattrwalk, UnlinkFlags, VERSION, XattrFlags,
};

use crate::attacker::{Attacker, Case, Expected, HOME, bytes, version};
use Expected::{Serves, Stops};

/// A string that no other part of a message looks like.
const TEXT: &[u8] = b"name-of-something";

pub const CASES: &[Case] = &[
    ("a size that is short by one, of every kind of request", |a| {
        for request in every_kind() {
            a.refused_bytes(Errno::EPROTO, &with_size(request.len() - 1, &request));
        }
        Serves
    }),
    ("a size that is long by one, with a byte more, of every kind of request", |a| {
        for mut request in every_kind() {
            request.push(0);
            a.refused_bytes(Errno::EPROTO, &with_size(request.len(), &request));
        }
        Serves
    }),
    ("a size that is long by one, of every kind of request", |a| {
        for request in every_kind() {
            a.begin();
            let (size, readable) = (request.len() + 1, request.len());
            ask(a, &with_size(size, &request));
            a.stops(&format!("the request's size is {size}, its buffers hold {readable} bytes"));
        }
        a.begin();
        Serves
    }),
    ("a request that is cut off at every byte, of every kind", |a| {
        for request in every_kind() {
            for length in 7..request.len() {
                a.refused_bytes(Errno::EPROTO, &with_size(length, &request[..length]));
            }
        }
        Serves
    }),
    ("a request of 0 to 6 bytes", |a| {
        for length in 0..7 {
            a.begin();
            ask(a, &version()[..length]);
            a.stops(&format!("the request has {length} bytes, a header has 7"));
        }
        a.begin();
        Serves
    }),
    ("a size of 0 to 6", |a| {
        for size in 0..7 {
            a.begin();
            ask(a, &with_size(size, &version()));
            a.stops(&format!("the request's size is {size}, its header alone has 7"));
        }
        a.begin();
        Serves
    }),
    ("a size of 4 GiB less a byte", |a| {
        ask(a, &with_size(u32::MAX as usize, &version()));
        Stops("the request's size is 4294967295, the session's msize 1048576")
    }),
    ("a size of one more than msize", |a| {
        a.client().version(VERSION, 4096).unwrap();
        let data = [bytes(Twrite { fid: Fid(0), offset: 0, count: 4097 - 23 }), vec![0; 4097 - 23]].concat();
        ask(a, &data);
        Stops("the request's size is 4097, the session's msize 4096")
    }),
    ("a size of one more than there may be before a version", |a| {
        a.done(Tversion { msize: 1 << 20, version: b"9P2000" });
        ask(a, &with_size(8193, &[0; 9000]));
        Stops("the request's size is 8193, the session's msize 8192")
    }),
    ("bytes behind a request, of every kind", |a| {
        // They are no part of it.
        for request in every_kind() {
            let alone = a.answer(&request).map(|reply| reply[4]);
            clean_up(a);
            let followed = [&request[..], &[0xff; 5000]].concat();
            assert_eq!(a.answer(&followed).map(|reply| reply[4]), alone, "{request:?}");
            clean_up(a);
        }
        Serves
    }),
    ("strings that overrun their message, of every kind of request", |a| {
        let mut strings = 0;
        for request in every_kind() {
            let found = request.windows(TEXT.len()).enumerate().filter(|(_, bytes)| *bytes == TEXT);
            let places: Vec<usize> = found.map(|(place, _)| place - 2).collect();
            for place in places {
                for length in [TEXT.len() as u16 + 1, 0x7fff, 0xffff] {
                    let mut request = request.clone();
                    request[place..place + 2].copy_from_slice(&length.to_le_bytes());
                    a.refused_bytes(Errno::EPROTO, &request);
                }
                strings += 1;
            }
        }
        assert_eq!(strings, 21, "strings in all kinds of requests");
        Serves
    }),
    ("a walk of more than 16 names", |a| {
        for count in [17_u16, 18, 255, 256, 1000] {
            let names = [&count.to_le_bytes()[..], &b"\x01\0x".repeat(count.into())].concat();
            a.refused_bytes(Errno::EPROTO, &walk_of(HOME, &names));
        }
        Serves
    }),
    ("a walk that counts more names than it has", |a| {
        for count in [2_u16, 16, 17, 0x7fff, 0xffff] {
            let names = [&count.to_le_bytes()[..], b"\x01\0x"].concat();
            a.refused_bytes(Errno::EPROTO, &walk_of(HOME, &names));
        }
        a.refused_bytes(Errno::ENOENT, &walk_of(HOME, b"\x01\0\x01\0x"));
        Serves
    }),
    ("a walk of 16 names of 65535 bytes", |a| {
        // It is longer than what stands before data may be, whatever msize is.
        let name = [&0xffff_u16.to_le_bytes()[..], &[b'n'; 0xffff]].concat();
        let names = [&15_u16.to_le_bytes()[..], &name.repeat(15)].concat();
        a.refused_bytes(Errno::EMSGSIZE, &walk_of(HOME, &names));
        Serves
    }),
    ("a Twrite that counts another number of bytes than it has", |a| {
        for count in [0, 1, 99, 101, 4096, 1 << 20, 0x7fff_ffff, u32::MAX] {
            let message = [bytes(Twrite { fid: HOME, offset: 0, count: 100 }), vec![7; 100]].concat();
            let lie = [&message[..19], &u32::to_le_bytes(count), &message[23..]].concat();
            a.refused_bytes(Errno::EPROTO, &lie);
        }
        Serves
    }),
    ("requests of more than 8192 bytes that bring no data", |a| {
        for size in [8193, 20_000, 512_000, 1 << 20] {
            for request in every_kind().into_iter().filter(|request| request[4] != 118) {
                let mut request = with_size(size, &request);
                request.resize(size, 0);
                a.refused_bytes(Errno::EMSGSIZE, &request);
            }
        }
        Serves
    }),
    ("types that are no request", |a| {
        let requests: Vec<u8> = every_kind().iter().map(|request| request[4]).collect();
        for kind in (0..=255).filter(|kind| !requests.contains(kind)) {
            for body in [&[][..], &[0; 4], &[0xff; 100]] {
                let request = with_size(7 + body.len(), &[&[0, 0, 0, 0, kind, 1, 0], body].concat());
                a.refused_bytes(Errno::EOPNOTSUPP, &request);
            }
        }
        Serves
    }),
    ("any byte of any request is any other", |a| {
        // Each is answered, whole, to its tag; with what, is for other cases.
        for request in every_kind() {
            for place in 7..request.len() {
                for byte in [0, 1, 0x7f, 0x80, 0xff, request[place] ^ 1] {
                    let mut request = request.clone();
                    request[place] = byte;
                    let _ = a.answer(&request);
                }
            }
            clean_up(a);
        }
        Serves
    }),
    ("requests before a version, of every kind", |a| {
        for request in every_kind().into_iter().filter(|request| request[4] != 100) {
            a.done(Tversion { msize: 1 << 20, version: b"9P2000" });
            a.refused_bytes(Errno::EPROTO, &request);
        }
        Serves
    }),
];

/// One sound request of each kind, each for fids of which only the attacker's directory is in use; none of them does harm.
pub fn every_kind() -> Vec<Vec<u8>> {
    let (home, fid) = (HOME, Fid(1 << 24));
    let (name, gid) = (TEXT, 0);
    let time = Time { sec: 0, nsec: 0 };
    let (atime, mtime) = (time, time);
    let (start, length, proc_id, client_id) = (0, 1, 1, TEXT);
    vec![
        bytes(Tstatfs { fid: home }),
        bytes(Tlopen { fid: home, flags: OpenFlags::RDONLY }),
        bytes(Tlcreate { fid: home, name, flags: OpenFlags::RDWR, mode: 0o600, gid }),
        bytes(Tsymlink { fid: home, name, symtgt: TEXT, gid }),
        bytes(Tmknod { dfid: home, name, mode: 0o10_600, major: 0, minor: 0, gid }),
        bytes(Trename { fid, dfid: home, name }),
        bytes(Treadlink { fid: home }),
        bytes(Tgetattr { fid: home, request_mask: GetattrMask::all() }),
        bytes(Tsetattr { fid, valid: SetattrMask::MODE, mode: 0, uid: 0, gid, size: 0, atime, mtime }),
        bytes(Txattrwalk { fid: home, newfid: fid, name }),
        bytes(Txattrcreate { fid, name, attr_size: 1, flags: XattrFlags::empty() }),
        bytes(Treaddir { fid: home, offset: 0, count: 100 }),
        bytes(Tfsync { fid: home, datasync: 0 }),
        bytes(Tlock {
            fid: home,
            kind: LockType::Write,
            flags: LockFlags::empty(),
            start,
            length,
            proc_id,
            client_id,
        }),
        bytes(Tgetlock { fid: home, kind: LockType::Write, start, length, proc_id, client_id }),
        bytes(Tlink { dfid: home, fid, name }),
        bytes(Tmkdir { dfid: home, name, mode: 0o700, gid }),
        bytes(Trenameat { olddirfid: home, oldname: TEXT, newdirfid: home, newname: TEXT }),
        bytes(Tunlinkat { dirfd: home, name, flags: UnlinkFlags::empty() }),
        bytes(Tversion { msize: 1 << 20, version: TEXT }),
        bytes(Tauth { afid: fid, uname: TEXT, aname: TEXT, n_uname: 0 }),
        bytes(Tattach { fid, afid: Fid::NOFID, uname: TEXT, aname: TEXT, n_uname: 0 }),
        bytes(Tflush { oldtag: Tag(1) }),
        bytes(Twalk { fid: home, newfid: fid, wnames: Names::new(&[TEXT, TEXT]).unwrap() }),
        bytes(Tread { fid: home, offset: 0, count: 100 }),
        [bytes(Twrite { fid: home, offset: 0, count: 10 }), vec![0; 10]].concat(),
        bytes(Tclunk { fid }),
        bytes(Tremove { fid }),
    ]
}

/// A request with another size.
fn with_size(size: usize, request: &[u8]) -> Vec<u8> {
    [&u32::try_from(size).unwrap().to_le_bytes(), &request[4..]].concat()
}

/// A Twalk from `fid` with any bytes for names.
fn walk_of(fid: Fid, names: &[u8]) -> Vec<u8> {
    let head = bytes(Twalk { fid, newfid: Fid(1 << 24), wnames: Names::new(&[]).unwrap() });
    let request = [&head[..15], names].concat();
    with_size(request.len(), &request)
}

/// Makes any bytes a request, with room for any reply.
fn ask(a: &mut Attacker, request: &[u8]) {
    a.driver().ask(request, 1 << 20);
}

/// A new session, in which there is nothing of what the requests of this file have made.
fn clean_up(a: &mut Attacker) {
    a.session();
    let list = a.walked("");
    a.client().open(list, OpenFlags::RDONLY).unwrap();
    for entry in a.client().list(list).unwrap() {
        if ![&b"."[..], b"..", b"bytes"].contains(&&entry.name[..]) {
            let flags = if entry.kind == 4 { UnlinkFlags::REMOVEDIR } else { UnlinkFlags::empty() };
            a.client().unlinkat(HOME, &entry.name, flags).unwrap();
        }
    }
    a.session();
}
