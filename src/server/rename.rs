// SPDX-License-Identifier: MIT OR Apache-2.0

//! Trename and Trenameat: a name moves, over another if there is one.

use super::exports::Exports;
use super::fid::Handle;
use super::name::SafeName;
use super::place::{self, NameTag};
use super::session::{File, Session};
use crate::fs::{Errno, Node};
use crate::wire::{Rrename, Rrenameat, Trename, Trenameat};

/// Trename. `fid` stands for its file under the new name then.
///
/// # Errors
/// EBADF for either fid; what [`SafeName::new`], [`place::find`] and [`rename_file`] say.
pub(super) fn rename(
    session: &mut Session,
    exports: &mut Exports<'_>,
    request: Trename<'_>,
) -> Result<Rrename, Errno> {
    let file = session.file(request.fid)?;
    let to = session.file(request.dfid)?;
    let name = SafeName::new(request.name)?;
    let directory = to.directory()?;
    let old = place::find(exports.get(file.attachment.export)?, &file)?;
    rename_file(exports, &file, (old.directory, &old.name), &to, name)?;
    let moved = Handle { directory, name: NameTag::of(name.bytes()), ..file.handle };
    session.fids.replace(request.fid, moved)?;
    Ok(Rrename)
}

/// Trenameat.
///
/// # Errors
/// EBADF for either fid; ENOTDIR; what [`SafeName::new`] and [`rename_file`] say.
pub(super) fn renameat(
    session: &Session,
    exports: &mut Exports<'_>,
    request: Trenameat<'_>,
) -> Result<Rrenameat, Errno> {
    let from = session.file(request.olddirfid)?;
    let to = session.file(request.newdirfid)?;
    let old = (from.directory()?, SafeName::new(request.oldname)?.bytes());
    rename_file(exports, &from, old, &to, SafeName::new(request.newname)?)?;
    Ok(Rrenameat)
}

/// Moves the name `old`, which `from` leads to, to the directory `to`.
///
/// # Errors
/// ENOTDIR; EXDEV if the two are not of one volume; EROFS, EACCES and EPERM as the exports' policies have it; what
/// [`FileSystem::rename`](crate::fs::FileSystem::rename) says.
fn rename_file(
    exports: &mut Exports<'_>,
    from: &File,
    old: (Node, &[u8]),
    to: &File,
    new: SafeName<'_>,
) -> Result<(), Errno> {
    let directory = to.directory()?;
    if from.attachment.export.backend() != to.attachment.export.backend() {
        return Err(Errno::EXDEV);
    }
    let backend = exports.get(from.attachment.export)?;
    let node = backend.lookup(old.0, old.1)?;
    let replaced = match backend.lookup(directory, new.bytes()) {
        Ok(node) => Some(node),
        Err(Errno::ENOENT) => None,
        Err(errno) => return Err(errno),
    };
    let subject = from.subject(exports)?;
    subject.may_rename(old.0, node, directory, replaced)?;
    if to.attachment != from.attachment {
        to.subject(exports)?.may_rename(old.0, node, directory, replaced)?;
    }
    let caller = subject.caller();
    let backend = exports.get_mut(from.attachment.export)?;
    backend.rename(caller, old, (directory, new.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::FileKind;
    use crate::server::client::{Client, DEEP, FILE, LEAF, SUB};
    use crate::server::tree::{ROOT, Tree};
    use crate::wire::Fid;
    use std::vec;

    fn trename(client: &mut Client, fid: u32, dfid: u32, name: &[u8]) -> Result<(), Errno> {
        client.call(Trename { fid: Fid(fid), dfid: Fid(dfid), name })
    }

    #[test]
    fn a_name_moves_within_its_directory_and_to_another() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"sub"]).unwrap();
        client.rename((0, b"file"), (0, b"renamed")).unwrap();
        assert_eq!(client.walk(0, 2, &[b"file"]), Err(Errno::ENOENT));
        assert_eq!(client.walk(0, 2, &[b"renamed"]), Ok(vec![FILE.0]));
        client.rename((0, b"renamed"), (1, b"moved")).unwrap();
        assert_eq!(client.walk(0, 3, &[b"renamed"]), Err(Errno::ENOENT));
        assert_eq!(client.walk(1, 3, &[b"moved"]), Ok(vec![FILE.0]));
        assert_eq!(client.tree.inode(FILE).changed.seconds, 1000);
    }

    #[test]
    fn a_file_takes_the_place_of_another_and_a_directory_that_of_an_empty_one() {
        let mut client = Client::attached();
        client.tree.add(ROOT, "other", FileKind::Regular, b"");
        client.rename((0, b"file"), (0, b"other")).unwrap();
        assert_eq!(client.walk(0, 1, &[b"other"]), Ok(vec![FILE.0]));
        client.mkdir(0, b"empty").unwrap();
        client.rename((0, b"sub"), (0, b"empty")).unwrap();
        assert_eq!(client.walk(0, 2, &[b"empty", b"deep"]), Ok(vec![SUB.0, DEEP.0]));
        assert_eq!(client.getattr(0).map(|attributes| attributes.nlink), Ok(3));
    }

    #[test]
    fn a_directory_that_moves_has_a_new_parent() {
        let mut client = Client::attached();
        client.mkdir(0, b"other").unwrap();
        client.walk(0, 1, &[b"other"]).unwrap();
        client.walk(0, 2, &[b"sub", b"deep"]).unwrap();
        client.walk(0, 3, &[b"sub"]).unwrap();
        client.rename((3, b"deep"), (1, b"deep")).unwrap();
        let other = client.node(1).unwrap();
        assert_eq!(client.walk(2, 4, &[b".."]), Ok(vec![other.0]));
        let links = |client: &mut Client, fid| client.getattr(fid).unwrap().nlink;
        assert_eq!((links(&mut client, 1), links(&mut client, 3)), (3, 2));
    }

    #[test]
    fn a_rename_that_cannot_be_is_refused_and_nothing_is_changed() {
        let mut client = Client::attached();
        client.tree.add(ROOT, "other", FileKind::Regular, b"");
        client.mkdir(0, b"empty").unwrap();
        client.walk(0, 1, &[b"sub", b"deep"]).unwrap();
        client.walk(0, 2, &[b"file"]).unwrap();
        let (root, deep, file) = (0, 1, 2);
        for (from, to, errno) in [
            ((root, &b"nothing"[..]), (root, &b"new"[..]), Errno::ENOENT),
            ((root, b"sub"), (root, b"file"), Errno::ENOTDIR),
            ((root, b"file"), (root, b"empty"), Errno::EISDIR),
            ((root, b"empty"), (root, b"sub"), Errno::ENOTEMPTY),
            ((root, b"sub"), (deep, b"new"), Errno::EINVAL),
            ((root, b"file"), (file, b"new"), Errno::ENOTDIR),
            ((file, b"x"), (root, b"new"), Errno::ENOTDIR),
            ((root, b"."), (root, b"new"), Errno::EINVAL),
            ((root, b"file"), (root, b".."), Errno::EINVAL),
            ((root, b"file"), (root, &[b'n'; 256]), Errno::ENAMETOOLONG),
            ((9, b"file"), (root, b"new"), Errno::EBADF),
            ((root, b"file"), (9, b"new"), Errno::EBADF),
        ] {
            assert_eq!(client.rename(from, to), Err(errno), "{from:?} {to:?}");
        }
        client.tree.refuse = Some(Errno::ENOSPC);
        assert_eq!(client.rename((root, b"file"), (root, b"new")), Err(Errno::ENOSPC));
        client.tree.read_only = true;
        assert_eq!(client.rename((root, b"file"), (root, b"new")), Err(Errno::EROFS));
        assert_eq!(client.walk(0, 3, &[b"sub", b"deep", b"leaf"]), Ok(vec![SUB.0, DEEP.0, LEAF.0]));
        assert_eq!(client.walk(0, 4, &[b"file"]), Ok(vec![FILE.0]));
        assert_eq!(client.walk(0, 5, &[b"new"]), Err(Errno::ENOENT));
    }

    #[test]
    fn two_names_of_one_file_stay_when_one_is_moved_over_the_other() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        client.link(0, 1, b"again").unwrap();
        client.rename((0, b"file"), (0, b"again")).unwrap();
        assert_eq!(client.walk(0, 2, &[b"file"]), Ok(vec![FILE.0]));
        assert_eq!(client.getattr(2).map(|attributes| attributes.nlink), Ok(2));
    }

    #[test]
    fn nothing_moves_between_the_volume_and_ctl() {
        let mut client = Client::attached();
        client.control = Some(Tree::new());
        client.attach(1, b"ctl").unwrap();
        client.walk(0, 2, &[b"file"]).unwrap();
        assert_eq!(client.rename((0, b"file"), (1, b"file")), Err(Errno::EXDEV));
        assert_eq!(trename(&mut client, 2, 1, b"file"), Err(Errno::EXDEV));
    }

    #[test]
    fn a_file_is_renamed_by_its_fid_again_and_again() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        client.walk(0, 2, &[b"sub"]).unwrap();
        trename(&mut client, 1, 2, b"first").unwrap();
        trename(&mut client, 1, 2, b"second").unwrap();
        trename(&mut client, 1, 0, b"third").unwrap();
        assert_eq!(client.walk(0, 3, &[b"third"]), Ok(vec![FILE.0]));
        assert_eq!(client.walk(2, 4, &[b"second"]), Err(Errno::ENOENT));
    }

    #[test]
    fn an_open_file_is_renamed_by_its_fid_and_stays_open() {
        let mut client = Client::attached();
        client.open_path(1, &[b"file"]);
        trename(&mut client, 1, 0, b"renamed").unwrap();
        assert_eq!(client.read(1, 0, 1).as_deref(), Ok(&b"A"[..]));
        client.clunk(1).unwrap();
        assert_eq!(client.tree.retained(), 0);
    }

    #[test]
    fn of_two_names_the_one_that_the_fid_was_walked_to_is_renamed() {
        for name in [&b"file"[..], b"again"] {
            let mut client = Client::attached();
            client.walk(0, 1, &[b"file"]).unwrap();
            client.link(0, 1, b"again").unwrap();
            client.walk(0, 2, &[name]).unwrap();
            trename(&mut client, 2, 0, b"new").unwrap();
            assert_eq!(client.walk(0, 3, &[name]), Err(Errno::ENOENT));
            assert_eq!(client.walk(0, 4, &[b"new"]), Ok(vec![FILE.0]));
        }
    }

    #[test]
    fn a_fid_whose_name_is_not_where_it_was_found_is_not_renamed_but_a_directory_is_wherever_it_is() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        client.walk(0, 2, &[b"sub"]).unwrap();
        client.walk(0, 3, &[b"sub", b"deep"]).unwrap();
        client.rename((0, b"file"), (2, b"file")).unwrap();
        client.rename((2, b"deep"), (0, b"deep")).unwrap();
        assert_eq!(trename(&mut client, 1, 0, b"new"), Err(Errno::ENOENT));
        trename(&mut client, 3, 0, b"new").unwrap();
        assert_eq!(client.walk(0, 4, &[b"new", b"leaf"]), Ok(vec![DEEP.0, LEAF.0]));
    }

    #[test]
    fn what_was_attached_is_not_renamed() {
        let mut client = Client::attached();
        client.attach(1, b"/sub").unwrap();
        assert_eq!(trename(&mut client, 1, 0, b"new"), Err(Errno::EBUSY));
        assert_eq!(trename(&mut client, 0, 1, b"new"), Err(Errno::EBUSY));
        assert_eq!(trename(&mut client, 0, 9, b"new"), Err(Errno::EBADF));
        assert_eq!(trename(&mut client, 9, 0, b"new"), Err(Errno::EBADF));
    }
}
