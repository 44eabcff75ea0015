// SPDX-License-Identifier: MIT OR Apache-2.0

//! Random sequences of requests, of several sessions, against the real server on a real volume and against a plain model in
//! memory, which are compared after every request. The volumes are tiny, so that space ends often; now and then the server is
//! killed, and `e2fsck` looks. A sequence that fails is made as short as it can be, and printed.
//!
//! With `SKERRY_LONG=1` in the environment there are ten times as many sequences.

#[path = "support/kept.rs"]
mod kept;
#[path = "support/length.rs"]
mod length;
#[path = "model/mod.rs"]
mod model;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock};

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use model::comparison::{Counts, Pair};
use model::operation::sequences;
use model::server::Flavour;

/// Most operations of a sequence.
const LONGEST: usize = 100;
/// Volumes of each flavour that are left to the judges of `tests/kernel.rs`: those of the last sequences, every second one killed.
const LEFT: usize = 8;

fn cases(default: u32) -> u32 {
    if length::is_long() { default * 10 } else { default }
}

/// Runs sequences on volumes of a flavour.
fn try_sequences(flavour: &Flavour, number: u32) {
    let counts = Mutex::new(Counts::default());
    let left = Mutex::new(VecDeque::new());
    let seed = std::env::var("SKERRY_SEED").ok().map(|seed| seed.parse().expect("SKERRY_SEED is a number"));
    let seed: u64 = seed.unwrap_or(0x5ee_d0f5_ea5e);
    let config = Config {
        cases: number,
        failure_persistence: None,
        max_shrink_time: 40_000,
        max_shrink_iters: 4000,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&sequences(LONGEST), |sequence| {
        let mut pair = None;
        let killed = counts.lock().unwrap().sequences % 2 == 1;
        let run = catch_unwind(AssertUnwindSafe(|| pair.insert(Pair::new(flavour)?).run(&sequence, killed)));
        let error = match run {
            Ok(Ok(volume)) => {
                let mut left = left.lock().unwrap();
                left.push_back(volume);
                if left.len() > LEFT {
                    left.pop_front();
                }
                None
            }
            Ok(Err(error)) => Some(error),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                Some(format!("a panic: {text:?}"))
            }
        };
        let log = pair.map_or_else(String::new, |pair| {
            counts.lock().unwrap().add(&pair.counts);
            pair.log
        });
        match error {
            None => Ok(()),
            Some(error) => Err(TestCaseError::fail(format!("{log}=> {error}"))),
        }
    });
    println!("shown: model: {}: {}", flavour.name, counts.lock().unwrap());
    match outcome {
        Ok(()) => {
            let name = flavour.name.replace([' ', ','], "-");
            for (number, volume) in left.into_inner().unwrap().iter().enumerate() {
                kept::keep_bytes("model", &format!("{name}-{number}"), volume);
            }
        }
        Err(TestError::Fail(reason, sequence)) => {
            panic!(
                "{}, seed {seed}: the shortest sequence that fails:\n{reason}\nfrom {sequence:#?}",
                flavour.name
            )
        }
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

static SMALL_BLOCKS: Flavour = Flavour {
    name: "1 KiB blocks",
    size: "2600K",
    bad_blocks: 0..0,
    options: &["-b", "1024", "-I", "256", "-N", "64", "-J", "size=1"],
    block_size: 1024,
    large_inodes: true,
    image: OnceLock::new(),
};

static PLAIN: Flavour = Flavour {
    name: "1 KiB blocks, small inodes, without checksums",
    size: "2600K",
    bad_blocks: 0..0,
    options: &[
        "-b",
        "1024",
        "-I",
        "128",
        "-N",
        "64",
        "-J",
        "size=1",
        "-O",
        "^metadata_csum,^64bit,^flex_bg,uninit_bg",
    ],
    block_size: 1024,
    large_inodes: false,
    image: OnceLock::new(),
};

static LARGE_BLOCKS: Flavour = Flavour {
    name: "4 KiB blocks",
    // `mkfs.ext4` makes no journal on fewer blocks.
    size: "9M",
    bad_blocks: 1400..2200,
    options: &["-b", "4096", "-I", "256", "-N", "64", "-J", "size=4"],
    block_size: 4096,
    large_inodes: true,
    image: OnceLock::new(),
};

#[test]
fn the_server_and_the_model_agree_with_blocks_of_1_kib() {
    try_sequences(&SMALL_BLOCKS, cases(200));
}

#[test]
fn the_server_and_the_model_agree_with_small_inodes_and_no_checksums() {
    try_sequences(&PLAIN, cases(100));
}

#[test]
fn the_server_and_the_model_agree_with_blocks_of_4_kib() {
    try_sequences(&LARGE_BLOCKS, cases(200));
}
