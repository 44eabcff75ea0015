// SPDX-License-Identifier: MIT OR Apache-2.0

//! Volumes that a client VM sees as block devices, next to the share.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::escaped;

/// The first of the slots of PCI bus 0 that disks have, eight a slot. What is below is for the other devices.
const FIRST_SLOT: usize = 0x10;
/// The first slot behind them: the machine's own devices are in the last.
const END_SLOT: usize = 0x1f;

/// What the client may do to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskAccess {
    /// It only reads.
    ReadOnly,
    /// It writes to the image.
    Writable,
    /// It writes, and all of that is gone with the VM: the image stays as it is.
    Discarded,
}

/// A volume that the client sees as a block device: the first as `/dev/vda`, the second as `/dev/vdb`, and so on. Disk number `n`,
/// counted from 0, has the serial number `disk-n`, in `/sys/block/*/serial`.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The image file.
    pub image: PathBuf,
    /// What the client may do to it.
    pub access: DiskAccess,
}

impl Disk {
    /// A disk that is only read.
    #[must_use]
    pub fn read_only(image: &Path) -> Self {
        Self { image: image.to_path_buf(), access: DiskAccess::ReadOnly }
    }

    /// A disk whose image the client changes.
    #[must_use]
    pub fn writable(image: &Path) -> Self {
        Self { image: image.to_path_buf(), access: DiskAccess::Writable }
    }

    /// A disk that the client changes for itself alone.
    #[must_use]
    pub fn discarded(image: &Path) -> Self {
        Self { image: image.to_path_buf(), access: DiskAccess::Discarded }
    }
}

/// QEMU's options for `disks`.
///
/// # Errors
/// If there are more than the bus has room for: 120.
pub(super) fn arguments(disks: &[Disk]) -> Result<Vec<String>> {
    let most = (END_SLOT - FIRST_SLOT) * 8;
    if disks.len() > most {
        bail!("a client VM has at most {most} disks, not {}", disks.len());
    }
    let of = |(number, disk): (usize, &Disk)| {
        let access = match disk.access {
            DiskAccess::ReadOnly => "readonly=on",
            DiskAccess::Writable => "readonly=off",
            DiskAccess::Discarded => "readonly=off,snapshot=on",
        };
        // Linux names the disks in the order of their places on the bus.
        let (slot, function) = (FIRST_SLOT + number / 8, number % 8);
        let image = escaped(&disk.image);
        [
            "-drive".to_owned(),
            format!("if=none,id=disk-{number},format=raw,{access},file={image}"),
            "-device".to_owned(),
            format!(
                "virtio-blk-pci,drive=disk-{number},serial=disk-{number},addr={slot:#x}.{function},multifunction=on"
            ),
        ]
    };
    Ok(disks.iter().enumerate().flat_map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_disk_has_a_place_and_a_serial_number_of_its_own() {
        let disks = vec![Disk::discarded(Path::new("/some/image")); 120];
        let arguments = arguments(&disks).unwrap();
        let devices: std::collections::BTreeSet<_> = arguments
            .iter()
            .filter_map(|argument| argument.split_once("addr="))
            .map(|(_, place)| place)
            .collect();
        assert_eq!(devices.len(), 120);
        assert!(arguments[2 * 2 * 119 + 3].contains("serial=disk-119,addr=0x1e.7"), "{arguments:#?}");
        let many = vec![Disk::read_only(Path::new("/some/image")); 121];
        assert!(super::arguments(&many).unwrap_err().to_string().contains("at most 120 disks"));
    }
}
