// SPDX-License-Identifier: MIT OR Apache-2.0

//! All that is to be known of a tree, in one line for each path: as the core reads it from a volume.
//!
//! [`super::kernel`] makes the same of what a Linux client says. Sums of contents are those of the host's `sha256sum`.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::Mutex;

use skerry::ext4::Volume;
use skerry::fs::{Attributes, Errno, FileKind, FileSystem, Node, Timestamp};
use skerry::mem::region::Region;

/// The length of files, in bytes, up to which all of them is read. Of a longer one, which is mostly holes, the blocks that hold
/// its content are compared instead.
pub const LONGEST: u64 = 32 << 20;

/// A line for each path, which begins with `.` for the root; and what `statfs` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub status: String,
    pub lines: BTreeMap<Vec<u8>, String>,
}

/// What a line consists of.
#[derive(Debug, Default)]
pub struct Line {
    /// `mode links uid gid size blocks inode major:minor accessed modified changed created`
    pub attributes: String,
    /// Of a symbolic link.
    pub target: Option<Vec<u8>>,
    /// The sum of a regular file's content.
    pub content: Option<String>,
    /// The runs of a long file: its first block, that of the volume, how many.
    pub runs: Vec<(u64, u64, u64)>,
    /// Names and values of extended attributes.
    pub extended: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Line {
    pub fn text(&self) -> String {
        let mut text = self.attributes.clone();
        if let Some(target) = &self.target {
            text += &format!(" -> {}", target.escape_ascii());
        }
        if let Some(content) = &self.content {
            text += &format!(" content {content}");
        }
        if !self.runs.is_empty() {
            text += &format!(" runs {:?}", joined(&self.runs));
        }
        for (name, value) in &self.extended {
            text += &format!(" {}={}", name.escape_ascii(), value.escape_ascii());
        }
        text
    }
}

/// Runs that go on where the one before ends are one run.
fn joined(runs: &[(u64, u64, u64)]) -> Vec<(u64, u64, u64)> {
    let mut joined: Vec<(u64, u64, u64)> = Vec::new();
    for &(logical, physical, length) in runs {
        match joined.last_mut() {
            Some(last) if last.0 + last.2 == logical && last.1 + last.2 == physical => last.2 += length,
            _ => joined.push((logical, physical, length)),
        }
    }
    joined
}

/// A time as `stat` prints it: seconds with nine digits behind the point.
fn time(time: Timestamp) -> String {
    let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let magnitude = nanoseconds.unsigned_abs();
    format!("{sign}{}.{:09}", magnitude / 1_000_000_000, magnitude % 1_000_000_000)
}

fn attributes(attributes: &Attributes, number: u64) -> String {
    let (major, minor) =
        (attributes.device >> 8 & 0xfff, attributes.device & 0xff | attributes.device >> 12 & 0xf_ff00);
    format!(
        "{:x} {} {} {} {} {} {number} {major:x}:{minor:x} {} {} {} {}",
        attributes.mode,
        attributes.links,
        attributes.uid,
        attributes.gid,
        attributes.size,
        attributes.blocks,
        time(attributes.accessed),
        time(attributes.modified),
        time(attributes.changed),
        attributes.created.map_or_else(|| "-".to_owned(), time),
    )
}

/// The manifest of `volume`.
///
/// # Errors
/// What could not be read, and why.
pub fn of_volume<R: Region>(volume: &Volume<R>) -> Result<Manifest, String> {
    let mut files: BTreeMap<Node, Line> = BTreeMap::new();
    let mut sums = Sums::new();
    let mut paths = Vec::new();
    let mut found = vec![(b".".to_vec(), volume.root())];
    while let Some((path, node)) = found.pop() {
        let fault = |errno: Errno| format!("{}: {errno}", path.escape_ascii());
        let known = volume.attributes(node).map_err(fault)?;
        if known.kind == FileKind::Directory {
            for name in names(volume, node).map_err(fault)? {
                let inner = volume.lookup(node, &name).map_err(fault)?;
                found.push(([path.as_slice(), b"/", name.as_slice()].concat(), inner));
            }
        }
        if let std::collections::btree_map::Entry::Vacant(place) = files.entry(node) {
            place.insert(line(volume, node, &known, &mut sums).map_err(fault)?);
        }
        paths.push((path, node));
    }
    for (node, sum) in sums.finish() {
        files.get_mut(&node).expect("it was looked at").content = Some(sum);
    }
    let lines = paths.into_iter().map(|(path, node)| (path, files[&node].text())).collect();
    let status = volume.status().map_err(|errno| format!("statfs: {errno}"))?;
    let status = format!(
        "{} {} {} {} {} {} {}",
        status.block_size,
        status.blocks,
        status.blocks_free,
        status.blocks_available,
        status.files,
        status.files_free,
        status.name_length
    );
    Ok(Manifest { status, lines })
}

fn names<R: Region>(volume: &Volume<R>, directory: Node) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    volume.read_directory(directory, 0, &mut |entry| {
        names.push(entry.name.to_vec());
        ControlFlow::Continue(())
    })?;
    names.retain(|name| name != b"." && name != b"..");
    Ok(names)
}

/// All of a file but the sum of its content, which is taken up by `sums`.
fn line<R: Region>(
    volume: &Volume<R>,
    node: Node,
    known: &Attributes,
    sums: &mut Sums,
) -> Result<Line, Errno> {
    let mut line = Line { attributes: attributes(known, volume.number(node)), ..Line::default() };
    match known.kind {
        FileKind::Regular if known.size > LONGEST => volume.visit_runs(node, &mut |run| {
            let length = run.blocks.end - run.blocks.start;
            line.runs.extend(run.physical.map(|physical| (run.blocks.start, physical, length)));
        })?,
        FileKind::Regular => {
            let mut content = Vec::new();
            while (content.len() as u64) < known.size {
                if volume.read(node, content.len() as u64, 1 << 20, &mut content)? == 0 {
                    return Err(Errno::EIO);
                }
            }
            sums.add(node, content);
        }
        FileKind::Symlink => {
            let mut target = Vec::new();
            volume.read_link(node, &mut target)?;
            line.target = Some(target);
        }
        _ => {}
    }
    let mut names = Vec::new();
    volume.list_attributes(node, &mut names)?;
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = Vec::new();
        volume.read_attribute(node, name, &mut value)?;
        line.extended.insert(name.to_vec(), value);
    }
    Ok(line)
}

/// The sums of contents that were summed before: many volumes hold the same.
static KNOWN: Mutex<BTreeMap<Vec<u8>, String>> = Mutex::new(BTreeMap::new());

/// Contents, in files for `sha256sum`, unless they are known.
struct Sums {
    directory: tempfile::TempDir,
    /// The contents that have files, by their numbers.
    new: Vec<Vec<u8>>,
    wanted: Vec<(Node, Vec<u8>)>,
}

impl Sums {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), new: Vec::new(), wanted: Vec::new() }
    }

    fn add(&mut self, node: Node, content: Vec<u8>) {
        if !KNOWN.lock().unwrap().contains_key(&content) {
            fs::write(self.directory.path().join(self.new.len().to_string()), &content).unwrap();
            self.new.push(content.clone());
        }
        self.wanted.push((node, content));
    }

    fn finish(self) -> Vec<(Node, String)> {
        let mut known = KNOWN.lock().unwrap();
        if !self.new.is_empty() {
            let mut summing = Command::new("sha256sum");
            summing
                .args((0..self.new.len()).map(|number| number.to_string()))
                .current_dir(self.directory.path());
            let summed = summing.output().unwrap();
            assert!(summed.status.success(), "sha256sum: {}", String::from_utf8_lossy(&summed.stderr));
            let said = String::from_utf8(summed.stdout).unwrap();
            let sums: Vec<_> = said.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
            assert_eq!(sums.len(), self.new.len());
            known.extend(self.new.into_iter().zip(sums));
        }
        self.wanted.into_iter().map(|(node, content)| (node, known[&content].clone())).collect()
    }
}
