// SPDX-License-Identifier: MIT OR Apache-2.0

//! Instructions of the service VM for a request: the image in QEMU, driven over the preallocated ring, counted by a plugin of
//! QEMU's translator (`counter.c`).
//!
//! Counted is what callgrind counts of the core in this process, `Connection::drain` with one request in the ring: take, answer,
//! commit, publish; and in the image also the doorbell. The passes that find an empty ring, the waiting and the interrupts are not
//! in it, and there is no kernel. Each pass is a count of its own; of those of a request the lower quartile is taken: now and then one of
//! them reads the real-time clock, and of changes the first after each tick of the time notes it, which on a busy machine may be half of them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Count, OPERATIONS, ROWS, WARM_UP, workload};
use crate::bench::core::peer::{Peer, send};
use crate::bench::core::requests::OverRing;
use crate::bench::core::ring::Counted;
use crate::bench::program::compile;
use crate::bench::statistics::percentile;
use crate::image_file::ImageFile;
use crate::qemu::Accelerator;
use crate::service_vm::{Connections, Options, ServiceVm, default_image};

/// The plugin.
const SOURCE: &str = include_str!("counter.c");

/// Bytes of its file of counts: `struct counts`.
const LENGTH: u64 = 8 + 8 * (1 << 22);

/// The function whose instructions are counted, as it is mangled.
const FUNCTION: &str = "7service10Connection5drain";

/// What is counted apart: the image's memory routines.
const APART: [&str; 9] = [
    "memcpy",
    "memmove",
    "memset",
    "memcmp",
    "bcmp",
    "12skerry_image4copy12copy_forward",
    "12skerry_image4copy3sse",
    "12skerry_image4copy3avx",
    "12skerry_image4copy6string",
];

/// Counts all rows, of the volume in the file `image`.
///
/// # Errors
/// If there is no compiler, no image or no QEMU with this interface for plugins; if an answer is wrong.
pub(super) fn count(directory: &Path, image: &Path) -> Result<Vec<Count>> {
    let plugin = directory.join("counter.so");
    compile(SOURCE, &["-O2", "-shared", "-fPIC"], &plugin)?;
    let counts = directory.join("counts");
    File::create(&counts)?.set_len(LENGTH)?;
    let arguments = ["-plugin".to_owned(), plugin_option(&plugin, &counts)?];
    let options = Options {
        accelerator: Some(Accelerator::Tcg),
        arguments: arguments.into(),
        log_level: "warn".to_owned(),
        ..Options::new(image)?
    };
    let (vm, Connections { requests, .. }) = ServiceVm::start(&options)?;
    let counts = Counts { file: File::open(&counts)? };
    let mut peer = OverRing::new("the service VM", requests)?;
    let mut all = Vec::new();
    for (name, _, counted) in ROWS {
        all.push(row(&mut peer, &counts, name, counted).with_context(|| name.to_owned())?);
        eprintln!("skerry: counted in the service VM: {name}");
    }
    drop(vm);
    Ok(all)
}

/// QEMU's option for the plugin: what it counts of the image, and where to.
fn plugin_option(plugin: &Path, counts: &Path) -> Result<String> {
    let image = ImageFile::read(&default_image()?)?;
    let function = image.symbol(|name| name.contains(FUNCTION)).context(FUNCTION)?;
    let (plugin, counts) = (plugin.display(), counts.display());
    let mut option = format!("{plugin},out={counts},entry={:#x},end={:#x}", function.start, function.end);
    for name in APART {
        let is_it = |symbol: &str| symbol == name || name.starts_with('1') && symbol.contains(name);
        let range = image.symbol(is_it).with_context(|| name.to_owned())?;
        option.push_str(&format!(",apart={:#x}-{:#x}", range.start, range.end));
    }
    Ok(option)
}

/// Counts one row.
fn row(peer: &mut OverRing, counts: &Counts, name: &str, counted: Counted) -> Result<Count> {
    let of = workload(name)?;
    let script = (of.script)(of, 1);
    send(peer, &script.setup)?;
    peer.load(&script.steps)?;
    let cycles = |least: u64| least.div_ceil(script.operations);
    let steps = script.steps.len();
    let run = |peer: &mut OverRing, least: u64| -> Result<()> {
        (0..cycles(least)).try_for_each(|_| (0..steps).try_for_each(|step| peer.exchange(step)))
    };
    run(peer, WARM_UP)?;
    let before = counts.settled()?;
    run(peer, OPERATIONS)?;
    let expected = cycles(OPERATIONS) * steps as u64;
    let passes = counts.wait_for(before, expected)?;
    // One pass for each request, in their order.
    let step_counts = |step: usize| passes.iter().skip(step).step_by(steps);
    let wanted = (0..steps).filter(|step| match counted {
        Counted::Nothing => false,
        Counted::Step(of) => of == *step,
        Counted::Everything => true,
    });
    let mut sum = Count { core: 0.0, memory_routines: 0.0 };
    for step in wanted {
        let quartile = |value: fn(&Pass) -> u32| {
            let mut sorted: Vec<f64> = step_counts(step).map(|pass| value(pass).into()).collect();
            sorted.sort_by(f64::total_cmp);
            percentile(&sorted, 0.25).context("too little was counted")
        };
        sum.core += quartile(|pass| pass.counted)?;
        sum.memory_routines += quartile(|pass| pass.apart)?;
    }
    // A script whose steps are each an operation of its own.
    if counted == Counted::Everything {
        sum.core /= script.operations as f64;
        sum.memory_routines /= script.operations as f64;
    }
    send(peer, &script.teardown)?;
    Ok(sum)
}

/// What one pass took.
#[derive(Debug, Clone, Copy)]
struct Pass {
    counted: u32,
    apart: u32,
}

/// The plugin's file.
struct Counts {
    file: File,
}

impl Counts {
    /// How many passes were counted.
    fn passes(&self) -> Result<u64> {
        let mut passes = [0; 8];
        self.file.read_exact_at(&mut passes, 0)?;
        Ok(u64::from_le_bytes(passes))
    }

    /// The same, when nothing is in flight.
    fn settled(&self) -> Result<u64> {
        let mut passes = self.passes()?;
        loop {
            std::thread::sleep(Duration::from_millis(20));
            match self.passes()? {
                now if now == passes => return Ok(now),
                now => passes = now,
            }
        }
    }

    /// The `expected` passes that found a request, behind the first `before` of all.
    fn wait_for(&self, before: u64, expected: u64) -> Result<Vec<Pass>> {
        let all = self.settled()?;
        ensure!(8 + 8 * all < LENGTH, "the file of counts is full");
        let mut bytes = vec![0; usize::try_from(8 * (all - before))?];
        self.file.read_exact_at(&mut bytes, 8 + 8 * before)?;
        let (words, _) = bytes.as_chunks::<4>();
        let passes = words.chunks_exact(2).map(|pair| {
            let [counted, apart] = [pair[0], pair[1]].map(u32::from_le_bytes);
            Pass { counted, apart }
        });
        with_request(&passes.collect::<Vec<_>>(), usize::try_from(expected)?)
    }
}

/// Of all passes the `expected` ones that found a request, in their order: they take more than those that find an empty ring, which
/// look at it, or look and take back what arming has written.
///
/// # Errors
/// If there are not so many, or no such gap.
fn with_request(passes: &[Pass], expected: usize) -> Result<Vec<Pass>> {
    let mut lengths: Vec<u32> = passes.iter().map(|pass| pass.counted).collect();
    lengths.sort_unstable_by_key(|length| std::cmp::Reverse(*length));
    let least = expected.checked_sub(1).and_then(|last| lengths.get(last)).copied();
    let least = least.with_context(|| format!("{} passes for {expected} requests", lengths.len()))?;
    let idle = lengths.get(expected).copied().unwrap_or(0);
    ensure!(
        least / 2 > idle,
        "{expected} requests take {least} instructions or more, and other passes up to {idle}"
    );
    Ok(passes.iter().filter(|pass| pass.counted >= least).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_that_found_nothing_are_left_out_and_one_too_many_is_an_error() {
        let passes = [53, 2000, 53, 53, 228, 2100, 228, 53, 2050]
            .map(|counted| Pass { counted, apart: counted / 100 });
        let found = |expected| {
            with_request(&passes, expected)
                .map(|found| found.iter().map(|pass| pass.counted).collect::<Vec<_>>())
        };
        assert_eq!(found(3).unwrap(), vec![2000, 2100, 2050]);
        assert!(found(2).is_err() && found(4).is_err() && found(10).is_err());
    }

    #[test]
    fn the_file_of_counts_is_as_long_as_the_plugin_has_it() {
        assert!(SOURCE.contains("PASSES = 1 << 22"));
    }
}
