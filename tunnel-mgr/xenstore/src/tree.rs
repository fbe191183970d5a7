// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a tool reads of a xenstore, whoever has it.

use std::io;

/// What a tool may read of a xenstore, real or made up for a test.
pub trait Tree {
    /// The value at `path`; None when there is no such node.
    ///
    /// # Errors
    /// EACCES, or a broken connection.
    fn read(&mut self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// Names of the children of `path`; none when there is no such node.
    ///
    /// # Errors
    /// EACCES, EAGAIN when they never stop changing, or a broken connection.
    fn list(&mut self, path: &str) -> io::Result<Vec<String>>;
}

/// Where each domain has a folder, by its id.
pub const DOMAINS: &str = "/local/domain";

/// The id of the domain called `name`, as dom0 sees it.
///
/// # Errors
/// EACCES outside dom0; that two are called so; what reading gives otherwise.
pub fn domain_by_name(tree: &mut (impl Tree + ?Sized), name: &str) -> io::Result<Option<u16>> {
    let mut found = None;
    for domain in tree.list(DOMAINS)? {
        let Ok(id) = domain.parse::<u16>() else {
            continue;
        };
        let of = tree.read(&format!("{DOMAINS}/{id}/name"))?;
        if of.as_deref() != Some(name.as_bytes()) {
            continue;
        }
        if let Some(first) = found.replace(id) {
            let text = format!("two domains are called `{name}`: {first} and {id}");
            return Err(io::Error::other(text));
        }
    }
    Ok(found)
}
