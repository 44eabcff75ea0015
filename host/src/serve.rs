// SPDX-License-Identifier: MIT OR Apache-2.0

//! Host mode: the core in this process, behind vhost-user sockets.
//!
//! The same core as in the image serves one volume to several clients. The volume's file and each client's memory are mapped, so
//! that the bytes of a file move once. Each ring has a thread, which sleeps in `epoll` when its client is idle. The volume is one
//! value: a ring's thread has it for one drain, a [`Turn`](skerry::service::Turn), and threads that want it have theirs in the
//! order in which they asked. So a client waits for at most one drain of each other one, however much those ask for.
//!
//! | file            | subject                                                         |
//! |-----------------|-----------------------------------------------------------------|
//! | `volume_region` | the volume's file as a region, and its flush                    |
//! | `client_memory` | a client's memory, mapped                                       |
//! | `service`       | the volume with its exports and locks; one drain                |
//! | `turns`         | who has the volume                                              |
//! | `ring`          | a ring's thread                                                 |
//! | `control`       | what `ctl` shows                                                |
//! | `clock`         | the time of a change, and of a turn                             |
//! | `sandbox`       | what the process can still ask of the kernel                    |
//! | `process`       | host mode as a child process                                    |

pub mod client_memory;
pub(crate) mod clock;
mod control;
pub mod process;
mod ring;
pub mod sandbox;
mod service;
mod turns;
pub mod volume_region;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use skerry::server::ExportList;

use crate::vhost_user::{Slot, Socket};
use crate::volume::Volume;
use control::Setting;
use ring::Rings;
use service::Service;

/// The most clients at a time.
pub const SLOTS: usize = 16;

/// The mount tag of the control socket.
const CONTROL_TAG: &str = "ctl";

/// The longest time that a ring is polled.
pub const LONGEST_POLL: Duration = Duration::from_secs(1);

/// What to serve, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The volume: a regular file that holds an ext4 file system.
    pub volume: PathBuf,
    /// 1…[`SLOTS`] sockets.
    pub sockets: Vec<Socket>,
    /// One more socket, whose client may also attach to `ctl`.
    pub control: Option<PathBuf>,
    /// Directories that clients may attach to, each as [`skerry::server::export_options`] has it; none is the whole volume.
    pub exports: Vec<String>,
    /// Nothing is written to the volume.
    pub readonly: bool,
    /// How long a ring is polled after its last request, up to [`LONGEST_POLL`].
    pub poll: Duration,
}

impl Options {
    /// This volume, all of it, to be written, at these sockets; polled as the image polls.
    pub fn new(volume: impl Into<PathBuf>, sockets: Vec<Socket>) -> Self {
        let poll = Duration::from_nanos(skerry::poll::DEFAULT_BOUND);
        Self { volume: volume.into(), sockets, control: None, exports: Vec::new(), readonly: false, poll }
    }
}

/// What is exported: the whole volume, if nothing else is asked for.
fn exported(exports: &[String]) -> Result<ExportList> {
    if exports.is_empty() {
        return Ok(ExportList::default());
    }
    let mut list = ExportList::new();
    for export in exports {
        list.add(export).map_err(|error| anyhow!("{error}"))?;
    }
    Ok(list)
}

/// A volume that is being served. Dropping it ends without care for the volume, as a kill would; [`Server::shut_down`] is the
/// orderly end. The sockets' files stay: who serves there next replaces them.
#[derive(Debug)]
pub struct Server {
    slots: Vec<Slot>,
    rings: Arc<Rings>,
    service: Arc<Service>,
}

impl Server {
    /// Locks and mounts the volume, then listens on every socket. When it returns, clients may connect, and every thread that
    /// there will be is there.
    ///
    /// # Errors
    /// One clear message; nothing is left running then.
    pub fn start(options: &Options) -> Result<Self> {
        let count = options.sockets.len();
        if !(1..=SLOTS).contains(&count) {
            bail!("{count} sockets; a server has 1 to {SLOTS}");
        }
        options.sockets.iter().try_for_each(Socket::check)?;
        let list = exported(&options.exports)?;
        let file = Volume::open(&options.volume, options.readonly)?;
        let setting = Setting { start: Instant::now(), poll: options.poll.min(LONGEST_POLL) };
        let service = Arc::new(Service::start(file, list, setting)?);
        let mut sockets = options.sockets.clone();
        sockets.extend(options.control.clone().map(|path| Socket { path, tag: CONTROL_TAG.to_owned() }));
        let rings = Arc::new(Rings::start(sockets.len(), options.control.is_some(), &service)?);
        let mut server = Self { slots: Vec::new(), rings, service };
        match server.listen(&sockets) {
            Ok(()) => Ok(server),
            Err(error) => {
                // The volume is left as it was found.
                server.service.rest()?;
                Err(error)
            }
        }
    }

    fn listen(&mut self, sockets: &[Socket]) -> Result<()> {
        for (number, socket) in (0..).zip(sockets) {
            self.slots.push(Slot::listen(number, socket, self.rings.clone())?);
            log::info!("clients of {:?} connect at {}", socket.tag, socket.path.display());
        }
        Ok(())
    }

    /// Whether the volume is only read.
    #[must_use]
    pub fn is_readonly(&self) -> bool {
        self.service.is_readonly()
    }

    /// The orderly end: lets go of all clients and brings the volume to rest, so that no journal has to be replayed when it is
    /// used next. (Without it nothing that was answered is lost.)
    ///
    /// # Errors
    /// If the volume's file cannot be flushed.
    pub fn shut_down(self) -> Result<()> {
        for slot in &self.slots {
            slot.end();
        }
        // What clients have removed and hold open is removed then.
        self.rings.let_go_of_all();
        self.service.rest()
    }
}
