// SPDX-License-Identifier: MIT OR Apache-2.0

//! The checks, as tables of who may do what with which file.

use super::*;
use crate::fs::{DirectoryEntry, FileSystemStatus, Timestamp};
use core::ops::ControlFlow;
use std::vec::Vec;

const ANNA: u32 = 1000;
const BERT: u32 = 1001;
const CLEO: u32 = 1002;

const DIRECTORY: Node = Node(1);
const FILE: Node = Node(2);
const OTHER_DIRECTORY: Node = Node(3);

const READ: Permissions = Permissions::READ;
const WRITE: Permissions = Permissions::WRITE;
const EXECUTE: Permissions = Permissions::EXECUTE;

/// Three files, each with kind, owner, mode and list.
struct Files([(FileKind, u32, u32, Option<Vec<u8>>); 3]);

/// A directory of `owner` with `mode`, and a regular file in it, of `file_owner` with `file_mode`; and another directory
/// that all may write.
fn files((owner, mode): (u32, u32), (file_owner, file_mode): (u32, u32)) -> Files {
    Files([
        (FileKind::Directory, owner, mode, None),
        (FileKind::Regular, file_owner, file_mode, None),
        (FileKind::Directory, 0, 0o777, None),
    ])
}

impl Files {
    fn at(&self, node: Node) -> &(FileKind, u32, u32, Option<Vec<u8>>) {
        &self.0[usize::try_from(node.0).unwrap() - 1]
    }

    fn checked(&self, uid: u32) -> Subject<'_> {
        let policy = Policy { check: true, ..Policy::default() };
        Subject { backend: self, policy, n_uname: uid }
    }

    fn trusted(&self, uid: u32) -> Subject<'_> {
        Subject { policy: Policy::default(), ..self.checked(uid) }
    }

    fn read_only(&self, check: bool) -> Subject<'_> {
        Subject { policy: Policy { check, read_only: true, ..Policy::default() }, ..self.checked(0) }
    }
}

impl FileSystem for Files {
    fn root(&self) -> Node {
        DIRECTORY
    }
    fn lookup(&self, _directory: Node, _name: &[u8]) -> Result<Node, Errno> {
        Err(Errno::ENOENT)
    }
    fn parent(&self, _directory: Node) -> Result<Node, Errno> {
        Ok(DIRECTORY)
    }
    fn attributes(&self, node: Node) -> Result<Attributes, Errno> {
        let (kind, uid, mode, _) = *self.at(node);
        let now = Timestamp::default();
        Ok(Attributes {
            kind,
            mode: (kind as u32) << 12 | mode,
            uid,
            gid: 0,
            links: 1,
            device: 0,
            size: 0,
            block_size: 4096,
            blocks: 0,
            accessed: now,
            modified: now,
            changed: now,
            created: None,
            generation: None,
            data_version: None,
        })
    }
    fn read(&self, _node: Node, _offset: u64, _count: u32, _sink: &mut dyn Sink) -> Result<u32, Errno> {
        Err(Errno::EIO)
    }
    fn read_directory(
        &self,
        _directory: Node,
        _offset: u64,
        _visit: &mut dyn FnMut(&DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        Ok(())
    }
    fn read_link(&self, _node: Node, _sink: &mut dyn Sink) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
    fn list_attributes(&self, _node: Node, _sink: &mut dyn Sink) -> Result<(), Errno> {
        Ok(())
    }
    fn read_attribute(&self, node: Node, name: &[u8], sink: &mut dyn Sink) -> Result<(), Errno> {
        assert_eq!(name, b"system.posix_acl_access");
        let list = self.at(node).3.as_ref().ok_or(Errno::ENODATA)?;
        // In pieces, as a backend may give it.
        list.chunks(3).try_for_each(|piece| sink.put(piece)).map_err(|_| Errno::EIO)
    }
    fn status(&self) -> Result<FileSystemStatus, Errno> {
        Err(Errno::EIO)
    }
}

/// A list in the form of `getxattr`.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// Which of r, w and x `uid` has of `node`, as the three bits of a mode.
fn granted(files: &Files, node: Node, uid: u32) -> u32 {
    let has = |wanted| u32::from(permits(files, node, uid, wanted).is_ok());
    has(READ) << 2 | has(WRITE) << 1 | has(EXECUTE)
}

#[test]
fn every_mode_grants_the_owner_the_first_bits_and_others_the_last() {
    for mode in 0..=0o777 {
        let files = files((ANNA, mode), (ANNA, mode));
        for node in [DIRECTORY, FILE] {
            assert_eq!(granted(&files, node, ANNA), mode >> 6, "{mode:o}");
            assert_eq!(granted(&files, node, BERT), mode & 7, "{mode:o}");
        }
        assert_eq!(granted(&files, DIRECTORY, 0), 7);
        let executable = u32::from(mode & 0o111 != 0);
        assert_eq!(granted(&files, FILE, 0), 6 | executable, "{mode:o}");
    }
}

#[test]
fn several_permissions_are_granted_together_or_not() {
    let files = files((ANNA, 0o755), (ANNA, 0o640));
    assert_eq!(permits(&files, FILE, ANNA, READ.with(WRITE)), Ok(()));
    assert_eq!(permits(&files, FILE, ANNA, READ.with(EXECUTE)), Err(Errno::EACCES));
    assert_eq!(permits(&files, DIRECTORY, BERT, WRITE.with(EXECUTE)), Err(Errno::EACCES));
}

#[test]
fn a_list_grants_what_its_mask_lets_through_to_whom_it_names() {
    let none = u32::MAX;
    for mask in 0..8_u16 {
        for named in 0..8 {
            let mut files = files((0, 0o755), (ANNA, 0o604 | u32::from(mask) << 3));
            files.0[1].3 = Some(list(&[
                (0x01, 6, none),
                (0x02, named, BERT),
                (0x04, 7, none),
                (0x08, 7, CLEO),
                (0x10, mask, none),
                (0x20, 4, none),
            ]));
            // Where the mask lets nothing through Linux does not read the list.
            let expected = if mask == 0 { 4 } else { u32::from(named & mask) };
            assert_eq!(granted(&files, FILE, BERT), expected, "{named:o} {mask:o}");
            assert_eq!(granted(&files, FILE, ANNA), 6, "the owner's bits are not masked");
            assert_eq!(granted(&files, FILE, CLEO), 4, "a named group is not a named user");
        }
    }
}

#[test]
fn a_list_that_is_none_lets_nobody_but_the_owner_and_root_in() {
    let good = list(&[(0x01, 7, u32::MAX), (0x02, 7, BERT), (0x10, 7, u32::MAX)]);
    let mut wrong_version = good.clone();
    wrong_version[0] = 1;
    for bad in [wrong_version, good[..good.len() - 1].to_vec(), good[..3].to_vec(), Vec::new()] {
        let mut files = files((0, 0o755), (ANNA, 0o777));
        files.0[1].3 = Some(bad);
        assert_eq!(permits(&files, FILE, BERT, READ), Err(Errno::EUCLEAN));
        assert_eq!(permits(&files, FILE, ANNA, READ), Ok(()));
        assert_eq!(permits(&files, FILE, 0, READ), Ok(()));
    }
}

#[test]
fn users_and_groups_are_squashed_as_the_policy_says() {
    let root = Squash::Root { uid: 7, gid: 8 };
    let all = Squash::All { uid: 7, gid: 8 };
    for (squash, n_uname, user, group) in [
        (Squash::None, 0, 0, 50),
        (Squash::None, ANNA, ANNA, 50),
        (Squash::None, NONUNAME, NOBODY, 50),
        (root, 0, 7, 8),
        (root, ANNA, ANNA, 50),
        (root, NONUNAME, NOBODY, 50),
        (all, 0, 7, 8),
        (all, ANNA, 7, 8),
        (all, NONUNAME, 7, 8),
    ] {
        let policy = Policy { squash, ..Policy::default() };
        assert_eq!((policy.user(n_uname), policy.group(n_uname, 50)), (user, group));
    }
}

#[test]
fn a_squashed_root_is_checked_as_whom_it_acts_as() {
    let files = files((0, 0o755), (ANNA, 0o600));
    let squash = Squash::Root { uid: ANNA, gid: 1 };
    let policy = Policy { check: true, squash, ..Policy::default() };
    let subject = Subject { policy, ..files.checked(0) };
    assert_eq!((subject.caller().uid, subject.group(50)), (ANNA, 1));
    assert_eq!(subject.may_open(FILE, WRITE), Ok(()));
    assert_eq!(subject.may_link(DIRECTORY), Err(Errno::EACCES));
}

#[test]
fn a_trusting_export_lets_everything_be_done() {
    let files = files((0, 0o000), (0, 0o000));
    let subject = files.trusted(BERT);
    let changes =
        AttributeChanges { uid: Some(BERT), mode: Some(0o777), size: Some(1), ..Default::default() };
    for result in [
        subject.may_open(FILE, READ.with(WRITE)),
        subject.may_search(DIRECTORY),
        subject.may_create(DIRECTORY, &NewKind::BlockDevice(0)),
        subject.may_remove(DIRECTORY, FILE),
        subject.may_rename(DIRECTORY, FILE, OTHER_DIRECTORY, None),
        subject.may_change_attributes(FILE, &changes, false),
        subject.may_read_attribute(FILE, b"trusted.a"),
        subject.may_write_attribute(FILE, b"security.a"),
    ] {
        assert_eq!(result, Ok(()));
    }
}

#[test]
fn a_read_only_export_refuses_every_change_to_root_too() {
    let files = files((0, 0o755), (0, 0o644));
    for check in [false, true] {
        let subject = files.read_only(check);
        for result in [
            subject.may_open(FILE, WRITE),
            subject.may_open(FILE, READ.with(WRITE)),
            subject.may_create(DIRECTORY, &NewKind::Regular),
            subject.may_link(DIRECTORY),
            subject.may_remove(DIRECTORY, FILE),
            subject.may_rename(DIRECTORY, FILE, DIRECTORY, None),
            subject.may_change_attributes(FILE, &AttributeChanges::default(), true),
            subject.may_write_attribute(FILE, b"user.a"),
        ] {
            assert_eq!(result, Err(Errno::EROFS));
        }
        assert_eq!(subject.may_open(FILE, READ), Ok(()));
        assert_eq!(subject.may_search(DIRECTORY), Ok(()));
        assert_eq!(subject.may_read_attribute(FILE, b"user.a"), Ok(()));
    }
}

#[test]
fn names_are_made_and_removed_by_who_may_write_and_search_the_directory() {
    for (mode, expected) in [
        (0o700, Err(Errno::EACCES)),
        (0o702, Err(Errno::EACCES)),
        (0o701, Err(Errno::EACCES)),
        (0o703, Ok(())),
    ] {
        let files = files((ANNA, mode), (ANNA, 0));
        for (uid, expected) in [(ANNA, Ok(())), (0, Ok(())), (BERT, expected)] {
            let subject = files.checked(uid);
            assert_eq!(subject.may_link(DIRECTORY), expected);
            assert_eq!(subject.may_create(DIRECTORY, &NewKind::Fifo), expected);
            assert_eq!(subject.may_remove(DIRECTORY, FILE), expected);
            assert_eq!(subject.may_rename(DIRECTORY, FILE, OTHER_DIRECTORY, None), expected);
            assert_eq!(subject.may_rename(OTHER_DIRECTORY, FILE, DIRECTORY, None), expected);
        }
    }
}

#[test]
fn devices_are_made_by_root() {
    let files = files((ANNA, 0o777), (ANNA, 0));
    for device in [NewKind::CharacterDevice(1), NewKind::BlockDevice(1)] {
        assert_eq!(files.checked(ANNA).may_create(DIRECTORY, &device), Err(Errno::EPERM));
        assert_eq!(files.checked(0).may_create(DIRECTORY, &device), Ok(()));
    }
    let closed = self::files((ANNA, 0o700), (ANNA, 0));
    assert_eq!(closed.checked(BERT).may_create(DIRECTORY, &NewKind::BlockDevice(1)), Err(Errno::EACCES));
}

#[test]
fn in_a_sticky_directory_only_the_owners_remove() {
    let files = files((ANNA, 0o1777), (BERT, 0o666));
    for (uid, expected) in [(ANNA, Ok(())), (BERT, Ok(())), (0, Ok(())), (CLEO, Err(Errno::EPERM))] {
        let subject = files.checked(uid);
        assert_eq!(subject.may_remove(DIRECTORY, FILE), expected);
        assert_eq!(subject.may_rename(DIRECTORY, FILE, OTHER_DIRECTORY, None), expected);
        assert_eq!(
            subject.may_rename(OTHER_DIRECTORY, OTHER_DIRECTORY, DIRECTORY, Some(FILE)).is_ok(),
            expected.is_ok()
        );
        assert_eq!(subject.may_link(DIRECTORY), Ok(()));
    }
}

#[test]
fn a_directory_that_gets_another_parent_is_written_itself() {
    let mut files = files((ANNA, 0o777), (BERT, 0o700));
    files.0[1].0 = FileKind::Directory;
    let anna = files.checked(ANNA);
    assert_eq!(anna.may_rename(DIRECTORY, FILE, OTHER_DIRECTORY, None), Err(Errno::EACCES));
    assert_eq!(anna.may_rename(DIRECTORY, FILE, DIRECTORY, None), Ok(()));
    assert_eq!(files.checked(BERT).may_rename(DIRECTORY, FILE, OTHER_DIRECTORY, None), Ok(()));
}

#[test]
fn attributes_are_changed_by_whom_posix_says() {
    let nothing = AttributeChanges::default();
    let to = Some(TimeChange::To(Timestamp::default()));
    let mode = AttributeChanges { mode: Some(0o600), ..nothing };
    let group = AttributeChanges { gid: Some(5), ..nothing };
    let keeps = AttributeChanges { uid: Some(ANNA), ..nothing };
    let gives = AttributeChanges { uid: Some(BERT), ..nothing };
    let size = AttributeChanges { size: Some(0), ..nothing };
    let touch =
        AttributeChanges { accessed: Some(TimeChange::Now), modified: Some(TimeChange::Now), ..nothing };
    let set_times = AttributeChanges { accessed: to, ..nothing };
    let truncate = AttributeChanges { size: Some(0), modified: Some(TimeChange::Now), ..nothing };
    let (eperm, eacces) = (Err(Errno::EPERM), Err(Errno::EACCES));
    // For a file of Anna's: she, Bert where others may write, and where they may not.
    for (changes, anna, writer, other) in [
        (nothing, Ok(()), Ok(()), Ok(())),
        (mode, Ok(()), eperm, eperm),
        (group, Ok(()), eperm, eperm),
        (keeps, Ok(()), eperm, eperm),
        (gives, eperm, eperm, eperm),
        (size, Ok(()), Ok(()), eacces),
        (touch, Ok(()), Ok(()), eacces),
        (set_times, Ok(()), eperm, eperm),
        (truncate, Ok(()), Ok(()), eacces),
    ] {
        let (open, closed) = (files((0, 0o755), (ANNA, 0o606)), files((0, 0o755), (ANNA, 0o604)));
        assert_eq!(open.checked(ANNA).may_change_attributes(FILE, &changes, false), anna, "{changes:?}");
        assert_eq!(open.checked(BERT).may_change_attributes(FILE, &changes, false), writer, "{changes:?}");
        assert_eq!(closed.checked(BERT).may_change_attributes(FILE, &changes, false), other, "{changes:?}");
        assert_eq!(closed.checked(0).may_change_attributes(FILE, &changes, false), Ok(()), "{changes:?}");
    }
    let own = files((0, 0o755), (ANNA, 0o444));
    assert_eq!(own.checked(ANNA).may_change_attributes(FILE, &touch, false), Ok(()));
    assert_eq!(own.checked(ANNA).may_change_attributes(FILE, &size, false), eacces);
    assert_eq!(own.checked(ANNA).may_change_attributes(FILE, &size, true), Ok(()), "it is open for writing");
}

#[test]
fn extended_attributes_are_used_by_whom_their_prefix_says() {
    let (eperm, eacces) = (Err(Errno::EPERM), Err(Errno::EACCES));
    let files = files((0, 0o755), (ANNA, 0o604));
    // For a file of Anna's: reading and writing by Anna and by Bert. Root may do all.
    for (name, anna, bert) in [
        (&b"user.a"[..], (Ok(()), Ok(())), (Ok(()), eacces)),
        (b"trusted.a", (Err(Errno::ENODATA), eperm), (Err(Errno::ENODATA), eperm)),
        (b"security.a", (Ok(()), eperm), (Ok(()), eperm)),
        (b"system.posix_acl_access", (Ok(()), Ok(())), (Ok(()), eperm)),
    ] {
        for (uid, (reads, writes)) in [(ANNA, anna), (BERT, bert), (0, (Ok(()), Ok(())))] {
            assert_eq!(files.checked(uid).may_read_attribute(FILE, name), reads);
            assert_eq!(files.checked(uid).may_write_attribute(FILE, name), writes);
        }
    }
    let unreadable = self::files((0, 0o755), (ANNA, 0o600));
    assert_eq!(unreadable.checked(BERT).may_read_attribute(FILE, b"user.a"), eacces);
    assert_eq!(unreadable.checked(BERT).may_read_attribute(FILE, b"security.a"), Ok(()));
}

#[test]
fn users_leave_attributes_on_files_and_directories_only() {
    let mut files = files((ANNA, 0o1777), (ANNA, 0o777));
    assert_eq!(files.checked(BERT).may_write_attribute(DIRECTORY, b"user.a"), Err(Errno::EPERM));
    assert_eq!(files.checked(ANNA).may_write_attribute(DIRECTORY, b"user.a"), Ok(()));
    assert_eq!(files.checked(BERT).may_write_attribute(OTHER_DIRECTORY, b"user.a"), Ok(()));
    files.0[1].0 = FileKind::Symlink;
    assert_eq!(files.checked(ANNA).may_write_attribute(FILE, b"user.a"), Err(Errno::EPERM));
    assert_eq!(files.checked(ANNA).may_read_attribute(FILE, b"user.a"), Err(Errno::ENODATA));
    assert_eq!(files.checked(0).may_write_attribute(FILE, b"trusted.a"), Ok(()));
}
