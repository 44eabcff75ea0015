// SPDX-License-Identifier: MIT OR Apache-2.0

//! `skerry bench`: from the options to the benchmark.

use anyhow::Result;
use skerry_host::bench::{boot, core, instructions, latency, meta, scale, shares, virtfs_table};

use crate::cli::Benchmark;

/// Runs it.
///
/// # Errors
/// Those of the benchmark.
pub fn run(benchmark: &Benchmark) -> Result<()> {
    match benchmark {
        Benchmark::Boot { quick } => boot::run(if *quick { boot::QUICK } else { boot::FULL }),
        Benchmark::Core { quick } => core::run(if *quick { core::Extent::QUICK } else { core::Extent::FULL }),
        Benchmark::Instructions { service_vm, check, write } => {
            let place =
                if *service_vm { instructions::Place::ServiceVm } else { instructions::Place::Process };
            instructions::run(place, *check, *write)
        }
        Benchmark::Scale { quick } => {
            scale::run(if *quick { scale::Extent::QUICK } else { scale::Extent::FULL })
        }
        Benchmark::VirtfsTable { quick } => {
            virtfs_table::run(if *quick { virtfs_table::Extent::QUICK } else { virtfs_table::Extent::FULL })
        }
        Benchmark::Latency { quick } => {
            latency::run(if *quick { latency::Extent::QUICK } else { latency::Extent::FULL })
        }
        Benchmark::Meta { quick } => meta::run(if *quick { meta::Extent::QUICK } else { meta::Extent::FULL }),
        Benchmark::Shares { quick } => {
            shares::run(if *quick { shares::Extent::QUICK } else { shares::Extent::FULL })
        }
        Benchmark::Counted { image, row } => instructions::serve(image, *row),
    }
}
