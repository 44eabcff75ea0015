// SPDX-License-Identifier: MIT OR Apache-2.0

//! Host mode: `skerry serve`, its options, its sandbox, what it shares between clients, and what it leaves of a volume. What a
//! client may expect of a server of either mode is in `front_end.rs`.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use skerry::wire::{LockFlags, LockStatus, LockType, OpenFlags, Tlock, UnlinkFlags};
use skerry_host::client::{Client, RingTransport};
use skerry_host::front_end::{FrontEnd, Options};
use skerry_host::running_server::{self, RunningServer};
use support::{Mode, Volume, is_clean, is_recoverable, judge, pattern};

const PATIENCE: Duration = Duration::from_secs(20);
const ENOENT: u32 = 2;
const EROFS: u32 = 30;
const EUCLEAN: u32 = 117;

type Session = (FrontEnd, Client<RingTransport>);

/// A client of the socket at `path`; the front end must live as long as the session is used.
fn connected(path: &Path, options: Options) -> Session {
    support::session(path, options, PATIENCE)
}

fn client(volume: &Volume, socket: usize) -> Session {
    connected(&volume.socket(socket), Options::default())
}

fn serve(volume: &Volume, sockets: usize) -> RunningServer {
    volume.server(Mode::Host, sockets)
}

/// The same with other options.
fn serve_with(volume: &Volume, change: impl FnOnce(&mut skerry_host::serve::Options)) -> RunningServer {
    let mut options = volume.server_options(Mode::Host, 1);
    if let running_server::Options::Host { serve, .. } = &mut options {
        change(serve);
    }
    RunningServer::start(&options).expect("the server")
}

/// What `skerry serve` says to these arguments, which it refuses: the exit status and standard error.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skerry"));
    let output = command.arg("serve").args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.stdout.is_empty(), "{arguments:?}");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_cannot_be_served_is_refused_with_one_line_that_names_it() {
    let volume = Volume::new();
    let directory = volume.directory().to_str().unwrap();
    let path = |name: &str| format!("{directory}/{name}");
    fs::write(path("damaged"), vec![0; 4 << 20]).unwrap();
    fs::write(path("odd"), vec![0; 5000]).unwrap();
    fs::write(path("file"), b"precious").unwrap();
    let (good, socket) = (path("volume.ext4"), path("socket"));
    let long_tag = "t".repeat(255);
    for (arguments, message) in [
        (vec!["--volume", "/nowhere/volume", "--socket", &socket], "/nowhere/volume: No such file"),
        (vec!["--volume", "/dev", "--socket", &socket], "/dev: it is a directory"),
        (vec!["--volume", &path("odd"), "--socket", &socket], "not a multiple of 4096"),
        (vec!["--volume", &path("damaged"), "--socket", &socket], "no ext4 volume"),
        (vec!["--volume", &good, "--socket", "/nowhere/socket"], "cannot listen at /nowhere/socket"),
        (vec!["--volume", &good, "--socket", &path("file")], "a file that is no socket"),
        (vec!["--volume", &good, "--socket", &socket, "--tag", ""], "has 0 bytes; it may have 1 to 254"),
        (vec!["--volume", &good, "--socket", &socket, "--tag", &long_tag], "has 255 bytes"),
        (vec!["--volume", &good, "--socket", &socket, "--tag", "a", "--tag", "b"], "2 tags for 1 sockets"),
    ] {
        let (status, said) = refused(&arguments);
        assert_eq!((status, said.lines().count()), (Some(125), 1), "{arguments:?}: {said}");
        assert!(said.starts_with("skerry: error: not started: ") && said.contains(message), "{said}");
    }
    for (arguments, message) in [
        (vec!["--volume", &good], "--socket <PATH>"),
        (vec!["--volume", &good, "--socket", &socket, "--poll-us", "1000001"], "0..=1000000"),
        (vec!["--volume", &good, "--socket", &socket, "--export", "home"], "\"home\""),
    ] {
        let (status, said) = refused(&arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(message), "{said}");
    }
    assert_eq!(fs::read(path("file")).unwrap(), b"precious");
    is_clean(&volume.path());
}

#[test]
fn a_volume_has_one_server_at_a_time_whatever_its_mode() {
    let volume = Volume::new();
    let server = serve(&volume, 1);
    let second = volume.directory().join("second");
    let arguments = ["--volume", volume.path().to_str().unwrap(), "--socket", second.to_str().unwrap()]
        .map(str::to_owned);
    let (status, said) = refused(&arguments.each_ref().map(String::as_str));
    assert_eq!(status, Some(125), "{said}");
    assert!(said.contains("another server is using it"), "{said}");
    let error = skerry_host::service_vm::ServiceVm::start(&volume.service()).unwrap_err().to_string();
    assert!(error.contains("another server is using it"), "{error}");
    drop(server);
}

/// The value of a line of `/proc/PID/status`.
fn status_of(task: &Path, key: &str) -> String {
    let status = fs::read_to_string(task.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.expect("the line").trim().to_owned()
}

#[test]
fn every_thread_is_in_the_sandbox_and_no_descriptor_is_left_that_serving_does_not_need() {
    let volume = Volume::new();
    // A descriptor that a careless parent would hand down.
    let careless = fs::File::open("/proc/self/status").unwrap();
    rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).unwrap();
    let server = serve(&volume, 2);
    let process = Path::new("/proc").join(server.process_id().to_string());
    let in_the_sandbox = || {
        let tasks: Vec<_> =
            fs::read_dir(process.join("task")).unwrap().map(|task| task.unwrap().path()).collect();
        for task in &tasks {
            assert_eq!(
                (status_of(task, "Seccomp"), status_of(task, "NoNewPrivs")),
                ("2".to_owned(), "1".to_owned())
            );
        }
        tasks.len()
    };
    let threads = in_the_sandbox();
    // The main thread, the signals', and three for each socket.
    assert_eq!(threads, 2 + 3 * 2);
    let (_front_end, mut session) = client(&volume, 0);
    session.attach(b"").unwrap();
    assert_eq!(in_the_sandbox(), threads, "a client costs no thread");

    let (mut kinds, mut files) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(process.join("fd")).unwrap() {
        let number: u32 = entry.as_ref().unwrap().file_name().to_str().unwrap().parse().unwrap();
        let link = fs::read_link(entry.unwrap().path()).unwrap().to_str().unwrap().to_owned();
        if number > 2 {
            let kind = link.split(':').next().unwrap().to_owned();
            if kind == "anon_inode" {
                kinds.insert(link)
            } else if kind == "socket" {
                kinds.insert(kind)
            } else {
                files.insert(link)
            };
        }
    }
    let expected = ["anon_inode:[eventfd]", "anon_inode:[eventpoll]", "socket"].map(str::to_owned);
    assert_eq!(kinds, BTreeSet::from(expected));
    // The volume, and the memory that the client has sent.
    let path = volume.path().canonicalize().unwrap().to_str().unwrap().to_owned();
    assert_eq!(files, BTreeSet::from([path, "/memfd:skerry-client (deleted)".to_owned()]));
}

#[test]
fn an_orderly_end_leaves_a_clean_volume_with_all_that_was_written() {
    for signal in [Signal::INT, Signal::TERM] {
        let volume = Volume::new();
        let mut server = serve(&volume, 2);
        let (_front_end, mut session) = client(&volume, 0);
        let (root, _) = session.attach(b"").unwrap();
        session.create_file(root, b"new", &pattern(1 << 20)).unwrap();
        // Open and without a name: it goes with its client.
        let doomed = session.create(root, b"doomed").unwrap();
        session.write_all(doomed, 0, &pattern(1 << 20)).unwrap();
        session.unlinkat(root, b"doomed", UnlinkFlags::empty()).unwrap();
        is_recoverable(&volume.path());
        let process = Pid::from_raw(server.process_id().cast_signed()).unwrap();
        kill_process(process, signal).unwrap();
        let status = format!("it exited with status {}", 128 + signal.as_raw());
        assert_eq!(server.wait_for(PATIENCE).unwrap(), Some(status));
        is_clean(&volume.path());
        let _server = serve(&volume, 1);
        let (_front_end, mut session) = client(&volume, 0);
        let (root, _) = session.attach(b"").unwrap();
        assert!(session.read_file(root, b"new").unwrap() == pattern(1 << 20));
    }
}

#[test]
fn what_was_answered_is_there_after_a_kill_and_the_next_server_goes_on() {
    let volume = Volume::new();
    let mut written = 0;
    for round in 0..4 {
        let mut server = serve(&volume, 1);
        let process = Pid::from_raw(server.process_id().cast_signed()).unwrap();
        let (_front_end, mut session) = client(&volume, 0);
        session.transport().requests().watch(pidfd_open(process, PidfdFlags::empty()).unwrap());
        let (root, _) = session.attach(b"").unwrap();
        for number in 0..written {
            let content = session.read_file(root, format!("file-{number}").as_bytes()).unwrap();
            assert!(content == pattern(1 + number * 7919 % 50_000), "file-{number} after {round} kills");
        }
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20 + 31 * round));
            kill_process(process, Signal::KILL).unwrap();
        });
        // Counted when it was answered; the one that was not may be there in part.
        while session
            .create_file(root, format!("file-{written}").as_bytes(), &pattern(1 + written * 7919 % 50_000))
            .is_ok()
        {
            written += 1;
        }
        killer.join().unwrap();
        assert_eq!(server.wait_for(PATIENCE).unwrap().as_deref(), Some("it was ended by signal 9"));
        is_recoverable(&volume.path());
        let _server = serve(&volume, 1);
        let (_front_end, mut session) = client(&volume, 0);
        let (root, _) = session.attach(b"").unwrap();
        match session.unlinkat(root, format!("file-{written}").as_bytes(), UnlinkFlags::empty()) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.errno(), Some(ENOENT)),
        }
    }
    assert!(written > 10, "{written} files are no load");
    println!("{written} files written and found after 4 kills");
    let server = serve(&volume, 1);
    server.shut_down().unwrap();
    is_clean(&volume.path());
}

#[test]
fn two_clients_share_one_volume_and_its_locks() {
    let volume = Volume::new();
    let _server = serve(&volume, 2);
    let (first_front_end, mut first) = client(&volume, 0);
    let (_front_end, mut second) = client(&volume, 1);
    let (root, _) = first.attach(b"").unwrap();
    let (other_root, _) = second.attach(b"").unwrap();
    first.create_file(root, b"shared", b"seen by both\n").unwrap();
    assert_eq!(second.read_file(other_root, b"shared").unwrap(), b"seen by both\n");
    let lock = |fid| Tlock {
        fid,
        kind: LockType::Write,
        flags: LockFlags::empty(),
        start: 0,
        length: 0,
        proc_id: 1,
        client_id: b"client",
    };
    let open = |client: &mut Client<RingTransport>, root| {
        let file = client.walk_path(root, b"shared").unwrap();
        client.open(file, OpenFlags::RDWR).unwrap();
        file
    };
    let mine = open(&mut first, root);
    let theirs = open(&mut second, other_root);
    assert_eq!(first.lock(lock(mine)).unwrap(), LockStatus::Success);
    assert_eq!(second.lock(lock(theirs)).unwrap(), LockStatus::Blocked);
    // A client that is gone holds nothing, although nobody else asks its ring for anything.
    drop((first_front_end, first));
    let end = Instant::now() + PATIENCE;
    while second.lock(lock(theirs)).unwrap() == LockStatus::Blocked {
        assert!(Instant::now() < end, "its lock was not released");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn each_socket_has_its_tag_and_the_exports_hold() {
    let volume = Volume::new();
    let options = |serve: &mut skerry_host::serve::Options| {
        serve.sockets[0].tag = "first".to_owned();
        let path = volume.socket(1);
        serve.sockets.push(skerry_host::vhost_user::Socket { path, tag: "the second".to_owned() });
        serve.exports = vec!["/dir:readonly".to_owned(), "/many".to_owned()];
    };
    let _server = serve_with(&volume, options);
    let (mut front_end, mut session) = client(&volume, 0);
    assert_eq!(front_end.config(7).unwrap(), b"\x05\0first");
    let (mut other, _session) = client(&volume, 1);
    assert_eq!(other.config(12).unwrap(), b"\x0a\0the second");
    assert_eq!(session.attach(b"").unwrap_err().errno(), Some(ENOENT));
    assert_eq!(session.attach(b"ctl").unwrap_err().errno(), Some(ENOENT));
    let (directory, _) = session.attach(b"/dir").unwrap();
    assert_eq!(session.create(directory, b"new").unwrap_err().errno(), Some(EROFS));
    let (many, _) = session.attach(b"/many").unwrap();
    session.create_file(many, b"new", b"new\n").unwrap();
}

#[test]
fn a_volume_that_is_only_read_stays_as_it_is() {
    let volume = Volume::new();
    let before = fs::read(volume.path()).unwrap();
    let server = serve_with(&volume, |serve| serve.readonly = true);
    assert!(server.is_readonly());
    let (_front_end, mut session) = client(&volume, 0);
    let (root, _) = session.attach(b"").unwrap();
    assert_eq!(session.create(root, b"new").unwrap_err().errno(), Some(EROFS));
    assert_eq!(session.read_file(root, b"hello").unwrap(), b"Hello, skerry!\n");
    server.shut_down().unwrap();
    assert!(fs::read(volume.path()).unwrap() == before);
}

#[test]
fn client_memory_of_any_size_is_served_and_a_ring_that_is_not_polled_too() {
    let volume = Volume::new();
    let _server = serve_with(&volume, |serve| serve.poll = Duration::ZERO);
    let (_front_end, mut session) =
        connected(&volume.socket(0), Options { memory: 24 << 20, ..Options::default() });
    let (root, _) = session.attach(b"").unwrap();
    assert!(session.read_file(root, b"big").unwrap() == pattern(support::BIG));
}

#[test]
fn bytes_that_are_no_request_end_their_connection_and_nothing_else() {
    let volume = Volume::new();
    let mut server = serve(&volume, 2);
    let (_front_end, mut other) = client(&volume, 1);
    let (root, _) = other.attach(b"").unwrap();
    let noise = pattern(4096);
    for round in 0..40 {
        let mut stream = UnixStream::connect(volume.socket(0)).unwrap();
        let message = match round % 4 {
            // Noise; a header of noise with the version that is expected; every request with a payload of noise.
            0 => noise[round..round + 200].to_vec(),
            1 => [&noise[round..round + 4], &1u32.to_le_bytes(), &noise[..50]].concat(),
            _ => {
                let request = u32::try_from(round).unwrap().to_le_bytes();
                [&request, &1u32.to_le_bytes(), &40u32.to_le_bytes(), &noise[round..round + 40]].concat()
            }
        };
        // The server may have hung up already.
        let _ = stream.write_all(&message);
        drop(stream);
        assert_eq!(other.read_file(root, b"hello").unwrap(), b"Hello, skerry!\n");
    }
    assert_eq!(server.wait_for(Duration::ZERO).unwrap(), None);
    let (_front_end, mut session) = client(&volume, 0);
    session.attach(b"").unwrap();
}

#[test]
fn the_control_socket_tells_of_the_clients_and_the_volume_and_brings_it_to_rest() {
    let volume = Volume::new();
    let path = volume.directory().join("control");
    let server = serve_with(&volume, |serve| serve.control = Some(path.clone()));
    let (front_end, mut session) = client(&volume, 0);
    let (root, _) = session.attach(b"").unwrap();
    session.create_file(root, b"new", b"new\n").unwrap();
    assert!(session.read_file(root, b"big").unwrap() == pattern(support::BIG));
    let (mut control_front_end, mut control) = connected(&path, Options::default());
    assert_eq!(control_front_end.config(5).unwrap(), b"\x03\0ctl");
    let (ctl, _) = control.attach(b"ctl").unwrap();
    let read = |control: &mut Client<RingTransport>, path: &str| {
        String::from_utf8(control.read_file(ctl, path.as_bytes()).unwrap()).unwrap()
    };
    let status = read(&mut control, "clients/0/status");
    assert!(status.starts_with("state running\nnext "), "{status}");
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.expect(key).parse::<u64>().unwrap()
    };
    assert_eq!(value("bytes_served"), support::BIG as u64, "{status}");
    assert_eq!(value("bytes_served"), value("bytes_copied"));
    let stats = read(&mut control, "stats");
    assert!(
        stats.contains("clients_attached 2\n") && stats.contains("poll_microseconds_at_most 400\n"),
        "{stats}"
    );
    let counted = |key: &str| -> u64 {
        stats.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).expect(key).parse().unwrap()
    };
    assert!(counted("polls_hit") + counted("wakes") > 0, "{stats}");
    assert!(read(&mut control, "volume").contains("access writable\nlocks 0\nerrors 0\nlast_rest never\n"));

    let file = control.walk_path(ctl, b"volume").unwrap();
    control.open(file, OpenFlags::WRONLY).unwrap();
    control.write(file, 0, b"rest\n").unwrap();
    assert_eq!(read(&mut control, "volume"), "access readonly\nlocks 0\nerrors 0\nlast_rest done\n");
    is_clean(&volume.path());
    assert_eq!(session.create(root, b"too late").unwrap_err().errno(), Some(EROFS));
    assert_eq!(session.read_file(root, b"new").unwrap(), b"new\n");
    drop((front_end, session));
    let end = Instant::now() + PATIENCE;
    while !read(&mut control, "clients/0/status").starts_with("state free\nnext ") {
        assert!(Instant::now() < end, "the client is still there");
    }
    server.shut_down().unwrap();
    is_clean(&volume.path());
}

#[test]
fn the_control_socket_tells_that_the_volume_is_damaged() {
    let volume = Volume::new();
    let path = volume.directory().join("control");
    let block: u64 = judge("debugfs", &["-R", "bmap /dir/inner 0"], &volume.path())
        .lines()
        .find_map(|line| line.trim().parse().ok())
        .expect("the directory's block");
    let header = judge("dumpe2fs", &["-h"], &volume.path());
    let size = header.lines().find_map(|line| line.strip_prefix("Block size:")?.trim().parse::<u64>().ok());
    let file = fs::OpenOptions::new().write(true).open(volume.path()).unwrap();
    file.write_all_at(&[0xff; 16], block * size.unwrap()).unwrap();
    drop(file);

    let _server = serve_with(&volume, |serve| serve.control = Some(path.clone()));
    let (_front_end, mut session) = client(&volume, 0);
    let (_control_front_end, mut control) = connected(&path, Options::default());
    let (root, _) = session.attach(b"").unwrap();
    let (ctl, _) = control.attach(b"ctl").unwrap();
    let mut told = || String::from_utf8(control.read_file(ctl, b"volume").unwrap()).unwrap();
    assert!(told().contains("\nerrors 0\n"));
    let inner = session.walk_path(root, b"dir/inner").unwrap();
    assert_eq!(session.walk_path(inner, b"leaf").unwrap_err().errno(), Some(EUCLEAN));
    assert!(told().contains("\nerrors 1\n"), "{}", told());
}

/// Processor time of a process so far, in clock ticks (100 a second).
fn ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let behind_the_name = stat.rsplit_once(") ").unwrap().1;
    let fields: Vec<&str> = behind_the_name.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn an_idle_server_with_a_client_costs_nothing() {
    let volume = Volume::new();
    let server = serve(&volume, 2);
    let (_front_end, mut session) = client(&volume, 0);
    let (root, _) = session.attach(b"").unwrap();
    assert_eq!(session.read_file(root, b"hello").unwrap(), b"Hello, skerry!\n");
    std::thread::sleep(Duration::from_millis(50));
    let before = ticks(server.process_id());
    std::thread::sleep(Duration::from_secs(3));
    let used = ticks(server.process_id()) - before;
    // One per cent of three seconds.
    assert!(used <= 3, "{used} ticks of 300");
}
