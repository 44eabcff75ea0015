// SPDX-License-Identifier: MIT OR Apache-2.0

//! The page tables: every mapped address is mapped to itself, with the rights that its use needs and no more.
//!
//! | range                            | rights                                                      |
//! |----------------------------------|-------------------------------------------------------------|
//! | read-only data                   | read                                                        |
//! | code                             | read, execute                                               |
//! | data, stacks, heap               | read, write                                                 |
//! | device registers                 | read, write, uncached                                       |
//! | the volume                       | as [`crate::pmem`] asks                                     |
//! | client RAM                       | read, write                                                 |
//! | everything else: page 0, guard pages, unused parts of the PCI windows | none                   |
//!
//! Nothing is mapped as a user's (bit 2 of an entry), at no level, so no code without privilege could run, or access anything.
//! Intel SDM volume 3, chapter 5 ("Paging"), four levels. Large pages are used wherever they fit. The tables come
//! from a fixed pool in the image's data, so that mapping a client's RAM takes nothing from the heap.

use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering, compiler_fence};

use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::registers::model_specific::{Efer, EferFlags};
use x86_64::structures::paging::PhysFrame;
use x86_64::{PhysAddr, instructions::tlb};

use crate::layout::{self, PAGE};
use crate::processor;
use crate::pvh::RamRange;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// The bits of an entry that hold an address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Tables in the pool: the image and its heap take 8, a client's RAM of 8 GiB in pages of 2 MiB takes 9.
const POOL: usize = 128;
/// Addresses that four levels of tables reach, where the upper half (sign extended) is left out.
const LIMIT: u64 = 1 << 47;

/// What a range may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Read.
    ReadOnly,
    /// Read and execute.
    Code,
    /// Read and write.
    ReadWrite,
    /// Read and write registers: uncached.
    Registers,
}

impl Rights {
    fn bits(self) -> u64 {
        PRESENT
            | match self {
                Self::ReadOnly => NO_EXECUTE,
                Self::Code => 0,
                Self::ReadWrite => WRITABLE | NO_EXECUTE,
                Self::Registers => WRITABLE | NO_EXECUTE | CACHE_DISABLE | WRITE_THROUGH,
            }
    }
}

/// Why a range was not mapped. Nothing of it is mapped then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapError {
    /// Not made of whole pages, empty, or beyond what the tables reach.
    Range(u64, u64),
    /// A part of it, at this address, is mapped already.
    Mapped(u64),
    /// The pool has no table left.
    NoTable,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(start, length) => write!(f, "{length:#x} bytes at {start:#x} cannot be mapped"),
            Self::Mapped(address) => write!(f, "{address:#x} is mapped already"),
            Self::NoTable => write!(f, "all {POOL} page tables are in use"),
        }
    }
}

#[repr(C, align(4096))]
struct Table([u64; 512]);

/// The pool of tables, and which of them are free: a list of indices.
struct Pool {
    tables: [Table; POOL],
    free: [u8; POOL],
    free_count: usize,
}

static mut TABLES: Pool = Pool { tables: [const { Table([0; 512]) }; POOL], free: [0; POOL], free_count: 0 };
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The page tables in use.
pub struct AddressSpace {
    pool: &'static mut Pool,
    /// Index of the top table (PML4).
    root: u8,
    /// The processor has pages of 1 GiB.
    gigabyte_pages: bool,
}

/// How many bytes an entry of level `level` spans: 1 for a page table … 4 for the top.
const fn span(level: u32) -> u64 {
    1 << (12 + 9 * (level - 1))
}

/// The index into a table of level `level`.
fn slot(address: u64, level: u32) -> usize {
    (address / span(level) % 512) as usize
}

impl AddressSpace {
    /// Maps the image and the heap, which ends at `heap_end`, and switches to the new tables.
    ///
    /// # Errors
    /// As [`AddressSpace::map`].
    ///
    /// # Panics
    /// If called twice.
    pub fn install(ram: RamRange) -> Result<Self, MapError> {
        assert!(!TAKEN.swap(true, Ordering::Relaxed), "the page tables are installed once");
        let tables = &raw mut TABLES;
        // SAFETY: `TAKEN` lets this line run once, so this is the only reference to `TABLES`, for ever.
        let pool = unsafe { &mut *tables };
        for (index, free) in pool.free.iter_mut().enumerate() {
            *free = index as u8;
        }
        pool.free_count = POOL;
        let root = pool.take()?;
        let mut space = Self { pool, root, gigabyte_pages: processor_has_gigabyte_pages() };

        space.map_range(layout::rodata_start()..layout::rodata_end(), Rights::ReadOnly)?;
        space.map_range(layout::text_start()..layout::text_end(), Rights::Code)?;
        // Data and the stacks, of which the guard pages are left out.
        space.map_range(layout::data_start()..layout::data_end(), Rights::ReadWrite)?;
        space.map_range(layout::main_stack().bytes(), Rights::ReadWrite)?;
        for stack in layout::interrupt_stacks() {
            space.map_range(stack.bytes(), Rights::ReadWrite)?;
        }
        space.map_range(heap(ram), Rights::ReadWrite)?;

        // SAFETY: NXE only gives bit 63 of an entry its meaning; every x86-64 processor since 2004 has it, and QEMU's.
        unsafe { Efer::update(|flags| flags.insert(EferFlags::NO_EXECUTE_ENABLE)) };
        let root = PhysFrame::containing_address(PhysAddr::new(space.pool.address(root)));
        // SAFETY: the new tables map all that the image uses, at the same addresses as before: code, constants, data, this
        // stack, the heap. What they leave out (boot data) was copied out and is not referred to any more.
        unsafe { Cr3::write(root, Cr3Flags::empty()) };
        Ok(space)
    }

    /// Tables that are left in the pool.
    pub fn free_tables(&self) -> usize {
        self.pool.free_count
    }

    fn map_range(&mut self, range: Range<u64>, rights: Rights) -> Result<(), MapError> {
        self.map(range.start, range.end - range.start, rights)
    }

    /// Maps the `length` bytes at `start` to themselves.
    ///
    /// # Errors
    /// [`MapError`]: the range is not made of whole pages, or is mapped already in part, or the pool is empty.
    pub fn map(&mut self, start: u64, length: u64, rights: Rights) -> Result<(), MapError> {
        let end = start.checked_add(length).filter(|end| *end <= LIMIT && length != 0);
        let Some(end) = end.filter(|_| start.is_multiple_of(PAGE) && length.is_multiple_of(PAGE)) else {
            return Err(MapError::Range(start, length));
        };
        let mut address = start;
        while address < end {
            let level = self.largest_page(address, end);
            if let Err(error) = self.map_page(address, level, rights) {
                self.unmap(start, address - start);
                return Err(error);
            }
            address += span(level);
        }
        // The processor reads the tables on its own: what uses the range must not be compiled to come before this. An entry
        // that was zero is in no TLB, so nothing has to be flushed.
        compiler_fence(Ordering::SeqCst);
        Ok(())
    }

    /// The level of the largest page that starts at `address` and ends at or before `end`.
    fn largest_page(&self, address: u64, end: u64) -> u32 {
        let fits = |level: u32| address.is_multiple_of(span(level)) && end - address >= span(level);
        match () {
            () if self.gigabyte_pages && fits(3) => 3,
            () if fits(2) => 2,
            () => 1,
        }
    }

    fn map_page(&mut self, address: u64, level: u32, rights: Rights) -> Result<(), MapError> {
        let mut table = self.root;
        for upper in (level + 1..=4).rev() {
            let entry = self.pool.entry(table, slot(address, upper));
            table = if *entry == 0 {
                let lower = self.pool.take()?;
                // The lower tables give the rights; an upper entry allows all of them.
                let link = self.pool.address(lower) | PRESENT | WRITABLE;
                *self.pool.entry(table, slot(address, upper)) = link;
                lower
            } else if *entry & LARGE != 0 {
                return Err(MapError::Mapped(address));
            } else {
                let address = *entry & ADDRESS;
                self.pool.index(address)
            };
        }
        let entry = self.pool.entry(table, slot(address, level));
        if *entry != 0 {
            return Err(MapError::Mapped(address));
        }
        *entry = address | rights.bits() | if level > 1 { LARGE } else { 0 };
        Ok(())
    }

    /// Unmaps what is mapped of the `length` bytes at `start`, which must be ranges that were mapped as a whole. Tables
    /// that are empty afterwards go back to the pool.
    pub fn unmap(&mut self, start: u64, length: u64) {
        let end = start.saturating_add(length).min(LIMIT);
        self.unmap_level(self.root, 4, 0, &(start..end));
        // Not page by page: a range may have thousands, and this is a control operation.
        tlb::flush_all();
    }

    /// Clears the entries of `table`, whose first entry spans from `base` on, within `range`; says whether it is empty then.
    fn unmap_level(&mut self, table: u8, level: u32, base: u64, range: &Range<u64>) -> bool {
        for index in 0..512 {
            let first = base + index as u64 * span(level);
            let entry = *self.pool.entry(table, index);
            let is_table = level > 1 && entry & LARGE == 0;
            // The table that spans the end is looked at, too: where `map` fails, it leaves one without entries there.
            let is_behind = if is_table { first > range.end } else { first >= range.end };
            if entry == 0 || is_behind || first + span(level) <= range.start {
                continue;
            }
            if is_table {
                let lower = self.pool.index(entry & ADDRESS);
                if !self.unmap_level(lower, level - 1, first, range) {
                    continue;
                }
                self.pool.give_back(lower);
            }
            *self.pool.entry(table, index) = 0;
        }
        (0..512).all(|index| *self.pool.entry(table, index) == 0)
    }
}

impl Pool {
    /// A table from the pool, with no entry present.
    fn take(&mut self) -> Result<u8, MapError> {
        self.free_count = self.free_count.checked_sub(1).ok_or(MapError::NoTable)?;
        Ok(self.free[self.free_count])
    }

    /// Returns a table whose entries are all zero.
    fn give_back(&mut self, table: u8) {
        self.free[self.free_count] = table;
        self.free_count += 1;
    }

    fn entry(&mut self, table: u8, slot: usize) -> &mut u64 {
        &mut self.tables[usize::from(table)].0[slot]
    }

    /// The physical address of a table: the image is mapped to itself.
    fn address(&self, table: u8) -> u64 {
        (&raw const self.tables[usize::from(table)]) as u64
    }

    /// The table at a physical address that [`Pool::address`] gave.
    fn index(&self, address: u64) -> u8 {
        ((address - self.address(0)) / PAGE) as u8
    }
}

/// The heap: from the end of the image to the end of the RAM around it.
pub fn heap(ram: RamRange) -> Range<u64> {
    layout::heap_start()..ram.end & !(PAGE - 1)
}

fn processor_has_gigabyte_pages() -> bool {
    const EXTENDED_FEATURES: u32 = 0x8000_0001;
    processor::leaf(EXTENDED_FEATURES).is_some_and(|leaf| leaf.edx & (1 << 26) != 0)
}
