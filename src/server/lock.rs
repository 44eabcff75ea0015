// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tlock and Tgetlock: record locks. The rules are in [`super::lock_table`].

use super::exports::Exports;
use super::fid::{FidState, Handle};
use super::lock_table::{ByteRange, LockKind, LockRefusal, LockRequest, LockedFile, MAX_CLIENT_ID, Process};
use super::session::Session;
use crate::fs::Errno;
use crate::wire::{Fid, LockFlags, LockStatus, LockType, Rgetlock, Rlock, Tgetlock, Tlock};

/// Tlock. The answer is "blocked" if another owner has a lock that is in the way, and the request is forgotten then: a client
/// that waits (BLOCK) asks again. So no request is ever kept, and none needs to be flushed.
///
/// A write lock may be had through a fid that is open for reading only: that is how Linux sends `flock`, which allows it; for
/// `fcntl` the client's kernel demands a fid that is open for writing. Locks do not survive a restart, so there is no grace period, and
/// a lock that is reclaimed (RECLAIM) is one like any other.
///
/// A lock ends when its owner unlocks it, when the fid that it was taken through is clunked, and with the session. A client
/// need not unlock what it closes.
///
/// # Errors
/// EBADF for a `fid` that is not open; EINVAL for an unknown type or flag, a `start` beyond what files can have, and a `client_id` of
/// more than 64 bytes; EOVERFLOW for an end beyond; ENOLCK if there is no room for one more range.
pub(super) fn lock(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Tlock<'_>,
) -> Result<Rlock, Errno> {
    let Tlock { fid, kind, flags, start, length, proc_id, client_id } = request;
    let handle = open_file(session, fid)?;
    if !LockFlags::all().contains(flags) {
        return Err(Errno::EINVAL);
    }
    let request = lock_request(&handle, fid, (start, length), (proc_id, client_id))?;
    let (locks, holder) = (exports.locks(), &mut session.locks);
    let done = match kind {
        LockType::Read => locks.lock(holder, &request, LockKind::Read),
        LockType::Write => locks.lock(holder, &request, LockKind::Write),
        LockType::Unlock => locks.unlock(holder, &request),
        LockType::Unknown(_) => return Err(Errno::EINVAL),
    };
    match done {
        Ok(()) => Ok(Rlock { status: LockStatus::Success }),
        Err(LockRefusal::Conflict) => Ok(Rlock { status: LockStatus::Blocked }),
        Err(LockRefusal::NoRoom) => Err(Errno::ENOLCK),
    }
}

/// Tgetlock. Of the locks in the way, the answer is the one that begins first.
///
/// Linux asks with the type "unlock", whatever its caller asked, because its own test has overwritten that: such a
/// request is answered as for a write lock, which is what most callers of `F_GETLK` mean.
///
/// # Errors
/// As [`lock`].
pub(super) fn getlock<'b>(
    session: &Session,
    exports: &mut Exports<'_>,
    request: Tgetlock<'_>,
    client: &'b mut heapless::Vec<u8, MAX_CLIENT_ID>,
) -> Result<Rgetlock<'b>, Errno> {
    let Tgetlock { fid, kind, start, length, proc_id, client_id } = request;
    let handle = open_file(session, fid)?;
    let wanted = match kind {
        LockType::Read => LockKind::Read,
        LockType::Write | LockType::Unlock => LockKind::Write,
        LockType::Unknown(_) => return Err(Errno::EINVAL),
    };
    let request = lock_request(&handle, fid, (start, length), (proc_id, client_id))?;
    client.clear();
    let conflict = exports.locks().conflict(&session.locks, &request, wanted);
    let (kind, range, process) = match &conflict {
        Some(conflict) if conflict.kind == LockKind::Read => {
            (LockType::Read, conflict.range, conflict.process)
        }
        Some(conflict) => (LockType::Write, conflict.range, conflict.process),
        None => (LockType::Unlock, request.range, &request.process),
    };
    // As much fits as a process keeps.
    let _ = client.extend_from_slice(process.client_id());
    Ok(Rgetlock {
        kind,
        start: range.start(),
        length: range.length(),
        proc_id: process.proc_id,
        client_id: client,
    })
}

/// The handle behind `fid`, which must be open.
fn open_file(session: &Session, fid: Fid) -> Result<Handle, Errno> {
    let handle = session.file(fid)?;
    if matches!(handle.state, FidState::Open(_)) { Ok(handle) } else { Err(Errno::EBADF) }
}

fn lock_request(
    handle: &Handle,
    fid: Fid,
    (start, length): (u64, u64),
    (proc_id, client_id): (u32, &[u8]),
) -> Result<LockRequest, Errno> {
    Ok(LockRequest {
        file: LockedFile::of(handle),
        range: ByteRange::new(start, length)?,
        process: Process::new(proc_id, client_id)?,
        fid,
    })
}
