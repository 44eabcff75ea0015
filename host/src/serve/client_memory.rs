// SPDX-License-Identifier: MIT OR Apache-2.0

//! A client's memory, mapped into this process.
//!
//! A file that shrinks takes the mapping's pages away, and the next access would be a SIGBUS for this process and all of its
//! clients. So only memory whose file cannot shrink is taken: a memfd with the seal `F_SEAL_SHRINK`, which QEMU's
//! `memory-backend-memfd` sets.

use std::fs::File;
use std::ptr::NonNull;

use anyhow::{Context, Result, anyhow, bail};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{SealFlags, fcntl_get_seals};
use skerry::mem::guest::{GuestAddress, GuestMemory};

use crate::vhost_user::MemoryTable;

/// Each region of a client's memory, mapped, with its guest-physical address. Dropping it unmaps them.
#[derive(Debug)]
pub struct ClientMemory(Vec<(GuestAddress, MmapRaw)>);

/// Refuses memory that its owner could take away.
///
/// # Errors
/// If a file may shrink; the message says which options make one that does not.
pub fn check(memory: &MemoryTable) -> Result<()> {
    let is_sealed = |file: &File| fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
    if !memory.regions().all(|(_, file)| is_sealed(file)) {
        bail!(
            "the client's memory is in a file that may shrink; give its QEMU memory that is sealed: \
             -object memory-backend-memfd,id=m,size=SIZE,share=on -machine memory-backend=m"
        );
    }
    Ok(())
}

impl ClientMemory {
    /// Maps all regions of memory that was [`check`]ed.
    ///
    /// # Errors
    /// If the system has no room for them.
    pub fn map(memory: &MemoryTable) -> Result<Self> {
        let mut regions = Vec::new();
        for (region, file) in memory.regions() {
            let length = usize::try_from(region.length).context("a region of the client's memory")?;
            if length == 0 {
                bail!("the client's memory has an empty region");
            }
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
    fn memory_that_may_shrink_is_refused_with_what_to_use() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let error = check(&table(vec![file], &[(0, 4096, 0)])).unwrap_err().to_string();
        assert!(error.contains("memory-backend-memfd"), "{error}");
        let unsealed = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
        let unsealed = File::from(unsealed);
        unsealed.set_len(4096).unwrap();
        check(&table(vec![unsealed], &[(0, 4096, 0)])).unwrap_err();
        check(&table(vec![sealed(4096).1], &[(0, 4096, 0)])).unwrap();
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

    #[test]
    fn regions_that_overlap_or_are_empty_are_refused() {
        let (_memory, file) = sealed(8192);
        let copy = file.try_clone().unwrap();
        let memory = ClientMemory::map(&table(vec![file, copy], &[(0, 8192, 0), (4096, 4096, 0)])).unwrap();
        // SAFETY: it is an error, and nothing else.
        let error = unsafe { memory.guest_memory() }.unwrap_err().to_string();
        assert!(error.contains("overlaps"), "{error}");
        let (_memory, file) = sealed(4096);
        assert!(ClientMemory::map(&table(vec![file], &[(0, 0, 0)])).is_err());
    }
}
