// SPDX-License-Identifier: MIT OR Apache-2.0

//! A ring's thread: drain, poll for a while, arm, look once more, sleep.
//!
//! The thread has its client's ring to itself. What the vhost-user side wants of it comes as an [`Order`], and is answered. A kick
//! is an edge of the client's eventfd, which is never read: a client may hand over any descriptor, and only the thread of its own
//! ring would wait for it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::event::epoll;
use skerry::poll::Poll;
use skerry::server::SessionLimits;
use skerry::service::{Connection, Drained, Fault, RingStatistics};
use skerry::virtq::QueueConfiguration;

use super::client_memory::ClientMemory;
use super::clock;
use super::service::Service;
use crate::event::Event;
use crate::vhost_user::{ClientRing, MemoryTable, RingServer};

/// What a client's session may hold, as in the image.
const LIMITS: SessionLimits = SessionLimits { max_fids: 32_768, max_msize: 1 << 20 };

/// How long a ring's thread may take to obey: it waits for its turn, and another's drain may be a long flush.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long all rings' threads may take to let go of their clients in the end.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// How long a ring that is put off looks at the clock rather than sleeps: less than the kernel lets a sleeper oversleep.
const LOOKS: Duration = Duration::from_micros(50);

/// What `epoll` says of.
const WAKE: u64 = 0;
const KICK: u64 = 1;

/// What a ring's thread is asked to do.
enum Order {
    /// Serve this client's ring.
    Attach(Box<Client>, QueueConfiguration, Sender<Result<()>>),
    /// Signal this from now on.
    ChangeCall(File, Sender<()>),
    /// Let go of the client; answered with the next available entry.
    Detach(Sender<u16>),
}

/// What a client has handed over.
struct Client {
    memory: ClientMemory,
    kick: File,
    call: File,
}

/// All rings' threads.
#[derive(Debug)]
pub struct Rings(Vec<Handle>);

/// The way to a ring's thread.
#[derive(Debug)]
struct Handle {
    /// `None` only while it is dropped.
    orders: Option<Sender<Order>>,
    wake: Arc<Event>,
}

impl Handle {
    /// Has the order carried out; what comes back is the answer, later.
    fn order<T>(&self, order: impl FnOnce(Sender<T>) -> Order) -> Result<Receiver<T>> {
        let (sender, answer) = channel();
        let orders = self.orders.as_ref().context("the server ends")?;
        orders.send(order(sender)).ok().context("the ring's thread has ended")?;
        self.wake.signal()?;
        Ok(answer)
    }
}

impl Drop for Handle {
    /// Ends the thread: it wakes up, and there is nobody to give orders.
    fn drop(&mut self) {
        self.orders = None;
        // An eventfd of this process that is not at its maximum can be signalled.
        let _ = self.wake.signal();
    }
}

/// Waits for the answer to an order.
fn wait<T>(answer: &Receiver<T>, limit: Duration) -> Result<T> {
    answer.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => anyhow!("the ring's thread has not answered in {} s", limit.as_secs()),
        RecvTimeoutError::Disconnected => anyhow!("the ring's thread has ended"),
    })
}

impl Rings {
    /// Starts `count` threads, each for one ring; they run when this returns. With `control`, the last may reach `ctl`.
    ///
    /// # Errors
    /// If the system has no room for them.
    pub fn start(count: usize, control: bool, service: &Arc<Service>) -> Result<Self> {
        let mut handles = Vec::new();
        let bound = u64::try_from(service.setting().poll.as_nanos()).unwrap_or(u64::MAX);
        for number in 0..count {
            let (orders, received) = channel();
            let wake = Arc::new(Event::new()?);
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?;
            let events = epoll::EventFlags::IN;
            epoll::add(&epoll, &*wake, epoll::EventData::new_u64(WAKE), events).context("epoll")?;
            let connection = Connection::new(LIMITS);
            service.add_slot(connection.status());
            let ring = Ring {
                number,
                control: control && number + 1 == count,
                service: service.clone(),
                connection,
                client: None,
                poll: Poll::new(bound, clock::nanoseconds()),
                orders: received,
                wake: wake.clone(),
                epoll,
            };
            let (started, runs) = channel();
            thread::Builder::new().name(format!("ring {number}")).spawn(move || {
                let _ = started.send(());
                ring.run();
            })?;
            wait(&runs, PATIENCE)?;
            handles.push(Handle { orders: Some(orders), wake });
        }
        Ok(Self(handles))
    }

    fn handle(&self, slot: u8) -> Result<&Handle> {
        self.0.get(usize::from(slot)).with_context(|| format!("there is no ring {slot}"))
    }

    /// Has all rings' threads let go of their clients. One that does not manage to is left behind.
    pub fn let_go_of_all(&self) {
        let end = Instant::now() + LAST_PATIENCE;
        let answers: Vec<_> = self.0.iter().map(|handle| handle.order(Order::Detach)).collect();
        for (number, answer) in answers.into_iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            if let Err(error) = answer.and_then(|answer| wait(&answer, left)) {
                log::debug!("client {number}: {error:#}");
            }
        }
    }
}

/// What a ring's thread does after a look at its ring.
#[derive(Debug)]
enum Next {
    /// It looks again.
    Look,
    /// It has requests, but others have their turn for so long.
    PutOff(Duration),
    /// It sleeps: nothing came for a while, and the driver will kick.
    Sleep,
}

/// A ring that a thread serves.
#[derive(Debug)]
pub struct Attached(u8);

impl RingServer for Rings {
    type Attached = Attached;

    /// Any table can be mapped.
    fn check_memory(&self, _memory: &MemoryTable) -> Result<()> {
        Ok(())
    }

    /// A kick needs no preparation.
    fn add_kick(&self, _kick: &File) -> Result<()> {
        Ok(())
    }

    fn attach(&self, slot: u8, ring: ClientRing<'_>) -> Result<Attached> {
        let ClientRing { memory, addresses, kick, call } = ring;
        let configuration = addresses.queue()?;
        let memory = ClientMemory::map(memory)?;
        let client = Box::new(Client { memory, kick: kick.try_clone()?, call: call.try_clone()? });
        let answer = self.handle(slot)?.order(|sender| Order::Attach(client, configuration, sender))?;
        wait(&answer, PATIENCE)??;
        Ok(Attached(slot))
    }

    fn change_call(&self, attached: &mut Attached, call: &File) -> Result<bool> {
        let call = call.try_clone()?;
        wait(&self.handle(attached.0)?.order(|sender| Order::ChangeCall(call, sender))?, PATIENCE)?;
        Ok(true)
    }

    fn detach(&self, attached: Attached) -> Result<u16> {
        wait(&self.handle(attached.0)?.order(Order::Detach)?, PATIENCE)
    }
}

/// What a ring's thread has.
struct Ring {
    number: usize,
    /// Whether its client may reach `ctl`.
    control: bool,
    service: Arc<Service>,
    /// Refers to the memory of `client`, and so is dropped before it.
    connection: Connection,
    client: Option<Box<Client>>,
    poll: Poll,
    orders: Receiver<Order>,
    wake: Arc<Event>,
    epoll: OwnedFd,
}

impl Ring {
    /// Serves until nobody can give orders any more.
    fn run(mut self) {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.obey(order),
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => match self.look() {
                    Ok(Next::Look) => {}
                    Ok(Next::PutOff(time)) if time <= LOOKS => std::hint::spin_loop(),
                    Ok(Next::PutOff(time)) => match self.orders.recv_timeout(time) {
                        Ok(order) => self.obey(order),
                        Err(RecvTimeoutError::Disconnected) => return,
                        Err(RecvTimeoutError::Timeout) => {}
                    },
                    Ok(Next::Sleep) => self.sleep(),
                    Err(fault) => self.tell(fault),
                },
            }
        }
    }

    /// Looks at the ring and serves what there is.
    fn look(&mut self) -> Result<Next, Fault> {
        if self.connection.has_requests()? {
            let put_off = self.service.asks(self.number);
            if put_off > 0 {
                self.connection.put_off();
                return Ok(Next::PutOff(Duration::from_nanos(put_off)));
            }
            self.drain()?;
            self.poll.served(clock::nanoseconds());
            return Ok(Next::Look);
        }
        if self.poll.looks_again(clock::nanoseconds()) {
            std::hint::spin_loop();
            return Ok(Next::Look);
        }
        Ok(if self.connection.arm()? { Next::Look } else { Next::Sleep })
    }

    fn drain(&mut self) -> Result<Drained, Fault> {
        let (drained, wants_call) =
            self.service.drain(self.number, self.control, &mut self.connection, *self.poll.statistics());
        if wants_call && let Some(client) = &self.client {
            // What goes wrong here is between the client and its own eventfd.
            let _ = rustix::io::write(&client.call, &1u64.to_ne_bytes());
        }
        drained
    }

    /// Sleeps until the client kicks or an order comes.
    fn sleep(&mut self) {
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 2];
        match epoll::wait(&self.epoll, &mut events[..], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => log::error!("client {}: waiting: {error}", self.number),
        }
        // It cannot fail: nobody else has this eventfd.
        let _ = self.wake.take();
    }

    fn obey(&mut self, order: Order) {
        // Who does not wait for the answer any more does not need it.
        match order {
            Order::Attach(client, configuration, answer) => {
                let _ = answer.send(self.attach(client, &configuration));
            }
            Order::ChangeCall(call, answer) => {
                if let Some(client) = &mut self.client {
                    client.call = call;
                }
                let _ = answer.send(());
            }
            Order::Detach(answer) => {
                let _ = answer.send(self.detach());
            }
        }
    }

    fn attach(&mut self, client: Box<Client>, configuration: &QueueConfiguration) -> Result<()> {
        if self.client.is_some() {
            bail!("the former client's ring is still served");
        }
        // SAFETY: the connection has it until `detach`, which drops it before it drops the client, or until `attach` fails, and
        // drops it at once. When the thread ends, the connection is dropped first (the order of the fields).
        let memory = unsafe { client.memory.guest_memory() }?;
        self.connection.attach(memory, configuration).map_err(|fault| anyhow!("the client's {fault}"))?;
        let events = epoll::EventFlags::IN | epoll::EventFlags::ET;
        let added = epoll::add(&self.epoll, &client.kick, epoll::EventData::new_u64(KICK), events);
        if let Err(error) = added {
            self.connection.detach();
            return Err(error).context("the client's kick eventfd cannot be waited for");
        }
        self.client = Some(client);
        // Without waiting for a kick: there may have been one before, and an answer that nobody was told of.
        match self.drain() {
            Ok(_) => self.poll.served(clock::nanoseconds()),
            Err(fault) => self.tell(fault),
        }
        Ok(())
    }

    /// Lets go of the client, if there is one, and gives back what its session held.
    fn detach(&mut self) -> u16 {
        let position = self.connection.position();
        self.service.note(self.number, &self.connection);
        self.connection.detach();
        if let Some(client) = self.client.take() {
            // A descriptor that is closed by all leaves by itself; this one the client has, too.
            let _ = epoll::delete(&self.epoll, &client.kick);
            let RingStatistics { drains, requests, largest_drain, notifications_sent, .. } =
                *self.connection.statistics();
            log::debug!(
                "client {}: {requests} requests in {drains} drains of up to {largest_drain}, {notifications_sent} notifications",
                self.number
            );
        }
        if let Err(fault) = self.drain() {
            self.tell(fault);
        }
        position.unwrap_or(0)
    }

    /// Tells, once, why a ring is served no more.
    fn tell(&mut self, fault: Fault) {
        log::error!("client {}: stopped: {fault}", self.number);
        self.service.note(self.number, &self.connection);
        if let Some(client) = &self.client {
            let _ = epoll::delete(&self.epoll, &client.kick);
        }
    }
}
