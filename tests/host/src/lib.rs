// SPDX-License-Identifier: GPL-2.0
//! What the tests of the commands `idts` and `tunnel-mgr` on the host share: the table of all that
//! both are tried against ([`table`], [`walk`]), and a host without Xen whose xenstored is the
//! real one ([`bed`]), on which a toolstack ([`dom0`]) and guests ([`guest`]) are threads.

pub mod apart;
pub mod bed;
pub mod dom0;
pub mod guest;
pub mod outputs;
pub mod table;
pub mod walk;
