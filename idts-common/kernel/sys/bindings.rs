// SPDX-License-Identifier: GPL-2.0

//! Xen's C interfaces and the helpers of helpers.c, as bindgen reads them.
//!
//! For wrappers of this crate alone. Types that the kernel crate has, too, are the kernel
//! crate's, so that its methods take them.

#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

pub use kernel::bindings::*;
use kernel::ffi;

include!(env!("IDTS_BINDINGS"));

/// `XBT_NIL`, a cast in C.
pub const XBT_NIL: xenbus_transaction = xenbus_transaction { id: 0 };
