// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where things are: what `host/provision.sh` leaves below `target/provision`, and what is made below `target/`.
//!
//! Relies on being run on the machine that built it: the root of the workspace is known from the build.

use std::path::PathBuf;

use crate::qemu::source_root;

/// A file that a step before this one should have made is not there.
#[derive(Debug, thiserror::Error)]
#[error("{what} is missing ({}); run host/provision.sh", path.display())]
pub struct Missing {
    /// What the file is.
    pub what: &'static str,
    /// Where it should be.
    pub path: PathBuf,
}

/// The directory that cargo builds into: `target/`, or what `CARGO_TARGET_DIR` names.
#[must_use]
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => source_root().join(directory),
        None => source_root().join("target"),
    }
}

/// The kernel of client VMs, as Debian packs it.
///
/// # Errors
/// If provisioning has not been done.
pub fn client_kernel() -> Result<PathBuf, Missing> {
    exists(provisioned("kernel/boot/vmlinuz"), "the client VM's kernel")
}

/// The directory of that kernel's modules, which holds `modules.dep`.
///
/// # Errors
/// If provisioning has not been done.
pub fn client_modules() -> Result<PathBuf, Missing> {
    let all = provisioned("kernel/lib/modules");
    let mut releases = std::fs::read_dir(&all).into_iter().flatten().flatten().map(|entry| entry.path());
    let found = releases.find(|path| path.join("modules.dep").exists());
    found.ok_or(Missing { what: "modules.dep of the client VM's kernel", path: all })
}

fn provisioned(name: &str) -> PathBuf {
    source_root().join("target/provision").join(name)
}

fn exists(path: PathBuf, what: &'static str) -> Result<PathBuf, Missing> {
    if path.exists() { Ok(path) } else { Err(Missing { what, path }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_reported_with_its_remedy() {
        let message = exists(PathBuf::from("/nowhere/vmlinuz"), "the kernel").unwrap_err().to_string();
        assert_eq!(message, "the kernel is missing (/nowhere/vmlinuz); run host/provision.sh");
    }
}
