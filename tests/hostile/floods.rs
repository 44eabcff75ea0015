// SPDX-License-Identifier: MIT OR Apache-2.0

//! Floods: queues that are kept full, and what that costs the other client.
//!
//! Beside a queue that is always full, of whatever requests, the other client shall have half of the answers that it has alone: it sends
//! its next request when it has the answer to the last, so that its latency is at most twice what it is alone. The machine has other things
//! to do, so that one measurement says little. Each flood is measured in rounds, the other client alone and beside it in turn, and the best
//! round counts: what a server does to a client, it does in each.

use std::thread;
use std::time::{Duration, Instant};

use skerry::wire::{
    Fid, GetattrMask, Names, OpenFlags, Tclunk, Tfsync, Tgetattr, Tlcreate, Tmkdir, Tmknod, Tread, Treaddir,
    Trename, Tunlinkat, Tversion, Twalk, Twrite, UnlinkFlags, VERSION,
};
use skerry_host::front_end::Options;

use crate::attacker::{Attacker, HOME, bytes};
use crate::driver::{FREE, INDIRECT, OPTIONS, READ, REPLY, WRITE};
use crate::support::Mode;
use crate::witness::Witness;
use crate::{names, percentile};

/// How many times as long the other client may wait beside a flood: twice, and as much again for a machine that is slow at times, in which
/// the attacker's threads take time from the other client's as well.
const MOST: f64 = 4.0;

/// Chains in flight of [`CHEAP`] requests, and of [`EXPENSIVE`] ones; each has two descriptors.
const MANY: u16 = 512;
const FEW: u16 = 32;
/// Between two requests of the queue.
const STRIDE: u64 = 256;
/// Rounds of each flood, and how long each half of one takes.
const ROUNDS: usize = 3;
const HALF: Duration = Duration::from_millis(200);
/// How long the attacker sleeps between two looks at its ring: less than the server needs for what is in it.
const NAP: Duration = Duration::from_micros(100);

/// A name, and requests that are made over and over, in this order.
type Flood = (&'static str, fn(&mut Attacker) -> Vec<Vec<u8>>);

/// Floods of what clients ask for every day.
const CHEAP: [Flood; 5] = [
    ("reads of 4 KiB", |a| {
        let fid = big(a);
        vec![bytes(Tread { fid, offset: 0, count: 4096 })]
    }),
    ("reads of 512 KiB", |a| {
        let fid = big(a);
        vec![bytes(Tread { fid, offset: 0, count: 512 << 10 })]
    }),
    ("Tgetattr", |_| vec![bytes(Tgetattr { fid: HOME, request_mask: GetattrMask::all() })]),
    ("files made and removed", |_| {
        let (fid, name, flags) = (Fid(7), &b"flood"[..], OpenFlags::RDWR | OpenFlags::EXCL);
        vec![
            bytes(Twalk { fid: HOME, newfid: fid, wnames: Names::new(&[]).unwrap() }),
            bytes(Tlcreate { fid, name, flags, mode: 0o600, gid: 0 }),
            bytes(Tclunk { fid }),
            bytes(Tunlinkat { dirfd: HOME, name, flags: UnlinkFlags::empty() }),
        ]
    }),
    ("malformed requests", |_| {
        let request = bytes(Tversion { msize: 8192, version: VERSION });
        vec![[&[20, 0, 0, 0], &request[4..20]].concat()]
    }),
];

/// Floods of requests that each cost as much as one may.
const EXPENSIVE: [Flood; 5] = [
    (LONG_CHAINS, |_| vec![bytes(Tgetattr { fid: HOME, request_mask: GetattrMask::all() })]),
    ("walks of 15 steps up from 500 directories deep", |a| {
        let fid = Fid(7);
        names::descend(a, HOME, fid, 500);
        let up = [&b".."[..]; 15];
        let wnames = [&up[..], &[b"nothing"]].concat();
        vec![bytes(Twalk { fid, newfid: Fid(8), wnames: Names::new(&wnames).unwrap() })]
    }),
    ("renames by the fid, in a directory of 1000 names", |a| {
        let (directory, file) = (a.walked("names"), a.walked("names/name-0999"));
        let rename = |name| bytes(Trename { fid: file, dfid: directory, name });
        vec![rename(b"other"), rename(b"name-0999")]
    }),
    ("listings of 1000 names", |a| {
        let fid = a.walked("names");
        a.client().open(fid, OpenFlags::RDONLY).expect("the directory");
        vec![bytes(Treaddir { fid, offset: 0, count: 1 << 20 })]
    }),
    ("writes, each with a flush", |a| {
        let fid = a.walked("");
        let flags = OpenFlags::RDWR | OpenFlags::CREATE;
        a.client().lcreate(fid, b"flushed", flags, 0o600, 0).expect("the file");
        let write = [bytes(Twrite { fid, offset: 0, count: 100 }), vec![1; 100]].concat();
        vec![write, bytes(Tfsync { fid, datasync: 0 })]
    }),
];

/// The flood of which each chain is as long as it may be, in an indirect table.
const LONG_CHAINS: &str = "chains of 4096 descriptors";
/// Where that table is.
const TABLE: u64 = FREE + (1 << 20);

/// A fid that reads the large file.
fn big(a: &mut Attacker) -> Fid {
    let (root, _) = a.client().attach(b"").expect("the attach");
    let fid = a.client().walk_path(root, b"big").expect("the walk");
    a.client().open(fid, OpenFlags::RDONLY).expect("the file");
    fid
}

/// All floods, one after the other; the other client is measured.
pub fn cost_the_other_client_little(a: &mut Attacker, witness: &Witness, mode: Mode) {
    a.begin();
    names::dig(a);
    make_names(a);
    let few = EXPENSIVE.map(|flood| (flood, FEW));
    for (flood, chains) in CHEAP.map(|flood| (flood, MANY)).into_iter().chain(few) {
        let times = measure(a, witness, mode, flood, chains);
        assert!(times <= MOST, "{}: {times:.1} times as long", flood.0);
    }
    a.begin();
    names::fill_up(a);
}

/// How many times as long the other client waits beside a flood of so many requests in flight.
fn measure(a: &mut Attacker, witness: &Witness, mode: Mode, (name, flood): Flood, chains: u16) -> f64 {
    a.connect(Options { queue_size: 2 * chains, ..OPTIONS });
    a.session();
    let requests = flood(a);
    fill(a, chains, &requests, name == LONG_CHAINS);
    let mut rounds = Vec::new();
    let mut served = 0;
    for _ in 0..ROUNDS {
        witness.goes_on();
        witness.take();
        thread::sleep(HALF);
        let alone = witness.take();
        served += keep_full(a, chains, HALF);
        rounds.push(Round { alone, beside: witness.take() });
        for _ in 0..chains {
            a.driver().returned();
        }
    }
    witness.goes_on();
    a.hang_up();
    let best = rounds.iter_mut().min_by(|one, other| one.times().total_cmp(&other.times())).expect("a round");
    let times = best.times();
    println!(
        "shown: hostile, {mode:?}: beside {:.0} {name} a second the other client gets {} answers instead of {}, so that it waits {times:.1} times \
         as long, {:.0} us instead of {:.0} us in the median",
        served as f64 / (ROUNDS as f64 * HALF.as_secs_f64()),
        best.beside.len(),
        best.alone.len(),
        percentile(&mut best.beside, 50),
        percentile(&mut best.alone, 50),
    );
    times
}

/// How long the other client waited for each answer, in two equal times.
struct Round {
    alone: Vec<u32>,
    beside: Vec<u32>,
}

impl Round {
    /// How many times as long it waited beside the attacker, in the mean.
    fn times(&self) -> f64 {
        self.alone.len() as f64 / self.beside.len().max(1) as f64
    }
}

/// A directory of 1000 names.
fn make_names(a: &mut Attacker) {
    a.done(Tmkdir { dfid: HOME, name: b"names", mode: 0o700, gid: 0 });
    let dfid = a.walked("names");
    for number in 0..1000 {
        let name = format!("name-{number:04}");
        a.done(Tmknod { dfid, name: name.as_bytes(), mode: 0o600, major: 0, minor: 0, gid: 0 });
    }
}

/// Puts the requests into the queue, over and over, so that the last one is followed by the first.
fn fill(a: &mut Attacker, chains: u16, requests: &[Vec<u8>], long_chains: bool) {
    assert!(usize::from(chains).is_multiple_of(requests.len()), "the queue goes round");
    let driver = a.driver();
    for (chain, request) in (0..chains).zip(requests.iter().cycle()) {
        let at = FREE + STRIDE * u64::from(chain);
        let length = u32::try_from(request.len()).unwrap();
        driver.put(at, request);
        // All replies go to one place: nobody reads them.
        let buffers = [(at, length, READ), (REPLY, 1 << 20, WRITE)];
        if long_chains {
            driver.descriptor(2 * chain, (TABLE, 16 * 4096, INDIRECT), 0);
        } else {
            driver.chain(2 * chain, &buffers);
        }
    }
    if long_chains {
        let length = u32::try_from(requests[0].len()).unwrap();
        let mut buffers = vec![(0, 0, READ); 4096];
        buffers[0] = (FREE, length, READ);
        buffers[4095] = (REPLY, 1 << 20, WRITE);
        driver.indirect(2 * (chains - 1), TABLE, &buffers);
    }
}

/// Keeps the queue full for so long; returns how many requests were answered.
fn keep_full(a: &mut Attacker, chains: u16, time: Duration) -> u64 {
    let driver = a.driver();
    let end = Instant::now() + time;
    let mut served = 0;
    for chain in 0..chains {
        driver.offer(2 * chain);
    }
    driver.publish();
    while Instant::now() < end {
        thread::sleep(NAP);
        while let Some((head, _)) = driver.take_used() {
            driver.offer(u16::try_from(head).unwrap());
            served += 1;
        }
        driver.publish_politely();
    }
    served
}
