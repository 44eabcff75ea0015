// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rings that lie: descriptors, chains, indirect tables, indices.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use skerry::wire::{Fid, OpenFlags, Tclunk, Tread};
use skerry_host::front_end::Options;
use skerry_host::ring_driver::{DescriptorFlags, features};

use crate::attacker::{Attacker, Case, Expected, HOME, bytes, version};
use crate::driver::{Buffer, Driver, FREE, INDIRECT, NEXT, OPTIONS, READ, REPLY, REQUEST, WRITE};
use Expected::{Serves, Stops};

/// A descriptor that honest requests here do not use.
const SPARE: u16 = 100;
/// Where indirect tables are.
const TABLE: u64 = FREE + (1 << 20);

pub const CASES: &[Case] = &[
    ("a descriptor that is its own next", |a| {
        a.driver().descriptor(SPARE, (FREE, 16, NEXT), SPARE);
        offered(a, SPARE);
        Stops("chain 100: more than 128 descriptors")
    }),
    ("a loop of two descriptors that the device would write", |a| {
        a.driver().descriptor(SPARE, (FREE, 16, NEXT.and(WRITE)), SPARE + 1);
        a.driver().descriptor(SPARE + 1, (FREE, 16, NEXT.and(WRITE)), SPARE);
        offered(a, SPARE);
        Stops("chain 100: more than 128 descriptors")
    }),
    ("a loop of all descriptors, of no length", |a| {
        for index in 0..128 {
            a.driver().descriptor(index, (FREE, 0, NEXT), (index + 1) % 128);
        }
        offered(a, 0);
        Stops("chain 0: more than 128 descriptors")
    }),
    ("a chain of as many descriptors as the queue has", |a| {
        a.driver().chain(0, &in_pieces(128));
        is_answered(a, 0)
    }),
    ("a chain longer than the queue, in an indirect table", |a| {
        a.driver().indirect(SPARE, TABLE, &in_pieces(1000));
        is_answered(a, SPARE)
    }),
    ("a chain of more descriptors than any driver has, in an indirect table", |a| {
        a.driver().indirect(SPARE, TABLE, &vec![(FREE, 0, READ); 4097]);
        offered(a, SPARE);
        Stops("chain 100: more than 4096 descriptors")
    }),
    ("a chain of more descriptors than any driver has, in a queue that has them", |a| {
        a.connect(Options { queue_size: 32768, ..OPTIONS });
        a.driver().chain(0, &vec![(FREE, 0, READ); 4097]);
        offered(a, 0);
        Stops("chain 0: more than 4096 descriptors")
    }),
    ("a table of which nearly all is never reached", |a| {
        let length = 16 * 65_000;
        a.driver().indirect(SPARE, TABLE, &in_pieces(22));
        a.driver().descriptor(SPARE, (TABLE, length, INDIRECT), 0);
        is_answered(a, SPARE)
    }),
    ("a loop in an indirect table", |a| {
        a.driver().entry(TABLE, 0, (FREE, 1, NEXT), 1);
        a.driver().entry(TABLE, 1, (FREE, 1, NEXT), 0);
        a.driver().descriptor(SPARE, (TABLE, 32, INDIRECT), 0);
        offered(a, SPARE);
        Stops("chain 100: more than 2 descriptors")
    }),
    ("a chain of more pieces than a list holds", |a| {
        let buffers: Vec<_> = (0..2049).map(|piece| (FREE + 2 * piece, 1, READ)).collect();
        a.driver().indirect(SPARE, TABLE, &buffers);
        offered(a, SPARE);
        Stops("chain 100: more than 2048 separate pieces of memory")
    }),
    ("an indirect table in an indirect table", |a| {
        a.driver().entry(TABLE, 0, (TABLE, 32, INDIRECT), 0);
        a.driver().descriptor(SPARE, (TABLE, 32, INDIRECT), 0);
        offered(a, SPARE);
        Stops("chain 100: INDIRECT in an indirect table")
    }),
    ("an indirect table with a descriptor behind it", |a| {
        a.driver().descriptor(SPARE, (TABLE, 32, INDIRECT.and(NEXT)), 1);
        offered(a, SPARE);
        Stops("chain 100: INDIRECT together with NEXT")
    }),
    ("an indirect table of no length", |a| table_of(a, 0, "an indirect table of 0 bytes")),
    ("an indirect table of 15 bytes", |a| table_of(a, 15, "an indirect table of 15 bytes")),
    ("an indirect table of 24 bytes", |a| table_of(a, 24, "an indirect table of 24 bytes")),
    ("an indirect table of 4 GiB less a byte", |a| {
        table_of(a, u32::MAX, "an indirect table of 4294967295 bytes")
    }),
    ("an indirect table longer than the memory", |a| table_of(a, 0xffff_fff0, "chain 100: indirect table: ")),
    ("an indirect table outside of the memory", |a| {
        let end = a.driver().end();
        a.driver().descriptor(SPARE, (end, 32, INDIRECT), 0);
        offered(a, SPARE);
        Stops("chain 100: indirect table: ")
    }),
    ("an indirect table that leaves the memory", |a| {
        let end = a.driver().end();
        a.driver().descriptor(SPARE, (end - 16, 32, INDIRECT), 0);
        offered(a, SPARE);
        Stops("chain 100: indirect table: ")
    }),
    ("an indirect table that wraps", |a| {
        a.driver().descriptor(SPARE, (u64::MAX - 15, 32, INDIRECT), 0);
        offered(a, SPARE);
        Stops("chain 100: indirect table: ")
    }),
    ("a next behind the end of an indirect table", |a| {
        a.driver().entry(TABLE, 0, (FREE, 1, NEXT), 2);
        a.driver().descriptor(SPARE, (TABLE, 32, INDIRECT), 0);
        offered(a, SPARE);
        Stops("chain 100: next is 2 in a table of 2 descriptors")
    }),
    ("an indirect table that is the descriptor table", |a| {
        // The chain in it is the one that refers to it.
        let table = a.driver().layout().desc;
        a.driver().descriptor(0, (table, 16, INDIRECT), 0);
        offered(a, 0);
        Stops("chain 0: INDIRECT in an indirect table")
    }),
    ("an indirect table without the feature", |a| {
        a.connect(Options { features: features::VERSION_1, ..OPTIONS });
        a.driver().indirect(SPARE, TABLE, &in_pieces(22));
        offered(a, SPARE);
        Stops("chain 100: INDIRECT was not negotiated")
    }),
    ("a next that is no descriptor", |a| {
        a.driver().descriptor(SPARE, (FREE, 16, NEXT), 128);
        offered(a, SPARE);
        Stops("chain 100: next is 128 in a table of 128 descriptors")
    }),
    ("a next far behind the descriptor table", |a| {
        a.driver().descriptor(SPARE, (FREE, 16, NEXT), 0xffff);
        offered(a, SPARE);
        Stops("chain 100: next is 65535 in a table of 128 descriptors")
    }),
    ("a head that is no descriptor", |a| {
        offered(a, 128);
        Stops("head 128 in a queue of size 128")
    }),
    ("a head far behind the descriptor table", |a| {
        offered(a, 0xffff);
        Stops("head 65535 in a queue of size 128")
    }),
    ("a readable descriptor after a writable one", |a| {
        a.driver().chain(SPARE, &[(REPLY, 100, WRITE), (REQUEST, 100, READ)]);
        offered(a, SPARE);
        Stops("chain 100: a readable descriptor after a writable one")
    }),
    ("a readable descriptor after a writable one of no length, in an indirect table", |a| {
        a.driver().indirect(SPARE, TABLE, &[(REPLY, 0, WRITE), (REQUEST, 100, READ), (REPLY, 100, WRITE)]);
        offered(a, SPARE);
        Stops("chain 100: a readable descriptor after a writable one")
    }),
    ("flags that have no meaning", |a| {
        // They are reserved, and a device ignores them.
        a.driver().put(REQUEST, &version());
        a.driver().descriptor(SPARE, (REQUEST, 21, DescriptorFlags(0xfff8).and(NEXT)), SPARE + 1);
        a.driver().descriptor(SPARE + 1, (REPLY, 100, DescriptorFlags(0xfff8).and(WRITE)), 0);
        is_answered(a, SPARE)
    }),
    ("avail.idx ahead by one more than the queue has", |a| ahead(a, 129)),
    ("avail.idx far ahead", |a| ahead(a, 1000)),
    ("avail.idx ahead by half of its range", |a| ahead(a, 0x8000)),
    ("avail.idx that goes back", |a| ahead(a, 0xffff)),
    ("avail.idx ahead by all of the queue, with one chain in all of its entries", |a| {
        a.driver().put(REQUEST, &version());
        a.driver().chain(0, &[(REQUEST, 21, READ), (REPLY, 100, WRITE)]);
        for _ in 0..128 {
            a.driver().offer(0);
        }
        a.driver().publish();
        for _ in 0..128 {
            a.driver().reply(0, REPLY);
        }
        Serves
    }),
    ("one head several times in flight", several_times_in_flight),
    ("chains that share descriptors", |a| {
        a.driver().put(REQUEST, &version());
        a.driver().descriptor(10, (REQUEST, 10, NEXT), 12);
        a.driver().descriptor(11, (REQUEST, 10, NEXT), 12);
        a.driver().descriptor(12, (REQUEST + 10, 11, NEXT), 13);
        a.driver().descriptor(13, (REPLY, 100, WRITE), 0);
        for head in [10, 11, 10, 11] {
            a.driver().offer(head);
        }
        a.driver().publish();
        for head in [10, 11, 10, 11] {
            a.driver().reply(head, REPLY);
        }
        Serves
    }),
    ("more than 65536 requests on one ring", more_requests_than_an_index_counts),
    ("a queue of two entries", |a| goes_round(a, 2)),
    ("a queue of 32768 entries", |a| goes_round(a, 32768)),
    ("kicks without requests", kicks_without_requests),
    ("requests without kicks", |a| {
        // They may wait for the next kick.
        let driver = a.driver();
        driver.put(REQUEST, &version());
        driver.chain(0, &[(REQUEST, 21, READ), (REPLY, 100, WRITE)]);
        driver.offer(0);
        let avail_idx = driver.layout().avail + 2;
        let next = driver.memory().load(avail_idx, Ordering::Relaxed).wrapping_add(1);
        // Release: pairs with the device's acquire load.
        driver.memory().store(avail_idx, next, Ordering::Release);
        thread::sleep(Duration::from_millis(5));
        driver.offer(0);
        driver.publish();
        driver.reply(0, REPLY);
        driver.reply(0, REPLY);
        Serves
    }),
    // The used ring, and avail.idx behind it, get bytes of the file, too.
    ("the memory of the rings is overwritten by a reply", |a| overwritten_by_a_reply(a, 0)),
];

/// Two chains, one of them three times.
pub fn several_times_in_flight(a: &mut Attacker) -> Expected {
    a.driver().put(REQUEST, &bytes(Tclunk { fid: Fid(77) }));
    a.driver().chain(4, &[(REQUEST, 11, READ), (REPLY, 11, WRITE)]);
    a.driver().put(REQUEST + 100, &version());
    a.driver().chain(8, &[(REQUEST + 100, 21, READ), (REPLY + 100, 21, WRITE)]);
    for id in [4, 4, 8, 4] {
        a.driver().offer(id);
    }
    a.driver().publish();
    for (id, at) in [(4, REPLY), (4, REPLY), (8, REPLY + 100), (4, REPLY)] {
        a.driver().reply(id, at);
    }
    Serves
}

pub fn kicks_without_requests(a: &mut Attacker) -> Expected {
    for _ in 0..1000 {
        a.driver().publish();
    }
    Serves
}

/// The descriptors get bytes of a file, as the reply to the chain `id`: that hurts whoever asked for it.
pub fn overwritten_by_a_reply(a: &mut Attacker, id: u16) -> Expected {
    let layout = a.driver().layout();
    let fid = a.client().walk_path(HOME, b"bytes").unwrap();
    a.client().open(fid, OpenFlags::RDONLY).unwrap();
    a.driver().put(REQUEST, &bytes(Tread { fid, offset: 0, count: 4000 }));
    a.driver().chain(id, &[(REQUEST, 23, READ), (layout.desc, 4011, WRITE)]);
    for _ in 0..2 {
        offered(a, id);
        thread::sleep(Duration::from_millis(5));
    }
    Expected::Whatever
}

/// Offers a chain.
pub fn offered(a: &mut Attacker, head: u16) {
    a.driver().offer(head);
    a.driver().publish();
}

/// A Tversion and room for its reply in `count` descriptors, some of no length.
pub fn in_pieces(count: usize) -> Vec<Buffer> {
    let readable = (0..21).map(|byte| (REQUEST + byte, 1, READ));
    let empty = (22..count).map(|_| (u64::MAX, 0, READ));
    let writable = std::iter::once((REPLY, 100, WRITE));
    readable.chain(empty).chain(writable).collect()
}

/// The Tversion in the chain at `head` is answered.
pub fn is_answered(a: &mut Attacker, head: u16) -> Expected {
    a.driver().put(REQUEST, &version());
    offered(a, head);
    let reply = a.driver().reply(head, REPLY);
    assert_eq!(reply.len(), 21, "an Rversion");
    Serves
}

fn table_of(a: &mut Attacker, length: u32, fault: &'static str) -> Expected {
    a.driver().descriptor(SPARE, (TABLE, length, INDIRECT), 0);
    offered(a, SPARE);
    Stops(fault)
}

fn ahead(a: &mut Attacker, distance: u16) -> Expected {
    a.driver().skip(distance);
    a.driver().publish();
    Stops("and the queue size 128")
}

/// Keeps a ring of 64 chains in flight until its indices have gone round.
pub fn more_requests_than_an_index_counts(a: &mut Attacker) -> Expected {
    const CHAINS: u16 = 32;
    let clunk = bytes(Tclunk { fid: Fid(77) });
    a.driver().put(REQUEST, &clunk);
    for chain in 0..CHAINS {
        a.driver().chain(2 * chain, &[(REQUEST, 11, READ), (REPLY + 16 * u64::from(chain), 11, WRITE)]);
    }
    for _ in 0..70_000 / u32::from(CHAINS) {
        for chain in 0..CHAINS {
            a.driver().offer(2 * chain);
        }
        a.driver().publish_politely();
        for chain in 0..CHAINS {
            a.driver().reply(2 * chain, REPLY + 16 * u64::from(chain));
        }
    }
    Serves
}

pub fn goes_round(a: &mut Attacker, queue_size: u16) -> Expected {
    a.connect(Options { queue_size, packed: a.packed, ..OPTIONS });
    let driver: &mut Driver = a.driver();
    driver.put(REQUEST, &version());
    let head = queue_size - 2;
    driver.chain(head, &[(REQUEST, 21, READ), (REPLY, 100, WRITE)]);
    for _ in 0..100 {
        driver.offer(head);
        driver.publish();
        driver.reply(head, REPLY);
    }
    Serves
}
