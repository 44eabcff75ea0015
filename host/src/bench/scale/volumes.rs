// SPDX-License-Identifier: MIT OR Apache-2.0

//! The size of the volume: what it costs to mount it, in this process as host mode does, and in a service VM; and what requests cost.
//! The volumes are sparse, with the same few files, made by `mkfs.ext4` with what it does for a volume of that size.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use skerry::ext4::Volume;
use tempfile::TempDir;

use super::{Dimension, Extent, MICROSECONDS, format_with};
use crate::bench::boot;
use crate::bench::core::ring::Ring;
use crate::bench::core::workload::Workload;
use crate::bench::core::{Measured, measure as measure_core, tree};
use crate::serve::{clock, volume_region};
use crate::service_vm::Options;
use crate::{volume, workspace};

/// What is asked for.
const OPERATIONS: [&str; 3] = ["Twalk(1) + Tgetattr + Tclunk", "Tread 4 KiB", "Tlcreate, Tunlinkat"];

/// How long each is asked for in each round.
const WINDOW: Duration = Duration::from_millis(20);

/// What is written before anything is measured, and how long: the journal once around, which is the longer the larger a volume is, so
/// that its memory is there.
const FIRST: &str = "Twrite 4 KiB";
const FIRST_WINDOW: Duration = Duration::from_millis(1000);

/// Measures all sizes.
///
/// # Errors
/// If a volume cannot be made or served.
pub fn measure(extent: Extent) -> Result<Dimension> {
    let sizes = extent.volumes;
    let directory = TempDir::with_prefix_in("bench-", workspace::target())?;
    let tree = directory.path().join("tree");
    fs::create_dir(&tree)?;
    tree::fill(&tree)?;
    let mut volumes: Vec<(PathBuf, Ring)> = Vec::new();
    for gigabytes in sizes {
        let path = directory.path().join(format!("volume-{gigabytes}.ext4"));
        format_with(&path, gigabytes << 30, &[], &tree)?;
        let mut core = Ring::new(&fs::File::open(&path)?, clock::now)?;
        microseconds(&mut core, FIRST, FIRST_WINDOW)?;
        volumes.push((path, core));
        eprintln!("skerry: scale: a volume of {gigabytes} GiB");
    }
    let mut dimension = Dimension::new("volume", "GiB of the volume", sizes);
    for round in 0..extent.rounds {
        for (place, (path, core)) in volumes.iter_mut().enumerate() {
            dimension.sample("mounted in host mode", MICROSECONDS, place).add(1e6 * mount(path)?);
            let ready = boot::entry_to_ready(&Options::new(&*path)?)?;
            dimension.sample("mounted by a service VM: entry to ready", MICROSECONDS, place).add(1e6 * ready);
            for operation in OPERATIONS {
                let time = microseconds(core, operation, WINDOW)?;
                dimension.sample(operation, MICROSECONDS, place).add(time);
            }
        }
        eprintln!("skerry: scale: volumes, round {} of {}", round + 1, extent.rounds);
    }
    Ok(dimension)
}

/// What an operation takes, measured for `window`.
fn microseconds(core: &mut Ring, operation: &str, window: Duration) -> Result<f64> {
    let of = Workload::named(operation)?;
    let mut measured = Measured::default();
    measure_core(core, of, &(of.script)(of, 1), window, &mut measured)?;
    Ok(1e6 / measured.rate.median().with_context(|| format!("{operation}: no rate"))?)
}

/// Mounts it as host mode does, brings it to rest; how many seconds the first took.
fn mount(path: &Path) -> Result<f64> {
    let file = volume::Volume::open(path, false)?;
    let begin = Instant::now();
    let mut volume = Volume::mount_writable(volume_region::map(file)?, clock::now)?;
    let elapsed = begin.elapsed();
    volume.rest().map_err(|errno| anyhow!("the volume cannot be brought to rest: {errno:?}"))?;
    Ok(elapsed.as_secs_f64())
}
