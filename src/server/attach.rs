// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tauth and Tattach: a user enters an export.

use super::attachment::Attachment;
use super::exports::Exports;
use super::fid::{FidState, Handle};
use super::place::NameTag;
use super::qid::qid;
use super::session::Session;
use crate::fs::Errno;
use crate::wire::{Fid, Rattach, Rauth, Tattach, Tauth};

/// Tauth.
///
/// # Errors
/// EOPNOTSUPP: who reaches the ring may attach, and the client's kernel says for whom.
pub(super) fn auth(_request: Tauth<'_>) -> Result<Rauth, Errno> {
    Err(Errno::EOPNOTSUPP)
}

/// Tattach.
///
/// # Errors
/// EBADF for an `afid` (none can exist), and for a `fid` that is in use; EMFILE for a fid or an attachment too many; what [`Exports::resolve`] says.
pub(super) fn attach(
    session: &mut Session,
    exports: &Exports<'_>,
    request: Tattach<'_>,
) -> Result<Rattach, Errno> {
    if request.afid != Fid::NOFID {
        return Err(Errno::EBADF);
    }
    let vacancy = session.fids.vacancy(request.fid)?;
    let (export, node) = exports.resolve(request.aname, request.n_uname)?;
    let backend = exports.get(export)?;
    let attributes = backend.attributes(node)?;
    let confined = node != backend.root();
    let attachment = Attachment { export, root: node, confined, n_uname: request.n_uname };
    let handle = Handle {
        node,
        directory: node,
        name: NameTag::NONE,
        attachment: session.attachments.place(attachment)?,
        kind: attributes.kind,
        state: FidState::Path,
    };
    session.fill(&vacancy, handle)?;
    Ok(Rattach { qid: qid(backend.number(node), &attributes) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Node;
    use crate::server::client::{Client, DEEP, LEAF, SUB};
    use crate::server::tree::{ROOT, Tree};
    use crate::wire::{NONUNAME, QidKind};

    #[test]
    fn no_authentication_is_offered() {
        let mut client = Client::versioned(8192);
        let request = Tauth { afid: Fid(1), uname: b"root", aname: b"", n_uname: 0 };
        assert_eq!(client.call(request), Err(Errno::EOPNOTSUPP));
    }

    #[test]
    fn an_empty_name_and_a_slash_attach_to_the_root_of_the_volume() {
        let mut client = Client::versioned(8192);
        for (fid, aname) in (0..).zip([&b""[..], b"/", b"//"]) {
            let qid = client.attach(fid, aname).unwrap();
            assert_eq!((qid.kind, Node(qid.path)), (QidKind::DIR, ROOT));
        }
    }

    #[test]
    fn a_path_attaches_to_a_directory_of_the_volume() {
        let mut client = Client::versioned(8192);
        assert_eq!(client.attach(0, b"/sub").map(|qid| Node(qid.path)), Ok(SUB));
        assert_eq!(client.attach(1, b"/sub/deep").map(|qid| Node(qid.path)), Ok(DEEP));
        assert_eq!(client.attach(2, b"//sub//deep/").map(|qid| Node(qid.path)), Ok(DEEP));
        assert_eq!(client.walk(2, 3, &[b"leaf"]), Ok(std::vec![LEAF.0]));
    }

    #[test]
    fn a_name_that_selects_nothing_is_refused_by_what_is_wrong_with_it() {
        let mut client = Client::versioned(8192);
        let long = [&b"/"[..], &[b'n'; 256]].concat();
        for (aname, errno) in [
            (&b"sub"[..], Errno::ENOENT),
            (b"nothing", Errno::ENOENT),
            (b"/nothing", Errno::ENOENT),
            (b"/sub/nothing", Errno::ENOENT),
            (b"/file", Errno::ENOTDIR),
            (b"/file/more", Errno::ENOTDIR),
            (b"/link", Errno::ENOTDIR),
            (b"/sub/..", Errno::EINVAL),
            (b"/.", Errno::EINVAL),
            (b"/sub\0", Errno::EINVAL),
            (&long, Errno::ENAMETOOLONG),
        ] {
            assert_eq!(client.attach(0, aname), Err(errno));
        }
        assert_eq!(client.session.fids_in_use(), 0);
    }

    #[test]
    fn ctl_is_attached_to_only_where_it_is_exported() {
        let mut client = Client::versioned(8192);
        assert_eq!(client.attach(0, b"ctl"), Err(Errno::ENOENT));
        client.control = Some(Tree::new());
        client.attach(0, b"ctl").unwrap();
        assert_eq!(client.walk(0, 1, &[b"file"]), Err(Errno::ENOENT));
        client.control = None;
        assert_eq!(client.node(0), Err(Errno::ENODEV));
    }

    #[test]
    fn a_fid_in_use_and_the_reserved_fid_cannot_be_attached() {
        let mut client = Client::attached();
        assert_eq!(client.attach(0, b""), Err(Errno::EBADF));
        assert_eq!(client.attach(u32::MAX, b""), Err(Errno::EBADF));
    }

    #[test]
    fn an_authentication_fid_is_refused() {
        let mut client = Client::versioned(8192);
        let request = Tattach { fid: Fid(1), afid: Fid(2), uname: b"", aname: b"", n_uname: NONUNAME };
        assert_eq!(client.call(request), Err(Errno::EBADF));
    }

    #[test]
    fn the_user_who_attached_is_remembered_by_every_fid_walked_from_there() {
        let mut client = Client::versioned(8192);
        let request = Tattach { fid: Fid(1), afid: Fid::NOFID, uname: b"anna", aname: b"", n_uname: 1000 };
        client.call(request).unwrap();
        client.walk(1, 2, &[b"sub", b"deep"]).unwrap();
        assert_eq!(client.session.file(Fid(2)).map(|file| file.attachment.n_uname), Ok(1000));
    }
}
