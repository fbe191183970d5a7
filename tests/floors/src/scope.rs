// SPDX-License-Identifier: GPL-2.0

//! Modules and the names that each one has.

use std::collections::{BTreeMap, BTreeSet};

/// Index of a module in the house.
pub type ModuleId = usize;

/// The segments of a path.
pub type Segments = Vec<String>;

/// A module: a file, or a part of one.
#[derive(Debug, Default)]
pub struct Module {
    /// Index of its crate.
    pub krate: usize,
    /// The file that it is in.
    pub file: String,
    /// The module that declares it.
    pub parent: Option<ModuleId>,
    /// Modules that it declares; several of one name, if it depends on a feature which it is.
    pub children: BTreeMap<String, Vec<ModuleId>>,
    /// What is defined in it.
    pub items: BTreeSet<String>,
    /// What it imports or hands on, under the name that it gives to it.
    pub imports: Vec<(String, Segments)>,
    /// Of what it imports everything.
    pub globs: Vec<Segments>,
}

/// A path that a module names.
#[derive(Clone, Debug)]
pub struct Named {
    /// The module.
    pub module: ModuleId,
    /// The segments, from `crate`, `self`, `super`, `$crate` or a name in the module.
    pub path: Segments,
    /// Where it stands.
    pub line: usize,
    /// Counts only if it leads somewhere: a string that may be a path.
    pub is_guess: bool,
}

/// An `impl`.
#[derive(Clone, Debug)]
pub struct Impl {
    /// The module that it is in.
    pub module: ModuleId,
    /// The trait, if it is of one.
    pub of: Option<Segments>,
    /// What the trait is given: types of ours stand for it where it is not ours.
    pub given: Vec<Segments>,
    /// The type, if it has a name.
    pub on: Option<Segments>,
    /// Where it stands.
    pub line: usize,
}

/// A macro by example.
#[derive(Clone, Debug)]
pub struct Macro {
    /// Its name.
    pub name: String,
    /// The module that defines it.
    pub module: ModuleId,
    /// What it names. That belongs to whoever calls it.
    pub paths: Vec<Segments>,
}

/// A call of a macro.
#[derive(Clone, Debug)]
pub struct Call {
    /// The module that calls.
    pub module: ModuleId,
    /// The macro.
    pub path: Segments,
    /// Where it stands.
    pub line: usize,
}

/// A crate.
#[derive(Clone, Debug)]
pub struct Krate {
    /// The name by which others import it; empty for a program.
    pub name: String,
    /// Its first file.
    pub root_file: String,
    /// Its first module.
    pub root: ModuleId,
    /// Whether its circles are a failure, not only told.
    pub is_held: bool,
}
