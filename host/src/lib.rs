// SPDX-License-Identifier: MIT OR Apache-2.0

//! The host side of Skerry, as a library: the `skerry` command and the tests are thin layers over it.
//!
//! | module           | subject                                                                                |
//! |------------------|----------------------------------------------------------------------------------------|
//! | [`qemu`]         | finding QEMU, choosing the accelerator, child processes that never outlive their parent  |
//! | [`qmp`]          | QEMU's machine protocol                                                                |
//! | [`service_vm`]   | the VM that runs the image                                                             |
//! | [`bridge`]       | the vhost-user backend that wires client VMs to the service VM                         |
//! | [`client_kernel`] | the client's kernel, unpacked                                                         |
//! | [`client_vm`]    | a Linux VM that mounts what a bridge (or QEMU itself) serves                              |
//! | [`initramfs`]    | the archive that is the client VM's root                                               |
//! | [`kernel_modules`] | which modules the client kernel loads, in which order                                |
//! | [`volume_image`] | volumes made by `mkfs.ext4`: the demo, and an imported directory                       |
//! | [`workspace`]    | where provisioning and cargo leave what a VM needs                                     |

pub mod bridge;
pub mod client_kernel;
pub mod client_vm;
pub mod initramfs;
pub mod kernel_modules;
pub mod qemu;
pub mod qmp;
pub mod service_vm;
pub mod volume_image;
pub mod workspace;
