// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a client does to files: make, write, name, remove, set, lock, make durable.

use skerry::wire::{
    Fid, LockStatus, LockType, MessageType, OpenFlags, Qid, Rmessage, TWRITE_HEADER, Tfsync, Tgetlock,
    Tlcreate, Tlink, Tlock, Tmkdir, Tmknod, Tremove, Trename, Trenameat, Tsetattr, Tsymlink, Tunlinkat,
    Twrite, Txattrcreate, UnlinkFlags, XattrFlags,
};

use super::{Client, ClientError, Transport};

/// A lock that is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLock {
    /// What it is.
    pub kind: LockType,
    /// Its first byte.
    pub start: u64,
    /// How many bytes; 0: to the end.
    pub length: u64,
    /// The process that holds it.
    pub proc_id: u32,
    /// The client that holds it.
    pub client_id: Vec<u8>,
}

impl<T: Transport> Client<T> {
    /// One Twrite; returns how many bytes were written.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn write(&mut self, fid: Fid, offset: u64, data: &[u8]) -> Result<u32, ClientError> {
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        self.call_with(Twrite { fid, offset, count }, data, |reply, _| match reply {
            Rmessage::Rwrite(reply) => Some(reply.count),
            _ => None,
        })
    }

    /// Writes all of `data` from `offset` on, in as many requests as it takes.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Mismatch`] if the server writes nothing, or more than it was given.
    pub fn write_all(&mut self, fid: Fid, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        let longest = (self.msize() - TWRITE_HEADER) as usize;
        let mut written = 0;
        while written < data.len() {
            let piece = &data[written..data.len().min(written + longest)];
            let count = self.write(fid, offset + written as u64, piece)? as usize;
            if count == 0 || count > piece.len() {
                let what = format!("{count} of {} bytes were written", piece.len());
                return Err(ClientError::Mismatch { request: MessageType::Twrite, what });
            }
            written += count;
        }
        Ok(())
    }

    /// Makes a regular file in the directory of `fid`, which stands for the file then, open as `flags` say.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn lcreate(
        &mut self,
        fid: Fid,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<(Qid, u32), ClientError> {
        self.call_with(Tlcreate { fid, name, flags, mode, gid }, &[], |reply, _| match reply {
            Rmessage::Rlcreate(reply) => Some((reply.qid, reply.iounit)),
            _ => None,
        })
    }

    /// Makes a file called `name` in `directory`, for its owner only; the fresh fid is open for reading and writing.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn create(&mut self, directory: Fid, name: &[u8]) -> Result<Fid, ClientError> {
        let fid = self.walk_path(directory, b"")?;
        let flags = OpenFlags::RDWR | OpenFlags::CREATE | OpenFlags::EXCL;
        match self.lcreate(fid, name, flags, 0o600, 0) {
            Ok(_) => Ok(fid),
            Err(error) => {
                self.clunk(fid)?;
                Err(error)
            }
        }
    }

    /// Makes a file called `name` with this content in `directory`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn create_file(&mut self, directory: Fid, name: &[u8], content: &[u8]) -> Result<(), ClientError> {
        let fid = self.create(directory, name)?;
        let written = self.write_all(fid, 0, content);
        self.clunk(fid)?;
        written
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn mkdir(&mut self, dfid: Fid, name: &[u8], mode: u32, gid: u32) -> Result<Qid, ClientError> {
        self.call_with(Tmkdir { dfid, name, mode, gid }, &[], |reply, _| match reply {
            Rmessage::Rmkdir(reply) => Some(reply.qid),
            _ => None,
        })
    }

    /// Makes a symbolic link to `symtgt`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn symlink(&mut self, fid: Fid, name: &[u8], symtgt: &[u8], gid: u32) -> Result<Qid, ClientError> {
        self.call_with(Tsymlink { fid, name, symtgt, gid }, &[], |reply, _| match reply {
            Rmessage::Rsymlink(reply) => Some(reply.qid),
            _ => None,
        })
    }

    /// Makes a node of any kind; `device` is the major and the minor number of a device.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn mknod(
        &mut self,
        dfid: Fid,
        name: &[u8],
        mode: u32,
        device: (u32, u32),
        gid: u32,
    ) -> Result<Qid, ClientError> {
        let (major, minor) = device;
        self.call_with(Tmknod { dfid, name, mode, major, minor, gid }, &[], |reply, _| match reply {
            Rmessage::Rmknod(reply) => Some(reply.qid),
            _ => None,
        })
    }

    /// Gives the file of `fid` the name `name` in `dfid`, too.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn link(&mut self, dfid: Fid, fid: Fid, name: &[u8]) -> Result<(), ClientError> {
        self.call_with(Tlink { dfid, fid, name }, &[], |reply, _| {
            matches!(reply, Rmessage::Rlink(_)).then_some(())
        })
    }

    /// Gives the file of `fid` another place: Trename.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn rename(&mut self, fid: Fid, dfid: Fid, name: &[u8]) -> Result<(), ClientError> {
        self.call_with(Trename { fid, dfid, name }, &[], |reply, _| {
            matches!(reply, Rmessage::Rrename(_)).then_some(())
        })
    }

    /// Moves a name from one directory to another: Trenameat.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn renameat(&mut self, from: (Fid, &[u8]), to: (Fid, &[u8])) -> Result<(), ClientError> {
        let ((olddirfid, oldname), (newdirfid, newname)) = (from, to);
        self.call_with(Trenameat { olddirfid, oldname, newdirfid, newname }, &[], |reply, _| {
            matches!(reply, Rmessage::Rrenameat(_)).then_some(())
        })
    }

    /// Takes `name` out of `dirfd`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn unlinkat(&mut self, dirfd: Fid, name: &[u8], flags: UnlinkFlags) -> Result<(), ClientError> {
        self.call_with(Tunlinkat { dirfd, name, flags }, &[], |reply, _| {
            matches!(reply, Rmessage::Runlinkat(_)).then_some(())
        })
    }

    /// Takes away the name that `fid` was walked to; `fid` is gone, too.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn remove(&mut self, fid: Fid) -> Result<(), ClientError> {
        self.call_with(Tremove { fid }, &[], |reply, _| matches!(reply, Rmessage::Rremove(_)).then_some(()))
    }

    /// Sets what `request.valid` says.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn setattr(&mut self, request: Tsetattr) -> Result<(), ClientError> {
        self.call_with(request, &[], |reply, _| matches!(reply, Rmessage::Rsetattr(_)).then_some(()))
    }

    /// Makes an open file durable; with `datasync`, only what is needed to read its data again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn fsync(&mut self, fid: Fid, datasync: bool) -> Result<(), ClientError> {
        self.call_with(Tfsync { fid, datasync: datasync.into() }, &[], |reply, _| {
            matches!(reply, Rmessage::Rfsync(_)).then_some(())
        })
    }

    /// Makes `fid` stand for the extended attribute `name` of its file, of which `attr_size` bytes will be written.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn xattrcreate(
        &mut self,
        fid: Fid,
        name: &[u8],
        attr_size: u64,
        flags: XattrFlags,
    ) -> Result<(), ClientError> {
        self.call_with(Txattrcreate { fid, name, attr_size, flags }, &[], |reply, _| {
            matches!(reply, Rmessage::Rxattrcreate(_)).then_some(())
        })
    }

    /// Sets the extended attribute `name` of `fid`'s file; an empty `value` removes it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn set_xattr(
        &mut self,
        fid: Fid,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<(), ClientError> {
        let attribute = self.walk_path(fid, b"")?;
        let written = self
            .xattrcreate(attribute, name, value.len() as u64, flags)
            .and_then(|()| self.write_all(attribute, 0, value));
        // The clunk is what sets it, and tells what is wrong with it.
        written.and(self.clunk(attribute))
    }

    /// Locks or unlocks bytes of an open file.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn lock(&mut self, request: Tlock<'_>) -> Result<LockStatus, ClientError> {
        self.call_with(request, &[], |reply, _| match reply {
            Rmessage::Rlock(reply) => Some(reply.status),
            _ => None,
        })
    }

    /// A lock that is in the way of the one in `request`; `None` if it could be had.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn getlock(&mut self, request: Tgetlock<'_>) -> Result<Option<HeldLock>, ClientError> {
        let held = self.call_with(request, &[], |reply, _| match reply {
            Rmessage::Rgetlock(reply) => Some(HeldLock {
                kind: reply.kind,
                start: reply.start,
                length: reply.length,
                proc_id: reply.proc_id,
                client_id: reply.client_id.to_vec(),
            }),
            _ => None,
        })?;
        Ok(Some(held).filter(|held| held.kind != LockType::Unlock))
    }
}
