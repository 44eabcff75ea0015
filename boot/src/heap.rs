// SPDX-License-Identifier: MIT OR Apache-2.0

//! The heap, for start-up and control operations. Between a kick and its reply nothing is allocated, and this
//! module counts, so that the statistics can show it.

use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use linked_list_allocator::Heap;
use spin::Mutex;

/// All counters: allocations made at any time, and those made while clients' requests were served.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static DATA_PATH_ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static IN_DATA_PATH: AtomicBool = AtomicBool::new(false);

struct CountingHeap(Mutex<Heap>);

#[global_allocator]
static HEAP: CountingHeap = CountingHeap(Mutex::new(Heap::empty()));

// SAFETY: `Heap` hands out disjoint blocks of the range it was given, sized and aligned as asked, and takes them back; the
// lock makes each call whole. There is one processor, and interrupt handlers do not allocate, so the lock cannot be
// waited for. Running out is the null pointer, not a panic.
unsafe impl GlobalAlloc for CountingHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        if IN_DATA_PATH.load(Ordering::Relaxed) {
            DATA_PATH_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        self.0.lock().allocate_first_fit(layout).map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: `block` came from `alloc` with this layout (the contract of `GlobalAlloc`), hence from this heap.
            unsafe { self.0.lock().deallocate(block, layout) }
        }
    }
}

/// Gives the heap its memory.
///
/// # Safety
/// `range` is mapped writable, is used by nothing else for ever, and this is called once.
pub unsafe fn initialize(range: Range<u64>) {
    let length = range.end - range.start;
    // SAFETY: the caller's words are the preconditions of `Heap::init`.
    unsafe { HEAP.0.lock().init(range.start as *mut u8, length as usize) };
}

/// Runs `serve`, and counts what it allocates as allocations of the data path.
pub fn without_allocations<R>(serve: impl FnOnce() -> R) -> R {
    IN_DATA_PATH.store(true, Ordering::Relaxed);
    let result = serve();
    IN_DATA_PATH.store(false, Ordering::Relaxed);
    result
}

/// A moment's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeapStatistics {
    /// Bytes in use.
    pub used: u64,
    /// Bytes in all.
    pub size: u64,
    /// Allocations since the start.
    pub allocations: u64,
    /// Of these, while clients' requests were served: 0, or there is a bug.
    pub data_path_allocations: u64,
}

/// The figures now.
pub fn statistics() -> HeapStatistics {
    let heap = HEAP.0.lock();
    HeapStatistics {
        used: heap.used() as u64,
        size: heap.size() as u64,
        allocations: ALLOCATIONS.load(Ordering::Relaxed),
        data_path_allocations: DATA_PATH_ALLOCATIONS.load(Ordering::Relaxed),
    }
}
