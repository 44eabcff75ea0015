// SPDX-License-Identifier: MIT OR Apache-2.0

//! Linux in a client VM against the service VM: everything that a volume holds, and two clients at a time.
//!
//! The oracle is the kernel's own ext4, which reads the same volume as a block device in the same client. The
//! sums of what was imported are the host's. What is left of the volumes that were written goes to `tests/kernel.rs`.

#[path = "client_vm/churn.rs"]
mod churn;
#[path = "client_vm/host_mode.rs"]
mod host_mode;
#[path = "client_vm/idle.rs"]
mod idle;
#[path = "support/kept.rs"]
mod kept;
#[path = "support/length.rs"]
mod length;
#[path = "client_vm/locks.rs"]
mod locks;
#[path = "client_vm/source_tree.rs"]
mod source_tree;
#[path = "client_vm/writing.rs"]
mod writing;

use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use skerry_host::bridge::{self, Bridge, Socket};
use skerry_host::client_vm::{
    ClientVm, Disk, LARGEST_MSIZE, MOUNT_LIMIT, Mount, Options, Output, Server, Streams, output,
};
use skerry_host::{service_vm, volume_image, workspace};
use tempfile::TempDir;

/// The msizes of the mounts: the most that Linux uses, the least that is usual, one that is no multiple of a page.
const MSIZES: [u32; 3] = [LARGEST_MSIZE, 8192, 131_096];

/// Directories below `target/`, where there is room for a volume.
fn scratch() -> TempDir {
    fs::create_dir_all(workspace::target()).unwrap();
    tempfile::tempdir_in(workspace::target()).unwrap()
}

/// The service VM with `volume`, and sockets for `count` clients.
fn served(volume: &Path, readonly: bool, directory: &Path, count: usize) -> (Bridge, Vec<Socket>) {
    let socket =
        |number| Socket { path: directory.join(format!("socket-{number}")), tag: "skerry".to_owned() };
    let sockets: Vec<Socket> = (0..count).map(socket).collect();
    let service = service_vm::Options { readonly, ..service_vm::Options::new(volume).unwrap() };
    let options = bridge::Options { service, sockets: sockets.clone() };
    (Bridge::start(&options).unwrap(), sockets)
}

/// What a command in a client said, which must have ended well.
fn succeeded(output: Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status, 0, "standard output:\n{stdout}\nstandard error:\n{stderr}");
    assert!(stderr.is_empty(), "{stderr}");
    stdout.into_owned()
}

/// The lines of `sha256sum` for every file below `root`, in the order of compare.sh's `given_sums`.
fn host_sums(root: &Path) -> Vec<u8> {
    let list = "find . -path ./many -prune -o -type f -size -1048576k -print0 | LC_ALL=C sort -z | xargs -0 sha256sum";
    let listed = Command::new("sh").args(["-c", list]).current_dir(root).output().unwrap();
    assert!(listed.status.success());
    listed.stdout
}

/// The sum of one file.
fn host_sum(file: &Path) -> Vec<u8> {
    let summed = Command::new("sha256sum").arg(file).output().unwrap();
    assert!(summed.status.success());
    summed.stdout
}

#[test]
fn linux_sees_every_byte_name_and_attribute_of_a_volume_at_every_msize() {
    let scratch = scratch();
    let source = scratch.path().join("source");
    fs::create_dir(&source).unwrap();
    source_tree::fill(&source).unwrap();
    let volume = volume_image::import(&source).unwrap();

    let files = scratch.path().join("files");
    fs::create_dir_all(files.join("truth")).unwrap();
    fs::write(files.join("truth/sums"), host_sums(&source)).unwrap();
    fs::write(files.join("truth/enrich.sh"), include_str!("client_vm/enrich.sh")).unwrap();
    fs::write(files.join("truth/compare.sh"), include_str!("client_vm/compare.sh")).unwrap();
    fs::remove_dir_all(&source).unwrap();
    // Debian's, not busybox's, which know less.
    let programs = "find xargs getfattr setfattr setfacl sha256sum stat diff sort tail sed";
    let client = |server, disk, command: String| Options {
        disks: vec![disk],
        mount: Mount { readonly: true, ..Mount::default() },
        files: Some(files.clone()),
        programs: programs.split(' ').map(str::to_owned).collect(),
        ..Options::run(server, command)
    };

    succeeded(
        output(&client(None, Disk::writable(volume.path()), "sh /truth/enrich.sh".to_owned())).unwrap(),
    );
    let checked = Command::new("/usr/sbin/e2fsck").arg("-fn").arg(volume.path()).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));

    let untouched = host_sum(volume.path());
    let (_bridge, mut sockets) = served(volume.path(), true, scratch.path(), 1);
    // The largest alone takes all of it, unless there is time.
    let mount = |&msize: &u32| {
        let part = if length::is_long() || msize == LARGEST_MSIZE { "" } else { "part:" };
        format!("'{part}{}'", Mount { msize, readonly: true, ..Mount::default() })
    };
    let mounts: Vec<String> = MSIZES.iter().map(mount).collect();
    let compare = format!("sh /truth/compare.sh skerry {}", mounts.join(" "));
    let disk = Disk::read_only(volume.path());
    let said = succeeded(output(&client(sockets.pop().map(Server::VhostUser), disk, compare)).unwrap());
    eprint!("{said}");
    assert!(!said.contains("differs"), "{said}");
    assert_eq!(said.matches("compared: ").count(), MSIZES.len(), "{said}");
    let count = |kind: &str| -> usize {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("count: {kind} "))).unwrap();
        line.parse().unwrap()
    };
    assert!(count("attributes") > source_tree::MANY);
    assert!(count("devices") == 3 && count("tails") == 2 && count("xattrs") > 50, "{said}");
    assert!(count("made-sums") >= 2000 && count("given-sums") > 1500, "{said}");
    assert_eq!(host_sum(volume.path()), untouched, "serving a volume changed it");
}

/// A tree of some files for clients that read it again and again, and the sums of it.
fn small_volume(scratch: &Path) -> (tempfile::NamedTempFile, PathBuf) {
    let (source, files) = (scratch.join("source"), scratch.join("files"));
    fs::create_dir_all(&source).unwrap();
    fs::create_dir_all(&files).unwrap();
    for number in 0..40_u8 {
        let bytes: Vec<u8> =
            (0..700_000_u32).map(|at| (at >> 8) as u8 ^ (at as u8).wrapping_mul(number)).collect();
        fs::write(source.join(format!("file-{number}")), bytes).unwrap();
    }
    fs::write(files.join("sums"), host_sums(&source)).unwrap();
    (volume_image::import(&source).unwrap(), files)
}

/// A client that runs, with pipes to talk to it.
struct Attended {
    vm: ClientVm,
    input: io::PipeWriter,
    lines: io::Lines<BufReader<PipeReader>>,
}

impl Attended {
    fn start(socket: &Socket, name: &str, files: &Path, command: &str) -> Self {
        let (stdin, input) = io::pipe().unwrap();
        let (lines, stdout) = io::pipe().unwrap();
        let streams =
            Streams { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr: Box::new(io::stderr()) };
        let options = Options {
            name: name.to_owned(),
            files: Some(files.to_path_buf()),
            ..Options::run(Some(Server::VhostUser(socket.clone())), command)
        };
        let mut vm = ClientVm::start(&options, streams).unwrap();
        vm.wait_until_mounted(MOUNT_LIMIT).unwrap();
        Self { vm, input, lines: BufReader::new(lines).lines() }
    }

    /// Waits until the client says this line, and nothing else before it.
    fn says(&mut self, expected: &str) {
        assert_eq!(self.lines.next().expect("the client says more").unwrap(), expected);
    }
}

/// Verifies everything until a line comes in, and says so each time.
const VERIFY_UNTIL_TOLD: &str = "exec 9<&0
    { read -r line <&9; : >/tmp/enough; } &
    cd /mnt
    while ! [ -e /tmp/enough ]; do
        sha256sum -c /sums >/tmp/out 2>&1 || { cat /tmp/out; exit 1; }
        echo verified
    done";

#[test]
fn a_client_that_is_killed_harms_no_other_and_its_socket_can_be_attached_again() {
    let scratch = scratch();
    let (volume, files) = small_volume(scratch.path());
    let (_bridge, sockets) = served(volume.path(), false, scratch.path(), 2);

    let mut doomed = Attended::start(&sockets[0], "first client", &files, VERIFY_UNTIL_TOLD);
    let mut other = Attended::start(&sockets[1], "second client", &files, VERIFY_UNTIL_TOLD);
    doomed.says("verified");
    other.says("verified");
    // Both are reading now.
    doomed.vm.kill();
    // The round that ran at that moment, and one that began after it.
    other.says("verified");
    other.says("verified");

    let mut next = Attended::start(&sockets[0], "third client", &files, VERIFY_UNTIL_TOLD);
    next.says("verified");
    other.says("verified");
    for mut client in [other, next] {
        client.input.write_all(b"enough\n").unwrap();
        assert_eq!(client.vm.wait().unwrap(), 0);
    }
}

#[test]
fn a_command_has_its_streams_and_its_exit_status_to_itself() {
    let (stdin, mut input) = io::pipe().unwrap();
    let (mut stdout, written) = io::pipe().unwrap();
    let streams =
        Streams { stdin: Box::new(stdin), stdout: Box::new(written), stderr: Box::new(io::stderr()) };
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect();
    let sent = bytes.clone();
    std::thread::spawn(move || input.write_all(&sent));
    let reader = std::thread::spawn(move || {
        let mut read = Vec::new();
        io::Read::read_to_end(&mut stdout, &mut read).map(|_| read)
    });
    let mut vm = ClientVm::start(&Options::run(None, "cat; exit 7"), streams).unwrap();
    assert_eq!(vm.wait().unwrap(), 7);
    drop(vm);
    assert!(reader.join().unwrap().unwrap() == bytes, "the bytes came back changed");
}

#[test]
fn a_command_that_a_signal_ends_has_128_more_than_the_signal_as_its_status() {
    // A process that it leaves behind does not keep the session open.
    let command = "echo to standard error >/dev/stderr; sleep 1000 & kill -9 $$";
    let output = output(&Options::run(None, command)).unwrap();
    assert_eq!(output, Output { status: 137, stdout: Vec::new(), stderr: b"to standard error\n".to_vec() });
}

/// The `skerry` command with nothing on its standard input.
fn skerry(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skerry"));
    command.arg("vm").args(arguments).stdin(std::process::Stdio::null()).output().unwrap()
}

#[test]
fn the_command_serves_an_imported_directory_and_says_nothing_of_its_own_on_standard_output() {
    let scratch = scratch();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir_all(path("source/directory")).unwrap();
    fs::write(path("source/directory/file"), b"\0\r\n\xff").unwrap();
    fs::create_dir_all(path("files/opt")).unwrap();
    fs::write(path("files/opt/tool"), "#!/bin/sh\ncat /mnt/directory/file\nexit 42\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(path("files/opt/tool"), mode).unwrap();
    let output = skerry(&[
        "--import",
        &path("source"),
        "--files",
        &path("files"),
        "--run",
        "/opt/tool",
        "--msize",
        "8192",
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(42), "{said}");
    assert_eq!(output.stdout, b"\0\r\n\xff", "{said}");
    assert!(said.contains("has the volume at /mnt"), "{said}");
}

/// The volume is without a fault and has no journal to be replayed.
fn is_clean(volume: &Path) -> bool {
    let said = |program: &str, option: &str| Command::new(program).arg(option).arg(volume).output().unwrap();
    let header = String::from_utf8_lossy(&said("/usr/sbin/dumpe2fs", "-h").stdout).into_owned();
    said("/usr/sbin/e2fsck", "-fn").status.success() && !header.contains("needs_recovery")
}

#[test]
fn the_command_mounts_a_volume_to_be_written_unless_told_not_to_and_leaves_it_clean() {
    let scratch = scratch();
    let volume = scratch.path().join("volume.ext4");
    writing::empty_volume(&volume);
    let path = volume.to_str().unwrap();
    let command =
        "grep ' /mnt ' /proc/mounts; cp -a /etc /mnt/copied 2>/dev/null; cat /mnt/copied/passwd >/dev/null";
    for (arguments, access) in [(&["--volume", path][..], "rw,"), (&["--volume", path, "--readonly"], "ro,")]
    {
        let before = host_sum(&volume);
        let output = skerry(&[arguments, &["--run", command]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let mount = String::from_utf8_lossy(&output.stdout);
        assert!(mount.contains(&format!(" /mnt 9p {access}")), "{mount}");
        assert!(is_clean(&volume), "{said}");
        assert!(access == "rw," || host_sum(&volume) == before, "it was changed");
    }
    kept::keep("client", "command", &volume);
}

#[test]
fn a_signal_ends_the_command_in_order() {
    let scratch = scratch();
    let volume = scratch.path().join("volume.ext4");
    writing::empty_volume(&volume);
    let mut command = Command::new(env!("CARGO_BIN_EXE_skerry"));
    let command = command.args(["vm", "--no-client", "--volume"]).arg(&volume);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said: Vec<String> =
        lines.map(Result::unwrap).take_while(|line| !line.contains("Ctrl-C ends the service VM")).collect();
    assert!(!is_clean(&volume), "it is being served: {said:#?}");
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15), "{said:#?}");
    assert!(is_clean(&volume), "{said:#?}");
    kept::keep("client", "signal", &volume);
}

#[test]
fn what_cannot_be_served_is_refused_with_one_message_that_names_it() {
    let scratch = scratch();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("damaged"), vec![0; 4 << 20]).unwrap();
    let refused = [
        (vec!["--volume", "/nowhere/volume"], 125, "/nowhere/volume"),
        (vec!["--volume", "/dev"], 125, "/dev is no regular file"),
        (vec!["--import", "/nowhere/tree"], 125, "/nowhere/tree is no directory"),
        (vec!["--memory", "600M"], 2, "use 512M or 1G"),
        (vec!["--memory", "16G"], 2, "the most is 8G"),
        (vec!["--msize", "1000000"], 2, "4096..=512000"),
    ];
    let damaged = path("damaged");
    let of_the_image = (vec!["--volume", damaged.as_str()], 125, "no ext4 volume");
    for (arguments, status, message) in refused.into_iter().chain([of_the_image]) {
        let output = skerry(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(message), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
