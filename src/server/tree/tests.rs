// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the model must be right about because nothing else checks it.

use super::*;
use crate::fs::FileSystem;

const USER: Caller = Caller { uid: 1000 };

fn new(kind: NewKind<'_>) -> NewFile<'_> {
    NewFile { kind, mode: 0o640, uid: 1000, gid: 100 }
}

/// A tree with the file `f` and the directory `d` in its root, made by a user at second 1000.
fn tree() -> (Tree, Node, Node) {
    let mut tree = Tree::new();
    let file = tree.create(USER, ROOT, b"f", &new(NewKind::Regular)).unwrap();
    let directory = tree.create(USER, ROOT, b"d", &new(NewKind::Directory)).unwrap();
    tree.clock.seconds = 2000;
    (tree, file, directory)
}

#[test]
fn content_that_was_cut_off_does_not_come_back() {
    for size in [0, 1, 511, 512, 513, 1023, 1024, 1500] {
        let mut content = Content::new(&[7; 2000]);
        content.set_size(size);
        content.set_size(2000);
        let bytes = content.bytes();
        let kept = usize::try_from(size).unwrap();
        assert!(bytes[..kept].iter().all(|byte| *byte == 7) && bytes[kept..].iter().all(|byte| *byte == 0));
        assert_eq!(bytes.len(), 2000);
    }
}

#[test]
fn content_far_away_takes_no_room_between() {
    let mut content = Content::default();
    content.write(1 << 40, b"far");
    assert_eq!((content.size(), content.stored()), ((1 << 40) + 3, 1));
}

#[test]
fn a_directory_with_the_set_group_bit_gives_its_group_to_what_is_made_in_it() {
    let (mut tree, _, directory) = tree();
    tree.inode(directory).mode = 0o2755;
    tree.inode(directory).gid = 7;
    let file = tree.create(USER, directory, b"f", &new(NewKind::Regular)).unwrap();
    let below = tree.create(USER, directory, b"d", &new(NewKind::Directory)).unwrap();
    assert_eq!((tree.inode(file).gid, tree.inode(file).mode), (7, 0o640));
    assert_eq!((tree.inode(below).gid, tree.inode(below).mode), (7, 0o2640));
}

#[test]
fn a_new_owner_and_a_write_by_others_than_root_take_the_set_id_bits() {
    let owner = AttributeChanges { uid: Some(5), ..AttributeChanges::default() };
    let both = AttributeChanges { mode: Some(0o6711), ..owner };
    for (mode, changes, after) in
        [(0o6755, owner, 0o755), (0o6745, owner, 0o2745), (0o755, both, 0o6711), (0o1777, owner, 0o1777)]
    {
        let (mut tree, file, directory) = tree();
        tree.inode(file).mode = mode;
        tree.set_attributes(Caller::ROOT, file, &changes).unwrap();
        assert_eq!(tree.inode(file).mode, after);
        tree.inode(directory).mode = 0o6755;
        tree.set_attributes(Caller::ROOT, directory, &owner).unwrap();
        assert_eq!(tree.inode(directory).mode, 0o6755);
    }
}

#[test]
fn a_change_of_names_is_a_change_of_the_directories_and_of_the_file() {
    let (mut tree, file, directory) = tree();
    tree.rename(USER, (ROOT, b"f"), (directory, b"g")).unwrap();
    for node in [ROOT, directory] {
        assert_eq!((tree.inode(node).modified.seconds, tree.inode(node).changed.seconds), (2000, 2000));
    }
    assert_eq!((tree.inode(file).modified.seconds, tree.inode(file).changed.seconds), (1000, 2000));
}

#[test]
fn no_time_of_a_change_goes_back() {
    let (mut tree, file, _) = tree();
    tree.clock.seconds = 500;
    tree.write(USER, file, Position::End, &mut &b"x"[..]).unwrap();
    assert_eq!((tree.inode(file).modified.seconds, tree.inode(file).changed.seconds), (1000, 1000));
}

#[test]
fn directories_count_those_in_them_wherever_they_are_moved() {
    let (mut tree, _, directory) = tree();
    let other = tree.create(USER, ROOT, b"other", &new(NewKind::Directory)).unwrap();
    let below = tree.create(USER, directory, b"below", &new(NewKind::Directory)).unwrap();
    tree.create(USER, other, b"empty", &new(NewKind::Directory)).unwrap();
    tree.rename(USER, (directory, b"below"), (other, b"empty")).unwrap();
    let links = |tree: &mut Tree, node| tree.inode(node).links;
    assert_eq!([ROOT, directory, other, below].map(|node| links(&mut tree, node)), [4, 2, 3, 2]);
    assert_eq!(tree.parent(below), Ok(other));
    tree.remove(other, b"empty", Removal::Directory).unwrap();
    assert_eq!((links(&mut tree, other), tree.attributes(below)), (2, Err(Errno::ESTALE)));
}

#[test]
fn a_directory_is_not_moved_below_itself_however_deep() {
    let (mut tree, _, directory) = tree();
    let below = tree.create(USER, directory, b"below", &new(NewKind::Directory)).unwrap();
    for to in [directory, below] {
        assert_eq!(tree.rename(USER, (ROOT, b"d"), (to, b"new")), Err(Errno::EINVAL));
    }
    assert_eq!(tree.rename(USER, (directory, b"below"), (ROOT, b"d")), Err(Errno::ENOTEMPTY));
}

#[test]
fn what_is_retained_goes_with_the_last_release() {
    let (mut tree, file, _) = tree();
    tree.retain(file).unwrap();
    tree.retain(file).unwrap();
    tree.remove(ROOT, b"f", Removal::File).unwrap();
    tree.release(file);
    assert_eq!(tree.attributes(file).map(|attributes| attributes.links), Ok(0));
    tree.release(file);
    assert_eq!(tree.attributes(file), Err(Errno::ESTALE));
    assert_eq!(tree.retain(file), Err(Errno::ESTALE));
}

#[test]
fn positions_in_a_directory_stay_good_when_names_come_and_go() {
    let (mut tree, _, directory) = tree();
    for name in [b"a", b"b", b"c"] {
        tree.create(USER, directory, name, &new(NewKind::Regular)).unwrap();
    }
    tree.remove(directory, b"a", Removal::File).unwrap();
    let mut names = Vec::new();
    tree.read_directory(directory, 3, &mut |entry| {
        names.push(entry.name.to_vec());
        core::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(names, [b"b".to_vec(), b"c".to_vec()]);
}
