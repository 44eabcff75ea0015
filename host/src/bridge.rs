// SPDX-License-Identifier: MIT OR Apache-2.0

//! The bridge: it wires client VMs to the service VM.
//!
//! A client's QEMU connects to a socket and says where the client's memory and ring are. The bridge hands both to the service VM and
//! goes back to sleep: from then on the client's kick is an interrupt of the service VM, and the service VM's doorbell is the client's
//! interrupt.
//!
//! | file             | subject                                                        |
//! |------------------|----------------------------------------------------------------|
//! | `client_memory`  | a client's memory: checked for, and described to, the image    |
//! | `plane`          | plugging and telling: QMP and the `ctl` export                 |
//!
//! Relies on [`crate::vhost_user`] for what is said over the sockets.

mod client_memory;
mod plane;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::qemu::{Exit, Transcript};
use crate::service_vm::{self, ServiceVm};
pub use crate::vhost_user::Socket;
use crate::vhost_user::{Slot, SocketFile};
use plane::ControlPlane;

/// The most clients at a time: one slot, and one PCIe root port of the service VM, for each.
pub const SLOTS: usize = service_vm::PORTS as usize;

/// What to serve, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The service VM.
    pub service: service_vm::Options,
    /// 1…[`SLOTS`] sockets.
    pub sockets: Vec<Socket>,
}

/// A running bridge with its service VM. Dropping it kills the service VM and removes the sockets;
/// [`Bridge::shut_down`] is the orderly end.
#[derive(Debug)]
pub struct Bridge {
    slots: Vec<Slot>,
    files: Vec<SocketFile>,
    plane: Arc<Mutex<ControlPlane>>,
    vm: ServiceVm,
}

impl Bridge {
    /// Starts the service VM, then listens on every socket. When it returns, clients may connect.
    ///
    /// Call it from a thread that lives as long as the bridge: the service VM is killed when that thread ends.
    ///
    /// # Errors
    /// One clear message; nothing is left running then.
    pub fn start(options: &Options) -> Result<Self> {
        check(options)?;
        let (mut vm, connections) = ServiceVm::start(&options.service)?;
        let ctl = vm.connect(connections.requests)?;
        let plane = ControlPlane::new(connections.qmp, connections.control, ctl)?;
        let plane = Arc::new(Mutex::new(plane));
        let mut bridge = Self { slots: Vec::new(), files: Vec::new(), plane, vm };
        for (number, socket) in (0..).zip(&options.sockets) {
            let slot = Slot::listen(number, socket, bridge.plane.clone())?;
            bridge.slots.push(slot);
            bridge.files.push(SocketFile::of(socket));
            log::info!("clients of {:?} connect at {}", socket.tag, socket.path.display());
        }
        Ok(bridge)
    }

    /// Whether the volume is only read.
    #[must_use]
    pub fn is_readonly(&self) -> bool {
        self.vm.is_readonly()
    }

    /// The orderly end: lets go of all clients and brings the volume to rest, so that no journal has to be replayed when it is
    /// used next. (Without it nothing that was answered is lost.)
    ///
    /// # Errors
    /// If the service VM has ended, or does not manage to within a minute or so.
    pub fn shut_down(self) -> Result<()> {
        for slot in &self.slots {
            slot.end();
        }
        if self.is_readonly() {
            return Ok(());
        }
        let mut plane = plane::lock(&self.plane);
        // What clients have removed and hold open is removed then. A ring that cannot be let go of does not matter any more.
        for (number, _) in (0..).zip(&self.slots) {
            if let Err(error) = plane.let_go(number) {
                log::debug!("client {number}: {error:#}");
            }
        }
        plane.rest()
    }

    /// How the service VM ended, if it has ended within `limit`. It should not end while the bridge lives: to the user that is an
    /// error.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn wait_for(&mut self, limit: Duration) -> Result<Option<Exit>> {
        self.vm.wait_for(limit)
    }

    /// What the service VM has written to its console.
    #[must_use]
    pub fn transcript(&self) -> &Transcript {
        self.vm.transcript()
    }

    /// The process id of the service VM's QEMU.
    #[must_use]
    pub fn service_process(&self) -> u32 {
        self.vm.process_id()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        for slot in &self.slots {
            slot.end();
        }
        // Before the slots, so that none of them waits for an answer from it.
        self.vm.kill();
    }
}

/// What can be known to be wrong before anything is started.
fn check(options: &Options) -> Result<()> {
    let count = options.sockets.len();
    if !(1..=SLOTS).contains(&count) {
        bail!("{count} sockets; a service VM has 1 to {SLOTS}");
    }
    options.sockets.iter().try_for_each(Socket::check)
}
