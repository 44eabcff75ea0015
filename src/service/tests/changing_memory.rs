// SPDX-License-Identifier: MIT OR Apache-2.0

//! A client whose memory changes while its requests are served: a second thread writes into its rings, descriptors, tables and buffers
//! all the time. Whatever comes of it, the connection answers or is stopped; nothing outside of the client's memory is written,
//! another client is answered as ever, and the volume is whole in the end.

use super::*;
use crate::ext4::Volume;
use crate::fs::{Caller, FileSystem, NewFile, NewKind, Position, Timestamp};
use crate::virtq::RingFeatures;
use crate::virtq::driver_model::packed::PackedDriver;
use crate::virtq::driver_model::{INDIRECT, RAM, RingDriver, SharedRam};
use crate::wire::{
    GetattrMask, Names, Tclunk, Tfsync, Tgetattr, Tlcreate, Tread, Treaddir, Trenameat, Tunlinkat, Twalk,
    Twrite, UnlinkFlags,
};
use std::string::String;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long each kind of ring is tried, and how long at most until enough has happened.
const DURATION: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes for a request, and for its reply.
const REQUEST_ROOM: u32 = 128;
const REPLY_ROOM: u32 = 1024;

/// A sequence of numbers without pattern.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

/// What the two threads tell each other.
#[derive(Default)]
struct Meddling {
    /// Whether to change memory now.
    active: AtomicBool,
    over: AtomicBool,
    /// Turns of a loop between two changes, at most.
    pace: AtomicU32,
    changes: AtomicU64,
}

/// Changes bytes of the RAM in these ranges, each given by where it begins and its length.
fn meddle(ram: &SharedRam, ranges: [(u64, u64); 3], meddling: &Meddling) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    while !meddling.over.load(Ordering::Relaxed) {
        if !meddling.active.load(Ordering::Relaxed) {
            thread::yield_now();
            continue;
        }
        let (first, length) = random.one_of(&ranges);
        let offset = first + random.below(length);
        let flips = random.one_of(&[0x01_u64, 0x02, 0x04, 0x07, 0x10, 0x7f, 0x80, 0xff]);
        ram.word(offset).fetch_xor(flips << (8 * (offset % 8)), Ordering::Relaxed);
        meddling.changes.fetch_add(1, Ordering::Relaxed);
        for _ in 0..random.below(meddling.pace.load(Ordering::Relaxed).into()) {
            core::hint::spin_loop();
        }
    }
}

/// What a client does again and again.
fn requests() -> Vec<Vec<u8>> {
    let (directory, file, list) = (Fid(0), Fid(1), Fid(2));
    let here = Names::new(&[]).unwrap();
    let (flags, gid, count) = (OpenFlags::RDWR, 0, 512);
    let messages: [Tmessage<'_>; 14] = [
        Tversion { msize: 8192, version: VERSION }.into(),
        Tattach { fid: directory, afid: Fid::NOFID, uname: b"", aname: b"", n_uname: 0 }.into(),
        Twalk { fid: directory, newfid: file, wnames: here }.into(),
        Tlcreate { fid: file, name: b"of the client", flags, mode: 0o644, gid }.into(),
        Twrite { fid: file, offset: 100, count: 32 }.into(),
        Tread { fid: file, offset: 0, count }.into(),
        Tgetattr { fid: file, request_mask: GetattrMask::ALL }.into(),
        Twalk { fid: directory, newfid: list, wnames: here }.into(),
        Tlopen { fid: list, flags: OpenFlags::RDONLY }.into(),
        Treaddir { fid: list, offset: 0, count }.into(),
        Trenameat {
            olddirfid: directory,
            oldname: b"of the client",
            newdirfid: directory,
            newname: b"renamed",
        }
        .into(),
        Tfsync { fid: file, datasync: 0 }.into(),
        Tunlinkat { dirfd: directory, name: b"renamed", flags: UnlinkFlags::empty() }.into(),
        Tclunk { fid: file }.into(),
    ];
    messages.iter().map(emitted).collect()
}

/// The bytes of a request, with data of which each byte is 7.
fn emitted(request: &Tmessage<'_>) -> Vec<u8> {
    let mut bytes = std::vec![7; REQUEST_ROOM as usize];
    let tag = if request.kind() == MessageType::Tversion { Tag::NOTAG } else { Tag(1) };
    let length = request.emit(tag, &mut bytes).unwrap();
    bytes.truncate(length + request.data_length() as usize);
    bytes
}

/// A client: its driver, and the buffers of its requests.
struct Client<D> {
    driver: D,
    /// For each request where it is, where its reply is, and its table of descriptors.
    places: Vec<[u64; 3]>,
}

impl<D: RingDriver> Client<D> {
    fn new(mut driver: D, requests: usize) -> Self {
        let ram = driver.ram();
        let places = (0..requests)
            .map(|_| [ram.buffer(REQUEST_ROOM.into()), ram.buffer(REPLY_ROOM.into()), ram.buffer(32)]);
        let places = places.collect();
        Self { driver, places }
    }

    /// Makes all requests available, on an empty queue; every third with a table.
    fn offer(&mut self, requests: &[Vec<u8>]) {
        self.driver.start_anew();
        for ((number, request), &[at, reply, table]) in (0..).zip(requests).zip(&self.places) {
            let ram = self.driver.ram();
            ram.write(at, request);
            let features = ram.configuration.features;
            let buffers = [((at, u32::try_from(request.len()).unwrap()), 0), ((reply, REPLY_ROOM), WRITE)];
            if number % 3 == 2 && features.contains(RingFeatures::INDIRECT_DESC) {
                if features.contains(RingFeatures::RING_PACKED) {
                    // Here the flags are where `next` is in the other kind.
                    ram.entry(table, 0, buffers[0].0, 0, 0);
                    ram.entry(table, 1, buffers[1].0, 0, WRITE);
                } else {
                    ram.chain(table, 0, &buffers);
                }
                self.driver.stage_chain(2 * number, &[((table, 32), INDIRECT)]);
            } else {
                self.driver.stage_chain(2 * number, &buffers);
            }
        }
        self.driver.show_staged();
    }

    /// Has the queue taken up from its beginning.
    fn attach(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        let ram = self.driver.ram();
        connection.attach(ram.memory(), &ram.configuration).map_err(Fault::Ring)
    }

    /// The first bytes of the reply to request `number`.
    fn reply(&mut self, number: usize, length: usize) -> Vec<u8> {
        let at = self.places[number][1];
        self.driver.ram().read(at, length)
    }
}

/// What the other client reads.
const KEPT: &[u8] = b"what another client keeps";

/// A volume in a file that only `mkfs.ext4` and `e2fsck` see.
struct File(std::path::PathBuf);

impl File {
    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = std::process::Command::new(program);
        command.args(arguments).arg(&self.0).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error} (the tests need the package e2fsprogs)"));
        let (told, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{program}: {told}{errors}");
    }

    /// A volume of 16 MiB with a file.
    fn format(name: &str) -> (Self, Volume<Vec<u8>>) {
        let file = Self(std::env::temp_dir().join(std::format!("skerry-{name}-{}", std::process::id())));
        std::fs::File::create(&file.0).and_then(|made| made.set_len(16 << 20)).unwrap();
        file.run("mkfs.ext4", &["-q", "-F", "-b", "1024"]);
        let noon = || Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };
        let mut volume = Volume::mount_writable(std::fs::read(&file.0).unwrap(), noon).unwrap();
        let (root, user) = (volume.root(), Caller { uid: 0 });
        let new = NewFile { kind: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };
        let kept = volume.create(user, root, b"kept", &new).unwrap();
        volume.write(user, kept, Position::At(0), &mut &*KEPT).unwrap();
        volume.commit().unwrap();
        (file, volume)
    }

    fn check(&self, volume: Volume<Vec<u8>>) {
        std::fs::write(&self.0, volume.unmount().unwrap()).unwrap();
        self.run("e2fsck", &["-fn"]);
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // A file that stays behind harms no later test: its name is not used again.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Everything that serves.
struct Server {
    volume: Volume<Vec<u8>>,
    list: ExportList,
    locks: LockTable,
    scratch: Box<Scratch>,
    calls: Calls,
}

impl Server {
    fn drain(&mut self, connection: &mut Connection) -> Result<Drained, Fault> {
        let mut exports = Exports::new(&mut self.volume, &self.list, &mut self.locks);
        connection.drain(&mut exports, &mut self.scratch, &mut self.calls, Turn::of_requests(5))
    }
}

/// What another client asks for, and gets.
fn other_client_reads(server: &mut Server, connection: &mut Connection, other: &mut Client<Driver>) {
    let fid = Fid(1);
    let messages: [Tmessage<'_>; 5] = [
        Tversion { msize: 8192, version: VERSION }.into(),
        Tattach { fid: Fid(0), afid: Fid::NOFID, uname: b"", aname: b"", n_uname: 0 }.into(),
        Twalk { fid: Fid(0), newfid: fid, wnames: Names::new(&[b"kept"]).unwrap() }.into(),
        Tlopen { fid, flags: OpenFlags::RDONLY }.into(),
        Tread { fid, offset: 0, count: 512 }.into(),
    ];
    other.offer(&messages.iter().map(emitted).collect::<Vec<_>>());
    other.attach(connection).unwrap();
    assert_eq!(server.drain(connection), Ok(Drained { requests: 5, more: false }));
    // size[4] Rread tag[2] count[4] data[count]
    let reply = other.reply(4, 11 + KEPT.len());
    assert_eq!((reply[4], &reply[11..]), (117, KEPT));
    connection.detach();
}

fn is_answered_or_stopped<D: RingDriver>(name: &str, driver: D) {
    let (file, volume) = File::format(name);
    let (list, locks) = (ExportList::default(), LockTable::default());
    let mut server = Server { volume, list, locks, scratch: Box::default(), calls: Calls(0) };
    let requests = requests();
    let mut client = Client::new(driver, requests.len());
    let mut other = Client::new(Driver::new(16, PLAIN), 5);
    let (mut connection, mut others) = (Connection::new(LIMITS), Connection::new(LIMITS));

    let meddling = Meddling::default();
    let all = client.driver.ram();
    let (ram, available) = (all.shared(), all.configuration.available.0 - RAM);
    // The descriptors in use, the beginning of the available ring or the event suppression structures, and everything.
    let ranges = [(0, 16 * 2 * requests.len() as u64), (available, 32), (0, all.end() - RAM)];
    let (mut passes, mut answered, mut stopped, mut whole, mut changes) = (0, 0_u64, 0, 0, 0);
    thread::scope(|scope| {
        let meddling = &meddling;
        scope.spawn(move || meddle(&ram, ranges, meddling));
        // The other thread ends also if something here fails.
        let _over = Over(meddling);
        let begin = Instant::now();
        while begin.elapsed() < DURATION || stopped.min(whole) < 20 || changes < 10_000 {
            assert!(
                begin.elapsed() < PATIENCE,
                "in {passes} passes only {stopped} stopped, {whole} whole, {changes} changes"
            );
            client.offer(&requests);
            let before = meddling.changes.load(Ordering::Relaxed);
            meddling.pace.store(16 << (passes % 9), Ordering::Relaxed);
            meddling.active.store(true, Ordering::Relaxed);
            let outcome = client.attach(&mut connection).and_then(|()| {
                loop {
                    let requests = server.drain(&mut connection)?.requests;
                    answered += u64::from(requests);
                    if requests == 0 && !connection.arm()? {
                        break Ok(());
                    }
                }
            });
            meddling.active.store(false, Ordering::Relaxed);
            changes += meddling.changes.load(Ordering::Relaxed) - before;
            match outcome {
                Ok(()) => whole += 1,
                Err(Fault::Volume(errno)) => panic!("the changes could not be committed: {errno}"),
                Err(fault) => {
                    // Or it was not taken up.
                    assert!([State::Faulted(fault), State::Free].contains(&connection.state()), "{fault}");
                    stopped += 1;
                }
            }
            connection.detach();
            assert_eq!(server.drain(&mut connection), Ok(Drained::default()));
            assert_eq!((connection.session().fids_in_use(), server.locks.len()), (0, 0));
            if passes % 16 == 0 {
                other_client_reads(&mut server, &mut others, &mut other);
            }
            passes += 1;
        }
    });
    file.check(server.volume);
    std::println!(
        "shown: memory that changes, {name}: {answered} requests answered in {passes} passes, {stopped} of them stopped, \
         with {changes} changes meanwhile"
    );
}

/// Ends the other thread.
struct Over<'a>(&'a Meddling);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// Room for the buffers of all requests.
const ROOM: u64 = 32 << 10;

#[test]
fn a_client_whose_split_ring_changes_while_it_is_read_is_answered_or_stopped() {
    let features = EVENT_IDX | WITH_INDIRECT;
    is_answered_or_stopped("split", Driver::at(64, features, 0, ROOM));
}

#[test]
fn a_client_whose_packed_ring_changes_while_it_is_read_is_answered_or_stopped() {
    is_answered_or_stopped("packed", PackedDriver::new(64, EVENT_IDX | WITH_INDIRECT));
}
