// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Quotas: how many endpoints and ring bytes a user of this domain may have, and what a
//! requester may have of a tunnel.
//!
//! Owns the limits; the sums are a [`UsageTable`]'s. Identifying users, the memory itself
//! and the moment of the uncharge are the drivers'. README.md, "Limits".

use core::ops::DerefMut;

use super::usage::{ChargeError, Limit, Usage, UsageTable};

/// Divisor of the domain's memory: the default limit of ring bytes in the loopback tunnel.
pub const LOOPBACK_SHARE: u64 = 8;
/// Largest number of unanswered requests that a tunnel keeps of one requester.
pub const UNANSWERED_MAX: u32 = 32;

/// Limits of a domain and of its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ring bytes of one user, in all tunnels.
    pub user_memory: u64,
    /// Endpoints of one user.
    pub user_endpoints: u32,
    /// Ring bytes of all users in the loopback tunnel.
    pub loopback_memory: u64,
}

/// Reason why [`Quotas`] charged nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaError {
    /// [`Limits::user_memory`] would be exceeded.
    UserMemory,
    /// [`Limits::user_endpoints`] would be exceeded.
    UserEndpoints,
    /// [`Limits::loopback_memory`] would be exceeded.
    LoopbackMemory,
    /// No limit: the table of users has no unused entry.
    NoEntry,
}

impl From<ChargeError> for QuotaError {
    fn from(error: ChargeError) -> Self {
        match error {
            ChargeError::Count => Self::UserEndpoints,
            ChargeError::Bytes => Self::UserMemory,
            ChargeError::NoEntry => Self::NoEntry,
        }
    }
}

/// The user that is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The kernel's number of the user (`kuid_t`).
    pub uid: u32,
    /// Whether the limits of a user do not apply, as with `CAP_SYS_RESOURCE`.
    pub is_exempt: bool,
}

/// The tunnel that rings lie in, as far as quotas distinguish them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The domain's tunnel with itself, which [`Limits::loopback_memory`] bounds.
    Loopback,
    /// A tunnel with another domain, which its data region bounds.
    Peer,
}

/// The charges of a domain's users.
#[derive(Debug)]
pub struct Quotas<P> {
    limits: Limits,
    users: UsageTable<P>,
    loopback: u64,
}

impl<P: DerefMut<Target = [Usage]>> Quotas<P> {
    /// Quotas without charges, with their table in `entries`.
    pub const fn new(limits: Limits, entries: P) -> Self {
        Self {
            limits,
            users: UsageTable::new(entries),
            loopback: 0,
        }
    }

    /// The table of users, by uid.
    pub fn users(&mut self) -> &mut UsageTable<P> {
        &mut self.users
    }

    /// Ring bytes of all users in the loopback tunnel.
    pub const fn loopback_bytes(&self) -> u64 {
        self.loopback
    }

    /// The limits.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    const fn limit(&self, user: User) -> Limit {
        match user.is_exempt {
            true => Limit::UNLIMITED,
            false => Limit {
                count: self.limits.user_endpoints,
                bytes: self.limits.user_memory,
            },
        }
    }

    /// Charges one endpoint to a user.
    ///
    /// # Errors
    /// [`QuotaError::UserEndpoints`] or [`QuotaError::NoEntry`]; nothing was charged.
    pub fn charge_endpoint(&mut self, user: User) -> Result<(), QuotaError> {
        let limit = Limit {
            bytes: u64::MAX,
            ..self.limit(user)
        };
        Ok(self.users.charge(user.uid.into(), 1, 0, limit)?)
    }

    /// Takes one endpoint of [`Self::charge_endpoint`] back.
    pub fn uncharge_endpoint(&mut self, uid: u32) {
        self.users.uncharge(uid.into(), 1, 0);
    }

    /// Charges ring bytes to a user.
    ///
    /// # Errors
    /// Any [`QuotaError`] but [`QuotaError::UserEndpoints`]; nothing was charged.
    pub fn charge_rings(&mut self, user: User, scope: Scope, bytes: u32) -> Result<(), QuotaError> {
        let loopback = match scope {
            Scope::Loopback => self.loopback.saturating_add(bytes.into()),
            Scope::Peer => self.loopback,
        };
        if scope == Scope::Loopback && loopback > self.limits.loopback_memory {
            return Err(QuotaError::LoopbackMemory);
        }
        let limit = Limit {
            count: u32::MAX,
            ..self.limit(user)
        };
        self.users.charge(user.uid.into(), 0, bytes.into(), limit)?;
        self.loopback = loopback;
        Ok(())
    }

    /// Takes ring bytes of [`Self::charge_rings`] back.
    pub fn uncharge_rings(&mut self, uid: u32, scope: Scope, bytes: u32) {
        self.users.uncharge(uid.into(), 0, bytes.into());
        if scope == Scope::Loopback {
            self.loopback = self.loopback.saturating_sub(bytes.into());
        }
    }
}

/// The origin of a request for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// Another domain, by its id.
    Domain(u16),
    /// A user of this domain, by uid.
    User(u32),
}

impl Requester {
    /// The key in a [`UsageTable`]: no domain has that of a user.
    pub const fn key(self) -> u64 {
        match self {
            Self::Domain(id) => id as u64,
            Self::User(uid) => 1 << 32 | uid as u64,
        }
    }
}

/// `percent` of a data region of `memory` bytes, rounded down.
pub const fn percent_of(memory: u64, percent: u32) -> u64 {
    memory.saturating_mul(percent as u64) / 100
}
