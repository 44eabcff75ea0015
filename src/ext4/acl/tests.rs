// SPDX-License-Identifier: MIT OR Apache-2.0

//! Access control lists of files: set, read back, inherited; `debugfs` reads them too.

use super::{GROUP, MASK, OTHERS, OWNER, OWNING_GROUP, REPLY_VERSION, USER};
use crate::ext4::error::Error;
use crate::ext4::testing::{Collected, Image, NOON, TestVolume};
use crate::fs::{AttributeExistence, Caller, Errno};
use std::format;
use std::vec::Vec;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
/// Neither root nor anybody who is known.
const OTHER: Caller = Caller { uid: 1000 };

/// A list as `setfacl` sends it; entries are tag, permissions and, where it counts, an id.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = Vec::from(REPLY_VERSION.to_le_bytes());
    for &(tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(if matches!(tag, USER | GROUP) { id } else { u32::MAX }.to_le_bytes());
    }
    value
}

/// A list with one more user.
fn named(owner: u16, user: u16, group: u16, mask: u16, others: u16) -> Vec<u8> {
    list(&[
        (OWNER, owner, 0),
        (USER, user, 1000),
        (OWNING_GROUP, group, 0),
        (MASK, mask, 0),
        (OTHERS, others, 0),
    ])
}

fn plain(owner: u16, group: u16, others: u16) -> Vec<u8> {
    list(&[(OWNER, owner, 0), (OWNING_GROUP, group, 0), (OTHERS, others, 0)])
}

fn get(volume: &TestVolume, number: u32, name: &str) -> Result<Vec<u8>, Error> {
    let mut sink = Collected::default();
    volume.read_value(&volume.inode(number)?, name.as_bytes(), &mut sink).map(|()| sink.bytes)
}

fn set(
    volume: &mut TestVolume,
    number: u32,
    name: &str,
    value: Option<&[u8]>,
    caller: Caller,
) -> Result<(), Error> {
    let any = AttributeExistence::Any;
    volume.atomically(|volume| volume.write_attribute(number, name.as_bytes(), value, any, caller))
}

fn mode(volume: &TestVolume, number: u32) -> u16 {
    volume.inode(number).unwrap().mode
}

fn absent<T>() -> Result<T, Error> {
    Err(Errno::ENODATA.into())
}

/// A volume with the file `/f` and the directories `/d` and `/e`.
fn image(options: &[&str]) -> Image {
    Image::new("8M", options, |root| {
        std::fs::write(root.join("f"), "content").unwrap();
        std::fs::create_dir(root.join("d")).unwrap();
        std::fs::create_dir(root.join("e")).unwrap();
    })
}

/// What `debugfs` gives for `list`: 0 where no id counts.
fn without_ids(list: &[u8]) -> Vec<u8> {
    let mut list = list.to_vec();
    for entry in list[4..].as_chunks_mut::<8>().0 {
        if entry[4..] == [0xff; 4] {
            entry[4..].fill(0);
        }
    }
    list
}

fn debugfs_get(image: &Image, path: &str, name: &str) -> Vec<u8> {
    let output = format!("{}.value", image.file());
    image.debugfs(&format!("ea_get -f {output} {path} {name}"));
    std::fs::read(&output).unwrap()
}

#[test]
fn a_list_is_read_back_as_it_was_set_and_sets_the_mode() {
    for options in [&["-b", "1024", "-I", "128"][..], &["-b", "4096", "-I", "256"]] {
        let image = image(options);
        let (f, d) = (image.inode("/f"), image.inode("/d"));
        let mut volume = image.mount_writable();
        let access = named(6, 4, 4, 5, 1);
        set(&mut volume, f, ACCESS, Some(&access), Caller::ROOT).unwrap();
        assert_eq!(mode(&volume, f), 0o100_651);
        let default = named(7, 5, 5, 5, 0);
        let before = mode(&volume, d);
        set(&mut volume, d, DEFAULT, Some(&default), Caller::ROOT).unwrap();
        assert_eq!(mode(&volume, d), before, "a default list leaves the mode");
        image.check(volume);
        let volume = image.mount();
        assert_eq!(get(&volume, f, ACCESS).unwrap(), access);
        assert_eq!(get(&volume, d, DEFAULT).unwrap(), default);
        assert_eq!(debugfs_get(&image, "/f", ACCESS), without_ids(&access));
        assert_eq!(debugfs_get(&image, "/d", DEFAULT), without_ids(&default));
    }
}

#[test]
fn what_is_stored_has_the_format_of_the_volume() {
    let image = image(&["-b", "1024", "-I", "256"]);
    let f = image.inode("/f");
    let mut volume = image.mount_writable();
    set(&mut volume, f, ACCESS, Some(&super::tests_of_formats::REPLY), Caller::ROOT).unwrap();
    let stored = super::tests_of_formats::STORED;
    assert!(volume.inode(f).unwrap().in_inode_attributes.ends_with(&stored));
}

#[test]
fn a_list_that_the_mode_can_say_is_not_stored() {
    let image = image(&["-b", "1024"]);
    let f = image.inode("/f");
    let mut volume = image.mount_writable();
    set(&mut volume, f, ACCESS, Some(&named(6, 4, 4, 4, 0)), Caller::ROOT).unwrap();
    set(&mut volume, f, ACCESS, Some(&plain(7, 1, 2)), Caller::ROOT).unwrap();
    assert_eq!(mode(&volume, f), 0o100_712);
    assert_eq!(get(&volume, f, ACCESS), absent());
    assert!(volume.inode(f).unwrap().in_inode_attributes.iter().all(|byte| *byte == 0));
    assert_eq!(volume.inode(f).unwrap().changed, NOON);
    image.check(volume);
}

#[test]
fn no_list_removes_the_one_that_is_there_or_none() {
    let image = image(&["-b", "1024"]);
    let (f, d) = (image.inode("/f"), image.inode("/d"));
    let mut volume = image.mount_writable();
    for value in [None, Some(&b""[..]), Some(&2_u32.to_le_bytes())] {
        set(&mut volume, f, ACCESS, Some(&named(6, 4, 4, 4, 0)), Caller::ROOT).unwrap();
        set(&mut volume, d, DEFAULT, Some(&plain(7, 5, 0)), Caller::ROOT).unwrap();
        for _ in 0..2 {
            set(&mut volume, f, ACCESS, value, Caller::ROOT).unwrap();
            set(&mut volume, d, DEFAULT, value, Caller::ROOT).unwrap();
            set(&mut volume, f, DEFAULT, value, Caller::ROOT).unwrap();
        }
        assert_eq!((get(&volume, f, ACCESS), get(&volume, d, DEFAULT)), (absent(), absent()));
        assert_eq!(mode(&volume, f), 0o100_640, "the mode stays");
    }
    image.check(volume);
}

#[test]
fn lists_that_linux_refuses_change_nothing() {
    let image = image(&["-b", "1024"]);
    let (f, d) = (image.inode("/f"), image.inode("/d"));
    let mut volume = image.mount_writable();
    let before = mode(&volume, f);
    let default = named(7, 5, 5, 5, 0);
    assert_eq!(set(&mut volume, f, DEFAULT, Some(&default), Caller::ROOT), Err(Errno::EACCES.into()));
    let without_mask = list(&[(OWNER, 7, 0), (USER, 7, 5), (OWNING_GROUP, 5, 0), (OTHERS, 0, 0)]);
    for name in [ACCESS, DEFAULT] {
        assert_eq!(set(&mut volume, d, name, Some(&without_mask), Caller::ROOT), Err(Errno::EINVAL.into()));
        assert_eq!(set(&mut volume, d, name, Some(&default[..9]), Caller::ROOT), Err(Errno::EINVAL.into()));
    }
    assert_eq!((mode(&volume, f), get(&volume, f, DEFAULT)), (before, absent()));
    image.check(volume);
}

#[test]
fn who_is_not_root_loses_the_set_group_id_bit() {
    let image = image(&["-b", "1024"]);
    let (f, d) = (image.inode("/f"), image.inode("/d"));
    image.debugfs("set_inode_field /f mode 0102755");
    image.debugfs("set_inode_field /d mode 0042755");
    let mut volume = image.mount_writable();
    set(&mut volume, f, ACCESS, Some(&named(7, 5, 5, 5, 5)), Caller::ROOT).unwrap();
    assert_eq!(mode(&volume, f), 0o102_755);
    set(&mut volume, d, DEFAULT, Some(&named(7, 5, 5, 5, 5)), OTHER).unwrap();
    assert_eq!(mode(&volume, d), 0o042_755, "a default list leaves it");
    set(&mut volume, f, ACCESS, Some(&named(7, 5, 5, 5, 5)), OTHER).unwrap();
    assert_eq!(mode(&volume, f), 0o100_755);
    set(&mut volume, d, ACCESS, Some(&plain(7, 5, 5)), OTHER).unwrap();
    assert_eq!(mode(&volume, d), 0o040_755);
    image.check(volume);
}

#[test]
fn a_new_file_inherits_the_default_list_of_its_directory() {
    for options in [&["-b", "1024", "-I", "128"][..], &["-b", "4096", "-I", "256"]] {
        let image = image(options);
        let (f, d, e) = (image.inode("/f"), image.inode("/d"), image.inode("/e"));
        let mut volume = image.mount_writable();
        let inherit = |volume: &mut TestVolume, number, mode| {
            volume.atomically(|volume| {
                let mode = volume.inherit_acl(d, number, mode, OTHER)?;
                volume.edit_inode(number, |inode| {
                    inode.set_mode(mode);
                    Ok(())
                })?;
                Ok(mode)
            })
        };
        assert_eq!(inherit(&mut volume, f, 0o100_666), Ok(0o100_666), "without one the mode stays");
        assert_eq!(get(&volume, f, ACCESS), absent());

        let default = named(7, 6, 5, 7, 4);
        set(&mut volume, d, DEFAULT, Some(&default), Caller::ROOT).unwrap();
        assert_eq!(inherit(&mut volume, f, 0o104_662), Ok(0o104_660));
        assert_eq!(get(&volume, f, ACCESS).unwrap(), named(6, 6, 5, 6, 0));
        assert_eq!(get(&volume, f, DEFAULT), absent());
        assert_eq!(inherit(&mut volume, e, 0o040_755), Ok(0o040_754));
        assert_eq!(get(&volume, e, ACCESS).unwrap(), named(7, 6, 5, 5, 4));
        assert_eq!(get(&volume, e, DEFAULT).unwrap(), default);
        assert_eq!(inherit(&mut volume, f, 0o120_777), Ok(0o120_777), "a symbolic link has none");
        inherit(&mut volume, f, 0o100_662).unwrap();

        set(&mut volume, d, DEFAULT, Some(&plain(7, 5, 0)), Caller::ROOT).unwrap();
        set(&mut volume, f, ACCESS, None, Caller::ROOT).unwrap();
        assert_eq!(inherit(&mut volume, f, 0o100_666), Ok(0o100_640));
        assert_eq!(get(&volume, f, ACCESS), absent(), "the mode says it all");
        image.check(volume);
        assert_eq!(debugfs_get(&image, "/e", DEFAULT), without_ids(&default));
        assert_eq!(debugfs_get(&image, "/e", ACCESS), without_ids(&named(7, 6, 5, 5, 4)));
    }
}

#[test]
fn a_default_list_that_is_none_is_damage() {
    let image = image(&["-b", "1024", "-O", "^metadata_csum,^uninit_bg"]);
    let (f, d) = (image.inode("/f"), image.inode("/d"));
    let mut volume = image.mount_writable();
    set(&mut volume, d, DEFAULT, Some(&named(7, 6, 5, 7, 4)), Caller::ROOT).unwrap();
    volume
        .atomically(|volume| {
            volume.edit_inode(d, |inode| {
                // The last entry's tag, that of others, becomes another mask.
                let area = inode.attribute_area();
                let tag = area.len() - 4;
                assert_eq!(area[tag..], [0x20, 0, 4, 0]);
                area[tag] = 0x10;
                Ok(())
            })
        })
        .unwrap();
    let result = volume.atomically(|volume| volume.inherit_acl(d, f, 0o100_666, OTHER));
    assert!(matches!(result, Err(Error::Corrupt(_))), "{result:?}");
}
