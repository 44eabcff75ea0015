// SPDX-License-Identifier: MIT OR Apache-2.0

//! Volumes for tests, made by `mkfs.ext4` and changed by `debugfs`: what the format means is theirs to say.
//! A tool that is missing or fails fails the test.

use std::format;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::string::{String, ToString};
use std::sync::atomic::{AtomicU32, Ordering};
use std::vec::Vec;

use super::Volume;
use super::checksum::crc32c;
use super::error::Error;
use super::inode::Inode;
use crate::fs::{Errno, FileSystem, Node, Timestamp};
use crate::mem::region::Region;
use crate::mem::{Full, Sink};

/// The volumes that tests read.
pub(super) type TestVolume = Volume<Vec<u8>>;

/// The time of every change that a test makes.
pub(super) const NOON: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 123_456_789 };

/// A directory that goes away with the value.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Only distinctness matters: nothing else is published through the counter.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("skerry-ext4-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory that stays behind harms no later test: its name is not used again.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A command that runs `program`, which is named by its path: a search along another `PATH` would make a copy of this process
/// first, with all its page tables.
pub(super) fn tool(program: &str) -> Command {
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|place| Path::new(place).join(program));
    Command::new(places.into_iter().find(|path| path.exists()).unwrap_or_else(|| program.into()))
}

/// Runs `program`; its standard output and standard error, if it succeeds.
fn run(program: &str, arguments: &[&str]) -> (String, String) {
    let output = tool(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error} (the tests need the package e2fsprogs)"));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}: {errors}", output.status);
    (String::from_utf8_lossy(&output.stdout).into_owned(), errors)
}

/// A volume in the making, in a file of its own.
pub(super) struct Image {
    scratch: Scratch,
}

impl Image {
    /// Makes a volume of `size` (as `mkfs.ext4` takes it) with `options`; its root holds what `fill` puts into a directory.
    pub(super) fn new(size: &str, options: &[&str], fill: impl FnOnce(&Path)) -> Self {
        let image = Self { scratch: Scratch::new() };
        let source = image.scratch.path().join("source");
        std::fs::create_dir(&source).unwrap();
        fill(&source);
        let file = image.file();
        let mut arguments = std::vec!["-q", "-F", "-d", source.to_str().unwrap()];
        arguments.extend(options);
        arguments.extend([file.as_str(), size]);
        run("mkfs.ext4", &arguments);
        image
    }

    pub(super) fn file(&self) -> String {
        self.scratch.path().join("volume").to_str().unwrap().to_string()
    }

    /// Has `debugfs` carry out `request`, with the right to write; its output.
    pub(super) fn debugfs(&self, request: &str) -> String {
        self.run_debugfs(&["-w", "-R", request])
    }

    /// Has one `debugfs` carry out several requests.
    pub(super) fn debugfs_script(&self, requests: &[&str]) {
        let script = self.scratch.path().join("script");
        std::fs::write(&script, requests.join("\n") + "\n").unwrap();
        self.run_debugfs(&["-w", "-f", script.to_str().unwrap()]);
    }

    /// `debugfs` exits with 0 also when a request fails: whatever it complains of is a failure here.
    fn run_debugfs(&self, arguments: &[&str]) -> String {
        let file = self.file();
        let arguments: Vec<&str> = arguments.iter().copied().chain([file.as_str()]).collect();
        let (output, complaints) = run("debugfs", &arguments);
        let complaints: Vec<&str> =
            complaints.lines().filter(|line| !line.is_empty() && !line.starts_with("debugfs ")).collect();
        assert!(complaints.is_empty(), "debugfs {arguments:?}: {complaints:?}");
        output
    }

    /// A line of `dumpe2fs -h`: what follows `label` and a colon.
    pub(super) fn header(&self, label: &str) -> String {
        let (header, _) = run("dumpe2fs", &["-h", &self.file()]);
        let line = header.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {label} in {header}")).trim().to_string()
    }

    /// The inode number of `path`, as `debugfs` finds it.
    pub(super) fn inode(&self, path: &str) -> u32 {
        let stat = self.debugfs(&format!("stat {path}"));
        let number = stat.split_whitespace().nth(1).and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("{path}: {stat}"))
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.file()).unwrap()
    }

    pub(super) fn mount(&self) -> TestVolume {
        Volume::mount(self.bytes()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The volume to be changed, at [`NOON`]. It needs a journal: `mkfs.ext4` makes none in fewer than 2048 blocks.
    pub(super) fn mount_writable(&self) -> TestVolume {
        let volume = Volume::mount_writable(self.bytes(), || NOON).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(volume.read_only_reason(), None);
        volume
    }

    /// Unmounts `volume`, which was mounted from here, into the file, and has `e2fsck` find nothing to complain of.
    pub(super) fn check(&self, volume: TestVolume) {
        std::fs::write(self.file(), volume.unmount().unwrap()).unwrap();
        self.check_file();
    }

    /// Has `e2fsck -p` replay the journal in the file, as at the start of a system; what it says if it finds anything else to
    /// do.
    pub(super) fn repair(&self) -> Result<(), String> {
        let output = tool("e2fsck")
            .args(["-p", "-E", "journal_only", &self.file()])
            .output()
            .unwrap_or_else(|error| panic!("e2fsck: {error} (the tests need the package e2fsprogs)"));
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        let unusual = report.lines().any(|line| !line.ends_with("recovering journal"));
        // 1 says that something was changed.
        if unusual || !matches!(output.status.code(), Some(0 | 1)) { Err(report) } else { Ok(()) }
    }

    /// Has `e2fsck` repair whatever it finds in the file, from the superblock's copy in the second group, 4 MiB after the
    /// first; then it must find nothing more.
    pub(super) fn restore(&self, block_size: usize) {
        let copy = (4 << 20) / block_size + usize::from(block_size == 1024);
        let (copy, block_size) = (copy.to_string(), block_size.to_string());
        let output = tool("e2fsck")
            .args(["-fy", "-b", &copy, "-B", &block_size, &self.file()])
            .output()
            .unwrap_or_else(|error| panic!("e2fsck: {error} (the tests need the package e2fsprogs)"));
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stdout));
        self.check_file();
    }

    /// Has `e2fsck` find nothing to complain of in the file.
    pub(super) fn check_file(&self) {
        let output = tool("e2fsck")
            .args(["-fn", &self.file()])
            .output()
            .unwrap_or_else(|error| panic!("e2fsck: {error} (the tests need the package e2fsprogs)"));
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "e2fsck: {}: {report}", output.status);
    }
}

/// Sets the 32-bit field at `offset` of the superblock to `value`, and its checksum right.
pub(super) fn set_superblock(volume: &mut [u8], offset: usize, value: &[u8]) {
    let superblock = &mut volume[1024..2048];
    superblock[offset..offset + value.len()].copy_from_slice(value);
    let sum = crc32c(u32::MAX, &superblock[..0x3fc]);
    superblock[0x3fc..].copy_from_slice(&sum.to_le_bytes());
}

/// A region that can be changed again once its volume is gone.
pub(super) struct Borrowed<'a>(pub &'a [u8]);

impl Region for Borrowed<'_> {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn bytes(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.0.get(start..start.checked_add(length)?)
    }
}

/// A sink that keeps what it is given, and counts the pieces.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Collected {
    pub bytes: Vec<u8>,
    pub pieces: usize,
}

impl Sink for Collected {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.bytes.extend_from_slice(bytes);
        self.pieces += 1;
        Ok(())
    }

    fn put_zeros(&mut self, count: usize) -> Result<(), Full> {
        self.bytes.resize(self.bytes.len() + count, 0);
        self.pieces += 1;
        Ok(())
    }
}

/// Up to `count` bytes of the file with inode `number`, from `offset` on.
pub(super) fn read(volume: &TestVolume, number: u32, offset: u64, count: u32) -> Result<Vec<u8>, Errno> {
    let mut sink = Collected::default();
    let length = volume.read(Node(number.into()), offset, count, &mut sink)?;
    assert_eq!(length as usize, sink.bytes.len());
    Ok(sink.bytes)
}

/// `length` bytes, of which no two neighbours are equal and none is 0.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    (1..=251).cycle().take(length).collect()
}

/// The target of the symbolic link with inode `number`.
pub(super) fn read_link(volume: &TestVolume, number: u32) -> Result<Vec<u8>, Errno> {
    let mut sink = Collected::default();
    volume.read_link(Node(number.into()), &mut sink)?;
    Ok(sink.bytes)
}

/// What is damaged in the mapping of `inode`, found by walking over all of it.
pub(super) fn damage(volume: &TestVolume, inode: &Inode<'_>) -> Option<super::Damage> {
    let blocks = inode.size.div_ceil(volume.superblock().block_size.into());
    match volume.map(inode, 0..blocks, &mut |_| Ok(())) {
        Err(Error::Corrupt(damage)) => Some(damage),
        _ => None,
    }
}

/// Each block of the volume as it is read, but for the superblock's and the journal's, which are zeros here.
pub(super) fn blocks(volume: &TestVolume) -> Vec<Vec<u8>> {
    let count = volume.superblock().s_blocks_count;
    let mut blocks: Vec<Vec<u8>> = (0..count).map(|block| volume.block(block).unwrap().to_vec()).collect();
    blocks[volume.superblock().s_first_data_block as usize].fill(0);
    let journal = volume.journal_inode().unwrap();
    let length = journal.size / u64::from(volume.superblock().block_size);
    volume
        .map(&journal, 0..length, &mut |run| {
            let first = usize::try_from(run.physical.unwrap()).unwrap();
            let length = usize::try_from(run.blocks.end - run.blocks.start).unwrap();
            blocks[first..first + length].iter_mut().for_each(|block| block.fill(0));
            Ok(())
        })
        .unwrap();
    blocks
}

/// Whether the environment asks for the long form of the tests: `SKERRY_LONG=1`.
pub(super) fn is_long() -> bool {
    std::env::var_os("SKERRY_LONG").is_some_and(|value| value == "1")
}

/// How often a test does what it does at random: `usual` times, or `long` times in the long form.
pub(super) fn repeats(usual: usize, long: usize) -> usize {
    if is_long() { long } else { usual }
}

/// Numbers that look random and are the same in each run (xorshift64*).
pub(super) struct Numbers(pub u64);

impl Numbers {
    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        usize::try_from(number).unwrap() % limit
    }

    /// Any byte.
    pub(super) fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}
