// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The registry of peers: the entry of each, and the peer that stands for all others.
//!
//! The places of entries are the caller's, who makes more when there is none free.

use core::ops::DerefMut;

/// Peers and their entries, on the caller's places.
#[derive(Debug)]
pub struct Registry<P> {
    places: P,
}

/// A place: free, or a peer's domain id and its entry.
pub type Place<T> = Option<(u16, T)>;

impl<P> Registry<P> {
    /// A registry on `places`.
    pub const fn new(places: P) -> Self {
        Self { places }
    }

    /// The places, to make more of them.
    pub fn places(&mut self) -> &mut P {
        &mut self.places
    }
}

impl<P: DerefMut<Target = [Place<T>]>, T> Registry<P> {
    /// Whether an entry can be added.
    pub fn has_place(&self) -> bool {
        self.places.iter().any(Option::is_none)
    }

    /// Adds the entry of a peer.
    ///
    /// # Errors
    /// No place is free: the entry comes back.
    pub fn add(&mut self, peer: u16, entry: T) -> Result<(), T> {
        match self.places.iter_mut().find(|place| place.is_none()) {
            Some(place) => {
                *place = Some((peer, entry));
                Ok(())
            }
            None => Err(entry),
        }
    }

    /// Removes and returns the first entry that `is` the one.
    pub fn remove(&mut self, is: impl Fn(&T) -> bool) -> Option<T> {
        let mut places = self.places.iter_mut();
        let place = places.find(|p| p.as_ref().is_some_and(|(_, entry)| is(entry)))?;
        place.take().map(|(_, entry)| entry)
    }

    fn taken<'a>(&'a self) -> impl Iterator<Item = &'a (u16, T)>
    where
        T: 'a,
    {
        self.places.iter().flatten()
    }

    /// The entry of a peer.
    pub fn get<'a>(&'a self, peer: u16) -> Option<&'a T>
    where
        T: 'a,
    {
        let mut entries = self.taken();
        entries.find(|(p, _)| *p == peer).map(|(_, entry)| entry)
    }

    /// The entry of the default peer, whatever its id: a guest has one backend, through
    /// which it reaches all other domains.
    pub fn default_peer<'a>(&'a self) -> Option<&'a T>
    where
        T: 'a,
    {
        self.entries().next()
    }

    /// All entries.
    pub fn entries<'a>(&'a self) -> impl Iterator<Item = &'a T>
    where
        T: 'a,
    {
        self.taken().map(|(_, entry)| entry)
    }

    /// The entry of the first peer after `last`, by id: a walk that survives removals.
    pub fn after<'a>(&'a self, last: Option<u16>) -> Option<&'a T>
    where
        T: 'a,
    {
        let rest = self
            .taken()
            .filter(|(peer, _)| last.is_none_or(|last| *peer > last));
        rest.min_by_key(|(peer, _)| *peer).map(|(_, entry)| entry)
    }
}
