// SPDX-License-Identifier: MIT OR Apache-2.0

//! The measurement that `bench virtfs-table` repeats: an article on VirtFS (Chinese, republished 2020-03-25), of QEMU with KVM, a guest
//! of CentOS 6.5 with 24 virtual processors and 4 GiB of RAM, guest caches off, host caches on, 4 GiB of I/O for each figure, and an
//! msize of 100000000.

/// KB/s of one cell.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    /// VirtFS.
    pub virtfs: f64,
    /// ext4 on virtio-blk.
    pub virtio_blk: f64,
    /// ext4 on IDE, if it can be read.
    pub ide: Option<f64>,
}

const fn of(virtfs: f64, virtio_blk: f64, ide: f64) -> Published {
    Published { virtfs, virtio_blk, ide: Some(ide) }
}

/// In the order of [`super::CELLS`].
pub const PUBLISHED: [Published; 12] = [
    of(36_650.0, 19_613.0, 8_979.0),
    of(335_956.0, 130_027.0, 86_349.0),
    of(672_491.0, 354_147.0, 245_257.0),
    of(34_917.0, 19_610.0, 8_974.0),
    of(334_810.0, 129_472.0, 85_950.0),
    of(643_574.0, 358_321.0, 245_017.0),
    of(32_829.0, 9_786.0, 5_622.0),
    of(328_884.0, 85_979.0, 69_278.0),
    of(576_954.0, 196_024.0, 233_620.0),
    of(32_811.0, 9_793.0, 5_648.0),
    of(329_045.0, 86_058.0, 68_773.0),
    Published { virtfs: 602_878.0, virtio_blk: 194_688.0, ide: None },
];
