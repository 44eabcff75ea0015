// SPDX-License-Identifier: MIT OR Apache-2.0

//! The volume with its exports and locks, which the rings' threads have in turns.

use std::fmt;

use anyhow::{Result, anyhow};
use skerry::ext4;
use skerry::fs::{Errno, FileSystem};
use skerry::mem::region::Region;
use skerry::server::{ExportList, Exports, LockTable};
use skerry::service::{Connection, Drained, Fault, Scratch};
use skerry::virtq::Notify;

use super::clock;
use super::turns::Turns;
use super::volume_region::{self, VolumeRegion};
use crate::volume::Volume;

/// Requests that one ring gets served before the next ring's turn.
pub const DRAIN_BUDGET: u32 = 32;

/// One volume, for all rings.
pub struct Service {
    list: ExportList,
    served: Turns<Served>,
    readonly: bool,
}

/// What one ring has at a time.
struct Served {
    volume: ext4::Volume<VolumeRegion>,
    /// The locks of all sessions.
    locks: LockTable,
    scratch: Box<Scratch>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("readonly", &self.readonly).finish_non_exhaustive()
    }
}

/// Whether a client wants to be signalled.
#[derive(Debug, Default)]
struct Wish(bool);

impl Notify for Wish {
    fn call(&mut self) {
        self.0 = true;
    }
}

impl Service {
    /// Mounts the volume in `file`, recovers its journal if it has to be, and exports what is in `list`.
    ///
    /// # Errors
    /// If it is no volume, cannot be mapped, or its file cannot be flushed.
    pub fn start(file: Volume, list: ExportList) -> Result<Self> {
        let path = file.path().to_owned();
        let readonly = file.is_readonly();
        let mut region = volume_region::map(file)?;
        // A host that cannot flush is found out now, not when a client asks for it.
        region.flush().map_err(|error| anyhow!("volume {}: {error}", path.display()))?;
        let volume = if readonly {
            ext4::Volume::mount(region)
        } else {
            ext4::Volume::mount_writable(region, clock::now)
        };
        let volume = volume.map_err(|error| anyhow!("volume {}: {error}", path.display()))?;
        let readonly = volume.check_writable(volume.root()) == Err(Errno::EROFS);
        let served = Served { volume, locks: LockTable::default(), scratch: Box::default() };
        Ok(Self { list, served: Turns::new(served), readonly })
    }

    /// Whether nothing can be written.
    pub fn is_readonly(&self) -> bool {
        self.readonly
    }

    /// One drain of a ring, when it is its turn. Returns also whether the client wants to be signalled: that is left to the
    /// caller, so that a client which obstructs it keeps nobody else waiting.
    ///
    /// # Errors
    /// As [`Connection::drain`].
    pub fn drain(&self, connection: &mut Connection) -> (Result<Drained, Fault>, bool) {
        let mut turn = self.served.take();
        let Served { volume, locks, scratch } = &mut *turn;
        let mut exports = Exports::new(volume, &self.list, locks);
        let mut wish = Wish::default();
        let drained = connection.drain(&mut exports, scratch, &mut wish, DRAIN_BUDGET);
        (drained, wish.0)
    }

    /// Brings the volume to rest: all that was changed is flushed and in its place. It is only read from then on.
    ///
    /// # Errors
    /// If its file cannot be flushed; what was changed is in the journal.
    pub fn rest(&self) -> Result<()> {
        if self.readonly {
            return Ok(());
        }
        self.served.take().volume.rest().map_err(|errno| anyhow!("the volume cannot be flushed ({errno:?})"))
    }
}
