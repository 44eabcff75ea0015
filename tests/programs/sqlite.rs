// SPDX-License-Identifier: MIT OR Apache-2.0

//! What sqlite has committed when the service VM is killed.
