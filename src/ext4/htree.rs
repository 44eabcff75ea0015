// SPDX-License-Identifier: MIT OR Apache-2.0

//! The index of a large directory: a tree of hashes over the blocks that hold its records.
//!
//! `dx_root` (block 0, behind `.` and `..`) and `dx_node` look like unused space to who does not know them. An entry
//! of a node says which block holds the names whose hash is at least its own; the lowest bit of that hash marks
//! a run of names with one hash that goes on from the block before. A lookup reads one node a level and, but for
//! such runs, one leaf.
//!
//! An index that fails a check is damage, and the lookup fails. Linux searches the whole directory instead where
//! the shape is wrong (not where a checksum is); here a lookup never takes time that the client did not ask for,
//! and `read_directory` does not need the index.

use core::fmt;

use heapless::Vec;

use super::checksum::crc32c;
use super::dir::DirectoryFault;
use super::error::{Damage, Error};
use super::field::{le8, le16, le32};
use super::hash::{HashFunction, NameHash};

/// Index levels with `large_dir`; without, one less.
const MOST_LEVELS: usize = 3;
/// Where the entries of `dx_root` and `dx_node` start.
const ROOT_ENTRIES: usize = 32;
const NODE_ENTRIES: usize = 8;
/// `dx_entry`: hash, block. In the first one limit and count take the place of the hash.
const ENTRY: usize = 8;
/// `dx_tail`: dt_reserved, dt_checksum.
const TAIL: usize = 8;
/// Upper bits of `dx_entry.block` are kept for other uses.
const BLOCK_MASK: u32 = 0x0fff_ffff;

/// What a lookup needs to know of the volume and of the directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Index {
    /// The directory's inode.
    pub(super) directory: u32,
    /// Bytes of a block.
    pub(super) block_size: usize,
    /// The directory's length in blocks.
    pub(super) blocks: u32,
    /// The seed of its checksums, if it has them.
    pub(super) checksum_seed: Option<u32>,
    /// `s_hash_seed`.
    pub(super) hash_seed: [u32; 4],
    /// Whether names are hashed as signed bytes.
    pub(super) signed: bool,
    /// Whether a third level is allowed.
    pub(super) large: bool,
}

/// From the root to the lowest node, each with the entry that leads on.
type Path<'v> = Vec<Node<'v>, MOST_LEVELS>;

/// A checked `dx_root`.
struct Root<'v> {
    node: Node<'v>,
    names: NameHash,
    /// Levels of nodes, the root included.
    levels: usize,
}

/// A checked node and a place in it.
#[derive(Debug, Clone, Copy)]
struct Node<'v> {
    /// The entries that are in use; never none.
    entries: &'v [u8],
    /// Which of them was taken.
    at: usize,
}

impl Node<'_> {
    /// The least hash under entry `at`, with the continuation bit. Meaningless for the first entry.
    fn hash(&self, at: usize) -> Option<u32> {
        let entry = self.entries.get(at.checked_mul(ENTRY)?..).filter(|entry| !entry.is_empty())?;
        Some(le32(entry, 0))
    }

    /// The block under the entry that was taken.
    fn child(&self) -> u32 {
        le32(self.entries, self.at.saturating_mul(ENTRY).saturating_add(4)) & BLOCK_MASK
    }

    /// Takes the last entry whose hash is not above `hash`. The first one stands for all hashes below the second's.
    fn seek(&mut self, hash: u32) {
        let (mut low, mut high) = (0, self.entries.len() / ENTRY);
        while high.saturating_sub(low) > 1 {
            let middle = low.midpoint(high);
            if self.hash(middle).is_some_and(|least| least <= hash) {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.at = low;
    }
}

impl Index {
    /// Searches the leaves that can hold `name`. `read` gives a block of the directory, `search` looks for the name
    /// in a leaf (and checks it).
    pub(super) fn find<'v, T>(
        &self,
        name: &[u8],
        read: impl Fn(u32) -> Result<&'v [u8], Error>,
        search: impl Fn(u32) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let raw = read(0)?;
        let root = self.root(raw).map_err(|fault| self.damage(0, fault))?;
        let hash = root.names.hash(name);
        let mut node = root.node;
        node.seek(hash);
        let mut path = Path::new();
        self.descend(&mut path, node, root.levels, |node| node.seek(hash), &read)?;
        // Each leaf is searched at most once, so a sound index has no more of them than the directory has blocks.
        for _ in 0..self.blocks {
            let Some(leaf) = path.last().map(Node::child) else { break };
            self.check_child(leaf)?;
            if let Some(found) = search(leaf)? {
                return Ok(Some(found));
            }
            // On to the next leaf, if the run of names with this hash goes on there.
            let node = loop {
                let Some(mut node) = path.pop() else { return Ok(None) };
                node.at = node.at.saturating_add(1);
                match node.hash(node.at) {
                    Some(least) if least & !1 == hash => break node,
                    Some(_) => return Ok(None),
                    None => {}
                }
            };
            self.descend(&mut path, node, root.levels, |_| {}, &read)?;
        }
        Err(self.damage(0, IndexFault::Endless))
    }

    /// Appends `node` to `path` and goes down to the lowest of `levels`; `seek` takes the entry of each node below it.
    fn descend<'v>(
        &self,
        path: &mut Path<'v>,
        mut node: Node<'v>,
        levels: usize,
        seek: impl Fn(&mut Node<'v>),
        read: impl Fn(u32) -> Result<&'v [u8], Error>,
    ) -> Result<(), Error> {
        let too_deep = |_| self.damage(0, IndexFault::Levels(levels));
        path.push(node).map_err(too_deep)?;
        while path.len() < levels {
            let child = node.child();
            self.check_child(child)?;
            node = self.node(read(child)?).map_err(|fault| self.damage(child, fault))?;
            seek(&mut node);
            path.push(node).map_err(too_deep)?;
        }
        Ok(())
    }

    /// Checks the checksum of the index block `raw`, at `block` of the directory.
    pub(super) fn check_block(&self, raw: &[u8], block: u32) -> Result<(), Error> {
        let checked = if block == 0 { self.root(raw).map(drop) } else { self.node(raw).map(drop) };
        checked.map_err(|fault| self.damage(block, fault))
    }

    fn damage(&self, block: u32, fault: IndexFault) -> Error {
        let fault = DirectoryFault::Index { block, fault };
        Damage::Directory { inode: self.directory, fault }.into()
    }

    /// That a node refers to a block of the directory, and not to the root.
    fn check_child(&self, child: u32) -> Result<(), Error> {
        if child == 0 || child >= self.blocks {
            return Err(self.damage(0, IndexFault::Child { block: child, blocks: self.blocks }));
        }
        Ok(())
    }

    /// Parses `dx_root`: `.`, `..`, then `dx_root_info` in the space of `..`.
    fn root<'v>(&self, raw: &'v [u8]) -> Result<Root<'v>, IndexFault> {
        let lengths = (le16(raw, 4), le16(raw, 16));
        if usize::from(lengths.0) != 12 || usize::from(lengths.1).saturating_add(12) != self.block_size {
            return Err(IndexFault::Dots { dot: lengths.0, dot_dot: lengths.1 });
        }
        let (reserved, info_length, flags) = (le32(raw, 24), le8(raw, 29), le8(raw, 31));
        if reserved != 0 || info_length != 8 {
            return Err(IndexFault::Info { reserved, info_length });
        }
        if flags & 1 != 0 {
            return Err(IndexFault::Flags(flags));
        }
        let hash_version = le8(raw, 28);
        let function =
            HashFunction::from_version(hash_version).ok_or(IndexFault::HashVersion(hash_version))?;
        let levels = usize::from(le8(raw, 30)).saturating_add(1);
        if levels > if self.large { MOST_LEVELS } else { MOST_LEVELS - 1 } {
            return Err(IndexFault::Levels(levels));
        }
        let names = NameHash { function, signed: self.signed, seed: self.hash_seed };
        Ok(Root { node: self.entries(raw, ROOT_ENTRIES)?, names, levels })
    }

    /// Parses `dx_node`: an unused record as long as the block, then entries.
    fn node<'v>(&self, raw: &'v [u8]) -> Result<Node<'v>, IndexFault> {
        if !is_node(raw) {
            return Err(IndexFault::NoNode);
        }
        self.entries(raw, NODE_ENTRIES)
    }

    /// The entries of an index block, which start at `start`; checks limit, count and checksum.
    fn entries<'v>(&self, raw: &'v [u8], start: usize) -> Result<Node<'v>, IndexFault> {
        let (limit, count) = (le16(raw, start), le16(raw, start.saturating_add(2)));
        let tail = if self.checksum_seed.is_some() { TAIL } else { 0 };
        let expected = self.block_size.saturating_sub(start).saturating_sub(tail) / ENTRY;
        if usize::from(limit) != expected {
            return Err(IndexFault::Limit { limit, expected });
        }
        if count == 0 || count > limit {
            return Err(IndexFault::Count { limit, count });
        }
        let end = start.saturating_add(usize::from(count).saturating_mul(ENTRY));
        if let Some(seed) = self.checksum_seed {
            // dx_tail lies behind the entries that could be, and what is between is not covered.
            let tail = start.saturating_add(usize::from(limit).saturating_mul(ENTRY));
            let sum = crc32c(seed, raw.get(..end).unwrap_or_default());
            let sum = crc32c(sum, raw.get(tail..tail.saturating_add(4)).unwrap_or_default());
            let (stored, computed) = (le32(raw, tail.saturating_add(4)), crc32c(sum, &[0; 4]));
            if stored != computed {
                return Err(IndexFault::Checksum { stored, computed });
            }
        }
        Ok(Node { entries: raw.get(start..end).unwrap_or_default(), at: 0 })
    }
}

/// Whether a block of an indexed directory is a `dx_node`: one unused record fills it. (A leaf with checksums never
/// looks so, for its last twelve bytes are a record of their own.)
pub(super) fn is_node(raw: &[u8]) -> bool {
    le32(raw, 0) == 0 && usize::from(le16(raw, 4)) == raw.len()
}

/// What is wrong with an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexFault {
    /// The records `.` and `..` do not have the lengths that make room for the index.
    Dots {
        /// `rec_len` of `.`.
        dot: u16,
        /// `rec_len` of `..`.
        dot_dot: u16,
    },
    /// `dx_root_info` is not one.
    Info {
        /// `reserved_zero`.
        reserved: u32,
        /// `info_length`.
        info_length: u8,
    },
    /// `unused_flags` asks for what nobody defined.
    Flags(u8),
    /// `hash_version` is none that a directory of this volume can have.
    HashVersion(u8),
    /// More levels than the volume allows.
    Levels(usize),
    /// A leaf where a node should be.
    NoNode,
    /// `limit` is not what a block has room for.
    Limit {
        /// What the node says.
        limit: u16,
        /// What fits.
        expected: usize,
    },
    /// `count` is 0 or above `limit`.
    Count {
        /// Entries that fit.
        limit: u16,
        /// Entries in use.
        count: u16,
    },
    /// `dt_checksum` does not match.
    Checksum {
        /// What the block says.
        stored: u32,
        /// What it should say.
        computed: u32,
    },
    /// An entry refers to a block outside the directory, or to the root.
    Child {
        /// The block.
        block: u32,
        /// Blocks of the directory.
        blocks: u32,
    },
    /// A run of names with one hash has more leaves than the directory has blocks.
    Endless,
}

impl fmt::Display for IndexFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Dots { dot, dot_dot } => {
                write!(f, "rec_len of `.` is {dot} and of `..` {dot_dot}: no room for dx_root_info")
            }
            Self::Info { reserved, info_length } => {
                write!(
                    f,
                    "dx_root_info has reserved_zero {reserved:#x} and info_length {info_length}, not 0 and 8"
                )
            }
            Self::Flags(flags) => write!(f, "unused_flags is {flags:#x}"),
            Self::HashVersion(version) => write!(f, "hash_version {version} is not supported"),
            Self::Levels(levels) => write!(f, "{levels} levels are more than the volume allows"),
            Self::NoNode => f.write_str("a leaf where an index node should be"),
            Self::Limit { limit, expected } => write!(f, "limit is {limit}, expected {expected}"),
            Self::Count { limit, count } => write!(f, "count is {count}, limit {limit}"),
            Self::Checksum { stored, computed } => {
                write!(f, "dt_checksum is {stored:#010x}, computed {computed:#010x}")
            }
            Self::Child { block, blocks } => {
                write!(f, "an entry refers to block {block} of {blocks}")
            }
            Self::Endless => f.write_str("a run of names with one hash does not end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use std::collections::BTreeMap;
    use std::format;
    use std::vec;
    use std::vec::Vec;

    const BLOCK: usize = 1024;
    const SEED: u32 = 0x1234_5678;

    type Blocks = BTreeMap<u32, Vec<u8>>;

    fn index(blocks: u32) -> Index {
        Index {
            directory: 12,
            block_size: BLOCK,
            blocks,
            checksum_seed: Some(SEED),
            hash_seed: [1, 2, 3, 4],
            signed: true,
            large: true,
        }
    }

    fn hash(name: &[u8]) -> u32 {
        NameHash { function: HashFunction::HalfMd4, signed: true, seed: [1, 2, 3, 4] }.hash(name)
    }

    /// Writes `value` at `offset` and the checksum right.
    fn set(raw: &mut [u8], offset: usize, value: &[u8]) {
        raw[offset..offset + value.len()].copy_from_slice(value);
        let start = if le32(raw, 0) == 0 { NODE_ENTRIES } else { ROOT_ENTRIES };
        let end = start + usize::from(le16(raw, start + 2)) * ENTRY;
        let sum = crc32c(crc32c(SEED, &raw[..end.min(BLOCK)]), &[0; 8]);
        raw[BLOCK - 4..].copy_from_slice(&sum.to_le_bytes());
    }

    /// An index block. Of the first entry only the block counts.
    fn block(start: usize, levels: u8, entries: &[(u32, u32)]) -> Vec<u8> {
        let mut raw = vec![0; BLOCK];
        let limit = u16::try_from((BLOCK - start - TAIL) / ENTRY).unwrap();
        if start == ROOT_ENTRIES {
            raw[..9].copy_from_slice(&[12, 0, 0, 0, 12, 0, 1, 2, b'.']);
            raw[12..22].copy_from_slice(&[2, 0, 0, 0, 0xf4, 3, 2, 2, b'.', b'.']);
            raw[28..31].copy_from_slice(&[1, 8, levels]);
        } else {
            raw[4..6].copy_from_slice(&u16::try_from(BLOCK).unwrap().to_le_bytes());
        }
        for (at, (hash, block)) in entries.iter().enumerate() {
            let place = start + at * ENTRY;
            raw[place..place + 4].copy_from_slice(&hash.to_le_bytes());
            raw[place + 4..place + 8].copy_from_slice(&block.to_le_bytes());
        }
        raw[start..start + 2].copy_from_slice(&limit.to_le_bytes());
        set(&mut raw, start + 2, &u16::try_from(entries.len()).unwrap().to_le_bytes());
        raw
    }

    /// Three levels over 64 leaves, 21…84, each with the names of one value of the upper six bits of the hash.
    fn three_levels() -> Blocks {
        let node = |shift: u32, base: u32, first: u32| {
            (0..4).map(|at| (base | at << shift, first + at)).collect::<Vec<_>>()
        };
        let mut blocks = Blocks::from([(0, block(ROOT_ENTRIES, 2, &node(30, 0, 1)))]);
        for upper in 0..4 {
            blocks.insert(1 + upper, block(NODE_ENTRIES, 0, &node(28, upper << 30, 5 + 4 * upper)));
        }
        for upper in 0..16 {
            blocks.insert(5 + upper, block(NODE_ENTRIES, 0, &node(26, upper << 28, 21 + 4 * upper)));
        }
        blocks
    }

    /// Searches for `name` with `index`; the leaves that were searched, and how many index blocks were read. It is in `wanted`.
    fn find(
        index: Index,
        blocks: &Blocks,
        name: &[u8],
        wanted: Option<u32>,
    ) -> (Result<Option<u32>, Error>, Vec<u32>, usize) {
        let (leaves, reads) = (Cell::new(Vec::new()), Cell::new(0));
        let result = index.find(
            name,
            |block| {
                reads.set(reads.get() + 1);
                Ok(blocks.get(&block).map_or(&[][..], Vec::as_slice))
            },
            |leaf| {
                let mut searched = leaves.take();
                searched.push(leaf);
                leaves.set(searched);
                Ok((Some(leaf) == wanted).then_some(leaf))
            },
        );
        (result, leaves.take(), reads.get())
    }

    #[test]
    fn a_lookup_reads_one_block_of_each_level_and_one_leaf() {
        let blocks = three_levels();
        for number in 0..1000 {
            let name = format!("name-{number}");
            let leaf = 21 + (hash(name.as_bytes()) >> 26);
            let found = find(index(85), &blocks, name.as_bytes(), Some(leaf));
            assert_eq!(found, (Ok(Some(leaf)), vec![leaf], 3), "{name}");
            assert_eq!(find(index(85), &blocks, name.as_bytes(), None), (Ok(None), vec![leaf], 3), "{name}");
        }
    }

    #[test]
    fn a_run_of_one_hash_is_followed_over_leaves_and_nodes_and_no_further() {
        let name = b"name";
        let hash = hash(name);
        let blocks = Blocks::from([
            (0, block(ROOT_ENTRIES, 1, &[(0, 1), (hash | 1, 2)])),
            (1, block(NODE_ENTRIES, 0, &[(0, 3), (hash, 4), (hash | 1, 5)])),
            (2, block(NODE_ENTRIES, 0, &[(0, 6), (hash | 1, 7), (hash + 2, 8)])),
        ]);
        assert_eq!(find(index(9), &blocks, name, None), (Ok(None), vec![4, 5, 6, 7], 3));
        assert_eq!(find(index(9), &blocks, name, Some(5)), (Ok(Some(5)), vec![4, 5], 2));
    }

    #[test]
    fn a_run_that_does_not_end_is_damage() {
        let name = b"name";
        let mut entries = vec![(0, 1)];
        entries.extend((0..50).map(|_| (hash(name) | 1, 1)));
        let blocks = Blocks::from([(0, block(ROOT_ENTRIES, 0, &entries))]);
        let (result, leaves, _) = find(index(4), &blocks, name, None);
        assert_eq!(result, Err(index(4).damage(0, IndexFault::Endless)));
        assert_eq!(leaves, [1, 1, 1, 1]);
    }

    #[test]
    fn each_damage_of_an_index_is_its_own_fault() {
        let name = b"name";
        let upper = 1 + (hash(name) >> 30);
        let cases: [(u32, usize, &[u8], IndexFault); 12] = [
            (0, 4, &[16, 0], IndexFault::Dots { dot: 16, dot_dot: 1012 }),
            (0, 16, &[12, 0], IndexFault::Dots { dot: 12, dot_dot: 12 }),
            (0, 24, &[1], IndexFault::Info { reserved: 1, info_length: 8 }),
            (0, 29, &[16], IndexFault::Info { reserved: 0, info_length: 16 }),
            (0, 28, &[6], IndexFault::HashVersion(6)),
            (0, 30, &[3], IndexFault::Levels(4)),
            (0, 31, &[1], IndexFault::Flags(1)),
            (0, 32, &[124, 0], IndexFault::Limit { limit: 124, expected: 123 }),
            (0, 34, &[0, 0], IndexFault::Count { limit: 123, count: 0 }),
            (upper, 4, &[12, 0], IndexFault::NoNode),
            (upper, 8, &[125, 0], IndexFault::Limit { limit: 125, expected: 126 }),
            (upper, 10, &[127, 0], IndexFault::Count { limit: 126, count: 127 }),
        ];
        for (block, offset, value, fault) in cases {
            let mut blocks = three_levels();
            set(blocks.get_mut(&block).unwrap(), offset, value);
            let (result, ..) = find(index(85), &blocks, name, None);
            assert_eq!(result, Err(index(85).damage(block, fault)), "{fault}");
        }
    }

    #[test]
    fn a_checksum_that_does_not_match_is_damage_wherever_the_change_is() {
        let whole = three_levels();
        for offset in [0, 12, 32, 36, 39, BLOCK - 5, BLOCK - 1] {
            let mut raw = whole[&0].clone();
            raw[offset] ^= 0x10;
            let result = index(85).check_block(&raw, 0);
            assert!(result.is_err(), "a change at {offset} of the root");
        }
        let mut raw = whole[&1].clone();
        raw[12] ^= 0x10;
        let Err(Error::Corrupt(Damage::Directory { fault, .. })) = index(85).check_block(&raw, 1) else {
            panic!("a change of an entry is not seen")
        };
        assert!(matches!(fault, DirectoryFault::Index { block: 1, fault: IndexFault::Checksum { .. } }));
        assert_eq!(index(85).check_block(&whole[&1], 1), Ok(()));
        // What lies between the entries in use and the checksum is not covered.
        raw = whole[&1].clone();
        raw[600] ^= 0x10;
        assert_eq!(index(85).check_block(&raw, 1), Ok(()));
    }

    #[test]
    fn a_third_level_needs_large_dir() {
        let small = Index { large: false, ..index(85) };
        let (result, ..) = find(small, &three_levels(), b"name", None);
        assert_eq!(result, Err(small.damage(0, IndexFault::Levels(3))));
    }

    #[test]
    fn an_entry_outside_the_directory_is_damage() {
        let fault = |block| index(2).damage(0, IndexFault::Child { block, blocks: 2 });
        for child in [0, 2, BLOCK_MASK] {
            for levels in [0, 1] {
                let blocks = Blocks::from([(0, block(ROOT_ENTRIES, levels, &[(0, child)]))]);
                assert_eq!(find(index(2), &blocks, b"name", None).0, Err(fault(child)));
            }
        }
    }

    #[test]
    fn no_byte_of_an_index_can_make_a_lookup_panic_or_go_on_for_ever() {
        let unchecked = Index { checksum_seed: None, ..index(85) };
        let whole = three_levels();
        let upper = 1 + (hash(b"name") >> 30);
        for damaged in [0, upper] {
            for offset in 0..BLOCK {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut blocks = whole.clone();
                    blocks.get_mut(&damaged).unwrap()[offset] = value;
                    for index in [unchecked, index(85)] {
                        let (_, leaves, reads) = find(index, &blocks, b"name", None);
                        assert!(leaves.len() <= 85 && reads <= 3 + 2 * leaves.len());
                    }
                }
            }
        }
    }
}
