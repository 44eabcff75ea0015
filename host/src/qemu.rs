// SPDX-License-Identifier: MIT OR Apache-2.0

//! QEMU as a child process.
//!
//! Finds the launcher that provisioning left below `target/`, chooses the accelerator, hands file descriptors
//! over, and makes sure that no QEMU outlives the process that started it. Relies on Linux (`prctl`, `/proc`).

mod accelerator;
mod exit;
mod output;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

pub use accelerator::{Accelerator, AcceleratorError};
pub use exit::Exit;
pub use output::Transcript;

/// Where provisioning leaves the launcher, from the root of the source tree.
const PROVISIONED: &str = "target/provision/qemu";

/// The QEMU to run: `SKERRY_QEMU` if it is set, else what provisioning left.
///
/// # Errors
/// If there is no such file; the message says how to get one.
pub fn launcher() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SKERRY_QEMU") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("SKERRY_QEMU names {}, which is no file", path.display());
        }
        return Ok(path);
    }
    let path = source_root().join(PROVISIONED);
    if !path.is_file() {
        bail!("no QEMU at {}; run host/provision.sh, or set SKERRY_QEMU", path.display());
    }
    Ok(path)
}

/// The directory that holds `target/`: the one above this package.
#[must_use]
pub fn source_root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// A QEMU command line under construction.
#[derive(Debug)]
pub struct Command {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    inherited: Vec<OwnedFd>,
}

impl Command {
    /// A command for the launcher; `name` is what messages and log lines call the VM.
    ///
    /// # Errors
    /// If there is no QEMU.
    pub fn new(name: &str) -> Result<Self> {
        Ok(Self::for_program(name, launcher()?))
    }

    /// A command for another program, which gets the same care.
    #[must_use]
    pub fn for_program(name: &str, program: impl Into<PathBuf>) -> Self {
        Self { name: name.to_owned(), program: program.into(), arguments: Vec::new(), inherited: Vec::new() }
    }

    /// Appends one argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Appends several arguments.
    pub fn args(&mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        for argument in arguments {
            self.arg(argument);
        }
        self
    }

    /// Lets the child inherit `descriptor`; returns the number that it has there.
    pub fn pass(&mut self, descriptor: OwnedFd) -> RawFd {
        let number = descriptor.as_raw_fd();
        self.inherited.push(descriptor);
        number
    }

    /// Starts the child with nothing on its standard input; what it writes goes to the log line by line.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn_logged(self) -> Result<Process> {
        self.spawn(Stdio::null(), Stdio::piped(), Stdio::piped())
    }

    /// Starts the child. A stream that is `Stdio::piped()` goes to the log line by line.
    ///
    /// The child is killed when the *thread* that calls this ends: call it from one that lives as long as the VM.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(self, input: Stdio, output: Stdio, errors: Stdio) -> Result<Process> {
        let numbers: Vec<RawFd> = self.inherited.iter().map(AsRawFd::as_raw_fd).collect();
        let parent = rustix::process::getpid();
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.arguments).stdin(input).stdout(output).stderr(errors);
        // Out of the terminal's reach: Ctrl-C is for this process, which ends its children in order.
        command.process_group(0);
        // SAFETY: the closure runs in the forked child before `exec`. It allocates nothing, takes no lock and
        // only makes the system calls `prctl`, `getppid` and `fcntl`, which are async-signal-safe.
        unsafe {
            command.pre_exec(move || prepare_child(parent, &numbers));
        }
        let started = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {} for the {} VM", self.program.display(), self.name))?;
        let transcript = Transcript::default();
        if let Some(stream) = child.stdout.take() {
            transcript.follow(&self.name, stream);
        }
        if let Some(stream) = child.stderr.take() {
            transcript.follow(&self.name, stream);
        }
        Ok(Process { name: self.name, child, transcript, started })
    }
}

/// What the child does between `fork` and `exec`: die with its parent, keep the descriptors it was given.
fn prepare_child(parent: Pid, inherited: &[RawFd]) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(parent) {
        // The parent died before the signal was armed.
        return Err(io::ErrorKind::NotFound.into());
    }
    for &number in inherited {
        // SAFETY: the numbers belong to `Command::inherited`, which the parent keeps open until `spawn` returns,
        // and the child has a copy of the parent's table.
        let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
    }
    Ok(())
}

/// How long to read on after the end: a process that QEMU started may hold its streams open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A running QEMU. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    transcript: Transcript,
    started: Instant,
}

impl Process {
    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// When it was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The latest lines that it wrote to the streams that go to the log.
    #[must_use]
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn try_wait(&mut self) -> Result<Option<Exit>> {
        let exit = self.child.try_wait().context("waiting for QEMU")?.map(Exit::from);
        if exit.is_some() {
            self.transcript.wait_for_end(LAST_WORDS);
        }
        Ok(exit)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn wait(&mut self) -> Result<Exit> {
        let exit = self.child.wait().context("waiting for QEMU")?.into();
        self.transcript.wait_for_end(LAST_WORDS);
        Ok(exit)
    }

    /// Waits for at most `limit`; `None` if it runs on.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn wait_for(&mut self, limit: Duration) -> Result<Option<Exit>> {
        let end = Instant::now() + limit;
        loop {
            if let Some(exit) = self.try_wait()? {
                return Ok(Some(exit));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it and waits for its end. Harmless if it has ended.
    pub fn kill(&mut self) {
        // Both fail only when the child has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_memory::SharedMemory;

    fn shell(script: &str) -> Command {
        let mut command = Command::for_program("test", "/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_passed_descriptor_is_open_in_the_child_under_the_number_that_was_told() {
        let memory = SharedMemory::new("test", 4096).unwrap();
        memory.write(0, b"inherited\n");
        let mut command = Command::for_program("test", "/bin/sh");
        let number = command.pass(memory.file().try_clone_to_owned().unwrap());
        command.args(["-c", &format!("head -n 1 /proc/self/fd/{number}")]);
        let process = command.spawn_logged().unwrap();
        assert!(process.transcript().wait_for("inherited", Duration::from_secs(5)).is_some());
    }

    #[test]
    fn dropping_a_process_ends_it() {
        let process = shell("sleep 100").spawn_logged().unwrap();
        let directory = PathBuf::from(format!("/proc/{}", process.id()));
        assert!(directory.exists());
        drop(process);
        assert!(!directory.exists());
    }

    #[test]
    fn what_a_process_writes_is_in_its_transcript() {
        let mut process = shell("echo one; echo two >&2; printf three").spawn_logged().unwrap();
        process.wait().unwrap();
        for line in ["one", "two", "three"] {
            assert!(process.transcript().wait_for(line, Duration::from_secs(5)).is_some(), "{line}");
        }
        assert!(process.transcript().wait_for("four", Duration::ZERO).is_none());
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Command::for_program("test", "/nonexistent/qemu").spawn_logged().unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/qemu"), "{error:#}");
    }
}
