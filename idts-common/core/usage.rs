// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Usage table: how many things, and how many bytes, each key is charged with.
//!
//! Owns the sums and checks them against the limit that the caller names. Keys, limits and
//! the moment of the uncharge belong to [`super::quota`] and to the drivers. The caller
//! provides the memory of the entries and adds to it when it is full, because nothing here
//! allocates.

use core::ops::DerefMut;

/// Charges of one key. An entry without charges is unused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    key: u64,
    /// Number of things.
    pub count: u32,
    /// Number of bytes.
    pub bytes: u64,
}

/// Upper bounds of one key's usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Largest number of things.
    pub count: u32,
    /// Largest number of bytes.
    pub bytes: u64,
}

impl Limit {
    /// No limit but the range of the counters.
    pub const UNLIMITED: Self = Self {
        count: u32::MAX,
        bytes: u64::MAX,
    };
}

/// Reason why [`UsageTable::charge`] charged nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChargeError {
    /// [`Limit::count`] would be exceeded.
    Count,
    /// [`Limit::bytes`] would be exceeded.
    Bytes,
    /// The key is new and no entry is unused; see [`UsageTable::entries_mut`].
    NoEntry,
}

/// Usage by key, in memory of the caller.
///
/// # Invariants
/// The first `used` entries have charges and are sorted by key, each key once.
#[derive(Debug)]
pub struct UsageTable<P> {
    entries: P,
    used: usize,
}

impl<P: DerefMut<Target = [Usage]>> UsageTable<P> {
    /// An empty table. The present contents of `entries` do not matter.
    pub const fn new(entries: P) -> Self {
        // INVARIANT: No entry is used.
        Self { entries, used: 0 }
    }

    /// The memory of the entries, so that the caller can append to it. Entries in use must
    /// stay as they are.
    pub fn entries_mut(&mut self) -> &mut P {
        &mut self.entries
    }

    /// Whether an entry is unused, so that [`Self::charge`] of a new key cannot fail with
    /// [`ChargeError::NoEntry`].
    pub fn has_free_entry(&self) -> bool {
        self.used < self.entries.len()
    }

    /// All keys with charges, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Usage)> {
        self.entries.iter().take(self.used).map(|u| (u.key, u))
    }

    /// Index of a key's entry, or else where it would have to be inserted.
    fn find(&self, key: u64) -> Result<usize, usize> {
        let used = self.entries.get(..self.used).unwrap_or_default();
        used.binary_search_by_key(&key, |u| u.key)
    }

    /// Charges `count` things and `bytes` bytes to a key, both or neither.
    ///
    /// # Errors
    /// The bound of `limit` that the sum would exceed, or the lack of an entry.
    pub fn charge(
        &mut self,
        key: u64,
        count: u32,
        bytes: u64,
        limit: Limit,
    ) -> Result<(), ChargeError> {
        let found = self.find(key);
        let old = found.ok().and_then(|at| self.entries.get(at)).copied();
        let old = old.unwrap_or_default();
        let count = old.count.checked_add(count).filter(|n| *n <= limit.count);
        let bytes = old.bytes.checked_add(bytes).filter(|n| *n <= limit.bytes);
        let usage = Usage {
            key,
            count: count.ok_or(ChargeError::Count)?,
            bytes: bytes.ok_or(ChargeError::Bytes)?,
        };
        if usage.count == 0 && usage.bytes == 0 {
            return Ok(());
        }
        let at = found.unwrap_or_else(|at| at);
        if found.is_err() {
            let end = self.used.wrapping_add(1);
            let moved = self.entries.get_mut(at..end);
            moved.ok_or(ChargeError::NoEntry)?.rotate_right(1);
            self.used = end;
        }
        let entry = self.entries.get_mut(at).ok_or(ChargeError::NoEntry)?;
        *entry = usage;
        Ok(())
    }

    /// Takes back what [`Self::charge`] charged. A key without charges is left alone.
    pub fn uncharge(&mut self, key: u64, count: u32, bytes: u64) {
        let Ok(at) = self.find(key) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(at) else {
            return;
        };
        entry.count = entry.count.saturating_sub(count);
        entry.bytes = entry.bytes.saturating_sub(bytes);
        if entry.count == 0 && entry.bytes == 0 {
            if let Some(moved) = self.entries.get_mut(at..self.used) {
                moved.rotate_left(1);
            }
            self.used = self.used.saturating_sub(1);
        }
    }
}
