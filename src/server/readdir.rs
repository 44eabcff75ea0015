// SPDX-License-Identifier: MIT OR Apache-2.0

//! Treaddir: the entries of a directory.

use core::ops::ControlFlow;

use super::exports::Exports;
use super::fid::FidState;
use super::name::MAX_NAME;
use super::qid::entry_qid;
use super::session::{File, Session};
use crate::fs::{DirectoryEntry, Errno, FileKind};
use crate::mem::Sink;
use crate::mem::scatter::ScatterWriter;
use crate::wire::{Dirent, Rreaddir, Treaddir};

/// Longest entry: `qid[13] offset[8] type[1] name[s]`.
const MAX_ENTRY: usize = 13 + 8 + 1 + 2 + MAX_NAME;

/// Treaddir: as many whole entries as fit into `count`, `msize` and the room for the reply. No entry at all
/// means that there are no more.
///
/// `.` and `..` are among them; the `..` of the directory that was attached at is that directory.
///
/// # Errors
/// EBADF for a `fid` that is not open for reading; ENOTDIR; EINVAL if not even the first entry fits (to answer
/// with none would end the directory for the client); what
/// [`FileSystem::read_directory`](crate::fs::FileSystem::read_directory) says.
pub(super) fn readdir(
    session: &Session,
    exports: &Exports<'_>,
    request: Treaddir,
    data: &mut ScatterWriter<'_>,
) -> Result<Rreaddir, Errno> {
    let File { handle, attachment } = session.file(request.fid)?;
    if !matches!(handle.state, FidState::Open(mode) if mode.reads()) {
        return Err(Errno::EBADF);
    }
    if handle.kind != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    let backend = exports.get(attachment.export)?;
    let mut left = request.count.min(session.data_limit(data)) as usize;
    let mut outcome = Ok(());
    let mut visit = |entry: &DirectoryEntry<'_>| {
        let leaves_export = entry.name == b".." && handle.node == attachment.root;
        let number = if leaves_export { backend.number(attachment.root) } else { entry.number };
        let dirent = Dirent {
            qid: entry_qid(number, entry.kind),
            offset: entry.next,
            kind: entry.kind as u8,
            name: entry.name,
        };
        match put_entry(&dirent, left, data) {
            Ok(length) => {
                left = left.saturating_sub(length);
                ControlFlow::Continue(())
            }
            Err(errno) => {
                outcome = Err(errno);
                ControlFlow::Break(())
            }
        }
    };
    backend.read_directory(handle.node, request.offset, &mut visit)?;
    match outcome {
        Err(Errno::EINVAL) if data.written() > 0 => {}
        other => other?,
    }
    Ok(Rreaddir { count: data.written() })
}

/// Puts `entry`, whole, and returns its length.
///
/// # Errors
/// EINVAL if it takes more than `left` bytes; EIO for an entry that cannot be.
fn put_entry(entry: &Dirent<'_>, left: usize, data: &mut ScatterWriter<'_>) -> Result<usize, Errno> {
    let length = entry.encoded_length();
    if length > left {
        return Err(Errno::EINVAL);
    }
    let mut buffer = [0; MAX_ENTRY];
    entry.emit(&mut buffer).map_err(|_| Errno::EIO)?;
    data.put(buffer.get(..length).ok_or(Errno::EIO)?).map_err(|_| Errno::EIO)?;
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Node;
    use crate::server::client::{Client, DEEP, Entry, FILE, LEAF, LINK, SUB};
    use crate::server::tree::ROOT;
    use crate::wire::QidKind;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    /// All entries, `count` bytes at a time.
    fn list(client: &mut Client, fid: u32, count: u32) -> Vec<Entry> {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let offset = all.last().map_or(0, |entry| entry.offset);
            let entries = client.readdir(fid, offset, count).unwrap();
            if entries.is_empty() {
                return all;
            }
            all.extend(entries);
        }
    }

    #[test]
    fn every_entry_has_its_file_and_its_kind() {
        let mut client = Client::attached();
        client.open_path(1, &[]);
        let entries = list(&mut client, 1, 8000);
        let find = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap().clone();
        for (name, node, kind, d_type) in [
            ("file", FILE, QidKind::empty(), 8),
            ("sub", SUB, QidKind::DIR, 4),
            ("link", LINK, QidKind::SYMLINK, 10),
            ("fifo", Node(8), QidKind::empty(), 1),
            ("char", Node(9), QidKind::empty(), 2),
            ("block", Node(10), QidKind::empty(), 6),
            ("socket", Node(11), QidKind::empty(), 12),
        ] {
            let entry = find(name);
            assert_eq!((Node(entry.qid.path), entry.qid.kind, entry.kind), (node, kind, d_type), "{name}");
            assert_eq!(entry.qid.version, 0);
        }
        assert_eq!(entries.len(), 9);
    }

    #[test]
    fn a_directory_is_read_to_its_end_whatever_the_count() {
        let mut client = Client::attached();
        let names: Vec<String> = (0..500).map(|n| format!("{n:0width$}", width = 3 + n % 250)).collect();
        for name in &names {
            client.tree.add(SUB, name, FileKind::Regular, b"");
        }
        client.open_path(1, &[b"sub"]);
        for count in [24 + 252, 300, 4096, 8000, u32::MAX] {
            let entries = list(&mut client, 1, count);
            assert!(
                entries.iter().map(|entry| entry.name.as_str()).skip(3).eq(names.iter().map(String::as_str))
            );
        }
    }

    #[test]
    fn reading_goes_on_after_any_entry_as_often_as_asked() {
        let mut client = Client::attached();
        client.open_path(1, &[]);
        let entries = list(&mut client, 1, 8000);
        for (index, entry) in entries.iter().enumerate().rev() {
            for _ in 0..2 {
                assert_eq!(client.readdir(1, entry.offset, 8000).as_deref(), Ok(&entries[index + 1..]));
            }
        }
        assert_eq!(client.readdir(1, 0, 8000), Ok(entries));
    }

    #[test]
    fn a_directory_is_read_into_buffers_of_any_length() {
        let mut client = Client::attached();
        client.open_path(1, &[]);
        let expected = list(&mut client, 1, 8000);
        client.room = 400;
        for piece in [1, 2, 13, 24, 25] {
            client.piece = piece;
            assert_eq!(list(&mut client, 1, 8000), expected);
        }
    }

    #[test]
    fn an_entry_is_whole_or_not_there_and_the_first_one_must_fit() {
        let mut client = Client::attached();
        client.open_path(1, &[b"sub"]);
        assert_eq!(client.readdir(1, 0, 24), Err(Errno::EINVAL));
        assert_eq!(client.readdir(1, 0, 0), Err(Errno::EINVAL));
        assert_eq!(client.readdir(1, 0, 25).map(|entries| entries.len()), Ok(1));
        assert_eq!(client.readdir(1, 0, 50).map(|entries| entries.len()), Ok(1));
        assert_eq!(client.readdir(1, 0, 51).map(|entries| entries.len()), Ok(2));
        client.room = 11 + 51;
        assert_eq!(client.readdir(1, 0, 8000).map(|entries| entries.len()), Ok(2));
    }

    #[test]
    fn behind_the_last_entry_there_are_none_and_that_is_no_error() {
        let mut client = Client::attached();
        client.open_path(1, &[b"sub", b"deep"]);
        let last = list(&mut client, 1, 8000).last().unwrap().offset;
        assert_eq!(client.readdir(1, last, 8000), Ok(Vec::new()));
        assert_eq!(client.readdir(1, last, 1), Ok(Vec::new()));
        assert_eq!(client.readdir(1, last + 1, 8000), Err(Errno::EINVAL));
    }

    #[test]
    fn two_dots_name_the_parent_and_at_the_directory_that_was_attached_itself() {
        let dots = |client: &mut Client, fid| {
            let entries = list(client, fid, 8000);
            (Node(entries[0].qid.path), Node(entries[1].qid.path), entries[1].name.clone())
        };
        let mut client = Client::attached();
        client.open_path(1, &[]);
        assert_eq!(dots(&mut client, 1), (ROOT, ROOT, "..".into()));
        client.open_path(2, &[b"sub", b"deep"]);
        assert_eq!(dots(&mut client, 2), (DEEP, SUB, "..".into()));
        client.attach(3, b"/sub/deep").unwrap();
        client.open(3, crate::wire::OpenFlags::RDONLY).unwrap();
        assert_eq!(dots(&mut client, 3), (DEEP, DEEP, "..".into()));
        assert_eq!(list(&mut client, 3, 8000)[2].qid.path, LEAF.0);
    }

    #[test]
    fn only_an_open_directory_is_listed() {
        let mut client = Client::attached();
        assert_eq!(client.readdir(0, 0, 8000), Err(Errno::EBADF));
        client.open_path(1, &[b"file"]);
        assert_eq!(client.readdir(1, 0, 8000), Err(Errno::ENOTDIR));
        client.xattrwalk(1, 2, b"").unwrap();
        assert_eq!(client.readdir(2, 0, 8000), Err(Errno::EBADF));
    }
}
