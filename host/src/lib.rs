// SPDX-License-Identifier: MIT OR Apache-2.0

//! The host side of Skerry, as a library: the `skerry` command and the tests are thin layers over it.
//!
//! | module | subject |
//! |---|---|
//! | [`qemu`]           | finding QEMU, choosing the accelerator, child processes that never outlive their parent |
//! | [`qmp`]            | QEMU's machine protocol |
//! | [`ivshmem`]        | the server side of ivshmem-doorbell, every message written beforehand |
//! | [`shared_memory`]  | memory that other processes map: memfds and their checks |
//! | [`event`]          | eventfds, the kicks and calls |
//! | [`volume`]         | the volume's file: checked, locked |
//! | [`service_vm`]     | the VM that runs the image |
//! | [`control_ring`]   | the preallocated ring between the host and the image |
//! | [`ring_driver`]    | the driver side of a split ring |
//! | [`client`]         | a 9P client over any ring |
//! | [`front_end`]      | a vhost-user front end: a client without Linux |
//! | [`vhost_user`]     | the vhost-user backend: sockets, devices, clients' memory |
//! | [`bridge`]         | who serves the rings: the service VM, wired to its clients |
//! | [`serve`]          | who serves the rings: this process, in a sandbox |
//! | [`running_server`] | a server of either mode |
//! | [`client_kernel`]  | the client's kernel, unpacked |
//! | [`kernel_modules`] | which modules the client kernel loads, in which order |
//! | [`initramfs`]      | the archive that is the client VM's root |
//! | [`client_vm`]      | a Linux VM that mounts what a bridge (or QEMU itself) serves |
//! | [`image_file`]     | the image as a file: what is loaded, its symbols |
//! | [`volume_image`]   | volumes made by `mkfs.ext4`: the demo, and an imported directory |
//! | [`bench`]          | benchmarks: what `skerry bench` runs |
//! | [`workspace`]      | where provisioning and cargo leave what a VM needs |

pub mod bench;
pub mod bridge;
pub mod client;
pub mod client_kernel;
pub mod client_vm;
pub mod control_ring;
pub mod event;
pub mod front_end;
pub mod image_file;
pub mod initramfs;
pub mod ivshmem;
pub mod kernel_modules;
pub mod qemu;
pub mod qmp;
pub mod ring_driver;
pub mod running_server;
pub mod serve;
pub mod service_vm;
pub mod shared_memory;
pub mod vhost_user;
pub mod volume;
pub mod volume_image;
pub mod workspace;
