// SPDX-License-Identifier: MIT OR Apache-2.0

//! Framing, faults, statistics, and what is given back when a session ends.

use super::*;
use crate::server::client::Client;
use crate::wire::{
    Names, OpenFlags, SetattrMask, Tattach, Tclunk, Time, Tlcreate, Tlink, Tlopen, Tmessage, Tmkdir, Tmknod,
    Tremove, Trename, Trenameat, Tsetattr, Tsymlink, Tunlinkat, Twalk, Twrite, Txattrcreate, UnlinkFlags,
    XattrFlags,
};
use std::vec;
use std::vec::Vec;

/// `size[4] Tclunk tag[2] fid[4]`, of a fid that is not in use; and the reply, EBADF.
const CLUNK: [u8; 11] = [11, 0, 0, 0, 120, 5, 0, 9, 0, 0, 0];
const BAD_FID: [u8; 11] = [11, 0, 0, 0, 7, 5, 0, 9, 0, 0, 0];

fn with_size(size: u32, rest: &[u8]) -> Vec<u8> {
    [&size.to_le_bytes(), rest].concat()
}

#[test]
fn a_request_and_its_reply_may_be_split_at_any_byte() {
    let mut client = Client::attached();
    for piece in 1..16 {
        (client.piece, client.room) = (piece, 300);
        assert_eq!(client.exchange(&CLUNK), Ok(BAD_FID.to_vec()));
        assert_eq!(client.walk(0, 1, &[b"sub", b"deep", b"leaf"]).map(|qids| qids.len()), Ok(3));
        assert_eq!(client.getattr(1).map(|attributes| attributes.size), Ok(4));
        client.clunk(1).unwrap();
    }
}

#[test]
fn what_follows_a_request_in_its_chain_is_ignored() {
    let mut client = Client::attached();
    let request = [&CLUNK[..], &[0xff; 5000]].concat();
    assert_eq!(client.exchange(&request), Ok(BAD_FID.to_vec()));
}

#[test]
fn a_request_shorter_than_a_header_is_a_fault() {
    let mut client = Client::attached();
    for readable in 0..7 {
        let fault = client.exchange(&CLUNK[..readable]);
        assert_eq!(fault, Err(SessionFault::RequestTooShort { readable }));
    }
}

#[test]
fn a_size_that_cannot_be_is_a_fault() {
    let mut client = Client::attached();
    for size in 0..7 {
        let fault = client.exchange(&with_size(size, &CLUNK[4..]));
        assert_eq!(fault, Err(SessionFault::SizeBelowHeader { size }));
    }
    let fault = client.exchange(&with_size(12, &CLUNK[4..]));
    assert_eq!(fault, Err(SessionFault::SizeBeyondChain { size: 12, readable: 11 }));
    let fault = client.exchange(&with_size(8193, &[0; 9000]));
    assert_eq!(fault, Err(SessionFault::SizeAboveMsize { size: 8193, msize: 8192 }));
    let fault = client.exchange(&with_size(u32::MAX, &CLUNK[4..]));
    assert_eq!(fault, Err(SessionFault::SizeAboveMsize { size: u32::MAX, msize: 8192 }));
}

#[test]
fn before_a_version_a_message_may_have_8192_bytes() {
    let mut client = Client::unversioned();
    let fault = client.exchange(&with_size(8193, &[0; 9000]));
    assert_eq!(fault, Err(SessionFault::SizeAboveMsize { size: 8193, msize: 8192 }));
    let long = with_size(8192, &[&[104, 1, 0][..], &[0; 8185]].concat());
    assert_eq!(client.exchange(&long).map(|reply| (reply[4], reply[7])), Ok((7, 71)));
}

#[test]
fn a_request_too_long_for_the_private_buffer_is_answered_with_an_error() {
    let mut client = Client::versioned(512_000);
    for size in [8193, 20_000, 512_000] {
        let request = with_size(size, &vec![110; size as usize - 4]);
        assert_eq!(client.exchange(&request), Ok(vec![11, 0, 0, 0, 7, 110, 110, 90, 0, 0, 0]));
    }
    client.attach(0, b"").unwrap();
}

#[test]
fn room_for_less_than_an_error_is_a_fault() {
    let mut client = Client::attached();
    for room in 0..11 {
        client.room = room;
        let (reply, room) = (MessageType::Rlerror, room as usize);
        let fault = SessionFault::NoRoomForReply { reply, needed: 11, room };
        assert_eq!(client.exchange(&CLUNK), Err(fault));
    }
    client.room = 11;
    assert_eq!(client.exchange(&CLUNK), Ok(BAD_FID.to_vec()));
}

#[test]
fn room_for_less_than_the_reply_is_a_fault() {
    let mut client = Client::attached();
    client.room = 159;
    // size[4] Tgetattr tag[2] fid[4] request_mask[8]
    let request = [19, 0, 0, 0, 24, 5, 0, 0, 0, 0, 0, 0xff, 7, 0, 0, 0, 0, 0, 0];
    let fault = SessionFault::NoRoomForReply { reply: MessageType::Rgetattr, needed: 160, room: 159 };
    assert_eq!(client.exchange(&request), Err(fault));
    client.room = 160;
    assert_eq!(client.exchange(&request).map(|reply| reply.len()), Ok(160));
}

#[test]
fn a_type_that_is_no_request_is_not_supported() {
    let mut client = Client::attached();
    for kind in [0, 1, 6, 7, 9, 98, 99, 111, 112, 113, 114, 115, 124, 125, 126, 127, 128, 255] {
        let request = [7, 0, 0, 0, kind, 5, 0];
        assert_eq!(client.exchange(&request), Ok(vec![11, 0, 0, 0, 7, 5, 0, 95, 0, 0, 0]), "{kind}");
    }
    assert_eq!(client.exchange(&CLUNK), Ok(BAD_FID.to_vec()));
}

#[test]
fn a_malformed_body_is_a_protocol_error_and_the_session_goes_on() {
    let mut client = Client::attached();
    for request in [
        &[7, 0, 0, 0, 120, 5, 0][..],
        &[10, 0, 0, 0, 120, 5, 0, 0, 0, 0],
        &[12, 0, 0, 0, 120, 5, 0, 0, 0, 0, 0, 0],
        // A walk of 17 names, and one whose name is longer than the message.
        &[&[51, 0, 0, 0, 110, 5, 0, 0, 0, 0, 0, 1, 0, 0, 0, 17, 0][..], &[0; 34]].concat(),
        &[19, 0, 0, 0, 110, 5, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0],
    ] {
        assert_eq!(client.exchange(request), Ok(vec![11, 0, 0, 0, 7, 5, 0, 71, 0, 0, 0]));
    }
    assert_eq!(client.exchange(&CLUNK), Ok(BAD_FID.to_vec()));
}

#[test]
fn a_reset_clunks_everything_and_keeps_the_statistics() {
    let mut client = Client::attached();
    client.session.reset();
    assert_eq!(client.session.fids_in_use(), 0);
    assert_eq!(client.session.msize(), MAX_REQUEST_HEAD);
    assert_eq!(client.session.statistics().total(), 2);
}

#[test]
fn statistics_count_requests_errors_and_bytes() {
    let mut client = Client::attached();
    client.open_path(1, &[b"file"]);
    client.open_path(2, &[b"sub"]);
    let file = client.read(1, 0, 1000).unwrap().len() as u64;
    let entries = client.readdir(2, 0, 1000).unwrap().len() as u64;
    client.exchange(&CLUNK).unwrap();
    client.exchange(&[7, 0, 0, 0, 250, 5, 0]).unwrap();
    let statistics = client.session.statistics();
    let counts: Vec<_> = statistics.by_code().collect();
    assert_eq!(counts, [(12, 2), (40, 1), (100, 1), (104, 1), (110, 2), (116, 1), (120, 1), (250, 1)]);
    assert_eq!((statistics.total(), statistics.requests(110), statistics.errors), (10, 2, 2));
    // `.`, `..` and `deep`, 24 bytes and the name each.
    assert_eq!(entries, 3);
    assert_eq!(statistics.bytes_served, file + 3 * 24 + 1 + 2 + 4);
    assert_eq!(statistics.bytes_copied, statistics.bytes_served);
}

#[test]
fn a_client_that_sends_damaged_requests_is_answered_or_stopped_and_nothing_else() {
    let requests: [&[u8]; 9] = [
        &[19, 0, 0, 0, 100, 255, 255, 0, 32, 0, 0, 6, 0, b'9', b'P', b'2', b'0', b'0', b'0'],
        &[24, 0, 0, 0, 104, 1, 0, 1, 0, 0, 0, 255, 255, 255, 255, 0, 0, 1, 0, b'/', 0, 0, 0, 0],
        &[22, 0, 0, 0, 110, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 3, 0, b's', b'u', b'b'],
        &[23, 0, 0, 0, 110, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 4, 0, b'f', b'i', b'l', b'e'],
        &[15, 0, 0, 0, 12, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        &[23, 0, 0, 0, 116, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        &[23, 0, 0, 0, 40, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        &[
            28, 0, 0, 0, 30, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 11, 0, b'u', b's', b'e', b'r', b'.', b'c', b'o',
            b'l', b'o', b'u', b'r',
        ],
        &[11, 0, 0, 0, 120, 1, 0, 1, 0, 0, 0],
    ];
    let mut client = Client::attached();
    client.room = 600;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    let (mut answered, mut refused, mut stopped) = (0, 0, 0);
    for _ in 0..10_000 {
        let mut request = requests[random(requests.len())].to_vec();
        for _ in 0..random(4) {
            let at = random(request.len());
            request[at] = [0, 1, 2, 7, 0x7f, 0x80, 0xff][random(7)];
        }
        client.piece = u32::try_from(1 + random(30)).unwrap();
        match client.exchange(&request) {
            Ok(reply) => {
                assert_eq!(reply[..4], u32::try_from(reply.len()).unwrap().to_le_bytes());
                assert_eq!(reply[5..7], request[5..7], "the tag is the request's");
                if reply[4] == 7 { refused += 1 } else { answered += 1 }
            }
            Err(_) => {
                stopped += 1;
                client.session.reset();
            }
        }
        if !client.session.versioned {
            client.version(8192, wire::VERSION).unwrap();
            client.attach(0, b"").unwrap();
        }
    }
    assert!(answered > 500 && refused > 500 && stopped > 500, "{answered} {refused} {stopped}");
}

#[test]
fn a_limit_on_msize_below_the_least_is_raised_to_it() {
    let session = Session::new(SessionLimits { max_fids: 0, max_msize: 0 });
    assert_eq!((session.max_msize, session.msize()), (MIN_MSIZE, MAX_REQUEST_HEAD));
}

#[test]
fn a_session_that_was_reset_gives_back_what_it_held_before_anything_else() {
    let mut client = Client::attached();
    client.open_path(1, &[b"file"]);
    client.xattrwalk(1, 2, b"user.colour").unwrap();
    client.xattrwalk(1, 3, b"").unwrap();
    client.walk(0, 4, &[b"file"]).unwrap();
    client.xattrcreate(4, b"user.new", 1, XattrFlags::empty()).unwrap();
    client.write(4, 0, b"x").unwrap();
    client.unlink(0, b"file").unwrap();
    assert_eq!(client.tree.retained(), 4);
    client.session.reset();
    assert_eq!((client.session.fids_in_use(), client.tree.retained()), (0, 4));
    client.exchange(&CLUNK).unwrap();
    assert_eq!(client.tree.retained(), 0);
    assert!(client.tree.inodes[1].is_none(), "the file had no name left");
}

#[test]
fn a_version_in_mid_session_gives_back_what_was_held_at_once() {
    let mut client = Client::attached();
    client.open_path(1, &[b"file"]);
    client.version(8192, wire::VERSION).unwrap();
    assert_eq!(client.tree.retained(), 0);
}

#[test]
fn damaged_requests_to_change_something_are_answered_or_stopped_and_keep_no_file() {
    let (root, file, name, gid, mode) = (Fid(0), Fid(1), &b"new"[..], 0, 0o644);
    let walk = |newfid, names| Twalk { fid: root, newfid: Fid(newfid), wnames: Names::new(names).unwrap() };
    let (time, old, flags) = (Time::default(), &b"file"[..], OpenFlags::RDWR | OpenFlags::TRUNC);
    let (sub, path): ([&[u8]; 1], [&[u8]; 1]) = ([b"sub"], [b"file"]);
    let messages: [Tmessage<'_>; 20] = [
        Tattach { fid: root, afid: Fid::NOFID, uname: b"", aname: b"", n_uname: 0 }.into(),
        walk(1, &path).into(),
        walk(2, &sub).into(),
        walk(3, &[]).into(),
        Tlopen { fid: file, flags }.into(),
        Tlcreate { fid: Fid(3), name: old, flags, mode, gid }.into(),
        Twrite { fid: file, offset: 9, count: 0 }.into(),
        Tsymlink { fid: root, name, symtgt: b"x", gid }.into(),
        Tmknod { dfid: Fid(2), name, mode: 0o020_600, major: 1, minor: 2, gid }.into(),
        Tmkdir { dfid: Fid(2), name, mode, gid }.into(),
        Tlink { dfid: Fid(2), fid: file, name }.into(),
        Trename { fid: file, dfid: Fid(2), name: old }.into(),
        Trenameat { olddirfid: root, oldname: old, newdirfid: Fid(2), newname: name }.into(),
        Trenameat { olddirfid: Fid(2), oldname: old, newdirfid: root, newname: old }.into(),
        Tunlinkat { dirfd: Fid(2), name, flags: UnlinkFlags::empty() }.into(),
        Tremove { fid: Fid(3) }.into(),
        Tsetattr {
            fid: file,
            valid: SetattrMask::SIZE,
            mode,
            uid: 0,
            gid,
            size: 1,
            atime: time,
            mtime: time,
        }
        .into(),
        Txattrcreate { fid: Fid(3), name: b"user.x", attr_size: 0, flags: XattrFlags::empty() }.into(),
        Tclunk { fid: Fid(3) }.into(),
        Tclunk { fid: file }.into(),
    ];
    let requests = messages.map(|message| {
        let mut bytes = vec![0; message.head_length()];
        message.emit(Tag(5), &mut bytes).unwrap();
        bytes
    });
    let mut client = Client::attached();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut answered = [0; 256];
    for _ in 0..50_000 {
        let mut request = requests[random(requests.len())].clone();
        for _ in 0..random(6) / 3 {
            let at = random(request.len());
            request[at] = [0, 1, 2, 3, 7, 0x7f, 0x80, 0xff][random(8)];
        }
        match client.exchange(&request) {
            Ok(reply) => answered[usize::from(reply[4])] += 1,
            Err(_) => client.session.reset(),
        }
        if !client.session.versioned {
            client.version(8192, wire::VERSION).unwrap();
        }
        let keeping = client.session.fids.iter().filter(|(_, handle)| handle.state.retains()).count();
        assert_eq!(client.tree.retained() as usize, keeping);
    }
    for message in messages {
        let reply = usize::from(u8::from(message.kind())) + 1;
        assert!(answered[reply] > 0, "{} did what it is here for", message.kind());
    }
}
