// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changes to a mounted volume: small numbers that choose among what was seen in it.

use arbitrary::Arbitrary;
use skerry::fs::{
    AttributeChanges, AttributeExistence, Caller, Errno, FileKind, FileSystem, NewFile, NewKind, Node,
    Position, Removal, TimeChange, Timestamp,
};

use crate::look::{File, Seen};

/// A change. `file` and `directory` choose among what was seen, `name` among its names and some new ones.
#[derive(Debug, Clone, Arbitrary)]
pub enum Change {
    /// A file of a kind.
    Create { directory: u8, name: u8, kind: u8 },
    /// One more name.
    Link { file: u8, directory: u8, name: u8 },
    /// One name less.
    Remove { file: u8, directory: bool },
    /// Another name.
    Rename { file: u8, directory: u8, name: u8 },
    /// Bytes at an offset, or at the end.
    Write { file: u8, offset: u32, length: u16, append: bool },
    /// A length.
    Resize { file: u8, size: u32, far: bool },
    /// Mode, owner, times.
    SetAttributes { file: u8, value: u32 },
    /// An extended attribute.
    SetExtended { file: u8, name: u8, length: u16, existence: u8 },
    /// None any more.
    RemoveExtended { file: u8, name: u8 },
    /// Kept open over the end of its name.
    Retain { file: u8 },
    /// Let go of, if it is kept.
    Release { file: u8 },
    /// The end of a pass.
    Commit,
    /// A barrier.
    Synchronize,
}

/// Who changes: root, and a user.
const USERS: [u32; 2] = [0, 1000];

/// A name that may be new.
fn new_name(number: u8) -> Vec<u8> {
    match number {
        0..8 => vec![b'a' + number],
        8..250 => format!("{number:03}{}", "m".repeat(usize::from(number))).into_bytes(),
        _ => vec![b'z'; 255],
    }
}

fn extended_name(number: u8) -> &'static [u8] {
    [
        &b"user.name"[..],
        b"user.colour",
        b"user.long",
        b"trusted.overlay.opaque",
        b"security.label",
        b"system.posix_acl_access",
        b"unknown.prefix",
    ][usize::from(number % 7)]
}

/// Carries out changes on a volume of which `seen` was seen.
#[derive(Debug)]
pub struct Changes<'a> {
    seen: &'a Seen,
    /// What was made since.
    made: Vec<(Node, Node, Vec<u8>)>,
    retained: Vec<Node>,
}

impl<'a> Changes<'a> {
    /// None were made yet.
    #[must_use]
    pub fn new(seen: &'a Seen) -> Self {
        Self { seen, made: Vec::new(), retained: Vec::new() }
    }

    fn file(&self, number: u8) -> &'a File {
        &self.seen.files[usize::from(number) % self.seen.files.len()]
    }

    /// A file: its node, directory and name.
    fn place(&self, number: u8) -> (Node, Node, Vec<u8>) {
        // Half of what is chosen is what was made, if anything was.
        if number & 1 != 0
            && let Some(made) = self.made.get(usize::from(number / 2) % self.made.len().max(1))
        {
            return made.clone();
        }
        let file = self.file(number);
        (file.node, file.directory, file.name.clone())
    }

    fn directory(&self, number: u8) -> Node {
        let directories: Vec<&File> =
            self.seen.files.iter().filter(|file| file.kind == Some(FileKind::Directory)).collect();
        directories
            .get(usize::from(number) % directories.len().max(1))
            .map_or(self.file(0).node, |file| file.node)
    }

    fn name(&self, number: u8) -> Vec<u8> {
        // The root has no name.
        let name = self.place(number).2;
        if number & 0x40 == 0 || name.is_empty() { new_name(number) } else { name }
    }

    /// Carries out one.
    ///
    /// # Errors
    /// What the volume answers.
    pub fn carry_out(&mut self, volume: &mut dyn FileSystem, change: &Change) -> Result<(), Errno> {
        match *change {
            Change::Create { directory, name, kind } => {
                let (parent, name) = (self.directory(directory), self.name(name));
                let target = [b't'; 300];
                let sort = match kind % 8 {
                    0 | 1 => NewKind::Regular,
                    2 => NewKind::Directory,
                    3 => NewKind::Symlink(&target[..1 + usize::from(kind)]),
                    4 => NewKind::Fifo,
                    5 => NewKind::Socket,
                    6 => NewKind::CharacterDevice(u64::from(kind) << 8),
                    _ => NewKind::BlockDevice(u64::from(kind)),
                };
                let new = NewFile { kind: sort, mode: 0o640, uid: 1, gid: 2 };
                let node = volume.create(caller(kind), parent, &name, &new)?;
                self.made.push((node, parent, name));
            }
            Change::Link { file, directory, name } => {
                let (node, parent, name) = (self.place(file).0, self.directory(directory), self.name(name));
                volume.link(Caller::ROOT, node, parent, &name)?;
                self.made.push((node, parent, name));
            }
            Change::Remove { file, directory } => {
                let (_, parent, name) = self.place(file);
                if !name.is_empty() {
                    let removal = if directory { Removal::Directory } else { Removal::File };
                    volume.remove(parent, &name, removal)?;
                }
            }
            Change::Rename { file, directory, name } => {
                let (node, parent, old) = self.place(file);
                let (to, new) = (self.directory(directory), self.name(name));
                if !old.is_empty() {
                    volume.rename(Caller::ROOT, (parent, &old), (to, &new))?;
                    self.made.push((node, to, new));
                }
            }
            Change::Write { file, offset, length, append } => {
                let bytes = vec![0x77; usize::from(length)];
                let position = if append { Position::End } else { Position::At(offset.into()) };
                let node = self.place(file).0;
                let count = volume.write(caller(file), node, position, &mut &bytes[..])?;
                assert!(count <= length.into(), "no more is written than there was");
                assert!(count > 0 || length == 0, "something is written");
            }
            Change::Resize { file, size, far } => {
                let size = Some(if far { u64::from(size) << 12 } else { (size % 1_000_000).into() });
                let changes = AttributeChanges { size, ..AttributeChanges::default() };
                volume.set_attributes(caller(file), self.place(file).0, &changes)?;
            }
            Change::SetAttributes { file, value } => {
                let chosen = |bit: u32, value| (value >> bit & 1 != 0).then_some(value);
                let time = Timestamp { seconds: i64::from(value) << 3, nanoseconds: value % 1_000_000_000 };
                let changes = AttributeChanges {
                    mode: chosen(0, value).map(|mode| mode & 0o7777),
                    uid: chosen(1, value),
                    gid: chosen(2, value),
                    size: None,
                    accessed: chosen(3, value).map(|_| TimeChange::Now),
                    modified: chosen(4, value).map(|_| TimeChange::To(time)),
                };
                volume.set_attributes(Caller::ROOT, self.place(file).0, &changes)?;
            }
            Change::SetExtended { file, name, length, existence } => {
                let existence = match existence % 4 {
                    0 | 1 => AttributeExistence::Any,
                    2 => AttributeExistence::Absent,
                    _ => AttributeExistence::Present,
                };
                let value = vec![name; usize::from(length % 5000)];
                let node = self.place(file).0;
                volume.set_attribute(Caller::ROOT, node, extended_name(name), &value, existence)?;
            }
            Change::RemoveExtended { file, name } => {
                volume.remove_attribute(Caller::ROOT, self.place(file).0, extended_name(name))?;
            }
            Change::Retain { file } => {
                let node = self.place(file).0;
                volume.retain(node)?;
                self.retained.push(node);
            }
            Change::Release { file } => {
                if !self.retained.is_empty() {
                    let index = usize::from(file) % self.retained.len();
                    volume.release(self.retained.swap_remove(index));
                }
            }
            Change::Commit => volume.commit()?,
            Change::Synchronize => volume.synchronize()?,
        }
        Ok(())
    }

    /// Carries out all; each error is one that a client can be given.
    pub fn carry_out_all(&mut self, volume: &mut dyn FileSystem, changes: &[Change]) {
        for change in changes {
            if let Err(errno) = self.carry_out(volume, change) {
                assert!(errno.name().is_some());
            }
        }
    }

    /// Lets go of all that is kept.
    pub fn release_all(&mut self, volume: &mut dyn FileSystem) {
        for node in self.retained.drain(..) {
            volume.release(node);
        }
    }
}

fn caller(number: u8) -> Caller {
    Caller { uid: USERS[usize::from(number & 1)] }
}
