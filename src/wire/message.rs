// SPDX-License-Identifier: MIT OR Apache-2.0

//! The table of all messages, and what follows from it: the type numbers, the two enums of messages, and
//! how a whole message is parsed and emitted.

use core::fmt;

use super::codec::{Body, Decoder, Encoder, total_length};
use super::*;

/// Length of the header, as a length of memory.
const HEADER_LENGTH: usize = HEADER as usize;

/// A message of one type: its number, and its fields.
pub(crate) trait Message<'a>: Body<'a> {
    /// The `type` of the message.
    const KIND: MessageType;
}

macro_rules! message_table {
    (
        never sent: $illegal:ident = $illegal_number:literal;
        reply only: $error:ident = $error_number:literal;
        $(
            $t:ident $(<$t_lifetime:lifetime>)? = $t_number:literal,
            $r:ident $(<$r_lifetime:lifetime>)? = $r_number:literal;
        )+
    ) => {
        /// The `type` of a message. A request has an even number, its reply the next. Any byte is one: it may have no name.
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct MessageType(u8);

        #[expect(non_upper_case_globals, reason = "the names of the specification")]
        impl MessageType {
            #[doc = concat!(stringify!($illegal), ": has a number, and is never sent.")]
            pub const $illegal: Self = Self($illegal_number);
            #[doc = concat!("[`", stringify!($error), "`]")]
            pub const $error: Self = Self($error_number);
            $(
                #[doc = concat!("[`", stringify!($t), "`]")]
                pub const $t: Self = Self($t_number);
                #[doc = concat!("[`", stringify!($r), "`]")]
                pub const $r: Self = Self($r_number);
            )+
        }

        impl Message<'_> for $error {
            const KIND: MessageType = MessageType::$error;
        }
        $(
            impl<'a> Message<'a> for $t $(<$t_lifetime>)? {
                const KIND: MessageType = MessageType::$t;
            }

            impl<'a> Message<'a> for $r $(<$r_lifetime>)? {
                const KIND: MessageType = MessageType::$r;
            }
        )+

        impl MessageType {
            /// The name of the specification; `None` for a number that has none.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                Some(match self {
                    Self::$illegal => stringify!($illegal),
                    Self::$error => stringify!($error),
                    $(Self::$t => stringify!($t), Self::$r => stringify!($r),)+
                    _ => return None,
                })
            }
        }

        /// A request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Tmessage<'a> {
            $(
                #[doc = concat!("[`", stringify!($t), "`]")]
                $t($t $(<$t_lifetime>)?),
            )+
        }

        impl<'a> Tmessage<'a> {
            /// The `type` of the message.
            #[must_use]
            pub const fn kind(&self) -> MessageType {
                match self { $(Self::$t(_) => MessageType::$t,)+ }
            }

            fn body_length(&self) -> usize {
                match self { $(Self::$t(body) => body.length(),)+ }
            }

            fn decode(decoder: &mut Decoder<'a>) -> Result<Self, WireError> {
                match decoder.message() {
                    $(MessageType::$t => Body::decode(decoder).map(Self::$t),)+
                    message if message.name().is_none() => Err(WireError::UnknownType { number: message.0 }),
                    message => Err(WireError::NotARequest { message }),
                }
            }

            fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), WireError> {
                match self { $(Self::$t(body) => body.encode(encoder),)+ }
            }

            /// Bytes of data that follow the head: `count` of a Twrite, 0 for all others.
            #[must_use]
            pub fn data_length(&self) -> u32 {
                match self { $(Self::$t(body) => body.data_length(),)+ }
            }
        }

        $(
            impl<'a> From<$t $(<$t_lifetime>)?> for Tmessage<'a> {
                fn from(body: $t $(<$t_lifetime>)?) -> Self {
                    Self::$t(body)
                }
            }
        )+

        /// A reply.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Rmessage<'a> {
            #[doc = concat!("[`", stringify!($error), "`]")]
            $error($error),
            $(
                #[doc = concat!("[`", stringify!($r), "`]")]
                $r($r $(<$r_lifetime>)?),
            )+
        }

        impl<'a> Rmessage<'a> {
            /// The `type` of the message.
            #[must_use]
            pub const fn kind(&self) -> MessageType {
                match self {
                    Self::$error(_) => MessageType::$error,
                    $(Self::$r(_) => MessageType::$r,)+
                }
            }

            fn body_length(&self) -> usize {
                match self {
                    Self::$error(body) => body.length(),
                    $(Self::$r(body) => body.length(),)+
                }
            }

            fn decode(decoder: &mut Decoder<'a>) -> Result<Self, WireError> {
                match decoder.message() {
                    MessageType::$error => Body::decode(decoder).map(Self::$error),
                    $(MessageType::$r => Body::decode(decoder).map(Self::$r),)+
                    message if message.name().is_none() => Err(WireError::UnknownType { number: message.0 }),
                    message => Err(WireError::NotAReply { message }),
                }
            }

            fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), WireError> {
                match self {
                    Self::$error(body) => body.encode(encoder),
                    $(Self::$r(body) => body.encode(encoder),)+
                }
            }

            /// Bytes of data that follow the head: `count` of an Rread or Rreaddir, 0 for all others.
            #[must_use]
            pub fn data_length(&self) -> u32 {
                match self {
                    Self::$error(body) => body.data_length(),
                    $(Self::$r(body) => body.data_length(),)+
                }
            }
        }

        impl<'a> From<$error> for Rmessage<'a> {
            fn from(body: $error) -> Self {
                Self::$error(body)
            }
        }

        $(
            impl<'a> From<$r $(<$r_lifetime>)?> for Rmessage<'a> {
                fn from(body: $r $(<$r_lifetime>)?) -> Self {
                    Self::$r(body)
                }
            }
        )+
    };
}

message_table! {
    never sent: Tlerror = 6;
    reply only: Rlerror = 7;
    Tstatfs = 8, Rstatfs = 9;
    Tlopen = 12, Rlopen = 13;
    Tlcreate<'a> = 14, Rlcreate = 15;
    Tsymlink<'a> = 16, Rsymlink = 17;
    Tmknod<'a> = 18, Rmknod = 19;
    Trename<'a> = 20, Rrename = 21;
    Treadlink = 22, Rreadlink<'a> = 23;
    Tgetattr = 24, Rgetattr = 25;
    Tsetattr = 26, Rsetattr = 27;
    Txattrwalk<'a> = 30, Rxattrwalk = 31;
    Txattrcreate<'a> = 32, Rxattrcreate = 33;
    Treaddir = 40, Rreaddir = 41;
    Tfsync = 50, Rfsync = 51;
    Tlock<'a> = 52, Rlock = 53;
    Tgetlock<'a> = 54, Rgetlock<'a> = 55;
    Tlink<'a> = 70, Rlink = 71;
    Tmkdir<'a> = 72, Rmkdir = 73;
    Trenameat<'a> = 74, Rrenameat = 75;
    Tunlinkat<'a> = 76, Runlinkat = 77;
    Tversion<'a> = 100, Rversion<'a> = 101;
    Tauth<'a> = 102, Rauth = 103;
    Tattach<'a> = 104, Rattach = 105;
    Tflush = 108, Rflush = 109;
    Twalk<'a> = 110, Rwalk<'a> = 111;
    Tread = 116, Rread = 117;
    Twrite = 118, Rwrite = 119;
    Tclunk = 120, Rclunk = 121;
    Tremove = 122, Rremove = 123;
}

impl From<u8> for MessageType {
    #[inline]
    fn from(number: u8) -> Self {
        Self(number)
    }
}

impl From<MessageType> for u8 {
    #[inline]
    fn from(message: MessageType) -> Self {
        message.0
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}

/// Both directions are emitted alike.
macro_rules! emission {
    ($($message:ident),*) => { $(
        impl $message<'_> {
            /// Bytes that [`emit`](Self::emit) puts: the message without its data.
            #[must_use]
            pub fn head_length(&self) -> usize {
                total_length([HEADER_LENGTH, self.body_length()])
            }

            /// Puts the message at the start of `buffer`, all but its data, and returns how many bytes that are.
            /// The `size` in it counts the data, too.
            ///
            /// # Errors
            /// [`WireError::BufferTooSmall`], and `buffer` is as it was; [`WireError::MessageTooLong`] and
            /// [`WireError::StringTooLong`] for what 9P cannot say.
            pub fn emit(&self, tag: Tag, buffer: &mut [u8]) -> Result<usize, WireError> {
                let length = self.head_length();
                let mut encoder = emit_header(self.kind(), tag, length, self.data_length(), buffer)?;
                self.encode(&mut encoder)?;
                Ok(length)
            }
        }
    )* };
}

emission!(Tmessage, Rmessage);

/// Puts the header of a message with a head of `length` bytes and `data` bytes after it.
#[inline]
fn emit_header(
    kind: MessageType,
    tag: Tag,
    length: usize,
    data: u32,
    buffer: &mut [u8],
) -> Result<Encoder<'_>, WireError> {
    let size = u32::try_from(length).ok().and_then(|length| length.checked_add(data));
    let size = size.ok_or(WireError::MessageTooLong { message: kind })?;
    let mut encoder = Encoder::new(kind, buffer, length)?;
    encoder.put(&Header { size, kind, tag }.emit())?;
    Ok(encoder)
}

/// Puts a message of a known type at the start of `buffer`, all but its data, and returns what was put: what
/// [`Rmessage::emit`] does for one of any type.
///
/// # Errors
/// As [`Rmessage::emit`].
#[inline]
pub(crate) fn emit<'b, 'm>(
    message: &impl Message<'m>,
    tag: Tag,
    buffer: &'b mut [u8],
) -> Result<&'b [u8], WireError> {
    let head = HEADER_LENGTH.saturating_add(message.length());
    emit_as(message, tag, head, buffer)?;
    Ok(buffer.get(..head).unwrap_or_default())
}

#[inline]
fn emit_as<'m, M: Message<'m>>(
    message: &M,
    tag: Tag,
    head: usize,
    buffer: &mut [u8],
) -> Result<(), WireError> {
    message.encode(&mut emit_header(M::KIND, tag, head, message.data_length(), buffer)?)
}

/// Takes the body of a request of a known type apart; `head` is the message without the data of a Twrite, and begins with
/// `header`, by which it was gathered: what [`parse_t`] does for one of any type.
///
/// # Errors
/// The check that the message failed.
#[inline]
pub(crate) fn parse_body<'a, M: Message<'a>>(header: Header, head: &'a [u8]) -> Result<M, WireError> {
    let body = head.get(HEADER_LENGTH..).ok_or(WireError::HeaderTruncated { length: head.len() })?;
    let mut decoder = Decoder::new(M::KIND, body);
    let message = M::decode(&mut decoder)?;
    decoder.finish()?;
    check_data(header, head.len(), message.data_length())?;
    Ok(message)
}

/// Takes a request apart.
///
/// `head` is the message from its first byte on, without the data of a Twrite ([`Header::head_length`]
/// bytes); `total` is the length of the message as it arrived, with that data.
///
/// # Errors
/// The check that the message failed. Where the header is there, [`Header::parse`] gives the tag to answer to.
pub fn parse_t(head: &[u8], total: u32) -> Result<(Tag, Tmessage<'_>), WireError> {
    let (header, mut decoder) = parse_header(head, total)?;
    let message = Tmessage::decode(&mut decoder)?;
    decoder.finish()?;
    check_data(header, head.len(), message.data_length())?;
    Ok((header.tag, message))
}

/// Takes a reply apart.
///
/// `head` is the message from its first byte on, without the data of an Rread or Rreaddir; `total` is the
/// length of the message as it arrived, with that data.
///
/// # Errors
/// The check that the message failed.
pub fn parse_r(head: &[u8], total: u32) -> Result<(Tag, Rmessage<'_>), WireError> {
    let (header, mut decoder) = parse_header(head, total)?;
    let message = Rmessage::decode(&mut decoder)?;
    decoder.finish()?;
    check_data(header, head.len(), message.data_length())?;
    Ok((header.tag, message))
}

/// Takes a reply apart whose data stands right behind it, as a client has it. The data of any other message
/// than Rread and Rreaddir is empty. [`Dirents`] takes that of Rreaddir apart.
///
/// # Errors
/// The check that the message failed.
pub fn parse_r_with_data(message: &[u8]) -> Result<(Tag, Rmessage<'_>, &[u8]), WireError> {
    let total = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let (header, _) = parse_header(message, total)?;
    let head_length = match header.kind {
        MessageType::Rread | MessageType::Rreaddir => message.len().min(RREAD_HEADER as usize),
        _ => message.len(),
    };
    let (head, data) = message.split_at_checked(head_length).unwrap_or((message, &[]));
    let (tag, parsed) = parse_r(head, total)?;
    Ok((tag, parsed, data))
}

/// The header, checked against the message's length, and a cursor behind it.
fn parse_header(head: &[u8], total: u32) -> Result<(Header, Decoder<'_>), WireError> {
    let (header, body) =
        head.split_first_chunk::<HEADER_LENGTH>().ok_or(WireError::HeaderTruncated { length: head.len() })?;
    let header = Header::parse(header);
    if header.size != total {
        return Err(WireError::SizeMismatch { message: header.kind, size: header.size, total });
    }
    Ok((header, Decoder::new(header.kind, body)))
}

/// Checks that `count` bytes of data are what `header.size` has room for behind a head of `head_length`.
#[inline]
fn check_data(header: Header, head_length: usize, count: u32) -> Result<(), WireError> {
    let head_length = u32::try_from(head_length).unwrap_or(u32::MAX);
    match header.size.checked_sub(head_length) {
        Some(follow) if follow == count => Ok(()),
        Some(follow) => Err(WireError::DataMismatch { message: header.kind, count, follow }),
        None => Err(WireError::SizeMismatch { message: header.kind, size: header.size, total: head_length }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_number_survives_both_ways() {
        for number in 0..=u8::MAX {
            assert_eq!(u8::from(MessageType::from(number)), number);
        }
        assert_eq!(MessageType::from(107).name(), None);
    }

    #[test]
    fn requests_have_even_numbers_and_their_replies_the_next() {
        for number in 0..u8::MAX {
            let Some(request) = MessageType::from(number).name().and_then(|name| name.strip_prefix('T'))
            else {
                continue;
            };
            assert_eq!(number % 2, 0, "T{request}");
            let reply = MessageType::from(number + 1).name().and_then(|name| name.strip_prefix('R'));
            assert_eq!(reply, Some(request));
        }
    }

    #[test]
    fn a_type_that_does_not_fit_is_an_error_of_its_own() {
        let empty = |number| [7, 0, 0, 0, number, 1, 0];
        let error = parse_t(&empty(112), 7).unwrap_err();
        assert_eq!(error, WireError::UnknownType { number: 112 });
        let error = parse_t(&empty(6), 7).unwrap_err();
        assert_eq!(error, WireError::NotARequest { message: MessageType::Tlerror });
        let error = parse_t(&empty(121), 7).unwrap_err();
        assert_eq!(error, WireError::NotARequest { message: MessageType::Rclunk });
        let error = parse_r(&empty(120), 7).unwrap_err();
        assert_eq!(error, WireError::NotAReply { message: MessageType::Tclunk });
        let error = parse_r(&empty(107), 7).unwrap_err();
        assert_eq!(error, WireError::UnknownType { number: 107 });
    }

    #[test]
    fn a_size_other_than_the_length_that_arrived_is_an_error() {
        for size in [0, 6, 8, u32::MAX] {
            let header = Header { size, kind: MessageType::Rclunk, tag: Tag(1) };
            let mismatch = WireError::SizeMismatch { message: MessageType::Rclunk, size, total: 7 };
            assert_eq!(parse_r(&header.emit(), 7), Err(mismatch));
        }
        // The caller may take the size from the header itself; then the bytes decide.
        let header = Header { size: 6, kind: MessageType::Rclunk, tag: Tag(1) };
        assert!(parse_r(&header.emit(), 6).is_err());
        assert_eq!(parse_r(&header.emit()[..6], 6), Err(WireError::HeaderTruncated { length: 6 }));
    }
}
