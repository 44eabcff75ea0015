// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a client does with files without changing them: walk, open, read, list, ask.

use skerry::wire::{
    Dirents, Fid, GetattrMask, IOHDRSZ, MAXWELEM, MessageType, Names, OpenFlags, Qid, READDIRHDRSZ, Rgetattr,
    Rmessage, Rstatfs, Tag, Tclunk, Tflush, Tgetattr, Tlopen, Tread, Treaddir, Treadlink, Tstatfs, Twalk,
    Txattrwalk,
};

use super::{Client, ClientError, Transport};

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// What the name stands for.
    pub qid: Qid,
    /// Where reading goes on after it.
    pub offset: u64,
    /// The `d_type` of `getdents(2)`.
    pub kind: u8,
    /// The name.
    pub name: Vec<u8>,
}

/// How far a walk came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// The fid that was asked for; it stands for something only if `qids` are as many as the names.
    pub fid: Fid,
    /// The files that were reached.
    pub qids: Vec<Qid>,
}

impl<T: Transport> Client<T> {
    /// One Twalk from `fid` along up to 16 `names`, to a fresh fid.
    ///
    /// # Errors
    /// [`ClientError`].
    ///
    /// # Panics
    /// With more names than a Twalk has.
    pub fn walk(&mut self, fid: Fid, names: &[&[u8]]) -> Result<Walked, ClientError> {
        let newfid = self.fresh_fid();
        let wnames = Names::new(names).expect("a Twalk has at most 16 names");
        let qids = self.call_with(Twalk { fid, newfid, wnames }, &[], |reply, _| match reply {
            Rmessage::Rwalk(reply) => Some(reply.wqids.iter().collect::<Vec<Qid>>()),
            _ => None,
        })?;
        if qids.len() > names.len() {
            let what = format!("{} qids for {} names", qids.len(), names.len());
            return Err(ClientError::Mismatch { request: MessageType::Twalk, what });
        }
        Ok(Walked { fid: newfid, qids })
    }

    /// Walks the whole `/`-separated `path` from `fid`, in as many steps as it takes, to a fresh fid.
    ///
    /// # Errors
    /// [`ClientError`]; ENOENT where a step ends early.
    pub fn walk_path(&mut self, fid: Fid, path: &[u8]) -> Result<Fid, ClientError> {
        const ENOENT: u32 = 2;
        let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        let mut steps: Vec<&[&[u8]]> = names.chunks(MAXWELEM).collect();
        if steps.is_empty() {
            steps.push(&[]);
        }
        let mut at = None;
        for step in steps {
            let walked = self.walk(at.unwrap_or(fid), step)?;
            if let Some(passed) = at {
                self.clunk(passed)?;
            }
            if walked.qids.len() < step.len() {
                return Err(ClientError::Reply { request: MessageType::Twalk, errno: ENOENT });
            }
            at = Some(walked.fid);
        }
        Ok(at.unwrap_or(fid))
    }

    /// Opens the file of `fid`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn open(&mut self, fid: Fid, flags: OpenFlags) -> Result<(Qid, u32), ClientError> {
        self.call_with(Tlopen { fid, flags }, &[], |reply, _| match reply {
            Rmessage::Rlopen(reply) => Some((reply.qid, reply.iounit)),
            _ => None,
        })
    }

    /// One Tread.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn read(&mut self, fid: Fid, offset: u64, count: u32) -> Result<Vec<u8>, ClientError> {
        self.call_with(Tread { fid, offset, count }, &[], |reply, data| match reply {
            Rmessage::Rread(_) => Some(data.to_vec()),
            _ => None,
        })
    }

    /// Reads an open file from its start to its end.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn read_to_end(&mut self, fid: Fid) -> Result<Vec<u8>, ClientError> {
        let count = self.msize().saturating_sub(IOHDRSZ);
        let mut content = Vec::new();
        loop {
            let piece = self.read(fid, content.len() as u64, count)?;
            if piece.is_empty() {
                return Ok(content);
            }
            content.extend_from_slice(&piece);
        }
    }

    /// Walks to `path`, opens, reads to the end, clunks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn read_file(&mut self, root: Fid, path: &[u8]) -> Result<Vec<u8>, ClientError> {
        let fid = self.walk_path(root, path)?;
        let content = self.open(fid, OpenFlags::RDONLY).and_then(|_| self.read_to_end(fid));
        self.clunk(fid)?;
        content
    }

    /// One Treaddir with room for `count` bytes of entries.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn read_directory(
        &mut self,
        fid: Fid,
        offset: u64,
        count: u32,
    ) -> Result<Vec<DirectoryEntry>, ClientError> {
        let data = self.call_with(Treaddir { fid, offset, count }, &[], |reply, data| match reply {
            Rmessage::Rreaddir(_) => Some(data.to_vec()),
            _ => None,
        })?;
        Dirents::new(&data)
            .map(|entry| {
                let entry = entry?;
                let (qid, offset, kind, name) = (entry.qid, entry.offset, entry.kind, entry.name.to_vec());
                Ok(DirectoryEntry { qid, offset, kind, name })
            })
            .collect()
    }

    /// All entries of the open directory `fid`, in its order.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn list(&mut self, fid: Fid) -> Result<Vec<DirectoryEntry>, ClientError> {
        let count = self.msize().saturating_sub(READDIRHDRSZ);
        let mut all: Vec<DirectoryEntry> = Vec::new();
        loop {
            let offset = all.last().map_or(0, |entry| entry.offset);
            let piece = self.read_directory(fid, offset, count)?;
            if piece.is_empty() {
                return Ok(all);
            }
            all.extend(piece);
        }
    }

    /// The attributes of `fid`'s file.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn getattr(&mut self, fid: Fid, request_mask: GetattrMask) -> Result<Rgetattr, ClientError> {
        self.call_with(Tgetattr { fid, request_mask }, &[], |reply, _| match reply {
            Rmessage::Rgetattr(reply) => Some(reply),
            _ => None,
        })
    }

    /// The state of the file system.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn statfs(&mut self, fid: Fid) -> Result<Rstatfs, ClientError> {
        self.call_with(Tstatfs { fid }, &[], |reply, _| match reply {
            Rmessage::Rstatfs(reply) => Some(reply),
            _ => None,
        })
    }

    /// What the symbolic link `fid` points to.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn readlink(&mut self, fid: Fid) -> Result<Vec<u8>, ClientError> {
        self.call_with(Treadlink { fid }, &[], |reply, _| match reply {
            Rmessage::Rreadlink(reply) => Some(reply.target.to_vec()),
            _ => None,
        })
    }

    /// Makes a fresh fid stand for the extended attribute `name` of `fid`'s file, or for the list of names if it is empty.
    /// Returns it with the length of what can be read from it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn xattrwalk(&mut self, fid: Fid, name: &[u8]) -> Result<(Fid, u64), ClientError> {
        let newfid = self.fresh_fid();
        self.call_with(Txattrwalk { fid, newfid, name }, &[], |reply, _| match reply {
            Rmessage::Rxattrwalk(reply) => Some((newfid, reply.size)),
            _ => None,
        })
    }

    /// The value of the extended attribute `name`, or the list of names if it is empty.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn xattr(&mut self, fid: Fid, name: &[u8]) -> Result<Vec<u8>, ClientError> {
        let (attribute, _) = self.xattrwalk(fid, name)?;
        let value = self.read_to_end(attribute);
        self.clunk(attribute)?;
        value
    }

    /// Lets go of `fid`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn clunk(&mut self, fid: Fid) -> Result<(), ClientError> {
        self.call_with(Tclunk { fid }, &[], |reply, _| matches!(reply, Rmessage::Rclunk(_)).then_some(()))
    }

    /// Gives up the request with the tag `oldtag`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn flush(&mut self, oldtag: Tag) -> Result<(), ClientError> {
        self.call_with(Tflush { oldtag }, &[], |reply, _| matches!(reply, Rmessage::Rflush(_)).then_some(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::TransportError;
    use skerry::wire::{
        Dirent, QidKind, Rclunk, Rlerror, Rlopen, Rread, Rreaddir, Rversion, Rwalk, Tmessage, parse_t,
    };
    use skerry::wire::{Qids, TWRITE_HEADER};
    use std::collections::VecDeque;

    type Answer = Box<dyn FnMut(Tag, Tmessage<'_>) -> Vec<u8>>;

    /// A server that gives one scripted answer to each request; it checks that requests parse.
    struct Script(VecDeque<Answer>);

    impl Transport for Script {
        fn limit(&self) -> u32 {
            4096
        }

        fn rpc(&mut self, request: &[u8]) -> Result<Vec<u8>, TransportError> {
            let total = u32::try_from(request.len()).unwrap();
            let head = if request[4] == 118 { &request[..TWRITE_HEADER as usize] } else { request };
            let (tag, message) = parse_t(head, total).unwrap();
            Ok(self.0.pop_front().expect("a request too many")(tag, message))
        }
    }

    fn emit<'a>(tag: Tag, message: impl Into<Rmessage<'a>>, data: &[u8]) -> Vec<u8> {
        let message = message.into();
        let mut bytes = vec![0; message.head_length()];
        message.emit(tag, &mut bytes).unwrap();
        bytes.extend_from_slice(data);
        bytes
    }

    fn client(answers: Vec<Answer>) -> Client<Script> {
        let version: Answer =
            Box::new(|tag, _| emit(tag, Rversion { msize: 4096, version: b"9P2000.L" }, &[]));
        let mut script = VecDeque::from([version]);
        script.extend(answers);
        Client::new(Script(script), 8192).unwrap()
    }

    const QID: Qid = Qid { kind: QidKind::DIR, version: 0, path: 7 };

    #[test]
    fn an_rlerror_is_an_error_with_its_number() {
        let mut client = client(vec![Box::new(|tag, _| emit(tag, Rlerror { ecode: 2 }, &[]))]);
        let error = client.attach(b"nowhere").unwrap_err();
        assert_eq!(error.errno(), Some(2));
        assert!(error.to_string().starts_with("Tattach: the server answers No such file"), "{error}");
    }

    #[test]
    fn a_reply_to_another_request_is_an_error() {
        let mut client = client(vec![
            Box::new(|tag, _| emit(Tag(tag.0 + 1), Rclunk, &[])),
            Box::new(|tag, _| emit(tag, Rread { count: 0 }, &[])),
        ]);
        for _ in 0..2 {
            assert!(matches!(client.clunk(Fid(1)), Err(ClientError::Mismatch { .. })));
        }
    }

    #[test]
    fn another_version_is_refused() {
        let unknown: Answer =
            Box::new(|tag, _| emit(tag, Rversion { msize: 4096, version: b"unknown" }, &[]));
        let error = Client::new(Script(VecDeque::from([unknown])), 4096).err().unwrap();
        assert!(error.to_string().contains("unknown"), "{error}");
    }

    #[test]
    fn a_long_path_is_walked_in_steps_and_the_fids_between_are_clunked() {
        let walked = |expected: usize| -> Answer {
            Box::new(move |tag, message| {
                let Tmessage::Twalk(walk) = message else { panic!("{message:?}") };
                assert_eq!(walk.wnames.len(), expected);
                emit(tag, Rwalk { wqids: Qids::new(&vec![QID; expected]).unwrap() }, &[])
            })
        };
        let clunked: Answer = Box::new(|tag, message| {
            assert!(matches!(message, Tmessage::Tclunk(_)), "{message:?}");
            emit(tag, Rclunk, &[])
        });
        let mut client = client(vec![walked(16), walked(1), clunked]);
        client.walk_path(Fid(100), "/a".repeat(17).as_bytes()).unwrap();
    }

    #[test]
    fn a_listing_goes_on_after_the_last_entry_until_none_comes() {
        let entries = |from: u64, names: &'static [&'static [u8]]| -> Answer {
            Box::new(move |tag, message| {
                let Tmessage::Treaddir(request) = message else { panic!("{message:?}") };
                assert_eq!(request.offset, from);
                let mut data = Vec::new();
                for (offset, name) in (from + 1..).zip(names) {
                    let entry = Dirent { qid: QID, offset, kind: 4, name };
                    let mut bytes = vec![0; entry.encoded_length()];
                    entry.emit(&mut bytes).unwrap();
                    data.extend(bytes);
                }
                emit(tag, Rreaddir { count: u32::try_from(data.len()).unwrap() }, &data)
            })
        };
        let mut client = client(vec![entries(0, &[b".", b".."]), entries(2, &[b"x"]), entries(3, &[])]);
        let names: Vec<Vec<u8>> = client.list(Fid(1)).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, [&b"."[..], b"..", b"x"]);
    }

    #[test]
    fn a_file_is_read_in_pieces_until_one_is_empty() {
        let piece = |from: u64, data: &'static [u8]| -> Answer {
            Box::new(move |tag, message| {
                let Tmessage::Tread(request) = message else { panic!("{message:?}") };
                assert_eq!((request.offset, request.count), (from, 4096 - IOHDRSZ));
                emit(tag, Rread { count: u32::try_from(data.len()).unwrap() }, data)
            })
        };
        let opened: Answer = Box::new(|tag, _| emit(tag, Rlopen { qid: QID, iounit: 0 }, &[]));
        let mut client = client(vec![opened, piece(0, b"abc"), piece(3, b"d"), piece(4, b"")]);
        client.open(Fid(1), OpenFlags::RDONLY).unwrap();
        assert_eq!(client.read_to_end(Fid(1)).unwrap(), b"abcd");
    }
}
