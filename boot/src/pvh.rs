// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the loader hands over: the start info of the PVH boot protocol (Xen's `start_info.h`), with the memory
//! map and the kernel command line.
//!
//! All of it lies in memory that is unmapped later, so it is copied out here, once.

use core::fmt;

use heapless::Vec;

/// `hvm_start_info.magic`.
const MAGIC: u32 = 0x336e_c578;
/// The first version with a memory map.
const VERSION_WITH_MEMORY_MAP: u32 = 1;
/// Entries of the memory map that are taken; QEMU gives fewer than ten.
const MEMORY_MAP_CAPACITY: usize = 32;
/// Longest command line that is taken, in bytes. QEMU has room for 4096, and does not see to it.
pub const COMMAND_LINE_CAPACITY: usize = 2048;
/// `XEN_HVM_MEMMAP_TYPE_RAM`.
const TYPE_RAM: u32 = 1;

/// `hvm_start_info`, version 1.
#[repr(C)]
#[derive(Clone, Copy)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    nr_modules: u32,
    modlist_paddr: u64,
    cmdline_paddr: u64,
    rsdp_paddr: u64,
    memmap_paddr: u64,
    memmap_entries: u32,
    reserved: u32,
}

/// `hvm_memmap_table_entry`.
#[repr(C)]
#[derive(Clone, Copy)]
struct MemoryMapEntry {
    addr: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// A range of RAM: physical addresses `start .. end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamRange {
    /// First byte.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
}

/// What the loader said, copied out.
#[derive(Debug)]
pub struct BootInformation {
    /// The RAM, in the order of the memory map.
    pub ram: Vec<RamRange, MEMORY_MAP_CAPACITY>,
    /// The kernel command line, without its NUL.
    pub command_line: Vec<u8, COMMAND_LINE_CAPACITY>,
}

/// Why the start info was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartInfoError {
    /// The magic number is another one.
    Magic(u32),
    /// The version has no memory map.
    Version(u32),
    /// The memory map has more entries than are taken.
    MemoryMapLength(u32),
    /// The command line has no NUL where one must be.
    CommandLineLength,
}

impl fmt::Display for StartInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic(magic) => {
                write!(f, "the PVH start info has the magic number {magic:#x}, not {MAGIC:#x}")
            }
            Self::Version(version) => {
                write!(f, "the PVH start info has version {version}, which lacks a memory map")
            }
            Self::MemoryMapLength(entries) => {
                write!(f, "the memory map has {entries} entries; at most {MEMORY_MAP_CAPACITY} are taken")
            }
            Self::CommandLineLength => {
                write!(f, "the kernel command line is longer than {COMMAND_LINE_CAPACITY} bytes")
            }
        }
    }
}

/// Copies out the start info at the physical address `address`, and what it points to.
///
/// # Errors
/// What [`StartInfoError`] names.
///
/// # Safety
/// `address` is what the loader passed in EBX, the memory it describes has not been written since, and the first
/// 4 GiB are mapped where they are (the provisional page tables do that).
pub unsafe fn read_start_info(address: u32) -> Result<BootInformation, StartInfoError> {
    // SAFETY: the loader placed a start info there (the caller's word), below 4 GiB as the protocol says, hence mapped;
    // its fields are integers, for which all bits are valid, and it is read unaligned.
    let information = unsafe { core::ptr::read_unaligned(address as usize as *const StartInfo) };
    if information.magic != MAGIC {
        return Err(StartInfoError::Magic(information.magic));
    }
    if information.version < VERSION_WITH_MEMORY_MAP {
        return Err(StartInfoError::Version(information.version));
    }

    let mut ram = Vec::new();
    let entries = information.memmap_entries;
    for index in 0..u64::from(entries) {
        let entry = information.memmap_paddr + index * size_of::<MemoryMapEntry>() as u64;
        // SAFETY: as for the start info: placed by the loader below 4 GiB, integers, read unaligned, and `index` is below
        // the number of entries that the loader stated.
        let entry = unsafe { core::ptr::read_unaligned(entry as *const MemoryMapEntry) };
        let range = RamRange { start: entry.addr, end: entry.addr.saturating_add(entry.size) };
        if entry.kind == TYPE_RAM && ram.push(range).is_err() {
            return Err(StartInfoError::MemoryMapLength(entries));
        }
    }

    let mut command_line = Vec::new();
    if information.cmdline_paddr != 0 {
        for offset in 0.. {
            // SAFETY: the loader placed a NUL-terminated string there, below 4 GiB; every byte before this one was not the NUL.
            let byte = unsafe { core::ptr::read((information.cmdline_paddr + offset) as *const u8) };
            if byte == 0 {
                break;
            }
            command_line.push(byte).map_err(|_| StartInfoError::CommandLineLength)?;
        }
    }
    Ok(BootInformation { ram, command_line })
}

impl BootInformation {
    /// The RAM range that holds all of `start .. end`.
    ///
    /// # Errors
    /// [`TooLittleMemory`] if there is none.
    pub fn ram_around(&self, start: u64, end: u64) -> Result<RamRange, TooLittleMemory> {
        self.ram.iter().find(|range| range.start <= start && end <= range.end).copied().ok_or_else(|| {
            let holder = self.ram.iter().find(|range| range.start <= start && start < range.end);
            TooLittleMemory { needed: end, available: holder.map_or(0, |range| range.end) }
        })
    }
}

/// The service VM has less memory than the image needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLittleMemory {
    /// RAM must reach to this address.
    needed: u64,
    /// It reaches to this one.
    available: u64,
}

impl fmt::Display for TooLittleMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the image needs RAM up to {} KiB, and this machine has it up to {} KiB: start it with 32 MiB or more",
            self.needed.div_ceil(1024),
            self.available / 1024
        )
    }
}
