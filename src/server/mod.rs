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
pub(crate) mod tree;

pub use export_options::ExportList;
pub use exports::{ExportId, Exports};
pub use fault::SessionFault;
pub use lock_table::LockTable;
pub use session::{Scratch, Session, SessionLimits};
pub use statistics::Statistics;

use crate::fs::Errno;
use crate::mem::scatter::{ScatterReader, ScatterWriter};
use crate::wire::{Rmessage, Tmessage};
use session::Buffers;

/// Calls the function of a request. Whatever it answers was not sent yet; the data of Rread and Rreaddir is in
/// `data_out` already.
fn dispatch<'b>(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Tmessage<'_>,
    data_in: ScatterReader<'_>,
    data_out: &mut ScatterWriter<'_>,
    buffers: &'b mut Buffers,
) -> Result<Rmessage<'b>, Errno> {
    use Tmessage as T;
    if !session.is_versioned() && !matches!(request, T::Tversion(_)) {
        return Err(Errno::EPROTO);
    }
    Ok(match request {
        T::Tversion(request) => version::version(session, exports, request)?.into(),
        T::Tflush(request) => flush::flush(request).into(),
        T::Tauth(request) => attach::auth(request)?.into(),
        T::Tattach(request) => attach::attach(session, exports, request)?.into(),
        T::Twalk(request) => walk::walk(session, exports, request, &mut buffers.qids)?.into(),
        T::Tlopen(request) => open::lopen(session, exports, request)?.into(),
        T::Tlcreate(request) => create::lcreate(session, exports, request)?.into(),
        T::Tread(request) => io::read(session, exports, request, data_out)?.into(),
        T::Twrite(request) => io::write(session, exports, request, data_in)?.into(),
        T::Tfsync(request) => io::fsync(session, exports, request)?.into(),
        T::Tclunk(request) => io::clunk(session, exports, request)?.into(),
        T::Tremove(request) => remove::remove(session, exports, request)?.into(),
        T::Tgetattr(request) => attr::getattr(session, exports, request)?.into(),
        T::Tsetattr(request) => attr::setattr(session, exports, request)?.into(),
        T::Tstatfs(request) => attr::statfs(session, exports, request)?.into(),
        T::Treaddir(request) => readdir::readdir(session, exports, request, data_out)?.into(),
        T::Treadlink(request) => readlink::readlink(session, exports, request, &mut buffers.target)?.into(),
        T::Tsymlink(request) => create::symlink(session, exports, request)?.into(),
        T::Tmknod(request) => create::mknod(session, exports, request)?.into(),
        T::Tmkdir(request) => create::mkdir(session, exports, request)?.into(),
        T::Tlink(request) => create::link(session, exports, request)?.into(),
        T::Trename(request) => rename::rename(session, exports, request)?.into(),
        T::Trenameat(request) => rename::renameat(session, exports, request)?.into(),
        T::Tunlinkat(request) => remove::unlinkat(session, exports, request)?.into(),
        T::Tlock(request) => lock::lock(session, exports, request)?.into(),
        T::Tgetlock(request) => lock::getlock(session, exports, request, &mut buffers.client)?.into(),
        T::Txattrwalk(request) => xattr::xattrwalk(session, exports, request)?.into(),
        T::Txattrcreate(request) => new_attribute::xattrcreate(session, exports, request)?.into(),
    })
}
