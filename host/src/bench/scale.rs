// SPDX-License-Identifier: MIT OR Apache-2.0

//! `bench scale`: how the cost of requests grows with the number of clients, and with the sizes of the volume, of a directory and of
//! a file's tree of extents.
//!
//! | module        | what grows, and how it is measured                                                             |
//! |---------------|------------------------------------------------------------------------------------------------|
//! | [`clients`]   | clients: a server in host mode in its process, and as many drivers of rings without Linux      |
//! | [`volumes`]   | the volume, sparse: mounted in host mode and by a service VM; requests to the core in this process |
//! | [`directory`] | files in a directory: requests to the core in this process                                     |
//! | [`extents`]   | extents of a file: requests to the core in this process                                        |
//!
//! The core in this process is driven as by `bench core`, one request at a time, in the time that its thread had of a processor.
//! The sizes take turns, so that what else the machine does counts for each.

pub mod clients;
pub mod directory;
pub mod extents;
pub mod volumes;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use skerry::wire::{Fid, Names, Twalk};

use super::chart::Lines;
use super::core::message::Message;
use super::core::peer::{Peer, ROOT, SLOTS, send};
use super::core::ring::Ring;
use super::core::{thread_time, tree};
use super::report::{Table, draw, number, percent, write_json};
use super::statistics::Sample;
use crate::serve::clock;
use crate::volume_image;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Rounds.
    pub rounds: usize,
    /// Clients at a time.
    pub clients: &'static [u64],
    /// GiB of volumes.
    pub volumes: &'static [u64],
    /// Files in a directory.
    pub files: &'static [u64],
    /// Extents of a file.
    pub extents: &'static [u64],
}

impl Extent {
    /// All sizes.
    pub const FULL: Self = Self {
        rounds: 9,
        clients: &[1, 2, 4, 8],
        volumes: &[1, 16, 64],
        files: &[10, 1000, 1_000_000],
        extents: &[1, 1000, 100_000],
    };
    /// Enough to see that it works.
    pub const QUICK: Self =
        Self { rounds: 2, clients: &[1, 2], volumes: &[1], files: &[10, 1000], extents: &[1, 1000] };
}

/// Runs it, and prints.
///
/// # Errors
/// If something cannot be made or served, or is answered wrong.
pub fn run(extent: Extent) -> Result<()> {
    let mut figures = Vec::new();
    for measure in [clients::measure, volumes::measure, directory::measure, extents::measure] {
        figures.push(measure(extent)?.report()?);
    }
    println!("written: {}", write_json("scale", &Value::Array(figures))?.display());
    Ok(())
}

/// Something that grows, and what was measured at each of its sizes.
#[derive(Debug)]
pub struct Dimension {
    /// The names of its files.
    name: &'static str,
    /// What the sizes are.
    what: &'static str,
    sizes: &'static [u64],
    rows: Vec<Row>,
}

/// What was measured of one operation, at each size.
#[derive(Debug)]
struct Row {
    operation: String,
    /// What the figures are.
    unit: &'static str,
    samples: Vec<Sample>,
}

/// The unit of most rows.
const MICROSECONDS: &str = "µs";

impl Dimension {
    fn new(name: &'static str, what: &'static str, sizes: &'static [u64]) -> Self {
        Self { name, what, sizes, rows: Vec::new() }
    }

    /// The row of `operation`, which is made if there is none, at the size with this place.
    fn sample(&mut self, operation: &str, unit: &'static str, size: usize) -> &mut Sample {
        let found = self.rows.iter().position(|row| row.operation == operation);
        let place = found.unwrap_or_else(|| {
            let samples = vec![Sample::default(); self.sizes.len()];
            self.rows.push(Row { operation: operation.to_owned(), unit, samples });
            self.rows.len() - 1
        });
        &mut self.rows[place].samples[size]
    }

    /// Prints and draws; returns the figures.
    fn report(&self) -> Result<Value> {
        let sizes: Vec<String> = self.sizes.iter().map(|size| whole(*size)).collect();
        let mut columns = vec![self.what, "unit"];
        columns.extend(sizes.iter().map(String::as_str));
        columns.push("spread");
        let mut table = Table::new(&columns);
        let mut rows = Vec::new();
        for row in &self.rows {
            let medians: Vec<Option<f64>> = row.samples.iter().map(Sample::median).collect();
            let least = medians.first().copied().flatten();
            let mut cells = vec![row.operation.clone(), row.unit.to_owned()];
            cells.extend(medians.iter().enumerate().map(|(size, median)| cell(*median, least, size == 0)));
            let spread = row.samples.iter().filter_map(Sample::spread).fold(0.0, f64::max);
            cells.push(percent(Some(spread)));
            table.row(cells);
            let spreads: Vec<Option<f64>> = row.samples.iter().map(Sample::spread).collect();
            rows.push(json!({ "operation": row.operation, "unit": row.unit, "medians": medians, "spreads": spreads }));
        }
        println!("{}", table.render());
        self.draw()?;
        Ok(json!({ "dimension": self.what, "sizes": self.sizes, "rows": rows }))
    }

    fn draw(&self) -> Result<()> {
        let drawn = self.rows.iter().filter(|row| row.unit == MICROSECONDS);
        let points = |row: &Row| {
            let medians = self.sizes.iter().zip(&row.samples);
            medians.filter_map(|(size, sample)| Some((*size as f64, sample.median()?))).collect()
        };
        let series: Vec<_> = drawn.map(|row| (row.operation.clone(), points(row))).collect();
        let title = format!("Microseconds, by {}", self.what);
        let lines = Lines { title: &title, across: self.what, series };
        draw(&format!("scale-{}", self.name), |file| lines.draw(file))?;
        println!();
        Ok(())
    }
}

/// A number of things, in groups of three digits.
fn whole(count: u64) -> String {
    if count < 100 { count.to_string() } else { number(count as f64) }
}

/// A figure, and how it stands to that of the smallest size.
fn cell(median: Option<f64>, least: Option<f64>, is_least: bool) -> String {
    match (median, least) {
        (Some(median), Some(least)) if !is_least => format!("{} ({:.2}×)", number(median), median / least),
        (Some(median), _) => number(median),
        (None, _) => super::report::NONE.to_owned(),
    }
}

/// A core in this process, with a volume of `size` bytes made with these options, with the empty `directories` and `files`; and fids
/// for these, in this order.
fn core_with(
    size: u64,
    options: &[&str],
    directories: &[String],
    files: &[String],
) -> Result<(Ring, Vec<Fid>)> {
    let directory = tree::directory()?;
    let tree = directory.path().join("tree");
    // Every session of the benchmarks begins with a look at these two.
    for name in ["files", "new"].into_iter().chain(directories.iter().map(String::as_str)) {
        fs::create_dir_all(tree.join(name))?;
    }
    for name in files {
        fs::write(tree.join(name), "")?;
    }
    let volume = directory.path().join("volume.ext4");
    format_with(&volume, size, options, &tree)?;
    let mut ring = Ring::new(&fs::File::open(&volume)?, clock::now)?;
    let mut fids = Vec::new();
    for (name, number) in directories.iter().chain(files).zip(FIRST_FID..) {
        let names = [name.as_bytes()];
        let wnames = Names::new(&names).context("one name")?;
        send(&mut ring, &[Message::new(0, Twalk { fid: ROOT, newfid: Fid(number), wnames }, 0)])?;
        fids.push(Fid(number));
    }
    Ok((ring, fids))
}

/// Where the fids of [`core_with`] begin.
const FIRST_FID: u32 = 10;

/// Makes a volume with what is in `tree`.
fn format_with(volume: &Path, size: u64, options: &[&str], tree: &Path) -> Result<()> {
    let tree = tree.to_str().context("a path that is not UTF-8")?;
    volume_image::format(volume, size, options.iter().copied().chain(["-d", tree]))
}

/// Sends these messages, each by itself. Returns the microseconds of the thread that one of them took.
fn timed(peer: &mut Ring, messages: Vec<Message>) -> Result<f64> {
    let count = messages.len();
    let steps: Vec<Vec<Message>> = messages.into_iter().map(|message| vec![message]).collect();
    peer.load(&steps)?;
    let start = thread_time();
    (0..count).try_for_each(|step| peer.exchange(step))?;
    Ok(thread_time().saturating_sub(start).as_secs_f64() * 1e6 / count as f64)
}

/// Sends `count` messages, as many at a time as a ring takes: `message` makes the one with this tag and this number.
fn send_all(core: &mut Ring, count: u64, message: impl Fn(u16, u64) -> Message) -> Result<()> {
    for first in (0..count).step_by(SLOTS) {
        let numbers = first..count.min(first + SLOTS as u64);
        core.load(&[(0..).zip(numbers).map(|(tag, number)| message(tag, number)).collect()])?;
        core.exchange(0)?;
    }
    Ok(())
}

/// `count` numbers below `limit`, without a pattern.
fn scattered(limit: u64, count: u64, seed: u64) -> impl Iterator<Item = u64> {
    // The golden ratio's fraction of 2^64: its multiples are spread evenly.
    (0..count).map(move |index| ((seed + index).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_tells_how_it_stands_to_the_smallest_size() {
        assert_eq!(cell(Some(2.0), Some(2.0), true), "2.00");
        assert_eq!(cell(Some(5.0), Some(2.0), false), "5.00 (2.50×)");
        assert_eq!(cell(None, Some(2.0), false), "—");
    }

    #[test]
    fn a_row_has_a_sample_for_each_size() {
        let mut dimension = Dimension::new("test", "sizes", &[1, 10]);
        dimension.sample("walk", MICROSECONDS, 1).add(3.0);
        dimension.sample("walk", MICROSECONDS, 0).add(2.0);
        assert_eq!(dimension.rows.len(), 1);
        let medians: Vec<_> = dimension.rows[0].samples.iter().map(Sample::median).collect();
        assert_eq!(medians, [Some(2.0), Some(3.0)]);
    }
}
