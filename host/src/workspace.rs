// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where things are: the files that `host/provision.sh` and `cargo build` leave below `target/`.
//!
//! Relies on being run on the machine that built it: the root of the workspace is known from the build.

use std::path::{Path, PathBuf};

/// A file that a step before this one should have made is not there.
#[derive(Debug, thiserror::Error)]
#[error("{what} is missing ({}): run {remedy}", path.display())]
pub struct Missing {
    /// What the file is.
    pub what: &'static str,
    /// Where it should be.
    pub path: PathBuf,
    /// The command that makes it.
    pub remedy: &'static str,
}

/// The workspace that this program was built in.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}

impl Workspace {
    /// The workspace that this program was built in.
    pub fn new() -> Self {
        let host = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self { root: host.parent().unwrap_or(host).to_path_buf() }
    }

    /// `target/`, or where `CARGO_TARGET_DIR` puts it.
    pub fn target(&self) -> PathBuf {
        match std::env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => self.root.join(directory),
            None => self.root.join("target"),
        }
    }

    /// The service VM's image, as the release profile builds it.
    pub fn image(&self) -> Result<PathBuf, Missing> {
        let path = self.target().join("release/skerry-image");
        exists(path, "the service VM's image", "cargo build --release -p skerry-boot")
    }

    /// A QEMU that can create the vhost-user 9P device.
    pub fn qemu(&self) -> Result<PathBuf, Missing> {
        self.provisioned("qemu", "QEMU's launcher")
    }

    /// The kernel of the client VM.
    pub fn kernel(&self) -> Result<PathBuf, Missing> {
        self.provisioned("kernel/boot/vmlinuz", "the client VM's kernel")
    }

    /// The directory of the client kernel's modules, the one that holds `modules.dep`.
    pub fn modules(&self) -> Result<PathBuf, Missing> {
        let all = self.provisioned("kernel/lib/modules", "the directory of the client kernel's modules")?;
        let mut versions = std::fs::read_dir(&all).into_iter().flatten().flatten().map(|entry| entry.path());
        let directory = versions.find(|path| path.join("modules.dep").exists());
        exists(directory.unwrap_or(all), "the client kernel's modules.dep", PROVISION)
    }

    fn provisioned(&self, name: &str, what: &'static str) -> Result<PathBuf, Missing> {
        exists(self.root.join("target/provision").join(name), what, PROVISION)
    }
}

const PROVISION: &str = "host/provision.sh";

fn exists(path: PathBuf, what: &'static str, remedy: &'static str) -> Result<PathBuf, Missing> {
    if path.exists() { Ok(path) } else { Err(Missing { what, path, remedy }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_reported_with_its_remedy() {
        let workspace = Workspace { root: PathBuf::from("/nowhere") };
        let message = workspace.kernel().unwrap_err().to_string();
        assert!(message.contains("/nowhere/target/provision/kernel/boot/vmlinuz"), "{message}");
        assert!(message.ends_with("run host/provision.sh"), "{message}");
    }
}
