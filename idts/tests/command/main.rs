// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole command `idts` on unix sockets in place of the driver (feature `sockets`): what
//! it does when its outputs, its files, its peers and its signals are not what one hopes.

mod bed;
mod cats;
mod clocks;
mod disks;
mod echoes;
mod files;
mod groups;
mod names;
mod signals;
mod table;
mod transfers;
