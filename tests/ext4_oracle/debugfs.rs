// SPDX-License-Identifier: MIT OR Apache-2.0

//! The judge's side: running the tools of e2fsprogs, and reading what `debugfs` says of an inode.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use skerry::fs::{FileKind, Timestamp};

/// A tool of e2fsprogs, which may be in a directory that is not in a user's PATH. Times are told in UTC.
pub fn tool(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("TZ", "UTC").env("LC_ALL", "C");
    command
}

/// Runs `command` to its end.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| {
        panic!("{:?} cannot be run ({error}): install the package e2fsprogs", command.get_program())
    })
}

/// Runs `command`, which must exit with one of `allowed`; returns what it printed.
pub fn run(command: &mut Command, allowed: &[i32]) -> String {
    let output = output(command);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.code().is_some_and(|code| allowed.contains(&code)), "{command:?}: {text}");
    text
}

/// Has one `debugfs` process carry out `commands` on `image`; returns the output of each. An error of any is a failure.
pub fn script(image: &Path, write: bool, commands: &[String]) -> Vec<Vec<u8>> {
    let file = image.with_extension("debugfs");
    fs::write(&file, commands.join("\n") + "\n").unwrap();
    let mut debugfs = tool("debugfs");
    debugfs.args(write.then_some("-w")).arg("-f").arg(&file).arg(image);
    let Output { stdout, stderr, .. } = output(&mut debugfs);
    // The first line is the version.
    let complaints: Vec<_> = stderr.split(|byte| *byte == b'\n').skip(1).collect();
    let complaints = String::from_utf8_lossy(&complaints.concat()).into_owned();
    assert!(complaints.is_empty(), "{debugfs:?} complains: {complaints}");

    // Each command is echoed in front of its output.
    let mut rest = &stdout[..];
    let mut outputs = Vec::new();
    for (index, command) in commands.iter().enumerate() {
        let echo = format!("debugfs: {command}\n");
        rest = rest.strip_prefix(echo.as_bytes()).unwrap_or_else(|| panic!("no echo of {command}"));
        let end = commands.get(index + 1).map_or(rest.len(), |next| {
            find(rest, format!("debugfs: {next}\n").as_bytes()).expect("debugfs carries out every command")
        });
        outputs.push(rest[..end].to_vec());
        rest = &rest[end..];
    }
    outputs
}

fn find(bytes: &[u8], sought: &[u8]) -> Option<usize> {
    // At the start of a line only, which keeps this fast enough for megabytes.
    if bytes.starts_with(sought) {
        return Some(0);
    }
    let mut from = 0;
    while let Some(newline) = bytes[from..].iter().position(|byte| *byte == b'\n') {
        from += newline + 1;
        if bytes[from..].starts_with(sought) {
            return Some(from);
        }
    }
    None
}

/// One line of `ls -p`.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub inode: u64,
    pub mode: u32,
    pub name: Vec<u8>,
}

/// The output of `ls -p`: `/inode/mode/uid/gid/name/size/` and a newline for each entry, without unused entries. A name may hold a
/// newline too, and no slash.
pub fn entries(output: &[u8]) -> Vec<Entry> {
    let number =
        |field: &[u8], radix| u64::from_str_radix(std::str::from_utf8(field).unwrap(), radix).unwrap();
    let fields: Vec<&[u8]> = output.split(|byte| *byte == b'/').skip(1).collect();
    let (entries, rest) = fields.as_chunks::<7>();
    assert!(rest.is_empty(), "{}", output.escape_ascii());
    let entry = |[inode, mode, _, _, name, ..]: &[&[u8]; 7]| Entry {
        inode: number(inode, 10),
        mode: number(mode, 8).try_into().unwrap(),
        name: name.to_vec(),
    };
    entries.iter().map(entry).filter(|entry| entry.inode != 0).collect()
}

/// Makes of an access control list as `ea_get` gives it what Linux gives: an entry that names nobody has the id
/// `ACL_UNDEFINED_ID`, not 0.
pub fn set_undefined_ids(list: &mut [u8]) {
    for entry in list[4..].chunks_exact_mut(8) {
        if ![0x02, 0x08].contains(&entry[0]) {
            assert_eq!(entry[4..], [0; 4]);
            entry[4..].fill(0xff);
        }
    }
}

/// What `stat` tells of an inode.
#[derive(Debug)]
pub struct Stat {
    pub kind: FileKind,
    pub permissions: u32,
    pub flags: u64,
    pub generation: u64,
    pub version: u64,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub links: u64,
    pub blocks: u64,
    pub accessed: Timestamp,
    pub modified: Timestamp,
    pub changed: Timestamp,
    pub created: Option<Timestamp>,
    pub device: u64,
    pub fast_link: Option<String>,
    pub attributes: Vec<String>,
    /// The written blocks of the file: which block of the volume holds each.
    pub mapping: BTreeMap<u64, u64>,
}

impl Stat {
    /// Whether the content is in the inode: `EXT4_INLINE_DATA_FL`.
    pub fn is_inline(&self) -> bool {
        self.flags & 0x1000_0000 != 0
    }

    /// Reads the output of `stat`.
    pub fn parse(output: &[u8]) -> Self {
        let text = String::from_utf8_lossy(output);
        let after = |label: &str| {
            let start = text.find(label).unwrap_or_else(|| panic!("{label} in {text}")) + label.len();
            text[start..].split_whitespace().next().unwrap()
        };
        let number = |label| after(label).parse::<i64>().unwrap();
        // debugfs prints them as signed.
        let identity = |label| u32::try_from(number(label) & 0xffff_ffff).unwrap();
        let hexadecimal = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
        let kind = text.split_once("Type: ").unwrap().1.split_once("    ").unwrap().0;
        let time = |label: &str| {
            let line = text.lines().find_map(|line| line.trim_start().strip_prefix(label))?;
            let (raw, date) = line.trim().split_once(" -- ").unwrap();
            let (low, extra) = raw.split_once(':').map_or((raw, 0), |(low, extra)| (low, hexadecimal(extra)));
            Some(timestamp(hexadecimal(low).try_into().unwrap(), extra.try_into().unwrap(), date))
        };
        let (high, low) = after("Version:").split_once(':').unwrap_or(("0", after("Version:")));
        Self {
            kind: match kind {
                "regular" => FileKind::Regular,
                "directory" => FileKind::Directory,
                "character special" => FileKind::CharacterDevice,
                "block special" => FileKind::BlockDevice,
                "symlink" => FileKind::Symlink,
                "FIFO" => FileKind::Fifo,
                "socket" => FileKind::Socket,
                other => panic!("debugfs calls an inode {other:?}"),
            },
            permissions: u32::from_str_radix(after("Mode:"), 8).unwrap(),
            flags: hexadecimal(after("Flags:")),
            generation: number("Generation:").try_into().unwrap(),
            version: hexadecimal(high) << 32 | hexadecimal(low),
            uid: identity("User:"),
            gid: identity("Group:"),
            size: number("Size:").try_into().unwrap(),
            links: number("Links:").try_into().unwrap(),
            blocks: number("Blockcount:").try_into().unwrap(),
            accessed: time("atime:").unwrap(),
            modified: time("mtime:").unwrap(),
            changed: time("ctime:").unwrap(),
            created: time("crtime:"),
            device: text.split_once("Device major/minor number: ").map_or(0, |(_, rest)| {
                let (major, rest) = rest.split_once(':').unwrap();
                let minor: u64 = rest.split(' ').next().unwrap().parse().unwrap();
                minor & 0xff | major.parse::<u64>().unwrap() << 8 | (minor & !0xff) << 12
            }),
            fast_link: text.split_once("Fast link dest: \"").map(|(_, rest)| {
                let length = rest.find("\"\n").unwrap_or(rest.len());
                rest[..length].to_owned()
            }),
            attributes: text
                .lines()
                .skip_while(|line| *line != "Extended attributes:")
                .skip(1)
                .take_while(|line| line.starts_with("  "))
                .map(|line| line.trim_start().split_once(" (").unwrap().0.to_owned())
                .collect(),
            mapping: mapping(&text),
        }
    }
}

/// The time that Linux reads from the two words that debugfs prints: the low one is signed, and two bits of the
/// other say how many times 2^32 seconds are added (the kernel's Documentation/filesystems/ext4/inodes.rst).
///
/// The date that debugfs prints must agree. From e2fsprogs 1.47.1 on it takes the low word as unsigned, which Linux
/// does not: where the sign is set, it is 2^32 seconds late.
fn timestamp(low: u32, extra: u32, date: &str) -> Timestamp {
    let linux = i64::from(low.cast_signed()) + (i64::from(extra & 3) << 32);
    let printed = seconds(date);
    let is_late = low >> 31 == 1 && printed == linux + (1 << 32);
    assert!(printed == linux || is_late, "{low:#010x}:{extra:08x} is {linux}, and {printed} by its date");
    Timestamp { seconds: linux, nanoseconds: extra >> 2 }
}

/// Reads the list behind `EXTENTS:` or `BLOCKS:`: `(0-3):100-103, (4-7[u]):200-207, (IND):104`. Blocks that were never written
/// are marked `[u]`; names in the place of numbers are blocks of the mapping itself.
fn mapping(text: &str) -> BTreeMap<u64, u64> {
    let mut mapping = BTreeMap::new();
    let list = text.split_once("EXTENTS:\n").or_else(|| text.split_once("\nBLOCKS:\n"));
    let items = list.map_or("", |(_, rest)| rest.split("\nTOTAL:").next().unwrap().trim());
    for item in items.split(", ").filter(|item| !item.is_empty()) {
        let (logical, physical) =
            item.trim_start_matches('(').split_once("):").unwrap_or_else(|| panic!("{item}"));
        if logical.ends_with("[u]") || logical.starts_with(|first: char| first.is_ascii_uppercase()) {
            continue;
        }
        let range = |text: &str| -> std::ops::RangeInclusive<u64> {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            first.parse().unwrap()..=last.trim().parse().unwrap()
        };
        mapping.extend(range(logical).zip(range(physical)));
    }
    mapping
}

/// The seconds since 1970 of a date like `Sun Nov 22 17:54:31 2026`.
fn seconds(date: &str) -> i64 {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAYS_BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let fields: Vec<&str> = date.split_whitespace().collect();
    let month = MONTHS.iter().position(|month| *month == fields[1]).unwrap();
    let day: i64 = fields[2].parse().unwrap();
    let clock: i64 = fields[3].split(':').fold(0, |sum, part| sum * 60 + part.parse::<i64>().unwrap());
    let year: i64 = fields[4].parse().unwrap();
    let leap_days = |years: i64| years / 4 - years / 100 + years / 400;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969)
        + DAYS_BEFORE[month]
        + i64::from(is_leap && month > 1)
        + day
        - 1;
    days * 86400 + clock
}
