// SPDX-License-Identifier: MIT OR Apache-2.0

//! A Linux client with everything that is compared: in one boot it has Skerry in both modes, VirtFS, virtiofsd, and its own ext4 on
//! virtio-blk and on IDE, each below `/mnt`. What is measured takes turns, so that what else the machine does hits all alike.
//!
//! All of them begin with the same tree, in files of one file system of the host, whose page cache keeps all of it. The two directories
//! are VirtFS's and virtiofsd's; the four volumes are made of the same tree by `mkfs.ext4`.
//! Relies on `host/provision-bench.sh` for virtiofsd and for the root that programs run in.

mod console;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::{NamedTempFile, TempDir};

use super::chart::Bars;
use crate::bridge;
use crate::client_vm::{self, Disk, DiskDevice, Server};
use crate::qemu;
use crate::running_server::{self, RunningServer};
use crate::vhost_user::Socket;
use crate::{serve, service_vm, volume_image, workspace};
use console::Console;

/// One of those that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Skerry, the service VM.
    Vm,
    /// Skerry, a process of the host.
    Host,
    /// QEMU's own 9P server.
    VirtFs,
    /// The server of virtio-fs.
    Virtiofsd,
    /// The client's ext4 on a virtio-blk disk.
    VirtioBlk,
    /// The client's ext4 on an IDE disk.
    Ide,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Vm, Self::Host, Self::VirtFs, Self::Virtiofsd, Self::VirtioBlk, Self::Ide];
    /// Those that speak 9P, and so have an msize.
    pub const WITH_MSIZE: [Self; 3] = [Self::Vm, Self::Host, Self::VirtFs];

    /// What tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vm => "Skerry vm",
            Self::Host => "Skerry host",
            Self::VirtFs => "VirtFS",
            Self::Virtiofsd => "virtiofsd",
            Self::VirtioBlk => "virtio-blk",
            Self::Ide => "IDE",
        }
    }

    /// The name of its directory below `/mnt` in the client, which is its mount tag too.
    #[must_use]
    pub fn directory(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Host => "host",
            Self::VirtFs => "virtfs",
            Self::Virtiofsd => "virtiofsd",
            Self::VirtioBlk => "virtio-blk",
            Self::Ide => "ide",
        }
    }

    /// Where it stands in [`Peer::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// What the client gives to `mount` before the directory. Of the 9P peers all options are the kernel's own choice but `cache` and,
    /// if it is given, `msize`.
    fn mount_arguments(self, msize: Option<u32>) -> String {
        let tag = self.directory();
        match self {
            Self::Vm | Self::Host | Self::VirtFs => {
                let msize = msize.map(|msize| format!(",msize={msize}")).unwrap_or_default();
                format!("-t 9p -o trans=virtio,version=9p2000.L,cache=none{msize} {tag}")
            }
            Self::Virtiofsd => format!("-t virtiofs {tag}"),
            Self::VirtioBlk => "-t ext4 /dev/vdb".to_owned(),
            Self::Ide => "-t ext4 /dev/sda".to_owned(),
        }
    }
}

/// The peers in the order in which round number `round` takes them: each is first in turn.
#[must_use]
pub fn order(peers: &[Peer], round: usize) -> Vec<Peer> {
    let mut order = peers.to_vec();
    order.rotate_left(round % peers.len().max(1));
    order
}

/// A chart with a bar for each of `peers`: of each of `rows`, which has a name, the `value` of what was measured with the peer.
pub(super) fn bars<'a, T>(
    title: &'a str,
    unit: &'a str,
    peers: &[Peer],
    rows: impl Iterator<Item = (String, &'a [T; Peer::ALL.len()])>,
    value: impl Fn(&T) -> Option<f64>,
) -> Bars<'a>
where
    T: 'a,
{
    let values = |of: &[T; Peer::ALL.len()]| peers.iter().map(|peer| value(&of[peer.index()])).collect();
    Bars {
        title,
        unit,
        series: peers.iter().map(|peer| peer.name().to_owned()).collect(),
        groups: rows.map(|(name, of)| (name, values(of))).collect(),
    }
}

/// The client, and the servers that it has. Dropping it kills all of them.
#[derive(Debug)]
pub struct Machine {
    // First, so that it goes first.
    console: Console,
    vm: RunningServer,
    host: RunningServer,
    virtiofsd: qemu::Process,
    _volumes: Vec<NamedTempFile>,
    _directory: TempDir,
}

impl Machine {
    /// Boots it. `fill` makes the tree that all peers begin with; what it returns is in the client's `/tmp/programs`: pairs of a
    /// name and what is in the file, which is executable.
    ///
    /// Call it from a thread that lives as long as the machine: the servers are killed when that thread ends.
    ///
    /// # Errors
    /// If something is missing, or does not start.
    pub fn start(fill: impl Fn(&Path) -> Result<()>, programs: &[(&str, &[u8])]) -> Result<Self> {
        eprintln!("skerry: booting the service VM, the servers and the client");
        let userland = workspace::target().join("tools/userland.ext4");
        let virtiofsd = workspace::target().join("tools/bin/virtiofsd");
        for path in [&userland, &virtiofsd] {
            if !path.exists() {
                bail!("{} is missing; run host/provision-bench.sh", path.display());
            }
        }
        let parent = workspace::target().join("bench");
        fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let directory = tempfile::Builder::new().prefix("peers-").tempdir_in(&parent)?;
        let trees = ["virtfs", "virtiofsd"].map(|name| directory.path().join(name));
        for tree in &trees {
            fs::create_dir(tree)?;
            fill(tree)?;
        }
        let volumes = (0..4).map(|_| volume_image::import(&trees[0])).collect::<Result<Vec<_>>>()?;
        let [for_vm, for_host, for_virtio_blk, for_ide] = volumes.as_slice() else {
            bail!("four volumes are made");
        };
        let [virtfs_tree, virtiofsd_tree] = &trees;

        let socket = |peer: Peer| Socket {
            path: directory.path().join(format!("{}.socket", peer.directory())),
            tag: peer.directory().to_owned(),
        };
        let vm = RunningServer::start(&running_server::Options::Vm(bridge::Options {
            service: service_vm::Options::new(for_vm.path())?,
            sockets: vec![socket(Peer::Vm)],
        }))?;
        let host = RunningServer::start(&running_server::Options::Host {
            program: std::env::current_exe().context("cannot find this program, to start it again")?,
            serve: serve::Options::new(for_host.path(), vec![socket(Peer::Host)]),
            log_level: "warn".to_owned(),
        })?;
        let virtiofsd = start_virtiofsd(&virtiofsd, virtiofsd_tree, &socket(Peer::Virtiofsd).path)?;

        let files = directory.path().join("files");
        fs::create_dir_all(files.join("programs"))?;
        for (name, content) in programs {
            let path = files.join("programs").join(name);
            fs::write(&path, content)?;
            let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&path, executable)?;
        }
        let virtfs =
            Server::VirtFs { directory: virtfs_tree.clone(), tag: Peer::VirtFs.directory().to_owned() };
        let options = client_vm::Options {
            further_servers: vec![
                Server::VhostUser(socket(Peer::Vm)),
                Server::VhostUser(socket(Peer::Host)),
                virtfs,
                Server::VirtioFs(socket(Peer::Virtiofsd)),
            ],
            disks: vec![
                Disk::read_only(&userland),
                Disk::writable(for_virtio_blk.path()),
                Disk { device: DiskDevice::Ide, ..Disk::writable(for_ide.path()) },
            ],
            files: Some(files),
            ..client_vm::Options::run(None, console::LOOP)
        };
        let mut console = Console::start(&options)?;
        // The kernel looks for IDE disks when the client is up already.
        console.run("until [ -b /dev/sda ]; do sleep 0.05; done")?;
        Ok(Self { console, vm, host, virtiofsd, _volumes: volumes, _directory: directory })
    }

    /// Mounts `peers` below `/mnt`, with this msize where there is one, or the kernel's choice.
    ///
    /// # Errors
    /// If one cannot be mounted.
    pub fn mount(&mut self, peers: &[Peer], msize: Option<u32>) -> Result<()> {
        for &peer in peers {
            let (arguments, directory) = (peer.mount_arguments(msize), peer.directory());
            self.console
                .run(&format!(
                    "mkdir -p /userland/mnt/{directory}; mount {arguments} /userland/mnt/{directory}"
                ))
                .with_context(|| format!("cannot mount {}", peer.name()))?;
        }
        Ok(())
    }

    /// Unmounts `peers`.
    ///
    /// # Errors
    /// If one is in use.
    pub fn unmount(&mut self, peers: &[Peer]) -> Result<()> {
        for peer in peers {
            self.console.run(&format!("umount /userland/mnt/{}", peer.directory()))?;
        }
        Ok(())
    }

    /// The largest message that the client's kernel has agreed on with `peer`, in bytes.
    ///
    /// # Errors
    /// If it has no msize.
    pub fn msize(&mut self, peer: Peer) -> Result<u32> {
        let mounts = self.console.run("cat /proc/mounts")?;
        let place = format!(" /userland/mnt/{} 9p ", peer.directory());
        let line = mounts.lines().find(|line| line.contains(&place));
        let options = line.and_then(|line| line.split(' ').nth(3)).unwrap_or_default();
        let msize = options.split(',').find_map(|option| option.strip_prefix("msize=")).map(str::parse);
        msize.unwrap_or(Ok(DEFAULT_MSIZE)).with_context(|| format!("{line:?}"))
    }

    /// Runs one line of shell in the root of the userland, and gives its standard output.
    ///
    /// # Errors
    /// If it fails.
    pub fn run(&mut self, line: &str) -> Result<String> {
        self.console.run(&format!("inside '{}'", line.replace('\'', r"'\''")))
    }

    /// Has each of all peers, which are mounted, in its turn run what `command` says, `rounds` times. It writes `lines` lines; `take`
    /// gets each of them, with its number.
    ///
    /// # Errors
    /// If it fails, or writes more or less; what `take` says.
    pub fn in_turns(
        &mut self,
        rounds: usize,
        lines: usize,
        command: impl Fn(Peer) -> String,
        mut take: impl FnMut(Peer, usize, &str) -> Result<()>,
    ) -> Result<()> {
        for round in 0..rounds {
            for peer in order(&Peer::ALL, round) {
                let said = self.run(&command(peer)).with_context(|| peer.name())?;
                ensure!(said.lines().count() == lines, "{}: {said}", peer.name());
                said.lines().enumerate().try_for_each(|(number, line)| take(peer, number, line))?;
            }
            eprintln!("skerry: round {} of {rounds}", round + 1);
        }
        Ok(())
    }

    /// The process id of the client's QEMU.
    #[must_use]
    pub fn client_process(&self) -> u32 {
        self.console.process()
    }

    /// The process id of `peer`'s server, where it is a process of its own: for the service VM, its QEMU.
    #[must_use]
    pub fn server_process(&self, peer: Peer) -> Option<u32> {
        match peer {
            Peer::Vm => Some(self.vm.process_id()),
            Peer::Host => Some(self.host.process_id()),
            Peer::Virtiofsd => Some(self.virtiofsd.id()),
            Peer::VirtFs | Peer::VirtioBlk | Peer::Ide => None,
        }
    }

    /// Writes a text file below `/tmp` of that root.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_file(&mut self, name: &str, text: &str) -> Result<()> {
        let lines: Vec<String> = text.lines().map(|line| format!("'{line}'")).collect();
        self.console.run(&format!("printf '%s\\n' {} >/userland/tmp/{name}", lines.join(" "))).map(drop)
    }

    /// The orderly end, after everything is unmounted.
    ///
    /// # Errors
    /// If a server does not end as it should.
    pub fn finish(mut self) -> Result<()> {
        self.console.end()?;
        self.vm.shut_down().context("the service VM")?;
        self.host.shut_down().context("host mode")
    }
}

/// The msize that Linux chooses (`DEFAULT_MSIZE`, since 5.16), in bytes. `/proc/mounts` does not show it.
pub const DEFAULT_MSIZE: u32 = 128 << 10;

/// How long virtiofsd may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts virtiofsd. The client is to keep nothing, as the 9P clients do; there is no sandbox, which would need a user with rights that
/// VirtFS does without as well; and what is opened for direct I/O it opens without, so that the host's page cache has it.
fn start_virtiofsd(program: &Path, tree: &Path, socket: &Path) -> Result<qemu::Process> {
    let mut command = qemu::Command::for_program("virtiofsd", program);
    let value = |name: &str, value: &Path| {
        let mut argument = std::ffi::OsString::from(name);
        argument.push(value);
        argument
    };
    command.args([value("--shared-dir=", tree), value("--socket-path=", socket)]).args([
        "--cache=never",
        "--sandbox=none",
        "--log-level=warn",
    ]);
    let mut process = command.spawn_logged()?;
    let end = Instant::now() + PATIENCE;
    while !socket.exists() {
        if let Some(exit) = process.try_wait()? {
            bail!("virtiofsd ended: {exit}; it said: {}", process.transcript().last(3).join("; "));
        }
        if Instant::now() > end {
            bail!("virtiofsd does not listen after {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(process)
}
