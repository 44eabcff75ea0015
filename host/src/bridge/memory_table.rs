// SPDX-License-Identifier: MIT OR Apache-2.0

//! A client's memory, as its QEMU tells it (`VHOST_USER_SET_MEM_TABLE`): checked, and translated for the image.

use std::fmt::Write;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

use skerry::fs::command::MAX_MEMORY_RANGES;

use crate::ivshmem::{self, IvshmemError};

/// A range of a client's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Guest-physical address of the first byte.
    pub guest: u64,
    /// Length in bytes.
    pub length: u64,
    /// Address of the first byte in the front end's process: vring addresses are given in these.
    pub user: u64,
    /// Offset of the first byte in the file.
    pub offset: u64,
}

/// Why a client's memory cannot be handed to the service VM.
#[derive(Debug, thiserror::Error)]
pub enum MemoryTableError {
    /// There is none, or more than the image keeps.
    #[error("the client has {0} memory regions; 1 to {MAX_MEMORY_RANGES} can be served")]
    Count(usize),
    /// Its regions are of different files.
    #[error(
        "the client's memory is spread over several files; give its QEMU one: \
         -object memory-backend-memfd,id=m,size=SIZE,share=on -machine memory-backend=m"
    )]
    SeveralFiles,
    /// A region is not in the file.
    #[error("the client's memory region {0:x?} leaves its file of {1} bytes")]
    OutsideFile(Region, u64),
    /// The file has a size that the service VM cannot map.
    #[error("the client's {0}")]
    Size(IvshmemError),
    /// The file cannot be asked.
    #[error("the client's memory: {0}")]
    File(std::io::Error),
}

/// A client's whole memory: one file, and where its parts appear to the client.
#[derive(Debug)]
pub struct MemoryTable {
    regions: Vec<Region>,
    file: File,
    size: u64,
    identity: (u64, u64),
}

impl MemoryTable {
    /// Checks that `regions` lie in one file (`files` has one descriptor for each) of a size that the service VM can map.
    ///
    /// # Errors
    /// [`MemoryTableError`].
    pub fn new(regions: Vec<Region>, files: Vec<File>) -> Result<Self, MemoryTableError> {
        if !(1..=MAX_MEMORY_RANGES).contains(&regions.len()) || files.len() != regions.len() {
            return Err(MemoryTableError::Count(regions.len()));
        }
        let mut identities = Vec::with_capacity(files.len());
        for file in &files {
            let metadata = file.metadata().map_err(MemoryTableError::File)?;
            identities.push((metadata.dev(), metadata.ino(), metadata.len()));
        }
        let (Some(&(device, inode, size)), Some(file)) = (identities.first(), files.into_iter().next())
        else {
            return Err(MemoryTableError::Count(0));
        };
        if identities.iter().any(|&(other, number, _)| (other, number) != (device, inode)) {
            return Err(MemoryTableError::SeveralFiles);
        }
        ivshmem::check_size(size).map_err(MemoryTableError::Size)?;
        for &region in &regions {
            let fits = region.offset.checked_add(region.length).is_some_and(|end| end <= size);
            let wraps = region.guest.checked_add(region.length).is_none()
                || region.user.checked_add(region.length).is_none();
            if !fits || wraps {
                return Err(MemoryTableError::OutsideFile(region, size));
            }
        }
        Ok(Self { regions, file, size, identity: (device, inode) })
    }

    /// Whether `other` is the same memory at the same places.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.identity == other.identity && self.regions == other.regions
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The file's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The guest-physical address of the front end's address `user`; `None` if it is in no region.
    #[must_use]
    pub fn translate(&self, user: u64) -> Option<u64> {
        self.regions.iter().find_map(|region| {
            let distance = user.checked_sub(region.user)?;
            (distance < region.length).then(|| region.guest + distance)
        })
    }

    /// The value of `memory=` in the image's `attach` command: `guest+length@offset`, separated by commas.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for region in &self.regions {
            let comma = if text.is_empty() { "" } else { "," };
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{comma}{:#x}+{:#x}@{:#x}", region.guest, region.length, region.offset);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_memory::SharedMemory;

    const MIB: u64 = 1 << 20;

    fn memory(size: u64) -> SharedMemory {
        SharedMemory::new("test", size).unwrap()
    }

    fn file(memory: &SharedMemory) -> File {
        memory.file().try_clone_to_owned().unwrap().into()
    }

    fn region(guest: u64, length: u64, user: u64, offset: u64) -> Region {
        Region { guest, length, user, offset }
    }

    /// As QEMU tells it: below and above the hole under 4 GiB.
    fn split(memory: &SharedMemory) -> MemoryTable {
        let regions = vec![region(0, MIB, 0x7000_0000, 0), region(1 << 32, MIB, 0x7000_0000 + MIB, MIB)];
        MemoryTable::new(regions, vec![file(memory), file(memory)]).unwrap()
    }

    #[test]
    fn addresses_of_the_front_end_become_those_of_the_guest() {
        let table = split(&memory(2 * MIB));
        assert_eq!(table.translate(0x7000_0000), Some(0));
        assert_eq!(table.translate(0x7000_0000 + MIB - 1), Some(MIB - 1));
        assert_eq!(table.translate(0x7000_0000 + MIB), Some(1 << 32));
        assert_eq!(table.translate(0x7000_0000 + 2 * MIB), None);
        assert_eq!(table.translate(0x6fff_ffff), None);
    }

    #[test]
    fn the_image_is_told_of_every_region() {
        assert_eq!(split(&memory(2 * MIB)).describe(), "0x0+0x100000@0x0,0x100000000+0x100000@0x100000");
    }

    #[test]
    fn the_same_table_again_is_recognized() {
        let (one, other) = (memory(2 * MIB), memory(2 * MIB));
        assert!(split(&one).is_same(&split(&one)));
        assert!(!split(&one).is_same(&split(&other)), "another file");
        let moved = MemoryTable::new(vec![region(0, MIB, 0x7000_0000, 0)], vec![file(&one)]).unwrap();
        assert!(!split(&one).is_same(&moved), "other regions");
    }

    #[test]
    fn memory_of_several_files_is_refused_with_what_to_use() {
        let regions = vec![region(0, MIB, 0, 0), region(MIB, MIB, MIB, 0)];
        let error = MemoryTable::new(regions, vec![file(&memory(MIB)), file(&memory(MIB))]).unwrap_err();
        assert!(error.to_string().contains("memory-backend-memfd"), "{error}");
    }

    #[test]
    fn memory_of_an_odd_size_is_refused_with_the_sizes_to_use() {
        let error = MemoryTable::new(vec![region(0, MIB, 0, 0)], vec![file(&memory(3 * MIB))]).unwrap_err();
        assert!(error.to_string().contains("use 2M or 4M"), "{error}");
    }

    #[test]
    fn a_region_that_leaves_its_file_or_wraps_is_refused() {
        for wrong in [
            region(0, 2 * MIB, 0, 0),
            region(0, MIB, 0, 1),
            region(0, MIB, 0, u64::MAX),
            region(u64::MAX, MIB, 0, 0),
            region(0, MIB, u64::MAX, 0),
        ] {
            let error = MemoryTable::new(vec![wrong], vec![file(&memory(MIB))]).unwrap_err();
            assert!(matches!(error, MemoryTableError::OutsideFile(..)), "{wrong:x?}: {error}");
        }
    }

    #[test]
    fn no_memory_and_too_many_regions_are_refused() {
        assert!(matches!(MemoryTable::new(vec![], vec![]), Err(MemoryTableError::Count(0))));
        let one = memory(MIB);
        let many = MAX_MEMORY_RANGES + 1;
        let regions = vec![region(0, 4096, 0, 0); many];
        let files = (0..many).map(|_| file(&one)).collect();
        assert!(matches!(MemoryTable::new(regions, files), Err(MemoryTableError::Count(_))));
    }
}
