// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tlock and Tgetlock: record locks. The rules are in [`super::lock_table`].

use super::exports::Exports;
use super::fid::FidState;
use super::lock_table::{ByteRange, LockKind, LockRefusal, LockRequest, LockedFile, MAX_CLIENT_ID, Process};
use super::session::{File, Session};
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
    let file = open_file(session, fid)?;
    if !LockFlags::BLOCK.union(LockFlags::RECLAIM).contains(flags) {
        return Err(Errno::EINVAL);
    }
    let request = lock_request(&file, fid, (start, length), (proc_id, client_id))?;
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
    let file = open_file(session, fid)?;
    let wanted = match kind {
        LockType::Read => LockKind::Read,
        LockType::Write | LockType::Unlock => LockKind::Write,
        LockType::Unknown(_) => return Err(Errno::EINVAL),
    };
    let request = lock_request(&file, fid, (start, length), (proc_id, client_id))?;
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

/// What is behind `fid`, which must be open.
fn open_file(session: &Session, fid: Fid) -> Result<File, Errno> {
    let file = session.file(fid)?;
    if matches!(file.handle.state, FidState::Open(_)) { Ok(file) } else { Err(Errno::EBADF) }
}

fn lock_request(
    file: &File,
    fid: Fid,
    (start, length): (u64, u64),
    (proc_id, client_id): (u32, &[u8]),
) -> Result<LockRequest, Errno> {
    Ok(LockRequest {
        file: LockedFile::new(file.attachment.export, file.handle.node),
        range: ByteRange::new(start, length)?,
        process: Process::new(proc_id, client_id)?,
        fid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client::Client;
    use crate::server::lock_table::{LockLimits, LockTable};
    use crate::server::{SessionLimits, session::Session};
    use crate::wire::{OpenFlags, Rmessage, Tremove, VERSION};
    use std::vec::Vec;

    const HOST: &[u8] = b"host";

    fn tlock(fid: u32, kind: LockType, proc_id: u32, (start, length): (u64, u64)) -> Tlock<'static> {
        Tlock { fid: Fid(fid), kind, flags: LockFlags::empty(), start, length, proc_id, client_id: HOST }
    }

    fn send(client: &mut Client, request: Tlock<'_>) -> Result<LockStatus, Errno> {
        client.call_with_data(request, b"", |reply, _| match reply {
            Rmessage::Rlock(reply) => Some(reply.status),
            _ => None,
        })
    }

    /// Type, start, length, process and client.
    type Told = (LockType, u64, u64, u32, Vec<u8>);

    fn ask(
        client: &mut Client,
        fid: u32,
        kind: LockType,
        proc_id: u32,
        (start, length): (u64, u64),
    ) -> Result<Told, Errno> {
        let request = Tgetlock { fid: Fid(fid), kind, start, length, proc_id, client_id: HOST };
        client.call_with_data(request, b"", |reply, _| match reply {
            Rmessage::Rgetlock(reply) => {
                Some((reply.kind, reply.start, reply.length, reply.proc_id, reply.client_id.to_vec()))
            }
            _ => None,
        })
    }

    /// A client that has a file open as fid 1 and fid 2.
    fn client() -> Client {
        let mut client = Client::attached();
        client.open_path(1, &[b"file"]);
        client.open_path(2, &[b"file"]);
        client
    }

    /// Lets `client` be another one for a while: one of the same service.
    fn as_another(client: &mut Client, other: &mut Session, act: impl FnOnce(&mut Client)) {
        core::mem::swap(&mut client.session, other);
        act(client);
        core::mem::swap(&mut client.session, other);
    }

    fn other_session() -> Session {
        Session::new(SessionLimits { max_fids: 10, max_msize: 8192 })
    }

    #[test]
    fn two_processes_contend_for_bytes_and_the_loser_is_blocked() {
        let mut client = client();
        for (process, kind, range, status) in [
            (1, LockType::Write, (10, 10), LockStatus::Success),
            (2, LockType::Read, (19, 0), LockStatus::Blocked),
            (2, LockType::Read, (20, 0), LockStatus::Success),
            (1, LockType::Read, (0, 0), LockStatus::Success),
            (1, LockType::Write, (0, 0), LockStatus::Blocked),
            (2, LockType::Unlock, (0, 0), LockStatus::Success),
            (1, LockType::Write, (0, 0), LockStatus::Success),
        ] {
            assert_eq!(send(&mut client, tlock(1, kind, process, range)), Ok(status));
        }
    }

    #[test]
    fn no_flag_changes_the_answer_and_an_unknown_one_is_refused() {
        let mut client = client();
        send(&mut client, tlock(1, LockType::Write, 1, (0, 0))).unwrap();
        for flags in [LockFlags::BLOCK, LockFlags::RECLAIM, LockFlags::BLOCK | LockFlags::RECLAIM] {
            let request = |process| Tlock { flags, ..tlock(2, LockType::Write, process, (5, 1)) };
            assert_eq!(send(&mut client, request(2)), Ok(LockStatus::Blocked));
            assert_eq!(send(&mut client, request(1)), Ok(LockStatus::Success));
        }
        let flags = LockFlags::from_bits_retain(4);
        let request = Tlock { flags, ..tlock(1, LockType::Read, 1, (0, 0)) };
        assert_eq!(send(&mut client, request), Err(Errno::EINVAL));
    }

    #[test]
    fn what_is_not_open_is_not_locked() {
        let mut client = client();
        client.walk(0, 3, &[b"file"]).unwrap();
        client.xattrwalk(3, 4, b"user.colour").unwrap();
        for fid in [3, 4, 5] {
            assert_eq!(send(&mut client, tlock(fid, LockType::Read, 1, (0, 0))), Err(Errno::EBADF));
            assert_eq!(ask(&mut client, fid, LockType::Read, 1, (0, 0)), Err(Errno::EBADF));
        }
    }

    #[test]
    fn what_cannot_be_a_lock_is_refused() {
        let mut client = client();
        for (kind, range, errno) in [
            (LockType::Unknown(3), (0, 0), Errno::EINVAL),
            (LockType::Read, (1 << 63, 0), Errno::EINVAL),
            (LockType::Write, (1, 1 << 63), Errno::EOVERFLOW),
            (LockType::Unlock, (u64::MAX, u64::MAX), Errno::EINVAL),
        ] {
            assert_eq!(send(&mut client, tlock(1, kind, 1, range)), Err(errno));
            assert_eq!(ask(&mut client, 1, kind, 1, range), Err(errno));
        }
        let request = Tlock { client_id: &[b'n'; 65], ..tlock(1, LockType::Read, 1, (0, 0)) };
        assert_eq!(send(&mut client, request), Err(Errno::EINVAL));
        assert!(client.locks.is_empty());
    }

    #[test]
    fn the_lock_in_the_way_is_told_with_its_owner() {
        let mut client = client();
        let none = |start, length| Ok((LockType::Unlock, start, length, 7, HOST.to_vec()));
        assert_eq!(ask(&mut client, 2, LockType::Write, 7, (3, 4)), none(3, 4));
        send(&mut client, tlock(1, LockType::Read, 1, (10, 10))).unwrap();
        let long = &[b'n'; 64];
        send(&mut client, Tlock { client_id: long, ..tlock(1, LockType::Write, 1, (30, 0)) }).unwrap();
        let first = Ok((LockType::Read, 10, 10, 1, HOST.to_vec()));
        let second = Ok((LockType::Write, 30, 0, 1, long.to_vec()));
        assert_eq!(ask(&mut client, 2, LockType::Write, 7, (0, 0)), first);
        assert_eq!(ask(&mut client, 2, LockType::Read, 7, (0, 0)), second);
        assert_eq!(ask(&mut client, 2, LockType::Unlock, 7, (0, 0)), first, "as Linux asks for any type");
        assert_eq!(ask(&mut client, 2, LockType::Write, 7, (20, 10)), none(20, 10));
        assert_eq!(
            ask(&mut client, 2, LockType::Write, 1, (0, 0)),
            second,
            "one's own locks are not in the way"
        );
    }

    #[test]
    fn two_clients_contend_and_the_death_of_one_frees_what_it_had() {
        let mut client = client();
        let mut other = other_session();
        send(&mut client, tlock(1, LockType::Write, 1, (0, 10))).unwrap();
        as_another(&mut client, &mut other, |other| {
            other.version(8192, VERSION).unwrap();
            other.attach(0, b"").unwrap();
            other.open_path(1, &[b"file"]);
            assert_eq!(send(other, tlock(1, LockType::Write, 1, (0, 10))), Ok(LockStatus::Blocked));
            assert_eq!(send(other, tlock(1, LockType::Write, 1, (10, 10))), Ok(LockStatus::Success));
            assert_eq!(send(other, tlock(1, LockType::Unlock, 1, (0, 10))), Ok(LockStatus::Success));
            assert_eq!(ask(other, 1, LockType::Read, 1, (0, 0)).map(|told| told.2), Ok(10));
        });
        assert_eq!(send(&mut client, tlock(1, LockType::Read, 1, (10, 1))), Ok(LockStatus::Blocked));
        other.reset();
        let Client { tree, list, locks, .. } = &mut client;
        other.settle(&mut Exports::new(tree, list, locks));
        assert_eq!(send(&mut client, tlock(1, LockType::Read, 1, (10, 1))), Ok(LockStatus::Success));
        assert_eq!(client.locks.len(), 2, "what the other had is as it was");
    }

    #[test]
    fn a_clunk_ends_the_locks_that_were_taken_through_the_fid() {
        let mut client = client();
        send(&mut client, tlock(1, LockType::Write, 1, (0, 10))).unwrap();
        send(&mut client, tlock(2, LockType::Write, 1, (10, 10))).unwrap();
        client.clunk(1).unwrap();
        assert_eq!(send(&mut client, tlock(2, LockType::Write, 2, (0, 20))), Ok(LockStatus::Blocked));
        assert_eq!(send(&mut client, tlock(2, LockType::Write, 2, (0, 10))), Ok(LockStatus::Success));
        // Tremove clunks too, whether it removes or not.
        let _ = client.call(Tremove { fid: Fid(2) });
        assert!(client.locks.is_empty());
    }

    #[test]
    fn a_new_version_ends_all_locks_of_the_session() {
        let mut client = client();
        send(&mut client, tlock(1, LockType::Write, 1, (0, 10))).unwrap();
        client.version(8192, VERSION).unwrap();
        assert!(client.locks.is_empty());
        client.attach(0, b"").unwrap();
        client.open_path(1, &[b"file"]);
        assert_eq!(send(&mut client, tlock(1, LockType::Write, 2, (0, 10))), Ok(LockStatus::Success));
    }

    #[test]
    fn a_full_table_has_no_locks_available() {
        let mut client = client();
        client.locks = LockTable::new(LockLimits { ranges: 1, ranges_per_session: 1 });
        send(&mut client, tlock(1, LockType::Read, 1, (0, 10))).unwrap();
        assert_eq!(send(&mut client, tlock(1, LockType::Read, 2, (0, 10))), Err(Errno::ENOLCK));
        assert_eq!(send(&mut client, tlock(1, LockType::Unlock, 1, (5, 1))), Err(Errno::ENOLCK));
        assert_eq!(send(&mut client, tlock(1, LockType::Unlock, 1, (0, 0))), Ok(LockStatus::Success));
    }

    #[test]
    fn directories_are_locked_too() {
        let mut client = Client::attached();
        client.open(0, OpenFlags::DIRECTORY).unwrap();
        assert_eq!(send(&mut client, tlock(0, LockType::Write, 1, (0, 0))), Ok(LockStatus::Success));
        assert_eq!(send(&mut client, tlock(0, LockType::Read, 2, (0, 0))), Ok(LockStatus::Blocked));
    }
}
