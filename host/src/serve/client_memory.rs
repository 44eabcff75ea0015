// SPDX-License-Identifier: MIT OR Apache-2.0

//! A client's memory, mapped into this process.
//!
//! Its pages cannot be taken away: see [`MemoryTable`].

use std::ptr::NonNull;

use anyhow::{Context, Result, anyhow};
use memmap2::{MmapOptions, MmapRaw};
use skerry::mem::guest::{GuestAddress, GuestMemory};

use crate::vhost_user::MemoryTable;

/// Each region of a client's memory, mapped, with its guest-physical address. Dropping it unmaps them.
#[derive(Debug)]
pub struct ClientMemory(Vec<(GuestAddress, MmapRaw)>);

impl ClientMemory {
    /// Maps all regions.
    ///
    /// # Errors
    /// If the system has no room for them.
    pub fn map(memory: &MemoryTable) -> Result<Self> {
        let mut regions = Vec::new();
        for (region, file) in memory.regions() {
            let length = usize::try_from(region.length).context("a region of the client's memory")?;
            let mapped = MmapOptions::new().offset(region.offset).len(length).map_raw(file);
            regions.push((GuestAddress(region.guest), mapped.context("cannot map the client's memory")?));
        }
        Ok(Self(regions))
    }

    /// The memory, to be accessed.
    ///
    /// # Errors
    /// If regions overlap.
    ///
    /// # Safety
    /// What is returned is dropped before this value.
    pub unsafe fn guest_memory(&self) -> Result<GuestMemory> {
        let mut memory = GuestMemory::new();
        for (guest, map) in &self.0 {
            let start = NonNull::new(map.as_mut_ptr()).context("a mapping at no address")?;
            // SAFETY: the region is mapped readable and writable, as one mapping, for as long as this value lives (the caller's
            // word). No reference to it is ever made in this process. If a client has sent the same file over two sockets, it is
            // mapped twice, at different addresses: to each of the two the other is what the guest's own processors are, which
            // may write any of it at any time.
            unsafe { memory.add_region(*guest, map.len(), start) }.map_err(|error| anyhow!("{error}"))?;
        }
        Ok(memory)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::shared_memory::SharedMemory;
    use crate::vhost_user::Region;

    fn table(files: Vec<File>, regions: &[(u64, u64, u64)]) -> MemoryTable {
        let regions =
            regions.iter().map(|&(guest, length, offset)| Region { guest, length, user: guest, offset });
        MemoryTable::new(regions.collect(), files).unwrap()
    }

    fn sealed(size: u64) -> (SharedMemory, File) {
        let memory = SharedMemory::new("test", size).unwrap();
        let file = memory.file().try_clone_to_owned().unwrap().into();
        (memory, file)
    }

    #[test]
    fn regions_of_several_files_and_any_size_are_mapped_where_the_guest_has_them() {
        let ((one, first), (other, second)) = (sealed(12288), sealed(4096));
        one.write(8192, b"one");
        other.write(0, b"other");
        let memory =
            ClientMemory::map(&table(vec![first, second], &[(0x1000, 4096, 8192), (0x10_0000, 4096, 0)]));
        let memory = memory.unwrap();
        // SAFETY: dropped at the end of this function, before `memory`.
        let guest = unsafe { memory.guest_memory() }.unwrap();
        let read =
            |address| guest.volatile_slice(GuestAddress(address), 3).unwrap().copy_out::<3>(0).unwrap();
        assert_eq!((read(0x1000), read(0x10_0000)), (*b"one", *b"oth"));
        assert!(guest.volatile_slice(GuestAddress(0), 3).is_err());
    }
}
