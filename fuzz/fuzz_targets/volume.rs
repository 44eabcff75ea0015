// SPDX-License-Identifier: MIT OR Apache-2.0

//! Volumes that `mkfs.ext4` made, changed at the places of their structures, with checksums set right or not. Such a volume is
//! mounted, all of it is read, some of it is written, and it is unmounted; nothing panics, takes long, or leaves the region. A
//! volume that was not damaged is whole afterwards, and shows what it showed before.

#![no_main]

use std::cell::RefCell;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use skerry::fs::FileSystem;
use skerry_fuzz::change::{Change, Changes};
use skerry_fuzz::check;
use skerry_fuzz::guarded::Guarded;
use skerry_fuzz::look::Seen;
use skerry_fuzz::mounted;
use skerry_fuzz::sequence::{Few, Rest};
use skerry_fuzz::structure::{Layout, ROOT, Structure};
use skerry_fuzz::told;
use skerry_fuzz::volumes::{FLAVOURS, plain};

#[derive(Debug, Arbitrary)]
struct Input {
    flavour: u8,
    /// Mounted to be read only.
    readonly: bool,
    /// Checksums are set right after the damage.
    summed: bool,
    damages: Few<Damage>,
    changes: Rest<Change>,
}

/// A damage to a structure: which kind, which of them, where in it.
#[derive(Debug, Arbitrary)]
struct Damage {
    kind: u8,
    index: u16,
    offset: u16,
    value: Value,
}

#[derive(Debug, Arbitrary)]
enum Value {
    Byte(u8),
    Half(u16),
    Word(u32),
    Long(u64),
    Flip(u8),
    Add(i8),
    Fill(u8, u8),
    /// The number of the block of another structure.
    BlockOf(u8, u16),
    /// All of another structure.
    CopyOf(u8, u16),
}

/// Most changes with one input.
const CHANGES: usize = 40;

/// A volume, where its structures are, and how many blocks are its own.
struct Base {
    memory: RefCell<Guarded>,
    layout: Layout,
    own: usize,
}

thread_local! {
    static BASES: LazyLock<Vec<Base>> = LazyLock::new(|| {
        told::install();
        FLAVOURS.iter().map(|flavour| {
            let mut memory = Guarded::of_file(&plain(flavour));
            let layout = Layout::of(memory.bytes());
            let own = check::own_blocks(memory.bytes());
            if flavour.written {
                check::check(memory.bytes_mut(), own).unwrap();
                control(&mut memory, &layout, own);
            }
            Base { memory: RefCell::new(memory), layout, own }
        }).collect()
    });
}

/// That the checker finds what is wrong, with the checksums right.
fn control(memory: &mut Guarded, layout: &Layout, own: usize) {
    let root = layout.inode(ROOT);
    let number_of_links = root + 0x1a;
    let (blocks, inodes) = layout.bitmaps(0);
    let of_root = layout.file_blocks(memory.bytes(), ROOT).content[0].1 - layout.first_block;
    let bit = |bitmap: usize, bit: u64| (bitmap + bit as usize / 8, 1_u8 << (bit % 8));
    for (place, flip) in [
        bit(blocks, of_root),
        bit(blocks, layout.blocks - layout.first_block - 1),
        bit(inodes, u64::from(layout.inodes_per_group) - 1),
        (number_of_links, 1),
        (root + 0x1c, 1),
        (layout.descriptor(0) + 0xc, 1),
        (1024 + 0x10, 1),
    ] {
        memory.bytes_mut()[place] ^= flip;
        for structure in layout.structures.iter().flatten() {
            layout.resum(memory.bytes_mut(), *structure);
        }
        assert!(check::check(memory.bytes_mut(), own).is_err(), "a wrong bit at {place:#x} is found");
        memory.restore();
    }
}

fn choose(layout: &Layout, kind: u8, index: u16) -> Structure {
    let of = &layout.structures[usize::from(kind) % layout.structures.len()];
    of[usize::from(index) % of.len()]
}

fn apply(volume: &mut [u8], layout: &Layout, damage: &Damage) -> Structure {
    let structure = choose(layout, damage.kind, damage.index);
    let offset = usize::from(damage.offset) % structure.length;
    let place = &mut volume[structure.at + offset..structure.at + structure.length];
    let put = |place: &mut [u8], bytes: &[u8]| {
        let length = bytes.len().min(place.len());
        place[..length].copy_from_slice(&bytes[..length]);
    };
    match damage.value {
        Value::Byte(value) => put(place, &[value]),
        Value::Half(value) => put(place, &value.to_le_bytes()),
        Value::Word(value) => put(place, &value.to_le_bytes()),
        Value::Long(value) => put(place, &value.to_le_bytes()),
        Value::Flip(bit) => place[0] ^= 1 << (bit % 8),
        Value::Add(value) => place[0] = place[0].wrapping_add_signed(value),
        Value::Fill(value, length) => {
            let length = usize::from(length).min(place.len());
            place[..length].fill(value);
        }
        Value::BlockOf(kind, index) => {
            let block = choose(layout, kind, index).at / layout.block_size;
            put(place, &u32::try_from(block).unwrap().to_le_bytes());
        }
        Value::CopyOf(kind, index) => {
            let other = choose(layout, kind, index);
            let length = other.length.min(structure.length);
            volume.copy_within(other.at..other.at + length, structure.at);
        }
    }
    structure
}

fn run(base: &Base, input: &Input, written: bool) {
    let mut memory = base.memory.borrow_mut();
    let mut damaged = Vec::new();
    for damage in &input.damages.0 {
        damaged.push(apply(memory.bytes_mut(), &base.layout, damage));
    }
    if input.summed {
        for structure in damaged {
            base.layout.resum(memory.bytes_mut(), structure);
        }
    }
    let is_whole = input.damages.0.is_empty();
    // SAFETY: the volume is gone before the memory is looked at below.
    let mounted = unsafe { mounted::mount(&memory, !input.readonly) };
    assert!(mounted.is_ok() || !is_whole);
    let Ok(mut volume) = mounted else { return };
    let seen = Seen::of(&volume);
    assert!(!is_whole || !seen.damaged);
    let mut changes = Changes::new(&seen);
    let wanted = &input.changes.0[..input.changes.0.len().min(CHANGES)];
    if !wanted.is_empty() {
        changes.carry_out_all(&mut volume, wanted);
        let _ = volume.commit();
    }
    changes.release_all(&mut volume);
    let left = is_whole.then(|| Seen::of(&volume));
    let unmounted = volume.unmount().map(|_| ());
    assert!(unmounted.is_ok() || !is_whole);
    if is_whole && written {
        check::check(memory.bytes_mut(), base.own).unwrap();
    }
    if wanted.is_empty() {
        return;
    }
    // SAFETY: as above.
    match unsafe { mounted::mount(&memory, false) } {
        Ok(volume) => {
            let again = Seen::of(&volume);
            assert!(
                left.is_none_or(|left| left == again),
                "what was seen before the unmount is seen after it"
            );
        }
        Err(error) => assert!(!is_whole, "{error}"),
    }
}

fuzz_target!(|input: Input| {
    BASES.with(|bases| {
        let number = usize::from(input.flavour) % bases.len();
        run(&bases[number], &input, FLAVOURS[number].written);
        bases[number].memory.borrow_mut().restore();
    });
});
