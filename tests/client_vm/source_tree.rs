// SPDX-License-Identifier: MIT OR Apache-2.0

//! A tree with one of everything that a file system can be asked for, as far as mkfs.ext4 -d can take it over.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Names in the directory `many`; the files behind them have [`LINKS`] names each.
pub const MANY: usize = 20_000;
const LINKS: usize = 10;

/// Size of the file `large`, in bytes.
pub const LARGE: u64 = 300 << 20;

/// Fills `root`.
pub fn fill(root: &Path) -> io::Result<()> {
    let mut noise = Noise(0x5eed);
    noise.write(&root.join("large"), LARGE)?;

    many(&root.join("many"), MANY, LINKS)?;
    many(&root.join("linear"), 1500, 1)?;

    let mut deep = root.join("deep");
    for level in 0..60 {
        deep.push(format!("level {level}"));
    }
    fs::create_dir_all(&deep)?;
    fs::write(deep.join("bottom"), "found\n")?;

    let names = root.join("names");
    fs::create_dir(&names)?;
    let short = [
        "Grüße, Jürgen",
        "岩礁",
        "👩‍🚀",
        " leading space",
        "new\nline",
        "back\\slash",
        "*?[]",
        "-n",
        "...",
        "a|b",
    ];
    // 255 bytes, of one character and of three bytes a character.
    for name in short.into_iter().map(str::to_owned).chain(["x".repeat(255), "礁".repeat(85)]) {
        fs::write(names.join(&name), name.as_bytes())?;
        fs::create_dir(names.join(&name).with_extension("d")).or_else(|error| match error.kind() {
            // A name of 255 bytes has no room for an extension.
            io::ErrorKind::InvalidFilename => Ok(()),
            _ => Err(error),
        })?;
    }
    fs::create_dir(names.join("岩".repeat(84)))?;

    let links = root.join("links");
    fs::create_dir(&links)?;
    fs::write(links.join("one"), "one file, three names\n")?;
    fs::hard_link(links.join("one"), links.join("two"))?;
    fs::hard_link(links.join("one"), root.join("three"))?;
    symlink("one", links.join("short"))?;
    // 59 bytes fit into an inode, 60 do not.
    symlink("5".repeat(59), links.join("fast"))?;
    symlink("6".repeat(60), links.join("slow"))?;
    symlink("/".repeat(4000), links.join("longest"))?;

    let modes = root.join("modes");
    fs::create_dir(&modes)?;
    for mode in [0o000, 0o400, 0o644, 0o755, 0o1777, 0o2755, 0o4711, 0o7777] {
        let path = modes.join(format!("{mode:o}"));
        fs::write(&path, [])?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }

    let sizes = root.join("sizes");
    fs::create_dir(&sizes)?;
    for size in [0, 1, 59, 60, 4095, 4096, 4097, 8168, 8169, 131_072, 131_073, 511_976, 512_000, 1 << 20] {
        noise.write(&sizes.join(size.to_string()), size)?;
    }

    sparse(&root.join("sparse"), &mut noise)
}

/// A directory of `count` names, of which `links` at a time belong to one file.
fn many(directory: &Path, count: usize, links: usize) -> io::Result<()> {
    fs::create_dir(directory)?;
    let path = |number: usize| directory.join(format!("{number:05} {}", "name".repeat(number % 20)));
    for number in 0..count {
        let first = number - number % links;
        if number == first {
            fs::write(path(number), format!("file {number}\n"))?;
        } else {
            fs::hard_link(path(first), path(number))?;
        }
    }
    Ok(())
}

/// Files with holes: at the start, in 700 places, and nearly everywhere.
fn sparse(directory: &Path, noise: &mut Noise) -> io::Result<()> {
    fs::create_dir(directory)?;
    // Every byte is read and hashed on both sides, so not larger than that takes seconds.
    File::create(directory.join("only a hole"))?.set_len(3 << 20)?;
    File::create(directory.join("a terabyte of hole"))?.set_len(1 << 40)?;
    let mut file = File::create(directory.join("comb"))?;
    for tooth in 0..700 {
        file.seek(SeekFrom::Start(tooth * 16384 + 4096))?;
        file.write_all(&noise.block())?;
    }
    file.set_len(700 * 16384)?;
    let mut file = File::create(directory.join("far"))?;
    file.write_all(b"start")?;
    file.seek(SeekFrom::Start(1 << 24))?;
    file.write_all(b"end")
}

/// Bytes that look random, and are the same each time (xorshift, Marsaglia 2003).
struct Noise(u64);

impl Noise {
    fn block(&mut self) -> [u8; 4096] {
        let mut block = [0; 4096];
        for word in block.chunks_exact_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_le_bytes());
        }
        block
    }

    fn write(&mut self, path: &Path, size: u64) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        let mut left = size;
        while left > 0 {
            let block = self.block();
            let length = left.min(4096);
            file.write_all(&block[..usize::try_from(length).unwrap()])?;
            left -= length;
        }
        file.flush()
    }
}
