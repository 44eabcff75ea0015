// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state of the volume, as `ctl/volume` tells it (`key value` lines), and the wish that it be brought to rest.

use core::fmt;

use super::{Errno, FileSystem};

/// How the volume stands, for those who look after it.
#[derive(Debug, Clone, Copy, Default)]
pub struct VolumeState {
    /// Whether it can be changed.
    writable: bool,
    /// Locked ranges of its files.
    locks: usize,
    /// How often damage was found since it was mounted.
    errors: u32,
    rest_wanted: bool,
    last_rest: Option<Result<(), Errno>>,
}

impl VolumeState {
    /// Notes how `volume` stands, with so many `locks`, and in which so many `errors` were found: before anybody is told.
    pub fn look_at(&mut self, volume: &dyn FileSystem, locks: usize, errors: u32) {
        self.writable = volume.check_writable(volume.root()) != Err(Errno::EROFS);
        (self.locks, self.errors) = (locks, errors);
    }

    /// Has it brought to rest before the next request.
    pub fn want_rest(&mut self) {
        self.rest_wanted = true;
    }

    /// Whether it is to be brought to rest; asks once.
    #[must_use]
    pub fn take_rest_wanted(&mut self) -> bool {
        core::mem::take(&mut self.rest_wanted)
    }

    /// Notes what came of bringing it to rest.
    pub fn set_rest(&mut self, result: Result<(), Errno>) {
        match result {
            Ok(()) => log::info!("the volume is at rest"),
            Err(errno) => log::error!("the volume cannot be brought to rest: {errno:?}"),
        }
        self.last_rest = Some(result);
    }
}

impl fmt::Display for VolumeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "access {}", if self.writable { "writable" } else { "readonly" })?;
        writeln!(f, "locks {}", self.locks)?;
        writeln!(f, "errors {}", self.errors)?;
        match self.last_rest {
            None => writeln!(f, "last_rest never"),
            Some(Ok(())) => writeln!(f, "last_rest done"),
            Some(Err(errno)) => writeln!(f, "last_rest failed {errno:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_wish_for_rest_is_told_once_and_what_came_of_it_always() {
        let mut state = VolumeState { writable: true, ..VolumeState::default() };
        assert_eq!(state.to_string(), "access writable\nlocks 0\nerrors 0\nlast_rest never\n");
        state.want_rest();
        assert!(state.take_rest_wanted() && !state.take_rest_wanted());
        state.set_rest(Err(Errno::EIO));
        assert!(state.to_string().ends_with("last_rest failed EIO\n"));
    }
}
