// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tables that are full: each says so with its error, whoever filled them goes on, and there is room again afterwards.

use skerry::fs::Errno;
use skerry::wire::{
    Fid, GetattrMask, LockFlags, LockType, MessageType, Names, OpenFlags, Tattach, Tclunk, Tgetattr,
    Tlcreate, Tlock, Tlopen, Tmknod, Tunlinkat, Twalk, Txattrcreate, Txattrwalk, UnlinkFlags, XattrFlags,
};

use crate::attacker::{Attacker, Case, Expected, HOME, bytes};
use Expected::Serves;

/// Fids of a session.
const FIDS: u32 = 32_768;
/// Fids of a session that are open.
const OPEN: u32 = FIDS / 4;
/// Fids that are hashed alike.
const ALIKE: u32 = 32;
/// What a session is attached to.
const ATTACHMENTS: u32 = 1024;
/// Fids that read an attribute by its name.
const READERS: u32 = 64;
/// Fids that set one; of them those with more than 4096 bytes.
const SETTERS: u32 = 34;
const LARGE_SETTERS: u32 = 2;
/// Locked ranges of a session.
const LOCKS: u32 = 1024;

/// Where the fids of a case begin.
const FIRST: u32 = 1 << 20;
/// Requests at a time.
const BATCH: usize = 60;

const NO_FLAGS: UnlinkFlags = UnlinkFlags::empty();

pub const CASES: &[Case] = &[
    ("more fids than a session has", |a| {
        let clone = |number| bytes(walk(HOME, Fid(FIRST + number), &[]));
        // One is in use.
        fills(a, FIDS - 1, Errno::EMFILE, &clone);
        let full = Fid(FIRST + FIDS);
        a.refused(Errno::EMFILE, attach(full, 0));
        a.refused(Errno::EMFILE, Txattrwalk { fid: HOME, newfid: full, name: b"" });
        a.done(Tgetattr { fid: HOME, request_mask: GetattrMask::BASIC });
        // What needs no new one.
        a.done(walk(Fid(FIRST), Fid(FIRST), &[b"bytes"]));
        a.done(Tlopen { fid: Fid(FIRST), flags: OpenFlags::RDONLY });
        a.done(Tclunk { fid: Fid(FIRST) });
        a.done(walk(HOME, full, &[]));
        a.refused(Errno::EMFILE, walk(HOME, Fid(FIRST + FIDS + 1), &[]));
        Serves
    }),
    ("more open files than a session may have", |a| {
        let open = |number: u32| {
            let fid = Fid(FIRST + number / 2);
            if number.is_multiple_of(2) {
                bytes(walk(HOME, fid, &[b"bytes"]))
            } else {
                bytes(Tlopen { fid, flags: OpenFlags::RDWR })
            }
        };
        // The next one is walked to.
        fills(a, 2 * OPEN + 1, Errno::EMFILE, &open);
        Serves
    }),
    ("fids that are hashed alike", |a| {
        // The inverse of the hash's factor, modulo 2^32: fid after fid lands at the table's start.
        let factor = 0x9e37_79b9_u32;
        let inverse = (0..5)
            .fold(factor, |guess, _| guess.wrapping_mul(2_u32.wrapping_sub(factor.wrapping_mul(guess))));
        assert_eq!(factor.wrapping_mul(inverse), 1);
        // The fid of the attacker's directory may be among those of the first bucket, with others that are none of these.
        let clone = |number: u32| bytes(walk(HOME, Fid(inverse.wrapping_mul(number + 1)), &[]));
        fills(a, ALIKE, Errno::EMFILE, &clone);
        a.done(walk(HOME, Fid(FIRST), &[]));
        a.done(Tclunk { fid: Fid(inverse) });
        a.done(walk(HOME, Fid(inverse), &[]));
        Serves
    }),
    ("more users and directories than a session is attached to", |a| {
        let attach = |number| bytes(attach(Fid(FIRST + number), number + 1));
        fills(a, ATTACHMENTS - 1, Errno::EMFILE, &attach);
        // One that is there already.
        a.done(Tattach { fid: Fid(1), ..self::attach(Fid(1), 1) });
        a.session();
        a.done(self::attach(Fid(1), 99_999));
        Serves
    }),
    ("more fids that read attributes than there may be", |a| {
        a.client().set_xattr(HOME, b"user.many", b"value", XattrFlags::empty()).unwrap();
        let name = &b"user.many"[..];
        let read = |number| bytes(Txattrwalk { fid: HOME, newfid: Fid(FIRST + number), name });
        fills(a, READERS, Errno::ENFILE, &read);
        // The list of names takes no place.
        a.done(Txattrwalk { fid: HOME, newfid: Fid(1), name: b"" });
        a.done(Tclunk { fid: Fid(FIRST) });
        a.done(Txattrwalk { fid: HOME, newfid: Fid(2), name });
        a.refused(Errno::ENFILE, Txattrwalk { fid: HOME, newfid: Fid(3), name });
        Serves
    }),
    ("more fids that set attributes than there may be", |a| {
        for (size, most) in [(1, SETTERS), (4096, SETTERS), (4097, LARGE_SETTERS), (65_536, LARGE_SETTERS)] {
            a.session();
            for number in 0..=most {
                a.done(walk(HOME, Fid(FIRST + number), &[]));
            }
            let create = |number| {
                let (fid, flags) = (Fid(FIRST + number), XattrFlags::empty());
                Txattrcreate { fid, name: b"user.many", attr_size: size, flags }
            };
            fills(a, most, Errno::ENOMEM, &|number| bytes(create(number)));
            // What is given up has set nothing.
            a.refused(Errno::EBADF, skerry::wire::Tremove { fid: Fid(FIRST) });
            a.done(create(most));
        }
        Serves
    }),
    ("more locks than a session has", |a| {
        let fid = a.walked("bytes");
        a.client().open(fid, OpenFlags::RDWR).unwrap();
        let lock = |number: u32| lock(fid, LockType::Write, 2 * u64::from(number), 1);
        fills(a, LOCKS, Errno::ENOLCK, &|number| bytes(lock(number)));
        // Longer ones in place of those that are there take no more.
        a.done(self::lock(fid, LockType::Write, 2, 9));
        a.done(self::lock(fid, LockType::Write, 1 << 40, 1));
        a.done(self::lock(fid, LockType::Unlock, 1 << 40, 1));
        let status = a.done(self::lock(fid, LockType::Unlock, 0, 0));
        assert_eq!(status[7], 0, "all are unlocked");
        fills(a, LOCKS, Errno::ENOLCK, &|number| bytes(lock(number)));
        // In the middle of one: one more.
        a.done(self::lock(fid, LockType::Unlock, 0, 0));
        a.done(self::lock(fid, LockType::Write, 1 << 40, 100));
        fills(a, LOCKS - 1, Errno::ENOLCK, &|number| bytes(lock(number)));
        a.refused(Errno::ENOLCK, self::lock(fid, LockType::Unlock, (1 << 40) + 50, 1));
        Serves
    }),
    ("more bytes than the volume has", |a| {
        let fid = made(a, b"large");
        let data = vec![0x77; 1 << 19];
        let mut offset = 0;
        let refused = loop {
            match a.client().write_all(fid, offset, &data) {
                Ok(()) => offset += data.len() as u64,
                Err(error) => break error.errno(),
            }
            assert!(offset < 64 << 20, "a volume of 32 MiB");
        };
        assert_eq!(refused, Some(Errno::ENOSPC.number()));
        assert_eq!(a.client().read(fid, 100, 5000).unwrap(), [0x77; 5000]);
        a.done(Tunlinkat { dirfd: HOME, name: b"large", flags: NO_FLAGS });
        a.done(Tclunk { fid });
        let fid = made(a, b"small");
        a.client().write_all(fid, 0, &data).unwrap();
        a.done(Tunlinkat { dirfd: HOME, name: b"small", flags: NO_FLAGS });
        Serves
    }),
    ("more files than the volume has", |a| {
        let name = |number: u32| format!("file-{number:06}").into_bytes();
        let mknod = |number| {
            bytes(Tmknod { dfid: HOME, name: &name(number), mode: 0o600, major: 0, minor: 0, gid: 0 })
        };
        let made = all_until_refused(a, Errno::ENOSPC, 20_000, &mknod);
        assert!(made > 1000, "{made} files");
        let unlink = |number| bytes(Tunlinkat { dirfd: HOME, name: &name(number), flags: NO_FLAGS });
        assert_eq!(all_until_refused(a, Errno::ENOENT, made + 1, &unlink), made);
        Serves
    }),
];

fn walk<'a>(fid: Fid, newfid: Fid, names: &'a [&'a [u8]]) -> Twalk<'a> {
    Twalk { fid, newfid, wnames: Names::new(names).unwrap() }
}

fn attach(fid: Fid, n_uname: u32) -> Tattach<'static> {
    Tattach { fid, afid: Fid::NOFID, uname: b"", aname: b"/hostile", n_uname }
}

fn lock(fid: Fid, kind: LockType, start: u64, length: u64) -> Tlock<'static> {
    Tlock { fid, kind, flags: LockFlags::empty(), start, length, proc_id: 1, client_id: b"attacker" }
}

/// A file of the attacker's, open.
#[track_caller]
fn made(a: &mut Attacker, name: &[u8]) -> Fid {
    let fid = a.walked("");
    a.done(Tlcreate { fid, name, flags: OpenFlags::RDWR, mode: 0o600, gid: 0 });
    fid
}

/// Exactly so many of these requests are answered, and more are refused with this error.
#[track_caller]
fn fills(a: &mut Attacker, most: u32, errno: Errno, request: &dyn Fn(u32) -> Vec<u8>) {
    assert_eq!(all_until_refused(a, errno, most + 1, request), most);
}

/// How many of at most so many requests are answered before the first that is refused, with this error.
#[track_caller]
fn all_until_refused(a: &mut Attacker, errno: Errno, most: u32, request: &dyn Fn(u32) -> Vec<u8>) -> u32 {
    let numbers: Vec<u32> = (0..most).collect();
    let mut answered = 0;
    for batch in numbers.chunks(BATCH) {
        let requests: Vec<_> = batch.iter().map(|&number| request(number)).collect();
        for reply in a.driver().exchange_all(&requests) {
            if MessageType::from(reply[4]) == MessageType::Rlerror {
                assert_eq!(reply[7..11], errno.number().to_le_bytes(), "after {answered}");
                return answered;
            }
            answered += 1;
        }
    }
    panic!("all {most} are answered");
}
