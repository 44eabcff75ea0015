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
#[path = "hostile/packed.rs"]
mod packed;
#[path = "hostile/packed_queue.rs"]
mod packed_queue;
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

/// The list, on split rings.
const SPLIT: [&[Case]; 9] = [
    rings::CASES,
    buffers::CASES,
    races::CASES,
    races::SPLIT,
    framing::CASES,
    sessions::CASES,
    names::CASES,
    fids::CASES,
    limits::CASES,
];
/// On packed ones: all that is about rings, and of what is about requests the part that comes close to them.
const PACKED: [&[Case]; 6] =
    [packed::CASES, buffers::CASES, races::CASES, framing::CASES, sessions::CASES, fids::CASES];

/// How long a request may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the witness is measured before there is anybody else.
const ALONE: Duration = Duration::from_secs(1);

/// Says which case it was, if it fails.
struct Named(&'static str, bool);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let ring = if self.1 { "packed" } else { "split" };
            eprintln!("the case that failed, on a {ring} ring: {}", self.0);
        }
    }
}

/// A ring of the server's socket at `path`, with a session.
fn session(path: &std::path::Path) -> (FrontEnd, Client<RingTransport>) {
    support::session(path, Options::default(), PATIENCE)
}

/// Makes the attacker's directory; what was there before is put aside.
fn make_home(path: &std::path::Path) {
    let (_front_end, mut client) = session(path);
    let (root, _) = client.attach(b"").unwrap();
    if client.walk_path(root, b"hostile").is_ok() {
        client.renameat((root, b"hostile"), (root, b"hostile-before")).unwrap();
    }
    client.mkdir(root, b"hostile", 0o755, 0).unwrap();
    let home = client.walk_path(root, b"hostile").unwrap();
    client.create_file(home, b"bytes", &pattern(100_000)).unwrap();
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
    let begun = Instant::now();
    let mut run = |cases: &[&[Case]], packed| {
        attacker.hang_up();
        make_home(&volume.socket(0));
        attacker.packed = packed;
        let mut count = 0;
        for &(name, offend) in cases.iter().copied().flatten() {
            let _named = Named(name, packed);
            let start = Instant::now();
            attacker.begin();
            let expected = offend(&mut attacker);
            attacker.settle(expected);
            witness.goes_on();
            assert_eq!(server.wait_for(Duration::ZERO).unwrap(), None, "{}", server.name());
            log::debug!("case: {name}: {:?}", start.elapsed());
            count += 1;
        }
        count
    };
    let packed = run(&PACKED, true);
    let split = run(&SPLIT, false);
    let took = begun.elapsed().as_secs_f64();
    let mut beside = witness.take();
    floods::cost_the_other_client_little(&mut attacker, &witness, mode);
    witness.end();
    let (answered, errors) = attacker.counts();
    println!(
        "shown: hostile, {mode:?}: {split} cases on split rings and {packed} on packed ones in {took:.0} s, {answered} requests answered, {errors} of them with an error, \
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
