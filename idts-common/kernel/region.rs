// SPDX-License-Identifier: GPL-2.0

//! The data region: the memory that channels lie in.

pub(crate) mod segments;
