// SPDX-License-Identifier: MIT OR Apache-2.0

//! The core of Skerry, an isolated file server.
//!
//! It is the *device side* of virtio-9p: it takes requests from a virtqueue that a client's kernel fills,
//! answers them from an ext4 volume, and moves the bytes of a file once, from the mapped volume into the
//! client's own buffers. It runs on no operating system: [`boot`](../boot) wraps it into a bootable image,
//! [`host`](../host) into a host process.
//!
//! Goals, in this order: correct, isolated, durable, fast, observable, small, pleasant to read.
//!
//! The modules, each depending only on those above it:
//!
//! | module      | subject                                                                          |
//! |-------------|----------------------------------------------------------------------------------|
//! | [`mem`]     | guest memory, scatter lists, the volume's region; the only `unsafe` of the core  |
//! | [`virtq`]   | virtqueues seen from the device: descriptor chains, rings, notification          |
//! | [`wire`]    | 9P2000.L messages: parse and emit                                                |
//! | [`fs`]      | the trait between the server and what it serves; the synthetic `ctl` tree        |
//! | [`ext4`]    | an ext4 volume as a [`fs::FileSystem`]                                           |
//! | [`server`]  | sessions, fids, locks, access, and one function for each request                 |
//! | [`service`] | a ring joined to a session: drain, publish, notify                               |
//! | [`poll`]    | how long to look at a ring before sleeping                                       |

#![no_std]
#![deny(unsafe_code)]
// Tests are built with overflow checks, and may rely on them.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod ext4;
pub mod fs;
pub mod mem;
pub mod poll;
pub mod server;
#[expect(clippy::arithmetic_side_effects, reason = "its counters have 64 bits")]
pub mod service;
pub mod virtq;
pub mod wire;
