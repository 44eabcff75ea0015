// SPDX-License-Identifier: MIT OR Apache-2.0

//! A client's memory, as its QEMU tells it (`VHOST_USER_SET_MEM_TABLE`): checked, and translated.
//!
//! A file that shrinks takes the pages of its mappings away, and the next access would be a SIGBUS: for the process that serves, or
//! for the service VM's QEMU, and so for all other clients. So only memory whose file cannot shrink is taken: a memfd with the
//! seal `F_SEAL_SHRINK`, which QEMU's `memory-backend-memfd` sets.

use std::fs::File;
use std::io;

use rustix::fs::{OFlags, SealFlags, fcntl_get_seals, fcntl_getfl, fstat};
use skerry::fs::command::MAX_MEMORY_RANGES;

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

/// Why a client's memory cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum MemoryTableError {
    /// There is none, or more than is kept.
    #[error("the client has {0} memory regions; 1 to {MAX_MEMORY_RANGES} can be served")]
    Count(usize),
    /// A region is not in its file.
    #[error("the client's memory region {0:x?} leaves its file of {1} bytes")]
    OutsideFile(Region, u64),
    /// A region is empty, or two are in part the same addresses.
    #[error("the client's memory region {0:x?} is empty or overlaps another")]
    Overlap(Region),
    /// A file could be made shorter while it is mapped.
    #[error(
        "the client's memory is in a file that may shrink; give its QEMU memory that is sealed: \
         -object memory-backend-memfd,id=m,size=SIZE,share=on -machine memory-backend=m"
    )]
    MayShrink,
    /// A file cannot be mapped to be written.
    #[error("the client's memory is in a file that cannot be written")]
    NotWritable,
    /// A file cannot be asked.
    #[error("the client's memory: {0}")]
    File(io::Error),
}

/// The file of a region.
#[derive(Debug)]
struct Backing {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    /// Length in bytes.
    size: u64,
}

/// A client's whole memory: its regions, each with the file that it is in.
#[derive(Debug)]
pub struct MemoryTable {
    regions: Vec<Region>,
    files: Vec<Backing>,
}

impl MemoryTable {
    /// Checks that each of `regions` lies in its file of `files`, apart from all others, and that no file can shrink.
    ///
    /// # Errors
    /// [`MemoryTableError`].
    pub fn new(regions: Vec<Region>, files: Vec<File>) -> Result<Self, MemoryTableError> {
        if !(1..=MAX_MEMORY_RANGES).contains(&regions.len()) || files.len() != regions.len() {
            return Err(MemoryTableError::Count(regions.len()));
        }
        let mut backings = Vec::with_capacity(files.len());
        for (&region, file) in regions.iter().zip(files) {
            let status = fstat(&file).map_err(|error| MemoryTableError::File(error.into()))?;
            let size = u64::try_from(status.st_size).unwrap_or(0);
            let fits = region.offset.checked_add(region.length).is_some_and(|end| end <= size);
            let wraps = region.guest.checked_add(region.length).is_none()
                || region.user.checked_add(region.length).is_none();
            if !fits || wraps {
                return Err(MemoryTableError::OutsideFile(region, size));
            }
            let seals = fcntl_get_seals(&file).unwrap_or(SealFlags::empty());
            if !seals.contains(SealFlags::SHRINK) {
                return Err(MemoryTableError::MayShrink);
            }
            let flags = fcntl_getfl(&file).map_err(|error| MemoryTableError::File(error.into()))?;
            let is_writable = flags & OFlags::RWMODE == OFlags::RDWR;
            if !is_writable || seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE) {
                return Err(MemoryTableError::NotWritable);
            }
            backings.push(Backing { file, identity: (status.st_dev, status.st_ino), size });
        }
        for (number, &region) in regions.iter().enumerate() {
            let meets = |other: &Region| {
                other.guest < region.guest + region.length && region.guest < other.guest + other.length
            };
            if region.length == 0 || regions.iter().take(number).any(meets) {
                return Err(MemoryTableError::Overlap(region));
            }
        }
        Ok(Self { regions, files: backings })
    }

    /// Whether `other` is the same memory at the same places.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let identities = |table: &Self| table.files.iter().map(|file| file.identity).collect::<Vec<_>>();
        self.regions == other.regions && identities(self) == identities(other)
    }

    /// The regions with their files.
    pub fn regions(&self) -> impl Iterator<Item = (&Region, &File)> {
        self.regions.iter().zip(self.files.iter().map(|backing| &backing.file))
    }

    /// The file that all regions are in, with its size in bytes; `None` if they are in several.
    #[must_use]
    pub fn one_file(&self) -> Option<(&File, u64)> {
        let first = self.files.first()?;
        let is_one = self.files.iter().all(|file| file.identity == first.identity);
        is_one.then_some((&first.file, first.size))
    }

    /// The sum of the regions' lengths, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.regions.iter().fold(0, |sum, region| sum.saturating_add(region.length))
    }

    /// The guest-physical address of the front end's address `user`; `None` if it is in no region.
    #[must_use]
    pub fn translate(&self, user: u64) -> Option<u64> {
        self.regions.iter().find_map(|region| {
            let distance = user.checked_sub(region.user)?;
            (distance < region.length).then(|| region.guest + distance)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use rustix::fs::{MemfdFlags, memfd_create};

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
    fn the_same_table_again_is_recognized() {
        let (one, other) = (memory(2 * MIB), memory(2 * MIB));
        assert!(split(&one).is_same(&split(&one)));
        assert!(!split(&one).is_same(&split(&other)), "another file");
        let moved = MemoryTable::new(vec![region(0, MIB, 0x7000_0000, 0)], vec![file(&one)]).unwrap();
        assert!(!split(&one).is_same(&moved), "other regions");
    }

    #[test]
    fn the_regions_may_be_in_several_files_and_it_is_known_whether_they_are() {
        assert_eq!(split(&memory(2 * MIB)).one_file().map(|(_, size)| size), Some(2 * MIB));
        let regions = vec![region(0, MIB, 0, 0), region(MIB, MIB, MIB, 0)];
        let table = MemoryTable::new(regions, vec![file(&memory(MIB)), file(&memory(MIB))]).unwrap();
        assert!(table.one_file().is_none());
        assert_eq!((table.size(), table.regions().count()), (2 * MIB, 2));
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
    fn regions_that_overlap_or_are_empty_are_refused() {
        let one = memory(4 * MIB);
        for (first, second) in [
            (region(0, MIB, 0, 0), region(MIB - 1, MIB, MIB, MIB)),
            (region(MIB, MIB, 0, 0), region(0, 3 * MIB, MIB, MIB)),
            (region(MIB, MIB, 0, 0), region(MIB, MIB, MIB, MIB)),
            (region(0, MIB, 0, 0), region(MIB, 0, MIB, MIB)),
        ] {
            let error = MemoryTable::new(vec![first, second], vec![file(&one), file(&one)]).unwrap_err();
            assert!(matches!(error, MemoryTableError::Overlap(_)), "{second:x?}: {error}");
        }
    }

    #[test]
    fn memory_that_may_shrink_is_refused_with_what_to_use() {
        let plain = tempfile::tempfile().unwrap();
        plain.set_len(MIB).unwrap();
        let unsealed = memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap();
        let unsealed = File::from(unsealed);
        unsealed.set_len(MIB).unwrap();
        for file in [plain, unsealed] {
            let error = MemoryTable::new(vec![region(0, MIB, 0, 0)], vec![file]).unwrap_err();
            assert!(matches!(error, MemoryTableError::MayShrink), "{error}");
            assert!(error.to_string().contains("memory-backend-memfd"), "{error}");
        }
    }

    #[test]
    fn memory_that_cannot_be_written_is_refused() {
        let one = memory(MIB);
        let readable = File::open(std::format!("/proc/self/fd/{}", one.file().as_raw_fd())).unwrap();
        let sealed = memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&sealed, MIB).unwrap();
        rustix::fs::fcntl_add_seals(&sealed, SealFlags::SHRINK | SealFlags::WRITE).unwrap();
        for file in [readable, sealed.into()] {
            let error = MemoryTable::new(vec![region(0, MIB, 0, 0)], vec![file]).unwrap_err();
            assert!(matches!(error, MemoryTableError::NotWritable), "{error}");
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
