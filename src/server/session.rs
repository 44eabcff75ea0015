// SPDX-License-Identifier: MIT OR Apache-2.0

//! A session: what one client's ring has negotiated and holds, and how a request of it becomes a reply.

use super::access::Subject;
use super::attachment::{Attachment, Attachments};
use super::exports::Exports;
use super::fault::SessionFault;
use super::fid::{FidState, FidTable, Handle};
use super::lock_table::{LockHolder, LockedFile, MAX_CLIENT_ID};
use super::new_attribute::NewAttributes;
use super::readlink::MAX_TARGET;
use super::statistics::Statistics;
use super::xattr::AttributeNames;
use crate::fs::{Errno, FileKind, Node};
use crate::mem::scatter::{ScatterReader, ScatterWriter};
use crate::mem::{Full, Short, Sink, Source};
use crate::wire::{
    self, Fid, HEADER, Header, MAXWELEM, MessageType, Qid, RREAD_HEADER, Rlerror, Rmessage, Tag, WireError,
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
    /// Fids at a time, at most [`MAX_FIDS`](super::fid::MAX_FIDS). A table of 32,768 takes 34 bytes each, 1.06
    /// MiB; eight such sessions take 8.5 MiB.
    pub max_fids: usize,
    /// The largest `msize` that is agreed to, at least [`MIN_MSIZE`]. It takes no memory. (Linux never asks for
    /// more than 512,000 over virtio.)
    pub max_msize: u32,
}

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
    pub fn settle(&mut self, exports: &mut Exports<'_>) -> bool {
        if !self.stale {
            return false;
        }
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
        true
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
        self.statistics.bytes_written += u64::from(count);
    }

    pub(super) fn is_versioned(&self) -> bool {
        self.versioned
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

    /// Takes `fid` into use.
    ///
    /// # Errors
    /// As [`FidTable::insert`].
    pub(super) fn insert(&mut self, fid: Fid, handle: Handle) -> Result<(), Errno> {
        self.fids.insert(fid, handle)?;
        self.attachments.hold(handle.attachment);
        Ok(())
    }

    /// Ends the use of `fid`, and releases the locks that were taken through it. An attribute that it collected is not set.
    ///
    /// # Errors
    /// EBADF if it is not in use.
    pub(super) fn clunk(&mut self, exports: &mut Exports<'_>, fid: Fid) -> Result<(), Errno> {
        let handle = self.fids.remove(fid)?;
        let attachment = self.attachments.get(handle.attachment)?;
        self.attachments.release(handle.attachment);
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
    pub fn handle(
        &mut self,
        exports: &mut Exports<'_>,
        mut request: ScatterReader<'_>,
        reply: ScatterWriter<'_>,
        scratch: &mut Scratch,
    ) -> Result<u32, SessionFault> {
        self.settle(exports);
        let room = reply.remaining();
        let (head, data) = reply.split_at(RLERROR as usize).map_err(|Full| SessionFault::NoRoomForReply {
            reply: MessageType::Rlerror,
            needed: RLERROR as usize,
            room,
        })?;
        let Scratch { request: gathered, reply: staging, buffers } = scratch;
        let (header, gathered) = self.gather(&mut request, gathered)?;
        self.statistics.count_request(header.kind.into());
        let mut reply = Reply { tag: header.tag, head, data, staging };

        let answer = match gathered {
            Ok(gathered) => self.answer(exports, header, gathered, request, &mut reply.data, buffers),
            Err(errno) => Err(errno),
        };

        self.statistics.bytes_copied += u64::from(reply.data.written());
        let answer = match answer {
            Ok(answer) => answer,
            Err(errno) => {
                self.statistics.errors += 1;
                Rmessage::Rlerror(Rlerror { ecode: errno.number() })
            }
        };
        self.statistics.bytes_served += u64::from(answer.data_length());
        reply.send(&answer, room)
    }

    /// Takes the request out of the client's memory, up to the payload of a Twrite, and checks its framing.
    /// Too long a request is a reply error: its header is given back all the same.
    fn gather<'s>(
        &self,
        request: &mut ScatterReader<'_>,
        buffer: &'s mut [u8],
    ) -> Result<(Header, Result<&'s [u8], Errno>), SessionFault> {
        let readable = request.remaining();
        let mut bytes = [0; HEADER as usize];
        request.take(&mut bytes).map_err(|Short| SessionFault::RequestTooShort { readable })?;
        let header = Header::parse(&bytes);
        let size = header.size;
        if size < HEADER {
            return Err(SessionFault::SizeBelowHeader { size });
        }
        if size > self.msize {
            return Err(SessionFault::SizeAboveMsize { size, msize: self.msize });
        }
        if size as usize > readable {
            return Err(SessionFault::SizeBeyondChain { size, readable });
        }
        let Some(message) = buffer.get_mut(..header.head_length() as usize) else {
            return Ok((header, Err(Errno::EMSGSIZE)));
        };
        if let Some((front, body)) = message.split_at_mut_checked(bytes.len()) {
            front.copy_from_slice(&bytes);
            request.take(body).map_err(|Short| SessionFault::SizeBeyondChain { size, readable })?;
        }
        Ok((header, Ok(message)))
    }

    /// Parses a request and has it answered.
    fn answer<'b>(
        &mut self,
        exports: &mut Exports<'_>,
        header: Header,
        gathered: &[u8],
        rest: ScatterReader<'_>,
        data_out: &mut ScatterWriter<'_>,
        buffers: &'b mut Buffers,
    ) -> Result<Rmessage<'b>, Errno> {
        if (header.kind == MessageType::Tversion) != (header.tag == Tag::NOTAG) {
            return Err(Errno::EPROTO);
        }
        let (_, message) = wire::parse_t(gathered, header.size).map_err(|cause| match cause {
            WireError::UnknownType { .. } | WireError::NotARequest { .. } => Errno::EOPNOTSUPP,
            _ => Errno::EPROTO,
        })?;
        // What stands behind the message in the chain is no part of it.
        let (data_in, _) = rest.split_at(message.data_length() as usize).map_err(|Short| Errno::EPROTO)?;
        super::dispatch(self, exports, message, data_in, data_out, buffers)
    }
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

/// The room for a reply, in two: the 11 bytes that Rlerror takes, and so does all of Rread and Rreaddir that
/// stands before their data; and what follows. So data can be put before anybody knows how long it is, and an
/// error can still be sent after it.
struct Reply<'a> {
    tag: Tag,
    head: ScatterWriter<'a>,
    data: ScatterWriter<'a>,
    staging: &'a mut [u8],
}

impl Reply<'_> {
    /// Puts `answer` before the data that was put, if it has data, or else over it. Returns the length of all.
    fn send(mut self, answer: &Rmessage<'_>, room: usize) -> Result<u32, SessionFault> {
        let length = answer.emit(self.tag, self.staging).map_err(SessionFault::Reply)?;
        let total = length.saturating_add(answer.data_length() as usize);
        let no_room = |Full| SessionFault::NoRoomForReply { reply: answer.kind(), needed: total, room };
        let message = self.staging.get(..length).unwrap_or_default();
        let (front, back) = message.split_at_checked(RLERROR as usize).unwrap_or((message, &[]));
        self.data.put(back).map_err(no_room)?;
        self.head.put(front).map_err(no_room)?;
        u32::try_from(total).map_err(|_| no_room(Full))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::client::Client;
    use crate::wire::XattrFlags;
    use std::vec;
    use std::vec::Vec;

    /// `size[4] Tclunk tag[2] fid[4]`, of a fid that is not in use; and the reply, EBADF.
    const CLUNK: [u8; 11] = [11, 0, 0, 0, 120, 5, 0, 9, 0, 0, 0];
    const BAD_FID: [u8; 11] = [11, 0, 0, 0, 7, 5, 0, 9, 0, 0, 0];

    fn with_size(size: u32, rest: &[u8]) -> Vec<u8> {
        [&size.to_le_bytes(), rest].concat()
    }

    #[test]
    fn a_request_and_its_reply_may_be_split_at_any_byte() {
        let mut client = Client::attached();
        for piece in 1..16 {
            (client.piece, client.room) = (piece, 300);
            assert_eq!(client.exchange(&CLUNK), Ok(BAD_FID.to_vec()));
            assert_eq!(client.walk(0, 1, &[b"sub", b"deep", b"leaf"]).map(|qids| qids.len()), Ok(3));
            assert_eq!(client.getattr(1).map(|attributes| attributes.size), Ok(4));
            client.clunk(1).unwrap();
        }
    }

    #[test]
    fn what_follows_a_request_in_its_chain_is_ignored() {
        let mut client = Client::attached();
        let request = [&CLUNK[..], &[0xff; 5000]].concat();
        assert_eq!(client.exchange(&request), Ok(BAD_FID.to_vec()));
    }

    #[test]
    fn a_request_shorter_than_a_header_is_a_fault() {
        let mut client = Client::attached();
        for readable in 0..7 {
            let fault = client.exchange(&CLUNK[..readable]);
            assert_eq!(fault, Err(SessionFault::RequestTooShort { readable }));
        }
    }

    #[test]
    fn a_size_that_cannot_be_is_a_fault() {
        let mut client = Client::attached();
        for size in 0..7 {
            let fault = client.exchange(&with_size(size, &CLUNK[4..]));
            assert_eq!(fault, Err(SessionFault::SizeBelowHeader { size }));
        }
        let fault = client.exchange(&with_size(12, &CLUNK[4..]));
        assert_eq!(fault, Err(SessionFault::SizeBeyondChain { size: 12, readable: 11 }));
        let fault = client.exchange(&with_size(8193, &[0; 9000]));
        assert_eq!(fault, Err(SessionFault::SizeAboveMsize { size: 8193, msize: 8192 }));
        let fault = client.exchange(&with_size(u32::MAX, &CLUNK[4..]));
        assert_eq!(fault, Err(SessionFault::SizeAboveMsize { size: u32::MAX, msize: 8192 }));
    }

    #[test]
    fn before_a_version_a_message_may_have_8192_bytes() {
        let mut client = Client::unversioned();
        let fault = client.exchange(&with_size(8193, &[0; 9000]));
        assert_eq!(fault, Err(SessionFault::SizeAboveMsize { size: 8193, msize: 8192 }));
        let long = with_size(8192, &[&[104, 1, 0][..], &[0; 8185]].concat());
        assert_eq!(client.exchange(&long).map(|reply| (reply[4], reply[7])), Ok((7, 71)));
    }

    #[test]
    fn a_request_too_long_for_the_private_buffer_is_answered_with_an_error() {
        let mut client = Client::versioned(512_000);
        for size in [8193, 20_000, 512_000] {
            let request = with_size(size, &vec![110; size as usize - 4]);
            assert_eq!(client.exchange(&request), Ok(vec![11, 0, 0, 0, 7, 110, 110, 90, 0, 0, 0]));
        }
        client.attach(0, b"").unwrap();
    }

    #[test]
    fn room_for_less_than_an_error_is_a_fault() {
        let mut client = Client::attached();
        for room in 0..11 {
            client.room = room;
            let (reply, room) = (MessageType::Rlerror, room as usize);
            let fault = SessionFault::NoRoomForReply { reply, needed: 11, room };
            assert_eq!(client.exchange(&CLUNK), Err(fault));
        }
        client.room = 11;
        assert_eq!(client.exchange(&CLUNK), Ok(BAD_FID.to_vec()));
    }

    #[test]
    fn room_for_less_than_the_reply_is_a_fault() {
        let mut client = Client::attached();
        client.room = 159;
        // size[4] Tgetattr tag[2] fid[4] request_mask[8]
        let request = [19, 0, 0, 0, 24, 5, 0, 0, 0, 0, 0, 0xff, 7, 0, 0, 0, 0, 0, 0];
        let fault = SessionFault::NoRoomForReply { reply: MessageType::Rgetattr, needed: 160, room: 159 };
        assert_eq!(client.exchange(&request), Err(fault));
        client.room = 160;
        assert_eq!(client.exchange(&request).map(|reply| reply.len()), Ok(160));
    }

    #[test]
    fn a_type_that_is_no_request_is_not_supported() {
        let mut client = Client::attached();
        for kind in [0, 1, 6, 7, 9, 98, 99, 111, 112, 113, 114, 115, 124, 125, 126, 127, 128, 255] {
            let request = [7, 0, 0, 0, kind, 5, 0];
            assert_eq!(client.exchange(&request), Ok(vec![11, 0, 0, 0, 7, 5, 0, 95, 0, 0, 0]), "{kind}");
        }
        assert_eq!(client.exchange(&CLUNK), Ok(BAD_FID.to_vec()));
    }

    #[test]
    fn a_malformed_body_is_a_protocol_error_and_the_session_goes_on() {
        let mut client = Client::attached();
        for request in [
            &[7, 0, 0, 0, 120, 5, 0][..],
            &[10, 0, 0, 0, 120, 5, 0, 0, 0, 0],
            &[12, 0, 0, 0, 120, 5, 0, 0, 0, 0, 0, 0],
            // A walk of 17 names, and one whose name is longer than the message.
            &[&[51, 0, 0, 0, 110, 5, 0, 0, 0, 0, 0, 1, 0, 0, 0, 17, 0][..], &[0; 34]].concat(),
            &[19, 0, 0, 0, 110, 5, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0],
        ] {
            assert_eq!(client.exchange(request), Ok(vec![11, 0, 0, 0, 7, 5, 0, 71, 0, 0, 0]));
        }
        assert_eq!(client.exchange(&CLUNK), Ok(BAD_FID.to_vec()));
    }

    #[test]
    fn a_reset_clunks_everything_and_keeps_the_statistics() {
        let mut client = Client::attached();
        client.session.reset();
        assert_eq!(client.session.fids_in_use(), 0);
        assert_eq!(client.session.msize(), MAX_REQUEST_HEAD);
        assert_eq!(client.session.statistics().total(), 2);
    }

    #[test]
    fn statistics_count_requests_errors_and_bytes() {
        let mut client = Client::attached();
        client.open_path(1, &[b"file"]);
        client.open_path(2, &[b"sub"]);
        let file = client.read(1, 0, 1000).unwrap().len() as u64;
        let entries = client.readdir(2, 0, 1000).unwrap().len() as u64;
        client.exchange(&CLUNK).unwrap();
        client.exchange(&[7, 0, 0, 0, 250, 5, 0]).unwrap();
        let statistics = client.session.statistics();
        let counts: Vec<_> = statistics.by_code().collect();
        assert_eq!(counts, [(12, 2), (40, 1), (100, 1), (104, 1), (110, 2), (116, 1), (120, 1), (250, 1)]);
        assert_eq!((statistics.total(), statistics.requests(110), statistics.errors), (10, 2, 2));
        // `.`, `..` and `deep`, 24 bytes and the name each.
        assert_eq!(entries, 3);
        assert_eq!(statistics.bytes_served, file + 3 * 24 + 1 + 2 + 4);
        assert_eq!(statistics.bytes_copied, statistics.bytes_served);
    }

    #[test]
    fn a_client_that_sends_damaged_requests_is_answered_or_stopped_and_nothing_else() {
        let requests: [&[u8]; 9] = [
            &[19, 0, 0, 0, 100, 255, 255, 0, 32, 0, 0, 6, 0, b'9', b'P', b'2', b'0', b'0', b'0'],
            &[24, 0, 0, 0, 104, 1, 0, 1, 0, 0, 0, 255, 255, 255, 255, 0, 0, 1, 0, b'/', 0, 0, 0, 0],
            &[22, 0, 0, 0, 110, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 3, 0, b's', b'u', b'b'],
            &[23, 0, 0, 0, 110, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 4, 0, b'f', b'i', b'l', b'e'],
            &[15, 0, 0, 0, 12, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            &[23, 0, 0, 0, 116, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
            &[23, 0, 0, 0, 40, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
            &[
                28, 0, 0, 0, 30, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 11, 0, b'u', b's', b'e', b'r', b'.', b'c',
                b'o', b'l', b'o', b'u', b'r',
            ],
            &[11, 0, 0, 0, 120, 1, 0, 1, 0, 0, 0],
        ];
        let mut client = Client::attached();
        client.room = 600;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap() % below
        };
        let (mut answered, mut refused, mut stopped) = (0, 0, 0);
        for _ in 0..10_000 {
            let mut request = requests[random(requests.len())].to_vec();
            for _ in 0..random(4) {
                let at = random(request.len());
                request[at] = [0, 1, 2, 7, 0x7f, 0x80, 0xff][random(7)];
            }
            client.piece = u32::try_from(1 + random(30)).unwrap();
            match client.exchange(&request) {
                Ok(reply) => {
                    assert_eq!(reply[..4], u32::try_from(reply.len()).unwrap().to_le_bytes());
                    assert_eq!(reply[5..7], request[5..7], "the tag is the request's");
                    if reply[4] == 7 { refused += 1 } else { answered += 1 }
                }
                Err(_) => {
                    stopped += 1;
                    client.session.reset();
                }
            }
            if !client.session.is_versioned() {
                client.version(8192, wire::VERSION).unwrap();
                client.attach(0, b"").unwrap();
            }
        }
        assert!(answered > 500 && refused > 500 && stopped > 500, "{answered} {refused} {stopped}");
    }

    #[test]
    fn a_limit_on_msize_below_the_least_is_raised_to_it() {
        let session = Session::new(SessionLimits { max_fids: 0, max_msize: 0 });
        assert_eq!((session.max_msize, session.msize()), (MIN_MSIZE, MAX_REQUEST_HEAD));
    }

    #[test]
    fn a_session_that_was_reset_gives_back_what_it_held_before_anything_else() {
        let mut client = Client::attached();
        client.open_path(1, &[b"file"]);
        client.xattrwalk(1, 2, b"user.colour").unwrap();
        client.xattrwalk(1, 3, b"").unwrap();
        client.walk(0, 4, &[b"file"]).unwrap();
        client.xattrcreate(4, b"user.new", 1, XattrFlags::empty()).unwrap();
        client.write(4, 0, b"x").unwrap();
        client.unlink(0, b"file").unwrap();
        assert_eq!(client.tree.retained(), 4);
        client.session.reset();
        assert_eq!((client.session.fids_in_use(), client.tree.retained()), (0, 4));
        client.exchange(&CLUNK).unwrap();
        assert_eq!(client.tree.retained(), 0);
        assert!(client.tree.inodes[1].is_none(), "the file had no name left");
    }

    #[test]
    fn a_version_in_mid_session_gives_back_what_was_held_at_once() {
        let mut client = Client::attached();
        client.open_path(1, &[b"file"]);
        client.version(8192, wire::VERSION).unwrap();
        assert_eq!(client.tree.retained(), 0);
    }
}
