// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs that people use, in a Linux client, on a volume that the service VM serves: git, a compiler, dbench, sqlite.
//!
//! They are Debian's, in a root of their own that the client has as a disk (`host/provision-tests.sh` makes it). What they say is
//! kept below `target/tmp`; the volumes are left to `tests/kernel.rs`.

#[path = "programs/sqlite.rs"]
mod sqlite;
mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use skerry_host::bridge::{self, Bridge, Socket};
use skerry_host::client_vm::{Cache, Disk, Mount, Options, Output, Server, output};
use skerry_host::{service_vm, workspace};
use tempfile::TempDir;

/// What client VMs run, below `/programs` in their root.
const SCRIPTS: [(&str, &str); 6] = [
    ("enter.sh", include_str!("programs/enter.sh")),
    ("git.sh", include_str!("programs/git.sh")),
    ("compile.sh", include_str!("programs/compile.sh")),
    ("dbench.sh", include_str!("programs/dbench.sh")),
    ("hammer.sh", include_str!("programs/hammer.sh")),
    ("judge.sh", include_str!("programs/judge.sh")),
];

/// A directory of its own with an empty volume of 1 GiB in it.
struct Bench {
    directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        fs::create_dir_all(workspace::target()).unwrap();
        let bench = Self { directory: tempfile::tempdir_in(workspace::target()).unwrap() };
        let mut make = Command::new("/usr/sbin/mkfs.ext4");
        fs::File::create(bench.volume()).unwrap();
        assert!(
            make.args(["-q", "-F", "-b", "4096"]).arg(bench.volume()).arg("1G").status().unwrap().success()
        );
        for (name, script) in SCRIPTS {
            let directory = bench.directory.path().join("files/programs");
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(name), script).unwrap();
        }
        bench
    }

    fn volume(&self) -> PathBuf {
        self.directory.path().join("volume.ext4")
    }

    /// The service VM with the volume, and the socket for a client.
    fn served(&self) -> (Bridge, Socket) {
        let socket = Socket { path: self.directory.path().join("socket"), tag: "skerry".to_owned() };
        let service = service_vm::Options::new(self.volume()).unwrap();
        (Bridge::start(&bridge::Options { service, sockets: vec![socket.clone()] }).unwrap(), socket)
    }

    /// A client that mounts with `cache` and runs a script with arguments in the userland.
    fn client(&self, socket: Socket, cache: Cache, script: &str) -> Options {
        let userland = workspace::target().join("tools/userland.ext4");
        assert!(userland.exists(), "{} is missing; run host/provision-tests.sh", userland.display());
        Options {
            mount: Mount { cache, ..Mount::default() },
            disks: vec![Disk::read_only(&userland)],
            files: Some(self.directory.path().join("files")),
            ..Options::run(Some(Server::VhostUser(socket)), format!("sh /programs/enter.sh {script}"))
        }
    }

    /// Runs a script from its begin to its good end, and gives back what it said. The volume is in order then.
    fn run(&self, cache: Cache, script: &str) -> String {
        let (bridge, socket) = self.served();
        let output = output(&self.client(socket, cache, script)).unwrap();
        bridge.shut_down().unwrap();
        let name = format!("{script}-{cache:?}").replace([' ', '.'], "-");
        let said = recorded(&format!("programs-{name}"), &output);
        support::is_clean(&self.volume());
        support::kept::keep("programs", &name, &self.volume());
        assert_eq!(output.status, 0, "{said}");
        assert!(!said.contains("differs"), "{said}");
        said
    }
}

/// Writes what a run said to `target/tmp/NAME`, and gives it back.
fn recorded(name: &str, output: &Output) -> String {
    let directory = workspace::target().join("tmp");
    fs::create_dir_all(&directory).unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    fs::write(directory.join(name), &said).unwrap();
    said
}

/// The line of what was said that begins so.
#[track_caller]
fn line<'a>(said: &'a str, begin: &str) -> &'a str {
    said.lines()
        .find(|line| line.trim_start().starts_with(begin))
        .unwrap_or_else(|| panic!("no {begin}: {said}"))
}

/// The caches that a test goes through: all of them, if there is time.
fn caches(short: &[Cache]) -> Vec<Cache> {
    if support::length::is_long() { vec![Cache::None, Cache::Mmap, Cache::Loose] } else { short.to_vec() }
}

#[test]
fn git_keeps_a_history_and_clones_it_without_a_fault() {
    for cache in caches(&[Cache::Loose]) {
        let said = Bench::new().run(cache, "git.sh");
        println!("shown: with cache={cache:?}, {}", line(&said, "git: "));
    }
}

#[test]
fn a_compiler_makes_a_program_that_does_what_it_should() {
    let optimization = if support::length::is_long() { "-O2" } else { "-O0" };
    let mut sums = Vec::new();
    for cache in caches(&[Cache::Mmap]) {
        let said = Bench::new().run(cache, &format!("compile.sh {optimization}"));
        println!("shown: with cache={cache:?}, Lua {optimization} {}", line(&said, "compiled: "));
        // The primes below 20,000, by the source and by what is compiled of it.
        assert_eq!(said.matches("Lua 5.4\t2262\t21171191\n").count(), 2, "{said}");
        sums.push(said.lines().filter(|line| line.contains("  src/")).map(str::to_owned).collect::<Vec<_>>());
    }
    assert!(sums[0].len() == 3 && sums.iter().all(|sum| *sum == sums[0]), "{sums:#?}");
}

#[test]
fn dbench_ends_without_an_error() {
    let (seconds, clients) = if support::length::is_long() { (120, 8) } else { (20, 2) };
    for cache in caches(&[Cache::None]) {
        let said = Bench::new().run(cache, &format!("dbench.sh {seconds} {clients}"));
        println!("shown: with cache={cache:?}, dbench: {}", line(&said, "Throughput "));
    }
}
