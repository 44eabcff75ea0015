// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names, attributes and orphans of a volume that is changed: each test ends with an `e2fsck` that has nothing to say.

use super::*;
use crate::ext4::testing::{Image, NOON, TestVolume};
use crate::fs::{NewKind, TimeChange, Timestamp};
use std::format;
use std::vec::Vec;

const ANNA: Caller = Caller { uid: 1000 };

fn image(options: &[&str]) -> Image {
    Image::new("8M", options, |root| {
        std::fs::write(root.join("file"), "content").unwrap();
        std::fs::create_dir(root.join("dir")).unwrap();
        std::fs::write(root.join("dir/inner"), "inner").unwrap();
    })
}

fn new(kind: NewKind<'_>) -> NewFile<'_> {
    NewFile { kind, mode: 0o640, uid: 1000, gid: 100 }
}

fn create(volume: &mut TestVolume, directory: Node, name: &str, kind: NewKind<'_>) -> Result<Node, Errno> {
    volume.create(ANNA, directory, name.as_bytes(), &new(kind))
}

fn file(volume: &mut TestVolume, name: &str) -> Node {
    create(volume, volume.root(), name, NewKind::Regular).unwrap()
}

fn find(volume: &TestVolume, path: &str) -> Result<Node, Errno> {
    path.split('/').try_fold(volume.root(), |node, name| volume.lookup(node, name.as_bytes()))
}

fn write(volume: &mut TestVolume, node: Node, bytes: &[u8]) {
    assert_eq!(
        volume.write(ANNA, node, Position::At(0), &mut { bytes }),
        Ok(u32::try_from(bytes.len()).unwrap())
    );
}

fn content(volume: &TestVolume, node: Node) -> Vec<u8> {
    let mut bytes = Vec::new();
    volume.read(node, 0, u32::MAX, &mut bytes).unwrap();
    bytes
}

fn links(volume: &TestVolume, node: Node) -> u64 {
    volume.attributes(node).unwrap().links
}

fn free(volume: &TestVolume) -> (u64, u64) {
    let status = volume.status().unwrap();
    (status.blocks_free, status.files_free)
}

#[test]
fn a_file_of_each_kind_is_made_with_what_it_was_given() {
    for options in
        [&["-b", "1024"][..], &["-b", "4096", "-I", "128"], &["-b", "1024", "-O", "^metadata_csum"]]
    {
        let image = image(options);
        let mut volume = image.mount_writable();
        let root = volume.root();
        let long = "t".repeat(200);
        let device = 0x12_3456_u64 << 20 & 0xfff0_0000 | 0x7 << 8 | 0x9a;
        for (name, kind) in [
            ("new", NewKind::Regular),
            ("newdir", NewKind::Directory),
            ("fast", NewKind::Symlink(b"file")),
            ("slow", NewKind::Symlink(long.as_bytes())),
            ("pipe", NewKind::Fifo),
            ("socket", NewKind::Socket),
            ("char", NewKind::CharacterDevice(0x501)),
            ("block", NewKind::BlockDevice(device)),
        ] {
            let node = create(&mut volume, root, name, kind).unwrap();
            let attributes = volume.attributes(node).unwrap();
            assert_eq!(find(&volume, name), Ok(node));
            assert_eq!((attributes.kind, attributes.mode & 0o7777), (kind.kind(), 0o640));
            assert_eq!((attributes.uid, attributes.gid), (1000, 100));
            let is_directory = kind.kind() == FileKind::Directory;
            assert_eq!(attributes.links, if is_directory { 2 } else { 1 });
            assert_eq!(attributes.modified.seconds, NOON.seconds);
            assert_eq!(create(&mut volume, root, name, kind), Err(Errno::EEXIST));
        }
        assert_eq!(volume.attributes(find(&volume, "char").unwrap()).unwrap().device, 0x501);
        assert_eq!(volume.attributes(find(&volume, "block").unwrap()).unwrap().device, device);
        for (name, target) in [("fast", "file"), ("slow", long.as_str())] {
            let mut found = Vec::new();
            volume.read_link(find(&volume, name).unwrap(), &mut found).unwrap();
            assert_eq!(found, target.as_bytes());
        }
        assert_eq!(links(&volume, root), 5, "., .., lost+found, dir, newdir");
        image.check(volume);
        let stat = image.debugfs("stat /newdir");
        assert!(stat.contains("Type: directory") && stat.contains("Mode:  0640"), "{stat}");
    }
}

#[test]
fn a_directory_with_the_set_group_id_bit_hands_it_on() {
    let image = image(&[]);
    let mut volume = image.mount_writable();
    let dir = find(&volume, "dir").unwrap();
    let changes = AttributeChanges { mode: Some(0o2775), gid: Some(77), ..AttributeChanges::default() };
    volume.set_attributes(Caller::ROOT, dir, &changes).unwrap();
    let inner = create(&mut volume, dir, "sub", NewKind::Directory).unwrap();
    let made = volume.attributes(inner).unwrap();
    assert_eq!((made.gid, made.mode & 0o7777), (77, 0o2640));
    let made = create(&mut volume, dir, "f", NewKind::Regular).unwrap();
    let made = volume.attributes(made).unwrap();
    assert_eq!((made.gid, made.mode & 0o7777), (77, 0o640));
    image.check(volume);
}

#[test]
fn a_file_has_as_many_names_as_it_was_given() {
    let image = image(&["-b", "1024"]);
    let mut volume = image.mount_writable();
    let (root, node, dir) = (volume.root(), find(&volume, "file").unwrap(), find(&volume, "dir").unwrap());
    volume.link(ANNA, node, dir, b"second").unwrap();
    assert_eq!(volume.link(ANNA, node, root, b"dir"), Err(Errno::EEXIST));
    assert_eq!(volume.link(ANNA, dir, root, b"hard"), Err(Errno::EPERM));
    assert_eq!(volume.link(ANNA, node, node, b"x"), Err(Errno::ENOTDIR));
    assert_eq!((links(&volume, node), find(&volume, "dir/second")), (2, Ok(node)));
    volume.remove(root, b"file", Removal::File).unwrap();
    assert_eq!((links(&volume, node), content(&volume, node)), (1, b"content".to_vec()));
    image.check(volume);
}

#[test]
fn links_end_where_linux_ends_them() {
    let image = Image::new("24M", &["-b", "1024", "-O", "dir_nlink"], |_| {});
    let mut volume = image.mount_writable();
    let root = volume.root();
    let node = file(&mut volume, "file");
    let names = create(&mut volume, root, "names", NewKind::Directory).unwrap();
    for number in 1..65_000 {
        volume.link(ANNA, node, names, format!("{number:05}").as_bytes()).unwrap();
        if number % 64 == 0 {
            volume.commit().unwrap();
        }
    }
    assert_eq!(volume.link(ANNA, node, names, b"last"), Err(Errno::EMLINK));
    volume.remove(root, b"file", Removal::File).unwrap();
    volume.link(ANNA, node, names, b"last").unwrap();
    image.check(volume);
}

#[test]
fn a_removed_file_is_gone_and_its_space_is_free() {
    for options in [&["-b", "1024"][..], &["-b", "4096"]] {
        let image = image(options);
        let mut volume = image.mount_writable();
        let (root, before) = (volume.root(), free(&volume));
        let node = file(&mut volume, "new");
        write(&mut volume, node, &[7; 300_000]);
        assert!(free(&volume).0 < before.0);
        assert_eq!(volume.remove(root, b"new", Removal::Directory), Err(Errno::ENOTDIR));
        volume.remove(root, b"new", Removal::File).unwrap();
        assert_eq!(find(&volume, "new"), Err(Errno::ENOENT));
        assert_eq!(volume.attributes(node), Err(Errno::ESTALE));
        assert_eq!(free(&volume), before);
        assert_eq!(volume.remove(root, b"new", Removal::File), Err(Errno::ENOENT));
        image.check(volume);
    }
}

#[test]
fn a_node_of_a_file_that_is_gone_is_not_the_file_that_has_its_number_now() {
    let image = image(&[]);
    let mut volume = image.mount_writable();
    let root = volume.root();
    let old = file(&mut volume, "old");
    volume.remove(root, b"old", Removal::File).unwrap();
    let new = file(&mut volume, "new");
    assert_eq!(volume.number(old), volume.number(new), "the lowest free number is taken");
    assert_ne!(old, new);
    assert_eq!(volume.attributes(old), Err(Errno::ESTALE));
    assert_eq!(volume.write(ANNA, old, Position::At(0), &mut &b"x"[..]), Err(Errno::ESTALE));
    image.check(volume);
}

#[test]
fn only_an_empty_directory_is_removed() {
    let image = image(&[]);
    let mut volume = image.mount_writable();
    let (root, dir) = (volume.root(), find(&volume, "dir").unwrap());
    assert_eq!(volume.remove(root, b"dir", Removal::File), Err(Errno::EISDIR));
    assert_eq!(volume.remove(root, b"dir", Removal::Directory), Err(Errno::ENOTEMPTY));
    volume.remove(dir, b"inner", Removal::File).unwrap();
    volume.retain(dir).unwrap();
    volume.remove(root, b"dir", Removal::Directory).unwrap();
    assert_eq!(create(&mut volume, dir, "late", NewKind::Regular), Err(Errno::ENOENT));
    assert_eq!(links(&volume, dir), 0);
    volume.release(dir);
    assert_eq!(volume.attributes(dir), Err(Errno::ESTALE));
    assert_eq!(links(&volume, root), 3);
    image.check(volume);
}

#[test]
fn a_removed_file_that_is_open_stays_until_it_is_closed() {
    let image = image(&["-b", "1024"]);
    let mut volume = image.mount_writable();
    let (root, before) = (volume.root(), free(&volume));
    let mut nodes = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let node = file(&mut volume, name);
        volume.retain(node).unwrap();
        volume.retain(node).unwrap();
        volume.remove(root, name.as_bytes(), Removal::File).unwrap();
        write(&mut volume, node, name.repeat(5000).as_bytes());
        nodes.push((node, name));
    }
    // Out of the list from its middle, its end and its head.
    for place in [1, 0, 1, 0] {
        let (node, name) = nodes.remove(place);
        assert_eq!(content(&volume, node), name.repeat(5000).as_bytes());
        volume.release(node);
        assert_eq!(links(&volume, node), 0);
        volume.release(node);
        assert_eq!(volume.attributes(node), Err(Errno::ESTALE));
    }
    assert_eq!(free(&volume), before);
    image.check(volume);
}

#[test]
fn orphans_are_reclaimed_by_the_next_mount() {
    let image = image(&["-b", "1024"]);
    let mut volume = image.mount_writable();
    let (root, before) = (volume.root(), free(&volume));
    for name in ["a", "b", "c"] {
        let node = file(&mut volume, name);
        write(&mut volume, node, &[1; 100_000]);
        volume.retain(node).unwrap();
        volume.remove(root, name.as_bytes(), Removal::File).unwrap();
    }
    volume.commit().unwrap();
    let left_behind = volume.region.clone();
    let volume = TestVolume::mount_writable(left_behind, || NOON).unwrap();
    assert_eq!(free(&volume), before);
    image.check(volume);
}

#[test]
fn a_volume_that_is_unmounted_keeps_no_orphan_though_it_is_open() {
    let image = image(&["-b", "1024"]);
    let mut volume = image.mount_writable();
    let (root, before) = (volume.root(), free(&volume));
    let node = file(&mut volume, "open");
    write(&mut volume, node, &[1; 100_000]);
    let directory = create(&mut volume, root, "directory", NewKind::Directory).unwrap();
    volume.retain(node).unwrap();
    volume.retain(directory).unwrap();
    volume.remove(root, b"open", Removal::File).unwrap();
    volume.remove(root, b"directory", Removal::Directory).unwrap();
    volume.rest().unwrap();
    assert_eq!(free(&volume), before);
    volume.release(node);
    image.check(volume);
}

#[test]
fn a_directory_that_was_removed_holds_nothing_and_is_nowhere() {
    let image = image(&[]);
    let mut volume = image.mount_writable();
    let root = volume.root();
    let above = create(&mut volume, root, "above", NewKind::Directory).unwrap();
    let below = create(&mut volume, above, "below", NewKind::Directory).unwrap();
    volume.retain(below).unwrap();
    volume.remove(above, b"below", Removal::Directory).unwrap();
    volume.remove(root, b"above", Removal::Directory).unwrap();
    assert_eq!(volume.parent(below), Err(Errno::ENOENT));
    assert_eq!(volume.lookup(below, b"name"), Err(Errno::ENOENT));
    assert_eq!(volume.read_directory(below, 0, &mut |_| ControlFlow::Continue(())), Err(Errno::ENOENT));
    assert_eq!(links(&volume, below), 0);
    volume.release(below);
    image.check(volume);
}

#[test]
fn a_name_moves_within_and_across_directories() {
    let image = image(&[]);
    let mut volume = image.mount_writable();
    let (root, dir, node) = (volume.root(), find(&volume, "dir").unwrap(), find(&volume, "file").unwrap());
    volume.rename(ANNA, (root, b"file"), (root, b"other")).unwrap();
    volume.rename(ANNA, (root, b"other"), (dir, b"moved")).unwrap();
    assert_eq!((find(&volume, "file"), find(&volume, "dir/moved")), (Err(Errno::ENOENT), Ok(node)));
    let sub = create(&mut volume, root, "sub", NewKind::Directory).unwrap();
    volume.rename(ANNA, (root, b"dir"), (sub, b"dir")).unwrap();
    assert_eq!((links(&volume, root), links(&volume, sub), volume.parent(dir)), (4, 3, Ok(sub)));
    assert_eq!(find(&volume, "sub/dir/moved"), Ok(node));
    image.check(volume);
}

#[test]
fn a_directory_does_not_move_below_itself() {
    let image = image(&[]);
    let mut volume = image.mount_writable();
    let (root, dir) = (volume.root(), find(&volume, "dir").unwrap());
    let sub = create(&mut volume, dir, "sub", NewKind::Directory).unwrap();
    assert_eq!(volume.rename(ANNA, (root, b"dir"), (dir, b"x")), Err(Errno::EINVAL));
    assert_eq!(volume.rename(ANNA, (root, b"dir"), (sub, b"x")), Err(Errno::EINVAL));
    assert_eq!(volume.rename(ANNA, (dir, b"sub"), (root, b"dir")), Err(Errno::ENOTEMPTY));
    image.check(volume);
}

#[test]
fn a_name_moves_over_another_of_its_sort_only() {
    let image = image(&[]);
    let mut volume = image.mount_writable();
    let root = volume.root();
    let (kept, gone) = (find(&volume, "file").unwrap(), file(&mut volume, "gone"));
    let (empty, full) = (
        create(&mut volume, root, "empty", NewKind::Directory).unwrap(),
        create(&mut volume, root, "full", NewKind::Directory).unwrap(),
    );
    create(&mut volume, full, "x", NewKind::Regular).unwrap();
    assert_eq!(volume.rename(ANNA, (root, b"file"), (root, b"empty")), Err(Errno::EISDIR));
    assert_eq!(volume.rename(ANNA, (root, b"empty"), (root, b"file")), Err(Errno::ENOTDIR));
    assert_eq!(volume.rename(ANNA, (root, b"empty"), (root, b"full")), Err(Errno::ENOTEMPTY));
    assert_eq!(volume.rename(ANNA, (root, b"none"), (root, b"full")), Err(Errno::ENOENT));
    volume.rename(ANNA, (root, b"file"), (root, b"gone")).unwrap();
    assert_eq!((find(&volume, "gone"), volume.attributes(gone)), (Ok(kept), Err(Errno::ESTALE)));
    volume.rename(ANNA, (root, b"full"), (root, b"empty")).unwrap();
    assert_eq!((find(&volume, "empty"), volume.attributes(empty)), (Ok(full), Err(Errno::ESTALE)));
    assert_eq!(links(&volume, root), 5);
    volume.link(ANNA, kept, root, b"twin").unwrap();
    volume.rename(ANNA, (root, b"gone"), (root, b"twin")).unwrap();
    assert_eq!((find(&volume, "gone"), find(&volume, "twin")), (Ok(kept), Ok(kept)), "two names of one file");
    image.check(volume);
}

#[test]
fn attributes_are_what_they_were_set_to() {
    let image = image(&[]);
    let mut volume = image.mount_writable();
    let node = find(&volume, "file").unwrap();
    let time = Timestamp { seconds: -5, nanoseconds: 6 };
    let changes = AttributeChanges {
        mode: Some(0o4751),
        uid: Some(70_000),
        gid: Some(80_000),
        size: Some(3),
        accessed: Some(TimeChange::To(time)),
        modified: Some(TimeChange::Now),
    };
    volume.set_attributes(Caller::ROOT, node, &changes).unwrap();
    let found = volume.attributes(node).unwrap();
    assert_eq!((found.mode, found.uid, found.gid, found.size), (0o104_751, 70_000, 80_000, 3));
    assert_eq!((found.accessed, found.modified, found.changed), (time, NOON, NOON));
    assert_eq!(content(&volume, node), b"con");
    let chown = AttributeChanges { uid: Some(1), ..AttributeChanges::default() };
    volume.set_attributes(Caller::ROOT, node, &chown).unwrap();
    assert_eq!(volume.attributes(node).unwrap().mode, 0o100_751, "a new owner takes the set-id bits away");
    let dir = find(&volume, "dir").unwrap();
    let size = AttributeChanges { size: Some(0), ..AttributeChanges::default() };
    assert_eq!(volume.set_attributes(ANNA, dir, &size), Err(Errno::EISDIR));
    image.check(volume);
}

#[test]
fn times_of_changes_never_go_back() {
    let image = image(&[]);
    let mut volume = image.mount_writable();
    let later = Timestamp { seconds: NOON.seconds + 100, nanoseconds: 0 };
    volume.clock = || Timestamp { seconds: NOON.seconds + 100, nanoseconds: 0 };
    let node = file(&mut volume, "new");
    volume.clock = || NOON;
    write(&mut volume, node, b"x");
    let found = volume.attributes(node).unwrap();
    assert_eq!((found.modified, found.changed), (later, later));
    file(&mut volume, "another");
    assert_eq!(volume.attributes(volume.root()).unwrap().modified, later);
    image.check(volume);
}

#[test]
fn a_file_is_cut_and_grows_again_with_zeros() {
    for options in [&["-b", "1024"][..], &["-b", "4096"]] {
        let image = image(options);
        let mut volume = image.mount_writable();
        let before = free(&volume);
        let node = file(&mut volume, "new");
        write(&mut volume, node, &[9; 200_000]);
        let size = |volume: &mut TestVolume, size| {
            let changes = AttributeChanges { size: Some(size), ..AttributeChanges::default() };
            volume.set_attributes(ANNA, node, &changes).unwrap();
        };
        size(&mut volume, 5001);
        size(&mut volume, 20_000);
        let mut expected = std::vec![9; 5001];
        expected.resize(20_000, 0);
        assert!(content(&volume, node) == expected);
        size(&mut volume, 0);
        assert_eq!(free(&volume), (before.0, before.1 - 1));
        size(&mut volume, 1 << 40);
        assert_eq!(volume.attributes(node).unwrap().size, 1 << 40);
        image.check(volume);
    }
}

#[test]
fn a_full_volume_refuses_and_stays_as_it_is() {
    let image = Image::new("4M", &["-b", "1024", "-N", "64", "-m", "0"], |_| {});
    let mut volume = image.mount_writable();
    let root = volume.root();
    let node = file(&mut volume, "file");
    let mut length = 0;
    let full = loop {
        match volume.write(ANNA, node, Position::End, &mut &[3; 50_000][..]) {
            Ok(count) => length += u64::from(count),
            Err(errno) => break errno,
        }
    };
    assert_eq!((full, volume.attributes(node).unwrap().size), (Errno::ENOSPC, length));
    assert_eq!(create(&mut volume, root, "dir", NewKind::Directory), Err(Errno::ENOSPC));
    assert_eq!(find(&volume, "dir"), Err(Errno::ENOENT));
    let mut made = 0;
    while create(&mut volume, root, &format!("empty{made}"), NewKind::Regular).is_ok() {
        made += 1;
    }
    assert!((20..64).contains(&made), "{made} inodes");
    volume.remove(root, b"file", Removal::File).unwrap();
    volume.remove(root, b"empty0", Removal::File).unwrap();
    let again = create(&mut volume, root, "again", NewKind::Directory).unwrap();
    create(&mut volume, again, "x", NewKind::Regular).unwrap();
    image.check(volume);
}

#[test]
fn what_is_immutable_or_only_appended_to_is_left_alone() {
    let image = image(&[]);
    image.debugfs("set_inode_field /file flags 0x80010");
    image.debugfs("set_inode_field /dir/inner flags 0x80020");
    let mut volume = image.mount_writable();
    let (root, node) = (volume.root(), find(&volume, "file").unwrap());
    let (dir, inner) = (find(&volume, "dir").unwrap(), find(&volume, "dir/inner").unwrap());
    let mode = AttributeChanges { mode: Some(0), ..AttributeChanges::default() };
    assert_eq!(volume.check_writable(node), Err(Errno::EPERM));
    assert_eq!(volume.write(ANNA, node, Position::End, &mut &b"x"[..]), Err(Errno::EPERM));
    assert_eq!(volume.remove(root, b"file", Removal::File), Err(Errno::EPERM));
    assert_eq!(volume.link(ANNA, node, root, b"x"), Err(Errno::EPERM));
    assert_eq!(volume.set_attributes(ANNA, node, &mode), Err(Errno::EPERM));
    assert_eq!(volume.write(ANNA, inner, Position::At(0), &mut &b"x"[..]), Err(Errno::EPERM));
    assert_eq!(volume.write(ANNA, inner, Position::End, &mut &b"x"[..]), Ok(1));
    assert_eq!(volume.rename(ANNA, (dir, b"inner"), (root, b"x")), Err(Errno::EPERM));
    image.check(volume);
}
