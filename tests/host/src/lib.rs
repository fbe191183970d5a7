// SPDX-License-Identifier: GPL-2.0
//! What the tests of the commands `idts` and `tunnel-mgr` on the host share: a host without Xen
//! whose xenstored is the real one ([`bed`]), on which a toolstack ([`dom0`]) and guests
//! ([`guest`]) are threads.

pub mod apart;
pub mod bed;
pub mod dom0;
pub mod guest;
