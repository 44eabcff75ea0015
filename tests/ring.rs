// SPDX-License-Identifier: MIT OR Apache-2.0

//! The image boots under QEMU and is driven over the preallocated ring, from the host, without a client VM.

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use skerry::wire::{Fid, GetattrMask, OpenFlags, QidKind, Tag, Tflush, Tmessage, Tread, UnlinkFlags};
use skerry_host::client::{Client, ClientError, RingTransport};
use skerry_host::ring_driver::Chaining;
use support::{BIG, DEEP, MANY, Volume, pattern};

const ENOENT: u32 = 2;
const EBADF: u32 = 9;
const ENOTDIR: u32 = 20;
const EROFS: u32 = 30;
const ENODATA: u32 = 61;

#[track_caller]
fn fails_with<T: std::fmt::Debug>(result: Result<T, ClientError>, errno: u32) {
    assert_eq!(result.as_ref().map_err(ClientError::errno).err(), Some(Some(errno)), "{result:?}");
}

#[test]
fn files_directories_and_links_are_what_they_are_in_the_volume() {
    let volume = Volume::new();
    let (_vm, mut client) = volume.serve();
    let (root, qid) = client.attach(b"").unwrap();
    assert!(qid.kind.contains(QidKind::DIR));

    assert_eq!(client.read_file(root, b"hello").unwrap(), b"Hello, skerry!\n");
    assert_eq!(client.read_file(root, b"empty").unwrap(), b"");
    assert_eq!(client.read_file(root, b"dir/inner/leaf").unwrap(), b"leaf\n");
    assert!(client.read_file(root, b"big").unwrap() == pattern(BIG), "big differs");
    let deep = format!("deep/{}bottom", "d/".repeat(DEEP));
    assert_eq!(client.read_file(root, deep.as_bytes()).unwrap(), b"bottom\n");

    let link = client.walk_path(root, b"link").unwrap();
    assert_eq!(client.readlink(link).unwrap(), b"dir/inner/leaf");

    let hello = client.walk_path(root, b"hello").unwrap();
    let attributes = client.getattr(hello, GetattrMask::ALL).unwrap();
    assert!(attributes.valid.contains(GetattrMask::BASIC), "{attributes:?}");
    assert_eq!((attributes.size, attributes.mode & 0o170_000, attributes.nlink), (15, 0o100_000, 1));

    let status = client.statfs(root).unwrap();
    assert_eq!((status.kind, status.namelen), (0x0102_1997, 255));
    assert!(
        status.bfree < status.blocks && status.blocks * u64::from(status.bsize) <= 32 << 20,
        "{status:?}"
    );
}

#[test]
fn a_directory_is_listed_whole_once_in_replies_of_any_size() {
    let volume = Volume::new();
    let (_vm, mut client) = volume.serve();
    let (root, _) = client.attach(b"/many").unwrap();
    client.open(root, OpenFlags::RDONLY).unwrap();
    let mut expected: BTreeSet<Vec<u8>> =
        (0..MANY).map(|number| format!("file-{number:04}").into_bytes()).collect();
    expected.extend([b".".to_vec(), b"..".to_vec()]);

    let all = client.list(root).unwrap();
    let names: BTreeSet<Vec<u8>> = all.iter().map(|entry| entry.name.clone()).collect();
    assert_eq!(all.len(), expected.len(), "a name twice");
    assert_eq!(names, expected);

    let mut piecewise = Vec::new();
    while let Some(piece) =
        Some(client.read_directory(root, piecewise.last().map_or(0, offset_of), 100).unwrap())
            .filter(|piece| !piece.is_empty())
    {
        assert!(piece.len() <= 3, "{} entries in 100 bytes", piece.len());
        piecewise.extend(piece);
    }
    assert_eq!(piecewise, all);

    let middle = &all[all.len() / 2];
    let rest = client.read_directory(root, middle.offset, 4096).unwrap();
    assert_eq!(rest[0], all[all.len() / 2 + 1], "a listing resumes after any entry");
}

fn offset_of(entry: &skerry_host::client::DirectoryEntry) -> u64 {
    entry.offset
}

#[test]
fn errors_are_error_numbers_and_the_session_goes_on() {
    let volume = Volume::new();
    let (_vm, mut client) = volume.serve_readonly();
    fails_with(client.attach(b"/nowhere"), ENOENT);
    let (root, _) = client.attach(b"").unwrap();
    fails_with(client.walk_path(root, b"missing"), ENOENT);
    fails_with(client.walk(Fid(4711), &[]), EBADF);
    let hello = client.walk_path(root, b"hello").unwrap();
    fails_with(client.walk(hello, &[b"x"]), ENOTDIR);
    fails_with(client.open(hello, OpenFlags::WRONLY), EROFS);
    fails_with(client.xattr(hello, b"user.none"), ENODATA);
    let partial = client.walk(root, &[b"dir", b"missing", b"x"]).unwrap();
    assert_eq!(partial.qids.len(), 1);
    fails_with(client.clunk(partial.fid), EBADF);
    let above = client.walk(root, &[b"..", b"..", b"hello"]).unwrap();
    assert_eq!(above.qids.len(), 3, "`..` of the root is the root");
    assert_eq!(client.read_file(root, b"hello").unwrap(), b"Hello, skerry!\n");
}

#[test]
fn a_volume_that_is_only_read_is_not_changed_by_a_byte() {
    let volume = Volume::new();
    let before = std::fs::read(volume.path()).unwrap();
    let (vm, mut client) = volume.serve_readonly();
    let (root, _) = client.attach(b"").unwrap();
    fails_with(client.create(root, b"new"), EROFS);
    fails_with(client.mkdir(root, b"new", 0o755, 0), EROFS);
    fails_with(client.unlinkat(root, b"hello", UnlinkFlags::empty()), EROFS);
    for flags in [OpenFlags::RDWR, OpenFlags::RDONLY | OpenFlags::TRUNC] {
        let hello = client.walk_path(root, b"hello").unwrap();
        fails_with(client.open(hello, flags), EROFS);
        client.clunk(hello).unwrap();
    }
    let (ctl, _) = client.attach(b"ctl").unwrap();
    assert!(text(&mut client, ctl, "volume").starts_with("access readonly\n"));
    drop(vm);
    assert!(std::fs::read(volume.path()).unwrap() == before, "serving a volume changed it");
}

/// The text of a file.
fn text(client: &mut Client<RingTransport>, root: Fid, path: &str) -> String {
    String::from_utf8(client.read_file(root, path.as_bytes()).unwrap()).unwrap()
}

#[test]
fn the_images_time_is_the_hosts_and_does_not_go_back() {
    let volume = Volume::new();
    let (_vm, mut client) = volume.serve();
    let (ctl, _) = client.attach(b"ctl").unwrap();
    let mut time = || -> f64 {
        let stats = text(&mut client, ctl, "stats");
        let line = stats.lines().find_map(|line| line.strip_prefix("time_seconds ")).unwrap();
        line.parse().unwrap()
    };
    let mut last = 0.0;
    // Long enough for the real-time clock to be looked at again.
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let told = time();
        let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(told >= last, "{told} after {last}");
        assert!(before - 1.5 <= told && told <= after + 1.5, "{told} between {before} and {after}");
        last = told;
        std::thread::sleep(Duration::from_millis(20));
    }
    println!(
        "{:+} s from the host's",
        last - SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
    );
}

#[test]
fn a_second_tversion_ends_the_session_that_was() {
    let volume = Volume::new();
    let (_vm, mut client) = volume.serve();
    let (root, _) = client.attach(b"").unwrap();
    assert_eq!(client.version(b"9P2000.L", 8192).unwrap(), 8192);
    fails_with(client.getattr(root, GetattrMask::BASIC), EBADF);
    let error = client.version(b"9P2000.X", 8192).unwrap_err().to_string();
    assert!(error.contains("unknown"), "{error}");
}

#[test]
fn messages_may_be_cut_into_descriptors_anywhere() {
    let volume = Volume::new();
    let (_vm, mut client) = volume.serve();
    client.version(b"9P2000.L", 8192).unwrap();
    let (root, _) = client.attach(b"").unwrap();
    for (piece, indirect) in [(1, true), (7, true), (11, true), (100, false), (1000, false), (4096, true)] {
        let reply_room = if piece < 100 { 100 } else { 8192 };
        let transport = client.transport();
        transport.set_reply_room(reply_room);
        transport.requests().set_chaining(Chaining { piece, indirect });
        let walked = client.walk(root, &[b"dir", b"inner", b"leaf"]).unwrap();
        assert_eq!(walked.qids.len(), 3, "pieces of {piece}");
        client.open(walked.fid, OpenFlags::RDONLY).unwrap();
        assert_eq!(client.read(walked.fid, 1, 80).unwrap(), b"eaf\n", "pieces of {piece}");
        client.clunk(walked.fid).unwrap();
    }
}

#[test]
fn many_requests_in_flight_are_all_answered() {
    let volume = Volume::new();
    let (_vm, mut client) = volume.serve();
    let (root, _) = client.attach(b"").unwrap();
    let big = client.walk_path(root, b"big").unwrap();
    client.open(big, OpenFlags::RDONLY).unwrap();
    let content = pattern(BIG);
    let requests = client.transport().requests();
    let mut expected = HashMap::new();
    for number in 0..10u16 {
        let offset = u64::from(number) * 100_000;
        let request = Tmessage::from(Tread { fid: big, offset, count: 100_000 });
        let mut message = vec![0; request.head_length()];
        request.emit(Tag(number), &mut message).unwrap();
        expected.insert(requests.submit(&message, 110_000).unwrap(), (number, offset));
    }
    requests.kick().unwrap();
    let mut answered = BTreeMap::new();
    for _ in 0..10 {
        let (token, reply) = requests.wait(std::time::Duration::from_secs(20)).unwrap();
        let (number, offset) = expected.remove(&token).unwrap();
        assert_eq!(reply[5..7], number.to_le_bytes());
        let start = usize::try_from(offset).unwrap();
        assert!(reply[11..] == content[start..start + 100_000], "the data of request {number}");
        answered.insert(number, ());
    }
    assert_eq!(answered.len(), 10);
}

#[test]
fn a_malformed_message_does_not_end_the_service() {
    let volume = Volume::new();
    let (mut vm, mut client) = volume.serve();
    let (root, _) = client.attach(b"").unwrap();
    let mut flush = vec![0; 9];
    Tmessage::from(Tflush { oldtag: Tag(77) }).emit(Tag(5), &mut flush).unwrap();
    let mut unknown = flush.clone();
    unknown[4] = 255;
    let reply =
        client.transport().requests().exchange(&unknown, 4096, std::time::Duration::from_secs(20)).unwrap();
    assert_eq!((reply[4], &reply[5..7]), (7, &[5u8, 0][..]), "an Rlerror with the request's tag: {reply:?}");
    client.flush(Tag(77)).unwrap();
    assert_eq!(client.read_file(root, b"hello").unwrap(), b"Hello, skerry!\n");
    assert_eq!(vm.wait_for(std::time::Duration::ZERO).unwrap(), None);
}

#[test]
fn a_volume_may_have_any_whole_number_of_pages() {
    let volume = Volume::new();
    let file = std::fs::OpenOptions::new().write(true).open(volume.path()).unwrap();
    file.set_len((32 << 20) + 4096).unwrap();
    let (_vm, mut client) = volume.serve();
    let (root, _) = client.attach(b"").unwrap();
    assert_eq!(client.read_file(root, b"hello").unwrap(), b"Hello, skerry!\n");
}

#[test]
fn a_volume_that_is_damaged_is_refused_with_a_message() {
    let volume = Volume::new();
    std::fs::write(volume.path(), vec![0x5a; 1 << 20]).unwrap();
    let (mut vm, connections) = skerry_host::service_vm::ServiceVm::start(&volume.service()).unwrap();
    let error = vm.connect(connections.requests).unwrap_err().to_string();
    assert!(error.contains("debug-exit") && error.contains("magic"), "{error}");
}

#[test]
fn a_volume_has_one_server() {
    let volume = Volume::new();
    let (_vm, _client) = volume.serve();
    let error = skerry_host::service_vm::ServiceVm::start(&volume.service()).unwrap_err().to_string();
    assert!(error.contains("another server is using it"), "{error}");
}

#[test]
fn a_service_vm_that_ends_is_noticed_at_once() {
    let volume = Volume::new();
    let (mut vm, mut client) = volume.serve();
    let (root, _) = client.attach(b"").unwrap();
    vm.kill();
    let error = client.statfs(root).unwrap_err().to_string();
    assert!(error.contains("the service VM has ended"), "{error}");
}
