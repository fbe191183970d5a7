// SPDX-License-Identifier: GPL-2.0

//! The services of a module that all its tunnels share.

use kernel::prelude::*;
use kernel::sync::Arc;

use super::inline::Inline;
use super::payer::Users;
use crate::link::accounts::Accounts;
use crate::link::grace::Grace;
use crate::xen::reclaim::Reclaim;

/// The services of a module that all its tunnels share.
#[pin_data]
pub struct Services {
    /// The accounts of domains, which outlive their tunnels.
    pub(crate) accounts: Arc<Accounts>,
    /// Granted pages that peers still map.
    pub(crate) reclaim: Arc<Reclaim>,
    /// Removed waiters that event handlers may still access.
    pub(crate) grace: Arc<Grace>,
    /// The quotas of users.
    pub users: Arc<Users>,
    /// Inline processing of control messages.
    #[pin]
    pub(crate) inline: Inline,
}

impl Services {
    /// Creates the services of a module.
    ///
    /// # Errors
    /// `ENOMEM`.
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

    /// Returns whether a log line that a domain causes, for example by a failed set-up, may be
    /// written now, and counts it as suppressed if not.
    pub fn may_log(&self, domid: u16) -> bool {
        self.accounts
            .of(domid)
            .is_ok_and(|account| account.may_say())
    }

    /// Finishes all work at module exit. May sleep.
    pub(crate) fn finish(&self) {
        self.grace.finish();
        self.reclaim.finish();
    }
}
