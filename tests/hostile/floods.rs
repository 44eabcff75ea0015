// SPDX-License-Identifier: MIT OR Apache-2.0

//! Floods: queues that are kept full, and what that costs the other client.
//!
//! The machine has other things to do, so that one measurement says little. Each flood is measured in rounds, the other client
//! alone and beside it in turn, and the best round counts: what a server does to a client, it does in each.

use std::thread;
use std::time::{Duration, Instant};

use skerry::wire::{
    Fid, GetattrMask, Names, OpenFlags, Tclunk, Tgetattr, Tlcreate, Tread, Tunlinkat, Tversion, Twalk,
    UnlinkFlags, VERSION,
};
use skerry_host::front_end::Options;

use crate::attacker::{Attacker, HOME, bytes};
use crate::driver::{FREE, OPTIONS, READ, REPLY, WRITE};
use crate::percentile;
use crate::support::Mode;
use crate::witness::Witness;

/// How many times as long the other client may wait, in the median.
const MOST: f64 = 1000.0;

/// Chains in flight, each of two descriptors.
const CHAINS: u16 = 512;
/// Between two requests of the queue.
const STRIDE: u64 = 64;
/// Rounds of each flood, and how long each half of one takes.
const ROUNDS: usize = 4;
const HALF: Duration = Duration::from_millis(200);
/// How long the attacker sleeps between two looks at its ring: less than the server needs for what is in it.
const NAP: Duration = Duration::from_micros(100);

/// Requests that are made over and over, in this order.
type Flood = fn(&mut Attacker) -> Vec<Vec<u8>>;

const FLOODS: [(&str, Flood); 5] = [
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

/// A fid that reads the large file.
fn big(a: &mut Attacker) -> Fid {
    let (root, _) = a.client().attach(b"").expect("the attach");
    let fid = a.client().walk_path(root, b"big").expect("the walk");
    a.client().open(fid, OpenFlags::RDONLY).expect("the file");
    fid
}

/// All floods, one after the other; the other client is measured.
pub fn cost_the_other_client_little(a: &mut Attacker, witness: &Witness, mode: Mode) {
    for (name, flood) in FLOODS {
        a.connect(Options { queue_size: 2 * CHAINS, ..OPTIONS });
        a.session();
        let requests = flood(a);
        fill(a, &requests);
        let mut rounds = Vec::new();
        let mut served = 0;
        for _ in 0..ROUNDS {
            witness.take();
            thread::sleep(HALF);
            let alone = witness.take();
            served += keep_full(a, HALF);
            rounds.push((alone, witness.take()));
            drain(a);
        }
        witness.goes_on();
        let a_second = served as f64 / (ROUNDS as f64 * HALF.as_secs_f64());
        let (alone, beside) = best(&mut rounds, |latencies| percentile(latencies, 50));
        let (mean_alone, mean_beside) = best(&mut rounds, mean);
        let times = beside / alone;
        println!(
            "shown: hostile, {mode:?}: beside {a_second:.0} {name} a second the other client waits {beside:.0} us instead of \
             {alone:.0} us in the median, {times:.1} times as long; {mean_beside:.0} us instead of {mean_alone:.0} us in the mean, {:.1} times",
            mean_beside / mean_alone
        );
        assert!(times <= MOST, "{name}: {times:.1} times as long");
        a.hang_up();
    }
}

/// The round in which the other client waited the least beside the attacker, as a multiple of what it waits alone.
fn best(rounds: &mut [(Vec<u32>, Vec<u32>)], of: fn(&mut [u32]) -> f64) -> (f64, f64) {
    let rounds = rounds.iter_mut().map(|(alone, beside)| (of(alone), of(beside)));
    rounds.min_by(|one, other| (one.1 / one.0).total_cmp(&(other.1 / other.0))).expect("a round")
}

/// In microseconds.
fn mean(latencies: &mut [u32]) -> f64 {
    latencies.iter().copied().map(f64::from).sum::<f64>() / latencies.len() as f64 / 1000.0
}

/// Puts the requests into the queue, over and over, so that the last one is followed by the first.
fn fill(a: &mut Attacker, requests: &[Vec<u8>]) {
    assert!(usize::from(CHAINS).is_multiple_of(requests.len()), "the queue goes round");
    let driver = a.driver();
    for (chain, request) in (0..CHAINS).zip(requests.iter().cycle()) {
        let at = FREE + STRIDE * u64::from(chain);
        let length = u32::try_from(request.len()).unwrap();
        driver.put(at, request);
        // All replies go to one place: nobody reads them.
        driver.chain(2 * chain, &[(at, length, READ), (REPLY, 1 << 20, WRITE)]);
    }
}

/// Keeps the queue full for so long; returns how many requests were answered.
fn keep_full(a: &mut Attacker, time: Duration) -> u64 {
    let driver = a.driver();
    let end = Instant::now() + time;
    let mut served = 0;
    for chain in 0..CHAINS {
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

/// Waits for all that is in flight.
fn drain(a: &mut Attacker) {
    for _ in 0..CHAINS {
        a.driver().returned();
    }
}
