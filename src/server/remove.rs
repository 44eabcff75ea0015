// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tunlinkat and Tremove: a name goes, and the file with its last one.

use super::exports::Exports;
use super::name::SafeName;
use super::place;
use super::session::{File, Session};
use crate::fs::{Errno, FileKind, Node, Removal};
use crate::wire::{Rremove, Runlinkat, Tremove, Tunlinkat, UnlinkFlags};

/// Tunlinkat.
///
/// # Errors
/// EBADF for a `dirfd` that stands for no file; ENOTDIR; EINVAL for a flag other than REMOVEDIR; what [`SafeName::new`] and
/// [`remove_name`] say.
pub(super) fn unlinkat(
    session: &Session,
    exports: &mut Exports<'_>,
    request: Tunlinkat<'_>,
) -> Result<Runlinkat, Errno> {
    let parent = session.file(request.dirfd)?;
    let directory = parent.directory()?;
    let name = SafeName::new(request.name)?;
    if !UnlinkFlags::REMOVEDIR.contains(request.flags) {
        return Err(Errno::EINVAL);
    }
    let removal =
        if request.flags.contains(UnlinkFlags::REMOVEDIR) { Removal::Directory } else { Removal::File };
    remove_name(exports, &parent, directory, name.bytes(), removal)?;
    Ok(Runlinkat)
}

/// Tremove. `fid` is clunked, whatever the answer; an attribute that it collected is not set.
///
/// # Errors
/// EBADF; what [`place::find`] and [`remove_name`] say.
pub(super) fn remove(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Tremove,
) -> Result<Rremove, Errno> {
    let removed = session.file(request.fid).and_then(|file| remove_file(exports, &file));
    session.clunk(exports, request.fid)?;
    removed.map(|()| Rremove)
}

/// Takes away the name by which `file` was found.
fn remove_file(exports: &mut Exports<'_>, file: &File) -> Result<(), Errno> {
    let place = place::find(exports.get(file.attachment.export)?, file)?;
    let removal = if file.handle.kind == FileKind::Directory { Removal::Directory } else { Removal::File };
    remove_name(exports, file, place.directory, &place.name, removal)
}

/// Takes `name` out of `directory`, on behalf of who attached `file`.
///
/// # Errors
/// EROFS, EACCES and EPERM as the export's policy has it; what [`FileSystem::remove`](crate::fs::FileSystem::remove) says.
fn remove_name(
    exports: &mut Exports<'_>,
    file: &File,
    directory: Node,
    name: &[u8],
    removal: Removal,
) -> Result<(), Errno> {
    let subject = file.subject(exports)?;
    let victim = subject.backend.lookup(directory, name)?;
    subject.may_remove(directory, victim)?;
    exports.get_mut(file.attachment.export)?.remove(directory, name, removal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client::{CONTENT, Client, FILE, SUB};
    use crate::wire::{Fid, OpenFlags};
    use std::vec;

    fn tremove(client: &mut Client, fid: u32) -> Result<(), Errno> {
        client.call(Tremove { fid: Fid(fid) })
    }

    #[test]
    fn a_name_is_taken_away_and_the_file_with_its_last() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        client.link(0, 1, b"again").unwrap();
        client.unlink(0, b"file").unwrap();
        assert_eq!(client.getattr(1).map(|attributes| attributes.nlink), Ok(1));
        client.unlink(0, b"again").unwrap();
        assert_eq!(client.node(1), Err(Errno::ESTALE));
        assert_eq!(client.walk(0, 2, &[b"again"]), Err(Errno::ENOENT));
        client.clunk(1).unwrap();
    }

    #[test]
    fn an_empty_directory_is_removed_and_only_as_one() {
        let mut client = Client::attached();
        client.mkdir(0, b"empty").unwrap();
        assert_eq!(client.unlink(0, b"empty"), Err(Errno::EISDIR));
        assert_eq!(client.rmdir(0, b"empty"), Ok(()));
        assert_eq!(client.rmdir(0, b"empty"), Err(Errno::ENOENT));
        assert_eq!(client.rmdir(0, b"sub"), Err(Errno::ENOTEMPTY));
        assert_eq!(client.rmdir(0, b"file"), Err(Errno::ENOTDIR));
    }

    #[test]
    fn a_removal_that_cannot_be_is_refused() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        assert_eq!(client.unlink(1, b"x"), Err(Errno::ENOTDIR));
        assert_eq!(client.unlink(9, b"x"), Err(Errno::EBADF));
        assert_eq!(client.rmdir(0, b".."), Err(Errno::EINVAL));
        let flags = UnlinkFlags::from_bits_retain(1);
        assert_eq!(client.call(Tunlinkat { dirfd: Fid(0), name: b"file", flags }), Err(Errno::EINVAL));
        client.tree.refuse = Some(Errno::ENOSPC);
        assert_eq!(client.unlink(0, b"file"), Err(Errno::ENOSPC));
        client.tree.read_only = true;
        assert_eq!(client.unlink(0, b"file"), Err(Errno::EROFS));
        assert_eq!(client.node(1), Ok(FILE));
    }

    #[test]
    fn an_open_file_without_a_name_is_read_and_written_until_its_last_fid_is_clunked() {
        let mut client = Client::attached();
        for fid in [1, 2] {
            client.walk(0, fid, &[b"file"]).unwrap();
            client.open(fid, OpenFlags::RDWR).unwrap();
        }
        client.walk(0, 3, &[b"file"]).unwrap();
        client.unlink(0, b"file").unwrap();
        assert_eq!(client.read(1, 0, 100).as_deref(), Ok(CONTENT));
        assert_eq!(client.write(2, 0, b"B"), Ok(1));
        client.clunk(2).unwrap();
        assert_eq!(client.getattr(3).map(|attributes| attributes.nlink), Ok(0));
        assert_eq!(client.read(1, 0, 1).as_deref(), Ok(&b"B"[..]));
        client.clunk(1).unwrap();
        assert_eq!(client.node(3), Err(Errno::ESTALE));
    }

    #[test]
    fn a_file_that_was_replaced_while_open_is_read_until_it_is_clunked() {
        let mut client = Client::attached();
        client.open_path(1, &[b"file"]);
        client.rename((0, b"link"), (0, b"file")).unwrap();
        assert_eq!(client.read(1, 0, 100).as_deref(), Ok(CONTENT));
        assert_eq!(client.getattr(1).map(|attributes| attributes.nlink), Ok(0));
    }

    #[test]
    fn a_file_is_removed_by_its_fid_which_is_clunked() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        assert_eq!(tremove(&mut client, 1), Ok(()));
        assert_eq!(tremove(&mut client, 1), Err(Errno::EBADF));
        assert_eq!(client.walk(0, 1, &[b"file"]), Err(Errno::ENOENT));
        client.mkdir(0, b"empty").unwrap();
        client.walk(0, 2, &[b"empty"]).unwrap();
        assert_eq!(tremove(&mut client, 2), Ok(()));
        assert_eq!(client.walk(0, 2, &[b"empty"]), Err(Errno::ENOENT));
    }

    #[test]
    fn a_refused_remove_clunks_its_fid() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"sub"]).unwrap();
        assert_eq!(tremove(&mut client, 1), Err(Errno::ENOTEMPTY));
        assert_eq!(client.node(1), Err(Errno::EBADF));
        client.tree.read_only = true;
        client.open_path(1, &[b"file"]);
        assert_eq!(tremove(&mut client, 1), Err(Errno::EROFS));
        assert_eq!((client.session.fids_in_use(), client.tree.retained()), (1, 0));
        assert_eq!(tremove(&mut client, 0), Err(Errno::EBUSY), "it is what was attached");
        assert_eq!(client.session.fids_in_use(), 0);
    }

    #[test]
    fn of_two_names_the_one_that_the_fid_was_walked_to_is_removed() {
        for (name, other) in [(&b"file"[..], &b"again"[..]), (b"again", b"file")] {
            let mut client = Client::attached();
            client.walk(0, 1, &[b"file"]).unwrap();
            client.link(0, 1, b"again").unwrap();
            client.walk(0, 2, &[name]).unwrap();
            tremove(&mut client, 2).unwrap();
            assert_eq!(client.walk(0, 3, &[name]), Err(Errno::ENOENT));
            assert_eq!(client.walk(0, 4, &[other]), Ok(vec![FILE.0]));
        }
    }

    #[test]
    fn a_name_that_was_renamed_in_its_directory_is_still_removed_by_its_fid() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        client.rename((0, b"file"), (0, b"renamed")).unwrap();
        assert_eq!(tremove(&mut client, 1), Ok(()));
        assert_eq!(client.walk(0, 2, &[b"renamed"]), Err(Errno::ENOENT));
    }

    #[test]
    fn a_directory_that_is_gone_has_no_names_and_takes_none() {
        let mut client = Client::attached();
        client.mkdir(0, b"empty").unwrap();
        client.open_path(1, &[b"empty"]);
        client.walk(0, 2, &[b"empty"]).unwrap();
        client.rmdir(0, b"empty").unwrap();
        assert_eq!(client.mkdir(1, b"new"), Err(Errno::ENOENT));
        assert_eq!(client.rename((0, b"file"), (1, b"new")), Err(Errno::ENOENT));
        assert_eq!(client.walk(2, 3, &[b"x"]), Err(Errno::ENOENT));
        client.clunk(1).unwrap();
        assert_eq!(client.mkdir(2, b"new"), Err(Errno::ESTALE));
        assert_eq!(client.walk(0, 4, &[b"sub"]), Ok(vec![SUB.0]));
    }

    #[test]
    fn a_younger_file_with_the_number_of_one_that_is_gone_is_not_removed_in_its_place() {
        let mut client = Client::attached();
        client.open_path(1, &[b"file"]);
        client.unlink(0, b"file").unwrap();
        let younger = client.mkdir(0, b"younger").unwrap().path;
        client.tree.numbers.insert(Node(younger), FILE.0);
        assert_eq!(tremove(&mut client, 1), Err(Errno::ENOENT));
        assert_eq!(client.walk(0, 2, &[b"younger"]), Ok(vec![FILE.0]));
    }
}
