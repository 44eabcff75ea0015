// SPDX-License-Identifier: MIT OR Apache-2.0

//! How a connection stands, as `ctl/clients/N/status` tells it: `key value` lines.

use core::fmt;

use super::{Connection, RingStatistics, State};

/// A connection at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Whether it is served.
    pub state: State,
    /// The next available entry to take; of a free slot, where the last client's ring stopped.
    pub next: Option<u16>,
    /// What the ring did.
    pub ring: RingStatistics,
    /// Fids in use.
    pub fids: usize,
    /// Most bytes of a message.
    pub msize: u32,
    /// Requests that were answered with an error.
    pub errors: u64,
    /// Bytes of payload that were answered.
    pub bytes_served: u64,
    /// Bytes of payload that were moved for that.
    pub bytes_copied: u64,
}

impl Connection {
    /// How it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let session = self.session();
        let statistics = session.statistics();
        Status {
            state: self.state(),
            next: self.position(),
            ring: *self.statistics(),
            fids: session.fids_in_use(),
            msize: session.msize(),
            errors: statistics.errors,
            bytes_served: statistics.bytes_served,
            bytes_copied: statistics.bytes_copied,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state {
            State::Free => writeln!(f, "state free"),
            State::Running => writeln!(f, "state running"),
            State::Faulted(fault) => writeln!(f, "state faulted\nfault {fault}"),
        }?;
        if let Some(next) = self.next {
            writeln!(f, "next {next}")?;
        }
        let RingStatistics {
            drains,
            requests,
            largest_drain,
            notifications_sent,
            notifications_suppressed,
            put_off,
        } = self.ring;
        writeln!(f, "drains {drains}")?;
        writeln!(f, "requests {requests}")?;
        writeln!(f, "largest_drain {largest_drain}")?;
        writeln!(f, "notifications_sent {notifications_sent}")?;
        writeln!(f, "notifications_suppressed {notifications_suppressed}")?;
        writeln!(f, "put_off {put_off}")?;
        writeln!(f, "fids {}", self.fids)?;
        writeln!(f, "msize {}", self.msize)?;
        writeln!(f, "errors {}", self.errors)?;
        writeln!(f, "bytes_served {}", self.bytes_served)?;
        writeln!(f, "bytes_copied {}", self.bytes_copied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::SessionLimits;
    use std::string::ToString;

    #[test]
    fn a_free_slot_tells_where_a_ring_stopped_if_there_was_one() {
        let connection = Connection::new(SessionLimits { max_fids: 1, max_msize: 8192 });
        let status = connection.status();
        assert!(status.to_string().starts_with("state free\ndrains 0\nrequests 0\n"));
        let status = Status { next: Some(7), ..status };
        assert!(status.to_string().starts_with("state free\nnext 7\ndrains 0\n"));
    }
}
