// SPDX-License-Identifier: MIT OR Apache-2.0

//! Clients without Linux: vhost-user front ends drive the server through its sockets, in either mode. Those that mean harm are in
//! `hostile.rs`.

#[macro_use]
mod support;

use std::time::Duration;

use skerry::wire::{GetattrMask, OpenFlags, Tag, Tmessage, Tread, Tversion};
use skerry_host::bridge::SLOTS;
use skerry_host::client::{Client, RingTransport};
use skerry_host::event::Event;
use skerry_host::front_end::{FrontEnd, Options};
use skerry_host::ring_driver::{RequestError, Requests, features};
use skerry_host::running_server::{self, RunningServer};
use support::{BIG, Mode, Volume, logged, pattern};

const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for a server that would answer, short enough to wait for one that must not.
const SILENCE: Duration = Duration::from_millis(300);

fn connect(volume: &Volume, socket: usize, options: Options) -> FrontEnd {
    FrontEnd::connect(&volume.socket(socket), options).expect("the front end")
}

fn session(requests: Requests) -> Client<RingTransport> {
    Client::new(RingTransport::new(requests, PATIENCE), u32::MAX).expect("the session")
}

/// A front end with a session; the front end must live as long as the session is used.
fn client(volume: &Volume, socket: usize) -> (FrontEnd, Client<RingTransport>) {
    support::session(&volume.socket(socket), Options::default(), PATIENCE)
}

#[track_caller]
fn is_served(client: &mut Client<RingTransport>) {
    let (root, _) = client.attach(b"").unwrap();
    assert_eq!(client.read_file(root, b"hello").unwrap(), b"Hello, skerry!\n");
    client.clunk(root).unwrap();
}

#[track_caller]
fn runs(server: &mut RunningServer) {
    assert_eq!(server.wait_for(Duration::ZERO).unwrap(), None, "{}", server.name());
}

fn a_client_finds_the_mount_tag_and_the_features(mode: Mode) {
    let volume = Volume::new();
    let _server = volume.server(mode, 1);
    let mut front_end = connect(&volume, 0, Options::default());
    assert_eq!(front_end.config(8).unwrap(), b"\x06\0skerry");
    let offered = features::VERSION_1 | features::EVENT_IDX | features::INDIRECT_DESC | 1;
    assert_eq!(front_end.features() & !(1 << 30), offered);
}

fn a_client_reads_the_volume(mode: Mode) {
    let volume = Volume::new();
    let _server = volume.server(mode, 1);
    for accepted in [u64::MAX, features::VERSION_1, features::VERSION_1 | features::INDIRECT_DESC] {
        let mut front_end = connect(&volume, 0, Options { features: accepted, ..Options::default() });
        let mut client = session(front_end.start().unwrap());
        let (root, _) = client.attach(b"").unwrap();
        assert!(client.read_file(root, b"big").unwrap() == pattern(BIG), "features {accepted:#x}");
    }
}

fn a_stopped_ring_tells_where_and_goes_on_from_there(mode: Mode) {
    let volume = Volume::new();
    let _server = volume.server(mode, 1);
    let (mut front_end, mut client) = client(&volume, 0);
    for _ in 0..5 {
        is_served(&mut client);
    }
    let stopped = front_end.stop().unwrap();
    assert!(stopped >= 5 * 6, "{stopped} requests were taken");
    let mut again = session(front_end.start().unwrap());
    is_served(&mut again);
}

fn a_ring_that_is_disabled_rests_and_goes_on_when_it_is_enabled(mode: Mode) {
    let volume = Volume::new();
    let _server = volume.server(mode, 1);
    let (mut front_end, mut client) = client(&volume, 0);
    is_served(&mut client);
    front_end.set_enabled(false).unwrap();
    let requests = client.transport().requests();
    let token = requests.submit(&version(), 100).unwrap();
    requests.kick().unwrap();
    assert!(matches!(requests.wait(SILENCE), Err(RequestError::Silence(_))));
    front_end.set_enabled(true).unwrap();
    assert_eq!(client.transport().requests().wait(PATIENCE).unwrap().0, token);
    client.version(b"9P2000.L", 8192).unwrap();
    is_served(&mut client);
}

fn a_kick_after_the_ring_has_stopped_hurts_nobody(mode: Mode) {
    let volume = Volume::new();
    let mut server = volume.server(mode, 2);
    let (_other_front_end, mut other) = client(&volume, 1);
    for _ in 0..3 {
        let (mut front_end, mut client) = client(&volume, 0);
        is_served(&mut client);
        front_end.stop().unwrap();
        for _ in 0..10 {
            client.transport().requests().kick_event().signal().unwrap();
        }
        is_served(&mut other);
    }
    runs(&mut server);
}

fn the_client_may_change_what_is_signalled_as_often_as_it_likes(mode: Mode) {
    let volume = Volume::new();
    let _server = volume.server(mode, 1);
    let (mut front_end, mut client) = client(&volume, 0);
    is_served(&mut client);
    for _ in 0..70 {
        let call = Event::new().unwrap();
        front_end.change_call(&call).unwrap();
        client.transport().requests().set_call(call);
        client.version(b"9P2000.L", 8192).unwrap();
    }
    is_served(&mut client);
}

fn the_same_memory_told_again_changes_nothing(mode: Mode) {
    let volume = Volume::new();
    let server = volume.server(mode, 1);
    let (mut front_end, mut client) = client(&volume, 0);
    front_end.share_memory().unwrap();
    is_served(&mut client);
    // What the server writes comes after a while.
    assert!(server.transcript().wait_for("client 0: attached", Duration::from_secs(10)).is_some());
    let log = server.transcript().last(1000);
    assert_eq!(log.iter().filter(|line| line.contains("client 0: attached")).count(), 1, "{log:#?}");
}

fn all_sockets_serve_at_the_same_time(mode: Mode) {
    let volume = Volume::new();
    let _server = volume.server(mode, SLOTS);
    let mut clients: Vec<_> = (0..SLOTS).map(|socket| client(&volume, socket)).collect();
    let (first, _) = clients[0].1.attach(b"").unwrap();
    for (_, client) in &mut clients {
        is_served(client);
    }
    clients[0].1.getattr(first, GetattrMask::BASIC).unwrap();
    for (_, client) in &mut clients[1..] {
        assert_eq!(
            client.getattr(first, GetattrMask::BASIC).unwrap_err().errno(),
            Some(9),
            "fids are a session's own"
        );
    }
}

fn a_client_that_vanishes_in_the_middle_of_a_request_hurts_nobody_and_its_socket_serves_again(mode: Mode) {
    let volume = Volume::new();
    let mut server = volume.server(mode, 2);
    let (_other_front_end, mut other) = client(&volume, 1);
    for _ in 0..3 {
        let (front_end, mut client) = client(&volume, 0);
        let (root, _) = client.attach(b"").unwrap();
        let big = client.walk_path(root, b"big").unwrap();
        client.open(big, OpenFlags::RDONLY).unwrap();
        let requests = client.transport().requests();
        for number in 0..10u16 {
            let request = Tmessage::from(Tread { fid: big, offset: 0, count: 100_000 });
            let mut message = vec![0; request.head_length()];
            request.emit(Tag(number), &mut message).unwrap();
            requests.submit(&message, 110_000).unwrap();
        }
        requests.kick().unwrap();
        drop(front_end);
        drop(client);
        is_served(&mut other);
    }
    runs(&mut server);
}

fn a_second_client_of_a_socket_is_turned_away(mode: Mode) {
    let volume = Volume::new();
    let _server = volume.server(mode, 1);
    let (_front_end, mut first) = client(&volume, 0);
    assert!(FrontEnd::connect(&volume.socket(0), Options::default()).is_err());
    is_served(&mut first);
}

#[test]
fn memory_that_a_service_vm_cannot_map_is_refused_with_what_to_use() {
    let volume = Volume::new();
    let _bridge = volume.server(Mode::Vm, 2);
    let (_front_end, mut other) = client(&volume, 1);
    let mut odd = connect(&volume, 0, Options { memory: 24 << 20, ..Options::default() });
    assert!(odd.start().is_err());
    assert!(logged(
        "memory of 24M cannot be mapped by the service VM, which takes powers of two: use 16M or 32M"
    ));
    is_served(&mut other);
    let (_front_end, mut after) = client(&volume, 0);
    is_served(&mut after);
}

fn a_taken_socket_is_refused_and_one_that_is_left_behind_is_replaced(mode: Mode) {
    let volume = Volume::new();
    let server = volume.server(mode, 1);
    let other = Volume::new();
    let mut options = other.server_options(mode, 1);
    match &mut options {
        running_server::Options::Vm(options) => options.sockets[0].path = volume.socket(0),
        running_server::Options::Host { serve, .. } => serve.sockets[0].path = volume.socket(0),
    }
    let error = RunningServer::start(&options).unwrap_err().to_string();
    assert!(error.contains("another process does"), "{error}");
    drop(server);
    assert_eq!(volume.socket(0).exists(), mode == Mode::Host, "a server in its sandbox removes no files");
    drop(RunningServer::start(&options).unwrap());
}

/// A whole Tversion.
fn version() -> Vec<u8> {
    let request = Tmessage::from(Tversion { msize: 8192, version: b"9P2000.L" });
    let mut message = vec![0; request.head_length()];
    request.emit(Tag::NOTAG, &mut message).unwrap();
    message
}

in_both_modes! {
    a_client_finds_the_mount_tag_and_the_features
    a_client_reads_the_volume
    a_stopped_ring_tells_where_and_goes_on_from_there
    a_ring_that_is_disabled_rests_and_goes_on_when_it_is_enabled
    a_kick_after_the_ring_has_stopped_hurts_nobody
    the_client_may_change_what_is_signalled_as_often_as_it_likes
    the_same_memory_told_again_changes_nothing
    all_sockets_serve_at_the_same_time
    a_client_that_vanishes_in_the_middle_of_a_request_hurts_nobody_and_its_socket_serves_again
    a_second_client_of_a_socket_is_turned_away
    a_taken_socket_is_refused_and_one_that_is_left_behind_is_replaced
}
