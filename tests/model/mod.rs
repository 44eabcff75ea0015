// SPDX-License-Identifier: MIT OR Apache-2.0

//! The parts of the model-based test.

pub mod comparison;
pub mod content;
pub mod locks;
pub mod operation;
pub mod reference;
pub mod request;
pub mod resolver;
pub mod server;
