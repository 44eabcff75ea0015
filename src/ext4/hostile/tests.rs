// SPDX-License-Identifier: MIT OR Apache-2.0

//! Every lie told: each field of each structure of each sample, with the checksum made right and not.

use std::collections::BTreeSet;
use std::format;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::{String, ToString};
use std::vec::Vec;

use super::format::Field;
use super::judge::{Expectation, Verdict, judge};
use super::lies::lies;
use super::sample::{self, Sample, Structure};
use super::seal::Seal;
use crate::ext4::testing::is_long;

/// Of how many lies one is told in the short form.
const ONE_IN: usize = 17;

/// What came of lies.
#[derive(Debug, Default)]
struct Counts {
    told: usize,
    fields: BTreeSet<(&'static str, &'static str)>,
    structures: BTreeSet<&'static str>,
    refused: usize,
    errors: usize,
    harmless: usize,
}

/// A number of `width` bytes at `place`.
fn get(bytes: &[u8], place: usize, width: usize, big_endian: bool) -> u64 {
    let mut number = [0; 8];
    number[..width].copy_from_slice(&bytes[place..place + width]);
    if big_endian {
        number[..width].reverse();
    }
    u64::from_le_bytes(number)
}

fn put(bytes: &mut [u8], place: usize, width: usize, big_endian: bool, value: u64) {
    let mut number = value.to_le_bytes();
    if big_endian {
        number[..width].reverse();
    }
    bytes[place..place + width].copy_from_slice(&number[..width]);
}

/// Tells one lie; what came of it.
fn tell(
    sample: &Sample,
    structure: &Structure,
    field: &Field,
    lie: u64,
    sealed: bool,
) -> Result<Verdict, String> {
    let mut bytes = sample.bytes.clone();
    put(&mut bytes, structure.place + field.offset, field.width, structure.big_endian, lie);
    if sealed {
        sample.seals.apply(&structure.seal, &mut bytes, structure.place);
    }
    let expectation = Expectation { healthy: !structure.is_on_the_way, replayed: structure.big_endian };
    let judged = catch_unwind(AssertUnwindSafe(|| judge(&bytes, expectation)));
    match judged {
        Ok(judged) => judged.map(|(verdict, _)| verdict),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().cloned();
            let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(format!("panic: {}", message.unwrap_or_default()))
        }
    }
}

/// Tells the lies of `sample`, or one in a few of them; fails with all that went wrong.
fn tell_all(sample: &Sample) {
    let mut counts = Counts::default();
    let mut wrong = Vec::new();
    let mut turn = 0;
    for structure in &sample.structures {
        let targets = sample.targets(structure);
        counts.structures.insert(structure.name);
        let has_seal = !matches!(structure.seal, Seal::None);
        for field in structure.fields {
            counts.fields.insert((structure.name, field.name));
            let truth = get(&sample.bytes, structure.place + field.offset, field.width, structure.big_endian);
            for lie in lies(field.meaning, field.width, truth, &targets) {
                for sealed in [true, false] {
                    if sealed && !has_seal {
                        continue;
                    }
                    turn += 1;
                    if !is_long() && turn % ONE_IN != 0 {
                        continue;
                    }
                    counts.told += 1;
                    match tell(sample, structure, field, lie, sealed) {
                        Ok(Verdict::Refused) => counts.refused += 1,
                        Ok(Verdict::Errors) => counts.errors += 1,
                        Ok(Verdict::Harmless) => counts.harmless += 1,
                        Err(fault) => wrong.push(format!(
                            "{} of inode {}, {} is {truth:#x} and says {lie:#x}{}: {fault}",
                            structure.name,
                            structure.inode,
                            field.name,
                            if sealed { ", sealed" } else { "" }
                        )),
                    }
                }
            }
        }
    }
    let Counts { told, fields, structures, refused, errors, harmless } = counts;
    let _ = writeln!(
        std::io::stdout().lock(),
        "shown: hostile volumes: {}: {told} mutations ({} fields, {} structures), {refused} refused at mount, {errors} met \
         as errors, {harmless} harmless",
        sample.name,
        fields.len(),
        structures.len()
    );
    let shown: String = wrong.iter().take(60).map(|line| format!("{line}\n")).collect();
    assert!(wrong.is_empty(), "{} of {told}:\n{shown}", wrong.len());
}

#[test]
fn no_lie_of_a_volume_with_checksums_does_harm() {
    tell_all(&sample::with_checksums());
}

#[test]
fn no_lie_of_a_volume_without_checksums_does_harm() {
    tell_all(&sample::without_checksums());
}

#[test]
fn no_lie_of_a_volume_with_4_kib_blocks_does_harm() {
    tell_all(&sample::with_4_kib_blocks());
}

#[test]
fn no_lie_of_a_volume_with_meta_bg_does_harm() {
    tell_all(&sample::with_meta_bg());
}

#[test]
fn no_lie_of_a_journal_of_linux_does_harm() {
    tell_all(&sample::with_a_journal_of_linux());
}

#[test]
fn no_lie_of_a_journal_after_a_kill_does_harm() {
    tell_all(&sample::after_a_kill());
}

#[test]
fn samples_that_tell_the_truth_are_served_without_an_error() {
    for sample in [
        sample::with_checksums(),
        sample::with_4_kib_blocks(),
        sample::with_meta_bg(),
        sample::without_checksums(),
        sample::with_a_journal_of_linux(),
        sample::after_a_kill(),
    ] {
        let judged = judge(&sample.bytes, Expectation { healthy: true, replayed: false });
        let (verdict, _) = judged.unwrap_or_else(|fault| panic!("{}: {fault}", sample.name));
        assert_eq!(verdict, Verdict::Harmless, "{}", sample.name);
    }
}
