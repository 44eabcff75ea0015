// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tauth and Tattach: a user enters an export.

use super::exports::Exports;
use super::fid::{FidState, Handle};
use super::qid::qid;
use super::session::Session;
use crate::fs::Errno;
use crate::wire::{Fid, Rattach, Rauth, Tattach, Tauth};

/// Tauth.
///
/// # Errors
/// EOPNOTSUPP: who reaches the ring may attach, and the client's kernel says for whom.
pub(super) fn auth(_request: Tauth<'_>) -> Result<Rauth, Errno> {
    Err(Errno::EOPNOTSUPP)
}

/// Tattach.
///
/// # Errors
/// EBADF for an `afid` (none can exist), and for a `fid` that is in use; EMFILE; what [`Exports::resolve`] says.
pub(super) fn attach(
    session: &mut Session,
    exports: &Exports<'_>,
    request: Tattach<'_>,
) -> Result<Rattach, Errno> {
    if request.afid != Fid::NOFID {
        return Err(Errno::EBADF);
    }
    session.fids.check_insert(request.fid)?;
    let (export, node) = exports.resolve(request.aname)?;
    let attributes = exports.get(export)?.attributes(node)?;
    let handle = Handle {
        node,
        root: node,
        uid: request.n_uname,
        export,
        kind: attributes.kind,
        state: FidState::Path,
    };
    session.fids.insert(request.fid, handle)?;
    Ok(Rattach { qid: qid(node, &attributes) })
}
