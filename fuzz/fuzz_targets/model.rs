// SPDX-License-Identifier: MIT OR Apache-2.0

//! The sequences of `tests/model.rs`, steered by coverage instead of by chance: requests of three clients against the real server
//! and against its model in memory, compared after each, with kills between, and `e2fsck` in the end.

#![no_main]

#[allow(dead_code, reason = "the test has uses for all of it")]
#[path = "../../tests/model/mod.rs"]
mod model;

use std::sync::OnceLock;

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use model::comparison::Pair;
use model::operation::Operation;
use model::server::Flavour;

/// Most operations of a sequence.
const LONGEST: usize = 60;

const SAME: &str = "hash_seed=5be2219e-0000-4000-8000-5ce2219e5ce2";

static FLAVOURS: [Flavour; 2] = [
    Flavour {
        name: "1 KiB blocks",
        size: "2600K",
        bad_blocks: 0..0,
        options: &["-b", "1024", "-I", "256", "-N", "64", "-J", "size=1", "-E", SAME],
        block_size: 1024,
        large_inodes: true,
        image: OnceLock::new(),
    },
    Flavour {
        name: "1 KiB blocks, small inodes, without checksums",
        size: "2600K",
        bad_blocks: 0..0,
        options: &[
            "-b",
            "1024",
            "-I",
            "128",
            "-N",
            "64",
            "-J",
            "size=1",
            "-E",
            SAME,
            "-O",
            "^metadata_csum,^64bit,^flex_bg,uninit_bg",
        ],
        block_size: 1024,
        large_inodes: false,
        image: OnceLock::new(),
    },
];

#[derive(Debug)]
struct Input {
    flavour: usize,
    sequence: Vec<Operation>,
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let flavour = usize::from(u8::arbitrary(u)?) % FLAVOURS.len();
        let mut sequence = Vec::new();
        while sequence.len() < LONGEST && !u.is_empty() {
            sequence.push(operation(u)?);
        }
        Ok(Self { flavour, sequence })
    }
}

/// A byte below `limit`.
fn below(u: &mut Unstructured<'_>, limit: u8) -> Result<u8> {
    Ok(u8::arbitrary(u)? % limit)
}

/// A name, as the resolver takes it: new and good, new and bad, or of the directory.
fn name(u: &mut Unstructured<'_>) -> Result<u8> {
    let byte = u8::arbitrary(u)?;
    Ok(if byte & 0x80 == 0 { byte % 17 } else { 100 + byte % 8 })
}

/// What chooses a fid.
fn fid(u: &mut Unstructured<'_>) -> Result<u8> {
    let byte = u8::arbitrary(u)?;
    Ok(if byte < 240 { byte % 12 } else { byte })
}

/// One operation; all have the ranges of the test.
fn operation(u: &mut Unstructured<'_>) -> Result<Operation> {
    use Operation as O;
    let kind = below(u, 40)?;
    let s = below(u, 3)?;
    Ok(match kind {
        0 => {
            let f = fid(u)?;
            let count = below(u, 4)?;
            O::Walk { s, f, n: (0..count).map(|_| name(u)).collect::<Result<_>>()? }
        }
        1 => O::Open { s, f: fid(u)?, flags: u8::arbitrary(u)? },
        2 | 35 => O::WalkOpen { s, d: fid(u)?, n: name(u)?, flags: u8::arbitrary(u)? },
        3 | 36 => {
            O::Create { s, d: fid(u)?, n: name(u)?, flags: u8::arbitrary(u)?, mode: u16::arbitrary(u)? }
        }
        4 => O::Symlink { s, d: fid(u)?, n: name(u)?, length: u16::arbitrary(u)? % 4200 },
        5 => O::Mknod { s, d: fid(u)?, n: name(u)?, kind: below(u, 16)?, device: u32::arbitrary(u)? },
        6 => O::Mkdir { s, d: fid(u)?, n: name(u)?, mode: u16::arbitrary(u)? },
        7 => O::Link { s, d: fid(u)?, f: fid(u)?, n: name(u)? },
        8 => O::Rename { s, f: fid(u)?, d: fid(u)?, n: name(u)? },
        9 => O::RenameAt { s, from: fid(u)?, old: name(u)?, to: fid(u)?, new: name(u)? },
        10 => O::UnlinkAt { s, d: fid(u)?, n: name(u)?, flags: below(u, 16)? },
        11 => O::Remove { s, f: fid(u)? },
        12 => O::GetAttr { s, f: fid(u)? },
        13 => O::SetAttr {
            s,
            f: fid(u)?,
            valid: u16::arbitrary(u)?,
            mode: u16::arbitrary(u)?,
            size: u8::arbitrary(u)?,
            time: u8::arbitrary(u)?,
        },
        14 | 37 => O::Write {
            s,
            f: fid(u)?,
            offset: u8::arbitrary(u)?,
            length: u8::arbitrary(u)?,
            seed: below(u, 8)?,
        },
        15 => O::Read { s, f: fid(u)?, offset: u8::arbitrary(u)?, length: u8::arbitrary(u)? },
        16 => O::List { s, f: fid(u)?, count: u8::arbitrary(u)? },
        17 => O::ReadLink { s, f: fid(u)? },
        18 => O::StatFs { s },
        19 => O::Fsync { s, f: fid(u)? },
        20 => O::Clunk { s, f: fid(u)? },
        21 => O::Attach { s, n: name(u)? },
        22 => O::Version { s },
        23 => O::Flush { s },
        24 => O::XattrWalk { s, f: fid(u)?, n: below(u, 12)? },
        25 => {
            O::XattrCreate { s, f: fid(u)?, n: below(u, 12)?, size: u8::arbitrary(u)?, flags: below(u, 16)? }
        }
        26 => O::SetXattr { s, f: fid(u)?, n: below(u, 12)?, size: u8::arbitrary(u)?, flags: below(u, 16)? },
        27 => O::Lock {
            s,
            f: fid(u)?,
            kind: below(u, 3)?,
            start: below(u, 20)?,
            length: below(u, 9)?,
            process: below(u, 2)?,
        },
        28 => O::GetLock {
            s,
            f: fid(u)?,
            write: bool::arbitrary(u)?,
            start: below(u, 20)?,
            length: below(u, 9)?,
            process: below(u, 2)?,
        },
        29 => O::Contend {
            s,
            f: fid(u)?,
            write: bool::arbitrary(u)?,
            start: below(u, 20)?,
            length: below(u, 9)?,
            process: below(u, 2)?,
            clunk: bool::arbitrary(u)?,
        },
        30 => O::Fill { s, d: fid(u)?, f: fid(u)?, count: 1 + below(u, 39)? },
        31 => O::Drain { s, d: fid(u)?, count: 1 + below(u, 59)?, skip: below(u, 4)? },
        32 => {
            O::Comb { s, f: fid(u)?, start: u8::arbitrary(u)?, count: 1 + below(u, 149)?, seed: below(u, 8)? }
        }
        33 => O::Hog { s, n: name(u)? },
        34 => O::Kill,
        _ => O::Commit,
    })
}

fuzz_target!(|input: Input| {
    let mut pair = Pair::new(&FLAVOURS[input.flavour]).expect("a new volume");
    if let Err(error) = pair.run(&input.sequence, false) {
        panic!("{}=> {error}\nfrom {:#?}", pair.log, input.sequence);
    }
});
