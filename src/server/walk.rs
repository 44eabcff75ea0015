// SPDX-License-Identifier: MIT OR Apache-2.0

//! Twalk: from a file down a path of up to sixteen names.

use super::exports::Exports;
use super::fid::{FidState, Handle};
use super::name::Step;
use super::qid::qid;
use super::session::Session;
use crate::fs::{Attributes, Errno, FileKind, FileSystem, Node};
use crate::wire::{MAXWELEM, Qid, Qids, Rwalk, Twalk};

/// Twalk. Where not all of the names exist it answers with the qids of those that do, and `newfid` is left alone.
///
/// `fid` may be open, unless it is to be moved (`newfid` is `fid`): walk(5) forbids it, but Linux since 5.11
/// walks from directories that it has open. What is walked to is not open.
///
/// # Errors
/// EBADF for a `fid` that stands for no file, and a `newfid` that is in use; EINVAL to move an open fid; EMFILE; for the
/// first name what [`Step::new`] and [`FileSystem::lookup`] say.
pub(super) fn walk<'b>(
    session: &mut Session,
    exports: &Exports<'_>,
    request: Twalk<'_>,
    qids: &'b mut heapless::Vec<Qid, MAXWELEM>,
) -> Result<Rwalk<'b>, Errno> {
    qids.clear();
    let from = session.file(request.fid)?;
    let moves = request.newfid == request.fid;
    if !moves {
        session.fids.check_insert(request.newfid)?;
    } else if from.state != FidState::Path {
        return Err(Errno::EINVAL);
    }

    let backend = exports.get(from.export)?;
    let mut to = Handle { state: FidState::Path, ..from };
    let mut failed = None;
    for name in request.wnames.iter() {
        match Step::new(name).and_then(|step| take_step(backend, &to, step)) {
            Ok((node, attributes)) => {
                to = Handle { node, kind: attributes.kind, ..to };
                // There are no more names than `qids` has room for.
                let _ = qids.push(qid(node, &attributes));
            }
            Err(errno) => {
                failed = Some(errno);
                break;
            }
        }
    }
    match failed {
        Some(errno) if qids.is_empty() => return Err(errno),
        Some(_) => {}
        None if moves => session.fids.replace(request.fid, to)?,
        None => session.fids.insert(request.newfid, to)?,
    }
    Qids::new(qids).map(|wqids| Rwalk { wqids }).ok_or(Errno::EPROTO)
}

fn take_step(backend: &dyn FileSystem, from: &Handle, step: Step<'_>) -> Result<(Node, Attributes), Errno> {
    if from.kind != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    let node = match step {
        Step::Up if from.node == from.root => from.root,
        Step::Up => backend.parent(from.node)?,
        Step::Down(name) => backend.lookup(from.node, name.bytes())?,
    };
    Ok((node, backend.attributes(node)?))
}
