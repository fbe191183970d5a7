// SPDX-License-Identifier: GPL-2.0

//! Linux, as the kernel crate does not offer it: waiting, work items, user memory, errors.
//!
//! With `mem` and `xen` the home of what is `unsafe`.

#![deny(clippy::missing_docs_in_private_items)]

pub(crate) mod bindings;
pub mod busy_poll;
pub mod clock;
pub(crate) mod counter;
pub mod errno;
pub(crate) mod test_override;
pub(crate) mod uaccess;
pub(crate) mod wait;
pub(crate) mod work;
