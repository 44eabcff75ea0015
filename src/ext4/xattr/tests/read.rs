// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attributes that `debugfs` set, read.

use super::{get, names};
use crate::ext4::error::{Damage, Error};
use crate::ext4::testing::{Image, TestVolume};
use crate::ext4::xattr::AttributeFault;
use crate::fs::Errno;
use std::format;
use std::vec::Vec;

/// A volume with the file `/f` that has an attribute in its inode and two in a block, and the file's inode number.
fn volume(options: &[&str]) -> (Image, TestVolume, u32) {
    let image = Image::new("1M", options, |root| std::fs::write(root.join("f"), "content").unwrap());
    let long = "v".repeat(300);
    image.debugfs_script(&[
        "ea_set /f user.first value",
        &format!("ea_set /f user.long {long}"),
        "ea_set /f trusted.last x",
    ]);
    let (volume, number) = (image.mount(), image.inode("/f"));
    (image, volume, number)
}

#[test]
fn attributes_in_the_inode_come_before_those_in_the_block() {
    let (_image, volume, number) = volume(&["-b", "1024"]);
    let listed = names(&volume, number).unwrap();
    let mut sorted: Vec<_> = listed.split(|byte| *byte == 0).collect();
    assert_eq!(sorted.pop(), Some(&b""[..]), "each name is closed");
    let in_inode = volume.place_in_inode(&volume.inode(number).unwrap()).unwrap().unwrap();
    assert!((1..3).contains(&in_inode.entries().count()), "both places are used");
    assert_eq!(sorted[0], b"user.first");
    sorted.sort_unstable();
    assert_eq!(sorted, [&b"trusted.last"[..], b"user.first", b"user.long"]);
    assert_eq!(get(&volume, number, "user.first").unwrap(), b"value");
    assert_eq!(get(&volume, number, "user.long").unwrap(), [b'v'; 300]);
    assert_eq!(get(&volume, number, "user.absent"), Err(Errno::ENODATA.into()));
    assert_eq!(get(&volume, number, "system.data"), Err(Errno::EOPNOTSUPP.into()));
}

#[test]
fn every_byte_of_a_block_with_checksums_is_covered() {
    let (_image, mut volume, number) = volume(&["-b", "1024"]);
    let block = volume.inode(number).unwrap().file_acl;
    let start = usize::try_from(block).unwrap() * 1024;
    for offset in 0..1024 {
        volume.region[start + offset] ^= 0x40;
        let Err(Error::Corrupt(Damage::Attributes { inode, block: found, fault })) = names(&volume, number)
        else {
            panic!("a change at {offset} is not seen");
        };
        assert_eq!((inode, found), (number, block));
        let is_header = offset < 4 || (8..12).contains(&offset);
        match fault {
            AttributeFault::Header { .. } => assert!(is_header, "{offset}"),
            AttributeFault::Checksum { stored, computed } => assert!(!is_header && stored != computed),
            other => panic!("a change at {offset} gives {other}"),
        }
        volume.region[start + offset] ^= 0x40;
    }
    assert!(names(&volume, number).is_ok());
}

#[test]
fn no_byte_of_either_place_without_checksums_can_make_a_request_panic() {
    let (image, mut volume, number) = volume(&["-b", "1024", "-O", "^metadata_csum,^uninit_bg,ea_inode"]);
    let inode = volume.inode(number).unwrap();
    let block = usize::try_from(inode.file_acl).unwrap() * 1024;
    let length = inode.in_inode_attributes.len();
    let content = inode.in_inode_attributes.to_vec();
    let in_inode = image.bytes().windows(length).position(|window| window == content).unwrap();
    for offset in (block..block + 1024).chain(in_inode..in_inode + length) {
        let before = volume.region[offset];
        for value in [0, 1, 2, 11, 0x7f, 0x80, 0xff] {
            volume.region[offset] = value;
            for name in ["user.first", "user.long", "trusted.last"] {
                let answer = get(&volume, number, name);
                let expected = [Errno::ENODATA, Errno::E2BIG].map(Error::from);
                assert!(
                    matches!(&answer, Ok(_) | Err(Error::Corrupt(_)))
                        || answer.is_err_and(|error| expected.contains(&error)),
                    "{value} at {offset}"
                );
            }
            assert!(matches!(names(&volume, number), Ok(_) | Err(Error::Corrupt(_))));
        }
        volume.region[offset] = before;
    }
}
