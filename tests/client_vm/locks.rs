// SPDX-License-Identifier: MIT OR Apache-2.0

//! Two Linux clients that contend for ranges of a file, by POSIX record locks; one of them is killed with its locks.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use skerry_host::bench::program::{STATIC, compile};
use skerry_host::bridge::Socket;

use super::{Attended, scratch, served, writing};

/// Long enough for an answer that comes at once.
const AT_ONCE: Duration = Duration::from_secs(30);
/// For so long an answer that is to be waited for must not come. Linux asks again after 1 s or less.
const A_WHILE: Duration = Duration::from_secs(3);

/// A client that takes and gives back ranges of the file `/mnt/file`.
struct Contender {
    vm: skerry_host::client_vm::ClientVm,
    input: std::io::PipeWriter,
    lines: Receiver<String>,
}

impl Contender {
    fn start(socket: &Socket, name: &str, files: &Path) -> Self {
        let Attended { vm, input, lines } = Attended::start(socket, name, files, "/range_lock /mnt/file");
        let (sender, receiver) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { vm, input, lines: receiver }
    }

    fn ask(&mut self, what: &str) {
        writeln!(self.input, "{what}").unwrap();
    }

    #[track_caller]
    fn says(&self, expected: &str) {
        assert_eq!(self.lines.recv_timeout(AT_ONCE).expect("the client answers"), expected);
    }

    #[track_caller]
    fn waits(&self) {
        assert_eq!(self.lines.recv_timeout(A_WHILE), Err(RecvTimeoutError::Timeout));
    }
}

#[test]
fn two_clients_contend_for_ranges_and_the_locks_of_a_killed_one_go() {
    let scratch = scratch();
    let (volume, files) = (scratch.path().join("volume.ext4"), scratch.path().join("files"));
    writing::empty_volume(&volume);
    fs::create_dir(&files).unwrap();
    compile(include_str!("range_lock.c"), &STATIC, &files.join("range_lock")).unwrap();

    let (bridge, sockets) = served(&volume, false, scratch.path(), 2);
    let mut first = Contender::start(&sockets[0], "first client", &files);
    let mut second = Contender::start(&sockets[1], "second client", &files);
    first.ask("try 0 100");
    first.says("locked");
    second.ask("try 50 10");
    second.says("busy");
    second.ask("who 50 10");
    second.says("write 0 100");
    second.ask("try 100 10");
    second.says("locked");
    second.ask("who 110 0");
    second.says("nobody");
    first.ask("who 0 0");
    first.says("write 100 10");

    // The middle is given back: what is around it stays locked.
    first.ask("give 40 20");
    first.says("free");
    second.ask("try 45 10");
    second.says("locked");
    second.ask("try 30 20");
    second.says("busy");
    second.ask("wait 0 20");
    second.waits();
    first.ask("give 0 30");
    first.says("free");
    second.says("locked");

    first.ask("try 200 1");
    first.says("locked");
    second.ask("wait 200 1");
    second.waits();
    first.vm.kill();
    second.says("locked");
    second.ask("who 0 0");
    second.says("nobody");
    drop(second.input);
    assert_eq!(second.vm.wait().unwrap(), 0);
    bridge.shut_down().unwrap();
    writing::judged("e2fsck", &["-fn"], &volume);
}
