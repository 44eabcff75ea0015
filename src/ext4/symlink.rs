// SPDX-License-Identifier: MIT OR Apache-2.0

//! Symbolic links: the target lies in `i_block` if it is shorter than 60 bytes, else in one block; with inline data
//! also behind `i_block`.

use core::fmt;

use super::Volume;
use super::error::{Damage, Error};
use super::inode::{Inode, InodeFlags};
use crate::fs::{Errno, FileKind};
use crate::mem::Sink;
use crate::mem::region::Region;

/// What is wrong with a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SymlinkFault {
    /// `i_size` is 0, or leaves no room for a NUL in a block.
    Length(u64),
    /// The target contains a NUL.
    Nul {
        /// Where.
        position: usize,
    },
    /// The target's block is a hole.
    Hole,
}

impl fmt::Display for SymlinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Length(length) => write!(f, "its target is {length} bytes long"),
            Self::Nul { position } => write!(f, "byte {position} of its target is NUL"),
            Self::Hole => f.write_str("its target was never written"),
        }
    }
}

impl<R: Region> Volume<R> {
    /// Puts the target of `inode` into `sink`.
    pub(super) fn read_target(&self, inode: &Inode<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        if inode.kind != FileKind::Symlink {
            return Err(Errno::EINVAL.into());
        }
        let fail = |fault| Error::Corrupt(Damage::Symlink { inode: inode.number, fault });
        if inode.size == 0 || inode.size >= u64::from(self.superblock.block_size) {
            return Err(fail(SymlinkFault::Length(inode.size)));
        }
        let length = usize::try_from(inode.size).unwrap_or(usize::MAX);
        let pieces: [&[u8]; 2] = if inode.flags.contains(InodeFlags::INLINE_DATA) {
            self.inline_content(inode)?
        } else if let Some(target) = fast_target(inode) {
            [target, &[]]
        } else {
            let block = self.file_block(inode, 0)?.ok_or(fail(SymlinkFault::Hole))?;
            [block.get(..length).unwrap_or_default(), &[]]
        };
        let mut bytes = pieces.iter().flat_map(|piece| piece.iter());
        if let Some(position) = bytes.position(|byte| *byte == 0) {
            return Err(fail(SymlinkFault::Nul { position }));
        }
        for piece in pieces {
            sink.put(piece)?;
        }
        Ok(())
    }
}

/// The target, where it is short enough to lie in `i_block`.
pub(super) fn fast_target<'v>(inode: &Inode<'v>) -> Option<&'v [u8]> {
    let length = usize::try_from(inode.size).unwrap_or(usize::MAX);
    let in_inode = length < inode.i_block.len() && !inode.flags.contains(InodeFlags::EXTENTS);
    inode.i_block.get(..length).filter(|_| in_inode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::testing::{Image, TestVolume, read_link};
    use std::format;
    use std::os::unix::fs::symlink;
    use std::string::String;

    const LENGTHS: [usize; 7] = [1, 58, 59, 60, 61, 200, 1000];

    fn target(length: usize) -> String {
        ('a'..='z').cycle().take(length).collect()
    }

    #[test]
    fn targets_of_every_length_are_read_wherever_they_lie() {
        for options in [&["-b", "1024"][..], &["-b", "4096", "-O", "inline_data"], &["-t", "ext2"]] {
            let image = Image::new("2M", options, |root| {
                for length in LENGTHS {
                    symlink(target(length), root.join(format!("link{length}"))).unwrap();
                }
            });
            let volume = image.mount();
            for length in LENGTHS {
                let number = image.inode(&format!("/link{length}"));
                assert_eq!(read_link(&volume, number).unwrap(), target(length).as_bytes(), "{options:?}");
            }
        }
    }

    #[test]
    fn only_symbolic_links_have_targets() {
        let volume = Image::new("1M", &[], |_| {}).mount();
        assert_eq!(read_link(&volume, 2), Err(Errno::EINVAL));
    }

    #[test]
    fn lengths_and_bytes_that_no_target_has_are_damage() {
        let image = Image::new("1M", &["-b", "1024"], |root| {
            symlink("short", root.join("fast")).unwrap();
            symlink(target(100), root.join("slow")).unwrap();
        });
        let fault = |path: &str, field: &str, value: &str| {
            let number = image.inode(path);
            let before = image.bytes();
            image.debugfs(&format!("set_inode_field {path} {field} {value}"));
            let volume: TestVolume = image.mount();
            std::fs::write(image.file(), before).unwrap();
            let inode = volume.inode(number).unwrap();
            match volume.read_target(&inode, &mut crate::ext4::testing::Collected::default()) {
                Err(Error::Corrupt(Damage::Symlink { inode, fault })) if inode == number => Some(fault),
                _ => None,
            }
        };
        assert_eq!(fault("/fast", "size", "0"), Some(SymlinkFault::Length(0)));
        assert_eq!(fault("/fast", "size", "6"), Some(SymlinkFault::Nul { position: 5 }));
        assert_eq!(fault("/slow", "size", "101"), Some(SymlinkFault::Nul { position: 100 }));
        assert_eq!(fault("/slow", "size", "1024"), Some(SymlinkFault::Length(1024)));
    }
}
