// SPDX-License-Identifier: MIT OR Apache-2.0

//! One socket and the client that is connected to it.
//!
//! Two threads: one accepts, so that a second client hears at once that the socket is taken; the other serves the
//! requests of the first.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::Shutdown;
use vhost::vhost_user::{BackendReqHandler, Error};

use super::device::Device;
use super::plane::ControlPlane;

/// How long a new client waits for the former one's ring to be let go of.
const HANDOVER: Duration = Duration::from_secs(15);

/// How much earlier than the former client's hang-up a new client may come.
const GRACE: Duration = Duration::from_millis(100);

/// A listening socket with its threads. Dropping it ends both and removes the socket.
#[derive(Debug)]
pub struct Slot {
    path: PathBuf,
    listener: Arc<UnixListener>,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What both threads see.
#[derive(Debug)]
struct Shared {
    number: u8,
    tag: String,
    plane: Arc<Mutex<ControlPlane>>,
    ending: AtomicBool,
    /// The connection that is being served.
    connection: Mutex<Option<UnixStream>>,
}

impl Slot {
    /// Listens at `path` for clients of slot `number`.
    ///
    /// # Errors
    /// If the path cannot be listened at, or another process does.
    pub fn listen(number: u8, path: &Path, tag: &str, plane: Arc<Mutex<ControlPlane>>) -> Result<Self> {
        let listener = Arc::new(bind(path)?);
        let connection = Mutex::new(None);
        let shared = Arc::new(Shared {
            number,
            tag: tag.to_owned(),
            plane,
            ending: AtomicBool::new(false),
            connection,
        });
        let acceptor = thread::Builder::new().name(format!("slot {number}")).spawn({
            let (listener, shared) = (listener.clone(), shared.clone());
            move || accept(&listener, &shared)
        })?;
        Ok(Self { path: path.to_owned(), listener, shared, acceptor: Some(acceptor) })
    }

    /// Says that the bridge is about to end: what fails from now on is no news.
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
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let _ = fs::remove_file(&self.path);
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

/// Takes connections until the slot ends.
fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    let mut serving: Option<JoinHandle<()>> = None;
    while let Ok((stream, _)) = listener.accept() {
        if shared.ending.load(Ordering::Relaxed) {
            break;
        }
        if let Some(former) = serving.take() {
            if !wait_for_end(&former, shared) {
                log::warn!("client {}: its socket is taken, a second client is turned away", shared.number);
                serving = Some(former);
                continue;
            }
            let _ = former.join();
        }
        match stream.try_clone() {
            Ok(copy) => *shared.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy),
            Err(error) => {
                log::error!("client {}: {error}", shared.number);
                continue;
            }
        }
        let shared = shared.clone();
        serving = Some(thread::spawn(move || serve(stream, &shared)));
    }
    if let Some(serving) = serving {
        let _ = serving.join();
    }
}

/// Whether the thread of the former client has ended; a client that has hung up is given time to be detached.
fn wait_for_end(former: &JoinHandle<()>, shared: &Shared) -> bool {
    let end = Instant::now() + HANDOVER;
    while !former.is_finished() {
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

/// Serves one client until it hangs up or errs.
fn serve(stream: UnixStream, shared: &Shared) {
    let number = shared.number;
    log::debug!("client {number}: connected");
    let device = Arc::new(Mutex::new(Device::new(number, shared.tag.clone(), shared.plane.clone())));
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
