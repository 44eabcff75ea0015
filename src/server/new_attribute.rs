// SPDX-License-Identifier: MIT OR Apache-2.0

//! Txattrcreate: extended attributes are written like files. The value is collected by Twrite, and set at Tclunk.

use alloc::boxed::Box;
use alloc::vec;

use super::exports::Exports;
use super::fid::{FidState, Handle};
use super::name::MAX_NAME;
use super::session::Session;
use super::xattr::check_name;
use crate::fs::{AttributeExistence, Errno};
use crate::mem::{Short, Source};
use crate::wire::{Fid, Rxattrcreate, Txattrcreate, XattrFlags};

/// Places of a session for values, and the most bytes of each, smallest first. (Linux clunks the fid as soon as it has
/// written the value.)
const PLACES: [(usize, usize); 2] = [(32, 4096), (2, MAX_VALUE)];

/// Longest value of an attribute, in bytes (`XATTR_SIZE_MAX`).
pub const MAX_VALUE: usize = 65_536;

/// An attribute that is being written.
pub struct NewAttribute {
    /// Empty: a free place.
    name: heapless::Vec<u8, MAX_NAME>,
    existence: AttributeExistence,
    /// Length of the value as it was announced.
    announced: usize,
    /// Bytes of it that are there.
    collected: usize,
    value: Box<[u8]>,
}

impl NewAttribute {
    /// The value, if all that was announced is there.
    fn value(&self) -> Option<&[u8]> {
        if self.collected == self.announced { self.value.get(..self.announced) } else { None }
    }
}

/// The attributes that fids of the session write. 264 KiB.
pub struct NewAttributes {
    places: Box<[NewAttribute]>,
}

impl NewAttributes {
    /// Allocates the places, all free.
    #[must_use]
    pub fn new() -> Self {
        let place = |length| NewAttribute {
            name: heapless::Vec::new(),
            existence: AttributeExistence::Any,
            announced: 0,
            collected: 0,
            value: vec![0; length].into_boxed_slice(),
        };
        let lengths = PLACES.into_iter().flat_map(|(count, length)| core::iter::repeat_n(length, count));
        Self { places: lengths.map(place).collect() }
    }

    /// Takes a place for the attribute `name`, which is not empty, with a value of `size` bytes.
    ///
    /// # Errors
    /// ENOMEM if no place that is large enough is free; ERANGE if the name is too long.
    fn announce(&mut self, name: &[u8], size: usize, existence: AttributeExistence) -> Result<u8, Errno> {
        let free = |place: &NewAttribute| place.name.is_empty() && place.value.len() >= size;
        let (slot, place) =
            (0..).zip(self.places.iter_mut()).find(|(_, place)| free(place)).ok_or(Errno::ENOMEM)?;
        place.name.extend_from_slice(name).map_err(|_| Errno::ERANGE)?;
        (place.existence, place.announced, place.collected) = (existence, size, 0);
        Ok(slot)
    }

    /// Takes what is left in `source` as the next bytes of the value in `slot`; returns how many.
    ///
    /// # Errors
    /// EINVAL if `offset` is not where the bytes so far end; ENOSPC if more would be there than was announced.
    pub fn collect(&mut self, slot: u8, offset: u64, source: &mut dyn Source) -> Result<u32, Errno> {
        let place = self.places.get_mut(usize::from(slot)).ok_or(Errno::EBADF)?;
        if offset != place.collected as u64 {
            return Err(Errno::EINVAL);
        }
        let count = source.remaining();
        let end =
            place.collected.checked_add(count).filter(|end| *end <= place.announced).ok_or(Errno::ENOSPC)?;
        let room = place.value.get_mut(place.collected..end).ok_or(Errno::ENOSPC)?;
        source.take(room).map_err(|Short| Errno::EIO)?;
        place.collected = end;
        u32::try_from(count).map_err(|_| Errno::EIO)
    }

    /// The attribute in `slot`.
    fn get(&self, slot: u8) -> Option<&NewAttribute> {
        self.places.get(usize::from(slot))
    }

    /// Frees `slot`.
    pub fn free(&mut self, slot: u8) {
        if let Some(place) = self.places.get_mut(usize::from(slot)) {
            place.name.clear();
        }
    }

    /// Frees all.
    pub fn clear(&mut self) {
        self.places.iter_mut().for_each(|place| place.name.clear());
    }
}

impl Default for NewAttributes {
    fn default() -> Self {
        Self::new()
    }
}

/// Txattrcreate: `fid` stands for the new attribute from here on.
///
/// # Errors
/// EBADF for a `fid` that stands for no file, EINVAL if it is open; ERANGE for a name that is empty or has more than 255
/// bytes, EINVAL for one with a NUL; EINVAL for flags that are none; E2BIG for a value of more than 64 KiB; ENOMEM, ENFILE;
/// EROFS, EACCES and EPERM as the export's policy has it.
pub(super) fn xattrcreate(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Txattrcreate<'_>,
) -> Result<Rxattrcreate, Errno> {
    let file = session.file(request.fid)?;
    if file.handle.state != FidState::Path {
        return Err(Errno::EINVAL);
    }
    if request.name.is_empty() {
        return Err(Errno::ERANGE);
    }
    check_name(request.name)?;
    let size =
        usize::try_from(request.attr_size).ok().filter(|size| *size <= MAX_VALUE).ok_or(Errno::E2BIG)?;
    let existence = match request.flags {
        flags if flags.is_empty() => AttributeExistence::Any,
        XattrFlags::CREATE => AttributeExistence::Absent,
        XattrFlags::REPLACE => AttributeExistence::Present,
        _ => return Err(Errno::EINVAL),
    };
    file.subject(exports)?.may_write_attribute(file.handle.node, request.name)?;
    let backend = exports.get_mut(file.attachment.export)?;
    let slot = session.new_attributes.announce(request.name, size, existence)?;
    backend.retain(file.handle.node).inspect_err(|_| session.new_attributes.free(slot))?;
    session.fids.replace(request.fid, Handle { state: FidState::NewAttribute(slot), ..file.handle })?;
    Ok(Rxattrcreate)
}

/// Sets the attribute that `fid` collected; for any other fid it does nothing. A value of no bytes removes the attribute,
/// unless CREATE was asked for.
///
/// # Errors
/// EINVAL if fewer bytes were written than announced; what [`FileSystem::set_attribute`](crate::fs::FileSystem::set_attribute)
/// and [`FileSystem::remove_attribute`](crate::fs::FileSystem::remove_attribute) say. (To remove what is not there is no error,
/// unless REPLACE was asked for: Linux removes access control lists so.)
pub(super) fn set(session: &Session, exports: &mut Exports<'_>, fid: Fid) -> Result<(), Errno> {
    let handle = session.fids.get(fid)?;
    let FidState::NewAttribute(slot) = handle.state else { return Ok(()) };
    let attachment = session.attachments.get(handle.attachment)?;
    let attribute = session.new_attributes.get(slot).ok_or(Errno::EBADF)?;
    let value = attribute.value().ok_or(Errno::EINVAL)?;
    let (caller, existence) = (exports.subject(&attachment)?.caller(), attribute.existence);
    let backend = exports.get_mut(attachment.export)?;
    if !value.is_empty() || existence == AttributeExistence::Absent {
        return backend.set_attribute(caller, handle.node, &attribute.name, value, existence);
    }
    match backend.remove_attribute(caller, handle.node, &attribute.name) {
        Err(Errno::ENODATA) if existence == AttributeExistence::Any => Ok(()),
        other => other,
    }
}
