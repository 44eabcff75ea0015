// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writes an initramfs: a cpio archive in the "newc" format that the Linux kernel unpacks into its first root.
//!
//! The format is in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst: a header of 110
//! ASCII bytes, the name with its NUL, the data; header plus name and data are each padded to 4 bytes. Everything
//! is owned by root, whoever builds it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Why an archive cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// Something that was to go into the archive cannot be read.
    #[error("cannot read {} for the client's root: {source}", path.display())]
    Unreadable {
        /// The file or directory on the host.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The format has 32 bits for a file's size.
    #[error("{} is too large for the client's root: {size} bytes, and the limit is 4 GiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// A program that was to go along with its libraries is not on this machine, or is no dynamic program.
    #[error("cannot take the program {program} to the client: {reason}")]
    Program {
        /// Its name.
        program: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// `S_IFMT` values, as inode(7) has them.
const S_IFIFO: u32 = 0o010_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// An archive that grows entry by entry. Paths are those in the client, absolute or not; parent directories are
/// made as needed, and the later of two entries with one path wins.
#[derive(Debug, Default)]
pub struct Initramfs {
    archive: Vec<u8>,
    next_inode: u32,
    directories: BTreeSet<PathBuf>,
}

impl Initramfs {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory, with permission bits `mode`.
    pub fn directory(&mut self, path: impl AsRef<Path>, mode: u32) {
        let path = relative(path.as_ref());
        self.parents(&path);
        if !path.as_os_str().is_empty() {
            self.directories.insert(path.clone());
            self.entry(&path, S_IFDIR | mode, (0, 0), &[]);
        }
    }

    /// Adds a regular file. Fails if it has 4 GiB or more.
    pub fn file(&mut self, path: impl AsRef<Path>, mode: u32, data: &[u8]) -> Result<(), InitramfsError> {
        let path = relative(path.as_ref());
        if u32::try_from(data.len()).is_err() {
            return Err(InitramfsError::TooLarge { path, size: data.len() as u64 });
        }
        self.parents(&path);
        self.entry(&path, S_IFREG | mode, (0, 0), data);
        Ok(())
    }

    /// Adds a symlink at `path` with the text `target`.
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: impl AsRef<OsStr>) {
        let path = relative(path.as_ref());
        self.parents(&path);
        self.entry(&path, S_IFLNK | 0o777, (0, 0), target.as_ref().as_bytes());
    }

    /// Adds a character device.
    pub fn character_device(&mut self, path: impl AsRef<Path>, mode: u32, major: u32, minor: u32) {
        let path = relative(path.as_ref());
        self.parents(&path);
        self.entry(&path, S_IFCHR | mode, (major, minor), &[]);
    }

    /// Adds a copy of the host's file, with its permission bits.
    pub fn host_file(&mut self, path: impl AsRef<Path>, source: &Path) -> Result<(), InitramfsError> {
        let unreadable = |error| InitramfsError::Unreadable { path: source.to_path_buf(), source: error };
        let metadata = fs::metadata(source).map_err(unreadable)?;
        if u32::try_from(metadata.len()).is_err() {
            return Err(InitramfsError::TooLarge { path: source.to_path_buf(), size: metadata.len() });
        }
        let data = fs::read(source).map_err(unreadable)?;
        self.file(path, metadata.mode() & 0o7777, &data)
    }

    /// Adds everything below the host's directory `source`, with modes and symlinks; sockets are left out.
    pub fn tree(&mut self, source: &Path) -> Result<(), InitramfsError> {
        self.subtree(source, Path::new(""))
    }

    fn subtree(&mut self, source: &Path, path: &Path) -> Result<(), InitramfsError> {
        let unreadable = |error| InitramfsError::Unreadable { path: source.to_path_buf(), source: error };
        let mut names = Vec::new();
        for entry in fs::read_dir(source).map_err(unreadable)? {
            names.push(entry.map_err(unreadable)?.file_name());
        }
        // In order, so that the same tree makes the same archive.
        names.sort();
        for name in names {
            let (source, path) = (source.join(&name), path.join(&name));
            let unreadable = |error| InitramfsError::Unreadable { path: source.clone(), source: error };
            let metadata = fs::symlink_metadata(&source).map_err(unreadable)?;
            let (kind, mode) = (metadata.file_type(), metadata.mode() & 0o7777);
            let device = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
            if kind.is_dir() {
                self.directory(&path, mode);
                self.subtree(&source, &path)?;
            } else if kind.is_file() {
                self.host_file(&path, &source)?;
            } else if kind.is_symlink() {
                self.symlink(&path, fs::read_link(&source).map_err(unreadable)?);
            } else if kind.is_char_device() {
                self.entry(&path, S_IFCHR | mode, device, &[]);
            } else if kind.is_block_device() {
                self.entry(&path, S_IFBLK | mode, device, &[]);
            } else if kind.is_fifo() {
                self.entry(&path, S_IFIFO | mode, (0, 0), &[]);
            }
        }
        Ok(())
    }

    /// Adds a program of the host to `/usr/bin`, and every library that its loader would map, where the
    /// loader looks for it.
    pub fn host_program(&mut self, name: &str) -> Result<(), InitramfsError> {
        let failed = |reason: String| InitramfsError::Program { program: name.to_owned(), reason };
        let places = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];
        let source = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
        let source = source.ok_or_else(|| failed("it is not installed".to_owned()))?;
        let listed = std::process::Command::new("ldd").arg(&source).output();
        let listed = listed.map_err(|error| failed(format!("cannot run ldd: {error}")))?;
        if !listed.status.success() {
            return Err(failed(format!("ldd says {}", String::from_utf8_lossy(&listed.stdout).trim())));
        }
        for library in libraries(&String::from_utf8_lossy(&listed.stdout)) {
            self.host_file(library, Path::new(library))?;
        }
        self.host_file(Path::new("usr/bin").join(name), &source)
    }

    /// Ends the archive and gives its bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(Path::new("TRAILER!!!"), 0, (0, 0), &[]);
        self.archive
    }

    fn parents(&mut self, path: &Path) {
        let missing: Vec<PathBuf> = path
            .ancestors()
            .skip(1)
            .filter(|parent| !parent.as_os_str().is_empty() && !self.directories.contains(*parent))
            .map(Path::to_path_buf)
            .collect();
        for parent in missing.into_iter().rev() {
            self.directories.insert(parent.clone());
            self.entry(&parent, S_IFDIR | 0o755, (0, 0), &[]);
        }
    }

    /// Appends one entry. `data` has fewer than 4 GiB: the callers have checked.
    fn entry(&mut self, path: &Path, mode: u32, (rdevmajor, rdevminor): (u32, u32), data: &[u8]) {
        let name = path.as_os_str().as_bytes();
        self.next_inode += 1;
        let nlink = if mode & S_IFDIR == S_IFDIR { 2 } else { 1 };
        let namesize = name.len() as u32 + 1;
        let (uid, gid, mtime, devmajor, devminor, check) = (0, 0, 0, 0, 0, 0);
        self.archive.extend_from_slice(b"070701");
        let fields = [
            self.next_inode,
            mode,
            uid,
            gid,
            nlink,
            mtime,
            data.len() as u32,
            devmajor,
            devminor,
            rdevmajor,
            rdevminor,
            namesize,
            check,
        ];
        for field in fields {
            self.archive.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.archive.extend_from_slice(name);
        self.archive.push(0);
        self.pad();
        self.archive.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.archive.resize(self.archive.len().next_multiple_of(4), 0);
    }
}

/// A path of the client, as the archive names it: without the leading slash.
fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_path_buf()
}

/// The files that `ldd` printed: `name => /path (address)`, or `/path (address)` for the loader itself.
fn libraries(printed: &str) -> impl Iterator<Item = &str> {
    printed.lines().filter_map(|line| {
        let found = line.split_once("=>").map_or(line, |(_, path)| path).trim();
        found.split(" (").next().filter(|path| path.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::{Command, Stdio};

    /// Lists an archive with busybox's cpio, which this project did not write.
    fn listed(archive: &[u8]) -> String {
        use std::io::Write;
        let mut cpio = Command::new("busybox")
            .args(["cpio", "-t", "-v"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        cpio.stdin.take().unwrap().write_all(archive).unwrap();
        String::from_utf8(cpio.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn an_entry_is_laid_out_as_the_kernel_documents_it() {
        let mut archive = Initramfs::new();
        archive.file("/ab", 0o640, b"hello").unwrap();
        let bytes = archive.finish();
        let header = b"070701\
            00000001000081A0000000000000000000000001000000000000000500000000000000000000000000000000\
            0000000300000000";
        assert_eq!(&bytes[..110], header);
        assert_eq!(&bytes[110..124], b"ab\0\0\0\0hello\0\0\0".get(..14).unwrap());
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn parents_are_made_once_and_before_their_children() {
        let mut archive = Initramfs::new();
        archive.file("a/b/c", 0o600, b"1").unwrap();
        archive.file("a/b/d", 0o600, b"2").unwrap();
        let names: Vec<String> = listed(&archive.finish())
            .lines()
            .map(|line| line.split_whitespace().last().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/b/d"]);
    }

    #[test]
    fn a_tree_keeps_modes_symlinks_and_empty_directories() {
        let source = tempfile::tempdir().unwrap();
        fs::create_dir(source.path().join("empty")).unwrap();
        fs::write(source.path().join("tool"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(source.path().join("tool"), fs::Permissions::from_mode(0o4751)).unwrap();
        symlink("tool", source.path().join("link")).unwrap();
        let mut archive = Initramfs::new();
        archive.tree(source.path()).unwrap();
        let printed = listed(&archive.finish());
        assert!(printed.contains("-rwsr-x--x") && printed.contains("link -> tool"), "{printed}");
        assert!(printed.lines().any(|line| line.starts_with('d') && line.ends_with("empty")), "{printed}");
    }

    #[test]
    fn the_libraries_of_a_program_are_what_ldd_resolved() {
        let printed = "\tlinux-vdso.so.1 (0x7ff)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        let found: Vec<&str> = libraries(printed).collect();
        assert_eq!(found, ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn a_program_that_is_not_installed_is_named() {
        let message = Initramfs::new().host_program("no-such-program").unwrap_err().to_string();
        assert!(message.contains("no-such-program to the client: it is not installed"), "{message}");
    }
}
