// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a sequence is made of: operations with small numbers, which mean something only in the state that they meet
//! (`resolver`). So a sequence from which operations were taken is still one that makes sense.

use proptest::prelude::*;
use proptest::strategy::Union;

/// One step of a sequence. `s` is the session, `f`, `d` choose fids, `n` names.
#[derive(Debug, Clone)]
pub enum Operation {
    Walk {
        s: u8,
        f: u8,
        n: Vec<u8>,
    },
    Open {
        s: u8,
        f: u8,
        flags: u8,
    },
    WalkOpen {
        s: u8,
        d: u8,
        n: u8,
        flags: u8,
    },
    Create {
        s: u8,
        d: u8,
        n: u8,
        flags: u8,
        mode: u16,
    },
    Symlink {
        s: u8,
        d: u8,
        n: u8,
        length: u16,
    },
    Mknod {
        s: u8,
        d: u8,
        n: u8,
        kind: u8,
        device: u32,
    },
    Mkdir {
        s: u8,
        d: u8,
        n: u8,
        mode: u16,
    },
    Link {
        s: u8,
        d: u8,
        f: u8,
        n: u8,
    },
    Rename {
        s: u8,
        f: u8,
        d: u8,
        n: u8,
    },
    RenameAt {
        s: u8,
        from: u8,
        old: u8,
        to: u8,
        new: u8,
    },
    UnlinkAt {
        s: u8,
        d: u8,
        n: u8,
        flags: u8,
    },
    Remove {
        s: u8,
        f: u8,
    },
    GetAttr {
        s: u8,
        f: u8,
    },
    SetAttr {
        s: u8,
        f: u8,
        valid: u16,
        mode: u16,
        size: u8,
        time: u8,
    },
    Write {
        s: u8,
        f: u8,
        offset: u8,
        length: u8,
        seed: u8,
    },
    Read {
        s: u8,
        f: u8,
        offset: u8,
        length: u8,
    },
    List {
        s: u8,
        f: u8,
        count: u8,
    },
    ReadLink {
        s: u8,
        f: u8,
    },
    StatFs {
        s: u8,
    },
    Fsync {
        s: u8,
        f: u8,
    },
    Clunk {
        s: u8,
        f: u8,
    },
    Attach {
        s: u8,
        n: u8,
    },
    Version {
        s: u8,
    },
    Flush {
        s: u8,
    },
    XattrWalk {
        s: u8,
        f: u8,
        n: u8,
    },
    XattrCreate {
        s: u8,
        f: u8,
        n: u8,
        size: u8,
        flags: u8,
    },
    SetXattr {
        s: u8,
        f: u8,
        n: u8,
        size: u8,
        flags: u8,
    },
    Lock {
        s: u8,
        f: u8,
        kind: u8,
        start: u8,
        length: u8,
        process: u8,
    },
    GetLock {
        s: u8,
        f: u8,
        write: bool,
        start: u8,
        length: u8,
        process: u8,
    },
    /// A lock through a fid that is clunked again, perhaps, and what another process sees of it.
    Contend {
        s: u8,
        f: u8,
        write: bool,
        start: u8,
        length: u8,
        process: u8,
        clunk: bool,
    },
    /// Many names in one directory, for one file.
    Fill {
        s: u8,
        d: u8,
        f: u8,
        count: u8,
    },
    /// Takes them away.
    Drain {
        s: u8,
        d: u8,
        count: u8,
        skip: u8,
    },
    /// Many pieces of content with holes between them.
    Comb {
        s: u8,
        f: u8,
        start: u8,
        count: u8,
        seed: u8,
    },
    /// Takes all space that is left.
    Hog {
        s: u8,
        n: u8,
    },
    Commit,
    Kill,
    Rest,
}

fn name() -> impl Strategy<Value = u8> {
    prop_oneof![12 => 0..8u8, 2 => 8..11u8, 1 => 11..17u8, 14 => 100..108u8]
}

/// Sequences.
pub fn sequences(most: usize) -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec(operation(), 1..most)
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let (s, f) = (0..3u8, prop_oneof![15 => 0..12u8, 1 => 240..=255u8]);
    let (n, f) = (name().boxed(), f.boxed());
    let d = f.clone();
    let weighted: Vec<(u32, BoxedStrategy<Operation>)> = vec![
        (
            6,
            (s.clone(), f.clone(), prop::collection::vec(n.clone(), 0..4))
                .prop_map(|(s, f, n)| O::Walk { s, f, n })
                .boxed(),
        ),
        (4, (s.clone(), f.clone(), any::<u8>()).prop_map(|(s, f, flags)| O::Open { s, f, flags }).boxed()),
        (
            8,
            (s.clone(), d.clone(), n.clone(), any::<u8>())
                .prop_map(|(s, d, n, flags)| O::WalkOpen { s, d, n, flags })
                .boxed(),
        ),
        (
            9,
            (s.clone(), d.clone(), n.clone(), any::<u8>(), any::<u16>())
                .prop_map(|(s, d, n, flags, mode)| O::Create { s, d, n, flags, mode })
                .boxed(),
        ),
        (
            3,
            (s.clone(), d.clone(), n.clone(), prop_oneof![1..80u16, 55..65u16, 1000..4200u16, 0..2u16])
                .prop_map(|(s, d, n, length)| O::Symlink { s, d, n, length })
                .boxed(),
        ),
        (
            3,
            (s.clone(), d.clone(), n.clone(), 0..16u8, any::<u32>())
                .prop_map(|(s, d, n, kind, device)| O::Mknod { s, d, n, kind, device })
                .boxed(),
        ),
        (
            7,
            (s.clone(), d.clone(), n.clone(), any::<u16>())
                .prop_map(|(s, d, n, mode)| O::Mkdir { s, d, n, mode })
                .boxed(),
        ),
        (
            4,
            (s.clone(), d.clone(), f.clone(), n.clone())
                .prop_map(|(s, d, f, n)| O::Link { s, d, f, n })
                .boxed(),
        ),
        (
            3,
            (s.clone(), f.clone(), d.clone(), n.clone())
                .prop_map(|(s, f, d, n)| O::Rename { s, f, d, n })
                .boxed(),
        ),
        (
            7,
            (s.clone(), d.clone(), n.clone(), d.clone(), n.clone())
                .prop_map(|(s, from, old, to, new)| O::RenameAt { s, from, old, to, new })
                .boxed(),
        ),
        (
            8,
            (s.clone(), d.clone(), n.clone(), 0..16u8)
                .prop_map(|(s, d, n, flags)| O::UnlinkAt { s, d, n, flags })
                .boxed(),
        ),
        (2, (s.clone(), f.clone()).prop_map(|(s, f)| O::Remove { s, f }).boxed()),
        (2, (s.clone(), f.clone()).prop_map(|(s, f)| O::GetAttr { s, f }).boxed()),
        (
            7,
            (s.clone(), f.clone(), any::<u16>(), any::<u16>(), any::<u8>(), any::<u8>())
                .prop_map(|(s, f, valid, mode, size, time)| O::SetAttr { s, f, valid, mode, size, time })
                .boxed(),
        ),
        (
            14,
            (s.clone(), f.clone(), any::<u8>(), any::<u8>(), any::<u8>())
                .prop_map(|(s, f, offset, length, seed)| O::Write { s, f, offset, length, seed })
                .boxed(),
        ),
        (
            4,
            (s.clone(), f.clone(), any::<u8>(), any::<u8>())
                .prop_map(|(s, f, offset, length)| O::Read { s, f, offset, length })
                .boxed(),
        ),
        (3, (s.clone(), f.clone(), any::<u8>()).prop_map(|(s, f, count)| O::List { s, f, count }).boxed()),
        (1, (s.clone(), f.clone()).prop_map(|(s, f)| O::ReadLink { s, f }).boxed()),
        (1, s.clone().prop_map(|s| O::StatFs { s }).boxed()),
        (2, (s.clone(), f.clone()).prop_map(|(s, f)| O::Fsync { s, f }).boxed()),
        (7, (s.clone(), f.clone()).prop_map(|(s, f)| O::Clunk { s, f }).boxed()),
        (1, (s.clone(), n.clone()).prop_map(|(s, n)| O::Attach { s, n }).boxed()),
        (1, s.clone().prop_map(|s| O::Version { s }).boxed()),
        (1, s.clone().prop_map(|s| O::Flush { s }).boxed()),
        (2, (s.clone(), f.clone(), 0..12u8).prop_map(|(s, f, n)| O::XattrWalk { s, f, n }).boxed()),
        (
            2,
            (s.clone(), f.clone(), 0..12u8, any::<u8>(), 0..16u8)
                .prop_map(|(s, f, n, size, flags)| O::XattrCreate { s, f, n, size, flags })
                .boxed(),
        ),
        (
            7,
            (s.clone(), f.clone(), 0..12u8, any::<u8>(), 0..16u8)
                .prop_map(|(s, f, n, size, flags)| O::SetXattr { s, f, n, size, flags })
                .boxed(),
        ),
        (
            5,
            (s.clone(), f.clone(), 0..3u8, 0..20u8, 0..9u8, 0..2u8)
                .prop_map(|(s, f, kind, start, length, process)| O::Lock {
                    s,
                    f,
                    kind,
                    start,
                    length,
                    process,
                })
                .boxed(),
        ),
        (
            2,
            (s.clone(), f.clone(), any::<bool>(), 0..20u8, 0..9u8, 0..2u8)
                .prop_map(|(s, f, write, start, length, process)| O::GetLock {
                    s,
                    f,
                    write,
                    start,
                    length,
                    process,
                })
                .boxed(),
        ),
        (
            4,
            (s.clone(), f.clone(), any::<bool>(), 0..20u8, 0..9u8, 0..2u8, any::<bool>())
                .prop_map(|(s, f, write, start, length, process, clunk)| O::Contend {
                    s,
                    f,
                    write,
                    start,
                    length,
                    process,
                    clunk,
                })
                .boxed(),
        ),
        (
            2,
            (s.clone(), d.clone(), f.clone(), 1..40u8)
                .prop_map(|(s, d, f, count)| O::Fill { s, d, f, count })
                .boxed(),
        ),
        (
            2,
            (s.clone(), d.clone(), 1..60u8, 0..4u8)
                .prop_map(|(s, d, count, skip)| O::Drain { s, d, count, skip })
                .boxed(),
        ),
        (
            2,
            (s.clone(), f.clone(), any::<u8>(), 1..150u8, any::<u8>())
                .prop_map(|(s, f, start, count, seed)| O::Comb { s, f, start, count, seed })
                .boxed(),
        ),
        (1, (s.clone(), n.clone()).prop_map(|(s, n)| O::Hog { s, n }).boxed()),
        (24, Just(O::Commit).boxed()),
        (1, Just(O::Kill).boxed()),
        (1, Just(O::Rest).boxed()),
    ];
    Union::new_weighted(weighted)
}

impl Operation {
    /// The session that it is of, if it is a client's.
    pub fn session(&self) -> Option<usize> {
        use Operation as O;
        match self {
            O::Walk { s, .. }
            | O::Open { s, .. }
            | O::WalkOpen { s, .. }
            | O::Create { s, .. }
            | O::Symlink { s, .. }
            | O::Mknod { s, .. }
            | O::Mkdir { s, .. }
            | O::Link { s, .. }
            | O::Rename { s, .. }
            | O::RenameAt { s, .. }
            | O::UnlinkAt { s, .. }
            | O::Remove { s, .. }
            | O::GetAttr { s, .. }
            | O::SetAttr { s, .. }
            | O::Write { s, .. }
            | O::Read { s, .. }
            | O::List { s, .. }
            | O::ReadLink { s, .. }
            | O::StatFs { s }
            | O::Fsync { s, .. }
            | O::Clunk { s, .. }
            | O::Attach { s, .. }
            | O::Version { s }
            | O::Flush { s }
            | O::XattrWalk { s, .. }
            | O::XattrCreate { s, .. }
            | O::SetXattr { s, .. }
            | O::Lock { s, .. }
            | O::GetLock { s, .. }
            | O::Contend { s, .. }
            | O::Fill { s, .. }
            | O::Drain { s, .. }
            | O::Comb { s, .. }
            | O::Hog { s, .. } => Some(usize::from(*s)),
            O::Commit | O::Kill | O::Rest => None,
        }
    }
}
