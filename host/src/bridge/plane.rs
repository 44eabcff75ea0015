// SPDX-License-Identifier: MIT OR Apache-2.0

//! The control plane: what the bridge does to the service VM so that it serves a client's ring, and stops serving it.
//!
//! A client's memory is plugged into QEMU as an ivshmem device (QMP), its kick eventfd becomes an interrupt vector of the
//! control ring's device, and the image is told through its `ctl` export (9P over the control ring). After that the image
//! and the client's QEMU wake each other; nothing here takes part.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use skerry::wire::{Fid, OpenFlags};

use super::client_memory;
use crate::client::{Client, RingTransport};
use crate::control_ring::PATIENCE;
use crate::ivshmem::{self, Doorbell};
use crate::qmp::Qmp;
use crate::service_vm::FIRST_PORT;
use crate::vhost_user::{ClientRing, MemoryTable, RingAddresses, RingServer};

/// How long QEMU may take to take a device out after the image has powered its slot off.
const UNPLUG_PATIENCE: Duration = Duration::from_secs(10);

/// How long the service VM may take to bring the volume to rest: the host writes all of it to its disk.
const REST_PATIENCE: Duration = Duration::from_secs(60);

/// Call eventfds that one plugged device may get, one after the other. Each keeps a descriptor open in QEMU until the device
/// is unplugged (see [`crate::ivshmem`] for why it cannot leave earlier).
const CALLS_PER_DEVICE: u32 = 64;

/// The host's handles on the service VM, used by one client at a time.
#[derive(Debug)]
pub struct ControlPlane {
    qmp: Qmp,
    /// The control ring's device, whose vectors are all kicks.
    control: ivshmem::Server,
    ctl: Client<RingTransport>,
    root: Fid,
    /// Devices plugged so far: their ids are never used again.
    plugged: u64,
}

/// A client's device in the service VM, with the image serving its ring.
#[derive(Debug)]
pub struct Attached {
    slot: u8,
    device: Device,
    calls: u32,
}

/// A plugged ivshmem device.
#[derive(Debug)]
struct Device {
    id: String,
    server: ivshmem::Server,
}

impl ControlPlane {
    /// Attaches to the `ctl` export of the image that `ctl` is a session with.
    ///
    /// # Errors
    /// If the image refuses.
    pub fn new(qmp: Qmp, control: ivshmem::Server, mut ctl: Client<RingTransport>) -> Result<Self> {
        let (root, _) = ctl.attach(b"ctl").context("attaching to the image's ctl export")?;
        Ok(Self { qmp, control, ctl, root, plugged: 0 })
    }

    /// Makes `kick` wake the service VM, for good.
    ///
    /// # Errors
    /// [`ivshmem::IvshmemError`].
    pub fn add_kick(&mut self, kick: &File) -> Result<()> {
        self.control.add_vector(kick.as_fd())?;
        Ok(())
    }

    /// Plugs the client's memory into slot `slot` and has the image serve the ring in it, signalling its call eventfd.
    ///
    /// # Errors
    /// If the image or QEMU refuses; nothing stays plugged then.
    pub fn attach(&mut self, slot: u8, ring: ClientRing<'_>) -> Result<Attached> {
        let (file, size) = client_memory::file(ring.memory)?;
        let (mut server, socket) = ivshmem::Server::new(file, size, 1)?;
        let doorbell = server.join(ring.call.as_fd())?;
        let device = Device { id: format!("client{slot}-{}", self.plugged), server };
        self.plugged += 1;
        self.plug(slot, &device, socket.as_fd())?;
        match self.tell(slot, &attach_command(slot, ring.memory, ring.addresses, doorbell)) {
            Ok(()) => Ok(Attached { slot, device, calls: 1 }),
            Err(error) => {
                if let Err(unplug) = self.pull(&device) {
                    log::error!("client {slot}: {unplug:#}");
                }
                Err(error.context("the image refuses to serve the client's ring; its log says why"))
            }
        }
    }

    /// Has the image signal `call` from now on. `false`: the device has had too many; attach anew.
    ///
    /// # Errors
    /// If the image refuses.
    pub fn change_call(&mut self, attached: &mut Attached, call: &File) -> Result<bool> {
        if attached.calls == CALLS_PER_DEVICE {
            return Ok(false);
        }
        let doorbell = attached.device.server.join(call.as_fd())?;
        attached.calls += 1;
        self.tell(attached.slot, &format!("doorbell {:#x}", doorbell.0))?;
        Ok(true)
    }

    /// Has the image let go of the ring and waits until the device is gone. Returns the next available entry to take, by the
    /// image's count.
    ///
    /// # Errors
    /// If the image or QEMU refuses.
    pub fn detach(&mut self, attached: Attached) -> Result<u16> {
        let slot = attached.slot;
        let before = self.status(slot)?;
        if let Some(fault) = value(&before, "fault") {
            log::warn!("client {slot}: its ring had stopped: {fault}");
        }
        self.tell(slot, "detach").context("the image does not let go of the client's ring")?;
        let after = self.status(slot)?;
        self.unplugged(&attached.device, UNPLUG_PATIENCE)?;
        let next = value(&after, "next").or_else(|| value(&before, "next"));
        next.and_then(|next| next.parse().ok()).context("the image does not tell where the ring stopped")
    }

    /// Has the image let go of a slot's ring, if it has one, and leaves the device plugged: for the end of the service VM.
    ///
    /// # Errors
    /// If the image refuses.
    pub fn let_go(&mut self, slot: u8) -> Result<()> {
        self.tell(slot, "detach")
    }

    /// Has the image bring the volume to rest: what was written is flushed and in its place, the journal is empty.
    ///
    /// # Errors
    /// If the image cannot, or does not answer in time.
    pub fn rest(&mut self) -> Result<()> {
        self.ctl.transport().set_patience(REST_PATIENCE);
        self.write("volume", "rest")?;
        let state = self.ctl.read_file(self.root, b"volume");
        self.ctl.transport().set_patience(PATIENCE);
        let state = state?;
        let state = String::from_utf8_lossy(&state);
        match value(&state, "last_rest") {
            Some("done") => Ok(()),
            Some(failed) => bail!("the image says: {failed}"),
            None => bail!("the image does not tell how it went"),
        }
    }

    /// Writes one command to a slot's `ctl` file.
    fn tell(&mut self, slot: u8, command: &str) -> Result<()> {
        log::debug!("client {slot}: {command}");
        self.write(&format!("clients/{slot}/ctl"), command)
    }

    /// Writes one line to a file of `ctl`.
    fn write(&mut self, path: &str, line: &str) -> Result<()> {
        let fid = self.ctl.walk_path(self.root, path.as_bytes())?;
        let written = self
            .ctl
            .open(fid, OpenFlags::WRONLY)
            .and_then(|_| self.ctl.write(fid, 0, format!("{line}\n").as_bytes()));
        self.ctl.clunk(fid)?;
        written?;
        Ok(())
    }

    /// The text of a slot's `status` file.
    fn status(&mut self, slot: u8) -> Result<String> {
        let path = format!("clients/{slot}/status");
        let text = self.ctl.read_file(self.root, path.as_bytes())?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Has QEMU make the device in the slot's port. The image powers the slot on when it is told to attach.
    fn plug(&mut self, slot: u8, device: &Device, socket: std::os::fd::BorrowedFd<'_>) -> Result<()> {
        let id = &device.id;
        self.qmp.give(id, socket)?;
        let backend = json!({ "type": "socket", "data": { "addr": { "type": "fd", "data": { "str": id } }, "server": false } });
        self.qmp.execute("chardev-add", json!({ "id": id, "backend": backend }))?;
        let description = json!({
            "driver": "ivshmem-doorbell", "id": id, "bus": format!("port{slot}"), "chardev": id, "vectors": 1,
        });
        if let Err(error) = self.qmp.execute("device_add", description) {
            self.qmp.execute("chardev-remove", json!({ "id": id }))?;
            return Err(error).context("plugging the client's memory into the service VM");
        }
        Ok(())
    }

    /// Takes a device out that the image does not serve: its slot has no power, so QEMU asks nobody.
    fn pull(&mut self, device: &Device) -> Result<()> {
        // An image that had taken power from the slot has made QEMU take the device out already.
        let _ = self.qmp.execute("device_del", json!({ "id": device.id }));
        self.unplugged(device, UNPLUG_PATIENCE)
    }

    /// Waits until QEMU has taken the device out, and removes what is left of it.
    fn unplugged(&mut self, device: &Device, limit: Duration) -> Result<()> {
        let id = &device.id;
        let is_it = |data: &Value| data.get("device").and_then(Value::as_str) == Some(id);
        if let Err(error) = self.qmp.wait_for_event("DEVICE_DELETED", limit, is_it) {
            bail!(
                "the client's memory stays plugged into the service VM ({error}); its socket cannot be used again"
            );
        }
        self.qmp.forget_events(|event| event.name == "DEVICE_DELETED");
        self.qmp.execute("chardev-remove", json!({ "id": id }))?;
        Ok(())
    }
}

/// The plane, also after a thread has panicked with it: the next request finds out what state it is in.
pub fn lock(plane: &Mutex<ControlPlane>) -> MutexGuard<'_, ControlPlane> {
    plane.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RingServer for Mutex<ControlPlane> {
    type Attached = Attached;

    fn check_memory(&self, memory: &MemoryTable) -> Result<()> {
        client_memory::file(memory)?;
        Ok(())
    }

    fn add_kick(&self, kick: &File) -> Result<()> {
        lock(self).add_kick(kick)
    }

    fn attach(&self, slot: u8, ring: ClientRing<'_>) -> Result<Attached> {
        lock(self).attach(slot, ring)
    }

    fn change_call(&self, attached: &mut Attached, call: &File) -> Result<bool> {
        lock(self).change_call(attached, call)
    }

    fn detach(&self, attached: Attached) -> Result<u16> {
        lock(self).detach(attached)
    }
}

/// The image's command to serve a ring.
fn attach_command(slot: u8, memory: &MemoryTable, ring: &RingAddresses, doorbell: Doorbell) -> String {
    format!(
        "attach port={} size={} desc={:#x} avail={:#x} used={:#x} next={} features={:#x} doorbell={:#x} memory={}",
        FIRST_PORT + slot,
        ring.size,
        ring.desc,
        ring.avail,
        ring.used,
        ring.next,
        ring.features,
        doorbell.0,
        client_memory::describe(memory)
    )
}

/// The value of the line `key value`.
fn value<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_memory::SharedMemory;
    use crate::vhost_user::Region;
    use skerry::fs::command::{Command, MemoryRange};

    #[test]
    fn the_image_parses_the_attach_command() {
        let memory = SharedMemory::new("test", 1 << 20).unwrap();
        let region = Region { guest: 0x1000, length: 0x10_0000, user: 0, offset: 0 };
        let file = memory.file().try_clone_to_owned().unwrap().into();
        let table = MemoryTable::new(vec![region], vec![file]).unwrap();
        let features = 0x1_3000_0001;
        let ring = RingAddresses { size: 128, desc: 0x2000, avail: 0x2800, used: 0x3000, next: 7, features };
        let line = attach_command(3, &table, &ring, Doorbell(0x1_0000));
        let Ok(Command::Attach(parsed)) = Command::parse(line.as_bytes()) else { panic!("{line}") };
        assert_eq!((parsed.port, parsed.size, parsed.next, parsed.doorbell), (11, 128, 7, 0x1_0000));
        assert_eq!((parsed.descriptors, parsed.available, parsed.used), (0x2000, 0x2800, 0x3000));
        assert_eq!(parsed.features, features);
        assert_eq!(&parsed.memory[..], [MemoryRange { guest: 0x1000, length: 0x10_0000, offset: 0 }]);
    }

    #[test]
    fn a_status_line_is_found_by_its_whole_key() {
        let status = "state faulted\nnext 12\nfault descriptor 3 loops\n";
        assert_eq!(value(status, "next"), Some("12"));
        assert_eq!(value(status, "fault"), Some("descriptor 3 loops"));
        assert_eq!(value(status, "stat"), None);
    }
}
