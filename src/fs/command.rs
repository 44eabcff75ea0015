// SPDX-License-Identifier: MIT OR Apache-2.0

//! The commands that the bridge writes to `ctl/clients/N/ctl`: one line of text each, parsed strictly.
//!
//! ```text
//! attach port=8 size=128 desc=0x1000 avail=0x1800 used=0x2000 next=0 features=0x130000000
//!        doorbell=0x10000 memory=0x0+0x8000000@0x0,0x100000000+0x8000000@0x8000000
//! doorbell 0x20000
//! detach
//! ```
//!
//! (`attach` is one line; it is folded here.) Numbers are decimal, or hexadecimal behind `0x`. Every key of
//! `attach` is given exactly once, in any order.

use heapless::Vec;

use crate::mem::guest::MAX_REGIONS;

/// Most ranges of guest-physical memory that a client may have.
pub const MAX_MEMORY_RANGES: usize = MAX_REGIONS;

/// What the bridge asks of one client's slot.
#[expect(clippy::large_enum_variant, reason = "one lives at a time, on the stack of a control request")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Take a client's memory and ring into service.
    Attach(Attachment),
    /// Signal replies with this doorbell value from now on.
    Doorbell(u32),
    /// Stop the ring, forget the session, let go of the memory.
    Detach,
}

/// Where a client's memory and ring are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Device number, on PCI bus 0, of the root port behind which the client's memory was plugged; 0…31.
    pub port: u8,
    /// Number of entries of the ring.
    pub size: u32,
    /// Guest-physical address of the descriptor area.
    pub descriptors: u64,
    /// Guest-physical address of the driver area (the available ring).
    pub available: u64,
    /// Guest-physical address of the device area (the used ring).
    pub used: u64,
    /// Index of the first available entry to take.
    pub next: u16,
    /// The feature bits that were negotiated with the driver.
    pub features: u64,
    /// What to write to the doorbell register to signal the client.
    pub doorbell: u32,
    /// The client's memory.
    pub memory: Vec<MemoryRange, MAX_MEMORY_RANGES>,
}

/// A range of a client's guest-physical memory, and where it lies in the shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryRange {
    /// Guest-physical address of the first byte.
    pub guest: u64,
    /// Length in bytes.
    pub length: u64,
    /// Offset of the first byte in the shared memory.
    pub offset: u64,
}

/// Why a line is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandError<'a> {
    /// The line is not UTF-8.
    NotText,
    /// The first word is no verb.
    UnknownVerb(&'a str),
    /// Words behind a command that takes none.
    Trailing(&'a str),
    /// A word of `attach` that is not `key=value`, or whose key is unknown.
    UnknownKey(&'a str),
    /// A key that was given twice.
    Repeated(&'static str),
    /// A key that was not given.
    Missing(&'static str),
    /// A value that is no number, or out of its range.
    BadNumber(&'static str, &'a str),
    /// A range of `memory` that is not `guest+length@offset`.
    BadRange(&'a str),
    /// More ranges than [`MAX_MEMORY_RANGES`].
    TooManyRanges,
}

impl core::fmt::Display for CommandError<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotText => f.write_str("the command is not UTF-8"),
            Self::UnknownVerb(word) => write!(f, "unknown command {word:?}; known: attach, doorbell, detach"),
            Self::Trailing(word) => write!(f, "unexpected {word:?} behind the command"),
            Self::UnknownKey(word) => write!(f, "attach: {word:?} is no key=value that it knows"),
            Self::Repeated(key) => write!(f, "attach: {key} is given twice"),
            Self::Missing(key) => write!(f, "attach: {key} is missing"),
            Self::BadNumber(key, value) => write!(f, "{key}: {value:?} is no number in its range"),
            Self::BadRange(range) => write!(f, "attach: memory range {range:?} is not guest+length@offset"),
            Self::TooManyRanges => write!(f, "attach: more than {MAX_MEMORY_RANGES} memory ranges"),
        }
    }
}

impl Command {
    /// Parses one line; a newline at its end is allowed.
    ///
    /// # Errors
    /// [`CommandError`] names the first thing that is wrong.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError<'_>> {
        let text = core::str::from_utf8(line).map_err(|_| CommandError::NotText)?;
        let mut words = text.split_ascii_whitespace();
        let command = match words.next().unwrap_or("") {
            "attach" => return parse_attach(words).map(Command::Attach),
            "doorbell" => {
                let value = words.next().ok_or(CommandError::Missing("doorbell"))?;
                Command::Doorbell(number("doorbell", value)?)
            }
            "detach" => Command::Detach,
            verb => return Err(CommandError::UnknownVerb(verb)),
        };
        match words.next() {
            None => Ok(command),
            Some(word) => Err(CommandError::Trailing(word)),
        }
    }
}

/// A decimal, or behind `0x` hexadecimal, number that `T` can hold.
fn number<'a, T: TryFrom<u64>>(key: &'static str, text: &'a str) -> Result<T, CommandError<'a>> {
    parse_u64(text).and_then(|value| T::try_from(value).ok()).ok_or(CommandError::BadNumber(key, text))
}

/// The number of a device on a PCI bus.
fn device_number<'a>(key: &'static str, text: &'a str) -> Result<u8, CommandError<'a>> {
    number(key, text).and_then(
        |device| {
            if device < 32 { Ok(device) } else { Err(CommandError::BadNumber(key, text)) }
        },
    )
}

fn parse_u64(text: &str) -> Option<u64> {
    // `from_str_radix` would take a sign.
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hexadecimal| (hexadecimal, 16));
    if digits.starts_with('+') { None } else { u64::from_str_radix(digits, radix).ok() }
}

/// Keeps the value of a key, once.
fn set<T>(key: &'static str, field: &mut Option<T>, value: T) -> Result<(), CommandError<'static>> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(CommandError::Repeated(key)),
    }
}

fn parse_attach<'a>(words: impl Iterator<Item = &'a str>) -> Result<Attachment, CommandError<'a>> {
    let (mut port, mut size, mut next, mut features, mut doorbell) = (None, None, None, None, None);
    let (mut descriptors, mut available, mut used, mut memory) = (None, None, None, None);
    for word in words {
        let (key, value) = word.split_once('=').ok_or(CommandError::UnknownKey(word))?;
        match key {
            "port" => set("port", &mut port, device_number("port", value)?)?,
            "size" => set("size", &mut size, number("size", value)?)?,
            "desc" => set("desc", &mut descriptors, number("desc", value)?)?,
            "avail" => set("avail", &mut available, number("avail", value)?)?,
            "used" => set("used", &mut used, number("used", value)?)?,
            "next" => set("next", &mut next, number("next", value)?)?,
            "features" => set("features", &mut features, number("features", value)?)?,
            "doorbell" => set("doorbell", &mut doorbell, number("doorbell", value)?)?,
            "memory" => set("memory", &mut memory, parse_memory(value)?)?,
            _ => return Err(CommandError::UnknownKey(word)),
        }
    }
    let port = port.ok_or(CommandError::Missing("port"))?;
    Ok(Attachment {
        port,
        size: size.ok_or(CommandError::Missing("size"))?,
        descriptors: descriptors.ok_or(CommandError::Missing("desc"))?,
        available: available.ok_or(CommandError::Missing("avail"))?,
        used: used.ok_or(CommandError::Missing("used"))?,
        next: next.ok_or(CommandError::Missing("next"))?,
        features: features.ok_or(CommandError::Missing("features"))?,
        doorbell: doorbell.ok_or(CommandError::Missing("doorbell"))?,
        memory: memory.ok_or(CommandError::Missing("memory"))?,
    })
}

fn parse_memory(list: &str) -> Result<Vec<MemoryRange, MAX_MEMORY_RANGES>, CommandError<'_>> {
    let mut ranges = Vec::new();
    for text in list.split(',') {
        let range = parse_range(text).ok_or(CommandError::BadRange(text))?;
        ranges.push(range).map_err(|_| CommandError::TooManyRanges)?;
    }
    Ok(ranges)
}

fn parse_range(text: &str) -> Option<MemoryRange> {
    let (guest, rest) = text.split_once('+')?;
    let (length, offset) = rest.split_once('@')?;
    Some(MemoryRange { guest: parse_u64(guest)?, length: parse_u64(length)?, offset: parse_u64(offset)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;

    const ATTACH: &str = "attach port=8 size=128 desc=0x1000 avail=0x1800 used=0x2000 next=65535 \
        features=0x130000000 doorbell=0x10000 memory=0x0+0x8000000@0x0,0x100000000+4096@0x8000000";

    #[test]
    fn an_attach_line_carries_ring_and_memory() {
        let Ok(Command::Attach(attachment)) = Command::parse(ATTACH.as_bytes()) else { panic!() };
        assert_eq!((attachment.port, attachment.size, attachment.next), (8, 128, 65535));
        assert_eq!((attachment.descriptors, attachment.available, attachment.used), (0x1000, 0x1800, 0x2000));
        assert_eq!((attachment.features, attachment.doorbell), (0x1_3000_0000, 0x10000));
        assert_eq!(
            attachment.memory.as_slice(),
            [
                MemoryRange { guest: 0, length: 0x800_0000, offset: 0 },
                MemoryRange { guest: 0x1_0000_0000, length: 4096, offset: 0x800_0000 }
            ]
        );
    }

    #[test]
    fn short_commands_stand_alone_and_may_end_in_a_newline() {
        assert_eq!(Command::parse(b"detach\n"), Ok(Command::Detach));
        assert_eq!(Command::parse(b"doorbell 0x20000\n"), Ok(Command::Doorbell(0x20000)));
        assert_eq!(Command::parse(b"detach now"), Err(CommandError::Trailing("now")));
        assert_eq!(Command::parse(b"doorbell"), Err(CommandError::Missing("doorbell")));
    }

    #[test]
    fn every_key_of_attach_is_needed_exactly_once() {
        for key in ["port", "size", "desc", "avail", "used", "next", "features", "doorbell", "memory"] {
            let without: String = ATTACH
                .split_ascii_whitespace()
                .filter(|word| !word.starts_with(&format!("{key}=")))
                .map(|word| format!("{word} "))
                .collect();
            assert_eq!(Command::parse(without.as_bytes()), Err(CommandError::Missing(key)));
            let value = ATTACH.split_ascii_whitespace().find(|w| w.starts_with(&format!("{key}="))).unwrap();
            let twice = format!("{ATTACH} {value}");
            assert_eq!(Command::parse(twice.as_bytes()), Err(CommandError::Repeated(key)));
        }
    }

    #[test]
    fn what_is_no_command_is_refused_by_the_word_that_is_wrong() {
        assert_eq!(Command::parse(b"\xff"), Err(CommandError::NotText));
        assert_eq!(Command::parse(b""), Err(CommandError::UnknownVerb("")));
        assert_eq!(Command::parse(b"reboot"), Err(CommandError::UnknownVerb("reboot")));
        assert_eq!(Command::parse(b"attach colour=blue"), Err(CommandError::UnknownKey("colour=blue")));
        assert_eq!(Command::parse(b"attach port=32"), Err(CommandError::BadNumber("port", "32")));
        assert_eq!(Command::parse(b"attach port=256"), Err(CommandError::BadNumber("port", "256")));
        assert_eq!(Command::parse(b"attach next=+1"), Err(CommandError::BadNumber("next", "+1")));
        assert_eq!(Command::parse(b"attach size=-1"), Err(CommandError::BadNumber("size", "-1")));
        assert_eq!(Command::parse(b"attach memory=1+2"), Err(CommandError::BadRange("1+2")));
        let many = format!("attach memory={}", ["0+1@0"; MAX_MEMORY_RANGES + 1].join(","));
        assert_eq!(Command::parse(many.as_bytes()), Err(CommandError::TooManyRanges));
    }
}
