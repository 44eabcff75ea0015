// SPDX-License-Identifier: MIT OR Apache-2.0

//! Memory that this process shares with a VM: a memfd, mapped.
//!
//! The other side may change any byte at any time, so no reference into the memory is ever made: bytes are copied
//! with volatile accesses, and indices are atomics. Offsets come from this program's own layout, never from the other
//! side; one that leaves the memory is a mistake here, and panics.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU16, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags};

/// A mapped memfd.
#[derive(Debug)]
pub struct SharedMemory {
    file: File,
    map: MmapRaw,
}

impl SharedMemory {
    /// Makes `size` bytes of zeros; `name` shows in `/proc`. The file can neither grow nor shrink.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new(name: &str, size: u64) -> io::Result<Self> {
        let file =
            File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.set_len(size)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
        let map = MmapOptions::new().map_raw(&file)?;
        Ok(Self { file, map })
    }

    /// Length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.map.len() as u64
    }

    /// The memfd.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Where the byte at offset 0 is mapped in this process.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.map.as_mut_ptr() as u64
    }

    /// Where `length` bytes from `offset` on are mapped.
    ///
    /// # Panics
    /// If they leave the memory.
    fn place(&self, offset: u64, length: usize) -> *mut u8 {
        let end = offset.checked_add(length as u64);
        assert!(end.is_some_and(|end| end <= self.size()), "{length} bytes at {offset:#x} leave the memory");
        // The assertion bounds the offset by the length of a mapping, which fits a pointer's range.
        self.map.as_mut_ptr().wrapping_add(usize::try_from(offset).unwrap_or(usize::MAX))
    }

    /// Copies the bytes from `offset` on into `bytes`.
    ///
    /// # Panics
    /// If they leave the memory.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) {
        let place = self.place(offset, bytes.len());
        for (index, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: `place` checked that all `bytes.len()` bytes lie within the mapping, which lives as long as `self`;
            // a byte is always aligned and valid; the other side's writes are why the access is volatile.
            *byte = unsafe { place.add(index).read_volatile() };
        }
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Panics
    /// If they leave the memory.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let place = self.place(offset, bytes.len());
        for (index, &byte) in bytes.iter().enumerate() {
            // SAFETY: as in `read`; the mapping is writable.
            unsafe { place.add(index).write_volatile(byte) };
        }
    }

    /// The `length` bytes from `offset` on.
    ///
    /// # Panics
    /// If they leave the memory.
    #[must_use]
    pub fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.read(offset, &mut bytes);
        bytes
    }

    /// The little-endian 16-bit index at `offset`.
    ///
    /// # Panics
    /// If it is odd or leaves the memory.
    fn index(&self, offset: u64) -> &AtomicU16 {
        assert!(offset.is_multiple_of(2), "an index at the odd offset {offset:#x}");
        let place = self.place(offset, 2).cast::<u16>();
        // SAFETY: both bytes lie within the mapping, which outlives the reference (it borrows `self`); the mapping starts on
        // a page and the offset is even, so it is aligned; all accesses of this process to an index are atomic.
        unsafe { AtomicU16::from_ptr(place) }
    }

    /// Loads the index at `offset`.
    ///
    /// # Panics
    /// If the offset is odd or leaves the memory.
    #[must_use]
    pub fn load(&self, offset: u64, ordering: Ordering) -> u16 {
        u16::from_le(self.index(offset).load(ordering))
    }

    /// Loads the little-endian 32-bit word at `offset`.
    ///
    /// # Panics
    /// If the offset is no multiple of 4, or the word leaves the memory.
    #[must_use]
    pub fn load_word(&self, offset: u64) -> u32 {
        assert!(offset.is_multiple_of(4), "a word at the offset {offset:#x}");
        let place = self.place(offset, 4).cast::<u32>();
        // SAFETY: all four bytes lie within the mapping, which starts on a page, so that the place is aligned; any value is
        // valid; the other side's writes are why the access is volatile.
        u32::from_le(unsafe { place.read_volatile() })
    }

    /// Stores two little-endian words of 64 bits, the first at `offset`.
    ///
    /// # Panics
    /// If the offset is no multiple of 8, or the words leave the memory.
    pub fn store_pair(&self, offset: u64, values: [u64; 2]) {
        assert!(offset.is_multiple_of(8), "a word at the offset {offset:#x}");
        let place = self.place(offset, 16).cast::<[u64; 2]>();
        // SAFETY: as in `load_word`; an array is aligned as its elements are; the mapping is writable.
        unsafe { place.write_volatile(values.map(u64::to_le)) };
    }

    /// Stores `value` as the index at `offset`.
    ///
    /// # Panics
    /// If the offset is odd or leaves the memory.
    pub fn store(&self, offset: u64, value: u16, ordering: Ordering) {
        self.index(offset).store(value.to_le(), ordering);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_in_the_file() {
        use std::os::unix::fs::FileExt;
        let memory = SharedMemory::new("test", 8192).unwrap();
        memory.write(4094, b"abcd");
        let mut bytes = [0; 4];
        memory.file.read_exact_at(&mut bytes, 4094).unwrap();
        assert_eq!(&bytes, b"abcd");
        assert_eq!(memory.bytes(4093, 3), b"\0ab");
        memory.store(8190, 0x1234, Ordering::Relaxed);
        assert_eq!(memory.bytes(8190, 2), [0x34, 0x12]);
        assert_eq!(memory.load(8190, Ordering::Relaxed), 0x1234);
        memory.store_pair(8, [1, 0x0203_0405_0607_0809]);
        assert_eq!(memory.bytes(8, 16), [1, 0, 0, 0, 0, 0, 0, 0, 9, 8, 7, 6, 5, 4, 3, 2]);
        assert_eq!(memory.load_word(20), 0x0203_0405);
    }

    #[test]
    #[should_panic(expected = "leave the memory")]
    fn an_offset_outside_of_the_memory_is_a_mistake() {
        SharedMemory::new("test", 4096).unwrap().write(4095, b"ab");
    }

    #[test]
    #[should_panic(expected = "leave the memory")]
    fn an_offset_that_wraps_is_a_mistake() {
        let _ = SharedMemory::new("test", 4096).unwrap().bytes(u64::MAX, 2);
    }
}
