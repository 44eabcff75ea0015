// SPDX-License-Identifier: MIT OR Apache-2.0

//! An ext4 volume as a [`FileSystem`](crate::fs::FileSystem): in place, without allocation.
//!
//! A [`Volume`] is mounted on a [`Region`] and keeps little of it: the parsed superblock, what is free, what is open. Each request
//! finds its inode through the group descriptors, its blocks through the extent tree, and verifies every structure on the way
//! (ranges always, checksums where the volume has them). Nothing that the volume says is taken for granted, so that a
//! damaged one gives errors, and never a panic, a loop, or a read outside the region.
//!
//! The content of files is stored in place. Metadata is changed in copies that the journal keeps: an operation takes effect
//! whole or not at all, and with it every reader of metadata sees what is new.
//!
//! | file         | subject                                                         |
//! |--------------|-----------------------------------------------------------------|
//! | `superblock` | the volume's parameters; `features`: what can be honoured; `superblock_edit`: its counts |
//! | `group`      | group descriptors                                                |
//! | `transaction` | changing blocks, all or nothing                                 |
//! | `journal`    | the log: commits, flushes, recovery; mounting a volume to be written |
//! | `alloc`      | taking and freeing blocks and inodes                             |
//! | `inode`      | inodes; `inode_edit`: changing them; `timestamp`: their times    |
//! | `mapping`    | file blocks to volume blocks, reading; over `extent`, `blockmap` (`blockmap_edit`: freeing) |
//! | `content`    | writing files; `truncate`: their size, freeing what is behind their end |
//! | `inline`     | content in the inode                                             |
//! | `dir`        | directories: reading and changing them; `dirent`: their records; `htree`, `hash`: their index |
//! | `create`, `remove`, `rename`, `set_attributes` | the changes that a client asks for     |
//! | `system_zone` | the blocks that hold the volume's own structures, and no file may have |
//! | `attended`   | what is open, and orphans; `orphan`: their list on the volume    |
//! | `xattr`      | extended attributes; `namespace`: their names; `ea_inode`: large values; `acl`: access control lists |
//! | `symlink`    | targets of symbolic links                                        |
//! | `status`     | what `statfs` tells                                              |
//! | `file_system` | the volume as a `FileSystem`                                    |
//! | `error`      | what can be wrong; `error_state`: what is noted of it, and what becomes of the volume |
//! | `checksum`, `field`, `power_of_two` | sums and numbers as the format has them   |
//! | `testing`, `crash` | volumes for tests, and what a crash may leave of them      |

mod acl;
mod alloc;
mod attended;
mod blockmap;
mod blockmap_edit;
mod checksum;
mod content;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod crash_suite;
mod create;
mod dir;
mod dirent;
mod ea_inode;
mod error;
mod error_state;
mod extent;
mod features;
mod field;
mod file_system;
mod group;
mod hash;
#[cfg(test)]
mod hostile;
mod htree;
mod inline;
mod inode;
mod inode_edit;
mod journal;
mod mapping;
mod namespace;
mod orphan;
mod power_of_two;
mod remembered;
mod remove;
mod rename;
mod set_attributes;
mod status;
mod superblock;
mod superblock_edit;
mod symlink;
mod system_zone;
#[cfg(test)]
mod testing;
mod timestamp;
mod transaction;
mod truncate;
mod verified;
mod xattr;

use core::fmt;

pub use acl::AclFault;
pub use blockmap::BlockMapFault;
use dir::Directory;
pub use dir::{DirectoryFault, LeafFault};
pub use dirent::RecordFault;
pub use ea_inode::ValueFault;
use error::Error;
pub use error::{Damage, MountError};
pub use extent::ExtentFault;
pub use features::{Incompat, RoCompat};
pub use group::GroupFault;
pub use htree::IndexFault;
pub use inline::InlineFault;
pub use inode::InodeFault;
pub use journal::JournalStatistics;
pub use mapping::Run;
use superblock::Superblock;
pub use symlink::SymlinkFault;
pub use xattr::AttributeFault;

use crate::fs::{Errno, FileKind, Node, Timestamp};
use crate::mem::region::Region;

/// A mounted volume.
pub struct Volume<R: Region> {
    region: R,
    superblock: Superblock,
    totals: group::Totals,
    /// Where space was found last, and what must not be taken yet.
    recent: alloc::Recent,
    overhead: u64,
    system_zone: system_zone::SystemZone,
    /// What is being changed; `None` on a volume that is only read.
    log: Option<journal::Log>,
    /// Why the volume is only read although it was to be written.
    read_only: Option<&'static str>,
    /// What is open, and orphans.
    attended: attended::Attended,
    clock: Clock,
    /// What was found damaged.
    errors: error_state::ErrorState,
    /// Which checksums need no second look.
    verified: verified::Verified,
    /// Where the files lie that were read last.
    remembered: remembered::Remembered,
}

/// Tells the time of a change.
pub type Clock = fn() -> Timestamp;

impl<R: Region> Volume<R> {
    /// Mounts the volume that `region` holds: checks the superblock, every group descriptor, the journal and the root directory.
    ///
    /// # Errors
    /// [`MountError`]: no volume, a damaged one, one that must be recovered first, or one with features that this reader
    /// does not have.
    pub fn mount(region: R) -> Result<Self, MountError> {
        let superblock = Superblock::read(&region)?;
        if superblock.incompat.contains(Incompat::RECOVER) {
            return Err(MountError::NeedsRecovery);
        }
        let mut volume = Self::unchecked(region, superblock);
        let journal = volume.check_journal()?;
        volume.check(journal)?;
        Ok(volume)
    }

    /// The volume that `region` holds, of which only the superblock is known.
    fn unchecked(region: R, superblock: Superblock) -> Self {
        Self {
            region,
            superblock,
            totals: group::Totals::default(),
            recent: alloc::Recent::default(),
            overhead: 0,
            system_zone: system_zone::SystemZone::default(),
            log: None,
            attended: attended::Attended::new(),
            read_only: None,
            clock: || Timestamp { seconds: 0, nanoseconds: 0 },
            errors: error_state::ErrorState::default(),
            verified: verified::Verified::new(),
            remembered: remembered::Remembered::new(),
        }
    }

    /// Checks every group descriptor and the root directory, and counts; `journal` is the journal's length in blocks.
    fn check(&mut self, journal: u32) -> Result<(), MountError> {
        self.totals = self.check_groups()?;
        self.collect_system_zone(journal)?;
        self.overhead = status::overhead(&self.superblock, journal);
        if self.inode(inode::ROOT)?.kind != FileKind::Directory {
            let fault = InodeFault::NotDirectory;
            return Err(MountError::Damaged(Damage::Inode { inode: inode::ROOT, fault }));
        }
        Ok(())
    }

    /// The time of a change.
    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Shows `visit` where the content of a regular file or directory lies, run by run, in order and without gaps: for
    /// tools that look at a volume. Content that is in the inode has no runs.
    ///
    /// # Errors
    /// EUCLEAN; EINVAL for another kind.
    pub fn visit_runs(&self, node: Node, visit: &mut dyn FnMut(Run)) -> Result<(), Errno> {
        self.file(node)
            .and_then(|inode| {
                if !matches!(inode.kind, FileKind::Regular | FileKind::Directory) {
                    return Err(Errno::EINVAL.into());
                }
                if inode.flags.contains(inode::InodeFlags::INLINE_DATA) {
                    return Ok(());
                }
                let blocks = self.superblock.block_size.count_for(inode.size);
                self.map(&inode, 0..blocks, &mut |run| {
                    visit(run);
                    Ok(())
                })
            })
            .map_err(|error| self.answer(error, file_system::number(node)))
    }

    /// The superblock.
    fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Block `number` of metadata, as the last operation left it.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "s_blocks_count blocks are no more bytes than the region"
    )]
    fn block(&self, number: u64) -> Result<&[u8], Error> {
        if number >= self.superblock.s_blocks_count {
            return Err(self.out_of_range(number));
        }
        let size = u64::from(self.superblock.block_size);
        let newest = self.log.as_ref().and_then(|log| log.newest(number));
        self.bytes(newest.unwrap_or(number * size), size)
    }

    /// The `length` bytes of the volume from `offset` on, in place.
    fn bytes(&self, offset: u64, length: u64) -> Result<&[u8], Error> {
        usize::try_from(length)
            .ok()
            .and_then(|length| self.region.bytes(offset, length))
            .ok_or_else(|| self.out_of_range(offset / self.superblock.block_size))
    }

    fn out_of_range(&self, block: u64) -> Error {
        Damage::BlockOutOfRange { block, blocks_count: self.superblock.s_blocks_count }.into()
    }

    /// Whether the `length` blocks from `start` on lie in the volume and behind its superblock.
    fn holds(&self, start: u64, length: u64) -> bool {
        start > u64::from(self.superblock.s_first_data_block)
            && start.checked_add(length).is_some_and(|end| end <= self.superblock.s_blocks_count)
    }
}

impl<R: Region> fmt::Debug for Volume<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volume").field("superblock", &self.superblock).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{DirectoryEntry, FileSystem};
    use crate::mem::{Full, Sink};
    use core::ops::ControlFlow;
    use std::time::{Duration, Instant};
    use std::vec::Vec;
    use testing::{Borrowed, Image, Numbers, set_superblock};

    /// A sink that only counts.
    struct Counted(u64);

    impl Sink for Counted {
        fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
            self.0 += bytes.len() as u64;
            Ok(())
        }

        fn put_zeros(&mut self, count: usize) -> Result<(), Full> {
            self.0 += count as u64;
            Ok(())
        }
    }

    /// Asks all there is to ask about every inode; how many answers were no error.
    fn ask_everything(volume: &Volume<Borrowed<'_>>) -> u32 {
        let mut answered = u32::from(volume.status().is_ok());
        for number in 0..=volume.superblock().s_inodes_count.min(80) {
            let node = Node(number.into());
            let size = volume.attributes(node).map_or(0, |attributes| attributes.size);
            answered += u32::from(size > 0);
            for offset in [0, size / 2, size.saturating_sub(100)] {
                let mut sink = Counted(0);
                if let Ok(count) = volume.read(node, offset, 300_000, &mut sink) {
                    assert_eq!(u64::from(count), sink.0);
                    answered += 1;
                }
            }
            answered += u32::from(volume.read_link(node, &mut Counted(0)).is_ok());
            answered += u32::from(volume.parent(node).is_ok());
            answered += u32::from(volume.lookup(node, b"comb").is_ok());
            let mut visit = |_: &DirectoryEntry<'_>| ControlFlow::Continue(());
            answered += u32::from(volume.read_directory(node, 0, &mut visit).is_ok());
            answered += u32::from(volume.list_attributes(node, &mut Counted(0)).is_ok());
            answered += u32::from(volume.read_attribute(node, b"user.name", &mut Counted(0)).is_ok());
        }
        answered
    }

    fn varied(options: &[&str]) -> Image {
        let image = Image::new("512K", options, |root| {
            let comb: Vec<u8> = (0..160u8).flat_map(|index| [index % 2; 1024]).collect();
            std::fs::write(root.join("comb"), comb).unwrap();
            std::fs::write(root.join("small"), "a few bytes").unwrap();
            std::fs::create_dir_all(root.join("one/two/three")).unwrap();
            std::os::unix::fs::symlink("one/two", root.join("fast")).unwrap();
            std::os::unix::fs::symlink("one/".repeat(20), root.join("slow")).unwrap();
        });
        image.debugfs("ea_set /small user.name value");
        image
    }

    #[test]
    fn no_changed_bytes_make_it_panic_or_take_long() {
        let mut numbers = Numbers(0x0dd_ba11);
        let mut answered = 0;
        let mut slowest = Duration::ZERO;
        for options in [
            &["-b", "1024", "-N", "64"][..],
            &["-b", "1024", "-N", "64", "-O", "^metadata_csum,^has_journal"],
            &["-b", "1024", "-N", "64", "-O", "^metadata_csum,^has_journal,inline_data"],
            &["-b", "1024", "-N", "64", "-t", "ext2"],
        ] {
            let mut bytes = varied(options).bytes();
            let metadata = 60 * 1024;
            for _ in 0..1000 {
                let area = if numbers.below(4) == 0 { bytes.len() } else { metadata };
                let mut changed = Vec::new();
                for _ in 0..=numbers.below(3) {
                    let place = 1024 + numbers.below(area - 1024);
                    changed.push((place, bytes[place]));
                    bytes[place] = match numbers.below(3) {
                        0 => 0xff,
                        1 => 0,
                        _ => numbers.byte(),
                    };
                }
                let start = Instant::now();
                if let Ok(volume) = Volume::mount(Borrowed(&bytes)) {
                    answered += ask_everything(&volume);
                }
                slowest = slowest.max(start.elapsed());
                for (place, byte) in changed.into_iter().rev() {
                    bytes[place] = byte;
                }
            }
            let sound = ask_everything(&Volume::mount(Borrowed(&bytes)).unwrap());
            assert_eq!(sound, 39, "of the unchanged volume, each answer that is no error");
        }
        assert!(answered > 10_000, "most changes leave most of the volume readable: {answered}");
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    }

    #[test]
    fn superblocks_with_a_right_checksum_and_wrong_fields_never_panic() {
        let mut numbers = Numbers(0x5b);
        let original = varied(&["-b", "1024", "-N", "64", "-O", "meta_bg,^resize_inode"]).bytes();
        let mut mounted = 0;
        for _ in 0..3000 {
            let mut bytes = original.clone();
            let offset = numbers.below(0x280);
            let value = [0, 0xff, numbers.byte()][numbers.below(3)];
            set_superblock(&mut bytes, offset, &[value]);
            if let Ok(volume) = Volume::mount(Borrowed(&bytes)) {
                mounted += 1;
                ask_everything(&volume);
            }
        }
        assert!(mounted > 500, "many fields do not matter to a reader: {mounted}");
    }

    #[test]
    fn a_region_that_shrinks_after_the_mount_gives_errors() {
        struct Shrinking(Vec<u8>, core::cell::Cell<usize>);
        impl Region for Shrinking {
            fn len(&self) -> u64 {
                self.0.len() as u64
            }
            fn bytes(&self, offset: u64, length: usize) -> Option<&[u8]> {
                let start = usize::try_from(offset).ok()?;
                self.0.get(..self.1.get())?.get(start..start.checked_add(length)?)
            }
        }
        let bytes = varied(&["-b", "1024", "-N", "64"]).bytes();
        let length = bytes.len();
        let mut volume = Volume::mount(Shrinking(bytes, core::cell::Cell::new(length))).unwrap();
        assert!(volume.attributes(volume.root()).is_ok());
        for length in (0..length).step_by(1000) {
            volume.region.1.set(length);
            for number in 0..64 {
                let _ = volume.read(Node(number), 0, 1 << 20, &mut Counted(0));
                let _ = volume.read_link(Node(number), &mut Counted(0));
            }
        }
        volume.region.1.set(0);
        // What is remembered needs no region.
        volume.forget_everything();
        assert_eq!(volume.attributes(volume.root()), Err(Errno::EUCLEAN));
    }
}
