// SPDX-License-Identifier: MIT OR Apache-2.0

//! A whole volume, compared with what `debugfs` says of it: every inode's attributes and mapping, every directory, every
//! content, every extended attribute.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use skerry::ext4::Volume;
use skerry::fs::{Errno, FileKind, FileSystem, Node};

use super::debugfs::{self, Stat};

/// The length of contents, in bytes, up to which `debugfs` dumps them. Of a longer file, which is mostly holes, the mapping is
/// compared.
const LONGEST: u64 = 64 << 20;

pub type OurVolume = Volume<Vec<u8>>;

/// A directory entry: inode, kind, next position, name.
type OurEntry = (u64, FileKind, u64, Vec<u8>);

fn list(volume: &OurVolume, directory: Node, position: u64, limit: usize) -> Vec<OurEntry> {
    let mut entries = Vec::new();
    volume
        .read_directory(directory, position, &mut |entry| {
            entries.push((entry.number, entry.kind, entry.next, entry.name.to_vec()));
            if entries.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap_or_else(|error| panic!("directory {directory:?} from {position}: {error}"));
    entries
}

/// The inode number of a node: its lower half. The upper half is the inode's generation.
fn inode_of(node: Node) -> u64 {
    node.0 & u64::from(u32::MAX)
}

/// Every file below the root, in no particular order. Looks up every name, and each directory's parent.
pub fn walk(volume: &OurVolume) -> Vec<Node> {
    let mut found = vec![volume.root()];
    let mut directories = vec![(volume.root(), volume.root())];
    while let Some((directory, parent)) = directories.pop() {
        assert_eq!(volume.parent(directory), Ok(parent));
        for (inode, kind, _, name) in list(volume, directory, 0, usize::MAX) {
            if name == b"." || name == b".." {
                continue;
            }
            let node = volume.lookup(directory, &name);
            let node = node.unwrap_or_else(|error| panic!("{}: {error}", name.escape_ascii()));
            assert_eq!(inode_of(node), inode, "{}", name.escape_ascii());
            let mut absent = name.clone();
            *absent.last_mut().unwrap() ^= 0x80;
            assert_eq!(volume.lookup(directory, &absent), Err(Errno::ENOENT), "{}", absent.escape_ascii());
            if found.contains(&node) {
                continue;
            }
            found.push(node);
            if kind == FileKind::Directory {
                directories.push((node, directory));
            } else {
                assert_eq!(volume.lookup(node, b"name"), Err(Errno::ENOTDIR));
                assert_eq!(volume.parent(node), Err(Errno::ENOTDIR));
                assert_eq!(
                    volume.read_directory(node, 0, &mut |_| ControlFlow::Continue(())),
                    Err(Errno::ENOTDIR)
                );
            }
        }
    }
    found
}

/// Compares the attributes of each inode with `stat`.
pub fn compare_stats(volume: &OurVolume, image: &Path, found: &[Node]) -> BTreeMap<Node, Stat> {
    let commands: Vec<_> = found.iter().map(|node| format!("stat <{}>", inode_of(*node))).collect();
    let outputs = debugfs::script(image, false, &commands);
    let mut stats = BTreeMap::new();
    for (node, output) in found.iter().zip(outputs) {
        let stat = Stat::parse(&output);
        let ours = volume.attributes(*node).unwrap_or_else(|error| panic!("{node:?}: {error}"));
        let context = String::from_utf8_lossy(&output);
        assert_eq!(ours.kind, stat.kind, "kind: {context}");
        assert_eq!(ours.mode, (stat.kind as u32) << 12 | stat.permissions, "mode: {context}");
        assert_eq!((ours.uid, ours.gid), (stat.uid, stat.gid), "owner: {context}");
        assert_eq!(ours.links, stat.links, "links: {context}");
        assert_eq!(ours.device, stat.device, "device: {context}");
        assert_eq!(ours.size, stat.size, "size: {context}");
        // Linux counts the sectors of a file in its inode, so that nobody takes it for one hole.
        let inline =
            if stat.kind == FileKind::Regular && stat.is_inline() { stat.size.div_ceil(512) } else { 0 };
        assert_eq!(ours.blocks, stat.blocks + inline, "blocks: {context}");
        assert_eq!(ours.accessed, stat.accessed, "atime: {context}");
        assert_eq!(ours.modified, stat.modified, "mtime: {context}");
        assert_eq!(ours.changed, stat.changed, "ctime: {context}");
        assert_eq!(ours.created, stat.created, "crtime: {context}");
        assert_eq!(ours.generation, Some(stat.generation), "generation: {context}");
        assert_eq!(ours.data_version, Some(stat.version), "version: {context}");
        if matches!(stat.kind, FileKind::Regular | FileKind::Directory) {
            assert_eq!(mapping(volume, *node), stat.mapping, "extents: {context}");
        }
        stats.insert(*node, stat);
    }
    stats
}

/// Which block of the volume holds each block of a file, where it was written.
fn mapping(volume: &OurVolume, node: Node) -> BTreeMap<u64, u64> {
    let mut mapping = BTreeMap::new();
    volume
        .visit_runs(node, &mut |run| {
            mapping.extend(run.physical.into_iter().flat_map(|first| run.blocks.clone().zip(first..)))
        })
        .unwrap();
    mapping
}

/// Compares each directory with `ls -p`: the same entries, in an order of their own. Reads it in pieces too.
pub fn compare_directories(volume: &OurVolume, image: &Path, stats: &BTreeMap<Node, Stat>) {
    let directories: Vec<_> =
        stats.iter().filter(|(_, stat)| stat.kind == FileKind::Directory).map(|(node, _)| *node).collect();
    let commands: Vec<_> = directories.iter().map(|node| format!("ls -p <{}>", inode_of(*node))).collect();
    for (directory, output) in directories.into_iter().zip(debugfs::script(image, false, &commands)) {
        let inode = inode_of(directory);
        let whole = list(volume, directory, 0, usize::MAX);
        let mut ours: Vec<_> =
            (whole.iter()).map(|(inode, kind, _, name)| (name.clone(), *inode, *kind as u32)).collect();
        let mut theirs: Vec<_> = (debugfs::entries(&output).into_iter())
            .map(|entry| (entry.name, entry.inode, entry.mode >> 12))
            .collect();
        assert_eq!((&ours[0].0[..], &ours[1].0[..]), (&b"."[..], &b".."[..]), "directory {inode}");
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "directory {inode}");

        // From each position on, the rest.
        let mut start = 0;
        for (index, entry) in whole.iter().enumerate() {
            if whole.len() < 500 || index % 7 == 0 {
                assert_eq!(list(volume, directory, start, 1), whole[index..=index]);
            }
            assert!(entry.2 > start && entry.2 < 1 << 63);
            start = entry.2;
        }
        for beyond in [start, start + 1, start + 100_000, u64::MAX] {
            assert_eq!(list(volume, directory, beyond, 1), []);
        }
    }
}

/// Compares the content of one in `every` files and long links with `dump`, and all extended attributes with `ea_get`; how many
/// attributes there are. Files that are needed are in `directory`.
pub fn compare_data(
    volume: &OurVolume,
    image: &Path,
    directory: &Path,
    stats: &BTreeMap<Node, Stat>,
    every: usize,
) -> usize {
    let dump = |inode: u64| directory.join(format!("dump-{inode}"));
    let value = |inode: u64, index: usize| directory.join(format!("attribute-{inode}-{index}"));
    let dumped: BTreeSet<Node> = (stats.iter())
        .filter(|(_, stat)| match stat.kind {
            FileKind::Regular => stat.size <= LONGEST,
            FileKind::Symlink => stat.fast_link.is_none(),
            _ => false,
        })
        .map(|(node, _)| *node)
        .step_by(every)
        .collect();
    let mut commands = Vec::new();
    for (node, stat) in stats {
        let inode = inode_of(*node);
        if dumped.contains(node) {
            commands.push(format!("dump <{inode}> {}", dump(inode).display()));
        }
        for (index, name) in stat.attributes.iter().enumerate() {
            commands.push(format!("ea_get -f {} <{inode}> {name}", value(inode, index).display()));
        }
    }
    debugfs::script(image, false, &commands);

    let mut attributes = 0;
    for (&node, stat) in stats {
        let inode = inode_of(node);
        if dumped.contains(&node) {
            let mut expected = fs::read(dump(inode)).unwrap();
            fs::remove_file(dump(inode)).unwrap();
            if stat.is_inline() {
                // debugfs dumps all the space that there is, and not what is counted beyond.
                let size = usize::try_from(stat.size).unwrap();
                assert!(
                    expected.iter().skip(size).all(|byte| *byte == 0),
                    "inode {inode} goes on behind its end"
                );
                expected.resize(size, 0);
            }
            compare_content(volume, node, stat.kind, &expected);
        }
        let mut names = Vec::new();
        volume.list_attributes(node, &mut names).unwrap();
        let mut names: Vec<_> = names.split_inclusive(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        names.sort();
        let mut expected: Vec<_> = (stat.attributes.iter())
            .filter(|name| *name != "system.data")
            .map(|name| [name.as_bytes(), b"\0"].concat())
            .collect();
        expected.sort();
        assert_eq!(names, expected, "attributes of inode {inode}");
        for (index, name) in stat.attributes.iter().enumerate() {
            let mut ours = Vec::new();
            let result = volume.read_attribute(node, name.as_bytes(), &mut ours);
            if name == "system.data" {
                assert_eq!(result, Err(Errno::EOPNOTSUPP));
                continue;
            }
            assert_eq!(result, Ok(()), "{name} of inode {inode}");
            let mut expected = fs::read(value(inode, index)).unwrap();
            if name.starts_with("system.posix_acl_") {
                debugfs::set_undefined_ids(&mut expected);
            }
            assert_eq!(ours, expected, "{name} of inode {inode}");
            attributes += 1;
        }
        let mut sink = Vec::new();
        assert_eq!(volume.read_attribute(node, b"user.absent", &mut sink), Err(Errno::ENODATA));
        assert_eq!(volume.read_attribute(node, b"nobody.knows", &mut sink), Err(Errno::EOPNOTSUPP));
    }
    attributes
}

/// Reads a file in pieces of several lengths, or a link.
fn compare_content(volume: &OurVolume, node: Node, kind: FileKind, expected: &[u8]) {
    let mut ours = Vec::new();
    if kind == FileKind::Symlink {
        volume.read_link(node, &mut ours).unwrap();
        assert_eq!(ours, expected, "target of {node:?}");
        return;
    }
    let read = |offset: u64, count: u32, sink: &mut Vec<u8>| {
        let taken = volume.read(node, offset, count, sink);
        taken.unwrap_or_else(|error| panic!("{node:?} at {offset}: {error}"))
    };
    for count in [1 << 20, 70_001, 4096] {
        if count < 1 << 20 && expected.len() > 4 << 20 {
            continue;
        }
        ours.clear();
        let mut offset = 0;
        loop {
            let taken = read(offset, count, &mut ours);
            offset += u64::from(taken);
            if taken < count {
                break;
            }
        }
        assert!(ours == expected, "content of {node:?} in pieces of {count}");
    }
    for index in 0..20_usize {
        let offset = index * 7919 * 61 % (expected.len() + 1);
        let end = expected.len().min(offset + 37 * index * index + 1);
        ours.clear();
        let taken = read(offset as u64, (37 * index * index + 1) as u32, &mut ours);
        assert_eq!(taken as usize, end - offset);
        assert!(ours == expected[offset..end], "content of {node:?} at {offset}");
    }
    assert_eq!(read(expected.len() as u64 + 1, 100, &mut ours), 0);
}
