// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lines of shell that a client runs, one after the other, in one boot.

use std::io::{self, BufRead, BufReader, PipeWriter, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::client_vm::{ClientVm, MOUNT_LIMIT, Options, Streams};

/// What the client runs: it makes the first disk the root of programs, and does what it is told.
pub(super) const LOOP: &str = include_str!("loop.sh");

/// What the client says after each line that it ran, before the line's status.
const DONE: &str = "==> ";

/// How long one line may take: the longest ones measure for minutes.
const LIMIT: Duration = Duration::from_secs(900);

/// A client that runs [`LOOP`].
#[derive(Debug)]
pub(super) struct Console {
    vm: ClientVm,
    /// `None` when the end has been told.
    input: Option<PipeWriter>,
    lines: Receiver<String>,
}

impl Console {
    /// Boots the client.
    pub(super) fn start(options: &Options) -> Result<Self> {
        let (stdin, input) = io::pipe()?;
        let (output, stdout) = io::pipe()?;
        let streams =
            Streams { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr: Box::new(io::stderr()) };
        let mut vm = ClientVm::start(options, streams)?;
        vm.wait_until_mounted(MOUNT_LIMIT)?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { vm, input: Some(input), lines })
    }

    /// Runs `line` in the client, and gives what it wrote, which ends with a whole line.
    ///
    /// # Errors
    /// If it fails, or takes longer than [`LIMIT`].
    pub(super) fn run(&mut self, line: &str) -> Result<String> {
        let input = self.input.as_mut().context("the client was told to end")?;
        writeln!(input, "{line}").context("the client does not listen")?;
        let mut said = String::new();
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) => match line.strip_prefix(DONE) {
                    Some("0") => return Ok(said),
                    Some(status) => bail!("a command of the client ended with status {status}: {said}"),
                    None => said = said + &line + "\n",
                },
                Err(RecvTimeoutError::Timeout) => {
                    bail!("a command of the client takes more than {} s: {line}", LIMIT.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.vm.wait().err().context("the client ended")?);
                }
            }
        }
    }

    /// The process id of the client's QEMU.
    pub(super) fn process(&self) -> u32 {
        self.vm.id()
    }

    /// Ends the client in order.
    pub(super) fn end(&mut self) -> Result<()> {
        self.input = None;
        let status = self.vm.wait()?;
        if status != 0 {
            bail!("the client ended with status {status}");
        }
        Ok(())
    }
}
