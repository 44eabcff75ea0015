// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the tests of every message share: its golden bytes, written by hand from the specification, are what
//! it emits and what it parses from; cut, extended or changed bytes never panic.
//!
//! Golden bytes are written field by field, in hexadecimal as they stand on the wire, or as text in single
//! quotes: `15000000 64 ffff 00200000 0800 '9P2000.L'`. Text holds no space.

use std::vec;
use std::vec::Vec;

use super::*;

/// The bytes that `notation` stands for.
pub fn bytes(notation: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in notation.split_ascii_whitespace() {
        if let Some(text) = field.strip_prefix('\'') {
            bytes.extend_from_slice(text.strip_suffix('\'').unwrap().as_bytes());
        } else {
            assert!(field.len().is_multiple_of(2), "half a byte in {field}");
            for digits in field.as_bytes().chunks(2) {
                bytes.push(u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap());
            }
        }
    }
    bytes
}

/// `golden` and the request are the same thing.
pub fn request<'a>(golden: &str, tag: Tag, message: impl Into<Tmessage<'a>>) {
    request_with_data(golden, "", tag, message);
}

/// `golden`, with `data` behind it, and the request are the same thing.
pub fn request_with_data<'a>(golden: &str, data: &str, tag: Tag, message: impl Into<Tmessage<'a>>) {
    let (head, data, message) = (bytes(golden), bytes(data), message.into());
    let total = length_of(&head) + length_of(&data);
    assert_eq!(parse_t(&head, total), Ok((tag, message)));
    check_emit(&head, |buffer| message.emit(tag, buffer));
    check_damaged(&head, total, |head, total| {
        let (tag, message) = parse_t(head, total)?;
        Ok(emitted(message.head_length(), |buffer| message.emit(tag, buffer)))
    });
}

/// `golden` and the reply are the same thing.
pub fn reply<'a>(golden: &str, tag: Tag, message: impl Into<Rmessage<'a>>) {
    reply_with_data(golden, "", tag, message);
}

/// `golden`, with `data` behind it, and the reply are the same thing.
pub fn reply_with_data<'a>(golden: &str, data: &str, tag: Tag, message: impl Into<Rmessage<'a>>) {
    let (head, data, message) = (bytes(golden), bytes(data), message.into());
    let total = length_of(&head) + length_of(&data);
    assert_eq!(parse_r(&head, total), Ok((tag, message)));
    check_emit(&head, |buffer| message.emit(tag, buffer));
    check_damaged(&head, total, |head, total| {
        let (tag, message) = parse_r(head, total)?;
        Ok(emitted(message.head_length(), |buffer| message.emit(tag, buffer)))
    });

    let whole = [head.as_slice(), &data].concat();
    assert_eq!(parse_r_with_data(&whole), Ok((tag, message, data.as_slice())));
    for length in 0..whole.len() {
        assert!(parse_r_with_data(&whole[..length]).is_err(), "{length} bytes of {whole:x?}");
        let cut = resized(&whole[..length], length_of(&whole[..length]));
        assert!(parse_r_with_data(&cut).is_err(), "{cut:x?}");
    }
    let extended = [whole.as_slice(), &[0]].concat();
    assert!(parse_r_with_data(&extended).is_err());
    assert!(parse_r_with_data(&resized(&extended, length_of(&extended))).is_err());
}

/// What is emitted is `golden`, into a buffer that has room for it, and nothing into one that has not.
fn check_emit(golden: &[u8], emit: impl Fn(&mut [u8]) -> Result<usize, WireError>) {
    assert_eq!(emitted(golden.len(), &emit), golden);
    for length in 0..golden.len() {
        let mut buffer = vec![0xa5; length];
        assert!(emit(&mut buffer).is_err(), "{length} bytes were enough for {golden:x?}");
        assert!(buffer.iter().all(|&byte| byte == 0xa5));
    }
}

/// What `emit` puts: `length` bytes, and none behind them.
fn emitted(length: usize, emit: impl Fn(&mut [u8]) -> Result<usize, WireError>) -> Vec<u8> {
    let mut buffer = vec![0xa5; length + 8];
    assert_eq!(emit(&mut buffer), Ok(length));
    assert_eq!(buffer.split_off(length), [0xa5; 8]);
    buffer
}

/// Cut or extended bytes are an error; bytes with one changed are an error, or else emit to the same bytes
/// again.
fn check_damaged(golden: &[u8], total: u32, again: impl Fn(&[u8], u32) -> Result<Vec<u8>, WireError>) {
    for length in 0..golden.len() {
        let cut = &golden[..length];
        assert!(again(cut, total).is_err(), "{cut:x?}");
        let size = length_of(cut);
        assert!(again(&resized(cut, size), size).is_err(), "{cut:x?} with its true size");
    }

    let extended = [golden, &[0]].concat();
    assert!(again(&extended, total).is_err());
    assert!(again(&extended, total + 1).is_err());
    assert!(again(&resized(&extended, total + 1), total + 1).is_err());
    assert!(again(golden, total + 1).is_err());
    assert!(again(&resized(golden, total + 1), total + 1).is_err());

    for index in 0..golden.len() {
        for value in 0..=u8::MAX {
            let mut changed = golden.to_vec();
            changed[index] = value;
            if let Ok(bytes) = again(&changed, total) {
                assert_eq!(bytes, changed, "byte {index}");
            }
        }
    }
}

/// `message` with another `size`, as far as it has one.
fn resized(message: &[u8], size: u32) -> Vec<u8> {
    let mut message = message.to_vec();
    for (byte, new) in message.iter_mut().zip(size.to_le_bytes()) {
        *byte = new;
    }
    message
}

fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}
