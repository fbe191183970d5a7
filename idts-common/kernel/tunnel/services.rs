// SPDX-License-Identifier: GPL-2.0

//! The shared parts of a module that every tunnel uses.

use kernel::prelude::*;
use kernel::sync::Arc;

use super::inline::Inline;
use super::payer::Users;
use crate::link::accounts::Accounts;
use crate::link::grace::Grace;
use crate::xen::reclaim::Reclaim;

/// Shared parts of a module that every tunnel uses.
#[pin_data]
pub struct Services {
    /// Accounts of domains, across their tunnels.
    pub(crate) accounts: Arc<Accounts>,
    /// Pages that peers still map.
    pub(crate) reclaim: Arc<Reclaim>,
    /// Waiters that event handlers may still look at.
    pub(crate) grace: Arc<Grace>,
    /// Accounts of users.
    pub users: Arc<Users>,
    /// The process that handles messages while it waits.
    #[pin]
    pub(crate) inline: Inline,
}

impl Services {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let (accounts, reclaim) = (Accounts::new()?, Reclaim::new()?);
        let (grace, users) = (Grace::new()?, Users::new()?);
        Arc::pin_init(
            pin_init!(Self {
                accounts,
                reclaim,
                grace,
                users,
                inline <- Inline::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether the log may have a line now that a domain caused, by a set-up that
    /// it spoiled for instance. If not, it is counted.
    pub fn may_log(&self, domid: u16) -> bool {
        self.accounts
            .of(domid)
            .is_ok_and(|account| account.may_say())
    }

    /// Finishes all work, at module exit. May sleep.
    pub(crate) fn finish(&self) {
        self.grace.finish();
        self.reclaim.finish();
    }
}
