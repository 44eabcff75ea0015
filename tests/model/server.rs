// SPDX-License-Identifier: MIT OR Apache-2.0

//! The real server on a real volume, in this process: messages in guest memory, a volume in mapped memory that outlives it.

use std::cell::Cell;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::ptr::NonNull;
use std::sync::OnceLock;

use skerry::ext4::Volume;
use skerry::fs::{FileSystem, FileSystemStatus, Timestamp};
use skerry::mem::guest::{GuestAddress, GuestMemory};
use skerry::mem::region::{Flush, FlushFault, MappedRegion};
use skerry::mem::scatter::{Loader, ScatterList};
use skerry::mem::{Sink, Source};
use skerry::server::{ExportList, Exports, LockTable, Scratch, Session, SessionLimits};
use skerry::wire::parse_r_with_data;

use super::request::{Answer, MSIZE, Request, answer};

/// Sessions; the last one only looks.
pub const SESSIONS: usize = 4;
/// The time before the first change, in seconds.
const MORNING: i64 = 1_800_000_000;

thread_local! {
    /// How often the clock was asked on this thread.
    static ASKED: Cell<i64> = const { Cell::new(0) };
}

/// The time, which goes on by a second whenever somebody has asked for it four times: some changes are at the same time.
fn clock() -> Timestamp {
    ASKED.set(ASKED.get() + 1);
    let seconds = now();
    Timestamp { seconds, nanoseconds: u32::try_from(seconds % 1_000_000_000).unwrap() }
}

/// The time that the clock told last, in seconds.
pub fn now() -> i64 {
    MORNING + ASKED.get() / 4
}

/// A sort of volume to make.
#[derive(Debug)]
pub struct Flavour {
    pub name: &'static str,
    /// As `mkfs.ext4` takes it.
    pub size: &'static str,
    pub options: &'static [&'static str],
    /// Blocks that are not to be used, so that less is left.
    pub bad_blocks: Range<u32>,
    pub block_size: u64,
    /// Whether times have nanoseconds, and files a time of creation.
    pub large_inodes: bool,
    pub image: OnceLock<Vec<u8>>,
}

fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    command
}

impl Flavour {
    /// The bytes of a new volume.
    fn image(&self) -> &[u8] {
        self.image.get_or_init(|| {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("volume");
            let list = directory.path().join("list");
            std::fs::write(
                &list,
                self.bad_blocks.clone().map(|block| format!("{block}\n")).collect::<String>(),
            )
            .unwrap();
            let made = tool("mkfs.ext4")
                .args(["-q", "-F", "-l"])
                .arg(&list)
                .args(self.options)
                .arg(&file)
                .arg(self.size)
                .output();
            let made = made.expect("mkfs.ext4 (the tests need the package e2fsprogs)");
            assert!(made.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&made.stderr));
            std::fs::read(file).unwrap()
        })
    }
}

/// The memory is all there is to flush to.
struct Memory;

impl Flush for Memory {
    fn flush(&mut self) -> Result<(), FlushFault> {
        Ok(())
    }
}

/// A server and all its clients.
pub struct Server {
    /// `None` only while it is mounted anew.
    volume: Option<Volume<MappedRegion<Memory>>>,
    /// What the volume is in.
    bytes: Vec<u8>,
    sessions: Vec<Session>,
    locks: LockTable,
    exports: ExportList,
    scratch: Box<Scratch>,
    memory: GuestMemory,
    /// What `memory` is.
    _ram: Box<[u64]>,
    /// Where `e2fsck` looks.
    directory: tempfile::TempDir,
}

const REQUESTS: u64 = 0x1_0000;
const ROOM: u32 = MSIZE;
const REPLIES: u64 = REQUESTS + 0x4_0000;
const RAM: usize = 0x8_0000;
/// Length of the buffers of a chain. No two of them adjoin.
const PIECE: u32 = 3001;

fn load<'a>(list: &'a mut ScatterList, memory: &'a GuestMemory, at: u64, length: u32) -> Loader<'a> {
    let mut loader = list.load(memory);
    let mut address = at;
    while loader.length() < length {
        loader.push(GuestAddress(address), PIECE.min(length - loader.length())).unwrap();
        address += u64::from(PIECE) + 1;
    }
    loader
}

fn new_sessions() -> Vec<Session> {
    let limits = SessionLimits { max_fids: 512, max_msize: MSIZE };
    (0..SESSIONS).map(|_| Session::new(limits)).collect()
}

impl Server {
    /// A server of a new volume.
    pub fn new(flavour: &Flavour) -> Self {
        let bytes = flavour.image().to_vec();
        assert!(bytes.as_ptr().cast::<u64>().is_aligned(), "as published stores need it");
        let mut ram = vec![0u64; RAM / 8].into_boxed_slice();
        let mut memory = GuestMemory::new();
        let start = NonNull::new(ram.as_mut_ptr().cast()).unwrap();
        // SAFETY: `ram` is `RAM` bytes long, is kept beside `memory` for as long as that lives (its contents do not move with
        // the box), and nobody else refers to it.
        unsafe { memory.add_region(GuestAddress(REQUESTS), RAM, start) }.unwrap();
        let mut server = Self {
            volume: None,
            bytes,
            sessions: new_sessions(),
            locks: LockTable::default(),
            exports: ExportList::default(),
            scratch: Box::new(Scratch::new()),
            memory,
            _ram: ram,
            directory: tempfile::tempdir().unwrap(),
        };
        server.mount().unwrap();
        server
    }

    fn mount(&mut self) -> Result<(), String> {
        let length = self.bytes.len();
        let start = NonNull::new(self.bytes.as_mut_ptr()).unwrap();
        // SAFETY: `bytes` is `length` bytes long, lives as long as the volume beside it, and is touched only while there is
        // no volume.
        let region = unsafe { MappedRegion::writable(start, length, Memory) };
        let volume = Volume::mount_writable(region, clock).map_err(|error| format!("mount: {error}"))?;
        if let Some(reason) = volume.read_only_reason() {
            return Err(format!("mounted to be read only: {reason}"));
        }
        self.volume = Some(volume);
        Ok(())
    }

    fn volume(&mut self) -> &mut Volume<MappedRegion<Memory>> {
        self.volume.as_mut().expect("it is mounted")
    }

    /// Has `session` send `request`.
    pub fn handle(&mut self, session: usize, request: &Request) -> Result<Answer, String> {
        let message = request.encode();
        let (mut readable, mut writable) = (ScatterList::new(), ScatterList::new());
        let (length, memory) = (u32::try_from(message.len()).unwrap(), &self.memory);
        load(&mut readable, memory, REQUESTS, length).into_writer().put(&message).unwrap();
        let volume = self.volume.as_mut().expect("it is mounted");
        let mut exports = Exports::new(volume, &self.exports, &mut self.locks);
        let length = self.sessions[session]
            .handle(
                &mut exports,
                load(&mut readable, memory, REQUESTS, length).into_reader(),
                load(&mut writable, memory, REPLIES, ROOM).into_writer(),
                &mut self.scratch,
            )
            .map_err(|fault| format!("{fault}"))?;
        let mut reply = vec![0; length as usize];
        load(&mut writable, memory, REPLIES, length).into_reader().take(&mut reply).unwrap();
        let (_, message, data) = parse_r_with_data(&reply).map_err(|error| format!("the reply: {error}"))?;
        Ok(answer(message, data))
    }

    /// What is free.
    pub fn status(&mut self) -> FileSystemStatus {
        self.volume().status().unwrap()
    }

    /// The volume as a kill at this moment leaves it.
    pub fn left_by_kill(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// The volume as the last [`rest`](Self::rest) left it.
    pub fn left_by_rest(&self) -> Vec<u8> {
        std::fs::read(self.directory.path().join("volume")).expect("it was checked there")
    }

    /// As at the end of a pass over a ring.
    pub fn commit(&mut self) -> Result<(), String> {
        self.volume().commit().map_err(|errno| format!("commit: {errno}"))
    }

    /// Ends without a word, and starts again.
    pub fn kill(&mut self) -> Result<(), String> {
        self.volume = None;
        self.restart()
    }

    /// Unmounts, has `e2fsck` look, and starts again.
    pub fn rest(&mut self) -> Result<(), String> {
        let volume = self.volume.take().expect("it is mounted");
        volume.unmount().map_err(|errno| format!("unmount: {errno}"))?;
        self.check()?;
        self.restart()
    }

    fn restart(&mut self) -> Result<(), String> {
        self.sessions = new_sessions();
        self.locks = LockTable::default();
        self.mount()
    }

    /// Whether `e2fsck` finds nothing.
    fn check(&self) -> Result<(), String> {
        let file: PathBuf = self.directory.path().join("volume");
        std::fs::write(&file, &self.bytes).unwrap();
        let checked =
            tool("e2fsck").arg("-fn").arg(&file).output().expect("e2fsck (from the package e2fsprogs)");
        if checked.status.success() {
            return Ok(());
        }
        Err(format!("e2fsck: {}", String::from_utf8_lossy(&checked.stdout)))
    }
}
