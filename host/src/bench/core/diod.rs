// SPDX-License-Identifier: MIT OR Apache-2.0

//! diod, a 9P server for clusters, as Debian packs it: a process of its own behind a Unix socket.

use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::message::Message;
use super::peer::{Peer, SLOTS, begin, refused};
use crate::qemu::source_root;

/// Where `host/provision-bench.sh` leaves its launcher.
fn launcher() -> PathBuf {
    source_root().join("target/tools/bin/diod")
}

/// The server, and a connection to it.
pub struct Diod {
    // Closed before the process is ended.
    stream: BufReader<UnixStream>,
    steps: Vec<Vec<Vec<u8>>>,
    loaded: Vec<Vec<Message>>,
    replies: Vec<Vec<u8>>,
    msize: u32,
    process: Child,
}

impl Diod {
    /// Starts it to serve what is below `directory`, with a socket at `socket`.
    ///
    /// # Errors
    /// If it is not there, or does not come up.
    pub fn new(directory: &Path, socket: &Path) -> Result<Self> {
        let launcher = launcher();
        ensure!(launcher.exists(), "diod is missing ({}); run host/provision-bench.sh", launcher.display());
        let mut process = Command::new(&launcher)
            .args(["--foreground", "--no-auth", "--no-userdb", "--config-file", "/dev/null", "--logdest"])
            // It logs what it refuses.
            .arg(socket.with_extension("log"))
            .arg("--export")
            .arg(directory)
            .arg("--listen")
            .arg(socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", launcher.display()))?;
        let stream = match connect(&mut process, socket) {
            Ok(stream) => BufReader::with_capacity(1 << 20, stream),
            Err(error) => {
                end(&mut process);
                return Err(error);
            }
        };
        let replies = vec![Vec::new(); SLOTS];
        let mut peer = Self { stream, steps: Vec::new(), loaded: Vec::new(), replies, msize: 0, process };
        peer.msize = begin(&mut peer, directory.as_os_str().as_encoded_bytes())?;
        Ok(peer)
    }
}

/// Connects as soon as there is a socket.
fn connect(process: &mut Child, socket: &Path) -> Result<UnixStream> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Ok(stream) = UnixStream::connect(socket) {
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            return Ok(stream);
        }
        if let Some(status) = process.try_wait()? {
            bail!("diod ended at once: {status}");
        }
        ensure!(Instant::now() < end, "diod makes no socket at {}", socket.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn end(process: &mut Child) {
    // Both fail only for a process that has ended already.
    let _ = process.kill();
    let _ = process.wait();
}

impl Drop for Diod {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

impl Peer for Diod {
    fn name(&self) -> &'static str {
        "diod"
    }

    fn is_in_process(&self) -> bool {
        false
    }

    fn msize(&self) -> u32 {
        self.msize
    }

    fn load(&mut self, steps: &[Vec<Message>]) -> Result<()> {
        self.steps = steps.iter().map(|step| step.iter().map(Message::bytes).collect()).collect();
        self.loaded = steps.to_vec();
        Ok(())
    }

    fn exchange(&mut self, step: usize) -> Result<()> {
        // One call for each message, as v9fs makes them.
        for message in &self.steps[step] {
            self.stream.get_mut().write_all(message).context("diod")?;
        }
        // All replies are taken, also behind one that is an error.
        let mut outcome = Ok(());
        for _ in 0..self.steps[step].len() {
            let mut head = [0; 7];
            self.stream.read_exact(&mut head).context("diod")?;
            let [a, b, c, d, kind, tag @ ..] = head;
            let length = u32::from_le_bytes([a, b, c, d]) as usize;
            let tag = u16::from_le_bytes(tag);
            // Tversion has no tag.
            let slot = if tag == u16::MAX { 0 } else { usize::from(tag) };
            let reply = self.replies.get_mut(slot).context("diod answers a tag that was not used")?;
            reply.resize(length, 0);
            reply[..7].copy_from_slice(&head);
            self.stream.read_exact(&mut reply[7..]).context("diod")?;
            let message = self.loaded[step].get(slot).context("diod answers a tag that was not used")?;
            if kind != u8::from(message.answer) {
                outcome = outcome.and(refused("diod", message, reply));
            }
        }
        outcome
    }

    fn reply(&self, slot: usize) -> Vec<u8> {
        self.replies[slot].clone()
    }
}
