// SPDX-License-Identifier: MIT OR Apache-2.0

//! Twalk: from a file down a path of up to sixteen names. (Plan 9 manual, walk(5).)

use core::fmt;

use super::codec::{Decoder, Encoder, Field, message, total_length};
use super::{Fid, MessageType, Qid, WireError};

/// The most names of a Twalk, and qids of an Rwalk.
pub const MAXWELEM: usize = 16;

message! {
    /// `size[4] Twalk tag[2] fid[4] newfid[4] nwname[2] nwname*(wname[s])`
    pub struct Twalk<'a> {
        /// Where the walk starts.
        pub fid: Fid,
        /// What will stand for its end; may be `fid` itself.
        pub newfid: Fid,
        /// The path. Empty: `newfid` becomes a second name of `fid`'s file.
        pub wnames: Names<'a>,
    }
}

message! {
    /// `size[4] Rwalk tag[2] nwqid[2] nwqid*(wqid[13])`
    pub struct Rwalk<'a> {
        /// The files that were reached, in order. Fewer than there were names: the next one does not exist,
        /// and `newfid` stands for nothing.
        pub wqids: Qids<'a>,
    }
}

/// The names of a Twalk.
pub type Names<'a> = WalkList<'a, &'a [u8]>;

/// The qids of an Rwalk.
pub type Qids<'a> = WalkList<'a, Qid>;

/// At most [`MAXWELEM`] elements: `n[2] n*(element)`.
///
/// Either taken from a message (checked then, and decoded again whenever it is iterated), or a slice to emit.
/// Two lists are equal when their elements are.
#[derive(Clone, Copy)]
pub struct WalkList<'a, T> {
    elements: Elements<'a, T>,
}

#[derive(Clone, Copy)]
enum Elements<'a, T> {
    /// `count` elements that decode without an error and take all of `bytes`.
    Encoded { count: u16, bytes: &'a [u8] },
    /// At most [`MAXWELEM`].
    Given { count: u16, elements: &'a [T] },
}

impl<'a, T: Field<'a> + Copy> WalkList<'a, T> {
    /// A list to emit; `None` if it has more than [`MAXWELEM`] elements.
    #[must_use]
    pub fn new(elements: &'a [T]) -> Option<Self> {
        let count = u16::try_from(elements.len()).ok()?;
        (elements.len() <= MAXWELEM).then_some(Self { elements: Elements::Given { count, elements } })
    }

    /// How many elements.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// The elements, in order.
    #[must_use]
    pub fn iter(&self) -> WalkListIter<'a, T> {
        let rest = match self.elements {
            Elements::Encoded { bytes, .. } => Rest::Encoded(Decoder::new(MessageType::Twalk, bytes)),
            Elements::Given { elements, .. } => Rest::Given(elements.iter()),
        };
        WalkListIter { left: self.len(), rest }
    }

    /// `n[2]`.
    fn count(&self) -> u16 {
        match self.elements {
            Elements::Encoded { count, .. } | Elements::Given { count, .. } => count,
        }
    }
}

impl<'a, T: Field<'a> + Copy> Field<'a> for WalkList<'a, T> {
    fn length(&self) -> usize {
        let elements = self.iter().map(|element| element.length()).fold(0, usize::saturating_add);
        total_length([size_of::<u16>(), elements])
    }

    fn decode(decoder: &mut Decoder<'a>, field: &'static str) -> Result<Self, WireError> {
        let count = u16::decode(decoder, field)?;
        if usize::from(count) > MAXWELEM {
            let count = usize::from(count);
            return Err(WireError::TooManyElements {
                message: decoder.message(),
                field,
                count,
                limit: MAXWELEM,
            });
        }
        let from_first = decoder.rest();
        for _ in 0..count {
            T::decode(decoder, field)?;
        }
        let length = from_first.len().saturating_sub(decoder.rest().len());
        let bytes = from_first.get(..length).unwrap_or(from_first);
        Ok(Self { elements: Elements::Encoded { count, bytes } })
    }

    fn encode(&self, encoder: &mut Encoder<'_>, field: &'static str) -> Result<(), WireError> {
        self.count().encode(encoder, field)?;
        self.iter().try_for_each(|element| element.encode(encoder, field))
    }
}

/// The elements of a [`WalkList`].
#[derive(Debug, Clone)]
pub struct WalkListIter<'a, T> {
    left: usize,
    rest: Rest<'a, T>,
}

#[derive(Debug, Clone)]
enum Rest<'a, T> {
    Encoded(Decoder<'a>),
    Given(core::slice::Iter<'a, T>),
}

impl<'a, T: Field<'a> + Copy> Iterator for WalkListIter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        match &mut self.rest {
            // It decoded without an error when the list was made.
            Rest::Encoded(decoder) => T::decode(decoder, "element").ok(),
            Rest::Given(elements) => elements.next().copied(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<'a, T: Field<'a> + Copy> ExactSizeIterator for WalkListIter<'a, T> {}

impl<'a, T: Field<'a> + Copy> IntoIterator for WalkList<'a, T> {
    type Item = T;
    type IntoIter = WalkListIter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T: Field<'a> + Copy + PartialEq> PartialEq for WalkList<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, T: Field<'a> + Copy + Eq> Eq for WalkList<'a, T> {}

impl<'a, T: Field<'a> + Copy + fmt::Debug> fmt::Debug for WalkList<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{QidKind, Tag, golden, parse_t};
    use super::*;
    use std::vec::Vec;

    fn twalk(names: &[&[u8]], check: impl FnOnce(Twalk<'_>)) {
        check(Twalk { fid: Fid(0x0304_0506), newfid: Fid(0x0708_090a), wnames: Names::new(names).unwrap() });
    }

    #[test]
    fn twalk_is_its_golden_bytes() {
        twalk(&[b"usr", b"..", b"lib64"], |message| {
            golden::request(
                "21000000 6e 0201 06050403 0a090807 0300 0300 'usr' 0200 '..' 0500 'lib64'",
                Tag(0x0102),
                message,
            );
        });
    }

    #[test]
    fn twalk_without_names_is_its_golden_bytes() {
        twalk(&[], |message| {
            golden::request("11000000 6e 0201 06050403 0a090807 0000", Tag(0x0102), message);
        });
    }

    #[test]
    fn rwalk_is_its_golden_bytes() {
        let qids = [
            Qid { kind: QidKind::DIR, version: 0x1112_1314, path: 0x2122_2324_2526_2728 },
            Qid { kind: QidKind::SYMLINK, version: 0, path: 2 },
        ];
        golden::reply(
            "23000000 6f 0201 0200 80 14131211 28272625 24232221 02 00000000 02000000 00000000",
            Tag(0x0102),
            Rwalk { wqids: Qids::new(&qids).unwrap() },
        );
    }

    #[test]
    fn rwalk_without_qids_is_its_golden_bytes() {
        golden::reply("09000000 6f 0201 0000", Tag(0x0102), Rwalk { wqids: Qids::new(&[]).unwrap() });
    }

    #[test]
    fn sixteen_names_parse_and_seventeen_are_an_error() {
        let sixteen = golden::bytes(
            "41000000 6e 0100 01000000 02000000 1000
             0100 'a' 0100 'b' 0100 'c' 0100 'd' 0100 'e' 0100 'f' 0100 'g' 0100 'h'
             0100 'i' 0100 'j' 0100 'k' 0100 'l' 0100 'm' 0100 'n' 0100 'o' 0100 'p'",
        );
        let Ok((_, super::super::Tmessage::Twalk(walk))) = parse_t(&sixteen, 65) else {
            panic!("{:?}", parse_t(&sixteen, 65));
        };
        assert_eq!(walk.wnames.len(), 16);
        assert_eq!(walk.wnames.iter().collect::<Vec<_>>().concat(), b"abcdefghijklmnop");

        let mut seventeen = sixteen;
        seventeen.extend_from_slice(&[1, 0, b'q']);
        seventeen[0] += 3;
        seventeen[15] = 17;
        assert_eq!(
            parse_t(&seventeen, 68),
            Err(WireError::TooManyElements {
                message: MessageType::Twalk,
                field: "wnames",
                count: 17,
                limit: 16
            })
        );
    }

    #[test]
    fn a_list_of_seventeen_cannot_be_made() {
        let names: [&[u8]; 17] = [b"a"; 17];
        assert!(Names::new(&names).is_none());
        assert!(Names::new(&names[1..]).is_some());
    }
}
