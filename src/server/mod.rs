// SPDX-License-Identifier: MIT OR Apache-2.0

//! The 9P server: sessions, fids, and one function for each request.
//!
//! [`Session::handle`] takes one request out of a descriptor chain, and puts one reply into it. It checks the
//! framing, gathers what stands before the payload into a private buffer, parses that with [`crate::wire`] and
//! calls `dispatch`. Each request then is one function of the file of its family, which knows its message,
//! the session, and the exports ([`crate::fs::FileSystem`]), and answers with its reply or an [`Errno`].
//!
//! What goes wrong is of two classes. A *reply error* is answered as Rlerror, and the session goes on. A
//! *fault* ([`SessionFault`]) is a client that breaks the framing, or gives no room for the answer: no reply can be
//! trusted to reach it, so its ring stops.
//!
//! `docs/protocol.md` says what each request does, and which of the choices that 9P leaves open was taken.

pub mod access;
mod attach;
pub mod attachment;
mod attr;
mod create;
pub mod export_options;
pub mod exports;
pub mod fault;
pub mod fid;
mod flush;
mod io;
mod lock;
pub mod lock_table;
pub mod name;
pub mod new_attribute;
mod open;
pub mod place;
mod qid;
mod readdir;
mod readlink;
mod remove;
mod rename;
pub mod session;
pub mod statistics;
mod version;
mod walk;
pub mod xattr;

#[cfg(test)]
mod client;
#[cfg(test)]
mod enforcement;
#[cfg(test)]
pub(crate) mod tree;

pub use export_options::ExportList;
pub use exports::{ExportId, Exports};
pub use fault::SessionFault;
pub use lock_table::LockTable;
pub use session::{Scratch, Session, SessionLimits};
pub use statistics::Statistics;

use crate::wire::{MessageType, Twrite};
use session::{Buffers, Refusal, Reply, Request};

/// Takes a request apart, calls its function, and sends what that answers. Returns the length of the reply. The data of
/// Rread and Rreaddir is put by their functions.
///
/// One `match` leads from the byte of the type to all of that, so that no message is moved about as one of any type.
#[inline(always)]
fn dispatch(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Request<'_, '_>,
    buffers: &mut Buffers,
    reply: &mut Reply<'_>,
) -> Result<u32, Refusal> {
    use MessageType as M;
    let sent = match request.header.kind {
        M::Tversion => reply.send(&version::version(session, exports, request.body()?)?),
        M::Tflush => reply.send(&flush::flush(request.body()?)),
        M::Tauth => reply.send(&attach::auth(request.body()?)?),
        M::Tattach => reply.send(&attach::attach(session, exports, request.body()?)?),
        M::Twalk => reply.send(&walk::walk(session, exports, request.body()?, &mut buffers.qids)?),
        M::Tlopen => reply.send(&open::lopen(session, exports, request.body()?)?),
        M::Tlcreate => reply.send(&create::lcreate(session, exports, request.body()?)?),
        M::Tread => {
            let body = request.body()?;
            let mut data = reply.data_room()?;
            let answer = io::read(session, exports, body, &mut data);
            reply.count_data(&data);
            reply.send(&answer?)
        }
        M::Twrite => {
            let body: Twrite = request.body()?;
            let data = request.data(body.count)?;
            reply.send(&io::write(session, exports, body, data)?)
        }
        M::Tfsync => reply.send(&io::fsync(session, exports, request.body()?)?),
        M::Tclunk => reply.send(&io::clunk(session, exports, request.body()?)?),
        M::Tremove => reply.send(&remove::remove(session, exports, request.body()?)?),
        M::Tgetattr => reply.send(&attr::getattr(session, exports, request.body()?)?),
        M::Tsetattr => reply.send(&attr::setattr(session, exports, request.body()?)?),
        M::Tstatfs => reply.send(&attr::statfs(session, exports, request.body()?)?),
        M::Treaddir => {
            let body = request.body()?;
            let mut data = reply.data_room()?;
            let answer = readdir::readdir(session, exports, body, &mut data);
            reply.count_data(&data);
            reply.send(&answer?)
        }
        M::Treadlink => {
            reply.send(&readlink::readlink(session, exports, request.body()?, &mut buffers.target)?)
        }
        M::Tsymlink => reply.send(&create::symlink(session, exports, request.body()?)?),
        M::Tmknod => reply.send(&create::mknod(session, exports, request.body()?)?),
        M::Tmkdir => reply.send(&create::mkdir(session, exports, request.body()?)?),
        M::Tlink => reply.send(&create::link(session, exports, request.body()?)?),
        M::Trename => reply.send(&rename::rename(session, exports, request.body()?)?),
        M::Trenameat => reply.send(&rename::renameat(session, exports, request.body()?)?),
        M::Tunlinkat => reply.send(&remove::unlinkat(session, exports, request.body()?)?),
        M::Tlock => reply.send(&lock::lock(session, exports, request.body()?)?),
        M::Tgetlock => reply.send(&lock::getlock(session, exports, request.body()?, &mut buffers.client)?),
        M::Txattrwalk => reply.send(&xattr::xattrwalk(session, exports, request.body()?)?),
        M::Txattrcreate => reply.send(&new_attribute::xattrcreate(session, exports, request.body()?)?),
        _ => return Err(request.unsupported().into()),
    };
    Ok(sent?)
}
