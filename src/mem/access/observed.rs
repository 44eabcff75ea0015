// SPDX-License-Identifier: MIT OR Apache-2.0

//! Accesses that an [`Observer`] of the thread sees first, and may answer itself. Without one they go to memory.

#![allow(unsafe_code)]

use core::ptr::NonNull;
use core::sync::atomic::{self, Ordering};
use std::cell::RefCell;
use std::rc::Rc;

/// Stands between a thread and the memory that it shares. Addresses are those of this process; values are the numbers that the bytes
/// make, the lowest first.
pub trait Observer {
    /// What the `size` bytes at `address` say: 2, 4 or 8. It may leave the thread's function by unwinding.
    fn load(&self, address: usize, size: usize) -> u64;
    /// The `size` bytes at `address` are to become `value`; with `release`, after everything before.
    fn store(&self, address: usize, size: usize, value: u64, release: bool);
    /// All before is to be seen before all after (a fence that is `SeqCst`).
    fn fence(&self);
}

std::thread_local! {
    static OBSERVER: RefCell<Option<Rc<dyn Observer>>> = const { RefCell::new(None) };
}

fn observer() -> Option<Rc<dyn Observer>> {
    OBSERVER.with_borrow(Clone::clone)
}

/// Puts `observer` between this thread and its memory, or takes the one away that is there.
pub fn observe(observer: Option<Rc<dyn Observer>>) {
    OBSERVER.set(observer);
}

fn releases(order: Ordering) -> bool {
    !matches!(order, Ordering::Relaxed)
}

macro_rules! atomic {
    ($name:ident, $integer:ty) => {
        /// An atomic of `core` that can be observed.
        #[derive(Debug)]
        #[repr(transparent)]
        pub struct $name(atomic::$name);

        impl $name {
            /// As that of `core`.
            ///
            /// # Safety
            /// As for that of `core`.
            pub const unsafe fn from_ptr<'a>(pointer: *mut $integer) -> &'a Self {
                // SAFETY: valid, aligned, accessed atomically for `'a` (the contract); this type is that of `core`.
                unsafe { &*pointer.cast::<Self>() }
            }

            fn address(&self) -> usize {
                (&raw const *self).addr()
            }

            /// As that of `core`.
            pub fn load(&self, order: Ordering) -> $integer {
                match observer() {
                    Some(observer) => {
                        let value = observer.load(self.address(), size_of::<$integer>());
                        <$integer>::from_le(<$integer>::try_from(value).expect("a value of the field's size"))
                    }
                    None => self.0.load(order),
                }
            }

            /// As that of `core`.
            pub fn store(&self, value: $integer, order: Ordering) {
                match observer() {
                    Some(observer) => {
                        let value = value.to_le().into();
                        observer.store(self.address(), size_of::<$integer>(), value, releases(order));
                    }
                    None => self.0.store(value, order),
                }
            }
        }
    };
}

atomic!(AtomicU16, u16);
atomic!(AtomicU32, u32);

/// As that of `core`.
pub fn fence(order: Ordering) {
    match observer() {
        Some(observer) if order == Ordering::SeqCst => observer.fence(),
        Some(_) => unimplemented!("a fence that is not SeqCst, observed"),
        None => atomic::fence(order),
    }
}

/// The 16 bytes at `words`, each read exactly once.
///
/// # Safety
/// They are mapped, readable and aligned to 8 bytes.
pub unsafe fn read_words(words: NonNull<u64>) -> [u64; 2] {
    let address = words.addr().get();
    match observer() {
        Some(observer) => [address, address + 8].map(|word| u64::from_le(observer.load(word, 8))),
        // SAFETY: mapped, readable, aligned (the contract); a `u64` has no invalid values.
        None => unsafe { [words.read_volatile(), words.add(1).read_volatile()] },
    }
}

/// Bytes that are written without an order: an even number. Returns whether an observer got them, in stores of up to 8 bytes.
pub fn store_bytes(address: NonNull<u8>, bytes: &[u8]) -> bool {
    let Some(observer) = observer() else { return false };
    let mut address = address.addr().get();
    for chunk in bytes.chunks(8) {
        let mut value = [0; 8];
        value[..chunk.len()].copy_from_slice(chunk);
        observer.store(address, chunk.len(), u64::from_le_bytes(value), false);
        address += chunk.len();
    }
    true
}
