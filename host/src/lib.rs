// SPDX-License-Identifier: MIT OR Apache-2.0

//! The host side of Skerry, as a library: the `skerry` command and the tests are thin layers over it.
//!
//! | module           | subject                                                                                |
//! |------------------|----------------------------------------------------------------------------------------|
//! | [`qemu`]         | finding QEMU, choosing the accelerator, child processes that never outlive their parent  |
//! | [`qmp`]          | QEMU's machine protocol                                                                |
//! | [`service_vm`]   | the VM that runs the image                                                             |
//! | [`bridge`]       | the vhost-user backend that wires client VMs to the service VM                         |

pub mod bridge;
pub mod client;
pub mod control_ring;
pub mod event;
pub mod front_end;
pub mod ivshmem;
pub mod qemu;
pub mod qmp;
pub mod ring_driver;
pub mod service_vm;
pub mod shared_memory;
pub mod test_directory;
pub mod volume;
