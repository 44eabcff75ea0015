// SPDX-License-Identifier: MIT OR Apache-2.0

//! Death, loss of power, crashes of the recovery, and controls that must fail.

use std::format;
use std::io::Write;
use std::string::String;
use std::sync::OnceLock;
use std::vec::Vec;

use super::judge::{COMMIT, Checker, Legal, Moment, is_torn, moments, mount, recover};
use super::keep::Kept;
use super::tree::{Tree, observe};
use super::workload::{Run, run};
use crate::ext4::Volume;
use crate::ext4::crash::{Crash, Event, Record, Recorder};
use crate::ext4::testing::{Image, Numbers, is_long, repeats};

/// The volumes: small, with the smallest journal, so that it goes around and space ends.
const VOLUMES: [(&str, &[&str]); 2] = [
    ("5M", &["-b", "1024", "-J", "size=1", "-N", "512", "-g", "2048"]),
    ("10M", &["-b", "4096", "-J", "size=4", "-N", "512", "-O", "^resize_inode"]),
];
const UUID: &str = "4f6c2b1e-6f3b-4c58-9c1f-5a0d3e7b9a21";
/// The length of a workload.
const CALLS: usize = 1500;
/// States between two words of how far the long form is.
const PROGRESS: usize = 5000;
/// States with a half changed superblock of which `e2fsck` asks that somebody looks.
const TORN: usize = 40;

/// Says how much was done, past the capture of a test's output.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "shown: crash suite: {line}");
}

/// A workload and its moments.
struct Played {
    name: &'static str,
    run: Run,
    moments: Vec<Moment>,
}

fn played(index: usize) -> &'static Played {
    static PLAYED: [OnceLock<Played>; VOLUMES.len()] = [const { OnceLock::new() }; VOLUMES.len()];
    PLAYED[index].get_or_init(|| {
        let (size, options) = VOLUMES[index];
        // The same names are in the same order in each run.
        let fixed = ["-U", UUID, "-E", &format!("hash_seed={UUID}")];
        let image = Image::new(size, &[options, &fixed].concat(), |root| {
            std::fs::write(root.join("first"), "there from the start").unwrap();
            std::fs::create_dir(root.join("one")).unwrap();
        });
        let run = run(&image, CALLS, 3 + index as u64);
        let moments = moments(&run.record);
        let transactions = moments.last().unwrap().transactions as u64;
        assert!(
            (0..2).contains(&(transactions - run.statistics.transactions)),
            "one more at most to unmount"
        );
        let name = ["1 KiB blocks", "4 KiB blocks"][index];
        say(&format!(
            "{name}: workload of {} calls, {} refused for want of space, {} events, {:?}",
            run.stored.len(),
            run.refused,
            run.record.events().len(),
            run.statistics
        ));
        Played { name, run, moments }
    })
}

impl Played {
    fn record(&self) -> &Record {
        &self.run.record
    }

    /// Moments to try: all of them; or those of the mount and the unmount, and `sample` others, half of these beside a store or
    /// flush that has a place in the order.
    fn points(&self, sample: usize, numbers: &mut Numbers) -> Vec<usize> {
        let length = self.record().len();
        if is_long() {
            return (0..length).collect();
        }
        let ordered: Vec<usize> = (0..length - 1)
            .filter(|at| matches!(self.record().events()[*at], Event::Publish(..) | Event::Flush))
            .collect();
        let point = |index: usize| match index % 2 {
            0 => numbers.below(length),
            _ => ordered[numbers.below(ordered.len())] + numbers.below(2),
        };
        let mut points: Vec<usize> = (0..length).filter(|at| self.moments[*at].at_rest).step_by(2).collect();
        points.extend((0..sample).map(point));
        points
    }

    fn judge(&self, found: &Tree, legal: &Legal) -> Result<(), String> {
        self.run.fault(found, legal).map_or(Ok(()), Err)
    }

    /// That `crash` is recovered to what is legal, by everybody.
    fn try_state(
        &self,
        crash: Crash,
        legal: &Legal,
        other: Option<&Checker>,
        ours: Option<&Checker>,
    ) -> Result<(), String> {
        let copy = other.map(|checker| (checker, crash.bytes.clone()));
        let (tree, bytes) = recover(crash.bytes)?;
        self.judge(&tree, legal)?;
        if let Some(checker) = ours {
            checker.check(&bytes)?;
        }
        if let Some((checker, copy)) = copy {
            let theirs = Volume::mount(checker.recover(&copy)?).map_err(|error| format!("{error}"))?;
            self.judge(&observe(&theirs, None)?, legal)
                .map_err(|fault| format!("after e2fsck -p: {fault}"))?;
        }
        Ok(())
    }
}

/// Tries a state after each of `points`.
fn try_all(
    played: &Played,
    kind: &str,
    points: &[usize],
    every: usize,
    mut state: impl FnMut(usize) -> (Crash, Legal),
) {
    let checker = Checker::new();
    let mut kept = Kept::new(played.name, kind, points.len(), repeats(10, 60));
    let (mut torn, mut judged) = (0, 0);
    for (index, &point) in points.iter().enumerate() {
        let (crash, legal) = state(point);
        let is_torn = is_torn(&crash.bytes);
        if is_torn {
            torn += 1;
            assert!(played.moments[point].at_rest, "{}: torn at event {point}", played.name);
        }
        kept.offer(point, &crash.bytes, played.moments[point].at_rest);
        let other = (index.is_multiple_of(every) && !is_torn).then_some(&checker);
        judged += usize::from(other.is_some());
        let ours = (index.is_multiple_of(repeats(2, 25)) || is_torn).then_some(&checker);
        let verdict = played.try_state(crash, &legal, other, ours);
        let length = played.record().len();
        assert_eq!(verdict, Ok(()), "{}, {kind}, event {point} of {length}", played.name);
        if index > 0 && index.is_multiple_of(PROGRESS) {
            std::eprintln!("{}: {kind}: {index} of {} states", played.name, points.len());
        }
    }
    let tried = points.len();
    say(&format!(
        "{}: {kind}: {tried} states, {judged} of them also by e2fsck, {torn} only by us; {}",
        played.name,
        kept.finish()
    ));
    assert!(torn <= TORN);
}

fn death(played: &Played) {
    let mut points = played.points(300, &mut Numbers(41));
    points.sort_unstable();
    let mut replay = played.record().replay();
    try_all(played, "death", &points, repeats(4, 100), |point| {
        let crash = replay.kill(point, &mut Numbers(point as u64 * 2 + 1));
        (crash, played.run.after_death(played.record(), &played.moments, point))
    });
}

fn loss(played: &Played) {
    let mut points = played.points(300, &mut Numbers(43));
    points.sort_unstable();
    let mut replay = played.record().replay();
    try_all(played, "loss of power", &points, repeats(4, 100), |point| {
        let crash = replay.power_loss(point, &mut Numbers(point as u64 * 2 + 1));
        (crash, played.run.after_loss(&played.moments[point]))
    });
}

/// Crashes recoveries, in each of `points`.
fn recovery(played: &Played) {
    let mut numbers = Numbers(47);
    let checker = Checker::new();
    let (mut recoveries, mut tried) = (0, 0);
    let points = played.points(100, &mut numbers);
    let step = points.len() / repeats(30, 400) + 1;
    for point in points.into_iter().step_by(step) {
        // Every store before is there: what follows is recorded behind it.
        let whole = played.record().dead_after(point);
        let legal = played.run.after_death(played.record(), &played.moments, point);
        let (_, bytes) = recover(whole.clone()).unwrap();
        assert_eq!(recover(whole.clone()).unwrap().1, bytes, "a second recovery is the same");
        let volume = mount(Recorder::new(whole)).unwrap();
        let record = played.record().followed_by(point, volume.region.record());
        let own = moments(&record);
        recoveries += 1;
        for _ in 0..repeats(6, 12) {
            let at = point + numbers.below(record.len() - point);
            let crash = record.kill(at, &mut numbers);
            let verdict = played.try_state(crash, &legal, None, (tried % 4 == 0).then_some(&checker));
            assert_eq!(verdict, Ok(()), "{}: death {point}, then {at} of {}", played.name, record.len());
            let crash = record.power_loss(at, &mut numbers);
            let mut legal = played.run.after_loss(&played.moments[point]);
            let durable = own[at].flushed.0.min(played.moments[point].transactions);
            if durable == played.moments[point].transactions {
                legal.trees = played.run.after_death(played.record(), &played.moments, point).trees;
            }
            let other = (tried % 8 == 0 && !is_torn(&crash.bytes)).then_some(&checker);
            let verdict = played.try_state(crash, &legal, other, None);
            assert_eq!(verdict, Ok(()), "{}: death {point}, then loss {at} of {}", played.name, record.len());
            tried += 2;
        }
    }
    say(&format!("{}: crashes of a recovery: {tried} states of {recoveries} recoveries", played.name));
}

#[test]
fn whoever_dies_leaves_what_was_committed_with_small_blocks() {
    death(played(0));
}

#[test]
fn whoever_dies_leaves_what_was_committed_with_large_blocks() {
    death(played(1));
}

#[test]
fn lost_power_leaves_what_was_synchronized_with_small_blocks() {
    loss(played(0));
}

#[test]
fn lost_power_leaves_what_was_synchronized_with_large_blocks() {
    loss(played(1));
}

#[test]
fn a_recovery_that_is_crashed_is_done_again_with_small_blocks() {
    recovery(played(0));
}

#[test]
fn a_recovery_that_is_crashed_is_done_again_with_large_blocks() {
    recovery(played(1));
}

/// How many of `states` are judged wrong.
fn wrong(played: &Played, states: impl Iterator<Item = (Crash, Legal)>) -> (usize, usize) {
    states.fold((0, 0), |(tried, wrong), (crash, legal)| {
        (tried + 1, wrong + usize::from(played.try_state(crash, &legal, None, None).is_err()))
    })
}

fn say_control(played: &Played, kind: &str, (tried, wrong): (usize, usize)) {
    say(&format!("{}: control, {kind}: {tried} states, {wrong} of them found wrong", played.name));
    assert!(wrong > 0, "{}: {kind} was not noticed", played.name);
}

/// The events of `record` of which `wanted` holds, without those of the mount and the unmount.
fn events(played: &Played, wanted: impl Fn(&Event) -> bool) -> Vec<usize> {
    let events = played.record().events().iter().enumerate();
    events.filter(|(at, event)| wanted(event) && !played.moments[*at].at_rest).map(|(at, _)| at).collect()
}

/// A flush that does nothing is noticed when the power fails.
fn dropped_flush(played: &Played) {
    let mut numbers = Numbers(53);
    let flushes = events(played, |event| *event == Event::Flush);
    let mut found = (0, 0);
    for (index, at) in flushes.iter().enumerate().skip(2).step_by(repeats(4, 1)) {
        let all = played.record().events().iter().take(*at).filter(|event| **event == Event::Flush).count();
        let falsified = played.record().without_flush(all);
        let own = moments(&falsified);
        let end = flushes.get(index + 1).map_or(falsified.len() - 1, |next| next - 1);
        let states = (0..repeats(12, 40)).map(|_| {
            let point = at + numbers.below(end - at + 1);
            let moment = &own[point];
            // The promise is that of the record as it was.
            let least = played.moments[point + 1].flushed.0;
            (falsified.power_loss(point, &mut numbers), played.run.not_before(least, moment))
        });
        let (tried, wrong) = wrong(played, states.collect::<Vec<_>>().into_iter());
        found = (found.0 + tried, found.1 + wrong);
    }
    say_control(played, "a flush that does nothing", found);
}

/// Commits that have no place in the order are noticed when the program dies.
fn unordered(played: &Played) {
    let mut numbers = Numbers(59);
    let falsified = played.record().with_publishes_unordered();
    let points = played.points(repeats(60, 1000), &mut numbers);
    let step = points.len() / repeats(60, 1000) + 1;
    let states = points.into_iter().step_by(step).map(|point| {
        let moment = &played.moments[point];
        (falsified.kill(point, &mut numbers), played.run.not_before(moment.committed, moment))
    });
    say_control(played, "publishes without an order", wrong(played, states.collect::<Vec<_>>().into_iter()));
}

/// One commit that is stored only after the next store that has a place is noticed when the program dies.
fn late_commit(played: &Played) {
    let mut numbers = Numbers(61);
    let commits = events(played, |event| matches!(event, Event::Publish(_, bytes) if *bytes == COMMIT));
    let mut found = (0, 0);
    for &at in commits.iter().skip(1).step_by(commits.len() / repeats(20, 300) + 1) {
        let falsified = played.record().with_late_publish(at);
        let own = moments(&falsified);
        let until = own.len().min(at + 400);
        let Some(answered) = (at..until).find(|point| own[*point].committed > own[at].committed) else {
            continue;
        };
        let states = [answered, answered + 1].map(|point| {
            (falsified.kill(point, &mut numbers), played.run.not_before(own[point].committed, &own[point]))
        });
        let (tried, wrong) = wrong(played, states.into_iter());
        found = (found.0 + tried, found.1 + wrong);
    }
    say_control(played, "a commit behind its answer", found);
}

/// A journal without its records of revoked blocks is noticed, whoever dies.
fn skipped_revoke(played: &Played) {
    let mut numbers = Numbers(67);
    let points = played.points(repeats(150, 3000), &mut numbers);
    let step = points.len() / repeats(150, 3000) + 1;
    let states = points.into_iter().step_by(step).map(|point| {
        let mut crash = played.record().kill(point, &mut numbers);
        for block in crash.bytes.chunks_mut(1024) {
            // A revoke block: its records end where its header does.
            if block[..4] == COMMIT && block[4..8] == 5_u32.to_be_bytes() {
                block[12..16].copy_from_slice(&16_u32.to_be_bytes());
            }
        }
        (crash, played.run.after_death(played.record(), &played.moments, point))
    });
    say_control(played, "no block is revoked", wrong(played, states));
}

fn controls(played: &Played) {
    dropped_flush(played);
    unordered(played);
    late_commit(played);
    skipped_revoke(played);
}

#[test]
fn falsified_records_are_noticed_with_small_blocks() {
    controls(played(0));
}

#[test]
fn falsified_records_are_noticed_with_large_blocks() {
    controls(played(1));
}

#[test]
fn no_header_of_the_log_is_stored_over_another() {
    // Half of one and half of the other would be a commit block of the running transaction.
    for index in 0..VOLUMES.len() {
        let played = played(index);
        let mut bytes = played.record().dead_after(0);
        let mut headers = 0;
        for (at, event) in played.record().events().iter().enumerate() {
            let (Event::Store(offset, stored) | Event::Publish(offset, stored)) = event else { continue };
            if offset.is_multiple_of(1024) && stored.starts_with(&COMMIT) {
                headers += 1;
                assert_ne!(bytes[*offset..offset + 4], COMMIT, "{}: event {at}", played.name);
            }
            bytes[*offset..offset + stored.len()].copy_from_slice(stored);
        }
        assert!(headers > 500, "{headers}");
    }
}
