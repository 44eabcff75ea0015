// SPDX-License-Identifier: MIT OR Apache-2.0

//! 9P2000.L on the wire: every message, parsed and emitted in both directions.
//!
//! Integers are little-endian. A string is `length[2]` and that many bytes, with no NUL and no demand of
//! UTF-8: names are bytes here. A message is `size[4] type[1] tag[2]` and a body; `size` counts itself. The
//! notation `name[4]` is a field of four bytes, `name[s]` a string, `n*(name[s])` n of them.
//!
//! * [`parse_t`] and [`parse_r`] take a message apart without copying and without allocating. What they
//!   return borrows from the bytes. They consume a message exactly: a field that is cut and a byte too many
//!   are errors, and an error names the message, the field and the values.
//! * [`Tmessage::emit`] and [`Rmessage::emit`] put one together. Whatever parses emits to the same bytes.
//! * The data of Twrite, Rread and Rreaddir is not part of what is parsed or emitted here. It stays where it
//!   is, in the descriptors of the client; only the *head* of these messages, all that stands before the
//!   data, passes through this module. [`Header::head_length`] tells how much of a request to gather.
//!
//! One file for each family of messages. In it each message is declared once, by the macro `message!`, its
//! fields in the order of the wire; parsing and emitting follow from that. The numbers are in one table, in
//! `message.rs`.
//!
//! The layouts are those of diod's `protocol.md`, Linux's `include/net/9p` and the Plan 9 manual, section 5.
//! This module relies on no other of the crate.

mod codec;
mod error;
mod header;
mod message;
mod qid;

mod attach;
mod attr;
mod dir;
mod flush;
mod io;
mod lerror;
mod lock;
mod open;
mod readdir;
mod version;
mod walk;
mod xattr;

#[cfg(test)]
mod golden;

pub use attach::{NONUNAME, Rattach, Rauth, Tattach, Tauth};
pub use attr::{GetattrMask, Rgetattr, Rsetattr, Rstatfs, SetattrMask, Tgetattr, Time, Tsetattr, Tstatfs};
pub use dir::{
    Rlink, Rmkdir, Rmknod, Rreadlink, Rremove, Rrename, Rrenameat, Rsymlink, Runlinkat, Tlink, Tmkdir,
    Tmknod, Treadlink, Tremove, Trename, Trenameat, Tsymlink, Tunlinkat, UnlinkFlags,
};
pub use error::WireError;
pub use flush::{Rflush, Tflush};
pub use header::{HEADER, Header};
pub use io::{
    IOHDRSZ, RREAD_HEADER, Rclunk, Rfsync, Rread, Rwrite, TWRITE_HEADER, Tclunk, Tfsync, Tread, Twrite,
};
pub use lerror::Rlerror;
pub use lock::{LockFlags, LockStatus, LockType, Rgetlock, Rlock, Tgetlock, Tlock};
pub(crate) use message::{Message, emit, parse_body};
pub use message::{MessageType, Rmessage, Tmessage, parse_r, parse_r_with_data, parse_t};
pub use open::{Access, OpenFlags, Rlcreate, Rlopen, Tlcreate, Tlopen};
pub use qid::{Fid, Qid, QidKind, Tag};
pub use readdir::{Dirent, Dirents, READDIRHDRSZ, Rreaddir, Treaddir};
pub use version::{Rversion, Tversion, VERSION, VERSION_UNKNOWN};
pub use walk::{MAXWELEM, Names, Qids, Rwalk, Twalk, WalkList, WalkListIter};
pub use xattr::{Rxattrcreate, Rxattrwalk, Txattrcreate, Txattrwalk, XattrFlags};
