// SPDX-License-Identifier: MIT OR Apache-2.0

//! A Linux VM that mounts a 9P share at `/mnt` and runs one command, or a shell, in it.
//!
//! It is an unmodified Debian kernel with an initramfs made here: busybox, the modules that the VM needs, and
//! `init.sh`. The command's streams are virtio-serial ports, so bytes pass as they are; the kernel's console is
//! a serial line that goes to the log. Relies on `host/provision.sh` for the kernel, and on [`crate::qemu`] that
//! no QEMU outlives this process.

mod disk;
mod memory_size;
mod mount;
mod root;
mod server;
mod streams;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::client_kernel;
use crate::qemu::{self, Accelerator, Process};
use crate::workspace;

pub use disk::{Disk, DiskAccess, DiskDevice};
pub use memory_size::{MemorySize, MemorySizeError};
pub use mount::{Cache, LARGEST_MSIZE, Mount};
pub use server::{Server, share_arguments};
pub use streams::Streams;
use streams::{Event, follow_control, follow_output, forward_input};

/// How long a client may take from its start until the share is mounted.
pub const MOUNT_LIMIT: Duration = Duration::from_secs(180);

/// How many lines of the client's console a message of failure shows.
const SHOWN_LINES: usize = 20;

/// What the client does when it has mounted the share.
#[derive(Debug, Clone)]
pub enum Session {
    /// `sh -c COMMAND`, with its three streams apart and its exit status reported.
    Run(String),
    /// A shell on a terminal of the given size.
    Shell {
        /// Rows of the terminal.
        rows: u16,
        /// Columns of the terminal.
        columns: u16,
        /// The terminal's type, as in `TERM`.
        terminal: String,
    },
}

/// What a client VM is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// What messages call the VM.
    pub name: String,
    /// Its RAM.
    pub memory: MemorySize,
    /// What it mounts at `/mnt`, if anything.
    pub server: Option<Server>,
    /// The options of that mount.
    pub mount: Mount,
    /// Servers whose devices it has as well; what is run in it may mount them.
    pub further_servers: Vec<Server>,
    /// Block devices.
    pub disks: Vec<Disk>,
    /// A directory whose tree is added to the client's root.
    pub files: Option<PathBuf>,
    /// Programs of the host that are added to the client's `/usr/bin`, with their libraries.
    pub programs: Vec<String>,
    /// What to do.
    pub session: Session,
}

impl Options {
    /// A client that mounts what `server` serves and runs `command`.
    pub fn run(server: Option<Server>, command: impl Into<String>) -> Self {
        Self {
            name: "client".to_owned(),
            memory: MemorySize::default(),
            server,
            mount: Mount::default(),
            further_servers: Vec::new(),
            disks: Vec::new(),
            files: None,
            programs: Vec::new(),
            session: Session::Run(command.into()),
        }
    }
}

/// QEMU's options for a machine whose memory a vhost-user backend can map.
#[must_use]
pub fn memory_arguments(memory: MemorySize) -> Vec<String> {
    let size = memory.mebibytes();
    vec![
        "-m".to_owned(),
        format!("{size}M"),
        "-object".to_owned(),
        format!("memory-backend-memfd,id=ram,size={size}M,share=on"),
        "-machine".to_owned(),
        "q35,memory-backend=ram".to_owned(),
    ]
}

/// A path as a value in one of QEMU's option lists, where a comma is doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// Ends a client VM from another thread.
#[derive(Debug, Clone)]
pub struct Stopper(Sender<Event>);

impl Stopper {
    /// Makes [`ClientVm::wait`] return this error.
    pub fn stop(&self, why: anyhow::Error) {
        // Fails only when the client VM is gone, and then there is nothing to stop.
        let _ = self.0.send(Event::Stopped(why));
    }
}

/// A running client VM. Dropping it kills it.
#[derive(Debug)]
pub struct ClientVm {
    process: Process,
    sender: Sender<Event>,
    events: Receiver<Event>,
    has_share: bool,
    mounted: bool,
    status: Option<u8>,
    /// Output streams that have not ended yet.
    open_outputs: usize,
}

impl ClientVm {
    /// Boots a client VM, whose command or shell gets `streams`. Returns when QEMU runs.
    ///
    /// # Errors
    /// One clear message: something that provisioning makes is missing, a file for the client's root cannot be
    /// read, QEMU cannot be started.
    pub fn start(options: &Options, streams: Streams) -> Result<Self> {
        let end_mark = streams::end_mark().context("cannot read /dev/urandom")?;
        let archive = root::build(options, &end_mark)?;
        let archive = in_memory(&archive).context("cannot hold the client's root in memory")?;

        let accelerator = Accelerator::choose()?;
        let mut command = qemu::Command::new(&options.name)?;
        let archive = command.pass(archive);
        command
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"])
            // So that who looks at its threads can tell the emulated processor's.
            .args(["-name", "client,debug-threads=on"])
            .args(["-accel", accelerator.name(), "-cpu", accelerator.processor()])
            .args(memory_arguments(options.memory))
            .arg("-kernel")
            .arg(client_kernel::unpacked(&workspace::client_kernel()?)?)
            .args(["-initrd".to_owned(), format!("/proc/self/fd/{archive}")])
            .args(["-append", "console=ttyS0 loglevel=4 panic=-1 random.trust_cpu=on"])
            .args(["-device", "virtio-serial-pci"]);
        for (number, server) in options.server.iter().chain(&options.further_servers).enumerate() {
            command.args(server.arguments(&format!("server-{number}"), options.mount.readonly));
        }
        command.args(disk::arguments(&options.disks)?);

        let (sender, events) = channel();
        let control = port(&mut command, "control", "virtserialport,name=skerry.control")?;
        follow_control(control, sender.clone());
        let open_outputs = match options.session {
            Session::Run(_) => {
                let input = port(&mut command, "stdin", "virtserialport,name=skerry.stdin")?;
                let output = port(&mut command, "stdout", "virtserialport,name=skerry.stdout")?;
                let errors = port(&mut command, "stderr", "virtserialport,name=skerry.stderr")?;
                forward_input(b"begin\n", streams.stdin, input);
                follow_output(output, end_mark.clone(), streams.stdout, sender.clone());
                follow_output(errors, end_mark, streams.stderr, sender.clone());
                2
            }
            Session::Shell { .. } => {
                let terminal = port(&mut command, "terminal", "virtconsole")?;
                let input = terminal.try_clone().context("cannot duplicate a socket")?;
                forward_input(b"", streams.stdin, input);
                follow_output(terminal, end_mark, streams.stdout, sender.clone());
                0
            }
        };
        let process = command.spawn(Stdio::null(), Stdio::piped(), Stdio::piped())?;
        let has_share = options.server.is_some();
        Ok(Self { process, sender, events, has_share, mounted: false, status: None, open_outputs })
    }

    /// The process id of its QEMU.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// A handle that ends this client VM from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.sender.clone())
    }

    /// Waits until the share is mounted, for at most `limit`.
    ///
    /// # Errors
    /// If it cannot be mounted, the VM ends, or the time is over; with the last lines of the client's console.
    pub fn wait_until_mounted(&mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        while !self.mounted {
            let left = end.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => self.take(event)?,
                Err(RecvTimeoutError::Timeout) => {
                    let what = if self.has_share { "mounted the volume" } else { "booted" };
                    let why =
                        format!("the {} VM has not {what} in {} s", self.process.name(), limit.as_secs());
                    return Err(self.with_console(why));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            }
        }
        Ok(())
    }

    /// Waits for the end of the command or shell, and of its output, and gives its exit status: 128 + n if
    /// signal n ended it.
    ///
    /// # Errors
    /// If the VM ends before that, its output cannot be written, or a [`Stopper`] was used.
    pub fn wait(&mut self) -> Result<u8> {
        self.wait_until_mounted(MOUNT_LIMIT)?;
        loop {
            if let Some(status) = self.status.filter(|_| self.open_outputs == 0) {
                self.process.kill();
                return Ok(status);
            }
            match self.events.recv() {
                Ok(event) => self.take(event)?,
                Err(_) => return Err(self.ended()),
            }
        }
    }

    /// Kills the VM as it is. Harmless if it has ended.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Mounted => self.mounted = true,
            Event::Exited(status) => self.status = Some(status),
            Event::OutputEnded => self.open_outputs = self.open_outputs.saturating_sub(1),
            Event::Failed(why) => {
                return Err(self.with_console(format!("the {} VM {why}", self.process.name())));
            }
            Event::OutputRefused(error) => {
                return Err(anyhow!(error).context("cannot write the client's output"));
            }
            Event::Stopped(why) => return Err(why),
            // The end of the control port is the end of QEMU, unless everything has been said.
            Event::ControlEnded if self.status.is_none() => return Err(self.ended()),
            Event::ControlEnded => {}
        }
        Ok(())
    }

    /// The message for a QEMU that has ended, or is about to, on its own.
    fn ended(&mut self) -> anyhow::Error {
        // Whoever stopped it knows better why.
        if let Ok(Event::Stopped(why)) = self.events.recv_timeout(Duration::from_millis(100)) {
            return why;
        }
        let exit = match self.process.wait_for(Duration::from_secs(2)) {
            Ok(Some(exit)) => exit.to_string(),
            _ => "it closed its control port".to_owned(),
        };
        let when = match (self.mounted, self.has_share) {
            (true, _) => "before its command did",
            (false, true) => "before it mounted the volume",
            (false, false) => "before it was ready",
        };
        self.with_console(format!("the {} VM ended {when}: {exit}", self.process.name()))
    }

    fn with_console(&self, why: String) -> anyhow::Error {
        let lines = self.process.transcript().last(SHOWN_LINES);
        if lines.is_empty() {
            return anyhow!("{why}; its console is empty");
        }
        anyhow!("{why}; the last lines of its console:\n    {}", lines.join("\n    "))
    }
}

/// What a command that ran in a client VM left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; 128 + n if signal n ended it.
    pub status: u8,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
}

/// Runs a client VM to its end, with nothing on the standard input of its command.
///
/// # Errors
/// As [`ClientVm::start`] and [`ClientVm::wait`].
pub fn output(options: &Options) -> Result<Output> {
    let (stdout, stderr) = (streams::Kept::default(), streams::Kept::default());
    let streams = Streams {
        stdin: Box::new(io::empty()),
        stdout: Box::new(stdout.clone()),
        stderr: Box::new(stderr.clone()),
    };
    let status = ClientVm::start(options, streams)?.wait()?;
    Ok(Output { status, stdout: stdout.take(), stderr: stderr.take() })
}

/// Gives the VM a serial port; what is returned is the host's end of it.
fn port(command: &mut qemu::Command, name: &str, device: &str) -> Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair().context("cannot make a pair of sockets")?;
    let number = command.pass(theirs.into());
    command
        .args(["-chardev".to_owned(), format!("socket,id={name},fd={number}")])
        .args(["-device".to_owned(), format!("{device},chardev={name}")]);
    Ok(ours)
}

/// A file without a name, which holds `data`.
fn in_memory(data: &[u8]) -> Result<std::os::fd::OwnedFd> {
    let descriptor = rustix::fs::memfd_create("client-root", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(descriptor);
    io::Write::write_all(&mut file, data)?;
    if file.metadata()?.len() != data.len() as u64 {
        bail!("short write");
    }
    Ok(file.into())
}
