// SPDX-License-Identifier: MIT OR Apache-2.0

//! A small synchronous client of QEMU's machine protocol (QMP): one command, then its answer.
//!
//! Events that arrive in between are kept until somebody asks for them. Descriptors travel with the bytes of the
//! command that takes them (`getfd`), as ancillary data of the unix socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

/// How long a command may take. QEMU answers in milliseconds; under a loaded TCG, in a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many unclaimed events are kept.
const EVENTS_KEPT: usize = 64;

/// The longest message that is believed.
const LONGEST_MESSAGE: usize = 1 << 20;

/// Why a QMP exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The connection broke or fell silent.
    #[error("QMP connection: {0}")]
    Connection(io::Error),
    /// QEMU closed the connection: it is ending.
    #[error("QEMU closed its QMP connection")]
    Closed,
    /// A line is no JSON object that QMP has.
    #[error("QMP line not understood: {0}")]
    Syntax(String),
    /// QEMU refused the command.
    #[error("QEMU refuses {command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's `desc`.
        reason: String,
    },
    /// An event did not come in time.
    #[error("no {0} event from QEMU within {1:?}")]
    NoEvent(String, Duration),
}

impl From<io::Error> for QmpError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// Something that QEMU tells unasked.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name, such as `DEVICE_DELETED`.
    pub name: String,
    /// Its `data`; null if it has none.
    pub data: Value,
}

/// One message from QEMU.
#[derive(Debug, PartialEq)]
enum Message {
    Greeting,
    Return(Value),
    Error(String),
    Event(Event),
}

/// The client's end of a QMP connection.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    received: Vec<u8>,
    events: VecDeque<Event>,
}

impl Qmp {
    /// Waits for the greeting on a fresh connection and leaves the negotiation mode.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn new(stream: UnixStream) -> Result<Self, QmpError> {
        let mut qmp = Self { stream, received: Vec::new(), events: VecDeque::new() };
        match qmp.message(Instant::now() + PATIENCE)? {
            Some(Message::Greeting) => {}
            other => return Err(QmpError::Syntax(format!("greeting expected, got {other:?}"))),
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes `command` with the object `arguments`; returns what it returns.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.execute_passing(command, arguments, None)
    }

    /// Gives QEMU a copy of `descriptor` under `name`, for commands that take a descriptor by name.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn give(&mut self, name: &str, descriptor: BorrowedFd<'_>) -> Result<(), QmpError> {
        self.execute_passing("getfd", json!({ "fdname": name }), Some(descriptor)).map(drop)
    }

    fn execute_passing(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Value, QmpError> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        send_all(&self.stream, line.as_bytes(), descriptor)?;
        let end = Instant::now() + PATIENCE;
        loop {
            match self.message(end)? {
                Some(Message::Return(value)) => return Ok(value),
                Some(Message::Error(reason)) => {
                    return Err(QmpError::Refused { command: command.to_owned(), reason });
                }
                Some(Message::Event(event)) => self.keep(event),
                Some(Message::Greeting) => return Err(QmpError::Syntax("a second greeting".to_owned())),
                None => {
                    let text = format!("no answer to {command} within {PATIENCE:?}");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text).into());
                }
            }
        }
    }

    /// The first event for which `wanted` holds: a kept one, or the next within `limit`. Others stay kept.
    ///
    /// # Errors
    /// [`QmpError::NoEvent`] after `limit`, with `name` in its message; other [`QmpError`]s.
    pub fn wait_for_event(
        &mut self,
        name: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Event, QmpError> {
        let matches = |event: &Event| event.name == name && wanted(&event.data);
        if let Some(position) = self.events.iter().position(matches)
            && let Some(event) = self.events.remove(position)
        {
            return Ok(event);
        }
        let end = Instant::now() + limit;
        loop {
            match self.message(end)? {
                Some(Message::Event(event)) if matches(&event) => return Ok(event),
                Some(Message::Event(event)) => self.keep(event),
                Some(other) => return Err(QmpError::Syntax(format!("an answer to nothing: {other:?}"))),
                None => return Err(QmpError::NoEvent(name.to_owned(), limit)),
            }
        }
    }

    /// Drops the kept events for which `unwanted` holds.
    pub fn forget_events(&mut self, unwanted: impl Fn(&Event) -> bool) {
        self.events.retain(|event| !unwanted(event));
    }

    fn keep(&mut self, event: Event) {
        log::trace!("QMP event {} {}", event.name, event.data);
        if self.events.len() == EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The next message; `None` if none is complete by `end`.
    fn message(&mut self, end: Instant) -> Result<Option<Message>, QmpError> {
        loop {
            if let Some(length) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=length).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return parse(&line).map(Some);
            }
            if self.received.len() > LONGEST_MESSAGE {
                return Err(QmpError::Syntax("a line without end".to_owned()));
            }
            // A zero timeout would mean "for ever" to the socket.
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left))?;
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(QmpError::Closed),
                Ok(count) => self.received.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if Instant::now() >= end {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// One line of QMP.
fn parse(line: &[u8]) -> Result<Message, QmpError> {
    let not_understood = || QmpError::Syntax(String::from_utf8_lossy(line).trim().to_owned());
    let mut value: Value = serde_json::from_slice(line).map_err(|_| not_understood())?;
    let object = value.as_object_mut().ok_or_else(not_understood)?;
    if let Some(value) = object.remove("return") {
        return Ok(Message::Return(value));
    }
    if let Some(error) = object.get("error") {
        let reason = error.get("desc").and_then(Value::as_str).ok_or_else(not_understood)?;
        return Ok(Message::Error(reason.to_owned()));
    }
    if let Some(name) = object.get("event") {
        let name = name.as_str().ok_or_else(not_understood)?.to_owned();
        return Ok(Message::Event(Event { name, data: object.remove("data").unwrap_or(Value::Null) }));
    }
    if object.contains_key("QMP") {
        return Ok(Message::Greeting);
    }
    Err(not_understood())
}

/// Writes all of `bytes`; `descriptor` travels with the first of them.
pub(crate) fn send_all(
    stream: &UnixStream,
    mut bytes: &[u8],
    mut descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let passed: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
        if !passed.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&passed));
        }
        match sendmsg(stream.as_fd(), &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(count) => {
                bytes = &bytes[count..];
                descriptor = None;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};

    #[test]
    fn each_kind_of_message_is_told_apart() {
        assert_eq!(parse(br#"{"QMP": {"version": {}, "capabilities": []}}"#).unwrap(), Message::Greeting);
        assert_eq!(parse(br#"{"return": {"a": 1}}"#).unwrap(), Message::Return(json!({"a": 1})));
        assert_eq!(
            parse(br#"{"error": {"class": "GenericError", "desc": "no such device"}}"#).unwrap(),
            Message::Error("no such device".to_owned())
        );
        let event = parse(br#"{"timestamp": {}, "event": "STOP"}"#).unwrap();
        assert_eq!(event, Message::Event(Event { name: "STOP".to_owned(), data: Value::Null }));
        for bad in [&b"null"[..], b"{}", b"{", b"{\"event\": 1}", b"{\"error\": {}}"] {
            assert!(matches!(parse(bad), Err(QmpError::Syntax(_))), "{bad:?}");
        }
    }

    /// A QEMU that reads one line for each of `answers`, then sends it.
    fn scripted(answers: &'static [&'static str]) -> (UnixStream, std::thread::JoinHandle<Vec<String>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let mut reader = BufReader::new(theirs.try_clone().unwrap());
            (&theirs).write_all(b"{\"QMP\": {}}\r\n").unwrap();
            let mut asked = Vec::new();
            for answer in answers {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                asked.push(line);
                (&theirs).write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        (ours, server)
    }

    #[test]
    fn events_between_command_and_answer_are_kept_for_whoever_waits_for_them() {
        let (stream, server) = scripted(&[
            "{\"return\": {}}\n",
            "{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"a\"}}\n{\"return\": 7}\n",
        ]);
        let mut qmp = Qmp::new(stream).unwrap();
        assert_eq!(qmp.execute("ask", json!({"x": 1})).unwrap(), json!(7));
        let deleted = |device: &'static str| move |data: &Value| data["device"] == device;
        let limit = Duration::from_secs(5);
        assert_eq!(qmp.wait_for_event("DEVICE_DELETED", limit, deleted("a")).unwrap().data["device"], "a");
        let asked = server.join().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&asked[1]).unwrap()["arguments"]["x"], 1);
        assert!(matches!(qmp.wait_for_event("DEVICE_DELETED", limit, deleted("a")), Err(QmpError::Closed)));
    }

    #[test]
    fn a_refusal_carries_the_command_and_the_reason() {
        let (stream, _server) = scripted(&["{\"return\": {}}\n", "{\"error\": {\"desc\": \"not now\"}}\n"]);
        let error = Qmp::new(stream).unwrap().execute("device_add", json!({})).unwrap_err();
        assert_eq!(error.to_string(), "QEMU refuses device_add: not now");
    }

    #[test]
    fn an_event_that_does_not_come_is_an_error_in_time() {
        let (stream, _peer) = UnixStream::pair().unwrap();
        let mut qmp = Qmp { stream, received: Vec::new(), events: VecDeque::new() };
        let error = qmp.wait_for_event("RESUME", Duration::from_millis(10), |_| true).unwrap_err();
        assert!(matches!(error, QmpError::NoEvent(..)));
    }
}
