// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs that others wrote to judge file systems, in a Linux client: pjdfstest and fsx (`host/provision-tests.sh` builds them).
//!
//! Each runs on the share, and once on the kernel's own ext4 as a disk: what fails there says nothing of the server. What they say is
//! kept below `target/tmp`; the volumes are left to `tests/kernel.rs`.

#[path = "support/kept.rs"]
mod kept;
#[path = "support/length.rs"]
mod length;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use skerry_host::bridge::{self, Bridge, Socket};
use skerry_host::client_vm::{Cache, Disk, Mount, Options, Output, Server, output};
use skerry_host::{service_vm, workspace};
use tempfile::TempDir;

/// All tests of pjdfstest 0.2.2.
const PJDFSTEST: usize = 398;

/// Sets times of 0.1 s and reads them back. The client's kernel cuts them: v9fs leaves `s_time_gran` at the second that `alloc_super`
/// sets (fs/super.c), to which `timestamp_truncate` (fs/inode.c) rounds down what `utimensat` asks for, before it is sent.
/// `tests/writing.rs` shows that the server keeps nanoseconds; QEMU's server is no better off, which a test here shows.
const CUT_BY_THE_CLIENT: &str = "utimensat::subsecond";

/// Makes as many links as `pathconf` allows. Linux has no such limit for 9P, and pjdfstest skips what it cannot know.
const NO_LINK_MAX: &str = "link::link_count_max";

/// Operations of each run of fsx.
fn fsx_operations() -> usize {
    length::fsx_operations(2000)
}

/// A directory of its own with a volume of 256 MiB in it.
struct Bench {
    directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with_blocks("4096")
    }

    /// With blocks of so many bytes.
    fn with_blocks(size: &str) -> Self {
        fs::create_dir_all(workspace::target()).unwrap();
        let bench = Self { directory: tempfile::tempdir_in(workspace::target()).unwrap() };
        let mut make = Command::new("/usr/sbin/mkfs.ext4");
        assert!(
            make.args(["-q", "-F", "-b", size]).arg(bench.volume()).arg("256M").status().unwrap().success()
        );
        bench
    }

    fn volume(&self) -> PathBuf {
        self.directory.path().join("volume.ext4")
    }

    /// What is added to the client's root: the programs, their configuration, the users that they act as.
    fn files(&self) -> PathBuf {
        let files = self.directory.path().join("files");
        for directory in ["etc", "usr/bin", "conformance"] {
            fs::create_dir_all(files.join(directory)).unwrap();
        }
        for tool in ["pjdfstest", "fsx"] {
            let source = workspace::target().join("tools/bin").join(tool);
            let program = files.join("usr/bin").join(tool);
            fs::copy(&source, &program)
                .unwrap_or_else(|error| panic!("{}: {error}; run host/provision-tests.sh", source.display()));
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let users = "root:x:0:0:root:/root:/bin/bash\ntests:x:1000:1000::/:\nnobody:x:65534:65534::/:\n";
        let groups = "root:x:0:\ntests:x:1000:tests\nnobody:x:65534:nobody\n";
        for (name, text) in [
            ("etc/passwd", users),
            ("etc/group", groups),
            ("conformance/run.sh", include_str!("conformance/run.sh")),
            ("conformance/pjdfstest.toml", include_str!("conformance/pjdfstest.toml")),
            ("conformance/unmapped.toml", include_str!("conformance/unmapped.toml")),
            ("conformance/mapped.toml", include_str!("conformance/mapped.toml")),
        ] {
            fs::write(files.join(name), text).unwrap();
        }
        files
    }

    /// Runs run.sh with `arguments` on the volume as a disk.
    fn on_disk(&self, arguments: &str) -> Output {
        let options = Options {
            disks: vec![Disk::writable(&self.volume())],
            files: Some(self.files()),
            ..Options::run(None, format!("sh /conformance/run.sh disk {arguments}"))
        };
        output(&options).unwrap()
    }

    /// Runs run.sh with `arguments` on the volume as the share, whose volume is clean and in order afterwards, and is left to the
    /// judges as `name`.
    fn on_share(&self, name: &str, cache: Cache, arguments: &str) -> Output {
        let socket = Socket { path: self.directory.path().join("socket"), tag: "skerry".to_owned() };
        let service = service_vm::Options::new(self.volume()).unwrap();
        let bridge = Bridge::start(&bridge::Options { service, sockets: vec![socket.clone()] }).unwrap();
        let command = format!("sh /conformance/run.sh mnt {arguments}");
        let options = Options {
            mount: Mount { cache, ..Mount::default() },
            files: Some(self.files()),
            ..Options::run(Some(Server::VhostUser(socket)), command)
        };
        let output = output(&options).unwrap();
        bridge.shut_down().unwrap();
        self.is_in_order();
        kept::keep("conformance", name, &self.volume());
        output
    }

    /// Runs run.sh with `arguments` on a directory that QEMU's own server serves.
    fn on_virtfs(&self, arguments: &str) -> Output {
        let directory = self.directory.path().join("served");
        fs::create_dir(&directory).unwrap();
        let options = Options {
            files: Some(self.files()),
            ..Options::run(
                Some(Server::VirtFs { directory, tag: "virtfs".to_owned() }),
                format!("sh /conformance/run.sh mnt {arguments}"),
            )
        };
        output(&options).unwrap()
    }

    fn is_in_order(&self) {
        let checked = Command::new("/usr/sbin/e2fsck").arg("-fn").arg(self.volume()).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
}

/// Writes what a run said to `target/tmp/NAME`, and gives it back.
fn kept(name: &str, output: &Output) -> String {
    let directory = workspace::target().join("tmp");
    fs::create_dir_all(&directory).unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let path: &Path = &directory.join(name);
    fs::write(path, &said).unwrap();
    println!("{}: status {}", path.display(), output.status);
    said
}

/// The names of pjdfstest's tests that ended so.
fn ended<'a>(said: &'a str, how: &str) -> BTreeSet<&'a str> {
    let name = |line: &'a str| line.strip_suffix(how).map(str::trim_end).filter(|name| name.contains("::"));
    said.lines().filter_map(name).collect()
}

/// Of all tests of pjdfstest, these and no others failed or were skipped. (Those that are skipped at first are run apart.)
#[track_caller]
fn passed_all_but(name: &str, output: &Output, expected: (&[&str], &[&str])) {
    let said = kept(name, output);
    let (passed, failed) = (ended(&said, "ok"), ended(&said, "FAILED"));
    let skipped: BTreeSet<_> = ended(&said, "skipped").difference(&passed).copied().collect();
    println!("shown: {name}: {} passed, {} failed, {} skipped", passed.len(), failed.len(), skipped.len());
    assert_eq!(
        (&failed, &skipped),
        (&expected.0.iter().copied().collect(), &expected.1.iter().copied().collect())
    );
    assert_eq!(passed.len(), PJDFSTEST - failed.len() - skipped.len(), "{said}");
}

#[test]
#[ignore = "takes minutes, and judges the programs rather than the server; tests/run.sh --long"]
fn pjdfstest_passes_on_the_kernels_ext4() {
    let bench = Bench::new();
    passed_all_but("pjdfstest-ext4", &bench.on_disk("pjdfstest"), (&[], &[]));
    bench.is_in_order();
}

#[test]
fn pjdfstest_passes_on_the_share_but_for_what_the_client_leaves_no_server() {
    let output = Bench::new().on_share("pjdfstest", Cache::None, "pjdfstest");
    passed_all_but("pjdfstest-share", &output, (&[CUT_BY_THE_CLIENT], &[NO_LINK_MAX]));
}

#[test]
fn the_client_cuts_times_of_qemus_server_too() {
    let said = kept("pjdfstest-virtfs", &Bench::new().on_virtfs(&format!("pjdfstest {CUT_BY_THE_CLIENT}")));
    assert_eq!(ended(&said, "FAILED"), BTreeSet::from([CUT_BY_THE_CLIENT]), "{said}");
}

#[track_caller]
fn fsx_passed(name: &str, output: &Output) {
    let said = kept(name, output);
    assert_eq!(output.status, 0, "{said}");
}

#[test]
#[ignore = "takes minutes, and judges the programs rather than the server; tests/run.sh --long"]
fn fsx_passes_on_the_kernels_ext4() {
    let bench = Bench::new();
    fsx_passed("fsx-ext4", &bench.on_disk(&format!("fsx mapped {} 1 2", fsx_operations())));
    bench.is_in_order();
}

/// Three runs of fsx on the share, of a volume with blocks of `block_size` bytes, with a configuration of fsx that `cache` allows.
#[track_caller]
fn fsx_passes_on_the_share(cache: Cache, name: &str, configuration: &str, block_size: &str) {
    let arguments = format!("fsx {configuration} {} 1 2 3", fsx_operations());
    let output = Bench::with_blocks(block_size).on_share(&format!("fsx-{name}"), cache, &arguments);
    fsx_passed(&format!("fsx-share-{name}"), &output);
    println!("shown: conformance: fsx, {} operations with each of 3 seeds, cache={name}", fsx_operations());
}

#[test]
fn fsx_passes_on_the_share_without_a_cache() {
    fsx_passes_on_the_share(Cache::None, "none", "unmapped", "1024");
}

#[test]
fn fsx_passes_on_the_share_with_mapped_files() {
    fsx_passes_on_the_share(Cache::Mmap, "mmap", "mapped", "2048");
}

#[test]
fn fsx_passes_on_the_share_with_a_loose_cache() {
    fsx_passes_on_the_share(Cache::Loose, "loose", "mapped", "4096");
}
