// SPDX-License-Identifier: MIT OR Apache-2.0

//! The volume's file as a region: mapped whole, flushed by `fdatasync`.
//!
//! A store to a shared mapping is in the host's page cache at once, where it survives this process. `fdatasync` writes all of
//! the file's dirty pages to its disk, those that were dirtied through the mapping too.

use std::ptr::NonNull;

use anyhow::{Context, Result};
use memmap2::{MmapOptions, MmapRaw};
use skerry::mem::region::{Flush, FlushFault, MappedRegion};

use crate::volume::Volume;

/// The volume in the memory of this process.
pub type VolumeRegion = MappedRegion<VolumeFile>;

/// The locked file behind a region, with its mapping.
#[derive(Debug)]
pub struct VolumeFile {
    volume: Volume,
    _mapping: MmapRaw,
    has_failed: bool,
}

/// Maps the volume, to be written unless it is only read.
///
/// # Errors
/// If the system has no room for it.
pub fn map(volume: Volume) -> Result<VolumeRegion> {
    let readonly = volume.is_readonly();
    let length = usize::try_from(volume.size()).context("the volume is larger than the address space")?;
    let mut options = MmapOptions::new();
    let options = options.len(length);
    let mapped =
        if readonly { options.map_raw_read_only(volume.file()) } else { options.map_raw(volume.file()) };
    let mapping = mapped.with_context(|| format!("cannot map the volume {}", volume.path().display()))?;
    let start = NonNull::new(mapping.as_mut_ptr()).context("the volume was mapped at no address")?;
    let file = VolumeFile { volume, _mapping: mapping, has_failed: false };
    Ok(if readonly {
        // SAFETY: `length` bytes from `start` on are mapped readable for as long as `file` lives, which the region owns; a
        // mapping is at most `isize::MAX` long. The lock on the file keeps other servers away.
        unsafe { MappedRegion::read_only(start, length, file) }
    } else {
        // SAFETY: as above, but mapped writable, too; nothing else of this process refers to the mapping.
        unsafe { MappedRegion::writable(start, length, file) }
    })
}

impl Flush for VolumeFile {
    /// Once the host has failed to write the file, no later flush is believed: the kernel reports a failure once, and counts the
    /// pages that it could not write as clean.
    fn flush(&mut self) -> Result<(), FlushFault> {
        if self.has_failed {
            return Err(FlushFault);
        }
        rustix::fs::fdatasync(self.volume.file()).map_err(|error| {
            self.has_failed = true;
            log::error!("the volume's file cannot be written to its disk: {error}");
            FlushFault
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry::mem::region::Region;
    use std::path::PathBuf;

    fn volume(directory: &tempfile::TempDir, readonly: bool) -> (PathBuf, VolumeRegion) {
        let path = directory.path().join("volume");
        std::fs::write(&path, [7; 8192]).unwrap();
        let region = map(Volume::open(&path, readonly).unwrap()).unwrap();
        (path, region)
    }

    #[test]
    fn what_is_stored_is_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let (path, mut region) = volume(&directory, false);
        region.bytes_mut(5000, 3).unwrap().copy_from_slice(b"new");
        assert_eq!(&std::fs::read(&path).unwrap()[4999..5004], b"\x07new\x07");
        region.flush().unwrap();
        assert_eq!((region.len(), region.bytes(8191, 2)), (8192, None));
    }

    #[test]
    fn a_volume_that_is_only_read_is_not_stored_to() {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut region) = volume(&directory, true);
        assert_eq!(region.bytes_mut(0, 1), None);
        assert_eq!(region.bytes(8190, 2), Some(&[7, 7][..]));
    }

    #[test]
    fn the_file_is_locked_for_as_long_as_it_is_mapped() {
        let directory = tempfile::tempdir().unwrap();
        let (path, region) = volume(&directory, false);
        assert!(Volume::open(&path, false).unwrap_err().to_string().contains("another server"));
        drop(region);
        Volume::open(&path, false).unwrap();
    }
}
