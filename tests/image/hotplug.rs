// SPDX-License-Identifier: MIT OR Apache-2.0

//! Clients' devices, plugged and pulled: what the image does when the bridge's commands do not fit what is plugged.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use serde_json::json;
use skerry::wire::{Fid, OpenFlags};
use skerry_host::client::{Client, RingTransport};
use skerry_host::ivshmem::Server;
use skerry_host::qmp::Qmp;
use skerry_host::service_vm::{FIRST_PORT, ServiceVm};
use skerry_host::shared_memory::SharedMemory;

use crate::machine::VolumeFile;

const EBUSY: u32 = 16;
const ENODEV: u32 = 19;
const EINVAL: u32 = 22;
const ENODATA: u32 = 61;

/// Bytes of a client's memory.
pub const MEMORY: u64 = 1 << 20;

/// How often a client comes and goes.
const CYCLES: u64 = 50;

/// A service VM and the controls that the bridge has.
pub struct Service {
    vm: ServiceVm,
    pub qmp: Qmp,
    ctl: Client<RingTransport>,
    root: Fid,
    /// Keeps the control ring's device connected.
    _control: Server,
    _volume: VolumeFile,
    plugged: u32,
}

/// A device in the port of slot 0.
pub struct Plugged {
    id: String,
    _server: Server,
}

impl Service {
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further arguments for QEMU.
    pub fn start_with(arguments: &[&str]) -> Self {
        let volume = VolumeFile::new(&[]);
        let mut options = volume.options("info");
        options.arguments = arguments.iter().copied().map(str::to_owned).collect();
        let (mut vm, connections) = ServiceVm::start(&options).expect("the service VM");
        let mut ctl = vm.connect(connections.requests).expect("the control ring");
        let (root, _) = ctl.attach(b"ctl").expect("the ctl export");
        Self {
            vm,
            qmp: connections.qmp,
            ctl,
            root,
            _control: connections.control,
            _volume: volume,
            plugged: 0,
        }
    }

    /// Writes a command to the ctl file of slot `slot`.
    fn tell_slot(&mut self, slot: u8, command: &str) -> Result<(), u32> {
        let path = format!("clients/{slot}/ctl");
        let fid = self.ctl.walk_path(self.root, path.as_bytes()).expect("the slot");
        self.ctl.open(fid, OpenFlags::WRONLY).expect("opening ctl");
        let written = self.ctl.write(fid, 0, command.as_bytes());
        self.ctl.clunk(fid).expect("clunking ctl");
        written.map(drop).map_err(|error| error.errno().unwrap_or_else(|| panic!("{error}")))
    }

    pub fn tell(&mut self, command: &str) -> Result<(), u32> {
        self.tell_slot(0, command)
    }

    fn read(&mut self, path: &str) -> String {
        String::from_utf8(self.ctl.read_file(self.root, path.as_bytes()).expect(path)).expect("text")
    }

    fn state(&mut self) -> String {
        self.read("clients/0/status").lines().next().unwrap_or_default().to_owned()
    }

    fn counter(&mut self, name: &str) -> u64 {
        let statistics = self.read("stats");
        let line = statistics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {statistics}"))
    }

    /// Plugs a device of `driver` with `memory` into the port of slot 0.
    pub fn plug(&mut self, memory: &SharedMemory) -> Plugged {
        let (server, socket) = Server::new(memory.file(), memory.size(), 1).expect("a server");
        let id = format!("device{}", self.plugged);
        self.plugged += 1;
        self.qmp.give(&id, socket.as_fd()).expect("getfd");
        let address = json!({ "type": "fd", "data": { "str": id } });
        let backend = json!({ "type": "socket", "data": { "addr": address, "server": false } });
        self.qmp.execute("chardev-add", json!({ "id": id, "backend": backend })).expect("chardev-add");
        let device =
            json!({ "driver": "ivshmem-doorbell", "id": id, "bus": "port0", "chardev": id, "vectors": 1 });
        self.qmp.execute("device_add", device).expect("device_add");
        Plugged { id, _server: server }
    }

    /// Waits until the device has gone.
    fn gone(&mut self, device: Plugged) {
        let limit = Duration::from_secs(10);
        let is_it = |data: &serde_json::Value| data["device"] == device.id.as_str();
        self.qmp.wait_for_event("DEVICE_DELETED", limit, is_it).expect("the device goes");
        self.qmp.forget_events(|event| event.name == "DEVICE_DELETED");
        self.qmp.execute("chardev-remove", json!({ "id": device.id })).expect("chardev-remove");
    }
}

/// A command that fits a device with [`MEMORY`] bytes in port `port`, but for what is given in `changed`.
pub fn attach(port: u32, changed: &[(&str, &str)]) -> String {
    let port = port.to_string();
    let mut words = [
        ("port", port.as_str()),
        ("size", "128"),
        ("desc", "0x1000"),
        ("avail", "0x1800"),
        ("used", "0x2000"),
        ("next", "0"),
        ("features", "0x130000000"),
        ("doorbell", "0x10000"),
        ("memory", "0x0+0x100000@0x0"),
    ];
    for (key, value) in &mut words {
        *value = changed.iter().find(|(other, _)| other == key).map_or(value, |(_, value)| value);
    }
    words.iter().fold("attach".to_owned(), |line, (key, value)| format!("{line} {key}={value}"))
}

#[test]
fn what_is_no_port_or_has_nothing_plugged_is_refused_and_the_slot_stays_usable() {
    let mut service = Service::start();
    let first = u32::from(FIRST_PORT);
    assert_eq!(service.tell(&attach(first, &[])), Err(ENODEV), "an empty port");
    // The host bridge, nothing, the volume's device, the control ring's, the last device of the bus: none is a root port.
    for device in [0, 1, 3, 4, 31] {
        assert_eq!(service.tell(&attach(device, &[])), Err(ENODEV), "device {device} of bus 0");
    }
    // A device number has five bits: one more would name a device of another bus.
    for device in [32, 32 + first, 255, 256] {
        assert_eq!(service.tell(&attach(device, &[])), Err(EINVAL), "device {device}");
    }
    assert_eq!(service.tell("detach"), Ok(()), "a free slot may be detached");
    assert_eq!(service.tell("doorbell 1"), Err(ENODATA));
    assert_eq!(service.state(), "state free");

    let memory = SharedMemory::new("client", MEMORY).unwrap();
    let device = service.plug(&memory);
    assert_eq!(service.tell(&attach(first, &[])), Ok(()));
    assert_eq!(service.state(), "state running");
    assert_eq!(service.tell(&attach(first, &[])), Err(EBUSY), "the slot is in use");
    assert_eq!(service.tell_slot(1, &attach(first, &[])), Err(EBUSY), "the port is in use");
    assert_eq!(service.tell("detach"), Ok(()));
    service.gone(device);
    assert_eq!(service.state(), "state free");
    service.vm.kill();
}

#[test]
fn a_ring_or_memory_that_cannot_be_is_refused_and_the_device_goes() {
    let mut service = Service::start();
    let first = u32::from(FIRST_PORT);
    let memory = SharedMemory::new("client", MEMORY).unwrap();
    let tables = service.counter("page_tables_free");
    for (key, value) in [
        ("size", "0"),
        ("size", "100"),
        ("size", "65536"),
        ("desc", "0x1001"),
        ("desc", "0xffffffffffffffff"),
        ("avail", "0x100000"),
        ("used", "0xfffff"),
        ("memory", "0x0+0x100001@0x0"),
        ("memory", "0x0+0x1000@0xffffffffffffffff"),
        ("memory", "0x0+0x1000@0x0,0x800+0x1000@0x1000"),
        ("memory", "0x0+0x0@0x0"),
        ("memory", "0xffffffffffffff00+0x1000@0x0"),
    ] {
        let device = service.plug(&memory);
        assert_eq!(service.tell(&attach(first, &[(key, value)])), Err(EINVAL), "{key}={value}");
        assert_eq!(service.state(), "state free", "{key}={value}");
        // The image has taken the device out, unless it never looked at it.
        let _ = service.qmp.execute("device_del", json!({ "id": device.id }));
        service.gone(device);
    }
    assert_eq!(service.counter("page_tables_free"), tables, "nothing stays mapped");
}

#[test]
fn a_device_of_another_kind_in_a_port_is_refused_and_goes() {
    let mut service = Service::start();
    let device = json!({ "driver": "virtio-rng-pci", "id": "other", "bus": "port0" });
    service.qmp.execute("device_add", device).expect("device_add");
    assert_eq!(service.tell(&attach(FIRST_PORT.into(), &[])), Err(ENODEV));
    let is_it = |data: &serde_json::Value| data["device"] == "other";
    service.qmp.wait_for_event("DEVICE_DELETED", Duration::from_secs(10), is_it).expect("the device goes");
    assert_eq!(service.state(), "state free");
}

#[test]
fn clients_come_and_go_without_using_up_memory_or_page_tables() {
    let mut service = Service::start();
    let memory = SharedMemory::new("client", MEMORY).unwrap();
    let command = attach(FIRST_PORT.into(), &[]);
    let mut before = None;
    let begin = Instant::now();
    for _ in 0..CYCLES {
        let device = service.plug(&memory);
        service.tell(&command).expect("the client is attached");
        service.tell("detach").unwrap();
        service.gone(device);
        let now = ["heap_used", "page_tables_free"].map(|name| service.counter(name));
        // The first client may leave what all later ones use.
        assert_eq!(*before.get_or_insert(now), now, "heap in use, page tables left");
    }
    println!("{CYCLES} clients came and went in {:?}", begin.elapsed());
    assert_eq!(service.counter("heap_allocations_while_serving"), 0);
    assert_eq!(service.counter("unexpected_interrupts"), 0);
}
