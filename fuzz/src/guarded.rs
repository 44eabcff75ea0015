// SPDX-License-Identifier: MIT OR Apache-2.0

//! Memory between two pages that nobody may access: whoever leaves it by a byte dies of a SIGSEGV, which libFuzzer reports.

use std::ffi::c_void;
use std::fs::File;
use std::ptr::{NonNull, null_mut};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

const PAGE: usize = 4096;
/// What lies in the first page before the memory, where the memory begins in the middle of a page.
const CANARY: u8 = 0xc5;

/// Mapped memory with a page in front of it and one behind it that cannot be accessed.
#[derive(Debug)]
pub struct Guarded {
    /// All of the mapping, with both pages.
    whole: NonNull<c_void>,
    pages: usize,
    start: NonNull<u8>,
    length: usize,
}

/// Three mappings in a row, the outer two without rights: the first page's address and that of the memory.
fn reserve(inside: usize) -> NonNull<c_void> {
    // SAFETY: a new mapping at a place that the kernel chooses.
    let whole =
        unsafe { mmap_anonymous(null_mut(), inside + 2 * PAGE, ProtFlags::empty(), MapFlags::PRIVATE) };
    NonNull::new(whole.expect("memory")).expect("a mapping at an address")
}

impl Guarded {
    /// `length` bytes of zeros, 1 or more: the byte behind the last one is in a page without rights.
    #[must_use]
    pub fn new(length: usize) -> Self {
        let pages = length.div_ceil(PAGE);
        let whole = reserve(pages * PAGE);
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        let first = whole.as_ptr().wrapping_byte_add(PAGE);
        // SAFETY: it replaces pages of the mapping that was just made, to which nobody refers.
        unsafe { mmap_anonymous(first, pages * PAGE, rights, MapFlags::PRIVATE | MapFlags::FIXED) }
            .expect("memory");
        let slack = pages * PAGE - length;
        // SAFETY: `slack` bytes from `first` on are in the mapping, which is writable.
        unsafe { first.cast::<u8>().write_bytes(CANARY, slack) };
        let start = NonNull::new(first.cast::<u8>().wrapping_add(slack)).expect("a mapping at an address");
        Self { whole, pages, start, length }
    }

    /// The bytes of `file`, whole pages, to be changed without changing the file.
    #[must_use]
    pub fn of_file(file: &File) -> Self {
        let length = usize::try_from(file.metadata().expect("a volume").len()).expect("a length of memory");
        assert!(length > 0 && length.is_multiple_of(PAGE), "whole pages");
        let whole = reserve(length);
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        let first = whole.as_ptr().wrapping_byte_add(PAGE);
        // SAFETY: as in `new`.
        unsafe { mmap(first, length, rights, MapFlags::PRIVATE | MapFlags::FIXED, file, 0) }.expect("memory");
        let start = NonNull::new(first.cast::<u8>()).expect("a mapping at an address");
        Self { whole, pages: length / PAGE, start, length }
    }

    /// Makes the bytes those of the file again.
    pub fn restore(&mut self) {
        // SAFETY: the mapping is of a file and private, so the pages become those of the file; no reference to them is held
        // (`self` is borrowed exclusively).
        unsafe { madvise(self.start.as_ptr().cast(), self.length, Advice::LinuxDontNeed) }.expect("memory");
    }

    /// Where the first byte is.
    #[must_use]
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Never: there is at least one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// All bytes. (Who lends the memory to the core takes care that nobody calls this meanwhile.)
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is mapped and readable as long as `self`; whoever handed its address to unsafe code promised that
        // nobody accesses it meanwhile.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// All bytes, to be changed.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the memory is writable, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }

    /// The `length` bytes from `offset` on.
    #[must_use]
    pub fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        assert!(offset.checked_add(length).is_some_and(|end| end <= self.length));
        let mut bytes = vec![0; length];
        // SAFETY: the bytes lie in the memory (just checked), which is readable; `bytes` is that long, and new.
        unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(self.start.as_ptr().add(offset), length) };
        bytes
    }

    /// Stores as many of `bytes` from `offset` on as fit.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let Some(room) = self.length.checked_sub(offset) else { return };
        let length = bytes.len().min(room);
        // SAFETY: the bytes lie in the memory (just checked), which is writable; no reference into it exists but `bytes`
        // perhaps, for which the copy may overlap.
        unsafe { self.start.as_ptr().add(offset).copy_from(bytes.as_ptr(), length) };
    }

    /// Checks that nothing was stored in front of the memory.
    pub fn check(&self) {
        let first = self.whole.as_ptr().wrapping_byte_add(PAGE).cast::<u8>();
        let slack = self.pages * PAGE - self.length;
        for offset in 0..slack {
            // SAFETY: the byte is in the mapping, in front of the memory.
            let byte = unsafe { first.add(offset).read() };
            assert_eq!(byte, CANARY, "a byte in front of the memory was stored to");
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, to which nobody refers any more.
        unsafe { munmap(self.whole.as_ptr(), (self.pages + 2) * PAGE) }.expect("memory");
    }
}
