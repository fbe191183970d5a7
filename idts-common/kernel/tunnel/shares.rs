// SPDX-License-Identifier: GPL-2.0

//! Who asked for what in a tunnel: requests without an answer, and what each
//! peer domain has of the region. Bounded, so that nobody keeps the others out.
//!
//! Owns the sums and what is given back by being dropped. Limits and keys are
//! `idts_core::quota`'s.

use idts_core::quota::{Requester, UNANSWERED_MAX};
use idts_core::usage::{Limit, Usage, UsageTable};
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};

/// The askers of a tunnel.
#[pin_data]
pub(crate) struct Shares {
    #[pin]
    ledger: Mutex<UsageTable<KVec<Usage>>>,
}

impl Shares {
    /// Nobody asked.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                ledger <- new_mutex!(UsageTable::new(KVec::new())),
            }),
            GFP_KERNEL,
        )
    }

    fn add(self: &Arc<Self>, by: Requester, count: u32, bytes: u64, most: Limit) -> Option<Entry> {
        let mut ledger = self.ledger.lock();
        if !ledger.has_free_entry() {
            // Without one the ledger says so.
            let _ = ledger.entries_mut().push(Usage::default(), GFP_KERNEL);
        }
        ledger.charge(by.key(), count, bytes, most).ok()?;
        Some(Entry {
            shares: self.clone(),
            by,
            count,
            bytes,
        })
    }

    /// Somebody asks.
    pub(crate) fn ask(self: &Arc<Self>, by: Requester) -> Option<Question> {
        let most = Limit {
            count: UNANSWERED_MAX,
            ..Limit::UNLIMITED
        };
        self.add(by, 1, 0, most).map(Question)
    }

    /// A domain takes `bytes` of the region, of which it may have `most`.
    pub(crate) fn share(self: &Arc<Self>, by: u16, bytes: u32, most: u64) -> Option<Share> {
        let most = Limit {
            bytes: most,
            ..Limit::UNLIMITED
        };
        self.add(Requester::Domain(by), 0, bytes.into(), most)
            .map(Share)
    }
}

/// Something in the ledger.
struct Entry {
    shares: Arc<Shares>,
    by: Requester,
    count: u32,
    bytes: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut ledger = self.shares.ledger.lock();
        ledger.uncharge(self.by.key(), self.count, self.bytes);
    }
}

/// A request without an answer.
pub(crate) struct Question(#[allow(dead_code)] Entry);

/// A part of the region that a domain asked for.
pub(crate) struct Share(#[allow(dead_code)] Entry);
