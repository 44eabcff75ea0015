// SPDX-License-Identifier: MIT OR Apache-2.0

//! The host side of Skerry: a library for tests and for the `skerry` command.

pub mod initramfs;
pub mod kernel_modules;
pub mod workspace;
