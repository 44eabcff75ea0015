// SPDX-License-Identifier: MIT OR Apache-2.0

//! The other client: it behaves well, all the time, and every answer to it is compared with what it must be.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use skerry::wire::{Fid, GetattrMask, LockFlags, LockStatus, LockType, OpenFlags, Tlock};
use skerry_host::client::{Client, ClientError, RingTransport, Transport, TransportError};
use skerry_host::front_end::{FrontEnd, Options};

use crate::support::{BIG, MANY, pattern};

/// How long a request may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two rounds: a client that does something else, too.
const PAUSE: Duration = Duration::from_micros(500);
/// Bytes of one look into the large file, and of the witness's own one.
const PIECE: usize = 4096;
/// Rounds between two looks at the directory of many files.
const SELDOM: u64 = 64;

/// Measures each request.
struct Timed {
    ring: RingTransport,
    shared: Arc<Shared>,
}

impl Transport for Timed {
    fn limit(&self) -> u32 {
        self.ring.limit()
    }

    fn rpc(&mut self, request: &[u8]) -> Result<Vec<u8>, TransportError> {
        let start = Instant::now();
        let reply = self.ring.rpc(request)?;
        let nanoseconds = u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX);
        self.shared.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(nanoseconds);
        Ok(reply)
    }
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    rounds: AtomicU64,
    /// Of each request since they were last taken, in nanoseconds.
    latencies: Mutex<Vec<u32>>,
    failure: Mutex<Option<String>>,
}

pub struct Witness {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// Begins, at `socket`.
    pub fn start(socket: &Path) -> Self {
        let shared = Arc::new(Shared::default());
        let mut front_end = FrontEnd::connect(socket, Options::default()).expect("the front end");
        let requests = front_end.start().expect("the ring");
        let timed = Timed { ring: RingTransport::new(requests, PATIENCE), shared: shared.clone() };
        let mut client = Client::new(timed, u32::MAX).expect("the session");
        let thread = thread::spawn({
            let shared = shared.clone();
            move || {
                let done = serve_a_while(&mut client, &shared);
                *shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = done.err();
                drop(front_end);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// All is well, and a round that began after this call has gone well too.
    #[track_caller]
    pub fn goes_on(&self) {
        let enough = self.shared.rounds.load(Ordering::Relaxed) + 2;
        let end = Instant::now() + 2 * PATIENCE;
        while self.shared.rounds.load(Ordering::Relaxed) < enough {
            if let Some(failure) = &*self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner) {
                panic!("the other client: {failure}");
            }
            assert!(Instant::now() < end, "the other client does not come on");
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Latencies since this was last called, in nanoseconds.
    pub fn take(&self) -> Vec<u32> {
        std::mem::take(&mut *self.shared.latencies.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The end of it, with all well.
    #[track_caller]
    pub fn end(mut self) {
        self.goes_on();
        self.shared.ends.store(true, Ordering::Relaxed);
        self.thread.take().expect("the thread").join().expect("the other client");
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // For the way out of a test that fails.
        self.shared.ends.store(true, Ordering::Relaxed);
    }
}

fn serve_a_while(client: &mut Client<Timed>, shared: &Shared) -> Result<(), String> {
    let big = pattern(BIG);
    let mut round = 0;
    while !shared.ends.load(Ordering::Relaxed) {
        match one_round(client, &big, round) {
            Ok(Ok(())) => {}
            Ok(Err(wrong)) => return Err(format!("in round {round}, {wrong}")),
            Err(error) => return Err(format!("in round {round}: {error}")),
        }
        round += 1;
        shared.rounds.store(round, Ordering::Relaxed);
        thread::sleep(PAUSE);
    }
    Ok(())
}

type Checked = Result<Result<(), String>, ClientError>;
/// Looks at the volume from its root; gets the content of the large file, and the number of the round.
type Check = fn(&mut Client<Timed>, Fid, &[u8], u64) -> Checked;

fn one_round(client: &mut Client<Timed>, big: &[u8], round: u64) -> Checked {
    let (root, _) = client.attach(b"")?;
    let checks: [Check; 5] =
        [reads_a_small_file, reads_a_piece_of_a_large_one, writes_and_reads_its_own, lists, locks];
    for check in checks {
        if let Err(wrong) = check(client, root, big, round)? {
            return Ok(Err(wrong));
        }
    }
    client.clunk(root)?;
    Ok(Ok(()))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, answer: &T, due: &T) -> Result<(), String> {
    if answer == due { Ok(()) } else { Err(format!("{what} is {answer:?} and not {due:?}")) }
}

fn reads_a_small_file(client: &mut Client<Timed>, root: Fid, _: &[u8], _: u64) -> Checked {
    let leaf = client.walk_path(root, b"dir/inner/leaf")?;
    let attributes = client.getattr(leaf, GetattrMask::BASIC)?;
    client.open(leaf, OpenFlags::RDONLY)?;
    let content = client.read(leaf, 0, 100)?;
    client.clunk(leaf)?;
    let found = (attributes.size, attributes.mode & 0o170_000, content);
    Ok(same("the leaf", &found, &(5, 0o100_000, b"leaf\n".to_vec())))
}

fn reads_a_piece_of_a_large_one(client: &mut Client<Timed>, root: Fid, big: &[u8], round: u64) -> Checked {
    let fid = client.walk_path(root, b"big")?;
    client.open(fid, OpenFlags::RDONLY)?;
    let offset = usize::try_from(round * 7919 % (BIG - PIECE) as u64).unwrap_or(0);
    let content = client.read(fid, offset as u64, PIECE as u32)?;
    client.clunk(fid)?;
    let right = content == big[offset..offset + PIECE];
    Ok(if right { Ok(()) } else { Err(format!("the {} bytes at {offset} are wrong", content.len())) })
}

fn writes_and_reads_its_own(client: &mut Client<Timed>, root: Fid, big: &[u8], round: u64) -> Checked {
    let fid = client.walk_path(root, b"")?;
    client.lcreate(fid, b"own", OpenFlags::RDWR | OpenFlags::CREATE, 0o600, 0)?;
    let (start, offset) = (usize::try_from(round % 1_000_000).unwrap_or(0), round % 17 * 1000);
    let content = &big[start..start + PIECE];
    client.write_all(fid, offset, content)?;
    let read = client.read(fid, offset, PIECE as u32)?;
    client.clunk(fid)?;
    Ok(if read == content { Ok(()) } else { Err("what was written is not read".to_owned()) })
}

fn lists(client: &mut Client<Timed>, root: Fid, _: &[u8], round: u64) -> Checked {
    let (name, due) = if round.is_multiple_of(SELDOM) { (&b"many"[..], MANY + 2) } else { (&b"dir"[..], 3) };
    let directory = client.walk_path(root, name)?;
    client.open(directory, OpenFlags::RDONLY)?;
    let entries = client.list(directory)?;
    client.clunk(directory)?;
    let inner = entries.iter().any(|entry| entry.name == b"inner" || entry.name == b"file-0999");
    Ok(same("the listing", &(entries.len(), inner), &(due, true)))
}

fn locks(client: &mut Client<Timed>, root: Fid, _: &[u8], round: u64) -> Checked {
    let fid = client.walk_path(root, b"hello")?;
    client.open(fid, OpenFlags::RDWR)?;
    let request = Tlock {
        fid,
        kind: LockType::Write,
        flags: LockFlags::empty(),
        start: round,
        length: 1,
        proc_id: 1,
        client_id: b"witness",
    };
    let status = client.lock(request)?;
    // It goes with the fid.
    client.clunk(fid)?;
    Ok(same("the lock", &status, &LockStatus::Success))
}
