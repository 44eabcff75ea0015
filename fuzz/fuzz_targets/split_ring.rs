// SPDX-License-Identifier: MIT OR Apache-2.0

//! A split ring whose driver is the fuzzer: any memory, any addresses, any configuration, and the memory changed between any
//! two steps. Nothing may be accessed but the memory, which lies between pages without rights; each pass ends within its budget.
//! A driver that keeps to the rules is among them: it gets each of its requests answered, in order, once.

#![no_main]

mod ring;

use libfuzzer_sys::fuzz_target;
use ring::Input;
use skerry::virtq::RingFeatures;

fuzz_target!(|input: Input| match input {
    Input::Behaved(input) => ring::behaved::run(&input),
    Input::Hostile(input) => ring::hostile::run(&input, RingFeatures::empty()),
});
