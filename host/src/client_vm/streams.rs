// SPDX-License-Identifier: MIT OR Apache-2.0

//! The host's ends of a client's serial ports: what comes out is copied, and turned into events.
//!
//! A virtio-serial port does not tell that the other side is done, so the client ends each output with a random
//! mark that the host has chosen; a copier holds back only bytes that may be the start of the mark.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

/// What the command in the client is connected with.
pub struct Streams {
    /// Its standard input; read by a thread that lives until the end of it.
    pub stdin: Box<dyn Read + Send>,
    /// Where its standard output goes.
    pub stdout: Box<dyn Write + Send>,
    /// Where its standard error goes.
    pub stderr: Box<dyn Write + Send>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

/// What happens in a client VM.
#[derive(Debug)]
pub(super) enum Event {
    /// The share is mounted, and the command starts.
    Mounted,
    /// The client cannot do what it should.
    Failed(String),
    /// The command or shell has ended with this status.
    Exited(u8),
    /// One of the outputs is complete.
    OutputEnded,
    /// The client's output cannot be written on the host.
    OutputRefused(io::Error),
    /// QEMU has closed the control port.
    ControlEnded,
    /// Someone wants the end.
    Stopped(anyhow::Error),
}

/// A mark that no output contains by chance.
pub(super) fn end_mark() -> io::Result<String> {
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("end-{digits}"))
}

/// Reads the client's reports, one a line, in a thread of its own.
pub(super) fn follow_control(port: UnixStream, events: Sender<Event>) {
    std::thread::spawn(move || {
        for line in BufReader::new(port).lines().map_while(Result::ok) {
            // A receiver that is gone wants no more events.
            if events.send(report(&line)).is_err() {
                return;
            }
        }
        let _ = events.send(Event::ControlEnded);
    });
}

fn report(line: &str) -> Event {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("mounted", "") => Event::Mounted,
        ("failed", why) => Event::Failed(why.to_owned()),
        ("exit", status) if status.parse::<u8>().is_ok() => Event::Exited(status.parse().unwrap_or(u8::MAX)),
        _ => Event::Failed(format!("reports something unknown: {line:?}")),
    }
}

/// Copies what comes from `port` up to the mark to `sink`, in a thread of its own.
pub(super) fn follow_output(
    port: UnixStream,
    end_mark: String,
    sink: Box<dyn Write + Send>,
    events: Sender<Event>,
) {
    std::thread::spawn(move || {
        let event = match copy_until(port, end_mark.as_bytes(), sink) {
            Ok(true) => Event::OutputEnded,
            // QEMU is gone; the control port tells so.
            Ok(false) => return,
            Err(error) => Event::OutputRefused(error),
        };
        let _ = events.send(event);
    });
}

/// Copies up to `mark`; false if the source ends before it. Fails when `sink` does; a source that fails has ended.
fn copy_until(mut source: impl Read, mark: &[u8], mut sink: impl Write) -> io::Result<bool> {
    let mut buffer = vec![0; 256 << 10];
    let mut held = 0;
    loop {
        let count = match source.read(&mut buffer[held..]) {
            Ok(0) => 0,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        let filled = held + count;
        let keep = if count == 0 { 0 } else { overlap(&buffer[..filled], mark) };
        sink.write_all(&buffer[..filled - keep])?;
        sink.flush()?;
        if count == 0 || keep == mark.len() {
            return Ok(keep == mark.len());
        }
        buffer.copy_within(filled - keep..filled, 0);
        held = keep;
    }
}

/// The length of the longest start of `mark` that `data` ends with.
fn overlap(data: &[u8], mark: &[u8]) -> usize {
    (1..=mark.len()).rev().find(|&length| data.ends_with(&mark[..length])).unwrap_or(0)
}

/// Sends `prologue`, then all of `source`, to `port`, in a thread of its own.
pub(super) fn forward_input(prologue: &'static [u8], mut source: Box<dyn Read + Send>, mut port: UnixStream) {
    std::thread::spawn(move || {
        // An error on either side ends the client's input, which is all that the client could be told.
        let _ = port.write_all(prologue).and_then(|()| io::copy(&mut source, &mut port));
        // Only this direction, and no close: QEMU would drop what it has not delivered yet.
        let _ = port.shutdown(Shutdown::Write);
        // The socket stays open until QEMU ends.
        let _ = io::copy(&mut port, &mut io::sink());
    });
}

/// A sink that keeps what is written to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    /// What has been written since the last call.
    pub(super) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Kept {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that gives at most `step` bytes a read.
    struct Slowly<'a> {
        data: &'a [u8],
        step: usize,
    }

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.step.min(buffer.len());
            (&mut self.data).take(count as u64).read(buffer)
        }
    }

    #[test]
    fn all_bytes_before_the_mark_are_copied_however_they_are_cut() {
        let wanted = b"\0binary\r\n with en and end- and end-o in it\xff".to_vec();
        let data = [&wanted[..], b"end-of"].concat();
        for step in 1..=data.len() {
            let mut copied = Vec::new();
            assert!(copy_until(Slowly { data: &data, step }, b"end-of", &mut copied).unwrap());
            assert_eq!(copied, wanted, "{step} bytes a read");
        }
    }

    #[test]
    fn a_source_that_ends_without_the_mark_is_copied_whole_and_told() {
        let mut copied = Vec::new();
        assert!(!copy_until(&b"so far end-"[..], b"end-of", &mut copied).unwrap());
        assert_eq!(copied, b"so far end-");
    }

    #[test]
    fn output_is_not_held_back_unless_it_may_be_the_mark() {
        assert_eq!(overlap(b"progress 50%", b"end-of"), 0);
        assert_eq!(overlap(b"at the end", b"end-of"), 3);
        assert_eq!(overlap(b"end-of", b"end-of"), 6);
    }

    #[test]
    fn a_status_that_is_no_status_is_a_failure() {
        assert!(matches!(report("exit 127"), Event::Exited(127)));
        assert!(matches!(report("exit 300"), Event::Failed(_)));
        assert!(matches!(report("failed cannot mount: no"), Event::Failed(why) if why == "cannot mount: no"));
    }
}
