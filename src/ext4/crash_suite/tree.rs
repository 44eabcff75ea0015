// SPDX-License-Identifier: MIT OR Apache-2.0

//! What an observer sees of a volume: every name with all that there is to know of its file.
//!
//! Only the calls of [`FileSystem`] are used, so the picture is that of a client.

use core::ops::{ControlFlow, Range};
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use crate::ext4::Volume;
use crate::fs::{Attributes, Errno, FileKind, FileSystem, Node};
use crate::mem::region::Region;

/// A file as it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub node: Node,
    pub attributes: Attributes,
    /// The bytes of a regular file, or the target of a symbolic link.
    pub content: Vec<u8>,
    /// Names and values of extended attributes, in the order of the names.
    pub extended: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The files of a volume by their paths; that of the root is empty.
pub(super) type Tree = BTreeMap<Vec<u8>, Arc<File>>;

/// Bytes of a file of which nothing is known.
pub(super) type Unknown = Vec<(Node, Range<u64>)>;

/// What is seen of `volume`. What is the same in `before` is shared with it.
pub(super) fn observe<R: Region>(volume: &Volume<R>, before: Option<&Tree>) -> Result<Tree, String> {
    let mut tree = Tree::new();
    let mut found = std::vec![(Vec::new(), volume.root())];
    while let Some((path, node)) = found.pop() {
        let at = |errno: Errno| format!("{}: {errno}", String::from_utf8_lossy(&path));
        let file = file(volume, node).map_err(at)?;
        if file.attributes.kind == FileKind::Directory {
            let mut names = Vec::new();
            let mut visit = |entry: &crate::fs::DirectoryEntry<'_>| {
                names.push((entry.name.to_vec(), entry.number, entry.kind));
                ControlFlow::Continue(())
            };
            volume.read_directory(node, 0, &mut visit).map_err(at)?;
            for (name, number, kind) in names.into_iter().filter(|(name, ..)| name != b"." && name != b"..") {
                let inner = volume.lookup(node, &name).map_err(at)?;
                let inner_kind = volume.attributes(inner).map_err(at)?.kind;
                if (volume.number(inner), inner_kind) != (number, kind) {
                    return Err(format!(
                        "{}: the entry says {number}, {kind:?}",
                        String::from_utf8_lossy(&name)
                    ));
                }
                if kind == FileKind::Directory && volume.parent(inner).map_err(at)? != node {
                    return Err(format!("{}: another parent", String::from_utf8_lossy(&name)));
                }
                found.push(([path.as_slice(), b"/", name.as_slice()].concat(), inner));
            }
        }
        let known = before.and_then(|before| before.get(&path)).filter(|known| ***known == file);
        let shared = known.cloned().unwrap_or_else(|| Arc::new(file));
        if tree.insert(path, shared).is_some() {
            return Err("a name twice".into());
        }
    }
    Ok(tree)
}

fn file<R: Region>(volume: &Volume<R>, node: Node) -> Result<File, Errno> {
    let attributes = volume.attributes(node)?;
    let mut content = Vec::new();
    match attributes.kind {
        FileKind::Regular => {
            let mut offset = 0;
            while offset < attributes.size {
                let read = volume.read(node, offset, 1 << 20, &mut content)?;
                if read == 0 {
                    return Err(Errno::EIO);
                }
                offset += u64::from(read);
            }
        }
        FileKind::Symlink => volume.read_link(node, &mut content)?,
        _ => {}
    }
    let mut names = Vec::new();
    volume.list_attributes(node, &mut names)?;
    let mut extended = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = Vec::new();
        volume.read_attribute(node, name, &mut value)?;
        extended.push((name.to_vec(), value));
    }
    extended.sort();
    Ok(File { node, attributes, content, extended })
}

/// Where `found` differs from `expected`, but for bytes that are `unknown`; `None` if nowhere.
pub(super) fn difference(found: &Tree, expected: &Tree, unknown: &Unknown) -> Option<String> {
    let name = |path: &[u8]| String::from_utf8_lossy(path).chars().take(60).collect::<String>();
    if let Some(path) = expected.keys().find(|path| !found.contains_key(*path)) {
        return Some(format!("{} is missing", name(path)));
    }
    for (path, file) in found {
        let Some(known) = expected.get(path) else { return Some(format!("{} is too many", name(path))) };
        let attributes = |file: &File| (file.node, file.attributes);
        if attributes(file) != attributes(known) {
            let (one, other) = (attributes(file), attributes(known));
            return Some(format!("{}: {one:?} instead of {other:?}", name(path)));
        }
        if file.extended != known.extended {
            return Some(format!("{}: extended attributes", name(path)));
        }
        if file.content == known.content {
            continue;
        }
        let is_unknown =
            |at: u64| unknown.iter().any(|(node, range)| *node == file.node && range.contains(&at));
        let mut places = file.content.iter().zip(&known.content).zip(0..);
        let wrong = places.find(|((one, other), at)| one != other && !is_unknown(*at));
        if let Some((bytes, at)) = wrong {
            return Some(format!("{}: byte {at} of {}: {bytes:?}", name(path), file.attributes.size));
        }
    }
    None
}
