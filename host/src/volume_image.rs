// SPDX-License-Identifier: MIT OR Apache-2.0

//! Volumes in files: an imported directory, and a small demo.
//!
//! `mkfs.ext4 -d` makes them, with its own default features. This only finds out how large a volume has to be,
//! and sees to it that a file with the final name is a whole volume.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use tempfile::NamedTempFile;

use crate::workspace;

/// Bytes in a block of the volumes made here.
const BLOCK: u64 = 4096;
/// Bytes in an inode.
const INODE: u64 = 256;
/// Sizes are multiples of this many bytes, so that the volume can be mapped with large pages.
const GRAIN: u64 = 2 << 20;
/// Free space that every volume has: for the journal (16 MiB below 1 GiB, at most 64 MiB below 16 GiB), and to write to.
const SLACK: u64 = 512 << 20;
/// Free inodes that every volume has: as many as mkfs.ext4 gives to [`SLACK`].
const SPARE_INODES: u64 = SLACK / 16_384;

/// What a tree needs in a volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Inodes: hard links to one file count once.
    pub inodes: u64,
    /// Blocks of 4096 bytes for data, directories, long symlinks and extended attributes.
    pub blocks: u64,
}

impl Needs {
    /// Counts what is below `root`.
    ///
    /// # Errors
    /// If something there cannot be read; the message names it.
    pub fn of(root: &Path) -> Result<Self> {
        let mut needs = Self { inodes: 1, blocks: 1 };
        let mut linked = HashSet::new();
        let mut directories = vec![root.to_path_buf()];
        while let Some(directory) = directories.pop() {
            let mut names = 0;
            let unreadable = || format!("cannot read {}", directory.display());
            for entry in fs::read_dir(&directory).with_context(unreadable)? {
                let entry = entry.with_context(unreadable)?;
                // A directory entry is 8 bytes and the name, padded to 4 (ext4_dir_entry_2).
                names += 8 + (entry.file_name().as_bytes().len() as u64).next_multiple_of(4);
                let path = entry.path();
                let metadata =
                    fs::symlink_metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
                if metadata.nlink() > 1
                    && !metadata.is_dir()
                    && !linked.insert((metadata.dev(), metadata.ino()))
                {
                    continue;
                }
                needs.inodes += 1;
                needs.blocks +=
                    blocks(&path, &metadata).with_context(|| format!("cannot read {}", path.display()))?;
                if metadata.is_dir() {
                    directories.push(path);
                }
            }
            // Entries do not cross blocks, so that up to a 16th of a block of long names is lost.
            needs.blocks += (names + names / 8).div_ceil(BLOCK);
        }
        Ok(needs)
    }

    /// Bytes of a volume that the tree fits in.
    #[must_use]
    pub fn volume_size(self) -> u64 {
        let content = self.blocks * BLOCK + self.inode_count() * INODE;
        // A 20th for extent trees, bitmaps and group descriptors.
        (content + content / 20 + SLACK).next_multiple_of(GRAIN)
    }

    /// Inodes that the volume gets: some more than the tree needs.
    #[must_use]
    pub fn inode_count(self) -> u64 {
        self.inodes + self.inodes / 8 + SPARE_INODES
    }
}

/// The blocks that belong to one inode.
fn blocks(path: &Path, metadata: &Metadata) -> io::Result<u64> {
    let content = if metadata.is_file() {
        data_bytes(path, metadata)?.div_ceil(BLOCK)
    } else if metadata.is_symlink() && metadata.len() >= 60 {
        // A shorter one is in the inode itself (i_block).
        1
    } else {
        0
    };
    let mut nothing: [u8; 0] = [];
    let has_attributes = rustix::fs::llistxattr(path, &mut nothing).is_ok_and(|length| length > 0);
    Ok(content + u64::from(has_attributes))
}

/// The bytes of a file that are not in holes.
fn data_bytes(path: &Path, metadata: &Metadata) -> io::Result<u64> {
    // As many blocks as bytes: no holes, and no need to open it.
    if metadata.blocks() * 512 >= metadata.len() {
        return Ok(metadata.len());
    }
    let file = File::open(path)?;
    let (mut position, mut bytes) = (0, 0);
    loop {
        let start = match rustix::fs::seek(&file, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(bytes),
            Err(error) => return Err(error.into()),
        };
        position = rustix::fs::seek(&file, SeekFrom::Hole(start))?;
        // Whole blocks, because a hole need not end where a block does.
        bytes += position.next_multiple_of(BLOCK) - start / BLOCK * BLOCK;
    }
}

/// Makes a volume with everything that is in `directory`. The file is removed when what is returned is dropped.
///
/// # Errors
/// If something in `directory` cannot be read, or `mkfs.ext4` fails; nothing is left then.
pub fn import(directory: &Path) -> Result<NamedTempFile> {
    if !directory.is_dir() {
        bail!("{} is no directory: --import takes the directory to make a volume of", directory.display());
    }
    let needs = Needs::of(directory)?;
    let size = needs.volume_size();
    let parent = workspace::target();
    fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let file = tempfile::Builder::new()
        .prefix("import-")
        .suffix(".ext4")
        .tempfile_in(&parent)
        .with_context(|| format!("cannot write to {}", parent.display()))?;
    let [block, inode, count] = [BLOCK, INODE, needs.inode_count()].map(|number| number.to_string());
    let options = ["-L", "skerry", "-m", "0", "-b", &block, "-I", &inode, "-N", &count, "-d"].map(OsStr::new);
    format(file.path(), size, options.into_iter().chain([directory.as_os_str()])).with_context(|| {
        format!("there is no volume of {} ({} inodes, {} MiB)", directory.display(), needs.inodes, size >> 20)
    })?;
    Ok(file)
}

/// Makes the file `path` a volume of `size` bytes, with these options of `mkfs.ext4`. What nobody writes takes no space.
///
/// # Errors
/// If the file cannot be written, or `mkfs.ext4` fails.
pub fn format(path: &Path, size: u64, options: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<()> {
    let file = File::options().write(true).create(true).truncate(false).open(path);
    file.and_then(|file| file.set_len(size))
        .with_context(|| format!("cannot make {} of {size} bytes", path.display()))?;
    let made = Command::new("/usr/sbin/mkfs.ext4")
        .args(["-q", "-F"])
        .args(options)
        .arg(path)
        .output()
        .context("cannot run /usr/sbin/mkfs.ext4; run host/provision.sh")?;
    if !made.status.success() {
        bail!("mkfs.ext4: {}", String::from_utf8_lossy(&made.stderr).trim());
    }
    Ok(())
}

/// The demo volume, made at the first call. It keeps what is written to it.
///
/// # Errors
/// As [`import`].
pub fn demo() -> Result<PathBuf> {
    let path = workspace::target().join("demo.ext4");
    if !path.exists() {
        make_demo(&path)?;
    }
    Ok(path)
}

fn make_demo(path: &Path) -> Result<()> {
    let tree = tempfile::tempdir().context("cannot make a temporary directory")?;
    fill_demo(tree.path()).context("cannot make the demo's files")?;
    import(tree.path())?.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

fn fill_demo(root: &Path) -> io::Result<()> {
    fs::write(
        root.join("README"),
        "This volume is an ext4 file system in a file of the host. The service VM maps it, and answers the\n\
         9P requests of the kernel that you are talking to. Try: ls -lR /mnt; sha256sum /mnt/data/*; mount\n\
         What you write stays: in target/demo.ext4, which any Linux can mount. Remove that file for a new demo.\n",
    )?;
    let data = root.join("data");
    fs::create_dir(&data)?;
    // A linear congruential generator (Knuth's MMIX): bytes that do not compress, and are the same everywhere.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
    .take(8 << 20)
    .collect();
    fs::write(data.join("noise"), noise)?;
    File::create(data.join("hole"))?.set_len(64 << 20)?;
    let names = root.join("names");
    fs::create_dir(&names)?;
    for name in ["plain", "with space", "Grüße", "岩礁", "👋"] {
        fs::write(names.join(name), format!("{name}\n"))?;
    }
    fs::write(names.join("n".repeat(255)), "a name of 255 bytes\n")?;
    fs::hard_link(names.join("plain"), names.join("hard link"))?;
    symlink("../README", names.join("symlink"))?;
    let deep = root.join("deep/deeper/deepest/a/b/c/d/e/f/g/h");
    fs::create_dir_all(&deep)?;
    fs::write(deep.join("bottom"), "found\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    /// What `e2fsck` says to a volume: empty and true if it is in order.
    fn checked(volume: &Path) -> (bool, String) {
        let output = Command::new("/usr/sbin/e2fsck").arg("-fn").arg(volume).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn hard_links_count_once_and_holes_do_not_count() {
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("file"), vec![1; 5000]).unwrap();
        fs::hard_link(tree.path().join("file"), tree.path().join("link")).unwrap();
        let mut sparse = File::create(tree.path().join("sparse")).unwrap();
        sparse.seek(io::SeekFrom::Start(1 << 30)).unwrap();
        sparse.write_all(b"end").unwrap();
        let needs = Needs::of(tree.path()).unwrap();
        assert_eq!(needs.inodes, 3);
        // The root and its entries, two of the file, one or a few of the sparse one.
        assert!((5..40).contains(&needs.blocks), "{needs:?}");
    }

    #[test]
    fn an_imported_tree_fits_whatever_it_consists_of() {
        let tree = tempfile::tempdir().unwrap();
        for number in 0..6000 {
            File::create(tree.path().join(format!("{number:0>200}"))).unwrap();
        }
        fs::write(tree.path().join("large"), vec![1; 200 << 20]).unwrap();
        let volume = import(tree.path()).unwrap();
        let (in_order, said) = checked(volume.path());
        assert!(in_order, "{said}");
        assert_eq!(volume.as_file().metadata().unwrap().len() % GRAIN, 0);
    }

    #[test]
    fn the_file_of_an_import_is_gone_when_it_is_dropped() {
        let tree = tempfile::tempdir().unwrap();
        let volume = import(tree.path()).unwrap();
        let path = volume.path().to_path_buf();
        assert!(path.exists());
        drop(volume);
        assert!(!path.exists());
    }

    #[test]
    fn the_demo_is_an_orderly_volume() {
        let directory = tempfile::tempdir_in(workspace::target()).unwrap();
        let demo = directory.path().join("demo.ext4");
        make_demo(&demo).unwrap();
        let (in_order, said) = checked(&demo);
        assert!(in_order, "{said}");
        // Sparse: what nobody wrote takes no space on the host.
        let taken = demo.metadata().unwrap().blocks() * 512;
        assert!(taken < 64 << 20, "{taken} bytes");
    }

    #[test]
    fn importing_what_is_no_directory_is_refused() {
        let message = import(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(message.starts_with("/nowhere is no directory"), "{message}");
    }
}
