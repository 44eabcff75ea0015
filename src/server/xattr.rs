// SPDX-License-Identifier: MIT OR Apache-2.0

//! Txattrwalk and Txattrcreate: extended attributes are read like files. The reading is Tread, in [`super::io`].

use alloc::boxed::Box;

use super::exports::Exports;
use super::fid::{FidState, Handle};
use super::name::MAX_NAME;
use super::session::Session;
use crate::fs::Errno;
use crate::mem::window::Window;
use crate::wire::{Rxattrcreate, Rxattrwalk, Txattrcreate, Txattrwalk};

/// Most fids of a session that can each read one attribute by name at a time. (Linux clunks such a fid when it has read the
/// value.)
pub const MAX_ATTRIBUTE_FIDS: usize = 64;

/// The names of the attributes that fids of the session read. They stand apart from the fid table, so that its slots stay small.
/// 16 KiB.
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
/// EBADF for a `fid` that stands for no file, and a `newfid` that is in use; ERANGE for a name of more than 255 bytes, EINVAL for one with a NUL;
/// EMFILE, ENFILE; ENODATA and whatever else [`FileSystem::read_attribute`](crate::fs::FileSystem::read_attribute) says.
pub(super) fn xattrwalk(
    session: &mut Session,
    exports: &Exports<'_>,
    request: Txattrwalk<'_>,
) -> Result<Rxattrwalk, Errno> {
    let handle = session.file(request.fid)?;
    session.fids.check_insert(request.newfid)?;
    if request.name.len() > MAX_NAME {
        return Err(Errno::ERANGE);
    }
    if request.name.contains(&0) {
        return Err(Errno::EINVAL);
    }
    let backend = exports.get(handle.export)?;
    let mut measure = Window::counting();
    let state = if request.name.is_empty() {
        backend.list_attributes(handle.node, &mut measure)?;
        FidState::AttributeNames
    } else {
        backend.read_attribute(handle.node, request.name, &mut measure)?;
        FidState::Attribute(session.attribute_names.keep(request.name)?)
    };
    session.fids.insert(request.newfid, Handle { state, ..handle })?;
    Ok(Rxattrwalk { size: measure.total() })
}

/// Txattrcreate.
///
/// # Errors
/// EBADF; EROFS.
pub(super) fn xattrcreate(session: &Session, request: Txattrcreate<'_>) -> Result<Rxattrcreate, Errno> {
    session.file(request.fid)?;
    Err(Errno::EROFS)
}
