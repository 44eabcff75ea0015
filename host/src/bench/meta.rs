// SPDX-License-Identifier: MIT OR Apache-2.0

//! `bench meta`: what people do to a tree of sources in a Linux client, for all [peers](super::peers) in one boot.
//!
//! The tree is that of Lua, some times over; the programs are Debian's. Nothing of the 9P peers and virtiofsd is kept by the client,
//! which has what it reads and writes of an ext4 on a disk in its memory.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::peers::{Machine, Peer, bars};
use super::program::compiled;
use super::report::{Table, draw, median_and_spread, times, write_json};
use super::statistics::Sample;
use crate::client_vm::LARGEST_MSIZE;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Rounds.
    pub rounds: usize,
    /// How many times the tree has the sources, of some 70 files.
    pub copies: usize,
}

impl Extent {
    /// Five rounds, each long enough for figures.
    pub const FULL: Self = Self { rounds: 5, copies: 8 };
    /// Enough to see that it works.
    pub const QUICK: Self = Self { rounds: 1, copies: 1 };
}

/// What `meta.sh` calls a task, and what a table calls it.
const TASKS: [(&str, &str); 4] =
    [("untar", "untar"), ("find", "find -size"), ("git-status", "git status"), ("rm", "rm -r")];

/// Runs it, and prints.
///
/// # Errors
/// If something is missing, or fails.
pub fn run(extent: Extent) -> Result<()> {
    let timed = compiled(include_str!("peers/timed.c"))?;
    let script = include_str!("peers/meta.sh");
    let mut machine = Machine::start(|_| Ok(()), &[("timed", &timed), ("meta.sh", script.as_bytes())])?;
    machine.mount(&Peer::ALL, Some(LARGEST_MSIZE))?;
    let files = machine.run(&format!(
        "cd /tmp; for copy in $(seq {}); do mkdir -p sources/$copy; tar -xzf /src/lua5.4.tar.gz -C sources/$copy; done; \
         tar -cf sources.tar -C sources .; find sources -type f | wc -l; rm -r sources",
        extent.copies
    ))?;
    let files: usize = files.trim().parse().context("how many files the tree has")?;
    ensure!(files >= 50 * extent.copies, "the tree has only {files} files");
    let mut results: Vec<[Sample; 6]> = Vec::new();
    results.resize_with(TASKS.len(), Default::default);
    let command = |peer: Peer| format!("sh /tmp/programs/meta.sh /mnt/{}", peer.directory());
    machine.in_turns(extent.rounds, TASKS.len(), command, |peer, task, line| {
        results[task][peer.index()].add(milliseconds(line, TASKS[task].0)?);
        Ok(())
    })?;
    machine.unmount(&Peer::ALL)?;
    machine.finish()?;
    report(files, &results)
}

/// The milliseconds of the line that is said of the task `name`.
fn milliseconds(line: &str, name: &str) -> Result<f64> {
    let (said, nanoseconds) = line.split_once(' ').unwrap_or((line, ""));
    ensure!(said == name, "the client says nothing of {name}: {line}");
    Ok(nanoseconds.parse::<f64>().with_context(|| line.to_owned())? / 1e6)
}

/// Prints, writes and draws what was measured.
fn report(files: usize, results: &[[Sample; 6]]) -> Result<()> {
    println!("Milliseconds, of a tree of {files} files; spread: between the fastest and the slowest round\n");
    let mut columns = vec!["task"];
    columns.extend(Peer::ALL.iter().map(|peer| peer.name()));
    columns.extend(["Skerry vm / VirtFS", "Skerry host / VirtFS"]);
    let mut table = Table::new(&columns);
    let mut figures = Vec::new();
    for ((name, title), of) in TASKS.iter().zip(results) {
        let mut row = vec![(*title).to_owned()];
        let mut peers = Map::new();
        for peer in Peer::ALL {
            let sample = &of[peer.index()];
            row.push(median_and_spread(sample));
            peers.insert(
                peer.name().to_owned(),
                json!({ "milliseconds": sample.median(), "spread": sample.spread(), "rounds": sample.rounds() }),
            );
        }
        for peer in [Peer::Vm, Peer::Host] {
            let median = |peer: Peer| of[peer.index()].median();
            row.push(times(median(peer).zip(median(Peer::VirtFs)).map(|(own, other)| own / other)));
        }
        table.row(row);
        figures.push(json!({ "task": name, "files": files, "peers": peers }));
    }
    print!("{}", table.render());
    let names = TASKS.iter().map(|(_, title)| (*title).to_owned());
    let title = format!("What takes how long with a tree of {files} files");
    let bars = bars(&title, "ms", &Peer::ALL, names.zip(results), Sample::median);
    println!();
    draw("meta", |file| bars.draw(file))?;
    println!("written: {}", write_json("meta", &Value::Array(figures))?.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_the_line_of_its_task_and_no_other() {
        assert_eq!(milliseconds("rm 2500000", "rm").unwrap(), 2.5);
        assert!(milliseconds("find 2500000", "rm").is_err());
        assert!(milliseconds("rm", "rm").is_err());
    }
}
