// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the end-to-end tests share: a volume of known content, and service VMs that serve it.
//!
//! They need the image (`cargo build -p skerry-boot --release`) and QEMU (`host/provision.sh`); tests/run.sh sees to both. What
//! is missing fails the test with the command to run.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod kept;
pub mod length;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use skerry_host::bridge::{self, Bridge};
use skerry_host::client::{Client, RingTransport};
use skerry_host::front_end::{self, FrontEnd};
use skerry_host::running_server::{self, RunningServer};
use skerry_host::serve;
use skerry_host::service_vm::{self, ServiceVm};
use tempfile::TempDir;

/// All lines of the log so far, of all tests of this process.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Writes the log to standard error, which the test harness shows for tests that fail, and keeps it.
struct StandardError;

impl log::Log for StandardError {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{:5} {}", record.level(), record.args());
        eprintln!("{line}");
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn flush(&self) {}
}

/// Switches the log on, once.
pub fn log_to_standard_error() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&StandardError).expect("no other logger");
        log::set_max_level(log::LevelFilter::Debug);
    });
}

/// Whether a line of the log contains `text`, or comes to within a few seconds: other threads write it.
pub fn logged(text: &str) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.iter().any(|line| line.contains(text)) {
            return true;
        }
        drop(lines);
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `length` bytes that do not repeat soon.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

/// Length of the file `big`.
pub const BIG: usize = 3 << 20;
/// Files in the directory `many`.
pub const MANY: usize = 1000;
/// Depth of the directories `deep/d/d/…`.
pub const DEEP: usize = 40;

/// Where a server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In a service VM.
    Vm,
    /// In a process of the host.
    Host,
}

/// Each of these, a function of a [`Mode`], is a test of both modes.
#[allow(unused_macros, reason = "as the rest of this module")]
macro_rules! in_both_modes {
    ($($name:ident)*) => {
        mod vm {
            $(#[test] fn $name() { super::$name($crate::support::Mode::Vm); })*
        }
        mod host {
            $(#[test] fn $name() { super::$name($crate::support::Mode::Host); })*
        }
    };
}

/// A session over a ring of the server's socket at `path`, which waits for answers with `patience`. The front end must live as long
/// as the session is used.
pub fn session(
    path: &Path,
    options: front_end::Options,
    patience: Duration,
) -> (FrontEnd, Client<RingTransport>) {
    let mut front_end = FrontEnd::connect(path, options).expect("the front end");
    let transport = RingTransport::new(front_end.start().expect("the ring"), patience);
    (front_end, Client::new(transport, u32::MAX).expect("the session"))
}

/// A volume in a directory of its own.
pub struct Volume {
    directory: TempDir,
}

impl Volume {
    /// Makes a tree and an ext4 file system of it.
    pub fn new() -> Self {
        log_to_standard_error();
        let directory = tempfile::tempdir().expect("a directory for the test");
        let tree = directory.path().join("tree");
        make_tree(&tree).expect("the tree");
        let image = directory.path().join("volume.ext4");
        let status = Command::new("/usr/sbin/mkfs.ext4")
            .args(["-q", "-F", "-d"])
            .args([&tree, &image])
            .arg("32M")
            .status()
            .expect("mkfs.ext4; install e2fsprogs");
        assert!(status.success(), "mkfs.ext4: {status}");
        Self { directory }
    }

    /// Leaves the volume as it is now to the judges of `tests/kernel.rs`. No service VM may have it.
    pub fn keep(&self, name: &str) {
        kept::keep("writing", name, &self.path());
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("volume.ext4")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn service(&self) -> service_vm::Options {
        let options = service_vm::Options::new(self.path()).expect("the image");
        service_vm::Options { log_level: "debug".to_owned(), ..options }
    }

    /// A service VM that serves the volume, and a session over its control ring.
    pub fn serve(&self) -> (ServiceVm, Client<RingTransport>) {
        let (mut vm, connections) = ServiceVm::start(&self.service()).expect("the service VM");
        let client = vm.connect(connections.requests).expect("the control ring");
        (vm, client)
    }

    /// The same, but nothing is written.
    pub fn serve_readonly(&self) -> (ServiceVm, Client<RingTransport>) {
        let options = service_vm::Options { readonly: true, ..self.service() };
        let (mut vm, connections) = ServiceVm::start(&options).expect("the service VM");
        let client = vm.connect(connections.requests).expect("the control ring");
        (vm, client)
    }

    /// What a bridge with `count` sockets is started with.
    fn bridge_options(&self, count: usize) -> bridge::Options {
        let socket = |number| bridge::Socket { path: self.socket(number), tag: "skerry".to_owned() };
        bridge::Options { service: self.service(), sockets: (0..count).map(socket).collect() }
    }

    /// What a server of either mode with `count` sockets is started with.
    pub fn server_options(&self, mode: Mode, count: usize) -> running_server::Options {
        let options = self.bridge_options(count);
        match mode {
            Mode::Vm => running_server::Options::Vm(options),
            Mode::Host => running_server::Options::Host {
                program: env!("CARGO_BIN_EXE_skerry").into(),
                serve: serve::Options::new(self.path(), options.sockets),
                log_level: options.service.log_level,
            },
        }
    }

    /// A server of either mode with `count` sockets.
    pub fn server(&self, mode: Mode, count: usize) -> RunningServer {
        RunningServer::start(&self.server_options(mode, count)).expect("the server")
    }

    /// A bridge with `count` sockets.
    pub fn bridge(&self, count: usize) -> Bridge {
        Bridge::start(&self.bridge_options(count)).expect("the bridge")
    }

    pub fn socket(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("client{number}"))
    }
}

/// A tool that judges volumes; fails with what it says.
#[track_caller]
pub fn judge(program: &str, arguments: &[&str], volume: &Path) -> String {
    let output = Command::new(format!("/usr/sbin/{program}")).args(arguments).arg(volume).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; install e2fsprogs"));
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{said}", output.status);
    said
}

/// The volume is without a fault and says that it is clean.
#[track_caller]
pub fn is_clean(volume: &Path) {
    judge("e2fsck", &["-fn"], volume);
    let header = judge("dumpe2fs", &["-h"], volume);
    assert!(!header.contains("needs_recovery"), "{header}");
    assert!(header.contains("Filesystem state:         clean"), "{header}");
}

/// The volume is without a fault once another implementation has replayed its journal. The volume itself stays as it is.
#[track_caller]
pub fn is_recoverable(volume: &Path) {
    let copy = volume.with_extension("copy");
    fs::copy(volume, &copy).expect("a copy of the volume");
    judge("e2fsck", &["-y", "-E", "journal_only"], &copy);
    judge("e2fsck", &["-fn"], &copy);
    fs::remove_file(&copy).expect("removing the copy");
}

fn make_tree(tree: &Path) -> std::io::Result<()> {
    fs::create_dir_all(tree.join("dir/inner"))?;
    fs::write(tree.join("hello"), b"Hello, skerry!\n")?;
    fs::write(tree.join("empty"), b"")?;
    fs::write(tree.join("dir/inner/leaf"), b"leaf\n")?;
    fs::write(tree.join("big"), pattern(BIG))?;
    symlink("dir/inner/leaf", tree.join("link"))?;
    fs::create_dir(tree.join("many"))?;
    for number in 0..MANY {
        fs::write(tree.join(format!("many/file-{number:04}")), number.to_string())?;
    }
    let mut deep = tree.join("deep");
    for _ in 0..DEEP {
        deep.push("d");
    }
    fs::create_dir_all(&deep)?;
    fs::write(deep.join("bottom"), b"bottom\n")
}
