// SPDX-License-Identifier: MIT OR Apache-2.0

//! Benchmarks: what `skerry bench` runs. Each prints a table, and leaves the same figures as JSON and a chart as SVG in
//! `target/bench/`.
//!
//! | module | subject |
//! |---|---|
//! | [`boot`]         | from QEMU's start to the first answer; sizes |
//! | [`core`]         | the core in this process, against other 9P servers: requests per second |
//! | [`instructions`] | instructions for each request, counted by callgrind |
//! | [`process`]      | what another process takes of the machine |
//! | [`scale`]        | how costs grow with clients, volumes, directories, files |
//! | [`virtfs_table`] | a published table of VirtFS, measured again in a Linux client with all peers |
//! | [`latency`]      | how long system calls take there |
//! | [`meta`]         | what people do to a tree of sources there |
//! | [`shares`]       | what a read or write there takes of the processors, by who took it |
//! | [`peers`]        | that client, and the servers and disks it has |
//! | [`program`]      | C programs that are compiled here: they run in clients, and in QEMU |
//! | [`statistics`]   | medians of rounds |
//! | [`report`]       | tables, JSON files |
//! | [`chart`]        | SVG charts |

pub mod boot;
pub mod chart;
pub mod core;
pub mod instructions;
pub mod latency;
pub mod meta;
pub mod peers;
pub mod process;
pub mod program;
pub mod report;
pub mod scale;
pub mod shares;
pub mod statistics;
pub mod virtfs_table;
