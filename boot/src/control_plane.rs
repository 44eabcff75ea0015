// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the `ctl` export shows and steers: the whole service, the volume, the clients' slots.

use core::fmt;

use skerry::fs::Errno;
use skerry::fs::command::Command;
use skerry::fs::synth::ControlPlane;
use skerry::fs::volume_state::VolumeState;
use skerry::poll::Poll;

use crate::clients::{Clients, SLOTS};
use crate::interrupts::wake;
use crate::{clock, heap};

/// The service, as `ctl` has it.
pub struct Plane<'a> {
    /// The slots.
    pub clients: &'a mut Clients,
    /// The volume.
    pub volume: &'a mut VolumeState,
    /// How the service waits for requests.
    pub poll: &'a Poll,
}

impl ControlPlane for Plane<'_> {
    fn slots(&self) -> u8 {
        SLOTS
    }

    fn write_statistics(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let heap = heap::statistics();
        let now = clock::now();
        writeln!(out, "uptime_microseconds {}", clock::microseconds_since_start())?;
        writeln!(out, "time_seconds {}.{:09}", now.seconds, now.nanoseconds)?;
        write!(out, "{}", self.poll.statistics())?;
        writeln!(out, "poll_microseconds {}", self.poll.window() / 1000)?;
        writeln!(out, "wake_ups {}", wake::wake_ups())?;
        writeln!(out, "unexpected_interrupts {}", wake::unexpected_interrupts())?;
        writeln!(out, "heap_used {}", heap.used)?;
        writeln!(out, "heap_size {}", heap.size)?;
        writeln!(out, "heap_allocations {}", heap.allocations)?;
        writeln!(out, "heap_allocations_while_serving {}", heap.data_path_allocations)?;
        writeln!(out, "page_tables_free {}", self.clients.free_page_tables())?;
        writeln!(out, "clients_attached {}", self.clients.attached())
    }

    fn write_volume(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{}", self.volume)
    }

    fn rest(&mut self) {
        self.volume.want_rest();
    }

    fn write_status(&self, slot: u8, out: &mut dyn fmt::Write) -> fmt::Result {
        self.clients.write_status(slot, out)
    }

    fn command(&mut self, slot: u8, command: &Command) -> Result<(), Errno> {
        self.clients.command(slot, command)
    }
}
