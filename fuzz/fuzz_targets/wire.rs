// SPDX-License-Identifier: MIT OR Apache-2.0

//! Any bytes as a 9P message, in both directions. What parses must emit to the same bytes, and only those bytes: neither with
//! one less nor with one more is it the same message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use skerry::wire::{
    Dirents, HEADER, Header, MessageType, RREAD_HEADER, Rmessage, Tag, Tmessage, WireError, parse_r,
    parse_r_with_data, parse_t,
};

/// What fills a buffer before a message is put into it.
const POISON: u8 = 0xa5;
/// Bytes behind the room for a message, which nothing may touch.
const BEHIND: usize = 16;

/// Checks that `emit` puts exactly `head`, and nothing at all into a buffer that is too small.
fn check_emission(head: &[u8], emit: impl Fn(&mut [u8]) -> Result<usize, WireError>) {
    let mut buffer = vec![POISON; head.len() + BEHIND];
    assert_eq!(emit(&mut buffer), Ok(head.len()));
    let (front, behind) = buffer.split_at(head.len());
    assert_eq!(front, head, "what parses emits to the same bytes");
    assert!(behind.iter().all(|byte| *byte == POISON), "nothing is put behind the message");
    let mut small = vec![POISON; head.len() - 1];
    assert!(matches!(emit(&mut small), Err(WireError::BufferTooSmall { .. })));
    assert!(small.iter().all(|byte| *byte == POISON), "a buffer that is too small is left as it was");
}

/// `head` with `size` in its header set to `total`.
fn resized(head: &[u8], total: u32) -> Vec<u8> {
    let mut head = head.to_vec();
    head[..4].copy_from_slice(&total.to_le_bytes());
    head
}

/// That a message of a head of `head`, `total` bytes long, is none if a byte of its head is missing or there is one more.
fn check_extent(head: &[u8], total: u32, parses: impl Fn(&[u8], u32) -> bool) {
    if let Some(shorter) = total.checked_sub(1).filter(|_| head.len() > HEADER as usize) {
        assert!(!parses(&resized(&head[..head.len() - 1], shorter), shorter), "a byte is missing");
    }
    if let Some(longer) = total.checked_add(1) {
        let mut more = resized(head, longer);
        more.push(0);
        assert!(!parses(&more, longer), "there is a byte too many");
    }
}

fn request(head: &[u8], total: u32) {
    match parse_t(head, total) {
        Ok((tag, message)) => {
            check_emission(head, |buffer| message.emit(tag, buffer));
            check_extent(head, total, |head, total| parse_t(head, total).is_ok());
            assert_eq!(message.head_length(), head.len());
            assert_eq!(head.len() as u64 + u64::from(message.data_length()), u64::from(total));
            if let Tmessage::Twalk(walk) = message {
                assert_eq!(walk.wnames.iter().count(), walk.wnames.len());
            }
        }
        Err(error) => tell(&error),
    }
}

fn reply(head: &[u8], total: u32) {
    match parse_r(head, total) {
        Ok((tag, message)) => {
            check_emission(head, |buffer| message.emit(tag, buffer));
            check_extent(head, total, |head, total| parse_r(head, total).is_ok());
            assert_eq!(message.head_length(), head.len());
            assert_eq!(head.len() as u64 + u64::from(message.data_length()), u64::from(total));
            if let Rmessage::Rwalk(walk) = message {
                assert_eq!(walk.wqids.iter().count(), walk.wqids.len());
            }
        }
        Err(error) => tell(&error),
    }
}

/// An error is said in words without a panic, too.
fn tell(error: &WireError) {
    assert!(!error.to_string().is_empty());
}

/// A whole reply, as a client has it.
fn reply_with_data(message: &[u8]) {
    let Ok((_, parsed, data)) = parse_r_with_data(message) else { return };
    match parsed {
        Rmessage::Rread(reply) => assert_eq!(data.len(), reply.count as usize),
        Rmessage::Rreaddir(reply) => assert_eq!(data.len(), reply.count as usize),
        _ => assert!(data.is_empty()),
    }
    entries(data);
}

/// The entries of a directory: what is taken off is put back to the same bytes.
fn entries(data: &[u8]) {
    let mut rest = data;
    let mut cut = false;
    for entry in Dirents::new(data) {
        assert!(!cut, "an entry that is cut short is the last");
        match entry {
            Ok(entry) => {
                let (front, behind) = rest.split_at(entry.encoded_length());
                check_emission(front, |buffer| entry.emit(buffer));
                rest = behind;
            }
            Err(error) => {
                tell(&error);
                cut = true;
            }
        }
    }
    assert!(cut || rest.is_empty(), "entries are taken to the end");
}

fuzz_target!(|message: &[u8]| {
    let total = u32::try_from(message.len()).unwrap_or(u32::MAX);
    entries(message);
    reply_with_data(message);
    request(message, total);
    reply(message, total);
    let Some(first) = message.first_chunk::<{ HEADER as usize }>() else { return };
    let header = Header::parse(first);
    assert_eq!(header.emit(), *first);
    assert_eq!(MessageType::from(u8::from(header.kind)), header.kind);
    assert_ne!(header.kind.to_string(), "");
    assert_eq!(Tag(header.tag.0), header.tag);
    // As a server takes it, which believes the size as far as there are bytes.
    if let Some(head) = message.get(..header.head_length() as usize) {
        request(head, header.size);
    }
    // As a client takes it.
    if let MessageType::Rread | MessageType::Rreaddir = header.kind
        && let Some(head) = message.get(..RREAD_HEADER as usize)
    {
        reply(head, header.size);
    }
    // With the size that it should have, so that what follows the header is what matters.
    let right = resized(message, total);
    reply_with_data(&right);
    request(&right[..Header { size: total, ..header }.head_length() as usize], total);
    reply(&right, total);
});
