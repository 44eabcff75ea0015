// SPDX-License-Identifier: MIT OR Apache-2.0

//! Two Linux clients that change one volume at the same time, at random.

use std::fs;

use skerry_host::bridge::Socket;
use skerry_host::client_vm::{Options, Server, output};

use super::writing::{empty_volume, judged};
use super::{kept, length, scratch, served, succeeded};

#[test]
fn two_clients_change_one_volume_at_the_same_time() {
    let scratch = scratch();
    let volume = scratch.path().join("volume.ext4");
    empty_volume(&volume);
    let files = scratch.path().join("files");
    fs::create_dir_all(files.join("truth")).unwrap();
    fs::write(files.join("truth/churn.sh"), include_str!("churn.sh")).unwrap();
    let rounds = if length::is_long() { 2000 } else { 60 };
    let (bridge, sockets) = served(&volume, false, scratch.path(), 2);
    let client = |socket: &Socket, name: &str, seed: u32| {
        let options = Options {
            name: name.to_owned(),
            files: Some(files.clone()),
            programs: ["find", "sort", "sha256sum", "truncate", "mv", "head"].map(str::to_owned).to_vec(),
            ..Options::run(
                Some(Server::VhostUser(socket.clone())),
                format!("sh /truth/churn.sh {name} {rounds} {seed}"),
            )
        };
        succeeded(output(&options).unwrap())
    };
    let said = std::thread::scope(|scope| {
        let clients = [
            scope.spawn(|| client(&sockets[0], "first", 1)),
            scope.spawn(|| client(&sockets[1], "second", 2)),
        ];
        clients.map(|client| client.join().unwrap())
    });
    bridge.shut_down().unwrap();
    judged("e2fsck", &["-fn"], &volume);
    kept::keep("client", "churn", &volume);
    for said in said {
        assert!(said.contains("compared: ") && !said.contains("differs"), "{said}");
        println!("shown: churn of two clients: {rounds} rounds, {}", said.trim());
    }
}
