// SPDX-License-Identifier: GPL-2.0

//! Reads which file of the project imports which, and holds it against the table of
//! floors, `idts-common/floors.txt`.
//!
//! [`files`] finds the sources, [`read`] gathers the paths that a file names, [`scope`] has
//! the modules and what is in them, [`resolve`] follows a path to files, [`house`] is all of
//! it together. [`table`] reads the table, [`rules`] compares, [`report`] counts.

pub mod files;
pub mod house;
pub mod read;
pub mod report;
pub mod resolve;
pub mod rules;
pub mod scope;
pub mod table;
