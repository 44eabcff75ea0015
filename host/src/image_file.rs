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

    /// The addresses of the one symbol whose name is so, as the linker has it, and so compiled.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn symbol(&self, is_it: impl Fn(&str) -> bool) -> Result<Range<u64>> {
        let symbols =
            self.header()?.sections(LittleEndian, &*self.0)?.symbols(LittleEndian, &*self.0, SHT_SYMTAB)?;
        let named = |symbol: &&Sym64<LittleEndian>| {
            let name = symbols.symbol_name(LittleEndian, symbol).ok();
            name.and_then(|name| std::str::from_utf8(name).ok()).is_some_and(&is_it)
        };
        let mut found = symbols.iter().filter(named);
        match (found.next(), found.next()) {
            (Some(symbol), None) => {
                let start = symbol.st_value.get(LittleEndian);
                Ok(start..start + symbol.st_size.get(LittleEndian))
            }
            (found, _) => {
                Err(anyhow!("the image has {} such symbol", if found.is_none() { "no" } else { "not one" }))
            }
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
