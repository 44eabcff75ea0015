// SPDX-License-Identifier: MIT OR Apache-2.0

//! Treaddir: the entries of a directory.

use core::ops::ControlFlow;

use super::exports::Exports;
use super::fid::FidState;
use super::name::MAX_NAME;
use super::qid::entry_qid;
use super::session::Session;
use crate::fs::{DirectoryEntry, Errno, FileKind};
use crate::mem::Sink;
use crate::mem::scatter::ScatterWriter;
use crate::wire::{Access, Dirent, Rreaddir, Treaddir};

/// Longest entry: `qid[13] offset[8] type[1] name[s]`.
const MAX_ENTRY: usize = 13 + 8 + 1 + 2 + MAX_NAME;

/// Treaddir: as many whole entries as fit into `count`, `msize` and the room for the reply. No entry at all means that
/// there are no more.
///
/// `.` and `..` are among them; the `..` of the directory that was attached at is that directory.
///
/// # Errors
/// EBADF for a `fid` that is not open for reading; ENOTDIR; EINVAL if not even the first entry fits (to answer with none would end the
/// directory for the client); what [`FileSystem::read_directory`](crate::fs::FileSystem::read_directory) says.
pub(super) fn readdir(
    session: &Session,
    exports: &Exports<'_>,
    request: Treaddir,
    data: &mut ScatterWriter<'_>,
) -> Result<Rreaddir, Errno> {
    let handle = session.file(request.fid)?;
    if !matches!(handle.state, FidState::Open(Access::Read | Access::ReadWrite)) {
        return Err(Errno::EBADF);
    }
    if handle.kind != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    let mut left = request.count.min(session.data_limit(data)) as usize;
    let mut outcome = Ok(());
    let mut visit = |entry: &DirectoryEntry<'_>| {
        let leaves_export = entry.name == b".." && handle.node == handle.root;
        let node = if leaves_export { handle.root } else { entry.node };
        let dirent = Dirent {
            qid: entry_qid(node, entry.kind),
            offset: entry.next,
            kind: entry.kind as u8,
            name: entry.name,
        };
        match put_entry(&dirent, left, data) {
            Ok(length) => {
                left = left.saturating_sub(length);
                ControlFlow::Continue(())
            }
            Err(errno) => {
                outcome = Err(errno);
                ControlFlow::Break(())
            }
        }
    };
    exports.get(handle.export)?.read_directory(handle.node, request.offset, &mut visit)?;
    match outcome {
        Err(Errno::EINVAL) if data.written() > 0 => {}
        other => other?,
    }
    Ok(Rreaddir { count: data.written() })
}

/// Puts `entry`, whole, and returns its length.
///
/// # Errors
/// EINVAL if it takes more than `left` bytes; EIO for an entry that cannot be.
fn put_entry(entry: &Dirent<'_>, left: usize, data: &mut ScatterWriter<'_>) -> Result<usize, Errno> {
    let length = entry.encoded_length();
    if length > left {
        return Err(Errno::EINVAL);
    }
    let mut buffer = [0; MAX_ENTRY];
    entry.emit(&mut buffer).map_err(|_| Errno::EIO)?;
    data.put(buffer.get(..length).ok_or(Errno::EIO)?).map_err(|_| Errno::EIO)?;
    Ok(length)
}
