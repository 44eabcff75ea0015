// SPDX-License-Identifier: MIT OR Apache-2.0

//! The journal against `debugfs` and `e2fsck`.

mod crash;

use std::vec::Vec;

use super::*;
use crate::ext4::Superblock;
use crate::ext4::error::{Damage, Error};
use crate::ext4::testing::{Image, NOON, Numbers, TestVolume};
use crate::fs::Errno;
use crate::mem::region::FlushFault;

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

/// Stores `transaction`, a byte, all over each of `blocks`, in one operation.
fn fill(volume: &mut TestVolume, blocks: &[u64], transaction: u8) -> Result<(), Error> {
    volume.atomically(|volume| {
        for &block in blocks {
            volume.block_mut(block)?.fill(transaction);
        }
        Ok(())
    })
}

/// The first byte of block `number` in `bytes`, all of which are the same.
fn byte(bytes: &[u8], size: usize, number: u64) -> u8 {
    let block = &bytes[usize::try_from(number).unwrap() * size..][..size];
    assert!(block.iter().all(|byte| *byte == block[0]), "block {number} is whole");
    block[0]
}

#[test]
fn debugfs_reads_the_transactions_and_e2fsck_replays_them() {
    for options in [&["-b", "1024"][..], &["-b", "4096"], &["-b", "1024", "-O", "^64bit"]] {
        let image = Image::new("8M", options, |_| {});
        let size = image.header("Block size").parse().unwrap();
        let mut volume = image.mount_writable();
        fill(&mut volume, &[1901, 1902], 0xaa).unwrap();
        volume.commit_transaction().unwrap();
        let sequence = volume.log.as_ref().unwrap().sequence();
        fill(&mut volume, &[1903], 0xbb).unwrap();
        volume.atomically(|volume| volume.revoke(1902)).unwrap();
        volume.commit_transaction().unwrap();
        fill(&mut volume, &[1904], 0xcc).unwrap();
        std::fs::write(image.file(), &volume.region).unwrap();

        let dump = image.debugfs("logdump -a");
        for (kind, sequence) in [
            ("descriptor", sequence - 1),
            ("commit", sequence - 1),
            ("descriptor", sequence),
            ("revoke", sequence),
            ("commit", sequence),
        ] {
            let line = std::format!("sequence {sequence}, type ");
            let found = dump.lines().any(|text| text.contains(&line) && text.contains(kind));
            assert!(found, "{kind} {sequence}: {dump}");
        }
        for block in ["FS block 1901 logged", "FS block 1902 logged", "FS block 1903 logged"] {
            assert!(dump.contains(block), "{block}: {dump}");
        }
        assert!(dump.contains("Revoke FS block 1902"), "{dump}");
        assert!(!dump.contains("FS block 1904"), "not committed: {dump}");

        image.repair().unwrap();
        image.check_file();
        let bytes = image.bytes();
        let found = [1901, 1902, 1903, 1904].map(|number| byte(&bytes, size, number));
        assert_eq!(found, [0xaa, 0, 0xbb, 0], "{options:?}");
    }
}

#[test]
fn journals_that_others_wrote_are_recovered_as_e2fsck_does() {
    for options in [&["-b", "1024"][..], &["-b", "4096"], &["-b", "1024", "-O", "^metadata_csum,^64bit"]] {
        for version in ["", " -c", " -c -v 2", " -c -v 3"] {
            // Without metadata_csum, -c means version 1; debugfs sums revoke blocks too then, and nobody accepts that.
            let first = options.len() > 2 && !version.is_empty();
            let image = Image::new("8M", options, |_| {});
            let size: usize = image.header("Block size").parse().unwrap();
            let content = image.file() + "-content";
            let escaped = [0xc0, 0x3b, 0x39, 0x98].repeat(size / 4);
            std::fs::write(&content, [&std::vec![0xd1; size][..], &escaped, &std::vec![0xd3; size]].concat())
                .unwrap();
            image.debugfs_script(&[
                &std::format!("journal_open{version}"),
                &std::format!("journal_write -b 1901,1902,1903 {content}"),
                if first { "" } else { "journal_write -r 1903" },
                &std::format!("journal_write -b 1904 {content}"),
                "journal_close",
            ]);
            let crashed = image.bytes();
            let volume = Volume::mount_writable(crashed.clone(), || NOON);
            let volume = volume.unwrap_or_else(|error| panic!("{options:?}{version}: {error}"));
            assert_eq!(volume.block(1904).unwrap()[0], 0xd1);
            image.check(volume);
            let ours = image.bytes();
            std::fs::write(image.file(), &crashed).unwrap();
            image.repair().unwrap();
            image.check_file();
            let theirs = image.bytes();
            for number in 1901..=1904usize {
                let range = number * size..(number + 1) * size;
                assert!(ours[range.clone()] == theirs[range], "{options:?}{version}, block {number}");
            }
            assert_eq!(ours[1902 * size..][..4], [0xc0, 0x3b, 0x39, 0x98]);
            assert_eq!(byte(&ours, size, 1903), if first { 0xd3 } else { 0 }, "revoked");
        }
    }
}

#[test]
fn a_kept_block_that_begins_with_the_magic_number_is_read_as_it_was_written() {
    // Block 1 has the group descriptors.
    let image = Image::new("8M", &["-b", "4096"], |_| {});
    let mut volume = image.mount_writable();
    let magic = [0xc0, 0x3b, 0x39, 0x98];
    let change = volume.atomically(|volume| {
        volume.block_mut(1)?[..4].copy_from_slice(&magic);
        Ok(())
    });
    change.unwrap();
    volume.commit_transaction().unwrap();
    assert_eq!(volume.block(1).unwrap()[..4], magic);
}

#[test]
fn of_a_kept_block_the_newest_version_counts_also_if_it_is_escaped() {
    let image = Image::new("8M", &["-b", "4096"], |_| {});
    let content = image.file() + "-content";
    let (old, new) = (image.file() + "-old", [0xc0, 0x3b, 0x39, 0x98].repeat(1024));
    std::fs::write(&old, [0xd1; 4096]).unwrap();
    std::fs::write(&content, &new).unwrap();
    image.debugfs_script(&[
        "journal_open",
        &std::format!("journal_write -b 1 {old}"),
        &std::format!("journal_write -b 1 {content}"),
        "journal_close",
    ]);
    let bytes = image.bytes();
    let superblock = Superblock::read(&bytes).unwrap();
    let mut volume = Volume::unchecked(bytes, superblock);
    let found = volume.journal_superblock().unwrap().unwrap();
    let (log, _) = volume.recover(&found).unwrap();
    assert_eq!(log.newest(1), None);
    assert!(volume.region[4096..8192] == new);
}

#[test]
fn a_journal_that_moves_itself_away_is_refused() {
    let image = Image::new("8M", &["-b", "1024", "-I", "128", "-O", "^metadata_csum"], |_| {});
    // Inode 8 is the last of the first block of the inode table; its first extent's physical block is 20 bytes into `i_block`.
    let place = image.debugfs("imap <8>");
    let (_, rest) = place.split_once("located at block ").unwrap();
    let block: usize = rest.split_once(',').unwrap().0.parse().unwrap();
    let mut table = image.bytes()[block * 1024..][..1024].to_vec();
    table[7 * 128 + 0x28 + 20] ^= 1;
    let content = image.file() + "-content";
    std::fs::write(&content, &table).unwrap();
    let write = std::format!("journal_write -b {block} {content}");
    image.debugfs_script(&["journal_open", &write, "journal_close"]);
    let refused = Volume::mount_writable(image.bytes(), || NOON).unwrap_err();
    assert!(matches!(refused, MountError::Journal("a transaction in it changes where it lies")), "{refused}");
}

#[test]
fn a_damaged_transaction_of_another_journal_is_refused() {
    let image = Image::new("8M", &["-b", "1024"], |_| {});
    image.debugfs_script(&["journal_open -c -v 3", "journal_write -b 1901 /dev/zero", "journal_close"]);
    for (position, offset) in [(1, 40), (2, 7), (3, 50)] {
        let block: usize = image.debugfs(&std::format!("bmap <8> {position}")).trim().parse().unwrap();
        let mut bytes = image.bytes();
        bytes[block * 1024 + offset] ^= 4;
        let refused = Volume::mount_writable(bytes, || NOON);
        assert!(matches!(refused, Err(MountError::Journal(_))), "block {position}: {:?}", refused.err());
    }
}

#[test]
fn an_operation_that_fails_leaves_nothing_behind() {
    let image = Image::new("8M", &["-b", "1024"], |_| {});
    let mut volume = image.mount_writable();
    fill(&mut volume, &[7001, 7002], 1).unwrap();
    volume.commit_transaction().unwrap();
    fill(&mut volume, &[7002, 7003], 2).unwrap();
    let failed: Result<(), Error> = volume.atomically(|volume| {
        for block in [7001, 7002, 7003, 7004] {
            volume.block_mut(block)?.fill(3);
        }
        volume.revoke(7003)?;
        volume.revoke(7001)?;
        volume.new_block(7005)?;
        volume.totals.free_blocks -= 7;
        assert!(!volume.may_reuse(7003));
        let claimed = Damage::Claimed { block: 7003 };
        assert_eq!(volume.block_mut(7003).err(), Some(claimed.into()), "it was just freed");
        Err(Errno::ENOSPC.into())
    });
    assert_eq!(failed, Err(Errno::ENOSPC.into()));
    assert!(volume.may_reuse(7003));
    let found = [7001, 7002, 7003, 7004, 7005].map(|number| volume.block(number).unwrap()[1023]);
    assert_eq!(found, [1, 2, 2, 0, 0]);
    image.check(volume);
    let bytes = image.bytes();
    assert_eq!([7001, 7002, 7003, 7004].map(|number| byte(&bytes, 1024, number)), [1, 2, 2, 0]);
}

#[test]
fn thousands_of_transactions_go_round_the_smallest_journal() {
    let image = Image::new("8M", &["-b", "1024", "-J", "size=1"], |_| {});
    let mut volume = image.mount_writable();
    let mut numbers = Numbers(77);
    let mut newest = [0; 100];
    for transaction in 1..=3000u32 {
        let count = 1 + numbers.below(if transaction.is_multiple_of(100) { 100 } else { 8 });
        let blocks: Vec<u64> = (0..count).map(|_| 7000 + numbers.below(100) as u64).collect();
        let value = u8::try_from(transaction % 255 + 1).unwrap();
        fill(&mut volume, &blocks, value).unwrap();
        blocks.iter().for_each(|block| newest[usize::try_from(*block - 7000).unwrap()] = value);
        volume.commit_transaction().unwrap();
        if transaction.is_multiple_of(500) {
            for (number, value) in (7000..).zip(newest) {
                assert_eq!(volume.block(number).unwrap()[512], value);
            }
        }
    }
    let statistics = volume.journal_statistics().unwrap();
    assert!(statistics.transactions > 3000 && statistics.blocks > 12_000, "{statistics:?}");
    assert!(statistics.flushes < 200, "only as often as the space requires: {statistics:?}");
    // Killed here, and recovered twice: once by a program that dies as well.
    let killed = volume.region.clone();
    let again = Volume::mount_writable(killed, || NOON).unwrap().region;
    let volume = Volume::mount_writable(again, || NOON).unwrap();
    image.check(volume);
    let bytes = image.bytes();
    for (number, value) in (7000..).zip(newest) {
        assert_eq!(byte(&bytes, 1024, number), value);
    }
}

#[test]
fn an_operation_too_large_for_a_transaction_is_an_error_and_one_that_only_needs_room_is_not() {
    let image = Image::new("8M", &["-b", "1024", "-J", "size=1"], |_| {});
    let mut volume = image.mount_writable();
    let many: Vec<u64> = (6000..6240).collect();
    fill(&mut volume, &many, 1).unwrap();
    // The same blocks again do not fit the undo buffer: the transaction is committed first.
    fill(&mut volume, &many, 2).unwrap();
    assert_eq!(volume.journal_statistics().unwrap().repeated, 1);
    let more: Vec<u64> = (6000..6300).collect();
    assert_eq!(fill(&mut volume, &more, 3), Err(Error::TransactionFull));
    assert_eq!(volume.block(6000).unwrap()[0], 2);
    assert_eq!(volume.block(6239).unwrap()[0], 2);
    image.check(volume);
}

#[test]
fn a_revoked_block_is_never_put_over_what_took_its_place() {
    let image = Image::new("8M", &["-b", "1024"], |_| {});
    let mut volume = image.mount_writable();
    fill(&mut volume, &[7001], 1).unwrap();
    volume.commit_transaction().unwrap();
    volume.atomically(|volume| volume.revoke(7001)).unwrap();
    volume.flush_volume().unwrap();
    // A file has it now.
    volume.region.bytes_mut(7001 * 1024, 1024).unwrap().fill(9);
    volume.note_data_stored();
    volume.flush_volume().unwrap();
    std::fs::write(image.file(), &volume.region).unwrap();
    let recovered = Volume::mount_writable(volume.region, || NOON).unwrap().unmount().unwrap();
    assert_eq!(byte(&recovered, 1024, 7001), 9);
    image.repair().unwrap();
    assert_eq!(byte(&image.bytes(), 1024, 7001), 9);
}

#[test]
fn a_region_that_fails_to_flush_ends_all_change() {
    struct Failing(Vec<u8>, bool);
    impl Region for Failing {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }
        fn bytes(&self, offset: u64, length: usize) -> Option<&[u8]> {
            Region::bytes(&self.0, offset, length)
        }
        fn bytes_mut(&mut self, offset: u64, length: usize) -> Option<&mut [u8]> {
            self.0.bytes_mut(offset, length)
        }
        fn publish(&mut self, offset: u64, bytes: [u8; 4]) -> Option<()> {
            self.0.publish(offset, bytes)
        }
        fn publish_pair(&mut self, offset: u64, bytes: [u8; 8]) -> Option<()> {
            self.0.publish_pair(offset, bytes)
        }
        fn flush(&mut self) -> Result<(), FlushFault> {
            if self.1 { Err(FlushFault) } else { Ok(()) }
        }
    }
    let bytes = Image::new("8M", &["-b", "1024"], |_| {}).bytes();
    let mut volume = Volume::mount_writable(Failing(bytes, false), || NOON).unwrap();
    volume.atomically(|volume| volume.block_mut(7001).map(|block| block.fill(1))).unwrap();
    volume.region.1 = true;
    assert_eq!(volume.flush_volume(), Err(Errno::EIO.into()));
    volume.region.1 = false;
    let refused = volume.atomically(|volume| volume.block_mut(7002).map(|_| ()));
    assert_eq!(refused, Err(Errno::EIO.into()));
    assert_eq!(volume.flush_volume(), Err(Errno::EIO.into()));
    assert_eq!(volume.block(7001).unwrap()[0], 1, "it is still read");
    assert_eq!(volume.unmount().err(), Some(Errno::EIO));
}

#[test]
fn what_cannot_be_written_is_only_read_and_says_why() {
    let mount = |image: &Image| TestVolume::mount_writable(image.bytes(), || NOON).unwrap();
    for (options, reason) in [
        (&["-O", "^has_journal"][..], "it has no journal inside"),
        (&["-t", "ext3"], "its files are not mapped by extents"),
        (&["-O", "inline_data"], "it has the feature inline_data"),
        (&["-O", "ea_inode"], "it has the feature ea_inode"),
        (&["-O", "quota"], "it has the feature quota"),
        (&["-O", "verity"], "it has the feature verity"),
    ] {
        let image = Image::new("16M", options, |_| {});
        let before = image.bytes();
        let mut volume = mount(&image);
        assert_eq!(volume.read_only_reason(), Some(reason));
        assert_eq!(volume.atomically(|_| Ok(())), Err(Errno::EROFS.into()));
        assert!(volume.unmount().unwrap() == before, "{options:?}");
    }
    let image = Image::new("16M", &[], |_| {});
    image.debugfs("set_super_value errors 2");
    image.debugfs("set_super_value state 3");
    assert!(mount(&image).read_only_reason().unwrap().contains("errors were found"));
}

#[test]
fn a_mounted_volume_says_so_and_an_unmounted_one_is_clean() {
    let image = Image::new("8M", &["-b", "1024"], |_| {});
    let volume = image.mount_writable();
    assert_eq!(volume.read_only_reason(), None);
    std::fs::write(image.file(), &volume.region).unwrap();
    assert!(image.header("Filesystem features").contains("needs_recovery"));
    image.check(volume);
    assert!(!image.header("Filesystem features").contains("needs_recovery"));
    assert_eq!(image.header("Mount count"), "1");
    assert!(image.header("Journal features").contains("journal_64bit"));
    assert_eq!(image.header("Journal start"), "0");
    assert!(Volume::mount(image.bytes()).is_ok());
}
