// SPDX-License-Identifier: GPL-2.0

//! The data region: the memory that channels lie in. PROTOCOL.md section 5.4.

pub(crate) mod segments;
