// SPDX-License-Identifier: MIT OR Apache-2.0

//! A session: what one client's ring has negotiated and holds, and how a request of it becomes a reply.

use super::access::Subject;
use super::attachment::{Attachment, Attachments};
use super::exports::Exports;
use super::fault::SessionFault;
use super::fid::{FidState, FidTable, Handle, Vacancy};
use super::lock_table::{LockHolder, LockedFile, MAX_CLIENT_ID};
use super::new_attribute::NewAttributes;
use super::readlink::MAX_TARGET;
use super::statistics::Statistics;
use super::xattr::AttributeNames;
use crate::fs::{Errno, FileKind, Node};
use crate::mem::scatter::{ScatterReader, ScatterWriter};
use crate::mem::{Full, Short, Sink, Source};
use crate::wire::{
    self, Fid, HEADER, Header, MAXWELEM, Message, MessageType, Qid, RREAD_HEADER, Rlerror, TWRITE_HEADER, Tag,
};

/// Smallest `msize` that a session can have: every reply but a long Rreadlink fits it. (Linux asks for at least
/// as much.)
pub const MIN_MSIZE: u32 = 4096;

/// Longest request, without the payload of a Twrite: the size of the private buffer that it is gathered into,
/// and the `msize` of a session before Tversion. A Twalk of 16 names of 255 bytes has 4129 bytes.
pub const MAX_REQUEST_HEAD: u32 = 8192;

/// Length of Rlerror, the reply that there must always be room for.
pub const RLERROR: u32 = 11;

// An error can then take the place of a reply whose data has been put already: see `Reply`.
const _: () = assert!(RLERROR == RREAD_HEADER);

/// Longest reply, without the data of Rread and Rreaddir: an Rreadlink with a target of 4095 bytes has 4104.
const MAX_REPLY_HEAD: usize = 4352;

/// What a session may hold at most. It decides how much memory a session takes, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Fids at a time, at most [`MAX_FIDS`](super::fid::MAX_FIDS). A table of 32,768 takes 36 bytes each, 1.13
    /// MiB; with what else a session holds, eight of them take 11.4 MiB.
    pub max_fids: usize,
    /// The largest `msize` that is agreed to, at least [`MIN_MSIZE`]. It takes no memory. (Linux never asks for
    /// more than 512,000 over virtio.)
    pub max_msize: u32,
}

/// Bytes of a request that are taken at once, as far as it has them: what may stand before the data of a Twrite. Many requests are
/// no longer.
const FIRST_BYTES: usize = TWRITE_HEADER as usize;

/// The private memory in which requests are taken apart and replies put together. One serves any number of
/// sessions, one request at a time. About 17 KiB.
pub struct Scratch {
    request: [u8; MAX_REQUEST_HEAD as usize],
    reply: [u8; MAX_REPLY_HEAD],
    buffers: Buffers,
}

/// What replies borrow from.
pub(super) struct Buffers {
    /// The qids of an Rwalk.
    pub(super) qids: heapless::Vec<Qid, MAXWELEM>,
    /// The target of an Rreadlink.
    pub(super) target: heapless::Vec<u8, MAX_TARGET>,
    /// The `client_id` of an Rgetlock.
    pub(super) client: heapless::Vec<u8, MAX_CLIENT_ID>,
}

impl Scratch {
    /// Empty buffers.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            request: [0; MAX_REQUEST_HEAD as usize],
            reply: [0; MAX_REPLY_HEAD],
            buffers: Buffers {
                qids: heapless::Vec::new(),
                target: heapless::Vec::new(),
                client: heapless::Vec::new(),
            },
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// One client's use of the server. One for each ring; all its memory is allocated by [`new`](Self::new).
pub struct Session {
    max_msize: u32,
    /// Most bytes of a message.
    msize: u32,
    /// Whether both sides agreed to a version.
    versioned: bool,
    /// Whether the client is gone, and what it held is still to be given back: see [`settle`](Self::settle).
    stale: bool,
    pub(super) fids: FidTable,
    pub(super) attachments: Attachments,
    pub(super) attribute_names: AttributeNames,
    pub(super) new_attributes: NewAttributes,
    pub(super) locks: LockHolder,
    statistics: Statistics,
}

impl Session {
    /// Allocates a session that waits for Tversion. Nothing is allocated afterwards.
    #[must_use]
    pub fn new(limits: SessionLimits) -> Self {
        Self {
            max_msize: limits.max_msize.max(MIN_MSIZE),
            msize: MAX_REQUEST_HEAD,
            versioned: false,
            stale: false,
            fids: FidTable::new(limits.max_fids),
            attachments: Attachments::new(),
            attribute_names: AttributeNames::new(),
            new_attributes: NewAttributes::new(),
            locks: LockHolder::new(),
            statistics: Statistics::new(),
        }
    }

    /// Ends whatever was: the session waits for Tversion. For a client that is gone. No exports are needed for it, so that it
    /// can be done at any time; what the fids held is given back by [`settle`](Self::settle).
    pub fn reset(&mut self) {
        self.stale = true;
        self.versioned = false;
        self.msize = MAX_REQUEST_HEAD;
    }

    /// Gives back what a client that is gone held: its open files, and its locks. Returns whether there was one. Attributes
    /// that it was setting are not set.
    #[inline]
    pub fn settle(&mut self, exports: &mut Exports<'_>) -> bool {
        let stale = self.stale;
        if stale {
            self.give_back(exports);
        }
        stale
    }

    fn give_back(&mut self, exports: &mut Exports<'_>) {
        exports.locks().release_all(&mut self.locks);
        for (_, handle) in self.fids.iter() {
            if let Ok(attachment) = self.attachments.get(handle.attachment) {
                release(exports, &attachment, handle);
            }
        }
        self.fids.clear();
        self.attachments.clear();
        self.attribute_names.clear();
        self.new_attributes.clear();
        self.stale = false;
    }

    /// What the session has done since it was made.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Most bytes of a message: what Tversion agreed to, or [`MAX_REQUEST_HEAD`] before.
    #[must_use]
    pub fn msize(&self) -> u32 {
        self.msize
    }

    /// Number of fids in use.
    #[must_use]
    pub fn fids_in_use(&self) -> usize {
        if self.stale { 0 } else { self.fids.len() }
    }

    pub(super) fn count_written(&mut self, count: u32) {
        let written = &mut self.statistics.bytes_written;
        *written = written.wrapping_add(u64::from(count));
    }

    /// Starts anew, with messages of up to `offered` bytes, or as many as the limits allow. Returns how many.
    pub(super) fn agree(&mut self, offered: u32) -> u32 {
        self.msize = offered.min(self.max_msize);
        self.versioned = true;
        self.msize
    }

    /// Most bytes of data that an Rread or Rreaddir can have now: what `msize` and the room for it leave.
    pub(super) fn data_limit(&self, room: &ScatterWriter<'_>) -> u32 {
        let room = u32::try_from(room.remaining()).unwrap_or(u32::MAX);
        room.min(self.msize.saturating_sub(RREAD_HEADER))
    }

    /// Takes the fid of a vacancy into use.
    ///
    /// # Errors
    /// As [`FidTable::fill`].
    pub(super) fn fill(&mut self, vacancy: &Vacancy, handle: Handle) -> Result<(), Errno> {
        self.fids.fill(vacancy, handle)?;
        self.attachments.hold(handle.attachment);
        Ok(())
    }

    /// Ends the use of `fid`, and releases the locks that were taken through it. An attribute that it collected is not set.
    ///
    /// # Errors
    /// EBADF if it is not in use.
    pub(super) fn clunk(&mut self, exports: &mut Exports<'_>, fid: Fid) -> Result<(), Errno> {
        let handle = self.fids.remove(fid)?;
        self.let_go(exports, fid, handle)
    }

    /// Gives back what `fid` held, which stood for `handle` until it was removed.
    ///
    /// # Errors
    /// EBADF for an attachment that is none, which no fid says.
    #[inline]
    pub(super) fn let_go(
        &mut self,
        exports: &mut Exports<'_>,
        fid: Fid,
        handle: Handle,
    ) -> Result<(), Errno> {
        self.attachments.release(handle.attachment);
        if handle.state == FidState::Path {
            return Ok(());
        }
        let attachment = self.attachments.get(handle.attachment)?;
        match handle.state {
            FidState::Path | FidState::AttributeNames => {}
            FidState::Open(_) => {
                let file = LockedFile::new(attachment.export, handle.node);
                exports.locks().release_fid(&mut self.locks, file, fid);
            }
            FidState::Attribute(slot) => self.attribute_names.free(slot),
            FidState::NewAttribute(slot) => self.new_attributes.free(slot),
        }
        release(exports, &attachment, handle);
        Ok(())
    }

    /// What is behind `fid`, which must stand for a file.
    ///
    /// # Errors
    /// EBADF if it is not in use, or reads or sets an extended attribute.
    pub(super) fn file(&self, fid: Fid) -> Result<File, Errno> {
        let handle = self.fids.get(fid)?;
        match handle.state {
            FidState::Path | FidState::Open(_) => {
                Ok(File { handle, attachment: self.attachments.get(handle.attachment)? })
            }
            FidState::AttributeNames | FidState::Attribute(_) | FidState::NewAttribute(_) => {
                Err(Errno::EBADF)
            }
        }
    }

    /// Answers one request: the message in the readable part of a chain, with one message in the writable part.
    /// Returns the length of the reply, in bytes: what the used ring tells the driver.
    ///
    /// Bytes of `request` behind the message are ignored. Nothing of it is read twice.
    ///
    /// # Errors
    /// A fault; nothing of use was answered then, and the ring should stop.
    #[inline(always)] // Into a function that makes the streams: they are not moved then.
    pub fn handle(
        &mut self,
        exports: &mut Exports<'_>,
        mut request: ScatterReader<'_>,
        reply: ScatterWriter<'_>,
        scratch: &mut Scratch,
    ) -> Result<u32, SessionFault> {
        self.settle(exports);
        let Scratch { request: gathered, reply: staging, buffers } = scratch;
        let mut reply = Reply { tag: Tag::NOTAG, room: reply, staging, copied: 0, served: 0 };
        let room = reply.room.remaining();
        if room < RLERROR as usize {
            return Err(no_room(MessageType::Rlerror, RLERROR as usize, room));
        }
        let (header, head) = self.gather(&mut request, gathered)?;
        self.statistics.count_request(header.kind.into());
        reply.tag = header.tag;

        let answered = match head {
            Some(head) => {
                let request = Request { header, head, data: &mut request, versioned: self.versioned };
                super::dispatch(self, exports, request, buffers, &mut reply)
            }
            None => Err(Errno::EMSGSIZE.into()),
        };

        let Statistics { bytes_copied, bytes_served, errors, .. } = &mut self.statistics;
        if reply.copied > 0 {
            // Nothing is served that was not copied.
            *bytes_copied = bytes_copied.wrapping_add(u64::from(reply.copied));
            *bytes_served = bytes_served.wrapping_add(u64::from(reply.served));
        }
        match answered {
            Ok(length) => Ok(length),
            Err(Refusal::Errno(errno)) => {
                *errors = errors.wrapping_add(1);
                reply.send(&Rlerror { ecode: errno.number() })
            }
            Err(Refusal::Fault(fault)) => Err(fault),
        }
    }

    /// Takes the request out of the client's memory, up to the payload of a Twrite, and checks its framing.
    /// Too long a request is a reply error: of it there is only the header.
    #[inline(always)]
    fn gather<'s>(
        &self,
        request: &mut ScatterReader<'_>,
        buffer: &'s mut [u8; MAX_REQUEST_HEAD as usize],
    ) -> Result<(Header, Option<&'s [u8]>), SessionFault> {
        let readable = request.remaining();
        let too_short = SessionFault::RequestTooShort { readable };
        let first = readable.min(FIRST_BYTES);
        let front = buffer.get_mut(..first).ok_or(too_short)?;
        request.take(front).map_err(|Short| too_short)?;
        let header = Header::parse(front.first_chunk().ok_or(too_short)?);
        let size = header.size;
        if size < HEADER || size > self.msize || size as usize > readable {
            return Err(self.bad_size(size, readable));
        }
        let length = header.head_length() as usize;
        // Of a message that is shorter, what stands behind it was taken too; nobody looks at it.
        if length > first {
            let Some(rest) = buffer.get_mut(first..length) else { return Ok((header, None)) };
            request.take(rest).map_err(|Short| SessionFault::SizeBeyondChain { size, readable })?;
        }
        Ok((header, buffer.get(..length)))
    }

    /// What is wrong with a `size` that cannot be.
    #[cold]
    #[inline(never)]
    fn bad_size(&self, size: u32, readable: usize) -> SessionFault {
        if size < HEADER {
            SessionFault::SizeBelowHeader { size }
        } else if size > self.msize {
            SessionFault::SizeAboveMsize { size, msize: self.msize }
        } else {
            SessionFault::SizeBeyondChain { size, readable }
        }
    }
}

/// A request, taken out of the client's memory but for its data.
pub(super) struct Request<'a, 'm> {
    pub(super) header: Header,
    /// The message without its data, from the header on.
    head: &'a [u8],
    /// What stands behind that in the chain.
    data: &'a mut ScatterReader<'m>,
    /// Whether the session has a version.
    versioned: bool,
}

impl<'a, 'm> Request<'a, 'm> {
    /// The fields of the request, which is an `M`.
    ///
    /// # Errors
    /// EPROTO if they are malformed, or if this is no time for them: nothing is asked before a version is agreed to, and only
    /// Tversion has no tag.
    #[inline]
    pub(super) fn body<M: Message<'a>>(&self) -> Result<M, Errno> {
        let begins = M::KIND == MessageType::Tversion;
        if begins != (self.header.tag == Tag::NOTAG) || !(begins || self.versioned) {
            return Err(Errno::EPROTO);
        }
        wire::parse_body(self.header, self.head).map_err(|_| Errno::EPROTO)
    }

    /// The error for a type that is no request.
    #[inline(always)]
    pub(super) fn unsupported(&self) -> Errno {
        // Only Tversion has no tag, whatever else is wrong.
        if self.header.tag == Tag::NOTAG { Errno::EPROTO } else { Errno::EOPNOTSUPP }
    }

    /// The `count` bytes of data. What stands behind the message in the chain is no part of it.
    ///
    /// # Errors
    /// EPROTO if there are not so many.
    #[inline(always)]
    pub(super) fn data(self, count: u32) -> Result<&'a mut ScatterReader<'m>, Errno> {
        self.data.truncate(count).map_err(|Short| Errno::EPROTO)?;
        Ok(self.data)
    }
}

/// Why a request is not answered as it was asked.
pub(super) enum Refusal {
    /// It is answered with this error.
    Errno(Errno),
    /// It cannot be answered.
    Fault(SessionFault),
}

impl From<Errno> for Refusal {
    #[inline]
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<SessionFault> for Refusal {
    #[inline]
    fn from(fault: SessionFault) -> Self {
        Self::Fault(fault)
    }
}

#[cold]
#[inline(never)]
fn no_room(reply: MessageType, needed: usize, room: usize) -> SessionFault {
    SessionFault::NoRoomForReply { reply, needed, room }
}

/// What a fid stands for, and on whose behalf.
#[derive(Debug, Clone, Copy)]
pub(super) struct File {
    pub(super) handle: Handle,
    pub(super) attachment: Attachment,
}

impl File {
    /// The user behind the fid, to ask what is allowed.
    ///
    /// # Errors
    /// As [`Exports::get`].
    pub(super) fn subject<'a>(&self, exports: &'a Exports<'_>) -> Result<Subject<'a>, Errno> {
        exports.subject(&self.attachment)
    }

    /// The directory that the fid stands for.
    ///
    /// # Errors
    /// ENOTDIR.
    pub(super) fn directory(&self) -> Result<Node, Errno> {
        if self.handle.kind == FileKind::Directory { Ok(self.handle.node) } else { Err(Errno::ENOTDIR) }
    }
}

/// Lets the file of a fid go when it has no name, if the fid kept it from that.
fn release(exports: &mut Exports<'_>, attachment: &Attachment, handle: Handle) {
    if handle.state.retains()
        && let Ok(backend) = exports.get_mut(attachment.export)
    {
        backend.release(handle.node);
    }
}

/// The room for a reply.
pub(super) struct Reply<'a> {
    tag: Tag,
    room: ScatterWriter<'a>,
    staging: &'a mut [u8; MAX_REPLY_HEAD],
    /// Bytes of data that were put.
    copied: u32,
    /// Bytes of data that belong to what was sent.
    served: u32,
}

impl<'a> Reply<'a> {
    /// The room for data, behind the 11 bytes that stand before it in Rread and Rreaddir. So data can be put before anybody knows how
    /// long it is; an error, which takes no more than 11 bytes, can still be sent after it. What was put is to be
    /// [counted](Self::count_data).
    ///
    /// # Errors
    /// A fault.
    #[inline(always)]
    pub(super) fn data_room(&self) -> Result<ScatterWriter<'a>, Refusal> {
        let head = RREAD_HEADER as usize;
        self.room
            .behind(head)
            .map_err(|Full| no_room(MessageType::Rlerror, head, self.room.remaining()).into())
    }

    /// Counts what was put into the room for data.
    #[inline(always)]
    pub(super) fn count_data(&mut self, data: &ScatterWriter<'_>) {
        self.copied = data.written();
    }

    /// Puts `answer` before the data that was put, if it has data, or else over it. Returns the length of all.
    ///
    /// # Errors
    /// A fault.
    #[inline(always)]
    pub(super) fn send<'m, M: Message<'m>>(&mut self, answer: &M) -> Result<u32, SessionFault> {
        let message = wire::emit(answer, self.tag, self.staging).map_err(SessionFault::Reply)?;
        self.served = answer.data_length();
        let total = message.len().saturating_add(self.served as usize);
        let room = self.room.remaining();
        if total > room {
            return Err(no_room(M::KIND, total, room));
        }
        self.room.put(message).map_err(|Full| no_room(M::KIND, total, room))?;
        u32::try_from(total).map_err(|_| no_room(M::KIND, total, room))
    }
}

#[cfg(test)]
mod tests;
