// SPDX-License-Identifier: MIT OR Apache-2.0

//! The `skerry` command.

use std::io;
use std::process::ExitCode;

use clap::Parser;

mod bench_command;
mod cli;
mod interrupt;
mod logging;
mod serve_command;
mod terminal;
mod vm_command;

/// The exit status when Skerry itself fails, so that it is told from what a command in the client returns.
const FAILED: u8 = 125;

/// Tells the user what is going on, on standard error.
#[macro_export]
macro_rules! say {
    ($($arguments:tt)*) => { eprintln!("skerry: {}", format_args!($($arguments)*)) };
}

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let outcome = match &cli.command {
        cli::Command::Vm(vm) => {
            logging::start(vm.log_level.filter());
            vm_command::run(vm)
        }
        cli::Command::Bench { benchmark } => {
            logging::start(log::LevelFilter::Warn);
            bench_command::run(benchmark).map(|()| 0)
        }
        cli::Command::Serve(serve) => {
            logging::start(serve.log_level.filter());
            serve_command::run(serve)
        }
    };
    match outcome {
        Ok(status) => status.into(),
        Err(error) => failure(&error).into(),
    }
}

/// Reports an error; gives the exit status that goes with it.
fn failure(error: &anyhow::Error) -> u8 {
    if let Some(interrupt::Interrupted(signal)) = error.downcast_ref() {
        return u8::try_from(128 + signal).unwrap_or(FAILED);
    }
    // Who reads our output has enough of it: end as a program without a handler for SIGPIPE would.
    if error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(is_broken_pipe) {
        return 128 + 13;
    }
    say!("error: {error:#}");
    FAILED
}

fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
