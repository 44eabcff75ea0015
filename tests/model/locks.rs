// SPDX-License-Identifier: MIT OR Apache-2.0

//! Record locks as the reference keeps them: byte by byte.

use std::collections::BTreeMap;

use super::reference::Id;

/// Bytes that are told apart; the last one stands for all behind it. No lock that is asked for ends in between.
const BYTES: u64 = 40;

/// Who holds a lock on a byte: session and process, which is the owner, then the fid.
type Owner = (usize, u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hold {
    write: bool,
    fid: u32,
}

/// A range that is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub write: bool,
    pub start: u64,
    /// 0: to the end.
    pub length: u64,
    pub process: u32,
}

/// All locks.
#[derive(Debug, Clone, Default)]
pub struct Locks(BTreeMap<(Id, Owner), BTreeMap<u64, Hold>>);

fn bytes(start: u64, length: u64) -> std::ops::Range<u64> {
    start..if length == 0 { BYTES } else { start + length }
}

impl Locks {
    /// The ranges of others that are in the way and begin first.
    pub fn conflicts(&self, file: Id, owner: Owner, write: bool, start: u64, length: u64) -> Vec<Range> {
        let wanted = bytes(start, length);
        let mut found = Vec::new();
        for ((locked, other), held) in &self.0 {
            if *locked != file || *other == owner {
                continue;
            }
            let mut at = 0;
            while at < BYTES {
                let Some(hold) = held.get(&at) else {
                    at += 1;
                    continue;
                };
                let first = at;
                while at < BYTES && held.get(&at) == Some(hold) {
                    at += 1;
                }
                if (write || hold.write) && first < wanted.end && wanted.start < at {
                    let length = if at == BYTES { 0 } else { at - first };
                    found.push(Range { write: hold.write, start: first, length, process: other.1 });
                }
            }
        }
        let first = found.iter().map(|range| range.start).min();
        found.retain(|range| Some(range.start) == first);
        found
    }

    /// Locks, or unlocks without `write`. `false` if somebody is in the way.
    pub fn set(
        &mut self,
        (file, fid): (Id, u32),
        owner: Owner,
        write: Option<bool>,
        (start, length): (u64, u64),
    ) -> bool {
        if let Some(write) = write
            && !self.conflicts(file, owner, write, start, length).is_empty()
        {
            return false;
        }
        let held = self.0.entry((file, owner)).or_default();
        for byte in bytes(start, length) {
            match write {
                Some(write) => held.insert(byte, Hold { write, fid }),
                None => held.remove(&byte),
            };
        }
        true
    }

    /// Ends what was locked through a fid.
    pub fn release_fid(&mut self, session: usize, file: Id, fid: u32) {
        for ((locked, owner), held) in &mut self.0 {
            if *locked == file && owner.0 == session {
                held.retain(|_, hold| hold.fid != fid);
            }
        }
    }

    /// Ends what a session holds.
    pub fn release_session(&mut self, session: usize) {
        self.0.retain(|(_, owner), _| owner.0 != session);
    }
}
