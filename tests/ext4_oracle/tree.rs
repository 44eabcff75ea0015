// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the volumes hold: a source tree for `mkfs.ext4 -d`, and what `debugfs` adds to it.
//!
//! Whatever needs privileges or a particular file system under the source tree (devices, owners, attributes, times) is
//! added by `debugfs`, so that any user builds the same volumes.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Hard links in `/many`.
pub const MANY: usize = 3000;
/// Where the symbolic links `link-LENGTH` are.
pub const LINKS: &str = "links";

/// Bytes that look random and are the same each time.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Makes the source tree at `root`.
pub fn build(root: &Path) {
    let directory = |path: &str| {
        let path = root.join(path);
        fs::create_dir_all(&path).unwrap();
        path
    };
    for empty in ["empty-directory", "special", LINKS, "times", "attributes", "attributes/directory"] {
        directory(empty);
    }

    let mut deep = directory("deep");
    for level in 0..40 {
        deep.push(format!("level-{level}"));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), b"forty levels down\n").unwrap();

    let names = directory("names");
    for index in 0..30 {
        fs::write(names.join(format!("{index:03}{}", "n".repeat(252))), [index]).unwrap();
    }
    for name in ["größe", "日本語", "😀", "with space", "-dash", "...", "new\u{85}line", "\\back\"quote'"]
    {
        fs::write(names.join(name), name).unwrap();
    }
    fs::write(names.join("日".repeat(85)), b"255 bytes of UTF-8").unwrap();

    let many = directory("many");
    for target in 0..40 {
        fs::write(many.join(format!("target-{target}")), [target]).unwrap();
    }
    for index in 0..MANY {
        let umlaut = if index % 7 == 0 { "ä-日本-" } else { "" };
        let link = many.join(format!("{umlaut}hard-link-number-{index:05}-of-many"));
        fs::hard_link(many.join(format!("target-{}", index % 40)), link).unwrap();
    }

    let modes = directory("modes");
    for mode in [0o0, 0o400, 0o644, 0o777, 0o1755, 0o2755, 0o4755, 0o7777] {
        let path = modes.join(format!("{mode:04o}"));
        // Readable for `mkfs.ext4 -d`; debugfs takes it away.
        fs::write(&path, format!("{mode:o}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o400)).unwrap();
    }

    for name in ["times/epochs", "times/other", "attributes/small", "attributes/full", "attributes/large"] {
        fs::write(root.join(name), name).unwrap();
    }
    contents(&directory("content"));
}

/// The regular files whose content matters.
fn contents(content: &Path) {
    // Around what fits into an inode, and around each block size.
    for size in
        [0, 1, 59, 60, 61, 100, 150, 160, 500, 900, 1023, 1024, 1025, 2048, 4095, 4096, 4097, 12_289, 300_000]
    {
        fs::write(content.join(format!("size-{size}")), noise(size as u64, size)).unwrap();
    }
    fs::write(content.join("megabytes"), noise(1, 3 << 20)).unwrap();

    let file = File::create(content.join("sparse")).unwrap();
    for offset in [0, 1 << 20, (5 << 20) - 3] {
        file.write_all_at(&noise(offset, 5000), offset).unwrap();
    }
    file.set_len((6 << 20) + 123).unwrap();

    let file = File::create(content.join("hole-only")).unwrap();
    file.set_len(100_000).unwrap();

    // An extent, or a pointer, for each of them.
    let file = File::create(content.join("fragments")).unwrap();
    for fragment in 0..2000 {
        file.write_all_at(&noise(fragment, 100), fragment * 8192).unwrap();
    }

    let file = File::create(content.join("unwritten")).unwrap();
    file.write_all_at(&noise(3, 4096), 0).unwrap();
    file.write_all_at(&noise(4, 4096), 400 << 10).unwrap();
}

/// The length of targets of symbolic links that a volume with blocks of `block_size` can have.
pub fn link_lengths(block_size: usize) -> impl Iterator<Item = usize> {
    [1, 58, 59, 60, 61, 100, 150, 157, 500, 1023, 2047, 4095]
        .into_iter()
        .filter(move |length| *length < block_size)
}

/// The target of a symbolic link of `length` bytes.
pub fn link_target(length: usize) -> String {
    "abcdefghi/klmnopqrst".chars().cycle().take(length).collect()
}

/// What a volume allows of the additions.
#[derive(Debug, Clone, Copy)]
pub struct Abilities {
    /// In bytes.
    pub block_size: usize,
    /// Inodes have room for nanoseconds, creation times and attributes.
    pub large_inodes: bool,
    /// Files are mapped by extents, which can be unwritten.
    pub extents: bool,
    /// Values of attributes may be larger than a block.
    pub large_values: bool,
}

/// The `debugfs` commands that add to the volume what `mkfs.ext4 -d` does not. Files they need are put into `scratch`.
pub fn additions(abilities: Abilities, scratch: &Path) -> Vec<String> {
    let mut commands: Vec<String> = [
        "cd /special",
        "mknod fifo p",
        "mknod tty c 4 70",
        "mknod zero-minor b 8 0",
        "mknod large-minor b 8 300",
        "mknod large-both c 300 60000",
        "mknod socket p",
        "sif socket mode 0140755",
        "sif fifo mode 010600",
        "sif tty mode 020666",
        "sif tty uid 70000",
        "sif tty gid 4000000000",
        "sif fifo uid 65535",
        "sif /modes/0000 mode 0100000",
        "sif /times/other generation 0x89abcdef",
        "sif /times/other version 0x12345678",
    ]
    .map(str::to_owned)
    .into();
    commands.push(format!("cd /{LINKS}"));
    commands.extend(
        link_lengths(abilities.block_size)
            .map(|length| format!("symlink link-{length} {}", link_target(length))),
    );
    commands.extend(times(abilities.large_inodes));
    commands.extend(attributes(abilities, scratch));
    if abilities.extents {
        let blocks = (400 << 10) / abilities.block_size;
        commands.push(format!("fallocate /content/unwritten {} {}", blocks / 2, blocks - 1));
    }
    if abilities.block_size == 1024 && !abilities.extents {
        // Beyond what two levels of a block map reach.
        let far = scratch.join("far");
        File::create(&far).unwrap().write_all_at(b"far away", 66 << 20).unwrap();
        commands.push("cd /content".to_owned());
        commands.push(format!("write {} far", far.display()));
    }
    commands
}

/// Times around the limits of each epoch. Without large inodes there is only the first.
fn times(large_inodes: bool) -> Vec<String> {
    let mut commands = Vec::new();
    let mut set = |file: &str, field: &str, seconds: i64, nanoseconds: u32| {
        let low = i64::from(seconds as i32);
        commands.push(format!("sif /times/{file} {field} @{low}"));
        if large_inodes {
            let epoch = u32::try_from((seconds - low) >> 32).unwrap();
            commands.push(format!("sif /times/{file} {field}_extra {:#x}", nanoseconds << 2 | epoch));
        }
    };
    set("other", "atime", -2, 999_999_999);
    set("other", "mtime", i64::from(i32::MIN), 0);
    set("other", "ctime", i64::from(i32::MAX), 1);
    if large_inodes {
        set("epochs", "atime", 1 << 31, 123_456_789);
        set("epochs", "mtime", (1 << 32) + 5, 1);
        set("epochs", "ctime", (2 << 32) - 100, 999_999_999);
        // The last second that the format knows.
        set("epochs", "crtime", (3 << 32) + i64::from(i32::MAX), 500_000_000);
    }
    commands
}

/// Attributes of every kind of inode. (Not of a link in an inode's own space, nor large ones of any link: e2fsprogs 1.47
/// damages those.)
fn attributes(abilities: Abilities, scratch: &Path) -> Vec<String> {
    let mut commands = Vec::new();
    let mut set = |file: &str, name: &str, value: &[u8]| {
        let path: PathBuf = scratch.join(format!("value-{}", commands.len()));
        fs::write(&path, value).unwrap();
        commands.push(format!("ea_set -f {} /{file} {name}", path.display()));
    };
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let acl = [
        2_u32.to_le_bytes().to_vec(),
        entry(0x01, 6, u32::MAX),
        entry(0x02, 4, 1000),
        entry(0x02, 0, 4_000_000_000),
        entry(0x04, 4, u32::MAX),
        entry(0x08, 5, 70000),
        entry(0x10, 7, u32::MAX),
        entry(0x20, 0, u32::MAX),
    ]
    .concat();
    for file in
        ["attributes/small", "attributes/directory", "special/fifo", "links/link-58", "links/link-500"]
    {
        set(file, "user.small", b"value");
        set(file, "trusted.binary", &[0, 1, 0xff, 0, b'\n']);
        set(file, "security.capability", &noise(5, 20));
    }
    for file in ["attributes/small", "attributes/directory"] {
        set(file, "system.posix_acl_access", &acl);
        set(file, &format!("user.{}", "n".repeat(200)), b"a long name");
    }
    set("attributes/directory", "system.posix_acl_default", &acl);
    // Nearly all of a block.
    for index in 0..8 {
        let length = abilities.block_size / 10 - 20;
        set("attributes/full", &format!("user.attribute-{index}"), &noise(index, length));
    }
    if abilities.large_values {
        set("attributes/large", "user.block", &noise(6, abilities.block_size));
        // What is larger than a block debugfs takes from its command line only, which has room for 8 KiB.
        for (file, name, length) in
            [("large", "user.more", 4097), ("large", "trusted.odd", 7777), ("directory", "user.two", 5000)]
        {
            let value: String = noise(8, length).iter().map(|byte| char::from(b'a' + byte % 26)).collect();
            commands.push(format!("ea_set /attributes/{file} {name} {value}"));
        }
    }
    commands
}
