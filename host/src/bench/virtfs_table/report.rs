// SPDX-License-Identifier: MIT OR Apache-2.0

//! What `bench virtfs-table` prints, writes and draws.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::published::PUBLISHED;
use super::{CELLS, Pass};
use crate::bench::peers::{Peer, bars};
use crate::bench::report::{NONE, Table, draw, median_and_spread, number, reached, times, write_json};
use crate::bench::statistics::{Sample, geometric_mean};

/// What is to be reached with the largest msize: a geometric mean of all cells, and for some the least cell.
const TARGETS: [(Peer, Peer, f64, Option<f64>); 3] = [
    (Peer::Host, Peer::VirtFs, 1.5, Some(1.0)),
    (Peer::Host, Peer::Virtiofsd, 1.5, None),
    (Peer::Vm, Peer::VirtFs, 1.0, None),
];

/// Prints, writes and draws what was measured.
pub(super) fn report(passes: &[Pass]) -> Result<()> {
    let mut figures = Vec::new();
    for pass in passes {
        println!("\nmsize {}: KiB/s, and between the slowest and the fastest round\n", pass.msize);
        print!("{}", rates(pass).render());
        println!("\nmsize {}: ratios\n", pass.msize);
        print!("{}", ratios(pass).render());
        figures.push(json!({ "msize": pass.msize, "cells": cells(pass) }));
        let names = CELLS.iter().map(|cell| format!("{}, {} KiB", cell.test, cell.block));
        let title = format!("Reads and writes, msize {}", pass.msize);
        let bars = bars(&title, "KiB/s", pass.peers, names.zip(&pass.cells), Sample::median);
        println!();
        draw(&format!("virtfs-table-{}", pass.msize), |file| bars.draw(file))?;
    }
    println!("\nAs published, of another machine: KB/s (msize 100000000, KVM)\n");
    print!("{}", published().render());
    println!();
    for (own, other, target, least) in TARGETS {
        println!("{}", judged(&passes[0], own, other, target, least));
    }
    println!("written: {}", write_json("virtfs-table", &Value::Array(figures))?.display());
    Ok(())
}

/// How a peer stands against another, as the ratio of each cell.
fn against(pass: &Pass, own: Peer, other: Peer) -> Vec<Option<f64>> {
    let ratio = |of: &[Sample; 6]| Some(of[own.index()].median()? / of[other.index()].median()?);
    pass.cells.iter().map(ratio).collect()
}

fn judged(pass: &Pass, own: Peer, other: Peer, target: f64, least_target: Option<f64>) -> String {
    let ratios: Vec<f64> = against(pass, own, other).into_iter().flatten().collect();
    let mean = geometric_mean(&ratios).unwrap_or_default();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let mut text = format!(
        "{} against {}, msize {}: geometric mean {mean:.2}× (target {target}×: {}), least {least:.2}×",
        own.name(),
        other.name(),
        pass.msize,
        reached(mean >= target)
    );
    if let Some(target) = least_target {
        text += &format!(" (target {target}×: {})", reached(least >= target));
    }
    text
}

fn rates(pass: &Pass) -> Table {
    let columns: Vec<&str> =
        ["test", "KiB"].into_iter().chain(pass.peers.iter().map(|peer| peer.name())).collect();
    let mut table = Table::new(&columns);
    for (cell, of) in CELLS.iter().zip(&pass.cells) {
        let mut row = vec![cell.test.to_owned(), cell.block.to_string()];
        row.extend(pass.peers.iter().map(|peer| median_and_spread(&of[peer.index()])));
        table.row(row);
    }
    table
}

/// Skerry's ratios, and those of VirtFS to the disks beside the published ones.
fn ratios(pass: &Pass) -> Table {
    let mut pairs = vec![(Peer::Vm, Peer::VirtFs), (Peer::Host, Peer::VirtFs), (Peer::Vm, Peer::Host)];
    let has_all = pass.peers.contains(&Peer::Virtiofsd);
    if has_all {
        pairs.extend([
            (Peer::Vm, Peer::Virtiofsd),
            (Peer::Host, Peer::Virtiofsd),
            (Peer::Host, Peer::VirtioBlk),
            (Peer::VirtFs, Peer::VirtioBlk),
            (Peer::VirtFs, Peer::Ide),
        ]);
    }
    let names: Vec<String> =
        pairs.iter().map(|(own, other)| format!("{} / {}", own.name(), other.name())).collect();
    let mut columns: Vec<&str> =
        ["test", "KiB"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let mut values: Vec<Vec<Option<f64>>> =
        pairs.iter().map(|(own, other)| against(pass, *own, *other)).collect();
    if has_all {
        columns.extend(["published: VirtFS / virtio-blk", "published: VirtFS / IDE"]);
        values.push(PUBLISHED.iter().map(|of| Some(of.virtfs / of.virtio_blk)).collect());
        values.push(PUBLISHED.iter().map(|of| Some(of.virtfs / of.ide?)).collect());
    }
    let mut table = Table::new(&columns);
    for (number, cell) in CELLS.iter().enumerate() {
        let mut row = vec![cell.test.to_owned(), cell.block.to_string()];
        row.extend(values.iter().map(|column| times(column[number])));
        table.row(row);
    }
    let mut row = vec!["geometric mean".to_owned(), String::new()];
    let mean =
        |column: &Vec<Option<f64>>| geometric_mean(&column.iter().copied().flatten().collect::<Vec<_>>());
    row.extend(values.iter().map(|column| times(mean(column))));
    table.row(row);
    table
}

fn published() -> Table {
    let mut table = Table::new(&["test", "KiB", "VirtFS", "virtio-blk", "IDE"]);
    for (cell, of) in CELLS.iter().zip(&PUBLISHED) {
        let ide = of.ide.map_or(NONE.to_owned(), number);
        let row =
            [cell.test.to_owned(), cell.block.to_string(), number(of.virtfs), number(of.virtio_blk), ide];
        table.row(row.into());
    }
    table
}

/// What goes into the JSON file.
fn cells(pass: &Pass) -> Vec<Value> {
    let one = |((cell, of), published): ((&super::Cell, &[Sample; 6]), &super::published::Published)| {
        let mut peers = Map::new();
        for peer in pass.peers {
            let sample = &of[peer.index()];
            let figure = json!({
                "kibibytes_per_second": sample.median(), "spread": sample.spread(), "rounds": sample.rounds(),
            });
            peers.insert(peer.name().to_owned(), figure);
        }
        json!({
            "test": cell.test, "kibibytes": cell.block, "peers": peers,
            "published_kilobytes_per_second":
                { "VirtFS": published.virtfs, "virtio-blk": published.virtio_blk, "IDE": published.ide },
        })
    };
    CELLS.iter().zip(&pass.cells).zip(&PUBLISHED).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass() -> Pass {
        let mut cells: Vec<[Sample; 6]> = Vec::new();
        cells.resize_with(CELLS.len(), Default::default);
        for (number, of) in cells.iter_mut().enumerate() {
            for (rate, sample) in [2.0, 6.0, 4.0, 1.0, 1.0, 1.0].into_iter().zip(of) {
                sample.add(rate * (number + 1) as f64);
            }
        }
        Pass { msize: 512_000, peers: &Peer::ALL, cells }
    }

    #[test]
    fn a_target_is_reached_by_the_mean_of_all_cells_and_by_the_least_one() {
        let mut pass = pass();
        assert_eq!(
            judged(&pass, Peer::Host, Peer::VirtFs, 1.5, Some(1.0)),
            "Skerry host against VirtFS, msize 512000: geometric mean 1.50× (target 1.5×: reached), \
             least 1.50× (target 1×: reached)"
        );
        assert!(judged(&pass, Peer::Vm, Peer::VirtFs, 1.0, None).contains("0.50× (target 1×: not reached)"));
        pass.cells[3][Peer::Host.index()] = Sample::default();
        pass.cells[3][Peer::Host.index()].add(1.0);
        assert!(
            judged(&pass, Peer::Host, Peer::VirtFs, 1.0, Some(1.0))
                .ends_with("least 0.06× (target 1×: not reached)")
        );
    }

    #[test]
    fn the_published_ratios_stand_beside_those_that_were_measured() {
        let text = ratios(&pass()).render();
        let row =
            text.lines().find(|line| line.starts_with("| random write") && line.contains(" 1024 ")).unwrap();
        assert!(row.contains(" 4.00× |"), "{row}");
        assert!(row.contains("3.10×") && row.trim_end().ends_with("— |"), "{row}");
    }
}
