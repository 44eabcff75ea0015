// SPDX-License-Identifier: MIT OR Apache-2.0

//! The fid table of a session: which file each of the client's handles stands for.
//!
//! A fid is any 32-bit number that the client likes, so the table is a hash table, with chains. All its memory
//! is allocated once: for each fid what it stands for (24 bytes), the number itself (4) and the next of its
//! chain (2), which make 32, and twice as many chain heads (2 bytes each): 36 bytes a fid where the capacity is
//! a power of two.
//!
//! A hostile client can compute fids that collide. It gains nothing: a chain is never longer than
//! [`MAX_CHAIN`], and an insertion that would make it so is refused as if the table were full. Fids that Linux
//! counts up from 0 never come near that bound, and neither do random ones.

use alloc::boxed::Box;
use alloc::vec;

use super::attachment::AttachmentId;
use super::place::NameTag;
use crate::fs::{Errno, FileKind, Node};
use crate::wire::{Access, Fid, OpenFlags};

/// Most fids that a table can be made for: positions have 16 bits, and one value of them means "none".
pub const MAX_FIDS: usize = 65_535;

/// Most fids that share a chain, and so the most that any operation looks at.
pub const MAX_CHAIN: usize = 32;

/// No position: the end of a chain.
const NONE: u16 = u16::MAX;

/// What a fid is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FidState {
    /// It names a file: walk from it, open it, ask for attributes.
    Path,
    /// It is open (Tlopen, Tlcreate).
    Open(OpenMode),
    /// It reads the names of its file's extended attributes.
    AttributeNames,
    /// It reads the extended attribute whose name is at this place of the session's
    /// [names](super::xattr::AttributeNames).
    Attribute(u8),
    /// It collects the value of an extended attribute, at this place of the session's
    /// [values](super::new_attribute::NewAttributes).
    NewAttribute(u8),
}

impl FidState {
    /// Whether the fid keeps its file from going when that loses its last name.
    #[must_use]
    pub const fn retains(self) -> bool {
        !matches!(self, Self::Path)
    }
}

/// How a file is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenMode {
    /// What it may be used for.
    pub access: Access,
    /// Whether each write goes to the end.
    pub append: bool,
    /// Whether a write is answered only when it survives the loss of power.
    pub durable: bool,
}

impl OpenMode {
    /// What `flags` ask for. (DSYNC and SYNC are the same here: data is never durable without its metadata.)
    #[must_use]
    pub fn new(flags: OpenFlags) -> Self {
        Self {
            access: flags.access(),
            append: flags.contains(OpenFlags::APPEND),
            durable: flags.intersects(OpenFlags::DSYNC | OpenFlags::SYNC),
        }
    }

    /// Whether content may be read.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self.access, Access::Read | Access::ReadWrite)
    }

    /// Whether content may be written.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self.access, Access::Write | Access::ReadWrite)
    }
}

/// What a fid stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    /// The file.
    pub node: Node,
    /// The directory that it was found in. It may have been moved since.
    pub directory: Node,
    /// The name that it was found by, in short.
    pub name: NameTag,
    /// What it was attached to, directly or through the fids that it was walked from.
    pub attachment: AttachmentId,
    /// The kind of `node`, which never changes in the life of a file.
    pub kind: FileKind,
    /// What it is good for.
    pub state: FidState,
}

// The arithmetic of `SessionLimits::max_fids` counts on it.
const _: () = assert!(size_of::<Handle>() == 24 && size_of::<Entry>() == 32);

/// Fids of a table that may keep a file, however small it is.
const ALWAYS_RETAINED: usize = 80;

/// A place that a fid may take, in the chain that it belongs to.
#[derive(Debug)]
pub struct Vacancy {
    fid: Fid,
    bucket: usize,
}

/// What is at one position of a table.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// What the fid stands for.
    handle: Handle,
    /// The fid, if the position is in use.
    fid: Fid,
    /// The next position of the same chain, or of the chain of freed positions.
    next: u16,
}

/// The fids of one session.
pub struct FidTable {
    entries: Box<[Entry]>,
    /// The first position of each chain. The length is a power of two.
    heads: Box<[u16]>,
    /// How far the hash of a fid is shifted to give its chain.
    shift: u32,
    /// The first of the positions that were in use and are not.
    freed: u16,
    /// The first of the positions that were never in use since the table was last empty; all behind it are like
    /// it.
    fresh: u16,
    count: usize,
    /// Fids that keep a file.
    retaining: usize,
}

impl FidTable {
    /// Allocates a table for `capacity` fids, at least 1 and at most [`MAX_FIDS`] (other values are brought
    /// into that range).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, MAX_FIDS);
        let unused = Handle {
            node: Node(0),
            directory: Node(0),
            name: NameTag::NONE,
            attachment: AttachmentId::FIRST,
            kind: FileKind::Directory,
            state: FidState::Path,
        };
        let unused = Entry { handle: unused, fid: Fid::NOFID, next: NONE };
        // 2 … 131,072, so that 1 … 17 bits of a hash are kept.
        let heads = capacity.saturating_mul(2).next_power_of_two();
        Self {
            entries: vec![unused; capacity].into_boxed_slice(),
            heads: vec![NONE; heads].into_boxed_slice(),
            shift: u32::BITS.saturating_sub(heads.trailing_zeros()),
            freed: NONE,
            fresh: 0,
            count: 0,
            retaining: 0,
        }
    }

    /// That one fid more may keep a file that is removed: by having it open, or by reading or setting an attribute. What a volume
    /// can keep is for all sessions together: one cannot have all of it.
    ///
    /// # Errors
    /// EMFILE if a quarter of the table does so, and at least [`ALWAYS_RETAINED`].
    pub fn may_retain(&self) -> Result<(), Errno> {
        let most = (self.entries.len() / 4).max(ALWAYS_RETAINED);
        if self.retaining < most { Ok(()) } else { Err(Errno::EMFILE) }
    }

    /// Number of fids in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no fid is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What `fid` stands for.
    ///
    /// # Errors
    /// EBADF if it is not in use.
    pub fn get(&self, fid: Fid) -> Result<Handle, Errno> {
        self.find(fid).map(|entry| entry.handle).ok_or(Errno::EBADF)
    }

    /// A place for `fid`, which is to be [filled](Self::fill) before anything else of the table is changed.
    ///
    /// # Errors
    /// EBADF if it is in use already, or [`Fid::NOFID`]; EMFILE if the table, or its chain, is full.
    #[expect(clippy::arithmetic_side_effects, reason = "no chain is longer than the table")]
    pub fn vacancy(&self, fid: Fid) -> Result<Vacancy, Errno> {
        if fid == Fid::NOFID {
            return Err(Errno::EBADF);
        }
        let bucket = self.bucket(fid);
        let mut length = 0;
        let mut position = self.head(bucket);
        while let Some(other) = self.entries.get(usize::from(position)) {
            if other.fid == fid {
                return Err(Errno::EBADF);
            }
            position = other.next;
            length += 1;
        }
        if self.count >= self.entries.len() || length >= MAX_CHAIN {
            return Err(Errno::EMFILE);
        }
        Ok(Vacancy { fid, bucket })
    }

    /// Takes the fid of a vacancy into use.
    ///
    /// # Errors
    /// EMFILE if the table is full: the vacancy is of another one, or too old.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "what is counted are places of the table, at most MAX_FIDS"
    )]
    pub fn fill(&mut self, vacancy: &Vacancy, handle: Handle) -> Result<(), Errno> {
        let position = if self.freed == NONE { self.fresh } else { self.freed };
        let (Some(entry), Some(head)) =
            (self.entries.get_mut(usize::from(position)), self.heads.get_mut(vacancy.bucket))
        else {
            return Err(Errno::EMFILE);
        };
        if self.freed == NONE {
            self.fresh += 1;
        } else {
            self.freed = entry.next;
        }
        *entry = Entry { handle, fid: vacancy.fid, next: *head };
        *head = position;
        self.count += 1;
        self.retaining += usize::from(handle.state.retains());
        Ok(())
    }

    /// Lets `fid`, which is in use, stand for something else.
    ///
    /// # Errors
    /// EBADF if it is not in use.
    pub fn replace(&mut self, fid: Fid, handle: Handle) -> Result<(), Errno> {
        let mut position = self.head(self.bucket(fid));
        // The value NONE is never a position: there are at most 65,535.
        while self.entries.get(usize::from(position)).is_some_and(|entry| entry.fid != fid) {
            position = self.entries.get(usize::from(position)).map_or(NONE, |entry| entry.next);
        }
        let entry = self.entries.get_mut(usize::from(position)).ok_or(Errno::EBADF)?;
        let before = core::mem::replace(&mut entry.handle, handle);
        let (after, before) = (handle.state.retains(), before.state.retains());
        self.retaining =
            self.retaining.saturating_add(usize::from(after)).saturating_sub(usize::from(before));
        Ok(())
    }

    /// Ends the use of `fid`; returns what it stood for.
    ///
    /// # Errors
    /// EBADF if it is not in use.
    #[expect(clippy::arithmetic_side_effects, reason = "a fid in use was counted")]
    pub fn remove(&mut self, fid: Fid) -> Result<Handle, Errno> {
        let bucket = self.bucket(fid);
        let mut before = NONE;
        let mut position = self.head(bucket);
        // The value NONE is never a position: there are at most 65,535.
        let (removed, after) = loop {
            let entry = self.entries.get_mut(usize::from(position)).ok_or(Errno::EBADF)?;
            if entry.fid == fid {
                break (entry.handle, core::mem::replace(&mut entry.next, self.freed));
            }
            (before, position) = (position, entry.next);
        };
        let link = match before {
            NONE => self.heads.get_mut(bucket),
            before => self.entries.get_mut(usize::from(before)).map(|entry| &mut entry.next),
        };
        *link.ok_or(Errno::EBADF)? = after;
        self.freed = position;
        self.count -= 1;
        self.retaining -= usize::from(removed.state.retains());
        Ok(removed)
    }

    /// Ends the use of all fids.
    pub fn clear(&mut self) {
        self.heads.fill(NONE);
        self.freed = NONE;
        self.fresh = 0;
        self.count = 0;
        self.retaining = 0;
    }

    /// What each fid in use stands for, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Fid, Handle)> + '_ {
        self.heads.iter().flat_map(|head| self.chain_from(*head)).map(|entry| (entry.fid, entry.handle))
    }

    /// The chain that `fid` belongs to.
    #[inline]
    fn bucket(&self, fid: Fid) -> usize {
        // Multiplicative hashing: an odd constant near 2^32 / φ spreads consecutive numbers evenly over the top bits.
        fid.0.wrapping_mul(0x9e37_79b9).wrapping_shr(self.shift) as usize
    }

    /// The first position of a chain.
    #[inline]
    fn head(&self, bucket: usize) -> u16 {
        self.heads.get(bucket).copied().unwrap_or(NONE)
    }

    /// A chain from `position` on.
    fn chain_from(&self, mut position: u16) -> impl Iterator<Item = &Entry> {
        core::iter::from_fn(move || {
            // The value NONE is never a position: there are at most 65,535.
            let entry = self.entries.get(usize::from(position))?;
            position = entry.next;
            Some(entry)
        })
    }

    #[inline]
    fn find(&self, fid: Fid) -> Option<&Entry> {
        self.chain_from(self.head(self.bucket(fid))).find(|entry| entry.fid == fid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::vec::Vec;

    impl FidTable {
        fn insert(&mut self, fid: Fid, handle: Handle) -> Result<(), Errno> {
            let vacancy = self.vacancy(fid)?;
            self.fill(&vacancy, handle)
        }
    }

    fn handle(node: u64) -> Handle {
        Handle {
            node: Node(node),
            directory: Node(2),
            name: NameTag::NONE,
            attachment: AttachmentId::FIRST,
            kind: FileKind::Regular,
            state: FidState::Path,
        }
    }

    #[test]
    fn a_fid_is_found_until_it_is_removed() {
        let mut table = FidTable::new(4);
        table.insert(Fid(7), handle(70)).unwrap();
        assert_eq!(table.get(Fid(7)), Ok(handle(70)));
        table.replace(Fid(7), handle(71)).unwrap();
        assert_eq!(table.remove(Fid(7)), Ok(handle(71)));
        assert_eq!(table.get(Fid(7)), Err(Errno::EBADF));
        assert_eq!(table.remove(Fid(7)), Err(Errno::EBADF));
        assert_eq!(table.replace(Fid(7), handle(1)), Err(Errno::EBADF));
        assert!(table.is_empty());
    }

    #[test]
    fn a_fid_in_use_and_the_reserved_fid_cannot_be_inserted() {
        let mut table = FidTable::new(4);
        table.insert(Fid(0), handle(1)).unwrap();
        assert_eq!(table.insert(Fid(0), handle(2)), Err(Errno::EBADF));
        assert_eq!(table.insert(Fid::NOFID, handle(2)), Err(Errno::EBADF));
        assert_eq!(table.get(Fid::NOFID), Err(Errno::EBADF));
        assert_eq!(table.get(Fid(0)), Ok(handle(1)));
    }

    #[test]
    fn a_full_table_takes_one_more_fid_after_one_was_removed() {
        for capacity in [1, 3, 1000, MAX_FIDS] {
            let mut table = FidTable::new(capacity);
            for number in 0..capacity {
                table.insert(Fid(u32::try_from(number).unwrap()), handle(number as u64)).unwrap();
            }
            assert_eq!(table.insert(Fid(1 << 20), handle(0)), Err(Errno::EMFILE));
            table.remove(Fid(0)).unwrap();
            table.insert(Fid(1 << 20), handle(0)).unwrap();
            assert_eq!(table.len(), capacity);
        }
    }

    #[test]
    fn a_cleared_table_is_empty_and_takes_its_capacity_again() {
        let mut table = FidTable::new(100);
        for round in 0..3 {
            for number in 0..100 {
                table.insert(Fid(number * 17 + round), handle(5)).unwrap();
            }
            table.remove(Fid(17 + round)).unwrap();
            table.clear();
            assert!(table.is_empty());
            assert_eq!(table.get(Fid(round)), Err(Errno::EBADF));
        }
    }

    #[test]
    fn fids_that_are_made_to_collide_are_refused_before_they_cost_much() {
        let mut table = FidTable::new(1 << 12);
        let bucket = table.bucket(Fid(1));
        let colliding: Vec<Fid> =
            (1..u32::MAX).map(Fid).filter(|fid| table.bucket(*fid) == bucket).take(100).collect();
        for (inserted, fid) in colliding.iter().enumerate() {
            let expected = if inserted < MAX_CHAIN { Ok(()) } else { Err(Errno::EMFILE) };
            assert_eq!(table.insert(*fid, handle(3)), expected);
        }
        assert_eq!(table.chain_from(table.head(table.bucket(Fid(1)))).count(), MAX_CHAIN);
    }

    #[test]
    fn neither_consecutive_nor_scattered_fids_fill_a_chain() {
        let mut table = FidTable::new(32_768);
        let scattered =
            |count: u32| count.wrapping_mul(0x85eb_ca6b).rotate_left(13).wrapping_mul(0xc2b2_ae35);
        for numbers in [
            &(|count| count) as &dyn Fn(u32) -> u32,
            &|count| count << 12,
            &|count| count * 4096 + 7,
            &scattered,
        ] {
            table.clear();
            let longest = (0..32_768)
                .map(|count| {
                    table.insert(Fid(numbers(count)), handle(1)).unwrap();
                    table.chain_from(table.head(table.bucket(Fid(numbers(count))))).count()
                })
                .max();
            assert!(longest < Some(MAX_CHAIN / 2), "{longest:?}");
        }
    }

    #[test]
    fn a_long_random_use_agrees_with_a_map() {
        let mut table = FidTable::new(200);
        let mut model: HashMap<Fid, Handle> = HashMap::new();
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for step in 0..200_000_u64 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let fid = Fid(u32::try_from(state % 400).unwrap() * 0x00a0_0101);
            if state & (1 << 40) == 0 {
                let expected = if model.contains_key(&fid) {
                    Err(Errno::EBADF)
                } else if model.len() == 200 {
                    Err(Errno::EMFILE)
                } else {
                    model.insert(fid, handle(step));
                    Ok(())
                };
                assert_eq!(table.insert(fid, handle(step)), expected);
            } else {
                assert_eq!(table.remove(fid), model.remove(&fid).ok_or(Errno::EBADF));
            }
            assert_eq!(table.len(), model.len());
        }
        for (fid, handle) in &model {
            assert_eq!(table.get(*fid), Ok(*handle));
        }
        assert_eq!(table.iter().collect::<HashMap<_, _>>(), model);
    }
}
