// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Gives the fuzzer's bytes to the target `ioctl`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| idts_core_fuzz::ioctl::fuzz_one(data));
