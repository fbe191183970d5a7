// SPDX-License-Identifier: GPL-2.0

//! The house: all crates with their modules, and which file imports which.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{anyhow, bail, Context, Result};

use crate::files::{self, Sources};
use crate::read::{self, Declared, Gathered};
use crate::resolve::{End, Led, Modules};
use crate::scope::{Impl, Krate, Module, ModuleId};

/// An import: the file, and the file that it names.
pub type Arrow = (String, String);

/// All that was read.
#[derive(Debug)]
pub struct House {
    /// The sources.
    pub sources: Sources,
    /// Crates and modules.
    pub all: Modules,
    /// The arrows, and what makes each: a line and the path.
    pub arrows: BTreeMap<Arrow, Vec<String>>,
    /// First segments of paths that lead out of our crates, by file.
    pub foreign: BTreeMap<String, BTreeSet<String>>,
    /// The `impl`s.
    pub impls: Vec<Impl>,
    /// Files without an opening comment.
    pub undocumented: BTreeSet<String>,
    /// Files that belong to no crate.
    pub stray: Vec<String>,
}

impl House {
    /// Reads the crates `held`, each a name and a first file, and what else is there.
    pub fn read(sources: Sources, held: &[(String, String)]) -> Result<Self> {
        let mut house = Self {
            sources,
            all: Modules::default(),
            arrows: BTreeMap::new(),
            foreign: BTreeMap::new(),
            impls: Vec::new(),
            undocumented: BTreeSet::new(),
            stray: Vec::new(),
        };
        let mut all = Gathered::default();
        let mut seen = BTreeSet::new();
        for (name, root) in held {
            house.read_crate(&mut all, &mut seen, name, root, true)?;
        }
        let others: Vec<String> = house.sources.keys().cloned().collect();
        for root in others.iter().filter(|file| files::is_program(file)) {
            if !seen.contains(root) {
                house.read_crate(&mut all, &mut seen, "", root, false)?;
            }
        }
        house.stray = others.into_iter().filter(|f| !seen.contains(f)).collect();
        house.all.modules = std::mem::take(&mut all.modules);
        house.undocumented = std::mem::take(&mut all.undocumented);
        house.draw(&all);
        house.impls = all.impls;
        Ok(house)
    }

    fn read_crate(
        &mut self,
        all: &mut Gathered,
        seen: &mut BTreeSet<String>,
        name: &str,
        root: &str,
        is_held: bool,
    ) -> Result<()> {
        let krate = self.all.crates.len();
        let first = all.modules.len();
        all.modules.push(Module {
            krate,
            file: root.to_owned(),
            ..Module::default()
        });
        self.all.crates.push(Krate {
            name: name.to_owned(),
            root_file: root.to_owned(),
            root: first,
            is_held,
        });
        // A file of any name that is named by its path has its modules beside it, as a root has.
        let mut left = vec![(first, true)];
        while let Some((module, is_first)) = left.pop() {
            let file = all.modules[module].file.clone();
            let text = self.sources.get(&file);
            let text = text.ok_or_else(|| anyhow!("{file} is not there"))?;
            seen.insert(file.clone());
            let declared = read::read_file(all, module, text).with_context(|| file.clone())?;
            for child in declared {
                for (below, is_named) in self.find(&file, is_first, &child)? {
                    all.modules.push(Module {
                        krate,
                        file: below,
                        parent: Some(child.parent),
                        ..Module::default()
                    });
                    let id = all.modules.len() - 1;
                    let children = &mut all.modules[child.parent].children;
                    children.entry(child.name.clone()).or_default().push(id);
                    left.push((id, is_named));
                }
            }
        }
        Ok(())
    }

    /// The files of a module that another file declares, each with whether it is named by its
    /// path: more than one, if a feature chooses.
    fn find(&self, file: &str, is_root: bool, child: &Declared) -> Result<Vec<(String, bool)>> {
        let beside = |path: &String| normal(&format!("{}/{path}", files::folder(file)));
        let chosen = child.chosen.iter().map(|path| (beside(path), true));
        if let Some(path) = &child.path {
            return Ok(chosen.chain([(beside(path), true)]).collect());
        }
        let mut folder = files::children(file, is_root);
        for inside in &child.inside {
            folder = format!("{folder}/{inside}");
        }
        let name = &child.name;
        for path in [
            format!("{folder}/{name}.rs"),
            format!("{folder}/{name}/mod.rs"),
        ] {
            let path = path.trim_start_matches('/').to_owned();
            if self.sources.contains_key(&path) {
                return Ok(chosen.chain([(path, false)]).collect());
            }
        }
        bail!("{file}: no file has the module {name}");
    }

    /// Resolves every path.
    fn draw(&mut self, all: &Gathered) {
        for named in &all.named {
            let home = self.all.modules[named.module].krate;
            let led = self.all.resolve(named.module, &named.path, home);
            if !named.is_guess {
                self.note_foreign(named.module, &led);
            }
            self.note(named.module, led, named.line, &named.path);
        }
        for call in &all.calls {
            let krate = self.all.modules[call.module].krate;
            let led = self.all.resolve(call.module, &call.path, krate);
            self.note(call.module, led.clone(), call.line, &call.path);
            // By its name alone, a macro is known below the place where it was defined.
            let last = call.path.last();
            let is_it = |m: &&crate::scope::Macro| {
                Some(&m.name) == last
                    && (led.ends.contains(&End::Item(m.module, m.name.clone()))
                        || call.path.len() == 1 && self.all.modules[m.module].krate == krate)
            };
            let found: Vec<_> = all.macros.iter().filter(is_it).collect();
            for made in found {
                let file = self.all.modules[made.module].file.clone();
                let home = self.all.modules[made.module].krate;
                let to = Led {
                    files: [file].into(),
                    ends: Vec::new(),
                };
                self.note(call.module, to, call.line, &call.path);
                for path in &made.paths {
                    let led = self.all.resolve(call.module, path, home);
                    self.note(call.module, led, call.line, path);
                }
            }
        }
    }

    fn note_foreign(&mut self, module: ModuleId, led: &Led) {
        let file = &self.all.modules[module].file;
        for end in &led.ends {
            if let End::Foreign(name) = end {
                let names = self.foreign.entry(file.clone()).or_default();
                names.insert(name.clone());
            }
        }
    }

    fn note(&mut self, module: ModuleId, led: Led, line: usize, path: &[String]) {
        let from = &self.all.modules[module].file;
        for to in led.files {
            if *from != to {
                let arrow = (from.clone(), to);
                let why = format!("line {line}: {}", path.join("::"));
                self.arrows.entry(arrow).or_default().push(why);
            }
        }
    }

    /// The file of a module.
    pub fn file(&self, module: ModuleId) -> &str {
        &self.all.modules[module].file
    }

    /// The crate of a file, the first if several have it.
    pub fn crate_of(&self, file: &str) -> Option<&Krate> {
        let module = self.all.modules.iter().find(|m| m.file == file)?;
        self.all.crates.get(module.krate)
    }
}

/// A path without `..`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}
