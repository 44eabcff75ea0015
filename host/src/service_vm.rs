// SPDX-License-Identifier: MIT OR Apache-2.0

//! The service VM: QEMU with the image, the volume as persistent memory, the control ring, and a root port for each client.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use skerry::server::ExportList;

use crate::client::{Client, RingTransport};
use crate::control_ring::{self, ControlRing};
use crate::ivshmem;
use crate::qemu::{self, Accelerator, Exit, Process, Transcript};
use crate::qmp::Qmp;
use crate::ring_driver::Requests;
use crate::volume::Volume;

/// Clients' root ports: one for each slot.
pub const PORTS: u8 = 8;

/// The first root port's device number on bus 0; the others follow.
pub const FIRST_PORT: u8 = 8;

/// Device memory is placed on boundaries of this size, which the address space must have room for.
const DEVICE_MEMORY_ALIGNMENT: u64 = 1 << 30;

/// The longest command line that the image takes, in bytes (boot/src/pvh.rs).
const LONGEST_COMMAND_LINE: usize = 2048;

/// How long a QEMU that stopped answering may take to end.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// What a service VM is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// The image; [`default_image`] is what `cargo build -p skerry-boot --release` makes.
    pub image: PathBuf,
    /// The volume: a regular file that holds an ext4 file system.
    pub volume: PathBuf,
    /// RAM of the VM, in MiB.
    pub memory: u32,
    /// The image's log level: `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: String,
    /// Nothing is written to the volume.
    pub readonly: bool,
    /// Directories that clients may attach to, each as [`skerry::server::export_options`] has it; none is the whole volume.
    pub exports: Vec<String>,
    /// How QEMU runs the image; `None`: as [`Accelerator::choose`] does.
    pub accelerator: Option<Accelerator>,
    /// More arguments of QEMU.
    pub arguments: Vec<String>,
}

impl Options {
    /// The image that cargo has built, with this volume, all of it, to be written; 32 MiB; logs from `info` on.
    ///
    /// # Errors
    /// As [`default_image`].
    pub fn new(volume: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self {
            image: default_image()?,
            volume: volume.into(),
            memory: 32,
            log_level: "info".to_owned(),
            readonly: false,
            exports: Vec::new(),
            accelerator: None,
            arguments: Vec::new(),
        })
    }

    /// The image's command line.
    fn command_line(&self, readonly: bool) -> Result<String> {
        let mut list = ExportList::new();
        let mut line = format!("log={}", self.log_level);
        if readonly {
            line.push_str(" readonly");
        }
        for export in &self.exports {
            list.add(export).map_err(|error| anyhow!("{error}"))?;
            if export.contains(|character: char| character.is_ascii_whitespace()) {
                bail!(
                    "the export {export:?}: its path has a space, which the image's command line cannot hold"
                );
            }
            line.push_str(" export=");
            line.push_str(export);
        }
        if line.len() > LONGEST_COMMAND_LINE {
            let length = line.len();
            bail!(
                "the exports make a command line of {length} bytes; the image takes {LONGEST_COMMAND_LINE}"
            );
        }
        Ok(line)
    }
}

/// Where cargo leaves the image.
///
/// # Errors
/// If there is none; the message says what to run.
pub fn default_image() -> Result<PathBuf> {
    let path = qemu::source_root().join("target/x86_64-unknown-linux-gnu/release/skerry-image");
    let plain = qemu::source_root().join("target/release/skerry-image");
    [path, plain.clone()].into_iter().find(|path| path.is_file()).with_context(|| {
        format!("no image at {}; run `cargo build -p skerry-boot --release`", plain.display())
    })
}

/// A running service VM. Dropping it kills it.
#[derive(Debug)]
pub struct ServiceVm {
    process: Process,
    volume: Volume,
}

/// The host's connections to a service VM.
#[derive(Debug)]
pub struct Connections {
    /// QEMU's machine protocol.
    pub qmp: Qmp,
    /// The server of the control ring's device. It stays plugged, so clients' kicks are vectors of it.
    pub control: ivshmem::Server,
    /// The control ring.
    pub requests: Requests,
}

impl ServiceVm {
    /// Starts the VM. It boots on its own; [`ServiceVm::connect`] waits for it.
    ///
    /// Call it from a thread that lives as long as the VM: the VM is killed when that thread ends.
    ///
    /// # Errors
    /// One clear message: no image, a volume that is missing, odd-sized or in use, no QEMU, a VM that ends at once.
    pub fn start(options: &Options) -> Result<(Self, Connections)> {
        let accelerator = options.accelerator.map_or_else(Accelerator::choose, Ok)?;
        if !options.image.is_file() {
            bail!("no image at {}; run `cargo build -p skerry-boot --release`", options.image.display());
        }
        let volume = Volume::open(&options.volume, options.readonly)?;
        let line = options.command_line(volume.is_readonly())?;
        let mut command = qemu::Command::new("service")?;
        let ControlRing { device: control, mut requests, socket } = ControlRing::new()?;
        let (ours, theirs) = UnixStream::pair().context("a socket pair for QMP")?;
        let control_fd = command.pass(socket);
        let qmp_fd = command.pass(OwnedFd::from(theirs));
        command.args(machine(options, accelerator, volume.size()));
        command.args(["-append", &line]);
        command.args(["-object", &volume_backend(&volume)]);
        command.args(["-device", "virtio-pmem-pci,id=volume0,memdev=volume,addr=0x3"]);
        command.args(["-chardev", &format!("socket,id=control,fd={control_fd}")]);
        let vectors = ivshmem::MAX_VECTORS;
        let device = format!("ivshmem-doorbell,id=control0,chardev=control,vectors={vectors},addr=0x4");
        command.args(["-device", &device]);
        for port in 0..PORTS {
            command.args(["-device", &root_port(port)]);
        }
        command.args(["-chardev", &format!("socket,id=qmp,fd={qmp_fd}"), "-qmp", "chardev:qmp"]);
        command.args(&options.arguments);
        let mut process = command.spawn_logged()?;
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw).context("QEMU's process id")?;
        requests.watch(pidfd_open(pid, PidfdFlags::empty()).context("watching QEMU")?);
        let qmp = Qmp::new(ours).map_err(|error| ended_or(&mut process, error.into()))?;
        Ok((Self { process, volume }, Connections { qmp, control, requests }))
    }

    /// Waits until the image answers over its control ring, and starts a 9P session there.
    ///
    /// # Errors
    /// If the image ends instead, or does not answer.
    pub fn connect(&mut self, requests: Requests) -> Result<Client<RingTransport>> {
        control_ring::connect(requests).map_err(|error| ended_or(&mut self.process, error))
    }

    /// The process id of its QEMU.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// When its QEMU was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.process.started()
    }

    /// Whether the volume is only read: by its options, or because its file cannot be written.
    #[must_use]
    pub fn is_readonly(&self) -> bool {
        self.volume.is_readonly()
    }

    /// How it ended, if it has ended within `limit`.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn wait_for(&mut self, limit: Duration) -> Result<Option<Exit>> {
        self.process.wait_for(limit)
    }

    /// What it has written to its console.
    #[must_use]
    pub fn transcript(&self) -> &Transcript {
        self.process.transcript()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// The machine itself.
fn machine(options: &Options, accelerator: Accelerator, volume: u64) -> Vec<String> {
    let ram = u64::from(options.memory) << 20;
    // Room for the volume on a boundary, wherever the RAM ends.
    let most = ram.next_multiple_of(DEVICE_MEMORY_ALIGNMENT)
        + volume.next_multiple_of(DEVICE_MEMORY_ALIGNMENT)
        + DEVICE_MEMORY_ALIGNMENT;
    let words = [
        "-nodefaults",
        "-no-user-config",
        "-display none",
        "-no-reboot",
        &format!("-machine q35,accel={}", accelerator.name()),
        &format!("-cpu {}", accelerator.processor()),
        "-smp 1",
        // The smallest of QEMU's firmwares: it starts the image and does nothing else. The image places the devices.
        "-bios qboot.rom",
        &format!("-m {}M,maxmem={}M", options.memory, most >> 20),
        // Native hotplug: the image powers slots on and off itself, without ACPI.
        "-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
        "-device isa-debug-exit,iobase=0xf4,iosize=0x04",
        "-chardev stdio,id=console,signal=off",
        "-serial chardev:console",
    ];
    let mut arguments: Vec<String> =
        words.iter().flat_map(|word| word.split(' ')).map(str::to_owned).collect();
    arguments.extend(["-kernel".to_owned(), options.image.display().to_string()]);
    arguments
}

/// The volume's memory. In a QEMU option a comma is written twice.
fn volume_backend(volume: &Volume) -> String {
    let path = volume.path().display().to_string().replace(',', ",,");
    let readonly = if volume.is_readonly() { "on" } else { "off" };
    format!(
        "memory-backend-file,id=volume,mem-path={path},share=on,readonly={readonly},size={}",
        volume.size()
    )
}

/// The root port of slot `port`.
fn root_port(port: u8) -> String {
    let (device, number) = (FIRST_PORT + port, port + 1);
    format!("pcie-root-port,id=port{port},bus=pcie.0,addr={device:#x},chassis={number},slot={number}")
}

/// If the VM has ended, or is about to: that, with its last words. Else `error`.
fn ended_or(process: &mut Process, error: anyhow::Error) -> anyhow::Error {
    match process.wait_for(LAST_BREATH) {
        Ok(Some(exit)) => {
            let words = process.transcript().last(3).join("\n  ");
            anyhow::anyhow!("the service VM did not start: {exit}\n  {words}")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(exports: &[&str]) -> Options {
        Options {
            image: PathBuf::new(),
            volume: PathBuf::new(),
            memory: 32,
            log_level: "warn".to_owned(),
            readonly: false,
            exports: exports.iter().map(|&export| export.to_owned()).collect(),
            accelerator: None,
            arguments: Vec::new(),
        }
    }

    #[test]
    fn the_images_command_line_has_a_word_for_each_option() {
        assert_eq!(options(&[]).command_line(false).unwrap(), "log=warn");
        let line = options(&["/a:check", "/b:readonly"]).command_line(true).unwrap();
        assert_eq!(line, "log=warn readonly export=/a:check export=/b:readonly");
    }

    #[test]
    fn an_export_that_the_image_would_refuse_is_refused_before() {
        let refusal = |exports: &[&str]| options(exports).command_line(false).unwrap_err().to_string();
        assert!(refusal(&["home"]).contains("\"home\""));
        assert!(refusal(&["/a b"]).contains("has a space"));
        let long: Vec<String> = (0..10).map(|number| format!("/{number}/{}", "d".repeat(230))).collect();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        assert!(refusal(&long).contains("the image takes 2048"));
    }
}
