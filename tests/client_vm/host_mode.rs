// SPDX-License-Identifier: MIT OR Apache-2.0

//! `skerry vm --mode host`: Linux mounts what a process of the host serves.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{is_clean, scratch, skerry, writing};

/// Runs `command` in a client of the volume; gives its standard output. It must end well.
fn run(volume: &Path, options: &[&str], command: &str) -> String {
    let arguments = ["--mode", "host", "--volume", volume.to_str().unwrap(), "--run", command];
    let output = skerry(&[&arguments, options].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Writes files of many sizes, moves and removes some, and tells the sums of what is left.
const WRITE: &str = "cd /mnt && mkdir tree && for size in 1 511 4096 65537 1000000 30000000; do
        head -c $size /dev/urandom >tree/file-$size
        cp tree/file-$size tree/copy-$size
    done
    mv tree/copy-511 moved; rm tree/copy-4096; ln tree/file-1 link; ln -s tree/file-1 symlink
    sync; find . -type f ! -path './lost+found/*' | sort | xargs sha256sum";

#[test]
fn what_a_client_writes_in_host_mode_is_what_the_next_client_of_either_mode_reads() {
    let scratch = scratch();
    let volume = scratch.path().join("volume.ext4");
    writing::empty_volume(&volume);
    let sums = run(&volume, &[], WRITE);
    assert_eq!(sums.lines().count(), 12, "{sums}");
    assert!(is_clean(&volume));
    let read = "cd /mnt; find . -type f ! -path './lost+found/*' | sort | xargs sha256sum";
    assert_eq!(run(&volume, &["--readonly"], &format!("grep -q '/mnt 9p ro,' /proc/mounts && {read}")), sums);
    let output = skerry(&["--volume", volume.to_str().unwrap(), "--run", read]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), sums, "the service VM reads something else");
    assert!(is_clean(&volume));
}

/// The command with a server in host mode and no client, and what it said until it was ready.
fn without_client(volume: &Path) -> (Child, BufReader<std::process::ChildStderr>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skerry"));
    let command = command.args(["vm", "--mode", "host", "--no-client", "--volume"]).arg(volume);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("Ctrl-C ends the server") {
        assert!(errors.read_line(&mut said).unwrap() > 0, "{said}");
    }
    (child, errors, said)
}

#[test]
fn a_signal_ends_the_command_and_its_server_in_order() {
    let scratch = scratch();
    let volume = scratch.path().join("volume.ext4");
    writing::empty_volume(&volume);
    let (mut child, _errors, said) = without_client(&volume);
    assert!(!is_clean(&volume), "it is being served: {said}");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15), "{said}");
    assert!(is_clean(&volume), "{said}");
}

#[test]
fn a_server_that_is_killed_ends_the_command_which_says_so() {
    let scratch = scratch();
    let volume = scratch.path().join("volume.ext4");
    writing::empty_volume(&volume);
    let (mut child, mut errors, said) = without_client(&volume);
    let server = said.split_once("the server runs (process ").unwrap().1.split_once(')').unwrap().0;
    kill_process(Pid::from_raw(server.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(125));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut errors, &mut said).unwrap();
    assert!(said.contains("the server ended: it was ended by signal 9"), "{said}");
    // Nothing is lost: the next server recovers the volume.
    run(&volume, &[], "true");
    assert!(is_clean(&volume));
}
