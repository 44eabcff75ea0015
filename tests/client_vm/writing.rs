// SPDX-License-Identifier: MIT OR Apache-2.0

//! A Linux client that writes: what the kernel's own ext4 finds in the volume afterwards, and what is there when the service VM
//! was killed meanwhile.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use skerry::wire::OpenFlags;
use skerry_host::client_vm::{ClientVm, Disk, MOUNT_LIMIT, Mount, Options, Server, Streams, output};
use skerry_host::service_vm::{self, ServiceVm};

use super::{kept, length, scratch, served, succeeded};

/// An empty volume of 128 MiB.
pub fn empty_volume(path: &Path) {
    let mut make = Command::new("/usr/sbin/mkfs.ext4");
    assert!(make.args(["-q", "-F", "-b", "4096"]).arg(path).arg("128M").status().unwrap().success());
}

/// What that program says of the volume, which must be nothing bad.
pub fn judged(program: &str, arguments: &[&str], volume: &Path) {
    let output = Command::new(format!("/usr/sbin/{program}")).args(arguments).arg(volume).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

#[test]
fn what_linux_wrote_is_what_the_kernels_ext4_reads() {
    let scratch = scratch();
    let volume = scratch.path().join("volume.ext4");
    empty_volume(&volume);
    let files = scratch.path().join("files");
    fs::create_dir_all(files.join("truth")).unwrap();
    fs::write(files.join("truth/change.sh"), include_str!("change.sh")).unwrap();
    fs::write(files.join("truth/describe.sh"), include_str!("describe.sh")).unwrap();
    let programs =
        "find xargs getfattr setfattr setfacl sha256sum stat sort truncate touch dd mknod mkfifo cp";
    let client = |server, disks, command: &str| Options {
        disks,
        files: Some(files.clone()),
        programs: programs.split(' ').map(str::to_owned).collect(),
        ..Options::run(server, command)
    };

    let (bridge, mut sockets) = served(&volume, false, scratch.path(), 1);
    let change = "sh /truth/change.sh /mnt && sh /truth/describe.sh /mnt/work";
    let written =
        succeeded(output(&client(sockets.pop().map(Server::VhostUser), Vec::new(), change)).unwrap());
    bridge.shut_down().unwrap();
    judged("e2fsck", &["-fn"], &volume);
    kept::keep("client", "written", &volume);

    let read = "mkdir /disk && mount -t ext4 -o ro /dev/vda /disk && sh /truth/describe.sh /disk/work";
    let found = succeeded(output(&client(None, vec![Disk::read_only(&volume)], read)).unwrap());
    let differing: Vec<_> =
        written.lines().zip(found.lines()).filter(|(ours, theirs)| ours != theirs).collect();
    assert!(differing.is_empty() && written.len() == found.len(), "{differing:#?}");
    assert!(written.lines().count() > 700, "{written}");
}

/// Makes numbered files, each with the same content as [`content`] says, and says the number of each that is there for good.
const NUMBERED: &str = "mkdir /mnt/numbered
    number=0
    while seq $number $((number + 2000)) >/mnt/numbered/new && mv /mnt/numbered/new /mnt/numbered/$number; do
        echo $number
        number=$((number + 1))
    done";

fn content(number: u32) -> Vec<u8> {
    (number..=number + 2000).flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

#[test]
fn what_linux_was_told_is_written_survives_the_kill_of_the_service_vm() {
    let (mut total, kills) = (0, length::kills(3));
    for round in 0..kills {
        let scratch = scratch();
        let volume = scratch.path().join("volume.ext4");
        empty_volume(&volume);
        let (bridge, sockets) = served(&volume, false, scratch.path(), 1);
        let (said, stdout) = io::pipe().unwrap();
        let streams =
            Streams { stdin: Box::new(io::empty()), stdout: Box::new(stdout), stderr: Box::new(io::sink()) };
        let options = Options {
            mount: Mount::default(),
            ..Options::run(Some(Server::VhostUser(sockets[0].clone())), NUMBERED)
        };
        let mut client = ClientVm::start(&options, streams).unwrap();
        client.wait_until_mounted(MOUNT_LIMIT).unwrap();
        let service = Pid::from_raw(bridge.service_process().cast_signed()).unwrap();
        let answered = std::thread::spawn(move || {
            let lines = BufReader::new(said).lines().map_while(Result::ok);
            lines.filter_map(|line| line.parse::<u32>().ok()).last()
        });
        // Another moment each time.
        std::thread::sleep(Duration::from_micros(1_500_000 + round as u64 * 611_953 % 3_000_000));
        kill_process(service, Signal::KILL).unwrap();
        // What was answered before is on its way out of the client.
        std::thread::sleep(Duration::from_millis(500));
        client.kill();
        drop((client, bridge));
        let answered = answered.join().unwrap().map_or(0, |last| last + 1);

        kept::keep("client", &format!("killed-{round}"), &volume);
        // One implementation replays the journal of a copy, ours that of the volume.
        let copy = volume.with_extension("copy");
        fs::copy(&volume, &copy).unwrap();
        judged("e2fsck", &["-y", "-E", "journal_only"], &copy);
        judged("e2fsck", &["-fn"], &copy);
        let (mut vm, connections) = ServiceVm::start(&service_vm::Options::new(&volume).unwrap()).unwrap();
        let mut session = vm.connect(connections.requests).unwrap();
        let (root, _) = session.attach(b"").unwrap();
        for number in 0..answered {
            let path = format!("numbered/{number}");
            assert!(session.read_file(root, path.as_bytes()).unwrap() == content(number), "{path} differs");
        }
        let numbered = session.walk_path(root, b"numbered").unwrap();
        session.open(numbered, OpenFlags::RDONLY).unwrap();
        let names = session.list(numbered).unwrap().len();
        // With `.` and `..`, and at most one that was made and not told, or is being written.
        let expected = answered as usize + 2;
        assert!((expected..=expected + 1).contains(&names), "{names} names, {answered} answered");
        println!("round {round}: {answered} files were answered, all are there");
        total += answered;
    }
    assert!(total > 0, "no load");
    println!(
        "shown: {kills} kills under the load of a client, {total} files answered before, all there after"
    );
}
