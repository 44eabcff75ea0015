// SPDX-License-Identifier: MIT OR Apache-2.0

//! A long sequence of calls on a recorded volume, and what is seen after each of them.
//!
//! Calls come in groups, as the requests of one pass do, and each group ends with a commit. The same seed gives the same
//! sequence.

use core::cell::Cell;
use core::ops::Range;
use std::format;
use std::thread_local;
use std::vec::Vec;

use super::tree::{Tree, observe};
use crate::ext4::crash::{Record, Recorder};
use crate::ext4::testing::{Image, Numbers};
use crate::ext4::{JournalStatistics, Volume};
use crate::fs::{
    AttributeChanges, AttributeExistence, Caller, Errno, FileKind, FileSystem, NewFile, NewKind, Node,
    Position, Removal, TimeChange, Timestamp,
};

/// What a mark says, in its upper bits; the lower ones have a number.
const KIND: u32 = 32;
/// This call begins.
pub(super) const CALL: u64 = 1 << KIND;
/// A commit was answered; this is the last transaction.
pub(super) const COMMITTED: u64 = 2 << KIND;
/// A synchronization was answered; this is the last transaction.
pub(super) const SYNCHRONIZED: u64 = 3 << KIND;
/// The volume is going to be unmounted.
pub(super) const UNMOUNTING: u64 = 4 << KIND;

/// Names that the big directory has at most; they are so long that its index gets a second level with small blocks.
const MANY: usize = 300;
const LONG: usize = 240;

/// A volume was written, and everything is known of it.
pub(super) struct Run {
    pub record: Record,
    /// What was seen after so many calls.
    pub trees: Vec<Tree>,
    /// Which bytes each call stored: those of call `n` are at `n - 1`.
    pub stored: Vec<Option<(Node, Range<u64>)>>,
    /// After how many calls transaction `n` may stand; the first place is for none.
    pub transactions: Vec<(usize, usize)>,
    pub statistics: JournalStatistics,
    /// Calls that ended for want of space.
    pub refused: usize,
}

thread_local! {
    static ASKED: Cell<i64> = const { Cell::new(0) };
}

/// A clock that goes on by itself, and now and then tells the same time twice.
fn ticking() -> Timestamp {
    let asked = ASKED.get() + 1;
    ASKED.set(asked);
    Timestamp { seconds: 1_700_000_000 + asked / 3, nanoseconds: 5 }
}

struct Workload {
    volume: Volume<Recorder>,
    numbers: Numbers,
    run: Run,
    /// Files that are kept open.
    open: Vec<Node>,
    names: usize,
    /// The big directory grows.
    grows: bool,
    /// More is freed than taken, for so many calls.
    freeing: usize,
}

/// Runs `calls` calls on the volume of `image`.
pub(super) fn run(image: &Image, calls: usize, seed: u64) -> Run {
    ASKED.set(0);
    let volume = Volume::mount_writable(Recorder::new(image.bytes()), ticking).unwrap();
    let first = observe(&volume, None).unwrap();
    let run = Run {
        record: Recorder::new(Vec::new()).record(),
        trees: std::vec![first],
        stored: Vec::new(),
        transactions: Vec::new(),
        statistics: JournalStatistics::default(),
        refused: 0,
    };
    let numbers = Numbers(seed);
    let mut workload = Workload { volume, numbers, run, open: Vec::new(), names: 0, grows: true, freeing: 0 };
    workload.note_transactions(0);
    while workload.run.stored.len() < calls {
        for _ in 0..=workload.numbers.below(8) {
            workload.step();
        }
        workload.commit();
    }
    let Workload { mut volume, mut run, .. } = workload;
    volume.region.mark(UNMOUNTING);
    run.statistics = volume.journal_statistics().unwrap();
    run.record = volume.unmount().unwrap().record();
    run
}

impl Workload {
    fn last(&self) -> u64 {
        self.volume.journal_statistics().unwrap().transactions
    }

    /// Whatever was committed until now stands after `from` calls, or as many as there were.
    fn note_transactions(&mut self, from: usize) {
        let to = self.run.stored.len();
        while self.run.transactions.len() <= usize::try_from(self.last()).unwrap() {
            self.run.transactions.push((from, to));
        }
    }

    fn commit(&mut self) {
        let calls = self.run.stored.len();
        self.volume.commit().unwrap();
        self.note_transactions(calls);
        let last = self.last();
        self.volume.region.mark(COMMITTED | last);
        if self.numbers.below(6) == 0 {
            self.volume.synchronize().unwrap();
            self.note_transactions(calls);
            let last = self.last();
            self.volume.region.mark(SYNCHRONIZED | last);
        }
    }

    /// One call, which stores to those bytes of a file.
    fn call<T>(
        &mut self,
        stores: Option<(Node, Range<u64>)>,
        call: impl FnOnce(&mut Volume<Recorder>) -> Result<T, Errno>,
    ) -> Option<T> {
        let before = self.run.stored.len();
        self.volume.region.mark(CALL | (before as u64 + 1));
        let result = call(&mut self.volume);
        self.run.stored.push(stores);
        self.note_transactions(before);
        let tree = observe(&self.volume, self.run.trees.last()).unwrap();
        self.run.trees.push(tree);
        match result {
            Ok(value) => Some(value),
            Err(Errno::ENOSPC) => {
                self.run.refused += 1;
                self.freeing = 40;
                None
            }
            Err(errno @ (Errno::EUCLEAN | Errno::EIO | Errno::EROFS | Errno::ESTALE)) => panic!("{errno}"),
            Err(_) => None,
        }
    }

    /// Some path of which `wanted` holds, and its node.
    fn some(&mut self, wanted: impl Fn(&[u8], FileKind) -> bool) -> Option<(Vec<u8>, Node)> {
        let tree = self.run.trees.last().unwrap();
        let found: Vec<_> = tree.iter().filter(|(path, file)| wanted(path, file.attributes.kind)).collect();
        if found.is_empty() {
            return None;
        }
        let (path, file) = found[self.numbers.below(found.len())];
        Some((path.clone(), file.node))
    }

    fn find(&self, path: &[u8]) -> Option<Node> {
        Some(self.run.trees.last()?.get(path)?.node)
    }

    /// The directory that `path` is in, and its name there.
    fn split(&self, path: &[u8]) -> (Node, Vec<u8>) {
        let slash = path.iter().rposition(|byte| *byte == b'/').unwrap();
        (self.find(&path[..slash]).unwrap(), path[slash + 1..].to_vec())
    }

    fn directory(&mut self) -> Node {
        let is_plain = |path: &[u8], kind| kind == FileKind::Directory && !reserved(path);
        self.some(is_plain).map_or(self.volume.root(), |(_, node)| node)
    }

    fn regular(&mut self) -> Option<(Vec<u8>, Node)> {
        self.some(|path, kind| kind == FileKind::Regular && !reserved(path))
    }

    fn new_name(&mut self) -> Vec<u8> {
        self.names += 1;
        let length = [4, 12, 60][self.numbers.below(3)];
        format!("{:0length$}", self.names).into_bytes()
    }

    fn caller(&mut self) -> Caller {
        Caller { uid: if self.numbers.below(3) == 0 { 0 } else { 1000 } }
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = 1 + self.numbers.below(most);
        let first = self.numbers.byte();
        (0..length).map(|at| first.wrapping_add(u8::try_from(at % 251).unwrap())).collect()
    }

    fn create(&mut self, directory: Node, name: &[u8], kind: NewKind<'_>) -> Option<Node> {
        let caller = self.caller();
        let new = NewFile { kind, mode: 0o644, uid: caller.uid, gid: 100 };
        self.call(None, |volume| volume.create(caller, directory, name, &new))
    }

    fn size(&self, node: Node) -> u64 {
        self.volume.attributes(node).unwrap().size
    }

    fn write(&mut self, node: Node, position: Position, bytes: &[u8]) {
        let offset = match position {
            Position::At(offset) => offset,
            Position::End => self.size(node),
        };
        let caller = self.caller();
        let stores = Some((node, offset..offset + bytes.len() as u64));
        self.call(stores, |volume| volume.write(caller, node, position, &mut { bytes }));
    }

    fn remove(&mut self, path: &[u8], removal: Removal) {
        let (parent, name) = self.split(path);
        self.call(None, |volume| volume.remove(parent, &name, removal));
    }

    fn step(&mut self) {
        self.freeing = self.freeing.saturating_sub(1);
        let choice = self.numbers.below(if self.freeing > 0 { 40 } else { 100 });
        match choice {
            0..16 => self.unlink(),
            16..20 => self.remove_directory(),
            20..25 => self.resize(),
            25..28 => self.close(),
            28..34 => self.rename(),
            34..38 => self.extend_attributes(),
            38..42 => self.change(),
            42..60 => self.write_somewhere(),
            60..68 => self.create_something(),
            68..72 => {
                let (directory, name) = (self.directory(), self.new_name());
                self.create(directory, &name, NewKind::Directory);
            }
            72..75 => self.link(),
            75..83 => self.scatter(),
            _ => {}
        }
        if choice >= 83 || choice.is_multiple_of(4) {
            self.big_directory();
        }
    }

    fn unlink(&mut self) {
        let Some((path, node)) = self.some(|path, kind| kind != FileKind::Directory && !reserved(path))
        else {
            return;
        };
        if self.numbers.below(3) == 0 && self.open.len() < 12 {
            self.volume.retain(node).unwrap();
            self.open.push(node);
        }
        self.remove(&path, Removal::File);
    }

    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let index = self.numbers.below(self.open.len());
        let node = self.open.swap_remove(index);
        self.call(None, |volume| {
            volume.release(node);
            Ok(())
        });
    }

    fn remove_directory(&mut self) {
        let found =
            self.some(|path, kind| kind == FileKind::Directory && !reserved(path) && !path.is_empty());
        if let Some((path, _)) = found {
            self.remove(&path, Removal::Directory);
        }
    }

    fn resize(&mut self) {
        let Some((_, node)) = self.regular() else { return };
        let (old, caller) = (self.size(node), self.caller());
        let below = usize::try_from(old).unwrap() + 1;
        let size = match self.numbers.below(5) {
            0 => 0,
            1 => old + self.numbers.below(9000) as u64,
            2 => (self.numbers.below(below) / 1024 * 1024) as u64,
            _ => self.numbers.below(below) as u64,
        };
        let changes = AttributeChanges { size: Some(size), ..AttributeChanges::default() };
        let stores = Some((node, old.min(size)..old.max(size)));
        self.call(stores, |volume| volume.set_attributes(caller, node, &changes));
    }

    fn change(&mut self) {
        let Some((_, node)) = self.some(|path, _| !path.starts_with(b"/lost+found")) else { return };
        let mut changes = AttributeChanges::default();
        match self.numbers.below(3) {
            0 => changes.mode = Some(0o4000 | u32::from(self.numbers.byte())),
            1 => (changes.uid, changes.gid) = (Some(u32::from(self.numbers.byte())), Some(70_000)),
            _ => {
                changes.accessed = Some(TimeChange::Now);
                changes.modified = Some(TimeChange::To(Timestamp { seconds: 5, nanoseconds: 7 }));
            }
        }
        self.call(None, |volume| volume.set_attributes(Caller::ROOT, node, &changes));
    }

    fn rename(&mut self) {
        let movable = |path: &[u8], _| !reserved(path) && !path.is_empty();
        let (Some((from, _)), Some((over, _))) = (self.some(movable), self.some(movable)) else { return };
        let (parent, name) = self.split(&from);
        let (to, new) =
            if self.numbers.below(2) == 0 { self.split(&over) } else { (self.directory(), self.new_name()) };
        self.call(None, |volume| volume.rename(Caller::ROOT, (parent, &name), (to, &new)));
    }

    fn extend_attributes(&mut self) {
        // Orphans without content keep their block of attributes when an `e2fsck` up to 1.47.0 frees them.
        let has_content = |kind| matches!(kind, FileKind::Regular | FileKind::Directory);
        let Some((_, node)) = self.some(|path, kind| !reserved(path) && has_content(kind)) else { return };
        let (caller, value) = (Caller::ROOT, self.bytes(700));
        let name = [&b"user.one"[..], b"trusted.two", b"security.three"][self.numbers.below(3)];
        if self.numbers.below(3) == 0 {
            self.call(None, |volume| volume.remove_attribute(caller, node, name));
        } else {
            let any = AttributeExistence::Any;
            self.call(None, |volume| volume.set_attribute(caller, node, name, &value, any));
        }
    }

    fn write_somewhere(&mut self) {
        if !self.open.is_empty() && self.numbers.below(6) == 0 {
            let node = self.open[self.numbers.below(self.open.len())];
            if self.volume.attributes(node).unwrap().kind == FileKind::Regular {
                let bytes = self.bytes(5000);
                self.write(node, Position::End, &bytes);
            }
            return;
        }
        let Some((_, node)) = self.regular() else { return };
        let most = [300, 9000, 90_000][self.numbers.below(3)];
        let bytes = self.bytes(most);
        let size = usize::try_from(self.size(node)).unwrap();
        let position = match self.numbers.below(4) {
            0 => Position::End,
            1 => Position::At((size + self.numbers.below(20_000)) as u64),
            _ => Position::At(self.numbers.below(size + 1) as u64),
        };
        self.write(node, position, &bytes);
    }

    fn create_something(&mut self) {
        let (directory, name) = (self.directory(), self.new_name());
        let target = self.bytes(500).iter().map(|byte| byte | 1).collect::<Vec<_>>();
        let kind = match self.numbers.below(9) {
            0 => NewKind::Symlink(&target),
            1 => NewKind::Symlink(b"short"),
            2 => NewKind::Fifo,
            3 => NewKind::CharacterDevice(0x501),
            _ => NewKind::Regular,
        };
        self.create(directory, &name, kind);
    }

    fn link(&mut self) {
        let Some((_, node)) = self.some(|path, kind| kind != FileKind::Directory && !reserved(path)) else {
            return;
        };
        let (directory, name) = (self.directory(), self.new_name());
        self.call(None, |volume| volume.link(Caller::ROOT, node, directory, &name));
    }

    /// Writes here and there into one file, which gets many extents, and empties it now and then.
    fn scatter(&mut self) {
        let root = self.volume.root();
        let Some(node) = self.find(b"/scattered") else {
            self.create(root, b"scattered", NewKind::Regular);
            return;
        };
        if self.numbers.below(60) == 0 {
            self.remove(b"/scattered", Removal::File);
            return;
        }
        for _ in 0..2 {
            let bytes = self.bytes(900);
            let offset = self.numbers.below(400) * 2 * 4096;
            self.write(node, Position::At(offset as u64), &bytes);
        }
    }

    /// Adds long names to one directory until it has many, then takes all away, and itself at last.
    fn big_directory(&mut self) {
        let root = self.volume.root();
        let Some(directory) = self.find(b"/many") else {
            self.grows = true;
            self.create(root, b"many", NewKind::Directory);
            return;
        };
        let inner: Vec<Vec<u8>> = {
            let tree = self.run.trees.last().unwrap();
            tree.keys().filter(|path| path.starts_with(b"/many/")).cloned().collect()
        };
        if inner.len() >= MANY || self.freeing > 0 {
            self.grows = false;
        }
        if self.grows {
            let target = inner.first().map(|path| self.find(path).unwrap());
            self.names += 1;
            let name = format!("{:0LONG$}", self.names).into_bytes();
            match target.filter(|node| self.volume.attributes(*node).unwrap().links < 1000) {
                Some(node) => {
                    self.call(None, |volume| volume.link(Caller::ROOT, node, directory, &name));
                }
                None => {
                    self.create(directory, &name, NewKind::Regular);
                }
            }
        } else if inner.is_empty() {
            self.remove(b"/many", Removal::Directory);
        } else {
            let path = inner[self.numbers.below(inner.len())].clone();
            self.remove(&path, Removal::File);
        }
    }
}

/// Whether `path` has a part of its own in the workload.
fn reserved(path: &[u8]) -> bool {
    [&b"/many"[..], b"/scattered", b"/lost+found"].iter().any(|own| path.starts_with(own))
}
