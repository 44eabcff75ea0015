// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command line of `skerry`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use log::LevelFilter;
use skerry::poll::DEFAULT_BOUND;
use skerry::server::ExportList;
use skerry_host::bridge::SLOTS;
use skerry_host::client_vm::{LARGEST_MSIZE, MemorySize};

/// Skerry: an ext4 volume, served over 9P by a virtual machine that does nothing else.
#[derive(Debug, Parser)]
#[command(name = "skerry", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the server and a Linux client VM that mounts the volume at /mnt; give a shell in the client.
    Vm(Vm),
    /// Serve the volume from a process of the host, in a sandbox, to client VMs that others start.
    Serve(Serve),
    /// Measure: prints a table, leaves JSON and charts in target/bench.
    Bench {
        /// What to measure.
        #[command(subcommand)]
        benchmark: Benchmark,
    },
}

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub enum Benchmark {
    /// The service VM's start, from QEMU's to the first answer, in parts; the size of the image; the memory that is touched.
    Boot {
        /// Only see that it works: two starts.
        #[arg(long)]
        quick: bool,
    },
    /// The core in this process, without Linux and QEMU, and other 9P servers: requests a second.
    Core {
        /// Only see that it works: the figures mean little.
        #[arg(long)]
        quick: bool,
    },
    /// Reads and writes of a Linux client, by fio: both modes, VirtFS, virtiofsd, virtio-blk and IDE, beside a published table.
    VirtfsTable {
        /// Only see that it works: the figures mean little.
        #[arg(long)]
        quick: bool,
    },
    /// How long system calls of a Linux client take, with the same peers as virtfs-table.
    Latency {
        /// Only see that it works: the figures mean little.
        #[arg(long)]
        quick: bool,
    },
    /// What people do to a tree of sources in a Linux client, with the same peers as virtfs-table.
    Meta {
        /// Only see that it works: the figures mean little.
        #[arg(long)]
        quick: bool,
    },
    /// What a read or write of a Linux client takes of the processors, and who takes it, with the same peers as virtfs-table.
    Shares {
        /// Only see that it works: the figures mean little.
        #[arg(long)]
        quick: bool,
    },
    /// Instructions of the core for each request, counted by callgrind: the same on every machine.
    Instructions {
        /// Count in a service VM instead, by a plugin of QEMU's translator.
        #[arg(long)]
        service_vm: bool,
        /// Fail if a request takes more than 10 % above what host/instructions.json says.
        #[arg(long)]
        check: bool,
        /// Write the counts to host/instructions.json.
        #[arg(long, conflicts_with = "check")]
        write: bool,
    },
    /// How costs grow: with clients, the size of the volume, files in a directory, extents of a file.
    Scale {
        /// Only see that it works: small sizes.
        #[arg(long)]
        quick: bool,
    },
    /// Serve requests whose instructions are counted: what `instructions` runs under callgrind.
    #[command(hide = true)]
    Counted {
        /// The volume.
        image: PathBuf,
        /// Which row of the table.
        row: usize,
    },
}

/// The options of `skerry serve`.
#[derive(Debug, Args)]
#[command(after_help = SERVE_AFTER_HELP)]
pub struct Serve {
    /// The ext4 image to serve.
    #[arg(long, value_name = "IMG")]
    pub volume: PathBuf,
    /// Where a client's QEMU connects (vhost-user); may be given several times, one for each client.
    #[arg(long = "socket", value_name = "PATH", required = true)]
    pub sockets: Vec<PathBuf>,
    /// The mount tag of a socket; the first is the first socket's, and so on. Without: skerry.
    #[arg(long = "tag", value_name = "NAME")]
    pub tags: Vec<String>,
    /// One more socket, whose client may also attach to `ctl`: statistics, and the state of the volume.
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Export the directory PATH of the volume instead of all of it; may be given several times.
    #[arg(long = "export", value_name = "PATH[:OPTION,...]", value_parser = export)]
    pub exports: Vec<String>,
    /// Write nothing to the volume.
    #[arg(long)]
    pub readonly: bool,
    /// How long a ring is looked at after a request, at most, before its thread sleeps, in microseconds. How long it is, tunes itself.
    /// 0: not at all.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BOUND / 1000, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub poll_us: u64,
    /// What is logged to standard error.
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub log_level: Level,
}

const SERVE_AFTER_HELP: &str = "\
A client's QEMU needs memory that is shared and sealed, and the 9P device:
  -object memory-backend-memfd,id=ram,size=SIZE,share=on
  -machine q35,memory-backend=ram -chardev socket,id=share,path=PATH
  -device vhost-user-test-device-pci,virtio-id=9,num_vqs=1,vq_size=128,\
config_size=N,chardev=share   (N: 2 + the length of the tag)

What is written survives whatever happens to this process. Power loss survives
what was synced. SIGINT or SIGTERM ends it and leaves a clean volume; a second
one ends it at once. The sockets' files stay; the next server replaces them.

Once it serves, it opens no files and makes no system calls but those that
docs/threat-model.md lists: SIGSYS ends it if it tries.

Exit status: 128 + n after signal n; 125 if it fails; 2 for a wrong command
line.";

/// The options of `skerry vm`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Vm {
    /// Serve a volume that is made of DIR (by mkfs.ext4 -d) and removed at the end, with all changes.
    #[arg(long, value_name = "DIR", conflicts_with = "volume")]
    pub import: Option<PathBuf>,
    /// Serve this ext4 image. Without this and --import: a demo, which keeps its changes.
    #[arg(long, value_name = "IMG")]
    pub volume: Option<PathBuf>,
    /// Write nothing to the volume, and mount it read-only.
    #[arg(long)]
    pub readonly: bool,
    /// Export the directory PATH of the volume instead of all of it; may be given several times. The client mounts the first.
    #[arg(long = "export", value_name = "PATH[:OPTION,...]", value_parser = export)]
    pub exports: Vec<String>,
    /// Run CMD (by sh -c) in the client instead of a shell; exit with its exit status.
    #[arg(long, value_name = "CMD", conflicts_with = "no_client")]
    pub run: Option<String>,
    /// Add the files in DIR to the client's root: programs, libraries, data.
    #[arg(long, value_name = "DIR", conflicts_with = "no_client")]
    pub files: Option<PathBuf>,
    /// Where the server runs: in a service VM of its own, or as a process of the host in a sandbox (see `skerry serve`).
    #[arg(long, value_name = "MODE", default_value = "vm")]
    pub mode: Mode,
    /// Start only the server, and print how to attach a client.
    #[arg(long)]
    pub no_client: bool,
    /// How many sockets to offer with --no-client: one for each client.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "no_client", value_parser = clap::value_parser!(u8).range(1..=SLOTS as i64))]
    pub sockets: u8,
    /// RAM of the client VM: a power of two from 128M to 8G.
    #[arg(long, value_name = "SIZE", default_value_t)]
    pub memory: MemorySize,
    /// The largest 9P message that the client's mount asks for, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = LARGEST_MSIZE, value_parser = clap::value_parser!(u32).range(4096..=LARGEST_MSIZE as i64))]
    pub msize: u32,
    /// What is logged to standard error; `debug` also shows the client kernel's console.
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub log_level: Level,
}

const AFTER_HELP: &str = "\
Options of an export: trust (the client's kernel checks what a user may do;
the default), check (the server does), readonly, squash=root:UID:GID,
squash=all:UID:GID. A path has no spaces and no commas.

What is written survives whatever happens to the server. Power loss
survives what was synced, and all of it when the command has ended.

Standard input that is no terminal is the command's; without --run, a shell
in the client reads it. Only the command's output goes to standard output.

Exit status: that of the command or shell (127: not found; 128 + n: ended by
signal n); 125 if Skerry itself fails; 2 for a wrong command line.

Environment: ACCEL=kvm or ACCEL=tcg overrides the choice of accelerator;
SKERRY_QEMU names another QEMU.";

/// An export, as the image will take it.
fn export(text: &str) -> Result<String, String> {
    let mut list = ExportList::new();
    list.add(text).map_err(|error| error.to_string())?;
    let path = list.exports().first().map_or("", |export| export.path());
    if path.contains(|character: char| character.is_ascii_whitespace() || character == ',') {
        return Err("a path with a space or a comma cannot be told to the image or to mount".to_owned());
    }
    Ok(text.to_owned())
}

/// Where the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// In a service VM.
    Vm,
    /// In a process of the host.
    Host,
}

/// Log levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Only errors.
    Error,
    /// And warnings.
    Warn,
    /// And what happens.
    Info,
    /// And what it happens with.
    Debug,
    /// And everything.
    Trace,
}

impl Level {
    /// The filter of the `log` crate.
    pub fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::Error,
            Self::Warn => LevelFilter::Warn,
            Self::Info => LevelFilter::Info,
            Self::Debug => LevelFilter::Debug,
            Self::Trace => LevelFilter::Trace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn two_volumes_are_refused() {
        assert!(Cli::try_parse_from(["skerry", "vm", "--import", "d", "--volume", "i"]).is_err());
    }

    #[test]
    fn an_export_is_checked_before_anything_is_started() {
        let exports = ["skerry", "vm", "--export", "/home:check", "--export", "/pub:readonly"];
        let Command::Vm(vm) = Cli::try_parse_from(exports).unwrap().command else { panic!("no vm") };
        assert_eq!(vm.exports, ["/home:check", "/pub:readonly"]);
        for wrong in ["home", "/a b", "/a:loud"] {
            assert!(Cli::try_parse_from(["skerry", "vm", "--export", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_memory_size_that_cannot_be_mapped_is_refused_with_the_nearest() {
        let error = Cli::try_parse_from(["skerry", "vm", "--memory", "600M"]).unwrap_err().to_string();
        assert!(error.contains("use 512M or 1G"), "{error}");
    }
}
