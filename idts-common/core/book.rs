// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The book of what a domain's users have: endpoints, and bytes of rings; and
//! what one asker may have of a tunnel.
//!
//! Owns the limits. The sums are a [`Ledger`]'s; who a user is, the memory
//! itself, and when it is given back are left to others.

use core::ops::DerefMut;

use super::ledger::{self, Account, Ledger, Most};

/// The part of the domain's memory that the rings of its tunnel with itself may
/// take, where nothing else is set: one in so many.
pub const HOME_PART: u64 = 8;
/// Requests of one asker that a tunnel leaves unanswered, at most.
pub const UNANSWERED_MAX: u32 = 32;

/// How much there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a user's rings.
    pub user_memory: u64,
    /// A user's endpoints.
    pub user_endpoints: u32,
    /// Bytes of all rings in the tunnel of the domain with itself.
    pub home_memory: u64,
}

/// The limit that somebody met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// [`Limits::user_memory`].
    UserMemory,
    /// [`Limits::user_endpoints`].
    UserEndpoints,
    /// [`Limits::home_memory`].
    HomeMemory,
    /// No limit: there is no place for one more account.
    Places,
}

impl From<ledger::Full> for Full {
    fn from(full: ledger::Full) -> Self {
        match full {
            ledger::Full::Count => Self::UserEndpoints,
            ledger::Full::Bytes => Self::UserMemory,
            ledger::Full::Places => Self::Places,
        }
    }
}

/// Who pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The kernel's number of the user.
    pub uid: u32,
    /// The limits of a user are not for this one.
    pub is_free: bool,
}

/// In which tunnel rings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// That of the domain with itself.
    Home,
    /// One with another domain, whose region bounds them.
    Region,
}

/// The book, on the caller's places.
#[derive(Debug)]
pub struct Book<P> {
    limits: Limits,
    users: Ledger<P>,
    home: u64,
}

impl<P: DerefMut<Target = [Account]>> Book<P> {
    /// Nobody has anything.
    pub const fn new(limits: Limits, places: P) -> Self {
        Self {
            limits,
            users: Ledger::new(places),
            home: 0,
        }
    }

    /// What each user has.
    pub fn users(&mut self) -> &mut Ledger<P> {
        &mut self.users
    }

    /// Bytes of all rings in the tunnel of the domain with itself.
    pub const fn home(&self) -> u64 {
        self.home
    }

    /// The limits.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    const fn most(&self, user: User) -> Most {
        match user.is_free {
            true => Most::ANY,
            false => Most {
                count: self.limits.user_endpoints,
                bytes: self.limits.user_memory,
            },
        }
    }

    /// A user has one endpoint more.
    pub fn open(&mut self, user: User) -> Result<(), Full> {
        let most = Most {
            bytes: u64::MAX,
            ..self.most(user)
        };
        Ok(self.users.add(user.uid.into(), 1, 0, most)?)
    }

    /// A user has one endpoint less.
    pub fn close(&mut self, uid: u32) {
        self.users.take(uid.into(), 1, 0);
    }

    /// A user has so many bytes of rings more.
    pub fn take(&mut self, user: User, place: Place, bytes: u32) -> Result<(), Full> {
        let home = match place {
            Place::Home => self.home.saturating_add(bytes.into()),
            Place::Region => self.home,
        };
        if place == Place::Home && home > self.limits.home_memory {
            return Err(Full::HomeMemory);
        }
        let most = Most {
            count: u32::MAX,
            ..self.most(user)
        };
        self.users.add(user.uid.into(), 0, bytes.into(), most)?;
        self.home = home;
        Ok(())
    }

    /// A user has so many bytes less, which [`Self::take`] gave.
    pub fn give(&mut self, uid: u32, place: Place, bytes: u32) {
        self.users.take(uid.into(), 0, bytes.into());
        if place == Place::Home {
            self.home = self.home.saturating_sub(bytes.into());
        }
    }
}

/// Who asks for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Another domain.
    Domain(u16),
    /// A user of this one.
    User(u32),
}

impl Asker {
    /// Its key in a ledger.
    pub const fn key(self) -> u64 {
        match self {
            Self::Domain(id) => id as u64,
            Self::User(uid) => 1 << 32 | uid as u64,
        }
    }
}

/// The bytes that a percentage is of a region that may have `memory`.
pub const fn share(memory: u64, percent: u32) -> u64 {
    memory.saturating_mul(percent as u64) / 100
}
