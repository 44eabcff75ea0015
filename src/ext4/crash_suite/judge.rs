// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which state may follow a crash, and whether one is of those.

use core::ops::RangeInclusive;
use std::format;
use std::path::PathBuf;
use std::string::{String, ToString};
use std::vec::Vec;

use super::tree::{Tree, Unknown, difference, observe};
use super::workload::{CALL, COMMITTED, Run, SYNCHRONIZED, UNMOUNTING};
use crate::ext4::crash::{Event, Record};
use crate::ext4::superblock::Superblock;
use crate::ext4::testing::{Borrowed, NOON, Scratch, tool};
use crate::ext4::{MountError, Volume};
use crate::mem::region::Region;

/// The store that commits: the magic number of a block of the journal.
pub(super) const COMMIT: [u8; 4] = 0xc03b_3998_u32.to_be_bytes();
/// What is stored in whole blocks may be unknown in whole blocks.
const BLOCK: u64 = 4096;

/// How far a workload was at a place in its record.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moment {
    /// Transactions committed, answered or not.
    pub transactions: usize,
    /// The call that began last.
    pub call: usize,
    /// Transactions of answered commits and synchronizations.
    pub committed: usize,
    pub synchronized: usize,
    /// Transactions and call at the last flush.
    pub flushed: (usize, usize),
    /// No call began yet, or the volume is being unmounted.
    pub at_rest: bool,
}

/// The moments of `record`: before each event, and after the last.
pub(super) fn moments(record: &Record) -> Vec<Moment> {
    let mut now = Moment { at_rest: true, ..Moment::default() };
    let mut moments = std::vec![now];
    for event in record.events() {
        match event {
            Event::Publish(_, bytes) if *bytes == COMMIT => now.transactions += 1,
            Event::Flush => now.flushed = (now.transactions, now.call),
            Event::Mark(mark) => {
                let number = usize::try_from(mark & 0xffff_ffff).unwrap();
                match mark - number as u64 {
                    CALL => (now.call, now.at_rest) = (number, false),
                    COMMITTED => now.committed = number,
                    SYNCHRONIZED => now.synchronized = number,
                    UNMOUNTING => now.at_rest = true,
                    _ => unreachable!(),
                }
            }
            _ => {}
        }
        moments.push(now);
    }
    moments
}

/// What may be found after a crash.
#[derive(Debug, Clone)]
pub(super) struct Legal {
    /// After how many calls.
    pub trees: RangeInclusive<usize>,
    /// Bytes that the calls from this on stored may be anything, in whole blocks; `None`: those of calls that are not in the
    /// tree.
    pub since: Option<usize>,
    /// Up to this call.
    pub until: usize,
}

impl Run {
    fn trees_of(&self, transactions: RangeInclusive<usize>) -> RangeInclusive<usize> {
        let place = |transaction: usize| {
            let last = self.trees.len() - 1;
            self.transactions.get(transaction).copied().unwrap_or((last, last))
        };
        place(*transactions.start()).0..=place(*transactions.end()).1
    }

    /// What may be found if the program dies after `point` events of `record`.
    pub(super) fn after_death(&self, record: &Record, moments: &[Moment], point: usize) -> Legal {
        let committed = moments[point].transactions;
        // Stores may come early, up to the next that has a place.
        let ordered = |event: &Event| matches!(event, Event::Publish(..) | Event::Flush);
        let next = record.events()[point..].iter().position(ordered);
        let end = next.map_or(record.events().len(), |next| point + next);
        Legal { trees: self.trees_of(committed..=committed), since: None, until: moments[end].call }
    }

    /// What may be found if the power fails at `moment`.
    pub(super) fn after_loss(&self, moment: &Moment) -> Legal {
        let (transactions, call) = moment.flushed;
        let trees = self.trees_of(transactions..=moment.transactions);
        Legal { trees, since: Some(call), until: moment.call }
    }

    /// What may be found, for a control, whose promise is only that transaction `least` is there.
    pub(super) fn not_before(&self, least: usize, moment: &Moment) -> Legal {
        let trees = self.trees_of(least..=self.transactions.len());
        Legal { trees, since: Some(moment.flushed.1), until: self.stored.len() }
    }

    /// Why `found` is not among what may be found; `None` if it is.
    pub(super) fn fault(&self, found: &Tree, legal: &Legal) -> Option<String> {
        let mut first = None;
        for tree in legal.trees.clone() {
            let from = legal.since.map_or(tree, |since| since.saturating_sub(1));
            let stored = self.stored.get(from..legal.until).unwrap_or_default().iter().flatten().cloned();
            let unknown: Unknown = match legal.since {
                None => stored.collect(),
                Some(_) => stored
                    .map(|(node, range)| {
                        (node, range.start / BLOCK * BLOCK..range.end.next_multiple_of(BLOCK))
                    })
                    .collect(),
            };
            let difference = difference(found, &self.trees[tree], &unknown)?;
            first
                .get_or_insert(format!("not the state after {tree} calls ({:?}): {difference}", legal.trees));
        }
        Some(first.unwrap_or_else(|| "no state is legal".into()))
    }
}

/// Whether the superblock in `bytes` was being changed in place.
pub(super) fn is_torn(bytes: &[u8]) -> bool {
    matches!(Superblock::read(&Borrowed(bytes)), Err(MountError::Checksum { .. }))
}

/// Mounts `region`, to be written.
pub(super) fn mount<R: Region>(region: R) -> Result<Volume<R>, String> {
    let volume = Volume::mount_writable(region, || NOON).map_err(|error| error.to_string())?;
    match volume.read_only_reason() {
        Some(reason) => Err(format!("only read: {reason}")),
        None => Ok(volume),
    }
}

/// Recovers `bytes` here: what is seen then, and what is in place once the volume is unmounted.
pub(super) fn recover(bytes: Vec<u8>) -> Result<(Tree, Vec<u8>), String> {
    let volume = mount(bytes)?;
    let tree = observe(&volume, None)?;
    let bytes = volume.unmount().map_err(|errno| errno.to_string())?;
    Ok((tree, bytes))
}

/// `e2fsck`, with a file for it.
pub(super) struct Checker(Scratch);

impl Checker {
    pub(super) fn new() -> Self {
        Self(Scratch::new())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("volume")
    }

    fn run(&self, options: &[&str]) -> (Option<i32>, String) {
        let output = tool("e2fsck")
            .args(options)
            .arg(self.file())
            .output()
            .unwrap_or_else(|error| panic!("e2fsck: {error} (the tests need the package e2fsprogs)"));
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Nothing is to be repaired in `bytes`.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), String> {
        std::fs::write(self.file(), bytes).unwrap();
        match self.run(&["-fn"]) {
            (Some(0), _) => Ok(()),
            (code, report) => Err(format!("e2fsck -fn: {code:?}: {report}")),
        }
    }

    /// Has `e2fsck -p` recover `bytes` as another Linux would at its start: it finds nothing to do but to replay the journal and
    /// to free orphans, and nothing is to be repaired then. Gives back what it makes of them.
    pub(super) fn recover(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        std::fs::write(self.file(), bytes).unwrap();
        let (code, report) = self.run(&["-p"]);
        let expected =
            ["recovering journal", "Clearing orphaned inode", "Truncating orphaned inode", ": clean, "];
        let unusual = report.lines().find(|line| !expected.iter().any(|text| line.contains(text)));
        if !matches!(code, Some(0 | 1)) || unusual.is_some() {
            return Err(format!("e2fsck -p: {code:?}: {report}"));
        }
        let bytes = std::fs::read(self.file()).unwrap();
        match self.run(&["-fn"]) {
            (Some(0), _) => Ok(bytes),
            (code, after) => Err(format!("e2fsck -fn after -p ({report}): {code:?}: {after}")),
        }
    }
}
