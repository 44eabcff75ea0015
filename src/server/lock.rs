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
