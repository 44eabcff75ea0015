// SPDX-License-Identifier: MIT OR Apache-2.0

//! Passes over a ring: budgets, commits, notification, offences, and slots that change hands.

mod changing_memory;

use super::*;
use crate::server::tree::Tree;
use crate::server::{ExportList, LockTable};
use crate::virtq::driver_model::{Driver, EVENT_IDX, PLAIN, WITH_INDIRECT, WRITE};
use crate::wire::{
    Fid, LockFlags, LockType, MessageType, OpenFlags, Tag, Tattach, Tlock, Tlopen, Tmessage, Tmkdir,
    Tversion, VERSION,
};
use std::boxed::Box;
use std::vec::Vec;

const LIMITS: SessionLimits = SessionLimits { max_fids: 16, max_msize: 1 << 16 };
const REPLY: u32 = 64;

struct Calls(u32);

impl Notify for Calls {
    fn call(&mut self) {
        self.0 += 1;
    }
}

/// A connection, the driver of its ring, and what a pass over it needs.
struct Bench {
    connection: Connection,
    driver: Driver,
    tree: Tree,
    list: ExportList,
    locks: LockTable,
    scratch: Box<Scratch>,
    calls: Calls,
    replies: Vec<u64>,
}

impl Bench {
    fn new(driver: Driver) -> Self {
        let mut connection = Connection::new(LIMITS);
        connection.attach(driver.memory(), &driver.configuration).unwrap();
        let (tree, scratch, calls) = (Tree::new(), Box::default(), Calls(0));
        let (list, locks) = (ExportList::default(), LockTable::default());
        Self { connection, driver, tree, list, locks, scratch, calls, replies: Vec::new() }
    }

    /// Offers a request in the descriptors `2 * n` and `2 * n + 1`.
    fn offer(&mut self, bytes: &[u8]) {
        let head = u16::try_from(2 * self.replies.len()).unwrap();
        let (request, reply) = (self.driver.buffer(64), self.driver.buffer(REPLY.into()));
        self.driver.write(request, bytes);
        let length = u32::try_from(bytes.len()).unwrap();
        let table = self.driver.configuration.descriptors.0;
        self.driver.chain(table, head, &[((request, length), 0), ((reply, REPLY), WRITE)]);
        self.driver.offer(head);
        self.replies.push(reply);
    }

    /// Offers a Tversion. It is answered with an error, unless `tag` is [`Tag::NOTAG`].
    fn offer_version(&mut self, tag: u16) {
        let mut bytes = [0; 64];
        let request = Tversion { msize: 8192, version: b"9P2000.L" };
        let length = crate::wire::Tmessage::from(request).emit(Tag(tag), &mut bytes).unwrap();
        self.offer(&bytes[..length]);
    }

    /// Lets the client lock the root of the volume.
    fn lock_root(&mut self) {
        let fid = Fid(0);
        let attach = Tattach { fid, afid: Fid::NOFID, uname: b"", aname: b"", n_uname: 0 };
        let (kind, flags) = (LockType::Write, LockFlags::empty());
        let requests: [Tmessage<'_>; 4] = [
            Tversion { msize: 8192, version: VERSION }.into(),
            attach.into(),
            Tlopen { fid, flags: OpenFlags::RDONLY }.into(),
            Tlock { fid, kind, flags, start: 0, length: 0, proc_id: 1, client_id: b"host" }.into(),
        ];
        for request in requests {
            let mut bytes = [0; 64];
            let tag = if request.kind() == MessageType::Tversion { Tag::NOTAG } else { Tag(1) };
            let length = request.emit(tag, &mut bytes).unwrap();
            self.offer(&bytes[..length]);
        }
        self.drain(100).unwrap();
        assert_eq!(self.locks.len(), 1);
    }

    fn drain(&mut self, budget: u32) -> Result<Drained, Fault> {
        let mut exports = Exports::new(&mut self.tree, &self.list, &mut self.locks);
        self.connection.drain(&mut exports, &mut self.scratch, &mut self.calls, Turn::of_requests(budget))
    }

    /// The tag of the reply to request `n`.
    fn tag(&self, n: usize) -> u16 {
        let reply = self.driver.read(self.replies[n], 7);
        u16::from_le_bytes([reply[5], reply[6]])
    }
}

#[test]
fn one_pass_answers_all_that_is_available_and_notifies_once() {
    for features in [PLAIN, EVENT_IDX] {
        let mut bench = Bench::new(Driver::new(8, features));
        (1..=3).for_each(|tag| bench.offer_version(tag));
        assert_eq!(bench.drain(100), Ok(Drained { requests: 3, more: false }));
        assert_eq!([bench.tag(0), bench.tag(1), bench.tag(2)], [1, 2, 3]);
        assert_eq!((bench.driver.used_index(), bench.calls.0), (3, 1));
        assert_eq!(bench.drain(100), Ok(Drained::default()));
        assert_eq!(bench.calls.0, 1, "nothing was published, so nobody is told");
        let statistics = bench.connection.statistics();
        assert_eq!((statistics.drains, statistics.requests, statistics.largest_drain), (1, 3, 3));
    }
}

#[test]
fn a_budget_ends_a_pass_and_the_next_goes_on() {
    let mut bench = Bench::new(Driver::new(8, PLAIN));
    (1..=3).for_each(|tag| bench.offer_version(tag));
    assert_eq!(bench.drain(2), Ok(Drained { requests: 2, more: true }));
    assert_eq!(bench.drain(2), Ok(Drained { requests: 1, more: false }));
    assert_eq!(bench.tag(2), 3);
}

#[test]
fn a_pass_that_is_put_off_is_counted_once_however_often_the_ring_is_looked_at() {
    let mut bench = Bench::new(Driver::new(8, PLAIN));
    for pass in 1..=2 {
        bench.offer_version(1);
        bench.connection.put_off();
        bench.connection.put_off();
        assert_eq!(bench.drain(100).map(|drained| drained.requests), Ok(1));
        assert_eq!(bench.connection.statistics().put_off, pass);
    }
}

#[test]
fn a_driver_that_wants_no_interrupt_gets_none() {
    let mut bench = Bench::new(Driver::new(8, PLAIN));
    bench.offer_version(1);
    assert!(
        bench.drain(100).is_ok(),
        "the first pass always tells: an earlier device may have died before it did"
    );
    bench.driver.set_available_flags(1);
    bench.offer_version(2);
    assert_eq!(bench.drain(100).map(|drained| drained.requests), Ok(1));
    assert_eq!((bench.calls.0, bench.connection.statistics().notifications_suppressed), (1, 1));
}

#[test]
fn arming_reports_what_came_after_the_last_pass() {
    for features in [PLAIN, EVENT_IDX] {
        let mut bench = Bench::new(Driver::new(8, features));
        assert_eq!(bench.drain(100), Ok(Drained::default()));
        assert_eq!(bench.connection.arm(), Ok(false));
        bench.offer_version(1);
        assert!(bench.driver.kick_wanted(0));
        assert_eq!(bench.connection.arm(), Ok(true));
    }
}

#[test]
fn an_offence_stops_the_connection_after_the_replies_before_it_are_published() {
    let mut bench = Bench::new(Driver::new(8, PLAIN));
    bench.offer_version(1);
    bench.offer(&[3, 0, 0]);
    bench.offer_version(3);
    let fault = Fault::Session(SessionFault::RequestTooShort { readable: 3 });
    assert_eq!(bench.drain(100), Err(fault));
    assert_eq!((bench.driver.used_index(), bench.calls.0, bench.tag(0)), (1, 1, 1));
    assert_eq!(bench.connection.state(), State::Faulted(fault));
    assert_eq!(bench.drain(100), Ok(Drained::default()), "it is served no more");
    assert_eq!(bench.connection.arm(), Ok(false));
    assert_eq!(bench.connection.detach(), Some(2));
    assert_eq!(bench.connection.state(), State::Free);
}

#[test]
fn a_client_that_is_detached_or_stopped_has_no_locks_after_the_next_pass() {
    let mut bench = Bench::new(Driver::new(16, PLAIN));
    bench.lock_root();
    bench.connection.detach();
    assert_eq!(bench.drain(100), Ok(Drained::default()));
    assert!(bench.locks.is_empty());

    let mut bench = Bench::new(Driver::new(16, PLAIN));
    bench.lock_root();
    bench.offer(&[3, 0, 0]);
    bench.drain(100).unwrap_err();
    assert!(bench.locks.is_empty());
}

#[test]
fn a_client_that_breaks_the_rules_stops_alone() {
    let (mut bad, mut good) = (Bench::new(Driver::new(8, PLAIN)), Bench::new(Driver::new(8, PLAIN)));
    good.offer_version(1);
    assert!(good.drain(100).is_ok());
    // Everything but the client is shared: the exports, and the buffers that still hold the other's request.
    let mut exports = Exports::new(&mut good.tree, &good.list, &mut good.locks);
    bad.driver.descriptor(0, (0, 64), 0, 0);
    bad.driver.offer(0);
    let stopped =
        bad.connection.drain(&mut exports, &mut good.scratch, &mut bad.calls, Turn::of_requests(100));
    assert!(matches!(stopped, Err(Fault::Ring(virtq::Fault::Buffer { head: 0, .. }))), "{stopped:?}");
    assert!(matches!(bad.connection.state(), State::Faulted(_)));

    good.offer_version(2);
    assert_eq!(good.drain(100).map(|drained| drained.requests), Ok(1));
    assert_eq!((good.connection.state(), good.tag(1)), (State::Running, 2));
}

#[test]
fn a_ring_with_damaged_descriptors_is_served_or_stopped() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u16| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u16::try_from((state >> 20) % u64::from(below)).unwrap()
    };
    let (mut whole, mut stopped) = (0, 0);
    for round in 0..6000 {
        let features = [PLAIN, EVENT_IDX, WITH_INDIRECT][round % 3];
        let mut bench = Bench::new(Driver::at(16, features, 65530, 4096));
        for _ in 0..8 {
            // size[4] Tclunk tag[2] fid[4]
            bench.offer(&[11, 0, 0, 0, 120, 1, 0, 7, 0, 0, 0]);
        }
        let table = bench.driver.configuration.descriptors.0;
        for _ in 0..random(4) {
            // A byte of a descriptor or of the available ring.
            let bytes = [0, 1, 2, 4, 7, 15, 16, 17, 0x7f, 0x80, 0xff];
            let byte = bytes[usize::from(random(11))];
            let end = u16::try_from(bench.driver.configuration.used.0 - table).unwrap();
            bench.driver.write(table + u64::from(random(end)), &[byte]);
        }
        match bench.drain(100) {
            Ok(drained) => {
                let requests = u16::try_from(drained.requests).unwrap();
                assert_eq!(bench.driver.used_index(), 65530_u16.wrapping_add(requests));
                assert_eq!(bench.connection.arm(), Ok(false));
                whole += 1;
            }
            Err(fault) => {
                assert_eq!(bench.connection.state(), State::Faulted(fault));
                stopped += 1;
            }
        }
    }
    assert!(whole > 1000 && stopped > 1000, "{whole} {stopped}");
}

#[test]
fn a_reply_that_does_not_fit_stops_the_connection() {
    let mut bench = Bench::new(Driver::new(8, PLAIN));
    let (request, reply) = (bench.driver.buffer(64), bench.driver.buffer(16));
    bench
        .driver
        .write(request, &[19, 0, 0, 0, 100, 255, 255, 0, 32, 0, 0, 6, 0, b'9', b'P', b'2', b'0', b'0', b'0']);
    let table = bench.driver.configuration.descriptors.0;
    bench.driver.chain(table, 0, &[((request, 19), 0), ((reply, 16), WRITE)]);
    bench.driver.offer(0);
    let (reply, needed, room) = (MessageType::Rversion, 20, 16);
    let fault = Fault::Session(SessionFault::NoRoomForReply { reply, needed, room });
    assert_eq!(bench.drain(100), Err(fault));
    assert_eq!((bench.connection.state(), bench.driver.used_index()), (State::Faulted(fault), 0));
}

#[test]
fn a_client_that_takes_a_slot_finds_no_fid_of_the_one_before() {
    let mut bench = Bench::new(Driver::new(8, PLAIN));
    bench.offer_version(Tag::NOTAG.0);
    // size[4] Tattach tag[2] fid[4] afid[4] uname[s] aname[s] n_uname[4]
    bench.offer(&[23, 0, 0, 0, 104, 1, 0, 7, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bench.drain(100).map(|drained| drained.requests), Ok(2));
    assert_eq!(bench.connection.session().fids_in_use(), 1);
    bench.connection.detach();
    assert_eq!(bench.connection.session().fids_in_use(), 0);
    let driver = Driver::new(8, PLAIN);
    bench.connection.attach(driver.memory(), &driver.configuration).unwrap();
    (bench.driver, bench.replies) = (driver, Vec::new());
    // size[4] Tclunk tag[2] fid[4]
    bench.offer(&[11, 0, 0, 0, 120, 1, 0, 7, 0, 0, 0]);
    assert_eq!(bench.drain(100).map(|drained| drained.requests), Ok(1));
    // EPROTO: there is no session yet.
    assert_eq!(bench.driver.read(bench.replies[0], 11), [11, 0, 0, 0, 7, 1, 0, 71, 0, 0, 0]);
}

#[test]
fn a_ring_that_is_detached_can_be_taken_up_where_it_was_left() {
    let mut bench = Bench::new(Driver::new(8, PLAIN));
    bench.offer_version(1);
    assert!(bench.drain(100).is_ok());
    assert_eq!(bench.connection.detach(), Some(1));
    assert_eq!(bench.connection.detach(), None);
    bench.offer_version(2);
    let configuration = QueueConfiguration { next: 1, ..bench.driver.configuration };
    bench.connection.attach(bench.driver.memory(), &configuration).unwrap();
    assert_eq!(bench.drain(100).map(|drained| drained.requests), Ok(1));
    assert_eq!((bench.tag(1), bench.driver.used_index()), (2, 2));
}

#[test]
fn a_ring_that_cannot_be_leaves_the_slot_free() {
    let driver = Driver::new(8, PLAIN);
    let configuration = QueueConfiguration { size: 7, ..driver.configuration };
    let mut connection = Connection::new(LIMITS);
    let refused = connection.attach(driver.memory(), &configuration);
    assert_eq!(refused, Err(virtq::Fault::Size { size: 7 }));
    assert_eq!((connection.state(), connection.position()), (State::Free, None));
}

/// Offers what makes a directory called `name` in the root.
fn offer_mkdir(bench: &mut Bench, name: &[u8]) {
    let request = Tmkdir { dfid: Fid(0), name, mode: 0o755, gid: 0 };
    let mut bytes = [0; 64];
    let length = Tmessage::from(request).emit(Tag(1), &mut bytes).unwrap();
    bench.offer(&bytes[..length]);
}

#[test]
fn the_requests_of_one_pass_are_committed_once() {
    let mut bench = Bench::new(Driver::new(16, PLAIN));
    bench.lock_root();
    let before = bench.tree.commits;
    [b"a", b"b", b"c"].iter().for_each(|name| offer_mkdir(&mut bench, *name));
    assert_eq!(bench.drain(100).map(|drained| drained.requests), Ok(3));
    assert_eq!(bench.tree.commits, before + 1);
    assert_eq!(bench.drain(100), Ok(Drained::default()));
    assert_eq!(bench.tree.commits, before + 1, "without requests there is nothing to commit");
}

#[test]
fn no_reply_of_a_pass_is_published_if_its_changes_cannot_be_committed() {
    let mut bench = Bench::new(Driver::new(16, PLAIN));
    bench.lock_root();
    let (used, calls) = (bench.driver.used_index(), bench.calls.0);
    offer_mkdir(&mut bench, b"a");
    offer_mkdir(&mut bench, b"b");
    bench.tree.unreliable = Some(Errno::EIO);
    assert_eq!(bench.drain(100), Err(Fault::Volume(Errno::EIO)));
    assert_eq!((bench.driver.used_index(), bench.calls.0), (used, calls));
    assert_eq!(bench.connection.state(), State::Faulted(Fault::Volume(Errno::EIO)));
    assert_eq!(bench.connection.position(), Some(used), "they were never answered");
    assert_eq!(bench.drain(100), Err(Fault::Volume(Errno::EIO)), "its open file was given back");
    assert_eq!(bench.drain(100), Ok(Drained::default()));
}

#[test]
fn an_open_file_of_a_client_that_is_gone_is_given_back_by_the_next_pass_and_that_is_committed() {
    let mut bench = Bench::new(Driver::new(16, PLAIN));
    bench.lock_root();
    assert_eq!(bench.tree.retained(), 1);
    bench.connection.detach();
    let before = bench.tree.commits;
    assert_eq!((bench.tree.retained(), bench.connection.session().fids_in_use()), (1, 0));
    assert_eq!(bench.drain(100), Ok(Drained::default()));
    assert_eq!((bench.tree.retained(), bench.tree.commits), (0, before + 1));
    assert_eq!(bench.drain(100), Ok(Drained::default()));
    assert_eq!(bench.tree.commits, before + 1);
}

#[test]
fn what_an_earlier_client_held_is_given_back_before_the_next_is_served() {
    let mut bench = Bench::new(Driver::new(16, PLAIN));
    bench.lock_root();
    let driver = Driver::new(16, PLAIN);
    bench.connection.detach();
    bench.connection.attach(driver.memory(), &driver.configuration).unwrap();
    (bench.driver, bench.replies) = (driver, Vec::new());
    bench.lock_root();
    assert_eq!((bench.tree.retained(), bench.connection.session().fids_in_use()), (1, 1));
}

#[test]
fn what_was_changed_before_an_offence_is_committed() {
    let mut bench = Bench::new(Driver::new(16, PLAIN));
    bench.lock_root();
    let before = bench.tree.commits;
    offer_mkdir(&mut bench, b"a");
    bench.offer(&[3, 0, 0]);
    bench.drain(100).unwrap_err();
    assert_eq!((bench.tree.commits, bench.tree.retained()), (before + 1, 0));
    assert_eq!(bench.driver.used_index(), 5);
}

#[test]
fn what_is_given_back_is_committed_though_nobody_asks_for_anything() {
    let mut bench = Bench::new(Driver::new(16, PLAIN));
    bench.lock_root();
    let before = bench.tree.commits;
    let driver = Driver::new(16, PLAIN);
    bench.connection.detach();
    bench.connection.attach(driver.memory(), &driver.configuration).unwrap();
    assert_eq!(bench.drain(100), Ok(Drained::default()));
    assert_eq!((bench.tree.commits, bench.tree.retained()), (before + 1, 0));

    let mut bench = Bench::new(Driver::new(16, PLAIN));
    bench.lock_root();
    let before = bench.tree.commits;
    bench.offer(&[3, 0, 0]);
    bench.drain(100).unwrap_err();
    assert_eq!((bench.tree.commits, bench.tree.retained()), (before + 1, 0));
}
