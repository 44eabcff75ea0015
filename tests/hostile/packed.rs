// SPDX-License-Identifier: MIT OR Apache-2.0

//! Packed rings that lie: marks, ids, chains, indirect tables, event suppression structures.

use std::thread;
use std::time::Duration;

use skerry_host::front_end::Options;
use skerry_host::ring_driver::{DescriptorFlags, Layout, features};

use crate::attacker::{Attacker, Case, Expected, version};
use crate::driver::{Buffer, FREE, INDIRECT, NEXT, OPTIONS, READ, REPLY, REQUEST, WRITE};
use crate::packed_queue::{AVAILABLE, START, USED};
use crate::races::{changing, in_flight, moved_half_out, moved_out};
use crate::rings::{
    goes_round, in_pieces, is_answered, kicks_without_requests, more_requests_than_an_index_counts, offered,
    overwritten_by_a_reply, several_times_in_flight,
};
use Expected::{Ends, Serves, Stops, Whatever};

/// The id of a chain that honest requests here do not use.
const SPARE: u16 = 100;
/// Where indirect tables are.
const TABLE: u64 = FREE + (1 << 20);
/// How long the device has time for what it must not do.
const SILENCE: Duration = Duration::from_millis(5);

pub const CASES: &[Case] = &[
    ("a first descriptor with the marks of one that was used, of none, or of the other lap", |a| {
        for lap in 0..2 {
            go_to(a, lap * 128 + 50);
            let due = marks(a);
            for marks in [AVAILABLE.and(USED), DescriptorFlags(0), AVAILABLE, USED] {
                if marks == due {
                    continue;
                }
                a.driver().put(REQUEST, &version());
                a.driver().put(REPLY, &[0; 21]);
                stage(a, SPARE, &[(REQUEST, 21, NEXT.and(marks)), (REPLY, 100, WRITE.and(marks))]);
                a.driver().publish();
                thread::sleep(SILENCE);
                assert_eq!(a.driver().memory().bytes(REPLY, 21), [0; 21], "what was not available was taken");
                a.driver().go_back();
            }
            is_one(a);
        }
        Serves
    }),
    ("descriptors behind the first of a chain with any marks", |a| {
        // The first one's stand for all.
        for others in [AVAILABLE.and(USED), DescriptorFlags(0), AVAILABLE, USED] {
            let first = marks(a);
            let next = NEXT.and(others);
            let buffers =
                [(REQUEST, 10, NEXT.and(first)), (REQUEST + 10, 11, next), (REPLY, 100, WRITE.and(others))];
            is_answered_as(a, &buffers);
        }
        Serves
    }),
    ("a chain that goes round the end of the ring", |a| {
        go_to(a, 126);
        a.driver().chain(SPARE, &in_pieces(24));
        is_answered(a, SPARE)
    }),
    ("a chain that goes round the end of the ring with the wrap counter of its beginning", |a| {
        for lap in 0..3 {
            go_to(a, 128 * lap + 120);
            let marks = marks(a);
            let chain: Vec<Buffer> = a.driver().packed_ring().linked(&in_pieces(24));
            let one_lap = chain.iter().map(|&(addr, len, flags)| {
                let flags = DescriptorFlags(flags.0 & !(AVAILABLE.0 | USED.0));
                (addr, len, flags.and(marks))
            });
            is_answered_as(a, &one_lap.collect::<Vec<_>>());
        }
        Serves
    }),
    ("a chain without an end", |a| {
        let marks = marks(a);
        stage(a, SPARE, &[(FREE, 16, NEXT.and(marks)); 128]);
        a.driver().publish();
        Stops("more than 128 descriptors")
    }),
    ("a chain without an end that the device would write, of no length", |a| {
        let marks = marks(a);
        stage(a, SPARE, &[(u64::MAX, 0, WRITE.and(NEXT).and(marks)); 128]);
        a.driver().publish();
        Stops("more than 128 descriptors")
    }),
    ("a NEXT behind which there is nothing new", |a| {
        // It leads into what was used before, of which the device does not know to whom it belongs: as many bytes as there are.
        let marks = marks(a);
        a.driver().put(REQUEST, &version());
        stage(a, SPARE, &[(REQUEST, 21, NEXT.and(marks)), (REPLY, 100, WRITE.and(NEXT).and(marks))]);
        a.driver().publish();
        thread::sleep(SILENCE);
        Whatever
    }),
    ("a chain of as many descriptors as the queue has", |a| {
        a.driver().chain(SPARE, &in_pieces(128));
        is_answered(a, SPARE)
    }),
    ("a chain longer than the queue, in an indirect table", |a| {
        a.driver().indirect(SPARE, TABLE, &in_pieces(1000));
        is_answered(a, SPARE)
    }),
    ("a chain of more descriptors than any driver has, in an indirect table", |a| {
        a.driver().indirect(SPARE, TABLE, &vec![(FREE, 0, READ); 4097]);
        offered(a, SPARE);
        Stops("more than 4096 descriptors")
    }),
    ("a chain of more descriptors than any driver has, in a queue that has them", |a| {
        a.connect(Options { queue_size: 32768, packed: true, ..OPTIONS });
        a.driver().chain(SPARE, &vec![(FREE, 0, READ); 4097]);
        offered(a, SPARE);
        Stops("more than 4096 descriptors")
    }),
    ("a chain of more pieces than a list holds", |a| {
        let buffers: Vec<_> = (0..2049).map(|piece| (FREE + 2 * piece, 1, READ)).collect();
        a.driver().indirect(SPARE, TABLE, &buffers);
        offered(a, SPARE);
        Stops("more than 2048 separate pieces of memory")
    }),
    ("an indirect table behind other buffers", |a| {
        a.driver().indirect(SPARE, TABLE, &in_pieces(22)[10..]);
        let table = (TABLE, 12 * 16, INDIRECT);
        a.driver().chain(SPARE, &[(REQUEST, 5, READ), (REQUEST + 5, 5, READ), table]);
        is_answered(a, SPARE)
    }),
    ("an indirect table with NEXT, marks and flags without meaning in it", |a| {
        // All of it is of the chain, in its order.
        let any = NEXT.and(DescriptorFlags(0xfff8));
        a.driver().indirect(SPARE, TABLE, &[(REQUEST, 21, any), (REPLY, 100, WRITE.and(any))]);
        is_answered(a, SPARE)
    }),
    ("an indirect table in an indirect table", |a| {
        a.driver().indirect(SPARE, TABLE, &[(REQUEST, 21, READ), (TABLE, 32, INDIRECT)]);
        offered(a, SPARE);
        Stops("INDIRECT in an indirect table")
    }),
    ("an indirect table with a descriptor behind it", |a| {
        a.driver().chain(SPARE, &[(TABLE, 32, INDIRECT), (REPLY, 100, WRITE)]);
        offered(a, SPARE);
        Stops("INDIRECT together with NEXT")
    }),
    ("an indirect table of no length", |a| table_of(a, 0, "an indirect table of 0 bytes")),
    ("an indirect table of 15 bytes", |a| table_of(a, 15, "an indirect table of 15 bytes")),
    ("an indirect table of 24 bytes", |a| table_of(a, 24, "an indirect table of 24 bytes")),
    ("an indirect table of 4 GiB less a byte", |a| {
        table_of(a, u32::MAX, "an indirect table of 4294967295 bytes")
    }),
    ("an indirect table longer than the memory", |a| table_of(a, 0xffff_fff0, "indirect table: ")),
    ("an indirect table outside of the memory", |a| {
        let end = a.driver().end();
        table_at(a, end)
    }),
    ("an indirect table that leaves the memory", |a| {
        let end = a.driver().end();
        table_at(a, end - 16)
    }),
    ("an indirect table that wraps", |a| table_at(a, u64::MAX - 15)),
    ("an indirect table that is the descriptor ring", |a| {
        // The chain in it is the one that refers to it.
        let at = a.driver().packed_ring().available;
        let table = a.driver().packed_ring().descriptor_at(at);
        a.driver().chain(SPARE, &[(table, 16, INDIRECT)]);
        offered(a, SPARE);
        Stops("INDIRECT in an indirect table")
    }),
    ("an indirect table without the feature", |a| {
        a.connect(Options { features: features::VERSION_1, packed: true, ..OPTIONS });
        a.driver().indirect(SPARE, TABLE, &in_pieces(22));
        offered(a, SPARE);
        Stops("INDIRECT was not negotiated")
    }),
    ("a readable descriptor after a writable one", |a| {
        a.driver().chain(SPARE, &[(REPLY, 100, WRITE), (REQUEST, 100, READ)]);
        offered(a, SPARE);
        Stops("a readable descriptor after a writable one")
    }),
    ("a readable descriptor after a writable one of no length, in an indirect table", |a| {
        a.driver().indirect(SPARE, TABLE, &[(REPLY, 0, WRITE), (REQUEST, 100, READ), (REPLY, 100, WRITE)]);
        offered(a, SPARE);
        Stops("a readable descriptor after a writable one")
    }),
    ("flags that have no meaning", |a| {
        // They are reserved, and a device ignores them.
        let none = DescriptorFlags(0x7f78);
        a.driver().chain(SPARE, &[(REQUEST, 21, none), (REPLY, 100, none.and(WRITE))]);
        is_answered(a, SPARE)
    }),
    ("an id that no driver of this queue gives", |a| {
        // It means nothing to the device, which gives it back.
        for id in [127, 128, 0x7fff, 0x8000, 0xffff] {
            a.driver().chain(id, &[(REQUEST, 21, READ), (REPLY, 100, WRITE)]);
            is_answered(a, id);
        }
        Serves
    }),
    ("a chain of descriptors with an id each", |a| {
        // The last one counts.
        let marks = marks(a);
        stage(a, SPARE, &[(REQUEST, 21, NEXT.and(marks)), (REPLY, 100, WRITE.and(marks))]);
        let ring = a.driver().packed_ring();
        ring.write(ring.available - 2, (REQUEST, 21, READ), 7);
        a.driver().put(REQUEST, &version());
        a.driver().publish();
        a.driver().reply(SPARE, REPLY);
        Serves
    }),
    ("one id several times in flight", several_times_in_flight),
    ("one id in all places of the queue", |a| {
        a.driver().put(REQUEST, &version());
        a.driver().indirect(SPARE, TABLE, &[(REQUEST, 21, READ), (REPLY, 100, WRITE)]);
        for _ in 0..128 {
            a.driver().offer(SPARE);
        }
        a.driver().publish();
        for _ in 0..128 {
            a.driver().reply(SPARE, REPLY);
        }
        Serves
    }),
    ("more than 65536 requests on one ring", more_requests_than_an_index_counts),
    ("a queue of two entries", |a| goes_round(a, 2)),
    ("a queue of 32768 entries", |a| goes_round(a, 32768)),
    ("an event suppression structure of flags that mean nothing, and of places that there are not", |a| {
        for flags in [3, 2, 0xfffe, 0xffff, 1, 0xfffd] {
            for off_wrap in [0, 127, 128, 0x7fff, 0x8000, 0x8080, 0xffff] {
                a.driver().packed_ring().set_event(off_wrap, flags);
                is_one(a);
            }
        }
        Serves
    }),
    ("the device's event suppression structure is written by the driver", |a| {
        let device = a.driver().layout().used;
        for word in [0xffff_ffff_u32, 0, 0x0001_0000, 0x0002_ffff, 0x0003_8000] {
            a.driver().put(device, &word.to_le_bytes());
            is_one(a);
        }
        Serves
    }),
    ("both event suppression structures are one, in the descriptor ring", |a| {
        let layout = a.driver().layout();
        let inside = layout.desc + 16 * 64;
        let _ = a.front_end().set_addresses(&Layout { avail: inside, used: inside, ..layout });
        a.driver().publish();
        thread::sleep(SILENCE);
        Whatever
    }),
    ("kicks without requests", kicks_without_requests),
    ("the memory of the ring is overwritten by a reply", |a| overwritten_by_a_reply(a, SPARE)),
    ("event suppression structures that change while they are read", |a| {
        changing(a, |layout| vec![(layout.avail, 8, 8, 8)])
    }),
    ("all of it changes", |a| {
        changing(a, |layout| {
            vec![(layout.desc, 2048, 16, 16), (layout.avail, 8, 8, 8), (FREE, 32 * 4096, 4096, 40)]
        })
    }),
    ("a ring is stopped while its queue is full", |a| {
        for _ in 0..20 {
            a.begin();
            in_flight(a);
            let next = a.front_end().stop().unwrap();
            let returned = a.driver().progress();
            let place = u32::from(a.driver().packed_ring().off_wrap(returned));
            assert_eq!(next, place << 16 | place, "what was taken is answered");
            a.hang_up();
        }
        Ends
    }),
    ("a ring goes on where it was stopped, or at no place that it has", |a| {
        let layout = a.driver().layout();
        for _ in 0..20 {
            let next = a.front_end().stop().unwrap();
            let (kick, _call) = a.front_end().start_queue(&layout, next).unwrap();
            a.driver().set_kick(kick);
            // What was before has ended.
            a.session();
            is_one(a);
        }
        for place in [0x8080, 0x0080, 0x7fff, 0xffff] {
            a.front_end().stop().unwrap();
            assert!(a.front_end().start_queue(&layout, place << 16 | place).is_err(), "{place:#x}");
            a.hang_up();
            a.begin();
        }
        a.front_end().stop().unwrap();
        assert!(a.front_end().start_queue(&layout, START + 1).is_err(), "two places");
        Ends
    }),
    ("a packed ring is called a split one while it runs", |a| {
        let accepted = a.front_end().features() & !features::RING_PACKED;
        // What is there is no split ring, and what becomes of it is its owner's affair.
        let _ = a.front_end().accept(accepted);
        a.driver().publish();
        thread::sleep(SILENCE);
        Whatever
    }),
    ("a ring that runs is moved out of the memory", moved_out),
    ("a ring that runs is moved half out of the memory", moved_half_out),
    ("an event suppression structure of a ring that runs is moved to an odd address", |a| {
        let layout = a.driver().layout();
        assert!(a.front_end().set_addresses(&Layout { avail: layout.avail + 2, ..layout }).is_err());
        Ends
    }),
];

/// The marks of a chain that begins at the next place.
fn marks(a: &mut Attacker) -> DescriptorFlags {
    let ring = a.driver().packed_ring();
    ring.marks(ring.available)
}

/// Puts a chain of these flags and marks into the next places.
fn stage(a: &mut Attacker, id: u16, buffers: &[Buffer]) {
    a.driver().packed_ring().stage(id, buffers);
}

/// The Tversion in a chain of these flags and marks is answered.
#[track_caller]
fn is_answered_as(a: &mut Attacker, buffers: &[Buffer]) {
    a.driver().put(REQUEST, &version());
    stage(a, SPARE, buffers);
    a.driver().publish();
    assert_eq!(a.driver().reply(SPARE, REPLY).len(), 21, "an Rversion");
    // With other marks, what is behind the first would be new in the next lap.
    let ring = a.driver().packed_ring();
    for place in ring.available - buffers.len() as u64 + 1..ring.available {
        ring.set_flags(place, ring.marks(place));
    }
}

/// A Tversion that takes one place is answered.
#[track_caller]
fn is_one(a: &mut Attacker) {
    a.driver().indirect(SPARE, TABLE, &[(REQUEST, 21, READ), (REPLY, 100, WRITE)]);
    is_answered(a, SPARE);
}

/// Fills places up to this one with requests, or as far in a later lap of the same parity.
fn go_to(a: &mut Attacker, place: u64) {
    while a.driver().packed_ring().available % 256 != place % 256 {
        is_one(a);
    }
}

fn table_of(a: &mut Attacker, length: u32, fault: &'static str) -> Expected {
    a.driver().chain(SPARE, &[(TABLE, length, INDIRECT)]);
    offered(a, SPARE);
    Stops(fault)
}

fn table_at(a: &mut Attacker, table: u64) -> Expected {
    a.driver().chain(SPARE, &[(table, 32, INDIRECT)]);
    offered(a, SPARE);
    Stops("indirect table: ")
}
