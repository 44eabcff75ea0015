// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which accelerator QEMU gets: KVM where it is real, else TCG.
//!
//! `/dev/kvm` alone proves nothing: an emulated, nested KVM can be thousands of times slower than TCG. Real
//! hardware support shows in the processor's flags.

use std::ffi::OsStr;
use std::fs;
use std::io;

/// How QEMU runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The host kernel's.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// Why there is no accelerator to choose.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceleratorError {
    /// `ACCEL` holds another word.
    #[error("ACCEL={0:?} is neither \"kvm\" nor \"tcg\"; unset it to let the host decide")]
    Unknown(String),
    /// `ACCEL=kvm` on a host that has none.
    #[error("ACCEL=kvm, but {0}; use ACCEL=tcg")]
    KvmUnusable(String),
}

impl Accelerator {
    /// Chooses by the environment variable `ACCEL` (`kvm` or `tcg`), or, without it, by what the host has.
    ///
    /// # Errors
    /// [`AcceleratorError`].
    pub fn choose() -> Result<Self, AcceleratorError> {
        choose(std::env::var_os("ACCEL").as_deref(), kvm_obstacle())
    }

    /// The name that QEMU's `accel=` takes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// The processor model that goes with it.
    #[must_use]
    pub const fn processor(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg => "max",
        }
    }
}

/// The choice, apart from where its two inputs come from. An empty `wish` is no wish.
fn choose(wish: Option<&OsStr>, kvm_obstacle: Option<String>) -> Result<Accelerator, AcceleratorError> {
    let wish = wish.map(OsStr::to_string_lossy);
    match (wish.as_deref(), kvm_obstacle) {
        (None | Some(""), None) => Ok(Accelerator::Kvm),
        (None | Some(""), Some(_)) | (Some("tcg"), _) => Ok(Accelerator::Tcg),
        (Some("kvm"), None) => Ok(Accelerator::Kvm),
        (Some("kvm"), Some(obstacle)) => Err(AcceleratorError::KvmUnusable(obstacle)),
        (Some(other), _) => Err(AcceleratorError::Unknown(other.to_owned())),
    }
}

/// What speaks against KVM on this host; `None` if nothing does.
fn kvm_obstacle() -> Option<String> {
    if let Err(error) = open_kvm() {
        return Some(format!("/dev/kvm cannot be opened ({error})"));
    }
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    (!has_virtualization(&processors))
        .then(|| "the processor shows neither vmx nor svm in /proc/cpuinfo".to_owned())
}

fn open_kvm() -> io::Result<fs::File> {
    fs::OpenOptions::new().read(true).write(true).open("/dev/kvm")
}

/// Whether the text of `/proc/cpuinfo` has one of the two flags.
fn has_virtualization(processors: &str) -> bool {
    processors
        .lines()
        .filter(|line| line.starts_with("flags"))
        .flat_map(str::split_whitespace)
        .any(|flag| flag == "vmx" || flag == "svm")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(text: &str) -> Option<&OsStr> {
        Some(OsStr::new(text))
    }

    #[test]
    fn without_a_wish_kvm_is_taken_exactly_where_nothing_speaks_against_it() {
        assert_eq!(choose(None, None), Ok(Accelerator::Kvm));
        assert_eq!(choose(wish(""), None), Ok(Accelerator::Kvm));
        assert_eq!(choose(None, Some("no".into())), Ok(Accelerator::Tcg));
    }

    #[test]
    fn a_wish_overrides_the_host() {
        assert_eq!(choose(wish("tcg"), None), Ok(Accelerator::Tcg));
        assert_eq!(choose(wish("kvm"), None), Ok(Accelerator::Kvm));
    }

    #[test]
    fn kvm_on_a_host_without_it_is_refused_with_the_reason() {
        let error = choose(wish("kvm"), Some("there is none".into())).unwrap_err();
        assert_eq!(error.to_string(), "ACCEL=kvm, but there is none; use ACCEL=tcg");
    }

    #[test]
    fn another_word_is_refused_by_name() {
        let error = choose(wish("KVM"), None).unwrap_err();
        assert_eq!(error, AcceleratorError::Unknown("KVM".into()));
        assert!(error.to_string().contains("\"KVM\""));
    }

    #[test]
    fn only_the_flags_of_a_processor_count() {
        assert!(has_virtualization("model name : x\nflags\t\t: fpu vmx sse\n"));
        assert!(has_virtualization("flags : svm\n"));
        assert!(!has_virtualization("model name : vmx machine\nflags : fpu svm_lock\n"));
    }
}
