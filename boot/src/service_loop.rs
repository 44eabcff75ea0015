// SPDX-License-Identifier: MIT OR Apache-2.0

//! The main loop: drain the rings, poll for a while, arm them, look once more, halt.

use alloc::boxed::Box;

use skerry::ext4::Volume;
use skerry::fs::synth::ControlTree;
use skerry::fs::volume_state::VolumeState;
use skerry::mem::region::MappedRegion;
use skerry::poll::{DEFAULT_BOUND, Poll};
use skerry::server::{ExportList, Exports, LockTable};
use skerry::service::{Connection, Drained, Fault, Scratch, Shares, Turn};

use crate::clients::{Clients, SLOTS};
use crate::clock;
use crate::control_plane::Plane;
use crate::heap;
use crate::interrupts::wake;
use crate::ivshmem::Doorbell;
use crate::pmem::Pmem;

/// What one ring gets before the next ring's turn.
const TURN: Turn = Turn::new(clock::nanoseconds_since_start);

/// The control ring, whose sessions may attach `ctl`.
pub struct Control {
    /// Ring and session.
    pub connection: Connection,
    /// Signals the harness or the bridge.
    pub doorbell: Doorbell,
}

/// The volume that is served, in the memory of its device.
pub type ServedVolume = Volume<MappedRegion<Pmem>>;

/// Everything that serves.
pub struct Service {
    volume: ServedVolume,
    state: VolumeState,
    /// What is exported of the volume.
    list: ExportList,
    /// The locks of all sessions.
    locks: LockTable,
    control: Control,
    clients: Clients,
    /// What the clients' rings had of the time.
    shares: Shares,
    scratch: Box<Scratch>,
    poll: Poll,
}

/// What came of one pass over all rings.
#[derive(Default)]
struct Pass {
    /// A request was served.
    served: bool,
    /// A ring has requests and is put off.
    put_off: bool,
}

impl Service {
    /// Joins the parts.
    pub fn new(volume: ServedVolume, list: ExportList, control: Control, clients: Clients) -> Self {
        let state = VolumeState::default();
        let locks = LockTable::default();
        let poll = Poll::new(DEFAULT_BOUND, clock::nanoseconds_since_start());
        let shares = Shares::new(usize::from(SLOTS));
        Self { volume, state, list, locks, control, clients, shares, scratch: Box::default(), poll }
    }

    /// Serves for ever.
    pub fn run(mut self) -> ! {
        loop {
            self.serve_until_idle();
            // Interrupts are let in during the halt only, so a kick between arming and the halt ends it at once.
            if !self.arm() {
                wake::halt();
            }
        }
    }

    /// Drains all rings in turn until none has a request any more, and it is not worth looking for the next.
    fn serve_until_idle(&mut self) {
        let mut now = clock::nanoseconds_since_start();
        loop {
            let pass = self.drain(&mut now);
            if pass.served {
                self.poll.served(now);
                continue;
            }
            now = clock::nanoseconds_since_start();
            if !pass.put_off && !self.poll.looks_again(now) {
                break;
            }
            core::hint::spin_loop();
        }
    }

    /// Gives each ring its turn, from `now` on, which becomes the time when the last was served.
    fn drain(&mut self, now: &mut u64) -> Pass {
        let Self { volume, state, control, clients, shares, list, locks, scratch, poll } = self;
        let mut pass = Pass::default();

        state.look_at(volume, locks.len(), volume.errors_found());
        let mut plane = Plane { clients, volume: state, poll };
        let mut tree = ControlTree(&mut plane);
        let mut exports = Exports::new(volume, list, locks).with_control(&mut tree);
        let drained = control.connection.drain(&mut exports, scratch, &mut control.doorbell, TURN);
        if report("the control ring", None, drained) {
            pass.served = true;
            *now = clock::nanoseconds_since_start();
        }
        // The reply is on its way, but the next one comes after this.
        if state.take_rest_wanted() {
            state.set_rest(volume.rest());
        }

        let mut exports = Exports::new(volume, list, locks);
        heap::without_allocations(|| {
            for (number, slot) in clients.slots_mut() {
                match slot.connection.has_requests() {
                    Ok(true) if shares.asks(number, *now) > 0 => {
                        pass.put_off = true;
                        slot.connection.put_off();
                        continue;
                    }
                    // One without requests is drained too: what an earlier client held may have to be given back.
                    Ok(_) => {}
                    Err(fault) => tell("client", Some(number), fault),
                }
                let mut notify = slot.notify();
                let drained = slot.connection.drain(&mut exports, scratch, &mut notify, TURN);
                if report("client", Some(number), drained) {
                    pass.served = true;
                    shares.begins(*now);
                    *now = clock::nanoseconds_since_start();
                    shares.ends(number, *now);
                }
            }
        });
        pass
    }

    /// Asks all drivers for kicks; says whether any request came meanwhile.
    fn arm(&mut self) -> bool {
        let mut came = armed("the control ring", None, self.control.connection.arm());
        for (number, slot) in self.clients.slots_mut() {
            came |= armed("client", Some(number), slot.connection.arm());
        }
        came
    }
}

/// Whether requests were served; a fault is told once, because a ring that faulted is not looked at again.
fn report(who: &str, number: Option<usize>, drained: Result<Drained, Fault>) -> bool {
    match drained {
        Ok(drained) => drained.requests > 0,
        Err(fault) => {
            tell(who, number, fault);
            false
        }
    }
}

fn armed(who: &str, number: Option<usize>, armed: Result<bool, Fault>) -> bool {
    armed.unwrap_or_else(|fault| {
        tell(who, number, fault);
        false
    })
}

fn tell(who: &str, number: Option<usize>, fault: Fault) {
    match number {
        Some(number) => log::error!("{who} {number}: stopped: {fault}"),
        None => log::error!("{who}: stopped: {fault}"),
    }
}
