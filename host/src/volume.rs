// SPDX-License-Identifier: MIT OR Apache-2.0

//! The volume's file: checked and locked before it is served.
//!
//! The server takes the volume's bytes for its own: nobody else may write them meanwhile. An exclusive `flock` on the file keeps a
//! second server away for as long as the first one holds it; the kernel drops it with the process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A volume's size must be a multiple of this many bytes: QEMU maps pages.
const PAGE: u64 = 4096;

/// Why a file cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// It cannot be opened.
    #[error("volume {}: {reason}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// It is a directory, a device, or something else without bytes of its own.
    #[error("volume {}: it is {kind}; a regular file that holds an ext4 file system is needed", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Its size cannot be mapped.
    #[error("volume {}: its size of {size} bytes is not a multiple of {PAGE}; extend it with `truncate -s {}`", path.display(), size.next_multiple_of(PAGE))]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// There is nothing in it.
    #[error("volume {}: it is empty; make a file system in it with mkfs.ext4", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Somebody holds the lock.
    #[error("volume {}: another server is using it; end that one first, or serve a copy", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
}

/// A volume's file, locked for as long as this lives.
#[derive(Debug)]
pub struct Volume {
    path: PathBuf,
    size: u64,
    readonly: bool,
    locked: File,
}

impl Volume {
    /// Opens, checks and locks the file at `path`, to be written unless `readonly` is asked for or this process may not.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub fn open(path: &Path, readonly: bool) -> Result<Self, VolumeError> {
        let open_error = |reason| VolumeError::Open { path: path.to_owned(), reason };
        let path = path.canonicalize().map_err(open_error)?;
        let kind = path.metadata().map_err(open_error)?.file_type();
        if !kind.is_file() {
            let kind = if kind.is_dir() {
                "a directory"
            } else if kind.is_block_device() {
                "a block device"
            } else {
                "no regular file"
            };
            return Err(VolumeError::Kind { path, kind });
        }
        let (file, readonly) = open_file(&path, readonly).map_err(open_error)?;
        let size = file.metadata().map_err(open_error)?.len();
        if size == 0 {
            return Err(VolumeError::Empty { path });
        }
        if !size.is_multiple_of(PAGE) {
            return Err(VolumeError::Size { path, size });
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, size, readonly, locked: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(VolumeError::InUse { path }),
            Err(error) => Err(open_error(error.into())),
        }
    }

    /// The file. Closing all copies of it gives up the lock.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.locked
    }

    /// Its absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether it must not be written.
    #[must_use]
    pub fn is_readonly(&self) -> bool {
        self.readonly
    }
}

/// The file, and whether it can only be read.
fn open_file(path: &Path, readonly: bool) -> io::Result<(File, bool)> {
    if readonly {
        return Ok((File::open(path)?, true));
    }
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => Ok((file, false)),
        Err(error) if cannot_be_written(&error) => Ok((File::open(path)?, true)),
        Err(error) => Err(error),
    }
}

/// Whether a file that cannot be opened for writing may still be read.
fn cannot_be_written(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(path: &Path) -> String {
        Volume::open(path, false).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_volume_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("volume");
        assert!(message(&file).contains("No such file"), "{}", message(&file));
        assert!(message(directory.path()).contains("it is a directory"));
        std::fs::write(&file, b"").unwrap();
        assert!(message(&file).contains("mkfs.ext4"));
        std::fs::write(&file, [0; 5000]).unwrap();
        assert!(message(&file).contains("5000 bytes") && message(&file).contains("truncate -s 8192"));
    }

    #[test]
    fn a_volume_has_one_server_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("volume");
        std::fs::write(&file, [0; 4096]).unwrap();
        let first = Volume::open(&file, false).unwrap();
        assert_eq!((first.size(), first.is_readonly()), (4096, false));
        assert!(message(&file).contains("another server is using it"));
        drop(first);
        assert!(Volume::open(&file, true).unwrap().is_readonly());
    }

    #[test]
    fn a_file_that_may_not_be_written_is_read() {
        let (directory, reader) = (tempfile::tempdir().unwrap(), 65_534);
        let file = directory.path().join("volume");
        std::fs::write(&file, [0; 4096]).unwrap();
        let open_to = |path: &Path, mode| {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        open_to(directory.path(), 0o755);
        open_to(&file, 0o444);
        // Root may write everything, so that this thread becomes somebody else.
        let opened = std::thread::spawn(move || {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::process::Uid::from_raw(reader);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            Volume::open(&file, false)
        });
        assert!(opened.join().unwrap().unwrap().is_readonly());
    }
}
