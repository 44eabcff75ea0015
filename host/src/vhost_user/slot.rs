// SPDX-License-Identifier: MIT OR Apache-2.0

//! One socket and the client that is connected to it.
//!
//! Two threads: one accepts, so that a second client hears at once that the socket is taken; the other serves the
//! requests of the first. Both are there from the start: no thread is made when a client comes.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::Shutdown;
use vhost::vhost_user::{BackendReqHandler, Error};

use super::device::Device;
use super::{RingServer, Socket};

/// How long a new client waits for the former one's ring to be let go of.
const HANDOVER: Duration = Duration::from_secs(15);

/// How much earlier than the former client's hang-up a new client may come.
const GRACE: Duration = Duration::from_millis(100);

/// How long to wait for better times when the system has no descriptor for a new connection.
const PAUSE: Duration = Duration::from_millis(100);

/// The file of a socket. Dropping it removes the file.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl SocketFile {
    /// The file of `socket`, which was made by [`Slot::listen`].
    #[must_use]
    pub fn of(socket: &Socket) -> Self {
        Self(socket.path.clone())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // One that is gone already needs no removing.
        let _ = fs::remove_file(&self.0);
    }
}

/// A listening socket with its threads. Dropping it ends both; the socket's file stays.
#[derive(Debug)]
pub struct Slot {
    listener: Arc<UnixListener>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What both threads see.
#[derive(Debug)]
struct Shared {
    number: u8,
    ending: AtomicBool,
    /// From the moment that a client is taken until its ring is let go of.
    serving: AtomicBool,
    /// The connection that is being served.
    connection: Mutex<Option<UnixStream>>,
}

impl Shared {
    fn new(number: u8) -> Self {
        Self {
            number,
            ending: AtomicBool::new(false),
            serving: AtomicBool::new(false),
            connection: Mutex::new(None),
        }
    }
}

impl Slot {
    /// Listens at the socket's path for clients of slot `number`, whose rings `server` serves.
    ///
    /// # Errors
    /// If the path cannot be listened at, or another process does.
    pub fn listen<S: RingServer>(number: u8, socket: &Socket, server: Arc<S>) -> Result<Self> {
        let listener = Arc::new(bind(&socket.path)?);
        let shared = Arc::new(Shared::new(number));
        let mut slot = Self { listener: listener.clone(), shared: shared.clone(), threads: Vec::new() };
        let (sender, connections) = channel();
        let tag = socket.tag.clone();
        slot.spawn("client", {
            let shared = shared.clone();
            move || serve_each(&connections, &shared, &tag, &server)
        })?;
        slot.spawn("accept", move || accept(&listener, &sender, &shared))?;
        Ok(slot)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let name = format!("{name} {}", self.shared.number);
        let (started, runs) = channel();
        let work = move || {
            // Nobody waits for it if the thread that spawns this one is gone.
            let _ = started.send(());
            work();
        };
        self.threads.push(thread::Builder::new().name(name).spawn(work)?);
        // It has made the system calls of a thread's start: a sandbox need not allow them any more.
        let _ = runs.recv();
        Ok(())
    }

    /// Says that the server is about to end: what fails from now on is no news.
    pub fn end(&self) {
        self.shared.ending.store(true, Ordering::Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.end();
        // Both calls wake the threads from their reads; a socket that is gone already needs no waking.
        let _ = rustix::net::shutdown(&self.listener, Shutdown::Both);
        if let Some(connection) = &*self.shared.connection.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A socket at `path`; one that a dead process left there is replaced.
fn bind(path: &Path) -> Result<UnixListener> {
    let shown = path.display();
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        other => return other.with_context(|| format!("cannot listen at {shown}")),
    }
    let kind = fs::symlink_metadata(path).with_context(|| format!("cannot listen at {shown}"))?.file_type();
    if !kind.is_socket() {
        bail!(
            "cannot listen at {shown}: there is a file that is no socket; remove it or choose another path"
        );
    }
    if UnixStream::connect(path).is_ok() {
        bail!("cannot listen at {shown}: another process does; end it or choose another path");
    }
    fs::remove_file(path).with_context(|| format!("cannot remove the stale socket {shown}"))?;
    UnixListener::bind(path).with_context(|| format!("cannot listen at {shown}"))
}

/// Takes connections until the slot ends, and hands them on one at a time.
fn accept(listener: &UnixListener, connections: &Sender<UnixStream>, shared: &Shared) {
    let number = shared.number;
    loop {
        let accepted = listener.accept();
        if shared.ending.load(Ordering::Relaxed) {
            return;
        }
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::error!("client {number}: cannot be accepted: {error}");
                thread::sleep(PAUSE);
                continue;
            }
        };
        if !wait_for_end(shared) {
            log::warn!("client {number}: its socket is taken, a second client is turned away");
            continue;
        }
        match stream.try_clone() {
            Ok(copy) => *shared.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy),
            Err(error) => {
                log::error!("client {number}: {error}");
                continue;
            }
        }
        // Relaxed: only this thread sets it, and the channel orders what follows.
        shared.serving.store(true, Ordering::Relaxed);
        if connections.send(stream).is_err() {
            return;
        }
    }
}

/// Whether the former client has ended; one that has hung up is given time to be detached.
fn wait_for_end(shared: &Shared) -> bool {
    let end = Instant::now() + HANDOVER;
    // Acquire: pairs with the release in `serve_each`; the former client's ring is let go of.
    while shared.serving.load(Ordering::Acquire) {
        let connection = shared.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // Its thread forgets the connection before it detaches the ring.
        let connected = connection.as_ref().is_some_and(|connection| !has_hung_up(connection));
        drop(connection);
        if connected || Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Whether the other end of `connection` is closed, or is closed within [`GRACE`].
fn has_hung_up(connection: &UnixStream) -> bool {
    let mut hang_up = [PollFd::new(connection, PollFlags::RDHUP)];
    let grace = Timespec::try_from(GRACE).ok();
    rustix::event::poll(&mut hang_up, grace.as_ref()).is_ok_and(|ready| ready > 0)
}

/// Serves one client after the other, until there are no more.
fn serve_each<S: RingServer>(
    connections: &Receiver<UnixStream>,
    shared: &Shared,
    tag: &str,
    server: &Arc<S>,
) {
    for stream in connections {
        let device = Device::new(shared.number, tag.to_owned(), server.clone());
        serve(stream, shared, Arc::new(Mutex::new(device)));
        // Release: see `wait_for_end`.
        shared.serving.store(false, Ordering::Release);
    }
}

/// Serves the client at the other end of `stream` in this thread, as slot `number`, until it hangs up or errs: what a [`Slot`]
/// does with each connection, for tests.
pub fn serve_connection<S: RingServer>(number: u8, tag: &str, stream: UnixStream, server: &Arc<S>) {
    let device = Device::new(number, tag.to_owned(), server.clone());
    serve(stream, &Shared::new(number), Arc::new(Mutex::new(device)));
}

/// Serves one client until it hangs up or errs.
fn serve<S: RingServer>(stream: UnixStream, shared: &Shared, device: Arc<Mutex<Device<S>>>) {
    let number = shared.number;
    log::debug!("client {number}: connected");
    let mut handler = BackendReqHandler::from_stream(stream, device.clone());
    let end = loop {
        if let Err(error) = handler.handle_request() {
            break error;
        }
    };
    *shared.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
    drop(handler);
    let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.ending.load(Ordering::Relaxed) {
        return;
    }
    match end {
        Error::Disconnected | Error::PartialMessage | Error::SocketBroken(_) if device.is_running() => {
            log::info!("client {number}: is gone, without stopping its ring");
        }
        Error::Disconnected | Error::PartialMessage | Error::SocketBroken(_) => {
            log::debug!("client {number}: hung up");
        }
        Error::ReqHandlerError(error) => log::error!("client {number}: {error}"),
        other => log::error!("client {number}: {other}"),
    }
    let reset = device.reset();
    if let Err(error) = reset
        && !shared.ending.load(Ordering::Relaxed)
    {
        log::error!("client {number}: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(bind(&path).unwrap());
        assert!(path.exists(), "a dropped listener leaves its socket");
        let _live = bind(&path).unwrap();
        let error = bind(&path).unwrap_err().to_string();
        assert!(error.contains("another process does"), "{error}");
    }

    #[test]
    fn a_file_in_the_way_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        fs::write(&path, b"precious").unwrap();
        let error = bind(&path).unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let error = format!("{:#}", bind(&directory.path().join("missing/socket")).unwrap_err());
        assert!(error.contains("missing/socket") && error.contains("No such file"), "{error}");
    }
}
