// SPDX-License-Identifier: GPL-2.0

//! The Rust sources of the project, by their paths from its top.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Text of each file, by its path from the project's top.
pub type Sources = BTreeMap<String, String>;

/// Folders that hold no sources of ours, and a source that building the modules makes.
const SKIPPED: [&str; 4] = ["target", "corpus", "artifacts", "bindings_generated.rs"];

/// Reads all Rust sources below `top`.
pub fn sources(top: &Path) -> Result<Sources> {
    let mut found = Sources::new();
    walk(top, "", &mut found)?;
    Ok(found)
}

fn walk(top: &Path, folder: &str, found: &mut Sources) -> Result<()> {
    let at = top.join(folder);
    let entries = fs::read_dir(&at).with_context(|| format!("cannot list {}", at.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || SKIPPED.contains(&name.as_str()) {
            continue;
        }
        let path = match folder {
            "" => name,
            _ => format!("{folder}/{name}"),
        };
        if entry.file_type()?.is_dir() {
            walk(top, &path, found)?;
        } else if path.ends_with(".rs") {
            let text = fs::read_to_string(top.join(&path));
            found.insert(path.clone(), text.with_context(|| path)?);
        }
    }
    Ok(())
}

/// The folder of a file.
pub fn folder(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The folder in which the modules lie that `file` declares.
pub fn children(file: &str, is_root: bool) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    if is_root || name == "mod.rs" {
        return folder(file).to_owned();
    }
    file.trim_end_matches(".rs").to_owned()
}

/// The room that a file belongs to: the folder that it opens, or else the one that it is in.
pub fn room(sources: &Sources, file: &str) -> String {
    let opened = format!("{}/", file.trim_end_matches(".rs"));
    let opens = sources.keys().any(|other| other.starts_with(&opened));
    if opens {
        opened.trim_end_matches('/').to_owned()
    } else {
        folder(file).to_owned()
    }
}

/// Whether a file that no library declares is a program of its own, as Cargo finds them.
pub fn is_program(file: &str) -> bool {
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
    let above = folder.rsplit('/').next().unwrap_or("");
    matches!(name, "main.rs" | "lib.rs") || matches!(above, "tests" | "bin" | "examples")
}
