// SPDX-License-Identifier: MIT OR Apache-2.0

//! The journal against `debugfs` and `e2fsck`.

mod crash;

use super::*;
use crate::ext4::testing::Image;

#[test]
fn a_journal_that_holds_something_is_refused_even_without_the_feature() {
    let image = Image::new("8M", &["-b", "1024"], |_| {});
    image.debugfs_script(&["journal_open", "journal_write -b 333 /dev/zero", "journal_close"]);
    assert_eq!(Volume::mount(image.bytes()).unwrap_err(), MountError::NeedsRecovery);
    image.debugfs("feature -needs_recovery");
    assert_eq!(Volume::mount(image.bytes()).unwrap_err(), MountError::JournalNotEmpty);
}

#[test]
fn a_damaged_journal_superblock_is_refused() {
    let image = Image::new("8M", &["-b", "1024", "-O", "^metadata_csum"], |_| {});
    let blocks = image.debugfs("bmap <8> 0");
    let start = blocks.trim().parse::<usize>().unwrap() * 1024;
    for offset in [0, 7, 0xf, 0x10] {
        let mut bytes = image.bytes();
        bytes[start + offset] ^= 0x70;
        assert!(matches!(Volume::mount(bytes), Err(MountError::Journal(_))), "byte {offset:#x}");
    }
}
