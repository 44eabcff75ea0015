// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attributes set and removed: where they go, what is refused, what else changes.

use super::*;
use crate::ext4::testing::NOON;
use crate::fs::Timestamp;

#[test]
fn a_value_goes_into_the_inode_while_it_fits_and_else_into_a_block() {
    let image = image("4M", &["-b", "1024", "-I", "256"]);
    let f = image.inode("/f");
    let mut volume = image.mount_writable();
    let free = volume.totals.free_blocks;
    let before = volume.inode(f).unwrap().blocks512;
    set(&mut volume, f, "user.a", b"small").unwrap();
    assert_eq!((volume.inode(f).unwrap().file_acl, volume.totals.free_blocks), (0, free));
    set(&mut volume, f, "user.a", &[b'l'; 300]).unwrap();
    let inode = volume.inode(f).unwrap();
    assert_ne!(inode.file_acl, 0);
    assert_eq!(inode.blocks512, before + 2);
    assert!(inode.in_inode_attributes.iter().all(|byte| *byte == 0), "it left the inode");
    assert_eq!(get(&volume, f, "user.a").unwrap(), [b'l'; 300]);
    set(&mut volume, f, "user.a", b"small again").unwrap();
    let inode = volume.inode(f).unwrap();
    assert_eq!((inode.file_acl, inode.blocks512, volume.totals.free_blocks), (0, before, free));
    assert_eq!(get(&volume, f, "user.a").unwrap(), b"small again");
    image.check(volume);
}

#[test]
fn an_inode_without_room_for_attributes_has_them_in_a_block() {
    let image = image("4M", &["-b", "1024", "-I", "256"]);
    let f = image.inode("/f");
    image.debugfs("set_inode_field /f extra_isize 0");
    let mut volume = image.mount_writable();
    set(&mut volume, f, "user.a", b"small").unwrap();
    assert_ne!(volume.inode(f).unwrap().file_acl, 0);
    assert_eq!(get(&volume, f, "user.a").unwrap(), b"small");
    image.check(volume);
    assert_eq!(debugfs_get(&image, "/f", "user.a"), b"small");
}

#[test]
fn a_full_block_takes_exactly_its_size_and_not_a_byte_more() {
    for (options, block_size) in [(["-b", "1024", "-I", "128"], 1024), (["-b", "4096", "-I", "128"], 4096)] {
        let image = image("8M", &options);
        let f = image.inode("/f");
        let mut volume = image.mount_writable();
        // Header, entry with a name of one byte, end of the entries.
        let room = block_size - 32 - 20 - 4;
        let value = std::vec![b'v'; room];
        set(&mut volume, f, "user.a", &value).unwrap();
        assert_eq!(set(&mut volume, f, "user.b", b""), Err(Errno::ENOSPC.into()));
        assert_eq!(set(&mut volume, f, "user.a", &std::vec![b'v'; room + 1]), Err(Errno::ENOSPC.into()));
        assert_eq!(set(&mut volume, f, "user.a", &[0; 65536]), Err(Errno::ENOSPC.into()));
        assert_eq!(set(&mut volume, f, "user.a", &[0; 65537]), Err(Errno::E2BIG.into()));
        assert_eq!(get(&volume, f, "user.a").unwrap(), value);
        image.check(volume);
        assert_eq!(debugfs_get(&image, "/f", "user.a"), value);
    }
}

#[test]
fn when_no_block_is_free_everything_stays_as_it_was() {
    let image = image("3M", &["-b", "1024", "-I", "256"]);
    let f = image.inode("/f");
    let mut volume = image.mount_writable();
    set(&mut volume, f, "user.in_inode", b"value").unwrap();
    let goal = volume.goal_for_inode(f);
    while volume.atomically(|volume| volume.allocate_blocks(goal, 1000, Caller::ROOT)).is_ok() {}
    let before = (volume.totals, volume.inode(f).unwrap().changed);
    assert_eq!(set(&mut volume, f, "user.in_inode", &[b'l'; 300]), Err(Errno::ENOSPC.into()));
    assert_eq!(set(&mut volume, f, "user.large", &[b'l'; 300]), Err(Errno::ENOSPC.into()));
    assert_eq!((volume.totals, volume.inode(f).unwrap().changed), before);
    assert_eq!(names(&volume, f).unwrap(), b"user.in_inode\0");
    assert_eq!(get(&volume, f, "user.in_inode").unwrap(), b"value");
    set(&mut volume, f, "user.in_inode", b"other").unwrap();
}

#[test]
fn what_linux_refuses_is_refused() {
    let image = Image::new("4M", &["-b", "1024"], |root| {
        std::fs::write(root.join("f"), "").unwrap();
        std::os::unix::fs::symlink("f", root.join("l")).unwrap();
    });
    image.debugfs("mknod p p");
    let (f, l, p) = (image.inode("/f"), image.inode("/l"), image.inode("/p"));
    let mut volume = image.mount_writable();
    for (number, name, errno) in [
        (f, "user.", Errno::EINVAL),
        (f, "other.a", Errno::EOPNOTSUPP),
        (f, "system.data", Errno::EOPNOTSUPP),
        (f, "", Errno::ERANGE),
        (l, "user.a", Errno::EPERM),
        (p, "user.a", Errno::EPERM),
        (l, "system.posix_acl_access", Errno::EOPNOTSUPP),
    ] {
        let value = if name.starts_with("system.posix") { &b""[..] } else { b"value" };
        assert_eq!(set(&mut volume, number, name, value), Err(errno.into()), "{name}");
    }
    assert_eq!(
        set(&mut volume, f, &std::format!("user.{}", "n".repeat(251)), b""),
        Err(Errno::ERANGE.into())
    );
    assert_eq!(remove(&mut volume, f, "user.a"), Err(Errno::ENODATA.into()));
    for number in [l, p] {
        set(&mut volume, number, "trusted.a", b"1").unwrap();
        set(&mut volume, number, "security.a", &[b'2'; 200]).unwrap();
    }
    image.check(volume);
    assert_eq!(debugfs_get(&image, "/p", "trusted.a"), b"1");
}

#[test]
fn a_change_sets_the_time_and_the_version_and_what_is_no_change_does_not() {
    let image = image("4M", &["-b", "1024"]);
    image.debugfs("set_inode_field /g ctime @2100000000");
    let (f, g) = (image.inode("/f"), image.inode("/g"));
    let mut volume = image.mount_writable();
    let state = |volume: &TestVolume, number| {
        let inode = volume.inode(number).unwrap();
        (inode.changed, inode.version)
    };
    let (_, version) = state(&volume, f);
    set(&mut volume, f, "user.a", b"1").unwrap();
    assert_eq!(state(&volume, f), (NOON, version + 1));
    set(&mut volume, f, "user.a", b"1").unwrap();
    assert_eq!(remove(&mut volume, f, "user.b"), Err(Errno::ENODATA.into()));
    assert_eq!(state(&volume, f), (NOON, version + 1));
    remove(&mut volume, f, "user.a").unwrap();
    assert_eq!(state(&volume, f), (NOON, version + 2));
    let (later, version) = state(&volume, g);
    assert_eq!(later.seconds, 2_100_000_000);
    set(&mut volume, g, "user.a", b"1").unwrap();
    assert_eq!(state(&volume, g), (Timestamp { ..later }, version + 1), "time does not go back");
    image.check(volume);
}

#[test]
fn the_first_attribute_of_a_volume_is_noted_in_its_superblock() {
    for options in [&["-b", "1024", "-O", "^ext_attr"][..], &["-b", "4096", "-O", "^ext_attr,^metadata_csum"]]
    {
        let image = image("8M", options);
        assert!(!image.header("Filesystem features").contains("ext_attr"));
        let f = image.inode("/f");
        let mut volume = image.mount_writable();
        set(&mut volume, f, "user.a", b"1").unwrap();
        set(&mut volume, f, "user.b", b"2").unwrap();
        image.check(volume);
        assert!(image.header("Filesystem features").contains("ext_attr"));
        assert_eq!(debugfs_get(&image, "/f", "user.b"), b"2");
    }
}

#[test]
fn names_with_high_bytes_have_the_hash_of_the_volumes_signedness() {
    for flags in ["1", "2"] {
        let image = image("4M", &["-b", "1024", "-I", "128"]);
        image.debugfs(&format!("set_super_value flags {flags}"));
        let f = image.inode("/f");
        let mut volume = image.mount_writable();
        set(&mut volume, f, "user.größer", b"value").unwrap();
        set(&mut volume, f, "user.ü", b"").unwrap();
        let place = volume.place_in_block(&volume.inode(f).unwrap()).unwrap().unwrap();
        let entry = place.entries().next().unwrap();
        assert_eq!(entry.e_hash, entry_hash("ü".as_bytes(), flags == "1", core::iter::empty()));
        image.check(volume);
    }
}

#[test]
fn no_changed_byte_of_either_place_makes_a_change_panic() {
    let image = image("3M", &["-b", "1024", "-O", "^metadata_csum,^uninit_bg"]);
    let long = "v".repeat(300);
    image.debugfs_script(&["ea_set /f user.first value", &format!("ea_set /f user.long {long}")]);
    image.debugfs("ea_set /f trusted.last x");
    let f = image.inode("/f");
    let mut volume = image.mount_writable();
    let inode = volume.inode(f).unwrap();
    let block = usize::try_from(inode.file_acl).unwrap() * 1024;
    let (length, content) = (inode.in_inode_attributes.len(), inode.in_inode_attributes.to_vec());
    let in_inode = volume.region.windows(length).position(|window| window == content).unwrap();
    let mut changed = 0;
    for offset in (block..block + 200).chain(block + 600..block + 1024).chain(in_inode..in_inode + length) {
        let before = volume.region[offset];
        for value in [0, 1, 2, 11, 0x7f, 0x80, 0xff] {
            volume.region[offset] = value;
            for (name, value) in [
                ("user.first", Some(&[b'n'; 100][..])),
                ("user.long", Some(b"short")),
                ("trusted.last", None),
                ("user.new", Some(&[b'n'; 200])),
            ] {
                // An error takes it back.
                let _ = volume.atomically(|volume| {
                    let any = AttributeExistence::Any;
                    let result = volume.write_attribute(f, name.as_bytes(), value, any, Caller::ROOT);
                    changed += u32::from(result.is_ok());
                    result.and(Err::<(), _>(Error::from(Errno::EINTR)))
                });
            }
            let _ = volume
                .atomically(|volume| volume.free_attributes(f).and(Err::<(), _>(Error::from(Errno::EINTR))));
        }
        volume.region[offset] = before;
    }
    assert!(changed > 10_000, "{changed}");
}
