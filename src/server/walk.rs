// SPDX-License-Identifier: MIT OR Apache-2.0

//! Twalk: from a file down a path of up to sixteen names.

use super::access::Subject;
use super::attachment::Attachment;
use super::exports::Exports;
use super::fid::{FidState, Handle};
use super::name::Step;
use super::place::NameTag;
use super::qid::qid;
use super::session::Session;
use crate::fs::{Errno, FileKind};
use crate::wire::{MAXWELEM, Qid, Qids, Rwalk, Twalk};

/// Twalk. Where not all of the names exist it answers with the qids of those that do, and `newfid` is left alone.
///
/// `fid` may be open, unless it is to be moved (`newfid` is `fid`): walk(5) forbids it, but Linux since 5.11
/// walks from directories that it has open. What is walked to is not open.
///
/// # Errors
/// EBADF for a `fid` that stands for no file, and a `newfid` that is in use; EINVAL to move an open fid;
/// EMFILE; for the first name what [`Step::new`], [`FileSystem::lookup`](crate::fs::FileSystem::lookup) and
/// [`Attachment::parent`] say, and EACCES where a directory may not be searched.
pub(super) fn walk<'b>(
    session: &mut Session,
    exports: &Exports<'_>,
    request: Twalk<'_>,
    qids: &'b mut heapless::Vec<Qid, MAXWELEM>,
) -> Result<Rwalk<'b>, Errno> {
    qids.clear();
    let file = session.file(request.fid)?;
    // `None`: the fid moves.
    let vacancy = if request.newfid == request.fid {
        if file.handle.state != FidState::Path {
            return Err(Errno::EINVAL);
        }
        None
    } else {
        Some(session.fids.vacancy(request.newfid)?)
    };

    let subject = file.subject(exports)?;
    let mut to = Handle { state: FidState::Path, ..file.handle };
    let (mut failed, mut inside) = (None, false);
    for name in request.wnames.iter() {
        let step = Step::new(name);
        match step.and_then(|step| take_step(&subject, &file.attachment, &mut inside, &to, step)) {
            Ok((next, qid)) => {
                to = next;
                // There are no more names than `qids` has room for.
                let _ = qids.push(qid);
            }
            Err(errno) => {
                failed = Some(errno);
                break;
            }
        }
    }
    match (failed, vacancy) {
        (Some(errno), _) if qids.is_empty() => return Err(errno),
        (Some(_), _) => {}
        (None, None) => session.fids.replace(request.fid, to)?,
        (None, Some(vacancy)) => session.fill(&vacancy, to)?,
    }
    Qids::new(qids).map(|wqids| Rwalk { wqids }).ok_or(Errno::EPROTO)
}

/// Where `step` leads from `from`, with the qid of what is there. For `inside` see [`Attachment::parent`].
fn take_step(
    subject: &Subject<'_>,
    attachment: &Attachment,
    inside: &mut bool,
    from: &Handle,
    step: Step<'_>,
) -> Result<(Handle, Qid), Errno> {
    if from.kind != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    let backend = subject.backend;
    subject.may_search(from.node)?;
    let (node, name) = match step {
        Step::Up => (attachment.parent(backend, from.node, inside)?, NameTag::NONE),
        Step::Down(name) => (backend.lookup(from.node, name.bytes())?, NameTag::of(name.bytes())),
    };
    let number = backend.number(node);
    let attributes = backend.attributes(node)?;
    let qid = qid(number, &attributes);
    Ok((Handle { node, directory: from.node, name, kind: attributes.kind, ..*from }, qid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client::{Client, DEEP, FILE, LEAF, LINK, SUB};
    use crate::server::tree::ROOT;
    use crate::wire::{Fid, OpenFlags};
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn a_walk_of_zero_names_clones_the_fid() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"file"]).unwrap();
        assert_eq!(client.walk(1, 2, &[]), Ok(vec![]));
        assert_eq!(client.walk(2, 2, &[]), Ok(vec![]));
        client.clunk(1).unwrap();
        assert_eq!(client.node(2), Ok(FILE));
    }

    #[test]
    fn a_walk_answers_with_the_qid_of_each_name() {
        let mut client = Client::attached();
        assert_eq!(client.walk(0, 1, &[b"sub", b"deep", b"leaf"]), Ok(vec![SUB.0, DEEP.0, LEAF.0]));
        assert_eq!(client.node(1), Ok(LEAF));
        assert_eq!(client.node(0), Ok(ROOT));
    }

    #[test]
    fn a_walk_of_sixteen_names_of_255_bytes_is_answered() {
        let mut client = Client::attached();
        let name = "n".repeat(255);
        let mut directory = ROOT;
        for _ in 0..16 {
            directory = client.tree.add(directory, &name, FileKind::Directory, b"");
        }
        let walked = client.walk(0, 1, &[name.as_bytes(); 16]).unwrap();
        assert_eq!((walked.len(), walked.last().copied()), (16, Some(directory.0)));
    }

    #[test]
    fn a_walk_to_its_own_fid_moves_it() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"sub"]).unwrap();
        client.walk(1, 1, &[b"deep"]).unwrap();
        assert_eq!(client.node(1), Ok(DEEP));
        assert_eq!(client.session.fids_in_use(), 2);
    }

    #[test]
    fn a_walk_that_stops_half_way_answers_with_what_it_reached_and_leaves_newfid_alone() {
        let mut client = Client::attached();
        assert_eq!(client.walk(0, 1, &[b"sub", b"nothing", b"deep"]), Ok(vec![SUB.0]));
        assert_eq!(client.node(1), Err(Errno::EBADF));
        client.walk(0, 1, &[]).unwrap();
        assert_eq!(client.walk(1, 1, &[b"sub", b"deep", b"leaf", b"x"]), Ok(vec![SUB.0, DEEP.0, LEAF.0]));
        assert_eq!(client.node(1), Ok(ROOT));
    }

    #[test]
    fn a_walk_whose_first_name_fails_is_an_error() {
        let mut client = Client::attached();
        assert_eq!(client.walk(0, 1, &[b"nothing", b"deep"]), Err(Errno::ENOENT));
        client.walk(0, 1, &[b"file"]).unwrap();
        assert_eq!(client.walk(1, 2, &[b"x"]), Err(Errno::ENOTDIR));
        assert_eq!(client.walk(1, 2, &[b".."]), Err(Errno::ENOTDIR));
    }

    #[test]
    fn a_symbolic_link_is_not_walked_through() {
        let mut client = Client::attached();
        assert_eq!(client.walk(0, 1, &[b"link"]), Ok(vec![LINK.0]));
        assert_eq!(client.walk(1, 2, &[b"deep"]), Err(Errno::ENOTDIR));
        assert_eq!(client.walk(0, 2, &[b"link", b"deep"]), Ok(vec![LINK.0]));
        assert_eq!(client.walk(0, 2, &[b"link", b".."]), Ok(vec![LINK.0]));
    }

    #[test]
    fn two_dots_go_up_and_stop_at_the_root_of_the_volume() {
        let mut client = Client::attached();
        assert_eq!(
            client.walk(0, 1, &[b"sub", b"deep", b"..", b".."]),
            Ok(vec![SUB.0, DEEP.0, SUB.0, ROOT.0])
        );
        assert_eq!(client.walk(0, 2, &[b"..", b"..", b"file"]), Ok(vec![ROOT.0, ROOT.0, FILE.0]));
    }

    #[test]
    fn two_dots_stop_at_the_directory_that_was_attached() {
        let mut client = Client::versioned(8192);
        client.attach(0, b"/sub").unwrap();
        assert_eq!(client.walk(0, 1, &[b"..", b"deep", b"..", b".."]), Ok(vec![SUB.0, DEEP.0, SUB.0, SUB.0]));
        client.walk(0, 2, &[b"deep"]).unwrap();
        assert_eq!(client.walk(2, 2, &[b"..", b"..", b"file"]), Ok(vec![SUB.0, SUB.0]));
    }

    #[test]
    fn a_name_that_no_directory_holds_is_refused_before_the_backend_sees_it() {
        let mut client = Client::attached();
        for name in [&b""[..], b".", b"a/b", b"sub\0"] {
            assert_eq!(client.walk(0, 1, &[name]), Err(Errno::EINVAL));
            assert_eq!(client.walk(0, 1, &[b"sub", name]), Ok(vec![SUB.0]));
        }
        assert_eq!(client.walk(0, 1, &[&[b'n'; 256]]), Err(Errno::ENAMETOOLONG));
        assert_eq!(client.walk(0, 1, &[&[b'n'; 255]]), Err(Errno::ENOENT));
    }

    #[test]
    fn a_newfid_in_use_is_refused() {
        let mut client = Client::attached();
        client.walk(0, 1, &[b"sub"]).unwrap();
        assert_eq!(client.walk(0, 1, &[b"file"]), Err(Errno::EBADF));
        assert_eq!(client.walk(0, u32::MAX, &[b"file"]), Err(Errno::EBADF));
        assert_eq!(client.walk(0, 1, &[b"sub", b"nothing"]), Err(Errno::EBADF));
        assert_eq!(client.walk(9, 2, &[]), Err(Errno::EBADF));
        assert_eq!(client.node(1), Ok(SUB));
    }

    #[test]
    fn an_open_fid_can_be_walked_from_but_not_moved() {
        let mut client = Client::attached();
        client.open_path(1, &[b"sub"]);
        assert_eq!(client.walk(1, 2, &[b"deep"]), Ok(vec![DEEP.0]));
        assert_eq!(client.session.fids.get(Fid(2)).map(|handle| handle.state), Ok(FidState::Path));
        assert_eq!(client.open(2, OpenFlags::RDONLY), Ok(8192 - 24));
        assert_eq!(client.walk(1, 1, &[b"deep"]), Err(Errno::EINVAL));
        assert_eq!(client.walk(1, 1, &[]), Err(Errno::EINVAL));
    }

    #[test]
    fn a_full_fid_table_refuses_a_walk_until_a_fid_is_clunked() {
        let mut client = Client::attached();
        let clones: Vec<_> = (1..=100).map(|fid| client.walk(0, fid, &[])).collect();
        assert_eq!(clones.iter().filter(|clone| clone.is_ok()).count(), 99);
        assert_eq!(clones.last(), Some(&Err(Errno::EMFILE)));
        client.clunk(50).unwrap();
        assert_eq!(client.walk(0, 100, &[]), Ok(vec![]));
    }
}
