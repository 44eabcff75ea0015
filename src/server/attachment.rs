// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the fids of a session are attached to: which directory of which export, and on whose behalf.
//!
//! A fid holds a number into this table, so that a place of the fid table stays small. All memory is allocated once.

use alloc::boxed::Box;
use alloc::vec;

use super::exports::ExportId;
#[cfg(doc)]
use super::exports::Exports;
use crate::fs::{Errno, FileSystem, Node};

/// Most attachments of a session at a time. Those that are equal count once. (Linux makes one for each user.)
pub const MAX_ATTACHMENTS: usize = 1024;

/// Deepest place below a directory that is attached from which `..` is taken. Each step up is checked, all the way, while others wait;
/// and Linux takes none (its own memory of paths knows what is above).
const MAX_DEPTH: usize = 512;

/// What a Tattach selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachment {
    /// The export.
    pub export: ExportId,
    /// The directory of it; `..` stops there.
    pub root: Node,
    /// Whether that is not the export's root, so that there is something outside.
    pub confined: bool,
    /// The user that attached; whom it acts as, [`Exports::subject`] says.
    pub n_uname: u32,
}

impl Attachment {
    /// The directory above `directory`: what it was attached at if that is `directory`. Of a walk, `inside` is whether it has been
    /// found to be below what was attached, and so need not look all the way up again: a request that steps up sixteen times
    /// costs others no more than one that does it once.
    ///
    /// # Errors
    /// ESTALE if that is outside, because `directory` was moved out of what was attached (or lies more than 512
    /// directories deep); what [`FileSystem::parent`] says.
    pub fn parent(
        &self,
        backend: &dyn FileSystem,
        directory: Node,
        inside: &mut bool,
    ) -> Result<Node, Errno> {
        if directory == self.root {
            return Ok(directory);
        }
        let parent = backend.parent(directory)?;
        if *inside || !self.confined {
            return Ok(parent);
        }
        let mut above = parent;
        for _ in 0..MAX_DEPTH {
            if above == self.root {
                *inside = true;
                return Ok(parent);
            }
            let next = backend.parent(above)?;
            if next == above {
                break;
            }
            above = next;
        }
        Err(Errno::ESTALE)
    }
}

/// The number of an [`Attachment`] in its session's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachmentId(u16);

impl AttachmentId {
    /// The first place of a table.
    pub const FIRST: Self = Self(0);
}

/// The attachments of one session, each with the number of fids that belong to it. 24 KiB.
pub struct Attachments {
    /// A place that no fid belongs to is free.
    places: Box<[(Option<Attachment>, u32)]>,
}

impl Attachments {
    /// Allocates the places, all free.
    #[must_use]
    pub fn new() -> Self {
        Self { places: vec![(None, 0); MAX_ATTACHMENTS].into_boxed_slice() }
    }

    /// A place that holds `attachment`. No fid is counted for it yet.
    ///
    /// # Errors
    /// EMFILE if there is no room for one more.
    pub fn place(&mut self, attachment: Attachment) -> Result<AttachmentId, Errno> {
        let equal = self.places.iter().position(|(kept, fids)| *fids > 0 && *kept == Some(attachment));
        let index =
            equal.or_else(|| self.places.iter().position(|(_, fids)| *fids == 0)).ok_or(Errno::EMFILE)?;
        self.places.get_mut(index).ok_or(Errno::EMFILE)?.0 = Some(attachment);
        u16::try_from(index).map(AttachmentId).map_err(|_| Errno::EMFILE)
    }

    /// The attachment at `id`.
    ///
    /// # Errors
    /// EBADF if there is none, which no fid in use says.
    pub fn get(&self, id: AttachmentId) -> Result<Attachment, Errno> {
        self.places.get(usize::from(id.0)).and_then(|(attachment, _)| *attachment).ok_or(Errno::EBADF)
    }

    /// Counts one fid more that belongs to `id`.
    pub fn hold(&mut self, id: AttachmentId) {
        if let Some((_, fids)) = self.places.get_mut(usize::from(id.0)) {
            *fids = fids.saturating_add(1);
        }
    }

    /// Counts one fid less.
    pub fn release(&mut self, id: AttachmentId) {
        if let Some((_, fids)) = self.places.get_mut(usize::from(id.0)) {
            *fids = fids.saturating_sub(1);
        }
    }

    /// Frees all places.
    pub fn clear(&mut self) {
        self.places.fill((None, 0));
    }
}

impl Default for Attachments {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::FileKind;
    use crate::server::client::{Client, DEEP, SUB};
    use crate::server::tree::{ROOT, Tree};
    use std::vec;

    #[test]
    fn equal_attachments_share_a_place_for_as_long_as_a_fid_holds_it() {
        let mut table = Attachments::new();
        let attachment =
            |n_uname| Attachment { export: ExportId::FIRST, root: ROOT, confined: false, n_uname };
        let first = table.place(attachment(0)).unwrap();
        table.hold(first);
        assert_eq!(table.place(attachment(0)), Ok(first));
        let second = table.place(attachment(1)).unwrap();
        assert_ne!(second, first);
        table.hold(second);
        table.release(first);
        assert_eq!(table.place(attachment(2)), Ok(first));
        assert_eq!(table.get(second), Ok(attachment(1)));
    }

    #[test]
    fn a_session_may_attach_as_1024_users_and_not_as_one_more() {
        let mut client = Client::versioned(8192);
        for n_uname in 0..1024 {
            client.attach_as(1, b"", n_uname).unwrap();
            client.walk(1, 2, &[]).unwrap();
            client.clunk(1).unwrap();
            client.clunk(2).unwrap();
        }
        let mut table = Attachments::new();
        for n_uname in 0..1024 {
            let root = Node(n_uname);
            let id = table.place(Attachment { export: ExportId::FIRST, root, confined: false, n_uname: 0 });
            table.hold(id.unwrap());
        }
        let one_more = Attachment { export: ExportId::FIRST, root: ROOT, confined: true, n_uname: 0 };
        assert_eq!(table.place(one_more), Err(Errno::EMFILE));
        table.clear();
        assert!(table.place(one_more).is_ok());
    }

    #[test]
    fn a_directory_that_was_moved_out_of_what_was_attached_has_no_way_up() {
        let mut client = Client::attached();
        client.attach(1, b"/sub").unwrap();
        client.walk(1, 2, &[b"deep"]).unwrap();
        client.walk(0, 3, &[b"sub"]).unwrap();
        client.rename((3, b"deep"), (0, b"outside")).unwrap();
        assert_eq!(client.walk(2, 4, &[b".."]), Err(Errno::ESTALE));
        assert_eq!(client.walk(2, 4, &[b"leaf"]).map(|qids| qids.len()), Ok(1));
        client.rename((0, b"outside"), (3, b"inside")).unwrap();
        assert_eq!(client.walk(2, 5, &[b"..", b"..", b"inside"]), Ok(vec![SUB.0, SUB.0, DEEP.0]));
    }

    #[test]
    fn a_directory_that_was_moved_out_is_neither_removed_nor_renamed_by_its_fid() {
        let mut client = Client::attached();
        client.attach(1, b"/sub").unwrap();
        client.mkdir(1, b"empty").unwrap();
        client.walk(1, 2, &[b"empty"]).unwrap();
        client.walk(0, 3, &[b"sub"]).unwrap();
        client.rename((3, b"empty"), (0, b"outside")).unwrap();
        let rename =
            crate::wire::Trename { fid: crate::wire::Fid(2), dfid: crate::wire::Fid(1), name: b"back" };
        assert_eq!(client.call(rename), Err(Errno::ESTALE));
        assert_eq!(client.call(crate::wire::Tremove { fid: crate::wire::Fid(2) }), Err(Errno::ESTALE));
        assert!(client.walk(0, 4, &[b"outside"]).is_ok());
    }

    #[test]
    fn the_way_up_is_checked_for_so_many_directories() {
        let mut tree = Tree::new();
        let root = tree.add(ROOT, "attached", FileKind::Directory, b"");
        let mut path = vec![root];
        for _ in 0..=MAX_DEPTH {
            path.push(tree.add(path[path.len() - 1], "d", FileKind::Directory, b""));
        }
        let attachment = Attachment { export: ExportId::FIRST, root, confined: true, n_uname: 0 };
        assert_eq!(attachment.parent(&tree, path[MAX_DEPTH], &mut false), Ok(path[MAX_DEPTH - 1]));
        assert_eq!(attachment.parent(&tree, path[MAX_DEPTH + 1], &mut false), Err(Errno::ESTALE));
        let whole = Attachment { root: ROOT, confined: false, ..attachment };
        assert_eq!(whole.parent(&tree, path[MAX_DEPTH + 1], &mut false), Ok(path[MAX_DEPTH]));
    }

    #[test]
    fn a_walk_looks_all_the_way_up_once() {
        let mut tree = Tree::new();
        let root = tree.add(ROOT, "attached", FileKind::Directory, b"");
        let mut path = vec![root];
        for _ in 0..20 {
            path.push(tree.add(path[path.len() - 1], "d", FileKind::Directory, b""));
        }
        let attachment = Attachment { export: ExportId::FIRST, root, confined: true, n_uname: 0 };
        let mut inside = false;
        let before = tree.ways_up.get();
        for depth in (1..=20).rev() {
            assert_eq!(attachment.parent(&tree, path[depth], &mut inside), Ok(path[depth - 1]));
        }
        assert_eq!(attachment.parent(&tree, root, &mut inside), Ok(root));
        // 20 for the steps, and 19 for where the first one leads.
        assert_eq!(tree.ways_up.get() - before, 39);
    }
}
