// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tversion: the session starts, and ends what was.

use super::session::{MIN_MSIZE, Session};
use crate::fs::Errno;
use crate::wire::{Rversion, Tversion, VERSION, VERSION_UNKNOWN};

/// Tversion. Whatever it asks for, the session that was ends: no fid survives.
///
/// # Errors
/// EMSGSIZE for an `msize` below [`MIN_MSIZE`].
pub(super) fn version(session: &mut Session, request: Tversion<'_>) -> Result<Rversion<'static>, Errno> {
    session.reset();
    if request.version != VERSION {
        let msize = request.msize.min(session.msize());
        return Ok(Rversion { msize, version: VERSION_UNKNOWN });
    }
    if request.msize < MIN_MSIZE {
        return Err(Errno::EMSGSIZE);
    }
    Ok(Rversion { msize: session.agree(request.msize), version: VERSION })
}
