// SPDX-License-Identifier: GPL-2.0

//! Linux, as the kernel crate does not offer it: waiting, work items, user memory, errors.
//!
//! With `mem` and `xen` the home of what is `unsafe`.

#![deny(clippy::missing_docs_in_private_items)]

pub(crate) mod bindings;
pub mod busy_poll;
pub mod clock;
pub mod counter;
pub mod cpu;
pub mod errno;
pub(crate) mod rcu;
pub mod ready_list;
pub mod test_override;
pub(crate) mod uaccess;
pub mod wait;
pub mod work;
