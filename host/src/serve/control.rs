// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the `ctl` export shows in host mode: the slots as they were after their last drain, and the volume.

use std::fmt;
use std::time::{Duration, Instant};

use skerry::fs::Errno;
use skerry::fs::command::Command;
use skerry::fs::synth::ControlPlane;
use skerry::fs::volume_state::VolumeState;
use skerry::poll::PollStatistics;
use skerry::service::{State, Status};

use super::clock;

/// What does not change while it is served.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// When the server started.
    pub start: Instant,
    /// How long a ring is polled.
    pub poll: Duration,
}

/// The service, as `ctl` has it.
pub struct Plane<'a> {
    /// What does not change.
    pub setting: Setting,
    /// The slots, the control socket's own last.
    pub slots: &'a [Status],
    /// How their threads waited for requests.
    pub polls: &'a [PollStatistics],
    /// The volume.
    pub volume: &'a mut VolumeState,
}

impl ControlPlane for Plane<'_> {
    fn slots(&self) -> u8 {
        u8::try_from(self.slots.len()).unwrap_or(u8::MAX)
    }

    fn write_statistics(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let now = clock::now();
        let attached = self.slots.iter().filter(|slot| slot.state != State::Free).count();
        writeln!(out, "uptime_microseconds {}", self.setting.start.elapsed().as_micros())?;
        writeln!(out, "time_seconds {}.{:09}", now.seconds, now.nanoseconds)?;
        let mut polls = PollStatistics::default();
        self.polls.iter().for_each(|one| polls += *one);
        write!(out, "{polls}")?;
        writeln!(out, "poll_microseconds_at_most {}", self.setting.poll.as_micros())?;
        writeln!(out, "clients_attached {attached}")
    }

    fn write_volume(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{}", self.volume)
    }

    fn rest(&mut self) {
        self.volume.want_rest();
    }

    fn write_status(&self, slot: u8, out: &mut dyn fmt::Write) -> fmt::Result {
        match self.slots.get(usize::from(slot)) {
            Some(status) => write!(out, "{status}"),
            None => Ok(()),
        }
    }

    /// Clients come and go by themselves.
    fn command(&mut self, _slot: u8, _command: &Command) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
}
