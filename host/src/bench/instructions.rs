// SPDX-License-Identifier: MIT OR Apache-2.0

//! `bench instructions`: how many instructions the core takes for a request, counted by callgrind.
//!
//! Counted is one pass over a ring with one request: take the chain, answer, commit, publish. The memory routines of the C
//! library (`memcpy` and its like) are counted apart: they differ between processors, and in the image they are others.
//! What is left repeats to the instruction, so that it is judged against a table that is kept with the source.
//!
//! [`service_vm`] counts the same of the image in QEMU.

pub mod service_vm;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use skerry::fs::Timestamp;

use super::chart::Bars;
use super::core::peer::{Peer, send};
use super::core::ring::{COUNTED, Counted, Ring};
use super::core::tree;
use super::core::workload::Workload;
use super::report::{Table, draw, number, reached, write_json};
use crate::qemu::source_root;

/// A row of the table: the name, the workload, and which of its steps.
type Row = (&'static str, &'static str, Counted);

const ROWS: [Row; 23] = [
    ("Tread 1 byte", "Tread 1 byte", Counted::Everything),
    ("Tread 4 KiB", "Tread 4 KiB", Counted::Everything),
    ("Tread 64 KiB", "Tread 64 KiB", Counted::Everything),
    ("Twrite 4 KiB", "Twrite 4 KiB", Counted::Everything),
    ("Twrite 64 KiB", "Twrite 64 KiB", Counted::Everything),
    ("Tfsync", "Tfsync", Counted::Everything),
    ("Tgetattr", "Tgetattr", Counted::Everything),
    ("Tsetattr (mode)", "Tsetattr (mode)", Counted::Everything),
    ("Tstatfs", "Tstatfs", Counted::Everything),
    ("Treadlink", "Treadlink", Counted::Everything),
    ("Treaddir, 1000 entries", "Treaddir, 1000 entries", Counted::Everything),
    ("Tlock", "Tlock + unlock", Counted::Step(0)),
    ("Twalk(0)", "Twalk(0) + Tclunk", Counted::Step(0)),
    ("Twalk(1)", "Twalk(1) + Tclunk", Counted::Step(0)),
    ("Tclunk", "Twalk(1) + Tclunk", Counted::Step(1)),
    ("Tlopen", "Twalk(1) + Tlopen + Tclunk", Counted::Step(1)),
    (LOOKUP, LOOKUP, Counted::Everything),
    ("Tlcreate", "Tlcreate, Tunlinkat", Counted::Step(1)),
    ("Tunlinkat", "Tlcreate, Tunlinkat", Counted::Step(3)),
    ("Tmkdir", "Tmkdir, Tunlinkat", Counted::Step(0)),
    ("Tunlinkat (directory)", "Tmkdir, Tunlinkat", Counted::Step(1)),
    ("Tlink", "Tlink, Tunlinkat", Counted::Step(0)),
    ("Trenameat", "Trenameat", Counted::Everything),
];

const LOOKUP: &str = "Twalk(1) + Tgetattr + Tclunk";

/// What is to be reached, without the memory routines.
const TARGETS: [(&str, f64); 2] = [("Tread 4 KiB", 1000.0), (LOOKUP, 3000.0)];

/// How much more than the table says is too much.
const SLACK: f64 = 0.10;

/// Operations that come before those that are counted, and those that are, at least.
const WARM_UP: u64 = 50;
const OPERATIONS: u64 = 200;

/// Where the counts are kept.
fn kept() -> PathBuf {
    source_root().join("host/instructions.json")
}

/// Where the core runs whose instructions are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a process of the host, under callgrind.
    Process,
    /// In a service VM, under QEMU.
    ServiceVm,
}

impl Place {
    /// What stands before the names of the service VM's rows, where counts are kept.
    const PREFIX: &str = "service VM: ";

    /// The name under which the count of the row `name` is kept.
    fn kept_name(self, name: &str) -> String {
        match self {
            Self::Process => name.to_owned(),
            Self::ServiceVm => format!("{}{name}", Self::PREFIX),
        }
    }

    /// The row whose count is kept as `kept`, if it is this place's.
    fn row_of(self, kept: &str) -> Option<&str> {
        match (self, kept.strip_prefix(Self::PREFIX)) {
            (Self::Process, None) => Some(kept),
            (Self::Process, Some(_)) => None,
            (Self::ServiceVm, row) => row,
        }
    }

    /// The name of the files.
    fn file_name(self) -> &'static str {
        match self {
            Self::Process => "instructions",
            Self::ServiceVm => "instructions-service-vm",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Process => "Instructions of the core for a request",
            Self::ServiceVm => "Instructions of the service VM for a request",
        }
    }
}

/// What was counted for one operation.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Count {
    /// The core's.
    core: f64,
    /// The C library's.
    memory_routines: f64,
}

/// Counts, and prints. With `check` it compares the counts with those that are kept, with `write` it keeps them.
///
/// # Errors
/// If valgrind is missing; with `check`, for a count that is more than a tenth above what is kept.
pub fn run(place: Place, check: bool, write: bool) -> Result<()> {
    ensure!(
        !cfg!(debug_assertions),
        "instructions are counted of a release build: cargo build --release -p skerry-host"
    );
    let (directory, image) = (tree::directory()?, tree::image()?);
    let counts = match place {
        Place::Process => {
            let row = |(index, (name, ..)): (usize, &Row)| {
                count(directory.path(), image.path(), index).with_context(|| (*name).to_owned())
            };
            ROWS.iter().enumerate().map(row).collect::<Result<Vec<_>>>()?
        }
        Place::ServiceVm => service_vm::count(directory.path(), image.path())?,
    };
    let mut kept_counts = if write && !kept().exists() { BTreeMap::new() } else { read_kept()? };
    let before: BTreeMap<String, u64> = kept_counts
        .iter()
        .filter_map(|(name, count)| Some((place.row_of(name)?.to_owned(), *count)))
        .collect();
    report(place, &counts, &before)?;
    if write {
        kept_counts.retain(|name, _| place.row_of(name).is_none());
        let new = ROWS.iter().zip(&counts);
        kept_counts.extend(new.map(|((name, ..), count)| (place.kept_name(name), count.core.round() as u64)));
        fs::write(kept(), serde_json::to_string_pretty(&kept_counts)? + "\n")
            .with_context(|| format!("cannot write {}", kept().display()))?;
        println!("written: {}", kept().display());
    }
    if check { judge(&counts, &before) } else { Ok(()) }
}

/// Counts one row under callgrind.
fn count(directory: &Path, image: &Path, row: usize) -> Result<Count> {
    let valgrind = source_root().join("target/tools/bin/valgrind");
    ensure!(valgrind.exists(), "valgrind is missing ({}); run host/provision-bench.sh", valgrind.display());
    let profile = directory.join("profile");
    let output = Command::new(&valgrind)
        .args(["-q", "--tool=callgrind", "--dump-line=no", "--compress-strings=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(std::env::current_exe()?)
        .args(["bench", "counted"])
        .arg(image)
        .arg(row.to_string())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", valgrind.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("valgrind: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let operations: f64 =
        said.trim().parse().with_context(|| format!("not a number of operations: {said}"))?;
    let costs = costs(&fs::read_to_string(&profile)?)?;
    ensure!(costs.core > 0, "nothing was counted: no function is called {COUNTED}");
    // Counts stay far below 2⁵³.
    Ok(Count {
        core: costs.core as f64 / operations,
        memory_routines: costs.memory_routines as f64 / operations,
    })
}

/// The workload of the row `name`.
fn workload(name: &str) -> Result<&'static Workload> {
    let (_, workload, _) = ROWS.iter().find(|(row, ..)| *row == name).context("no such row")?;
    Workload::named(workload)
}

/// Serves the requests of a row; those that are counted come last. Prints how many operations that were.
///
/// # Errors
/// Those of the server.
pub fn serve(image: &Path, row: usize) -> Result<()> {
    let (name, _, counted) = ROWS.get(row).context("no such row")?;
    let of = workload(name)?;
    // A clock that stands still takes the same instructions on every machine.
    let clock = || Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };
    let mut ring = Ring::new(&fs::File::open(image)?, clock)?;
    let script = (of.script)(of, 1);
    send(&mut ring, &script.setup)?;
    ring.load(&script.steps)?;
    let mut run = |least: u64, counted: Counted| -> Result<u64> {
        ring.count(counted);
        let cycles = least.div_ceil(script.operations);
        for _ in 0..cycles {
            (0..script.steps.len()).try_for_each(|step| ring.exchange(step))?;
        }
        Ok(cycles * script.operations)
    };
    run(WARM_UP, Counted::Nothing)?;
    println!("{}", run(OPERATIONS, *counted)?);
    Ok(())
}

/// Instructions in all.
#[derive(Debug, PartialEq, Eq)]
struct Costs {
    core: u64,
    memory_routines: u64,
}

/// Adds up a profile of callgrind, which was written without compression of names: the costs of functions themselves, by the
/// object that they are in.
fn costs(profile: &str) -> Result<Costs> {
    let mut costs = Costs { core: 0, memory_routines: 0 };
    let (mut in_library, mut of_call) = (false, false);
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            in_library = object.contains("/libc.so") || object.contains("/libc-");
        } else if line.starts_with("calls=") {
            // The next line is what the called function costs, which is counted with that function.
            of_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
            && !std::mem::take(&mut of_call)
        {
            let cost = line.split(' ').nth(1).unwrap_or("0");
            let cost: u64 = cost.parse().with_context(|| format!("callgrind wrote {line}"))?;
            *(if in_library { &mut costs.memory_routines } else { &mut costs.core }) += cost;
        }
    }
    Ok(costs)
}

fn read_kept() -> Result<BTreeMap<String, u64>> {
    let path = kept();
    let text = fs::read_to_string(&path).with_context(|| {
        format!("cannot read {}; make it with bench instructions --write", path.display())
    })?;
    serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
}

fn report(place: Place, counts: &[Count], before: &BTreeMap<String, u64>) -> Result<()> {
    let mut table = Table::new(&["request", "instructions", "kept", "memory routines, apart"]);
    let mut figures = Vec::new();
    for ((name, ..), count) in ROWS.iter().zip(counts) {
        let kept = before.get(*name).map_or("—".to_owned(), |kept| number(*kept as f64));
        table.row(vec![(*name).to_owned(), number(count.core), kept, number(count.memory_routines)]);
        figures
            .push(json!({ "request": name, "core": count.core, "memory_routines": count.memory_routines }));
    }
    print!("{}", table.render());
    println!();
    for (name, target) in TARGETS.into_iter().filter(|_| place == Place::Process) {
        let found = ROWS
            .iter()
            .zip(counts)
            .find(|((row, ..), _)| *row == name)
            .map_or(f64::NAN, |(_, count)| count.core);
        let word = reached(found <= target);
        println!("{name}: {} (target {}: {word})", number(found), number(target));
    }
    let groups =
        ROWS.iter().zip(counts).map(|((name, ..), count)| ((*name).to_owned(), vec![Some(count.core)]));
    let bars = Bars {
        title: place.title(),
        unit: "instructions",
        series: vec!["without memory routines".to_owned()],
        groups: groups.collect(),
    };
    draw(place.file_name(), |file| bars.draw(file))?;
    println!("written: {}", write_json(place.file_name(), &Value::Array(figures))?.display());
    Ok(())
}

/// Compares with what is kept.
fn judge(counts: &[Count], before: &BTreeMap<String, u64>) -> Result<()> {
    let mut wrong = Vec::new();
    for ((name, ..), count) in ROWS.iter().zip(counts) {
        match before.get(*name) {
            None => wrong.push(format!("{name}: no count is kept")),
            Some(&kept) if count.core > kept as f64 * (1.0 + SLACK) => {
                wrong.push(format!("{name}: {:.0} instructions, {kept} are kept", count.core));
            }
            Some(&kept) if count.core < kept as f64 * (1.0 - SLACK) => {
                println!(
                    "{name} takes {:.0} instructions and {kept} are kept: keep it with --write",
                    count.core
                );
            }
            Some(_) => {}
        }
    }
    ensure!(wrong.is_empty(), "more than {:.0} % above what is kept:\n{}", 100.0 * SLACK, wrong.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::core::workload::{SMALL_READ, WORKLOADS};

    #[test]
    fn costs_are_those_of_functions_themselves_by_object() {
        let profile = "events: Ir\n\nob=/usr/bin/skerry\nfl=???\nfn=drain\n0 100\ncob=/lib/libc.so.6\ncfn=memcpy\ncalls=3 0\n\
                       0 77\n0 5\n\nob=/lib/x86_64-linux-gnu/libc.so.6\nfl=???\nfn=memcpy\n0 77\n\nob=/usr/bin/skerry\nfn=pop\n0 1\n";
        assert_eq!(costs(profile).unwrap(), Costs { core: 106, memory_routines: 77 });
    }

    #[test]
    fn a_count_above_the_slack_is_judged_and_one_within_it_is_not() {
        let counts = |factor: f64| vec![Count { core: 1000.0 * factor, memory_routines: 0.0 }; ROWS.len()];
        let kept: BTreeMap<String, u64> = ROWS.iter().map(|(name, ..)| ((*name).to_owned(), 1000)).collect();
        assert!(judge(&counts(1.09), &kept).is_ok());
        assert!(judge(&counts(0.5), &kept).is_ok());
        assert!(judge(&counts(1.11), &kept).is_err());
        assert!(judge(&counts(1.0), &BTreeMap::new()).is_err());
    }

    #[test]
    fn every_row_is_a_workload() {
        for (name, workload, _) in ROWS {
            assert!(WORKLOADS.iter().chain([&SMALL_READ]).any(|of| of.name == workload), "{name}");
        }
    }
}
