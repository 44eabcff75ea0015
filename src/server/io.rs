// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tread, Twrite, Tfsync, Tclunk: the life of an open file, and of an attribute that is read.

use super::exports::Exports;
use super::fid::FidState;
use super::new_attribute;
use super::session::{File, Session};
use crate::fs::{Errno, FileKind, Position};
use crate::mem::scatter::{ScatterReader, ScatterWriter};
use crate::mem::window::Window;
use crate::wire::{Rclunk, Rfsync, Rread, Rwrite, Tclunk, Tfsync, Tread, Twrite};

/// The last offset that a file can have (`loff_t` has a sign).
const MAX_OFFSET: u64 = i64::MAX as u64;

/// Tread: the backend puts the data straight into the client's buffers. Answers with fewer bytes than asked for
/// at the end of the file, and where `msize` or the room for the reply is smaller.
///
/// # Errors
/// EBADF for a `fid` that is not open for reading and reads no attribute; EISDIR; EINVAL for an `offset` of 2⁶³
/// or more; what [`FileSystem::read`](crate::fs::FileSystem::read) says.
#[inline(always)] // It has one caller.
pub(super) fn read(
    session: &Session,
    exports: &Exports<'_>,
    request: Tread,
    data: &mut ScatterWriter<'_>,
) -> Result<Rread, Errno> {
    let handle = session.fids.get(request.fid)?;
    let backend = exports.get(session.attachments.get(handle.attachment)?.export)?;
    let offset = request.offset;
    let before_end = MAX_OFFSET.checked_sub(offset).ok_or(Errno::EINVAL)?;
    let count = request.count.min(session.data_limit(data));
    let count = count.min(u32::try_from(before_end).unwrap_or(u32::MAX));
    match handle.state {
        FidState::Open(mode) if !mode.reads() => return Err(Errno::EBADF),
        FidState::Open(_) if handle.kind == FileKind::Directory => return Err(Errno::EISDIR),
        FidState::Open(_) => {
            let count = backend.read(handle.node, offset, count, data)?;
            // A count without its bytes would show the client what its buffers held before.
            if count != data.written() {
                return Err(Errno::EIO);
            }
        }
        FidState::AttributeNames => {
            let mut window = Window::new(data, offset, count as usize);
            backend.list_attributes(handle.node, &mut window)?;
        }
        FidState::Attribute(slot) => {
            let name = session.attribute_names.get(slot).ok_or(Errno::EBADF)?;
            let mut window = Window::new(data, offset, count as usize);
            backend.read_attribute(handle.node, name, &mut window)?;
        }
        FidState::Path | FidState::NewAttribute(_) => return Err(Errno::EBADF),
    }
    Ok(Rread { count: data.written() })
}

/// Twrite: the backend takes the data straight out of the client's buffers. A fid that is open with APPEND writes to the
/// end, whatever the offset; one with DSYNC or SYNC is answered when the data survives the loss of power. The value of a
/// new attribute is collected.
///
/// # Errors
/// EBADF for a `fid` that is not open for writing and sets no attribute; EFBIG for an `offset` with which the data would
/// reach beyond 2⁶³ − 1; what [`FileSystem::write`](crate::fs::FileSystem::write),
/// [`FileSystem::synchronize`](crate::fs::FileSystem::synchronize) and
/// [`NewAttributes::collect`](super::new_attribute::NewAttributes::collect) say.
pub(super) fn write(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Twrite,
    data: &mut ScatterReader<'_>,
) -> Result<Rwrite, Errno> {
    if let FidState::NewAttribute(slot) = session.fids.get(request.fid)?.state {
        return Ok(Rwrite { count: session.new_attributes.collect(slot, request.offset, data)? });
    }
    let file = session.file(request.fid)?;
    let FidState::Open(mode) = file.handle.state else { return Err(Errno::EBADF) };
    if !mode.writes() {
        return Err(Errno::EBADF);
    }
    let position = if mode.append { Position::End } else { Position::At(request.offset) };
    if !mode.append && request.offset.checked_add(u64::from(request.count)).is_none_or(|end| end > MAX_OFFSET)
    {
        return Err(Errno::EFBIG);
    }
    let caller = file.subject(exports)?.caller();
    let backend = exports.get_mut(file.attachment.export)?;
    let count = backend.write(caller, file.handle.node, position, data)?;
    if mode.durable {
        backend.synchronize()?;
    }
    session.count_written(count);
    Ok(Rwrite { count })
}

/// Tfsync: everything that was answered, of whatever file, survives the loss of power from here on. `datasync` makes no
/// difference.
///
/// # Errors
/// EBADF for a `fid` that is not an open file; what
/// [`FileSystem::synchronize`](crate::fs::FileSystem::synchronize) says.
pub(super) fn fsync(session: &Session, exports: &mut Exports<'_>, request: Tfsync) -> Result<Rfsync, Errno> {
    let File { handle, attachment } = session.file(request.fid)?;
    let FidState::Open(_) = handle.state else { return Err(Errno::EBADF) };
    exports.get_mut(attachment.export)?.synchronize()?;
    Ok(Rfsync)
}

/// Tclunk. It sets the attribute whose value the fid collected.
///
/// # Errors
/// EBADF for a `fid` that is not in use; what [`new_attribute::set`] says: `fid` is clunked all the same.
pub(super) fn clunk(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Tclunk,
) -> Result<Rclunk, Errno> {
    let handle = session.fids.remove(request.fid)?;
    let set = match handle.state {
        FidState::NewAttribute(slot) => new_attribute::set(session, exports, handle, slot),
        _ => Ok(()),
    };
    session.let_go(exports, request.fid, handle)?;
    set.map(|()| Rclunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client::{CONTENT, Client, FILE};
    use crate::server::tree::{Content, ROOT, Tree};
    use crate::wire::{Fid, OpenFlags};
    use std::vec::Vec;

    fn opened() -> Client {
        let mut client = Client::attached();
        client.open_path(1, &[b"file"]);
        client
    }

    #[test]
    fn a_read_gives_the_bytes_at_its_offset() {
        let mut client = opened();
        assert_eq!(client.read(1, 0, 8).as_deref(), Ok(&CONTENT[..8]));
        assert_eq!(client.read(1, 2, 1000).as_deref(), Ok(&CONTENT[2..]));
        assert_eq!(client.read(1, 2, 0).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn a_read_at_or_behind_the_end_gives_nothing() {
        let mut client = opened();
        for offset in [CONTENT.len() as u64, 1 << 40, i64::MAX as u64 - 1, i64::MAX as u64] {
            assert_eq!(client.read(1, offset, 100).as_deref(), Ok(&b""[..]));
        }
    }

    #[test]
    fn a_read_at_an_offset_that_no_file_has_is_refused() {
        let mut client = opened();
        assert_eq!(client.read(1, i64::MAX as u64 + 1, 1), Err(Errno::EINVAL));
        assert_eq!(client.read(1, u64::MAX, u32::MAX), Err(Errno::EINVAL));
    }

    #[test]
    fn a_read_crosses_buffers_of_any_length_and_fills_holes_with_zeros() {
        let content: Vec<u8> = (0..3000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        for piece in [1, 2, 3, 7, 10, 11, 12, 64, 1000] {
            let mut client = Client::attached();
            (client.piece, client.room) = (piece, 900);
            client.tree.inode(FILE).content = Content::new(&content);
            client.tree.inode(FILE).content.set_size(3700);
            client.open_path(1, &[b"file"]);
            let mut read = Vec::new();
            while read.len() < 3700 {
                read.extend(client.read(1, read.len() as u64, 800).unwrap());
            }
            assert_eq!(read[..3000], content);
            assert_eq!(read[3000..], [0; 700]);
        }
    }

    #[test]
    fn a_read_is_cut_to_msize_and_to_the_room_for_the_reply() {
        let mut client = opened();
        client.tree.inode(FILE).content.set_size(1 << 40);
        client.room = 100_000;
        assert_eq!(client.read(1, 0, u32::MAX).map(|data| data.len()), Ok(8192 - 11));
        client.room = 111;
        assert_eq!(client.read(1, 0, 8000).map(|data| data.len()), Ok(100));
        client.room = 11;
        assert_eq!(client.read(1, 0, 8000).map(|data| data.len()), Ok(0));
    }

    #[test]
    fn a_read_that_fails_half_way_is_an_error_and_its_bytes_are_not_counted_as_served() {
        let mut client = opened();
        client.tree.inode(FILE).broken = true;
        assert_eq!(client.read(1, 0, 1000), Err(Errno::EIO));
        assert_eq!(client.session.statistics().bytes_served, 0);
        assert_eq!(client.session.statistics().bytes_copied, CONTENT.len() as u64);
    }

    #[test]
    fn a_read_that_the_backend_counts_wrong_is_an_error() {
        let mut client = opened();
        client.tree.inode(FILE).miscounts = true;
        assert_eq!(client.read(1, 0, 10), Err(Errno::EIO));
    }

    #[test]
    fn a_fid_that_is_not_open_for_reading_is_not_read() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        assert_eq!(client.read(1, 0, 10), Err(Errno::EBADF));
        client.open(1, OpenFlags::WRONLY).unwrap();
        assert_eq!(client.read(1, 0, 10), Err(Errno::EBADF));
        client.walk(0, 2, &[b"file"]).unwrap();
        client.open(2, OpenFlags::WRONLY | OpenFlags::RDWR).unwrap();
        assert_eq!(client.read(2, 0, 10), Err(Errno::EBADF));
        assert_eq!(client.read(9, 0, 10), Err(Errno::EBADF));
    }

    #[test]
    fn a_directory_is_not_read_as_a_file() {
        let mut client = Client::attached();
        client.open_path(1, &[b"sub"]);
        assert_eq!(client.read(1, 0, 10), Err(Errno::EISDIR));
    }

    #[test]
    fn a_volume_that_is_only_read_takes_no_write() {
        let mut client = opened();
        client.walk(0, 2, &[b"file"]).unwrap();
        client.open(2, OpenFlags::WRONLY).unwrap();
        client.tree.read_only = true;
        assert_eq!(client.write(2, 0, b"x"), Err(Errno::EROFS));
    }

    #[test]
    fn a_write_reaches_the_backend_whole_from_buffers_of_any_length() {
        let data: Vec<u8> = (0..=255).collect();
        for piece in [1, 5, 22, 23, 24, 100, 4096] {
            let mut control = Tree::new();
            let node = control.add(ROOT, "ctl", FileKind::Regular, b"");
            let mut client = Client::versioned(8192);
            client.control = Some(control);
            (client.piece, client.room) = (piece, 200);
            client.attach(0, b"ctl").unwrap();
            client.walk(0, 1, &[b"ctl"]).unwrap();
            client.open(1, OpenFlags::WRONLY | OpenFlags::TRUNC).unwrap();
            assert_eq!(client.write(1, 2, &data), Ok(256));
            let control = client.control.as_mut().unwrap();
            assert_eq!(control.inode(node).content.bytes(), [b"\0\0", data.as_slice()].concat());
            assert_eq!(client.session.statistics().bytes_written, 256);
        }
    }

    #[test]
    fn a_payload_longer_than_the_scratch_buffer_is_written() {
        let mut client = Client::versioned(512_000);
        client.attach(0, b"").unwrap();
        client.walk(0, 1, &[b"file"]).unwrap();
        client.open(1, OpenFlags::RDWR).unwrap();
        let data = std::vec![7; 511_977];
        assert_eq!(client.write(1, 0, &data), Ok(511_977));
        assert!(client.tree.inode(FILE).content.bytes() == data);
    }

    #[test]
    fn a_write_that_does_not_match_its_file_is_refused() {
        let mut client = opened();
        assert_eq!(client.write(1, 0, b"x"), Err(Errno::EBADF), "it is open for reading");
        client.walk(0, 2, &[b"file"]).unwrap();
        assert_eq!(client.write(2, 0, b"x"), Err(Errno::EBADF), "it is not open");
        client.open(2, OpenFlags::WRONLY).unwrap();
        assert_eq!(client.write(2, i64::MAX as u64, b"x"), Err(Errno::EFBIG));
        assert_eq!(client.write(2, u64::MAX, b"x"), Err(Errno::EFBIG));
        assert_eq!(client.tree.inode(FILE).content.bytes(), CONTENT);
    }

    #[test]
    fn a_write_whose_count_is_not_its_payload_is_a_protocol_error() {
        let mut client = opened();
        for count in [0, 2, 4, u32::MAX] {
            // size[4] Twrite tag[2] fid[4] offset[8] count[4] and 3 bytes of data
            let mut request = Vec::from([26, 0, 0, 0, 118, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            request.extend(u32::to_le_bytes(count));
            request.extend(b"abc");
            assert_eq!(client.exchange(&request).unwrap(), [11, 0, 0, 0, 7, 1, 0, 71, 0, 0, 0]);
        }
    }

    #[test]
    fn a_clunked_fid_is_free() {
        let mut client = opened();
        assert_eq!(client.clunk(1), Ok(()));
        assert_eq!(client.clunk(1), Err(Errno::EBADF));
        client.walk(0, 1, &[b"sub"]).unwrap();
    }

    fn opened_with(flags: OpenFlags) -> Client {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        client.open(1, flags).unwrap();
        client
    }

    #[test]
    fn a_write_behind_the_end_leaves_zeros_between() {
        let mut client = opened_with(OpenFlags::RDWR);
        assert_eq!(client.write(1, 60, b"end"), Ok(3));
        assert_eq!(client.read(1, 52, 100).as_deref(), Ok(&b"a.\0\0\0\0\0\0end"[..]));
    }

    #[test]
    fn a_write_of_nothing_changes_nothing() {
        let mut client = opened_with(OpenFlags::RDWR);
        let before = client.getattr(1).unwrap();
        assert_eq!(client.write(1, 1000, b""), Ok(0));
        assert_eq!(client.getattr(1), Ok(before));
    }

    #[test]
    fn a_fid_that_appends_writes_to_the_end_whatever_the_offset() {
        let mut client = opened_with(OpenFlags::WRONLY | OpenFlags::APPEND);
        for offset in [0, 7, u64::MAX] {
            assert_eq!(client.write(1, offset, b"+"), Ok(1));
        }
        assert_eq!(client.tree.inode(FILE).content.bytes(), [CONTENT, b"+++"].concat());
    }

    #[test]
    fn a_write_is_answered_with_what_there_was_room_for() {
        let mut client = opened_with(OpenFlags::RDWR);
        client.tree.size_max = 56;
        assert_eq!(client.write(1, 54, b"abc"), Ok(2));
        assert_eq!(client.write(1, 56, b"c"), Err(Errno::EFBIG));
        assert_eq!(client.session.statistics().bytes_written, 2);
        client.tree.refuse = Some(Errno::ENOSPC);
        assert_eq!(client.write(1, 0, b"abc"), Err(Errno::ENOSPC));
    }

    #[test]
    fn writes_are_on_behalf_of_the_user_who_attached() {
        for (n_uname, mode) in [(0, 0o6755), (1000, 0o755)] {
            let mut client = Client::versioned(8192);
            client.attach_as(0, b"", n_uname).unwrap();
            client.tree.inode(FILE).mode = 0o6755;
            client.walk(0, 1, &[b"file"]).unwrap();
            client.open(1, OpenFlags::WRONLY).unwrap();
            client.write(1, 0, b"x").unwrap();
            assert_eq!(client.tree.inode(FILE).mode, mode);
        }
    }

    #[test]
    fn a_write_with_dsync_or_sync_is_durable_before_it_is_answered() {
        for flags in [OpenFlags::DSYNC, OpenFlags::SYNC, OpenFlags::SYNC | OpenFlags::DSYNC] {
            let mut client = opened_with(OpenFlags::RDWR | flags | OpenFlags::DIRECT);
            client.write(1, 0, b"x").unwrap();
            client.write(1, 1, b"y").unwrap();
            assert_eq!(client.tree.synchronizations, 2);
            client.tree.unreliable = Some(Errno::EIO);
            assert_eq!(client.write(1, 2, b"z"), Err(Errno::EIO));
        }
        let mut client = opened_with(OpenFlags::RDWR | OpenFlags::DIRECT);
        client.write(1, 0, b"x").unwrap();
        assert_eq!(client.tree.synchronizations, 0);
    }

    #[test]
    fn a_sync_of_an_open_file_makes_everything_durable() {
        let mut client = opened();
        client.open_path(2, &[b"sub"]);
        let sync = |fid, datasync| Tfsync { fid: Fid(fid), datasync };
        assert_eq!(client.call(sync(1, 0)), Ok(()));
        assert_eq!(client.call(sync(1, 1)), Ok(()));
        assert_eq!(client.call(sync(2, 0)), Ok(()), "a directory, too");
        assert_eq!(client.tree.synchronizations, 3);
        client.tree.unreliable = Some(Errno::EIO);
        assert_eq!(client.call(sync(1, 1)), Err(Errno::EIO));
        assert_eq!(client.call(sync(0, 0)), Err(Errno::EBADF), "it is not open");
        assert_eq!(client.call(sync(9, 0)), Err(Errno::EBADF));
    }
}
