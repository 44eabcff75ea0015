// SPDX-License-Identifier: MIT OR Apache-2.0

//! The kernel's own ext4 as a judge of volumes: it mounts each of them, to be written, in a client VM, and sees the same tree as
//! the core does.
//!
//! Both replay the journal and work off the orphans on their own, the kernel in a copy that is thrown away, the core in memory, so
//! that a volume may be as a kill or the loss of power left it. It stays as it is. Relies on `manifest.sh`, which runs in the client.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use skerry::ext4::Volume;
use skerry::fs::Timestamp;
use skerry_host::client_vm::{Disk, Options, output};

#[path = "manifest.rs"]
mod manifest;
use manifest::{LONGEST, Line, Manifest};

/// How many volumes a client VM is given.
const IN_ONE_VM: usize = 60;
/// How many client VMs run at a time.
const AT_A_TIME: usize = 2;
/// How many differences of one volume are told.
const TOLD: usize = 12;

/// What the kernel logs of a volume that is in order (its fs/ext4/super.c, orphan.c).
const IN_ORDER: [&str; 9] = [
    ": mounted filesystem",
    // Of ten mounts and unmounts in five seconds at most it is told; then follows, under the name of
    // whichever comes next, how many were left out. Left out complaints (`EXT4-fs: `) are not in order.
    "EXT4-fs mount: ",
    "EXT4-fs unmount: ",
    ": unmounting filesystem",
    ": recovery complete",
    "orphan inode deleted",
    "orphan inodes deleted",
    "truncate cleaned up",
    "truncates cleaned up",
];

/// What was compared.
#[derive(Debug, Clone, Copy, Default)]
pub struct Agreement {
    pub volumes: usize,
    /// Volumes whose journal the kernel replayed.
    pub recovered: usize,
    /// Paths, with all that is to be known of each.
    pub paths: usize,
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { volumes, recovered, paths } = self;
        write!(f, "{volumes} volumes, {recovered} of them with a journal to replay, {paths} paths")
    }
}

/// The kernel's ext4 mounts each of the volumes in the files `images` without a complaint, and sees in it what the core sees.
#[track_caller]
pub fn the_kernel_agrees(images: &[PathBuf]) -> Agreement {
    let mut agreement = Agreement::default();
    let mut faults = Vec::new();
    let vms: Vec<_> = images.chunks(IN_ONE_VM).collect();
    for some in vms.chunks(AT_A_TIME) {
        let judged = std::thread::scope(|scope| {
            let judging: Vec<_> = some.iter().map(|images| scope.spawn(|| shown(images))).collect();
            judging.into_iter().map(|thread| thread.join().expect("the client VM")).collect::<Vec<_>>()
        });
        for (image, seen) in some.iter().flat_map(|images| images.iter()).zip(judged.into_iter().flatten()) {
            match ours(image).and_then(|ours| seen.compare(&ours)) {
                Ok(paths) => {
                    agreement.volumes += 1;
                    agreement.recovered += usize::from(seen.recovered());
                    agreement.paths += paths;
                }
                Err(fault) => faults.push(format!("{}: {fault}", image.display())),
            }
        }
    }
    assert!(faults.is_empty(), "{} of {} volumes: {}", faults.len(), images.len(), faults.join("\n"));
    assert_eq!(agreement.volumes, images.len());
    agreement
}

/// What the core sees in the volume in the file `image`, once it has recovered it.
fn ours(image: &Path) -> Result<Manifest, String> {
    let bytes = fs::read(image).map_err(|error| error.to_string())?;
    let never = || Timestamp { seconds: 0, nanoseconds: 0 };
    let volume = Volume::mount_writable(bytes, never).map_err(|error| format!("the core: {error}"))?;
    match volume.read_only_reason() {
        Some(reason) => Err(format!("the core only reads it: {reason}")),
        None => manifest::of_volume(&volume).map_err(|fault| format!("the core: {fault}")),
    }
}

/// Boots a client VM that has `images` as disks; what it says of each.
fn shown(images: &[PathBuf]) -> Vec<Seen> {
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("manifest.sh"), include_str!("manifest.sh")).unwrap();
    let options = Options {
        name: "judging client".to_owned(),
        disks: images.iter().map(|image| Disk::discarded(image)).collect(),
        files: Some(files.path().to_path_buf()),
        programs: ["find", "xargs", "stat", "sha256sum", "sed", "getfattr", "filefrag"]
            .map(str::to_owned)
            .into(),
        ..Options::run(None, format!("sh /manifest.sh {} {LONGEST}", images.len()))
    };
    let output = output(&options).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status == 0 && errors.is_empty(), "status {}: {errors}", output.status);
    let seen = parsed(&output.stdout);
    assert_eq!(seen.len(), images.len(), "each disk is told of");
    seen
}

/// What the client said of a disk.
#[derive(Debug, Default)]
struct Seen {
    errors: Vec<String>,
    logged: String,
    status: String,
    lines: BTreeMap<Vec<u8>, Line>,
}

impl Seen {
    fn file(&mut self, path: &[u8]) -> &mut Line {
        self.lines.entry(path.to_vec()).or_default()
    }

    fn recovered(&self) -> bool {
        self.logged.contains(": recovery complete")
    }

    /// How many paths there are, all as in `ours`; or what differs.
    fn compare(&self, ours: &Manifest) -> Result<usize, String> {
        let unusual = |line: &&str| {
            let is_told = ["EXT4-fs", "JBD2", "Buffer I/O", "rror"].iter().any(|word| line.contains(word));
            is_told && !IN_ORDER.iter().any(|usual| line.contains(usual))
        };
        let mut faults: Vec<String> =
            self.errors.iter().map(|error| format!("the client: {error}")).collect();
        faults.extend(self.logged.lines().filter(unusual).map(|line| format!("the kernel: {line}")));
        if self.status != ours.status {
            faults.push(format!("statfs\n  kernel {}\n  core   {}", self.status, ours.status));
        }
        let theirs: BTreeMap<_, _> = self.lines.iter().map(|(path, line)| (path, line.text())).collect();
        let absent = "nothing".to_owned();
        for path in theirs.keys().copied().chain(ours.lines.keys().filter(|path| !theirs.contains_key(path)))
        {
            let (kernel, core) =
                (theirs.get(path).unwrap_or(&absent), ours.lines.get(path).unwrap_or(&absent));
            if kernel != core {
                faults.push(format!("{}\n  kernel {kernel}\n  core   {core}", path.escape_ascii()));
            }
        }
        if faults.is_empty() {
            return Ok(theirs.len());
        }
        let count = faults.len();
        faults.truncate(TOLD);
        Err(format!("{count} differences:\n{}", faults.join("\n")))
    }
}

/// Reads the records that `manifest.sh` describes.
fn parsed(said: &[u8]) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    let mut records = said.strip_suffix(b"\0").expect("the end of a record").split(|byte| *byte == 0);
    while let Some(record) = records.next() {
        let (kind, record) = record.split_first().expect("a record says what it is");
        let text = || String::from_utf8(record.to_vec()).expect("text");
        if *kind == b'V' {
            // As `Disk` promises.
            let letter = |number: usize| char::from(b'a' + u8::try_from(number).unwrap());
            let (before, last) = (all.len() / 26, letter(all.len() % 26));
            let before = before.checked_sub(1).map(letter).map_or_else(String::new, String::from);
            assert_eq!(text(), format!("{} vd{before}{last}", all.len()));
            all.push(Seen::default());
            continue;
        }
        let seen = all.last_mut().expect("the number of a disk comes first");
        let mut second =
            || records.next().and_then(|record| record.strip_prefix(b"=")).expect("a second record");
        match kind {
            b'S' => seen.status = text(),
            b'E' => seen.errors.push(text()),
            b'D' => seen.logged = String::from_utf8_lossy(record).into_owned(),
            b'A' => {
                let fields: Vec<&[u8]> = record.splitn(13, |byte| *byte == b' ').collect();
                let [attributes @ .., created, path] = &fields[..] else { panic!("fields of attributes") };
                // Where inodes have no room for it, the time of creation is told as 0, or as a dash.
                let created = if [&b"0.000000000"[..], b"-"].contains(created) { b"-" } else { *created };
                let text = String::from_utf8([attributes, &[created]].concat().join(&b' ')).expect("text");
                seen.file(path).attributes = text;
            }
            b'C' => {
                let (sum, path) = record.split_at_checked(66).expect("a sum, two spaces, a path");
                seen.file(path).content = Some(String::from_utf8_lossy(&sum[..64]).into_owned());
            }
            b'L' => seen.file(record).target = Some(second().to_vec()),
            b'M' => seen.file(record).runs = runs(&String::from_utf8_lossy(second())),
            b'X' => extended(record, seen),
            _ => panic!("a record that begins with {kind:#x}"),
        }
    }
    all
}

/// Reads what `filefrag -v -e` says: the runs of a file, without those that were never written.
fn runs(said: &str) -> Vec<(u64, u64, u64)> {
    let mut runs = Vec::new();
    for line in said.lines().filter(|line| line.contains("..")) {
        let fields: Vec<&str> = line.split(':').map(str::trim).collect();
        let first = |field: &str| field.split("..").next().unwrap().trim().parse().unwrap();
        if !line.contains("unwritten") {
            runs.push((first(fields[1]), first(fields[2]), fields[3].parse().unwrap()));
        }
    }
    runs
}

/// Reads what `getfattr --dump --encoding=hex` says.
fn extended(said: &[u8], seen: &mut Seen) {
    let mut path = Vec::new();
    for line in said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if let Some(quoted) = line.strip_prefix(b"# file: ") {
            path = unquoted(quoted);
            continue;
        }
        let equals = line.iter().position(|byte| *byte == b'=').expect("NAME=VALUE");
        let (name, value) = (unquoted(&line[..equals]), &line[equals + 1..]);
        let digits = match value {
            b"" | b"\"\"" => b"",
            value => value.strip_prefix(b"0x").expect("hexadecimal digits"),
        };
        let digits: Vec<u8> =
            digits.iter().map(|digit| char::from(*digit).to_digit(16).unwrap() as u8).collect();
        let value = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        seen.file(&path).extended.insert(name, value);
    }
}

/// Undoes the quoting of `getfattr`: a backslash and three octal digits are a byte.
fn unquoted(quoted: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = quoted;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(byte);
        if byte == b'\\' {
            let (digits, behind) = rest.split_at(3);
            *bytes.last_mut().unwrap() = digits.iter().fold(0, |value, digit| value << 3 | (digit - b'0'));
            rest = behind;
        }
    }
    bytes
}

#[test]
fn what_the_kernel_sees_otherwise_or_complains_of_is_told() {
    let said = "V0 vda\0S4096 1 1 1 2 2 255\0A41ed 2 0 0 4096 8 2 0:0 1.000000000 2.000000000 3.000000000 0.000000000 .\0\
        Llink\0=target\0X# file: a\\134b\nuser.name=0x00ff\n\0D[1] EXT4-fs (vda): mounted filesystem with ordered data mode\0";
    let mut seen = parsed(said.as_bytes()).pop().unwrap();
    let root = "41ed 2 0 0 4096 8 2 0:0 1.000000000 2.000000000 3.000000000 -".to_owned();
    let line = |path: &str, text: &str| (path.as_bytes().to_vec(), text.to_owned());
    let lines = [line(".", &root), line("link", " -> target"), line("a\\b", " user.name=\\x00\\xff")];
    let mut ours = Manifest { status: "4096 1 1 1 2 2 255".to_owned(), lines: lines.into() };
    assert_eq!(seen.compare(&ours), Ok(3));
    ours.lines.insert(b"more".to_vec(), String::new());
    assert!(seen.compare(&ours).unwrap_err().contains("more\n  kernel nothing"));
    ours.lines.remove(&b"more"[..]);
    ours.status.push('0');
    assert!(seen.compare(&ours).unwrap_err().contains("statfs"));
    ours.status.pop();
    seen.logged.push_str("\n[2] EXT4-fs error (device vda): ext4_lookup");
    assert!(seen.compare(&ours).unwrap_err().contains("the kernel: [2] EXT4-fs error"));
}
