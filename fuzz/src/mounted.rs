// SPDX-License-Identifier: MIT OR Apache-2.0

//! A volume in guarded memory, as targets mount it.

use skerry::ext4::{MountError, Volume};
use skerry::fs::Timestamp;
use skerry::mem::region::{Flush, FlushFault, MappedRegion};

use crate::guarded::Guarded;

/// Memory is as durable as it gets.
#[derive(Debug)]
pub struct Memory;

impl Flush for Memory {
    fn flush(&mut self) -> Result<(), FlushFault> {
        Ok(())
    }
}

/// A volume in memory.
pub type MemoryVolume = Volume<MappedRegion<Memory>>;

/// The time of each change.
fn clock() -> Timestamp {
    Timestamp { seconds: 1_800_000_000, nanoseconds: 4_000_000 }
}

/// The region that `memory` is.
///
/// # Safety
/// `memory` outlives it and is neither restored nor accessed while it lives.
unsafe fn region(memory: &Guarded) -> MappedRegion<Memory> {
    // SAFETY: the memory is mapped, readable and writable, as long as the region lives, and nobody else accesses it meanwhile
    // (the caller's word).
    unsafe { MappedRegion::writable(memory.start(), memory.len(), Memory) }
}

/// Mounts what is in `memory`, to be changed if `written`.
///
/// # Errors
/// As [`Volume::mount_writable`] and [`Volume::mount`].
///
/// # Safety
/// `memory` outlives the volume, and is neither restored nor accessed while it lives.
pub unsafe fn mount(memory: &Guarded, written: bool) -> Result<MemoryVolume, MountError> {
    // SAFETY: the caller's word.
    let region = unsafe { region(memory) };
    let mounted = if written { Volume::mount_writable(region, clock) } else { Volume::mount(region) };
    mounted.inspect_err(|error| assert_ne!(error.to_string(), ""))
}
