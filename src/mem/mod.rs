// SPDX-License-Identifier: MIT OR Apache-2.0

//! Memory that the core does not own: the RAM of a client, and the region that holds the volume.
//!
//! All `unsafe` of the core is below this module. What is handed upward is safe: ranges that were checked, copies
//! that cannot leave them, fields that are accessed as atomics.
//!
//! * [`access`]: atomics in memory that is shared.
//! * [`guest`]: client RAM as a list of regions; a driver's address is an *allegation* until checked here.
//! * [`scatter`]: the checked pieces of a descriptor chain, read and written as one stream.
//! * [`region`]: the volume's bytes.
//! * `slice`: copies that cannot panic; [`window`]: a part of a stream.

pub mod access;
pub mod guest;
pub mod region;
pub mod scatter;
pub(crate) mod slice;
pub mod window;

use alloc::vec::Vec;

/// Takes the bytes of a reply's payload, in order.
///
/// A backend pushes slices of the mapped volume straight into a sink; the sink copies them into the
/// client's descriptors. That is the one copy of a read.
pub trait Sink {
    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Full`] if not all of it fits; how much was taken is then unspecified.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full>;

    /// Appends `count` zero bytes (a hole, an unwritten extent).
    ///
    /// # Errors
    /// [`Full`], as for [`Sink::put`].
    fn put_zeros(&mut self, count: usize) -> Result<(), Full>;
}

/// For tools and tests; it grows, so a service does not use it.
impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn put_zeros(&mut self, count: usize) -> Result<(), Full> {
        self.resize(self.len().checked_add(count).ok_or(Full)?, 0);
        Ok(())
    }
}

/// Gives the bytes of a request's payload, in order.
pub trait Source {
    /// Bytes that are left.
    fn remaining(&self) -> usize;

    /// Fills `bytes` from the front of what is left.
    ///
    /// # Errors
    /// [`Short`] if fewer are left; nothing is consumed then.
    fn take(&mut self, bytes: &mut [u8]) -> Result<(), Short>;
}

/// For tools and tests: what was taken is no longer part of the slice.
impl Source for &[u8] {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), Short> {
        let (front, rest) = self.split_at_checked(bytes.len()).ok_or(Short)?;
        bytes.copy_from_slice(front);
        *self = rest;
        Ok(())
    }
}

/// A sink has no room for what was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// A source holds fewer bytes than were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short;
