// SPDX-License-Identifier: MIT OR Apache-2.0

//! Volumes that a client VM sees as block devices, next to the share.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::escaped;

/// The first of the slots of PCI bus 0 that disks have, eight a slot. What is below is for the other devices.
const FIRST_SLOT: usize = 0x10;
/// The first slot behind them: the machine's own devices are in the last.
const END_SLOT: usize = 0x1f;
/// Disks of the IDE controller: two channels of two.
const IDE_DISKS: usize = 4;

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

/// Through what the client reaches a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskDevice {
    /// virtio-blk.
    VirtioBlk,
    /// An IDE disk of a PIIX3 controller, as `if=ide` has it on QEMU's older machine. There is one such controller, for 4 disks.
    Ide,
}

impl DiskDevice {
    /// The modules that a client's kernel needs for it.
    pub(super) fn modules(self) -> &'static [&'static str] {
        match self {
            Self::VirtioBlk => &["virtio_blk"],
            Self::Ide => &["ata_piix", "sd_mod"],
        }
    }
}

/// A volume that the client sees as a block device: the first as `/dev/vda`, the second as `/dev/vdb`, and so on; IDE disks, apart
/// from these, as `/dev/sda` and so on, a little after the client's start. Disk number `n`, counted from 0, has the serial number
/// `disk-n`, in `/sys/block/*/serial` if it is not IDE.
///
/// The host's page cache holds what is read and written (`cache=writeback`), and threads of QEMU's do it (`aio=threads`): QEMU's
/// defaults.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The image file.
    pub image: PathBuf,
    /// What the client may do to it.
    pub access: DiskAccess,
    /// Through what the client reaches it.
    pub device: DiskDevice,
}

impl Disk {
    fn new(image: &Path, access: DiskAccess) -> Self {
        Self { image: image.to_path_buf(), access, device: DiskDevice::VirtioBlk }
    }

    /// A disk that is only read.
    #[must_use]
    pub fn read_only(image: &Path) -> Self {
        Self::new(image, DiskAccess::ReadOnly)
    }

    /// A disk whose image the client changes.
    #[must_use]
    pub fn writable(image: &Path) -> Self {
        Self::new(image, DiskAccess::Writable)
    }

    /// A disk that the client changes for itself alone.
    #[must_use]
    pub fn discarded(image: &Path) -> Self {
        Self::new(image, DiskAccess::Discarded)
    }
}

/// QEMU's options for `disks`.
///
/// # Errors
/// If there are more than there is room for: 120, and of IDE disks 4.
pub(super) fn arguments(disks: &[Disk]) -> Result<Vec<String>> {
    let most = (END_SLOT - FIRST_SLOT) * 8;
    if disks.len() > most {
        bail!("a client VM has at most {most} disks, not {}", disks.len());
    }
    let mut arguments = Vec::new();
    let mut on_controller = 0;
    for (number, disk) in disks.iter().enumerate() {
        let access = match disk.access {
            DiskAccess::ReadOnly => "readonly=on",
            DiskAccess::Writable => "readonly=off",
            DiskAccess::Discarded => "readonly=off,snapshot=on",
        };
        let device = match disk.device {
            DiskDevice::VirtioBlk => {
                // Linux names the disks in the order of their places on the bus.
                let (slot, function) = (FIRST_SLOT + number / 8, number % 8);
                format!("virtio-blk-pci,addr={slot:#x}.{function},multifunction=on")
            }
            DiskDevice::Ide => {
                if on_controller == 0 {
                    arguments.extend(["-device".to_owned(), "piix3-ide,id=ide".to_owned()]);
                }
                let (bus, unit) = (on_controller / 2, on_controller % 2);
                on_controller += 1;
                format!("ide-hd,bus=ide.{bus},unit={unit}")
            }
        };
        let image = escaped(&disk.image);
        arguments.extend([
            "-drive".to_owned(),
            format!("if=none,id=disk-{number},format=raw,{access},file={image}"),
            "-device".to_owned(),
            format!("{device},drive=disk-{number},serial=disk-{number}"),
        ]);
    }
    if on_controller > IDE_DISKS {
        bail!("a client VM has at most {IDE_DISKS} IDE disks, not {on_controller}");
    }
    Ok(arguments)
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
            .filter_map(|argument| argument.split_once("addr=")?.1.split(',').next())
            .collect();
        assert_eq!(devices.len(), 120);
        let last = &arguments[2 * 2 * 119 + 3];
        assert!(last.contains("addr=0x1e.7") && last.contains("serial=disk-119"), "{last}");
        let many = vec![Disk::read_only(Path::new("/some/image")); 121];
        assert!(super::arguments(&many).unwrap_err().to_string().contains("at most 120 disks"));
    }

    #[test]
    fn ide_disks_share_one_controller() {
        let ide = Disk { device: DiskDevice::Ide, ..Disk::read_only(Path::new("/some/image")) };
        let shown = arguments(&vec![ide.clone(); 4]).unwrap().join(" ");
        assert_eq!(shown.matches("piix3-ide").count(), 1, "{shown}");
        assert!(shown.contains("ide-hd,bus=ide.1,unit=1,drive=disk-3"), "{shown}");
        assert!(arguments(&vec![ide; 5]).unwrap_err().to_string().contains("at most 4 IDE disks"));
    }
}
