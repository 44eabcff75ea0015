// SPDX-License-Identifier: MIT OR Apache-2.0

//! A packed ring whose driver is the fuzzer: any memory, any addresses, any configuration, and the memory changed between any
//! two steps. Nothing may be accessed but the memory, which lies between pages without rights; each pass ends within its budget.

#![no_main]

#[allow(dead_code, reason = "the driver that keeps to the rules has split rings")]
mod ring;

use libfuzzer_sys::fuzz_target;
use ring::hostile::{Script, run};
use skerry::virtq::RingFeatures;

fuzz_target!(|script: Script| run(&script, RingFeatures::RING_PACKED));
