// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a volume may do that lies: refuse to be mounted, with a message; answer with errors, one of which marks it; or be
//! served. Everything that clients do is done to it.

use core::cell::RefCell;
use core::ops::ControlFlow;
use std::collections::BTreeSet;
use std::format;
use std::string::{String, ToString};
use std::sync::Once;
use std::vec::Vec;

use super::region::Guarded;
use super::sample::{HEALTHY, HEALTHY_LENGTH};
use crate::ext4::field::{le16, le32};
use crate::ext4::testing::{Collected, NOON, pattern};
use crate::ext4::{MountError, Volume};
use crate::fs::{
    AttributeChanges, AttributeExistence, Caller, DirectoryEntry, Errno, FileKind, FileSystem, NewFile,
    NewKind, Node, Position, Removal,
};

/// Names that a walk follows at most: more than a sample has that are no links to the same file.
const VISITED: usize = 60;
/// Names of a directory that a walk looks up.
const LOOKED_UP: usize = 40;
/// Bytes of a file that are read in each place.
const READ: u32 = 65_536;
/// Files that are written to.
const WRITTEN: usize = 12;

/// How a volume was met that lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was not mounted.
    Refused,
    /// It was served, and damage was found.
    Errors,
    /// It was served as if nothing were wrong.
    Harmless,
}

std::thread_local! {
    /// The lines that were logged as errors and warnings.
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Recorder;

impl log::Log for Recorder {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LOGGED.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Takes the lines that this thread logged so far.
pub(super) fn take_logged() -> Vec<String> {
    static RECORDER: Once = Once::new();
    RECORDER.call_once(|| {
        log::set_logger(&Recorder).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    });
    LOGGED.take()
}

/// The directory of a name, the name, what it names, and the kind of that.
type Name = (Node, Vec<u8>, Node, FileKind);

/// A volume under judgement.
pub(super) type Suspect = Volume<Guarded>;

/// What is known of the lie that a volume tells.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Expectation {
    /// The healthy file is to be read right before anything is written.
    pub healthy: bool,
    /// The lie may be about where the journal's blocks belong: also in front of the superblock.
    pub replayed: bool,
}

/// Has `bytes` mounted, walked, written to, unmounted and mounted again; what came of it, and the volume afterwards.
///
/// # Errors
/// What it did that no volume may do.
pub(super) fn judge(bytes: &[u8], expectation: Expectation) -> Result<(Verdict, Option<Vec<u8>>), String> {
    take_logged();
    let mut volume = match Volume::mount_writable(Guarded::new(bytes), || NOON) {
        Ok(volume) => volume,
        Err(error) => return refused(&error).map(|()| (Verdict::Refused, None)),
    };
    let found = visit(&volume)?;
    if expectation.healthy {
        check_healthy(&volume)?;
    }
    let writable = volume.read_only_reason().is_none();
    write(&mut volume, &found)?;
    volume.synchronize().map_err(|errno| format!("synchronize: {errno:?}"))?;
    check_mark(&mut volume, writable)?;
    let errors = volume.errors_found();
    let halted = volume.is_halted();
    let region = volume.unmount().map_err(|errno| format!("unmount: {errno:?}"))?;
    if !region.is_intact() {
        return Err("it stored outside of the region".to_string());
    }
    if region.volume()[..1024] != bytes[..1024] && !expectation.replayed {
        return Err("it stored in front of the superblock".to_string());
    }
    let after = region.volume().to_vec();
    match Volume::mount_writable(region, || NOON) {
        Ok(again) => {
            visit(&again)?;
            if halted && again.read_only_reason().is_none() {
                return Err("the next mount writes although s_errors forbids it".to_string());
            }
        }
        Err(error) => refused(&error)?,
    }
    let verdict = if errors > 0 { Verdict::Errors } else { Verdict::Harmless };
    Ok((verdict, Some(after)))
}

/// That a refusal says why.
fn refused(error: &MountError) -> Result<(), String> {
    if error.to_string().len() < 10 { Err(format!("{error:?} says nothing")) } else { Ok(()) }
}

/// That damage was told, and that the superblock tells it too; that nothing changes any more if it says so.
fn check_mark(volume: &mut Suspect, writable: bool) -> Result<(), String> {
    let lines = take_logged();
    let errors = volume.errors_found();
    if errors == 0 {
        return Ok(());
    }
    if !lines.iter().any(|line| line.contains("since the mount")) {
        return Err(format!("{errors} errors and no message: {lines:?}"));
    }
    if !writable && volume.log.is_none() {
        return Ok(());
    }
    let raw = volume.superblock_bytes().map_err(|error| format!("the superblock: {error:?}"))?;
    let (s_state, s_error_count, s_last_error_time) = (le16(raw, 0x3a), le32(raw, 0x194), le32(raw, 0x1cc));
    let marked = s_state & 2 != 0 && s_error_count > 0 && i64::from(s_last_error_time) == NOON.seconds;
    if !marked {
        return Err(format!("{errors} errors and no mark: {s_state} {s_error_count} {s_last_error_time}"));
    }
    let root = volume.root();
    if volume.is_halted() != (le16(volume.superblock_bytes().unwrap_or_default(), 0x3c) != 1) {
        return Err("it does not do as s_errors says".to_string());
    }
    let new = NewFile { kind: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };
    match volume.create(Caller::ROOT, root, b"afterwards", &new) {
        Err(Errno::EROFS) if volume.is_halted() => Ok(()),
        other if volume.is_halted() => Err(format!("changed although it is in error: {other:?}")),
        _ => Ok(()),
    }
}

/// That `result`, if it is an error, is one that was noted.
fn noted<T>(volume: &Suspect, what: &str, result: Result<T, Errno>) -> Result<Option<T>, String> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::EUCLEAN | Errno::EIO) if volume.errors_found() == 0 => {
            Err(format!("{what} answers with damage, of which nobody is told"))
        }
        Err(_) => Ok(None),
    }
}

/// Walks over the tree as far as it is worth, and asks all there is to ask; returns what was found.
fn visit(volume: &Suspect) -> Result<Vec<Name>, String> {
    let root = volume.root();
    let mut found: Vec<Name> = Vec::new();
    let mut seen = BTreeSet::from([root.0]);
    let mut waiting = std::vec![root];
    ask(volume, root)?;
    while let Some(directory) = waiting.pop() {
        let mut names = Vec::new();
        let mut offset = 0;
        // A directory is read in pieces, as a client does it.
        for _ in 0..100 {
            let before = offset;
            let mut visit = |entry: &DirectoryEntry<'_>| {
                names.push(entry.name.to_vec());
                offset = entry.next;
                if names.len() % 50 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let read = volume.read_directory(directory, before, &mut visit);
            if noted(volume, "read_directory", read)?.is_none() || offset == before {
                break;
            }
        }
        names.retain(|name| name != b"." && name != b"..");
        let step = names.len().div_ceil(LOOKED_UP).max(1);
        for name in names.into_iter().step_by(step) {
            let Some(node) = noted(volume, "lookup", volume.lookup(directory, &name))? else { continue };
            if !seen.insert(node.0) || found.len() >= VISITED {
                continue;
            }
            let kind = ask(volume, node)?;
            if kind == Some(FileKind::Directory) {
                waiting.push(node);
            }
            found.push((directory, name, node, kind.unwrap_or(FileKind::Socket)));
        }
    }
    Ok(found)
}

/// Asks all that can be asked of one node.
fn ask(volume: &Suspect, node: Node) -> Result<Option<FileKind>, String> {
    let attributes = noted(volume, "attributes", volume.attributes(node))?;
    let size = attributes.as_ref().map_or(0, |attributes| attributes.size);
    for offset in [0, size / 2, size.saturating_sub(100), u64::MAX - 5] {
        let mut sink = Collected::default();
        if let Some(count) = noted(volume, "read", volume.read(node, offset, READ, &mut sink))?
            && count as usize != sink.bytes.len()
        {
            return Err("read: it counts wrong".to_string());
        }
    }
    noted(volume, "read_link", volume.read_link(node, &mut Collected::default()))?;
    noted(volume, "parent", volume.parent(node))?;
    let mut names = Collected::default();
    noted(volume, "list_attributes", volume.list_attributes(node, &mut names))?;
    for name in names.bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty()).take(5) {
        noted(volume, "read_attribute", volume.read_attribute(node, name, &mut Collected::default()))?;
    }
    Ok(attributes.map(|attributes| attributes.kind))
}

/// That the healthy file is what it was.
fn check_healthy(volume: &Suspect) -> Result<(), String> {
    let mut node = volume.root();
    for name in HEALTHY {
        node =
            volume.lookup(node, name.as_bytes()).map_err(|errno| format!("the healthy file: {errno:?}"))?;
    }
    let mut sink = Collected::default();
    let read = volume.read(node, 0, u32::MAX, &mut sink);
    read.map_err(|errno| format!("the healthy file: {errno:?}"))?;
    if sink.bytes == pattern(HEALTHY_LENGTH) {
        Ok(())
    } else {
        Err("the healthy file is another".to_string())
    }
}

/// Changes all there is to change, near and in what was found.
fn write(volume: &mut Suspect, found: &[Name]) -> Result<(), String> {
    let (caller, root) = (Caller::ROOT, volume.root());
    let commit = |volume: &mut Suspect| volume.commit().map_err(|errno| format!("commit: {errno:?}"));
    macro_rules! attempt {
        ($operation:expr) => {{
            let result = $operation;
            noted(volume, stringify!($operation), result)?
        }};
    }
    let file = NewFile { kind: NewKind::Regular, mode: 0o644, uid: 7, gid: 7 };
    let directory = NewFile { kind: NewKind::Directory, ..file };
    let directories: Vec<Node> =
        found.iter().filter(|(.., kind)| *kind == FileKind::Directory).map(|(_, _, node, _)| *node).collect();
    for parent in core::iter::once(root).chain(directories.iter().copied()) {
        if let Some(node) = attempt!(volume.create(caller, parent, b"new", &file)) {
            attempt!(volume.write(caller, node, Position::At(0), &mut &pattern(5000)[..]));
            attempt!(volume.write(caller, node, Position::End, &mut &pattern(3000)[..]));
            attempt!(volume.set_attribute(caller, node, b"user.new", &[b'v'; 400], AttributeExistence::Any));
            attempt!(volume.link(caller, node, root, b"linked"));
            attempt!(volume.rename(caller, (parent, b"new"), (root, b"renamed")));
            attempt!(volume.remove(root, b"linked", Removal::File));
        }
        let subdirectory = attempt!(volume.create(caller, parent, b"directory", &directory));
        if let Some(node) = subdirectory {
            attempt!(volume.create(
                caller,
                node,
                b"link",
                &NewFile { kind: NewKind::Symlink(&[b't'; 200]), ..file }
            ));
            attempt!(volume.remove(node, b"link", Removal::File));
            attempt!(volume.rename(caller, (parent, b"directory"), (root, b"moved")));
            attempt!(volume.remove(root, b"moved", Removal::Directory));
        }
        commit(volume)?;
    }
    for (parent, name, node, kind) in found.iter().take(WRITTEN) {
        let size = volume.attributes(*node).map_or(0, |attributes| attributes.size);
        attempt!(volume.retain(*node));
        if *kind == FileKind::Regular {
            attempt!(volume.write(caller, *node, Position::At(3), &mut &[7; 10][..]));
            attempt!(volume.write(caller, *node, Position::At(size / 2 + 1), &mut &[8; 3000][..]));
            attempt!(volume.write(caller, *node, Position::End, &mut &[9; 2000][..]));
            for size in [Some(size / 2), Some(size.saturating_add(9000)), Some(1)] {
                let changes = AttributeChanges { size, ..AttributeChanges::default() };
                attempt!(volume.set_attributes(caller, *node, &changes));
            }
        }
        attempt!(volume.set_attribute(caller, *node, b"user.more", &[b'm'; 500], AttributeExistence::Any));
        attempt!(volume.remove_attribute(caller, *node, b"user.large"));
        attempt!(volume.remove_attribute(caller, *node, b"user.more"));
        let changes = AttributeChanges { mode: Some(0o600), ..AttributeChanges::default() };
        attempt!(volume.set_attributes(caller, *node, &changes));
        attempt!(volume.rename(caller, (*parent, name), (root, b"elsewhere")));
        attempt!(volume.rename(caller, (root, b"elsewhere"), (*parent, name)));
        for removal in [Removal::File, Removal::Directory] {
            attempt!(volume.remove(*parent, name, removal));
        }
        volume.release(*node);
        commit(volume)?;
    }
    // Into itself, and into what is below it.
    for directory in &directories {
        attempt!(volume.rename(caller, (root, b"one"), (*directory, b"circle")));
    }
    commit(volume)
}
