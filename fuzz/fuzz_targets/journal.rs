// SPDX-License-Identifier: MIT OR Apache-2.0

//! Volumes whose journal is to be replayed, of the core's own making and in the formats of Linux, with blocks of the journal
//! changed and their checksums set right or not. Recovery ends, stays in the region, and does the same each time: from the same
//! bytes, and after a death at any store of it.

#![no_main]

use std::cell::RefCell;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use skerry::ext4::Volume;
use skerry::fs::{FileSystem, Timestamp};
use skerry::mem::region::{FlushFault, MappedRegion, Region};
use skerry_fuzz::change::{Change, Changes};
use skerry_fuzz::check;
use skerry_fuzz::guarded::Guarded;
use skerry_fuzz::journal::Journal;
use skerry_fuzz::look::Seen;
use skerry_fuzz::mounted::{self, Memory};
use skerry_fuzz::sequence::Few;
use skerry_fuzz::structure::Layout;
use skerry_fuzz::told;
use skerry_fuzz::volumes::{FLAVOURS, WRITTEN, debugfs, kept, plain};

#[derive(Debug, Arbitrary)]
struct Input {
    base: u8,
    /// Checksums are set right after the damage.
    summed: bool,
    /// The store of the recovery at which it dies, to be started again.
    dies_at: u16,
    damages: Few<Damage>,
}

/// A damage to a block of the log.
#[derive(Debug, Arbitrary)]
struct Damage {
    /// 0 is the superblock of the journal.
    block: u8,
    offset: u16,
    value: Value,
}

#[derive(Debug, Arbitrary)]
enum Value {
    Byte(u8),
    /// Big-endian, as all of a journal is.
    Half(u16),
    Word(u32),
    Flip(u8),
    Add(i8),
    Zeros(u8),
    /// All of another block of the log.
    CopyOf(u8),
    /// The number of this byte of the volume's block: a tag for the journal itself, or the superblock, can be made of it.
    BlockOf(u8),
}

/// Blocks of the log that are damaged.
const BLOCKS: usize = 60;

struct Base {
    name: &'static str,
    memory: RefCell<Guarded>,
    layout: Layout,
    journal: Journal,
    /// Whether the core wrote it, so that every volume that comes of it undamaged is whole.
    own: Option<usize>,
}

/// What the core wrote before it died.
fn work() -> Vec<Change> {
    let mut work = Vec::new();
    for round in 0..6_u8 {
        work.extend([
            Change::Create { directory: round, name: 9 + round, kind: round },
            Change::Create { directory: 0, name: 20 + round, kind: 0 },
            Change::Write {
                file: 1 + 2 * round,
                offset: 700 * u32::from(round),
                length: 3000,
                append: false,
            },
            Change::Commit,
            Change::Resize { file: 4 * round, size: 100, far: false },
            Change::SetExtended { file: 1, name: round, length: 300, existence: 0 },
            Change::Retain { file: 1 },
            Change::Remove { file: 1, directory: round == 2 },
            Change::Remove { file: 6 + 2 * round, directory: false },
            Change::Commit,
        ]);
        if round == 3 {
            work.push(Change::Synchronize);
        }
    }
    work
}

/// A volume of flavour `number` as the core leaves it when it dies.
fn killed(number: usize) -> Guarded {
    let memory = Guarded::of_file(&plain(&FLAVOURS[number]));
    // SAFETY: the volume is gone before anybody else looks at the memory.
    let mut volume = unsafe { mounted::mount(&memory, true) }.unwrap();
    let seen = Seen::of(&volume);
    Changes::new(&seen).carry_out_all(&mut volume, &work());
    volume.commit().unwrap();
    drop(volume);
    memory
}

thread_local! {
    static BASES: LazyLock<Vec<Base>> = LazyLock::new(|| {
        told::install();
        let mut bases = Vec::new();
        for (number, name) in ["own-1-kib", "own-4-kib", "own-small"].into_iter().enumerate().take(WRITTEN) {
            let own = check::own_blocks(Guarded::of_file(&plain(&FLAVOURS[number])).bytes());
            let file = kept(name, |path| std::fs::write(path, killed(number).bytes()).unwrap());
            bases.push(base(name, &file, Some(own)));
        }
        for (name, version, flavour) in [("linux-3", " -c -v 3", 0), ("linux-2", " -c -v 2", 1), ("linux-1", "", 2)] {
            let file = kept(name, |path| {
                let volume = plain(&FLAVOURS[flavour]);
                std::fs::write(path, Guarded::of_file(&volume).bytes()).unwrap();
                // One of the blocks begins with the magic number of the journal, and is escaped there.
                let size = Layout::of(Guarded::of_file(&volume).bytes()).block_size;
                let mut bytes = vec![0x3c; 2 * size];
                bytes[size..size + 4].copy_from_slice(&[0xc0, 0x3b, 0x39, 0x98]);
                let content = path.with_extension("content");
                std::fs::write(&content, bytes).unwrap();
                let requests = [
                    &format!("journal_open{version}"),
                    "journal_write -b 1901,1902,1903 /dev/zero",
                    "journal_write -r 1903",
                    &format!("journal_write -b 1904,1905 {}", content.display()),
                    "journal_close",
                ];
                debugfs(path, &requests.map(str::to_owned));
                std::fs::remove_file(content).unwrap();
            });
            bases.push(base(name, &file, None));
        }
        bases
    });
}

fn base(name: &'static str, file: &std::fs::File, own: Option<usize>) -> Base {
    let mut memory = Guarded::of_file(file);
    // The home blocks of the journal's inode are of the last unmount, which left it as it is.
    let layout = Layout::of(memory.bytes());
    let journal = Journal::of(memory.bytes(), &layout);
    // What is sound stays as it is: the sums of this program are those of the journal.
    let before = memory.bytes().to_vec();
    journal.resum(memory.bytes_mut());
    let changed = memory.bytes().iter().zip(&before).filter(|(one, other)| one != other).count();
    assert_eq!(changed, 0, "{name}: checksums that were right");
    Base { name, memory: RefCell::new(memory), layout, journal, own }
}

fn apply(volume: &mut [u8], base: &Base, log: &[usize], damage: &Damage) {
    let size = base.layout.block_size;
    let choose = |block: u8| log[usize::from(block) % log.len()];
    let start = choose(damage.block);
    // Headers and tags are at the beginning of a block.
    let offset = usize::from(damage.offset) % if damage.offset & 0x8000 == 0 { 0x80 } else { size };
    let place = &mut volume[start + offset..start + size];
    let put = |place: &mut [u8], bytes: &[u8]| {
        let length = bytes.len().min(place.len());
        place[..length].copy_from_slice(&bytes[..length]);
    };
    match damage.value {
        Value::Byte(value) => put(place, &[value]),
        Value::Half(value) => put(place, &value.to_be_bytes()),
        Value::Word(value) => put(place, &value.to_be_bytes()),
        Value::Flip(bit) => place[0] ^= 1 << (bit % 8),
        Value::Add(value) => place[0] = place[0].wrapping_add_signed(value),
        Value::Zeros(length) => {
            let length = usize::from(length).min(place.len());
            place[..length].fill(0);
        }
        Value::CopyOf(block) => volume.copy_within(choose(block)..choose(block) + size, start),
        Value::BlockOf(block) => {
            put(place, &u32::try_from(choose(block) / size).unwrap().to_be_bytes());
        }
    }
}

/// A region whose owner dies at a store.
struct Mortal {
    region: MappedRegion<Memory>,
    left: u32,
}

impl Mortal {
    fn alive(&mut self) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        Some(())
    }
}

impl Region for Mortal {
    fn len(&self) -> u64 {
        self.region.len()
    }

    fn bytes(&self, offset: u64, length: usize) -> Option<&[u8]> {
        self.region.bytes(offset, length)
    }

    fn bytes_mut(&mut self, offset: u64, length: usize) -> Option<&mut [u8]> {
        self.alive()?;
        self.region.bytes_mut(offset, length)
    }

    fn publish(&mut self, offset: u64, bytes: [u8; 4]) -> Option<()> {
        self.alive()?;
        self.region.publish(offset, bytes)
    }

    fn publish_pair(&mut self, offset: u64, bytes: [u8; 8]) -> Option<()> {
        self.alive()?;
        self.region.publish_pair(offset, bytes)
    }

    fn flush(&mut self) -> Result<(), FlushFault> {
        if self.left == 0 { Err(FlushFault) } else { self.region.flush() }
    }
}

fn noon() -> Timestamp {
    Timestamp { seconds: 1_800_000_000, nanoseconds: 4_000_000 }
}

/// What is seen of the volume after recovery, if it can be mounted.
fn recover(memory: &Guarded) -> Option<Seen> {
    // SAFETY: the volume is gone before the memory is looked at.
    let volume = unsafe { mounted::mount(memory, true) }.ok()?;
    Some(Seen::of(&volume))
}

/// Makes the memory what the input says.
fn prepare(memory: &mut Guarded, base: &Base, input: &Input) {
    memory.restore();
    let log = base.journal.log(memory.bytes(), BLOCKS);
    for damage in &input.damages.0 {
        apply(memory.bytes_mut(), base, &log, damage);
    }
    if input.summed {
        base.journal.resum(memory.bytes_mut());
    }
}

fn run(base: &Base, input: &Input) {
    let mut memory = base.memory.borrow_mut();
    prepare(&mut memory, base, input);
    let is_whole = input.damages.0.is_empty();
    let first = recover(&memory);
    assert!(first.is_some() || !is_whole, "{} is recovered", base.name);
    if first.is_some() {
        // From where that died: after its recovery.
        let again = recover(&memory);
        assert!(first == again, "{}: recovery of what was recovered changes nothing", base.name);
    }
    // From the same bytes, but with a death on the way.
    prepare(&mut memory, base, input);
    // SAFETY: the region is gone with the volume at the end of the statement.
    let region = unsafe { MappedRegion::writable(memory.start(), memory.len(), Memory) };
    let mortal = Mortal { region, left: u32::from(input.dies_at) };
    drop(Volume::mount_writable(mortal, noon));
    let second = recover(&memory);
    assert!(!is_whole || first == second, "{}: a death during recovery is not seen", base.name);
    // The orderly end.
    // SAFETY: as in `recover`.
    if let Ok(volume) = unsafe { mounted::mount(&memory, true) } {
        let ended = volume.unmount().map(|_| ());
        assert!(ended.is_ok() || !is_whole);
        if is_whole && let Some(own) = base.own {
            check::check(memory.bytes_mut(), own).unwrap();
        }
    }
}

fuzz_target!(|input: Input| {
    BASES.with(|bases| {
        let base = &bases[usize::from(input.base) % bases.len()];
        run(base, &input);
        base.memory.borrow_mut().restore();
    });
});
