// SPDX-License-Identifier: MIT OR Apache-2.0

//! What an export serves: the trait between the server and its backends.
//!
//! The server knows 9P and no file system; a backend knows its file system and no 9P. Between them stand a
//! few types with the meaning that POSIX gives them. Relies on [`crate::mem`] for the payload streams.

pub mod command;
mod errno;
pub mod synth;
pub mod volume_state;

use core::ops::ControlFlow;

pub use errno::Errno;

use crate::mem::{Sink, Source};

/// A file of a backend: its inode number, or whatever the backend tells its files apart by.
///
/// Two nodes of one backend are the same file exactly when they are equal. The server puts it into `qid.path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(pub u64);

/// What sort of file a node is. The discriminants are the `S_IFMT` bits of `st_mode`, shifted right by 12;
/// they are also the `d_type` values of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FileKind {
    /// A named pipe, `S_IFIFO`.
    Fifo = 1,
    /// A character device, `S_IFCHR`.
    CharacterDevice = 2,
    /// A directory, `S_IFDIR`.
    Directory = 4,
    /// A block device, `S_IFBLK`.
    BlockDevice = 6,
    /// A regular file, `S_IFREG`.
    Regular = 8,
    /// A symbolic link, `S_IFLNK`.
    Symlink = 10,
    /// A socket, `S_IFSOCK`.
    Socket = 12,
}

impl FileKind {
    /// The kind that the `S_IFMT` bits of `mode` name; `None` for the combinations POSIX leaves undefined.
    #[must_use]
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match (mode >> 12) & 0xf {
            1 => Self::Fifo,
            2 => Self::CharacterDevice,
            4 => Self::Directory,
            6 => Self::BlockDevice,
            8 => Self::Regular,
            10 => Self::Symlink,
            12 => Self::Socket,
            _ => return None,
        })
    }
}

/// A point in time, as POSIX counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00:00 UTC; may be negative.
    pub seconds: i64,
    /// 0 … 999,999,999.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Nanoseconds between two ticks: as many as on a Linux with `CONFIG_HZ=250`.
    pub const TICK: u32 = 4_000_000;

    /// The tick at or before this time: what Linux, too, notes as the time of a change. So changes that follow each other closely
    /// have the same time, and the second need not be noted.
    #[must_use]
    pub const fn tick(self) -> Self {
        Self { nanoseconds: self.nanoseconds.saturating_sub(self.nanoseconds % Self::TICK), ..self }
    }
}

/// What `stat` tells of a file, and a little more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// The kind, as in `mode`.
    pub kind: FileKind,
    /// `st_mode`: kind, set-id and sticky bits, permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of hard links.
    pub links: u64,
    /// `st_rdev` as Linux's `new_encode_dev` packs it: minor bits 0…7 and 20…31, major bits 8…19; 0 where it means nothing.
    pub device: u64,
    /// Length in bytes.
    pub size: u64,
    /// Preferred size of an I/O request.
    pub block_size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of the content.
    pub modified: Timestamp,
    /// Last change of the inode.
    pub changed: Timestamp,
    /// Creation, where the backend knows it.
    pub created: Option<Timestamp>,
    /// `i_generation`, where the backend has it.
    pub generation: Option<u64>,
    /// A number that changes whenever content or attributes do, where the backend has it.
    pub data_version: Option<u64>,
}

/// What `statfs` tells of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystemStatus {
    /// Unit of the three block counts, in bytes.
    pub block_size: u32,
    /// Data blocks in all.
    pub blocks: u64,
    /// Free ones.
    pub blocks_free: u64,
    /// Free ones that anybody may take (not reserved for root).
    pub blocks_available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free ones.
    pub files_free: u64,
    /// An identifier of the file system.
    pub identifier: u64,
    /// Longest name, in bytes.
    pub name_length: u32,
}

/// One name of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryEntry<'a> {
    /// What it names: the number that [`FileSystem::number`] gives for its node.
    pub number: u64,
    /// The kind of that node.
    pub kind: FileKind,
    /// Where reading goes on *after* this entry: pass it to [`FileSystem::read_directory`]. 1 … 2⁶³ − 1: clients keep it
    /// with a sign.
    pub next: u64,
    /// The name: 1…255 bytes, no `/`, no NUL. `.` and `..` are among the entries.
    pub name: &'a [u8],
}

/// On whose behalf something is changed. Whether they may is the server's to decide; a backend asks only who may take
/// what is kept back for root, and what a change by others takes away (set-id bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub uid: u32,
}

impl Caller {
    /// The user who may do everything.
    pub const ROOT: Self = Self { uid: 0 };

    /// Whether this is root.
    #[must_use]
    pub const fn is_root(self) -> bool {
        self.uid == 0
    }
}

/// What sort of file is made, with what only that sort has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewKind<'a> {
    /// An empty regular file.
    Regular,
    /// An empty directory.
    Directory,
    /// A symbolic link to this target: 1…4095 bytes, no NUL.
    Symlink(&'a [u8]),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device; the number as in [`Attributes::device`].
    CharacterDevice(u64),
    /// A block device; the number as in [`Attributes::device`].
    BlockDevice(u64),
}

impl NewKind<'_> {
    /// The kind that the file will have.
    #[must_use]
    pub const fn kind(&self) -> FileKind {
        match self {
            Self::Regular => FileKind::Regular,
            Self::Directory => FileKind::Directory,
            Self::Symlink(_) => FileKind::Symlink,
            Self::Fifo => FileKind::Fifo,
            Self::Socket => FileKind::Socket,
            Self::CharacterDevice(_) => FileKind::CharacterDevice,
            Self::BlockDevice(_) => FileKind::BlockDevice,
        }
    }
}

/// A file that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewFile<'a> {
    /// What it is.
    pub kind: NewKind<'a>,
    /// The lower 12 bits of `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group; a directory with the set-group-id bit gives its own instead.
    pub gid: u32,
}

/// What a time is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeChange {
    /// The moment of the change.
    Now,
    /// This.
    To(Timestamp),
}

/// What is to be changed of a file's attributes; `None` leaves one as it is. The time of the inode's change is always set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttributeChanges {
    /// The lower 12 bits of `st_mode`.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length of a regular file.
    pub size: Option<u64>,
    /// Last access.
    pub accessed: Option<TimeChange>,
    /// Last change of the content.
    pub modified: Option<TimeChange>,
}

/// Where a write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// To this offset, in bytes.
    At(u64),
    /// To the end that the file has at that moment (`O_APPEND`).
    End,
}

/// Which sort of name is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// A name of anything but a directory.
    File,
    /// A name of an empty directory.
    Directory,
}

/// Whether an extended attribute is to be there before it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeExistence {
    /// Either way.
    Any,
    /// It must not (`XATTR_CREATE`).
    Absent,
    /// It must (`XATTR_REPLACE`).
    Present,
}

/// A file system that an export serves.
///
/// # What the server guarantees
/// * A [`Node`] it passes was handed out by the same backend, by [`root`](Self::root), [`lookup`](Self::lookup)
///   or [`parent`](Self::parent).
/// * A name it passes to [`lookup`](Self::lookup) is 1…255 bytes without `/` and NUL, and is neither `.` nor `..`:
///   names are checked at one boundary, the server's.
/// * `offset + count` never exceeds `i64::MAX`.
///
/// # What a backend guarantees
/// * It never panics, whatever its volume holds, and each call ends in a time bounded by the size of its volume.
/// * It allocates no memory in any of these calls.
/// * A damaged structure is [`Errno::EUCLEAN`] to the client and one line in the log that says which check failed.
/// * An error leaves the file system as it was. What was put into a sink before an error is not used.
///
/// A backend may be shared between threads by a wrapper that locks: the methods that change nothing take `&self`.
pub trait FileSystem {
    /// The directory at the top. Its parent is itself.
    fn root(&self) -> Node;

    /// The node called `name` in `directory`.
    ///
    /// # Errors
    /// ENOTDIR, ENOENT, EUCLEAN.
    fn lookup(&self, directory: Node, name: &[u8]) -> Result<Node, Errno>;

    /// The directory that `directory` is in.
    ///
    /// # Errors
    /// ENOTDIR, EUCLEAN.
    fn parent(&self, directory: Node) -> Result<Node, Errno>;

    /// The attributes of `node`.
    ///
    /// # Errors
    /// ESTALE if the node is no more; EUCLEAN.
    fn attributes(&self, node: Node) -> Result<Attributes, Errno>;

    /// Puts up to `count` bytes of the regular file `node` from `offset` on into `sink`; holes are zeros.
    /// Returns how many: fewer only at the end of the file, 0 at or after it.
    ///
    /// # Errors
    /// EISDIR, EINVAL for a kind that has no content; EUCLEAN, EIO.
    fn read(&self, node: Node, offset: u64, count: u32, sink: &mut dyn Sink) -> Result<u32, Errno>;

    /// Shows the entries of `directory` to `visit`, in a fixed order, from the position `offset` on: 0 is the start, any
    /// other is an entry's [`next`](DirectoryEntry::next). Stops after the last, or when `visit` breaks.
    ///
    /// # Errors
    /// ENOTDIR; EINVAL for a position that cannot be; EUCLEAN.
    fn read_directory(
        &self,
        directory: Node,
        offset: u64,
        visit: &mut dyn FnMut(&DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno>;

    /// Puts the target of the symbolic link `node` into `sink`: 1…4095 bytes, no NUL.
    ///
    /// # Errors
    /// EINVAL if it is no symbolic link; EUCLEAN.
    fn read_link(&self, node: Node, sink: &mut dyn Sink) -> Result<(), Errno>;

    /// Puts the names of `node`'s extended attributes into `sink`, each with its prefix (`user.`, …) and closed by a NUL, as
    /// `listxattr` gives them.
    ///
    /// # Errors
    /// EUCLEAN; EOPNOTSUPP where there are none by design.
    fn list_attributes(&self, node: Node, sink: &mut dyn Sink) -> Result<(), Errno>;

    /// Puts the value of `node`'s extended attribute `name` (with its prefix) into `sink`: at most 64 KiB.
    ///
    /// # Errors
    /// ENODATA if there is none of that name; EOPNOTSUPP for an unknown prefix; EUCLEAN.
    fn read_attribute(&self, node: Node, name: &[u8], sink: &mut dyn Sink) -> Result<(), Errno>;

    /// The state of the file system as a whole.
    ///
    /// # Errors
    /// EUCLEAN.
    fn status(&self) -> Result<FileSystemStatus, Errno>;

    /// The number that clients know `node` by (`st_ino`): unlike the node it may come again for another file once this one
    /// is gone.
    fn number(&self, node: Node) -> u64 {
        node.0
    }

    /// Whether `node` may be opened for writing.
    ///
    /// # Errors
    /// EROFS for a file system that is only read; EACCES for a file that is never written.
    fn check_writable(&self, _node: Node) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }

    /// Writes what is left in `source` to the regular file `node`; returns how many bytes, from the front. Fewer than
    /// all only where space or the room for one change ends: never 0 unless there was nothing to write. The holes that
    /// the end passes over are zeros. A caller who is not root takes the set-id bits away.
    ///
    /// # Errors
    /// EROFS for a file system that is only read; EACCES for a file that is never written; ENOSPC; EFBIG; what `node` makes
    /// of the bytes, where it is synthetic.
    fn write(
        &mut self,
        _caller: Caller,
        _node: Node,
        _position: Position,
        _source: &mut dyn Source,
    ) -> Result<u32, Errno> {
        Err(Errno::EROFS)
    }

    /// Makes a file called `name` in `directory`.
    ///
    /// # Errors
    /// EROFS; ENOTDIR, EEXIST, ENOSPC, EMLINK (of `directory`); ENOENT for a `directory` that was removed; EUCLEAN.
    fn create(
        &mut self,
        _caller: Caller,
        _directory: Node,
        _name: &[u8],
        _new: &NewFile<'_>,
    ) -> Result<Node, Errno> {
        Err(Errno::EROFS)
    }

    /// Gives `node`, which is no directory, one more name in `directory`.
    ///
    /// # Errors
    /// As [`create`](Self::create); EPERM for a directory; EMLINK of `node`; ENOENT if it has no name left.
    fn link(&mut self, _caller: Caller, _node: Node, _directory: Node, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }

    /// Takes `name` out of `directory`. What loses its last name is gone, unless it is [retained](Self::retain).
    ///
    /// # Errors
    /// EROFS; ENOENT; EISDIR and ENOTDIR if it is not of the sort; ENOTEMPTY; EBUSY for the root; EUCLEAN.
    fn remove(&mut self, _directory: Node, _name: &[u8], _removal: Removal) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }

    /// Moves a name, over what has the new one already: over an empty directory if it names a directory, else over
    /// anything but a directory. Two names of one file are left as they are.
    ///
    /// # Errors
    /// EROFS; ENOENT, ENOTDIR, EISDIR, ENOTEMPTY; EINVAL to move a directory below itself; ENOSPC, EMLINK; EUCLEAN.
    fn rename(&mut self, _caller: Caller, _from: (Node, &[u8]), _to: (Node, &[u8])) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }

    /// Changes attributes of `node`, all or none of them. A new owner or group takes the set-id bits of what is no
    /// directory away, unless `mode` is given too.
    ///
    /// # Errors
    /// EROFS; EISDIR and EINVAL for the size of what is no regular file; EFBIG; ENOSPC; EUCLEAN.
    fn set_attributes(
        &mut self,
        _caller: Caller,
        _node: Node,
        _changes: &AttributeChanges,
    ) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }

    /// Sets the extended attribute `name` (with its prefix) of `node`.
    ///
    /// # Errors
    /// EROFS; EEXIST and ENODATA as `existence` asks; EOPNOTSUPP for an unknown prefix; ENOSPC if it does not fit; EINVAL for an
    /// access control list that is none; EUCLEAN.
    fn set_attribute(
        &mut self,
        _caller: Caller,
        _node: Node,
        _name: &[u8],
        _value: &[u8],
        _existence: AttributeExistence,
    ) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }

    /// Removes the extended attribute `name` (with its prefix) of `node`.
    ///
    /// # Errors
    /// EROFS; ENODATA; EOPNOTSUPP; EUCLEAN.
    fn remove_attribute(&mut self, _caller: Caller, _node: Node, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }

    /// Keeps `node` alive though it may lose its last name, until as many calls of [`release`](Self::release).
    ///
    /// # Errors
    /// ENFILE if too many are kept.
    fn retain(&mut self, _node: Node) -> Result<(), Errno> {
        Ok(())
    }

    /// Takes back one [`retain`](Self::retain). What has no name left is gone with the last.
    fn release(&mut self, _node: Node) {}

    /// Makes all that was changed survive the death of this program. Called once for the requests of one pass, before
    /// their replies are published; until then none of them is there, from then on all are.
    ///
    /// # Errors
    /// EIO: the changes since the last commit may be lost, and nothing can be changed any more.
    fn commit(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    /// Makes all that was changed survive the loss of power.
    ///
    /// # Errors
    /// EIO: it may not; EROFS never.
    fn synchronize(&mut self) -> Result<(), Errno> {
        Ok(())
    }
}
