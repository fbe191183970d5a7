// SPDX-License-Identifier: MIT OR Apache-2.0
//! Domains by name. The driver knows `dom0` and the aliases that dom0 gave; in dom0,
//! xenstore has the names of all domains too, for those who may read it. An alias is the
//! administrator's word and counts first; a name is often its owner's choice.

use std::fmt;
use std::io;

use anyhow::{anyhow, bail, Context, Result};
use idts::{Driver, Role};
use idts_xenstore::{domain_by_name, Client, Tree};

use crate::cli::Domain;

/// Below it each domain's settings, one of which is its alias.
const SETTINGS: &str = "/local/domain/0/idts/domain";

/// Nobody is called so; somebody may be, later.
#[derive(Debug)]
pub struct NoSuchName(pub String);

impl fmt::Display for NoSuchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no domain is called `{}`", self.0)
    }
}

impl std::error::Error for NoSuchName {}

/// True in dom0.
pub fn are_known() -> Result<bool> {
    Ok(Driver::query()?.role == Role::Back)
}

/// The id of the domain called `name`.
pub fn id_of_name(name: &str) -> Result<u16> {
    let failed = || format!("cannot look the domain `{name}` up");
    let mut store = Client::open().with_context(failed)?;
    let found = domain_by_name(&mut store, name).with_context(failed)?;
    found.ok_or_else(|| anyhow!(NoSuchName(name.into())))
}

/// The id of a domain that is alone meant to connect.
pub fn id_of(domain: &Domain) -> Result<u16> {
    let name = match domain {
        Domain::Id(id) => return Ok(*id),
        Domain::Name(name) if name == "dom0" => return Ok(0),
        Domain::Name(name) => name,
    };
    if !are_known()? {
        bail!("`{name}`: a guest knows domains that connect by their ids alone");
    }
    let failed = || format!("cannot look the domain `{name}` up");
    let mut store = Client::open().with_context(failed)?;
    if let Some(id) = id_of_alias(&mut store, name).with_context(failed)? {
        return Ok(id);
    }
    id_of_name(name)
}

/// The id of the domain that has the alias, if one has, and alone.
fn id_of_alias(store: &mut (impl Tree + ?Sized), alias: &str) -> io::Result<Option<u16>> {
    let mut found = None;
    for domain in store.list(SETTINGS)? {
        let Ok(id) = domain.parse() else { continue };
        let theirs = store.read(&format!("{SETTINGS}/{id}/alias"))?;
        if theirs.as_deref() == Some(alias.as_bytes()) && found.replace(id).is_some() {
            return Ok(None);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Aliases(Vec<(&'static str, &'static str)>);

    impl Tree for Aliases {
        fn read(&mut self, path: &str) -> io::Result<Option<Vec<u8>>> {
            let of = |id: &str| format!("{SETTINGS}/{id}/alias") == path;
            let found = self.0.iter().find(|(id, _)| of(id));
            Ok(found.map(|(_, alias)| alias.as_bytes().to_vec()))
        }

        fn list(&mut self, _: &str) -> io::Result<Vec<String>> {
            Ok(self.0.iter().map(|(id, _)| id.to_string()).collect())
        }
    }

    #[test]
    fn an_alias_that_two_have_is_that_of_neither() {
        let mut store = Aliases(vec![("3", "web"), ("x", "db"), ("4", "db"), ("5", "db")]);
        let mut of = |alias| id_of_alias(&mut store, alias).unwrap();
        assert_eq!((of("web"), of("db"), of("none")), (Some(3), None, None));
    }
}
