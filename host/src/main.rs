// SPDX-License-Identifier: MIT OR Apache-2.0

//! The `skerry` command.

use skerry_host::client_vm::{ClientVm, Options, Server, Streams};
use std::io;

fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let cmd = std::env::args().nth(2).unwrap();
    let mut o = Options::run(Some(Server::VirtFs { directory: dir.into(), tag: "it's".into() }), cmd);
    o.programs = vec!["find".into()];
    let t = std::time::Instant::now();
    let mut vm = ClientVm::start(
        &o,
        Streams {
            stdin: Box::new(io::stdin()),
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
        },
    )
    .unwrap();
    eprintln!("started {:?}", t.elapsed());
    vm.wait_until_mounted(std::time::Duration::from_secs(60)).unwrap();
    eprintln!("mounted {:?}", t.elapsed());
    let s = vm.wait();
    eprintln!("{s:?} {:?}", t.elapsed());
    std::process::exit(s.unwrap().into());
}
