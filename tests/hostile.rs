// SPDX-License-Identifier: MIT OR Apache-2.0

//! Hostile clients: a list of named offences, over a real ring, against a server of either mode, beside a client that behaves well.
//!
//! An offence is answered as `docs/protocol.md` says: with an error, or the ring stops. The other client must not notice: all its
//! answers are compared, all the time. In the end the volume is whole.

#[path = "hostile/attacker.rs"]
mod attacker;
#[path = "hostile/buffers.rs"]
mod buffers;
#[path = "hostile/driver.rs"]
mod driver;
#[path = "hostile/fids.rs"]
mod fids;
#[path = "hostile/floods.rs"]
mod floods;
#[path = "hostile/framing.rs"]
mod framing;
#[path = "hostile/limits.rs"]
mod limits;
#[path = "hostile/names.rs"]
mod names;
#[path = "hostile/races.rs"]
mod races;
#[path = "hostile/rings.rs"]
mod rings;
#[path = "hostile/sessions.rs"]
mod sessions;
#[macro_use]
mod support;
#[path = "hostile/witness.rs"]
mod witness;

use std::time::{Duration, Instant};

use attacker::{Attacker, Case};
use skerry_host::client::{Client, RingTransport};
use skerry_host::front_end::{FrontEnd, Options};
use skerry_host::running_server::{self, RunningServer};
use support::{Mode, Volume, is_clean, pattern};
use witness::Witness;

const CASES: [&[Case]; 8] = [
    rings::CASES,
    buffers::CASES,
    races::CASES,
    framing::CASES,
    sessions::CASES,
    names::CASES,
    fids::CASES,
    limits::CASES,
];

/// How long a request may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the witness is measured before there is anybody else.
const ALONE: Duration = Duration::from_secs(1);

/// Says which case it was, if it fails.
struct Named(&'static str);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the case that failed: {}", self.0);
        }
    }
}

/// A ring of the server's socket at `path`, with a session.
fn session(path: &std::path::Path) -> (FrontEnd, Client<RingTransport>) {
    support::session(path, Options::default(), PATIENCE)
}

/// What a percentage of `latencies` is at most, in microseconds.
fn percentile(latencies: &mut [u32], percent: usize) -> f64 {
    assert!(!latencies.is_empty(), "nothing was measured");
    latencies.sort_unstable();
    f64::from(latencies[(latencies.len() - 1) * percent / 100]) / 1000.0
}

fn hostile_clients_hurt_nobody_but_themselves(mode: Mode) {
    let volume = Volume::new();
    let mut options = volume.server_options(mode, 2);
    let control = volume.directory().join("control");
    // Of one ring's life there are five lines, and in a second there is room for a hundred: only faults, then.
    let quiet = "warn".to_owned();
    match &mut options {
        running_server::Options::Vm(options) => options.service.log_level = quiet,
        running_server::Options::Host { serve, log_level, .. } => {
            serve.control = Some(control.clone());
            *log_level = quiet;
        }
    }
    let mut server = RunningServer::start(&options).expect("the server");

    let (front_end, mut client) = session(&volume.socket(0));
    let (root, _) = client.attach(b"").unwrap();
    client.mkdir(root, b"hostile", 0o755, 0).unwrap();
    let home = client.walk_path(root, b"hostile").unwrap();
    client.create_file(home, b"bytes", &pattern(100_000)).unwrap();
    drop((front_end, client));
    let control = (mode == Mode::Host).then(|| {
        let (front_end, mut client) = session(&control);
        let (ctl, _) = client.attach(b"ctl").unwrap();
        (front_end, client, ctl)
    });

    let witness = Witness::start(&volume.socket(1));
    witness.goes_on();
    witness.take();
    std::thread::sleep(ALONE);
    let mut alone = witness.take();

    let mut attacker = Attacker::new(volume.socket(0), server.transcript().clone(), control);
    let (mut cases, begun) = (0, Instant::now());
    for &(name, offend) in CASES.into_iter().flatten() {
        let _named = Named(name);
        let start = Instant::now();
        attacker.begin();
        let expected = offend(&mut attacker);
        attacker.settle(expected);
        witness.goes_on();
        assert_eq!(server.wait_for(Duration::ZERO).unwrap(), None, "{}", server.name());
        log::debug!("case: {name}: {:?}", start.elapsed());
        cases += 1;
    }
    let took = begun.elapsed().as_secs_f64();
    let mut beside = witness.take();
    floods::cost_the_other_client_little(&mut attacker, &witness, mode);
    witness.end();
    let (answered, errors) = attacker.counts();
    println!(
        "shown: hostile, {mode:?}: {cases} cases in {took:.0} s, {answered} requests answered, {errors} of them with an error, \
         {} rings stopped; the other client: {} requests, all right, median {:.0} us alone, {:.0} us beside, p99 {:.0} us",
        attacker.stopped,
        alone.len() + beside.len(),
        percentile(&mut alone, 50),
        percentile(&mut beside, 50),
        percentile(&mut beside, 99),
    );
    drop(attacker);
    if mode == Mode::Vm {
        // The bridge reads it in the control tree.
        assert!(support::logged("client 0: its ring had stopped: "));
    }
    server.shut_down().expect("the orderly end");
    is_clean(&volume.path());
}

in_both_modes! {
    hostile_clients_hurt_nobody_but_themselves
}
