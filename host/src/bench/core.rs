// SPDX-License-Identifier: MIT OR Apache-2.0

//! `bench core`: how many requests a second the core answers, without Linux and without QEMU.
//!
//! An in-process driver fills a split ring, and [`Connection::drain`](skerry::service::Connection::drain) answers from a volume
//! in memory. The same messages go to the `p9` crate, whose files are on tmpfs, and to diod, behind a Unix socket.
//! The servers take turns, one window of time for each workload and round. The time of the two in this process is that which
//! their thread had a processor, so that what else the machine does counts little; that of diod is the clock's.

pub mod diod;
pub mod message;
pub mod p9_crate;
pub mod peer;
pub mod requests;
pub mod ring;
pub mod tree;
pub mod workload;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde_json::{Value, json};

use super::chart::Bars;
use super::report::{self, NONE, Table, number, percent, reached, times, write_json};
use super::statistics::Sample;
use crate::serve::clock;
use crate::volume_image;
use peer::{Peer, SLOTS, send};
use skerry::wire::{Rmessage, parse_r_with_data};
use workload::{Script, WORKLOADS, Workload, leftovers};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Rounds.
    pub rounds: usize,
    /// How long each server is measured for each workload in each round.
    pub window: Duration,
}

impl Extent {
    /// Five rounds, each long enough for figures.
    pub const FULL: Self = Self { rounds: 5, window: Duration::from_millis(60) };
    /// Enough to see that it works.
    pub const QUICK: Self = Self { rounds: 1, window: Duration::from_millis(5) };
}

/// What is to be reached: 4 KiB reads, one at a time, against the `p9` crate.
const TARGET: f64 = 5.0;

/// Runs it, and prints.
///
/// # Errors
/// If a server is missing, or gives a wrong answer.
pub fn run(extent: Extent) -> Result<()> {
    // tmpfs: what the others serve is in memory, as the core's volume is.
    let directory = tree::directory()?;
    // To each its own: what one leaves behind is not in the way of the other.
    let [first, second] = ["p9", "diod"].map(|name| directory.path().join(name));
    for root in [&first, &second] {
        std::fs::create_dir(root)?;
        tree::fill(root)?;
    }
    let image = volume_image::import(&first)?;
    let mut peers: Vec<Box<dyn Peer>> = vec![
        Box::new(ring::Ring::new(image.as_file(), clock::now)?),
        Box::new(p9_crate::P9Crate::new(&first)?),
        Box::new(diod::Diod::new(&second, &directory.path().join("socket"))?),
    ];
    let names: Vec<&str> = peers.iter().map(|peer| peer.name()).collect();

    let cases: Vec<(&Workload, usize)> = [1, SLOTS]
        .into_iter()
        .flat_map(|in_flight| WORKLOADS.iter().map(move |of| (of, in_flight)))
        .collect();
    let mut results: Vec<Vec<Measured>> = Vec::new();
    results.resize_with(cases.len(), || names.iter().map(|_| Measured::default()).collect());
    for round in 0..extent.rounds {
        for ((of, in_flight), results) in cases.iter().zip(&mut results) {
            let script = (of.script)(of, *in_flight);
            for (peer, measured) in peers.iter_mut().zip(results) {
                measure(peer.as_mut(), of, &script, extent.window, measured)
                    .with_context(|| format!("{}, {in_flight} in flight", of.name))?;
            }
        }
        eprintln!("skerry: round {} of {}", round + 1, extent.rounds);
    }
    report(&names, &cases, &results)
}

/// What one server did of one workload.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// Operations a second.
    pub(super) rate: Sample,
    /// Why not, if it does not do this.
    refused: Option<String>,
}

/// Measures one server for `window`.
pub(super) fn measure(
    peer: &mut dyn Peer,
    of: &Workload,
    script: &Script,
    window: Duration,
    measured: &mut Measured,
) -> Result<()> {
    if measured.refused.is_some() {
        return Ok(());
    }
    let longest = script.steps.iter().flatten().map(message::Message::longest).max().unwrap_or_default();
    if longest > peer.msize() as usize {
        measured.refused = Some(format!("messages have at most {} bytes", peer.msize()));
        return Ok(());
    }
    send(peer, &script.setup)?;
    peer.load(&script.steps)?;
    match once(peer, of, script) {
        Ok(()) => {}
        // A server need not know every request; ours has to.
        Err(error) if peer.name() != "Skerry" => {
            measured.refused = Some(format!("{error:#}"));
            // Of what was made there may be all or nothing: most of these requests fail.
            for request in leftovers() {
                let _ = send(peer, &[request]);
            }
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    let now = if peer.is_in_process() { thread_time } else { wall_time };
    let start = now();
    let (mut cycles, mut more) = (0_u64, 1);
    let mut elapsed = Duration::ZERO;
    while elapsed < window {
        // The clock is a system call: it is asked less and less often.
        for _ in 0..more {
            for step in 0..script.steps.len() {
                peer.exchange(step)?;
            }
        }
        cycles += more;
        elapsed = now().saturating_sub(start);
        if elapsed < window / 4 {
            more *= 2;
        }
    }
    measured.rate.add((cycles * script.operations) as f64 / elapsed.as_secs_f64());
    send(peer, &script.teardown)
}

/// What this thread has had of a processor: what a server that never sleeps takes, whatever else the machine does.
pub(super) fn thread_time() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

fn wall_time() -> Duration {
    duration(clock_gettime(ClockId::Monotonic))
}

fn duration(time: Timespec) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}

/// Goes through the script once, and looks at the replies as a whole.
fn once(peer: &mut dyn Peer, of: &Workload, script: &Script) -> Result<()> {
    for (index, step) in script.steps.iter().enumerate() {
        peer.exchange(index)?;
        for (slot, message) in step.iter().enumerate() {
            let reply = peer.reply(slot);
            let (_, parsed, data) = parse_r_with_data(&reply)?;
            match parsed {
                Rmessage::Rread(_) => {
                    let offset = u64::from_le_bytes(message.head[11..19].try_into()?);
                    let expected = message::payload().iter().cycle().skip(offset as usize % message::LARGEST);
                    ensure!(data.len() as u64 == of.bytes, "{} bytes were read", data.len());
                    ensure!(
                        data.iter().eq(expected.take(data.len())),
                        "other bytes were read than there are"
                    );
                }
                Rmessage::Rwrite(reply) => {
                    ensure!(u64::from(reply.count) == of.bytes, "{} bytes were written", reply.count);
                }
                Rmessage::Rreaddir(_) => {
                    let entries = skerry::wire::Dirents::new(data).count();
                    ensure!(entries >= tree::ENTRIES, "{entries} entries were listed");
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Prints, writes and draws what was measured.
fn report(names: &[&str], cases: &[(&Workload, usize)], results: &[Vec<Measured>]) -> Result<()> {
    let mut columns = vec!["operation".to_owned(), "in flight".to_owned()];
    columns.push(format!("{}: /s", names[0]));
    columns.extend(["GB/s".to_owned(), "spread".to_owned()]);
    for name in &names[1..] {
        columns.extend([format!("{name}: /s"), "spread".to_owned(), format!("{} / {name}", names[0])]);
    }
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut table = Table::new(&columns);
    let mut figures = Vec::new();
    for ((of, in_flight), measured) in cases.iter().zip(results) {
        let mut row = vec![of.name.to_owned(), in_flight.to_string()];
        let own = measured[0].rate.median().unwrap_or_default();
        let gigabytes = own * of.bytes as f64 / 1e9;
        let moved = if of.bytes > 0 { number(gigabytes) } else { NONE.to_owned() };
        row.extend([number(own), moved, percent(measured[0].rate.spread())]);
        let mut servers = serde_json::Map::new();
        for (name, measured) in names.iter().zip(measured) {
            let figure: Value = json!({
                "per_second": measured.rate.median(), "spread": measured.rate.spread(), "rounds": measured.rate.rounds(),
                "refused": measured.refused,
            });
            servers.insert((*name).to_owned(), figure);
        }
        for other in &measured[1..] {
            let cells = match other.rate.median() {
                Some(rate) => [number(rate), percent(other.rate.spread()), times(Some(own / rate))],
                None => [NONE, NONE, NONE].map(str::to_owned),
            };
            row.extend(cells);
        }
        table.row(row);
        figures.push(
            json!({ "operation": of.name, "bytes": of.bytes, "in_flight": in_flight, "servers": servers }),
        );
    }
    print!("{}", table.render());
    println!();
    for ((of, in_flight), measured) in cases.iter().zip(results) {
        for (name, reason) in
            names.iter().zip(measured).filter_map(|(name, of)| Some((name, of.refused.as_ref()?)))
        {
            println!("{name} is not measured with {}, {in_flight} in flight: {reason}", of.name);
        }
    }
    if let Some(ratio) = ratio_to_p9(results) {
        println!(
            "4 KiB Tread, one at a time, against the p9 crate: {ratio:.2}× (target {TARGET}×: {})",
            reached(ratio >= TARGET)
        );
    }
    for in_flight in [1, SLOTS] {
        draw(names, cases, results, in_flight)?;
    }
    println!("written: {}", write_json("core", &Value::Array(figures))?.display());
    Ok(())
}

/// The first case is the one that the target is about.
fn ratio_to_p9(results: &[Vec<Measured>]) -> Option<f64> {
    let [own, p9, ..] = results.first()?.as_slice() else { return None };
    Some(own.rate.median()? / p9.rate.median()?)
}

fn draw(
    names: &[&str],
    cases: &[(&Workload, usize)],
    results: &[Vec<Measured>],
    in_flight: usize,
) -> Result<()> {
    let groups =
        cases.iter().zip(results).filter(|((_, of), _)| *of == in_flight).map(|((of, _), measured)| {
            (of.name.to_owned(), measured.iter().map(|measured| measured.rate.median()).collect())
        });
    let title = format!("Operations a second, {in_flight} in flight");
    let series = names.iter().map(|&name| name.to_owned()).collect();
    let bars = Bars { title: &title, unit: "operations a second", series, groups: groups.collect() };
    report::draw(&format!("core-{in_flight}"), |file| bars.draw(file))
}
