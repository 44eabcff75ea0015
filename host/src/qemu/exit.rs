// SPDX-License-Identifier: MIT OR Apache-2.0

//! How a QEMU process ended.
//!
//! The image ends its VM through the isa-debug-exit device: a guest that writes `v` makes QEMU exit with
//! `(v << 1) | 1`, so odd statuses above 1 are the image's, 0 and 1 are QEMU's own.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// How a QEMU process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status, which no guest asked for: 0 after a shutdown, 1 after an error of QEMU's.
    Status(i32),
    /// The guest wrote this value to the isa-debug-exit device.
    Guest(u8),
    /// It was ended by this signal.
    Signal(i32),
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code @ 3..=255), _) if code & 1 == 1 => {
                Self::Guest(u8::try_from(code >> 1).unwrap_or(u8::MAX))
            }
            (Some(code), _) => Self::Status(code),
            (None, signal) => Self::Signal(signal.unwrap_or(0)),
        }
    }
}

impl Exit {
    /// The exit status of a program that is no QEMU; `None` if a signal ended it.
    #[must_use]
    pub fn status(self) -> Option<i32> {
        match self {
            Self::Status(status) => Some(status),
            Self::Guest(value) => Some(i32::from(value) << 1 | 1),
            Self::Signal(_) => None,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "QEMU exited with status {status}"),
            Self::Guest(value) => match meaning(*value) {
                Some(meaning) => write!(f, "{meaning} (debug-exit value {value:#x})"),
                None => write!(f, "the guest ended it with debug-exit value {value:#x}"),
            },
            Self::Signal(signal) => write!(f, "QEMU was ended by signal {signal}"),
        }
    }
}

/// What the image means by a value; the table is that of boot/src/exit.rs.
fn meaning(value: u8) -> Option<&'static str> {
    Some(match value {
        0x10 => "the image was asked to stop",
        0x11 => "the image could not start",
        0x12 => "the image panicked",
        0x13 => "the image caused a processor exception",
        0x14 => "the image refused its command line",
        0x15 => "the image caused an exception while it reported one",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_statuses_above_one_are_what_the_guest_wrote() {
        let exit = |status: i32| Exit::from(ExitStatus::from_raw(status << 8));
        assert_eq!(exit(0), Exit::Status(0));
        assert_eq!(exit(1), Exit::Status(1));
        assert_eq!(exit(2), Exit::Status(2));
        assert_eq!(exit(0x21), Exit::Guest(0x10));
        assert_eq!(exit(255), Exit::Guest(127));
    }

    #[test]
    fn a_signal_is_told_from_a_status() {
        assert_eq!(Exit::from(ExitStatus::from_raw(9)), Exit::Signal(9));
    }
}
