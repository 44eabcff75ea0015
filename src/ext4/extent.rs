// SPDX-License-Identifier: MIT OR Apache-2.0

//! Extent trees: which blocks of the volume hold which blocks of a file.
//!
//! A walk visits each node of the tree that a range touches once, from the root in the inode down, and hands out one
//! run for each extent or gap, in order. Its depth is at most [`MAX_DEPTH`], and each level must be one less than the
//! one above, so that a tree cannot loop. What it costs: for each node below the root the checksum of a block (with
//! `metadata_csum`) and a pass over the node's entries. Nodes are not remembered between walks.
//!
//! Field names are the format's (`struct ext4_extent_header`, `ext4_extent_idx`, `ext4_extent`).

use core::fmt;
use core::ops::Range;

use super::Volume;
use super::checksum::crc32c;
use super::error::{Damage, Error};
use super::field::{le16, le32};
use super::inode::Inode;
use super::mapping::{Run, Visit};
use crate::mem::region::Region;

/// `eh_magic`.
const MAGIC: u16 = 0xf30a;
/// The deepest tree that Linux makes or takes.
const MAX_DEPTH: u16 = 5;
/// Length of a header, of an index entry, and of an extent.
const ENTRY: usize = 12;
/// Length of `struct ext4_extent_tail`.
const TAIL: usize = 4;
/// The longest written extent; `ee_len` above means an unwritten one of `ee_len` less this.
const MAX_WRITTEN: u16 = 1 << 15;

/// What is wrong with an extent tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExtentFault {
    /// `eh_magic` is not 0xF30A.
    Magic(u16),
    /// `eh_depth` is not one less than that of the node above, or the root's is above 5.
    Depth {
        /// What the node says.
        found: u16,
        /// The most it may be (root), or what it must be.
        expected: u16,
    },
    /// `eh_max` entries do not fit the node, or `eh_entries` is larger.
    Entries {
        /// `eh_entries`.
        entries: u16,
        /// `eh_max`.
        max: u16,
    },
    /// An index node without entries.
    EmptyIndex,
    /// `et_checksum` does not match.
    Checksum {
        /// The block of the node.
        block: u64,
        /// What it says.
        stored: u32,
        /// What it should say.
        computed: u32,
    },
    /// An entry begins before the one in front of it ends, or outside of what its node covers.
    Order {
        /// The first logical block of the entry.
        block: u32,
        /// The first that it may have.
        lowest: u64,
        /// The first that it, and what it covers, must stay below.
        end: u64,
    },
    /// An extent of no blocks.
    EmptyExtent {
        /// Its first logical block.
        block: u32,
    },
    /// An extent or a node outside of the volume.
    Physical {
        /// Its first block.
        start: u64,
        /// How many.
        length: u16,
    },
}

impl fmt::Display for ExtentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Magic(found) => write!(f, "eh_magic is {found:#06x}"),
            Self::Depth { found, expected } => write!(f, "eh_depth is {found}, expected {expected}"),
            Self::Entries { entries, max } => write!(f, "{entries} entries of {max} do not fit their node"),
            Self::EmptyIndex => f.write_str("an index node has no entries"),
            Self::Checksum { block, stored, computed } => {
                write!(f, "et_checksum of block {block} is {stored:#010x}, computed {computed:#010x}")
            }
            Self::Order { block, lowest, end } => {
                write!(f, "the entry of block {block} is not within {lowest}..{end}")
            }
            Self::EmptyExtent { block } => write!(f, "the extent of block {block} has no blocks"),
            Self::Physical { start, length } => {
                write!(f, "{length} blocks at {start} are outside the volume")
            }
        }
    }
}

/// A checked header and the entries behind it.
struct Node<'v> {
    depth: u16,
    eh_max: u16,
    entries: &'v [[u8; ENTRY]],
}

impl<'v> Node<'v> {
    /// Parses the node that fills `bytes`, `reserved` of them at the end for the checksum.
    fn parse(bytes: &'v [u8], reserved: usize) -> Result<Self, ExtentFault> {
        let eh_magic = le16(bytes, 0);
        if eh_magic != MAGIC {
            return Err(ExtentFault::Magic(eh_magic));
        }
        let (entries, max) = (le16(bytes, 2), le16(bytes, 4));
        let room = bytes.len().saturating_sub(ENTRY + reserved) / ENTRY;
        let (chunks, _) = bytes.get(ENTRY..).unwrap_or_default().as_chunks();
        let used = chunks.get(..usize::from(entries));
        match used {
            Some(used) if entries <= max && usize::from(max) <= room => {
                Ok(Self { depth: le16(bytes, 6), eh_max: max, entries: used })
            }
            _ => Err(ExtentFault::Entries { entries, max }),
        }
    }
}

/// An extent of a leaf.
struct Extent {
    blocks: Range<u64>,
    start: u64,
    written: bool,
}

impl Extent {
    fn parse(raw: &[u8; ENTRY]) -> Self {
        let ee_len = le16(raw, 4);
        let written = ee_len <= MAX_WRITTEN;
        let length = if written { ee_len } else { ee_len - MAX_WRITTEN };
        let first = u64::from(le32(raw, 0));
        Self {
            blocks: first..first + u64::from(length),
            start: u64::from(le32(raw, 8)) | u64::from(le16(raw, 6)) << 32,
            written,
        }
    }
}

/// The first logical block of an entry, index or extent.
fn first_block(raw: &[u8; ENTRY]) -> u64 {
    u64::from(le32(raw, 0))
}

/// The block of the node that an index entry points to.
fn child_block(raw: &[u8; ENTRY]) -> u64 {
    u64::from(le32(raw, 4)) | u64::from(le16(raw, 8)) << 32
}

/// A walk over the tree of one inode.
pub(super) struct ExtentWalk<'w, 'v, R: Region> {
    pub volume: &'v Volume<R>,
    pub inode: &'w Inode<'v>,
    /// The blocks that are still to be handed out; never empty the other way round.
    pub wanted: Range<u64>,
    pub visit: &'w mut Visit<'w>,
}

impl<'v, R: Region> ExtentWalk<'_, 'v, R> {
    /// Hands out runs that cover the wanted range.
    pub(super) fn run(mut self) -> Result<(), Error> {
        let root = Node::parse(self.inode.i_block, 0).map_err(|fault| self.damage(fault))?;
        if root.depth > MAX_DEPTH {
            return Err(self.damage(ExtentFault::Depth { found: root.depth, expected: MAX_DEPTH }));
        }
        self.node(&root, 0..1 << 32)?;
        self.hole(self.wanted.end)
    }

    fn damage(&self, fault: ExtentFault) -> Error {
        Damage::Extent { inode: self.inode.number, fault }.into()
    }

    /// Hands out what `node`, which covers the logical blocks `bounds`, has of the wanted range.
    fn node(&mut self, node: &Node<'_>, bounds: Range<u64>) -> Result<(), Error> {
        self.check_entries(node, &bounds)?;
        // Entries in front of the last one that begins at or before the range have nothing of it.
        let skipped = node.entries.partition_point(|entry| first_block(entry) <= self.wanted.start);
        let rest = node.entries.get(skipped.saturating_sub(1)..).unwrap_or_default();
        for (position, entry) in rest.iter().enumerate() {
            if first_block(entry) >= self.wanted.end {
                break;
            }
            if node.depth == 0 {
                self.extent(&Extent::parse(entry))?;
            } else {
                let end = rest.get(position + 1).map_or(bounds.end, first_block);
                self.child(entry, node.depth, first_block(entry)..end)?;
            }
        }
        Ok(())
    }

    /// Goes down into the node that the index entry `entry` of a node of `depth` points to.
    fn child(&mut self, entry: &[u8; ENTRY], depth: u16, bounds: Range<u64>) -> Result<(), Error> {
        let number = child_block(entry);
        if !self.volume.holds(number, 1) {
            return Err(self.damage(ExtentFault::Physical { start: number, length: 1 }));
        }
        let block = self.volume.block(number)?;
        let summed = self.volume.superblock.has_metadata_csum();
        let node = Node::parse(block, if summed { TAIL } else { 0 }).map_err(|fault| self.damage(fault))?;
        if summed {
            let tail = ENTRY + ENTRY * usize::from(node.eh_max);
            let stored = le32(block, tail);
            let computed = crc32c(self.inode.checksum_seed, block.get(..tail).unwrap_or_default());
            if stored != computed {
                return Err(self.damage(ExtentFault::Checksum { block: number, stored, computed }));
            }
        }
        if node.depth != depth - 1 {
            return Err(self.damage(ExtentFault::Depth { found: node.depth, expected: depth - 1 }));
        }
        self.node(&node, bounds)
    }

    /// Hands out the gap in front of `extent` and what `extent` has of the wanted range.
    fn extent(&mut self, extent: &Extent) -> Result<(), Error> {
        if extent.blocks.end <= self.wanted.start {
            return Ok(());
        }
        self.hole(extent.blocks.start)?;
        let end = extent.blocks.end.min(self.wanted.end);
        let physical = extent.start + (self.wanted.start - extent.blocks.start);
        self.emit(end, extent.written.then_some(physical))
    }

    /// Hands out a hole up to `end`, if that lies ahead.
    fn hole(&mut self, end: u64) -> Result<(), Error> {
        if end > self.wanted.start { self.emit(end, None) } else { Ok(()) }
    }

    fn emit(&mut self, end: u64, physical: Option<u64>) -> Result<(), Error> {
        let run = Run { blocks: self.wanted.start..end, physical };
        self.wanted.start = end;
        (self.visit)(run)
    }

    /// That the entries of `node` are in order, within `bounds`, and inside the volume.
    fn check_entries(&self, node: &Node<'_>, bounds: &Range<u64>) -> Result<(), Error> {
        if node.depth > 0 && node.entries.is_empty() {
            return Err(self.damage(ExtentFault::EmptyIndex));
        }
        let mut lowest = bounds.start;
        for entry in node.entries {
            let block = le32(entry, 0);
            let blocks = if node.depth > 0 {
                u64::from(block)..u64::from(block) + 1
            } else {
                let extent = Extent::parse(entry);
                if extent.blocks.is_empty() {
                    return Err(self.damage(ExtentFault::EmptyExtent { block }));
                }
                let length = extent.blocks.end - extent.blocks.start;
                if !self.volume.holds(extent.start, length) {
                    let length = le16(entry, 4);
                    return Err(self.damage(ExtentFault::Physical { start: extent.start, length }));
                }
                extent.blocks
            };
            if blocks.start < lowest || blocks.end > bounds.end {
                return Err(self.damage(ExtentFault::Order { block, lowest, end: bounds.end }));
            }
            lowest = blocks.end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::inode::InodeFlags;
    use crate::ext4::testing::{Image, TestVolume, damage};
    use std::vec::Vec;

    const BLOCKS: u64 = 1024;

    fn volume(options: &[&str]) -> (Image, u32) {
        let image = Image::new("1M", options, |root| std::fs::write(root.join("file"), "x").unwrap());
        let number = image.inode("/file");
        (image, number)
    }

    fn header(entries: u16, max: u16, depth: u16) -> [u8; ENTRY] {
        let mut raw = [0; ENTRY];
        for (field, value) in [MAGIC, entries, max, depth].into_iter().enumerate() {
            raw[2 * field..2 * field + 2].copy_from_slice(&value.to_le_bytes());
        }
        raw
    }

    fn extent(block: u32, ee_len: u16, start: u64) -> [u8; ENTRY] {
        let mut raw = [0; ENTRY];
        raw[..4].copy_from_slice(&block.to_le_bytes());
        raw[4..6].copy_from_slice(&ee_len.to_le_bytes());
        raw[6..8].copy_from_slice(&start.to_le_bytes()[4..6]);
        raw[8..].copy_from_slice(&start.to_le_bytes()[..4]);
        raw
    }

    fn index(block: u32, leaf: u64) -> [u8; ENTRY] {
        let mut raw = [0; ENTRY];
        raw[..4].copy_from_slice(&block.to_le_bytes());
        raw[4..8].copy_from_slice(&leaf.to_le_bytes()[..4]);
        raw[8..10].copy_from_slice(&leaf.to_le_bytes()[4..6]);
        raw
    }

    /// What reading a file whose `i_block` holds `pieces` finds wrong.
    fn root_fault(volume: &TestVolume, number: u32, pieces: &[[u8; ENTRY]]) -> Option<ExtentFault> {
        let mut i_block = [0; 60];
        i_block[..pieces.len() * ENTRY].copy_from_slice(pieces.as_flattened());
        let mut inode = volume.inode(number).unwrap();
        inode.i_block = &i_block;
        inode.size = 1 << 30;
        assert!(inode.flags.contains(InodeFlags::EXTENTS));
        match damage(volume, &inode) {
            Some(Damage::Extent { inode, fault }) if inode == number => Some(fault),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_damage_of_a_root_is_named() {
        let (image, number) = volume(&["-b", "1024"]);
        let volume = image.mount();
        let end = 1 << 32;
        let physical = |start, length| Some(ExtentFault::Physical { start, length });
        let order = |block, lowest| Some(ExtentFault::Order { block, lowest, end });
        for (pieces, expected) in [
            (&[[0; ENTRY]][..], Some(ExtentFault::Magic(0))),
            (&[header(0, 4, 0)], None),
            (&[header(5, 4, 0)], Some(ExtentFault::Entries { entries: 5, max: 4 })),
            (&[header(0, 5, 0)], Some(ExtentFault::Entries { entries: 0, max: 5 })),
            (&[header(0, 4, 6)], Some(ExtentFault::Depth { found: 6, expected: 5 })),
            (&[header(0, 4, 1)], Some(ExtentFault::EmptyIndex)),
            (&[header(1, 4, 0), extent(0, 0, 500)], Some(ExtentFault::EmptyExtent { block: 0 })),
            (&[header(1, 4, 0), extent(0, 1, 0)], physical(0, 1)),
            (&[header(1, 4, 0), extent(0, 1, 1)], physical(1, 1)),
            (&[header(1, 4, 0), extent(0, 2, BLOCKS - 1)], physical(BLOCKS - 1, 2)),
            (&[header(1, 4, 0), extent(0, 1, 0xffff_ffff_ffff)], physical(0xffff_ffff_ffff, 1)),
            (&[header(1, 4, 0), extent(0, MAX_WRITTEN, 2)], physical(2, MAX_WRITTEN)),
            (
                &[header(1, 4, 0), extent(0, MAX_WRITTEN + 2, BLOCKS - 1)],
                physical(BLOCKS - 1, MAX_WRITTEN + 2),
            ),
            (&[header(2, 4, 0), extent(0, 3, 500), extent(2, 1, 600)], order(2, 3)),
            (&[header(2, 4, 0), extent(9, 1, 500), extent(2, 1, 600)], order(2, 10)),
            (&[header(1, 4, 0), extent(u32::MAX, 2, 500)], order(u32::MAX, 0)),
            (&[header(2, 4, 1), index(0, 500), index(0, 501)], order(0, 1)),
            (&[header(1, 4, 1), index(0, BLOCKS)], physical(BLOCKS, 1)),
            (&[header(1, 4, 1), index(0, 0)], physical(0, 1)),
            (&[header(2, 4, 0), extent(0, 2, 500), extent(2, MAX_WRITTEN + 1, 600)], None),
        ] {
            assert_eq!(root_fault(&volume, number, pieces), expected, "{pieces:?}");
        }
    }

    /// A volume without checksums whose block 1000 starts with `pieces`.
    fn with_node(pieces: &[[u8; ENTRY]]) -> (TestVolume, u32) {
        let (image, number) = volume(&["-b", "1024", "-O", "^metadata_csum"]);
        let mut bytes = image.bytes();
        let node = pieces.as_flattened();
        bytes[1000 * 1024..1000 * 1024 + node.len()].copy_from_slice(node);
        (TestVolume::mount(bytes).unwrap(), number)
    }

    #[test]
    fn each_damage_below_the_root_is_named() {
        let order = |block, lowest, end| Some(ExtentFault::Order { block, lowest, end });
        let depth = |found, expected| Some(ExtentFault::Depth { found, expected });
        for (node, root_depth, expected) in [
            (&[header(1, 84, 0), extent(10, 10, 500)][..], 1, None),
            (&[header(1, 84, 0), extent(10, 11, 500)], 1, order(10, 10, 20)),
            (&[header(1, 84, 0), extent(9, 1, 500)], 1, order(9, 10, 20)),
            (&[header(1, 85, 0), extent(10, 1, 500)], 1, Some(ExtentFault::Entries { entries: 1, max: 85 })),
            (&[header(1, 84, 0), extent(10, 1, 500)], 2, depth(0, 1)),
            (&[header(1, 84, 1), index(10, 1000)], 1, depth(1, 0)),
            (&[header(1, 84, 4), index(10, 1000)], 5, depth(4, 3)),
            (&[header(0, 84, 1)], 2, Some(ExtentFault::EmptyIndex)),
        ] {
            let (volume, number) = with_node(node);
            let root = [header(2, 4, root_depth), index(10, 1000), index(20, 1000)];
            let found = root_fault(&volume, number, &root);
            // The second entry points to the same node, whose blocks are then out of place.
            let expected = expected.or(match root_depth {
                1 => order(10, 20, 1 << 32),
                _ => None,
            });
            assert_eq!(found, expected, "{node:?}");
        }
    }

    #[test]
    fn a_changed_byte_of_a_node_is_noticed_by_its_checksum() {
        let content: Vec<u8> = (0..40u8).flat_map(|index| [[index % 2; 1024], [0; 1024]].concat()).collect();
        let image =
            Image::new("1M", &["-b", "1024"], |root| std::fs::write(root.join("file"), content).unwrap());
        let number = image.inode("/file");
        let volume = image.mount();
        let block = child_block(&volume.inode(number).unwrap().i_block[12..24].try_into().unwrap());
        let start = usize::try_from(block).unwrap() * 1024;
        for offset in (0..1024).step_by(7) {
            let mut bytes = image.bytes();
            bytes[start + offset] ^= 1;
            let volume = TestVolume::mount(bytes).unwrap();
            let found = damage(&volume, &volume.inode(number).unwrap());
            assert!(matches!(found, Some(Damage::Extent { .. })), "byte {offset}: {found:?}");
        }
    }
}
