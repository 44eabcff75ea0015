// SPDX-License-Identifier: MIT OR Apache-2.0

//! Death and loss of power at any moment of a workload on a recorded region: what is recovered is the state after some
//! transaction, recent enough, whoever recovers. With `SKERRY_LONG=1`, four times as many moments.

use std::string::String;
use std::vec::Vec;

use crate::ext4::crash::{Crash, Event, Record, Recorder};
use crate::ext4::field::{le32, put_le32};
use crate::ext4::superblock::Superblock;
use crate::ext4::testing::{Image, NOON, Numbers, repeats};
use crate::ext4::{MountError, Volume};

/// `s_mkfs_time`: the workload counts its transactions there.
const COUNTER: usize = 0x108;
/// The blocks that the workload changes, all free.
const BLOCKS: usize = 40;

/// A workload on a volume that `image` holds: block `first + i` has, after each transaction, what [`states`] say.
struct Workload {
    first: u64,
    size: usize,
    /// For each number of transactions, the last one that changed each block.
    states: Vec<[u32; BLOCKS]>,
}

/// What transaction `transaction` makes of block `block`.
fn content(transaction: u32, block: u64, size: usize) -> Vec<u8> {
    let mut bytes = std::vec![0; size];
    if transaction != 0 {
        let mut numbers = Numbers(u64::from(transaction) << 20 | (block + 1));
        bytes.fill_with(|| numbers.byte());
        if (u64::from(transaction) + block).is_multiple_of(50) {
            bytes[..4].copy_from_slice(&0xc03b_3998_u32.to_be_bytes());
        }
    }
    bytes
}

impl Workload {
    fn run(image: &Image, first: u64, transactions: u32, seed: u64) -> (Self, Record) {
        let recorder = Recorder::new(image.bytes());
        let mut volume = Volume::mount_writable(recorder, || NOON).unwrap();
        let size = volume.superblock.block_size.length();
        let mut workload = Self { first, size, states: std::vec![[0; BLOCKS]] };
        let mut numbers = Numbers(seed);
        for transaction in 1..=transactions {
            let mut state = *workload.states.last().unwrap();
            for _ in 0..=numbers.below(3) {
                let (fails, changes) = (numbers.below(8) == 0, numbers.below(5));
                let blocks: Vec<usize> = (0..=changes).map(|_| numbers.below(BLOCKS)).collect();
                let result = volume.atomically(|volume| {
                    for &block in &blocks {
                        let bytes = content(transaction, block as u64, size);
                        volume.block_mut(first + block as u64)?.copy_from_slice(&bytes);
                    }
                    volume.edit_superblock(|raw| put_le32(raw, COUNTER, transaction))?;
                    if fails { Err(crate::fs::Errno::ENOSPC.into()) } else { Ok(()) }
                });
                if result.is_ok() {
                    blocks.iter().for_each(|&block| state[block] = transaction);
                }
            }
            // A transaction in which everything failed changes nothing: neither does its number count.
            workload.states.push(state);
            volume.commit_transaction().unwrap();
            volume.region.mark(u64::from(transaction));
            if numbers.below(6) == 0 {
                volume.flush_volume().unwrap();
            }
        }
        (workload, volume.unmount().unwrap().record())
    }

    /// The last transaction that the superblock and the blocks in `bytes` show; `None` if they are no state between two.
    fn state(&self, bytes: &[u8]) -> Option<u32> {
        let counter = le32(&bytes[1024..], COUNTER);
        self.is_state(bytes, counter).then_some(counter)
    }

    /// Whether the blocks in `bytes` are as they were after transaction `transaction`.
    fn is_state(&self, bytes: &[u8], transaction: u32) -> bool {
        let Some(state) = self.states.get(transaction as usize) else { return false };
        state.iter().zip(0..).all(|(&transaction, block)| {
            let start = usize::try_from(self.first + block).unwrap() * self.size;
            bytes[start..start + self.size] == content(transaction, block, self.size)
        })
    }

    /// Whether the state that `recovered` shows is not older than that of transaction `least`.
    fn judge(&self, recovered: &[u8], least: u64) -> Result<u32, String> {
        let found = self.state(recovered).ok_or("a state between two transactions")?;
        // Transactions that changed nothing leave the counter as it was.
        let least = (0..=usize::try_from(least).unwrap())
            .rev()
            .find(|at| *at == 0 || self.states[*at] != self.states[at - 1]);
        if (found as usize) < least.unwrap() {
            return Err(std::format!("transaction {least:?} was lost: {found}"));
        }
        Ok(found)
    }
}

/// Recovers `bytes` here and gives back what is in place then.
fn recover(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let volume = Volume::mount_writable(bytes.to_vec(), || NOON).map_err(|error| std::format!("{error}"))?;
    volume.unmount().map_err(|error| std::format!("{error:?}"))
}

struct Judge<'a> {
    workload: &'a Workload,
    image: &'a Image,
    /// Every how many states `e2fsck` is asked too.
    every: usize,
    judged: usize,
    /// States in which the superblock was being changed.
    torn: usize,
}

impl Judge<'_> {
    /// Judges one state, in which transaction `least` must be.
    fn judge(&mut self, crash: &Crash, least: u64) -> Result<(), String> {
        let ours = recover(&crash.bytes)?;
        let found = self.workload.judge(&ours, least)?;
        self.judged += 1;
        // A superblock that was half changed is restored here, but `e2fsck -p` asks somebody to look.
        if matches!(Superblock::read(&crash.bytes), Err(MountError::Checksum { .. })) {
            self.torn += 1;
            std::fs::write(self.image.file(), &crash.bytes).unwrap();
            self.image.restore(self.workload.size);
            // The copy of the superblock that it restores has not counted.
            assert!(self.workload.is_state(&self.image.bytes(), found));
        } else if self.judged.is_multiple_of(self.every) {
            std::fs::write(self.image.file(), &crash.bytes).unwrap();
            self.image.repair().map_err(|report| std::format!("e2fsck -p: {report}"))?;
            let theirs = self.image.bytes();
            let agreed = self.workload.judge(&theirs, least)?;
            if agreed != found {
                return Err(std::format!("e2fsck recovers transaction {agreed}, Skerry {found}"));
            }
            self.image.check_file();
            std::fs::write(self.image.file(), &ours).unwrap();
            self.image.check_file();
        }
        Ok(())
    }
}

fn free_blocks(options: &[&str]) -> (Image, u64) {
    let image = Image::new("8M", options, |_| {});
    image.debugfs("set_super_value mkfs_time @0");
    let blocks: u64 = image.header("Block count").parse().unwrap();
    (image, blocks - BLOCKS as u64 - 1)
}

/// States with a half changed superblock: only those while the log starts or ends.
const TORN: usize = 12;

const SETS: [&[&str]; 4] = [
    &["-b", "1024", "-g", "4096"],
    &["-b", "4096", "-g", "1024"],
    &["-b", "1024", "-O", "^64bit,^metadata_csum"],
    &["-b", "2048", "-O", "^metadata_csum,uninit_bg"],
];

#[test]
fn death_at_any_moment_leaves_every_committed_transaction() {
    for (index, options) in SETS.iter().enumerate() {
        let (image, first) = free_blocks(options);
        let (workload, record) = Workload::run(&image, first, 120, 11 + index as u64);
        let mut judge = Judge { workload: &workload, image: &image, every: 25, judged: 0, torn: 0 };
        let mut numbers = Numbers(5);
        let step = record.len() / repeats(120, 500) + 1;
        for point in (0..record.len()).step_by(step) {
            let crash = record.kill(point, &mut numbers);
            let verdict = judge.judge(&crash, crash.marked.unwrap_or(0));
            assert_eq!(verdict, Ok(()), "{options:?}, event {point} of {}", record.len());
        }
        assert!(judge.torn <= TORN, "{options:?}: {}", judge.torn);
    }
}

#[test]
fn loss_of_power_at_any_moment_leaves_every_flushed_transaction() {
    for (index, options) in SETS.iter().enumerate() {
        let (image, first) = free_blocks(options);
        let (workload, record) = Workload::run(&image, first, 120, 17 + index as u64);
        let mut judge = Judge { workload: &workload, image: &image, every: 8, judged: 0, torn: 0 };
        let mut numbers = Numbers(6);
        for sample in 0..repeats(100, 400) {
            let point = numbers.below(record.len());
            let crash = record.power_loss(point, &mut numbers);
            let verdict = judge.judge(&crash, crash.flushed.unwrap_or(0));
            assert_eq!(verdict, Ok(()), "{options:?}, sample {sample}, event {point} of {}", record.len());
        }
        assert!(judge.torn <= TORN, "{options:?}: {}", judge.torn);
    }
}

/// How many of 200 states with every transaction judged wrong there are.
fn wrong(image: &Image, workload: &Workload, states: impl Iterator<Item = (Crash, u64)>) -> usize {
    let mut judge = Judge { workload, image, every: usize::MAX, judged: 0, torn: 0 };
    states.filter(|(crash, least)| judge.judge(crash, *least).is_err()).count()
}

#[test]
fn a_flush_that_does_nothing_and_a_commit_out_of_order_are_noticed() {
    let (image, first) = free_blocks(SETS[0]);
    let (workload, record) = Workload::run(&image, first, 60, 23);
    let flushes = record.events().iter().filter(|event| **event == Event::Flush).count();
    let mut numbers = Numbers(9);
    let caught = (4..flushes - 4).any(|index| {
        let falsified = record.without_flush(index);
        // The promise is that of the true record: what was flushed then.
        let points: Vec<usize> = (0..40).map(|_| numbers.below(falsified.len() - 1)).collect();
        let states = points.iter().map(|&point| {
            let least = record.power_loss(point + 1, &mut Numbers(1)).flushed.unwrap_or(0);
            (falsified.power_loss(point, &mut numbers), least)
        });
        wrong(&image, &workload, states.collect::<Vec<_>>().into_iter()) > 0
    });
    assert!(caught, "no missing flush of {flushes} was noticed");
    let unordered = record.with_publishes_unordered();
    let step = unordered.len() / 200 + 1;
    let states = (0..unordered.len()).step_by(step).map(|point| {
        let crash = unordered.kill(point, &mut numbers);
        let least = crash.marked.unwrap_or(0);
        (crash, least)
    });
    let found = wrong(&image, &workload, states.collect::<Vec<_>>().into_iter());
    assert!(found > 20, "of 200 states with commits out of order only {found} were noticed");
}
