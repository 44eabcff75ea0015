// SPDX-License-Identifier: MIT OR Apache-2.0

//! The service VM.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::qemu::Exit;

/// What a service VM is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// The image; [`default_image`] is what `cargo build -p skerry-boot --release` makes.
    pub image: PathBuf,
    /// The volume: a regular file that holds an ext4 file system.
    pub volume: PathBuf,
    /// RAM of the VM, in MiB.
    pub memory: u32,
    /// The image's log level: `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: String,
}

/// Where cargo leaves the image.
///
/// # Errors
/// If there is none; the message says what to run.
pub fn default_image() -> Result<PathBuf> {
    unimplemented!()
}

/// A running service VM. Dropping it kills it.
#[derive(Debug)]
pub struct ServiceVm {}

impl ServiceVm {
    /// Starts the VM and waits until it answers over its control ring.
    ///
    /// # Errors
    /// One clear message: no image, a volume that is missing, odd-sized or in use, no QEMU, a VM that ends at once.
    pub fn start(_options: &Options) -> Result<Self> {
        unimplemented!()
    }

    /// How it ended, if it has ended within `limit`.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn wait_for(&mut self, _limit: Duration) -> Result<Option<Exit>> {
        unimplemented!()
    }
}
