// SPDX-License-Identifier: MIT OR Apache-2.0

//! Front ends that lie: the vhost-user socket of a server of either mode, byte by byte.
//!
//! Beside each lie a client of another socket reads a file; after it, an honest front end is taken by the socket that was lied to.

#[path = "vhost_user/liar.rs"]
mod liar;
#[path = "vhost_user/lies.rs"]
mod lies;
#[macro_use]
mod support;

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use liar::{Liar, Message, RUNNING, VERSION, handshake, request};
use lies::{End, LIES, Lie};
use skerry_host::client::{Client, RingTransport};
use skerry_host::front_end::{FrontEnd, Options};
use skerry_host::running_server::RunningServer;
use support::{Mode, Volume};

const PATIENCE: Duration = Duration::from_secs(10);

/// A server with a client that must not notice anything.
struct Scene {
    volume: Volume,
    server: RunningServer,
    mode: Mode,
    witness: Client<RingTransport>,
    /// Keeps the witness's memory and connection.
    _front_end: FrontEnd,
    lies: u32,
    longest: Duration,
}

impl Scene {
    fn new(mode: Mode) -> Self {
        let volume = Volume::new();
        let server = volume.server(mode, 2);
        let (front_end, witness) = support::session(&volume.socket(1), Options::default(), PATIENCE);
        Self { volume, server, mode, witness, _front_end: front_end, lies: 0, longest: Duration::ZERO }
    }

    /// The witness is served, the server runs, and the socket that was lied to takes an honest front end.
    #[track_caller]
    fn is_unhurt(&mut self, lie: &str) {
        self.lies += 1;
        let begin = Instant::now();
        let (root, _) = self.witness.attach(b"").unwrap_or_else(|error| panic!("{lie}: {error}"));
        assert_eq!(self.witness.read_file(root, b"hello").unwrap(), b"Hello, skerry!\n", "{lie}");
        self.witness.clunk(root).unwrap();
        self.longest = self.longest.max(begin.elapsed());
        assert_eq!(
            self.server.wait_for(Duration::ZERO).unwrap(),
            None,
            "{lie}: {} ended",
            self.server.name()
        );
        FrontEnd::connect(&self.volume.socket(0), Options::default())
            .unwrap_or_else(|error| panic!("{lie}: the socket: {error:#}"));
    }

    /// A whole client is served where the lies were told.
    fn ends_well(mut self) {
        let (_front_end, mut client) = support::session(&self.volume.socket(0), Options::default(), PATIENCE);
        let (root, _) = client.attach(b"").unwrap();
        assert_eq!(client.read_file(root, b"hello").unwrap(), b"Hello, skerry!\n");
        self.is_served_last();
        println!(
            "shown: vhost-user, {:?}: {} lies, beside which the other client was served in at most {:?}",
            self.mode, self.lies, self.longest
        );
    }

    fn is_served_last(&mut self) {
        let (root, _) = self.witness.attach(b"").unwrap();
        self.witness.clunk(root).unwrap();
    }
}

fn lies_are_refused_and_hurt_nobody_else(mode: Mode) {
    let mut scene = Scene::new(mode);
    let mut wrong = Vec::new();
    for &(name, after, lie, end) in LIES {
        let mut liar = Liar::connect(&scene.volume);
        liar.begin(after);
        match lie() {
            Lie::Messages(messages) => messages.iter().for_each(|message| liar.say(message)),
            Lie::Header { flags, length, message } => liar.send(flags, length, &message),
            // That the other end has hung up is found out below.
            Lie::Bytes(bytes) => _ = liar.0.write_all(&bytes),
        }
        let found = match end {
            End::Refused => liar.was_refused(),
            End::Tolerated => liar.is_answered(),
        };
        if !found {
            wrong.push(format!("{name}: is not {end:?}"));
        }
        drop(liar);
        scene.is_unhurt(name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    scene.ends_well();
}

fn a_front_end_may_vanish_at_any_point_of_the_handshake(mode: Mode) {
    let mut scene = Scene::new(mode);
    for step in 0..=RUNNING {
        let liar = Liar::connect(&scene.volume);
        liar.begin(step);
        drop(liar);
        scene.is_unhurt(&format!("gone after {step} messages"));
        let Some(next) = handshake().into_iter().nth(step) else { continue };
        let liar = Liar::connect(&scene.volume);
        liar.begin(step);
        let whole = next.payload.len();
        let half = Message { payload: next.payload[..whole / 2].to_vec(), ..next };
        liar.send(VERSION, u32::try_from(whole).unwrap(), &half);
        drop(liar);
        scene.is_unhurt(&format!("gone in the middle of message {step}"));
    }
    scene.ends_well();
}

fn the_handshake_may_have_any_order(mode: Mode) {
    let mut scene = Scene::new(mode);
    let last = RUNNING - 1;
    for step in 0..RUNNING {
        for (name, order) in [
            ("is left out", (0..RUNNING).filter(|&other| other != step).collect::<Vec<_>>()),
            (
                "comes twice",
                (0..RUNNING).flat_map(|other| vec![other; 1 + usize::from(other == step)]).collect(),
            ),
            ("comes last", (0..RUNNING).filter(|&other| other != step).chain([step]).collect()),
        ] {
            let mut liar = Liar::connect(&scene.volume);
            let mut messages: Vec<Option<Message>> = handshake().into_iter().map(Some).collect();
            for number in order {
                let message = messages[number].take().unwrap_or_else(|| handshake().swap_remove(number));
                liar.say(&message);
            }
            // Whatever the server makes of it, it is still there or has hung up.
            let _ = liar.0.shutdown(std::net::Shutdown::Write);
            assert!(liar.was_refused(), "message {step} of {last} {name}: neither an answer nor an end");
            drop(liar);
            scene.is_unhurt(&format!("message {step} {name}"));
        }
    }
    scene.ends_well();
}

fn one_that_does_not_read_its_answers_waits_alone(mode: Mode) {
    let mut scene = Scene::new(mode);
    let liar = Liar::connect(&scene.volume);
    liar.0.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let question = [request::GET_FEATURES, VERSION, 0].map(u32::to_le_bytes).concat().repeat(1000);
    let mut stream = &liar.0;
    let mut asked = 0;
    while stream.write_all(&question).is_ok() {
        asked += 1000;
        assert!(asked < 10_000_000, "the server keeps answers that nobody reads");
    }
    let begin = Instant::now();
    scene.is_served_last();
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    drop(liar);
    scene.is_unhurt("no answer was read");
    scene.ends_well();
}

#[test]
fn no_descriptor_of_a_liar_stays_in_the_process_of_host_mode() {
    let mut scene = Scene::new(Mode::Host);
    let directory = format!("/proc/{}/fd", scene.server.process_id());
    let count = || fs::read_dir(&directory).unwrap().count();
    let before = count();
    for &(name, after, lie, _) in LIES {
        let liar = Liar::connect(&scene.volume);
        liar.begin(after);
        if let Lie::Messages(messages) = lie() {
            messages.iter().for_each(|message| liar.say(message));
        }
        drop(liar);
        scene.lies += 1;
        let end = Instant::now() + PATIENCE;
        while count() != before {
            assert!(Instant::now() < end, "{name}: {} descriptors, {before} before", count());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    scene.ends_well();
}

in_both_modes! {
    lies_are_refused_and_hurt_nobody_else
    a_front_end_may_vanish_at_any_point_of_the_handshake
    the_handshake_may_have_any_order
    one_that_does_not_read_its_answers_waits_alone
}
