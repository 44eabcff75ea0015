// SPDX-License-Identifier: MIT OR Apache-2.0

//! A client that has the share mounted and does nothing costs nothing, in either mode.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use skerry_host::bridge;
use skerry_host::running_server::{self, RunningServer};
use skerry_host::service_vm;

use super::{Attended, Socket, scratch, writing};

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(10);
/// How long it takes until nothing happens any more.
const SETTLE: Duration = Duration::from_secs(2);

/// `USER_HZ`, which is the same on all x86-64.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time that a process has used so far, in seconds.
fn used(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Behind the name, which may contain anything: state is field 3, utime and stime are fields 14 and 15 (proc_pid_stat(5)).
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / TICKS_PER_SECOND
}

/// Shares of a processor that the server uses while a client is idle: that of the server's process, and that of this one, in
/// which the bridge runs.
fn shares(options: &running_server::Options, socket: &Socket, files: &Path) -> [f64; 2] {
    let server = RunningServer::start(options).unwrap();
    let wait = "find /mnt >/dev/null; echo mounted; read -r line";
    let mut client = Attended::start(socket, "idle client", files, wait);
    client.says("mounted");
    std::thread::sleep(SETTLE);
    let processes = [server.process_id(), std::process::id()];
    let (start, before) = (Instant::now(), processes.map(used));
    std::thread::sleep(IDLE);
    let (passed, after) = (start.elapsed().as_secs_f64(), processes.map(used));
    client.input.write_all(b"end\n").unwrap();
    assert_eq!(client.vm.wait().unwrap(), 0);
    server.shut_down().unwrap();
    [0, 1].map(|process| (after[process] - before[process]) / passed)
}

#[test]
fn an_idle_client_costs_less_than_a_hundredth_of_a_processor() {
    let scratch = scratch();
    let volume = scratch.path().join("volume.ext4");
    writing::empty_volume(&volume);
    let files = scratch.path().join("files");
    fs::create_dir(&files).unwrap();
    for mode in ["vm", "host"] {
        let socket = Socket { path: scratch.path().join(mode), tag: "skerry".to_owned() };
        let options = match mode {
            "vm" => running_server::Options::Vm(bridge::Options {
                service: service_vm::Options::new(&volume).unwrap(),
                sockets: vec![socket.clone()],
            }),
            _ => running_server::Options::Host {
                program: env!("CARGO_BIN_EXE_skerry").into(),
                serve: skerry_host::serve::Options::new(&volume, vec![socket.clone()]),
                log_level: "warn".to_owned(),
            },
        };
        let [server, bridge] = shares(&options, &socket, &files);
        println!(
            "shown: idle with a mounted client, mode {mode}: server {:.2} %, this process {:.2} %",
            server * 100.0,
            bridge * 100.0
        );
        assert!(server < 0.01 && bridge < 0.01, "mode {mode}: {server} {bridge}");
    }
}
