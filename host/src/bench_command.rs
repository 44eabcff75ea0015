// SPDX-License-Identifier: MIT OR Apache-2.0

//! `skerry bench`: from the options to the benchmark.

use anyhow::Result;
use skerry_host::bench::{boot, core, instructions, scale};

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
        Benchmark::Counted { image, row } => instructions::serve(image, *row),
    }
}
