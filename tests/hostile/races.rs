// SPDX-License-Identifier: MIT OR Apache-2.0

//! Memory that changes while it is read, and rings that are moved, switched off or abandoned while they are served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use skerry::wire::{Fid, GetattrMask, Names, OpenFlags, Tgetattr, Tread, Treaddir, Twalk, Twrite};
use skerry_host::front_end::Options;
use skerry_host::ring_driver::{Layout, features};
use skerry_host::shared_memory::SharedMemory;

use crate::attacker::{Attacker, Case, Expected, HOME, bytes};
use crate::driver::{Driver, FREE, OPTIONS, READ, WRITE};
use Expected::{Ends, Serves, Whatever};

/// How long memory is changed under the server, in each case.
const A_WHILE: Duration = Duration::from_millis(700);
/// How long a connection lasts at least: the log has room for a hundred lines a second.
const LIFE: Duration = Duration::from_millis(25);
/// Chains in flight.
const CHAINS: u16 = 32;
/// Between two of their requests, and of their replies.
const STRIDE: u64 = 4096;
const REPLIES: u64 = FREE + (1 << 20);

/// With rings of either kind.
pub const CASES: &[Case] = &[
    ("requests that change while they are read", |a| {
        changing(a, |_| vec![(FREE + 4, u64::from(CHAINS) * STRIDE - 4, STRIDE, 40)])
    }),
    ("sizes and types of requests that change while they are read", |a| {
        changing(a, |_| vec![(FREE, u64::from(CHAINS) * STRIDE, STRIDE, 7)])
    }),
    ("descriptors that change while they are read", |a| {
        changing(a, |layout| vec![(layout.desc, u64::from(2 * CHAINS) * 16, 16, 16)])
    }),
    ("flags, and next or ids, of descriptors that change while they are read", |a| {
        changing(a, |layout| vec![(layout.desc + 12, u64::from(2 * CHAINS) * 16 - 12, 16, 4)])
    }),
    ("features that were not offered", |a| {
        for bit in [1, 27, 31, 33, 35, 36, 40, 41, 63] {
            a.begin();
            let accepted = a.front_end().features() | 1 << bit;
            assert!(a.front_end().accept(accepted).is_err(), "bit {bit}");
            a.hang_up();
        }
        Ends
    }),
    ("features of a ring that runs are taken back", |a| {
        let accepted = a.front_end().features() & !features::VERSION_1;
        assert!(a.front_end().accept(accepted).is_err(), "a legacy driver");
        Ends
    }),
    ("the addresses of a ring that runs are told again", |a| {
        let layout = a.driver().layout();
        in_flight(a);
        a.front_end().set_addresses(&layout).unwrap();
        all_come_back(a, CHAINS);
        Serves
    }),
    ("a ring is switched off and on while its queue is full", |a| {
        in_flight(a);
        let mut came_back = 0;
        for _ in 0..20 {
            a.front_end().set_enabled(false).unwrap();
            while a.driver().take_used().is_some() {
                came_back += 1;
            }
            a.front_end().set_enabled(true).unwrap();
        }
        all_come_back(a, CHAINS - came_back);
        assert_eq!(a.driver().take_used(), None, "a chain came back twice");
        Serves
    }),
    ("a client is gone while its queue is full", |a| {
        for _ in 0..20 {
            a.begin();
            in_flight(a);
            a.hang_up();
        }
        Ends
    }),
];

/// With split rings.
pub const SPLIT: &[Case] = &[
    ("an available ring that changes while it is read", |a| {
        changing(a, |layout| vec![(layout.avail + 4, 256, 2, 2)])
    }),
    ("avail.idx that changes while it is read", |a| changing(a, |layout| vec![(layout.avail, 4, 4, 4)])),
    ("a used ring that is written by both sides", |a| {
        changing(a, |layout| vec![(layout.used, 1030, 1030, 1030)])
    }),
    ("all of it changes", |a| {
        changing(a, |layout| {
            vec![
                (layout.desc, 1024, 16, 16),
                (layout.avail, 262, 262, 262),
                (FREE, u64::from(CHAINS) * STRIDE, STRIDE, 40),
            ]
        })
    }),
    ("a split ring is called a packed one while it runs", |a| {
        let accepted = a.front_end().features() | features::RING_PACKED;
        // What is there is no packed ring, and what becomes of it is its owner's affair.
        let _ = a.front_end().accept(accepted);
        a.driver().publish();
        thread::sleep(Duration::from_millis(5));
        Whatever
    }),
    ("a ring that runs is moved, and goes on where it was", |a| {
        for step in 1..=4 {
            in_flight(a);
            all_come_back(a, CHAINS);
            let new = moved(a.driver().layout(), step * 0x10_0000);
            a.driver().relocate(new);
            a.front_end().set_addresses(&new).unwrap();
            // What was before has ended, as with a ring that is stopped.
            a.session();
            in_flight(a);
            all_come_back(a, CHAINS);
        }
        Serves
    }),
    ("a ring that runs is moved to where another one has been", |a| {
        // Of which the used index says that it cannot be this one.
        for _ in 0..5 {
            in_flight(a);
            all_come_back(a, CHAINS);
        }
        let new = moved(a.driver().layout(), 0x10_0000);
        assert!(a.front_end().set_addresses(&new).is_err());
        Ends
    }),
    ("a ring that runs is moved out of the memory", moved_out),
    ("a ring that runs is moved half out of the memory", moved_half_out),
    ("a ring that runs is moved to an odd address", |a| {
        let layout = a.driver().layout();
        assert!(a.front_end().set_addresses(&Layout { avail: layout.avail + 1, ..layout }).is_err());
        Ends
    }),
    ("the three parts of a ring are one", |a| {
        let layout = a.driver().layout();
        let _ = a.front_end().set_addresses(&Layout { avail: layout.desc, used: layout.desc, ..layout });
        a.driver().publish();
        thread::sleep(Duration::from_millis(5));
        Whatever
    }),
    ("a ring is stopped while its queue is full", |a| {
        for _ in 0..20 {
            a.begin();
            in_flight(a);
            let next = a.front_end().stop().unwrap();
            assert_eq!(next, u32::from(a.driver().used_index()), "what was taken is answered");
            a.hang_up();
        }
        Ends
    }),
    ("a client is gone before its session begins", |a| {
        for _ in 0..20 {
            a.connect(Options { queue_size: 2, ..OPTIONS });
            a.hang_up();
        }
        Ends
    }),
];

/// Prepares requests of some kinds in `CHAINS` chains, none of which changes anything but the attacker's own file.
fn prepare(a: &mut Attacker) {
    let (fid, directory, own) = (a.walked("bytes"), a.walked(""), a.walked(""));
    a.client().open(fid, OpenFlags::RDONLY).unwrap();
    a.client().open(directory, OpenFlags::RDONLY).unwrap();
    a.client().lcreate(own, b"own", OpenFlags::RDWR | OpenFlags::CREATE, 0o600, 0).unwrap();
    let walk = Names::new(&[b"sub", b"..", b"bytes"]).unwrap();
    let requests = [
        bytes(Tread { fid, offset: 1000, count: 3000 }),
        bytes(Tgetattr { fid, request_mask: GetattrMask::all() }),
        bytes(Twalk { fid: HOME, newfid: Fid(1 << 20), wnames: walk }),
        bytes(Treaddir { fid: directory, offset: 0, count: 3000 }),
        [bytes(Twrite { fid: own, offset: 10, count: 100 }), vec![1; 100]].concat(),
    ];
    for chain in 0..CHAINS {
        let request = &requests[usize::from(chain) % requests.len()];
        let (from, to) = (FREE + STRIDE * u64::from(chain), REPLIES + STRIDE * u64::from(chain));
        let length = u32::try_from(request.len()).unwrap();
        a.driver().put(from, request);
        a.driver().chain(2 * chain, &[(from, length, READ), (to, 4096, WRITE)]);
    }
}

/// A full queue, of which the device knows.
pub fn in_flight(a: &mut Attacker) {
    prepare(a);
    offer_all(a.driver());
}

fn offer_all(driver: &mut Driver) {
    for chain in 0..CHAINS {
        driver.offer(2 * chain);
    }
    driver.publish();
}

#[track_caller]
fn all_come_back(a: &mut Attacker, count: u16) {
    for _ in 0..count {
        let (head, _) = a.driver().returned();
        let at = REPLIES + STRIDE / 2 * u64::from(head);
        assert_eq!(a.driver().memory().bytes(at + 5, 2), [0x34, 0x12], "the tag of the reply to {head}");
    }
}

pub fn moved_out(a: &mut Attacker) -> Expected {
    let new = Layout { used: a.driver().end(), ..a.driver().layout() };
    assert!(a.front_end().set_addresses(&new).is_err());
    Ends
}

pub fn moved_half_out(a: &mut Attacker) -> Expected {
    let new = Layout { desc: a.driver().end() - 2032, ..a.driver().layout() };
    assert!(a.front_end().set_addresses(&new).is_err());
    Ends
}

fn moved(layout: Layout, distance: u64) -> Layout {
    let Layout { size, desc, avail, used } = layout;
    Layout { size, desc: desc + distance, avail: avail + distance, used: used + distance }
}

/// Places in memory: from here on, so many bytes, of each so many the first so many.
type Places = Vec<(u64, u64, u64, u64)>;

/// Requests go on for a while, on as many rings as it takes, while another thread writes nonsense to these places.
pub fn changing(a: &mut Attacker, places: fn(Layout) -> Places) -> Expected {
    let end = Instant::now() + A_WHILE;
    let mut state = 0x9e37_79b9_7f4a_7c15;
    while Instant::now() < end {
        let start = Instant::now();
        a.begin();
        prepare(a);
        let (memory, places) = (a.driver().memory().clone(), places(a.driver().layout()));
        let enough = Arc::new(AtomicBool::new(false));
        let disturber = thread::spawn({
            let (enough, seed) = (enough.clone(), state);
            move || disturb(&memory, &places, seed, &enough)
        });
        serve_while_it_answers(a, end);
        enough.store(true, Ordering::Relaxed);
        state = disturber.join().unwrap();
        thread::sleep(LIFE.saturating_sub(start.elapsed()));
        a.stopped += u64::from(a.is_stopped());
        a.hang_up();
    }
    Whatever
}

/// Keeps the queue full until nothing comes back any more, which what comes back need not tell by its numbers.
fn serve_while_it_answers(a: &mut Attacker, end: Instant) {
    let driver = a.driver();
    let mut latest = Instant::now();
    let mut used = driver.progress();
    while Instant::now() < end && latest.elapsed() < Duration::from_millis(10) {
        if driver.has_room(2 * u64::from(CHAINS)) {
            offer_all(driver);
        }
        thread::sleep(Duration::from_micros(100));
        let now = driver.progress();
        if now != used {
            (used, latest) = (now, Instant::now());
        }
    }
}

/// Writes bytes of no meaning to the places, and for a moment each what was there before.
fn disturb(memory: &SharedMemory, places: &Places, mut state: u64, enough: &AtomicBool) -> u64 {
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    while !enough.load(Ordering::Relaxed) {
        let (start, length, stride, width) = places[usize::try_from(next()).unwrap() % places.len()];
        let at = next() % length / stride * stride + next() % width;
        if at >= length {
            continue;
        }
        let at = start + at;
        let before = memory.bytes(at, 1);
        let bit = 1 << (next() % 8);
        memory.write(at, &[before[0] ^ bit]);
        for _ in 0..next() % 100 {
            std::hint::spin_loop();
        }
        if next() % 4 > 0 {
            memory.write(at, &before);
        }
    }
    state
}
