// SPDX-License-Identifier: MIT OR Apache-2.0

//! A client's memory as the service VM takes it: one file, plugged as one device, and described to the image.

use std::fmt::Write;
use std::os::fd::{AsFd, BorrowedFd};

use crate::ivshmem::{self, IvshmemError};
use crate::vhost_user::MemoryTable;

/// Why a client's memory cannot be handed to the service VM.
#[derive(Debug, thiserror::Error)]
pub enum ClientMemoryError {
    /// Its regions are of different files.
    #[error(
        "the client's memory is spread over several files; give its QEMU one: \
         -object memory-backend-memfd,id=m,size=SIZE,share=on -machine memory-backend=m"
    )]
    SeveralFiles,
    /// The file has a size that the service VM cannot map.
    #[error("the client's {0}")]
    Size(IvshmemError),
}

/// The one file of the client's memory, with its size in bytes, which the service VM can map.
///
/// # Errors
/// [`ClientMemoryError`].
pub fn file(memory: &MemoryTable) -> Result<(BorrowedFd<'_>, u64), ClientMemoryError> {
    let (file, size) = memory.one_file().ok_or(ClientMemoryError::SeveralFiles)?;
    ivshmem::check_size(size).map_err(ClientMemoryError::Size)?;
    Ok((file.as_fd(), size))
}

/// The value of `memory=` in the image's `attach` command: `guest+length@offset`, separated by commas.
#[must_use]
pub fn describe(memory: &MemoryTable) -> String {
    let mut text = String::new();
    for (region, _) in memory.regions() {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{comma}{:#x}+{:#x}@{:#x}", region.guest, region.length, region.offset);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_memory::SharedMemory;
    use crate::vhost_user::Region;

    const MIB: u64 = 1 << 20;

    /// Two regions, of the files with these sizes.
    fn table(sizes: [u64; 2]) -> MemoryTable {
        let one = SharedMemory::new("test", sizes[0]).unwrap();
        let other = SharedMemory::new("test", sizes[1]).unwrap();
        let second = if sizes[0] == sizes[1] { &one } else { &other };
        let files = [&one, second].map(|memory| memory.file().try_clone_to_owned().unwrap().into());
        let region = |guest, offset| Region { guest, length: MIB, user: 0x7000_0000 + guest, offset };
        MemoryTable::new(vec![region(0, 0), region(1 << 32, sizes[1] - MIB)], files.into()).unwrap()
    }

    #[test]
    fn the_image_is_told_of_every_region() {
        let memory = table([2 * MIB, 2 * MIB]);
        assert_eq!(describe(&memory), "0x0+0x100000@0x0,0x100000000+0x100000@0x100000");
        assert_eq!(file(&memory).unwrap().1, 2 * MIB);
    }

    #[test]
    fn memory_of_several_files_is_refused_with_what_to_use() {
        let error = file(&table([MIB, 2 * MIB])).unwrap_err();
        assert!(error.to_string().contains("memory-backend-memfd"), "{error}");
    }

    #[test]
    fn memory_of_an_odd_size_is_refused_with_the_sizes_to_use() {
        let error = file(&table([3 * MIB, 3 * MIB])).unwrap_err();
        assert!(error.to_string().contains("use 2M or 4M"), "{error}");
    }
}
