// SPDX-License-Identifier: MIT OR Apache-2.0

//! `bench shares`: what a read or write of a Linux client takes of the processors, and who takes it: the client's emulated processor,
//! the rest of the client's QEMU, the server. It is the profile of [`virtfs_table`](super::virtfs_table)'s cells: it shows what a quicker
//! server could gain at the most.
//!
//! While fio reads or writes with one [peer](super::peers), the kernel's accounts of all threads are looked at twice. What each has had of
//! a processor in between, divided by the requests that fio says were made in that time, is its share of a request. Shares
//! overlap in time, so that their sum may be more than a request takes.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::peers::{Machine, Peer, order};
use super::process::{processor_time, threads};
use super::report::{NONE, Table, number, write_json};
use super::statistics::Sample;
use super::virtfs_table::{CELLS, Cell, figures, fill, global, job};
use crate::client_vm::LARGEST_MSIZE;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Rounds.
    pub rounds: usize,
    /// How long fio runs for each cell and peer. The accounts are looked at in its second half, when fio has long started.
    pub window: Duration,
    /// MiB of the file.
    pub size: usize,
}

impl Extent {
    /// Three rounds, each long enough for figures.
    pub const FULL: Self = Self { rounds: 3, window: Duration::from_millis(3000), size: 128 };
    /// Enough to see that it works.
    pub const QUICK: Self = Self { rounds: 1, window: Duration::from_millis(800), size: 16 };
}

/// What is read and written: the table's cells of random access.
fn cells() -> impl Iterator<Item = &'static Cell> {
    CELLS.iter().filter(|cell| cell.pattern.starts_with("rand"))
}

/// Those whose servers stand side by side. The disks have none.
const PEERS: [Peer; 4] = [Peer::Vm, Peer::Host, Peer::VirtFs, Peer::Virtiofsd];

/// What QEMU calls the thread of the first processor that it emulates begins so.
const EMULATED_PROCESSOR: &str = "CPU 0/";

/// Microseconds of a request: how long it takes, and who had a processor for how much of that.
#[derive(Debug, Default)]
struct Shares {
    request: Sample,
    client: Sample,
    client_qemu: Sample,
    server: Sample,
}

/// Looks at the accounts.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    client: Duration,
    client_qemu: Duration,
    server: Option<Duration>,
}

/// Runs it, and prints.
///
/// # Errors
/// If something is missing, or fails.
pub fn run(extent: Extent) -> Result<()> {
    let mut machine = Machine::start(|tree| fill(tree, extent.size), &[])?;
    machine.mount(&PEERS, Some(LARGEST_MSIZE))?;
    let mut measured: Vec<[Shares; Peer::ALL.len()]> = Vec::new();
    measured.resize_with(cells().count(), Default::default);
    for round in 0..extent.rounds {
        for (cell, of) in cells().zip(&mut measured) {
            for peer in order(&PEERS, round) {
                measure(&mut machine, peer, cell, extent, &mut of[peer.index()])
                    .with_context(|| format!("{}, {} of {} KiB", peer.name(), cell.test, cell.block))?;
            }
        }
        eprintln!("skerry: round {} of {}", round + 1, extent.rounds);
    }
    machine.unmount(&PEERS)?;
    machine.finish()?;
    report(&measured)
}

fn measure(
    machine: &mut Machine,
    peer: Peer,
    cell: &Cell,
    extent: Extent,
    shares: &mut Shares,
) -> Result<()> {
    machine.write_file("jobs", &(global(extent.size, extent.window) + &job("shares", peer, cell)))?;
    let (client, server) = (machine.client_process(), machine.server_process(peer));
    let watcher = thread::spawn(move || -> Result<(Look, Look)> {
        thread::sleep(extent.window / 2);
        let before = look(client, server)?;
        thread::sleep(extent.window * 2 / 5);
        Ok((before, look(client, server)?))
    });
    let said = machine.run("fio --eta=never --output-format=json /tmp/jobs")?;
    let (before, after) = watcher.join().ok().context("looking at the accounts failed")??;
    let rates = figures(&said).with_context(|| format!("fio said: {said}"))?;
    ensure!(rates.len() == 1, "fio ran {} jobs", rates.len());
    let request = 1e6 * cell.block as f64 / rates[0];
    let watched = (after.at - before.at).as_secs_f64();
    // The part of the time that somebody had a processor is that part of each request.
    let share = |had: Duration| request * had.as_secs_f64() / watched;
    shares.request.add(request);
    shares.client.add(share(after.client.saturating_sub(before.client)));
    shares.client_qemu.add(share(after.client_qemu.saturating_sub(before.client_qemu)));
    if let Some((after, before)) = after.server.zip(before.server) {
        shares.server.add(share(after.saturating_sub(before)));
    }
    Ok(())
}

fn look(client: u32, server: Option<u32>) -> Result<Look> {
    let at = Instant::now();
    let (processor, others): (Vec<_>, Vec<_>) =
        threads(client)?.into_iter().partition(|(name, _)| name.starts_with(EMULATED_PROCESSOR));
    ensure!(
        processor.len() == 1,
        "the client's QEMU has {} threads \"{EMULATED_PROCESSOR}…\"",
        processor.len()
    );
    let sum = |threads: Vec<(String, Duration)>| threads.iter().map(|(_, time)| time).sum();
    let server = server.map(processor_time).transpose()?;
    Ok(Look { at, client: sum(processor), client_qemu: sum(others), server })
}

/// Prints and writes what was measured.
fn report(measured: &[[Shares; Peer::ALL.len()]]) -> Result<()> {
    println!("Microseconds of a request, and of a processor for it: medians\n");
    let mut table =
        Table::new(&["test", "KiB", "peer", "request", "client's processor", "client's QEMU else", "server"]);
    let shown = |sample: &Sample| sample.median().map_or(NONE.to_owned(), number);
    let mut all = Vec::new();
    for (cell, of) in cells().zip(measured) {
        for peer in PEERS {
            let Shares { request, client, client_qemu, server } = &of[peer.index()];
            let mut row = vec![cell.test.to_owned(), cell.block.to_string(), peer.name().to_owned()];
            row.extend([request, client, client_qemu, server].map(shown));
            table.row(row);
            all.push(json!({
                "test": cell.test, "kibibytes": cell.block, "peer": peer.name(),
                "request_microseconds": request.median(), "client_processor_microseconds": client.median(),
                "client_qemu_microseconds": client_qemu.median(), "server_microseconds": server.median(),
            }));
        }
    }
    print!("{}", table.render());
    println!("\nVirtFS's server is a part of the client's QEMU; a service VM's share has its QEMU in it.");
    println!("written: {}", write_json("shares", &all.into())?.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_is_one_of_the_tables_for_as_long_as_is_watched() {
        let text =
            global(16, Duration::from_millis(800)) + &job("shares", Peer::Host, cells().nth(4).unwrap());
        assert!(text.contains("runtime=800ms") && text.contains("direct=1"), "{text}");
        assert!(text.ends_with("[shares]\nfilename=/mnt/host/data\nrw=randwrite\nbs=64k\n"), "{text}");
    }
}
