// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sessions, tags and versions used in every wrong way; requests that are taken back.

use skerry::fs::Errno;
use skerry::wire::{
    Fid, GetattrMask, LockFlags, LockType, Names, OpenFlags, Tag, Tattach, Tclunk, Tflush, Tgetattr, Tlock,
    Tlopen, Tread, Tversion, Twalk, VERSION,
};

use crate::attacker::{Attacker, Case, Expected, HOME, bytes};
use crate::framing::every_kind;
use crate::support::pattern;
use Expected::Serves;

/// Sessions one after the other.
const THOUSANDS: u32 = 3000;

pub const CASES: &[Case] = &[
    ("an msize of 0, of 23 and of 4095", |a| {
        for msize in [0, 1, 23, 24, 4095] {
            a.refused(Errno::EMSGSIZE, Tversion { msize, version: VERSION });
            // The session that was has ended all the same.
            a.refused(Errno::EPROTO, Tclunk { fid: HOME });
        }
        Serves
    }),
    ("an msize of 4096, and of 4 GiB less a byte", |a| {
        for (msize, agreed) in
            [(4096, 4096), (1 << 20, 1 << 20), ((1 << 20) + 1, 1 << 20), (u32::MAX, 1 << 20)]
        {
            let reply = a.done(Tversion { msize, version: VERSION });
            assert_eq!(reply[7..11], u32::to_le_bytes(agreed));
        }
        Serves
    }),
    ("versions that are none", |a| {
        let long = vec![b'9'; 8000];
        let versions: [&[u8]; 8] =
            [b"", b"9P2000", b"9P2000.u", b"9P2000.L\0", b"9P2000.Lx", b"9p2000.l", &[0xff; 8], &long];
        for version in versions {
            let reply = a.done(Tversion { msize: 8192, version });
            assert_eq!(reply[11..], *b"\x07\0unknown");
            a.refused(Errno::EPROTO, Tclunk { fid: HOME });
        }
        Serves
    }),
    ("NOTAG for any request but Tversion", |a| {
        for request in every_kind().into_iter().filter(|request| request[4] != 100) {
            a.refused_bytes(Errno::EPROTO, &tagged(Tag::NOTAG, &request));
        }
        Serves
    }),
    ("a tag for Tversion", |a| {
        for tag in [0, 1, 0xfffe] {
            let version = bytes(Tversion { msize: 8192, version: VERSION });
            a.refused_bytes(Errno::EPROTO, &tagged(Tag(tag), &version));
        }
        // The session is as it was.
        a.done(Tgetattr { fid: HOME, request_mask: GetattrMask::BASIC });
        Serves
    }),
    ("one tag for all requests in flight", |a| {
        let fid = open_bytes(a);
        let reads: Vec<_> = (0..60).map(|offset| bytes(Tread { fid, offset, count: 100 })).collect();
        for (offset, reply) in a.driver().exchange_all(&reads).into_iter().enumerate() {
            assert!(reply[11..] == pattern(200)[offset..offset + 100]);
        }
        Serves
    }),
    ("a Tversion between requests in flight", |a| {
        let fid = open_bytes(a);
        let read = bytes(Tread { fid, offset: 0, count: 100 });
        let version = bytes(Tversion { msize: 8192, version: VERSION });
        let requests: Vec<_> =
            (0..41).map(|number| if number == 20 { version.clone() } else { read.clone() }).collect();
        let replies = a.driver().exchange_all(&requests);
        assert!(replies[..20].iter().all(|reply| reply[11..] == pattern(100)));
        assert_eq!(replies[20][4], 101, "an Rversion");
        assert!(
            replies[21..].iter().all(|reply| is_error(reply, Errno::EBADF)),
            "a fid of the session before"
        );
        Serves
    }),
    ("nothing but Tversions in flight", |a| {
        let versions = vec![bytes(Tversion { msize: 8192, version: VERSION }); 64];
        for _ in 0..20 {
            assert!(a.driver().exchange_all(&versions).iter().all(|reply| reply[4] == 101));
        }
        Serves
    }),
    ("a Tflush of itself, of nothing, of what is flushed, and of all at once", |a| {
        let fid = open_bytes(a);
        for oldtag in [Tag(0x1234), Tag(0), Tag(77), Tag(0xfffe), Tag::NOTAG] {
            a.done(Tflush { oldtag });
            a.done(Tflush { oldtag });
        }
        let read = tagged(Tag(7), &bytes(Tread { fid, offset: 0, count: 100 }));
        let flush = |tag, oldtag| tagged(Tag(tag), &bytes(Tflush { oldtag: Tag(oldtag) }));
        // Twice the same, before and behind it, each other, and themselves.
        let requests = [
            flush(8, 7),
            read.clone(),
            flush(9, 7),
            flush(10, 7),
            flush(11, 12),
            flush(12, 11),
            flush(7, 7),
            read,
        ];
        let replies = a.driver().exchange_all(&requests);
        let kinds: Vec<u8> = replies.iter().map(|reply| reply[4]).collect();
        assert_eq!(kinds, [109, 117, 109, 109, 109, 109, 109, 117]);
        assert!(replies[1][11..] == pattern(100) && replies[7][11..] == pattern(100));
        Serves
    }),
    ("an attach to what is not exported", |a| {
        let long = [&b"/"[..], &[b'n'; 256]].concat();
        let deep = b"/a".repeat(3000);
        let names: [(&[u8], Errno); 11] = [
            (b"ctl", Errno::ENOENT),
            (b"hostile", Errno::ENOENT),
            (b"/nothing", Errno::ENOENT),
            (b"/hello", Errno::ENOTDIR),
            (b"/hello/more", Errno::ENOTDIR),
            (b"/link", Errno::ENOTDIR),
            (b"/hostile/..", Errno::EINVAL),
            (b"/.", Errno::EINVAL),
            (b"/hostile\0", Errno::EINVAL),
            (&long, Errno::ENAMETOOLONG),
            (&deep, Errno::ENOENT),
        ];
        for (aname, errno) in names {
            a.refused(errno, attach(Fid(1), aname, 0));
        }
        a.refused(Errno::EBADF, Tattach { afid: Fid(5), ..attach(Fid(1), b"", 0) });
        a.refused(Errno::EBADF, attach(HOME, b"", 0));
        a.refused(Errno::EBADF, attach(Fid::NOFID, b"", 0));
        a.refused(Errno::EBADF, Tclunk { fid: Fid(1) });
        Serves
    }),
    ("thousands of sessions that clean nothing up", |a| {
        let version = bytes(Tversion { msize: 1 << 20, version: VERSION });
        let (fid, name) = (Fid(9), [&b"bytes"[..]]);
        let walk = bytes(Twalk { fid: HOME, newfid: fid, wnames: Names::new(&name).unwrap() });
        let open = bytes(Tlopen { fid, flags: OpenFlags::RDWR });
        let attach = bytes(attach(HOME, b"/hostile", 0));
        let lock = bytes(Tlock {
            fid,
            kind: LockType::Write,
            flags: LockFlags::empty(),
            start: 0,
            length: 1,
            proc_id: 1,
            client_id: b"",
        });
        let ten = vec![[version, attach, walk, open, lock]; 10].concat();
        for _ in 0..THOUSANDS / 10 {
            for reply in a.driver().exchange_all(&ten) {
                assert_ne!(reply[4], 7, "{reply:?}");
            }
        }
        Serves
    }),
    ("a session on each of a hundred rings", |a| {
        for _ in 0..100 {
            a.begin();
            open_bytes(a);
            a.hang_up();
        }
        a.begin();
        Serves
    }),
];

/// A request with another tag.
fn tagged(Tag(tag): Tag, request: &[u8]) -> Vec<u8> {
    [&request[..5], &tag.to_le_bytes(), &request[7..]].concat()
}

fn attach(fid: Fid, aname: &[u8], n_uname: u32) -> Tattach<'_> {
    Tattach { fid, afid: Fid::NOFID, uname: b"", aname, n_uname }
}

/// A fid that reads the attacker's file.
fn open_bytes(a: &mut Attacker) -> Fid {
    let fid = a.walked("bytes");
    a.client().open(fid, OpenFlags::RDONLY).expect("the file");
    fid
}

fn is_error(reply: &[u8], errno: Errno) -> bool {
    reply[4] == 7 && reply[7..11] == errno.number().to_le_bytes()
}
