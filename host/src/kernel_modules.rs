// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which modules of a Linux kernel to load, and in which order: a reader of `modules.dep`.
//!
//! Relies on `depmod` having run: `modules.dep` names each module's dependencies, `modules.builtin` what the
//! kernel has inside. See depmod(8) and modules.dep(5).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Why a load order cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// An index or a module cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kernel has no such module, and not inside itself either.
    #[error("the client kernel in {} has no module {name} (Debian's cloud kernels have no 9P: use linux-image-amd64)", directory.display())]
    Unknown {
        /// The module's name.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
    },
}

/// The modules of one kernel.
#[derive(Debug)]
pub struct KernelModules {
    directory: PathBuf,
    /// Name → path below `directory`.
    paths: BTreeMap<String, String>,
    /// Path → the paths it depends on.
    dependencies: BTreeMap<String, Vec<String>>,
    builtin: BTreeSet<String>,
}

impl KernelModules {
    /// Reads the indexes of `directory`, such as `/lib/modules/6.1.0-50-amd64`.
    pub fn open(directory: &Path) -> Result<Self, ModulesError> {
        let dependencies = read(&directory.join("modules.dep"))?;
        let builtin = read(&directory.join("modules.builtin"))?;
        Ok(Self::parse(directory, &dependencies, &builtin))
    }

    fn parse(directory: &Path, modules_dep: &str, modules_builtin: &str) -> Self {
        let mut paths = BTreeMap::new();
        let mut dependencies = BTreeMap::new();
        for (path, needs) in modules_dep.lines().filter_map(|line| line.split_once(':')) {
            paths.insert(module_name(path), path.to_owned());
            dependencies.insert(path.to_owned(), needs.split_whitespace().map(str::to_owned).collect());
        }
        let builtin = modules_builtin.lines().map(module_name).collect();
        Self { directory: directory.to_path_buf(), paths, dependencies, builtin }
    }

    /// The directory that the paths of a load order are below.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether the kernel has the module, as a file or inside itself.
    pub fn has(&self, name: &str) -> bool {
        self.paths.contains_key(name) || self.builtin.contains(name)
    }

    /// The files to load for `wanted`, each once and after all that it depends on; as paths below
    /// [`KernelModules::directory`]. What is inside the kernel needs no file.
    pub fn load_order(&self, wanted: &[&str]) -> Result<Vec<String>, ModulesError> {
        let mut order = Vec::new();
        for name in wanted {
            match self.paths.get(*name) {
                Some(path) => self.visit(path, &mut order),
                None if self.builtin.contains(*name) => {}
                None => {
                    return Err(ModulesError::Unknown {
                        name: (*name).to_owned(),
                        directory: self.directory.clone(),
                    });
                }
            }
        }
        Ok(order)
    }

    // Ends because depmod refuses cycles, and leaves cyclic modules out of modules.dep.
    fn visit(&self, path: &str, order: &mut Vec<String>) {
        if order.iter().any(|loaded| loaded == path) {
            return;
        }
        for needed in self.dependencies.get(path).into_iter().flatten() {
            self.visit(needed, order);
        }
        order.push(path.to_owned());
    }
}

/// `kernel/fs/9p/9p.ko` → `9p`. A module's name has underscores where its file may have dashes.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

fn read(path: &Path) -> Result<String, ModulesError> {
    std::fs::read_to_string(path)
        .map_err(|source| ModulesError::Unreadable { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> KernelModules {
        KernelModules::parse(
            Path::new("/lib/modules/6.1"),
            "kernel/drivers/virtio/virtio.ko:\n\
             kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko\n\
             kernel/net/9p/9pnet.ko:\n\
             kernel/net/9p/9pnet_virtio.ko: kernel/net/9p/9pnet.ko kernel/drivers/virtio/virtio_ring.ko\n\
             kernel/arch/x86/crypto/crc32c-intel.ko:\n",
            "kernel/fs/fscache/fscache.ko\n",
        )
    }

    #[test]
    fn a_module_comes_after_everything_it_depends_on_and_only_once() {
        let order = modules().load_order(&["9pnet_virtio", "virtio_ring"]).unwrap();
        let expected = ["net/9p/9pnet.ko", "drivers/virtio/virtio.ko", "drivers/virtio/virtio_ring.ko"];
        assert_eq!(order.len(), 4);
        for (path, end) in order.iter().zip(expected) {
            assert!(path.ends_with(end), "{path} is not {end}");
        }
        assert!(order[3].ends_with("9pnet_virtio.ko"));
    }

    #[test]
    fn a_builtin_module_needs_no_file() {
        assert!(modules().load_order(&["fscache"]).unwrap().is_empty());
    }

    #[test]
    fn a_dash_in_a_file_name_is_an_underscore_in_the_module_name() {
        assert!(modules().has("crc32c_intel"));
    }

    #[test]
    fn an_unknown_module_is_named_with_the_place_it_was_looked_for() {
        let message = modules().load_order(&["9p"]).unwrap_err().to_string();
        assert!(message.contains("/lib/modules/6.1 has no module 9p"), "{message}");
    }
}
