// SPDX-License-Identifier: GPL-2.0

//! Who asked for what in a tunnel: requests without an answer, and what each
//! peer domain has of the region. Bounded, so that nobody keeps the others out.
//!
//! Owns the sums and what is given back by being dropped. Limits and keys are
//! `idts_core::book`'s.

use idts_core::book::{Asker, UNANSWERED_MAX};
use idts_core::ledger::{Account, Ledger, Most};
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};

/// The askers of a tunnel.
#[pin_data]
pub(crate) struct Asks {
    #[pin]
    ledger: Mutex<Ledger<KVec<Account>>>,
}

impl Asks {
    /// Nobody asked.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                ledger <- new_mutex!(Ledger::new(KVec::new())),
            }),
            GFP_KERNEL,
        )
    }

    fn add(self: &Arc<Self>, by: Asker, count: u32, bytes: u64, most: Most) -> Option<Entry> {
        let mut ledger = self.ledger.lock();
        if !ledger.has_place() {
            // Without one the ledger says so.
            let _ = ledger.places().push(Account::default(), GFP_KERNEL);
        }
        ledger.add(by.key(), count, bytes, most).ok()?;
        Some(Entry {
            asks: self.clone(),
            by,
            count,
            bytes,
        })
    }

    /// Somebody asks.
    pub(crate) fn ask(self: &Arc<Self>, by: Asker) -> Option<Question> {
        let most = Most {
            count: UNANSWERED_MAX,
            ..Most::ANY
        };
        self.add(by, 1, 0, most).map(Question)
    }

    /// A domain takes `bytes` of the region, of which it may have `most`.
    pub(crate) fn share(self: &Arc<Self>, by: u16, bytes: u32, most: u64) -> Option<Share> {
        let most = Most {
            bytes: most,
            ..Most::ANY
        };
        self.add(Asker::Domain(by), 0, bytes.into(), most)
            .map(Share)
    }
}

/// Something in the ledger.
struct Entry {
    asks: Arc<Asks>,
    by: Asker,
    count: u32,
    bytes: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut ledger = self.asks.ledger.lock();
        ledger.take(self.by.key(), self.count, self.bytes);
    }
}

/// A request without an answer.
pub(crate) struct Question(#[allow(dead_code)] Entry);

/// A part of the region that a domain asked for.
pub(crate) struct Share(#[allow(dead_code)] Entry);
