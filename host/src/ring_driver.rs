// SPDX-License-Identifier: MIT OR Apache-2.0

//! The driver side of a split virtqueue (virtio 1.3, section 2.7) in memory shared with the device.
//!
//! [`Ring`] is the ring alone: descriptors, available and used ring, notification suppression. It also has raw access, so
//! that a test can lie to the device. [`Requests`] puts requests and replies through it: a fixed set of
//! buffers, each for one request in flight.

mod requests;
mod ring;

pub use requests::{Chaining, RequestError, Requests, Token};
pub use ring::{Descriptor, DescriptorFlags, Layout, Ring, RingError, features};
