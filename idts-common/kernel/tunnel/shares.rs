// SPDX-License-Identifier: GPL-2.0

//! The shares of requesters in a tunnel: unanswered requests, and each peer domain's part of the
//! region. Both are limited, so that no requester can shut out the others.
//!
//! This file owns the sums and the charges that are refunded when dropped. `idts_core::quota`
//! has limits and keys.

use idts_core::quota::{Requester, UNANSWERED_MAX};
use idts_core::usage::{Limit, Usage, UsageTable};
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};

/// The charges of a tunnel's requesters.
#[pin_data]
pub(crate) struct Shares {
    #[pin]
    ledger: Mutex<UsageTable<KVec<Usage>>>,
}

impl Shares {
    /// Creates an empty table.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                ledger <- new_mutex!(UsageTable::new(KVec::new())),
            }),
            GFP_KERNEL,
        )
    }

    /// Charges a requester up to the limit `most`. None: the limit is reached, or there is no
    /// memory.
    fn add(self: &Arc<Self>, by: Requester, count: u32, bytes: u64, most: Limit) -> Option<Entry> {
        let mut ledger = self.ledger.lock();
        if !ledger.has_free_entry() {
            // Without memory for an entry the charge fails.
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

    /// Counts an unanswered request. None: the requester has too many.
    pub(crate) fn ask(self: &Arc<Self>, by: Requester) -> Option<Question> {
        let most = Limit {
            count: UNANSWERED_MAX,
            ..Limit::UNLIMITED
        };
        self.add(by, 1, 0, most).map(Question)
    }

    /// Charges a domain for `bytes` of the region, of which it may have `most`. None: it would
    /// have more.
    pub(crate) fn share(self: &Arc<Self>, by: u16, bytes: u32, most: u64) -> Option<Share> {
        let most = Limit {
            bytes: most,
            ..Limit::UNLIMITED
        };
        self.add(Requester::Domain(by), 0, bytes.into(), most)
            .map(Share)
    }
}

/// A charge, refunded when dropped.
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

/// The charge for an unanswered request.
pub(crate) struct Question(#[allow(dead_code)] Entry);

/// The charge for a domain's part of the region.
pub(crate) struct Share(#[allow(dead_code)] Entry);
