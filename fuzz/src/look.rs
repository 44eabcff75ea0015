// SPDX-License-Identifier: MIT OR Apache-2.0

//! All that there is to see of a mounted volume: every name, attribute and byte, as far as bounds allow; and what a backend
//! promises of each answer.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};
use std::ops::ControlFlow;

use skerry::fs::{Attributes, Errno, FileKind, FileSystem, Node};
use skerry::mem::{Full, Sink};

/// Most files that are looked at.
const FILES: usize = 400;
/// Most entries of a directory that are kept.
const ENTRIES: usize = 4000;
/// Bytes that are read at once, at some places of a file.
const PIECE: u32 = 1 << 15;
/// The longest value of an attribute.
const LONGEST_VALUE: u64 = 64 << 10;

/// How much there was, and a sum of it.
type Digest = Result<(u64, u64), Errno>;

/// Extended attributes, by their names.
type Extended = Vec<(Vec<u8>, Digest)>;

/// What was seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Each file, in the order in which it was come upon.
    pub files: Vec<File>,
    /// Whether there was any damage.
    pub damaged: bool,
}

/// A file, by one of its names.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// What it is for the backend.
    pub node: Node,
    /// The directory that it was found in.
    pub directory: Node,
    /// Its name there; nothing for the root.
    pub name: Vec<u8>,
    /// Its kind, where its attributes can be read.
    pub kind: Option<FileKind>,
    attributes: Result<Attributes, Errno>,
    /// The content, target or entries: how much, and a sum.
    content: Digest,
    extended: Extended,
}

/// A sink that counts and sums.
#[derive(Default)]
struct Summed {
    count: u64,
    sum: DefaultHasher,
}

impl Sink for Summed {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.count += bytes.len() as u64;
        self.sum.write(bytes);
        Ok(())
    }

    fn put_zeros(&mut self, count: usize) -> Result<(), Full> {
        const ZEROS: [u8; 4096] = [0; 4096];
        self.count += count as u64;
        for start in (0..count).step_by(ZEROS.len()) {
            self.sum.write(&ZEROS[..ZEROS.len().min(count - start)]);
        }
        Ok(())
    }
}

impl Summed {
    fn told(&self) -> (u64, u64) {
        (self.count, self.sum.finish())
    }
}

/// Checks that an error is one that a client can be given.
fn known(errno: Errno) -> Errno {
    assert!(errno.name().is_some());
    errno
}

impl Seen {
    /// Looks at everything from the root on.
    #[must_use]
    pub fn of(volume: &dyn FileSystem) -> Self {
        let mut seen = Self::default();
        let mut known_nodes = HashSet::new();
        let root = volume.root();
        let mut left = vec![(root, root, Vec::new())];
        seen.damaged |= volume.status().is_err();
        while let Some((node, directory, name)) = left.pop() {
            if seen.files.len() == FILES {
                break;
            }
            // A file with several names is looked at once for each, but a directory only once: it may hold itself.
            let attributes = volume.attributes(node).map_err(known);
            let kind = attributes.as_ref().ok().map(|attributes| attributes.kind);
            let is_new = known_nodes.insert(node);
            let mut content = Ok((0, 0));
            let mut extended = Vec::new();
            if is_new {
                extended = see_extended(volume, node);
                content = match kind {
                    Some(FileKind::Regular) => {
                        see_content(volume, node, attributes.as_ref().map_or(0, |attributes| attributes.size))
                    }
                    Some(FileKind::Symlink) => see_target(volume, node),
                    Some(FileKind::Directory) => see_entries(volume, node, &mut left),
                    _ => Ok((0, 0)),
                };
            }
            seen.damaged |=
                attributes.is_err() || content.is_err() || extended.iter().any(|(_, value)| value.is_err());
            seen.files.push(File { node, directory, name, kind, attributes, content, extended });
        }
        seen
    }
}

fn see_content(volume: &dyn FileSystem, node: Node, size: u64) -> Digest {
    let mut summed = Summed::default();
    let read = |offset, summed: &mut Summed| {
        let before = summed.count;
        let count = volume.read(node, offset, PIECE, summed).map_err(known)?;
        assert!(count <= PIECE, "no more is read than was asked for");
        assert_eq!(summed.count - before, count.into(), "as much is put as is said");
        let left = size.saturating_sub(offset).min(PIECE.into());
        assert_eq!(u64::from(count), left, "a read is short only at the end of the file");
        Ok(count)
    };
    for offset in [0, size / 4, size / 2, size / 4 * 3, size.saturating_sub(100), size] {
        read(offset, &mut summed)?;
    }
    Ok(summed.told())
}

fn see_target(volume: &dyn FileSystem, node: Node) -> Digest {
    let mut target = Vec::new();
    volume.read_link(node, &mut target).map_err(known)?;
    assert!((1..=4095).contains(&target.len()) && !target.contains(&0), "a target is text");
    let mut summed = Summed::default();
    summed.put(&target).expect("room");
    Ok(summed.told())
}

/// The entries of a directory, which are looked up and go to `left`.
fn see_entries(volume: &dyn FileSystem, node: Node, left: &mut Vec<(Node, Node, Vec<u8>)>) -> Digest {
    let mut summed = Summed::default();
    let mut names = Vec::new();
    let mut middle = 0;
    volume
        .read_directory(node, 0, &mut |entry| {
            assert!((1..=255).contains(&entry.name.len()), "a name is 1 to 255 bytes");
            assert!(
                !entry.name.contains(&b'/') && !entry.name.contains(&0),
                "a name has no slash and no NUL"
            );
            assert!((1..1 << 63).contains(&entry.next));
            summed.put(&entry.number.to_le_bytes()).expect("room");
            summed.put(entry.name).expect("room");
            if names.len() == ENTRIES {
                return ControlFlow::Break(());
            }
            names.push(entry.name.to_vec());
            if names.len() % 16 == 0 {
                middle = entry.next;
            }
            ControlFlow::Continue(())
        })
        .map_err(known)?;
    // From the middle on, too, there is an end.
    let mut count = 0_usize;
    let rest = volume.read_directory(node, middle, &mut |_| {
        count += 1;
        if count > ENTRIES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    rest.map_err(known)?;
    volume.parent(node).map_err(known)?;
    for name in names {
        if name == b"." || name == b".." {
            continue;
        }
        match volume.lookup(node, &name) {
            Ok(found) => left.push((found, node, name)),
            Err(errno) => {
                summed.put(&known(errno).number().to_le_bytes()).expect("room");
                summed.put(&name).expect("room");
            }
        }
    }
    Ok(summed.told())
}

fn see_extended(volume: &dyn FileSystem, node: Node) -> Extended {
    let mut list = Vec::new();
    if let Err(errno) = volume.list_attributes(node, &mut list) {
        return vec![(Vec::new(), Err(known(errno)))];
    }
    assert!(list.last().is_none_or(|last| *last == 0), "each name ends in a NUL");
    list.split_inclusive(|byte| *byte == 0)
        .map(|name| {
            let name = &name[..name.len() - 1];
            let mut summed = Summed::default();
            let value = volume.read_attribute(node, name, &mut summed).map_err(known);
            assert!(summed.count <= LONGEST_VALUE, "a value has at most 64 KiB");
            (name.to_vec(), value.map(|()| summed.told()))
        })
        .collect()
}
