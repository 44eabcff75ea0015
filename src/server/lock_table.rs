// SPDX-License-Identifier: MIT OR Apache-2.0

//! The record locks of a service: which bytes of which files are locked by whom, as `fcntl(2)` has it.
//!
//! One table serves all sessions, so that the processes of one client and those of different clients see each
//! other's locks. It relies on nothing but its own arrays: all memory is allocated once, about 130 bytes for each
//! range; files are hashed, and the ranges of one bucket are a chain. An operation looks at the ranges of one chain
//! three times at most, and so its time is bounded by the capacity of the table.
//!
//! The owner of a lock is a process of a client: two locks have one owner when their session, `proc_id` and
//! `client_id` are equal. The session counts because two clients may well have one host name. The ranges of one owner in
//! one file never overlap, and those of one kind that were locked through one fid never adjoin: they are one range.

use alloc::boxed::Box;
use alloc::vec;

use super::exports::{Backend, ExportId};
use crate::fs::{Errno, Node};
use crate::wire::Fid;

/// Most bytes of a `client_id`. (Linux sends its host name, which has up to 64.)
pub const MAX_CLIENT_ID: usize = 64;

/// The last byte that a file can have, and that a lock "to the end" reaches to.
const LAST_BYTE: u64 = i64::MAX.cast_unsigned();

/// No position: the end of a chain.
const NONE: u16 = u16::MAX;

/// What a lock keeps others from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// `F_RDLCK`: write locks of others.
    Read,
    /// `F_WRLCK`: all locks of others.
    Write,
}

impl LockKind {
    fn conflicts(self, other: Self) -> bool {
        self == Self::Write || other == Self::Write
    }
}

/// Bytes of a file: at least one, and none behind the last that a file can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    first: u64,
    /// Within the range.
    last: u64,
}

#[expect(
    clippy::arithmetic_side_effects,
    reason = "first <= last <= LAST_BYTE, so that there is a number behind each; in front of one that is not the least, too"
)]
impl ByteRange {
    /// `length` bytes from `start` on; with `length` 0 all of them, however far the file grows.
    ///
    /// # Errors
    /// EINVAL for a `start` that no file reaches; EOVERFLOW for an end that none does.
    pub fn new(start: u64, length: u64) -> Result<Self, Errno> {
        if start > LAST_BYTE {
            return Err(Errno::EINVAL);
        }
        let last = match length.checked_sub(1) {
            None => LAST_BYTE,
            Some(further) => start.checked_add(further).ok_or(Errno::EOVERFLOW)?,
        };
        if last > LAST_BYTE { Err(Errno::EOVERFLOW) } else { Ok(Self { first: start, last }) }
    }

    /// The first byte.
    #[must_use]
    pub fn start(self) -> u64 {
        self.first
    }

    /// How many bytes; 0 if they go on to the end.
    #[must_use]
    pub fn length(self) -> u64 {
        // At most 2^63 − 1, because a range from 0 to the last byte is one that goes on to the end.
        if self.last == LAST_BYTE { 0 } else { self.last - self.first + 1 }
    }

    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether the two together have no gap.
    fn touches(self, other: Self) -> bool {
        // No byte is so large that one more overflows.
        self.first <= other.last + 1 && other.first <= self.last + 1
    }

    fn union(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    /// What of `self` lies before `other`.
    fn before(self, other: Self) -> Option<Self> {
        (self.first < other.first).then(|| Self { last: self.last.min(other.first - 1), ..self })
    }

    /// What of `self` lies behind `other`.
    fn behind(self, other: Self) -> Option<Self> {
        (self.last > other.last).then(|| Self { first: self.first.max(other.last + 1), ..self })
    }
}

/// The file that a lock is on: the same one in all sessions and through all exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockedFile {
    /// Whose node it is.
    pub backend: Backend,
    /// The file.
    pub node: Node,
}

impl LockedFile {
    /// The file `node` of `export`.
    #[must_use]
    pub fn new(export: ExportId, node: Node) -> Self {
        Self { backend: export.backend(), node }
    }
}

/// A process of a client. Equal in two requests of one session when it is the same process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number in the client.
    pub proc_id: u32,
    client_id: heapless::Vec<u8, MAX_CLIENT_ID>,
}

impl Process {
    /// Process `proc_id` of the client that calls itself `client_id`.
    ///
    /// # Errors
    /// EINVAL for a `client_id` of more than [`MAX_CLIENT_ID`] bytes.
    pub fn new(proc_id: u32, client_id: &[u8]) -> Result<Self, Errno> {
        let client_id = heapless::Vec::from_slice(client_id).map_err(|_| Errno::EINVAL)?;
        Ok(Self { proc_id, client_id })
    }

    /// What the client calls itself.
    #[must_use]
    pub fn client_id(&self) -> &[u8] {
        &self.client_id
    }
}

/// Which bytes are meant, and on whose behalf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRequest {
    /// The file.
    pub file: LockedFile,
    /// The bytes.
    pub range: ByteRange,
    /// Who owns the lock.
    pub process: Process,
    /// The open fid that it is locked through.
    pub fid: Fid,
}

/// Why a lock was not set, or not released. The table is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockRefusal {
    /// Another owner has a lock that is in the way.
    Conflict,
    /// The table is full, or the session has as many ranges as it may have.
    NoRoom,
}

/// A lock that is in the way of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict<'a> {
    /// Its kind.
    pub kind: LockKind,
    /// Its bytes.
    pub range: ByteRange,
    /// Whose it is.
    pub process: &'a Process,
}

/// What one session holds of a [`LockTable`]. A session that ends must give it back with
/// [`release_all`](LockTable::release_all).
#[derive(Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// Tells the sessions of a table apart; 0 until the first lock.
    number: u64,
    /// How many ranges it has.
    held: usize,
}

impl LockHolder {
    /// Holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { number: 0, held: 0 }
    }

    /// Number of ranges that are locked.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }
}

impl Default for LockHolder {
    fn default() -> Self {
        Self::new()
    }
}

/// How much a table holds. It decides how much memory it takes, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockLimits {
    /// Ranges in all, 1…65,535 (other values are brought into that range).
    pub ranges: usize,
    /// Ranges of one session: fewer than in all, so that no client can keep the others from locking.
    pub ranges_per_session: usize,
}

impl Default for LockLimits {
    /// 4096 ranges, which take half a MiB; 1024 of them for each session.
    fn default() -> Self {
        Self { ranges: 4096, ranges_per_session: 1024 }
    }
}

#[derive(Debug, Clone)]
struct Lock {
    file: LockedFile,
    range: ByteRange,
    kind: LockKind,
    fid: Fid,
    /// The [`LockHolder::number`].
    holder: u64,
    process: Process,
}

impl Lock {
    fn is_owned(&self, holder: &LockHolder, request: &LockRequest) -> bool {
        self.holder == holder.number && self.file == request.file && self.process == request.process
    }
}

/// The locks of a service.
pub struct LockTable {
    locks: Box<[Lock]>,
    /// The next position of the same chain, or of the chain of free positions.
    next: Box<[u16]>,
    /// The first position of each chain. The length is a power of two.
    heads: Box<[u16]>,
    /// The first free position.
    free: u16,
    free_count: usize,
    ranges_per_session: usize,
    /// The number of the newest holder.
    holders: u64,
}

#[expect(
    clippy::arithmetic_side_effects,
    reason = "locks are counted, of the table (at most 65,535) and of a holder: each is counted up once before it is counted down; \
              holders are counted in 64 bits, and bits of a hash are 1 to 17"
)]
impl LockTable {
    /// Allocates a table without locks. Nothing is allocated afterwards.
    #[must_use]
    pub fn new(limits: LockLimits) -> Self {
        let capacity = u16::try_from(limits.ranges).unwrap_or(NONE).clamp(1, NONE);
        let unused = Lock {
            file: LockedFile { backend: Backend::Volume, node: Node(0) },
            range: ByteRange { first: 0, last: 0 },
            kind: LockKind::Read,
            fid: Fid::NOFID,
            holder: 0,
            process: Process { proc_id: 0, client_id: heapless::Vec::new() },
        };
        let size = usize::from(capacity);
        Self {
            locks: vec![unused; size].into_boxed_slice(),
            // Each free position is followed by the next.
            next: (1..capacity).chain([NONE]).collect(),
            heads: vec![NONE; (2 * size).next_power_of_two()].into_boxed_slice(),
            free: 0,
            free_count: size,
            ranges_per_session: limits.ranges_per_session,
            holders: 0,
        }
    }

    /// Number of ranges that are locked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.locks.len() - self.free_count
    }

    /// Whether nothing is locked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Locks the bytes of `request`. What the same owner had locked of them already is of the new kind and belongs to the
    /// new fid then.
    ///
    /// # Errors
    /// [`LockRefusal`].
    pub fn lock(
        &mut self,
        holder: &mut LockHolder,
        request: &LockRequest,
        kind: LockKind,
    ) -> Result<(), LockRefusal> {
        if holder.number == 0 {
            self.holders += 1;
            holder.number = self.holders;
        }
        if self.conflict(holder, request, kind).is_some() {
            return Err(LockRefusal::Conflict);
        }
        self.replace(holder, request, Some(kind))
    }

    /// Unlocks the bytes of `request`, through whichever fid they were locked; that some or all of them are not locked is no
    /// error.
    ///
    /// # Errors
    /// [`LockRefusal::NoRoom`] if a range would have to become two.
    pub fn unlock(&mut self, holder: &mut LockHolder, request: &LockRequest) -> Result<(), LockRefusal> {
        if holder.held == 0 { Ok(()) } else { self.replace(holder, request, None) }
    }

    /// The first lock of another owner, by its position in the file, that is in the way of a lock of `kind`.
    #[must_use]
    pub fn conflict(
        &self,
        holder: &LockHolder,
        request: &LockRequest,
        kind: LockKind,
    ) -> Option<Conflict<'_>> {
        self.chain(self.bucket(request.file))
            .filter(|lock| {
                lock.file == request.file
                    && lock.kind.conflicts(kind)
                    && lock.range.overlaps(request.range)
                    && !lock.is_owned(holder, request)
            })
            .min_by_key(|lock| lock.range.first)
            .map(|lock| Conflict { kind: lock.kind, range: lock.range, process: &lock.process })
    }

    /// Releases the locks on `file` that the session took through `fid`: for its clunk.
    pub fn release_fid(&mut self, holder: &mut LockHolder, file: LockedFile, fid: Fid) {
        if holder.held > 0 {
            let number = holder.number;
            holder.held -= self.sweep(self.bucket(file), |lock| {
                lock.holder != number || lock.file != file || lock.fid != fid
            });
        }
    }

    /// Releases all locks of a session.
    pub fn release_all(&mut self, holder: &mut LockHolder) {
        for bucket in 0..self.heads.len() {
            if holder.held == 0 {
                break;
            }
            let number = holder.number;
            holder.held -= self.sweep(bucket, |lock| lock.holder != number);
        }
    }

    /// Takes the owner's locks off the bytes of `request`, and puts one of `kind` there if there is any.
    fn replace(
        &mut self,
        holder: &mut LockHolder,
        request: &LockRequest,
        kind: Option<LockKind>,
    ) -> Result<(), LockRefusal> {
        let bucket = self.bucket(request.file);
        let number = holder.number;
        // What the new lock will be one range with.
        let range = self
            .chain(bucket)
            .filter(|lock| lock.is_owned(holder, request))
            .filter(|lock| Some(lock.kind) == kind && lock.fid == request.fid)
            .filter(|lock| lock.range.touches(request.range))
            .fold(request.range, |range, lock| range.union(lock.range));

        let (mut covered, mut behind) = (0, None);
        for lock in self.chain(bucket) {
            if lock.range.overlaps(range) && lock.is_owned(holder, request) {
                match (lock.range.before(range), lock.range.behind(range)) {
                    (None, None) => covered += 1,
                    (Some(_), Some(rest)) => behind = Some(Lock { range: rest, ..lock.clone() }),
                    _ => {}
                }
            }
        }
        let added = usize::from(kind.is_some()) + usize::from(behind.is_some());
        let growth = added.saturating_sub(covered);
        // Growing by nothing is allowed even where the limits are exceeded already.
        if growth > self.free_count || (growth > 0 && holder.held + growth > self.ranges_per_session) {
            return Err(LockRefusal::NoRoom);
        }

        let removed = self.sweep(bucket, |lock| {
            let is_own =
                lock.holder == number && lock.file == request.file && lock.process == request.process;
            if !is_own || !lock.range.overlaps(range) {
                return true;
            }
            match lock.range.before(range).or(lock.range.behind(range)) {
                Some(rest) => lock.range = rest,
                None => return false,
            }
            true
        });
        let LockRequest { file, fid, .. } = *request;
        let new = kind.map(|kind| Lock {
            file,
            range,
            kind,
            fid,
            holder: number,
            process: request.process.clone(),
        });
        for lock in new.into_iter().chain(behind) {
            self.insert(bucket, lock);
        }
        holder.held = holder.held + added - removed;
        Ok(())
    }

    /// Shows the locks of a chain to `keep`, and removes those that it does not want; returns how many.
    fn sweep(&mut self, bucket: usize, mut keep: impl FnMut(&mut Lock) -> bool) -> usize {
        let mut removed = 0;
        let mut previous = NONE;
        let mut position = self.heads.get(bucket).copied().unwrap_or(NONE);
        while let Some(lock) = self.locks.get_mut(usize::from(position)) {
            let after = self.next.get(usize::from(position)).copied().unwrap_or(NONE);
            if keep(lock) {
                previous = position;
            } else {
                let link = match previous {
                    NONE => self.heads.get_mut(bucket),
                    _ => self.next.get_mut(usize::from(previous)),
                };
                if let Some(link) = link {
                    *link = after;
                }
                if let Some(next) = self.next.get_mut(usize::from(position)) {
                    *next = self.free;
                }
                self.free = position;
                self.free_count += 1;
                removed += 1;
            }
            position = after;
        }
        removed
    }

    /// Puts `lock` at a free position, which there is.
    fn insert(&mut self, bucket: usize, lock: Lock) {
        let at = usize::from(self.free);
        if let (Some(place), Some(next), Some(head)) =
            (self.locks.get_mut(at), self.next.get_mut(at), self.heads.get_mut(bucket))
        {
            *place = lock;
            let position = core::mem::replace(&mut self.free, *next);
            *next = core::mem::replace(head, position);
            self.free_count -= 1;
        }
    }

    /// The locks of a chain.
    fn chain(&self, bucket: usize) -> impl Iterator<Item = &Lock> {
        let mut position = self.heads.get(bucket).copied().unwrap_or(NONE);
        core::iter::from_fn(move || {
            // NONE is never a position: there are at most 65,535.
            let lock = self.locks.get(usize::from(position))?;
            position = self.next.get(usize::from(position)).copied().unwrap_or(NONE);
            Some(lock)
        })
    }

    /// The chain that the locks on `file` belong to.
    fn bucket(&self, file: LockedFile) -> usize {
        // Multiplicative hashing, as for fids: the top bits of the product are spread evenly. There are 2 … 131,072 heads.
        let spread =
            (file.node.0 ^ u64::from(file.backend == Backend::Control)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bits = self.heads.len().trailing_zeros();
        usize::try_from(spread >> (u64::BITS - bits)).unwrap_or(0)
    }
}

impl Default for LockTable {
    fn default() -> Self {
        Self::new(LockLimits::default())
    }
}

#[cfg(test)]
mod tests;
