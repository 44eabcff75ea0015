// SPDX-License-Identifier: MIT OR Apache-2.0

//! The synthetic `ctl` tree: how the service is configured and observed, over 9P itself.
//!
//! ```text
//! version             what runs here
//! stats               counters of the whole service, `key value` lines
//! volume              the state of the volume, `key value` lines; write `rest` to bring it to rest
//! clients/N/ctl       write a command (see [`super::command`]); reads as nothing
//! clients/N/status    the state of slot N, `key value` lines
//! ```
//!
//! The text of a file is rendered anew for every read; nothing is kept between reads. What the commands do and
//! what the lines say is the platform's: it implements [`ControlPlane`].

use core::fmt;
use core::ops::ControlFlow;

use super::command::Command;
use super::{
    Attributes, Caller, DirectoryEntry, Errno, FileKind, FileSystem, FileSystemStatus, Node, Position,
    Timestamp,
};
use crate::mem::window::Window;
use crate::mem::{Sink, Source};

/// Longest command line, in bytes.
pub const MAX_COMMAND: usize = 2048;

/// What the `ctl` tree shows and steers.
pub trait ControlPlane {
    /// Number of client slots, 1…255; fixed.
    fn slots(&self) -> u8;

    /// Writes the counters of the whole service, a `key value` line each.
    ///
    /// # Errors
    /// Only those of `out`.
    fn write_statistics(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Writes the state of `slot`, a `key value` line each; the first is `state free`, `state running` or `state faulted`.
    ///
    /// # Errors
    /// Only those of `out`.
    fn write_status(&self, slot: u8, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Writes the state of the volume, a `key value` line each.
    ///
    /// # Errors
    /// Only those of `out`.
    fn write_volume(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Has the volume brought to rest before the next request of this session is answered: all that was changed is flushed and
    /// in its place, and the volume says that it is clean. It is only read from then on.
    fn rest(&mut self);

    /// Carries out `command` on `slot`, wholly or not at all.
    ///
    /// # Errors
    /// EBUSY to attach a slot that is in use, ENODEV where no memory is plugged, EINVAL for a ring or memory that
    /// cannot be, ENODATA for a doorbell of a free slot.
    fn command(&mut self, slot: u8, command: &Command) -> Result<(), Errno>;
}

/// The files of the tree. A node's number is `slot << 8 | one of these`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum File {
    Root,
    Version,
    Stats,
    Volume,
    Clients,
    Client(u8),
    ClientCtl(u8),
    ClientStatus(u8),
}

impl File {
    fn from_node(node: Node, slots: u8) -> Result<Self, Errno> {
        let slot = u8::try_from(node.0 >> 8).map_err(|_| Errno::ENOENT)?;
        let file = match (slot, node.0 & 0xff) {
            (0, 1) => Self::Root,
            (0, 2) => Self::Version,
            (0, 3) => Self::Stats,
            (0, 4) => Self::Clients,
            (0, 8) => Self::Volume,
            (slot, 5) if slot < slots => Self::Client(slot),
            (slot, 6) if slot < slots => Self::ClientCtl(slot),
            (slot, 7) if slot < slots => Self::ClientStatus(slot),
            _ => return Err(Errno::ENOENT),
        };
        Ok(file)
    }

    fn node(self) -> Node {
        let (slot, number) = match self {
            Self::Root => (0, 1),
            Self::Version => (0, 2),
            Self::Stats => (0, 3),
            Self::Clients => (0, 4),
            Self::Volume => (0, 8),
            Self::Client(slot) => (slot, 5),
            Self::ClientCtl(slot) => (slot, 6),
            Self::ClientStatus(slot) => (slot, 7),
        };
        Node(u64::from(slot) << 8 | number)
    }

    /// `st_mode`.
    fn mode(self) -> u32 {
        match self {
            Self::Root | Self::Clients | Self::Client(_) => 0o040_555,
            Self::Version | Self::Stats | Self::ClientStatus(_) => 0o100_444,
            Self::ClientCtl(_) => 0o100_200,
            Self::Volume => 0o100_600,
        }
    }

    fn kind(self) -> FileKind {
        match self {
            Self::Root | Self::Clients | Self::Client(_) => FileKind::Directory,
            _ => FileKind::Regular,
        }
    }

    fn parent(self) -> Self {
        match self {
            Self::Client(_) => Self::Clients,
            Self::ClientCtl(slot) | Self::ClientStatus(slot) => Self::Client(slot),
            _ => Self::Root,
        }
    }
}

/// The name of client directory `slot`, in decimal.
fn slot_name(slot: u8) -> heapless::String<3> {
    let mut name = heapless::String::new();
    // Three digits hold every `u8`.
    let _ = fmt::Write::write_fmt(&mut name, format_args!("{slot}"));
    name
}

/// The `ctl` export: a view of a [`ControlPlane`] as files.
pub struct ControlTree<'a>(pub &'a mut dyn ControlPlane);

impl ControlTree<'_> {
    fn file(&self, node: Node) -> Result<File, Errno> {
        File::from_node(node, self.0.slots())
    }

    /// The entry at `position` of `directory`; `.` and `..` are the first two.
    fn entry(&self, directory: File, position: u16) -> Option<(File, heapless::String<8>)> {
        let named = |file, name: &str| heapless::String::try_from(name).ok().map(|name| (file, name));
        match (directory, position) {
            (_, 0) => named(directory, "."),
            (_, 1) => named(directory.parent(), ".."),
            (File::Root, 2) => named(File::Version, "version"),
            (File::Root, 3) => named(File::Stats, "stats"),
            (File::Root, 4) => named(File::Volume, "volume"),
            (File::Root, 5) => named(File::Clients, "clients"),
            (File::Clients, position) => {
                let slot =
                    u8::try_from(position.checked_sub(2)?).ok().filter(|slot| *slot < self.0.slots())?;
                named(File::Client(slot), &slot_name(slot))
            }
            (File::Client(slot), 2) => named(File::ClientCtl(slot), "ctl"),
            (File::Client(slot), 3) => named(File::ClientStatus(slot), "status"),
            _ => None,
        }
    }

    fn render(&self, file: File, out: &mut Window<'_>) -> fmt::Result {
        use fmt::Write;
        match file {
            File::Version => writeln!(out, "skerry {}", env!("CARGO_PKG_VERSION")),
            File::Stats => self.0.write_statistics(out),
            File::Volume => self.0.write_volume(out),
            File::ClientStatus(slot) => self.0.write_status(slot, out),
            _ => Ok(()),
        }
    }
}

impl FileSystem for ControlTree<'_> {
    fn root(&self) -> Node {
        File::Root.node()
    }

    fn lookup(&self, directory: Node, name: &[u8]) -> Result<Node, Errno> {
        let directory = self.file(directory)?;
        if directory.kind() != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        (2..=u16::MAX)
            .map_while(|position| self.entry(directory, position))
            .find(|(_, entry)| entry.as_bytes() == name)
            .map(|(file, _)| file.node())
            .ok_or(Errno::ENOENT)
    }

    fn parent(&self, directory: Node) -> Result<Node, Errno> {
        let directory = self.file(directory)?;
        if directory.kind() == FileKind::Directory {
            Ok(directory.parent().node())
        } else {
            Err(Errno::ENOTDIR)
        }
    }

    fn attributes(&self, node: Node) -> Result<Attributes, Errno> {
        let file = self.file(node)?;
        let mut measure = Window::counting();
        self.render(file, &mut measure).map_err(|_| Errno::EIO)?;
        Ok(Attributes {
            kind: file.kind(),
            mode: file.mode(),
            uid: 0,
            gid: 0,
            links: if file.kind() == FileKind::Directory { 2 } else { 1 },
            device: 0,
            size: measure.total(),
            block_size: 4096,
            blocks: 0,
            accessed: Timestamp::default(),
            modified: Timestamp::default(),
            changed: Timestamp::default(),
            created: None,
            generation: None,
            data_version: None,
        })
    }

    fn read(&self, node: Node, offset: u64, count: u32, sink: &mut dyn Sink) -> Result<u32, Errno> {
        let file = self.file(node)?;
        if file.kind() == FileKind::Directory {
            return Err(Errno::EISDIR);
        }
        let limit = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
        let mut window = Window::new(sink, offset, limit);
        self.render(file, &mut window).map_err(|_| Errno::EIO)?;
        u32::try_from(window.passed()).map_err(|_| Errno::EIO)
    }

    fn read_directory(
        &self,
        directory: Node,
        offset: u64,
        visit: &mut dyn FnMut(&DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        let directory = self.file(directory)?;
        if directory.kind() != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let first = u16::try_from(offset).map_err(|_| Errno::EINVAL)?;
        for position in first..=u16::MAX {
            let Some((file, name)) = self.entry(directory, position) else { break };
            let next = u64::from(position) + 1;
            let entry =
                DirectoryEntry { number: file.node().0, kind: file.kind(), next, name: name.as_bytes() };
            if visit(&entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn read_link(&self, _node: Node, _sink: &mut dyn Sink) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn list_attributes(&self, _node: Node, _sink: &mut dyn Sink) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn read_attribute(&self, _node: Node, _name: &[u8], _sink: &mut dyn Sink) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn status(&self) -> Result<FileSystemStatus, Errno> {
        Ok(FileSystemStatus {
            block_size: 4096,
            blocks: 0,
            blocks_free: 0,
            blocks_available: 0,
            files: 0,
            files_free: 0,
            identifier: 0,
            name_length: 255,
        })
    }

    fn check_writable(&self, node: Node) -> Result<(), Errno> {
        match self.file(node)? {
            File::ClientCtl(_) | File::Volume => Ok(()),
            _ => Err(Errno::EACCES),
        }
    }

    /// A write is one command, whole; the offset means nothing.
    fn write(
        &mut self,
        _caller: Caller,
        node: Node,
        _position: Position,
        source: &mut dyn Source,
    ) -> Result<u32, Errno> {
        self.check_writable(node)?;
        let mut buffer = [0; MAX_COMMAND];
        let length = source.remaining();
        let line = buffer.get_mut(..length).ok_or(Errno::EMSGSIZE)?;
        source.take(line).map_err(|_| Errno::EIO)?;
        match self.file(node)? {
            File::ClientCtl(slot) => {
                let command = Command::parse(line).map_err(|error| {
                    log::error!("ctl/clients/{slot}/ctl: {error}");
                    Errno::EINVAL
                })?;
                self.0.command(slot, &command)?;
            }
            _ if line.trim_ascii() == b"rest" => self.0.rest(),
            _ => {
                log::error!("ctl/volume: unknown command {:?}; known: rest", line.escape_ascii());
                return Err(Errno::EINVAL);
            }
        }
        u32::try_from(length).map_err(|_| Errno::EMSGSIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    /// As many slots as it says, and the commands it got.
    struct Recorder(u8, Vec<(u8, Command)>, u32);

    impl Default for Recorder {
        fn default() -> Self {
            Self(12, Vec::new(), 0)
        }
    }

    impl ControlPlane for Recorder {
        fn slots(&self) -> u8 {
            self.0
        }
        fn write_statistics(&self, out: &mut dyn fmt::Write) -> fmt::Result {
            writeln!(out, "requests {}", self.1.len())
        }
        fn write_status(&self, slot: u8, out: &mut dyn fmt::Write) -> fmt::Result {
            writeln!(out, "state free\nslot {slot}")
        }
        fn write_volume(&self, out: &mut dyn fmt::Write) -> fmt::Result {
            writeln!(out, "rests {}", self.2)
        }
        fn rest(&mut self) {
            self.2 += 1;
        }
        fn command(&mut self, slot: u8, command: &Command) -> Result<(), Errno> {
            self.1.push((slot, command.clone()));
            Ok(())
        }
    }

    fn walk(tree: &ControlTree<'_>, path: &str) -> Result<Node, Errno> {
        path.split('/').try_fold(tree.root(), |node, name| tree.lookup(node, name.as_bytes()))
    }

    fn read(tree: &ControlTree<'_>, path: &str, offset: u64, count: u32) -> String {
        let mut text = Vec::new();
        let read = tree.read(walk(tree, path).unwrap(), offset, count, &mut text).unwrap();
        assert_eq!(read as usize, text.len());
        String::from_utf8(text).unwrap()
    }

    fn names(tree: &ControlTree<'_>, node: Node, offset: u64) -> Vec<(String, u64)> {
        let mut names = Vec::new();
        tree.read_directory(node, offset, &mut |entry| {
            names.push((String::from_utf8_lossy(entry.name).to_string(), entry.next));
            ControlFlow::Continue(())
        })
        .unwrap();
        names
    }

    #[test]
    fn the_files_say_what_the_control_plane_renders_at_any_offset() {
        let mut plane = Recorder::default();
        let tree = ControlTree(&mut plane);
        assert!(read(&tree, "version", 0, 100).starts_with("skerry "));
        assert_eq!(read(&tree, "stats", 0, 100), "requests 0\n");
        assert_eq!(read(&tree, "clients/11/status", 6, 9), "free\nslot");
        assert_eq!(read(&tree, "clients/11/status", 99, 9), "");
        let status = walk(&tree, "clients/11/status").unwrap();
        assert_eq!(tree.attributes(status).unwrap().size, 19);
    }

    #[test]
    fn a_directory_lists_its_entries_and_goes_on_where_it_was_left() {
        let mut plane = Recorder::default();
        let tree = ControlTree(&mut plane);
        let clients = walk(&tree, "clients").unwrap();
        let all = names(&tree, clients, 0);
        assert_eq!(all.len(), 14);
        assert_eq!(all[13].0, "11");
        for (position, (_, next)) in all.iter().enumerate() {
            assert_eq!(names(&tree, clients, *next), all[position + 1..]);
        }
        assert_eq!(tree.parent(walk(&tree, "clients/3").unwrap()), Ok(clients));
        assert_eq!(tree.parent(tree.root()), Ok(tree.root()));
    }

    #[test]
    fn every_slot_of_the_most_there_can_be_has_a_directory() {
        let mut plane = Recorder(255, Vec::new(), 0);
        let tree = ControlTree(&mut plane);
        assert_eq!(read(&tree, "clients/254/status", 0, 10), "state free");
        let clients = walk(&tree, "clients").unwrap();
        let all = names(&tree, clients, 0);
        assert_eq!((all.len(), all[256].0.as_str()), (257, "254"));
        assert_eq!(names(&tree, clients, all[255].1), all[256..]);
        assert_eq!(names(&tree, clients, all[256].1), []);
    }

    #[test]
    fn a_write_to_ctl_is_one_command_for_its_slot() {
        let mut plane = Recorder::default();
        let mut tree = ControlTree(&mut plane);
        let ctl = walk(&tree, "clients/3/ctl").unwrap();
        assert_eq!(tree.write(Caller::ROOT, ctl, Position::At(77), &mut &b"detach\n"[..]), Ok(7));
        assert_eq!(
            tree.write(Caller::ROOT, ctl, Position::At(0), &mut &b"destroy\n"[..]),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            tree.write(Caller::ROOT, ctl, Position::At(0), &mut &[b' '; MAX_COMMAND + 1][..]),
            Err(Errno::EMSGSIZE)
        );
        assert_eq!(plane.1, [(3, Command::Detach)]);
    }

    #[test]
    fn a_line_in_volume_brings_it_to_rest_and_no_other_does() {
        let mut plane = Recorder::default();
        let mut tree = ControlTree(&mut plane);
        let volume = walk(&tree, "volume").unwrap();
        assert_eq!(tree.check_writable(volume), Ok(()));
        let mut write = |line: &[u8]| tree.write(Caller::ROOT, volume, Position::At(0), &mut &*line);
        assert_eq!((write(b"rest\n"), write(b"rest")), (Ok(5), Ok(4)));
        assert_eq!((write(b"arrest"), write(b"")), (Err(Errno::EINVAL), Err(Errno::EINVAL)));
        assert_eq!(read(&tree, "volume", 0, 100), "rests 2\n");
    }

    #[test]
    fn what_does_not_exist_is_not_found_and_what_is_read_only_stays_so() {
        let mut plane = Recorder::default();
        let mut tree = ControlTree(&mut plane);
        assert_eq!(walk(&tree, "clients/12"), Err(Errno::ENOENT));
        assert_eq!(walk(&tree, "version/x"), Err(Errno::ENOTDIR));
        assert_eq!(tree.attributes(Node(12 << 8 | 5)).unwrap_err(), Errno::ENOENT);
        assert_eq!(tree.attributes(Node(u64::MAX)).unwrap_err(), Errno::ENOENT);
        let stats = walk(&tree, "stats").unwrap();
        assert_eq!(tree.check_writable(stats), Err(Errno::EACCES));
        assert_eq!(tree.write(Caller::ROOT, stats, Position::At(0), &mut &b"detach"[..]), Err(Errno::EACCES));
        assert_eq!(tree.read(tree.root(), 0, 1, &mut Vec::new()), Err(Errno::EISDIR));
    }
}
