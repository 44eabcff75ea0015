// SPDX-License-Identifier: MIT OR Apache-2.0

//! A ring joined to a session: what the main loop of a service is made of.
//!
//! A [`Connection`] is one slot of the service. While a client is attached it holds the client's memory and ring;
//! its session's tables stay allocated all the time. The loop of a platform is, for each connection,
//!
//! ```text
//! share  → leave a ring alone that had more than others which ask (Shares)
//! drain  → serve every request that is available, as long as the turn lasts, commit, publish, notify at most once
//! poll   → look again for a bounded time (crate::poll), kicks suppressed
//! arm    → ask for kicks, look once more
//! halt   → until an interrupt
//! ```
//!
//! What the requests of one pass change is committed before their replies are published: a client never sees an answer
//! that a death of this program could take back. A client that goes away leaves open files and locks behind; they are given back
//! by the next `drain`, so that attaching and detaching need no exports.
//!
//! Relies on [`crate::virtq`] for the ring and on [`crate::server`] for the requests.

mod share;
mod status;
mod turn;

use core::fmt;

use crate::fs::Errno;
use crate::mem::guest::GuestMemory;
use crate::mem::scatter::{Loaded, ScatterList};
use crate::server::{Exports, Session, SessionFault, SessionLimits};
use crate::virtq::{self, Chain, Notify, Queue, QueueConfiguration, Ring};

pub use share::Shares;
pub use status::Status;
use turn::RunningTurn;
pub use turn::Turn;

/// What stopped a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The ring lied.
    Ring(virtq::Fault),
    /// The framing of the messages was violated.
    Session(SessionFault),
    /// What the requests of a pass changed could not be made to last: none of them was answered.
    Volume(Errno),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(fault) => write!(f, "ring: {fault}"),
            Self::Session(fault) => write!(f, "session: {fault}"),
            Self::Volume(errno) => write!(f, "volume: the changes could not be committed: {errno}"),
        }
    }
}

impl core::error::Error for Fault {}

impl From<virtq::Fault> for Fault {
    fn from(fault: virtq::Fault) -> Self {
        Self::Ring(fault)
    }
}

/// Working memory for one request at a time, shared by all connections of a thread.
#[derive(Default)]
pub struct Scratch {
    buffers: ScatterList,
    gathered: crate::server::Scratch,
}

/// What the rings did, in numbers that only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RingStatistics {
    /// Passes that served at least one request.
    pub drains: u64,
    /// Requests served.
    pub requests: u64,
    /// Most requests served in one pass.
    pub largest_drain: u32,
    /// Notifications sent to the driver.
    pub notifications_sent: u64,
    /// Passes after which the driver did not want to be notified.
    pub notifications_suppressed: u64,
    /// Passes that were made to wait for other rings ([`Connection::put_off`]).
    pub put_off: u64,
}

/// What one pass over a ring did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Requests served.
    pub requests: u32,
    /// Whether the turn ended with requests left.
    pub more: bool,
}

/// Whom a connection serves.
#[expect(clippy::large_enum_variant, reason = "a slot is allocated for its largest state, once")]
#[derive(Debug)]
enum Line {
    /// Nobody.
    Free,
    /// A client.
    Running { memory: GuestMemory, queue: Queue },
    /// A client that broke the rules: nothing of its memory is looked at again.
    Faulted { fault: Fault, position: u16 },
}

/// How a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No client is attached.
    Free,
    /// A client is served.
    Running,
    /// A client was attached and broke the rules; it is served no more until it is detached.
    Faulted(Fault),
}

/// One slot of the service.
pub struct Connection {
    line: Line,
    session: Session,
    statistics: RingStatistics,
    /// Whether its next pass was put off.
    waits: bool,
}

impl Connection {
    /// A free slot. All memory that its session will ever need is allocated here.
    #[must_use]
    pub fn new(limits: SessionLimits) -> Self {
        let statistics = RingStatistics::default();
        Self { line: Line::Free, session: Session::new(limits), statistics, waits: false }
    }

    /// Takes a client's ring into service. The slot's session starts anew.
    ///
    /// # Errors
    /// [`virtq::Fault`] if the ring cannot be; the slot is as it was. Attach only a free slot: a client that is
    /// attached is forgotten.
    pub fn attach(
        &mut self,
        memory: GuestMemory,
        configuration: &QueueConfiguration,
    ) -> Result<(), virtq::Fault> {
        let queue = Queue::new(&memory, configuration)?;
        self.session.reset();
        self.line = Line::Running { memory, queue };
        self.waits = false;
        Ok(())
    }

    /// Lets go of the client: it has no fids any more, and its memory is not referred to. Returns the index of the
    /// next available entry, or `None` if the slot was free.
    pub fn detach(&mut self) -> Option<u16> {
        self.session.reset();
        let position = self.position();
        self.line = Line::Free;
        position
    }

    /// The index of the next available entry of the ring that will be taken, or would have been.
    #[must_use]
    pub fn position(&self) -> Option<u16> {
        match &self.line {
            Line::Free => None,
            Line::Running { queue, .. } => Some(queue.position()),
            Line::Faulted { position, .. } => Some(*position),
        }
    }

    /// How the connection stands.
    #[must_use]
    pub fn state(&self) -> State {
        match self.line {
            Line::Free => State::Free,
            Line::Running { .. } => State::Running,
            Line::Faulted { fault, .. } => State::Faulted(fault),
        }
    }

    /// The session behind the ring.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What the ring did.
    #[must_use]
    pub fn statistics(&self) -> &RingStatistics {
        &self.statistics
    }

    /// Gives back what an earlier client of the slot held; then serves what is available as long as its `turn` lasts, commits
    /// what they changed, publishes the replies and notifies once if the driver wants it. Kicks are suppressed from here to
    /// [`arm`](Self::arm). To be called for every slot in turn, also for a free one.
    ///
    /// # Errors
    /// [`Fault`]: the connection is [`State::Faulted`] from now on, unless it is free. The replies before the offence are
    /// published; with [`Fault::Volume`] none of this pass is.
    pub fn drain(
        &mut self,
        exports: &mut Exports<'_>,
        scratch: &mut Scratch,
        notify: &mut dyn Notify,
        turn: Turn,
    ) -> Result<Drained, Fault> {
        let settled = self.session.settle(exports);
        let Line::Running { memory, queue } = &mut self.line else {
            let committed = if settled { exports.commit() } else { Ok(()) };
            return committed.map(|()| Drained::default()).map_err(Fault::Volume);
        };
        let position = queue.position();
        let mut turn = turn.begin();
        let session = &mut self.session;
        let served = match queue {
            Queue::Split(ring) => serve(memory, ring, session, exports, scratch, &mut turn),
            Queue::Packed(ring) => serve(memory, ring, session, exports, scratch, &mut turn),
        };
        let requests = turn.served;
        if served.is_err() {
            // What the client held goes with it.
            self.session.reset();
            self.session.settle(exports);
        }
        if (settled || requests > 0 || served.is_err())
            && let Err(errno) = exports.commit()
        {
            return Err(self.stop(Fault::Volume(errno), position));
        }
        // With nothing served this tells the driver only if the queue was just taken up (an earlier device may have
        // died between publishing and telling).
        let published = queue.publish(memory);
        let position = queue.position();
        let statistics = &mut self.statistics;
        if requests > 0 {
            statistics.drains = statistics.drains.wrapping_add(1);
            statistics.requests = statistics.requests.wrapping_add(u64::from(requests));
            statistics.largest_drain = statistics.largest_drain.max(requests);
            self.waits = false;
        }
        match published {
            Ok(true) => {
                statistics.notifications_sent = statistics.notifications_sent.wrapping_add(1);
                notify.call();
            }
            Ok(false) if requests > 0 => {
                statistics.notifications_suppressed = statistics.notifications_suppressed.wrapping_add(1)
            }
            _ => {}
        }
        match (served, published) {
            (Ok(more), Ok(_)) => Ok(Drained { requests, more }),
            (Err(fault), _) => Err(self.stop(fault, position)),
            (_, Err(fault)) => Err(self.stop(Fault::Ring(fault), position)),
        }
    }

    /// Whether requests are available: whether a [`drain`](Self::drain), for which the exports must be at hand, would serve any.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    pub fn has_requests(&mut self) -> Result<bool, Fault> {
        let Line::Running { memory, queue } = &mut self.line else { return Ok(false) };
        let position = queue.position();
        queue.has_available(memory).map_err(|fault| self.stop(Fault::Ring(fault), position))
    }

    /// The ring has requests, and is not drained now: it had more than others that ask ([`Shares`]). To be called each time, and counted
    /// once for each pass.
    pub fn put_off(&mut self) {
        if !self.waits {
            self.waits = true;
            self.statistics.put_off = self.statistics.put_off.wrapping_add(1);
        }
    }

    /// Asks the driver for kicks again. Returns whether requests came meanwhile, so that the caller drains instead of
    /// sleeping.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    pub fn arm(&mut self) -> Result<bool, Fault> {
        let Line::Running { memory, queue } = &mut self.line else { return Ok(false) };
        let position = queue.position();
        queue.arm(memory).map_err(|fault| self.stop(Fault::Ring(fault), position))
    }

    /// Stops serving the client, for `fault`; `position` is the next entry that would have been answered.
    fn stop(&mut self, fault: Fault, position: u16) -> Fault {
        self.session.reset();
        self.line = Line::Faulted { fault, position };
        fault
    }
}

/// Serves requests until the ring is empty or the turn is over, which counts those whose chain was pushed. Returns whether there are
/// more.
fn serve(
    memory: &GuestMemory,
    queue: &mut impl Ring,
    session: &mut Session,
    exports: &mut Exports<'_>,
    scratch: &mut Scratch,
    turn: &mut RunningTurn,
) -> Result<bool, Fault> {
    queue.disarm(memory)?;
    while queue.has_available(memory)? {
        if turn.is_over() {
            return Ok(true);
        }
        let Some(Chain { token, buffers }) = queue.pop(memory, &mut scratch.buffers)? else { break };
        let written = answer(session, exports, buffers, &mut scratch.gathered).map_err(Fault::Session)?;
        queue.push(memory, token, written)?;
        turn.note(written);
    }
    Ok(false)
}

/// Answers the request in the buffers of a chain. Returns the length of the reply.
#[inline(never)]
fn answer(
    session: &mut Session,
    exports: &mut Exports<'_>,
    buffers: Loaded<'_>,
    scratch: &mut crate::server::Scratch,
) -> Result<u32, SessionFault> {
    let (readable, writable) = buffers.into_streams();
    session.handle(exports, readable, writable, scratch)
}

#[cfg(test)]
mod tests;
