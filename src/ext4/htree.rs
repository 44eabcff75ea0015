// SPDX-License-Identifier: MIT OR Apache-2.0

//! The index of a large directory: a tree of hashes over the blocks that hold its records.
//!
//! `dx_root` (block 0, behind `.` and `..`) and `dx_node` look like unused space to who does not know them. An entry
//! of a node says which block holds the names whose hash is at least its own; the lowest bit of that hash marks
//! a run of names with one hash that goes on from the block before. A lookup reads one node a level and, but for
//! such runs, one leaf.
//!
//! An index that fails a check is damage, and the request fails. Linux searches the whole directory instead where
//! the shape is wrong (not where a checksum is); here a lookup never takes time that the client did not ask for.

mod edit;
mod fault;
#[cfg(test)]
mod tests;

use heapless::Vec;

use super::checksum::crc32c;
use super::dir::DirectoryFault;
use super::error::{Damage, Error};
use super::field::{le8, le16, le32};
use super::hash::{HashFunction, NameHash};
pub(super) use edit::{
    grow_root, initialize_node, initialize_root, insert_entry, seal_index, truncate_entries, upper_entries,
};
pub use fault::IndexFault;

/// Index levels with `large_dir`; without, one less.
pub(super) const MOST_LEVELS: usize = 3;
/// Where the entries of `dx_root` and `dx_node` start.
const ROOT_ENTRIES: usize = 32;
const NODE_ENTRIES: usize = 8;
/// `dx_entry`: hash, block. In the first one limit and count take the place of the hash.
const ENTRY: usize = 8;
/// `dx_tail`: dt_reserved, dt_checksum.
const TAIL: usize = 8;
/// Upper bits of `dx_entry.block` are kept for other uses.
const BLOCK_MASK: u32 = 0x0fff_ffff;
/// More blocks an indexed directory cannot have.
pub(super) const MOST_BLOCKS: u32 = BLOCK_MASK;

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

/// An index whose root was checked. `read` gives a block of the directory.
pub(super) struct Tree<'v, F> {
    index: Index,
    root: Node<'v>,
    /// How names are hashed.
    pub(super) names: NameHash,
    /// Levels of nodes, the root included: 1 to [`MOST_LEVELS`].
    pub(super) levels: usize,
    read: F,
}

/// A checked `dx_root`.
struct Root<'v> {
    node: Node<'v>,
    names: NameHash,
    levels: usize,
}

/// A leaf, and the way to it.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'v> {
    path: Path<'v>,
}

/// A node on the way to a leaf, as a change needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// The node's block of the directory.
    pub(super) block: u32,
    /// Which of its entries leads on.
    pub(super) at: usize,
    /// How many entries it has, at least one.
    pub(super) count: usize,
    /// How many fit.
    pub(super) limit: usize,
}

/// A checked node and a place in it.
#[derive(Debug, Clone, Copy)]
struct Node<'v> {
    /// The node's block of the directory.
    block: u32,
    /// How many entries fit.
    limit: usize,
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

impl Cursor<'_> {
    /// The leaf's block of the directory.
    pub(super) fn leaf(&self) -> u32 {
        self.path.last().map_or(0, Node::child)
    }

    /// The least hash of the next leaf, with the continuation bit; `None` for the last leaf.
    pub(super) fn next_hash(&self) -> Option<u32> {
        self.path.iter().rev().find_map(|node| node.hash(node.at.saturating_add(1)))
    }

    /// The nodes on the way, the root first.
    pub(super) fn steps(&self) -> Vec<Step, MOST_LEVELS> {
        let step = |node: &Node<'_>| Step {
            block: node.block,
            at: node.at,
            count: node.entries.len() / ENTRY,
            limit: node.limit,
        };
        let mut steps = Vec::new();
        // There is room for as many as the path has.
        for node in &self.path {
            _ = steps.push(step(node));
        }
        steps
    }
}

impl<'v, F: Fn(u32) -> Result<&'v [u8], Error>> Tree<'v, F> {
    /// The first leaf that can hold names with `hash`.
    pub(super) fn seek(&self, hash: u32) -> Result<Cursor<'v>, Error> {
        let mut cursor = Cursor { path: Path::new() };
        let mut root = self.root;
        root.seek(hash);
        self.descend(&mut cursor, root, |node| node.seek(hash))?;
        Ok(cursor)
    }

    /// The damage `fault` of the index.
    pub(super) fn damage(&self, fault: IndexFault) -> Error {
        self.index.damage(0, fault)
    }

    /// No sound index has more leaves.
    pub(super) fn most_leaves(&self) -> u32 {
        self.index.blocks
    }

    /// Moves on to the next leaf; `false` if there is none.
    pub(super) fn advance(&self, cursor: &mut Cursor<'v>) -> Result<bool, Error> {
        while let Some(mut node) = cursor.path.pop() {
            node.at = node.at.saturating_add(1);
            if node.hash(node.at).is_some() {
                self.descend(cursor, node, |_| {})?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Appends `node` to the way and goes down to the lowest level; `seek` takes the entry of each node below it.
    fn descend(
        &self,
        cursor: &mut Cursor<'v>,
        mut node: Node<'v>,
        seek: impl Fn(&mut Node<'v>),
    ) -> Result<(), Error> {
        let index = self.index;
        let too_deep = |_| index.damage(0, IndexFault::Levels(self.levels));
        cursor.path.push(node).map_err(too_deep)?;
        while cursor.path.len() < self.levels {
            let child = node.child();
            index.check_child(child)?;
            node = index.node((self.read)(child)?, child).map_err(|fault| index.damage(child, fault))?;
            seek(&mut node);
            cursor.path.push(node).map_err(too_deep)?;
        }
        index.check_child(node.child())
    }
}

impl Index {
    /// Opens the index; `read` gives a block of the directory.
    pub(super) fn open<'v, F>(&self, read: F) -> Result<Tree<'v, F>, Error>
    where
        F: Fn(u32) -> Result<&'v [u8], Error>,
    {
        let Root { node, names, levels } = self.root(read(0)?).map_err(|fault| self.damage(0, fault))?;
        Ok(Tree { index: *self, root: node, names, levels, read })
    }

    /// Searches the leaves that can hold `name`. `read` gives a block of the directory, `search` looks for the name
    /// in a leaf (and checks it).
    pub(super) fn find<'v, T>(
        &self,
        name: &[u8],
        read: impl Fn(u32) -> Result<&'v [u8], Error>,
        search: impl Fn(u32) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let tree = self.open(read)?;
        let hash = tree.names.hash(name);
        let mut cursor = tree.seek(hash)?;
        // Each leaf is searched at most once, so a sound index has no more of them than the directory has blocks.
        for _ in 0..self.blocks {
            if let Some(found) = search(cursor.leaf())? {
                return Ok(Some(found));
            }
            // On to the next leaf, if the run of names with this hash goes on there.
            if cursor.next_hash().is_none_or(|least| least & !1 != hash) {
                return Ok(None);
            }
            tree.advance(&mut cursor)?;
        }
        Err(self.damage(0, IndexFault::Endless))
    }

    /// How many levels of nodes an index may have.
    pub(super) fn most_levels(&self) -> usize {
        if self.large { MOST_LEVELS } else { MOST_LEVELS - 1 }
    }

    /// Checks the checksum of the index block `raw`, at `block` of the directory.
    pub(super) fn check_block(&self, raw: &[u8], block: u32) -> Result<(), Error> {
        let checked = if block == 0 { self.root(raw).map(drop) } else { self.node(raw, block).map(drop) };
        checked.map_err(|fault| self.damage(block, fault))
    }

    /// The damage `fault` of `block`.
    pub(super) fn damage(&self, block: u32, fault: IndexFault) -> Error {
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
        if levels > self.most_levels() {
            return Err(IndexFault::Levels(levels));
        }
        let names = NameHash { function, signed: self.signed, seed: self.hash_seed };
        Ok(Root { node: self.entries(raw, 0)?, names, levels })
    }

    /// Parses `dx_node`: an unused record as long as the block, then entries.
    fn node<'v>(&self, raw: &'v [u8], block: u32) -> Result<Node<'v>, IndexFault> {
        if !is_node(raw) {
            return Err(IndexFault::NoNode);
        }
        self.entries(raw, block)
    }

    /// The entries of the index block `raw`, at `block` of the directory; checks limit, count and checksum.
    fn entries<'v>(&self, raw: &'v [u8], block: u32) -> Result<Node<'v>, IndexFault> {
        let start = entries_start(block);
        let (limit, count) = (le16(raw, start), le16(raw, start.saturating_add(2)));
        let expected = self.limit(block);
        if usize::from(limit) != expected {
            return Err(IndexFault::Limit { limit, expected });
        }
        if count == 0 || count > limit {
            return Err(IndexFault::Count { limit, count });
        }
        let end = start.saturating_add(usize::from(count).saturating_mul(ENTRY));
        if let Some(seed) = self.checksum_seed {
            let (stored, computed) = (le32(raw, checksum_place(start, limit)), checksum(raw, start, seed));
            if stored != computed {
                return Err(IndexFault::Checksum { stored, computed });
            }
        }
        let entries = raw.get(start..end).unwrap_or_default();
        Ok(Node { block, limit: expected, entries, at: 0 })
    }

    /// How many entries an index block has room for.
    fn limit(&self, block: u32) -> usize {
        let tail = if self.checksum_seed.is_some() { TAIL } else { 0 };
        self.block_size.saturating_sub(entries_start(block)).saturating_sub(tail) / ENTRY
    }
}

/// Where the entries of an index block start: `block` is which of the directory it is.
const fn entries_start(block: u32) -> usize {
    if block == 0 { ROOT_ENTRIES } else { NODE_ENTRIES }
}

/// Where `dt_checksum` lies in an index block whose entries start at `start`: `dx_tail` lies behind the entries that could be.
fn checksum_place(start: usize, limit: u16) -> usize {
    start.saturating_add(usize::from(limit).saturating_mul(ENTRY)).saturating_add(4)
}

/// What `dt_checksum` should be of an index block whose entries start at `start`: over the entries in use and `dx_tail`; what is
/// between is not covered.
fn checksum(raw: &[u8], start: usize, seed: u32) -> u32 {
    let (limit, count) = (le16(raw, start), le16(raw, start.saturating_add(2)));
    let end = start.saturating_add(usize::from(count).saturating_mul(ENTRY));
    let place = checksum_place(start, limit);
    let sum = crc32c(seed, raw.get(..end).unwrap_or_default());
    let sum = crc32c(sum, raw.get(place.saturating_sub(4)..place).unwrap_or_default());
    crc32c(sum, &[0; 4])
}

/// Whether a block of an indexed directory is a `dx_node`: one unused record fills it. (A leaf with checksums never
/// looks so, for its last twelve bytes are a record of their own.)
pub(super) fn is_node(raw: &[u8]) -> bool {
    le32(raw, 0) == 0 && usize::from(le16(raw, 4)) == raw.len()
}
