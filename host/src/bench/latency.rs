// SPDX-License-Identifier: MIT OR Apache-2.0

//! `bench latency`: how long single system calls take in a Linux client, for all [peers](super::peers) in one boot.
//!
//! A program times each call in the client (`peers/latency.c`). The percentiles are those of the calls of all rounds together. The 9P
//! peers and virtiofsd are asked for everything, since the client keeps nothing of them; an ext4 on a disk answers for names and
//! attributes from what the client has in memory.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::peers::{Machine, Peer, bars};
use super::program::compiled;
use super::report::{NONE, Table, draw, number, times, write_json};
use super::statistics::{Sample, percentile};
use crate::client_vm::LARGEST_MSIZE;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Rounds.
    pub rounds: usize,
    /// How often each call is made in each round, for each peer.
    pub calls: usize,
    /// Milliseconds after which it is not made again.
    pub limit: usize,
}

impl Extent {
    /// Five rounds, with enough calls for one in a thousand.
    pub const FULL: Self = Self { rounds: 5, calls: 2000, limit: 1000 };
    /// Enough to see that it works.
    pub const QUICK: Self = Self { rounds: 1, calls: 50, limit: 40 };
}

/// What `latency.c` calls an operation, and what a table calls it.
const OPERATIONS: [(&str, &str); 9] = [
    ("getattr", "getattr"),
    ("walk", "walk"),
    ("open", "open"),
    ("read", "read, 4 KiB"),
    ("write", "write, 4 KiB"),
    ("create", "create"),
    ("unlink", "unlink"),
    ("readdir", "readdir, 1000 entries"),
    ("fsync", "fsync after 4 KiB"),
];

/// The percentiles: parts of 1, and what a table calls them.
const PERCENTILES: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];

/// Entries of the directory that is listed.
const ENTRIES: usize = 1000;

/// What was measured of one operation with one peer.
#[derive(Debug, Clone, Default)]
struct Measured {
    /// Microseconds of each call of all rounds, in ascending order when all is done.
    calls: Vec<f64>,
    /// The median of each round.
    medians: Sample,
}

/// Runs it, and prints.
///
/// # Errors
/// If something is missing, or fails.
pub fn run(extent: Extent) -> Result<()> {
    let program = compiled(include_str!("peers/latency.c"))?;
    let mut machine = Machine::start(fill, &[("latency", &program)])?;
    machine.mount(&Peer::ALL, Some(LARGEST_MSIZE))?;
    let mut results: Vec<[Measured; 6]> = vec![Default::default(); OPERATIONS.len()];
    let command = |peer: Peer| {
        format!("/tmp/programs/latency /mnt/{} {} {}", peer.directory(), extent.calls, extent.limit)
    };
    machine.in_turns(extent.rounds, OPERATIONS.len(), command, |peer, operation, line| {
        let calls = microseconds(line, OPERATIONS[operation].0)?;
        let measured = &mut results[operation][peer.index()];
        measured.medians.add(percentile(&calls, 0.5).context("no calls were made")?);
        measured.calls.extend(calls);
        Ok(())
    })?;
    machine.unmount(&Peer::ALL)?;
    machine.finish()?;
    for measured in results.iter_mut().flatten() {
        measured.calls.sort_by(f64::total_cmp);
    }
    report(&results)
}

/// Makes what `latency.c` wants to find.
fn fill(tree: &Path) -> Result<()> {
    fs::write(tree.join("data"), vec![1; 4 << 20])?;
    fs::write(tree.join("small"), "some")?;
    let many = tree.join("many");
    fs::create_dir(&many)?;
    for number in 0..ENTRIES {
        File::create(many.join(format!("entry-{number:04}")))?;
    }
    Ok(())
}

/// The microseconds of a line that the program says of the operation `name`, in ascending order.
fn microseconds(line: &str, name: &str) -> Result<Vec<f64>> {
    let mut words = line.split(' ');
    ensure!(words.next() == Some(name), "the client says nothing of {name}: {line:.60}");
    let times = words.map(|word| Ok(word.parse::<f64>()? / 1000.0));
    let mut times = times.collect::<Result<Vec<_>>>().with_context(|| format!("{line:.60}"))?;
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Prints, writes and draws what was measured.
fn report(results: &[[Measured; 6]]) -> Result<()> {
    let shown = |value: Option<f64>| value.map_or(NONE.to_owned(), number);
    println!("Microseconds of a call; spread: of the p50 of each round\n");
    let mut table =
        Table::new(&["call", "peer", "p50", "p90", "p99", "p99.9", "calls", "spread", "p50 / VirtFS"]);
    let mut figures = Vec::new();
    for ((name, title), of) in OPERATIONS.iter().zip(results) {
        let virtfs = percentile(&of[Peer::VirtFs.index()].calls, 0.5);
        for peer in Peer::ALL {
            let Measured { calls, medians } = &of[peer.index()];
            let mut row = vec![(*title).to_owned(), peer.name().to_owned()];
            row.extend(PERCENTILES.iter().map(|(part, _)| shown(percentile(calls, *part))));
            let spread = medians.spread().unwrap_or_default();
            let ratio = percentile(calls, 0.5).zip(virtfs).map(|(own, virtfs)| own / virtfs);
            row.extend([calls.len().to_string(), format!("{:.0} %", 100.0 * spread)]);
            row.push(times(ratio));
            table.row(row);
            let mut figure = json!({
                "call": name, "peer": peer.name(), "calls": calls.len(), "spread_of_p50": spread,
            });
            for (part, percentile_name) in PERCENTILES {
                figure[format!("{percentile_name}_microseconds")] = json!(percentile(calls, part));
            }
            figures.push(figure);
        }
    }
    print!("{}", table.render());
    println!();
    for (part, name) in [PERCENTILES[0], PERCENTILES[2]] {
        let names = OPERATIONS.iter().map(|(_, title)| (*title).to_owned());
        let title = format!("Latency of a call, {name}");
        let value = |measured: &Measured| percentile(&measured.calls, part);
        let bars = bars(&title, "µs", &Peer::ALL, names.zip(results), value);
        // Too few calls for this percentile leave nothing to draw.
        if bars.groups.iter().any(|(_, values)| values.iter().any(Option::is_some)) {
            draw(&format!("latency-{name}"), |file| bars.draw(file))?;
        }
    }
    println!("written: {}", write_json("latency", &Value::Array(figures))?.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_an_operation_are_read_in_its_line_and_no_other() {
        assert_eq!(microseconds("walk 2500 1000", "walk").unwrap(), [1.0, 2.5]);
        assert!(microseconds("open 2500", "walk").is_err());
        assert!(microseconds("walk x", "walk").is_err());
    }

    #[test]
    fn the_program_measures_each_operation_of_a_directory_of_this_machine() {
        let directory = tempfile::tempdir_in(crate::workspace::target()).unwrap();
        fill(directory.path()).unwrap();
        let program = directory.path().join("program");
        fs::write(&program, compiled(include_str!("peers/latency.c")).unwrap()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, mode).unwrap();
        let mut command = std::process::Command::new(&program);
        let output = command.arg(directory.path()).args(["12", "1000"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        for (line, (name, _)) in said.lines().zip(OPERATIONS) {
            let calls = microseconds(line, name).unwrap().len();
            assert!((10..=12).contains(&calls), "{line}");
        }
        assert_eq!(said.lines().count(), OPERATIONS.len());
    }
}
