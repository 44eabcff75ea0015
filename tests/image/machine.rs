// SPDX-License-Identifier: MIT OR Apache-2.0

//! Service VMs as the tests of the image need them: with devices missing, damaged, or too small.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use skerry_host::ivshmem::Server;
use skerry_host::qemu::{self, Accelerator, Exit};
use skerry_host::service_vm::{self, default_image};
use skerry_host::shared_memory::SharedMemory;
use skerry_host::volume_image;
use tempfile::TempDir;

/// How long the image may take to end by itself.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of the volumes.
const VOLUME_SIZE: u64 = 8 << 20;

/// A file that is to be a volume, in a directory of its own.
pub struct VolumeFile {
    directory: TempDir,
}

impl VolumeFile {
    /// Makes an empty ext4 file system with these options of mkfs.ext4.
    pub fn new(options: &[&str]) -> Self {
        let file = Self { directory: tempfile::tempdir().expect("a directory") };
        volume_image::format(&file.path(), VOLUME_SIZE, options).expect("a volume");
        file
    }

    /// A file of `size` zeros.
    pub fn of_zeros(size: u64) -> Self {
        let file = Self { directory: tempfile::tempdir().expect("a directory") };
        std::fs::File::create(file.path()).and_then(|made| made.set_len(size)).expect("a file of zeros");
        file
    }

    /// Runs a command of debugfs, which may write.
    pub fn debugfs(&self, command: &str) {
        let output = Command::new("/usr/sbin/debugfs").args(["-w", "-R", command]).arg(self.path()).output();
        let output = output.unwrap_or_else(|error| panic!("debugfs: {error}; install e2fsprogs"));
        assert!(output.status.success(), "debugfs: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Cuts or extends the file to `size` bytes.
    pub fn resize(&self, size: u64) {
        let file = std::fs::OpenOptions::new().write(true).open(self.path());
        file.and_then(|file| file.set_len(size)).expect("resizing a volume");
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("volume.ext4")
    }

    pub fn options(&self, log_level: &str) -> service_vm::Options {
        let options = service_vm::Options::new(self.path()).expect("the image");
        service_vm::Options { log_level: log_level.to_owned(), ..options }
    }
}

/// A service VM that is expected to end by itself.
pub struct Machine {
    memory: &'static str,
    line: String,
    devices: Vec<String>,
    command: qemu::Command,
    console: Stdio,
    /// What must live as long as the VM: the servers of its devices.
    servers: Vec<Server>,
}

impl Machine {
    /// 32 MiB, no devices, this kernel command line.
    pub fn new(line: &str) -> Self {
        let command = qemu::Command::new("image").expect("QEMU");
        Self {
            memory: "32M",
            line: line.to_owned(),
            devices: Vec::new(),
            command,
            console: Stdio::piped(),
            servers: Vec::new(),
        }
    }

    /// With another size of RAM, in QEMU's words.
    pub fn memory(self, memory: &'static str) -> Self {
        Self { memory, ..self }
    }

    /// With the file as the volume.
    pub fn volume(mut self, volume: &VolumeFile) -> Self {
        let path = volume.path();
        let size = path.metadata().expect("the volume's size").len();
        let backend =
            format!("memory-backend-file,id=volume,mem-path={},share=on,size={size}", path.display());
        self.devices.extend(["-object", &backend].map(str::to_owned));
        self.devices.extend(["-device", "virtio-pmem-pci,memdev=volume"].map(str::to_owned));
        self
    }

    /// With a control ring of `size` bytes whose header is changed by `change`.
    pub fn control(mut self, size: u64, change: impl FnOnce(&mut [u8; 56])) -> Self {
        let mut header = good_header();
        change(&mut header);
        let memory = SharedMemory::new("control", size).expect("memory");
        memory.write(0, &header);
        let (server, socket) = Server::new(memory.file(), size, 1).expect("an ivshmem server");
        let descriptor = self.command.pass(socket);
        self.devices.extend(["-chardev".to_owned(), format!("socket,id=control,fd={descriptor}")]);
        self.devices.extend(["-device", "ivshmem-doorbell,chardev=control,vectors=1"].map(str::to_owned));
        self.servers.push(server);
        self
    }

    /// With its console there, and not in what `run` returns.
    pub fn console(self, console: OwnedFd) -> Self {
        Self { console: console.into(), ..self }
    }

    /// Boots it; returns how it ended, and what it wrote.
    pub fn run(self) -> (Exit, String) {
        let Self { memory, line, devices, mut command, console, servers } = self;
        let accelerator = Accelerator::choose().expect("an accelerator");
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-smp", "1"]);
        command.args(["-machine", &format!("q35,accel={}", accelerator.name())]);
        command.args(["-cpu", accelerator.processor(), "-m", &format!("{memory},maxmem=4G")]);
        command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-serial", "stdio"]);
        command.args(["-append", &line, "-kernel"]).arg(default_image().expect("the image")).args(devices);
        let mut process = command.spawn(Stdio::null(), console, Stdio::piped()).expect("QEMU");
        let exit = process.wait_for(LIMIT).expect("waiting for QEMU");
        drop(servers);
        let said = process.transcript().last(100).join("\n");
        (exit.unwrap_or_else(|| panic!("it does not end; it wrote\n{said}")), said)
    }
}

/// A header that is in order: 128 entries, areas on the next pages.
fn good_header() -> [u8; 56] {
    let mut header = [0; 56];
    header[..8].copy_from_slice(b"SKRYRING");
    header[8..12].copy_from_slice(&1u32.to_le_bytes());
    header[12..16].copy_from_slice(&128u32.to_le_bytes());
    for (place, value) in [(16, 0x1000), (24, 0x1800), (32, 0x2000), (40, 0x1_3000_0000u64)] {
        header[place..place + 8].copy_from_slice(&value.to_le_bytes());
    }
    header[48..52].copy_from_slice(&0x1_0000u32.to_le_bytes());
    header
}
