// SPDX-License-Identifier: GPL-2.0

//! Accounts of domains, which outlive their tunnels: a counter for each violation, and a rate
//! limit for the log lines that a domain causes.
//!
//! The debugfs file `violations` shows them, and so does the file of each tunnel.

use core::iter::once_with;

use idts_core::error::Violation;
use idts_core::log_limit::LogLimit;
use kernel::debugfs::Writer;
use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::{new_mutex, new_spinlock, Arc, Mutex, SpinLock};

use crate::sys::clock::clock;
use crate::sys::counter::Counter;

/// Most accounts that are kept: twice as many as domains can have a tunnel at once. The least
/// recently used one is dropped for a new one.
const ACCOUNTS_MAX: usize = 512;

/// The account of a domain.
#[pin_data]
pub(crate) struct Account {
    domid: u16,
    violations: [Counter; Violation::ALL.len()],
    #[pin]
    lines: SpinLock<LogLimit>,
}

impl Account {
    /// Creates the account of a domain that has done nothing.
    fn new(domid: u16) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                domid,
                violations: [const { Counter::new() }; Violation::ALL.len()],
                lines <- new_spinlock!(LogLimit::NEW),
            }),
            GFP_KERNEL,
        )
    }

    /// Counts a violation by the domain.
    pub(crate) fn violated(&self, violation: Violation) {
        if let Some(counter) = self.violations.get(violation.index()) {
            counter.add(1);
        }
    }

    /// Returns whether a log line that the domain causes may be written now, and counts it as
    /// suppressed if not. Not for interrupt context.
    pub(crate) fn may_say(&self) -> bool {
        let Some(left_out) = self.lines.lock().allow(clock()) else {
            return false;
        };
        if left_out > 0 {
            pr_warn!("domain {}: {} lines were left out\n", self.domid, left_out);
        }
        true
    }

    /// All counters with their names.
    fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let left_out = || self.lines.lock().suppressed();
        let violations = Violation::ALL.iter().zip(&self.violations);
        let violations = violations.map(|(violation, n)| (violation.name(), n.get()));
        Iterator::chain(violations, once_with(move || ("log_left_out", left_out())))
    }

    /// Writes a line `name value` for each counter.
    pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.named()
            .try_for_each(|(name, value)| writeln!(f, "{name} {value}"))
    }
}

/// The accounts of all domains.
#[pin_data]
pub(crate) struct Accounts {
    /// In order of use, the least recently used first.
    #[pin]
    list: Mutex<KVec<Arc<Account>>>,
}

impl Accounts {
    /// Creates an empty list.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                list <- new_mutex!(KVec::new()),
            }),
            GFP_KERNEL,
        )
    }

    /// Returns the account of a domain, a new one if it has none, and marks it as the most
    /// recently used.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn of(&self, domid: u16) -> Result<Arc<Account>> {
        let mut list = self.list.lock();
        let known = list.iter().position(|account| account.domid == domid);
        let account = match known {
            Some(index) => list.remove(index).map_err(|_| EINVAL)?,
            None => {
                if list.len() >= ACCOUNTS_MAX {
                    let _ = list.remove(0);
                }
                Account::new(domid)?
            }
        };
        list.push(account.clone(), GFP_KERNEL)?;
        Ok(account)
    }
}

/// The debugfs file `violations`: a line `domid name value` for each counter that is not 0, also
/// of domains without a tunnel.
pub(crate) struct AccountsReport(pub(crate) Arc<Accounts>);

impl Writer for AccountsReport {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for account in self.0.list.lock().iter() {
            for (name, value) in account.named().filter(|(_, value)| *value != 0) {
                writeln!(f, "{} {name} {value}", account.domid)?;
            }
        }
        Ok(())
    }
}
