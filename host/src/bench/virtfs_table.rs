// SPDX-License-Identifier: MIT OR Apache-2.0

//! `bench virtfs-table`: the cells of a published table of VirtFS, measured with fio for all [peers](super::peers) in one boot of a client,
//! once with the largest msize and once with the kernel's own.
//!
//! One fio has the jobs of a round, one after the other: for each cell, each peer in turn. What a job opens and reads is not kept by the
//! client (`direct=1`, `cache=none`), and is in the page cache of the host. A first round, which touches everything, is not counted.

mod published;
mod report;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::peers::{DEFAULT_MSIZE, Machine, Peer, order};
use super::statistics::Sample;
use crate::client_vm::LARGEST_MSIZE;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Rounds that count.
    pub rounds: usize,
    /// Whether there is a round before that does not count.
    pub warm_up: bool,
    /// How long each cell of each peer is measured in each round.
    pub window: Duration,
    /// MiB of the file.
    pub size: usize,
}

impl Extent {
    /// Five rounds, each long enough for figures.
    pub const FULL: Self = Self { rounds: 5, warm_up: true, window: Duration::from_millis(500), size: 128 };
    /// Enough to see that it works.
    pub const QUICK: Self = Self { rounds: 1, warm_up: false, window: Duration::from_millis(60), size: 16 };
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// What the table calls the test.
    pub test: &'static str,
    /// fio's name for it.
    pub pattern: &'static str,
    /// KiB of each read or write.
    pub block: usize,
}

const fn cell(test: &'static str, pattern: &'static str, block: usize) -> Cell {
    Cell { test, pattern, block }
}

/// The rows of the table.
pub const CELLS: [Cell; 12] = [
    cell("sequential read", "read", 4),
    cell("sequential read", "read", 64),
    cell("sequential read", "read", 1024),
    cell("sequential write", "write", 4),
    cell("sequential write", "write", 64),
    cell("sequential write", "write", 1024),
    cell("random read", "randread", 4),
    cell("random read", "randread", 64),
    cell("random read", "randread", 1024),
    cell("random write", "randwrite", 4),
    cell("random write", "randwrite", 64),
    cell("random write", "randwrite", 1024),
];

/// What was measured with one msize.
#[derive(Debug)]
struct Pass {
    /// Bytes: what was agreed on.
    msize: u32,
    /// Who was measured.
    peers: &'static [Peer],
    /// KiB/s of each cell, by [`Peer::index`].
    cells: Vec<[Sample; 6]>,
}

/// Runs it, and prints.
///
/// # Errors
/// If something is missing, or fails.
pub fn run(extent: Extent) -> Result<()> {
    let mut machine = Machine::start(|tree| fill(tree, extent.size), &[])?;
    let mut passes = Vec::new();
    for (msize, peers) in [(Some(LARGEST_MSIZE), &Peer::ALL[..]), (None, &Peer::WITH_MSIZE[..])] {
        machine.mount(peers, msize)?;
        passes.push(measure(&mut machine, peers, msize, extent)?);
        machine.unmount(peers)?;
    }
    machine.finish()?;
    report::report(&passes)
}

/// Makes the file that is read and written: of bytes that are not zero, so that all of it is there.
pub(super) fn fill(tree: &Path, mebibytes: usize) -> Result<()> {
    let mut file = File::create(tree.join("data"))?;
    let some: Vec<u8> = (0..1_u32 << 20).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8 | 1).collect();
    (0..mebibytes).try_for_each(|_| file.write_all(&some)).context("cannot write the file for fio")
}

/// Measures all cells of `peers`, which are mounted with `msize`.
fn measure(
    machine: &mut Machine,
    peers: &'static [Peer],
    msize: Option<u32>,
    extent: Extent,
) -> Result<Pass> {
    let agreed = machine.msize(Peer::Vm)?;
    let expected = msize.unwrap_or(DEFAULT_MSIZE);
    anyhow::ensure!(agreed == expected, "an msize of {agreed} was agreed on, not {expected}");
    let mut cells: Vec<[Sample; 6]> = Vec::new();
    cells.resize_with(CELLS.len(), Default::default);
    let warm_up = usize::from(extent.warm_up);
    for round in 0..warm_up + extent.rounds {
        let order = order(peers, round);
        machine.write_file("jobs", &jobs(&order, extent))?;
        let said = machine.run("fio --eta=never --output-format=json /tmp/jobs")?;
        let figures = figures(&said).with_context(|| format!("fio said: {said}"))?;
        anyhow::ensure!(figures.len() == CELLS.len() * peers.len(), "fio ran {} jobs", figures.len());
        if round >= warm_up {
            let place = (0..CELLS.len()).flat_map(|cell| order.iter().map(move |peer| (cell, peer.index())));
            for ((cell, peer), figure) in place.zip(figures) {
                cells[cell][peer].add(figure);
            }
            eprintln!("skerry: msize {agreed}: round {} of {}", round + 1 - warm_up, extent.rounds);
        } else {
            eprintln!("skerry: msize {agreed}: everything was touched");
        }
    }
    Ok(Pass { msize: agreed, peers, cells })
}

/// The jobs of a round, for fio.
fn jobs(order: &[Peer], extent: Extent) -> String {
    let mut text = global(extent.size, extent.window);
    for (number, cell) in CELLS.iter().enumerate() {
        text.extend(order.iter().map(|&peer| job(&format!("{number}-{}", peer.directory()), peer, cell)));
    }
    text
}

/// What all jobs have in common, for fio.
pub(super) fn global(mebibytes: usize, window: Duration) -> String {
    format!(
        "[global]\nioengine=psync\ndirect=1\nsize={mebibytes}m\ntime_based\nruntime={}ms\nstonewall\nnorandommap\n\
         scramble_buffers=0\ngtod_reduce=1\n",
        window.as_millis()
    )
}

/// The job of a cell and a peer, for fio.
pub(super) fn job(name: &str, peer: Peer, cell: &Cell) -> String {
    let (directory, Cell { pattern, block, .. }) = (peer.directory(), cell);
    format!("[{name}]\nfilename=/mnt/{directory}/data\nrw={pattern}\nbs={block}k\n")
}

/// KiB/s of each job, in order, of what fio says.
pub(super) fn figures(said: &str) -> Result<Vec<f64>> {
    let begin = said.find('{').context("that is no JSON")?;
    let all: Value = serde_json::from_str(&said[begin..])?;
    let jobs = all["jobs"].as_array().context("it has no jobs")?;
    let figure = |job: &Value| {
        let rate = |direction: &str| job[direction]["bw_bytes"].as_f64().unwrap_or_default();
        let bytes = rate("read") + rate("write");
        anyhow::ensure!(job["error"] == 0 && bytes > 0.0, "the job {} failed", job["jobname"]);
        Ok(bytes / 1024.0)
    };
    jobs.iter().map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_has_each_cell_of_each_peer_once_and_begins_with_another() {
        let text = |round| jobs(&order(&Peer::ALL, round), Extent::QUICK);
        for round in 0..6 {
            assert_eq!(text(round).matches("filename=").count(), 72);
        }
        let first = |round| text(round).split("[0-").nth(1).unwrap().split(']').next().unwrap().to_owned();
        assert_eq!((first(0), first(1), first(6)), ("vm".to_owned(), "host".to_owned(), "vm".to_owned()));
    }

    #[test]
    fn the_rates_are_taken_out_of_what_fio_says() {
        let said = r#"note
            {"jobs": [{"jobname": "a", "error": 0, "read": {"bw_bytes": 2048}, "write": {"bw_bytes": 0}}]}"#;
        assert_eq!(figures(said).unwrap(), [2.0]);
        assert!(figures(&said.replace("2048", "0")).is_err());
        assert!(figures("fio: failed").is_err());
    }
}
