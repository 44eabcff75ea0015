// SPDX-License-Identifier: MIT OR Apache-2.0

//! A volume in error: what is noted of the damage that was found, in its superblock as Linux does it, and what becomes of the
//! volume as `s_errors` says.
//!
//! Damage is found while something is read, too, where nothing of the volume can be changed. So it is noted in memory first,
//! and stored with the next commit, in an operation of its own. `s_errors` counts at once: "continue" lets the volume be changed
//! further; with everything else ("remount read-only", "panic") what was changed so far is committed, and then nothing is any
//! more. Orphans of a volume in error are left to `e2fsck`.

use core::cell::Cell;

use super::Volume;
use super::error::{Damage, Error};
use super::field::{le16, le32, put, put_le16, put_le32};
use crate::fs::Errno;
use crate::mem::region::Region;

/// `s_state`, and the bit that says that errors were found.
const S_STATE: usize = 0x3a;
pub(super) const STATE_ERROR: u16 = 2;
/// `s_errors`: go on.
pub(super) const ERRORS_CONTINUE: u16 = 1;
/// `s_error_count`: errors since the last `e2fsck`.
const S_ERROR_COUNT: usize = 0x194;
/// `s_last_error_errcode`: `EXT4_ERR_EFSCORRUPTED`.
const EFSCORRUPTED: u8 = 5;
/// The longest `s_first_error_func`.
const FUNCTION: usize = 32;
/// Errors of a mount that are each logged; of more, those whose count is a power of two.
const LOGGED: u32 = 64;

/// Where the fields lie that describe one error: the first since the last `e2fsck`, or the last.
struct ErrorFields {
    time: usize,
    time_hi: usize,
    ino: usize,
    line: usize,
    block: usize,
    func: usize,
    errcode: usize,
}

/// `s_first_error_time` and what follows it.
const FIRST: ErrorFields = ErrorFields {
    time: 0x198,
    time_hi: 0x278,
    ino: 0x19c,
    block: 0x1a0,
    func: 0x1a8,
    line: 0x1c8,
    errcode: 0x27a,
};
/// `s_last_error_time` and what follows it.
const LAST: ErrorFields = ErrorFields {
    time: 0x1cc,
    time_hi: 0x279,
    ino: 0x1d0,
    line: 0x1d4,
    block: 0x1d8,
    func: 0x1e0,
    errcode: 0x27b,
};

/// An error that is not stored yet.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// The time, in seconds.
    seconds: i64,
    damage: Damage,
    /// The inode that was served, if the damage names none.
    served: u32,
}

/// What was found since the mount.
#[derive(Debug, Default)]
pub(super) struct ErrorState {
    /// Errors since the mount.
    count: Cell<u32>,
    /// Of these, how many the superblock does not count yet; the first and the last of them.
    unstored: Cell<u32>,
    first: Cell<Option<Found>>,
    last: Cell<Option<Found>>,
    /// Errors were found, now or earlier, and the volume asks not to be changed then.
    halted: Cell<bool>,
}

impl<R: Region> Volume<R> {
    /// The error number to answer with to a request about inode `number`. Damage is logged, and noted: the volume is in error
    /// then.
    pub(super) fn answer(&self, error: Error, number: u32) -> Errno {
        match error {
            Error::Reply(errno) => errno,
            Error::Corrupt(damage) => {
                self.note_damage(damage, number);
                Errno::EUCLEAN
            }
            Error::TransactionFull => {
                log::error!(
                    "ext4: serving inode {number}: one change takes more blocks than the journal can hold"
                );
                Errno::ENOSPC
            }
        }
    }

    /// Notes and logs `damage`, found while inode `number` was served.
    fn note_damage(&self, damage: Damage, number: u32) {
        let state = &self.errors;
        let count = state.count.get().saturating_add(1);
        state.count.set(count);
        if count <= LOGGED || count.is_power_of_two() {
            log::error!("ext4: serving inode {number}: {damage} (error {count} since the mount)");
        }
        if self.log.is_none() {
            return;
        }
        let found = Found { seconds: self.now().seconds, damage, served: number };
        if state.unstored.get() == 0 {
            state.first.set(Some(found));
        }
        state.last.set(Some(found));
        state.unstored.set(state.unstored.get().saturating_add(1));
        if self.superblock.read_only_on_error() && !state.halted.replace(true) {
            log::error!(
                "ext4: the volume is only read from now on, as its s_errors says: run `e2fsck -f IMAGE`"
            );
        }
    }

    /// How often damage was found since the mount.
    #[must_use]
    pub fn errors_found(&self) -> u32 {
        self.errors.count.get()
    }

    /// Whether nothing is changed any more because of damage.
    pub(super) fn is_halted(&self) -> bool {
        self.errors.halted.get()
    }

    /// That the volume may be changed as far as damage is concerned.
    ///
    /// # Errors
    /// EROFS.
    pub(super) fn check_not_halted(&self) -> Result<(), Error> {
        if self.is_halted() { Err(Errno::EROFS.into()) } else { Ok(()) }
    }

    /// Whether the superblock says that errors were found, also before the mount.
    pub(super) fn is_in_error(&self) -> bool {
        self.errors.count.get() > 0
            || self.superblock_bytes().is_ok_and(|raw| le16(raw, S_STATE) & STATE_ERROR != 0)
    }

    /// Takes over what an earlier mount left in the superblock: at mount.
    pub(super) fn resume_errors(&self) {
        if self.is_in_error() && self.superblock.read_only_on_error() {
            self.errors.halted.set(true);
        }
    }

    /// Whether something was found that the superblock does not say yet.
    pub(super) fn has_unstored_errors(&self) -> bool {
        self.errors.unstored.get() > 0
    }

    /// Makes the superblock say what was found, if it does not, in an operation of its own.
    ///
    /// # Errors
    /// As [`atomically`](Self::atomically); what was found is stored later then.
    pub(super) fn store_errors(&mut self) -> Result<(), Error> {
        let state = &self.errors;
        let (unstored, first, last) = (state.unstored.get(), state.first.get(), state.last.get());
        let (Some(first), Some(last)) = (first.filter(|_| unstored > 0), last) else { return Ok(()) };
        self.operate(&mut |volume| {
            volume.edit_superblock(|raw| {
                let s_state = le16(raw, S_STATE) | STATE_ERROR;
                put_le16(raw, S_STATE, s_state);
                let before = le32(raw, S_ERROR_COUNT);
                if before == 0 {
                    first.store(&FIRST, raw);
                }
                last.store(&LAST, raw);
                put_le32(raw, S_ERROR_COUNT, before.saturating_add(unstored));
            })
        })?;
        self.errors.unstored.set(0);
        Ok(())
    }
}

impl Found {
    /// Stores what was found in the superblock `raw`.
    fn store(&self, fields: &ErrorFields, raw: &mut [u8]) {
        let [t0, t1, t2, t3, t4, ..] = self.seconds.to_le_bytes();
        put(raw, fields.time, [t0, t1, t2, t3]);
        put(raw, fields.time_hi, [t4]);
        let place = self.damage.place();
        put_le32(raw, fields.ino, place.inode.unwrap_or(self.served));
        put_le32(raw, fields.line, 0);
        put(raw, fields.block, place.block.to_le_bytes());
        let mut function = [0; FUNCTION];
        for (to, from) in function.iter_mut().zip(place.subject.bytes()) {
            *to = from;
        }
        put(raw, fields.func, function);
        put(raw, fields.errcode, [EFSCORRUPTED]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::testing::{Image, NOON, TestVolume, read, set_superblock};
    use crate::fs::{Caller, FileSystem, NewFile, NewKind, Node};
    use std::string::String;
    use std::vec::Vec;

    const FILE: NewFile<'static> = NewFile { kind: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };

    /// A volume with two files, the extent tree of one of which is damaged, and the `s_errors` that is asked for.
    fn damaged(s_errors: u16) -> (Image, Vec<u8>) {
        let image = Image::new("16M", &["-b", "1024"], |root| {
            std::fs::write(root.join("sound"), "content").unwrap();
            std::fs::write(root.join("damaged"), "content").unwrap();
        });
        image.debugfs("set_inode_field /damaged block[2] 0xffffff");
        image.debugfs("set_inode_field /damaged block[0] 0xbad");
        let mut bytes = image.bytes();
        set_superblock(&mut bytes, 0x3c, &s_errors.to_le_bytes());
        (image, bytes)
    }

    fn mount(bytes: Vec<u8>) -> TestVolume {
        Volume::mount_writable(bytes, || NOON).unwrap()
    }

    fn find(volume: &TestVolume, name: &[u8]) -> u32 {
        u32::try_from(volume.number(volume.lookup(volume.root(), name).unwrap())).unwrap()
    }

    fn create(volume: &mut TestVolume, name: &[u8]) -> Result<Node, Errno> {
        volume.create(Caller::ROOT, volume.root(), name, &FILE)
    }

    /// What the superblock in the file says: whether it is in error, and how often and in which inode it was.
    fn told(image: &Image, bytes: &[u8]) -> [String; 4] {
        std::fs::write(image.file(), bytes).unwrap();
        ["Filesystem state", "FS Error count", "First error inode #", "Last error function"]
            .map(|label| image.header(label))
    }

    #[test]
    fn damage_that_a_reader_finds_marks_the_volume_which_goes_on_if_it_says_so() {
        let (image, bytes) = damaged(ERRORS_CONTINUE);
        let mut volume = mount(bytes);
        let number = find(&volume, b"damaged");
        assert_eq!(read(&volume, number, 0, 9), Err(Errno::EUCLEAN));
        assert_eq!(read(&volume, number, 0, 9), Err(Errno::EUCLEAN));
        assert_eq!(volume.errors_found(), 2);
        volume.commit().unwrap();
        create(&mut volume, b"new").unwrap();
        let bytes = volume.unmount().unwrap();
        let wanted = ["clean with errors", "2", &std::format!("{number}"), "skerry: extent tree"];
        assert_eq!(told(&image, &bytes), wanted);
        assert!(image.header("Last error time").contains("2027"), "NOON is in that year");

        let volume = mount(bytes);
        assert_eq!(volume.read_only_reason(), None);
        assert_eq!(read(&volume, number, 0, 9), Err(Errno::EUCLEAN));
        assert_eq!(told(&image, &volume.unmount().unwrap())[1], "3");
    }

    #[test]
    fn a_volume_that_says_so_is_only_read_once_damage_is_found_and_what_was_changed_before_is_there() {
        for s_errors in [2, 3, 0, 77] {
            let (image, bytes) = damaged(s_errors);
            let mut volume = mount(bytes);
            let (number, sound) = (find(&volume, b"damaged"), find(&volume, b"sound"));
            create(&mut volume, b"before").unwrap();
            assert_eq!(read(&volume, number, 0, 9), Err(Errno::EUCLEAN));
            assert_eq!(create(&mut volume, b"behind"), Err(Errno::EROFS), "even before the next commit");
            assert_eq!(read(&volume, sound, 0, 9).unwrap(), b"content");
            volume.commit().unwrap();
            assert_eq!(create(&mut volume, b"behind"), Err(Errno::EROFS));

            let killed = volume.region.clone();
            let mut again = mount(killed);
            assert_eq!(
                again.read_only_reason(),
                Some("errors were found in it, and it asks not to be written then: run `e2fsck -f IMAGE`")
            );
            assert_eq!(create(&mut again, b"behind"), Err(Errno::EROFS), "also after a recovery");

            let bytes = volume.unmount().unwrap();
            assert_eq!(told(&image, &bytes)[..2], ["clean with errors", "1"]);
            let again = mount(bytes);
            assert!(again.read_only_reason().is_some());
            assert!(again.lookup(again.root(), b"before").is_ok());
            assert_eq!(again.lookup(again.root(), b"behind"), Err(Errno::ENOENT));
        }
    }

    #[test]
    fn answers_that_tell_of_no_damage_leave_the_volume_as_it_is() {
        let (image, bytes) = damaged(2);
        let mut volume = mount(bytes);
        assert_eq!(volume.lookup(volume.root(), b"nobody"), Err(Errno::ENOENT));
        let sound = volume.lookup(volume.root(), b"sound").unwrap();
        assert_eq!(volume.lookup(sound, b"name"), Err(Errno::ENOTDIR));
        volume.commit().unwrap();
        assert_eq!((volume.errors_found(), volume.is_halted()), (0, false));
        std::fs::write(image.file(), volume.unmount().unwrap()).unwrap();
        assert_eq!(image.header("Filesystem state"), "clean");
    }
}
