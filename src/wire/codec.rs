// SPDX-License-Identifier: MIT OR Apache-2.0

//! How fields become bytes and bytes fields: a cursor for each direction, the trait of what they move, and
//! the two macros that declare messages and numbered names.

use super::{MessageType, WireError};

/// A field type of 9P: it knows its length on the wire, and both directions.
pub trait Field<'a>: Sized {
    /// Bytes on the wire.
    fn length(&self) -> usize;

    /// Takes the value off the front of `decoder`; `field` is its name for the error.
    fn decode(decoder: &mut Decoder<'a>, field: &'static str) -> Result<Self, WireError>;

    /// Puts the value; `field` is its name for the error.
    fn encode(&self, encoder: &mut Encoder<'_>, field: &'static str) -> Result<(), WireError>;
}

/// All of a message between header and data: what [`message!`] implements.
pub trait Body<'a>: Sized {
    /// Bytes of all fields.
    fn length(&self) -> usize;

    /// Takes all fields, in their order on the wire.
    fn decode(decoder: &mut Decoder<'a>) -> Result<Self, WireError>;

    /// Puts all fields, in their order on the wire.
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), WireError>;

    /// Bytes of data that follow the last field, outside of the head.
    fn data_length(&self) -> u32 {
        0
    }
}

/// Takes fields off the front of a message.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    message: MessageType,
}

impl<'a> Decoder<'a> {
    /// A cursor at the start of `bytes`; errors will name `message`.
    #[inline]
    pub fn new(message: MessageType, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, message }
    }

    /// The message that errors name.
    pub fn message(&self) -> MessageType {
        self.message
    }

    /// What was not taken yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    #[inline]
    pub fn bytes(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(self.truncated(count, field))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(self.truncated(N, field))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Checks that everything was taken.
    #[inline]
    pub fn finish(self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(WireError::TrailingBytes { message: self.message, count }),
        }
    }

    fn truncated(&self, needed: usize, field: &'static str) -> WireError {
        WireError::Truncated { message: self.message, field, needed, left: self.rest.len() }
    }
}

/// Puts fields into a buffer that the caller owns.
#[derive(Debug)]
pub struct Encoder<'b> {
    rest: &'b mut [u8],
    message: MessageType,
}

impl<'b> Encoder<'b> {
    /// A cursor at the start of `buffer`, in which there must be room for `length` bytes; errors will name
    /// `message`. If there is no room, `buffer` is left as it was.
    #[inline]
    pub fn new(message: MessageType, buffer: &'b mut [u8], length: usize) -> Result<Self, WireError> {
        let available = buffer.len();
        let rest = buffer.get_mut(..length).ok_or(WireError::BufferTooSmall {
            message,
            needed: length,
            available,
        })?;
        Ok(Self { rest, message })
    }

    /// The message that errors name.
    pub fn message(&self) -> MessageType {
        self.message
    }

    /// Appends `bytes`.
    #[inline(always)] // A field of a known length is then one store.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let rest = core::mem::take(&mut self.rest);
        let available = rest.len();
        let (room, rest) = rest.split_at_mut_checked(bytes.len()).ok_or(WireError::BufferTooSmall {
            message: self.message,
            needed: bytes.len(),
            available,
        })?;
        room.copy_from_slice(bytes);
        self.rest = rest;
        Ok(())
    }
}

/// The sum of lengths of things that are in memory, and so no more than `usize::MAX` unless the same memory
/// stands in it many times; then the sum is too large for any buffer, and that is what the saturation says.
pub fn total_length<const N: usize>(lengths: [usize; N]) -> usize {
    lengths.into_iter().fold(0, usize::saturating_add)
}

macro_rules! integer_field {
    ($($integer:ty),*) => {$(
        impl Field<'_> for $integer {
            fn length(&self) -> usize {
                size_of::<Self>()
            }

            #[inline]
            fn decode(decoder: &mut Decoder<'_>, field: &'static str) -> Result<Self, WireError> {
                decoder.array(field).map(Self::from_le_bytes)
            }

            #[inline(always)]
            fn encode(&self, encoder: &mut Encoder<'_>, _field: &'static str) -> Result<(), WireError> {
                encoder.put(&self.to_le_bytes())
            }
        }
    )*};
}

integer_field!(u8, u16, u32, u64, i64);

/// A string, `name[s]`.
impl<'a> Field<'a> for &'a [u8] {
    fn length(&self) -> usize {
        total_length([size_of::<u16>(), self.len()])
    }

    fn decode(decoder: &mut Decoder<'a>, field: &'static str) -> Result<Self, WireError> {
        let length = u16::decode(decoder, field)?;
        decoder.bytes(usize::from(length), field)
    }

    fn encode(&self, encoder: &mut Encoder<'_>, field: &'static str) -> Result<(), WireError> {
        let length = u16::try_from(self.len()).map_err(|_| WireError::StringTooLong {
            message: encoder.message(),
            field,
            length: self.len(),
        })?;
        length.encode(encoder, field)?;
        encoder.put(self)
    }
}

/// Declares a message: its struct, and how it is parsed and emitted, field after field in the order given.
/// `data[count]` after the struct says that `count` bytes of data follow the fields, outside of the head.
macro_rules! message {
    (
        $(#[$meta:meta])*
        pub struct $name:ident;
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name;

        crate::wire::codec::message!(@body $name {});
    };
    (
        $(#[$meta:meta])*
        pub struct $name:ident $(<$lifetime:lifetime>)? {
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)+
        }
        $(data[$count:ident])?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name $(<$lifetime>)? {
            $($(#[$field_meta])* pub $field: $type,)+
        }

        crate::wire::codec::message!(@body $name $(<$lifetime>)? { $($field,)+ } $($count)?);
    };
    (@body $name:ident $(<$lifetime:lifetime>)? { $($field:ident,)* } $($count:ident)?) => {
        impl<'a> crate::wire::codec::Body<'a> for $name $(<$lifetime>)? {
            fn length(&self) -> usize {
                crate::wire::codec::total_length([$(crate::wire::codec::Field::length(&self.$field)),*])
            }

            #[inline]
            fn decode(
                _decoder: &mut crate::wire::codec::Decoder<'a>,
            ) -> Result<Self, crate::wire::WireError> {
                Ok(Self { $($field: crate::wire::codec::Field::decode(_decoder, stringify!($field))?,)* })
            }

            #[inline(always)]
            fn encode(
                &self,
                _encoder: &mut crate::wire::codec::Encoder<'_>,
            ) -> Result<(), crate::wire::WireError> {
                $(crate::wire::codec::Field::encode(&self.$field, _encoder, stringify!($field))?;)*
                Ok(())
            }

            $(
                fn data_length(&self) -> u32 {
                    self.$count
                }
            )?
        }
    };
}

/// Declares names for the values of a byte. A value that has no name is kept as `Unknown`.
macro_rules! byte_names {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $value:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
            /// A value without a name.
            Unknown(u8),
        }

        impl From<u8> for $name {
            fn from(value: u8) -> Self {
                match value {
                    $($value => Self::$variant,)+
                    _ => Self::Unknown(value),
                }
            }
        }

        impl From<$name> for u8 {
            fn from(name: $name) -> Self {
                match name {
                    $($name::$variant => $value,)+
                    $name::Unknown(value) => value,
                }
            }
        }

        crate::wire::codec::field_as!($name as u8, Self::from, u8::from);
    };
}

/// Implements [`Field`] for a type that travels as an integer.
macro_rules! field_as {
    ($name:ty as $integer:ty, $decode:expr, $encode:expr) => {
        impl crate::wire::codec::Field<'_> for $name {
            fn length(&self) -> usize {
                size_of::<$integer>()
            }

            fn decode(
                decoder: &mut crate::wire::codec::Decoder<'_>,
                field: &'static str,
            ) -> Result<Self, crate::wire::WireError> {
                <$integer as crate::wire::codec::Field>::decode(decoder, field).map($decode)
            }

            #[inline(always)]
            fn encode(
                &self,
                encoder: &mut crate::wire::codec::Encoder<'_>,
                field: &'static str,
            ) -> Result<(), crate::wire::WireError> {
                let encode: fn(Self) -> $integer = $encode;
                crate::wire::codec::Field::encode(&encode(*self), encoder, field)
            }
        }
    };
}

/// Declares a set of flags that travels as an integer. Bits without a name are kept.
macro_rules! flags {
    (
        $(#[$meta:meta])*
        pub struct $name:ident: $integer:ty {
            $($(#[doc = $flag_doc:literal])* const $flag:ident = $value:expr;)+
        }
    ) => {
        bitflags::bitflags! {
            $(#[$meta])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
            pub struct $name: $integer {
                $($(#[doc = $flag_doc])* const $flag = $value;)+
                const _ = !0;
            }
        }

        crate::wire::codec::field_as!($name as $integer, Self::from_bits_retain, |flags| flags.bits());
    };
}

pub(super) use {byte_names, field_as, flags, message};

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: MessageType = MessageType::Tversion;

    #[test]
    fn integers_are_little_endian() {
        let mut buffer = [0xa5; 16];
        let mut encoder = Encoder::new(MESSAGE, &mut buffer, 15).unwrap();
        0x01u8.encode(&mut encoder, "a").unwrap();
        0x0302u16.encode(&mut encoder, "b").unwrap();
        0x0706_0504u32.encode(&mut encoder, "c").unwrap();
        0x0f0e_0d0c_0b0a_0908u64.encode(&mut encoder, "d").unwrap();
        assert_eq!(buffer, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xa5]);

        let mut decoder = Decoder::new(MESSAGE, &buffer);
        assert_eq!(u8::decode(&mut decoder, "a"), Ok(0x01));
        assert_eq!(u16::decode(&mut decoder, "b"), Ok(0x0302));
        assert_eq!(u32::decode(&mut decoder, "c"), Ok(0x0706_0504));
        assert_eq!(u64::decode(&mut decoder, "d"), Ok(0x0f0e_0d0c_0b0a_0908));
        assert_eq!(decoder.finish(), Err(WireError::TrailingBytes { message: MESSAGE, count: 1 }));
    }

    #[test]
    fn a_string_longer_than_its_message_is_an_error_with_both_lengths() {
        let mut decoder = Decoder::new(MESSAGE, &[5, 0, b'a', b'b']);
        assert_eq!(
            <&[u8]>::decode(&mut decoder, "version"),
            Err(WireError::Truncated { message: MESSAGE, field: "version", needed: 5, left: 2 })
        );
    }

    #[test]
    fn a_string_of_65535_bytes_can_be_emitted_and_no_longer_one() {
        let text = std::vec![b'x'; 65536];
        let mut buffer = std::vec![0xa5; 65540];
        let mut encoder = Encoder::new(MESSAGE, &mut buffer, 65540).unwrap();
        assert_eq!(
            text.as_slice().encode(&mut encoder, "version"),
            Err(WireError::StringTooLong { message: MESSAGE, field: "version", length: 65536 })
        );
        text.get(1..).unwrap().encode(&mut encoder, "version").unwrap();
        assert_eq!(buffer[..3], [0xff, 0xff, b'x']);
        assert_eq!(buffer[65536..], [b'x', 0xa5, 0xa5, 0xa5]);
    }

    #[test]
    fn a_buffer_too_small_is_refused_and_left_as_it_was() {
        let mut buffer = [0xa5; 4];
        assert!(Encoder::new(MESSAGE, &mut buffer, 5).is_err());
        let mut encoder = Encoder::new(MESSAGE, &mut buffer, 3).unwrap();
        assert_eq!(
            0u32.encode(&mut encoder, "msize"),
            Err(WireError::BufferTooSmall { message: MESSAGE, needed: 4, available: 3 })
        );
        assert_eq!(buffer, [0xa5; 4]);
    }
}
