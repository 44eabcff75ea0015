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
use crate::wire::{Rxattrcreate, Txattrcreate, XattrFlags};

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

/// The attributes that fids of the session write. 266 KiB.
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
    session.fids.may_retain()?;
    let backend = exports.get_mut(file.attachment.export)?;
    let slot = session.new_attributes.announce(request.name, size, existence)?;
    backend.retain(file.handle.node).inspect_err(|_| session.new_attributes.free(slot))?;
    session.fids.replace(request.fid, Handle { state: FidState::NewAttribute(slot), ..file.handle })?;
    Ok(Rxattrcreate)
}

/// Sets the attribute in `slot`, which the fid collected that stood for `handle`. A value of no bytes removes the attribute,
/// unless CREATE was asked for.
///
/// # Errors
/// EINVAL if fewer bytes were written than announced; what [`FileSystem::set_attribute`](crate::fs::FileSystem::set_attribute)
/// and [`FileSystem::remove_attribute`](crate::fs::FileSystem::remove_attribute) say. (To remove what is not there is no error,
/// unless REPLACE was asked for: Linux removes access control lists so.)
pub(super) fn set(
    session: &Session,
    exports: &mut Exports<'_>,
    handle: Handle,
    slot: u8,
) -> Result<(), Errno> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client::{Client, FILE};
    use crate::wire::{Fid, GetattrMask, OpenFlags, Tgetattr, Tremove};
    use std::vec;

    const ANY: XattrFlags = XattrFlags::empty();

    fn walked() -> Client {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        client
    }

    /// What `setxattr` does: the answer to the clunk, if all before goes well.
    fn set(client: &mut Client, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<(), Errno> {
        client.walk(1, 2, &[]).unwrap();
        client.xattrcreate(2, name, value.len() as u64, flags).unwrap();
        if !value.is_empty() {
            assert_eq!(client.write(2, 0, value), Ok(u32::try_from(value.len()).unwrap()));
        }
        client.clunk(2)
    }

    fn get(client: &mut Client, name: &[u8]) -> Option<vec::Vec<u8>> {
        client.tree.inode(FILE).xattrs.get(name).cloned()
    }

    #[test]
    fn an_attribute_is_set_when_its_fid_is_clunked() {
        let mut client = walked();
        client.walk(1, 2, &[]).unwrap();
        client.xattrcreate(2, b"user.new", 5, ANY).unwrap();
        assert_eq!(client.write(2, 0, b"va"), Ok(2));
        assert_eq!(client.write(2, 2, b"lue"), Ok(3));
        assert_eq!((get(&mut client, b"user.new"), client.tree.inode(FILE).retained), (None, 1));
        client.clunk(2).unwrap();
        assert_eq!(get(&mut client, b"user.new").as_deref(), Some(&b"value"[..]));
        assert_eq!((client.tree.inode(FILE).retained, client.session.fids_in_use()), (0, 2));
    }

    #[test]
    fn create_and_replace_are_judged_when_the_value_is_there() {
        let mut client = walked();
        assert_eq!(set(&mut client, b"user.colour", b"x", XattrFlags::CREATE), Err(Errno::EEXIST));
        assert_eq!(set(&mut client, b"user.new", b"x", XattrFlags::REPLACE), Err(Errno::ENODATA));
        assert_eq!(set(&mut client, b"user.new", b"x", XattrFlags::CREATE), Ok(()));
        assert_eq!(set(&mut client, b"user.new", b"y", XattrFlags::REPLACE), Ok(()));
        assert_eq!(set(&mut client, b"user.new", b"z", ANY), Ok(()));
        assert_eq!(get(&mut client, b"user.new").as_deref(), Some(&b"z"[..]));
        assert_eq!(client.session.fids_in_use(), 2, "an error clunks, too");
    }

    #[test]
    fn a_value_of_no_bytes_removes_the_attribute_unless_it_is_to_be_created() {
        let mut client = walked();
        assert_eq!(set(&mut client, b"user.colour", b"", XattrFlags::REPLACE), Ok(()));
        assert_eq!(get(&mut client, b"user.colour"), None);
        assert_eq!(set(&mut client, b"user.colour", b"", XattrFlags::REPLACE), Err(Errno::ENODATA));
        assert_eq!(set(&mut client, b"user.colour", b"", ANY), Ok(()), "there was none already");
        assert_eq!(set(&mut client, b"user.colour", b"", XattrFlags::CREATE), Ok(()));
        assert_eq!(get(&mut client, b"user.colour").as_deref(), Some(&b""[..]));
    }

    #[test]
    fn a_value_that_is_not_all_there_is_not_set() {
        let mut client = walked();
        client.walk(1, 2, &[]).unwrap();
        client.xattrcreate(2, b"user.new", 5, ANY).unwrap();
        client.write(2, 0, b"valu").unwrap();
        assert_eq!(client.clunk(2), Err(Errno::EINVAL));
        assert_eq!(client.clunk(2), Err(Errno::EBADF));
        assert_eq!(get(&mut client, b"user.new"), None);
    }

    #[test]
    fn a_value_is_written_in_order_and_not_beyond_its_size() {
        let mut client = walked();
        client.xattrcreate(1, b"user.new", 5, ANY).unwrap();
        assert_eq!(client.write(1, 1, b"a"), Err(Errno::EINVAL));
        assert_eq!(client.write(1, u64::MAX, b"a"), Err(Errno::EINVAL));
        assert_eq!(client.write(1, 0, b"longer"), Err(Errno::ENOSPC));
        assert_eq!(client.write(1, 0, b"val"), Ok(3));
        assert_eq!(client.write(1, 0, b"v"), Err(Errno::EINVAL));
        assert_eq!(client.write(1, 3, b"ue"), Ok(2));
        assert_eq!(client.write(1, 5, b""), Ok(0));
        assert_eq!(client.write(1, 5, b"s"), Err(Errno::ENOSPC));
        client.clunk(1).unwrap();
        assert_eq!(get(&mut client, b"user.new").as_deref(), Some(&b"value"[..]));
    }

    #[test]
    fn a_value_of_64_kib_is_set_through_a_small_msize_and_a_longer_one_is_refused() {
        let mut client = walked();
        let value: vec::Vec<u8> = (0..65_536_u32).map(|n| n.to_le_bytes()[0]).collect();
        client.xattrcreate(1, b"user.big", 65_536, ANY).unwrap();
        for (piece, at) in value.chunks(8000).zip((0..).step_by(8000)) {
            client.write(1, at, piece).unwrap();
        }
        client.clunk(1).unwrap();
        assert_eq!(get(&mut client, b"user.big"), Some(value));
        for size in [65_537, 1 << 32, u64::MAX] {
            assert_eq!(client.xattrcreate(0, b"user.big", size, ANY), Err(Errno::E2BIG));
        }
    }

    #[test]
    fn what_no_attribute_can_be_called_and_flags_that_are_none_are_refused() {
        let mut client = walked();
        for (name, errno) in
            [(&b""[..], Errno::ERANGE), (&[b'n'; 256], Errno::ERANGE), (b"user.\0", Errno::EINVAL)]
        {
            assert_eq!(client.xattrcreate(1, name, 1, ANY), Err(errno));
        }
        for flags in [3, 4] {
            let flags = XattrFlags::from_bits_retain(flags);
            assert_eq!(client.xattrcreate(1, b"user.new", 1, flags), Err(Errno::EINVAL));
        }
        assert_eq!(client.xattrcreate(9, b"user.new", 1, ANY), Err(Errno::EBADF));
        client.open(1, OpenFlags::RDWR).unwrap();
        assert_eq!(client.xattrcreate(1, b"user.new", 1, ANY), Err(Errno::EINVAL));
    }

    #[test]
    fn what_the_backend_refuses_is_the_answer_to_the_clunk() {
        let mut client = walked();
        assert_eq!(set(&mut client, b"other.name", b"x", ANY), Err(Errno::EOPNOTSUPP));
        client.walk(1, 2, &[]).unwrap();
        client.xattrcreate(2, b"user.new", 1, ANY).unwrap();
        client.write(2, 0, b"x").unwrap();
        client.tree.refuse = Some(Errno::ENOSPC);
        assert_eq!(client.clunk(2), Err(Errno::ENOSPC));
    }

    #[test]
    fn a_fid_that_sets_an_attribute_is_no_file() {
        let mut client = walked();
        client.xattrcreate(1, b"user.new", 1, ANY).unwrap();
        assert_eq!(client.walk(1, 2, &[]), Err(Errno::EBADF));
        assert_eq!(client.open(1, OpenFlags::RDWR), Err(Errno::EBADF));
        assert_eq!(client.read(1, 0, 1), Err(Errno::EBADF));
        let request_mask = GetattrMask::ALL;
        assert_eq!(client.call(Tgetattr { fid: Fid(1), request_mask }), Err(Errno::EBADF));
        assert_eq!(client.xattrcreate(1, b"user.other", 1, ANY), Err(Errno::EBADF));
        client.write(1, 0, b"x").unwrap();
        assert_eq!(client.call(Tremove { fid: Fid(1) }), Err(Errno::EBADF));
        assert_eq!(client.clunk(1), Err(Errno::EBADF), "it was clunked");
        assert_eq!((get(&mut client, b"user.new"), client.tree.retained()), (None, 0));
    }

    #[test]
    fn values_are_collected_for_34_fids_at_a_time_two_of_them_large() {
        let mut client = walked();
        for fid in 2..36 {
            client.walk(1, fid, &[]).unwrap();
            client.xattrcreate(fid, b"user.new", 4096, ANY).unwrap();
        }
        client.walk(1, 36, &[]).unwrap();
        assert_eq!(client.xattrcreate(36, b"user.new", 1, ANY), Err(Errno::ENOMEM));
        client.call(Tremove { fid: Fid(2) }).unwrap_err();
        assert_eq!(client.xattrcreate(36, b"user.new", 4097, ANY), Err(Errno::ENOMEM));
        assert_eq!(client.xattrcreate(36, b"user.new", 4096, ANY), Ok(()));
        assert_eq!(client.tree.retained(), 34);
    }

    #[test]
    fn a_place_is_free_again_when_its_file_cannot_be_kept() {
        let mut client = walked();
        client.tree.retained_max = 0;
        for _ in 0..40 {
            assert_eq!(client.xattrcreate(1, b"user.new", 1, ANY), Err(Errno::ENFILE));
        }
        client.tree.retained_max = 1;
        assert_eq!(client.xattrcreate(1, b"user.new", 1, ANY), Ok(()));
    }
}
