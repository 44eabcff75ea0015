// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tlock and Tgetlock: record locks, which this server does not have yet.

use super::session::Session;
use crate::fs::Errno;
use crate::wire::{Rgetlock, Rlock, Tgetlock, Tlock};

/// Tlock.
///
/// # Errors
/// EBADF for a `fid` that stands for no file; EOPNOTSUPP. A lock that is not kept must not be granted.
pub(super) fn lock(session: &Session, request: Tlock<'_>) -> Result<Rlock, Errno> {
    session.file(request.fid)?;
    Err(Errno::EOPNOTSUPP)
}

/// Tgetlock.
///
/// # Errors
/// As [`lock`].
pub(super) fn getlock(session: &Session, request: Tgetlock<'_>) -> Result<Rgetlock<'static>, Errno> {
    session.file(request.fid)?;
    Err(Errno::EOPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client::Client;
    use crate::wire::{Fid, LockFlags, LockType};

    #[test]
    fn a_lock_is_neither_granted_nor_looked_up() {
        let mut client = Client::attached();
        client.open_path(1, &[b"file"]);
        let (kind, start, length, proc_id, client_id) = (LockType::Read, 0, 0, 1, &b"host"[..]);
        for (fid, errno) in [(1, Errno::EOPNOTSUPP), (9, Errno::EBADF)] {
            let (fid, flags) = (Fid(fid), LockFlags::BLOCK);
            let request = Tlock { fid, kind, flags, start, length, proc_id, client_id };
            assert_eq!(client.call(request), Err(errno));
            assert_eq!(client.call(Tgetlock { fid, kind, start, length, proc_id, client_id }), Err(errno));
        }
    }
}
