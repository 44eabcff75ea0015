// SPDX-License-Identifier: MIT OR Apache-2.0

//! Host mode as a child process: `skerry serve`, in its sandbox.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::Options;
use crate::qemu::{Command, Exit, Process, Transcript};

/// What the process says when clients may connect.
pub const READY: &str = "ready: serving";

/// How the last line begins of one that cannot start.
const NOT_STARTED: &str = "skerry: error: not started: ";

/// What it adds when the volume is only read.
pub const READ_ONLY: &str = ", read-only";

/// The exit status after an orderly end by SIGTERM.
const ENDED_IN_ORDER: i32 = 128 + 15;

/// How long it may take to start: the journal of a large volume is recovered.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// How long it may take to bring the volume to rest: the host writes all of it to its disk.
const REST_PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked at while it starts.
const LOOK: Duration = Duration::from_millis(20);

/// How many lines a message shows.
const SHOWN_LINES: usize = 3;

/// A running `skerry serve`. Dropping it kills it; [`ServeProcess::shut_down`] is the orderly end.
#[derive(Debug)]
pub struct ServeProcess {
    process: Process,
    readonly: bool,
}

impl ServeProcess {
    /// Starts `program`, a `skerry`, and waits until clients may connect.
    ///
    /// Call it from a thread that lives as long as the server: the process is killed when that thread ends.
    ///
    /// # Errors
    /// What the process said when it ended instead.
    pub fn start(program: &Path, options: &Options, log_level: &str) -> Result<Self> {
        let mut command = Command::for_program("server", program);
        command.args(arguments(options)).args(["--log-level", log_level]);
        let mut process = command.spawn_logged()?;
        let end = Instant::now() + START_PATIENCE;
        loop {
            if let Some(line) = process.transcript().wait_for(READY, LOOK) {
                return Ok(Self { process, readonly: line.ends_with(READ_ONLY) });
            }
            if let Some(exit) = process.try_wait()? {
                let last = process.transcript().last(1).pop().unwrap_or_default();
                let why = last.strip_prefix(NOT_STARTED).map_or_else(|| described(exit), str::to_owned);
                bail!("the server did not start: {why}");
            }
            if Instant::now() >= end {
                bail!("the server is not ready after {} s", START_PATIENCE.as_secs());
            }
        }
    }

    /// Whether the volume is only read.
    #[must_use]
    pub fn is_readonly(&self) -> bool {
        self.readonly
    }

    /// Its process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// What it has said.
    #[must_use]
    pub fn transcript(&self) -> &Transcript {
        self.process.transcript()
    }

    /// How it ended, in words, if it has ended within `limit`.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn wait_for(&mut self, limit: Duration) -> Result<Option<String>> {
        Ok(self.process.wait_for(limit)?.map(described))
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// The orderly end, which leaves a clean volume.
    ///
    /// # Errors
    /// If it ends in another way, or not within a minute.
    pub fn shut_down(mut self) -> Result<()> {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).context("its process id")?;
        kill_process(pid, Signal::TERM).context("cannot signal the server")?;
        match self.process.wait_for(REST_PATIENCE)? {
            Some(exit) if exit.status() == Some(ENDED_IN_ORDER) => Ok(()),
            Some(exit) => {
                let words = self.process.transcript().last(SHOWN_LINES).join("\n  ");
                bail!("the server ended: {}\n  {words}", described(exit))
            }
            None => bail!("the server has not ended in {} s", REST_PATIENCE.as_secs()),
        }
    }
}

/// The command line of a server with these options.
fn arguments(options: &Options) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["serve".into(), "--volume".into(), options.volume.clone().into()];
    for socket in &options.sockets {
        arguments.extend(["--socket".into(), socket.path.clone().into()]);
        arguments.extend(["--tag".into(), socket.tag.clone().into()]);
    }
    if let Some(control) = &options.control {
        arguments.extend(["--control".into(), control.into()]);
    }
    for export in &options.exports {
        arguments.extend(["--export".into(), export.into()]);
    }
    if options.readonly {
        arguments.push("--readonly".into());
    }
    arguments.extend(["--poll-us".into(), options.poll.as_micros().to_string().into()]);
    arguments
}

/// How it ended, in words.
fn described(exit: Exit) -> String {
    match (exit, exit.status()) {
        (Exit::Signal(libc::SIGSYS), _) => {
            "it made a system call that its sandbox forbids, and was ended by \
            SIGSYS (docs/threat-model.md says what it may do)"
                .to_owned()
        }
        (Exit::Signal(signal), _) => format!("it was ended by signal {signal}"),
        (_, Some(status)) => format!("it exited with status {status}"),
        (_, None) => "it ended".to_owned(),
    }
}
