// SPDX-License-Identifier: MIT OR Apache-2.0

//! Blocks and inodes that are taken and freed on volumes of many layouts, judged by `e2fsck` and `dumpe2fs`.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::{Allocated, Freed};
use crate::ext4::error::Error;
use crate::ext4::inode::{InodeFlags, ROOT};
use crate::ext4::inode_edit::i_extra_isize;
use crate::ext4::testing::{Image, Numbers, TestVolume};
use crate::fs::{Caller, Errno};

/// What mkfs is asked for: size and options. Several groups each, and each way to lay them out.
const LAYOUTS: [(&str, &[&str]); 12] = [
    ("40M", &["-b", "1024"]),
    ("40M", &["-b", "2048", "-g", "4096"]),
    ("24M", &["-b", "4096", "-g", "1024"]),
    ("40M", &["-b", "1024", "-O", "^64bit"]),
    ("40M", &["-b", "1024", "-O", "^metadata_csum,uninit_bg"]),
    ("40M", &["-b", "1024", "-O", "^metadata_csum,^uninit_bg"]),
    ("40M", &["-b", "1024", "-O", "^metadata_csum,uninit_bg,^64bit,^flex_bg", "-I", "128"]),
    ("40M", &["-b", "1024", "-O", "^flex_bg"]),
    ("40M", &["-b", "1024", "-O", "meta_bg,^resize_inode", "-g", "1024", "-N", "4096"]),
    ("40M", &["-b", "1024", "-O", "sparse_super2", "-g", "2048"]),
    ("24M", &["-b", "4096", "-g", "1024", "-G", "4", "-E", "lazy_itable_init=1"]),
    ("40500K", &["-b", "1024", "-O", "^resize_inode", "-I", "128"]),
];

/// Takes blocks until there are none.
fn take_all(volume: &mut TestVolume, wanted: u32, caller: Caller) -> Vec<Allocated> {
    let mut taken: Vec<Allocated> = Vec::new();
    loop {
        let goal = taken.last().map_or(0, |last| last.start + u64::from(last.count));
        match volume.atomically(|volume| volume.allocate_blocks(goal, wanted, caller)) {
            Ok(run) => taken.push(run),
            Err(Error::Reply(Errno::ENOSPC)) => return taken,
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn free(volume: &mut TestVolume, run: Allocated, content: Freed) {
    volume.atomically(|volume| volume.free_blocks(run.start, run.count, content)).unwrap();
}

#[test]
fn a_volume_that_was_full_and_is_empty_again_is_clean() {
    for (size, options) in LAYOUTS {
        let image = Image::new(size, options, |_| {});
        let mut volume = image.mount_writable();
        let before = volume.totals;
        let taken = take_all(&mut volume, 300, Caller::ROOT);
        let count: u64 = taken.iter().map(|run| u64::from(run.count)).sum();
        assert_eq!(count, before.free_blocks, "{options:?}");
        assert_eq!(volume.totals.free_blocks, 0);
        volume.commit_transaction().unwrap();
        for run in taken {
            free(&mut volume, run, Freed::Data);
        }
        assert_eq!(volume.totals, before);
        image.check(volume);
    }
}
