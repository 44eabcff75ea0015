// SPDX-License-Identifier: MIT OR Apache-2.0

//! The lock table against a plain model: for each byte of a small file, who has which lock on it, through which fid.

use super::*;
use std::vec::Vec;

const FILE: LockedFile = LockedFile { backend: Backend::Volume, node: Node(12) };
/// The model's files have this many bytes; byte 24 stands for all from there on.
const BYTES: u32 = 25;
const FILES: usize = 2;

fn process(proc_id: u32) -> Process {
    Process::new(proc_id, b"host").unwrap()
}

fn request(proc_id: u32, fid: u32, start: u64, length: u64) -> LockRequest {
    let range = ByteRange::new(start, length).unwrap();
    LockRequest { file: FILE, range, process: process(proc_id), fid: Fid(fid) }
}

fn small(ranges: usize, ranges_per_session: usize) -> (LockTable, LockHolder) {
    (LockTable::new(LockLimits { ranges, ranges_per_session }), LockHolder::new())
}

/// Start, length and kind of all locks of `proc_id` in [`FILE`], in order.
fn ranges(table: &LockTable, proc_id: u32) -> Vec<(u64, u64, LockKind)> {
    let mut ranges: Vec<_> = table
        .chain(table.bucket(FILE))
        .filter(|lock| lock.process.proc_id == proc_id)
        .map(|lock| (lock.range.start(), lock.range.length(), lock.kind))
        .collect();
    ranges.sort_by_key(|range| range.0);
    ranges
}

#[test]
fn a_range_ends_where_files_do() {
    let last = LAST_BYTE;
    let range = |start, length| ByteRange::new(start, length).map(|range| (range.start(), range.length()));
    assert_eq!(range(0, 0), Ok((0, 0)));
    assert_eq!(range(5, 1), Ok((5, 1)));
    assert_eq!(range(last, 0), Ok((last, 0)));
    assert_eq!(range(last, 1), Ok((last, 0)), "the last byte goes on to the end");
    assert_eq!(range(1, last), Ok((1, 0)));
    assert_eq!(range(0, last), Ok((0, last)));
    assert_eq!(range(2, last), Err(Errno::EOVERFLOW));
    assert_eq!(range(last, 2), Err(Errno::EOVERFLOW));
    assert_eq!(range(5, u64::MAX), Err(Errno::EOVERFLOW));
    assert_eq!(range(last + 1, 0), Err(Errno::EINVAL));
    assert_eq!(range(u64::MAX, 1), Err(Errno::EINVAL));
}

#[test]
fn readers_share_and_a_writer_does_not() {
    let (mut table, mut holder) = small(8, 8);
    table.lock(&mut holder, &request(1, 1, 0, 10), LockKind::Read).unwrap();
    table.lock(&mut holder, &request(2, 1, 5, 10), LockKind::Read).unwrap();
    let writes = table.lock(&mut holder, &request(3, 1, 9, 1), LockKind::Write);
    assert_eq!(writes, Err(LockRefusal::Conflict));
    let upgrade = table.lock(&mut holder, &request(1, 1, 0, 6), LockKind::Write);
    assert_eq!(upgrade, Err(LockRefusal::Conflict));
    table.lock(&mut holder, &request(1, 1, 0, 5), LockKind::Write).unwrap();
    assert_eq!(ranges(&table, 1), [(0, 5, LockKind::Write), (5, 5, LockKind::Read)]);
    let reads = table.lock(&mut holder, &request(2, 1, 4, 1), LockKind::Read);
    assert_eq!(reads, Err(LockRefusal::Conflict));
    assert_eq!(ranges(&table, 2), [(5, 10, LockKind::Read)]);
}

#[test]
fn owners_differ_by_session_and_process_and_client() {
    let (mut table, mut holder) = small(8, 8);
    let mut other_session = LockHolder::new();
    let whole = request(1, 1, 0, 0);
    table.lock(&mut holder, &whole, LockKind::Write).unwrap();
    table.lock(&mut holder, &LockRequest { fid: Fid(2), ..whole.clone() }, LockKind::Write).unwrap();
    let refused = Err(LockRefusal::Conflict);
    assert_eq!(table.lock(&mut other_session, &whole, LockKind::Read), refused);
    assert_eq!(table.lock(&mut holder, &request(2, 1, 0, 0), LockKind::Read), refused);
    let other_client = LockRequest { process: Process::new(1, b"hos").unwrap(), ..whole.clone() };
    assert_eq!(table.lock(&mut holder, &other_client, LockKind::Read), refused);
    for file in [LockedFile { node: Node(13), ..FILE }, LockedFile { backend: Backend::Control, ..FILE }] {
        table.lock(&mut other_session, &LockRequest { file, ..whole.clone() }, LockKind::Write).unwrap();
    }
    assert_eq!((holder.held(), other_session.held(), table.len()), (1, 2, 3));
}

#[test]
fn a_client_id_has_at_most_64_bytes() {
    assert_eq!(Process::new(1, &[b'n'; 64]).map(|process| process.client_id().len()), Ok(64));
    assert_eq!(Process::new(1, &[b'n'; 65]), Err(Errno::EINVAL));
}

#[test]
fn ranges_that_adjoin_become_one_if_they_are_of_one_kind_and_fid() {
    let (mut table, mut holder) = small(8, 8);
    for (start, length) in [(0, 5), (10, 5), (20, 0), (5, 5), (15, 5)] {
        table.lock(&mut holder, &request(1, 1, start, length), LockKind::Read).unwrap();
    }
    assert_eq!(ranges(&table, 1), [(0, 0, LockKind::Read)]);
    table.unlock(&mut holder, &request(1, 7, 10, 5)).unwrap();
    assert_eq!(ranges(&table, 1), [(0, 10, LockKind::Read), (15, 0, LockKind::Read)]);
    table.lock(&mut holder, &request(1, 2, 10, 5), LockKind::Read).unwrap();
    assert_eq!((ranges(&table, 1).len(), holder.held()), (3, 3));
}

#[test]
fn what_was_locked_through_a_fid_ends_with_it() {
    let (mut table, mut holder) = small(8, 8);
    table.lock(&mut holder, &request(1, 1, 0, 10), LockKind::Write).unwrap();
    table.lock(&mut holder, &request(1, 2, 5, 10), LockKind::Write).unwrap();
    table.lock(&mut holder, &request(2, 1, 50, 1), LockKind::Write).unwrap();
    let mut other = LockHolder::new();
    table.lock(&mut other, &request(1, 1, 90, 1), LockKind::Write).unwrap();
    table.release_fid(&mut holder, FILE, Fid(1));
    assert_eq!(ranges(&table, 1), [(5, 10, LockKind::Write), (90, 1, LockKind::Write)]);
    assert_eq!(ranges(&table, 2), []);
    assert_eq!((holder.held(), other.held()), (1, 1));
}

#[test]
fn what_a_session_had_is_free_when_it_is_gone() {
    let (mut table, mut first) = small(100, 100);
    let mut second = LockHolder::new();
    for number in 0..50 {
        let file = LockedFile { node: Node(number), ..FILE };
        let request = LockRequest { file, ..request(1, 1, 0, 1) };
        table.lock(&mut first, &request, LockKind::Read).unwrap();
        table.lock(&mut second, &request, LockKind::Read).unwrap();
    }
    table.release_all(&mut first);
    assert_eq!((first.held(), second.held(), table.len()), (0, 50, 50));
    table.lock(&mut second, &request(1, 1, 0, 0), LockKind::Write).unwrap();
    table.release_all(&mut second);
    assert!(table.is_empty());
    for number in 0..100 {
        table.lock(&mut first, &request(1, 1, 2 * number, 1), LockKind::Read).unwrap();
    }
}

#[test]
fn a_full_table_refuses_and_stays_as_it_is() {
    let (mut table, mut holder) = small(2, 100);
    table.lock(&mut holder, &request(1, 1, 10, 10), LockKind::Read).unwrap();
    table.lock(&mut holder, &request(2, 1, 0, 0), LockKind::Read).unwrap();
    let full = Err(LockRefusal::NoRoom);
    assert_eq!(table.lock(&mut holder, &request(1, 1, 30, 1), LockKind::Read), full);
    assert_eq!(table.unlock(&mut holder, &request(1, 1, 15, 1)), full);
    table.unlock(&mut holder, &request(2, 1, 0, 0)).unwrap();
    assert_eq!(table.lock(&mut holder, &request(1, 1, 15, 1), LockKind::Write), full);
    assert_eq!(ranges(&table, 1), [(10, 10, LockKind::Read)]);
    table.lock(&mut holder, &request(1, 1, 10, 5), LockKind::Write).unwrap();
    let both = [(10, 5, LockKind::Write), (15, 5, LockKind::Read)];
    assert_eq!(ranges(&table, 1), both);
    table.lock(&mut holder, &request(1, 1, 0, 0), LockKind::Write).unwrap();
    assert_eq!((ranges(&table, 1), holder.held()), (std::vec![(0, 0, LockKind::Write)], 1));
}

#[test]
fn one_session_cannot_take_what_others_need() {
    let (mut table, mut greedy) = small(100, 10);
    for number in 0..10 {
        table.lock(&mut greedy, &request(number, 1, 0, 1), LockKind::Read).unwrap();
    }
    let refused = table.lock(&mut greedy, &request(10, 1, 0, 1), LockKind::Read);
    assert_eq!(refused, Err(LockRefusal::NoRoom));
    let mut modest = LockHolder::new();
    table.lock(&mut modest, &request(10, 1, 0, 1), LockKind::Read).unwrap();
    table.unlock(&mut greedy, &request(3, 1, 0, 0)).unwrap();
    table.lock(&mut greedy, &request(10, 1, 0, 1), LockKind::Read).unwrap();
}

#[test]
fn the_conflict_that_is_told_is_the_first_in_the_file() {
    let (mut table, mut holder) = small(8, 8);
    table.lock(&mut holder, &request(1, 1, 40, 0), LockKind::Write).unwrap();
    table.lock(&mut holder, &request(2, 1, 20, 5), LockKind::Read).unwrap();
    let mut asking = LockHolder::new();
    let told = |table: &LockTable, asking: &LockHolder, start, length, kind| {
        table.conflict(asking, &request(1, 1, start, length), kind).map(|conflict| {
            (conflict.kind, conflict.range.start(), conflict.range.length(), conflict.process.proc_id)
        })
    };
    assert_eq!(told(&table, &asking, 0, 0, LockKind::Write), Some((LockKind::Read, 20, 5, 2)));
    assert_eq!(told(&table, &asking, 0, 0, LockKind::Read), Some((LockKind::Write, 40, 0, 1)));
    assert_eq!(told(&table, &asking, 25, 15, LockKind::Write), None);
    table.lock(&mut asking, &request(1, 1, 25, 15), LockKind::Write).unwrap();
    assert_eq!(told(&table, &asking, 25, 15, LockKind::Write), None);
    assert_eq!(told(&table, &holder, 0, 30, LockKind::Read), Some((LockKind::Write, 25, 15, 1)));
}

/// Who has a lock on a byte: session, process, fid, kind.
type Owned = (usize, u32, u32, LockKind);

/// For each file and byte all locks on it: more than one only if all are read locks.
struct Model {
    bytes: [[Vec<Owned>; BYTES as usize]; FILES],
}

impl Model {
    fn new() -> Self {
        Self { bytes: core::array::from_fn(|_| core::array::from_fn(|_| Vec::new())) }
    }

    fn each(&mut self, file: usize, range: ByteRange) -> impl Iterator<Item = &mut Vec<Owned>> {
        self.bytes[file]
            .iter_mut()
            .zip(0..)
            .filter(move |(_, byte)| (range.first..=range.last).contains(byte))
            .map(|(owners, _)| owners)
    }

    fn has_conflict(&mut self, file: usize, range: ByteRange, asks: (usize, u32), kind: LockKind) -> bool {
        self.each(file, range).flatten().any(|owned| {
            (owned.0, owned.1) != asks && (kind == LockKind::Write || owned.3 == LockKind::Write)
        })
    }

    fn set(&mut self, file: usize, range: ByteRange, owner: (usize, u32), lock: Option<(u32, LockKind)>) {
        for owners in self.each(file, range) {
            owners.retain(|owned| (owned.0, owned.1) != owner);
            owners.extend(lock.map(|(fid, kind)| (owner.0, owner.1, fid, kind)));
        }
    }

    fn retain(&mut self, file: usize, keep: impl Fn(&Owned) -> bool) {
        self.bytes[file].iter_mut().for_each(|owners| owners.retain(&keep));
    }

    /// The ranges that the locks of each owner make: file, first byte, last byte, lock; in order.
    fn ranges(&self) -> Vec<(usize, u64, u64, Owned)> {
        let mut ranges: Vec<(usize, u64, u64, Owned)> = Vec::new();
        for (file, bytes) in self.bytes.iter().enumerate() {
            for (owners, byte) in bytes.iter().zip(0..) {
                for owned in owners {
                    let before = ranges
                        .iter_mut()
                        .find(|range| range.0 == file && range.2 + 1 == byte && range.3 == *owned);
                    match before {
                        Some(range) => range.2 = byte,
                        None => ranges.push((file, byte, byte, *owned)),
                    }
                }
            }
        }
        ranges
            .iter_mut()
            .filter(|range| range.2 == u64::from(BYTES) - 1)
            .for_each(|range| range.2 = LAST_BYTE);
        ranges.sort_by_key(|range| (range.0, range.1, range.3.0, range.3.1));
        ranges
    }
}

fn table_ranges(
    table: &LockTable,
    holders: &[LockHolder],
    files: &[LockedFile],
) -> Vec<(usize, u64, u64, Owned)> {
    let place = |lock: &Lock| files.iter().position(|file| *file == lock.file).unwrap();
    let session = |lock: &Lock| holders.iter().position(|holder| holder.number == lock.holder).unwrap();
    let mut ranges: Vec<_> = (0..table.heads.len())
        .flat_map(|bucket| table.chain(bucket))
        .map(|lock| {
            let owned = (session(lock), lock.process.proc_id, lock.fid.0, lock.kind);
            (place(lock), lock.range.first, lock.range.last, owned)
        })
        .collect();
    ranges.sort_by_key(|range| (range.0, range.1, range.3.0, range.3.1));
    ranges
}

/// A random sequence of operations by three sessions with two processes and two fids each, on two files.
fn run(seed: u64, limits: LockLimits, refusals: &mut [u32; 2]) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: u32| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u32::try_from((state >> 11) % u64::from(below)).unwrap()
    };
    let files = [FILE, LockedFile { node: Node(random(40).into()), ..FILE }];
    let same = files[0] == files[1];
    let mut table = LockTable::new(limits);
    let mut holders = [const { LockHolder::new() }; 3];
    let mut model = Model::new();
    for _ in 0..60 {
        let session = random(3) as usize;
        let (proc_id, fid) = (random(2), random(2));
        let file = if same { 0 } else { random(2) as usize };
        let start = random(BYTES);
        // Only what goes on to the end, with length 0, reaches byte 24.
        let length = random(BYTES - start);
        let range = ByteRange::new(start.into(), length.into()).unwrap();
        let request = LockRequest { file: files[file], range, process: process(proc_id), fid: Fid(fid) };
        let kind = if random(2) == 0 { LockKind::Read } else { LockKind::Write };
        let owner = (session, proc_id);
        let before = model.ranges();
        let conflicts = model.has_conflict(file, range, owner, kind);
        let told = table.conflict(&holders[session], &request, kind);
        assert_eq!(told.is_some(), conflicts);
        let expected = |refused: Result<(), LockRefusal>| refused.err();
        let refused = match random(20) {
            0 => {
                table.release_all(&mut holders[session]);
                (0..FILES).for_each(|file| model.retain(file, |owned| owned.0 != session));
                None
            }
            1..=2 => {
                table.release_fid(&mut holders[session], files[file], Fid(fid));
                model.retain(file, |owned| (owned.0, owned.2) != (session, fid));
                None
            }
            3..=8 => {
                model.set(file, range, owner, None);
                expected(table.unlock(&mut holders[session], &request))
            }
            _ if conflicts => {
                refusals[0] += 1;
                let refused = table.lock(&mut holders[session], &request, kind);
                assert_eq!(refused, Err(LockRefusal::Conflict));
                None
            }
            _ => {
                model.set(file, range, owner, Some((fid, kind)));
                expected(table.lock(&mut holders[session], &request, kind))
            }
        };
        let after = model.ranges();
        let of_session =
            |ranges: &[(usize, u64, u64, Owned)]| ranges.iter().filter(|range| range.3.0 == session).count();
        match refused {
            None => assert_eq!(table_ranges(&table, &holders, &files), after, "seed {seed}"),
            Some(refusal) => {
                assert_eq!(refusal, LockRefusal::NoRoom);
                refusals[1] += 1;
                assert_eq!(table_ranges(&table, &holders, &files), before, "seed {seed}: nothing changed");
                assert!(
                    after.len() > limits.ranges || of_session(&after) > limits.ranges_per_session,
                    "seed {seed}: there was no room"
                );
                return;
            }
        }
        assert!(after.len() <= limits.ranges && of_session(&after) <= limits.ranges_per_session);
        assert_eq!(table.len(), after.len());
        for (number, holder) in holders.iter().enumerate() {
            assert_eq!(holder.held(), after.iter().filter(|range| range.3.0 == number).count());
        }
    }
}

#[test]
fn random_sequences_agree_with_a_map_of_bytes() {
    let mut refusals = [0; 2];
    for seed in 1..=6_000 {
        run(seed, LockLimits { ranges: 200, ranges_per_session: 100 }, &mut refusals);
    }
    assert!(refusals[0] > 30_000, "{refusals:?}");
    assert_eq!(refusals[1], 0);
}

#[test]
fn random_sequences_that_fill_the_table_agree_with_a_map_of_bytes() {
    let mut refusals = [0; 2];
    for seed in 1..=6_000 {
        let ranges = 1 + usize::try_from(seed % 8).unwrap();
        run(
            seed,
            LockLimits { ranges, ranges_per_session: 1 + usize::try_from(seed % 5).unwrap() },
            &mut refusals,
        );
    }
    assert!(refusals[1] > 3_000, "{refusals:?}");
}
