// SPDX-License-Identifier: GPL-2.0

//! Follows a path to the files that it names: the one that defines the item, and each one on
//! the way that hands it on.

use std::collections::BTreeSet;

use crate::scope::{Krate, Module, ModuleId};

/// What a path ends at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A module of ours.
    Module(ModuleId),
    /// An item of ours: its module, its name.
    Item(ModuleId, String),
    /// Something of a crate that is not ours, or Rust's own, or a name that this module does
    /// not have.
    Foreign(String),
}

/// Where a path leads.
#[derive(Clone, Debug, Default)]
pub struct Led {
    /// The files that it names.
    pub files: BTreeSet<String>,
    /// What it ends at: more than one thing, if a name has several meanings.
    pub ends: Vec<End>,
}

impl Led {
    fn add(&mut self, other: Led) {
        self.files.extend(other.files);
        self.ends.extend(other.ends);
    }
}

/// Imports that are being followed: who goes in a circle stops.
type Following = Vec<(ModuleId, String)>;

/// All modules and crates there are.
#[derive(Debug, Default)]
pub struct Modules {
    /// The crates.
    pub crates: Vec<Krate>,
    /// The modules of all crates.
    pub modules: Vec<Module>,
}

impl Modules {
    /// Follows a path that `module` names. `$crate` is the crate `home`.
    pub fn resolve(&self, module: ModuleId, path: &[String], home: usize) -> Led {
        let mut led = self.start(module, path, home, &mut Following::new());
        // A path of one name that ends at a module names its file.
        for end in &led.ends {
            if let End::Module(at) = end {
                led.files.insert(self.modules[*at].file.clone());
            }
        }
        led
    }

    fn start(&self, module: ModuleId, path: &[String], home: usize, on: &mut Following) -> Led {
        let Some((first, rest)) = path.split_first() else {
            return Led::default();
        };
        let krate = self.modules[module].krate;
        match first.as_str() {
            "crate" => self.walk(self.crates[krate].root, rest, on),
            "$crate" => self.walk(self.crates[home].root, rest, on),
            "self" => self.above(module, rest, on),
            "super" => match self.modules[module].parent {
                Some(parent) => self.above(parent, rest, on),
                None => self.foreign(first),
            },
            _ => {
                let found = self.look_up(module, first, rest, on);
                if !found.ends.is_empty() {
                    return found;
                }
                let named = |k: &&Krate| k.name == *first;
                match self.crates.iter().find(named) {
                    Some(krate) => self.walk(krate.root, rest, on),
                    None => self.foreign(first),
                }
            }
        }
    }

    /// Goes on from a module of ours, or from one above it while a `super` follows.
    fn above(&self, module: ModuleId, rest: &[String], on: &mut Following) -> Led {
        match rest.split_first() {
            Some((next, rest)) if next == "super" => match self.modules[module].parent {
                Some(parent) => self.above(parent, rest, on),
                None => self.foreign(next),
            },
            _ => self.walk(module, rest, on),
        }
    }

    fn foreign(&self, name: &str) -> Led {
        Led {
            files: BTreeSet::new(),
            ends: vec![End::Foreign(name.to_owned())],
        }
    }

    /// Goes down from a module.
    fn walk(&self, module: ModuleId, rest: &[String], on: &mut Following) -> Led {
        let Some((next, rest)) = rest.split_first() else {
            return Led {
                files: BTreeSet::new(),
                ends: vec![End::Module(module)],
            };
        };
        let mut led = self.look_up(module, next, rest, on);
        if led.ends.is_empty() {
            // A macro or an included file made it.
            led.ends.push(End::Item(module, next.clone()));
            led.files.insert(self.modules[module].file.clone());
        }
        led
    }

    /// Looks for a name in a module, and goes on from there. Nothing, if it is not there.
    fn look_up(&self, at: ModuleId, name: &str, rest: &[String], on: &mut Following) -> Led {
        let module = &self.modules[at];
        let mut led = Led::default();
        if let Some(children) = module.children.get(name) {
            for child in children {
                led.add(self.walk(*child, rest, on));
            }
            if !rest.is_empty() {
                return led;
            }
        }
        if module.items.contains(name) {
            led.files.insert(module.file.clone());
            led.ends.push(End::Item(at, name.to_owned()));
        }
        let key = (at, name.to_owned());
        if on.contains(&key) {
            return led;
        }
        on.push(key);
        for (_, path) in module.imports.iter().filter(|(called, _)| called == name) {
            let mut whole = path.clone();
            whole.extend_from_slice(rest);
            let further = self.start(at, &whole, module.krate, on);
            led.files.insert(module.file.clone());
            led.add(further);
        }
        if led.ends.is_empty() {
            for path in &module.globs {
                let from = self.start(at, path, module.krate, on);
                for end in from.ends {
                    let End::Module(from) = end else { continue };
                    let further = self.look_up(from, name, rest, on);
                    if !further.ends.is_empty() {
                        led.files.insert(module.file.clone());
                        led.add(further);
                    }
                }
            }
        }
        on.pop();
        led
    }
}
