// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lookups in an index, sound and damaged.

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
