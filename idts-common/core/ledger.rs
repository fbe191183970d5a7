// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A ledger: who has how many things, and how many bytes of them.
//!
//! Owns the sums. Who is who, which limits hold, and when something is given
//! back are left to [`super::book`] and to the drivers. The places in which
//! accounts lie are the caller's, who makes more when there is none left.

use core::ops::DerefMut;

/// What somebody has. With nothing it is a free place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    key: u64,
    /// Things.
    pub count: u32,
    /// Bytes.
    pub bytes: u64,
}

/// The most that somebody may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// Things.
    pub count: u32,
    /// Bytes.
    pub bytes: u64,
}

impl Most {
    /// As many as can be counted.
    pub const ANY: Self = Self {
        count: u32::MAX,
        bytes: u64::MAX,
    };
}

/// Why nothing was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// [`Most::count`].
    Count,
    /// [`Most::bytes`].
    Bytes,
    /// There is no place for one more account.
    Places,
}

/// The ledger, on the caller's places.
#[derive(Debug)]
pub struct Ledger<P> {
    /// Those in use first, by their keys.
    places: P,
    used: usize,
}

impl<P: DerefMut<Target = [Account]>> Ledger<P> {
    /// Nobody has anything. Whatever is in the places does not count.
    pub const fn new(places: P) -> Self {
        Self { places, used: 0 }
    }

    /// Where more places can be made, at the end.
    pub fn places(&mut self) -> &mut P {
        &mut self.places
    }

    /// Whether one more account finds a place.
    pub fn has_place(&self) -> bool {
        self.used < self.places.len()
    }

    /// Those who have something, by their keys.
    pub fn accounts(&self) -> impl Iterator<Item = (u64, &Account)> {
        self.places.iter().take(self.used).map(|a| (a.key, a))
    }

    fn find(&self, key: u64) -> Result<usize, usize> {
        let used = self.places.get(..self.used).unwrap_or_default();
        used.binary_search_by_key(&key, |a| a.key)
    }

    /// Adds to what somebody has, all or nothing.
    pub fn add(&mut self, key: u64, count: u32, bytes: u64, most: Most) -> Result<(), Full> {
        let found = self.find(key);
        let old = found.ok().and_then(|at| self.places.get(at)).copied();
        let old = old.unwrap_or_default();
        let count = old.count.checked_add(count).filter(|n| *n <= most.count);
        let bytes = old.bytes.checked_add(bytes).filter(|n| *n <= most.bytes);
        let account = Account {
            key,
            count: count.ok_or(Full::Count)?,
            bytes: bytes.ok_or(Full::Bytes)?,
        };
        if account.count == 0 && account.bytes == 0 {
            return Ok(());
        }
        let at = found.unwrap_or_else(|at| at);
        if found.is_err() {
            let end = self.used.wrapping_add(1);
            let moved = self.places.get_mut(at..end).ok_or(Full::Places)?;
            moved.rotate_right(1);
            self.used = end;
        }
        let place = self.places.get_mut(at).ok_or(Full::Places)?;
        *place = account;
        Ok(())
    }

    /// Takes away what [`Self::add`] added.
    pub fn take(&mut self, key: u64, count: u32, bytes: u64) {
        let Ok(at) = self.find(key) else {
            return;
        };
        let Some(place) = self.places.get_mut(at) else {
            return;
        };
        place.count = place.count.saturating_sub(count);
        place.bytes = place.bytes.saturating_sub(bytes);
        if place.count == 0 && place.bytes == 0 {
            if let Some(moved) = self.places.get_mut(at..self.used) {
                moved.rotate_left(1);
            }
            self.used = self.used.saturating_sub(1);
        }
    }
}
