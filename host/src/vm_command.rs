// SPDX-License-Identifier: MIT OR Apache-2.0

//! `skerry vm`: a volume, its server, and a client VM with a command or a shell in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use skerry_host::bridge::{self, Socket};
use skerry_host::client_vm::{
    ClientVm, MOUNT_LIMIT, Mount, Options, Server, Session, Stopper, Streams, memory_arguments,
    share_arguments,
};
use skerry_host::running_server::{self, RunningServer};
use skerry_host::{serve, service_vm, volume_image};
use tempfile::NamedTempFile;

use crate::cli::{Level, Mode, Vm};
use crate::interrupt::Interrupts;
use crate::say;
use crate::terminal::{self, RawTerminal};

/// RAM of the service VM, in MiB.
const SERVICE_MEMORY: u32 = 32;

/// How often the server is looked after.
const WATCH: Duration = Duration::from_millis(200);

/// How many lines of the server's console a message shows.
const SHOWN_LINES: usize = 20;

/// Runs the command; gives the exit status.
pub fn run(vm: &Vm) -> Result<u8> {
    let interrupts = Interrupts::catch()?;
    let volume = Volume::open(vm)?;
    interrupts.check()?;

    let directory = tempfile::Builder::new()
        .prefix("skerry-")
        .tempdir()
        .context("cannot make a temporary directory for the sockets")?;
    let sockets: Vec<Socket> = (0..vm.sockets).map(|number| socket(directory.path(), number)).collect();
    let mut server = start(vm, volume.path(), &sockets)?;
    interrupts.check()?;
    say!("{} runs (process {})", server.name(), server.process_id());
    if server.is_readonly() && !vm.readonly {
        say!("{} cannot be written; it is served read-only", volume.path().display());
    }
    let mount = mount(vm, server.is_readonly());
    for socket in &sockets {
        say!("serving the volume as {:?} at {}", socket.tag, socket.path.display());
    }
    let status = if vm.no_client {
        wait_for_clients(vm, &mount, &sockets, &mut server, &interrupts)
    } else {
        let socket = sockets.into_iter().next().context("no socket")?;
        let client = client(vm, mount, socket);
        attend(&client, vm.run.is_none(), &mut server, &interrupts)
    };
    shut_down(server);
    status
}

/// Starts the server in the mode that was asked for.
fn start(vm: &Vm, volume: &Path, sockets: &[Socket]) -> Result<RunningServer> {
    let (readonly, exports, sockets) = (vm.readonly, vm.exports.clone(), sockets.to_vec());
    let log_level = log_level(vm.log_level).to_owned();
    let options = match vm.mode {
        Mode::Vm => {
            say!("booting the service VM ({SERVICE_MEMORY} MiB) with {}", volume.display());
            let options = service_vm::Options::new(volume)?;
            let service =
                service_vm::Options { memory: SERVICE_MEMORY, log_level, readonly, exports, ..options };
            running_server::Options::Vm(bridge::Options { service, sockets })
        }
        Mode::Host => {
            say!("starting the server with {}", volume.display());
            let program = std::env::current_exe().context("cannot find this program, to start it again")?;
            let serve = serve::Options { readonly, exports, ..serve::Options::new(volume, sockets) };
            running_server::Options::Host { program, serve, log_level }
        }
    };
    RunningServer::start(&options)
}

/// Leaves a volume behind that is clean, if the server still runs.
fn shut_down(mut server: RunningServer) {
    // One that has ended was told of, and can do nothing more.
    if !matches!(server.wait_for(Duration::ZERO), Ok(None)) {
        return;
    }
    if let Err(error) = server.shut_down() {
        say!("the volume was not brought to rest ({error:#}); its journal is replayed when it is used next");
    }
}

/// How a client mounts what is served: the first export, if there are any.
fn mount(vm: &Vm, readonly: bool) -> Mount {
    let path = |export: &String| export.split(':').next().map(str::to_owned);
    Mount { msize: vm.msize, readonly, aname: vm.exports.first().and_then(path), ..Mount::default() }
}

/// The volume to serve.
enum Volume {
    /// The user's, or the demo.
    Kept(PathBuf),
    /// One that goes when the session ends.
    Imported(NamedTempFile),
}

impl Volume {
    fn open(vm: &Vm) -> Result<Self> {
        if let Some(directory) = &vm.import {
            say!("making a volume of {}", directory.display());
            return Ok(Self::Imported(volume_image::import(directory)?));
        }
        let Some(path) = &vm.volume else {
            return Ok(Self::Kept(volume_image::demo()?));
        };
        let metadata = fs::metadata(path).with_context(|| {
            format!("cannot open the volume {}; make one with mkfs.ext4, or use --import DIR", path.display())
        })?;
        if !metadata.is_file() {
            bail!("the volume {} is no regular file; --volume takes an image file", path.display());
        }
        Ok(Self::Kept(path.clone()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Imported(file) => file.path(),
        }
    }
}

fn socket(directory: &Path, number: u8) -> Socket {
    Socket { path: directory.join(format!("client-{number}")), tag: "skerry".to_owned() }
}

/// The image's name for a level.
fn log_level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn client(vm: &Vm, mount: Mount, socket: Socket) -> Options {
    let interactive = vm.run.is_none() && terminal::is_interactive();
    let (rows, columns) = terminal::size();
    let session = match &vm.run {
        Some(command) => Session::Run(command.clone()),
        None if interactive => {
            let terminal = std::env::var("TERM").unwrap_or_else(|_| "linux".to_owned());
            Session::Shell { rows, columns, terminal }
        }
        None => Session::Run("exec /bin/sh".to_owned()),
    };
    Options {
        memory: vm.memory,
        mount,
        files: vm.files.clone(),
        session,
        ..Options::run(Some(Server::VhostUser(socket)), "")
    }
}

/// Boots the client and stays with it to its end.
fn attend(
    options: &Options,
    is_shell: bool,
    server: &mut RunningServer,
    interrupts: &Interrupts,
) -> Result<u8> {
    let streams = Streams {
        // A terminal is the shell's; a command has none.
        stdin: if terminal::is_interactive() && !is_shell {
            Box::new(io::empty())
        } else {
            Box::new(io::stdin())
        },
        stdout: Box::new(io::stdout()),
        stderr: Box::new(io::stderr()),
    };
    say!("booting the client VM ({})", options.memory);
    let mut client = ClientVm::start(options, streams)?;
    interrupts.stop_with(client.stopper())?;
    let stopper = client.stopper();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| watch(server, &stopper, &over));
        let status = wait(options, &mut client);
        over.store(true, Ordering::Relaxed);
        status
    })
}

fn wait(options: &Options, client: &mut ClientVm) -> Result<u8> {
    client.wait_until_mounted(MOUNT_LIMIT)?;
    let access = if options.mount.readonly { ", read-only" } else { "" };
    say!("the client (process {}) has the volume at /mnt{access}", client.id());
    let Session::Shell { .. } = options.session else { return client.wait() };
    say!("this is a shell in the client; Ctrl-D ends everything");
    let terminal = RawTerminal::enter().context("cannot put the terminal into raw mode")?;
    let status = client.wait();
    drop(terminal);
    status
}

/// Stops the client when the server ends, until the session is over.
fn watch(server: &mut RunningServer, stopper: &Stopper, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        if let Err(error) = alive(server) {
            stopper.stop(error);
            return;
        }
    }
}

/// Fails when the server has ended; takes [`WATCH`] if not.
fn alive(server: &mut RunningServer) -> Result<()> {
    let Some(exit) = server.wait_for(WATCH)? else { return Ok(()) };
    let lines = server.transcript().last(SHOWN_LINES).join("\n    ");
    Err(anyhow!("{} ended: {exit}; the last lines of its console:\n    {lines}", server.name()))
}

/// Serves clients that others start, until a signal comes.
fn wait_for_clients(
    vm: &Vm,
    mount: &Mount,
    sockets: &[Socket],
    server: &mut RunningServer,
    interrupts: &Interrupts,
) -> Result<u8> {
    for socket in sockets {
        let arguments = [memory_arguments(vm.memory), share_arguments(socket)].concat();
        say!("a client's QEMU needs: {}", arguments.join(" "));
        say!("and in the client: mount -t 9p -o {mount} {} /mnt", socket.tag);
    }
    say!("Ctrl-C ends {}", server.name());
    loop {
        alive(server)?;
        interrupts.check()?;
    }
}
