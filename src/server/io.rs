// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tread, Twrite, Tfsync, Tclunk: the life of an open file, and of an attribute that is read.

use super::exports::Exports;
use super::fid::FidState;
use super::session::Session;
use crate::fs::{Errno, FileKind};
use crate::mem::scatter::{ScatterReader, ScatterWriter};
use crate::mem::window::Window;
use crate::wire::{Access, Rclunk, Rfsync, Rread, Rwrite, Tclunk, Tfsync, Tread, Twrite};

/// The last offset that a file can have (`loff_t` has a sign).
const MAX_OFFSET: u64 = i64::MAX as u64;

/// Tread: the backend puts the data straight into the client's buffers. Answers with fewer bytes than asked for at the end
/// of the file, and where `msize` or the room for the reply is smaller.
///
/// # Errors
/// EBADF for a `fid` that is not open for reading and reads no attribute; EISDIR; EINVAL for an `offset` of 2⁶³ or more;
/// what [`FileSystem::read`](crate::fs::FileSystem::read) says.
pub(super) fn read(
    session: &Session,
    exports: &Exports<'_>,
    request: Tread,
    data: &mut ScatterWriter<'_>,
) -> Result<Rread, Errno> {
    let handle = session.fids.get(request.fid)?;
    let backend = exports.get(handle.export)?;
    let offset = request.offset;
    let before_end = MAX_OFFSET.checked_sub(offset).ok_or(Errno::EINVAL)?;
    let count = request.count.min(session.data_limit(data));
    let count = count.min(u32::try_from(before_end).unwrap_or(u32::MAX));
    match handle.state {
        FidState::Open(Access::Read | Access::ReadWrite) if handle.kind == FileKind::Directory => {
            return Err(Errno::EISDIR);
        }
        FidState::Open(Access::Read | Access::ReadWrite) => {
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
        FidState::Path | FidState::Open(Access::Write | Access::Neither) => return Err(Errno::EBADF),
    }
    Ok(Rread { count: data.written() })
}

/// Twrite: the backend takes the data straight out of the client's buffers.
///
/// # Errors
/// EBADF for a `fid` that stands for no file, or is not open for writing; EROFS for a file that cannot be; EFBIG for an `offset` with
/// which the data would reach beyond 2⁶³ − 1; what [`FileSystem::write`](crate::fs::FileSystem::write) says.
pub(super) fn write(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Twrite,
    mut data: ScatterReader<'_>,
) -> Result<Rwrite, Errno> {
    let handle = session.file(request.fid)?;
    let backend = exports.get_mut(handle.export)?;
    backend.check_writable(handle.node)?;
    if !matches!(handle.state, FidState::Open(Access::Write | Access::ReadWrite)) {
        return Err(Errno::EBADF);
    }
    if request.offset.checked_add(u64::from(request.count)).is_none_or(|end| end > MAX_OFFSET) {
        return Err(Errno::EFBIG);
    }
    let count = backend.write(handle.node, request.offset, &mut data)?;
    session.count_written(count);
    Ok(Rwrite { count })
}

/// Tfsync. Nothing of a volume that is only read waits to be made durable.
///
/// # Errors
/// EBADF for a `fid` that is not an open file.
pub(super) fn fsync(session: &Session, request: Tfsync) -> Result<Rfsync, Errno> {
    match session.file(request.fid)?.state {
        FidState::Open(_) => Ok(Rfsync),
        _ => Err(Errno::EBADF),
    }
}

/// Tclunk.
///
/// # Errors
/// EBADF for a `fid` that is not in use.
pub(super) fn clunk(session: &mut Session, request: Tclunk) -> Result<Rclunk, Errno> {
    session.clunk(request.fid)?;
    Ok(Rclunk)
}
