// SPDX-License-Identifier: MIT OR Apache-2.0

//! Buffers that lie: nowhere, half outside, on top of each other, too small for what must go there.

use skerry::fs::Errno;
use skerry::wire::{Fid, GetattrMask, OpenFlags, Tclunk, Tgetattr, Tread, Treaddir, Twrite};

use crate::attacker::{Attacker, Case, Expected, HOME, bytes, version};
use crate::driver::{Buffer, FREE, READ, REPLY, REQUEST, WRITE};
use Expected::{Serves, Stops};

/// A descriptor that honest requests here do not use.
const SPARE: u16 = 100;
/// Where indirect tables are.
const TABLE: u64 = FREE + (1 << 20);

pub const CASES: &[Case] = &[
    ("a buffer of no length anywhere", |a| {
        let nowhere = [(u64::MAX, 0), (1 << 63, 0), (a.driver().end(), 0), (0, 0)];
        let [first, second, third, fourth] = nowhere;
        let request = bytes(Tclunk { fid: Fid(77) });
        a.driver().put(REQUEST, &request);
        answered(
            a,
            &[
                (first.0, first.1, READ),
                (REQUEST, 5, READ),
                (second.0, second.1, READ),
                (REQUEST + 5, 6, READ),
                (third.0, third.1, READ),
                (REPLY, 11, WRITE),
                (fourth.0, fourth.1, WRITE),
            ],
        )
    }),
    ("a chain of one buffer of no length", |a| {
        chained(a, &[(0, 0, READ)]);
        Stops("Rlerror takes 11 bytes, the buffers for it hold 0")
    }),
    ("a request of no length", |a| {
        chained(a, &[(REQUEST, 0, READ), (REPLY, 100, WRITE)]);
        Stops("the request has 0 bytes, a header has 7")
    }),
    ("a request without a chain to read", |a| {
        chained(a, &[(REPLY, 100, WRITE)]);
        Stops("the request has 0 bytes, a header has 7")
    }),
    ("a request without a chain to write", |a| {
        a.driver().put(REQUEST, &version());
        chained(a, &[(REQUEST, 21, READ)]);
        Stops("Rlerror takes 11 bytes, the buffers for it hold 0")
    }),
    ("a request outside of the memory", |a| {
        let end = a.driver().end();
        chained(a, &[(end, 16, READ), (REPLY, 100, WRITE)]);
        Stops("0x10 bytes at 0x1000000: 0x1000000 is not mapped")
    }),
    ("a reply outside of the memory", |a| {
        let end = a.driver().end();
        chained(a, &[(REQUEST, 16, READ), (end, 16, WRITE)]);
        Stops("0x10 bytes at 0x1000000: 0x1000000 is not mapped")
    }),
    ("a request that leaves the memory", |a| {
        let end = a.driver().end();
        chained(a, &[(end - 8, 16, READ), (REPLY, 100, WRITE)]);
        Stops("0x10 bytes at 0xfffff8: 0x1000000 is not mapped")
    }),
    ("a reply that leaves the memory", |a| {
        let end = a.driver().end();
        chained(a, &[(REQUEST, 16, READ), (end - 8, 16, WRITE)]);
        Stops("0x10 bytes at 0xfffff8: 0x1000000 is not mapped")
    }),
    ("a buffer that ends where numbers do", |a| {
        chained(a, &[(u64::MAX - 15, 16, READ), (REPLY, 100, WRITE)]);
        Stops("0x10 bytes at 0xfffffffffffffff0")
    }),
    ("a buffer that wraps", |a| {
        chained(a, &[(u64::MAX - 7, 16, READ), (REPLY, 100, WRITE)]);
        Stops("0x10 bytes at 0xfffffffffffffff8 exceed the address space")
    }),
    ("a buffer that wraps to all of the memory", |a| {
        chained(a, &[(REQUEST, 16, READ), (u64::MAX - 15, 0xffff_ff00, WRITE)]);
        Stops("0xffffff00 bytes at 0xfffffffffffffff0 exceed the address space")
    }),
    ("a buffer of almost 4 GiB", |a| {
        chained(a, &[(REQUEST, 16, READ), (REPLY, 0xffff_ff00, WRITE)]);
        Stops("0xffffff00 bytes at 0x400000: 0x1000000 is not mapped")
    }),
    ("buffers of 4 GiB together", |a| {
        // One piece of memory, over and over: but for its last byte it is sound.
        let piece = (FREE, 8 << 20, WRITE);
        a.driver().indirect(SPARE, TABLE, &[&[(REQUEST, 16, READ)][..], &[piece; 512]].concat());
        a.driver().offer(SPARE);
        a.driver().publish();
        Stops(": 4 GiB or more")
    }),
    ("buffers of almost 4 GiB together", |a| {
        let request = bytes(Tclunk { fid: Fid(77) });
        a.driver().put(REQUEST, &request);
        let piece = (FREE, 8 << 20, WRITE);
        let buffers = [&[(REQUEST, 11, READ), (REPLY, 11, WRITE)][..], &[piece; 511]].concat();
        let table = REPLY + 4096;
        a.driver().indirect(SPARE, table, &buffers);
        answered_at(a, SPARE)
    }),
    ("buffers that straddle two regions of the memory", |a| {
        // They adjoin as the client counts; in the server they need not.
        let request = bytes(Tclunk { fid: Fid(77) });
        a.driver().put(FREE - 3, &request);
        chained(a, &[(FREE - 3, 11, READ), (REPLY, 11, WRITE)]);
        a.driver().reply(0, REPLY);
        a.driver().put(REQUEST, &request);
        chained(a, &[(REQUEST, 11, READ), (FREE - 5, 11, WRITE)]);
        let reply = a.driver().reply(0, FREE - 5);
        assert_eq!(reply, [11, 0, 0, 0, 7, 0x34, 0x12, 9, 0, 0, 0]);
        Serves
    }),
    ("a reply over its request", |a| {
        let request = bytes(Tclunk { fid: Fid(77) });
        for shift in 0..11 {
            a.driver().put(REPLY + shift, &request);
            answered(a, &[(REPLY + shift, 11, READ), (REPLY, 11, WRITE)]);
        }
        Serves
    }),
    ("a reply that is written to one place twice", |a| {
        // The second half of Rgetattr is put over the first.
        let fid = a.walked("bytes");
        let request = bytes(Tgetattr { fid, request_mask: GetattrMask::all() });
        a.driver().put(REQUEST, &request);
        let length = u32::try_from(request.len()).unwrap();
        chained(a, &[(REQUEST, length, READ), (REPLY, 80, WRITE), (REPLY, 80, WRITE)]);
        assert_eq!(a.driver().returned(), (0, 160));
        Serves
    }),
    ("data that is written from where its reply goes", |a| {
        let fid = opened(a, "own", OpenFlags::RDWR | OpenFlags::CREATE | OpenFlags::TRUNC);
        let head = bytes(Twrite { fid, offset: 0, count: 100 });
        a.driver().put(REPLY, &[&head[..], &[0x5a; 100]].concat());
        chained(a, &[(REPLY, 123, READ), (REPLY, 200, WRITE)]);
        assert_eq!(a.driver().reply(0, REPLY)[4..7], [119, 0x34, 0x12]);
        assert_eq!(a.client().read(fid, 0, 200).unwrap(), [0x5a; 100]);
        Serves
    }),
    ("data that is read over the request and the descriptors of it", |a| {
        let fid = opened(a, "bytes", OpenFlags::RDONLY);
        let read = bytes(Tread { fid, offset: 0, count: 3000 });
        a.driver().put(REQUEST, &read);
        a.driver().indirect(SPARE, REQUEST + 100, &[(REQUEST, 23, READ), (REQUEST, 3011, WRITE)]);
        a.driver().offer(SPARE);
        a.driver().publish();
        let reply = a.driver().reply(SPARE, REQUEST);
        assert!(reply[11..] == crate::support::pattern(3000));
        Serves
    }),
    ("room for a reply of 0 to 10 bytes", |a| {
        for (room, fault) in (0..).zip([
            "Rlerror takes 11 bytes, the buffers for it hold 0",
            "Rlerror takes 11 bytes, the buffers for it hold 1",
            "Rlerror takes 11 bytes, the buffers for it hold 2",
            "Rlerror takes 11 bytes, the buffers for it hold 3",
            "Rlerror takes 11 bytes, the buffers for it hold 4",
            "Rlerror takes 11 bytes, the buffers for it hold 5",
            "Rlerror takes 11 bytes, the buffers for it hold 6",
            "Rlerror takes 11 bytes, the buffers for it hold 7",
            "Rlerror takes 11 bytes, the buffers for it hold 8",
            "Rlerror takes 11 bytes, the buffers for it hold 9",
            "Rlerror takes 11 bytes, the buffers for it hold 10",
        ]) {
            a.begin();
            a.driver().ask(&version(), room);
            a.stops(fault);
        }
        a.begin();
        let request = bytes(Tclunk { fid: Fid(77) });
        a.driver().exchange(&request, 11);
        Serves
    }),
    ("room for less than an Rversion", |a| {
        a.driver().ask(&version(), 20);
        Stops("Rversion takes 21 bytes, the buffers for it hold 20")
    }),
    ("room for less than an Rgetattr", |a| {
        let request = bytes(Tgetattr { fid: HOME, request_mask: GetattrMask::BASIC });
        a.driver().ask(&request, 159);
        Stops("Rgetattr takes 160 bytes, the buffers for it hold 159")
    }),
    ("room for less than the data that was asked for", |a| {
        let fid = opened(a, "bytes", OpenFlags::RDONLY);
        let read = bytes(Tread { fid, offset: 0, count: 50_000 });
        for (room, due) in [(11, 0), (12, 1), (4096, 4085)] {
            let reply = a.driver().exchange(&read, room);
            assert!(reply[11..] == crate::support::pattern(due));
        }
        let directory = opened(a, "", OpenFlags::RDONLY);
        let list = bytes(Treaddir { fid: directory, offset: 0, count: 4096 });
        for room in [11, 35] {
            // Nobody takes it for the end of the directory.
            assert_eq!(a.driver().exchange(&list, room)[4..11], error(Errno::EINVAL));
        }
        assert_eq!(a.driver().exchange(&list, 36)[7..11], [25, 0, 0, 0], "the entry \".\"");
        Serves
    }),
];

/// Offers a chain of these buffers.
fn chained(a: &mut Attacker, buffers: &[Buffer]) {
    a.driver().chain(0, buffers);
    a.driver().offer(0);
    a.driver().publish();
}

/// A Tclunk of no fid, in a chain of these buffers, is answered with EBADF at [`REPLY`].
#[track_caller]
fn answered(a: &mut Attacker, buffers: &[Buffer]) -> Expected {
    a.driver().chain(0, buffers);
    answered_at(a, 0)
}

#[track_caller]
fn answered_at(a: &mut Attacker, head: u16) -> Expected {
    a.driver().offer(head);
    a.driver().publish();
    let reply = a.driver().reply(head, REPLY);
    assert_eq!(reply[4..11], error(Errno::EBADF), "{reply:?}");
    Serves
}

/// An Rlerror, behind its size.
fn error(errno: Errno) -> [u8; 7] {
    [7, 0x34, 0x12, u8::try_from(errno.number()).unwrap(), 0, 0, 0]
}

/// A fid at a name in the attacker's directory, open as `flags` say; with CREATE, the file is made if it is not there.
fn opened(a: &mut Attacker, name: &str, flags: OpenFlags) -> Fid {
    if flags.contains(OpenFlags::CREATE) {
        let fid = a.walked("");
        a.client().lcreate(fid, name.as_bytes(), flags, 0o600, 0).expect("the file");
        return fid;
    }
    let fid = a.walked(name);
    a.client().open(fid, flags).expect("the file");
    fid
}
