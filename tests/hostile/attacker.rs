// SPDX-License-Identifier: MIT OR Apache-2.0

//! The hostile client: a connection that is made anew as often as the server ends it, and what has to become of its offences.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use skerry::fs::Errno;
use skerry::wire::{Fid, Tag, Tattach, Tmessage, Tversion, VERSION};
use skerry_host::client::{Client, RingTransport};
use skerry_host::front_end::{FrontEnd, Options};
use skerry_host::qemu::Transcript;

use crate::driver::{Driver, OPTIONS};
use crate::packed_queue;

/// What has to become of the attacker's ring.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// It is served.
    Serves,
    /// It is stopped, and the log says this of it.
    Stops(&'static str),
    /// The server has ended the connection.
    Ends,
    /// Nothing is promised: it may have hurt itself.
    Whatever,
}

/// A named case.
pub type Case = (&'static str, fn(&mut Attacker) -> Expected);

/// What stands for the attacker's own directory, in each session.
pub const HOME: Fid = Fid(0x4000_0000);
/// That directory.
const HOME_PATH: &[u8] = b"/hostile";

/// How long the log may take to tell of something.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a stopped ring has time to answer.
const SILENCE: Duration = Duration::from_millis(5);

pub struct Attacker {
    socket: PathBuf,
    /// Whether the rings that it begins with are packed ones.
    pub packed: bool,
    transcript: Transcript,
    /// Host mode's control socket.
    control: Option<(FrontEnd, Client<RingTransport>, Fid)>,
    line: Option<(FrontEnd, Client<Driver>)>,
    /// How many lines the log had when the ring was started.
    mark: usize,
    /// Of the connections that ended: requests that were answered, and those of them with Rlerror.
    answered: u64,
    errors: u64,
    /// Rings that the server has stopped.
    pub stopped: u64,
}

impl Attacker {
    pub fn new(
        socket: PathBuf,
        transcript: Transcript,
        control: Option<(FrontEnd, Client<RingTransport>, Fid)>,
    ) -> Self {
        Self {
            socket,
            packed: false,
            transcript,
            control,
            line: None,
            mark: 0,
            answered: 0,
            errors: 0,
            stopped: 0,
        }
    }

    /// Requests that were answered, and those of them with Rlerror.
    pub fn counts(&mut self) -> (u64, u64) {
        let (answered, errors) = match &mut self.line {
            Some((_, client)) => (client.transport().answered, client.transport().errors),
            None => (0, 0),
        };
        (self.answered + answered, self.errors + errors)
    }

    /// Hangs up.
    pub fn hang_up(&mut self) {
        (self.answered, self.errors) = self.counts();
        self.line = None;
    }

    /// Connects anew, and starts a ring, without a session.
    #[track_caller]
    pub fn connect(&mut self, options: Options) {
        self.hang_up();
        self.mark = self.transcript.count();
        let mut front_end = FrontEnd::connect(&self.socket, options).expect("the front end");
        let memory = front_end.memory().clone();
        let driver = if options.packed {
            let layout = packed_queue::layout(options.queue_size);
            let (kick, _) = front_end.start_queue(&layout, packed_queue::START).expect("the ring");
            Driver::packed(layout, kick, memory)
        } else {
            Driver::new(front_end.start().expect("the ring"), memory)
        };
        let mut client = Client::new(driver, 1 << 20).expect("the session");
        // The first thousand fids are the cases' own.
        while client.fresh_fid().0 < 999 {}
        self.line = Some((front_end, client));
    }

    /// A new session, on a new ring if there is none.
    #[track_caller]
    pub fn begin(&mut self) {
        if self.line.is_none() {
            self.connect(Options { packed: self.packed, ..OPTIONS });
        }
        self.session();
    }

    /// A new session on the ring: a Tversion and an attach.
    #[track_caller]
    pub fn session(&mut self) {
        self.client().version(VERSION, 1 << 20).expect("the session");
        self.done(Tattach { fid: HOME, afid: Fid::NOFID, uname: b"", aname: HOME_PATH, n_uname: 0 });
    }

    /// The session.
    pub fn client(&mut self) -> &mut Client<Driver> {
        &mut self.line.as_mut().expect("a connection").1
    }

    /// The ring.
    pub fn driver(&mut self) -> &mut Driver {
        self.client().transport()
    }

    /// The connection.
    pub fn front_end(&mut self) -> &mut FrontEnd {
        &mut self.line.as_mut().expect("a connection").0
    }

    /// The answer to any bytes: `Err` is an Rlerror.
    #[track_caller]
    pub fn answer(&mut self, request: &[u8]) -> Result<Vec<u8>, u32> {
        let reply = self.driver().exchange(request, 1 << 20);
        if reply[4] == 7 { Err(u32::from_le_bytes(reply[7..11].try_into().unwrap())) } else { Ok(reply) }
    }

    /// Any bytes are refused with this error.
    #[track_caller]
    pub fn refused_bytes(&mut self, errno: Errno, request: &[u8]) {
        let answer = self.answer(request);
        assert_eq!(answer, Err(errno.number()), "{errno} for {request:?}");
    }

    /// A request is refused with this error.
    #[track_caller]
    pub fn refused<'a>(&mut self, errno: Errno, request: impl Into<Tmessage<'a>>) {
        let request = request.into();
        let answer = self.answer(&bytes(request));
        assert_eq!(answer, Err(errno.number()), "{errno} for {request:?}");
    }

    /// A request is answered, and not with an error.
    #[track_caller]
    pub fn done<'a>(&mut self, request: impl Into<Tmessage<'a>>) -> Vec<u8> {
        let request = request.into();
        self.answer(&bytes(request)).unwrap_or_else(|errno| panic!("{request:?}: errno {errno}"))
    }

    /// A fresh fid at the `/`-separated path in the attacker's directory.
    #[track_caller]
    pub fn walked(&mut self, path: &str) -> Fid {
        self.client().walk_path(HOME, path.as_bytes()).expect("the walk")
    }

    /// What has to become of the ring after a case, becomes of it.
    #[track_caller]
    pub fn settle(&mut self, expected: Expected) {
        match expected {
            Expected::Serves => {
                self.session();
                let (root, _) = self.client().attach(b"").expect("the attach");
                assert_eq!(self.client().read_file(root, b"hello").expect("the file"), b"Hello, skerry!\n");
            }
            Expected::Stops(fault) => self.stops(fault),
            Expected::Ends | Expected::Whatever => self.hang_up(),
        }
    }

    /// The ring is stopped for `fault`: the log says so, and in host mode the control tree, and it does not answer any more.
    /// The next case gets another one.
    #[track_caller]
    pub fn stops(&mut self, fault: &str) {
        let line = self.said("client 0: stopped: ");
        assert!(line.contains(fault), "\"{fault}\" is not what was told: {line}");
        let driver = self.driver();
        let before = driver.progress();
        driver.go_back();
        driver.ask(&version(), 100);
        thread::sleep(SILENCE);
        assert_eq!(driver.progress(), before, "a stopped ring answers");
        if let Some((_, control, ctl)) = &mut self.control {
            let status = control.read_file(*ctl, b"clients/0/status").expect("the status");
            let status = String::from_utf8(status).expect("text");
            let mut lines = status.lines();
            assert_eq!(lines.next(), Some("state faulted"));
            assert!(lines.next().is_some_and(|line| line.contains(fault)), "{status}");
        }
        self.stopped += 1;
        self.hang_up();
    }

    /// The line of the log with `what`, since the ring was started.
    #[track_caller]
    pub fn said(&mut self, what: &str) -> String {
        let line = self.transcript.wait_for_after(self.mark, what, PATIENCE);
        line.unwrap_or_else(|| panic!("nobody says \"{what}\":\n{}", self.transcript.last(20).join("\n")))
    }

    /// Whether the ring was stopped since it was started.
    pub fn is_stopped(&self) -> bool {
        self.transcript.wait_for_after(self.mark, "client 0: stopped: ", Duration::ZERO).is_some()
    }
}

/// A request as it travels, with a tag of its own, without the data of a Twrite.
pub fn bytes<'a>(request: impl Into<Tmessage<'a>>) -> Vec<u8> {
    let request = request.into();
    let tag = if matches!(request, Tmessage::Tversion(_)) { Tag::NOTAG } else { Tag(0x1234) };
    let mut message = vec![0; request.head_length()];
    request.emit(tag, &mut message).expect("the request");
    message
}

/// A whole Tversion.
pub fn version() -> Vec<u8> {
    bytes(Tversion { msize: 8192, version: VERSION })
}
