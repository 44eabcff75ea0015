// SPDX-License-Identifier: MIT OR Apache-2.0

//! The records of a directory, `ext4_dir_entry_2`: inode, rec_len, name_len, file_type, name.
//!
//! An area of them (a block, or a part of an inline directory) is filled to its last byte: each record says
//! where the next begins. A record whose inode is 0 is unused space, or a structure in disguise (a checksum, an
//! index). Every record is checked before anything of it is shown; the checks are those of Linux's
//! `ext4_check_dir_entry`, and the name's.

use core::fmt;

use super::field::{le8, le16, le32};
use crate::fs::FileKind;

/// Bytes of a record in front of its name.
pub(super) const HEADER: usize = 8;
/// The shortest record: a header and a name of one to four bytes.
pub(super) const SHORTEST: usize = 12;

/// What the checks of a record need to know of the volume.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// `s_inodes_count`.
    pub(super) inodes_count: u32,
    /// Whether records carry a `file_type` (feature `filetype`).
    pub(super) file_type: bool,
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'v> {
    /// Where it starts in its area, in bytes.
    pub(super) start: usize,
    /// Where the next one starts.
    pub(super) end: usize,
    /// The inode it names; 0 if it is unused.
    pub(super) inode: u32,
    /// The kind of that inode, if the record tells.
    pub(super) kind: Option<FileKind>,
    /// The name: if the record is used, 1…255 bytes, no `/`, no NUL.
    pub(super) name: &'v [u8],
}

/// The records of an area, in order. After a fault there are no more.
#[derive(Debug, Clone)]
pub(super) struct Records<'v> {
    area: &'v [u8],
    start: usize,
    rules: Rules,
}

impl<'v> Records<'v> {
    /// The records that fill `area`.
    pub(super) fn new(area: &'v [u8], rules: Rules) -> Self {
        Self { area, start: 0, rules }
    }

    /// The same records from the one on that starts at `start`.
    pub(super) fn starting_at(self, start: usize) -> Self {
        Self { start, ..self }
    }

    fn check(&self, rest: &'v [u8]) -> Result<Record<'v>, RecordFault> {
        let header = rest.get(..HEADER).ok_or(RecordFault::Overrun { rec_len: 0, left: rest.len() })?;
        let inode = le32(header, 0);
        let rec_len = le16(header, 4);
        let name_len = le8(header, 6);
        let length = usize::from(rec_len);
        let name_end = HEADER.saturating_add(usize::from(name_len));
        if length < SHORTEST {
            return Err(RecordFault::Short { rec_len });
        }
        if length % 4 != 0 {
            return Err(RecordFault::Unaligned { rec_len });
        }
        if length < name_end {
            return Err(RecordFault::NameOverrun { rec_len, name_len });
        }
        let left =
            rest.len().checked_sub(length).ok_or(RecordFault::Overrun { rec_len, left: rest.len() })?;
        if left != 0 && left < SHORTEST {
            return Err(RecordFault::Remainder { rec_len, left });
        }
        if inode > self.rules.inodes_count {
            return Err(RecordFault::InodeOutOfRange { inode });
        }
        let name = rest.get(HEADER..name_end).unwrap_or_default();
        if inode != 0 {
            if name.is_empty() {
                return Err(RecordFault::NameEmpty);
            }
            if let Some(byte) = name.iter().copied().find(|byte| matches!(byte, 0 | b'/')) {
                return Err(RecordFault::NameByte { byte });
            }
        }
        let kind = if self.rules.file_type { kind_from_file_type(le8(header, 7)) } else { None };
        Ok(Record { start: self.start, end: self.start.saturating_add(length), inode, kind, name })
    }
}

impl Record<'_> {
    /// Bytes of the record that it needs: none if it is unused.
    pub(super) fn taken(&self) -> usize {
        if self.inode == 0 { 0 } else { needed(self.name.len()) }
    }
}

impl<'v> Iterator for Records<'v> {
    /// A record, or the offset of one in the area and what is wrong with it.
    type Item = Result<Record<'v>, (usize, RecordFault)>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.area.get(self.start..).filter(|rest| !rest.is_empty())?;
        Some(match self.check(rest) {
            Ok(record) => {
                self.start = record.end;
                Ok(record)
            }
            Err(fault) => Err((core::mem::replace(&mut self.start, self.area.len()), fault)),
        })
    }
}

/// The kind that `file_type` names. 0 says "unknown"; what else is no kind is taken for the same, as Linux does:
/// the inode knows.
fn kind_from_file_type(file_type: u8) -> Option<FileKind> {
    Some(match file_type {
        1 => FileKind::Regular,
        2 => FileKind::Directory,
        3 => FileKind::CharacterDevice,
        4 => FileKind::BlockDevice,
        5 => FileKind::Fifo,
        6 => FileKind::Socket,
        7 => FileKind::Symlink,
        _ => return None,
    })
}

/// The `file_type` that names `kind`.
pub(super) const fn file_type(kind: FileKind) -> u8 {
    match kind {
        FileKind::Regular => 1,
        FileKind::Directory => 2,
        FileKind::CharacterDevice => 3,
        FileKind::BlockDevice => 4,
        FileKind::Fifo => 5,
        FileKind::Socket => 6,
        FileKind::Symlink => 7,
    }
}

/// Bytes that a record with a name of `name_len` bytes takes, at least.
pub(super) const fn needed(name_len: usize) -> usize {
    HEADER.saturating_add(name_len).saturating_add(3) & !3
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFault {
    /// Shorter than any record.
    Short {
        /// `rec_len`.
        rec_len: u16,
    },
    /// Its length is not a multiple of four.
    Unaligned {
        /// `rec_len`.
        rec_len: u16,
    },
    /// Its name does not fit into it.
    NameOverrun {
        /// `rec_len`.
        rec_len: u16,
        /// `name_len`.
        name_len: u8,
    },
    /// It runs past the end of its block.
    Overrun {
        /// `rec_len`; 0 where not even a header fits.
        rec_len: u16,
        /// Bytes from its start to the end of the block.
        left: usize,
    },
    /// It leaves too little space behind it for another record.
    Remainder {
        /// `rec_len`.
        rec_len: u16,
        /// Bytes behind it.
        left: usize,
    },
    /// It names an inode above `s_inodes_count`.
    InodeOutOfRange {
        /// `inode`.
        inode: u32,
    },
    /// A used record without a name.
    NameEmpty,
    /// A name with a byte that no name may have.
    NameByte {
        /// `/` or NUL.
        byte: u8,
    },
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Short { rec_len } => write!(f, "rec_len {rec_len} is less than {SHORTEST}"),
            Self::Unaligned { rec_len } => write!(f, "rec_len {rec_len} is not a multiple of 4"),
            Self::NameOverrun { rec_len, name_len } => {
                write!(f, "rec_len {rec_len} is too small for name_len {name_len}")
            }
            Self::Overrun { rec_len, left } => write!(f, "rec_len {rec_len} with {left} bytes left"),
            Self::Remainder { rec_len, left } => {
                write!(f, "rec_len {rec_len} leaves {left} bytes, too few for another entry")
            }
            Self::InodeOutOfRange { inode } => write!(f, "inode {inode} is above s_inodes_count"),
            Self::NameEmpty => f.write_str("name_len is 0"),
            Self::NameByte { byte } => write!(f, "the name has a byte {byte:#04x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const RULES: Rules = Rules { inodes_count: 100, file_type: true };

    /// A record as it lies in a block, its name padded with 0xa5 to `rec_len`.
    fn record(inode: u32, rec_len: u16, name: &[u8], file_type: u8) -> Vec<u8> {
        let mut bytes = Vec::from(inode.to_le_bytes());
        bytes.extend(rec_len.to_le_bytes());
        bytes.push(u8::try_from(name.len()).unwrap());
        bytes.push(file_type);
        bytes.extend(name);
        bytes.resize(usize::from(rec_len).max(bytes.len()), 0xa5);
        bytes
    }

    fn faults(area: &[u8]) -> Vec<(usize, RecordFault)> {
        Records::new(area, RULES).filter_map(Result::err).collect()
    }

    #[test]
    fn records_are_read_with_their_places_kinds_and_names() {
        let area = [record(12, 12, b"a", 1), record(0, 16, b"gone", 1), record(100, 24, b"name", 2)].concat();
        let records: Vec<_> = Records::new(&area, RULES).map(Result::unwrap).collect();
        assert_eq!(
            records[0],
            Record { start: 0, end: 12, inode: 12, kind: Some(FileKind::Regular), name: b"a" }
        );
        assert_eq!(records[1].inode, 0);
        assert_eq!(
            records[2],
            Record { start: 28, end: 52, inode: 100, kind: Some(FileKind::Directory), name: b"name" }
        );
        assert_eq!(records.len(), 3);
    }

    #[test]
    fn file_type_names_the_kind_only_where_it_exists_and_is_known() {
        let kinds = |rules| {
            (0..=8).map(move |file_type| {
                let area = record(12, 12, b"a", file_type);
                Records::new(&area, rules).next().unwrap().unwrap().kind.map(|kind| kind as u32)
            })
        };
        let expected = [None, Some(8), Some(4), Some(2), Some(6), Some(1), Some(12), Some(10), None];
        assert!(kinds(RULES).eq(expected));
        for kind in expected.into_iter().flatten() {
            let kind = FileKind::from_mode(kind << 12).unwrap();
            assert_eq!(kind_from_file_type(file_type(kind)), Some(kind));
        }
        assert!(kinds(Rules { file_type: false, ..RULES }).all(|kind| kind.is_none()));
    }

    #[test]
    fn each_damage_of_a_record_is_its_own_fault() {
        let cases: [(Vec<u8>, RecordFault); 8] = [
            (record(12, 8, b"", 1), RecordFault::Short { rec_len: 8 }),
            (record(12, 14, b"a", 1), RecordFault::Unaligned { rec_len: 14 }),
            (record(12, 12, b"abcde", 1), RecordFault::NameOverrun { rec_len: 12, name_len: 5 }),
            (record(101, 12, b"a", 1), RecordFault::InodeOutOfRange { inode: 101 }),
            (record(12, 12, b"", 1), RecordFault::NameEmpty),
            (record(12, 12, b"a/b", 1), RecordFault::NameByte { byte: b'/' }),
            (record(12, 12, b"a\0b", 1), RecordFault::NameByte { byte: 0 }),
            (
                [record(12, 12, b"a", 1), [0; 8].into()].concat(),
                RecordFault::Remainder { rec_len: 12, left: 8 },
            ),
        ];
        for (area, fault) in cases {
            assert_eq!(faults(&area), [(0, fault)], "{fault}");
        }
        let long = record(12, 16, b"a", 1);
        assert_eq!(faults(&long[..12]), [(0, RecordFault::Overrun { rec_len: 16, left: 12 })]);
        assert_eq!(faults(&long[..7]), [(0, RecordFault::Overrun { rec_len: 0, left: 7 })]);
    }

    #[test]
    fn a_fault_ends_the_records() {
        let area = [record(12, 12, b"a", 1), record(12, 8, b"", 1), record(12, 12, b"b", 1)].concat();
        let mut records = Records::new(&area, RULES);
        assert!(records.next().unwrap().is_ok());
        assert_eq!(records.next(), Some(Err((12, RecordFault::Short { rec_len: 8 }))));
        assert_eq!(records.next(), None);
    }

    #[test]
    fn no_byte_of_an_area_can_make_the_records_leave_it_or_loop() {
        let area = [record(12, 12, b"a", 1), record(13, 20, b"name", 2), record(0, 32, b"", 0)].concat();
        for at in 0..area.len() {
            for value in 0..=u8::MAX {
                let mut damaged = area.clone();
                damaged[at] = value;
                let mut end = 0;
                for record in Records::new(&damaged, RULES).map_while(Result::ok) {
                    assert_eq!(record.start, end);
                    assert!(record.end > record.start && record.end <= damaged.len());
                    end = record.end;
                }
            }
        }
    }
}
