// SPDX-License-Identifier: GPL-2.0

//! What is kept of each domain across its tunnels: the rules that it broke, by
//! name, and the log lines that it caused, of which a few are written. Shown by
//! the debugfs file `violations` and by each tunnel's own.

use core::iter::once_with;

use idts_core::error::Violation;
use idts_core::log_limit::LogLimit;
use kernel::debugfs::Writer;
use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::{new_mutex, new_spinlock, Arc, Mutex, SpinLock};

use crate::sys::clock::clock;
use crate::sys::counter::Counter;

/// Domains that are remembered: twice as many as have a tunnel at once. Who was
/// silent for longest is forgotten.
const ACCOUNTS_MAX: usize = 512;

/// What is kept of a domain.
#[pin_data]
pub(crate) struct Account {
    domid: u16,
    violations: [Counter; Violation::ALL.len()],
    #[pin]
    lines: SpinLock<LogLimit>,
}

impl Account {
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

    /// The domain broke a rule.
    pub(crate) fn violated(&self, violation: Violation) {
        if let Some(counter) = self.violations.get(violation.index()) {
            counter.add(1);
        }
    }

    /// Whether the log may have a line now that the domain caused; if not, it is
    /// counted. Never from interrupts.
    pub(crate) fn may_say(&self) -> bool {
        let Some(left_out) = self.lines.lock().allow(clock()) else {
            return false;
        };
        if left_out > 0 {
            pr_warn!("domain {}: {} lines were left out\n", self.domid, left_out);
        }
        true
    }

    /// All counters, by name.
    fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let left_out = || self.lines.lock().suppressed();
        let violations = Violation::ALL.iter().zip(&self.violations);
        let violations = violations.map(|(violation, n)| (violation.name(), n.get()));
        Iterator::chain(violations, once_with(move || ("log_left_out", left_out())))
    }

    /// A line `name value` for each counter.
    pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.named()
            .try_for_each(|(name, value)| writeln!(f, "{name} {value}"))
    }
}

/// What is kept of all domains.
#[pin_data]
pub(crate) struct Accounts {
    /// Whose tunnel was set up, or who had a line to cause, last comes last.
    #[pin]
    list: Mutex<KVec<Arc<Account>>>,
}

impl Accounts {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                list <- new_mutex!(KVec::new()),
            }),
            GFP_KERNEL,
        )
    }

    /// What is kept of a domain; from now on, if nothing was.
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

/// What the debugfs file `violations` shows: a line `domid name value` for each
/// counter that is not 0, also of domains without a tunnel.
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
