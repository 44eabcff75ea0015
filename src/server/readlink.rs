// SPDX-License-Identifier: MIT OR Apache-2.0

//! Treadlink.

use super::exports::Exports;
use super::session::Session;
use crate::fs::Errno;
use crate::mem::{Full, Sink};
use crate::wire::{HEADER, Rreadlink, Treadlink};

/// Longest target of a symbolic link (`PATH_MAX` without its NUL).
pub(super) const MAX_TARGET: usize = 4095;

/// A sink of fixed size, for a target.
struct TargetSink<'a>(&'a mut heapless::Vec<u8, MAX_TARGET>);

impl Sink for TargetSink<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.0.extend_from_slice(bytes).map_err(|_| Full)
    }

    fn put_zeros(&mut self, count: usize) -> Result<(), Full> {
        let length = self.0.len().checked_add(count).ok_or(Full)?;
        self.0.resize(length, 0).map_err(|_| Full)
    }
}

/// Treadlink.
///
/// # Errors
/// EBADF for a `fid` that stands for no file; EINVAL if that is no symbolic link; EMSGSIZE for a target that
/// does not fit `msize` (only possible below 4104); what
/// [`FileSystem::read_link`](crate::fs::FileSystem::read_link) says.
pub(super) fn readlink<'b>(
    session: &Session,
    exports: &Exports<'_>,
    request: Treadlink,
    target: &'b mut heapless::Vec<u8, MAX_TARGET>,
) -> Result<Rreadlink<'b>, Errno> {
    let file = session.file(request.fid)?;
    target.clear();
    exports.get(file.attachment.export)?.read_link(file.handle.node, &mut TargetSink(target))?;
    // `size[4] Rreadlink tag[2] target[s]`
    if target.len().saturating_add(2).saturating_add(HEADER as usize) > session.msize() as usize {
        return Err(Errno::EMSGSIZE);
    }
    Ok(Rreadlink { target })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client::{Client, LINK};
    use crate::server::tree::Content;
    use crate::wire::{Fid, Rmessage};
    use std::vec::Vec;

    fn readlink(client: &mut Client, fid: u32) -> Result<Vec<u8>, Errno> {
        client.call_with_data(Treadlink { fid: Fid(fid) }, b"", |reply, _| match reply {
            Rmessage::Rreadlink(reply) => Some(reply.target.to_vec()),
            _ => None,
        })
    }

    #[test]
    fn a_symbolic_link_tells_its_target() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"link"]).unwrap();
        assert_eq!(readlink(&mut client, 1).as_deref(), Ok(&b"sub/deep"[..]));
        assert_eq!(readlink(&mut client, 0), Err(Errno::EINVAL));
        assert_eq!(readlink(&mut client, 9), Err(Errno::EBADF));
    }

    #[test]
    fn the_longest_target_fits_unless_msize_is_smaller() {
        for (msize, length, expected) in
            [(8192, 4095, Ok(4095)), (4096, 4087, Ok(4087)), (4096, 4088, Err(Errno::EMSGSIZE))]
        {
            let mut client = Client::versioned(msize);
            client.piece = 11;
            client.room = 4200;
            client.attach(0, b"").unwrap();
            client.tree.inode(LINK).content = Content::new(&std::vec![b't'; length]);
            client.walk(0, 1, &[b"link"]).unwrap();
            assert_eq!(readlink(&mut client, 1).map(|target| target.len()), expected);
        }
    }
}
