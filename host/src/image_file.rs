// SPDX-License-Identifier: MIT OR Apache-2.0

//! The image as a file: what is loaded of it, where its code is, its symbols. Relies on the reader of another project.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use object::LittleEndian;
use object::elf::{FileHeader64, PF_X, PT_LOAD, ProgramHeader64, SHT_SYMTAB, Sym64};
use object::read::elf::{FileHeader, ProgramHeader};

/// An image's bytes.
#[derive(Debug)]
pub struct ImageFile(Vec<u8>);

impl ImageFile {
    /// Reads the file `path`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self(fs::read(path).with_context(|| format!("cannot read the image {}", path.display()))?))
    }

    /// All of its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn header(&self) -> Result<&FileHeader64<LittleEndian>> {
        Ok(FileHeader64::parse(&*self.0)?)
    }

    /// What there is of each segment, in memory and in the file.
    ///
    /// # Errors
    /// If it is no ELF file.
    pub fn segments(&self) -> Result<&[ProgramHeader64<LittleEndian>]> {
        Ok(self.header()?.program_headers(LittleEndian, &*self.0)?)
    }

    /// How many of its bytes are loaded.
    ///
    /// # Errors
    /// If it is no ELF file.
    pub fn loaded(&self) -> Result<u64> {
        let is_loaded = |segment: &&ProgramHeader64<LittleEndian>| segment.p_type(LittleEndian) == PT_LOAD;
        Ok(self.segments()?.iter().filter(is_loaded).map(|segment| segment.p_filesz(LittleEndian)).sum())
    }

    /// Whether `address` is in the executable segment.
    ///
    /// # Errors
    /// If it is no ELF file.
    pub fn is_code(&self, address: u64) -> Result<bool> {
        Ok(self.segments()?.iter().any(|segment| {
            let start = segment.p_vaddr(LittleEndian);
            let range = start..start + segment.p_memsz(LittleEndian);
            segment.p_flags(LittleEndian).contains(PF_X) && range.contains(&address)
        }))
    }

    /// What is executed: its address, and its bytes.
    ///
    /// # Errors
    /// If it is no ELF file, or has no such segment.
    pub fn code(&self) -> Result<(u64, &[u8])> {
        let is_code = |segment: &&ProgramHeader64<LittleEndian>| {
            segment.p_type(LittleEndian) == PT_LOAD && segment.p_flags(LittleEndian).contains(PF_X)
        };
        let segment = self.segments()?.iter().find(is_code).context("the image has no code")?;
        let bytes = segment.data(LittleEndian, &*self.0).map_err(|()| anyhow!("the image is cut"))?;
        Ok((segment.p_vaddr(LittleEndian), bytes))
    }

    /// The eight bytes at `address` as a number, if they are in the file.
    ///
    /// # Errors
    /// If it is no ELF file.
    pub fn word(&self, address: u64) -> Result<Option<u64>> {
        let of = |segment: &ProgramHeader64<LittleEndian>| {
            let offset = address.checked_sub(segment.p_vaddr(LittleEndian))?;
            let bytes = segment.data(LittleEndian, &*self.0).ok()?.get(usize::try_from(offset).ok()?..)?;
            bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
        };
        Ok(self.segments()?.iter().find_map(of))
    }

    /// The addresses and names of all symbols, as the linker has them.
    ///
    /// # Errors
    /// If it is no ELF file.
    pub fn symbols(&self) -> Result<Vec<(Range<u64>, &str)>> {
        let symbols =
            self.header()?.sections(LittleEndian, &*self.0)?.symbols(LittleEndian, &*self.0, SHT_SYMTAB)?;
        let named = |symbol: &Sym64<LittleEndian>| {
            let start = symbol.st_value.get(LittleEndian);
            let name = symbols.symbol_name(LittleEndian, symbol).ok()?;
            Some((start..start + symbol.st_size.get(LittleEndian), std::str::from_utf8(name).ok()?))
        };
        Ok(symbols.iter().filter_map(named).collect())
    }

    /// The addresses of the one symbol whose name is so, as the linker has it, and so compiled.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn symbol(&self, is_it: impl Fn(&str) -> bool) -> Result<Range<u64>> {
        let symbols = self.symbols()?;
        let mut found = symbols.into_iter().filter(|(_, name)| is_it(name));
        match (found.next(), found.next()) {
            (Some((addresses, _)), None) => Ok(addresses),
            (None, _) => Err(anyhow!("the image has no such symbol")),
            _ => Err(anyhow!("the image has more than one such symbol")),
        }
    }

    /// The address of the symbol `name`.
    ///
    /// # Errors
    /// As [`ImageFile::symbol`].
    pub fn address(&self, name: &str) -> Result<u64> {
        Ok(self.symbol(|symbol| symbol == name).with_context(|| name.to_owned())?.start)
    }
}
