// SPDX-License-Identifier: MIT OR Apache-2.0

//! Taking and freeing blocks and inodes: the bitmaps, and the counts that go with them.
//!
//! Each change touches the bitmap and the descriptor of one group, both blocks of the running transaction; the counts of the
//! whole volume are kept in [`Totals`](super::group::Totals) and stored when the transaction is committed.
//!
//! | file            | subject                                             |
//! |-----------------|-----------------------------------------------------|
//! | `blocks`        | taking and freeing blocks                           |
//! | `inodes`        | taking and freeing inodes                           |
//! | `group_bitmaps` | the bitmaps of a group: checksums, the first use    |
//! | `freed`         | what the running transaction freed                  |
//! | `bitmap`        | searching and changing bits                         |

mod bitmap;
mod blocks;
mod freed;
mod group_bitmaps;
mod inodes;
#[cfg(test)]
mod tests;

use core::num::NonZero;

use freed::FreedRanges;

/// A run of blocks that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allocated {
    /// The first block.
    pub start: u64,
    /// How many; at least 1.
    pub count: u32,
}

/// What the blocks held that are freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freed {
    /// Content of a regular file, which the journal never holds.
    Data,
    /// What was changed through the journal.
    Metadata,
}

/// What is remembered of earlier operations, also of those that were undone.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Recent {
    /// The groups where space was found last, away from where it was looked for first. Only hints: whatever they say, every
    /// group is tried before there is no space.
    blocks: u32,
    inodes: u32,
    /// What the running transaction freed and the last flush does not protect.
    freed: FreedRanges,
}

impl Recent {
    /// Notes that the running transaction ends: what it freed may be taken from now on.
    pub(super) fn forget_freed(&mut self) {
        self.freed = FreedRanges::default();
    }
}

/// The group `step` groups behind `start`, of `count` groups in a circle.
fn cyclic(start: u32, step: u32, count: NonZero<u32>) -> u32 {
    let place = u64::from(start).saturating_add(u64::from(step)) % NonZero::<u64>::from(count);
    u32::try_from(place).unwrap_or_default()
}
