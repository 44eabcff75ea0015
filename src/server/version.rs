// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tversion: the session starts, and ends what was.

use super::exports::Exports;
use super::session::{MIN_MSIZE, Session};
use crate::fs::Errno;
use crate::wire::{Rversion, Tversion, VERSION, VERSION_UNKNOWN};

/// Tversion. Whatever it asks for, the session that was ends: no fid survives, and no lock.
///
/// # Errors
/// EMSGSIZE for an `msize` below [`MIN_MSIZE`].
pub(super) fn version(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Tversion<'_>,
) -> Result<Rversion<'static>, Errno> {
    session.reset();
    session.settle(exports);
    if request.version != VERSION {
        let msize = request.msize.min(session.msize());
        return Ok(Rversion { msize, version: VERSION_UNKNOWN });
    }
    if request.msize < MIN_MSIZE {
        return Err(Errno::EMSGSIZE);
    }
    Ok(Rversion { msize: session.agree(request.msize), version: VERSION })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client::Client;
    use crate::wire::{Fid, Tag, Tclunk, Tmessage};

    #[test]
    fn the_smaller_msize_is_agreed_to() {
        let mut client = Client::unversioned();
        assert_eq!(client.version(8192, VERSION), Ok((8192, VERSION.to_vec())));
        assert_eq!(client.version(512_000, VERSION), Ok((512_000, VERSION.to_vec())));
        assert_eq!(client.version(u32::MAX, VERSION), Ok((1 << 20, VERSION.to_vec())));
        assert_eq!(client.session.msize(), 1 << 20);
    }

    #[test]
    fn an_msize_below_4096_is_refused() {
        let mut client = Client::unversioned();
        assert_eq!(client.version(4095, VERSION), Err(Errno::EMSGSIZE));
        assert_eq!(client.attach(0, b""), Err(Errno::EPROTO));
        assert_eq!(client.version(4096, VERSION), Ok((4096, VERSION.to_vec())));
    }

    #[test]
    fn every_other_version_is_unknown_and_starts_no_session() {
        for version in [&b"9P2000"[..], b"9P2000.u", b"9P2000.L.x", b"9p2000.l", b"", b"9P2000.L\0"] {
            let mut client = Client::attached();
            assert_eq!(client.version(8192, version), Ok((8192, b"unknown".to_vec())));
            assert_eq!(client.node(0), Err(Errno::EPROTO));
            assert_eq!(client.session.fids_in_use(), 0);
        }
    }

    #[test]
    fn a_version_in_mid_session_clunks_every_fid() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        client.xattrwalk(1, 2, b"user.colour").unwrap();
        client.version(4096, VERSION).unwrap();
        assert_eq!(client.session.fids_in_use(), 0);
        for fid in 0..3 {
            assert_eq!(client.clunk(fid), Err(Errno::EBADF));
        }
        client.attach(0, b"").unwrap();
    }

    #[test]
    fn nothing_is_answered_before_a_version() {
        let mut client = Client::unversioned();
        assert_eq!(client.attach(0, b""), Err(Errno::EPROTO));
        assert_eq!(client.clunk(0), Err(Errno::EPROTO));
        client.version(8192, VERSION).unwrap();
        client.attach(0, b"").unwrap();
        client.session.reset();
        assert_eq!(client.node(0), Err(Errno::EPROTO));
    }

    #[test]
    fn notag_is_for_a_version_and_only_for_it() {
        let mut client = Client::attached();
        let error = |reply: &[u8]| (reply[4], reply[7]);
        let mut buffer = [0xa5; 32];
        let version = Tmessage::from(Tversion { msize: 8192, version: VERSION });
        let length = version.emit(Tag(1), &mut buffer).unwrap();
        assert_eq!(error(&client.exchange(&buffer[..length]).unwrap()), (7, 71));
        let clunk = Tmessage::from(Tclunk { fid: Fid(0) });
        let length = clunk.emit(Tag::NOTAG, &mut buffer).unwrap();
        assert_eq!(error(&client.exchange(&buffer[..length]).unwrap()), (7, 71));
        assert_eq!(client.node(0), Ok(crate::fs::Node(2)));
    }
}
