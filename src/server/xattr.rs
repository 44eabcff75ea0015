// SPDX-License-Identifier: MIT OR Apache-2.0

//! Txattrwalk: extended attributes are read like files. The reading is Tread, in `io.rs`.

use alloc::boxed::Box;

use super::exports::Exports;
use super::fid::{FidState, Handle};
use super::name::MAX_NAME;
use super::session::Session;
use crate::fs::Errno;
use crate::mem::window::Window;
use crate::wire::{Rxattrwalk, Txattrwalk};

/// Most fids of a session that can each read one attribute by name at a time. (Linux clunks such a fid when it
/// has read the value.)
pub const MAX_ATTRIBUTE_FIDS: usize = 64;

/// The names of the attributes that fids of the session read. They stand apart from the fid table, so that its
/// slots stay small. 16 KiB.
pub struct AttributeNames {
    /// An empty name is a free place.
    names: Box<[heapless::Vec<u8, MAX_NAME>; MAX_ATTRIBUTE_FIDS]>,
}

impl AttributeNames {
    /// Allocates the places, all free.
    #[must_use]
    pub fn new() -> Self {
        Self { names: Box::new([const { heapless::Vec::new() }; MAX_ATTRIBUTE_FIDS]) }
    }

    /// Keeps `name`, which is not empty; returns its place.
    ///
    /// # Errors
    /// ENFILE if all places are taken; ERANGE if the name is too long.
    pub fn keep(&mut self, name: &[u8]) -> Result<u8, Errno> {
        let (place, free) =
            (0..).zip(self.names.iter_mut()).find(|(_, kept)| kept.is_empty()).ok_or(Errno::ENFILE)?;
        free.extend_from_slice(name).map_err(|_| Errno::ERANGE)?;
        Ok(place)
    }

    /// The name at `place`; `None` if it is free.
    #[must_use]
    pub fn get(&self, place: u8) -> Option<&[u8]> {
        self.names.get(usize::from(place)).map(|name| name.as_slice()).filter(|name| !name.is_empty())
    }

    /// Frees `place`.
    pub fn free(&mut self, place: u8) {
        if let Some(name) = self.names.get_mut(usize::from(place)) {
            name.clear();
        }
    }

    /// Frees all.
    pub fn clear(&mut self) {
        self.names.iter_mut().for_each(heapless::Vec::clear);
    }
}

impl Default for AttributeNames {
    fn default() -> Self {
        Self::new()
    }
}

/// Txattrwalk: an empty name is the list of names.
///
/// # Errors
/// EBADF for a `fid` that stands for no file, and a `newfid` that is in use; ERANGE for a name of more than 255
/// bytes, EINVAL for one with a NUL; EMFILE, ENFILE; ENODATA and whatever else
/// [`FileSystem::read_attribute`](crate::fs::FileSystem::read_attribute) says, but that a file which is gone has no
/// attributes (ENODATA): Linux asks for access control lists by itself, and makes EIO of any other error.
pub(super) fn xattrwalk(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Txattrwalk<'_>,
) -> Result<Rxattrwalk, Errno> {
    let file = session.file(request.fid)?;
    let vacancy = session.fids.vacancy(request.newfid)?;
    check_name(request.name)?;
    let subject = file.subject(exports)?;
    let node = file.handle.node;
    let mut measure = Window::counting();
    let state = if request.name.is_empty() {
        subject.backend.list_attributes(node, &mut measure)?;
        FidState::AttributeNames
    } else {
        let readable = subject.may_read_attribute(node, request.name);
        readable
            .and_then(|()| subject.backend.read_attribute(node, request.name, &mut measure))
            .map_err(|errno| if errno == Errno::ESTALE { Errno::ENODATA } else { errno })?;
        FidState::Attribute(session.attribute_names.keep(request.name)?)
    };
    let inserted = session
        .fids
        .may_retain()
        .and_then(|()| exports.get_mut(file.attachment.export)?.retain(node))
        .and_then(|()| session.fill(&vacancy, Handle { state, ..file.handle }));
    if let (Err(_), FidState::Attribute(slot)) = (inserted, state) {
        session.attribute_names.free(slot);
    }
    inserted.map(|()| Rxattrwalk { size: measure.total() })
}

/// That `name` may be sent to a backend as that of an attribute.
///
/// # Errors
/// ERANGE for a name of more than 255 bytes, EINVAL for one with a NUL.
pub(super) fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name.len() > MAX_NAME {
        return Err(Errno::ERANGE);
    }
    if name.contains(&0) { Err(Errno::EINVAL) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client::{Client, FILE};
    use crate::wire::{Fid, OpenFlags, Tgetattr, Tremove};

    fn walked() -> Client {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        client
    }

    #[test]
    fn an_empty_name_lists_the_names() {
        let mut client = walked();
        let names = &b"user.colour\0user.empty\0"[..];
        assert_eq!(client.xattrwalk(1, 2, b""), Ok(names.len() as u64));
        assert_eq!(client.read(2, 0, 1000).as_deref(), Ok(names));
        assert_eq!(client.read(2, 12, 4).as_deref(), Ok(&b"user"[..]));
        assert_eq!(client.xattrwalk(0, 3, b""), Ok(0));
        assert_eq!(client.read(3, 0, 1000).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn a_name_gives_the_value_in_parts_and_as_a_whole() {
        let mut client = walked();
        assert_eq!(client.xattrwalk(1, 2, b"user.colour"), Ok(12));
        assert_eq!(client.read(2, 0, 1000).as_deref(), Ok(&b"grey and wet"[..]));
        assert_eq!(client.read(2, 5, 3).as_deref(), Ok(&b"and"[..]));
        assert_eq!(client.read(2, 9, 1000).as_deref(), Ok(&b"wet"[..]));
        assert_eq!(client.read(2, 12, 1000).as_deref(), Ok(&b""[..]));
        assert_eq!(client.read(2, i64::MAX as u64, 1000).as_deref(), Ok(&b""[..]));
        assert_eq!(client.xattrwalk(1, 3, b"user.empty"), Ok(0));
        assert_eq!(client.read(3, 0, 1000).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn a_value_of_64_kib_is_read_through_a_small_msize() {
        let mut client = walked();
        let value: std::vec::Vec<u8> = (0..65536_u32).map(|n| n.to_le_bytes()[0]).collect();
        client.tree.inode(FILE).xattrs.insert(b"user.big".to_vec(), value.clone());
        assert_eq!(client.xattrwalk(1, 2, b"user.big"), Ok(65536));
        let mut read = std::vec::Vec::new();
        while read.len() < value.len() {
            read.extend(client.read(2, read.len() as u64, u32::MAX).unwrap());
        }
        assert!(read == value);
    }

    #[test]
    fn an_attribute_that_is_not_there_makes_no_fid() {
        let mut client = walked();
        assert_eq!(client.xattrwalk(1, 2, b"user.size"), Err(Errno::ENODATA));
        assert_eq!(client.xattrwalk(1, 2, &[b'n'; 256]), Err(Errno::ERANGE));
        assert_eq!(client.xattrwalk(1, 2, b"user.\0"), Err(Errno::EINVAL));
        assert_eq!(client.xattrwalk(9, 2, b""), Err(Errno::EBADF));
        assert_eq!(client.xattrwalk(1, 0, b""), Err(Errno::EBADF), "the new fid is in use");
        assert_eq!(client.xattrwalk(1, 1, b""), Err(Errno::EBADF), "the new fid is in use");
        assert_eq!(client.session.fids_in_use(), 2);
    }

    #[test]
    fn an_attribute_of_an_open_file_is_read_too() {
        let mut client = Client::attached();
        client.open_path(1, &[b"file"]);
        assert_eq!(client.xattrwalk(1, 2, b"user.colour"), Ok(12));
    }

    #[test]
    fn a_fid_that_reads_an_attribute_is_no_file() {
        let mut client = walked();
        client.xattrwalk(1, 2, b"user.colour").unwrap();
        client.xattrwalk(1, 3, b"").unwrap();
        for fid in [2, 3] {
            assert_eq!(client.walk(fid, 4, &[]), Err(Errno::EBADF));
            assert_eq!(client.open(fid, OpenFlags::RDONLY), Err(Errno::EBADF));
            let request_mask = crate::wire::GetattrMask::ALL;
            assert_eq!(client.call(Tgetattr { fid: Fid(fid), request_mask }), Err(Errno::EBADF));
            assert_eq!(client.xattrwalk(fid, 4, b""), Err(Errno::EBADF));
            assert_eq!(client.clunk(fid), Ok(()));
        }
    }

    #[test]
    fn names_are_kept_for_64_fids_at_a_time() {
        let mut client = walked();
        for fid in 2..66 {
            client.xattrwalk(1, fid, b"user.colour").unwrap();
        }
        assert_eq!(client.xattrwalk(1, 66, b"user.colour"), Err(Errno::ENFILE));
        assert_eq!(client.xattrwalk(1, 66, b""), Ok(23), "a list needs no name");
        client.clunk(20).unwrap();
        client.xattrwalk(1, 20, b"user.empty").unwrap();
        assert_eq!(client.read(20, 0, 100).as_deref(), Ok(&b""[..]));
        assert_eq!(client.read(21, 0, 100).as_deref(), Ok(&b"grey and wet"[..]));
        assert_eq!(client.call(Tremove { fid: Fid(21) }), Err(Errno::EBADF));
        client.xattrwalk(1, 21, b"user.empty").unwrap();
    }

    #[test]
    fn a_new_session_keeps_no_name() {
        let mut client = walked();
        for fid in 2..66 {
            client.xattrwalk(1, fid, b"user.colour").unwrap();
        }
        client.version(8192, crate::wire::VERSION).unwrap();
        client.attach(0, b"").unwrap();
        client.walk(0, 1, &[b"file"]).unwrap();
        assert_eq!(client.xattrwalk(1, 2, b"user.colour"), Ok(12));
    }

    #[test]
    fn a_failed_insertion_keeps_no_name() {
        let mut client = walked();
        for fid in 2..100 {
            client.walk(0, fid, &[]).unwrap();
        }
        for _ in 0..=MAX_ATTRIBUTE_FIDS {
            assert_eq!(client.xattrwalk(1, 100, b"user.colour"), Err(Errno::EMFILE));
        }
        client.clunk(50).unwrap();
        assert_eq!(client.xattrwalk(1, 100, b"user.colour"), Ok(12));
    }
}
