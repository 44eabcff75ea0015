// SPDX-License-Identifier: MIT OR Apache-2.0

//! The volumes that targets start from: made once by `mkfs.ext4`, `debugfs` and `e2fsck`, in files in the directory that
//! `SKERRY_FUZZ_VOLUMES` names. Each time they are made they have the same structures in the same places, so that an input does the
//! same everywhere.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A sort of volume.
#[derive(Debug, Clone, Copy)]
pub struct Flavour {
    /// The name of its file.
    pub name: &'static str,
    /// As `mkfs.ext4` takes it.
    size: &'static str,
    options: &'static [&'static str],
    /// Whether the core can write it.
    pub written: bool,
}

/// All of them; those that can be written come first.
pub const FLAVOURS: [Flavour; 5] = [
    Flavour {
        name: "blocks-of-1-kib",
        size: "3072K",
        options: &["-b", "1024", "-I", "256", "-N", "208", "-J", "size=1"],
        written: true,
    },
    Flavour {
        name: "blocks-of-4-kib",
        size: "10M",
        options: &["-b", "4096", "-I", "256", "-N", "192", "-J", "size=4"],
        written: true,
    },
    Flavour {
        name: "without-checksums",
        size: "3072K",
        options: &[
            "-b",
            "1024",
            "-I",
            "128",
            "-N",
            "208",
            "-J",
            "size=1",
            "-O",
            "^metadata_csum,^64bit,^flex_bg,uninit_bg",
        ],
        written: true,
    },
    Flavour {
        name: "block-maps",
        size: "2048K",
        options: &["-b", "1024", "-N", "208", "-t", "ext2"],
        written: false,
    },
    Flavour {
        name: "inline-data",
        size: "2048K",
        options: &["-b", "1024", "-I", "256", "-N", "208", "-O", "^has_journal,inline_data,ea_inode"],
        written: false,
    },
];

/// How many flavours can be written.
pub const WRITTEN: usize = 3;

/// Names in the directory that has an index.
const MANY: usize = 120;

/// Where the volumes are.
///
/// # Panics
/// If the environment does not say.
#[must_use]
pub fn directory() -> PathBuf {
    let place = std::env::var_os("SKERRY_FUZZ_VOLUMES")
        .expect("SKERRY_FUZZ_VOLUMES names a directory (fuzz/run.sh sets it)");
    let place = PathBuf::from(place);
    fs::create_dir_all(&place).expect("a directory for the volumes");
    place
}

/// The file of `name`, which `make` makes at another path if it is not there.
pub fn kept(name: &str, make: impl FnOnce(&Path)) -> File {
    let place = directory();
    let path = place.join(name);
    if !path.exists() {
        // No dot in it: what is made beside it on the way gets an extension. Two targets may be at this at a time.
        let new = place.join(format!("{name}-{}", std::process::id()));
        make(&new);
        fs::rename(&new, &path).expect("a new volume");
    }
    File::open(path).expect("a volume that was made")
}

/// Runs a tool of e2fsprogs, with the time that it sees fixed.
fn run(program: &str, arguments: &[&str], allowed: &[i32]) {
    let output = Command::new(program)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .env("E2FSPROGS_FAKE_TIME", "1800000000")
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error} (install the package e2fsprogs)"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.code().is_some_and(|code| allowed.contains(&code)),
        "{program} {arguments:?}: {said}"
    );
}

/// Has `debugfs` carry out `requests` on the volume at `path`.
pub fn debugfs(path: &Path, requests: &[String]) {
    let script = path.with_extension("script");
    fs::write(&script, requests.join("\n") + "\n").expect("a script");
    let [script_path, path] = [&script, path].map(|path| path.to_str().expect("a path of text"));
    run("debugfs", &["-w", "-f", script_path, path], &[0]);
    fs::remove_file(script).expect("the script");
}

/// The file of a volume of this flavour.
#[must_use]
pub fn plain(flavour: &Flavour) -> File {
    kept(flavour.name, |path| make(flavour, path))
}

fn make(flavour: &Flavour, path: &Path) {
    let text = path.to_str().expect("a path of text");
    let uuid = "5be2219e-0000-4000-8000-5ce2219e5ce2";
    let seeds = format!("hash_seed={uuid},nodiscard,root_owner=0:0");
    let mut arguments = vec!["-q", "-F", "-U", uuid, "-E", seeds.as_str()];
    arguments.extend(flavour.options);
    arguments.extend([text, flavour.size]);
    run("mkfs.ext4", &arguments, &[0]);

    // Files for debugfs to copy.
    let source = |name: &str, bytes: &[u8]| {
        let file = path.with_extension(name);
        fs::write(&file, bytes).expect("a file to be copied");
        file.to_str().expect("a path of text").to_owned()
    };
    let comb: Vec<u8> = (0..800_usize).flat_map(|index| [u8::from(index % 2 == 0); 1024]).collect();
    let comb = source("comb", &comb);
    let small = source("small", b"a few bytes");
    let large = source("large", &[0x5a; 9000]);
    let value = source("value", &[b'v'; 600]);
    let mut requests: Vec<String> = Vec::new();
    let mut ask = |request: String| requests.push(request);
    for directory in ["/one", "/one/two", "/one/two/three", "/many"] {
        ask(format!("mkdir {directory}"));
    }
    ask(format!("write {comb} /comb"));
    ask(format!("write {small} /small"));
    ask(format!("write {small} /one/two/three/deep"));
    ask(format!("write {large} /large"));
    ask("symlink /fast one/two".to_owned());
    ask(format!("symlink /slow {}", "one/".repeat(20)));
    ask("ln /small /one/linked".to_owned());
    ask("sif /small links_count 2".to_owned());
    ask("mknod /pipe p".to_owned());
    ask("mknod /device c 5 1".to_owned());
    ask("ea_set /small user.name value".to_owned());
    ask("ea_set /one user.colour grey".to_owned());
    ask(format!("ea_set -f {value} /large user.long"));
    ask(format!("ea_set -f {value} /comb user.long"));
    for index in 0..MANY {
        ask(format!("ln /small /many/{index:03}-{}", "n".repeat(40)));
    }
    ask(format!("sif /small links_count {}", MANY + 2));
    debugfs(path, &requests);
    for extension in ["comb", "small", "large", "value"] {
        fs::remove_file(path.with_extension(extension)).expect("a file that was copied");
    }
    // It gives the large directory its index.
    run("e2fsck", &["-fyD", text], &[0, 1]);
    run("e2fsck", &["-fn", text], &[0]);
}
