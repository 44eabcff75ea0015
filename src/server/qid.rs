// SPDX-License-Identifier: MIT OR Apache-2.0

//! How a file of a backend is named on the wire.

use crate::fs::{Attributes, FileKind};
use crate::wire::{Qid, QidKind};

/// The qid of the file that its backend numbers `number`.
pub(super) fn qid(number: u64, attributes: &Attributes) -> Qid {
    Qid { kind: kind(attributes.kind), version: version(attributes), path: number }
}

/// The qid of an entry of a directory. Its version is 0: to know it would take reading every inode of the
/// directory.
pub(super) fn entry_qid(number: u64, file_kind: FileKind) -> Qid {
    Qid { kind: kind(file_kind), version: 0, path: number }
}

/// 9P2000.L names three kinds; Linux takes all others from `mode`.
fn kind(kind: FileKind) -> QidKind {
    match kind {
        FileKind::Directory => QidKind::DIR,
        FileKind::Symlink => QidKind::SYMLINK,
        _ => QidKind::empty(),
    }
}

/// A number that differs, all but surely, where content or attributes differ.
///
/// It is 0 where the backend keeps no `data_version`: a synthetic file, whose content changes by itself. Linux
/// (6.4 and later) does not cache the content of a file of version 0, so no other file may have it.
fn version(attributes: &Attributes) -> u32 {
    let Some(data_version) = attributes.data_version else { return 0 };
    let changed = attributes.changed;
    let parts =
        [data_version, changed.seconds.cast_unsigned(), u64::from(changed.nanoseconds), attributes.size];
    let mixed = parts
        .iter()
        .fold(0_u64, |mixed, part| (mixed.rotate_left(23) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    u32::try_from(mixed >> 32).unwrap_or(1).max(1)
}
