// SPDX-License-Identifier: GPL-2.0

//! The kernel side of IDTS that both modules share.
//!
//! Wrappers of C and of shared memory, most of what is `unsafe`: [`xenbus`],
//! [`grant`], [`evtchn`], [`shared`], [`wait`], [`fault`], [`slots`],
//! [`chardev`]. On them: [`tunnel`] with [`opening`] and [`segments`],
//! [`channel`] with [`records`], [`endpoint`] with [`patience`], [`hub`],
//! [`reaper`], [`stats`]. For the back: [`mover`] with [`relay`] and [`groups`],
//! [`policy`], [`home`]. The protocol itself is `idts_core`.
//!
//! Only {xenbus, grant, evtchn, shared} reach Xen and peers; the two drivers see
//! xenbus, hub, tunnel and nothing else.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

/// Prefix of `pr_*!` lines, which `module!` defines for a module's own crate.
const __LOG_PREFIX: &[u8] = b"idts\0";

/// The queue that all of our work runs on: unbound, for it is rare and short.
fn queue() -> &'static kernel::workqueue::Queue {
    // SAFETY: A queue of the kernel's own, made at boot and never destroyed. The
    // kernel crate's own getters still name the deprecated ones.
    unsafe { kernel::workqueue::Queue::from_raw(kernel::bindings::system_dfl_wq) }
}

/// Waits until a work that is queued or runs is done. To be called where one may
/// sleep, and not from the work.
fn flush<T, const ID: u64>(work: &kernel::workqueue::Work<T, ID>) {
    // SAFETY: Whoever has a `Work` has an initialised one.
    unsafe { bindings::flush_work(kernel::workqueue::Work::raw_get(work)) };
}

mod bindings;
mod channel;
pub mod chardev;
mod endpoint;
pub mod errno;
mod evtchn;
mod fault;
mod grant;
mod groups;
mod home;
pub mod hub;
mod mover;
pub mod opening;
mod patience;
mod policy;
mod reaper;
mod records;
mod relay;
mod segments;
mod shared;
mod slots;
mod stats;
pub mod tunnel;
mod wait;
pub mod xenbus;
