// SPDX-License-Identifier: GPL-2.0
//! One module for each verb, each with a `run` over its arguments, and what
//! they share.

pub mod attach;
pub mod detach;
pub mod list;
pub mod scheduler;
pub mod set;
pub mod stats;
pub mod watch;

use std::time::Instant;

use anyhow::{bail, Context, Result};

use crate::kernel::Kernel;
use crate::model::Tunnel;
use crate::settings::Settings;
use crate::store::{self, Store};

/// What the verbs work on.
pub struct Manager<'a> {
    pub store: &'a mut dyn Store,
    pub kernel: Kernel,
    /// The domain that this program runs in: the backend of its tunnels.
    pub domain: u16,
}

impl<'a> Manager<'a> {
    pub fn new(store: &'a mut dyn Store, kernel: Kernel) -> Result<Self> {
        let domain = store::own_domain(store)?;
        Ok(Self {
            store,
            kernel,
            domain,
        })
    }

    /// What is set for domains, in this one.
    pub fn settings(&self) -> Settings {
        Settings { home: self.domain }
    }

    /// The tunnel with the domain that `text` means, which need not be alive.
    fn tunnel(&mut self, text: &str) -> Result<Tunnel> {
        let front = store::resolve(self.store, text)?;
        if front == self.domain {
            bail!("domain {front} is this one: a tunnel goes to another");
        }
        Ok(Tunnel {
            front,
            back: self.domain,
        })
    }

    /// Waits until something watched changes; false once the deadline has passed,
    /// whatever has changed.
    fn wait(&mut self, deadline: Instant) -> Result<bool> {
        let in_time = self.store.wait(deadline, None);
        let in_time = in_time.context("cannot wait for xenstore")?;
        self.store.changes().context("cannot wait for xenstore")?;
        Ok(in_time)
    }

    /// The domain as messages name it.
    fn label(&mut self, domain: u16) -> String {
        match store::name_of(self.store, domain) {
            Some(name) => format!("domain {domain} ({name})"),
            None => format!("domain {domain}"),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::fake::Fake;

    /// A host with dom0 and guests.
    pub struct Ground {
        pub store: Fake,
    }

    impl Ground {
        /// Guests of these ids, called u and the id.
        pub fn new(guests: &[u16]) -> Self {
            let names: Vec<_> = guests.iter().map(|id| (*id, format!("u{id}"))).collect();
            let mut domains = vec![(0, "Domain-0")];
            domains.extend(names.iter().map(|(id, name)| (*id, name.as_str())));
            Self {
                store: Fake::with_domains(&domains),
            }
        }
    }

    pub fn manager(ground: &mut Ground) -> Manager<'_> {
        let kernel = Kernel {
            root: "/nowhere".into(),
        };
        Manager::new(&mut ground.store, kernel).unwrap()
    }

    #[test]
    fn no_tunnel_goes_to_its_own_domain() {
        let mut ground = Ground::new(&[3]);
        let mut manager = manager(&mut ground);
        assert!(manager.tunnel("Domain-0").is_err());
        assert!(manager.tunnel("0").is_err());
        assert_eq!(manager.tunnel("u3").unwrap().front, 3);
    }
}
