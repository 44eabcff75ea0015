// SPDX-License-Identifier: MIT OR Apache-2.0

//! The volume with its exports and locks, which the rings' threads have in turns.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, anyhow};
use skerry::ext4;
use skerry::fs::synth::ControlTree;
use skerry::fs::volume_state::VolumeState;
use skerry::fs::{Errno, FileSystem};
use skerry::mem::region::Region;
use skerry::poll::PollStatistics;
use skerry::server::{ExportList, Exports, LockTable};
use skerry::service::{Connection, Drained, Fault, Scratch, Shares, Status, Turn};
use skerry::virtq::Notify;

use super::clock;
use super::control::{Plane, Setting};
use super::turns::{ASKING, Turns};
use super::volume_region::{self, VolumeRegion};
use crate::volume::Volume;

/// What one ring gets before the next ring's turn.
const TURN: Turn = Turn::new(clock::nanoseconds);

/// One volume, for all rings.
pub struct Service {
    setting: Setting,
    list: ExportList,
    served: Turns<Served>,
    /// What the rings had of the time.
    shares: Mutex<Shares>,
    readonly: bool,
}

/// What one ring has at a time.
struct Served {
    volume: ext4::Volume<VolumeRegion>,
    /// The locks of all sessions.
    locks: LockTable,
    scratch: Box<Scratch>,
    state: VolumeState,
    /// Each slot as it was after its last drain.
    slots: Vec<Status>,
    /// How each slot's thread waited for requests, as it was then.
    polls: Vec<PollStatistics>,
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
    pub fn start(file: Volume, list: ExportList, setting: Setting) -> Result<Self> {
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
        let served = Served {
            volume,
            locks: LockTable::default(),
            scratch: Box::default(),
            state: VolumeState::default(),
            slots: Vec::new(),
            polls: Vec::new(),
        };
        Ok(Self {
            setting,
            list,
            served: Turns::new(served),
            shares: Mutex::new(Shares::new(ASKING)),
            readonly,
        })
    }

    /// Whether nothing can be written.
    pub fn is_readonly(&self) -> bool {
        self.readonly
    }

    /// What does not change.
    pub fn setting(&self) -> Setting {
        self.setting
    }

    /// Makes a place for a slot; they are numbered in the order of the calls.
    pub fn add_slot(&self, status: Status) {
        let mut served = self.served.take();
        served.slots.push(status);
        served.polls.push(PollStatistics::default());
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ring of slot `slot` has requests. Returns for how many nanoseconds it is put off, as things are, because others ask too and
    /// it had more than they; 0: it may be drained.
    pub fn asks(&self, slot: usize) -> u64 {
        self.shares().asks(slot, clock::nanoseconds())
    }

    /// One drain of the ring of slot `slot`, when it is its turn; only with `control` are there requests for `ctl`. `polls` is how its
    /// thread waited so far. Returns also
    /// whether the client wants to be signalled: that is left to the caller, so that a client which obstructs it keeps nobody
    /// else waiting.
    ///
    /// # Errors
    /// As [`Connection::drain`].
    pub fn drain(
        &self,
        slot: usize,
        control: bool,
        connection: &mut Connection,
        polls: PollStatistics,
    ) -> (Result<Drained, Fault>, bool) {
        let mut turn = self.served.take();
        let Served { volume, locks, scratch, state, slots, polls: all_polls } = &mut *turn;
        if let Some(place) = all_polls.get_mut(slot) {
            *place = polls;
        }
        let mut wish = Wish::default();
        self.shares().begins(clock::nanoseconds());
        let drained = if control {
            state.look_at(volume, locks.len(), volume.errors_found());
            let mut plane = Plane { setting: self.setting, slots, polls: all_polls, volume: state };
            let mut tree = ControlTree(&mut plane);
            let mut exports = Exports::new(volume, &self.list, locks).with_control(&mut tree);
            connection.drain(&mut exports, scratch, &mut wish, TURN)
        } else {
            let mut exports = Exports::new(volume, &self.list, locks);
            connection.drain(&mut exports, scratch, &mut wish, TURN)
        };
        self.shares().ends(slot, clock::nanoseconds());
        // The reply is on its way, but the next one comes after this.
        if state.take_rest_wanted() {
            state.set_rest(volume.rest());
        }
        note(slots, slot, connection);
        (drained, wish.0)
    }

    /// Notes how a slot stands that has changed without a drain.
    pub fn note(&self, slot: usize, connection: &Connection) {
        note(&mut self.served.take().slots, slot, connection);
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

fn note(slots: &mut [Status], slot: usize, connection: &Connection) {
    if let Some(place) = slots.get_mut(slot) {
        let status = connection.status();
        *place = Status { next: status.next.or(place.next), ..status };
    }
}
