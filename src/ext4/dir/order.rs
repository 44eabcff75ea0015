// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reading a directory in the order of its names' hashes.
//!
//! The position of a name is made of its hashes alone, so it stays when the records around it move: when a leaf is split, when
//! the directory gets its index. `.` and `..` come first. A name that is there from the start of a reading to its end
//! is read exactly once; only names with the same two hashes may come again if a reply ends between them.
//!
//! Records lie unordered in a leaf: those to be shown are collected, sorted, and shown, leaf by leaf. Where a run of one major
//! hash goes on in other leaves, these are read with the first.

use core::ops::ControlFlow;

use heapless::Vec;

use super::{Directory, Visit};
use crate::ext4::dirent::{Record, Records};
use crate::ext4::error::Error;
use crate::ext4::hash::NameHash;
use crate::ext4::htree::{IndexFault, Tree};
use crate::fs::{DirectoryEntry, FileKind};
use crate::mem::region::Region;

/// The positions of `.` and `..`, and the least of all others.
const DOT: u64 = 0;
const DOT_DOT: u64 = 1;
const FIRST: u64 = 2;
/// Behind every name.
const END: u64 = 1 << 63;
/// Bits of a [`Found::place`] that say where in its leaf a record is, in units of 4 bytes.
const OFFSET_BITS: u32 = 10;

/// Takes a record, with the number of its leaf in the round and its position.
type VisitRecord<'a, 'v> = dyn FnMut(u32, &Record<'v>, u64) -> Result<ControlFlow<()>, Error> + 'a;

/// Where the names are.
enum Source<'v, F> {
    /// In the one block of the directory, behind `.` and `..`.
    Block(&'v [u8], NameHash),
    /// In the leaves of an index.
    Index(Tree<'v, F>),
}

/// A record that is to be shown: where its name is in the order, and where it lies. (Halves, so that it takes 12 bytes.)
#[derive(Debug, Clone, Copy)]
struct Found {
    high: u32,
    low: u32,
    /// Which of the leaves that are read together, counted from the first, and where in it.
    place: u32,
}

impl Found {
    fn new(position: u64, leaf: u32, start: usize) -> Option<Self> {
        let start = u32::try_from(start / 4).ok().filter(|start| *start < 1 << OFFSET_BITS)?;
        let place = leaf.checked_mul(1 << OFFSET_BITS)? | start;
        let low = u32::try_from(position & u64::from(u32::MAX)).ok()?;
        Some(Self { high: u32::try_from(position >> 32).ok()?, low, place })
    }

    /// Which of the leaves that are read together, and where in it.
    fn place(&self) -> (u32, usize) {
        (self.place >> OFFSET_BITS, ((self.place % (1 << OFFSET_BITS)) as usize).saturating_mul(4))
    }

    fn position(&self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }
}

/// The position of a name with these hashes. The lowest bit of the major one is none of it.
fn position((major, minor): (u32, u32)) -> u64 {
    (u64::from(major >> 1) << 32 | u64::from(minor)).max(FIRST)
}

/// The least hash of names at `position`, which is below [`END`].
fn major(position: u64) -> u32 {
    u32::try_from(position >> 32).unwrap_or(u32::MAX >> 1) << 1
}

impl<'v, R: Region> Directory<'v, R> {
    /// Shows the entries from `from` on to `visit`, until it breaks. The directory has `blocks` blocks. `N` records are collected
    /// at once: [`MOST_RECORDS`](super::leaf::MOST_RECORDS) are enough to read each leaf but once.
    pub(super) fn read_in_hash_order<const N: usize>(
        &self,
        blocks: u32,
        from: u64,
        visit: &mut Visit<'_>,
    ) -> Result<(), Error> {
        let first = self.linear_block(0, blocks)?;
        let parent = self.check_dots(first)?;
        for (position, number, name) in [(DOT, self.inode.number, &b"."[..]), (DOT_DOT, parent, b"..")] {
            let (number, kind, next) = (u64::from(number), FileKind::Directory, position.saturating_add(1));
            if from <= position && visit(&DirectoryEntry { number, kind, next, name }).is_break() {
                return Ok(());
            }
        }
        let source = if self.is_indexed() {
            Source::Index(self.index(blocks).open(|block| self.block(block))?)
        } else {
            Source::Block(first, self.names())
        };
        let mut from = from.max(FIRST);
        while from < END {
            match self.show_round::<N, _>(&source, from, visit)? {
                ControlFlow::Continue(next) => from = next,
                ControlFlow::Break(()) => break,
            }
        }
        Ok(())
    }

    /// Shows the entries from `from` to the end of their leaf, or fewer; returns where to go on, which is further.
    fn show_round<const N: usize, F>(
        &self,
        source: &Source<'v, F>,
        from: u64,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<(), u64>, Error>
    where
        F: Fn(u32) -> Result<&'v [u8], Error>,
    {
        let mut found: Vec<Found, N> = Vec::new();
        let mut too_many = false;
        let mut behind = self.visit_round(source, from, &mut |leaf, record, position| {
            // Both are given: a position has 63 bits, and no directory has more leaves than a place can tell apart.
            let Some(new) = Found::new(position, leaf, record.start) else {
                return Ok(ControlFlow::Continue(()));
            };
            if let Err(new) = found.push(new) {
                // Only the first ones are shown in this round.
                too_many = true;
                if let Some(last) = found.iter_mut().max_by_key(|found| found.position())
                    && last.position() > new.position()
                {
                    *last = new;
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        found.sort_unstable_by_key(|found| (found.position(), found.place));
        if too_many && let Some(last) = found.last().map(Found::position) {
            // Of the last position there may be more than what was kept.
            found.retain(|found| found.position() < last);
            if found.is_empty() {
                return self.show_equal(source, last, visit);
            }
            behind = last;
        }
        let mut leaf = None;
        for (at, this) in found.iter().enumerate() {
            let (number, start) = this.place();
            let area = match leaf {
                Some((cached, area)) if cached == number => area,
                _ => self.leaf_of_round(source, from, number)?,
            };
            leaf = Some((number, area));
            let Some(Ok(record)) = Records::new(area, self.rules()).starting_at(start).next() else { break };
            let again =
                found.get(at.saturating_add(1)).is_some_and(|next| next.position() == this.position());
            let next = this.position().saturating_add(u64::from(!again));
            if visit(&self.entry(&record, next)?).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(behind))
    }

    /// Shows the entries at `position`, which are more than can be collected: in the order they lie in.
    fn show_equal<F>(
        &self,
        source: &Source<'v, F>,
        position: u64,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<(), u64>, Error>
    where
        F: Fn(u32) -> Result<&'v [u8], Error>,
    {
        let (mut outcome, mut last) = (ControlFlow::Continue(()), None);
        self.visit_round(source, position, &mut |_, record, found| {
            if found == position
                && let Some(previous) = last.replace(*record)
            {
                outcome = visit(&self.entry(&previous, position)?);
            }
            Ok(outcome)
        })?;
        let behind = position.saturating_add(1);
        if let (ControlFlow::Continue(()), Some(last)) = (outcome, last) {
            outcome = visit(&self.entry(&last, behind)?);
        }
        Ok(outcome.map_continue(|()| behind))
    }

    /// Shows `visit` the used records of one round: those whose positions are at least `from` and below what is
    /// returned, with the number of their leaf in the round.
    fn visit_round<F>(
        &self,
        source: &Source<'v, F>,
        from: u64,
        visit: &mut VisitRecord<'_, 'v>,
    ) -> Result<u64, Error>
    where
        F: Fn(u32) -> Result<&'v [u8], Error>,
    {
        let tree = match source {
            Source::Block(area, names) => {
                for record in self.records(area, 0).skip(2) {
                    let record = record?;
                    let position = position(names.hashes(record.name));
                    if record.inode != 0 && position >= from && visit(0, &record, position)?.is_break() {
                        break;
                    }
                }
                return Ok(END);
            }
            Source::Index(tree) => tree,
        };
        let mut cursor = tree.seek(major(from))?;
        let next = cursor.next_hash();
        let continued = next.filter(|next| next & 1 != 0);
        let behind = match next {
            // All names with the hash that is continued belong to the round.
            Some(next) if next & 1 != 0 => u64::from(next >> 1).saturating_add(1) << 32,
            Some(next) => u64::from(next >> 1) << 32,
            None => END,
        };
        if behind <= from {
            return Err(tree.damage(IndexFault::Order));
        }
        for number in 0..tree.most_leaves() {
            let block = cursor.leaf();
            for record in self.records(self.leaf(block)?, self.position(block)) {
                let record = record?;
                let position = position(tree.names.hashes(record.name));
                if record.inode != 0
                    && (from..behind).contains(&position)
                    && visit(number, &record, position)?.is_break()
                {
                    return Ok(behind);
                }
            }
            if continued.is_none() || cursor.next_hash() != continued || !tree.advance(&mut cursor)? {
                return Ok(behind);
            }
        }
        Err(tree.damage(IndexFault::Endless))
    }

    /// The leaf with that number in the round from `from` on, which was checked.
    fn leaf_of_round<F>(&self, source: &Source<'v, F>, from: u64, number: u32) -> Result<&'v [u8], Error>
    where
        F: Fn(u32) -> Result<&'v [u8], Error>,
    {
        match source {
            Source::Block(area, _) => Ok(area),
            Source::Index(tree) => {
                let mut cursor = tree.seek(major(from))?;
                for _ in 0..number {
                    tree.advance(&mut cursor)?;
                }
                self.block(cursor.leaf())
            }
        }
    }
}
