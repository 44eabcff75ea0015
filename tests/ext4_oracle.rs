// SPDX-License-Identifier: MIT OR Apache-2.0

//! The ext4 reader against tools that this project did not write.
//!
//! Each test has `mkfs.ext4` make a volume with other features from one source tree, has `debugfs` add what a tree cannot
//! carry, and `e2fsck` rebuild the directories with their indexes and find nothing to complain of. Then it walks the whole
//! volume through [`FileSystem`], and compares every inode with what `debugfs` says of it: attributes, names,
//! content, targets of links, extended attributes. (How a file is mapped has no public form: the content shows it.)

#[path = "ext4_oracle/comparison.rs"]
mod comparison;
#[path = "ext4_oracle/debugfs.rs"]
mod debugfs;
#[path = "ext4_oracle/tree.rs"]
mod tree;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use comparison::{OurVolume, compare_data, compare_directories, compare_stats, walk};
use skerry::ext4::Volume;
use skerry::fs::{Errno, FileSystem};

/// Length of a volume.
const VOLUME: u64 = 40 << 20;

/// How a volume is made.
#[derive(Debug, Clone, Copy)]
struct Layout {
    name: &'static str,
    block_size: usize,
    inode_size: usize,
    /// More arguments to `mkfs.ext4`.
    arguments: &'static [&'static str],
    /// `hash_alg` of its indexes, and whether names are hashed as unsigned bytes.
    hash: (&'static str, bool),
}

const PLAIN: Layout =
    Layout { name: "", block_size: 4096, inode_size: 256, arguments: &[], hash: ("half_md4", false) };

/// A test for each layout.
macro_rules! layouts {
    ($($name:ident { $($field:ident: $value:expr),* $(,)? })*) => {$(
        #[test]
        #[allow(clippy::needless_update)]
        fn $name() {
            compare(Layout { name: stringify!($name), $($field: $value,)* ..PLAIN });
        }
    )*};
}

layouts! {
    the_defaults_of_debian_12_match {}
    the_defaults_of_debian_13_match { arguments: &["-O", "orphan_file,metadata_csum_seed"] }
    blocks_of_1_kib_match { block_size: 1024 }
    blocks_of_2_kib_with_inodes_of_512_bytes_match { block_size: 2048, inode_size: 512 }
    inodes_of_128_bytes_match { block_size: 1024, inode_size: 128 }
    a_volume_of_32_bit_block_numbers_matches { block_size: 1024, arguments: &["-O", "^64bit"] }
    group_descriptors_with_crc16_match {
        block_size: 1024,
        arguments: &["-O", "^metadata_csum,^64bit,uninit_bg"],
        hash: ("tea", false),
    }
    a_volume_without_checksums_matches {
        block_size: 1024,
        arguments: &["-O", "^metadata_csum,^uninit_bg"],
        hash: ("tea", true),
    }
    an_ext3_volume_matches { block_size: 1024, arguments: &["-t", "ext3"], hash: ("legacy", false) }
    an_ext2_volume_without_file_types_matches {
        block_size: 1024,
        inode_size: 128,
        arguments: &["-t", "ext2", "-O", "^filetype"],
        hash: ("legacy", true),
    }
    block_maps_with_checksums_match { arguments: &["-O", "^extents,^64bit"], hash: ("half_md4", true) }
    inline_data_matches { arguments: &["-O", "inline_data"] }
    inline_data_in_inodes_of_1_kib_matches {
        block_size: 1024,
        inode_size: 1024,
        arguments: &["-O", "inline_data"],
    }
    attribute_values_in_inodes_match { arguments: &["-O", "ea_inode"] }
    attribute_values_in_inodes_without_checksums_match {
        block_size: 1024,
        inode_size: 128,
        arguments: &["-O", "ea_inode,^metadata_csum"],
    }
    directories_without_indexes_match { block_size: 1024, arguments: &["-O", "^dir_index"] }
    groups_that_keep_their_own_tables_match { block_size: 1024, arguments: &["-O", "^flex_bg"] }
    descriptors_spread_over_meta_groups_match {
        block_size: 1024,
        arguments: &["-g", "512", "-O", "meta_bg,^resize_inode"],
    }
    two_superblock_copies_match { block_size: 1024, arguments: &["-g", "1024", "-O", "sparse_super2,^resize_inode"] }
    all_features_at_once_match {
        block_size: 1024,
        arguments: &["-O", "inline_data,ea_inode,large_dir,metadata_csum_seed,orphan_file,quota,project"],
    }
}

/// Where volumes are built. Each test has a directory of its own in it.
fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("ext4_oracle")
}

/// The source tree, made once for all tests.
fn source() -> &'static Path {
    static SOURCE: OnceLock<PathBuf> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let path = scratch().join("source");
        let _ = fs::remove_dir_all(&path);
        tree::build(&path);
        path
    })
}

/// Makes the volume; `None` if this `mkfs.ext4` does not know its features.
fn make(layout: Layout, directory: &Path) -> Option<PathBuf> {
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).unwrap();
    let image = directory.join("volume.ext4");
    fs::File::create(&image).unwrap().set_len(VOLUME).unwrap();
    let mut mkfs = debugfs::tool("mkfs.ext4");
    mkfs.args(["-q", "-F", "-N", "2048", "-b"]).arg(layout.block_size.to_string());
    mkfs.arg("-I").arg(layout.inode_size.to_string()).args(layout.arguments);
    let made = debugfs::output(mkfs.arg("-d").arg(source()).arg(&image));
    let complaint = String::from_utf8_lossy(&made.stderr).into_owned();
    if complaint.contains("Invalid filesystem option set") {
        // Past the capture of the test harness: this is to be seen.
        let _ = writeln!(std::io::stderr(), "NOT COVERED: {}: this mkfs.ext4 says {complaint}", layout.name);
        return None;
    }
    assert!(made.status.success(), "{mkfs:?}: {complaint}");

    let has = |feature: &str| layout.arguments.iter().any(|list| list.split(',').any(|name| name == feature));
    let abilities = tree::Abilities {
        block_size: layout.block_size,
        large_inodes: layout.inode_size > 128,
        extents: !["ext2", "ext3", "^extents"].into_iter().any(has),
        large_values: has("ea_inode"),
    };
    let mut commands = vec![format!("ssv def_hash_version {}", layout.hash.0)];
    commands.push(format!("ssv flags {}", if layout.hash.1 { 2 } else { 1 }));
    commands.extend(tree::additions(abilities, directory));
    debugfs::script(&image, true, &commands);
    // Rebuilds the directories (1: something was changed), then finds nothing to do.
    debugfs::run(debugfs::tool("e2fsck").arg("-fyD").arg(&image), &[0, 1]);
    debugfs::run(debugfs::tool("e2fsck").arg("-fn").arg(&image), &[0]);
    Some(image)
}

fn compare(layout: Layout) {
    let directory = scratch().join(layout.name);
    let Some(image) = make(layout, &directory) else { return };
    let volume = Volume::mount(fs::read(&image).unwrap()).unwrap_or_else(|error| panic!("mounting: {error}"));

    let found = walk(&volume);
    assert!(found.len() > 150, "only {} inodes", found.len());
    let stats = compare_stats(&volume, &image, &found);
    compare_directories(&volume, &image, &stats);
    let attributes = compare_data(&volume, &image, &directory, &stats, 1);
    assert!(attributes > 20, "only {attributes} attributes");
    compare_links(&volume, layout);
    compare_status(&volume, &image);
    if !layout.arguments.iter().any(|list| list.contains("^dir_index")) {
        // Without checksums debugfs 1.47 complains of that, for each block.
        let mut htree = debugfs::tool("debugfs");
        let dump = debugfs::output(htree.args(["-R", "htree /many"]).arg(&image)).stdout;
        let levels = String::from_utf8_lossy(&dump);
        let expected = if layout.block_size == 1024 { "Indirect levels: 1" } else { "Indirect levels: 0" };
        assert!(levels.contains(expected), "{levels}");
    }
    fs::remove_dir_all(&directory).unwrap();
}

/// Compares the targets of the links with what they were made with.
fn compare_links(volume: &OurVolume, layout: Layout) {
    let links = volume.lookup(volume.root(), tree::LINKS.as_bytes()).unwrap();
    for length in tree::link_lengths(layout.block_size) {
        let link = volume.lookup(links, format!("link-{length}").as_bytes()).unwrap();
        let mut target = Vec::new();
        volume.read_link(link, &mut target).unwrap();
        assert_eq!(target, tree::link_target(length).as_bytes());
    }
    assert_eq!(volume.read_link(links, &mut Vec::new()), Err(Errno::EINVAL));
    assert_eq!(volume.read(links, 0, 1, &mut Vec::new()), Err(Errno::EISDIR));
}

/// Compares the counts of the whole volume with `dumpe2fs -h`.
fn compare_status(volume: &OurVolume, image: &Path) {
    let header = debugfs::run(debugfs::tool("dumpe2fs").arg("-h").arg(image), &[0]);
    let field = |label: &str| -> Option<u64> {
        header.lines().find_map(|line| line.strip_prefix(label)?.trim().parse().ok())
    };
    let status = volume.status().unwrap();
    let number = |label| field(label).unwrap_or_else(|| panic!("{label} in {header}"));
    assert_eq!(u64::from(status.block_size), number("Block size:"));
    assert_eq!(status.blocks_free, number("Free blocks:"));
    // Linux keeps a fiftieth, at most 4096 blocks, for extents that must be split.
    let features = header.lines().find(|line| line.starts_with("Filesystem features:")).unwrap();
    let kept = if features.contains("extent") { (number("Block count:") / 50).min(4096) } else { 0 };
    let reserved = number("Reserved block count:") + kept;
    assert_eq!(status.blocks_available, status.blocks_free.saturating_sub(reserved));
    assert_eq!(status.files, number("Inode count:"));
    assert_eq!(status.files_free, number("Free inodes:"));
    assert_eq!(status.name_length, 255);
    if let Some(overhead) = field("Overhead clusters:") {
        assert_eq!(status.blocks, number("Block count:") - overhead, "overhead {overhead}");
    }
}
