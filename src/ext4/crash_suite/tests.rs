// SPDX-License-Identifier: MIT OR Apache-2.0

//! Death, loss of power, crashes of the recovery, and controls that must fail.

use std::format;
use std::io::Write;
use std::string::String;
use std::sync::OnceLock;
use std::vec::Vec;

use super::judge::{Checker, Legal, Moment, is_torn, moments, mount, recover};
use super::tree::{Tree, observe};
use super::workload::{Run, run};
use crate::ext4::Volume;
use crate::ext4::crash::{Crash, Event, Record, Recorder};
use crate::ext4::testing::{Image, Numbers};

/// The volumes: small, with the smallest journal, so that it goes around and space ends.
const VOLUMES: [(&str, &[&str]); 2] = [
    ("5M", &["-b", "1024", "-J", "size=1", "-N", "512", "-g", "2048"]),
    ("12M", &["-b", "4096", "-J", "size=4", "-N", "512", "-O", "^resize_inode"]),
];
/// States with a half changed superblock of which `e2fsck` asks that somebody looks.
const TORN: usize = 40;

fn is_long() -> bool {
    std::env::var_os("SKERRY_LONG").is_some_and(|value| value == "1")
}

/// `short`, or `long` in the long form.
fn count(short: usize, long: usize) -> usize {
    if is_long() { long } else { short }
}

/// Says how much was done, past the capture of a test's output.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "crash suite: {line}");
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
        let image = Image::new(size, options, |root| {
            std::fs::write(root.join("first"), "there from the start").unwrap();
            std::fs::create_dir(root.join("one")).unwrap();
        });
        let run = run(&image, count(1500, 6000), 3 + index as u64);
        let moments = moments(&run.record);
        let transactions = moments.last().unwrap().transactions as u64;
        assert!((0..2).contains(&(transactions - run.statistics.transactions)), "one more at most to unmount");
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

    /// Moments to try: all of them, or `sample`, half of these beside a store or flush that has a place in the order.
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
        (0..sample).map(point).collect()
    }

    fn judge(&self, found: &Tree, legal: &Legal) -> Result<(), String> {
        self.run.fault(found, legal).map_or(Ok(()), Err)
    }

    /// That `crash` is recovered to what is legal, by everybody.
    fn try_state(&self, crash: &Crash, legal: &Legal, other: Option<&Checker>, ours: Option<&Checker>) -> Result<(), String> {
        let (tree, bytes) = recover(&crash.bytes)?;
        self.judge(&tree, legal)?;
        if let Some(checker) = ours {
            checker.check(&bytes)?;
        }
        if let Some(checker) = other {
            let theirs = Volume::mount(checker.recover(&crash.bytes)?).map_err(|error| format!("{error}"))?;
            self.judge(&observe(&theirs, None)?, legal).map_err(|fault| format!("after e2fsck -p: {fault}"))?;
        }
        Ok(())
    }
}

/// Tries a state after each of `points`.
fn try_all(played: &Played, kind: &str, points: &[usize], every: usize, state: impl Fn(usize) -> (Crash, Legal)) {
    let checker = Checker::new();
    let (mut torn, mut judged) = (0, 0);
    for (index, &point) in points.iter().enumerate() {
        let (crash, legal) = state(point);
        let is_torn = is_torn(&crash.bytes);
        if is_torn {
            torn += 1;
            assert!(played.moments[point].at_rest, "{}: torn at event {point}", played.name);
        }
        let other = (index.is_multiple_of(every) && !is_torn).then_some(&checker);
        judged += usize::from(other.is_some());
        let ours = (index % 2 == 0 || is_torn).then_some(&checker);
        let verdict = played.try_state(&crash, &legal, other, ours);
        let length = played.record().len();
        if verdict.is_err() { std::fs::write("/tmp/wt/crash/target/bad.img", &crash.bytes).unwrap(); } // DEBUG
        assert_eq!(verdict, Ok(()), "{}, {kind}, event {point} of {length}", played.name);
    }
    let tried = points.len();
    say(&format!("{}: {kind}: {tried} states, {judged} of them also by e2fsck, {torn} only by us", played.name));
    assert!(torn <= TORN);
}

fn death(played: &Played) {
    let points = played.points(300, &mut Numbers(41));
    try_all(played, "death", &points, count(4, 50), |point| {
        let crash = played.record().kill(point, &mut Numbers(point as u64 * 2 + 1));
        (crash, played.run.after_death(played.record(), &played.moments, point))
    });
}

fn loss(played: &Played) {
    let points = played.points(300, &mut Numbers(43));
    try_all(played, "loss of power", &points, count(4, 50), |point| {
        let crash = played.record().power_loss(point, &mut Numbers(point as u64 * 2 + 1));
        (crash, played.run.after_loss(&played.moments[point]))
    });
}

/// Crashes recoveries, in each of `points`.
fn recovery(played: &Played) {
    let mut numbers = Numbers(47);
    let checker = Checker::new();
    let (mut recoveries, mut tried) = (0, 0);
    let points = played.points(usize::MAX.min(30), &mut numbers);
    let step = count(1, points.len() / 400 + 1);
    for point in points.into_iter().step_by(step) {
        // Every store before is there: what follows is recorded behind it.
        let whole = played.record().dead_after(point);
        let legal = played.run.after_death(played.record(), &played.moments, point);
        let (_, bytes) = recover(&whole).unwrap();
        assert_eq!(recover(&whole).unwrap().1, bytes, "a second recovery is the same");
        let volume = mount(Recorder::new(whole)).unwrap();
        let record = played.record().followed_by(point, volume.region.record());
        let own = moments(&record);
        recoveries += 1;
        for _ in 0..count(6, 12) {
            let at = point + numbers.below(record.len() - point);
            let crash = record.kill(at, &mut numbers);
            let verdict = played.try_state(&crash, &legal, None, (tried % 4 == 0).then_some(&checker));
            assert_eq!(verdict, Ok(()), "{}: death {point}, then {at} of {}", played.name, record.len());
            let crash = record.power_loss(at, &mut numbers);
            let mut legal = played.run.after_loss(&played.moments[point]);
            let durable = own[at].flushed.0.min(played.moments[point].transactions);
            if durable == played.moments[point].transactions {
                legal.trees = played.run.after_death(played.record(), &played.moments, point).trees;
            }
            let verdict = played.try_state(&crash, &legal, (tried % 8 == 0 && !is_torn(&crash.bytes)).then_some(&checker), None);
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
