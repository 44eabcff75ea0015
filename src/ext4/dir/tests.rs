// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reading directories, sound and damaged.

use super::*;
use crate::ext4::testing::{Image, TestVolume};
use std::format;
use std::vec::Vec;

/// Blocks of 1 KiB and no checksums, so that a structure can be changed alone; no indexes, so that positions are bytes.
const PLAIN: [&str; 4] = ["-b", "1024", "-O", "^metadata_csum,^uninit_bg,^dir_index"];

/// A volume with the directory `d` of a few names, the offset of the directory's first block, and its inode number.
fn volume(options: &[&str]) -> (Image, TestVolume, usize, u32) {
    let image = Image::new("1M", options, |root| {
        std::fs::create_dir(root.join("d")).unwrap();
        for name in ["one", "two", "three"] {
            std::fs::write(root.join("d").join(name), name).unwrap();
        }
    });
    let number = image.inode("/d");
    let block: usize = image.debugfs("blocks /d").split_whitespace().next().unwrap().parse().unwrap();
    let volume = image.mount();
    (image, volume, block * 1024, number)
}

fn directory(volume: &TestVolume, number: u32) -> Directory<'_, Vec<u8>> {
    Directory::new(volume, volume.inode(number).unwrap()).unwrap()
}

/// The entries from `position` on, as position behind and name.
fn list(volume: &TestVolume, number: u32, position: u64) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let mut entries = Vec::new();
    directory(volume, number).read(position, &mut |entry| {
        entries.push((entry.next, entry.name.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}

/// All that a client can ask of a directory.
fn ask(volume: &TestVolume, number: u32) -> [Result<(), Error>; 3] {
    let directory = directory(volume, number);
    let absent = match directory.lookup(b"absent") {
        Err(Error::Reply(Errno::ENOENT)) => Ok(()),
        other => other.map(drop),
    };
    [absent, directory.parent().map(drop), list(volume, number, 0).map(drop)]
}

#[test]
fn each_damage_of_a_block_is_its_own_fault() {
    let (_image, mut volume, start, number) = volume(&PLAIN);
    let fail = |fault| Err(Damage::Directory { inode: number, fault }.into());
    let record = |position, fault| DirectoryFault::Record { position, fault };
    assert_eq!(ask(&volume, number), [Ok(()); 3]);
    // Where, what, and whether the lookup, the parent and the list see it.
    let cases: [(usize, &[u8], DirectoryFault, [bool; 3]); 6] = [
        (4, &[13], record(0, RecordFault::Unaligned { rec_len: 13 }), [true; 3]),
        (24 + 4, &[4, 0], record(24, RecordFault::Short { rec_len: 4 }), [true, false, true]),
        (24 + 8, b"/", record(24, RecordFault::NameByte { byte: b'/' }), [true, false, true]),
        (8, b"x", DirectoryFault::Dots, [false, true, true]),
        (0, &[2], DirectoryFault::Dots, [false, true, true]),
        (12, &[0, 0, 0, 0], DirectoryFault::Dots, [false, true, true]),
    ];
    for (offset, bytes, fault, seen) in cases {
        let place = start + offset..start + offset + bytes.len();
        let before = volume.region[place.clone()].to_vec();
        volume.region[place.clone()].copy_from_slice(bytes);
        let expected = seen.map(|seen| if seen { fail(fault) } else { Ok(()) });
        assert_eq!(ask(&volume, number), expected, "{fault}");
        volume.region[place].copy_from_slice(&before);
    }
    // A name that names the directory.
    volume.region[start + 24..start + 28].copy_from_slice(&number.to_le_bytes());
    let name = list(&volume, number, 24).unwrap().remove(0).1;
    assert_eq!(directory(&volume, number).lookup(&name), fail(DirectoryFault::NamesItself).map(|()| 0));
}

#[test]
fn a_parent_that_is_no_directory_is_damage() {
    let (image, mut volume, start, number) = volume(&PLAIN);
    let file = image.inode("/d/one");
    volume.region[start + 12..start + 16].copy_from_slice(&file.to_le_bytes());
    let damage = Damage::Inode { inode: file, fault: InodeFault::NotDirectory };
    assert_eq!(directory(&volume, number).parent(), Err(damage.into()));
}

#[test]
fn holes_and_sizes_that_cannot_be_are_damage() {
    let (image, ..) = volume(&PLAIN);
    let number = image.inode("/d");
    let fail = |fault| Err(Damage::Directory { inode: number, fault }.into());
    for size in [0, 1, 1023, 1536] {
        image.debugfs(&format!("set_inode_field /d size {size}"));
        assert_eq!(ask(&image.mount(), number), [fail(DirectoryFault::Size(size)); 3]);
    }
    image.debugfs("set_inode_field /d size 4294966272");
    let hole = fail(DirectoryFault::Hole { block: 1 });
    assert_eq!(ask(&image.mount(), number), [hole, Ok(()), hole]);
}

#[test]
fn every_byte_of_a_block_with_checksums_is_covered() {
    let (_image, mut volume, start, number) = volume(&["-b", "1024"]);
    assert_eq!(ask(&volume, number), [Ok(()); 3]);
    for offset in 0..1024 {
        volume.region[start + offset] ^= 0x40;
        // Nobody but this test changes a mounted volume behind its back.
        volume.forget_everything();
        for answer in ask(&volume, number) {
            let Err(Error::Corrupt(Damage::Directory { inode, fault })) = answer else {
                panic!("a change at {offset} gives {answer:?}");
            };
            assert_eq!(inode, number);
            let is_tail = (1024 - TAIL..1024 - 4).contains(&offset);
            let DirectoryFault::Leaf { block: 0, fault } = fault else { panic!("{fault}") };
            assert_eq!(fault == LeafFault::NoChecksum, is_tail, "a change at {offset}: {fault}");
        }
        volume.region[start + offset] ^= 0x40;
    }
}

#[test]
fn no_byte_of_a_block_without_checksums_can_make_a_request_panic() {
    for options in [PLAIN, ["-b", "1024", "-O", "^metadata_csum,^uninit_bg"]] {
        change_every_byte(&options);
    }
}

fn change_every_byte(options: &[&str]) {
    let (_image, mut volume, start, number) = volume(options);
    for offset in 0..1024 {
        let before = volume.region[start + offset];
        for value in [0, 1, 4, 0x2f, 0x7f, 0x80, 0xff] {
            volume.region[start + offset] = value;
            for answer in ask(&volume, number) {
                assert!(matches!(answer, Ok(()) | Err(Error::Corrupt(_))), "{value} at {offset}");
            }
        }
        volume.region[start + offset] = before;
    }
}

#[test]
fn a_position_within_a_record_leads_to_the_next_one() {
    let (_image, volume, _, number) = volume(&PLAIN);
    let whole = list(&volume, number, 0).unwrap();
    assert_eq!(whole.len(), 5);
    let mut start = 0;
    for (index, (end, _)) in whole.iter().enumerate() {
        assert_eq!(list(&volume, number, start), Ok(whole[index..].to_vec()));
        for position in start + 1..=*end {
            assert_eq!(list(&volume, number, position), Ok(whole[index + 1..].to_vec()));
        }
        start = *end;
    }
    assert_eq!(list(&volume, number, u64::MAX), Ok(Vec::new()));
}

#[test]
fn the_records_of_an_inline_directory_have_the_positions_that_they_would_have_in_a_block() {
    let options = ["-b", "1024", "-O", "inline_data"];
    let (inline, block) = (
        Image::new("1M", &options, |root| fill(&root.join("d"))),
        Image::new("1M", &["-b", "1024", "-O", "^dir_index"], |root| fill(&root.join("d"))),
    );
    fn fill(directory: &std::path::Path) {
        std::fs::create_dir(directory).unwrap();
        std::fs::write(directory.join("a-name-of-28-bytes-plus-eight"), "").unwrap();
    }
    let number = inline.inode("/d");
    let volume = inline.mount();
    assert!(volume.inode(number).unwrap().flags.contains(InodeFlags::INLINE_DATA));
    let starts = |volume: &TestVolume, number| {
        let ends: Vec<u64> = list(volume, number, 0).unwrap().iter().map(|(end, _)| *end).collect();
        [0].into_iter().chain(ends).take(3).collect::<Vec<_>>()
    };
    assert_eq!(starts(&volume, number), [0, 12, 24]);
    assert_eq!(starts(&block.mount(), block.inode("/d")), [0, 12, 24]);
    assert_eq!(list(&volume, number, 13).unwrap().len(), 1);
}

#[test]
fn what_is_no_directory_is_refused() {
    let (image, volume, ..) = volume(&PLAIN);
    let inode = volume.inode(image.inode("/d/one")).unwrap();
    assert_eq!(Directory::new(&volume, inode).map(drop), Err(Errno::ENOTDIR.into()));
}
