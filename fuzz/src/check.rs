// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whether a volume is whole: written from the format alone, without the core, and much quicker than a run of `e2fsck`.

use std::collections::BTreeMap;

use crate::checksum::{le16, le32};
use crate::structure::{JOURNAL, Layout, is_directory};

/// Says what is wrong, unless it is right.
macro_rules! ensure {
    ($right:expr, $($wrong:tt)+) => {
        if !$right {
            return Err(format!($($wrong)+));
        }
    };
}

/// How many blocks are marked as used and are of no file: the volume's own. It never changes.
#[must_use]
pub fn own_blocks(volume: &[u8]) -> usize {
    let layout = Layout::of(volume);
    used_blocks(&layout, volume).iter().filter(|used| **used).count() - claims(&layout, volume).len()
}

/// Whether each block is marked as used, from block 0 on.
fn used_blocks(layout: &Layout, volume: &[u8]) -> Vec<bool> {
    let mut used = vec![false; layout.first_block as usize];
    for group in 0..layout.group_count() {
        let (bitmap, _) = layout.bitmaps(group);
        let left = layout.blocks - used.len() as u64;
        let of_group = left.min(layout.blocks_per_group) as usize;
        used.extend((0..of_group).map(|bit| volume[bitmap + bit / 8] >> (bit % 8) & 1 != 0));
    }
    used
}

/// The blocks of files, each with how often it is claimed, and whether it holds attributes.
fn claims(layout: &Layout, volume: &[u8]) -> BTreeMap<u64, (u32, bool)> {
    let mut claims = BTreeMap::new();
    for number in [JOURNAL].into_iter().chain(layout.files(volume)) {
        let blocks = layout.file_blocks(volume, number);
        let attributes = u64::from(le32(volume, layout.inode(number) + 0x68));
        let own = blocks.content.iter().map(|(_, block)| *block).chain(blocks.tree);
        for (block, of_attributes) in
            own.map(|block| (block, false)).chain((attributes != 0).then_some((attributes, true)))
        {
            claims.entry(block).or_insert((0, of_attributes)).0 += 1;
        }
    }
    claims
}

/// Checks a volume that was unmounted, and whose own blocks are `own` in number: claims, counts, links and checksums.
///
/// # Errors
/// What is wrong.
pub fn check(volume: &mut [u8], own: usize) -> Result<(), String> {
    let layout = Layout::of(volume);
    let used = used_blocks(&layout, volume);
    let claims = claims(&layout, volume);
    for (block, (count, of_attributes)) in &claims {
        ensure!(used[*block as usize], "block {block} is of a file and marked as free");
        if *of_attributes {
            let refcount = le32(volume, *block as usize * layout.block_size + 4);
            ensure!(refcount == *count, "h_refcount of block {block}");
        } else {
            ensure!(*count == 1, "block {block} is claimed more than once");
        }
    }
    let marked = used.iter().filter(|used| **used).count();
    ensure!(marked == own + claims.len(), "as many blocks are marked as used as are");
    check_counts(&layout, volume, &used)?;
    check_links(&layout, volume)?;
    check_inodes(&layout, volume)?;
    check_sums(&layout, volume)
}

fn check_counts(layout: &Layout, volume: &[u8], used: &[bool]) -> Result<(), String> {
    let (mut all_blocks, mut all_inodes) = (0, 0);
    let first = layout.first_block as usize;
    for (group, used) in (0..).zip(used[first..].chunks(layout.blocks_per_group as usize)) {
        let descriptor = layout.descriptor(group);
        let free = used.iter().filter(|used| !**used).count();
        ensure!(free == usize::from(le16(volume, descriptor + 0xc)), "free blocks of group {group}");
        let numbers = group * layout.inodes_per_group + 1..=(group + 1) * layout.inodes_per_group;
        let free_inodes = numbers.clone().filter(|number| !layout.is_used(volume, *number)).count();
        ensure!(free_inodes == usize::from(le16(volume, descriptor + 0xe)), "free inodes of group {group}");
        let directories = numbers
            .filter(|number| layout.is_used(volume, *number) && is_directory(volume, layout.inode(*number)));
        ensure!(
            directories.count() == usize::from(le16(volume, descriptor + 0x10)),
            "directories of {group}"
        );
        all_blocks += free;
        all_inodes += free_inodes;
    }
    ensure!(all_blocks == le32(volume, 1024 + 0xc) as usize, "s_free_blocks_count");
    ensure!(all_inodes == le32(volume, 1024 + 0x10) as usize, "s_free_inodes_count");
    ensure!(le32(volume, 1024 + 0xe8) == 0, "s_last_orphan");
    ensure!(le32(volume, 1024 + 0x60) & 4 == 0, "needs_recovery");
    Ok(())
}

/// That each inode has as many names as it says.
fn check_links(layout: &Layout, volume: &[u8]) -> Result<(), String> {
    let mut names: BTreeMap<u32, u32> = BTreeMap::new();
    for number in layout.files(volume) {
        let inode = layout.inode(number);
        if !is_directory(volume, inode) {
            continue;
        }
        let blocks = layout.file_blocks(volume, number).content;
        let size = le32(volume, inode + 4) as usize;
        ensure!(size == blocks.len() * layout.block_size, "i_size of directory {number}");
        for (index, block) in blocks {
            let at = block as usize * layout.block_size;
            // The root of an index holds the first two records, then no others.
            let end = match (layout.is_index(volume, inode, index, at), index) {
                (false, _) => layout.block_size,
                (true, 0) => 24,
                (true, _) => 0,
            };
            let mut record = 0;
            while record < end {
                let (target, length) = (le32(volume, at + record), le16(volume, at + record + 4));
                ensure!(length >= 8 && length % 4 == 0, "a record of {length} bytes in directory {number}");
                if target != 0 {
                    *names.entry(target).or_default() += 1;
                }
                record += usize::from(length);
            }
        }
    }
    for number in layout.files(volume) {
        let links = u32::from(le16(volume, layout.inode(number) + 0x1a));
        // Inode 11 is lost+found; those below are not listed, but for the root.
        ensure!(names.remove(&number).unwrap_or(0) == links, "i_links_count of inode {number}");
    }
    ensure!(names.is_empty(), "names of inodes that are free: {names:?}");
    Ok(())
}

fn check_inodes(layout: &Layout, volume: &[u8]) -> Result<(), String> {
    for number in layout.files(volume) {
        let inode = layout.inode(number);
        let blocks = layout.file_blocks(volume, number);
        let attributes = usize::from(le32(volume, inode + 0x68) != 0);
        let count = (blocks.content.len() + blocks.tree.len() + attributes) * (layout.block_size / 512);
        ensure!(count == le32(volume, inode + 0x1c) as usize, "i_blocks of inode {number}");
        ensure!(le32(volume, inode + 0x14) == 0, "i_dtime of inode {number}");
    }
    Ok(())
}

/// That setting the checksums right changes nothing.
fn check_sums(layout: &Layout, volume: &mut [u8]) -> Result<(), String> {
    for structure in layout.structures.iter().flatten() {
        let range = structure.at..structure.at + structure.length;
        // The sum of a bitmap lies in its descriptor.
        let descriptors = layout.descriptor(0)..layout.descriptor(layout.group_count());
        let before = (volume[range.clone()].to_vec(), volume[descriptors.clone()].to_vec());
        layout.resum(volume, *structure);
        ensure!(volume[range] == before.0[..], "the checksum of {structure:?}");
        ensure!(volume[descriptors] == before.1[..], "the checksum of {structure:?}");
    }
    Ok(())
}
